"""The part of a camera's picture that is used. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fall_assets.errors import PermanentFailureError


@dataclass(frozen=True)
class Crop:
    """The part of the upright picture that is used, as shares: x0, y0 (top left), x1, y1."""

    x0: float = 0.0
    y0: float = 0.0
    x1: float = 1.0
    y1: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.x0 < self.x1 <= 1 and 0 <= self.y0 < self.y1 <= 1):
            raise PermanentFailureError(
                f"the crop {self} is not inside the picture; it must be 'x0,y0,x1,y1' with "
                "0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 (cameras.csv, column crop)"
            )

    @classmethod
    def parse(cls, text: str | None) -> Crop:
        """From 'x0,y0,x1,y1'; nothing or an empty text is the whole picture."""
        if not text:
            return cls()
        try:
            x0, y0, x1, y1 = (float(part) for part in text.split(","))
        except ValueError:
            raise PermanentFailureError(
                f"the crop {text!r} must be four numbers 'x0,y0,x1,y1' (cameras.csv, column crop)"
            ) from None
        return cls(x0, y0, x1, y1)

    def __str__(self) -> str:
        return f"{self.x0:g},{self.y0:g},{self.x1:g},{self.y1:g}"

    def inside(self, outer: Crop) -> Crop:
        """This part of the part `outer`, as a part of the whole picture."""
        width, height = outer.x1 - outer.x0, outer.y1 - outer.y0
        return Crop(
            outer.x0 + self.x0 * width,
            outer.y0 + self.y0 * height,
            outer.x0 + self.x1 * width,
            outer.y0 + self.y1 * height,
        )

    def cut(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """That part of a picture of shape (height, width, ...); at least one pixel."""
        height, width = picture.shape[:2]
        left, top = round(self.x0 * width), round(self.y0 * height)
        right, bottom = round(self.x1 * width), round(self.y1 * height)
        return picture[top : max(bottom, top + 1), left : max(right, left + 1)]
