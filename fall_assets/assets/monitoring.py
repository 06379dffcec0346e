"""Monitoring: what is ordinary, how each day differs from it, and what the lake takes."""

from dataclasses import asdict
from datetime import UTC, datetime

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
from fall_assets.automation.conditions import (
    when_learning_material_changed,
    when_upstream_changed,
)
from fall_assets.lake.registry import table
from fall_assets.partitions import DAYS
from fall_assets.pipeline.maintenance import maintain_lake
from fall_assets.pipeline.monitoring import keep_reference, report_drift
from fall_assets.pipeline.profiles import make_profile
from fall_assets.resources.site import SiteResource


@dg.asset(
    deps=[
        "videos",
        "features",
        "sequences",
        "motion_gate",
        "predictions",
        "alerts",
        "camera_health",
    ],
    partitions_def=DAYS,
    backfill_policy=SINGLE_RUN,
    automation_condition=when_upstream_changed(),
)
def camera_profile(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """What each camera's hours were like: picture, people, scores, and facts of the camera."""
    with working(context, site) as work:
        made = [make_profile(work, day) for day in days_of(context)]
    rows = pl.concat([one.profile for one in made])
    facts = pl.concat([one.facts for one in made]).filter(pl.col("share") > 0.5)
    return dg.MaterializeResult(
        metadata={
            **row_metadata(rows, by=["camera_id"]),
            "facts": markdown_table(
                facts.group_by("fact", "value")
                .agg(pl.col("camera_id").n_unique().alias("cameras"))
                .sort("fact", "cameras", "value", descending=[False, True, False])
                .to_dicts()
            ),
            "scenes": sum(one.scenes.height for one in made),
        }
    )


@dg.asset(
    deps=["registered_model", "camera_profile"],
    automation_condition=when_learning_material_changed(),
)
def drift_reference(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """Which camera-days are ordinary: four weeks of each camera until the champion learned."""
    with working(context, site) as work:
        rows = keep_reference(work)
    return dg.MaterializeResult(
        metadata=row_metadata(rows, by=["model_version", "camera_id", "regime"])
    )


@dg.asset(
    deps=["drift_reference", "camera_profile"],
    partitions_def=DAYS,
    backfill_policy=SINGLE_RUN,
    automation_condition=when_upstream_changed(),
    kinds={"polars"},
)
def drift_report(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """Whether the day differs from what the champion learned, and how, in words and a page."""
    with working(context, site) as work:
        days = [report_drift(work, day) for day in days_of(context)]
        page = str(work.lake.resolve(days[-1].page))
    reports = pl.concat([day.judgement.report for day in days])
    causes = pl.concat([day.judgement.causes for day in days])
    newest = days[-1]
    return dg.MaterializeResult(
        metadata={
            **row_metadata(reports, by=["drifted"]),
            "verdict": newest.judgement.verdict,
            "report": dg.MetadataValue.path(page),
            "verdicts": markdown_table(reports.select("day", "verdict").to_dicts()),
            "causes": markdown_table(
                causes.select(
                    "day", "camera_id", "cause", "since", "confirmed", "p_value", "words"
                ).to_dicts()
            ),
            "what changed": picture(newest.plot),
        }
    )


@dg.asset(deps=["features", "pose_tracks", "sequences"])
def upkeep(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """What maintenance did to each table: small files joined, old ones removed, what it takes."""
    with working(context, site) as work:
        done = [asdict(row) for row in maintain_lake(work)]
        rows = pl.DataFrame(
            [{"at_utc": datetime.now(UTC), **row} for row in done], schema=table("upkeep").schema
        )
        work.lake.append("upkeep", rows, work.provenance())
    names = ("table", "files_before", "files_after", "bytes_after", "rows", "bytes_per_camera_hour")
    sizes = rows.drop_nulls("bytes_per_camera_hour")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": rows.height,
            "tables": markdown_table(rows.select(names).to_dicts()),
            "files": int(rows["files_after"].sum()),
            "bytes": int(rows["bytes_after"].sum()),
            "bytes of features per camera-hour": float(sizes["bytes_per_camera_hour"].sum()),
        }
    )
