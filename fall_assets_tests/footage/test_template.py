"""A template turns a path into camera and time, and back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.footage.template import DEFAULT, FRIGATE, PathTemplate, TemplateError

LAYOUTS = (
    DEFAULT.text,
    FRIGATE.text,
    "{year}/{month}/{day}/{camera}-{hour}{minute}{second}.mp4",
    "{camera}_{date}T{time}.mkv",
    "{date}/{camera}/{date}_{camera}_{time}.mp4",
    "rec [1]/{camera}{date}/{time}/video.mp4",
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


@given(layout=st.sampled_from(LAYOUTS), start=starts, other=starts)
def test_a_days_glob_matches_its_paths_and_no_other_days(
    layout: str, start: datetime, other: datetime
) -> None:
    template = PathTemplate(layout)
    path = PurePosixPath(template.format("cam-01", start))
    assert path.match(template.glob_for(start.date()))
    assert path.match(template.glob_for(other.date())) == (start.date() == other.date())


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
    ],
)
def test_a_template_that_cannot_work_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        PathTemplate(text)


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

    found = list(DEFAULT.walk(tmp_path, day=date(2026, 3, 7), enter=note))
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
