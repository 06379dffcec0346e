"""A patient's room: its size, bed, chair, door, and the floor that is free to walk on.

What belongs here: geometry that both the people (`motions.py`) and the picture (`render.py`) need.
What does not: colours and textures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

SEAT_M: Final = 0.45
MATTRESS_M: Final = 0.52
BED_LENGTH_M: Final = 2.05
BED_WIDTH_M: Final = 0.95


@dataclass(frozen=True)
class Box:
    """An axis-aligned box from `low` to `high` (m) of one material (a name in `render.py`)."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    material: str


@dataclass(frozen=True)
class Room:
    """One room: x from 0 to `width_m`, y from 0 (front) to `depth_m` (back), z up from the floor.

    The bed stands with its head at the back wall. `bed_left` says whether it is in the left or the
    right part of the room; the chair is in the other, and the door in the chair's side wall, unless
    `door_left` says in which. `curtains_drawn` hides the window; `paint` is the number of the
    colour of the walls, None for the one that the room was built with.
    """

    width_m: float = 5.4
    depth_m: float = 5.6
    height_m: float = 3.0
    bed_left: bool = True
    bed_gap_m: float = 0.35
    door_left: bool | None = None
    curtains_drawn: bool = False
    paint: int | None = None

    @property
    def bed_x(self) -> float:
        """Middle of the bed, m."""
        inset = self.bed_gap_m + BED_WIDTH_M / 2
        return inset if self.bed_left else self.width_m - inset

    @property
    def bed_y(self) -> tuple[float, float]:
        """Foot and head end of the mattress, m."""
        return self.depth_m - 0.12 - BED_LENGTH_M, self.depth_m - 0.12

    @property
    def inward(self) -> float:
        """+1 where the bed's free side looks to the right, -1 to the left."""
        return 1.0 if self.bed_left else -1.0

    @property
    def bed_edge_x(self) -> float:
        """The bed's free long edge, m."""
        return self.bed_x + self.inward * BED_WIDTH_M / 2

    @property
    def chair(self) -> tuple[float, float]:
        """Middle of the chair's seat, m; its back is to the side wall opposite the bed."""
        x = self.width_m - 0.75 if self.bed_left else 0.75
        return x, self.depth_m - 1.15

    @property
    def door(self) -> tuple[float, float]:
        """Middle of the doorway, in a side wall, m."""
        return (self.width_m if self._outward > 0 else 0.0), 2.4

    @property
    def corridor(self) -> tuple[float, float]:
        """A place outside, beside the doorway, that no camera in the room can see, m."""
        x, y = self.door
        return x + self._outward * 0.9, y - 1.5

    @property
    def threshold(self) -> tuple[float, float]:
        """A place just inside the doorway, m."""
        x, y = self.door
        return x - self._outward * 0.8, y

    @property
    def _outward(self) -> float:
        """+1 where the door is in the right wall, -1 in the left."""
        if self.door_left is None:
            return self.inward
        return -1.0 if self.door_left else 1.0

    @property
    def free(self) -> tuple[float, float, float, float]:
        """Floor free of furniture as x0, x1, y0, y1, m."""
        low, high = self.bed_edge_x + 0.45 * self.inward, self.chair[0] - 0.75 * self.inward
        return min(low, high), max(low, high), 2.7, self.depth_m - 0.7

    def spot(self, rng: np.random.Generator, margin_m: float = 0.0) -> tuple[float, float]:
        """A random place on the free floor, at least `margin_m` inside it."""
        x0, x1, y0, y1 = self.free
        return (
            float(rng.uniform(min(x0 + margin_m, x1), max(x1 - margin_m, x0 + margin_m))),
            float(rng.uniform(min(y0 + margin_m, y1), max(y1 - margin_m, y0 + margin_m))),
        )

    def clear(self, x: float, y: float) -> bool:
        """Whether a body part may come to lie there: inside the walls and off the furniture."""
        if not (0.3 < x < self.width_m - 0.3 and 2.2 < y < self.depth_m - 0.3):
            return False
        for box in self.furniture():
            near_x = box.low[0] - 0.12 < x < box.high[0] + 0.12
            if box.low[2] < 1.0 and near_x and box.low[1] - 0.12 < y < box.high[1] + 0.12:
                return False
        return True

    def furniture(self) -> tuple[Box, ...]:
        """All boxes that stand in the room or hang on its walls."""
        foot, head = self.bed_y
        left, right = self.bed_x - BED_WIDTH_M / 2, self.bed_x + BED_WIDTH_M / 2
        cx, cy = self.chair
        back = (cx + 0.20, cx + 0.26) if self.bed_left else (cx - 0.26, cx - 0.20)
        boxes = [
            Box((left, foot, 0.30), (right, head, MATTRESS_M - 0.14), "bed_frame"),
            Box((left + 0.02, foot + 0.03, MATTRESS_M - 0.14),
                (right - 0.02, head, MATTRESS_M), "sheet"),
            Box((left + 0.12, head - 0.42, MATTRESS_M), (right - 0.12, head - 0.06,
                MATTRESS_M + 0.07), "pillow"),
            Box((left, head, 0.30), (right, head + 0.05, 1.02), "wood"),
            Box((left, foot - 0.04, 0.30), (right, foot, 0.62), "wood"),
            Box((cx - 0.25, cy - 0.25, SEAT_M - 0.07), (cx + 0.25, cy + 0.25, SEAT_M), "seat"),
            Box((back[0], cy - 0.25, SEAT_M), (back[1], cy + 0.25, 0.95), "seat"),
        ]  # fmt: skip
        boxes += [
            Box((x - 0.03, y - 0.03, 0.0), (x + 0.03, y + 0.03, 0.32), "metal")
            for x in (left + 0.06, right - 0.06)
            for y in (foot + 0.06, head - 0.06)
        ]
        boxes += [
            Box((cx + dx - 0.02, cy + dy - 0.02, 0.0), (cx + dx + 0.02, cy + dy + 0.02, 0.40),
                "metal")
            for dx in (-0.22, 0.22)
            for dy in (-0.22, 0.22)
        ]  # fmt: skip
        table = (right + 0.06, right + 0.44) if self.bed_left else (left - 0.44, left - 0.06)
        boxes.append(Box((table[0], head - 0.38, 0.0), (table[1], head + 0.06, 0.62), "wood"))
        middle = self.width_m / 2
        # Drawn curtains meet in the middle.
        inner = 0.0 if self.curtains_drawn else 0.72
        boxes += [
            Box((middle - 0.75, self.depth_m - 0.03, 1.05), (middle + 0.75, self.depth_m, 2.15),
                "window"),
            Box((middle - 1.02, self.depth_m - 0.10, 0.95), (middle - inner, self.depth_m, 2.25),
                "curtain"),
            Box((middle + inner, self.depth_m - 0.10, 0.95), (middle + 1.02, self.depth_m, 2.25),
                "curtain"),
        ]  # fmt: skip
        return tuple(boxes)
