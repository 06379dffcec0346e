"""One decoding pass over one segment: quality, motion and pose, as rows of the lake's tables.

What belongs here: the pass itself. What does not: what each extractor computes, and how segments
are spread over processes (`pool`). Imports PyAV; the pose network's runtime comes with `MoveNet`.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fall_assets.features.motion import changed_share
from fall_assets.features.movenet import MoveNet
from fall_assets.features.packing import pack_boxes, pack_keypoints
from fall_assets.features.people import People
from fall_assets.features.pictures import PictureMaker
from fall_assets.features.quality import quality
from fall_assets.features.sampling import SampleClock, Segment
from fall_assets.features.segments import Crop, SegmentFeatures, VideoRef
from fall_assets.features.settings import FeatureSettings
from fall_assets.features.tracking import Track, Tracker
from fall_assets.features.windows import Measurements, window_rows
from fall_assets.lake.registry import table

if TYPE_CHECKING:
    from av import VideoFrame


def extract(
    video: VideoRef,
    settings: FeatureSettings,
    *,
    network: MoveNet | None = None,
    decoder_threads: int = 1,
) -> SegmentFeatures:
    """Decode a segment once and compute everything of the feature set.

    `network` is a `MoveNet.of(settings)`; it is loaded if it is not given.
    Memory holds one frame and the numbers, so that it hardly grows with the segment's length (some
    20 MB an hour and person). Raises UnreadableSegmentError where nothing can be decoded, and
    PermanentFailureError where the crop or the network is wrong.
    """
    network = network or MoveNet.of(settings)
    observer = _Observer(settings, Crop.parse(video.crop), network)
    segment = Segment(video.path, threads=decoder_threads)
    clock = SampleClock(settings.sample_hz, settings.max_wait_s)
    for time_s, frame in segment.decode():
        observer.frame_s.append(time_s)
        served = clock.serve(time_s)
        if served:
            observer.look(time_s, frame, served)
    return observer.result(video, segment.lost)


class _Observer:
    """What is remembered while a segment goes by."""

    def __init__(self, settings: FeatureSettings, crop: Crop, network: MoveNet) -> None:
        self.frame_s = array("d")
        self._settings = settings
        self._network = network
        self._pictures = PictureMaker(crop)
        self._measured = Measurements()
        self._samples = 0
        self._looks = 0
        self._before: NDArray[np.uint8] | None = None
        self._aspect = 0.0
        self._tracker: Tracker | None = None

    def look(self, time_s: float, frame: VideoFrame, served: range) -> None:
        """Take a sampled frame, which serves the samples `served`."""
        settings = self._settings
        if self._tracker is None:
            self._aspect = self._pictures.aspect(frame)
            self._tracker = Tracker(settings, self._aspect)
        small = self._pictures.luma(frame, settings.motion_long_side)
        if self._before is not None:
            share = changed_share(self._before, small, settings.motion_threshold)
            self._measured.changed.append((time_s, share))
        self._before = small
        if self._looks % settings.quality_every == 0:
            detail = self._pictures.luma_detail(frame, settings.quality_side)
            figures = quality(small, detail)
            self._measured.looks.append((time_s, *self._pictures.size(frame), figures))
        self._looks += 1
        people = self._network.people(self._pictures.rgb(frame, settings.pose_long_side))
        for _ in range(self._samples, served.start):
            self._tracker.step(People.nobody())
        for _ in served:
            self._tracker.step(people)
        self._samples = served.stop

    def result(self, video: VideoRef, lost: int) -> SegmentFeatures:
        """The rows of both tables."""
        times = np.frombuffer(self.frame_s, np.float64)
        # The last frame is shown as long as its predecessors were.
        step = float(np.median(np.diff(times))) if len(times) > 1 else 1 / self._settings.sample_hz
        duration_s = float(times[-1]) + step
        tracks = self._tracker.finish() if self._tracker else []
        self._measured.frame_s = times
        rows = window_rows(self._measured, tracks, self._aspect, duration_s, self._settings)
        return SegmentFeatures(
            features=_frame("features", video, self._settings, rows),
            pose_tracks=_frame("pose_tracks", video, self._settings, self._track_rows(tracks)),
            duration_s=duration_s,
            lost=lost,
        )

    def _track_rows(self, tracks: Sequence[Track]) -> list[dict[str, object]]:
        return [
            {
                "track": number,
                "start_s": track.first / self._settings.sample_hz,
                "rate_hz": self._settings.sample_hz,
                "samples": len(track.boxes),
                "aspect": self._aspect,
                "keypoints": pack_keypoints(track.keypoints),
                "boxes": pack_boxes(track.boxes),
            }
            for number, track in enumerate(tracks)
        ]


def _frame(
    name: str,
    video: VideoRef,
    settings: FeatureSettings,
    rows: Sequence[Mapping[str, object]],
) -> pl.DataFrame:
    whose = {
        "day": video.day,
        "video_id": video.video_id,
        "camera_id": video.camera_id,
        "feature_set": settings.version,
    }
    return pl.DataFrame([{**whose, **row} for row in rows], schema=table(name).schema)
