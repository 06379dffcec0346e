"""Scored footage to make alerts of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from fall_assets.lake.registry import table

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def segments(
    *places: tuple[str, datetime, float],
) -> pl.DataFrame:
    """Rows of `videos`: camera, start, duration in seconds."""
    rows = [
        {
            "day": start.date(),
            "video_id": video_id(camera, start),
            "camera_id": camera,
            "dataset": "site",
            "path": f"{camera}/{start:%Y-%m-%d/%H-%M-%S}.mp4",
            "start_utc": start,
            "duration_s": duration,
            "width": 640,
            "height": 360,
            "fps": 10.0,
            "frames": max(1, int(duration * 10)),
            "codec": "h264",
            "bytes": 1000,
            "subject": None,
            "scene": camera,
        }
        for camera, start, duration in places
    ]
    return pl.DataFrame(rows, schema=table("videos").schema)


def video_id(camera: str, start: datetime) -> str:
    return hashlib.sha256(f"{camera}{start.timestamp()}".encode()).hexdigest()


def cameras(*names: str) -> pl.DataFrame:
    rows = [
        {
            "camera_id": name,
            "ward": "Geriatrics",
            "room": f"room of {name}",
            "view": "corner",
            "dataset": "site",
            "crop": None,
        }
        for name in names
    ]
    return pl.DataFrame(rows, schema=table("cameras").schema)


def scores(
    videos: pl.DataFrame,
    high: Mapping[str, Sequence[tuple[datetime, datetime]]],
    model_version: str = "3",
) -> pl.DataFrame:
    """A score every 0.5 s: 0.9 within the intervals `high` of a camera, else 0.05."""
    rows = []
    for video in videos.iter_rows(named=True):
        for step in range(1, int(video["duration_s"] * 2) + 1):
            moment = video["start_utc"] + timedelta(seconds=step / 2)
            falls = high.get(video["camera_id"], ())
            rows.append(
                {
                    "day": video["day"],
                    "video_id": video["video_id"],
                    "camera_id": video["camera_id"],
                    "model_version": model_version,
                    "feature_set": "pose-0123456789",
                    "end_s": step / 2,
                    "track": 0,
                    "score": 0.9 if any(a <= moment <= b for a, b in falls) else 0.05,
                }
            )
    return pl.DataFrame(rows, schema=table("predictions").schema)


def at(seconds: float) -> datetime:
    return MIDNIGHT + timedelta(hours=8, seconds=seconds)
