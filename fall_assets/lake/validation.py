"""The audit of a frame against the schema registry, before anything is committed.

What belongs here: deciding whether rows may enter a table, and saying why not. What does not:
reading or writing tables (see `lake.py`, which passes in how references are looked up).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from fall_assets.errors import InvalidRowsError
from fall_assets.lake.registry import Column, Reference, Table

Exists = Callable[[Reference, pl.DataFrame], pl.DataFrame]
"""Looks references up: given distinct values of `Reference.columns`, returns those that stand in
the referenced table (same columns, any order of rows)."""

EXAMPLES = 3
"""How many offending rows a violation shows."""

_LONGEST_VALUE = 60
_WHOLE_IN_FLOAT = 2**53


@dataclass(frozen=True)
class Violation:
    """One broken rule: the columns, the rule in words, how many rows break it, the first ones."""

    columns: tuple[str, ...]
    rule: str
    rows: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        noun = "row" if self.rows == 1 else "rows"
        return f"{', '.join(self.columns)} {self.rule}: {self.rows} {noun}, first " + "; ".join(
            self.examples
        )


@dataclass(frozen=True)
class _Rule:
    columns: tuple[str, ...]
    text: str
    broken: pl.Expr


def validate(
    frame: pl.DataFrame,
    table: Table,
    *,
    day: date | None = None,
    exists: Exists | None = None,
) -> pl.DataFrame:
    """Return `frame` as it may be written to `table`; raise InvalidRowsError where it may not.

    The result has the registry's columns in the registry's order and types (see `conform`).
    Checked are nulls, NaN and infinity, ranges, permitted texts, that the key is unique within
    the frame, that each row is of `day` where one is given, and, where `exists` is given, that
    references stand. The error lists every broken rule with the number of rows and the first few.
    """
    frame = conform(frame, table)
    found = violations(frame, table, day=day, exists=exists)
    if found:
        _refuse(table, day, [str(violation) for violation in found])
    return frame


def conform(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Return `frame` with the columns of `table` in its order and types.

    Columns are matched by name, never by place. Only casts that keep every value are made:
    between whole numbers, from whole to real (up to 2^53), from shorter to longer reals, from
    categories to text, a moment from another time zone or unit. Raises InvalidRowsError for
    missing or unknown columns and for any other difference of type.
    """
    missing = [name for name in table.schema if name not in frame.columns]
    unknown = [name for name in frame.columns if name not in table.schema]
    problems = []
    if missing:
        problems.append(f"missing columns: {', '.join(missing)}")
    if unknown:
        problems.append(f"unknown columns: {', '.join(unknown)}")
    if problems:
        _refuse(table, None, problems)
    cast: list[pl.Series] = []
    for column in table.columns:
        try:
            cast.append(_cast(frame.get_column(column.name), column))
        except _TypeDiffersError as error:
            problems.append(str(error))
    if problems:
        _refuse(table, None, problems)
    return pl.DataFrame(cast)


def violations(
    frame: pl.DataFrame,
    table: Table,
    *,
    day: date | None = None,
    exists: Exists | None = None,
) -> list[Violation]:
    """Every rule of `table` that `frame` breaks; `frame` must have passed `conform`.

    Asset checks use it to report on what is published; `validate` refuses what is not.
    """
    if frame.is_empty():
        return []
    rules = _rules(table, day)
    counts = frame.select(
        rule.broken.sum().alias(str(number)) for number, rule in enumerate(rules)
    ).row(0)
    found = [
        Violation(rule.columns, rule.text, count, _examples(frame, table, rule))
        for rule, count in zip(rules, counts, strict=True)
        if count
    ]
    if exists is not None:
        for reference in table.references:
            found += _dangling(frame, table, reference, exists)
    return found


def _rules(table: Table, day: date | None) -> list[_Rule]:
    rules: list[_Rule] = []
    for column in table.columns:
        rules += _column_rules(column)
    if day is not None and table.by_day:
        rules.append(_Rule(("day",), f"must be {day}", pl.col("day") != day))
    key = pl.struct(table.key) if len(table.key) > 1 else pl.col(table.key[0])
    rules.append(_Rule(table.key, "is the key and must be unique", key.is_duplicated()))
    return rules


