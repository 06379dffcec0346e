"""Hypothesis' rows: any that the registry permits, and any that it does not."""

from __future__ import annotations

from datetime import UTC, date
from typing import Any

import polars as pl
from hypothesis import strategies as st

from fall_assets.lake import TABLES
from fall_assets.lake.registry import DAY, FLAG, MOMENT, PACKED, REAL, TEXT, WHOLE, Column
from fall_assets_tests.lake.rows import DAY_1, DAY_2, rows


@st.composite
def frames(draw: st.DrawFn, table: str, *, day: date = DAY_1, parents: int = 5) -> pl.DataFrame:
    """Any rows that the registry permits, referring to rows that `with_parents` writes."""
    described = TABLES[table]
    pool = rows(table, parents, day=day)
    referring = {name for reference in described.references for name in reference.columns}
    drawn = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    column.name: st.sampled_from(pool.get_column(column.name).to_list())
                    if column.name in referring
                    else _values(column, day)
                    for column in described.columns
                }
            ),
            max_size=6,
            unique_by=lambda row: tuple(row[name] for name in described.key),
        )
    )
    return pl.DataFrame(drawn, schema=described.schema)


def _values(column: Column, day: date) -> st.SearchStrategy[Any]:
    values: st.SearchStrategy[Any]
    if column.allowed is not None:
        values = st.sampled_from(column.allowed)
    elif column.dtype == TEXT:
        values = st.text(max_size=12)
    elif column.dtype == WHOLE:
        low, high = column.minimum, column.maximum
        values = st.integers(
            -(2**63) if low is None else int(low), 2**63 - 1 if high is None else int(high)
        )
    elif column.dtype == REAL:
        values = st.floats(column.minimum, column.maximum, allow_nan=False, allow_infinity=False)
    elif column.dtype == MOMENT:
        values = st.datetimes(timezones=st.just(UTC))
    elif column.dtype == FLAG:
        values = st.booleans()
    elif column.dtype == PACKED:
        values = st.binary(max_size=20)
    else:
        assert column.dtype == DAY
        values = st.just(day)
    return st.none() | values if column.nullable else values


@st.composite
def spoilt(draw: st.DrawFn, table: str) -> pl.DataFrame:
    """Good rows with one rule of the registry broken in one row."""
    described = TABLES[table]
    good = rows(table, seed=1)
    ways: list[tuple[str, object]] = [("twice", None), ("without", None), ("extra", None)]
    for column in described.columns:
        if not column.nullable:
            ways.append((column.name, None))
        if column.dtype.is_float():
            ways += [(column.name, float("nan")), (column.name, float("inf"))]
        if column.minimum is not None:
            ways.append((column.name, column.minimum - 1))
        if column.maximum is not None:
            ways.append((column.name, column.maximum + 1))
        if column.allowed is not None:
            ways.append((column.name, "no such word"))
    ways += [(reference.columns[0], "nowhere") for reference in described.references]
    if described.by_day:
        ways.append(("day", DAY_2))
    name, value = draw(st.sampled_from(ways))
    row = draw(st.integers(0, good.height - 1))
    if name == "twice":
        return pl.concat([good, good[row]])
    if name == "without":
        return good.drop(draw(st.sampled_from(good.columns)))
    if name == "extra":
        return good.with_columns(surplus=1)
    dtype = described.column(name).dtype
    values = good[name].to_list()
    values[row] = int(value) if dtype.is_integer() and isinstance(value, float) else value
    return good.with_columns(pl.Series(name, values, dtype=dtype))
