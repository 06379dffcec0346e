"""What a camera sees behind the people: taking it, packing it, and telling how it changed.

What belongs here: the empty scene of some pictures, its coarse grey and its blurred colour form,
and the comparison of scenes. What does not: which pictures are taken (`pipeline.profiles`), and
what counts as drift (`report`). OpenCV and PyAV are imported inside the functions.

Scenes are compared by the direction of their edges, not by their brightness, so that lamps, the
sun, curtains that move a little and infrared light change little. What is compared is the
orientation of the gradient as a doubled angle: an edge whose light and dark side change places is
the same edge. Whether one turn of the camera explains the change is found by laying today's edges
over those of the reference: first by phase correlation at several rotations (Reddy and Chatterji,
IEEE Transactions on Image Processing 5(8), 1996), then by the enhanced correlation coefficient
(Evangelidis and Psarakis, IEEE Transactions on Pattern Analysis 30(10), 2008).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fall_assets.drift.causes import Turn
from fall_assets.errors import PermanentFailureError

Picture = NDArray[np.uint8]
Cells = NDArray[np.uint8]
Reals = NDArray[np.float32]

LOOKS: Final = 6
"""So many pictures make a scene."""

LONG_SIDE: Final = 96
"""Cells of a coarse scene along its longer side."""

_SHOWN_CELLS: Final = 48
_SHOWN_SIDE: Final = 480
_SCENE_SIDE: Final = 192
_HEAD: Final = struct.Struct("<HH")

_SMOOTH: Final = 1.0
_AROUND: Final = 3.0
# Steps between cells, in levels of 255, that noise and codecs make after the blur.
_FLAT: Final = 0.75
# Correlation of a neighbourhood's edges: from 1, the same, to 0, others.
_SAME_FROM: Final = 0.75
_OTHER_BELOW: Final = 0.25
_LEAST_CHANGE: Final = 0.05
_TURNS_DEG: Final = (-12.0, -9.0, -6.0, -3.0, 0.0, 3.0, 6.0, 9.0, 12.0)
_MOST_SHIFT: Final = 0.4
_LEAST_OVERLAP: Final = 0.4
_STARTS: Final = 3


EXPLAINED: Final = 0.7
"""A turn or shift explains a change if this share of it is gone once it is undone. In simulated
rooms a camera that was knocked by 10 degrees gives 0.9 and more, furniture that moved or a patch of
sun 0.4 at most.
"""


class SceneError(PermanentFailureError):
    """No picture can be had of a segment."""


@dataclass(frozen=True)
class SceneChange:
    """How a scene differs from the nearest of its reference scenes.

    Attributes:
        changed: share of the edges that are there no more, are new, or stand elsewhere; 0 to 1.
        turned_deg: by how much today's picture is turned, clockwise, when laid over the other.
        shift_x: by how much it is shifted to the right, share of the picture's width.
        shift_y: and down, share of its height.
        explained: share of the change that is gone once that turn and shift are undone; 0 to 1.
    """

    changed: float
    turned_deg: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    explained: float = 0.0


@dataclass(frozen=True)
class SceneComparison:
    """How one camera's scenes of a day differ from those of its ordinary days.

    Attributes:
        changed: as `SceneChange` has it, of the nearest ordinary day.
        between: the same of each ordinary day against the others, oldest first.
        turn: how the camera turned, if it did; None where too little changed to tell.
    """

    changed: float
    between: tuple[float, ...]
    turn: Turn | None


# Taking a scene.


def picture_at(path: Path, at_s: float, *, exact: bool = False) -> Picture:
    """A small upright RGB picture of a segment at `at_s` seconds from its start, or its last.

    It is the key frame before that moment, so that one frame is decoded; with `exact` the frame
    itself. Raises SceneError where there is none.
    """
    import av

    from fall_assets.footage.media import open_media, video_stream

    try:
        with open_media(path) as container:
            stream = video_stream(container)
            if stream is None or stream.time_base is None:
                raise SceneError(f"{path.name}: it holds no pictures with times")
            target = (stream.start_time or 0) + round(max(0.0, at_s) / stream.time_base)
            container.seek(target, stream=stream, backward=True)
            shown = None
            for frame in container.decode(stream):
                if shown is not None and (frame.pts is None or frame.pts > target):
                    break
                shown = frame
                if not exact:
                    break
            if shown is None:
                raise SceneError(f"{path.name}: no frame at {at_s:.1f} s; the file may be cut off")
            width, height = _fitting(shown.width, shown.height, 4 * _SCENE_SIDE)
            small = shown.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
            return np.rot90(np.array(small, np.uint8), shown.rotation // 90 % 4)
    except (av.FFmpegError, OSError) as error:
        raise SceneError(f"{path.name}: cannot be decoded at {at_s:.1f} s ({error})") from error


def empty_scene(looks: Sequence[Picture]) -> Picture:
    """The pixels' medians over some pictures (height, width, 3), the longer side 192.

    Who stands somewhere in fewer than half of them is gone. ValueError for no pictures.
    """
    if not looks:
        raise ValueError("a scene needs at least one picture")
    height, width = looks[-1].shape[:2]
    size = _fitting(width, height, _SCENE_SIDE)
    scene: Picture = np.median([_resized(look, *size) for look in looks], axis=0).astype(np.uint8)
    return scene


def coarse(scene: Picture) -> Cells:
    """The scene's luma in cells, the longer side 96: (rows, columns) uint8."""
    height, width = scene.shape[:2]
    luma = scene.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return _resized(np.clip(luma + 0.5, 0, 255).astype(np.uint8), *_cells_of(width, height))


