"""Footage is deleted in order, with an audit, and nothing that is kept is touched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from fall_assets.footage.retention import HoldError
from fall_assets.footage.store import Footage
from fall_assets.pipeline import retention
from fall_assets.pipeline.files import files_of
from fall_assets.pipeline.locks import BusyError, locked, segments_of
from fall_assets.pipeline.retention import (
    apply_retention,
    held_footage,
    place_hold,
    release_hold,
)
from fall_assets_tests.pipeline.recorded import NOW, OLD, Recorded

LATER = OLD + timedelta(days=3)


@pytest.fixture
def site(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path / "site")


def test_old_footage_goes_rows_stay_and_the_audit_tells(site: Recorded) -> None:
    old = site.take_in("cam-01/old.mp4")
    young = site.take_in("cam-01/young.mp4", NOW - timedelta(days=29))
    labelled = site.take_in("cam-01/labelled.mp4", OLD + timedelta(hours=1))
    outvoted = site.take_in("cam-01/outvoted.mp4", OLD + timedelta(hours=2))
    alerted = site.take_in("cam-01/alerted.mp4", OLD + timedelta(hours=3))
    site.take_in("urfd/public.mp4", OLD, dataset="urfd")
    site.label(labelled)
    site.label(outvoted, name="annotations")
    still = site.lake.write_file(b"picture", "stills", "a.jpg")
    site.alert(alerted, OLD + timedelta(hours=3), still)
    before = site.lake.read("videos")

    done = apply_retention(site.work, now=NOW)

    assert site.files() == {
        "cam-01/young.mp4",
        "cam-01/labelled.mp4",
        "cam-01/outvoted.mp4",
        "cam-01/alerted.mp4",
        "urfd/public.mp4",
    }
    assert site.audit() == [("cam-01/old.mp4", "planned"), ("cam-01/old.mp4", "deleted")]
    assert (done.files, done.videos, done.failed) == (1, 1, 0)
    assert done.bytes == len("film of cam-01/old.mp4")
    assert (done.kept["label"], done.kept["alert"], done.kept["hold"]) == (2, 1, 0)
    assert site.without_files() == {old}
    assert site.names_gone() == {"cam-01/old.mp4"}
    after = site.lake.read("videos")
    assert after.drop("deleted_utc").equals(before.drop("deleted_utc"))
    row = site.lake.read("deletions").row(1, named=True)
    assert row["run_id"] == "run-1"
    assert "30 days" in row["reason"]
    assert row["video_id"] == old
    assert site.lake.resolve(still).read_bytes() == b"picture"
    assert young in files_of(site.work, after)
    assert old not in files_of(site.work, after)

    versions = site.lake.versions()
    again = apply_retention(site.work, now=NOW)
    assert (again.files, again.already_gone, again.failed) == (0, 0, 0)
    assert site.lake.versions() == versions, "a second run changes nothing"


def test_without_a_retention_nothing_goes(tmp_path: Path) -> None:
    site = Recorded(tmp_path / "site", days=0)
    site.take_in("cam-01/old.mp4")
    assert apply_retention(site.work, now=NOW).files == 0
    assert site.files() == {"cam-01/old.mp4"}
    assert site.audit() == []


def test_all_files_of_one_content_go_on_whatever_day_they_stand(site: Recorded) -> None:
    copies = {"cam-01/copy.mp4": OLD + timedelta(hours=1), "cam-02/copy.mp4": LATER}
    video = site.take_in("cam-01/first.mp4", copies=copies)
    other = site.take_in("cam-02/other.mp4", LATER)
    site.label(other, LATER.date())
    apply_retention(site.work, now=NOW)
    assert site.files() == {"cam-02/other.mp4"}
    assert site.names_gone() == {"cam-01/first.mp4", *copies}
    assert site.without_files() == {video}
    assert Counter(state for _, state in site.audit()) == {"planned": 3, "deleted": 3}


def test_a_copy_in_a_data_set_keeps_the_segment(site: Recorded) -> None:
    site.take_in("cam-01/first.mp4", copies={"urfd/copy.mp4": LATER})
    assert apply_retention(site.work, now=NOW).kept["dataset"] == 1
    assert site.files() == {"cam-01/first.mp4", "urfd/copy.mp4"}


def test_a_file_that_was_written_again_is_not_deleted(site: Recorded) -> None:
    video = site.take_in("cam-01/old.mp4")
    site.write("cam-01/old.mp4", "a film that intake did not see yet")
    done = apply_retention(site.work, now=NOW)
    assert done.failed == 1
    assert "written again" in done.failures[0]["reason"]
    assert site.files() == {"cam-01/old.mp4"}
    assert site.without_files() == set()
    # Taken in as another segment: the old one has no file left, the new one goes in its turn.
    site.lake.replace_partition(
        "sightings",
        OLD.date(),
        site.lake.read("sightings", days=[OLD.date()]).clear(),
        site.work.provenance(),
    )
    new = site.take_in("cam-01/old.mp4", content="a film that intake did not see yet")
    assert files_of(site.work, site.lake.read("videos")) == {new: "cam-01/old.mp4"}
    site.label(new)
    apply_retention(site.work, now=NOW)
    assert site.files() == {"cam-01/old.mp4"}
    assert site.without_files() == {video}


def test_links_never_lead_out_and_their_content_does_not_stay(site: Recorded) -> None:
    site.root.mkdir()
    outside = site.root / "outside.mp4"
    outside.write_text("film of cam-01/linked.mp4")
    site.take_in("cam-01/linked.mp4")
    (site.landing / "cam-01/linked.mp4").unlink()
    (site.landing / "cam-01/linked.mp4").symlink_to(outside)
    elsewhere = site.root / "elsewhere"
    elsewhere.mkdir()
    site.take_in("cam-02/inner.mp4")
    shutil.move(site.landing / "cam-02" / "inner.mp4", elsewhere)
    (site.landing / "cam-02").rmdir()
    (site.landing / "cam-02").symlink_to(elsewhere)
    # A link to a file that is no footage by its name: deleting it would leave the content.
    site.take_in("cam-03/link.mp4")
    (site.landing / "cam-03/link.mp4").rename(site.landing / "kept.bin")
    (site.landing / "cam-03/link.mp4").symlink_to(site.landing / "kept.bin")
    # A link to another name of the same content: both go.
    site.take_in("cam-04/a.mp4", copies={"cam-04/b.mp4": OLD})
    (site.landing / "cam-04/b.mp4").unlink()
    (site.landing / "cam-04/b.mp4").symlink_to(site.landing / "cam-04/a.mp4")
    rows = site.lake.read("sightings", days=[OLD.date()])
    prints = {
        path: state.fingerprint
        for path in rows["path"]
        if (state := Footage(site.landing, site.root / "cache").state(path)) is not None
    }
    site.lake.replace_partition(
        "sightings",
        OLD.date(),
        rows.with_columns(
            fingerprint=pl.col("path").replace_strict(prints, default=pl.col("fingerprint"))
        ),
        site.work.provenance(),
    )
    apply_retention(site.work, now=NOW)
    assert outside.exists()
    assert (elsewhere / "inner.mp4").exists()
    assert (site.landing / "kept.bin").exists()
    assert not (site.landing / "cam-04/a.mp4").exists()
    assert not (site.landing / "cam-04/b.mp4").is_symlink()
    assert len(site.without_files()) == 1


def test_a_deletion_that_fails_is_audited_and_the_others_go_on(
    site: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        site.take_in(f"cam-01/{number}.mp4", OLD + timedelta(minutes=number))
    real = Footage.delete

    def delete(self: Footage, path: str) -> bool:
        if path == "cam-01/1.mp4":
            raise PermissionError(13, "Permission denied", path)
        return real(self, path)

    monkeypatch.setattr(Footage, "delete", delete)
    done = apply_retention(site.work, now=NOW)
    assert (done.files, done.failed) == (2, 1)
    assert "Permission denied" in done.failures[0]["reason"]
    assert site.files() == {"cam-01/1.mp4"}
    assert len(site.without_files()) == 2
    monkeypatch.undo()
    assert apply_retention(site.work, now=NOW).files == 1
    states = [state for path, state in site.audit() if path == "cam-01/1.mp4"]
    assert states == ["planned", "failed", "planned", "deleted"]


def test_a_bucket_that_is_away_is_not_asked_for_every_file(
    site: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fall_assets.errors import PassingFailureError

    for number in range(8):
        site.take_in(f"cam-01/{number}.mp4", OLD + timedelta(minutes=number))
    asked: list[str] = []

    def state(_: Footage, path: str) -> None:
        asked.append(path)
        raise PassingFailureError("the bucket did not answer in 5 s")

    monkeypatch.setattr(Footage, "state", state)
    done = apply_retention(site.work, now=NOW)
    assert done.failed == 8
    assert len(asked) == 3
    assert len(site.files()) == 8


def test_a_file_that_is_gone_already_is_audited_as_such(site: Recorded) -> None:
    video = site.take_in("cam-01/old.mp4")
    (site.landing / "cam-01/old.mp4").unlink()
    assert apply_retention(site.work, now=NOW).already_gone == 1
    assert [state for _, state in site.audit()] == ["planned", "already_gone"]
    assert site.without_files() == {video}


def test_a_file_that_comes_back_is_deleted_again(site: Recorded) -> None:
    site.take_in("cam-01/old.mp4")
    apply_retention(site.work, now=NOW)
    for name, column in (("videos", "deleted_utc"), ("sightings", "gone_utc")):
        rows = site.lake.read(name, days=[OLD.date()])
        back = rows.with_columns(pl.lit(None, pl.Datetime("us", "UTC")).alias(column))
        site.lake.replace_partition(name, OLD.date(), back, site.work.provenance())
    file = site.write("cam-01/old.mp4", "film of cam-01/old.mp4")
    told = site.lake.read("sightings")["fingerprint"][0]
    os.utime(file, ns=(0, int(told.split("-")[-1])))
    apply_retention(site.work, now=NOW)
    assert site.files() == set()
    assert [state for _, state in site.audit()] == ["planned", "deleted"] * 2


def test_footage_from_before_names_were_kept_goes_too(site: Recorded) -> None:
    video = site.take_in("cam-01/old.mp4")
    site.lake.replace_partition(
        "sightings", OLD.date(), site.lake.read("sightings").clear(), site.work.provenance()
    )
    assert files_of(site.work, site.lake.read("videos")) == {video: "cam-01/old.mp4"}
    apply_retention(site.work, now=NOW)
    assert site.files() == set()
    assert site.without_files() == {video}


# Kills --------------------------------------------------------------------------------------------


def killed_at(site: Recorded, step: int) -> bool:
    """Run the retention in a process that dies before its step-th effect; whether it died."""
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "fall_assets_tests.pipeline.killed_retention"),
            *(str(site.root), NOW.isoformat(), str(step)),
        ],
        check=False,
        timeout=120,
    )
    assert ended.returncode in (0, -signal.SIGKILL)
    return ended.returncode != 0


def test_a_run_killed_anywhere_is_completed_and_audited_once(tmp_path: Path) -> None:
    made = Recorded(tmp_path / "made")
    gone = {
        made.take_in("cam-01/a.mp4", copies={"cam-01/b.mp4": LATER}),
        made.take_in("cam-01/c.mp4"),
        made.take_in("cam-01/d.mp4", LATER),
    }
    kept = made.take_in("cam-01/kept.mp4")
    made.label(kept)
    everything = {"cam-01/a.mp4", "cam-01/b.mp4", "cam-01/c.mp4", "cam-01/d.mp4"}
    # First day: plan, 3 files, outcome, names (of 2 days), segments; then the same for 1 file.
    first, effects = 1 + 3 + 1 + 2 + 1, (1 + 3 + 1 + 2 + 1) + (1 + 1 + 1 + 1 + 1)
    steps = [*range(first), first + 1, first + 2, effects]
    sites = [Recorded(tmp_path / f"killed-{step}") for step in steps]
    for site in sites:
        shutil.copytree(made.root, site.root)
    with ThreadPoolExecutor(2) as pool:
        died = list(pool.map(killed_at, sites, steps))
    assert died == [True] * (len(steps) - 1) + [False]
    for step, site in zip(steps, sites, strict=True):
        audited = site.audit()
        assert {path for path, state in audited if state == "planned"} >= everything - site.files()
        apply_retention(site.work, now=NOW)
        where = f"killed before effect {step}"
        assert site.files() == {"cam-01/kept.mp4"}, where
        assert site.without_files() == gone, where
        assert site.names_gone() == everything, where
        audited = site.audit()
        for path in everything:
            states = [state for other, state in audited if other == path]
            assert states[0] == "planned", where
            assert states[1:] in (["deleted"], ["already_gone"]), where
        assert len(audited) == 2 * len(everything), where
        versions = site.lake.versions()
        apply_retention(site.work, now=NOW)
        assert site.lake.versions() == versions, where


@pytest.mark.parametrize("keeper", ["label", "hold", "setting"])
def test_what_was_planned_before_a_kill_is_decided_again(site: Recorded, keeper: str) -> None:
    for name in ("a", "b"):
        site.take_in(f"cam-01/{name}.mp4")
    # Dies with one file deleted and the other planned.
    assert killed_at(site, 2)
    (left,) = site.files()
    ids = dict(site.lake.read("videos").select("path", "video_id").iter_rows())
    if keeper == "label":
        for video_id in ids.values():
            site.label(video_id)
    elif keeper == "hold":
        place_hold(site.work, reason="case 1", placed_by="counsel", now=NOW)
    else:
        site.days = 0
        # The plan is found behind the commits of maintenance.
        site.lake.maintain("deletions", retain_hours=0, exclusive=True)
    done = apply_retention(site.work, now=NOW)
    assert (done.spared, done.already_gone, done.failed) == (1, 1, 0)
    assert site.files() == {left}
    last = dict(site.audit())
    assert last.pop(left) == "failed"
    assert set(last.values()) == {"already_gone"}
    reason = site.lake.read("deletions", where=pl.col("state") == "failed")["reason"][0]
    assert reason.startswith("kept after it was planned")
    assert site.without_files() == {ids[path] for path in ids if path != left}
    rows = site.lake.rows("deletions")
    apply_retention(site.work, now=NOW)
    assert site.lake.rows("deletions") == rows


# Holds --------------------------------------------------------------------------------------------


def test_a_hold_keeps_until_it_is_released(site: Recorded) -> None:
    site.take_in("cam-01/a.mp4")
    site.take_in("cam-02/b.mp4")
    hold = place_hold(
        site.work,
        reason="case 7",
        placed_by="counsel",
        camera_id="cam-01",
        from_utc=OLD,
        until_utc=OLD + timedelta(hours=1),
    )
    assert held_footage(site.work, hold) == (1, 0)
    done = apply_retention(site.work, now=NOW)
    assert done.kept["hold"] == 1
    assert site.files() == {"cam-01/a.mp4"}
    release_hold(site.work, hold, released_by="counsel")
    with pytest.raises(HoldError, match="released by counsel"):
        release_hold(site.work, hold, released_by="again")
    apply_retention(site.work, now=NOW)
    assert site.files() == set()
    row = site.lake.read("legal_holds").row(0, named=True)
    assert (row["placed_by"], row["released_by"], row["reason"]) == (
        "counsel",
        "counsel",
        "case 7",
    )


def test_impossible_holds_are_refused_with_words(site: Recorded) -> None:
    site.take_in("cam-01/a.mp4")
    place = partial(place_hold, site.work, reason="r", placed_by="p")
    with pytest.raises(HoldError, match="no camera 'cam-1'; there are: cam-01"):
        place(camera_id="cam-1")
    with pytest.raises(HoldError, match="no segment 'abc'"):
        place(video_id="abc")
    with pytest.raises(HoldError, match="before it starts"):
        place(from_utc=NOW, until_utc=OLD)
    with pytest.raises(HoldError, match="reason"):
        place_hold(site.work, reason=" ", placed_by="p")
    with pytest.raises(HoldError, match="no legal hold 'x'"):
        release_hold(site.work, "x", released_by="p")
    assert site.lake.rows("legal_holds") == 0


def test_a_hold_placed_while_the_retention_runs_keeps_what_is_left(
    site: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        site.take_in(f"cam-01/{number:02}.mp4", OLD + timedelta(minutes=number))
    monkeypatch.setattr(retention, "CHUNK", 2)
    real = Footage.delete
    begun, placed = threading.Event(), threading.Event()
    left: set[str] = set()

    def delete(self: Footage, path: str) -> bool:
        begun.set()
        placed.wait(0.3)
        return real(self, path)

    def place() -> None:
        begun.wait(30)
        place_hold(site.work, reason="case", placed_by="counsel", now=NOW)
        left.update(site.files())
        placed.set()

    monkeypatch.setattr(Footage, "delete", delete)
    thread = threading.Thread(target=place)
    thread.start()
    apply_retention(site.work, now=NOW)
    thread.join(30)
    assert left, "the hold came too late to keep anything"
    assert site.files() == left
    last = dict(site.audit())
    assert {path for path, state in last.items() if state == "failed"} == left


# Others at work -----------------------------------------------------------------------------------


def test_two_runs_do_not_work_at_once(site: Recorded) -> None:
    site.take_in("cam-01/a.mp4")
    with locked(site.work, "retention"), pytest.raises(BusyError, match="another run"):
        apply_retention(site.work, now=NOW)
    assert apply_retention(site.work, now=NOW).files == 1


def test_a_day_that_is_being_taken_in_is_left_to_the_next_run(site: Recorded) -> None:
    site.take_in("cam-01/a.mp4")
    site.take_in("cam-01/b.mp4", LATER)
    with locked(site.work, segments_of(OLD.date())):
        done = apply_retention(site.work, now=NOW)
    assert done.busy == [OLD.date()]
    assert site.files() == {"cam-01/a.mp4"}
    assert apply_retention(site.work, now=NOW).files == 1


def test_days_without_old_footage_are_not_read(
    site: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [OLD + timedelta(days=number) for number in range(6)]
    for number, moment in enumerate(days):
        site.take_in(f"cam-01/{number}.mp4", moment)
    site.take_in("cam-01/young.mp4", NOW)
    apply_retention(site.work, now=NOW)
    late = site.take_in("cam-01/late.mp4", days[2] + timedelta(hours=1))
    looked: list[date] = []
    real = retention._Day

    def spy(run: object, work: object, day: date, *rest: object) -> object:
        looked.append(day)
        return real(run, work, day, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(retention, "_Day", spy)
    done = apply_retention(site.work, now=NOW)
    # The newest day of the audit is looked at for plans of an interrupted run.
    assert looked == [days[-1].date(), days[2].date()]
    assert done.files == 1
    assert late in site.without_files()


def test_moments_of_the_audit_go_on_when_the_clock_is_set_back(site: Recorded) -> None:
    site.take_in("cam-01/a.mp4")
    apply_retention(site.work, now=NOW + timedelta(days=400))
    site.take_in("cam-01/b.mp4", OLD + timedelta(hours=1))
    apply_retention(site.work, now=NOW)
    states = [state for _, state in site.audit()]
    assert states == ["planned", "deleted", "planned", "deleted"]
    assert isinstance(site.lake.read("deletions")["at_utc"].min(), datetime)
    assert NOW.tzinfo is UTC
