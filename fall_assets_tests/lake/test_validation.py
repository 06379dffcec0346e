from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.errors import InvalidRowsError
from fall_assets.lake import TABLES
from fall_assets.lake.registry import FLAG, MOMENT, PACKED, REAL, TEXT, WHOLE, Column, Table
from fall_assets.lake.validation import EXAMPLES, conform, validate, violations
from fall_assets_tests.lake.rows import DAY_1, rows, same_rows
from fall_assets_tests.lake.strategies import frames

TABLE = Table(
    "things",
    "things",
    "collection",
    "Things.",
    (
        Column("name", TEXT, "Its name."),
        Column("count", WHOLE, "How many.", nullable=True, minimum=0, maximum=10),
        Column("share", REAL, "How much.", "0-1", nullable=True, minimum=0, maximum=1),
        Column("kind", TEXT, "What sort.", nullable=True, allowed=("a", "b")),
        Column("at_utc", MOMENT, "When.", nullable=True),
        Column("flag", FLAG, "Whether.", nullable=True),
        Column("packed", PACKED, "Bytes.", nullable=True),
    ),
    key=("name",),
)


def things(**columns: list[Any]) -> pl.DataFrame:
    """Five things named a to e; other columns null unless given."""
    base = pl.DataFrame({"name": list("abcde")}).with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in TABLE.schema.items() if name != "name"
    )
    return base.with_columns(pl.Series(name, values) for name, values in columns.items())


def complaint(frame: pl.DataFrame) -> str:
    with pytest.raises(InvalidRowsError) as caught:
        validate(frame, TABLE)
    return str(caught.value)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), table=st.sampled_from(sorted(TABLES)))
def test_what_the_registry_permits_passes_unchanged(data: st.DataObject, table: str) -> None:
    frame = data.draw(frames(table))
    day = DAY_1 if TABLES[table].by_day else None
    passed = validate(frame.select(reversed(frame.columns)), TABLES[table], day=day)
    assert passed.schema == TABLES[table].schema
    assert same_rows(passed, frame, table)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"name": ["a", None, "c", "d", "e"]}, "name must not be null: 1 row, first row 1"),
        ({"name": list("abcaa")}, "name is the key and must be unique: 3 rows, first row 0"),
        ({"count": [0, -1, 10, 11, None]}, "count must be at least 0: 1 row, first row 1"),
        ({"count": [0, -1, 10, 11, None]}, "count must be at most 10: 1 row, first row 3"),
        ({"share": [0.0, 1.0, 1.5, None, 2.0]}, "share must be at most 1 0-1: 2 rows, first row 2"),
        ({"share": [0.0, float("nan"), 1.0, 0.5, None]}, "share must be finite"),
        ({"share": [0.0, float("-inf"), 1.0, 0.5, None]}, "share must be finite"),
        ({"kind": ["a", "b", None, "c", "a"]}, "kind must be one of a, b: 1 row, first row 3"),
    ],
)
def test_a_broken_rule_is_named_with_its_rows(columns: dict[str, list[Any]], expected: str) -> None:
    assert expected in complaint(things(**columns))


def test_all_broken_rules_are_told_at_once_and_each_row_by_its_key() -> None:
    message = complaint(things(count=[11, 11, 11, 11, -5], kind=["x", None, None, None, None]))
    assert "table things: the rows do not fit the schema registry, nothing was written" in message
    assert "count must be at least 0: 1 row, first row 4 (count=-5, name=e)" in message
    assert "kind must be one of a, b: 1 row, first row 0 (kind=x, name=a)" in message
    assert "count must be at most 10: 4 rows" in message
    assert message.count("count=11") == EXAMPLES
    assert "asset things" in message


def test_an_infinite_value_is_told_once() -> None:
    found = violations(things(share=[float("inf"), 0.0, 0.0, 0.0, float("nan")]), TABLE)
    assert [(violation.columns, violation.rows) for violation in found] == [(("share",), 2)]


