"""What goes into an extraction and what comes out of it.

What belongs here: plain types that processes exchange. What does not: anything that opens a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
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
class PassFigures:
    """What one pass over a segment took.

    Attributes:
        frames: in the segment.
        decoded: of them, those that were decoded.
        glances: single frames looked at while the motion gate was shut.
        samples: pictures that extractors looked at; those of two feature sets count twice.
        gate_s: seconds for the compressed reading and the gate.
        decode_s: for the decoder.
        picture_s: for scaling pictures.
        extract_s: in the extractors.
        wall_s: all of it.
        peak_bytes: the process's largest resident memory so far; 0 where the system does not say.
    """

    frames: int = 0
    decoded: int = 0
    glances: int = 0
    samples: int = 0
    gate_s: float = 0.0
    decode_s: float = 0.0
    picture_s: float = 0.0
    extract_s: float = 0.0
    wall_s: float = 0.0
    peak_bytes: int = 0

    @property
    def bare_s(self) -> float:
        """What a bare loop over the same frames would take: decode, scale, extract."""
        return self.decode_s + self.picture_s + self.extract_s

    def with_added(self, other: PassFigures) -> PassFigures:
        """The sums of both; `peak_bytes` is the larger."""
        sums = {
            one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)
        }
        return replace(PassFigures(**sums), peak_bytes=max(self.peak_bytes, other.peak_bytes))


TABLES = ("motion_gate", "sequences", "pose_tracks", "features")
"""What a pass yields rows of, in the order in which they are committed: `features`, by which a
segment counts as done, last.
"""


@dataclass(frozen=True)
class SegmentFeatures:
    """What one decoding pass yields: rows by the tables' names (`TABLES`).

    `duration_s` is measured from the frames; `lost` counts packets and frames that were unusable.
    """

    tables: Mapping[str, pl.DataFrame]
    duration_s: float
    lost: int = 0
    figures: PassFigures = field(default_factory=PassFigures)

    @property
    def features(self) -> pl.DataFrame:
        """Rows of `features`."""
        return self.tables["features"]

    @property
    def pose_tracks(self) -> pl.DataFrame:
        """Rows of `pose_tracks`."""
        return self.tables["pose_tracks"]


@dataclass(frozen=True)
class SegmentResult:
    """The outcome for one segment: either `frames`, or `error` saying why there are none.

    `why` is 'unreadable', 'crashed' or 'took_too_long' where there is an error.
    """

    video: VideoRef
    frames: SegmentFeatures | None = None
    error: str | None = None
    why: str | None = None
