"""Features of a day: one pass per segment, committed in batches, and bad files passed over.

Decoding itself is tested in `features/`; here most rows are made up by a worker without a decoder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fall_assets.errors import PassingFailureError, PermanentFailureError
from fall_assets.features.segments import TABLES
from fall_assets.features.settings import FeatureSettings
from fall_assets.footage.sources import SourceSettings
from fall_assets.lake import Lake
from fall_assets.pipeline import features
from fall_assets.pipeline.collection import collect, retry_quarantine
from fall_assets.pipeline.features import FeatureDay, extract_day, total_of
from fall_assets.pipeline.locks import BusyError, locked
from fall_assets.pipeline.work import Work
from fall_assets.site import FootageSettings, SiteSettings
from fall_assets_tests.footage.films import film
from fall_assets_tests.footage.s3_server import s3_server
from fall_assets_tests.pipeline import killed_features
from fall_assets_tests.pipeline.killed_collection import site_at
from fall_assets_tests.pipeline.made_up_worker import CALM, COMMAND, NOTES, marked, noted

DAY = date(2026, 3, 1)
SET = FeatureSettings().version


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A film of two seconds."""
    return film(tmp_path_factory.mktemp("film") / "a.mp4").read_bytes()


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the worker writes down what it works on."""
    path = tmp_path / "notes"
    monkeypatch.setenv(NOTES, str(path))
    return path


def recorded(work: Work, whole: bytes, count: int, *, word: str = "good", first: int = 0) -> None:
    """Write segments of one camera that is called after what they do."""
    for number in range(first, first + count):
        path = work.site.landing / f"{word}/{DAY}/{8 + number // 60:02}-{number % 60:02}-00.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(marked(whole, word, number))


def extracted(work: Work) -> FeatureDay:
    return extract_day(work, DAY, worker=COMMAND)


def tables(lake: Lake) -> dict[str, pl.DataFrame]:
    return {name: lake.read(name) for name in TABLES}


def test_what_is_there_is_not_decoded_again(tmp_path: Path, whole: bytes, notes: Path) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 3)
    collect(work, DAY)
    first = extracted(work)
    assert (first.segments, first.reused, first.gone, first.failed) == (3, 0, 0, {})
    assert first.feature_sets == (SET,)
    assert first.rows == {"features": 6, "pose_tracks": 3, "sequences": 3, "motion_gate": 3}
    assert first.figures.segments == 3
    assert first.figures.footage_s == pytest.approx(6.0)
    assert first.figures.decoded_share == 0.5
    assert first.figures.passes.frames == 60
    assert first.figures.passes.peak_bytes == 7
    assert 0 < first.figures.limit_share < 1
    steps = first.figures.seconds_by_step()
    assert sum(steps.values()) == pytest.approx(2 * first.figures.wall_s)
    assert steps["extracting"] == pytest.approx(0.09)
    assert 0 < first.figures.first_result_s <= first.figures.wall_s
    both = total_of([first.figures, first.figures])
    assert (both.segments, both.passes.frames, both.passes.peak_bytes) == (6, 120, 7)
    assert both.limit_share == pytest.approx(first.figures.limit_share)
    versions = work.lake.versions()
    again = extracted(work)
    assert (again.reused, again.rows, again.figures.segments) == (3, first.rows, 0)
    assert work.lake.versions() == versions
    recorded(work, whole, 1, first=3)
    collect(work, DAY)
    assert extracted(work).reused == 3
    assert Counter(name for _, name, _ in noted(notes)) == {
        f"08-0{number}-00.mp4": 1 for number in range(4)
    }


def test_batches_bound_what_is_in_memory_and_what_a_killed_run_loses(
    tmp_path: Path, whole: bytes, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 7)
    collect(work, DAY)
    monkeypatch.setattr(features, "BATCH", 3)
    assert extracted(work).rows["features"] == 14
    assert [commit["rows_written"] for commit in written(work)] == [2, 6, 6]
    for name, least in (("BATCH_S", 0.0), ("BATCH_BYTES", 1)):
        again = site_at(tmp_path / name)
        shutil.copytree(work.site.landing, again.site.landing, dirs_exist_ok=True)
        collect(again, DAY)
        with monkeypatch.context() as patch:
            patch.setattr(features, name, least)
            extracted(again)
        assert [commit["rows_written"] for commit in written(again)] == [2] * 7


def written(work: Work) -> list[dict[str, int]]:
    """Commits of `features` that wrote rows, newest first."""
    return [commit for commit in work.lake.history("features") if commit["rows_written"]]


def test_several_sets_share_one_decode(tmp_path: Path, whole: bytes, notes: Path) -> None:
    plain = site_at(tmp_path / "site")
    recorded(plain, whole, 2)
    collect(plain, DAY)
    one, two, three = (replace(FeatureSettings(), sample_hz=hz) for hz in (10.0, 5.0, 2.0))
    day = extracted(with_sets(plain, one, two))
    assert day.feature_sets == (one.version, two.version)
    assert len(noted(notes)) == 2
    recorded(plain, whole, 1, first=2)
    collect(plain, DAY)
    # Of the old segments one set is missing, of the new one all are.
    third = extracted(with_sets(plain, one, two, three))
    assert (third.reused, third.figures.segments) == (0, 3)
    assert len(noted(notes)) == 2 + 3
    sets = plain.lake.read("features").group_by("video_id").agg(pl.col("feature_set").unique())
    assert all(
        set(found) == {one.version, two.version, three.version} for found in sets["feature_set"]
    )
    assert sets.height == 3
    # Sets that nobody asks for any more stay.
    assert extracted(plain).reused == 3
    assert plain.lake.read("features").height == 3 * 3 * 2


def with_sets(work: Work, *sets: FeatureSettings) -> Work:
    settings = work.site.settings
    first, *others = sets
    features = replace(settings.features, detector=first, more=tuple(others))
    chosen = replace(settings, features=features)
    return replace(work, site=replace(work.site, settings=chosen))


# Quarantine --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "reason", "tries"),
    [
        ("crash", "crashed_the_decoder", 2),
        ("hang", "took_too_long", 1),
        ("garbled", "unreadable", 1),
    ],
)
def test_what_cannot_be_decoded_is_quarantined_until_it_is_tried_again(
    tmp_path: Path,
    whole: bytes,
    notes: Path,
    monkeypatch: pytest.MonkeyPatch,
    word: str,
    reason: str,
    tries: int,
) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 2)
    recorded(work, whole, 1, word=word)
    bad = f"{word}/{DAY}/08-00-00.mp4"
    collect(work, DAY)
    before = work.lake.read("videos"), work.lake.read("sightings")
    first = extracted(work)
    assert set(first.failed) == {bad}
    assert first.quarantined == (bad,)
    assert first.rows["features"] == 4
    assert tried(notes, word) == tries
    (row,) = work.lake.read("quarantine").to_dicts()
    assert (row["path"], row["reason"], row["action"]) == (bad, reason, "quarantined")
    assert row["fingerprint"] == work.lake.read("sightings").filter(path=bad)["fingerprint"].item()
    assert row["advice"]
    assert row["detail"]

    # It is passed over, and intake leaves everything as it is.
    again = extracted(work)
    assert set(again.failed) == {bad}
    assert reason in again.failed[bad]
    assert again.quarantined == ()
    assert tried(notes, word) == tries
    collected = collect(work, DAY)
    assert collected.quarantine.to_dicts() == [row]
    assert_frame_equal(work.lake.read("videos"), before[0])
    assert_frame_equal(work.lake.read("sightings"), before[1])
    assert extracted(work).failed
    assert tried(notes, word) == tries

    # A person has it tried again: it fails again, and is quarantined again.
    (retried,) = retry_quarantine(work, [bad])
    assert (retried.was, retried.now) == (reason, "taken in")
    assert work.lake.read("quarantine").is_empty()
    assert_frame_equal(work.lake.read("videos"), before[0])
    assert extracted(work).quarantined == (bad,)
    assert tried(notes, word) == 2 * tries

    # And once more, when the machine is well.
    retry_quarantine(work)
    monkeypatch.setenv(CALM, "1")
    healed = extracted(work)
    assert (healed.failed, healed.quarantined, healed.rows["features"]) == ({}, (), 6)
    assert work.lake.read("quarantine").is_empty()


def tried(notes: Path, word: str) -> int:
    return sum(camera == word for camera, _, _ in noted(notes))


def test_a_file_that_was_repaired_is_taken_in_as_what_it_is_now(
    tmp_path: Path, whole: bytes, notes: Path
) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 1)
    recorded(work, whole, 1, word="crash")
    collect(work, DAY)
    extracted(work)
    bad = work.site.landing / f"crash/{DAY}/08-00-00.mp4"
    bad.write_bytes(marked(whole, "well", 7))
    collected = collect(work, DAY)
    assert collected.quarantine.is_empty()
    # The content that crashed is gone, another is there.
    assert collected.videos.filter(camera_id="crash")["deleted_utc"].is_null().sum() == 1
    day = extracted(work)
    assert (day.failed, day.gone, day.figures.segments) == ({}, 1, 1)


def test_one_that_lies_under_another_days_name_stands_in_that_days_quarantine(
    tmp_path: Path, whole: bytes, notes: Path
) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 1)
    recorded(work, whole, 1, word="crash")
    later = date(2026, 3, 2)
    first = work.site.landing / f"crash/{DAY}/08-00-00.mp4"
    copy = work.site.landing / f"crash/{later}/09-00-00.mp4"
    copy.parent.mkdir(parents=True)
    collect(work, DAY)
    first.rename(copy)
    collect(work, later)
    collect(work, DAY)
    extracted(work)
    assert work.lake.read("quarantine")["day"].to_list() == [later]
    collect(work, later)
    assert extracted(work).quarantined == ()
    assert tried(notes, "crash") == 2


def test_a_day_of_bad_files_fails_and_says_why_each_time(
    tmp_path: Path, whole: bytes, notes: Path
) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 1, word="crash")
    collect(work, DAY)
    for _ in range(2):
        with pytest.raises(PermanentFailureError, match=r"crash/2026-03-01/08-00-00\.mp4"):
            extracted(work)
    assert tried(notes, "crash") == 2


def test_a_wrong_crop_is_no_fault_of_the_files(tmp_path: Path, whole: bytes, notes: Path) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 1)
    recorded(work, whole, 1, word="well")
    collect(work, DAY)
    cameras = work.lake.read("cameras")
    wrong = pl.when(pl.col("camera_id") == "well").then(pl.lit("0,0,2,2")).otherwise("crop")
    work.lake.upsert("cameras", cameras.with_columns(crop=wrong), work.provenance())
    day = extracted(work)
    assert day.quarantined == ()
    assert "cameras.csv" in day.failed[f"well/{DAY}/08-00-00.mp4"]
    work.lake.upsert("cameras", cameras, work.provenance())
    assert extracted(work).failed == {}


def test_where_everything_crashes_the_machine_is_at_fault_and_not_the_files(
    tmp_path: Path, whole: bytes, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 3, word="crash")
    collect(work, DAY)
    monkeypatch.setattr(features, "MANY_CRASHES", 3)
    with pytest.raises(PassingFailureError, match="all 3 segments"):
        extracted(work)
    assert work.lake.read("quarantine").is_empty()


# Stopped runs ------------------------------------------------------------------------------------


def features_killed(root: Path, writes: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", killed_features.__name__, str(root), str(DAY), str(writes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_a_run_that_is_killed_at_any_write_goes_on_where_it_was(
    tmp_path: Path, whole: bytes, notes: Path
) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 4)
    collect(work, DAY)
    shutil.copytree(tmp_path / "site", tmp_path / "undisturbed")
    undisturbed = site_at(tmp_path / "undisturbed")
    extracted(undisturbed)
    expected = tables(undisturbed.lake)
    # Of each of two batches four tables are written, `features` last.
    for writes in (0, 1, 3, 4, 7):
        root = tmp_path / f"killed-{writes}"
        shutil.copytree(tmp_path / "site", root)
        with features_killed(root, writes) as process:
            said = process.communicate(timeout=120)[0].decode()
        assert process.returncode == -signal.SIGKILL, said
        after = site_at(root)
        committed = after.lake.read("features")["video_id"].n_unique()
        assert committed == 2 * (writes // 4)
        notes.unlink()
        day = extracted(after)
        assert (day.reused, day.figures.segments) == (committed, 4 - committed)
        assert len(noted(notes)) == 4 - committed
        for name, rows in tables(after.lake).items():
            assert_frame_equal(rows, expected[name])


def test_a_run_that_is_killed_from_outside_loses_a_batch_or_two(
    tmp_path: Path, whole: bytes, notes: Path
) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 60)
    collect(work, DAY)
    with features_killed(tmp_path / "site", 10_000) as process:
        while work.lake.rows("features") < 8 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    done = set(work.lake.read("features")["video_id"])
    assert 4 <= len(done) < 60
    ids = dict(work.lake.read("videos").select("path", "video_id").iter_rows())
    notes.unlink()
    day = extracted(work)
    decoded = {ids[f"{camera}/{DAY}/{name}"] for camera, name, _ in noted(notes)}
    assert day.reused == len(done)
    assert decoded == set(ids.values()) - done
    assert day.rows == {"features": 120, "pose_tracks": 60, "sequences": 60, "motion_gate": 60}


def test_what_a_killed_run_left_does_not_stay_beside_other_rows(
    tmp_path: Path, whole: bytes, notes: Path
) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 2)
    collect(work, DAY)
    extracted(work)
    expected = tables(work.lake)
    # One more person was tracked under other crops, and the run was killed before its features.
    video = expected["features"]["video_id"][0]
    mine = pl.col("video_id") == video
    features_left = expected["features"].filter(~mine)
    more = expected["pose_tracks"].filter(mine).with_columns(track=pl.lit(1, pl.Int64))
    tracks = pl.concat([expected["pose_tracks"], more])
    work.lake.replace_partition("features", DAY, features_left, work.provenance(DAY))
    work.lake.replace_partition("pose_tracks", DAY, tracks, work.provenance(DAY))
    assert extracted(work).reused == 1
    for name, rows in tables(work.lake).items():
        assert_frame_equal(rows, expected[name])


def test_rows_of_segments_that_are_no_more_go(tmp_path: Path, whole: bytes, notes: Path) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 2)
    collect(work, DAY)
    extracted(work)
    videos = work.lake.read("videos")
    work.lake.replace_partition("videos", DAY, videos.head(1), work.provenance(DAY))
    day = extracted(work)
    assert (day.segments, day.reused) == (1, 1)
    for rows in tables(work.lake).values():
        assert set(rows["video_id"]) == {videos["video_id"][0]}


def test_a_failure_in_between_keeps_what_was_done(
    tmp_path: Path, whole: bytes, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 3)
    collect(work, DAY)
    stage, staged = type(work.footage).stage, []

    def away(footage: object, path: str) -> Path:
        staged.append(path)
        if len(staged) == 3:
            raise PassingFailureError("the bucket is away")
        return stage(work.footage, path)

    with monkeypatch.context() as patch:
        patch.setattr(type(work.footage), "stage", away)
        one = replace(work.site.settings.features, workers=1)
        settings = replace(work.site.settings, features=one)
        with pytest.raises(PassingFailureError, match="away"):
            extracted(replace(work, site=replace(work.site, settings=settings)))
    assert work.lake.read("features")["video_id"].n_unique() >= 1
    assert extracted(work).rows["features"] == 6


def test_one_run_at_a_time_works_on_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = site_at(tmp_path / "site")
    monkeypatch.setattr(features, "_LOCK_WAIT_S", 0.0)
    with locked(work, f"features-{DAY}"), pytest.raises(BusyError):
        extracted(work)


# Buckets and progress ----------------------------------------------------------------------------


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes) -> Iterator[Work]:
    """A site with five segments in a bucket and two in the landing folder."""
    with s3_server(tmp_path) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        running.create("ward")
        plain = site_at(tmp_path / "site")
        sources = (SourceSettings(), SourceSettings("nvr", "s3://ward"))
        settings = SiteSettings(footage=FootageSettings(settle_s=0.0, sources=sources))
        settings = replace(settings, features=replace(settings.features, workers=1))
        for number in range(5):
            path = f"far/{DAY}/08-{number:02}-00.mp4"
            running.put("ward", path, marked(whole, "good", 50 + number))
        recorded(plain, whole, 2)
        yield Work(replace(plain.site, settings=settings), plain.lake)


def test_processes_live_through_the_day_while_files_are_fetched(
    bucket: Work, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(bucket, DAY)
    monkeypatch.setattr(features, "FETCHED", 2)
    day = extracted(bucket)
    assert (day.rows["features"], day.failed, day.gone) == (14, {}, 0)
    seen = noted(notes)
    assert [camera for camera, _, _ in seen] == ["good"] * 2 + ["far"] * 5
    assert len({process for _, _, process in seen}) == 1


def test_progress_says_rate_share_of_the_limit_and_time_left(
    tmp_path: Path, whole: bytes, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    work = replace(site_at(tmp_path / "site"), log=lines.append)
    recorded(work, whole, 3)
    recorded(work, whole, 1, word="garbled")
    collect(work, DAY)
    monkeypatch.setattr("fall_assets.progress.LINE_EVERY_S", 1e-9)
    lines.clear()
    extracted(work)
    assert [line.split(",")[0] for line in lines] == [
        f"{DAY}: segments decoded: {done} of 4" for done in range(1, 5)
    ]
    for line in lines:
        assert "/s, " in line
        assert " h of footage an hour, " in line
        assert "% of the limit, " in line
        assert line.endswith(" s left")
    assert lines[-1].endswith(", 0 s left")


def test_a_site_of_real_films_gets_real_rows(tmp_path: Path, whole: bytes) -> None:
    work = site_at(tmp_path / "site")
    recorded(work, whole, 2)
    collect(work, DAY)
    day = extract_day(work, DAY)
    assert (day.failed, day.figures.segments) == ({}, 2)
    rows = work.lake.read("features")
    assert rows["video_id"].n_unique() == 2
    assert rows.filter(pl.col("end_s") > 1.9).height == 2
    assert day.figures.passes.frames == 40
    assert os.environ.get(NOTES) is None
