"""What kind of fall an alert is: onto a bed, out of one, or another. Pure, numpy only.

What belongs here: the rule, over one person's key points and the outlines of beds. What does not:
finding either in the lake (`pipeline.operation`), who is told (`channels.py`).

A person is **on a bed** in a sample where the hips are over its outline. Two things are minded
about perspective:

- The outline is that of the mattress, and a body lies on top of it: seen from the side it is higher
  in the picture than the mattress. So hips count up to `THICKNESS` of the body's size above it.
- Who stands in front of the bed has the hips over it as well. So of a person whose trunk is upright
  above stretched legs the ankles must be over the outline too.

On a bed **before** and not **after** is a fall out of bed; after and not before, a fall onto it. A
person counts as on the bed in a stretch of time where they are in more than half of the samples
in which they are seen.

What it cannot tell, and calls `fall`: who is seen too little before or after the alarm (a track
that was lost in the fall is a new person); who is over a bed before and after, be it that they fell
within it, from one bed to another, or to the floor behind it, as the camera sees it. Who sits
upright on the bed's edge with stretched legs is taken for standing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from fall_assets.features.packing import (
    KEYPOINTS,
    LEFT_HIP,
    LEFT_SHOULDER,
    RIGHT_HIP,
    RIGHT_SHOULDER,
)

Kind = Literal["fall", "fall_onto_bed", "fall_out_of_bed"]
"""As the column `alerts.kind` has it."""
Reals = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

IN_WORDS: Final[Mapping[Kind, str]] = {
    "fall": "fall",
    "fall_onto_bed": "fall onto the bed",
    "fall_out_of_bed": "fall out of bed",
}
"""What a nurse reads."""

BEFORE_S: Final = (6.0, 2.0)
"""What counts as before the fall: from so long to so long before the alarm. A detector raises it
at most a few seconds after a fall begins (docs/alerts.md says what other times would cost)."""
AFTER_S: Final = (0.35, 2.0)
"""What counts as after it: from so long before the alarm to so long after it."""
LEAST_SEEN: Final = 3
"""Samples in which a person must be seen, before and after."""
THICKNESS: Final = 0.1
"""How far hips are above the mattress on which somebody lies, as a share of the body's size."""
_UPRIGHT: Final = 0.7
# From the hips to the ankles, in lengths of the trunk: 1.6 where somebody stands, near 1 where
# they sit (Winter, Biomechanics and Motor Control of Human Movement, fig. 4.1).
_STRETCHED: Final = 1.3
_SIZE_PERCENTILE: Final = 90.0
_TINY: Final = 1e-9

_SHOULDERS: Final = (LEFT_SHOULDER, RIGHT_SHOULDER)
_HIPS: Final = (LEFT_HIP, RIGHT_HIP)
_ANKLES: Final = (KEYPOINTS.index("left_ankle"), KEYPOINTS.index("right_ankle"))


def kind_of(
    keypoints: npt.NDArray[np.floating[Any]],
    times_s: npt.NDArray[np.floating[Any]],
    raised_s: float,
    beds: Sequence[npt.ArrayLike],
    *,
    aspect: float,
) -> Kind:
    """The kind of one fall, from the track of the person who fell.

    Args:
        keypoints: (samples, 17, 3): x, y as shares of the picture, y down, and the score, 0 where
            the person was not seen; COCO's order.
        times_s: (samples,) in seconds, from any moment on.
        raised_s: when the alarm was raised, in the same seconds.
        beds: outlines (corners, 2) in shares of the same picture; none where no bed is known.
        aspect: the picture's width over its height.

    Raises:
        ValueError: an array has another shape, an outline has fewer than three corners, or the
            aspect is not over 0.
    """
    points, times = np.asarray(keypoints, np.float64), np.asarray(times_s, np.float64)
    if times.ndim != 1 or points.shape != (len(times), len(KEYPOINTS), 3):
        raise ValueError(
            f"key points of shape {points.shape} and times of shape {times.shape}, "
            f"wanted (samples, {len(KEYPOINTS)}, 3) and (samples,)"
        )
    if not aspect > 0:
        raise ValueError(f"aspect is {aspect}, wanted width over height, over 0")
    outlines = [_outline(bed) for bed in beds]
    seen = (points[..., 2] > 0).any(axis=1)
    before = seen & _between(times, raised_s - BEFORE_S[0], raised_s - BEFORE_S[1])
    after = seen & _between(times, raised_s - AFTER_S[0], raised_s + AFTER_S[1])
    if not outlines or min(before.sum(), after.sum()) < LEAST_SEEN:
        return "fall"
    size = _size(points[before | after], aspect)
    was, came = (
        bool(_on_a_bed(points[part], outlines, aspect, size).mean() > 0.5)
        for part in (before, after)
    )
    if was == came:
        return "fall"
    return "fall_out_of_bed" if was else "fall_onto_bed"


