from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl
import pytest

from fall_assets.errors import PermanentFailureError
from fall_assets.lake import TABLES, Lake, connect
from fall_assets.lake.registry import REAL, Column
from fall_assets.lake.sql import query
from fall_assets_tests.lake.rows import DAY_1, DAY_2, RUN, put, rows, same_rows, with_parents
from fall_assets_tests.lake.test_lake import _with_column


@pytest.fixture
def health(lake: Lake) -> Lake:
    for day in (DAY_1, DAY_2):
        lake.replace_partition("camera_health", day, rows("camera_health", day=day), RUN)
    return lake


@pytest.mark.parametrize("table", TABLES)
def test_every_table_reads_the_same_by_sql(lake: Lake, table: str) -> None:
    with_parents(lake, table)
    put(lake, table, rows(table))
    found = query(f"SELECT * FROM {table}", lake.root)
    assert found.schema == TABLES[table].schema
    assert same_rows(found, lake.read(table), table)


def test_tables_that_were_never_written_are_empty_views_of_the_same_columns(lake: Lake) -> None:
    with connect(lake.root) as connection:
        for table, described in TABLES.items():
            assert connection.sql(f"SELECT * FROM {table}").pl().schema == described.schema


def test_a_connection_stands_still_while_others_write(health: Lake) -> None:
    with connect(health.root) as connection:
        health.replace_partition("camera_health", DAY_1, TABLES["camera_health"].empty(), RUN)
        assert connection.sql("FROM camera_health").pl().height == 10
    assert query("FROM camera_health", health.root).height == 5


def test_any_version_can_be_asked(health: Lake) -> None:
    version = health.version("camera_health")
    assert version is not None
    found = query("FROM camera_health", health.root, {"camera_health": version - 1})
    assert found["day"].unique().to_list() == [DAY_1]
    with pytest.raises(PermanentFailureError, match="camera_health has no version 99"):
        connect(health.root, {"camera_health": 99})
    with pytest.raises(PermanentFailureError, match="no tables camera; there are: cameras"):
        connect(health.root, {"camera": 0})


def test_the_lake_of_the_site_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FALL_SITE", str(tmp_path))
    Lake(tmp_path / "lake").replace("cameras", rows("cameras"), RUN)
    assert query("SELECT count(*) AS n FROM cameras")["n"].to_list() == [5]


def test_a_root_may_hold_letters_that_mean_something_elsewhere(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "die Kamera's Lake *?# {é} 日 \" ~")
    lake.replace_partition("camera_health", DAY_1, rows("camera_health"), RUN)
    lake.replace("cameras", rows("cameras"), RUN)
    assert same_rows(lake.read("camera_health"), rows("camera_health"), "camera_health")
    assert query("FROM camera_health", lake.root).height == 5
    lake.replace("cameras", rows("cameras", 3), RUN)
    assert [done.files_removed for done in lake.maintain(retain_hours=0, exclusive=True)] == [1, 0]
    assert query("FROM cameras", lake.root).height == 3


def test_columns_that_came_later_are_null_in_older_rows(
    health: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = Column("temperature", REAL, "Temperature of the box.", "°C", nullable=True)
    monkeypatch.setitem(TABLES, "camera_health", _with_column("camera_health", column))
    assert query("FROM camera_health", health.root)["temperature"].null_count() == 10
    new = rows("camera_health", day=DAY_2).with_columns(temperature=pl.lit(20.0))
    health.replace_partition("camera_health", DAY_2, new, RUN)
    found = query("FROM camera_health", health.root)
    assert same_rows(found, health.read("camera_health"), "camera_health")
    assert found["temperature"].null_count() == 5


def test_views_tell_what_they_mean(lake: Lake) -> None:
    views = query("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal", lake.root)
    assert dict(views.iter_rows()) == {table.name: table.meaning for table in TABLES.values()}
    columns = query(
        "SELECT comment FROM duckdb_columns() WHERE table_name = 'videos' AND column_name = 'fps'",
        lake.root,
    )
    assert columns["comment"].to_list() == ["Mean frames per second. [1/s]"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "COPY cameras TO 'copy.csv'",
        "ATTACH 'other.db'",
        "EXPORT DATABASE 'export'",
        "INSTALL delta",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SELECT * FROM 'https://example.org/x.parquet'",
    ],
)
def test_a_connection_reaches_nothing_but_the_lake(
    health: Lake, sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with connect(health.root) as connection, pytest.raises(duckdb.Error):
        connection.execute(sql)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_connection_may_be_tuned(lake: Lake) -> None:
    with connect(lake.root) as connection:
        connection.execute("SET threads = 1; SET memory_limit = '1GB'; SET TimeZone = 'Asia/Tokyo'")
        connection.register("mine", pl.DataFrame({"n": [1, 2]}))
        assert connection.sql("FROM mine").pl().height == 2


@pytest.mark.parametrize(
    "write",
    [
        "COPY (SELECT 1 AS n) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
        "WITH a AS (COPY (SELECT 1 AS n) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)) "
        "SELECT 1",
        "EXPLAIN ANALYZE COPY (SELECT 1 AS n) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
        "SELECT 1; COPY (SELECT 1 AS n) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
        "CREATE TABLE mine AS SELECT 1",
        "DROP VIEW cameras",
        "WITH a AS (DELETE FROM cameras RETURNING *) FROM a",
        "SET threads = 1",
        "",
    ],
)
def test_a_query_runs_nothing_but_one_select(health: Lake, write: str) -> None:
    file = health.snapshot("camera_health").files[0]
    content = file.read_bytes()
    with pytest.raises(PermanentFailureError, match=r"only SELECT|one SELECT"):
        query(write.format(file=file), health.root)
    assert file.read_bytes() == content


def test_sql_that_duckdb_refuses_is_a_permanent_failure(lake: Lake) -> None:
    with pytest.raises(PermanentFailureError, match=r"syntax error at or near .selec"):
        query("selec", lake.root)
    with pytest.raises(PermanentFailureError, match="Table with name nowhere does not exist"):
        query("FROM nowhere", lake.root)


@pytest.mark.parametrize(
    "sql",
    [
        "DESCRIBE videos",
        "SHOW TABLES",
        "SUMMARIZE camera_health",
        "SELECT 1 AS n UNION ALL SELECT 2",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) FROM r",
        "WITH a AS (SELECT DISTINCT camera_id FROM camera_health) SELECT count(*) FROM a -- so",
        "SELECT 'COPY_QUERY_NODE' AS word",
    ],
)
def test_ordinary_questions_are_answered(health: Lake, sql: str) -> None:
    assert not query(sql, health.root).is_empty()
