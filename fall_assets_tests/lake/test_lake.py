from __future__ import annotations

import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable, TableFeatures, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.errors import InvalidRowsError, PassingFailureError, PermanentFailureError
from fall_assets.lake import TABLES, Lake, Provenance
from fall_assets.lake import lake as lake_module
from fall_assets.lake.registry import REAL, Column, Table
from fall_assets_tests.lake.rows import (
    BY_DAY,
    DAY_1,
    DAY_2,
    RUN,
    WHOLE_TABLES,
    put,
    rows,
    same_rows,
    with_parents,
)
from fall_assets_tests.lake.strategies import frames, spoilt

Prepared = Callable[[str], AbstractContextManager[Lake]]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Lakes that hold what the rows of a table refer to on two days, a fresh copy each time."""

    @functools.cache
    def template(table: str) -> Path:
        root = tmp_path_factory.mktemp(table)
        for day in (DAY_1, DAY_2):
            with_parents(Lake(root), table, day=day)
        return root

    @contextmanager
    def copied(table: str) -> Iterator[Lake]:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "lake"
            shutil.copytree(template(table), root)
            yield Lake(root)

    return copied


# Reading what was written ------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_was_never_written_is_empty_with_its_columns(lake: Lake, table: str) -> None:
    assert lake.read(table).schema == TABLES[table].schema
    assert lake.read(table).is_empty()
    assert (lake.version(table), lake.rows(table), lake.history(table)) == (None, 0, [])
    assert lake.versions() == {}
    assert not lake.root.exists()


@pytest.mark.parametrize("table", TABLES)
def test_rows_come_back_as_they_were_written(lake: Lake, table: str) -> None:
    with_parents(lake, table)
    frame = rows(table)
    put(lake, table, frame)
    assert lake.read(table).schema == TABLES[table].schema
    assert same_rows(lake.read(table), frame, table)
    assert lake.rows(table) == frame.height


@settings(max_examples=30, deadline=None)
@given(data=st.data(), table=st.sampled_from(BY_DAY))
def test_replacing_a_day_then_reading_gives_its_rows_and_repeating_changes_nothing(
    prepared: Prepared, data: st.DataObject, table: str
) -> None:
    first = data.draw(frames(table))
    second = data.draw(frames(table))
    other = rows(table, day=DAY_2)
    with prepared(table) as lake:
        lake.replace_partition(table, DAY_2, other, RUN)
        for frame in (first, second, second):
            lake.replace_partition(table, DAY_1, frame, RUN)
            assert same_rows(lake.read(table, days=[DAY_1]), frame, table)
            assert same_rows(lake.read(table, days=[DAY_2]), other, table)
        assert lake.days(table) == ([DAY_1, DAY_2] if second.height else [DAY_2])


@settings(max_examples=20, deadline=None)
@given(data=st.data(), table=st.sampled_from(WHOLE_TABLES))
def test_replacing_a_whole_table_then_reading_gives_its_rows(
    prepared: Prepared, data: st.DataObject, table: str
) -> None:
    first = data.draw(frames(table))
    second = data.draw(frames(table))
    with prepared(table) as lake:
        for frame in (first, second, second):
            lake.replace(table, frame, RUN)
            assert same_rows(lake.read(table), frame, table)


def test_columns_are_matched_by_name(lake: Lake) -> None:
    frame = rows("camera_health")
    lake.replace_partition("camera_health", DAY_1, frame.select(reversed(frame.columns)), RUN)
    assert same_rows(lake.read("camera_health"), frame, "camera_health")


def test_reading_takes_columns_days_and_conditions(lake: Lake) -> None:
    for day in (DAY_1, DAY_2):
        lake.replace_partition("camera_health", day, rows("camera_health", day=day), RUN)
    assert lake.read("camera_health", columns=["power", "day"]).columns == ["power", "day"]
    assert lake.read("camera_health", days=[DAY_2])["day"].unique().to_list() == [DAY_2]
    assert lake.read("camera_health", days=[]).is_empty()
    found = lake.read("camera_health", columns=["day"], where=pl.col("camera_id") == "cam-03")
    assert found["day"].to_list() == [DAY_1, DAY_2]


def test_reading_a_day_opens_no_file_of_another(lake: Lake) -> None:
    for day in (DAY_1, DAY_2):
        lake.replace_partition("camera_health", day, rows("camera_health", day=day), RUN)
    for file in lake.snapshot("camera_health").files:
        if f"day={DAY_2}" in str(file):
            file.write_bytes(b"not Parquet")
    assert lake.read("camera_health", days=[DAY_1]).height == 5


def test_rows_are_in_one_order_however_they_were_written(lake: Lake) -> None:
    frame = rows("cameras", 6)
    for number in (4, 1, 5, 0, 3, 2):
        lake.append("cameras", frame[number], RUN)
    assert lake.read("cameras").equals(frame)
    assert lake.read("cameras", columns=["ward"]).equals(frame.select("ward"))
    lake.replace_partition("camera_health", DAY_1, rows("camera_health")[::-1], RUN)
    written = pl.read_parquet(lake.snapshot("camera_health").files[0], hive_partitioning=False)
    assert written["camera_id"].is_sorted()


def test_older_versions_can_be_read(lake: Lake) -> None:
    old, new = rows("cameras", 3), rows("cameras", 5)
    old_version = lake.replace("cameras", old, RUN)
    new_version = lake.replace("cameras", new, RUN)
    assert new_version > old_version
    assert lake.version("cameras") == new_version
    assert lake.versions() == {"cameras": new_version}
    assert lake.read("cameras", version=old_version).equals(old)
    assert lake.rows("cameras", version=old_version) == 3
    assert lake.read("cameras").equals(new)


def test_pinned_tables_are_read_together_as_they_were(lake: Lake) -> None:
    lake.replace("cameras", rows("cameras", 3), RUN)
    for day in (DAY_1, DAY_2):
        lake.replace_partition("camera_health", day, rows("camera_health", day=day), RUN)
    before = {name: lake.read(name) for name in ("cameras", "camera_health")}
    pinned = lake.at(lake.versions())
    lake.replace("cameras", rows("cameras", 5), RUN)
    lake.replace_partition("camera_health", DAY_1, rows("camera_health").head(1), RUN)
    read = pinned.read({"cameras": ["ward", "camera_id"], "camera_health": None})
    assert read["cameras"].equals(before["cameras"].select("ward", "camera_id"))
    assert read["camera_health"].equals(before["camera_health"])
    # Tables without days are not cut by days.
    of_a_day = pinned.read({"cameras": None, "camera_health": ["day"]}, days=[DAY_2])
    assert of_a_day["cameras"].equals(before["cameras"])
    assert of_a_day["camera_health"]["day"].unique().to_list() == [DAY_2]
    with pytest.raises(PermanentFailureError, match="no columns wards; there are: camera_id"):
        pinned.read({"cameras": ["wards"]})
    with pytest.raises(PermanentFailureError, match="no version 9: it has versions 0 to"):
        lake.at({"cameras": 9})


def test_what_does_not_exist_is_named_with_what_does(lake: Lake) -> None:
    lake.replace("cameras", rows("cameras"), RUN)
    with pytest.raises(PermanentFailureError, match="no table 'camera'; there are: cameras"):
        lake.read("camera")
    with pytest.raises(PermanentFailureError, match="no columns wards; there are: camera_id"):
        lake.read("cameras", columns=["wards"])
    with pytest.raises(PermanentFailureError, match="no version 9: it has versions 0 to 1"):
        lake.read("cameras", version=9)
    with pytest.raises(PermanentFailureError, match="no version 0: it was never written"):
        lake.read("videos", version=0)


# Writing -----------------------------------------------------------------------------------------


def test_an_empty_frame_removes_the_day_and_nothing_to_remove_is_no_commit(lake: Lake) -> None:
    empty = TABLES["camera_health"].empty()
    created = lake.replace_partition("camera_health", DAY_1, empty, RUN)
    assert lake.replace_partition("camera_health", DAY_1, empty, RUN) == created
    written = lake.replace_partition("camera_health", DAY_1, rows("camera_health"), RUN)
    removed = lake.replace_partition("camera_health", DAY_1, empty, RUN)
    assert removed > written
    assert lake.days("camera_health") == []
    assert lake.read("camera_health").is_empty()
    assert lake.replace_partition("camera_health", DAY_1, empty, RUN) == removed


def test_when_rows_of_a_day_were_written_is_known_whatever_else_was_since(lake: Lake) -> None:
    assert lake.written("camera_health", [DAY_1]) == {}
    before = datetime.now(UTC)
    lake.replace_partition("camera_health", DAY_1, rows("camera_health"), RUN)
    first = lake.written("camera_health", [DAY_1, DAY_2])
    assert list(first) == [DAY_1]
    assert abs((first[DAY_1] - before).total_seconds()) < 60
    time.sleep(0.002)
    lake.replace_partition("camera_health", DAY_2, rows("camera_health", day=DAY_2), RUN)
    lake.maintain("camera_health", retain_hours=200)
    both = lake.written("camera_health", [DAY_1, DAY_2])
    assert both[DAY_1] == first[DAY_1] < both[DAY_2]
    time.sleep(0.002)
    lake.replace_partition("camera_health", DAY_1, rows("camera_health", 2), RUN)
    assert lake.written("camera_health", [DAY_1])[DAY_1] > both[DAY_2]


def test_rows_of_another_day_are_refused(lake: Lake) -> None:
    mixed = pl.concat([rows("camera_health"), rows("camera_health", 2, day=DAY_2)])
    with pytest.raises(InvalidRowsError, match="day must be 2026-03-01: 2 rows"):
        lake.replace_partition("camera_health", DAY_1, mixed, RUN)
    assert lake.version("camera_health") is None


def test_a_moment_is_not_taken_for_a_day(lake: Lake) -> None:
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    with pytest.raises(PermanentFailureError, match=r"pass its \.date\(\)"):
        lake.replace_partition("camera_health", moment, rows("camera_health"), RUN)


def test_references_must_stand_and_on_the_same_day(lake: Lake) -> None:
    with pytest.raises(InvalidRowsError, match="camera_id must stand in table cameras: 5 rows"):
        lake.replace_partition("videos", DAY_1, rows("videos"), RUN)
    with_parents(lake, "labels", 5)
    lake.replace_partition("labels", DAY_1, rows("labels", 5), RUN)
    with pytest.raises(InvalidRowsError, match=r"must stand in table videos: 1 row, first row 5"):
        lake.replace_partition("labels", DAY_1, rows("labels", 6), RUN)
    other_day = rows("labels").with_columns(day=pl.lit(DAY_2))
    with pytest.raises(InvalidRowsError, match="video_id must stand in table videos: 5 rows"):
        lake.replace_partition("labels", DAY_2, other_day, RUN)
    assert lake.read("labels").height == 5


@settings(max_examples=40, deadline=None)
@given(data=st.data(), table=st.sampled_from(sorted(TABLES)))
def test_bad_rows_never_replace_good_ones(
    prepared: Prepared, data: st.DataObject, table: str
) -> None:
    with prepared(table) as lake:
        good = rows(table)
        version = put(lake, table, good)
        bad = data.draw(spoilt(table))
        with pytest.raises(InvalidRowsError):
            put(lake, table, bad)
        assert lake.version(table) == version
        assert same_rows(lake.read(table), good, table)


def test_append_adds_and_refuses_what_is_there(lake: Lake) -> None:
    lake.append("cameras", rows("cameras", 3), RUN)
    version = lake.version("cameras")
    with pytest.raises(InvalidRowsError, match=r"3 of 5 rows have a key \(camera_id\)"):
        lake.append("cameras", rows("cameras", 5), RUN)
    assert lake.version("cameras") == version
    changed = rows("cameras", 5).with_columns(ward=pl.lit("other"))
    lake.append("cameras", changed, RUN, skip_existing=True)
    assert lake.read("cameras").equals(pl.concat([rows("cameras", 3), changed[3:]]))
    version = lake.version("cameras")
    assert lake.append("cameras", changed, RUN, skip_existing=True) == version


def test_upsert_replaces_by_key_and_adds(lake: Lake) -> None:
    before = rows("cameras", 5)[:3]
    lake.upsert("cameras", before, RUN)
    changed = rows("cameras", 5)[2:].with_columns(ward=pl.lit("other"))
    version = lake.upsert("cameras", changed, RUN)
    assert lake.read("cameras").equals(pl.concat([before[:2], changed]))
    assert lake.upsert("cameras", changed, RUN) == version


@settings(max_examples=30, deadline=None)
@given(data=st.data(), table=st.sampled_from(BY_DAY))
def test_extending_a_day_keeps_what_stands_and_repeating_changes_nothing(
    prepared: Prepared, data: st.DataObject, table: str
) -> None:
    batches = [data.draw(frames(table)) for _ in range(3)]
    other = rows(table, day=DAY_2)
    expected = TABLES[table].empty()
    with prepared(table) as lake:
        lake.replace_partition(table, DAY_2, other, RUN)
        for batch in batches:
            new = batch.join(expected, on=list(TABLES[table].key), how="anti", nulls_equal=True)
            expected = pl.concat([expected, new])
            for _ in range(2):
                version = lake.extend_partition(table, DAY_1, batch, RUN)
                assert same_rows(lake.read(table, days=[DAY_1]), expected, table)
                assert same_rows(lake.read(table, days=[DAY_2]), other, table)
        assert lake.extend_partition(table, DAY_1, pl.concat(batches[:1]), RUN) == version
        # What was extended can be replaced whole.
        lake.replace_partition(table, DAY_1, batches[0], RUN)
        assert same_rows(lake.read(table, days=[DAY_1]), batches[0], table)


def test_extending_adds_one_file_and_says_who_did_it(lake: Lake) -> None:
    lake.extend_partition("camera_health", DAY_1, rows("camera_health", 3), RUN)
    before = set(lake.snapshot("camera_health").files)
    lake.extend_partition("camera_health", DAY_1, rows("camera_health", 5), RUN)
    after = set(lake.snapshot("camera_health").files)
    assert before < after
    assert len(after) == 2
    newest = lake.history("camera_health", limit=1)[0]
    assert (newest["run_id"], newest["rows_written"]) == ("run-1", 2)


def test_extending_opens_no_file_of_another_day(lake: Lake) -> None:
    for day in (DAY_1, DAY_2):
        lake.replace_partition("camera_health", day, rows("camera_health", 3, day=day), RUN)
    for file in lake.snapshot("camera_health").files:
        if f"day={DAY_2}" in str(file):
            file.write_bytes(b"not Parquet")
    lake.extend_partition("camera_health", DAY_1, rows("camera_health", 5), RUN)
    assert lake.read("camera_health", days=[DAY_1]).height == 5


@settings(max_examples=20, deadline=None)
@given(data=st.data(), table=st.sampled_from(BY_DAY))
def test_bad_rows_never_extend_good_ones(
    prepared: Prepared, data: st.DataObject, table: str
) -> None:
    with prepared(table) as lake:
        lake.extend_partition(table, DAY_1, rows(table, 2), RUN)
        version = lake.version(table)
        with pytest.raises(InvalidRowsError):
            lake.extend_partition(table, DAY_1, data.draw(spoilt(table)), RUN)
        assert lake.version(table) == version
        assert same_rows(lake.read(table), rows(table, 2), table)


def _overtaken(monkeypatch: pytest.MonkeyPatch, by: Callable[[], object]) -> list[int]:
    """Let `by` commit right before the next write is committed; counts the writes."""
    writes: list[int] = []

    def late(*arguments: Any, **settings: Any) -> None:
        writes.append(len(writes))
        if len(writes) == 1:
            by()
        write_deltalake(*arguments, **settings)

    monkeypatch.setattr(lake_module, "write_deltalake", late)
    monkeypatch.setattr("time.sleep", lambda _: None)
    return writes


@pytest.mark.parametrize("way", ["extend_partition", "replace_partition"])
@pytest.mark.parametrize("standing", [0, 2])
def test_a_day_that_another_writes_meanwhile_is_looked_at_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, way: str, standing: int
) -> None:
    """Delta itself lets two appends pass, and an append after a replacement of nothing."""
    table, frame = "camera_health", rows("camera_health", 6)
    lake.extend_partition(table, DAY_2, rows(table, day=DAY_2), RUN)
    lake.extend_partition(table, DAY_1, frame[:standing], RUN)
    theirs = frame[:4].with_columns(cpu_percent=pl.lit(99.0))

    def meanwhile() -> None:
        monkeypatch.undo()
        getattr(Lake(lake.root), way)(table, DAY_1, theirs, RUN)

    _overtaken(monkeypatch, meanwhile)
    lake.extend_partition(table, DAY_1, frame, RUN)
    kept = 0 if way == "replace_partition" else standing
    expected = pl.concat([frame[:kept], theirs[kept:], frame[4:]])
    assert same_rows(lake.read(table, days=[DAY_1]), expected, table)


def test_writers_who_extend_other_days_do_not_disturb(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = "camera_health"
    lake.extend_partition(table, DAY_1, rows(table, 2), RUN)
    other = Lake(lake.root)
    later = rows(table, day=DAY_2)
    writes = _overtaken(monkeypatch, lambda: other.extend_partition(table, DAY_2, later, RUN))
    lake.extend_partition(table, DAY_1, rows(table, 6), RUN)
    assert len(writes) == 2  # One of each: nothing was done again.
    assert lake.rows(table) == 11


def test_tables_by_day_and_others_are_written_each_in_its_way(lake: Lake) -> None:
    health, cameras = rows("camera_health"), rows("cameras")
    with pytest.raises(PermanentFailureError, match="with replace_partition"):
        lake.replace("camera_health", health, RUN)
    with pytest.raises(PermanentFailureError, match="with replace_partition"):
        lake.append("camera_health", health, RUN)
    with pytest.raises(PermanentFailureError, match="with replace_partition"):
        lake.upsert("camera_health", health, RUN)
    with pytest.raises(PermanentFailureError, match="with replace, append or upsert"):
        lake.replace_partition("cameras", DAY_1, cameras, RUN)
    with pytest.raises(PermanentFailureError, match="with replace, append or upsert"):
        lake.extend_partition("cameras", DAY_1, cameras, RUN)
    with pytest.raises(PermanentFailureError, match="not partitioned by day"):
        lake.read("cameras", days=[DAY_1])


def test_every_commit_says_who_made_it(lake: Lake) -> None:
    lake.replace_partition("camera_health", DAY_1, rows("camera_health"), RUN)
    whole = Provenance("run-2", None, "def5678")
    lake.replace_partition("camera_health", DAY_2, rows("camera_health", day=DAY_2), whole)
    newest, before = lake.history("camera_health", limit=2)
    assert (newest["run_id"], newest["partition"], newest["code_version"]) == (
        "run-2",
        None,
        "def5678",
    )
    assert (before["run_id"], before["partition"], before["code_version"]) == (
        "run-1",
        "2026-03-01",
        "abc1234",
    )
    assert newest["version"] == before["version"] + 1
    assert newest["rows_written"] == 5
    assert newest["at_utc"] >= before["at_utc"]
    assert newest["at_utc"].tzinfo == UTC


def test_a_commit_that_is_lost_again_and_again_is_a_passing_failure(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise CommitFailedError("another writer was first")

    monkeypatch.setattr(lake_module, "write_deltalake", lost)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(PassingFailureError, match=r"cameras: the commit was lost .* 12 times"):
        lake.replace("cameras", rows("cameras"), RUN)
    assert lake.read("cameras").is_empty()


# A registry that changes -------------------------------------------------------------------------


def _with_column(table: str, column: Column) -> Table:
    old = TABLES[table]
    return Table(old.name, old.asset, old.stage, old.meaning, (*old.columns, column), old.key,
                 by_day=old.by_day, references=old.references)  # fmt: skip


def test_a_new_optional_column_is_null_in_older_rows(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = rows("camera_health")
    first = lake.replace_partition("camera_health", DAY_1, old, RUN)
    column = Column("temperature", REAL, "Temperature of the box.", "°C", nullable=True)
    monkeypatch.setitem(TABLES, "camera_health", _with_column("camera_health", column))
    filled = old.with_columns(temperature=pl.lit(None, pl.Float64))
    assert same_rows(lake.read("camera_health"), filled, "camera_health")
    new = rows("camera_health", day=DAY_2)
    lake.replace_partition("camera_health", DAY_2, new, RUN)
    assert same_rows(lake.read("camera_health"), pl.concat([filled, new]), "camera_health")
    assert same_rows(lake.read("camera_health", version=first), filled, "camera_health")


def test_a_column_that_older_rows_cannot_have_is_refused(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.replace_partition("camera_health", DAY_1, rows("camera_health"), RUN)
    column = Column("temperature", REAL, "Temperature of the box.", "°C")
    monkeypatch.setitem(TABLES, "camera_health", _with_column("camera_health", column))
    with pytest.raises(PermanentFailureError, match=r"another schema; columns .*: temperature"):
        lake.replace_partition("camera_health", DAY_2, rows("camera_health", day=DAY_2), RUN)


def test_a_table_that_another_tool_made_unreadable_is_not_read_wrongly(lake: Lake) -> None:
    lake.replace("cameras", rows("cameras"), RUN)
    DeltaTable(lake.root / "tables" / "cameras").alter.add_feature(
        TableFeatures.DeletionVectors, allow_protocol_versions_increase=True
    )
    with pytest.raises(PermanentFailureError, match="changed by another tool to reader version 3"):
        lake.read("cameras")


# Files and places --------------------------------------------------------------------------------


def test_a_file_is_found_again_by_the_text_that_tables_hold(lake: Lake) -> None:
    text = lake.write_file(b"picture", "stills", "2026-03-01", "a.png")
    assert text == "files/stills/2026-03-01/a.png"
    assert lake.resolve(text) == lake.file("stills", "2026-03-01", "a.png")
    assert lake.resolve(text).read_bytes() == b"picture"
    lake.write_file(b"other", "stills", "2026-03-01", "a.png")
    assert lake.resolve(text).read_bytes() == b"other"
    assert [path.name for path in lake.resolve(text).parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("text", ["files/../tables/x", "/etc/passwd", "files", "files/", "", "x/y"])
def test_a_text_that_leads_out_of_the_files_is_refused(lake: Lake, text: str) -> None:
    with pytest.raises(PermanentFailureError, match="correct the path"):
        lake.resolve(text)


def test_a_link_that_leads_out_of_the_files_is_refused(lake: Lake, tmp_path: Path) -> None:
    lake.files_root.mkdir(parents=True)
    (lake.files_root / "out").symlink_to(tmp_path)
    with pytest.raises(PermanentFailureError, match="correct the path"):
        lake.write_file(b"x", "out", "x.txt")


def test_an_address_is_not_a_root() -> None:
    with pytest.raises(PermanentFailureError, match="must be a folder"):
        Lake("s3://bucket/lake")


@pytest.mark.parametrize("letter", "[]^|\\%=")
def test_a_root_below_which_tables_cannot_stand_is_refused(tmp_path: Path, letter: str) -> None:
    with pytest.raises(PermanentFailureError, match="choose another folder"):
        Lake(tmp_path / f"a{letter}b")


def test_days_come_in_order(lake: Lake) -> None:
    days = [date(2026, 3, day) for day in (9, 10, 2)]
    for day in days:
        lake.replace_partition("camera_health", day, rows("camera_health", day=day), RUN)
    assert lake.days("camera_health") == sorted(days)
