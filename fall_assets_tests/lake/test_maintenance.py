from __future__ import annotations

import json
import os
import time
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from fall_assets.errors import PermanentFailureError
from fall_assets.lake import TABLES, Lake, compaction
from fall_assets.lake.compaction import join_files, worth_joining
from fall_assets_tests.lake.rows import DAY_1, DAY_2, RUN, rows, same_rows, with_parents


def pin(lake: Lake, pins: str) -> None:
    training_set = rows("training_set", 1).with_columns(pins=pl.lit(pins))
    lake.replace("training_set", training_set, RUN)


def write_versions(lake: Lake, count: int) -> list[int]:
    return [
        lake.replace_partition(
            "camera_health",
            DAY_1,
            rows("camera_health").with_columns(cpu_percent=pl.lit(float(number))),
            RUN,
        )
        for number in range(count)
    ]


def test_pinned_versions_stay_readable_and_others_go(lake: Lake) -> None:
    first, pinned, third, latest = write_versions(lake, 4)
    before = lake.read("camera_health", version=pinned)
    pin(lake, json.dumps({"camera_health": pinned}))
    (done,) = lake.maintain("camera_health", retain_hours=0, exclusive=True)
    assert done.kept_versions == (pinned,)
    assert done.files_removed == 2
    assert lake.read("camera_health", version=pinned).equals(before)
    assert lake.read("camera_health")["cpu_percent"].unique().to_list() == [3.0]
    assert lake.read("camera_health", version=latest).height == 5
    for version in (first, third):
        with pytest.raises(PermanentFailureError, match=r"files of version .* are gone"):
            lake.read("camera_health", version=version)


# The object store stages a file as NAME#1 before it gets its name.
@pytest.mark.parametrize("name", ["left-by-a-killed-writer.parquet", "half-written.parquet#1"])
def test_young_files_stay(lake: Lake, name: str) -> None:
    versions = write_versions(lake, 3)
    leftover = lake.snapshot("camera_health").files[0].with_name(name)
    leftover.write_bytes(b"half a file")
    assert [done.files_removed for done in lake.maintain("camera_health")] == [0]
    for version in versions:
        assert lake.read("camera_health", version=version).height == 5
    long_ago = time.time() - 8 * 24 * 3600
    os.utime(leftover, (long_ago, long_ago))
    assert [done.files_removed for done in lake.maintain("camera_health")] == [1]
    assert not leftover.exists()


def test_small_files_are_joined_and_the_rows_stay(lake: Lake) -> None:
    frame = rows("cameras", 8)
    for number in range(8):
        lake.append("cameras", frame[number], RUN)
    assert len(lake.snapshot("cameras").files) == 8
    (done,) = lake.maintain("cameras")
    assert done.files_compacted == 8
    assert len(lake.snapshot("cameras").files) == 1
    assert lake.read("cameras").equals(frame)
    assert lake.rows("cameras") == 8


def _batches(lake: Lake, table: str, days: list[date]) -> pl.DataFrame:
    """Eight batches a day, each with rows of all cameras; camera ids differ late, as real ones."""
    written = []
    for day in days:
        with_parents(lake, table, 24, day=day)
        frame = rows(table, 24, day=day).with_columns(
            camera_id="general-hospital-ward-3-" + pl.col("camera_id").str.tail(1)
        )
        for number in range(8):
            lake.extend_partition(table, day, frame[number::8], RUN)
        written.append(frame)
    return pl.concat(written)


def test_small_files_of_a_day_are_joined_with_each_cameras_rows_together(lake: Lake) -> None:
    written = _batches(lake, "pose_tracks", [DAY_1, DAY_2])
    assert len(lake.snapshot("pose_tracks").files) == 16
    (done,) = lake.maintain("pose_tracks")
    assert (done.files_compacted, done.files_before, done.files_after) == (16, 16, 2)
    assert done.rows == 48
    for file in lake.snapshot("pose_tracks").files:
        joined = pl.read_parquet(file, hive_partitioning=False)
        order = ["camera_id", "video_id", "feature_set", "track"]
        assert joined.equals(joined.sort(order))
    assert same_rows(lake.read("pose_tracks"), written, "pose_tracks")
    from fall_assets.lake.sql import query

    counted = query("SELECT count(*) AS n, sum(samples) AS s FROM pose_tracks", lake.root)
    assert counted.rows() == [(48, written["samples"].sum())]


def test_joined_files_are_closed_at_their_size_and_read_by_camera(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "GROUP_BYTES", 500)
    monkeypatch.setattr(compaction, "_CHUNK_BYTES", 1000)
    written = _batches(lake, "pose_tracks", [DAY_1])
    files = list(lake.snapshot("pose_tracks").files)
    described = TABLES["pose_tracks"]
    order = ["camera_id", *described.key]
    lazy = lake.scan("pose_tracks")
    joined = join_files(lazy, described, files, tmp_path / "out", order, target=3000)
    assert len(joined) > 1
    assert sum(file.rows for file in joined) == 24
    assert [file.size for file in joined] == [file.path.stat().st_size for file in joined]
    together = pl.concat([pl.read_parquet(file.path) for file in joined])
    assert together.equals(written.sort(order).drop("day"))
    groups = [
        pq.ParquetFile(file.path).metadata.row_group(group)
        for file in joined
        for group in range(pq.ParquetFile(file.path).metadata.num_row_groups)
    ]
    place = list(together.columns).index("camera_id")
    spans = [
        (group.column(place).statistics.min, group.column(place).statistics.max) for group in groups
    ]
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))
    assert len({low for low, _ in spans}) > 3


