"""Features: what one decoding pass over a segment yields, per window and per person.

What belongs here: decoding, sampling, quality and motion figures, pose estimation, tracking, and
the spreading of that work over processes. What does not: taking files in (`footage/`), writing
tables (`lake/`), and anything learned from the features (`learning/`).

Importing this package is cheap. `extract` brings PyAV; the pose network's runtime is imported when
the first network is loaded.
"""

from __future__ import annotations

from fall_assets.features.pool import extract_all
from fall_assets.features.segments import SegmentFeatures, SegmentResult, VideoRef
from fall_assets.features.settings import FeatureSettings, TrackerSettings

__all__ = [
    "FeatureSettings",
    "SegmentFeatures",
    "SegmentResult",
    "TrackerSettings",
    "VideoRef",
    "extract_all",
]
