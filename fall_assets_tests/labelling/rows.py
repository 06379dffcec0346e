"""Rows of `videos`, `labels` and `annotations` for tests."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from fall_assets.lake.registry import table

DAY = date(2026, 3, 1)


def video(path: str, duration_s: float = 20.0, **values: Any) -> dict[str, Any]:
    """A row of `videos`; the path is its id, too."""
    row: dict[str, Any] = {
        "day": DAY,
        "video_id": path,
        "camera_id": "cam-01",
        "dataset": "site",
        "path": path,
        "start_utc": datetime(2026, 3, 1, 8, 15, tzinfo=UTC),
        "duration_s": duration_s,
        "width": 640,
        "height": 360,
        "fps": 10.0,
        "frames": 200,
        "codec": "h264",
        "bytes": 1,
        "subject": None,
        "scene": f"site/{path}",
    }
    return row | values


def videos(*rows: dict[str, Any]) -> pl.DataFrame:
    """The frame of those rows."""
    return pl.DataFrame(list(rows), schema=table("videos").schema)


def label(
    video_id: str, start_s: float, end_s: float, name: str, event_id: str | None = None
) -> dict[str, Any]:
    """A row of `labels`."""
    return {
        "day": DAY,
        "label_id": f"{video_id}-{start_s}-{name}",
        "video_id": video_id,
        "camera_id": "cam-01",
        "start_s": start_s,
        "end_s": end_s,
        "label": name,
        "original_label": name,
        "zone": None,
        "source": "reviewer",
        "event_id": event_id,
        "taxonomy_version": 1,
        "file": "labels/a.csv",
        "line": 2,
    }


def labels(*rows: dict[str, Any]) -> pl.DataFrame:
    """The frame of those rows."""
    return pl.DataFrame(list(rows), schema=table("labels").schema)


def annotation(
    annotator: str,
    start_s: float,
    end_s: float,
    name: str,
    *,
    video_id: str = "v",
    at_s: float = 0.0,
    **values: Any,
) -> dict[str, Any]:
    """A row of `annotations` without its outcome; the segment starts `at_s` after 08:15."""
    start = datetime(2026, 3, 1, 8, 15, tzinfo=UTC) + timedelta(seconds=at_s)
    row = label(video_id, start_s, end_s, name) | {
        "label_id": f"{annotator}-{video_id}-{start_s}-{end_s}-{name}",
        "annotator": annotator,
        "interval_id": f"{annotator}-{video_id}-{start_s}-{name}",
        "start_utc": start + timedelta(seconds=start_s),
        "end_utc": start + timedelta(seconds=end_s),
        "file": f"labels/{annotator}.csv",
        "stated_utc": None,
    }
    return row | values


def annotation_rows(*rows: dict[str, Any]) -> pl.DataFrame:
    """The frame of those rows, with the column `stated_utc`."""
    schema = {**table("annotations").schema, "stated_utc": pl.Datetime("us", "UTC")}
    del schema["outcome"]
    return pl.DataFrame(list(rows), schema=schema)
