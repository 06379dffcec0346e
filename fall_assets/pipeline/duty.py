"""The motion gate's duty cycle: how long it stood open, by camera and day."""

from __future__ import annotations

from datetime import date

import polars as pl

from fall_assets.features.duty import gate_duty
from fall_assets.pipeline.work import Work


def measure_duty(work: Work, day: date) -> pl.DataFrame:
    """Write the day's rows of `gate_duty` and return them."""
    gates = work.lake.read("motion_gate", days=[day])
    videos = work.lake.read("videos", days=[day], columns=["video_id", "start_utc"])
    rows = gate_duty(day, gates, dict(videos.iter_rows()))
    work.lake.replace_partition("gate_duty", day, rows, work.provenance(day))
    return rows
