"""What a simulated camera sees of its room: bed, chair, door and free floor as polygons.

What belongs here: projecting furniture into the picture. What does not: writing files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fall_assets.simulation.camera import NEAREST_M, Camera
from fall_assets.simulation.room import BED_WIDTH_M, MATTRESS_M, SEAT_M, Room

Point = tuple[float, float]
_DOOR_HALF_M = 0.5
_DOOR_HEIGHT_M = 2.05
_SEAT_HALF_M = 0.25
_SMALLEST = 0.002


def seen_zones(
    room: Room, camera: Camera, *, mattress_m: float = MATTRESS_M
) -> dict[str, list[Point]]:
    """Kind of zone to its polygon, in shares of the picture; what is out of sight is left out.

    `mattress_m` is how high one lies in bed.
    """
    found = {}
    for kind, corners in _corners(room, mattress_m).items():
        pixels, depth = camera.project(np.array(corners, np.float64))
        if depth.min() <= NEAREST_M:
            continue
        shares = pixels / np.array([camera.width, camera.height])
        polygon = _clip([(float(x), float(y)) for x, y in shares])
        if len(polygon) >= 3 and _area(polygon) >= _SMALLEST:
            found[kind] = [(round(x, 4), round(y, 4)) for x, y in polygon]
    return found


def _corners(room: Room, mattress_m: float) -> dict[str, list[tuple[float, float, float]]]:
    foot, head = room.bed_y
    left, right = room.bed_x - BED_WIDTH_M / 2, room.bed_x + BED_WIDTH_M / 2
    chair_x, chair_y = room.chair
    door_x, door_y = room.door
    x0, x1, y0, y1 = room.free
    half = _SEAT_HALF_M
    near, far = door_y - _DOOR_HALF_M, door_y + _DOOR_HALF_M
    return {
        "bed": [(x, y, mattress_m) for x, y in _around(left, right, foot, head)],
        "chair": [
            (x, y, SEAT_M)
            for x, y in _around(chair_x - half, chair_x + half, chair_y - half, chair_y + half)
        ],
        "door": [
            (door_x, near, 0.0),
            (door_x, far, 0.0),
            (door_x, far, _DOOR_HEIGHT_M),
            (door_x, near, _DOOR_HEIGHT_M),
        ],
        "floor": [(x, y, 0.0) for x, y in _around(x0, x1, y0, y1)],
    }


def _around(x0: float, x1: float, y0: float, y1: float) -> list[Point]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _clip(polygon: Sequence[Point]) -> list[Point]:
    """The part of a convex polygon inside the picture (Sutherland and Hodgman, CACM 17(1))."""
    points = list(polygon)
    for axis in (0, 1):
        for edge, sign in ((0.0, 1.0), (1.0, -1.0)):
            kept: list[Point] = []
            for before, after in zip([*points[-1:], *points[:-1]], points, strict=True):
                depths = [sign * (point[axis] - edge) for point in (before, after)]
                if (depths[0] >= 0) != (depths[1] >= 0):
                    share = depths[0] / (depths[0] - depths[1])
                    crossing = [b + share * (a - b) for b, a in zip(before, after, strict=True)]
                    kept.append((crossing[0], crossing[1]))
                if depths[1] >= 0:
                    kept.append(after)
            points = kept
    return points


def _area(polygon: Sequence[Point]) -> float:
    x, y = (np.array(axis) for axis in zip(*polygon, strict=True))
    cross: NDArray[np.float64] = x * np.roll(y, -1) - y * np.roll(x, -1)
    return float(abs(cross.sum()) / 2)
