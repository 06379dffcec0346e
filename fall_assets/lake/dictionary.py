"""The schema registry in words and as Arrow schemas: what people and other tools read.

What belongs here: descriptions made from the registry alone. What does not: anything that opens a
lake. `python -m fall_assets.lake.dictionary` writes docs/data-dictionary.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import polars as pl

from fall_assets.lake.registry import TABLES, Column, Stage, Table
from fall_assets.lake.registry import table as describe_table

if TYPE_CHECKING:
    import pyarrow as pa

_WORDS: Mapping[pl.DataType, str] = {
    pl.String(): "text",
    pl.Int64(): "whole",
    pl.Float64(): "real",
    pl.Boolean(): "flag",
    pl.Date(): "day",
    pl.Datetime("us", "UTC"): "moment",
    pl.Binary(): "bytes",
}

_INTRODUCTION = """\
# Data dictionary

Made from `fall_assets/lake/registry.py` by `python -m fall_assets.lake.dictionary`; do not edit.

Every table is a Delta table below `tables/` in the lake. Types: text (UTF-8), whole (64-bit
integer), real (64-bit float, never NaN or infinite), flag (true or false), day (date), moment
(UTC, microseconds), bytes. A column may be null only where it says *optional*. Rows that break a
rule are refused before they are committed. In a table by day, each day is replaced as a whole, the
key is unique within the day, and references to another table by day stand on the same day.
"""


def comment(column: Column) -> str:
    """A column's meaning with its unit, in one line."""
    return f"{column.meaning} [{column.unit}]" if column.unit else column.meaning


def describe(table: str) -> list[dict[str, str]]:
    """The columns of a table for printing: column, type, unit, values, meaning; all texts.

    Raises KeyError, naming the tables there are, for an unknown one.
    """
    described = describe_table(table)
    return [
        {
            "column": column.name,
            "type": _WORDS[column.dtype] + (", optional" if column.nullable else ""),
            "unit": column.unit or "",
            "values": _values(column),
            "meaning": column.meaning,
        }
        for column in described.columns
    ]


def arrow_schema(table: str) -> pa.Schema:
    """The table's Arrow schema; each field carries its meaning and unit as metadata.

    Raises KeyError, naming the tables there are, for an unknown one.
    """
    import pyarrow as pa

    types = {
        pl.String(): pa.string(),
        pl.Int64(): pa.int64(),
        pl.Float64(): pa.float64(),
        pl.Boolean(): pa.bool_(),
        pl.Date(): pa.date32(),
        pl.Datetime("us", "UTC"): pa.timestamp("us", "UTC"),
        pl.Binary(): pa.binary(),
    }
    described = describe_table(table)
    return pa.schema(
        [
            pa.field(
                column.name,
                types[column.dtype],
                nullable=column.nullable,
                metadata={"meaning": column.meaning}
                | ({"unit": column.unit} if column.unit else {}),
            )
            for column in described.columns
        ],
        metadata={"meaning": described.meaning},
    )


def markdown() -> str:
    """The data dictionary of all tables, by stage, in Markdown."""
    parts = [_INTRODUCTION]
    for stage in get_args(Stage):
        tables = [table for table in TABLES.values() if table.stage == stage]
        if tables:
            parts.append(f"## {stage.capitalize()}\n")
            parts += [_section(table) for table in tables]
    return "\n".join(parts)


def _section(table: Table) -> str:
    facts = [
        f"Written by asset `{table.asset}`" + (", by day" if table.by_day else ""),
        f"Key: {', '.join(f'`{name}`' for name in table.key)}",
        *(
            f"{', '.join(f'`{name}`' for name in reference.columns)} refers to "
            f"[`{reference.table}`](#{reference.table})"
            for reference in table.references
        ),
    ]
    rows = describe(table.name)
    header = ("column", "type", "unit", "values", "meaning")
    lines = [_line(header), _line("---" for _ in header)]
    for row in rows:
        cells = [row[name] for name in header]
        lines.append(_line([f"`{cells[0]}`", *(_escaped(cell) for cell in cells[1:])]))
    return "\n".join(
        [f"### {table.name}\n", f"{table.meaning}\n", f"{'. '.join(facts)}.\n", *lines, ""]
    )


def _values(column: Column) -> str:
    if column.allowed is not None:
        return ", ".join(column.allowed)
    low, high = column.minimum, column.maximum
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is not None:
        return f"at least {low:g}"
    return f"at most {high:g}" if high is not None else ""


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write docs/data-dictionary.md of the checkout that this module lies in."""
    path = Path(__file__).parents[2] / "docs" / "data-dictionary.md"
    path.write_text(markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
