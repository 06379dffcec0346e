"""What all assets share: days of a run, metadata worth looking at, failures.

Policies that concern every asset (owners, kinds, groups, column schemas) are applied once, in
`with_policies`.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.lake import TABLES
from fall_assets.lake.dictionary import comment
from fall_assets.lake.registry import Table
from fall_assets.lineage import code_version
from fall_assets.pipeline.work import Work
from fall_assets.resources.site import SiteResource

OWNERS = ["team:fall-detection"]
SINGLE_RUN = dg.BackfillPolicy.single_run()
Metadata = dict[str, Any]


def days_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[date]:
    """The days that the run is for."""
    return [date.fromisoformat(key) for key in context.partition_keys]


@contextmanager
def working(context: dg.AssetExecutionContext, site: SiteResource) -> Iterator[Work]:
    """Work in the name of this run; a permanent failure is not tried again."""
    try:
        yield Work(site.site(), site.lake(), context.run_id, code_version(), context.log.info)
    except PermanentFailureError as failure:
        raise dg.Failure(str(failure), allow_retries=False) from failure


def row_metadata(frame: pl.DataFrame, by: Sequence[str] = ()) -> Metadata:
    """Row count of a table's new rows, and counts by some columns."""
    counts: Metadata = {"dagster/row_count": frame.height}
    for column in by:
        counts[f"by {column}"] = dg.MetadataValue.md(_counts(frame, column))
    return counts


def picture(png: bytes | None) -> dg.MarkdownMetadataValue:
    """A picture for the UI; a line of text where there is nothing to show."""
    if not png:
        return dg.MetadataValue.md("nothing to show")
    kind = "png" if png.startswith(b"\x89PNG") else "jpeg"
    return dg.MetadataValue.md(
        f"![picture](data:image/{kind};base64,{base64.b64encode(png).decode()})"
    )


def markdown_table(rows: Sequence[Mapping[str, object]]) -> dg.MarkdownMetadataValue:
    """A few rows as a table for the UI."""
    if not rows:
        return dg.MetadataValue.md("no rows")
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in head) + " |" for row in rows]
    return dg.MetadataValue.md("\n".join(lines))


def with_policies(
    assets: Sequence[dg.AssetsDefinition],
) -> list[dg.AssetsDefinition]:
    """Apply to every asset what holds for all: owners, kinds, group, tables, column schema."""

    def apply(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        tables = [table for table in TABLES.values() if table.asset == name]
        if not tables:
            raise dg.DagsterInvalidDefinitionError(f"asset {name} writes no registered table")
        main = next((table for table in tables if table.name == name), tables[0])
        return spec.replace_attributes(
            group_name=main.stage,
            owners=OWNERS,
            description=spec.description or main.meaning,
            kinds={"deltalake", *(spec.kinds or {"polars"})},
        ).merge_attributes(
            metadata={
                "dagster/column_schema": column_schema(main),
                "dagster/table_name": main.name,
                "tables": ", ".join(table.name for table in tables),
            }
        )

    return [asset.map_asset_specs(apply) for asset in assets]


def column_schema(table: Table) -> dg.TableSchema:
    """The registry's columns as the UI shows them."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                name=column.name,
                type=column.dtype.base_type().__name__.lower(),
                description=comment(column),
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, unique=table.key == (column.name,)
                ),
            )
            for column in table.columns
        ]
    )


def _counts(frame: pl.DataFrame, column: str) -> str:
    counts = frame.group_by(column).len().sort("len", column, descending=[True, False])
    lines = [f"| {column} | rows |", "|---|---|"]
    lines += [f"| {_cell(value)} | {count} |" for value, count in counts.iter_rows()]
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
