"""Labelling: zones, labels from label files, clips cut from labels, what to label next."""

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
from fall_assets.automation.conditions import when_any_day_changed, when_upstream_changed
from fall_assets.partitions import DAYS
from fall_assets.pipeline.labelling import agree, contact_sheet, cut, label, refresh_zones
from fall_assets.pipeline.review import build_review_queue, label_automatically
from fall_assets.resources.site import SiteResource


@dg.asset(deps=["cameras"], kinds={"csv"})
def zones(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """Rooms and zones that cameras see, each for a period of time."""
    with working(context, site) as work:
        rows = refresh_zones(work)
    return dg.MaterializeResult(metadata=row_metadata(rows, by=["kind", "camera_id"]))


@dg.asset(
    deps=["videos", "edge_alerts"],
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
            "conflicts": reading.conflicts.height,
            "conflicts undecided": reading.conflicts["decided"].null_count(),
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


@dg.asset(deps=["labels"], automation_condition=when_any_day_changed())
def label_agreement(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """How far each two annotators agree: Cohen's kappa by time, and temporal overlap."""
    with working(context, site) as work:
        agreement = agree(work)
    overall = agreement.rows.filter(pl.col("label") == "all")
    return dg.MaterializeResult(
        metadata={
            **row_metadata(agreement.rows),
            "pairs": markdown_table(overall.to_dicts()),
            "agreement": picture(agreement.plot),
        }
    )


@dg.asset(
    deps=["predictions"],
    partitions_def=DAYS,
    backfill_policy=SINGLE_RUN,
    automation_condition=when_upstream_changed(),
)
def automatic_labels(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """What the champion says of each day, with its confidence; it teaches, it never judges."""
    with working(context, site) as work:
        rows = pl.concat([label_automatically(work, day) for day in days_of(context)])
    return dg.MaterializeResult(metadata=row_metadata(rows, by=["label", "model_version"]))


@dg.asset(
    deps=["labels", "predictions", "alerts", "drift_report", "drift_answers"],
    automation_condition=when_any_day_changed(),
)
def review_queue(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """What a person should label next, and why."""
    with working(context, site) as work:
        rows = build_review_queue(work)
    shown = rows.head(20).select("rank", "camera_id", "start_utc", "suggested_label", "reason")
    return dg.MaterializeResult(
        metadata={**row_metadata(rows, by=["camera_id"]), "next": markdown_table(shown.to_dicts())}
    )
