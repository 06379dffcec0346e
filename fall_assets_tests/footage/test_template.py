"""A template turns a path into camera and time, and back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.footage.template import (
    DEFAULT,
    FRIGATE,
    SHORTEST_SEGMENT_S,
    PathTemplate,
    TemplateError,
)

LAYOUTS = (
    DEFAULT.text,
    FRIGATE.text,
    "{year}/{month}/{day}/{camera}-{hour}{minute}{second}.mp4",
    "{camera}_{date}T{time}.mkv",
    "{date}/{camera}/{date}_{camera}_{time}.mp4",
    "rec [1]/{camera}{date}/{time}/video.mp4",
    "{camera}_{year}{month}{day}_{hour}{minute}{second}.mp4",
    "{camera}-{epoch}.mp4",
    "{any}/{date}/{camera}_{time}_{any}.mp4",
)
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # Half an hour of daylight saving.
    "America/Sao_Paulo",  # Set at midnight, until 2019.
    "Asia/Kathmandu",
    "Africa/Casablanca",  # Set back for a month each year.
    "Pacific/Apia",  # Left out a whole day in 2011.
)

cameras = st.text(
    st.characters(codec="utf-8", exclude_characters="/\x00"), min_size=1, max_size=20
).filter(lambda name: not name.startswith("."))
starts = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)).map(
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)


@given(layout=st.sampled_from(LAYOUTS), camera=cameras, start=starts)
def test_what_is_formatted_parses_to_the_same(layout: str, camera: str, start: datetime) -> None:
    template = PathTemplate(layout)
    assert template.parse(template.format(camera, start)) == (camera, start)


@given(
    layout=st.sampled_from(LAYOUTS),
    zone=st.sampled_from(ZONES),
    start=st.datetimes(datetime(2005, 1, 1), datetime(2037, 12, 31)),
    length_s=st.floats(SHORTEST_SEGMENT_S, 1800),
)
def test_a_local_name_gives_back_its_moment_by_the_time_of_the_last_change(
    layout: str, zone: str, start: datetime, length_s: float
) -> None:
    start = start.replace(microsecond=0, tzinfo=UTC)
    template = PathTemplate(layout, zone)
    path = template.format("cam-01", start)
    assert template.parse(path, start.timestamp() + length_s) == ("cam-01", start)


def test_each_second_around_both_changes_of_the_clock_gives_back_its_moment() -> None:
    for zone in ZONES:
        template = PathTemplate(DEFAULT.text, zone)
        for start in _around_changes(zone):
            path = template.format("a", start)
            assert template.parse(path, start.timestamp() + 10) == ("a", start)


def _around_changes(zone: str) -> list[datetime]:
    """Moments every 7 minutes around each change of a zone's clocks, 2010 to 2019."""
    moment, found = datetime(2010, 1, 1, tzinfo=UTC), []
    while moment.year < 2020:
        later = moment + timedelta(days=1)
        if (
            moment.astimezone(ZoneInfo(zone)).utcoffset()
            != later.astimezone(ZoneInfo(zone)).utcoffset()
        ):
            found += [moment + timedelta(minutes=n) for n in range(-180, 1620, 7)]
        moment = later
    return found


@given(
    zone=st.sampled_from(ZONES),
    local=st.datetimes(datetime(2005, 1, 1), datetime(2037, 12, 31)),
)
def test_every_local_time_lies_on_a_day_that_its_name_is_looked_for_on(
    zone: str, local: datetime
) -> None:
    template = PathTemplate(DEFAULT.text, zone)
    path = f"a/{local:%Y-%m-%d/%H-%M-%S}.mp4"
    for changed_s in (None, 4e9):
        told = template.parse(path, changed_s)
        assert told is not None
        assert local.date() in template.local_days(told[1].date())
        assert told[1].date() in template.utc_days(local.date())


