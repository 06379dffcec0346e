"""What goes into an extraction and what comes out of it.

What belongs here: plain types that processes exchange. What does not: anything that opens a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


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
