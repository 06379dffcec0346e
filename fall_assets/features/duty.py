"""How long the motion gate stood open, by camera and day, and its plot.

What belongs here: figures from what the passes wrote down. What does not: the gate (`gate.py`).
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta

import polars as pl

from fall_assets.lake.registry import table

HOURS = 24
OPEN_DUTY, OPEN_FOOTAGE_S, SHUT_FOOTAGE_S = 0.9, 3600.0, 12 * 3600.0
"""No room has somebody in motion nine tenths of an hour, or nobody for half a day."""

_JOINED_S = 1.0
"""Segments of one recording follow each other within this."""

_DPI = 90
_MOST_CAMERAS = 40


def gate_duty(day: date, gates: pl.DataFrame, starts: Mapping[str, datetime]) -> pl.DataFrame:
    """Rows of `gate_duty`.

    Args:
        day: the day.
        gates: its rows of `motion_gate`.
        starts: when each video starts (UTC), by its id; others are left out.
    """
    rows = []
    known = gates.filter(pl.col("video_id").is_in(list(starts)))
    for (camera, gate), segments in known.group_by("camera_id", "gate"):
        spans, footage = [], []
        for row in segments.iter_rows(named=True):
            start = starts[row["video_id"]]
            footage.append((start, start + timedelta(seconds=row["duration_s"])))
            for start_s, end_s, _why in json.loads(row["stretches"]):
                spans.append((start + timedelta(seconds=start_s), start + timedelta(seconds=end_s)))
        footage_s, open_s, frames, decoded = (
            float(segments[name].sum()) for name in ("duration_s", "open_s", "frames", "decoded")
        )
        rows.append(
            {
                "day": day,
                "camera_id": camera,
                "gate": gate,
                "footage_s": footage_s,
                "open_s": open_s,
                "duty": min(1.0, open_s / footage_s) if footage_s else 0.0,
                "decoded": min(1.0, decoded / frames) if frames else 0.0,
                "longest_open_s": _longest_s(spans),
                "by_hour": json.dumps(_by_hour(day, footage, spans)),
            }
        )
    schema = table("gate_duty").schema
    return pl.DataFrame(rows, schema=schema).sort("camera_id", "gate")


def stuck_gates(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of `gate_duty` of gates that stick, with `stuck`: 'open' or 'shut'.

    'open' is nearly all of at least an hour, 'shut' is all of at least half a day.
    """
    is_open = (pl.col("footage_s") >= OPEN_FOOTAGE_S) & (pl.col("duty") >= OPEN_DUTY)
    is_shut = (pl.col("footage_s") >= SHUT_FOOTAGE_S) & (pl.col("open_s") == 0)
    told = pl.when(is_open).then(pl.lit("open")).when(is_shut).then(pl.lit("shut"))
    return rows.with_columns(stuck=told).drop_nulls("stuck")


Moments = tuple[datetime, datetime]


def _longest_s(spans: Iterable[Moments]) -> float:
    longest, since, until = 0.0, None, None
    for start, end in sorted(spans):
        if until is None or since is None or (start - until).total_seconds() > _JOINED_S:
            since, until = start, end
        until = max(until, end)
        longest = max(longest, (until - since).total_seconds())
    return longest


def _by_hour(day: date, footage: Iterable[Moments], spans: Iterable[Moments]) -> list[float | None]:
    there, opened = _hours(day, footage), _hours(day, spans)
    return [
        round(min(1.0, opened[hour] / there[hour]), 4) if there[hour] else None
        for hour in range(HOURS)
    ]


def _hours(day: date, spans: Iterable[Moments]) -> list[float]:
    """Seconds in each hour of the day; what reaches over midnight counts for the last."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    seconds = [0.0] * HOURS
    for start, end in spans:
        begin_s, end_s = (start - midnight).total_seconds(), (end - midnight).total_seconds()
        for hour in range(max(0, min(HOURS - 1, int(begin_s // 3600))), HOURS):
            until_s = 3600.0 * (hour + 1) if hour < HOURS - 1 else math.inf
            seconds[hour] += max(0.0, min(end_s, until_s) - max(begin_s, 3600.0 * hour))
            if end_s <= until_s:
                break
    return seconds


def duty_plot(rows: pl.DataFrame) -> bytes | None:
    """The share of time let through, by camera and hour of the day (UTC), as a PNG.

    `rows` are of `gate_duty`; of several days the means are drawn, of many cameras those that were
    open longest. None without rows.
    """
    if rows.is_empty():
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    duty = rows.group_by("camera_id").agg(pl.col("open_s").sum() / pl.col("footage_s").sum())
    busiest = duty.sort("open_s", descending=True, nulls_last=True).head(_MOST_CAMERAS)
    cameras = sorted(busiest["camera_id"])
    shares = [[math.nan] * HOURS for _camera in cameras]
    for place, camera in enumerate(cameras):
        hours = [json.loads(text) for text in rows.filter(camera_id=camera)["by_hour"]]
        for hour in range(HOURS):
            known = [day[hour] for day in hours if day[hour] is not None]
            shares[place][hour] = sum(known) / len(known) if known else math.nan
    figure = Figure(figsize=(8.6, 1.2 + 0.28 * len(cameras)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    figure.colorbar(image, ax=axes, label="share let through")
    means = dict(duty.iter_rows())
    axes.set_yticks(
        range(len(cameras)), [f"{name}  {means[name]:.0%}" for name in cameras], fontsize=8
    )
    axes.set_xticks(range(0, HOURS, 3))
    axes.set_xlabel("hour of the day (UTC); white: no footage")
    axes.set_title("Motion gate: time let through, by camera")
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
