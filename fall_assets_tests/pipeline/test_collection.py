"""Footage comes into a lake: again and again, killed in between, side by side, after a repair."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from fall_assets.commands.quarantine import quarantine, shown, stretches
from fall_assets.lake import Lake
from fall_assets.pipeline.collection import (
    RETRY_TAG,
    NotInQuarantineError,
    collect,
    retry_quarantine,
)
from fall_assets.pipeline.work import Work
from fall_assets_tests.footage.films import cut, film
from fall_assets_tests.pipeline import killed_collection
from fall_assets_tests.pipeline.killed_collection import site_at
from fall_assets_tests.site import new_site

FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)
TABLES = ("videos", "sightings", "quarantine")


def rows(work: Work) -> dict[str, pl.DataFrame]:
    """All rows, without the times at which they were written."""
    clocks = ("first_seen_utc", "gone_utc", "deleted_utc", "tried_utc")
    found = {}
    for name in TABLES:
        frame = work.lake.read(name)
        found[name] = frame.with_columns(
            pl.col(clock).is_null() for clock in clocks if clock in frame.columns
        )
    return found


def same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> bool:
    return all(one[name].equals(other[name]) for name in TABLES)


def test_a_day_that_stays_as_it_is_is_not_written_again(tmp_path: Path) -> None:
    work = site_at(tmp_path)
    film(work.site.landing / "cam-01/2026-03-01/08-00-00.mp4")
    (work.site.landing / "cam-01/2026-03-01/09-00-00.mp4").touch()
    first = collect(work, FIRST)
    versions = work.lake.versions()
    assert set(TABLES) <= set(versions)
    again = collect(work, FIRST)
    assert work.lake.versions() == versions
    assert again.videos.equals(first.videos)
    assert again.sightings.equals(first.sightings)
    assert again.quarantine.equals(first.quarantine)


def test_a_copy_on_another_day_keeps_the_video_alive(tmp_path: Path) -> None:
    work = site_at(tmp_path)
    path = film(work.site.landing / "cam-01/2026-03-01/08-00-00.mp4")
    copy = work.site.landing / "cam-02/2026-03-02/10-00-00.mp4"
    collect(work, FIRST)
    (video,) = work.lake.read("videos").to_dicts()
    copy.parent.mkdir(parents=True)
    shutil.copy(path, copy)
    collect(work, SECOND)
    path.unlink()
    collect(work, FIRST)
    (moved,) = work.lake.read("videos").to_dicts()
    assert moved == {**video, "path": "cam-02/2026-03-02/10-00-00.mp4"}
    copy.unlink()
    collect(work, SECOND)
    (gone,) = work.lake.read("videos").to_dicts()
    assert gone["deleted_utc"] is not None
    assert (gone["day"], gone["camera_id"]) == (FIRST, "cam-01")
    shutil.copy(film(tmp_path / "again.mp4"), copy)
    collect(work, SECOND)
    (back,) = work.lake.read("videos").to_dicts()
    assert back == moved


def test_a_run_that_is_killed_at_any_write_is_completed_by_the_next(tmp_path: Path) -> None:
    work = site_at(tmp_path / "site")
    landing = work.site.landing
    film(landing / "cam-01/2026-03-02/08-00-00.mp4", seed=1)
    moved = film(landing / "cam-01/2026-03-01/08-00-00.mp4", seed=2)
    collect(work, SECOND)
    collect(work, FIRST)
    # On the second day one comes, one goes, one is bad, and one of the first day came over.
    film(landing / "cam-01/2026-03-02/09-00-00.mp4", seed=3)
    (landing / "cam-01/2026-03-02/10-00-00.mp4").write_text("no film")
    (landing / "cam-01/2026-03-02/08-00-00.mp4").unlink()
    moved.rename(landing / "cam-01/2026-03-02/11-00-00.mp4")
    collect(work, FIRST)
    shutil.copytree(tmp_path / "site", tmp_path / "undisturbed")
    whole = site_at(tmp_path / "undisturbed")
    collect(whole, SECOND)
    expected = rows(whole)
    assert expected["videos"]["deleted_utc"].to_list().count(False) == 1
    kills = 0
    for writes in range(10):
        root = tmp_path / f"killed-{writes}"
        shutil.copytree(tmp_path / "site", root)
        done = subprocess.run(
            [sys.executable, "-m", killed_collection.__name__, root, str(writes), str(SECOND)],
            check=False,
            capture_output=True,
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        kills += 1
        after = site_at(root)
        collect(after, SECOND)
        assert same(rows(after), expected), f"killed after {writes} writes"
    assert kills == 4


class SlowLake(Lake):
    """A lake whose answers are late: what is not locked meets what was read before."""

    def read(self, *args: Any, **named: Any) -> pl.DataFrame:
        rows = super().read(*args, **named)
        time.sleep(0.1)
        return rows


def test_days_that_meet_the_same_content_at_once_make_one_video(tmp_path: Path) -> None:
    work = site_at(tmp_path)
    days = [date(2026, 3, day) for day in range(1, 5)]
    # Copies: the promise is about equal content, not about an encoder that gives it twice.
    content = film(tmp_path / "one.mp4").read_bytes()
    for day in days:
        path = work.site.landing / f"cam-01/{day}/08-00-00.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    slow = Work(work.site, SlowLake(work.site.lake_root))
    with ThreadPoolExecutor(len(days)) as pool:
        list(pool.map(lambda day: collect(slow, day), days))
    taken = work.lake.read("videos").select("day", "video_id", "path").rows()
    assert len(taken) == 1, taken
    assert work.lake.read("sightings").height == len(days)


def test_a_repaired_file_leaves_quarantine(tmp_path: Path) -> None:
    work = site_at(tmp_path)
    folder = work.site.landing / "cam-01/2026-03-01"
    whole = film(tmp_path / "whole.mp4")
    for name in ("08-00-00.mp4", "09-00-00.mp4", "10-00-00.mp4"):
        cut(whole, folder / name, 0.7)
    collect(work, FIRST)
    status = (folder / "08-00-00.mp4").stat()
    shutil.copy(whole, folder / "08-00-00.mp4")
    # Repaired in place, byte by byte: the fingerprint of the file system tells nothing.
    os.utime(folder / "08-00-00.mp4", ns=(status.st_atime_ns, status.st_mtime_ns))
    (folder / "10-00-00.mp4").unlink()
    became = {file.path.rsplit("/")[-1]: file for file in retry_quarantine(work)}
    assert {name: file.now for name, file in became.items()} == {
        "08-00-00.mp4": "taken in",
        "09-00-00.mp4": "truncated",
        "10-00-00.mp4": "gone",
    }
    assert all(file.was == "truncated" for file in became.values())
    assert work.lake.read("quarantine")["path"].to_list() == ["cam-01/2026-03-01/09-00-00.mp4"]
    with pytest.raises(NotInQuarantineError, match=r"'nothing\.mp4' is not in quarantine"):
        retry_quarantine(work, ["nothing.mp4"])


def test_a_run_with_the_tag_tries_again(tmp_path: Path) -> None:
    site = new_site(tmp_path)
    path = site.landing / "cam-01/2026-03-01/08-00-00.mp4"
    path.parent.mkdir(parents=True)
    path.write_text("no film")
    collect(site.work, FIRST)
    collect(site.work, FIRST)
    tried = site.lake.read("quarantine")["tried_utc"].item()
    site.execute("collection", [FIRST], tags={RETRY_TAG: "true"})
    assert site.lake.read("quarantine")["tried_utc"].item() > tried


def test_the_command_lists_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = site_at(tmp_path)
    path = work.site.landing / "cam\n\x1b[31m'x'/2026-03-01/08-00-00.mp4"
    path.parent.mkdir(parents=True)
    path.touch()
    collect(work, FIRST)
    monkeypatch.setenv("FALL_SITE", str(tmp_path))
    listed = CliRunner().invoke(quarantine, ["list"])
    assert listed.exit_code == 0
    line, detail, advice = listed.output.splitlines()
    assert line.startswith(r"cam\n\x1b[31m'x'/2026-03-01/08-00-00.mp4  empty  since 20")
    assert detail.strip() == "the file has no content"
    assert "disk full" in advice


def test_names_are_shown_in_one_line() -> None:
    assert shown("a\nb\x1b[2Jc'd é") == r"a\nb\x1b[2Jc'd é"


def test_days_are_run_in_stretches() -> None:
    days = [date(2026, 3, day) for day in (1, 2, 3, 7, 9, 10)]
    assert [(a.day, b.day) for a, b in stretches(days)] == [(1, 3), (7, 7), (9, 10)]
    assert list(stretches([])) == []