@pytest.mark.parametrize("zone", ["Pacific/Apia", "America/Sao_Paulo", "Europe/Berlin"])
def test_times_that_do_not_exist_are_on_a_day_that_is_looked_at(zone: str) -> None:
    template = PathTemplate(DEFAULT.text, zone)
    for year in (2011, 2017, 2018):
        for number in range(0, 365 * 24, 3):
            local = datetime(year, 1, 1) + timedelta(hours=number, minutes=30)
            told = template.parse(f"a/{local:%Y-%m-%d/%H-%M-%S}.mp4")
            assert told is not None
            assert local.date() in template.local_days(told[1].date())


def test_the_hour_that_exists_twice_is_told_by_the_last_change() -> None:
    template = PathTemplate(DEFAULT.text, "Europe/Berlin")
    first, second = (
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    )
    path = "a/2026-10-25/02-30-00.mp4"
    assert template.format("a", first) == template.format("a", second) == path
    assert template.parse(path, first.timestamp() + 300) == ("a", first)
    assert template.parse(path, second.timestamp() + 300) == ("a", second)
    assert template.parse(path) == ("a", first)


def test_a_time_that_does_not_exist_is_of_a_clock_that_was_not_set() -> None:
    template = PathTemplate(DEFAULT.text, "Europe/Berlin")
    told = template.parse("a/2026-03-29/02-30-00.mp4", 0.0)
    assert told == ("a", datetime(2026, 3, 29, 1, 30, tzinfo=UTC))


def test_the_epoch_may_be_in_milliseconds_and_knows_no_zone() -> None:
    template = PathTemplate("{camera}-{epoch}.mp4", "Europe/Berlin")
    start = datetime(2026, 3, 1, 8, 15, tzinfo=UTC)
    assert template.parse("cam-01-1772352900.mp4") == ("cam-01", start)
    assert template.parse("cam-01-1772352900250.mp4") == (
        "cam-01",
        start + timedelta(milliseconds=250),
    )
    assert template.parse("cam-01-17723529.mp4") is None


@given(layout=st.sampled_from(LAYOUTS), start=starts, other=starts)
def test_beginnings_sort_as_the_times_do(layout: str, start: datetime, other: datetime) -> None:
    template = PathTemplate(layout)
    if not template.sorts_by_time:
        return
    early, late = sorted((start, other))
    path = template.format("cam-01", late)
    begin = template.beginning(path, "cam-01", late.date())
    assert begin <= path
    if early.date() < late.date() - timedelta(days=1):
        assert template.format("cam-01", early) < begin


@pytest.mark.parametrize(
    "layout", [FRIGATE.text, "{date}/{camera}/{time}.mp4", "{date}_{camera}_{time}.mp4"]
)
def test_a_beginning_passes_no_other_camera_over_where_the_time_comes_first(layout: str) -> None:
    template = PathTemplate(layout)
    start = datetime(2026, 3, 1, tzinfo=UTC)
    begin = template.beginning(template.format("z", start), "z", start.date())
    assert begin <= template.format("a", start)


def test_which_layouts_sort_by_time() -> None:
    def sorts(text: str) -> bool:
        return PathTemplate(text).sorts_by_time

    assert sorts(DEFAULT.text)
    assert sorts(FRIGATE.text)
    assert sorts("{camera}-{epoch}.mp4")
    assert not sorts("{day}-{month}-{year}/{camera}/{time}.mp4")
    assert not sorts("{any}{date}_{camera}_{time}.mp4")


def test_the_layouts_that_are_promised() -> None:
    start = datetime(2026, 3, 1, 8, 15, tzinfo=UTC)
    assert DEFAULT.format("cam-01", start) == "cam-01/2026-03-01/08-15-00.mp4"
    assert FRIGATE.format("cam-01", start) == "recordings/2026-03-01/08/cam-01/15.00.mp4"


def test_other_time_zones_become_utc() -> None:
    start = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert DEFAULT.format("a", start) == "a/2026-02-28/23-30-00.mp4"


