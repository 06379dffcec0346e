"""The gate's duty cycle is what the passes wrote down, by camera and hour."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from fall_assets.features.duty import duty_plot, gate_duty, stuck_gates
from fall_assets.lake.registry import table
from fall_assets.lake.validation import validate

DAY = date(2026, 3, 1)
START = datetime(2026, 3, 1, 7, 30, tzinfo=UTC)
Stretch = tuple[float, float, str]


def gates(*segments: tuple[str, str, float, list[Stretch]]) -> pl.DataFrame:
    """Rows of `motion_gate`: video, camera, length in seconds, stretches; 10 frames/s."""
    rows = [
        {
            "day": DAY,
            "video_id": video,
            "camera_id": camera,
            "gate": "gate-1",
            "duration_s": duration_s,
            "open_s": sum(end - start for start, end, _ in stretches),
            "frames": int(duration_s * 10),
            "decoded": int(sum(end - start for start, end, _ in stretches) * 10) + 3,
            "glances": 3,
            "stretches": json.dumps(stretches),
        }
        for video, camera, duration_s, stretches in segments
    ]
    return pl.DataFrame(rows, schema=table("motion_gate").schema)


def test_duty_by_camera_and_hour() -> None:
    rows = gate_duty(
        DAY,
        gates(
            ("a", "cam-01", 3600.0, [(0.0, 120.0, "packets"), (3500.0, 3600.0, "picture")]),
            ("b", "cam-01", 60.0, [(0.0, 60.0, "short")]),
            ("c", "cam-02", 1800.0, []),
            ("gone", "cam-03", 60.0, []),
        ),
        {"a": START, "b": START + timedelta(hours=1), "c": START},
    )
    validate(rows, table("gate_duty"), day=DAY)
    busy, still = rows.to_dicts()
    assert (busy["camera_id"], still["camera_id"]) == ("cam-01", "cam-02")
    assert busy["duty"] == pytest.approx(280 / 3660)
    assert busy["decoded"] == pytest.approx((2203 + 603) / 36600)
    # The second segment goes on where the first one ends.
    assert busy["longest_open_s"] == pytest.approx(160)
    hours = json.loads(busy["by_hour"])
    assert hours[7] == pytest.approx(120 / 1800, abs=1e-4)
    assert hours[8] == pytest.approx((100 + 60) / (1800 + 60), abs=1e-4)
    assert [hour for hour, share in enumerate(hours) if share is not None] == [7, 8]
    assert (still["duty"], still["longest_open_s"]) == (0, 0)


def test_footage_over_midnight_is_the_last_hour_s() -> None:
    late = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
    rows = gate_duty(DAY, gates(("a", "c", 120.0, [(30.0, 90.0, "packets")])), {"a": late})
    hours = json.loads(rows["by_hour"].item())
    assert hours[23] == pytest.approx(0.5)
    assert hours[:23] == [None] * 23


def test_gates_that_stick() -> None:
    day_s = 86_400.0
    rows = gate_duty(
        DAY,
        gates(
            ("a", "open", day_s, [(0.0, 0.95 * day_s, "picture")]),
            ("b", "shut", day_s, []),
            ("c", "good", day_s, [(0.0, 0.1 * day_s, "packets")]),
            ("d", "short", 600.0, [(0.0, 600.0, "short")]),
            ("e", "young", 3600.0, []),
        ),
        dict.fromkeys("abcde", datetime(2026, 3, 1, tzinfo=UTC)),
    )
    assert dict(stuck_gates(rows).select("camera_id", "stuck").iter_rows()) == {
        "open": "open",
        "shut": "shut",
    }


def test_the_plot_is_a_picture() -> None:
    rows = gate_duty(DAY, gates(("a", "c", 120.0, [(30.0, 90.0, "packets")])), {"a": START})
    assert (duty_plot(rows) or b"").startswith(b"\x89PNG")
    assert duty_plot(rows.clear()) is None
