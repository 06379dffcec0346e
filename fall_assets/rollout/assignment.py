"""Which camera gets which version: challenger, control, or the rest.

What belongs here: the draw, by hash, so that anybody can repeat it from the rollout's id. What does
not: how large the share is (`machine`), who serves a camera (`pipeline.serving`), and where a
camera's ward, resolution and feature set come from (`pipeline.rollout`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Literal

Place = Literal["challenger", "control", "rest"]

_NOTHING: Final[Mapping[str, Place]] = MappingProxyType({})
_HASH_BITS: Final = (
    52  # with the half that is added this is all that a float holds: never 0, never 1
)


@dataclass(frozen=True)
class CameraTraits:
    """What the draw knows of a camera.

    Attributes:
        camera_id: unique in the site.
        ward: as the table `cameras` has it.
        resolution: any text that is the same for the same picture size.
        feature_set: version of the feature set that serves it.
    """

    camera_id: str
    ward: str
    resolution: str
    feature_set: str

    @property
    def stratum(self) -> str:
        """Cameras with the same text are alike to the draw."""
        return f"{self.ward}|{self.resolution}|{self.feature_set}"


def assign(
    rollout_id: str,
    cameras: Sequence[CameraTraits],
    share: float,
    *,
    pin: Collection[str] = (),
    exclude: Collection[str] = (),
    before: Mapping[str, Place] = _NOTHING,
    share_before: float | None = None,
) -> dict[str, Place]:
    """Place of each camera; the same whatever the order of `cameras`.

    Stratified: of a stratum of n cameras the j-th (from 0) in the order of their hashes has
    priority (j + u) / n, where u in (0, 1) is a hash of rollout and stratum. The challenger gets
    the smallest priorities, so that a greater share holds all cameras of a smaller one, and each
    stratum's part differs by less than one camera from a common fraction of it. The control group
    are the largest priorities, as many as the challenger has or as are left. The random start of
    each stratum gives every camera the same probability (systematic sampling; Madow and Madow 1944,
    Annals of Mathematical Statistics 15).

    The challenger gets share * N cameras, rounded up, of the N that are not excluded.

    Args:
        rollout_id: another one draws anew.
        cameras: all of the site, those that are pinned or excluded as well.
        share: of the cameras, 0 to 1; 0 gives the challenger none, whatever `pin` says.
        pin: cameras for the challenger; they count in its size, but may be more than that. Ids that
            are not in `cameras` do nothing, here and in `exclude`: a camera may be taken down.
        exclude: cameras that are 'rest', whatever `before` says.
        before: places of the decision before. Its challengers stay, even where other cameras went
            and they are now more than the share; its control group stays as far as the size of the
            challenger's allows. What is missing comes from the others, old and new, by priority.
        share_before: what `before` was drawn for. With a smaller `share` the largest priorities
            leave the challenger; only with a larger one does it take from the control group. None:
            nobody leaves, and the control group gives what is missing after all others did.

    Returns:
        By camera id, in the order of ids.

    Raises:
        ValueError: share not within 0 to 1, a camera that comes twice, or one pinned and excluded.
    """
    pin, exclude = frozenset(pin), frozenset(exclude)
    eligible = _eligible(cameras, share, pin, exclude)
    places: dict[str, Place] = dict.fromkeys(sorted(_ids(cameras)), "rest")
    if not share or not eligible:
        return places
    order = _by_priority(rollout_id, eligible, pin)
    size = _size(share, len(order))

    chosen = [camera for camera in order if camera in pin]
    missing = max(0, size - len(chosen))
    held = [c for c in order if before.get(c) == "challenger" and c not in pin]
    if share_before is not None and share < share_before:
        held = held[:missing]
    chosen += held
    taken = frozenset(chosen)
    free = [c for c in order if c not in taken and before.get(c) != "control"]
    if share_before is None or share > share_before:
        free += [c for c in order if c not in taken and before.get(c) == "control"]
    chosen += free[: max(0, size - len(chosen))]

    taken = frozenset(chosen)
    left = [camera for camera in reversed(order) if camera not in taken]
    left.sort(key=lambda camera: before.get(camera) != "control")
    for camera in chosen:
        places[camera] = "challenger"
    for camera in left[: len(chosen)]:
        places[camera] = "control"
    return places


def _ids(cameras: Iterable[CameraTraits]) -> list[str]:
    return [camera.camera_id for camera in cameras]


def _eligible(
    cameras: Sequence[CameraTraits], share: float, pin: frozenset[str], exclude: frozenset[str]
) -> list[CameraTraits]:
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}, wanted 0 to 1")
    if both := pin & exclude:
        raise ValueError(
            f"cameras both pinned and excluded: {', '.join(sorted(both))}; take them out of one"
        )
    ids = _ids(cameras)
    if len(set(ids)) < len(ids):
        twice = sorted({camera_id for camera_id in ids if ids.count(camera_id) > 1})
        raise ValueError(f"cameras that come more than once: {', '.join(twice)}; give each once")
    return [camera for camera in cameras if camera.camera_id not in exclude]


def _size(share: float, cameras: int) -> int:
    # As it is written, not as it is held in binary: 0.07 of 100 are 7, not 8.
    return math.ceil(Fraction(str(float(share))) * cameras)


def _by_priority(
    rollout_id: str, cameras: Iterable[CameraTraits], pin: frozenset[str]
) -> list[str]:
    """Ids, smallest priority first."""
    strata: dict[str, list[tuple[bool, float, str]]] = {}
    for camera in cameras:
        rank = _uniform(rollout_id, "camera", camera.camera_id)
        # Pinned ones come first of their stratum, so that it does not get its part on top of them.
        member = (camera.camera_id not in pin, rank, camera.camera_id)
        strata.setdefault(camera.stratum, []).append(member)
    drawn: list[tuple[float, float, str]] = []
    for stratum, members in strata.items():
        start = _uniform(rollout_id, "stratum", stratum)
        drawn += [
            ((j + start) / len(members), rank, camera_id)
            for j, (_, rank, camera_id) in enumerate(sorted(members))
        ]
    return [camera_id for _, _, camera_id in sorted(drawn)]


def _uniform(rollout_id: str, kind: str, name: str) -> float:
    """A number in (0, 1) by SHA-256."""
    # JSON keeps apart what would be the same text when joined.
    digest = hashlib.sha256(json.dumps([rollout_id, kind, name]).encode()).digest()
    return ((int.from_bytes(digest[:8], "big") >> (64 - _HASH_BITS)) + 0.5) / float(1 << _HASH_BITS)
