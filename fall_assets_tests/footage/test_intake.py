"""One day's files become segments, or stand in quarantine with a reason."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fall_assets.datasets import DATASETS
from fall_assets.footage.discovery import days_with_footage, find
from fall_assets.footage.intake import Intake, Known, LandingAwayError, Retry, inspect_day
from fall_assets.footage.sources import DEFAULT_TEMPLATE, SourceSettings
from fall_assets.footage.store import Footage
from fall_assets.footage.template import FRIGATE
from fall_assets.footage.watching import Found
from fall_assets.lake.registry import table
from fall_assets_tests.footage.films import cut, film
from fall_assets_tests.footage_samples import SAMPLES, needs_samples

DAY = date(2026, 3, 1)
NOW = datetime(2026, 3, 2, tzinfo=UTC)
NO_CAMERAS = table("cameras").empty()


def intake(
    landing: Path,
    *,
    template: str = DEFAULT_TEMPLATE,
    day: date = DAY,
    before: Intake | None = None,
    cameras: pl.DataFrame = NO_CAMERAS,
    now: datetime = NOW,
    settle_s: float = 0.0,
    retry: Retry = False,
    **rest: Any,
) -> Intake:
    known = Known(before.videos, before.sightings, before.quarantine) if before else None
    return inspect_day(
        Footage(landing, landing.parent / "cache"),
        [SourceSettings(template=template)],
        day,
        cameras=cameras,
        known=known,
        now=now,
        settle_s=settle_s,
        retry=retry,
        **rest,
    ).decide()


def reasons(taken: Intake) -> dict[str, str]:
    return dict(taken.quarantine.select("path", "reason").iter_rows())


def test_segments_become_videos(tmp_path: Path) -> None:
    film(tmp_path / "cam-01/2026-03-01/08-15-00.mp4", frames=30)
    taken = intake(tmp_path)
    assert taken.videos.schema == table("videos").schema
    assert taken.quarantine.schema == table("quarantine").schema
    assert taken.cameras.schema == table("cameras").schema
    row = taken.videos.row(0, named=True)
    assert row["day"] == DAY
    assert row["start_utc"] == datetime(2026, 3, 1, 8, 15, tzinfo=UTC)
    assert (row["camera_id"], row["dataset"], row["frames"]) == ("cam-01", "site", 30)
    assert taken.cameras.row(0, named=True) == {
        "camera_id": "cam-01",
        "ward": "unknown",
        "room": "unknown",
        "view": "unknown",
        "dataset": "site",
        "crop": None,
    }


def test_frigates_layout_works(tmp_path: Path) -> None:
    film(tmp_path / "recordings/2026-03-01/08/cam-01/15.00.mp4")
    assert intake(tmp_path, template=FRIGATE.text).videos["start_utc"].to_list() == [
        datetime(2026, 3, 1, 8, 15, tzinfo=UTC)
    ]


def test_bad_files_are_quarantined_and_the_day_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "cam-01/2026-03-01"
    whole = film(folder / "08-00-00.mp4")
    (folder / "08-01-00.mp4").touch()
    cut(whole, folder / "08-02-00.mp4", 0.7)
    (folder / "08-03-00.mp4").write_text("not a video")
    os.mkfifo(folder / "08-04-00.mp4")
    film(folder / "08-05-00.mp4", seed=1)
    taken = intake(tmp_path)
    assert taken.videos.height == 2
    assert reasons(taken) == {
        "cam-01/2026-03-01/08-01-00.mp4": "empty",
        "cam-01/2026-03-01/08-02-00.mp4": "truncated",
        "cam-01/2026-03-01/08-03-00.mp4": "not_a_video",
        "cam-01/2026-03-01/08-04-00.mp4": "not_a_video",
    }
    assert set(taken.quarantine["action"]) == {"quarantined"}
    assert all(taken.quarantine["detail"])
    assert all(taken.quarantine["advice"])


def test_a_segment_that_is_still_written_is_skipped_and_taken_later(tmp_path: Path) -> None:
    path = tmp_path / "cam-01/2026-03-01/08-00-00.mp4"
    whole = film(tmp_path / "whole.mp4")
    cut(whole, path, 0.7)
    taken = intake(tmp_path, now=datetime.now(UTC), settle_s=10)
    assert reasons(taken) == {"cam-01/2026-03-01/08-00-00.mp4": "still_being_written"}
    assert taken.quarantine["action"].to_list() == ["skipped"]
    path.write_bytes(whole.read_bytes())
    assert intake(tmp_path).videos.height == 1


def test_the_same_content_under_two_names_is_one_video_with_two_sightings(tmp_path: Path) -> None:
    film(tmp_path / "cam-01/2026-03-01/08-00-00.mp4")
    film(tmp_path / "cam-02/2026-03-01/09-00-00.mp4")
    taken = intake(tmp_path)
    assert taken.quarantine.is_empty()
    video = taken.videos.row(0, named=True)
    assert taken.videos.height == 1
    assert (video["path"], video["camera_id"]) == ("cam-01/2026-03-01/08-00-00.mp4", "cam-01")
    assert taken.sightings.select("path", "camera_id", "video_id", "source").rows() == [
        ("cam-01/2026-03-01/08-00-00.mp4", "cam-01", video["video_id"], "recorders"),
        ("cam-02/2026-03-01/09-00-00.mp4", "cam-02", video["video_id"], "recorders"),
    ]
    assert taken.sightings["gone_utc"].to_list() == [None, None]


def test_what_another_day_has_is_a_sighting_only(tmp_path: Path) -> None:
    film(tmp_path / "cam-01/2026-03-01/08-00-00.mp4")
    first = intake(tmp_path)
    film(tmp_path / "cam-01/2026-03-02/08-00-00.mp4")
    again = inspect_day(
        Footage(tmp_path, tmp_path),
        [SourceSettings()],
        date(2026, 3, 2),
        cameras=NO_CAMERAS,
        known=Known(
            videos_elsewhere=lambda _ids: first.videos,
            sightings_elsewhere=lambda _ids: first.sightings,
        ),
        settle_s=0,
    ).decide()
    assert again.videos.is_empty()
    assert again.quarantine.is_empty()
    assert again.elsewhere.is_empty()
    assert again.sightings["video_id"].to_list() == first.videos["video_id"].to_list()


def test_twice_is_the_same_and_reads_nothing(tmp_path: Path) -> None:
    film(tmp_path / "cam-01/2026-03-01/08-00-00.mp4")
    film(tmp_path / "cam-02/2026-03-01/08-00-00.mp4")
    (tmp_path / "cam-01/2026-03-01/08-01-00.mp4").touch()
    (tmp_path / "cam-01/2026-03-01/08-02-00.mp4").symlink_to("missing.mp4")
    first = intake(tmp_path)
    told: list[str] = []
    second = intake(
        tmp_path,
        before=first,
        cameras=first.cameras,
        now=datetime(2026, 3, 9, tzinfo=UTC),
        worker=("false",),  # A process that was started could not answer.
        progress=lambda *_: told.append("read"),
    )
    assert second.videos.equals(first.videos)
    assert second.sightings.equals(first.sightings)
    assert second.quarantine.equals(first.quarantine)
    assert second.cameras.equals(first.cameras)
    assert told == []


def test_only_what_changed_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "cam-01/2026-03-01"
    film(folder / "08-00-00.mp4")
    bad = folder / "08-01-00.mp4"
    bad.write_text("not a video")
    first = intake(tmp_path)
    film(folder / "08-02-00.mp4", seed=2)
    told: list[tuple[int, int]] = []
    second = intake(tmp_path, before=first, progress=lambda *args: told.append(args))
    assert told == [(1, 1)]
    assert second.videos.height == 2
    assert second.quarantine.equals(first.quarantine)
    retried = intake(
        tmp_path, before=second, retry=True, now=NOW + timedelta(days=1), progress=lambda *_: None
    )
    was, row = first.quarantine.row(0, named=True), retried.quarantine.row(0, named=True)
    assert row == {**was, "tried_utc": NOW + timedelta(days=1)}


def test_a_repaired_file_is_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "cam-01/2026-03-01/08-00-00.mp4"
    cut(film(tmp_path / "whole.mp4"), path, 0.7)
    first = intake(tmp_path)
    assert reasons(first) == {"cam-01/2026-03-01/08-00-00.mp4": "truncated"}
    shutil.copy(tmp_path / "whole.mp4", path)
    second = intake(tmp_path, before=first)
    assert second.quarantine.is_empty()
    assert second.videos.height == 1


def test_a_file_that_is_damaged_later_is_quarantined_and_its_video_marked(tmp_path: Path) -> None:
    path = film(tmp_path / "cam-01/2026-03-01/08-00-00.mp4")
    first = intake(tmp_path)
    path.write_bytes(path.read_bytes()[:-500])
    second = intake(tmp_path, before=first)
    assert reasons(second) == {"cam-01/2026-03-01/08-00-00.mp4": "truncated"}
    assert second.videos["deleted_utc"].to_list() == [NOW]
    assert second.sightings["gone_utc"].to_list() == [NOW]


def test_a_file_that_goes_and_comes_back(tmp_path: Path) -> None:
    path = film(tmp_path / "cam-01/2026-03-01/08-00-00.mp4")
    first = intake(tmp_path)
    kept = path.rename(tmp_path / "kept.mp4")
    second = intake(tmp_path, before=first, now=NOW + timedelta(hours=1))
    assert second.videos["deleted_utc"].to_list() == [NOW + timedelta(hours=1)]
    assert second.sightings["gone_utc"].to_list() == [NOW + timedelta(hours=1)]
    third = intake(tmp_path, before=second, now=NOW + timedelta(hours=2))
    assert third.videos.equals(second.videos)
    kept.rename(path)
    fourth = intake(tmp_path, before=third, now=NOW + timedelta(hours=3))
    assert fourth.videos.equals(first.videos)
    assert fourth.sightings.equals(first.sightings)


def test_a_renamed_file_is_the_same_video_at_another_place(tmp_path: Path) -> None:
    path = film(tmp_path / "cam-01/2026-03-01/08-00-00.mp4")
    first = intake(tmp_path)
    path.rename(path.with_name("09-00-00.mp4"))
    second = intake(tmp_path, before=first, now=NOW + timedelta(hours=1))
    was, row = first.videos.row(0, named=True), second.videos.row(0, named=True)
    assert row == {**was, "path": "cam-01/2026-03-01/09-00-00.mp4"}
    assert second.sightings["gone_utc"].to_list() == [NOW + timedelta(hours=1), None]


def test_a_landing_folder_that_is_away_marks_nothing(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    film(landing / "cam-01/2026-03-01/08-00-00.mp4")
    first = intake(landing)
    landing.rename(tmp_path / "unmounted")
    with pytest.raises(LandingAwayError, match="is not there; mount it"):
        intake(landing, before=first)


def test_what_no_layout_names_any_more_is_not_gone(tmp_path: Path) -> None:
    film(tmp_path / "cam-01/2026-03-01/08-00-00.mp4")
    first = intake(tmp_path)
    second = intake(tmp_path, before=first, template="other/{camera}/{date}/{time}.mkv")
    assert second.videos.equals(first.videos)
    assert second.sightings.equals(first.sightings)


def test_a_link_out_of_the_landing_folder_is_refused(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    outside = film(tmp_path / "outside/08-00-00.mp4")
    (landing / "cam-01/2026-03-01").mkdir(parents=True)
    (landing / "cam-01/2026-03-01/08-00-00.mp4").symlink_to(outside)
    (landing / "cam-01/2026-03-01/09-00-00.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (landing / "cam-01/2026-03-01/10-00-00.mp4").symlink_to("missing.mp4")
    (landing / "cam-02").mkdir()
    (landing / "cam-02/2026-03-01").symlink_to(outside.parent)
    taken = intake(landing)
    assert taken.videos.is_empty()
    assert reasons(taken) == {
        "cam-01/2026-03-01/08-00-00.mp4": "outside_root",
        "cam-01/2026-03-01/09-00-00.mp4": "outside_root",
        "cam-01/2026-03-01/10-00-00.mp4": "unreadable",
        "cam-02/2026-03-01/08-00-00.mp4": "outside_root",
    }


def test_links_within_the_landing_folder_work(tmp_path: Path) -> None:
    whole = film(tmp_path / "store/a.mp4")
    (tmp_path / "cam-01/2026-03-01").mkdir(parents=True)
    (tmp_path / "cam-01/2026-03-01/08-00-00.mp4").symlink_to(whole)
    assert intake(tmp_path).videos.height == 1


def test_cameras_of_one_room_share_a_scene(tmp_path: Path) -> None:
    for number, camera in enumerate(("cam-01", "cam-02", "cam-03")):
        film(tmp_path / camera / "2026-03-01/08-00-00.mp4", seed=number)
    cameras = pl.DataFrame(
        {
            "camera_id": ["cam-01", "cam-02"],
            "ward": ["A", "A"],
            "room": ["12", "12"],
            "view": ["corner", "ceiling"],
            "dataset": ["site", "site"],
            "crop": [None, "0,0,0.5,1"],
        },
        schema=table("cameras").schema,
    )
    taken = intake(tmp_path, cameras=cameras)
    scenes = dict(taken.videos.select("camera_id", "scene").iter_rows())
    assert scenes["cam-01"] == scenes["cam-02"] != scenes["cam-03"]
    assert taken.cameras["camera_id"].to_list() == ["cam-01", "cam-02", "cam-03"]
    assert taken.cameras.head(2).equals(cameras)


def test_progress_is_told(tmp_path: Path) -> None:
    for minute in range(3):
        film(tmp_path / f"cam-01/2026-03-01/08-0{minute}-00.mp4", seed=minute)
    told: list[tuple[int, int]] = []
    intake(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_file_that_vanishes_is_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "cam-01/2026-03-01/08-00-00.mp4")
    film(tmp_path / "cam-01/2026-03-01/09-00-00.mp4", seed=1)

    def find_then_lose(landing: Path, sources: list[SourceSettings], day: date) -> list[Found]:
        found = find(landing, sources, day)
        path.unlink()
        return found

    monkeypatch.setattr("fall_assets.footage.intake.find", find_then_lose)
    taken = intake(tmp_path)
    assert taken.videos["path"].to_list() == ["cam-01/2026-03-01/09-00-00.mp4"]
    assert taken.quarantine.is_empty()


@needs_samples
def test_the_real_footage_comes_in_whole() -> None:
    there = sorted(x.day for x in DATASETS.values() if (SAMPLES / x.name).is_dir())
    assert days_with_footage(SAMPLES, [SourceSettings()]) == there
    days = {day: intake(SAMPLES, day=day) for day in there}
    counts = {day.isoformat(): taken.videos.height for day, taken in days.items()}
    assert counts == {"2024-01-01": 100, "2024-01-02": 22, "2024-01-03": 15, "2024-01-04": 1}
    assert all(taken.quarantine.is_empty() for taken in days.values())
    videos = pl.concat(taken.videos for taken in days.values())
    assert videos["video_id"].n_unique() == 138
    assert not videos.select("camera_id", "start_utc").is_duplicated().any()
    assert videos.filter(dataset="urfd")["scene"].n_unique() == 70


def test_the_age_of_a_file_is_measured_against_now(tmp_path: Path) -> None:
    path = tmp_path / "cam-01/2026-03-01/08-00-00.mp4"
    path.parent.mkdir(parents=True)
    path.touch()
    later = datetime.fromtimestamp(time.time() + 60, UTC)
    assert reasons(intake(tmp_path, now=later, settle_s=10)) == {
        "cam-01/2026-03-01/08-00-00.mp4": "empty"
    }
