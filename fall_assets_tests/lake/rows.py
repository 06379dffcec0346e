"""Fixed rows that the registry permits, made from the registry."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from fall_assets.lake import TABLES, Lake, Provenance
from fall_assets.lake.registry import DAY, FLAG, MOMENT, PACKED, REAL, TEXT, WHOLE, Column, Table

DAY_1 = date(2026, 3, 1)
DAY_2 = date(2026, 3, 2)
BY_DAY = [table.name for table in TABLES.values() if table.by_day]
WHOLE_TABLES = [table.name for table in TABLES.values() if not table.by_day]
RUN = Provenance(run_id="run-1", partition="2026-03-01", code_version="abc1234")


def rows(table: str, count: int = 5, *, day: date = DAY_1, seed: int = 0) -> pl.DataFrame:
    """`count` valid rows. Row i refers to row i of the tables that it refers to."""
    described = TABLES[table]
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            column.name: [_value(column, described, number, day, rng) for number in range(count)]
            for column in described.columns
        },
        schema=described.schema,
    )


def _value(column: Column, table: Table, number: int, day: date, rng: np.random.Generator) -> Any:
    if column.name == "day":
        return day
    if column.name == "camera_id":
        return f"cam-{number:02d}"
    if column.name == "video_id":
        return f"{day.toordinal():032x}{number:032x}"
    if column.name == "pins":
        return "{}"
    if column.nullable and rng.random() < 0.4:
        return None
    if column.allowed is not None:
        return column.allowed[int(rng.integers(len(column.allowed)))]
    share = number / 1000 if column.name in table.key else float(rng.random())
    low = column.minimum or 0.0
    high = column.maximum if column.maximum is not None else low + 1000.0
    if column.dtype == TEXT:
        return f"{column.name} {number}" if _in_key(column, table) else f"text {rng.integers(1000)}"
    if column.dtype == WHOLE:
        return (
            # Another part of the key tells rows apart where this one has few values.
            int(low) + number % (int(high - low) + 1)
            if column.name in table.key
            else int(rng.integers(int(low), int(high) + 1))
        )
    if column.dtype == REAL:
        return low + share * (high - low)
    if column.dtype == MOMENT:
        return datetime(day.year, day.month, day.day, 8, tzinfo=UTC) + timedelta(minutes=number)
    if column.dtype == DAY:
        return day
    if column.dtype == FLAG:
        return bool(rng.integers(2))
    assert column.dtype == PACKED
    return rng.bytes(int(rng.integers(1, 200)))


def _in_key(column: Column, table: Table) -> bool:
    referring = {name for reference in table.references for name in reference.columns}
    return column.name in table.key or column.name in referring


def with_parents(lake: Lake, table: str, count: int = 5, *, day: date = DAY_1) -> None:
    """Write the rows that `rows(table, count)` refers to."""
    for reference in TABLES[table].references:
        with_parents(lake, reference.table, count, day=day)
        parents = rows(reference.table, count, day=day)
        if TABLES[reference.table].by_day:
            lake.replace_partition(reference.table, day, parents, RUN)
        else:
            lake.upsert(reference.table, parents, RUN)


def put(lake: Lake, table: str, frame: pl.DataFrame, day: date = DAY_1) -> int:
    """Write a day of a table by day, or the whole of another."""
    if TABLES[table].by_day:
        return lake.replace_partition(table, day, frame, RUN)
    return lake.replace(table, frame, RUN)


def same_rows(one: pl.DataFrame, other: pl.DataFrame, table: str) -> bool:
    """Whether two frames hold the same rows, in any order."""
    key = list(TABLES[table].key)
    return one.sort(key).equals(other.sort(key))
