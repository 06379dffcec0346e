from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fall_assets.lake import TABLES
from fall_assets.lake.dictionary import arrow_schema, describe, markdown

REPOSITORY = Path(__file__).parents[2]


def test_the_data_dictionary_in_the_docs_is_that_of_the_registry() -> None:
    written = (REPOSITORY / "docs" / "data-dictionary.md").read_text(encoding="utf-8")
    assert written == markdown(), "run: python -m fall_assets.lake.dictionary"


@pytest.mark.parametrize("table", TABLES)
def test_the_dictionary_tells_every_table_and_column(table: str) -> None:
    section = markdown().split(f"\n### {table}\n")[1].split("\n### ")[0]
    assert TABLES[table].meaning in section
    for column in TABLES[table].columns:
        assert f"\n| `{column.name}` | " in section
        assert column.meaning in section


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_described_column_by_column(table: str) -> None:
    described = describe(table)
    assert [row["column"] for row in described] == list(TABLES[table].schema)
    for row, column in zip(described, TABLES[table].columns, strict=True):
        assert row["meaning"] == column.meaning
        assert ("optional" in row["type"]) == column.nullable


@pytest.mark.parametrize("table", TABLES)
def test_the_arrow_schema_is_that_of_the_registry(table: str) -> None:
    import polars as pl

    schema = arrow_schema(table)
    assert pl.DataFrame(schema.empty_table()).schema == TABLES[table].schema
    for field, column in zip(schema, TABLES[table].columns, strict=True):
        assert field.nullable == column.nullable
        assert field.metadata[b"meaning"].decode() == column.meaning
        assert field.metadata.get(b"unit", b"").decode() == (column.unit or "")


def test_every_reference_and_key_of_the_registry_names_columns() -> None:
    for table in TABLES.values():
        assert set(table.key) <= set(table.schema)
        assert table.by_day == ("day" in table.schema)
        assert not any(table.column(name).nullable for name in table.key)
        for reference in table.references:
            target = TABLES[reference.table].schema
            for name in reference.columns:
                assert table.schema[name] == target[name]


def test_importing_the_registry_and_the_lake_stays_cheap() -> None:
    script = (
        "import sys, fall_assets.lake\n"
        "assert not {'deltalake', 'duckdb', 'pyarrow'} & set(sys.modules)\n"
        "from fall_assets.lake import Lake\n"
        "assert not {'duckdb', 'pyarrow', 'torch', 'mlflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=REPOSITORY)