@pytest.mark.parametrize(
    "path",
    [
        "cam-01/2026-02-30/08-15-00.mp4",
        "cam-01/2026-03-01/24-00-00.mp4",
        "cam-01/2026-03-01/08-15-00.mp4.part",
        "cam-01/2026-03-01/x/08-15-00.mp4",
        ".hidden/2026-03-01/08-15-00.mp4",
        "cam-01/٢٠٢٦-03-01/08-15-00.mp4",
        "",
    ],
)
def test_a_path_that_does_not_fit_is_none(path: str) -> None:
    assert DEFAULT.parse(path) is None


def test_fields_that_disagree_do_not_fit() -> None:
    template = PathTemplate("{date}/{camera}/{year}-{hour}.mp4")
    assert template.parse("2026-03-01/a/2026-08.mp4") is not None
    assert template.parse("2026-03-01/a/2025-08.mp4") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/{camera}/{date}/{time}.mp4",
        "../{camera}/{date}/{time}.mp4",
        "{camera}/{date}.mp4",
        "{camera}/{time}.mp4",
        "{date}/{time}.mp4",
        "{camera}/{date}/{clock}.mp4",
        "{camera/{date}/{time}.mp4",
        "{camera}_{any}.mp4",
    ],
)
def test_a_template_that_cannot_work_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        PathTemplate(text)


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../etc/passwd", "Europe"])
def test_a_zone_that_is_not_known_is_refused(zone: str) -> None:
    with pytest.raises(TemplateError, match="zone"):
        PathTemplate(DEFAULT.text, zone)


@pytest.mark.parametrize("camera", ["", ".", "..", "a/b", ".hidden"])
def test_a_camera_that_cannot_be_in_a_path_is_refused(camera: str) -> None:
    with pytest.raises(TemplateError, match="camera"):
        DEFAULT.format(camera, datetime(2026, 3, 1, tzinfo=UTC))


def test_a_start_without_a_zone_is_refused() -> None:
    with pytest.raises(TemplateError, match="zone"):
        DEFAULT.format("a", datetime(2026, 3, 1))


def test_a_day_is_found_without_listing_other_days(tmp_path: Path) -> None:
    for day in range(1, 21):
        path = tmp_path / DEFAULT.format("cam-01", datetime(2026, 3, day, 8, tzinfo=UTC))
        path.parent.mkdir(parents=True)
        path.touch()
    listed: list[str] = []

    def note(folder: str, _depth: int, _day: date | None) -> bool:
        listed.append(folder)
        return True

    found = list(DEFAULT.walk(tmp_path, local_days=[date(2026, 3, 7)], enter=note))
    assert [path for path, _camera, _start in found] == ["cam-01/2026-03-07/08-00-00.mp4"]
    assert listed == ["", "cam-01/2026-03-07"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_days_are_those_with_a_file(tmp_path: Path, layout: str) -> None:
    template = PathTemplate(layout)
    for camera, day in (("a", 3), ("b", 3), ("b", 5)):
        path = tmp_path / template.format(camera, datetime(2026, 3, day, 8, tzinfo=UTC))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / template.format("a", datetime(2026, 3, 9, tzinfo=UTC))).parent.mkdir(
        parents=True, exist_ok=True
    )
    assert template.days(tmp_path) == [date(2026, 3, 3), date(2026, 3, 5)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_a_day_is_a_day_of_utc_whatever_the_zone_of_names(
    tmp_path: Path, layout: str, zone: str
) -> None:
    template = PathTemplate(layout, zone)
    first = datetime(2026, 3, 3, tzinfo=UTC)
    starts = [first + timedelta(hours=hour) for hour in range(-5, 30, 3)]
    for start in starts:
        path = tmp_path / template.format("a", start)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = sorted(start for _path, _camera, start in template.find(tmp_path, first.date()))
    assert found == [start for start in starts if start.date() == first.date()]
    assert template.days(tmp_path) == sorted({start.date() for start in starts})
