"""Files are found by day, and new ones are noticed at a cost that history does not raise."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from fall_assets.footage.discovery import days_with_footage, find, new_since
from fall_assets.footage.template import DEFAULT, FRIGATE, PathTemplate

LATER_S = 60.0


def put(landing: Path, template: PathTemplate, camera: str, start: datetime) -> str:
    path = template.format(camera, start)
    (landing / path).parent.mkdir(parents=True, exist_ok=True)
    (landing / path).write_text(path)
    return path


def at(day: int, hour: int = 8, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return datetime.fromtimestamp(time.time() + seconds, UTC)


@pytest.mark.parametrize("template", [DEFAULT, FRIGATE])
def test_a_day_has_its_own_files(tmp_path: Path, template: PathTemplate) -> None:
    wanted = sorted(put(tmp_path, template, camera, at(1)) for camera in ("cam-01", "cam-02"))
    put(tmp_path, template, "cam-01", at(2))
    (tmp_path / wanted[0]).with_name("08-15-00.mp4.part").touch()
    found = find(tmp_path, template, date(2026, 3, 1))
    assert [file.path for file in found] == wanted
    assert {(file.camera_id, file.dataset, file.subject) for file in found} == {
        ("cam-01", "site", None),
        ("cam-02", "site", None),
    }
    assert {file.start_utc for file in found} == {at(1)}
    assert days_with_footage(tmp_path, template) == [date(2026, 3, 1), date(2026, 3, 2)]


def test_an_empty_landing_folder_has_nothing(tmp_path: Path) -> None:
    assert days_with_footage(tmp_path / "absent", DEFAULT) == []
    assert find(tmp_path, DEFAULT, date(2026, 3, 1)) == []


def touch(landing: Path, *paths: str) -> None:
    for path in paths:
        (landing / path).parent.mkdir(parents=True, exist_ok=True)
        (landing / path).write_text(path)


def test_data_sets_stand_beside_a_sites_footage(tmp_path: Path) -> None:
    put(tmp_path, DEFAULT, "cam-01", at(1))
    touch(tmp_path, "urfd/fall/fall-01-cam0.mp4", "urfd/labels.csv", "gmdcsa24/notes/video.mp4")
    assert days_with_footage(tmp_path, DEFAULT) == [date(2024, 1, 1), date(2026, 3, 1)]
    assert [file.path for file in find(tmp_path, DEFAULT, date(2024, 1, 1))] == [
        "urfd/fall/fall-01-cam0.mp4"
    ]


def test_cameras_of_one_scene_start_together(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"urfd/fall/fall-0{n}-{camera}.mp4" for n in (1, 2) for camera in ("cam0", "cam1")),
        "urfd/adl/adl-01-cam0.mp4",
    )
    found = find(tmp_path, DEFAULT, date(2024, 1, 1))
    starts = {(file.scene, file.camera_id): file.start_utc for file in found}
    assert starts["urfd/fall-01", "urfd-cam0"] == starts["urfd/fall-01", "urfd-cam1"]
    assert starts["urfd/adl-01", "urfd-cam0"] == datetime(2024, 1, 1, tzinfo=UTC)
    by_camera = [start for (_scene, camera), start in starts.items() if camera == "urfd-cam0"]
    assert len(set(by_camera)) == 3


def test_data_set_paths_tell_subject_and_camera(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "gmdcsa24/Subject 3/Fall/01.mp4",
        "assist_iot/adl/11_sitting_laying_down_slowly.mp4",
        "people_walking/walk.mp4",
    )
    fall = find(tmp_path, DEFAULT, date(2024, 1, 3))[0]
    assert (fall.camera_id, fall.subject) == ("gmdcsa24-s3", "s3")
    assert fall.scene == "gmdcsa24/s3-fall-01"
    lying = find(tmp_path, DEFAULT, date(2024, 1, 2))[0]
    assert lying.camera is not None
    assert (lying.camera_id, lying.camera.crop) == ("assist_iot-lab-right", "0.3336,0,1,0.8889")
    assert find(tmp_path, DEFAULT, date(2024, 1, 4))[0].camera_id == "people_walking"


@pytest.mark.parametrize("template", [DEFAULT, FRIGATE])
def test_each_file_is_reported_once(tmp_path: Path, template: PathTemplate) -> None:
    old = put(tmp_path, template, "cam-01", at(1))
    touch(tmp_path, "urfd/fall/fall-01-cam0.mp4")
    new, cursor = new_since(tmp_path, template, None, now=after(LATER_S))
    assert new == {
        date(2024, 1, 1): ["urfd/fall/fall-01-cam0.mp4"],
        date(2026, 3, 1): [old],
    }
    new, cursor = new_since(tmp_path, template, cursor, now=after(LATER_S + 1))
    assert new == {}


def test_a_file_is_reported_once_it_is_quiet(tmp_path: Path) -> None:
    path = put(tmp_path, DEFAULT, "cam-01", at(1))
    new, cursor = new_since(tmp_path, DEFAULT, None, settle_s=30, now=after(10))
    assert new == {}
    new, cursor = new_since(tmp_path, DEFAULT, cursor, settle_s=30, now=after(40))
    assert new == {date(2026, 3, 1): [path]}


def report_between(landing: Path, template: PathTemplate, change: Callable[[], None]) -> set[str]:
    """What is reported of a change between two calls."""
    _new, cursor = new_since(landing, template, None, settle_s=0, now=after(0))
    time.sleep(0.02)
    change()
    new, _cursor = new_since(landing, template, cursor, settle_s=0, now=after(1))
    return {path for paths in new.values() for path in paths}


@pytest.mark.parametrize("template", [DEFAULT, FRIGATE])
def test_new_and_changed_files_of_the_last_days_are_noticed(
    tmp_path: Path, template: PathTemplate
) -> None:
    today = datetime.now(UTC).replace(hour=8, minute=0, second=0, microsecond=0)
    grows = put(tmp_path, template, "cam-01", today)
    put(tmp_path, template, "cam-01", today - timedelta(days=1))
    arrived: list[str] = []

    def change() -> None:
        with (tmp_path / grows).open("a") as file:
            file.write("more")
        arrived.append(put(tmp_path, template, "cam-02", today - timedelta(days=1)))

    assert report_between(tmp_path, template, change) == {grows, *arrived}


@pytest.mark.parametrize("template", [DEFAULT, FRIGATE])
def test_a_new_folder_of_an_old_day_is_noticed(tmp_path: Path, template: PathTemplate) -> None:
    put(tmp_path, template, "cam-01", at(1))
    arrived: list[str] = []
    reported = report_between(
        tmp_path, template, lambda: arrived.append(put(tmp_path, template, "cam-01", at(2)))
    )
    assert reported == set(arrived)


def test_a_file_with_an_old_time_is_new_where_it_is_new(tmp_path: Path) -> None:
    put(tmp_path, DEFAULT, "cam-01", at(1))

    def copy_with_times() -> None:
        path = tmp_path / put(tmp_path, DEFAULT, "cam-01", at(2))
        os.utime(path, (0, 0))
        os.utime(path.parent, (0, 0))

    assert report_between(tmp_path, DEFAULT, copy_with_times) == {"cam-01/2026-03-02/08-00-00.mp4"}


@pytest.mark.parametrize("cursor", ["", "not json", "[]", '{"landing": "elsewhere"}'])
def test_a_cursor_that_does_not_fit_starts_over(tmp_path: Path, cursor: str) -> None:
    path = put(tmp_path, DEFAULT, "cam-01", at(1))
    new, _cursor = new_since(tmp_path, DEFAULT, cursor, now=after(LATER_S))
    assert new == {date(2026, 3, 1): [path]}


def test_another_template_starts_over(tmp_path: Path) -> None:
    put(tmp_path, DEFAULT, "cam-01", at(1))
    _new, cursor = new_since(tmp_path, DEFAULT, None, now=after(LATER_S))
    recording = put(tmp_path, FRIGATE, "cam-01", at(1))
    new, _cursor = new_since(tmp_path, FRIGATE, cursor, now=after(LATER_S))
    assert new == {date(2026, 3, 1): [recording]}


def test_a_tick_lists_no_more_folders_however_long_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, listed = os.scandir, list[str]()

    def counting(path: str | Path) -> object:
        listed.append(str(path))
        return real(path)

    def folders_listed(landing: Path, history: int) -> int:
        for back in range(history):
            start = after(0) - timedelta(days=back)
            put(landing, DEFAULT, "cam-01", start)
        _new, cursor = new_since(landing, DEFAULT, None, now=after(LATER_S))
        # Long after the last change, as on a quiet day.
        _new, cursor = new_since(landing, DEFAULT, cursor, now=after(8000))
        listed.clear()
        new, _cursor = new_since(landing, DEFAULT, cursor, now=after(8060))
        assert new == {}
        return len(listed)

    monkeypatch.setattr(os, "scandir", counting)
    assert folders_listed(tmp_path / "short", 5) == folders_listed(tmp_path / "long", 200)