def _column_rules(column: Column) -> list[_Rule]:
    value = pl.col(column.name)
    rules: list[tuple[str, pl.Expr]] = []
    if not column.nullable:
        rules.append(("must not be null", value.is_null()))
    finite = pl.lit(True)
    if column.dtype.is_float():
        finite = value.is_finite()
        rules.append(("must be finite (a missing value is null, not NaN)", ~finite))
    unit = f" {column.unit}" if column.unit else ""
    if column.minimum is not None:
        rules.append(
            (f"must be at least {column.minimum}{unit}", finite & (value < column.minimum))
        )
    if column.maximum is not None:
        rules.append((f"must be at most {column.maximum}{unit}", finite & (value > column.maximum)))
    if column.allowed is not None:
        words = ", ".join(column.allowed)
        rules.append((f"must be one of {words}", ~value.is_in(list(column.allowed))))
    return [_Rule((column.name,), text, broken) for text, broken in rules]


def _dangling(
    frame: pl.DataFrame, table: Table, reference: Reference, exists: Exists
) -> list[Violation]:
    columns = list(reference.columns)
    values = frame.select(columns).drop_nulls().unique()
    if values.is_empty():
        return []
    missing = values.join(exists(reference, values), on=columns, how="anti")
    if missing.is_empty():
        return []
    rows = frame.with_row_index("__row").join(missing, on=columns, how="semi").sort("__row")
    text = f"must stand in table {reference.table}"
    return [
        Violation(reference.columns, text, rows.height, _describe(rows, table, reference.columns))
    ]


def _examples(frame: pl.DataFrame, table: Table, rule: _Rule) -> tuple[str, ...]:
    rows = frame.with_row_index("__row").filter(rule.broken)
    return _describe(rows, table, rule.columns)


def _describe(rows: pl.DataFrame, table: Table, columns: Sequence[str]) -> tuple[str, ...]:
    """The first rows in words: number, offending values, then the key to find them by."""
    shown = list(dict.fromkeys((*columns, *table.key)))
    return tuple(
        f"row {row['__row']} ({', '.join(f'{name}={_short(row[name])}' for name in shown)})"
        for row in rows.head(EXAMPLES).select("__row", *shown).iter_rows(named=True)
    )


def _short(value: object) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = "null" if value is None else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


class _TypeDiffersError(Exception):
    pass


def _cast(series: pl.Series, column: Column) -> pl.Series:
    """`series` in the column's type; _TypeDiffersError where a value could change on the way."""
    target, given = column.dtype, series.dtype
    if given == target:
        return series
    lossless = (
        given == pl.Null
        or (target.is_integer() and given.is_integer() and _fits_int64(series))
        or (target.is_float() and given.is_float())
        or (target.is_float() and given.is_integer() and _fits_float64(series))
        or (target == pl.String and isinstance(given, pl.Categorical | pl.Enum))
        or (target.is_temporal() and _same_moments(series, target))
    )
    if not lossless:
        raise _TypeDiffersError(
            f"{column.name} is {given}, must be {target} and cannot be cast without loss"
        )
    if isinstance(target, pl.Datetime) and target.time_zone and given != pl.Null:
        series = series.dt.convert_time_zone(target.time_zone)
    return series.cast(target)


def _fits_int64(series: pl.Series) -> bool:
    return bool(series.dtype != pl.UInt64 or (series <= 2**63 - 1).all())


def _fits_float64(series: pl.Series) -> bool:
    return bool(((series <= _WHOLE_IN_FLOAT) & (series >= -_WHOLE_IN_FLOAT)).all())


def _same_moments(series: pl.Series, target: pl.DataType) -> bool:
    given = series.dtype
    if not isinstance(given, pl.Datetime) or not isinstance(target, pl.Datetime):
        return False
    if (given.time_zone is None) != (target.time_zone is None):
        return False
    units = pl.Datetime(target.time_unit, given.time_zone)
    return series.cast(units).cast(given).equals(series)


def _refuse(table: Table, day: date | None, problems: Sequence[str]) -> None:
    where = f"table {table.name}" + (f", day {day}" if day else "")
    lines = "\n".join(f"  - {problem}" for problem in problems)
    raise InvalidRowsError(
        f"{where}: the rows do not fit the schema registry, nothing was written.\n{lines}\n"
        f"Correct what makes these rows (asset {table.asset}); the rules stand in "
        "docs/data-dictionary.md."
    )
