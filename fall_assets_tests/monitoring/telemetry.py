"""Rows of `camera_health` as tests need them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from fall_assets.lake.registry import table

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def report(camera_id: str, minutes_ago: float, **other: Any) -> dict[str, Any]:
    """A report of a camera that is well, so long before NOW."""
    at = NOW - timedelta(minutes=minutes_ago)
    row = dict.fromkeys(table("camera_health").schema, None) | {
        "day": at.date(),
        "camera_id": camera_id,
        "at_utc": at,
        "cpu_percent": 20.0,
        "memory_percent": 30.0,
        "bandwidth_kbps": 900.0,
        "power": "mains",
        "box": "box-1",
        "frames_expected": 1500,
        "frames_decoded": 1500,
        "fps_expected": 25.0,
        "fps_measured": 25.0,
        "model_version": "3",
        "state": "ok",
        "since_utc": at - timedelta(hours=5),
        "outbox": 0,
    }
    return row | other


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows of `camera_health`."""
    return pl.DataFrame(list(rows), schema=table("camera_health").schema)
