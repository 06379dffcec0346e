"""Upkeep of the lake: fewer files, the same rows, and figures that can be checked by hand."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from fall_assets.errors import PermanentFailureError
from fall_assets.lake import Lake
from fall_assets.pipeline.maintenance import TableUpkeep, maintain_lake
from fall_assets.pipeline.work import Work
from fall_assets.site import Site
from fall_assets_tests.lake.rows import DAY_1, DAY_2, RUN, rows, with_parents


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(Site(tmp_path, tmp_path / "landing"), Lake(tmp_path / "lake"))


def fill(work: Work, table: str, count: int = 6) -> pl.DataFrame:
    """Six segments of half an hour on each of two days, and their rows, each in its own commit."""
    written = []
    for day in (DAY_1, DAY_2):
        with_parents(work.lake, table, count, day=day)
        videos = rows("videos", count, day=day).with_columns(duration_s=pl.lit(1800.0))
        work.lake.replace_partition("videos", day, videos, RUN)
        written.append(rows(table, count, day=day))
        for row in written[-1].iter_slices(1):
            work.lake.extend_partition(table, day, row, RUN)
    return pl.concat(written)


def of(done: list[TableUpkeep], table: str) -> TableUpkeep:
    (row,) = (row for row in done if row.table == table)
    return row


@pytest.mark.parametrize("table", ["features", "pose_tracks", "sequences"])
def test_small_files_become_one_per_day_and_the_size_is_told_per_hour(
    work: Work, table: str
) -> None:
    written = fill(work, table)
    before = sum(file.stat().st_size for file in work.lake.snapshot(table).files)
    done = of(maintain_lake(work), table)
    assert (done.files_before, done.files_after) == (12, 2)
    files = work.lake.snapshot(table).files
    assert done.bytes_before == before
    assert done.bytes_after == sum(file.stat().st_size for file in files)
    assert done.rows == 12
    assert done.footage_hours == pytest.approx(6.0)
    assert done.bytes_per_camera_hour == pytest.approx(done.bytes_after / 6)
    assert work.lake.read(table).equals(written.sort("day", "camera_id", *keys(table)))


def keys(table: str) -> list[str]:
    from fall_assets.lake import TABLES

    return list(TABLES[table].key)


def test_other_tables_have_no_such_figure(work: Work) -> None:
    fill(work, "pose_tracks")
    cameras = of(maintain_lake(work), "cameras")
    assert cameras.bytes_per_camera_hour is None
    assert cameras.footage_hours is None


def test_doing_it_again_changes_nothing(work: Work) -> None:
    fill(work, "pose_tracks")
    maintain_lake(work)
    versions = work.lake.versions()
    done = of(maintain_lake(work), "pose_tracks")
    assert done.files_before == done.files_after
    assert done.files_removed == 0
    assert work.lake.versions() == versions


def test_a_retention_that_endangers_writers_is_refused(work: Work) -> None:
    fill(work, "pose_tracks", 2)
    with pytest.raises(PermanentFailureError, match="files of writers at work"):
        maintain_lake(work, retain_hours=0)


def test_what_was_done_is_said(work: Work) -> None:
    said: list[str] = []
    fill(work, "pose_tracks", 2)
    maintain_lake(Work(work.site, work.lake, log=said.append))
    (line,) = (line for line in said if line.startswith("pose_tracks"))
    assert "4 files became 2" in line
    assert "per hour of footage" in line
