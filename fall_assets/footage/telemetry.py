"""Telemetry that the cameras' boxes leave beside the footage.

What belongs here: reading `telemetry/DAY.csv`. What does not: judging it.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from fall_assets.footage.lines import Line, read_lines
from fall_assets.lake.registry import table

TELEMETRY_FOLDER = "telemetry"

_NUMBERS = ("cpu_percent", "memory_percent", "bandwidth_kbps")
_REQUIRED = ("camera_id", "at_utc", *_NUMBERS, "power")
_OPTIONAL = ("camera_model", "firmware")


def read_telemetry(landing: Path, day: date) -> tuple[pl.DataFrame, list[str]]:
    """Read one day's telemetry.

    `telemetry/2026-03-01.csv` has the columns camera_id, at_utc (ISO 8601; without a zone it is
    UTC), cpu_percent, memory_percent, bandwidth_kbps and power (mains, battery, off, unknown). It
    may have camera_model and firmware, whose cells may be empty.

    Returns:
        Rows of the table `camera_health`, sorted by camera and time, and the lines that were left
        out, each with file, line, what is wrong and what to do. No file, no rows.
    """
    path = landing / TELEMETRY_FOLDER / f"{day}.csv"
    schema = table("camera_health").schema
    if not path.is_file():
        return table("camera_health").empty(), []
    rows: dict[tuple[str, datetime], dict[str, Any]] = {}
    problems = []
    for line in read_lines(path, _REQUIRED):
        row = _row(line, day)
        if isinstance(row, dict) and (row["camera_id"], row["at_utc"]) in rows:
            row = "the camera has a line of that time already; keep one"
        if isinstance(row, str):
            problems.append(f"{TELEMETRY_FOLDER}/{path.name}, line {line.number}: {row}")
        else:
            rows[row["camera_id"], row["at_utc"]] = row
    return pl.DataFrame([rows[key] for key in sorted(rows)], schema=schema), problems


def _row(line: Line, day: date) -> dict[str, Any] | str:
    """The line's row, or what is wrong with it."""
    if line.problem is not None:
        return line.problem
    columns = table("camera_health")
    row: dict[str, Any] = {"day": day}
    for name in _REQUIRED:
        text = line.cells.get(name)
        if text is None:
            return f"no {name}; leave no cell empty"
        row[name] = text
    row |= {name: line.cells.get(name) for name in _OPTIONAL}
    try:
        at = datetime.fromisoformat(row["at_utc"])
    except ValueError:
        return f"at_utc {row['at_utc']!r} is no time; write it as {day}T08:15:00Z"
    row["at_utc"] = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    if row["at_utc"].date() != day:
        return (
            f"at_utc {row['at_utc'].isoformat()} is not on {day} (UTC); move it to its day's file"
        )
    for name in _NUMBERS:
        try:
            row[name] = float(row[name])
        except ValueError:
            return f"{name} {row[name]!r} is no number"
        column = columns.column(name)
        low = -math.inf if column.minimum is None else column.minimum
        high = math.inf if column.maximum is None else column.maximum
        if not math.isfinite(row[name]) or not low <= row[name] <= high:
            return f"{name} {row[name]:g} is not between {low:g} and {high:g}"
    row["power"] = row["power"].lower()
    allowed = columns.column("power").allowed or ()
    if row["power"] not in allowed:
        return f"power {row['power']!r} is not known; write one of {', '.join(allowed)}"
    return row
