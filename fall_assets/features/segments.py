"""What goes into an extraction and what comes out of it.

What belongs here: plain types that processes exchange. What does not: anything that opens a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
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

    def cut(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """That part of a picture of shape (height, width, ...); at least one pixel."""
        height, width = picture.shape[:2]
        left, top = round(self.x0 * width), round(self.y0 * height)
        right, bottom = round(self.x1 * width), round(self.y1 * height)
        return picture[top : max(bottom, top + 1), left : max(right, left + 1)]


@dataclass(frozen=True)
class VideoRef:
    """A segment to extract from.

    `video_id`, `camera_id` and `day` become columns; `crop` is 'x0,y0,x1,y1' as `cameras` has it.
    """

    path: Path
    video_id: str
    camera_id: str
    day: date
    crop: str | None = None


@dataclass(frozen=True)
class SegmentFeatures:
    """What one decoding pass yields: rows of the tables `features` and `pose_tracks`.

    `duration_s` is measured from the frames; `lost` counts packets and frames that were unusable.
    """

    features: pl.DataFrame
    pose_tracks: pl.DataFrame
    duration_s: float
    lost: int = 0


@dataclass(frozen=True)
class SegmentResult:
    """The outcome for one segment: either `frames`, or `error` saying why there are none."""

    video: VideoRef
    frames: SegmentFeatures | None = None
    error: str | None = None
