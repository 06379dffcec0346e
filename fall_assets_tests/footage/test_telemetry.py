"""Telemetry is read line by line; what is wrong is named and left out."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from fall_assets.footage.telemetry import read_telemetry
from fall_assets.lake.registry import table

DAY = date(2026, 3, 1)
HEADER = "camera_id,at_utc,cpu_percent,memory_percent,bandwidth_kbps,power"


def report(landing: Path, *lines: str) -> None:
    (landing / "telemetry").mkdir(exist_ok=True)
    (landing / "telemetry" / f"{DAY}.csv").write_text("\n".join((HEADER, *lines)) + "\n")


def test_lines_become_rows(tmp_path: Path) -> None:
    report(
        tmp_path,
        "cam-02,2026-03-01T08:00:00Z,10,20.5,900,mains",
        "cam-01,2026-03-01T09:00:00+01:00,0,100,0,Battery",
        "cam-01,2026-03-01T07:00:00,1,2,3,off",
    )
    health, problems = read_telemetry(tmp_path, DAY)
    assert problems == []
    assert health.schema == table("camera_health").schema
    told = list(table("camera_health").schema)[:7]
    assert health.select(told).rows() == [
        (DAY, "cam-01", datetime(2026, 3, 1, 7, tzinfo=UTC), 1.0, 2.0, 3.0, "off"),
        (DAY, "cam-01", datetime(2026, 3, 1, 8, tzinfo=UTC), 0.0, 100.0, 0.0, "battery"),
        (DAY, "cam-02", datetime(2026, 3, 1, 8, tzinfo=UTC), 10.0, 20.5, 900.0, "mains"),
    ]


def test_model_and_firmware_may_be_told(tmp_path: Path) -> None:
    (tmp_path / "telemetry").mkdir()
    (tmp_path / "telemetry" / f"{DAY}.csv").write_text(
        f"{HEADER},firmware,camera_model\n"
        "cam-01,2026-03-01T08:00:00Z,1,2,3,mains,9.80.1,ACME Dome 4\n"
        "cam-02,2026-03-01T08:00:00Z,1,2,3,mains,,\n"
    )
    health, problems = read_telemetry(tmp_path, DAY)
    assert problems == []
    assert health.select("camera_id", "camera_model", "firmware").rows() == [
        ("cam-01", "ACME Dome 4", "9.80.1"),
        ("cam-02", None, None),
    ]


def test_without_the_file_there_is_nothing(tmp_path: Path) -> None:
    health, problems = read_telemetry(tmp_path, DAY)
    assert health.is_empty()
    assert problems == []


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("cam-01,yesterday,1,2,3,mains", "at_utc"),
        ("cam-01,2026-03-02T08:00:00Z,1,2,3,mains", "move it"),
        ("cam-01,2026-03-01T08:00:00Z,much,2,3,mains", "cpu_percent"),
        ("cam-01,2026-03-01T08:00:00Z,101,2,3,mains", "between 0 and 100"),
        ("cam-01,2026-03-01T08:00:00Z,1,nan,3,mains", "memory_percent"),
        ("cam-01,2026-03-01T08:00:00Z,1,2,-3,mains", "bandwidth_kbps"),
        ("cam-01,2026-03-01T08:00:00Z,1,2,3,solar", "power"),
        ("cam-01,2026-03-01T08:00:00Z,1,2,3", "power"),
        (",2026-03-01T08:00:00Z,1,2,3,mains", "camera_id"),
        ("cam-00,2026-03-01T08:00:00Z,9,9,9,mains", "already"),
        ('"cam-01,2026-03-01T08:00:00Z,1,2,3,mains', "quotes"),
    ],
)
def test_a_wrong_line_is_named_and_left_out(tmp_path: Path, line: str, part: str) -> None:
    report(
        tmp_path,
        "cam-00,2026-03-01T08:00:00Z,1,2,3,mains",
        line,
        "cam-02,2026-03-01T08:00:00Z,1,2,3,mains",
    )
    health, problems = read_telemetry(tmp_path, DAY)
    assert health["camera_id"].to_list() == ["cam-00", "cam-02"]
    assert len(problems) == 1
    assert problems[0].startswith("telemetry/2026-03-01.csv, line 3: ")
    assert part in problems[0]


def test_a_header_without_a_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "telemetry").mkdir()
    (tmp_path / "telemetry" / f"{DAY}.csv").write_text("camera_id,at_utc\ncam-01,x\n")
    health, problems = read_telemetry(tmp_path, DAY)
    assert health.is_empty()
    assert "power" in problems[0]
