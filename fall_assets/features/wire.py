"""What the pool and its workers tell each other: segments as JSON, features as Arrow.

What belongs here: turning types into chunks and back. What does not: pipes and processes
(`fall_assets.processes`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from fall_assets.features.segments import TABLES, PassFigures, SegmentFeatures, VideoRef
from fall_assets.processes import Readable, receive, receive_json, to_json


def feature_chunks(features: SegmentFeatures) -> Iterator[bytes]:
    """What a segment yielded: one chunk of JSON, then one per table."""
    yield to_json(
        {
            "duration_s": features.duration_s,
            "lost": features.lost,
            "figures": asdict(features.figures),
        }
    )
    for name in TABLES:
        yield _to_arrow(features.tables[name])


def receive_features(pipe: Readable) -> SegmentFeatures:
    """Read the chunks of `feature_chunks`."""
    header = receive_json(pipe)
    tables = {name: pl.read_ipc_stream(io.BytesIO(receive(pipe))) for name in TABLES}
    figures = PassFigures(**header["figures"])
    return SegmentFeatures(tables, header["duration_s"], header["lost"], figures)


def job(video: VideoRef) -> dict[str, Any]:
    """A segment as JSON."""
    return {
        "path": str(video.path),
        "video_id": video.video_id,
        "camera_id": video.camera_id,
        "day": video.day.isoformat(),
        "crop": video.crop,
    }


def video_of(content: dict[str, Any]) -> VideoRef:
    """The segment that `job` described."""
    return VideoRef(
        path=Path(content["path"]),
        video_id=content["video_id"],
        camera_id=content["camera_id"],
        day=date.fromisoformat(content["day"]),
        crop=content["crop"],
    )


def _to_arrow(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()