def test_long_values_and_bytes_are_shortened() -> None:
    table = Table("t", "t", "collection", "T.", (Column("p", PACKED, "P."),), key=("p",))
    with pytest.raises(InvalidRowsError, match="<100000 bytes>") as caught:
        validate(pl.DataFrame({"p": [b"x" * 100_000] * 2}), table)
    assert len(str(caught.value)) < 500
    assert len(complaint(things(kind=["y" * 10_000, None, None, None, None]))) < 500


def test_columns_must_be_those_of_the_table() -> None:
    message = complaint(things().drop("kind", "flag").with_columns(extra=1))
    assert "missing columns: kind, flag" in message
    assert "unknown columns: extra" in message


@pytest.mark.parametrize(
    ("column", "given_values", "expected"),
    [
        ("count", pl.Series([1, 2, 3, 4, 5], dtype=pl.UInt8), [1, 2, 3, 4, 5]),
        ("count", pl.Series([1, 2, 3, 4, None], dtype=pl.UInt64), [1, 2, 3, 4, None]),
        ("share", pl.Series([0.5] * 5, dtype=pl.Float32), [0.5] * 5),
        ("share", pl.Series([1, 0, 1, 0, None]), [1.0, 0.0, 1.0, 0.0, None]),
        (
            "kind",
            pl.Series(["a", "b", "a", "b", None], dtype=pl.Categorical),
            [*"abab", None],
        ),
        ("kind", pl.Series(["a"] * 5, dtype=pl.Enum(["a"])), ["a"] * 5),
        (
            "at_utc",
            pl.Series([datetime(2026, 3, 1)] * 5, dtype=pl.Datetime("ms", "UTC")),
            [datetime(2026, 3, 1, tzinfo=UTC)] * 5,
        ),
        (
            "at_utc",
            pl.Series([datetime(2026, 3, 1)] * 5, dtype=pl.Datetime("us", "Asia/Tokyo")),
            [datetime(2026, 2, 28, 15, tzinfo=UTC)] * 5,
        ),
    ],
)
def test_types_are_cast_where_no_value_changes(
    column: str, given_values: pl.Series, expected: list[object]
) -> None:
    passed = validate(things().with_columns(given_values.alias(column)), TABLE)
    assert passed.schema == TABLE.schema
    if column == "at_utc" and given_values.dtype == pl.Datetime("us", "Asia/Tokyo"):
        # The series was made from a naive moment, which Polars takes as UTC.
        assert passed[column].to_list() == given_values.dt.convert_time_zone("UTC").to_list()
    else:
        assert passed[column].to_list() == expected


@pytest.mark.parametrize(
    ("column", "given_values"),
    [
        ("count", pl.Series([1.0] * 5)),
        ("count", pl.Series(["1"] * 5)),
        ("count", pl.Series([True] * 5)),
        ("count", pl.Series([2**63] * 5, dtype=pl.UInt64)),
        ("share", pl.Series([2**53 + 1] * 5)),
        ("share", pl.Series(["0.5"] * 5)),
        ("name", pl.Series([1, 2, 3, 4, 5])),
        ("flag", pl.Series([1, 0, 1, 0, 1])),
        ("packed", pl.Series(["a"] * 5)),
        ("at_utc", pl.Series([datetime(2026, 3, 1)] * 5)),
        ("at_utc", pl.Series([date(2026, 3, 1)] * 5)),
        ("at_utc", pl.Series([1] * 5, dtype=pl.Datetime("ns", "UTC"))),
    ],
)
def test_types_that_could_lose_something_are_refused(column: str, given_values: pl.Series) -> None:
    message = complaint(things().with_columns(given_values.alias(column)))
    assert f"{column} is {given_values.dtype}, must be {TABLE.schema[column]}" in message


def test_a_column_of_nothing_but_null_takes_the_type_of_its_column() -> None:
    frame = things().with_columns(
        pl.lit(None).alias(name) for name in TABLE.schema if name != "name"
    )
    assert conform(frame, TABLE).schema == TABLE.schema


def test_violations_report_without_refusing() -> None:
    assert violations(rows("camera_health"), TABLES["camera_health"], day=DAY_1) == []
    found = violations(rows("camera_health"), TABLES["camera_health"], day=date(2026, 3, 9))
    assert [str(violation).split(",")[0] for violation in found] == [
        "day must be 2026-03-09: 5 rows"
    ]