def _outline(bed: npt.ArrayLike) -> Reals:
    outline = np.asarray(bed, np.float64)
    if outline.ndim != 2 or outline.shape[1] != 2 or len(outline) < 3:
        raise ValueError(f"a bed of shape {outline.shape}, wanted (3 or more corners, 2)")
    return outline


def _between(times: Reals, start: float, end: float) -> Flags:
    inside: Flags = (times >= start - _TINY) & (times < end - _TINY)
    return inside


def _size(points: Reals, aspect: float) -> float:
    """Near a body's height, standing or lying, in heights of the picture."""
    box = np.ptp(points[..., :2], axis=1) * (aspect, 1.0)
    return float(np.percentile(np.hypot(box[:, 0], box[:, 1]), _SIZE_PERCENTILE))


def _on_a_bed(points: Reals, outlines: Sequence[Reals], aspect: float, size: float) -> Flags:
    """In which samples (samples, 17, 3) the person is on one of the beds: (samples,)."""
    shoulders, hips, ankles = (_mean(points, pair) for pair in (_SHOULDERS, _HIPS, _ANKLES))
    trunk = (hips - shoulders) * (aspect, 1.0)
    length = np.maximum(np.hypot(trunk[:, 0], trunk[:, 1]), _TINY)
    stands = (trunk[:, 1] > _UPRIGHT * length) & (ankles[:, 1] - hips[:, 1] > _STRETCHED * length)
    found = np.zeros(len(points), np.bool_)
    for outline in outlines:
        lies = _over(hips, outline, THICKNESS * size)
        found |= lies & (~stands | _over(ankles, outline, 0.0))
    return found


def _mean(points: Reals, pair: tuple[int, int]) -> Reals:
    """Where both key points are, weighted by their scores: (samples, 2)."""
    weight = points[:, pair, 2:] + _TINY
    place: Reals = (points[:, pair, :2] * weight).sum(axis=1) / weight.sum(axis=1)
    return place


def _over(places: Reals, outline: Reals, above: float) -> Flags:
    """Which places (n, 2) are within the outline or at most `above` higher in the picture.

    Places on its sides are within.
    """
    x, y = places[:, 0], places[:, 1]
    within = np.zeros(len(places), np.bool_)
    touched = np.zeros(len(places), np.bool_)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        # A ray to the right of the place crosses the sides of what it is in an odd number of times
        # (Shimrat, Algorithm 112, CACM 5(8), 1962).
        crosses = (y0 > y) != (y1 > y)
        rise = y1 - y0 if y1 != y0 else 1.0
        within ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / rise)
        beside = (x >= min(x0, x1) - _TINY) & (x <= max(x0, x1) + _TINY)
        if abs(x1 - x0) <= _TINY:
            high, low = np.full_like(y, min(y0, y1)), np.full_like(y, max(y0, y1))
        else:
            high = low = y0 + (np.clip(x, min(x0, x1), max(x0, x1)) - x0) * (y1 - y0) / (x1 - x0)
        # Straight below the place, within reach, the side begins.
        touched |= beside & (low >= y - _TINY) & (high <= y + above + _TINY)
    found: Flags = within | touched
    return found
