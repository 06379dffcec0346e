"""Labelling: labels from label files, and clips cut from labels."""

import dagster as dg
import polars as pl

from fall_assets.assets.support import (
    SINGLE_RUN,
    days_of,
    markdown_table,
    picture,
    row_metadata,
    working,
)
from fall_assets.automation.conditions import when_upstream_changed
from fall_assets.partitions import DAYS
from fall_assets.pipeline.labelling import contact_sheet, cut, label
from fall_assets.resources.site import SiteResource


@dg.asset(
    deps=["videos"],
    partitions_def=DAYS,
    backfill_policy=SINGLE_RUN,
    automation_condition=when_upstream_changed(),
)
def labels(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """Labelled intervals under one taxonomy; impossible lines are listed and left out."""
    with working(context, site) as work:
        reading = label(work, days_of(context))
    return dg.MaterializeResult(
        metadata={
            **row_metadata(reading.labels, by=["label", "source"]),
            "problems": reading.problems.height,
            "problem lines": markdown_table(reading.problems.head(50).to_dicts()),
            "lines of absent files": reading.absent_files,
        }
    )


@dg.asset(
    deps=["labels", "videos"],
    partitions_def=DAYS,
    backfill_policy=SINGLE_RUN,
    automation_condition=when_upstream_changed(),
)
def clips(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """Labelled windows of 4 s: what a model is trained and evaluated on."""
    with working(context, site) as work:
        rows = pl.concat([cut(work, day) for day in days_of(context)])
        sheet = contact_sheet(work, rows)
    return dg.MaterializeResult(
        metadata={
            **row_metadata(rows, by=["label", "target", "dataset"]),
            "split groups": rows["split_group"].n_unique(),
            "contact sheet": picture(sheet),
        }
    )
