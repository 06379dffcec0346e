"""Zones are periods: a later line closes the earlier one and changes nothing before it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.labelling.zones import ZoneReading, read_zones, with_history, zones_at
from fall_assets.lake.registry import table

HEADER = "camera_id,kind,name,polygon,valid_from,valid_until"
BED = "0.1 0.1; 0.4 0.1; 0.4 0.5"


def read(landing: Path, *lines: str) -> ZoneReading:
    (landing / "zones.csv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return read_zones(landing, {"cam-01", "cam-02"})


def at(reading: ZoneReading, day: str, camera: str = "cam-01") -> list[tuple[str, str]]:
    moment = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return zones_at(reading.zones, camera, moment).select("kind", "name").rows()


def test_without_a_file_there_are_no_zones(tmp_path: Path) -> None:
    assert read_zones(tmp_path).zones.schema == table("zones").schema
    assert read_zones(tmp_path).problems == ()


def test_a_renovation_is_a_new_period(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        f"cam-01,bed,bed 1,{BED},2026-01-01,",
        "cam-01,bed,bed 1,0.5 0.5; 0.9 0.5; 0.9 0.9; 0.5 0.9,2026-03-01T12:00:00+01:00,",
        "cam-01,room,101,,2026-01-01,",
        "cam-01,room,102,,2026-02-01,",
        f"cam-02,bed,bed 1,{BED},2026-01-01,2026-01-05",
    )
    assert reading.problems == ()
    assert reading.zones.schema == table("zones").schema
    assert reading.zones["zone_id"].is_unique().all()
    beds = reading.zones.filter(camera_id="cam-01", kind="bed")
    change = datetime(2026, 3, 1, 11, tzinfo=UTC)
    assert beds["valid_until_utc"].to_list() == [change, None]
    assert json.loads(beds["polygon"][0]) == [[0.1, 0.1], [0.4, 0.1], [0.4, 0.5]]
    assert reading.zones.filter(kind="room")["polygon"].to_list() == [None, None]
    assert at(reading, "2025-12-31") == []
    assert at(reading, "2026-01-15") == [("bed", "bed 1"), ("room", "101")]
    assert at(reading, "2026-02-01") == [("bed", "bed 1"), ("room", "102")]
    assert zones_at(reading.zones, "cam-01", change)["line"].to_list() == [3, 5]
    assert at(reading, "2026-01-04", "cam-02") == [("bed", "bed 1")]
    assert at(reading, "2026-01-05", "cam-02") == []


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (f"cam-09,bed,b,{BED},2026-01-01,", "no camera 'cam-09'"),
        (f"cam-01,sofa,b,{BED},2026-01-01,", "kind 'sofa'"),
        (f"cam-01,bed,,{BED},2026-01-01,", "no name"),
        (f"cam-01,bed,b,{BED},,", "no valid_from"),
        (f"cam-01,bed,b,{BED},soon,", "valid_from 'soon'"),
        (f"cam-01,bed,b,{BED},2026-01-01T08:00:00,", "with its zone"),
        (f"cam-01,bed,b,{BED},2026-01-02,2026-01-02", "is not after valid_from"),
        (f"cam-01,bed,b,{BED},2026-01-02,never", "valid_until 'never'"),
        ("cam-01,bed,b,0.1 0.1; 0.2 0.2,2026-01-01,", "2 corners"),
        ("cam-01,bed,b,0.1 0.1; 0.2 0.2; 0.3 0.3,2026-01-01,", "no area"),
        ("cam-01,bed,b,0 0; 1 1; 1 0; 0 1,2026-01-01,", "sides cross"),
        ("cam-01,bed,b,0 0; 1 0; 640 480,2026-01-01,", "outside the picture"),
        ("cam-01,bed,b,0 0; 1 0; nan 1,2026-01-01,", "outside the picture"),
        ("cam-01,bed,b,0 0; 1 0; one,2026-01-01,", "'one'"),
        (f"cam-01,chair,c,{BED},2026-01-03,", "overlaps line 2"),
        (f"cam-01,chair,c,{BED},2026-01-06,", "overlaps line 2"),
        (f"cam-01,floor,f,{BED},2026-01-01,", "overlaps line 3"),
    ],
)
def test_what_cannot_be_is_reported_by_line(tmp_path: Path, line: str, part: str) -> None:
    good = (
        f"cam-01,chair,c,{BED},2026-01-05,2026-02-01",
        "cam-01,floor,f,,2026-01-01,",
    )
    reading = read(tmp_path, *good, line)
    assert [(p.place.file, p.place.line) for p in reading.problems] == [("zones.csv", 4)]
    assert part in reading.problems[0].reason
    assert reading.zones.height == 2
    assert reading.zones["valid_until_utc"].null_count() == 1


def test_an_earlier_period_may_be_told_later(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        f"cam-01,bed,b,{BED},2026-02-01,",
        f"cam-01,bed,b,{BED},2026-01-01,2026-02-01",
    )
    assert reading.problems == ()
    assert reading.zones["line"].to_list() == [3, 2]


cells = st.text(alphabet='cam-01,bed.;0 "\n9T:Z+', max_size=60)


@settings(deadline=None, max_examples=60)
@given(lines=st.lists(cells, max_size=4))
def test_no_text_raises(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    reading = read(tmp_path_factory.mktemp("zones"), *lines)
    assert reading.zones.schema == table("zones").schema


@given(
    days=st.lists(
        st.tuples(st.integers(1, 28), st.one_of(st.none(), st.integers(1, 28))),
        min_size=1,
        max_size=6,
    ),
    day=st.integers(1, 28),
)
@settings(deadline=None, max_examples=60)
def test_a_zone_has_one_shape_at_a_time(
    tmp_path_factory: pytest.TempPathFactory,
    days: list[tuple[int, int | None]],
    day: int,
) -> None:
    lines = [
        f"cam-01,bed,b,,2026-02-{start:02},{f'2026-02-{end:02}' if end else ''}"
        for start, end in days
    ]
    reading = read(tmp_path_factory.mktemp("zones"), *lines)
    assert reading.zones.height + len(reading.problems) == len(days)
    assert len(at(reading, f"2026-02-{day:02}")) <= 1


def test_a_line_that_is_gone_is_an_ended_period(tmp_path: Path) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    january, march = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    first = read(
        tmp_path, f"cam-01,bed,bed 1,{BED},2026-01-01,", f"cam-01,door,d,{BED},2026-01-01,"
    )
    moved = read(tmp_path, "cam-01,bed,bed 1,0.5 0.5; 0.9 0.5; 0.9 0.9,2026-03-01,")
    zones = with_history(first.zones, moved.zones, now)
    periods = zones.select("kind", "valid_from_utc", "valid_until_utc").rows()
    assert periods == [
        ("bed", january, march),
        ("bed", march, None),
        ("door", january, now),
    ]
    later = with_history(zones, moved.zones, datetime(2026, 6, 1, tzinfo=UTC))
    assert later.equals(zones)


def test_a_corrected_start_leaves_no_second_period(tmp_path: Path) -> None:
    first = read(tmp_path, f"cam-01,bed,bed 1,{BED},2026-01-03,")
    earlier = read(tmp_path, f"cam-01,bed,bed 1,{BED},2026-01-01,")
    now = datetime(2026, 5, 1, tzinfo=UTC)
    assert with_history(first.zones, earlier.zones, now).equals(earlier.zones)