def test_large_files_are_left_and_small_ones_beside_them_joined() -> None:
    sizes = {Path("a"): 70, Path("b"): 50, Path("c"): 49, Path("d"): 3}
    assert worth_joining(sizes, target=100) == [Path("c"), Path("d")]
    assert worth_joining({Path("a"): 70, Path("c"): 49}, target=100) == []


def test_a_day_that_is_replaced_while_its_files_are_joined_is_left(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    _batches(lake, "pose_tracks", [DAY_1])
    replaced = rows("pose_tracks", 5)

    def slow(*arguments: Any, **settings: Any) -> object:
        written = join_files(*arguments, **settings)
        Lake(lake.root).replace_partition("pose_tracks", DAY_1, replaced, RUN)
        return written

    monkeypatch.setattr("fall_assets.lake.lake.join_files", slow)
    (done,) = lake.maintain("pose_tracks")
    assert (done.files_compacted, done.days_left, done.files_after) == (0, 1, 1)
    assert same_rows(lake.read("pose_tracks"), replaced, "pose_tracks")
    folder = lake.snapshot("pose_tracks").files[0].parent
    assert len(list(folder.iterdir())) == 9  # Nothing is left of what was written in vain.


def test_two_who_join_the_same_files_at_once_do_not_double_rows(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delta's own check passes both."""
    written = _batches(lake, "pose_tracks", [DAY_1])
    exchange = Lake._exchange
    entered: list[int] = []

    def late(self: Lake, *arguments: Any) -> None:
        entered.append(1)
        if len(entered) == 1:
            # Between the look at what stands and the commit.
            assert Lake(lake.root)._compact(TABLES["pose_tracks"], DAY_1) == 8
        exchange(self, *arguments)

    monkeypatch.setattr(Lake, "_exchange", late)
    (done,) = lake.maintain("pose_tracks")
    assert (done.files_compacted, done.files_after, done.rows) == (0, 1, 24)
    assert same_rows(lake.read("pose_tracks"), written, "pose_tracks")


def test_rows_that_come_while_files_are_joined_stay(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = _batches(lake, "pose_tracks", [DAY_1])

    def slow(*arguments: Any, **settings: Any) -> object:
        done = join_files(*arguments, **settings)
        late = written.head(3).with_columns(track=pl.lit(999, pl.Int64))
        Lake(lake.root).extend_partition("pose_tracks", DAY_1, late, RUN)
        return done

    monkeypatch.setattr("fall_assets.lake.lake.join_files", slow)
    (done,) = lake.maintain("pose_tracks")
    assert (done.files_compacted, done.files_after, done.rows) == (8, 2, 27)
    assert lake.read("pose_tracks")["track"].value_counts().filter(track=999)["count"][0] == 3


def test_where_nothing_is_to_do_nothing_is_committed(lake: Lake) -> None:
    write_versions(lake, 1)
    lake.replace("cameras", rows("cameras"), RUN)
    before = lake.versions()
    assert [done.table for done in lake.maintain()] == ["cameras", "camera_health"]
    assert lake.versions() == before


def test_a_retention_that_endangers_writers_is_refused(lake: Lake) -> None:
    write_versions(lake, 2)
    with pytest.raises(PermanentFailureError, match="files of writers at work"):
        lake.maintain(retain_hours=0)


@pytest.mark.parametrize("pins", ["not JSON", '["camera_health"]', '{"camera_health": null}'])
def test_with_pins_that_cannot_be_read_nothing_is_removed(lake: Lake, pins: str) -> None:
    versions = write_versions(lake, 2)
    pin(lake, pins)
    with pytest.raises(PermanentFailureError, match="pins that cannot be read"):
        lake.maintain(retain_hours=0, exclusive=True)
    for version in versions:
        assert lake.read("camera_health", version=version).height == 5


def test_old_log_entries_are_kept_so_that_every_pin_can_be_opened(lake: Lake) -> None:
    first = write_versions(lake, 1)[0]
    before = lake.read("camera_health", version=first)
    pin(lake, json.dumps({"camera_health": first}))
    log = lake.root / "tables" / "camera_health" / "_delta_log"
    _age(log)
    write_versions(lake, 45)
    assert list(log.glob("*.checkpoint*.parquet"))
    _age(log)
    lake.maintain(retain_hours=0, exclusive=True)
    assert same_rows(lake.read("camera_health", version=first), before, "camera_health")


def _age(folder: Path) -> None:
    """As if everything in it had been written two months ago."""
    then = time.time() - 60 * 24 * 3600
    for file in folder.iterdir():
        os.utime(file, (then, then))
