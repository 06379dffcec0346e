"""One segment as algorithms see it: people's tracks, values of an extractor, or the film itself.

What belongs here: plain data, without a model or a lake. What does not: who joins it (`dataset`),
who looks at it (`algorithms`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fall_assets.learning.windows import SegmentTracks


@dataclass(frozen=True)
class Stretch:
    """What an extractor yields of one stretch of a segment: `values` (samples, width) float32."""

    start_s: float
    rate_hz: float
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class SegmentInputs:
    """One segment as an algorithm sees it; what was not read is None.

    Attributes:
        tracks: the people in it.
        stretches: what a motion or an embedding set yields, in order of time, apart.
        path: the film.
        crop: the part of it that the camera may show, as in the table `cameras`.
    """

    video_id: str
    duration_s: float
    tracks: SegmentTracks | None = None
    stretches: tuple[Stretch, ...] | None = None
    path: Path | None = None
    crop: str | None = None