def blurred_jpeg(scene: Picture) -> bytes:
    """The scene in colour for people to look at, as JPEG, with nobody to recognise in it.

    It is reduced to 48 cells along its longer side, which are then spread smoothly over 480 pixels.
    A face needs about 7 cells across for people who know it (Sinha et al., Proceedings of the IEEE
    94(11), 2006); the head of somebody who stood still in all the pictures gets 5 if it is a tenth
    of the picture wide, and 2 in the usual view of a room. Nothing sharper is written anywhere.
    """
    from fall_assets.delivery.stills import jpeg

    height, width = scene.shape[:2]
    few = _resized(scene, *_cells_of(width, height, _SHOWN_CELLS))
    # JPEG halves the colour planes: even sides.
    return jpeg(_resized(few, *(2 * (side // 2) for side in _fitting(width, height, _SHOWN_SIDE))))


def pack_cells(cells: Cells) -> bytes:
    """Rows and columns as two little-endian uint16, then the cells row by row."""
    if cells.ndim != 2 or cells.dtype != np.uint8 or not cells.size:
        raise ValueError(f"cells must be uint8 (rows, columns), not {cells.dtype} {cells.shape}")
    return _HEAD.pack(*cells.shape) + cells.tobytes()


def unpack_cells(packed: bytes) -> Cells:
    """Cells (rows, columns), uint8, from `pack_cells`' bytes."""
    if len(packed) > _HEAD.size:
        rows, columns = _HEAD.unpack_from(packed)
        if rows * columns == len(packed) - _HEAD.size:
            return np.frombuffer(packed, np.uint8, offset=_HEAD.size).reshape(rows, columns)
    raise PermanentFailureError(
        f"{len(packed)} bytes are no packed scene; make that day's camera_profile again"
    )


# Comparing scenes.


def distance(reference_cells: Sequence[Cells], today: Sequence[Cells]) -> SceneChange:
    """How far today's scenes are from the nearest reference scenes of the same quarter of the day.

    Both are cells as `coarse` gives them, at least one each (else ValueError); another resolution
    of the same view has the same cells. Of several scenes of today the one in the middle counts.
    """
    if not len(reference_cells) or not len(today):
        raise ValueError("scenes to compare: at least one of the reference and one of today")
    pairs = []
    for cells in today:
        now = _edges(cells)
        others = [_like(one, cells) for one in reference_cells]
        changes = [_changed(_edges(one), now) for one in others]
        nearest = int(np.argmin(changes))
        pairs.append((changes[nearest], others[nearest], cells))
    pairs.sort(key=lambda pair: pair[0])
    changed, known, cells = pairs[(len(pairs) - 1) // 2]
    if changed < _LEAST_CHANGE:
        return SceneChange(changed)
    return _aligned(known, cells, changed)


def compare_scenes(ordinary: pl.DataFrame, today: pl.DataFrame) -> SceneComparison | None:
    """One camera's day against ordinary days, quarter by quarter: rows of `scenes`.

    A day's distance is that to the nearest of the other days; of its quarters the one in the middle
    counts, so that one bad quarter is no change. None where no quarter of today has an ordinary
    scene.
    """
    ordinary = ordinary.filter(pl.col("part").is_in(today["part"].to_list()))
    if ordinary.is_empty():
        return None
    days = [*ordinary["day"].unique().sort().to_list(), None]
    by_part: dict[int, NDArray[np.float64]] = {}
    scenes: dict[int, tuple[list[Cells], Cells]] = {}
    for part, packed in today.sort("part").select("part", "cells").iter_rows():
        now = unpack_cells(packed)
        known = {
            day: _like(unpack_cells(one), now)
            for day, one in ordinary.filter(pl.col("part") == part)
            .select("day", "cells")
            .iter_rows()
            if day in days
        }
        if not known:
            continue
        scenes[part] = (list(known.values()), now)
        edges = {day: _edges(cells) for day, cells in known.items()} | {None: _edges(now)}
        apart = np.full((len(days), len(days)), np.nan)
        for (i, one), (j, other) in combinations(enumerate(days), 2):
            if one in edges and other in edges:
                apart[i, j] = apart[j, i] = _changed(edges[one], edges[other])
        by_part[part] = apart
    distances = _nearest(list(by_part.values()))
    changed = float(distances[-1])
    between = _nearest([apart[:-1, :-1] for apart in by_part.values()])
    return SceneComparison(
        changed,
        tuple(between[np.isfinite(between)].tolist()),
        _turn(scenes, by_part, changed) if changed >= _LEAST_CHANGE else None,
    )


def _nearest(by_part: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Each day's distance from the nearest other day; NaN where there is none in any quarter."""
    parts = [np.where(np.isnan(apart), np.inf, apart).min(axis=1, initial=np.inf)
             for apart in by_part]  # fmt: skip
    found = np.sort(np.stack(parts, axis=1), axis=1)
    known = np.isfinite(found).sum(axis=1)
    middle = found[np.arange(len(found)), np.maximum(known - 1, 0) // 2]
    return np.where(known > 0, middle, np.nan)


def _turn(
    scenes: Mapping[int, tuple[list[Cells], Cells]],
    by_part: Mapping[int, NDArray[np.float64]],
    changed: float,
) -> Turn:
    """How the scene turned in the quarter whose distance is the day's."""
    part = min(by_part, key=lambda part: abs(float(np.nanmin(by_part[part][-1])) - changed))
    change = distance(scenes[part][0], [scenes[part][1]])
    return Turn(change.turned_deg, change.shift_x, change.shift_y, change.explained >= EXPLAINED)


@dataclass(frozen=True)
class _Edges:
    """Edges of a scene, (rows, columns) each.

    `along`, `across`: strength times cosine and sine of the doubled direction; strength is 0 to 1.
    `around`: mean square of the strength in the neighbourhood.
    """

    along: Reals
    across: Reals
    strength: Reals
    around: Reals


def _edges(cells: Cells) -> _Edges:
    """Edges by direction, their strength against that of their surroundings."""
    import cv2

    plane = _blurred(cells.astype(np.float32), _SMOOTH)
    dx = np.asarray(cv2.Scharr(plane, cv2.CV_32F, 1, 0, scale=1 / 32), np.float32)
    dy = np.asarray(cv2.Scharr(plane, cv2.CV_32F, 0, 1, scale=1 / 32), np.float32)
    squared = dx * dx + dy * dy
    # (dx + i dy)^2 has the doubled angle; its size is the squared step.
    weight = 1 / (squared + _blurred(squared, 4 * _AROUND) + _FLAT**2)
    along = _blurred((dx * dx - dy * dy) * weight, _SMOOTH)
    across = _blurred(2 * dx * dy * weight, _SMOOTH)
    squared = along * along + across * across
    return _Edges(along, across, np.sqrt(squared), _blurred(squared, _AROUND))


def _changed(known: _Edges, now: _Edges, seen: Reals | None = None) -> float:
    """Share of the edges, by strength, around which the two scenes do not correlate; 0 to 1.

    Where `seen` is 0 nothing counts: one of the two does not show that place.
    """
    inside = np.float32(1) if seen is None else seen
    both = _blurred((known.along * now.along + known.across * now.across) * inside, _AROUND)
    one, other = known.around, now.around
    if seen is not None:
        one = _blurred(known.strength**2 * seen, _AROUND)
        other = _blurred(now.strength**2 * seen, _AROUND)
    alike = 2 * both / (one + other + 1e-4)
    # What half agrees counts by half, so that noise does not tip whole regions over.
    gone = np.clip((_SAME_FROM - alike) / (_SAME_FROM - _OTHER_BELOW), 0, 1)
    weight = np.sqrt(np.maximum(one, other)) * inside
    total = float(weight.sum())
    return float((gone * weight).sum()) / total if total > 0 else 0.0


def _blurred(plane: Reals, sigma: float) -> Reals:
    import cv2

    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)


def _aligned(known: Cells, now: Cells, changed: float) -> SceneChange:
    """The turn and shift of today's picture that leave the least change."""
    import cv2

    rows, columns = now.shape
    was, is_now = _edges(known), _edges(now)
    window = np.asarray(cv2.createHanningWindow((columns, rows), cv2.CV_32F), np.float32)
    middle = ((columns - 1) / 2, (rows - 1) / 2)
    starts: list[tuple[float, Reals]] = []
    for degrees in _TURNS_DEG:
        turn = np.asarray(cv2.getRotationMatrix2D(middle, -degrees, 1.0), np.float32)
        turned = np.asarray(cv2.warpAffine(was.strength, turn, (columns, rows)), np.float32)
        (right, down), _ = cv2.phaseCorrelate(turned, is_now.strength, window)
        if abs(right) > _MOST_SHIFT * columns or abs(down) > _MOST_SHIFT * rows:
            continue
        turn[:, 2] += (right, down)
        starts.append((_left(known, was, is_now, turn)[0], turn))
    # What is seen of both is less than the whole: before and after are those of the same part.
    left, before, best = changed, changed, np.eye(2, 3, dtype=np.float32)
    for _, start in sorted(starts, key=lambda one: one[0])[:_STARTS]:
        for turn in (_refined(was, is_now, start), start):
            after, of_it = _left(known, was, is_now, turn)
            if after < min(left, of_it):
                left, before, best = after, of_it, turn
    away = best @ np.array([*middle, 1.0], np.float32) - np.array(middle, np.float32)
    return SceneChange(
        changed,
        float(np.degrees(np.arctan2(best[1, 0], best[0, 0]))),
        float(away[0]) / columns,
        float(away[1]) / rows,
        1 - left / before,
    )


def _refined(was: _Edges, now: _Edges, start: Reals) -> Reals:
    import cv2

    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
    # It finds where in the first picture each point of the second lies: the way back.
    back = np.asarray(cv2.invertAffineTransform(start), np.float32)
    everywhere = np.ones(now.strength.shape, np.uint8)
    try:
        _, found = cv2.findTransformECC(
            now.strength, was.strength, back, cv2.MOTION_EUCLIDEAN, criteria, everywhere, 5
        )
    except cv2.error:
        # It does not converge where there is nothing in common.
        return start
    return np.asarray(cv2.invertAffineTransform(found), np.float32)


def _left(known: Cells, was: _Edges, now: _Edges, turn: Reals) -> tuple[float, float]:
    """The change of the part that both show once the reference is turned as today's picture is,
    and before it was; (1, 1) if that part is too small.
    """
    import cv2

    rows, columns = known.shape
    whole = np.ones((rows, columns), np.float32)
    shown = cv2.warpAffine(whole, turn, (columns, rows))
    inner = cv2.erode(shown, np.ones((7, 7), np.uint8), borderValue=[0.0])
    seen = np.asarray(inner, np.float32)
    if float(seen.mean()) < _LEAST_OVERLAP:
        return 1.0, 1.0
    turned = cv2.warpAffine(known, turn, (columns, rows), borderMode=cv2.BORDER_REPLICATE)
    then = _edges(np.asarray(turned, np.uint8))
    return _changed(then, now, seen), _changed(was, now, seen)


# Sizes.


def _fitting(width: int, height: int, long_side: int) -> tuple[int, int]:
    """Width and height with that longer side."""
    scale = long_side / max(width, height)
    return max(2, round(width * scale)), max(2, round(height * scale))


def _cells_of(width: int, height: int, long_side: int = LONG_SIDE) -> tuple[int, int]:
    return _fitting(width, height, long_side)


def _resized(picture: Picture, width: int, height: int) -> Picture:
    """Means over areas when shrinking, smooth when growing."""
    import cv2

    smaller = width < picture.shape[1]
    way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    resized = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=way)
    return np.asarray(resized, np.uint8)


def _like(cells: Cells, other: Cells) -> Cells:
    """Cells in the shape of others; a picture of another shape is stretched."""
    if cells.shape == other.shape:
        return cells
    return _resized(cells, other.shape[1], other.shape[0])
