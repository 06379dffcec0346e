from __future__ import annotations

import json
import os
import time
from pathlib import Path

import polars as pl
import pytest

from fall_assets.errors import PermanentFailureError
from fall_assets.lake import Lake
from fall_assets_tests.lake.rows import DAY_1, RUN, rows, same_rows


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
    with pytest.raises(PermanentFailureError, match="its pins cannot be read"):
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
