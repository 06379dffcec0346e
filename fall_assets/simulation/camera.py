"""The pinhole camera, and the three usual places where a hospital hangs one.

What belongs here: geometry from the room to the picture. What does not: what the sensor does to
light (`render.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fall_assets.simulation.room import Room

Array = NDArray[np.float64]
View = Literal["level", "corner", "ceiling"]
NEAREST_M = 0.05


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion, square pixels, principal point in the middle.

    `position` and `target` in metres, `field_deg` is the horizontal field of view, `roll_deg`
    turns the picture about the optical axis.
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    field_deg: float
    width: int
    height: int
    roll_deg: float = 0.0

    @property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return self.width / 2 / float(np.tan(np.deg2rad(self.field_deg) / 2))

    @cached_property
    def axes(self) -> Array:
        """Rows: the picture's right, down and forward directions in the world, shape (3, 3)."""
        forward = np.subtract(self.target, self.position).astype(np.float64)
        forward /= np.linalg.norm(forward)
        up = np.array([0.0, 0.0, 1.0] if abs(forward[2]) < 0.9 else [0.0, 1.0, 0.0])
        right = np.cross(forward, up)
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        angle = np.deg2rad(self.roll_deg)
        return np.stack([
            np.cos(angle) * right + np.sin(angle) * down,
            np.cos(angle) * down - np.sin(angle) * right,
            forward,
        ])  # fmt: skip

    def project(self, points: Array) -> tuple[Array, Array]:
        """Points (..., 3) in metres to pixels (..., 2), and depth along the axis (...), m.

        Points behind the camera are held at `NEAREST_M`; a caller who cares looks at the depth.
        """
        seen = (points - np.asarray(self.position)) @ self.axes.T
        depth = seen[..., 2]
        scale = self.focal_px / np.maximum(depth, NEAREST_M)
        pixels = seen[..., :2] * scale[..., None] + np.array([self.width / 2, self.height / 2])
        return pixels, depth

    def rays(self, step: float = 1.0) -> Array:
        """Directions through pixel centres, scaled to depth 1: (height/step, width/step, 3)."""
        columns = (np.arange(0, self.width, step) + step / 2 - self.width / 2) / self.focal_px
        rows = (np.arange(0, self.height, step) + step / 2 - self.height / 2) / self.focal_px
        right, down, forward = self.axes
        directions: Array = columns[None, :, None] * right + rows[:, None, None] * down + forward
        return directions


def place(view: View, room: Room, width: int, height: int, rng: np.random.Generator) -> Camera:
    """A camera of that view in the room, a little different with each draw of `rng`.

    Level looks across the room from 1.1 to 1.6 m, corner down from under the ceiling in a front
    corner, ceiling nearly straight down.
    """
    middle = np.array([room.width_m / 2, room.depth_m * 0.60])
    jitter = rng.uniform(-1.0, 1.0, 6)
    if view == "level":
        tall = 1.35 + 0.25 * jitter[0]
        return Camera(
            (middle[0] + 0.8 * jitter[1], 0.12, tall),
            (middle[0] + 0.3 * jitter[2], middle[1] + 0.4, 0.75 + 0.08 * jitter[3]),
            66.0 + 3.0 * jitter[4], width, height, 1.0 * jitter[5],
        )  # fmt: skip
    if view == "corner":
        left = jitter[0] < 0
        return Camera(
            (0.15 if left else room.width_m - 0.15, 0.15, 2.45 + 0.2 * jitter[1]),
            (middle[0] + 0.2 * jitter[2], middle[1], 0.70 + 0.15 * jitter[3]),
            68.0 + 3.0 * jitter[4], width, height, 1.5 * jitter[5],
        )  # fmt: skip
    return Camera(
        (middle[0] + 0.3 * jitter[0], middle[1] + 0.2 + 0.2 * jitter[1], room.height_m - 0.05),
        (middle[0] + 0.35 * jitter[2], middle[1] + 0.4 + 0.25 * jitter[3], 0.0),
        96.0 + 4.0 * jitter[4], width, height, 3.0 * jitter[5],
    )  # fmt: skip


def turned(camera: Camera, degrees: float, roll_deg: float = 0.0) -> Camera:
    """The camera turned to the right about a vertical axis, and about its own."""
    angle = -np.deg2rad(degrees)
    x, y, z = np.subtract(camera.target, camera.position)
    target = (
        camera.position[0] + float(np.cos(angle) * x - np.sin(angle) * y),
        camera.position[1] + float(np.sin(angle) * x + np.cos(angle) * y),
        camera.position[2] + float(z),
    )
    return replace(camera, target=target, roll_deg=camera.roll_deg + roll_deg)


def place_anywhere(
    person: tuple[float, float], width: int, height: int, rng: np.random.Generator
) -> Camera:
    """A camera that somebody put somewhere: on a shelf, a tripod, a wall, a ceiling.

    It looks roughly, but not exactly, at where a person stands (x, y in metres), from 1.2 to 7 m
    away and from any side; walls are not minded. Half of them stand at 0.5 to 1.7 m, a third hang
    at 1.7 to 3 m, the rest look nearly straight down.
    """
    kind = rng.random()
    angle = rng.uniform(-np.pi, np.pi)
    field = float(rng.uniform(45.0, 100.0))
    if kind < 0.15:
        away, high = float(rng.uniform(0.0, 1.2)), float(rng.uniform(2.4, 3.4))
        field = float(rng.uniform(75.0, 110.0))
    else:
        # A narrow view is used from farther away.
        away = float(rng.uniform(1.2, 4.0)) * float(np.sqrt(90.0 / field)) * rng.uniform(1.0, 1.6)
        high = float(rng.uniform(0.5, 1.7) if kind < 0.65 else rng.uniform(1.7, 3.0))
    position = (
        person[0] + away * float(np.cos(angle)),
        person[1] + away * float(np.sin(angle)),
        high,
    )
    beside = 0.25 * max(away, 1.0) * np.tan(np.deg2rad(field) / 2)
    target = (
        person[0] + float(rng.normal(0.0, beside)),
        person[1] + float(rng.normal(0.0, beside)),
        float(rng.uniform(0.2, 1.2)) if kind >= 0.15 else 0.0,
    )
    return Camera(position, target, field, width, height, float(rng.normal(0.0, 3.0)))
