"""SQL over the lake: DuckDB with one view per table, at any version.

What belongs here: making the views and keeping a person's SQL inside the lake. What does not:
writing (see `lake.py`). DuckDB reads the Parquet files that a version names; its Delta extension
would be downloaded, so it is not used, and no DuckDB file is written.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.lake.dictionary import comment
from fall_assets.lake.lake import Lake, Snapshot
from fall_assets.lake.registry import TABLES, Column

if TYPE_CHECKING:
    import duckdb

_TYPES: Mapping[pl.DataType, str] = {
    pl.String(): "VARCHAR",
    pl.Int64(): "BIGINT",
    pl.Float64(): "DOUBLE",
    pl.Boolean(): "BOOLEAN",
    pl.Date(): "DATE",
    pl.Datetime("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
    pl.Binary(): "BLOB",
}

_STARTING_CONFIGURATION = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    # DuckDB would spill into the current folder.
    "temp_directory": "",
}
_READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_MORE = "fall_assets.lake.connect() gives a session for more"
_STILL_ADJUSTABLE = ("memory_limit", "threads", "timezone", "enable_progress_bar")


def connect(
    root: Path | str | None = None, versions: Mapping[str, int] | None = None
) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB with a view per table of the lake at `root`.

    All views stand still at the versions of now, or at those that `versions` names: a later write
    is seen by a later `connect`. A table that was never written is an empty view with the
    registry's columns. Times are UTC, arrays are BLOBs. `root` None takes the lake of the site
    that the environment names.

    The SQL may read the lake's own files and nothing else: no other file, no network, no
    extension, and the settings that say so are locked (memory_limit, threads and TimeZone can
    still be set). Python's frames are not found by name: use the connection's `register`. It is a
    guard against accidents; for SQL of strangers use `query`, which runs nothing but a SELECT.

    Raises PermanentFailureError for unknown tables and versions.
    """
    import duckdb

    if root is None:
        from fall_assets.site import lake_root

        root = lake_root()
    chosen = dict(versions or {})
    unknown = [name for name in chosen if name not in TABLES]
    if unknown:
        raise PermanentFailureError(
            f"no tables {', '.join(unknown)}; there are: {', '.join(TABLES)}"
        )
    lake = Lake(root)
    connection = duckdb.connect(":memory:", config=dict(_STARTING_CONFIGURATION))
    connection.execute("SET TimeZone = 'UTC'")
    permitted: set[str] = set()
    for name in TABLES:
        snapshot = lake.snapshot(name, version=chosen.get(name))
        for statement in _view(snapshot):
            connection.execute(statement)
        for file in snapshot.files:
            # DuckDB asks for leave for the pattern and for the file that it finds by it.
            permitted |= {str(file), glob.escape(str(file))}
    connection.execute(f"SET allowed_paths = {_texts(sorted(permitted))}")
    connection.execute(f"SET allowed_configs = {_texts(_STILL_ADJUSTABLE)}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def query(
    sql: str, root: Path | str | None = None, versions: Mapping[str, int] | None = None
) -> pl.DataFrame:
    """The rows of one SELECT over the lake (DESCRIBE, SHOW and SUMMARIZE count as such).

    Arguments as for `connect`. Raises PermanentFailureError for any other statement, one inside
    the SELECT too, for several, and for SQL that DuckDB refuses.
    """
    import duckdb

    with connect(root, versions) as connection:
        try:
            kinds = _kinds(connection, sql)
            if kinds - _READING:
                inside = ", ".join(sorted(kinds - _READING))
                raise PermanentFailureError(f"only SELECT is permitted, not {inside}; {_MORE}")
            statements = connection.extract_statements(sql)
            if len(statements) != 1:
                raise PermanentFailureError(
                    f"one SELECT is permitted, these are {len(statements)} statements"
                )
            rows: pl.DataFrame = connection.sql(statements[0]).pl()
        except duckdb.Error as error:
            raise PermanentFailureError(f"the SQL cannot be run: {error}") from error
    return rows


def _kinds(connection: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    """The kinds of query in `sql` by DuckDB's own parser, those inside WITH among them.

    Its statement type is not enough: `WITH a AS (COPY … TO …) SELECT …` counts as a SELECT.
    """
    rows = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [sql]).fetchall()
    parsed = json.loads(rows[0][0])
    if parsed["error"]:
        if parsed["error_type"] == "not implemented":
            raise PermanentFailureError(f"only SELECT is permitted; {_MORE}")
        raise PermanentFailureError(f"the SQL cannot be run: {parsed['error_message']}")

    def nodes(part: object) -> Iterator[str]:
        if isinstance(part, dict):
            kind = part.get("type")
            if isinstance(kind, str) and kind.endswith("_NODE"):
                yield kind
            for inner in part.values():
                yield from nodes(inner)
        elif isinstance(part, list):
            for inner in part:
                yield from nodes(inner)

    return set(nodes(parsed))


def _view(snapshot: Snapshot) -> list[str]:
    """Statements that make the view of a table and tell what it and its columns mean."""
    table = snapshot.table
    columns = ", ".join(_selected(column, snapshot) for column in table.columns)
    source = f"FROM {_parquet(snapshot)}" if snapshot.files else "WHERE false"
    name = _name(table.name)
    return [
        f"CREATE VIEW {name} AS SELECT {columns} {source}",
        f"COMMENT ON VIEW {name} IS {_text(table.meaning)}",
        *(
            f"COMMENT ON COLUMN {name}.{_name(column.name)} IS {_text(comment(column))}"
            for column in table.columns
        ),
    ]


def _selected(column: Column, snapshot: Snapshot) -> str:
    name = _name(column.name)
    if snapshot.files and column.name in snapshot.columns:
        return name
    return f"CAST(NULL AS {_TYPES[column.dtype]}) AS {name}"


def _parquet(snapshot: Snapshot) -> str:
    files = _texts(glob.escape(str(file)) for file in snapshot.files)
    options = ["hive_partitioning = false"]
    if snapshot.table.by_day:
        options = ["hive_partitioning = true", "hive_types = {'day': DATE}"]
    if snapshot.columns_were_added:
        # Costs a look into every file, so only where older files lack columns.
        options.append("union_by_name = true")
    return f"read_parquet({files}, {', '.join(options)})"


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _texts(texts: Iterable[str]) -> str:
    return "[" + ", ".join(_text(text) for text in texts) + "]"
