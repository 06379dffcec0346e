"""Operation: predictions, alerts, and the health of cameras."""

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
from fall_assets.pipeline.collection import collect_health
from fall_assets.pipeline.gateway import receive
from fall_assets.pipeline.operation import predict, raise_alerts
from fall_assets.resources.site import SiteResource

STILLS_SHOWN = 4


@dg.asset(
    deps=["videos", "features", "pose_tracks", "registered_model"],
    partitions_def=DAYS,
    backfill_policy=SINGLE_RUN,
    automation_condition=when_upstream_changed(),
    kinds={"pytorch"},
)
def predictions(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """The champion's score for every scored window of the day."""
    with working(context, site) as work:
        rows = pl.concat([predict(work, day) for day in days_of(context)])
    return dg.MaterializeResult(
        metadata={
            **row_metadata(rows, by=["model_version"]),
            "segments": rows["video_id"].n_unique(),
            "windows with nobody seen": int(rows["track"].null_count()),
        }
    )


@dg.asset(
    deps=["predictions", "videos", "cameras", "zones", "pose_tracks"],
    partitions_def=DAYS,
    backfill_policy=SINGLE_RUN,
    automation_condition=when_upstream_changed(),
)
def alerts(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """Events that look like a fall, told once each, with a still on which no face can be seen."""
    with working(context, site) as work:
        days = [raise_alerts(work, day) for day in days_of(context)]
        rows = pl.concat([day.alerts for day in days])
        stills = rows["still"].drop_nulls().head(STILLS_SHOWN).to_list()
        shown = {
            f"still {number}": picture(work.lake.resolve(path).read_bytes())
            for number, path in enumerate(stills, start=1)
        }
    attempts = pl.concat([day.attempts for day in days])
    columns = ["raised_utc", "kind", "ward", "room", "camera_id", "score", "model_version"]
    return dg.MaterializeResult(
        metadata={
            **row_metadata(rows, by=["camera_id", "kind"]),
            "delivered now": attempts.filter("delivered").height,
            "failed deliveries": attempts.filter(~pl.col("delivered")).height,
            "alerts": markdown_table(rows.select(columns).head(50).to_dicts()),
            **shown,
        }
    )


@dg.asset(deps=["cameras"])
def edge_alerts(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """What boxes and wards told the gateway since the last time: alerts, answers, telemetry."""
    with working(context, site) as work:
        received = receive(work)
    return dg.MaterializeResult(
        metadata={
            "new rows": dg.MetadataValue.json(dict(received.rows)),
            "days": ", ".join(map(str, sorted(received.days))) or "none",
            "gateway": work.site.settings.gateway.url or "none: set url in [gateway] of site.toml",
        }
    )


@dg.asset(
    deps=["cameras", "edge_alerts"],
    partitions_def=DAYS,
    backfill_policy=SINGLE_RUN,
    kinds={"csv"},
)
def camera_health(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """Telemetry of the cameras' boxes: processor, bandwidth, frames, the stream's state."""
    with working(context, site) as work:
        rows = pl.concat([collect_health(work, day) for day in days_of(context)])
    worst = rows.group_by("camera_id").agg(
        pl.col("cpu_percent").max().round(1).alias("highest cpu %"),
        pl.col("memory_percent").max().round(1).alias("highest memory %"),
        pl.col("bandwidth_kbps").mean().round(0).alias("mean kbit/s"),
        (pl.col("power") != "mains").sum().alias("reports not on mains"),
        pl.col("fps_measured").median().round(1).alias("median frames/s"),
        pl.col("gate_duty").mean().round(3).alias("gate open"),
        pl.col("state").last().alias("state"),
        pl.col("model_version").last().alias("model"),
        pl.col("camera_model").last().alias("camera model"),
        pl.col("firmware").last().alias("firmware"),
    )
    return dg.MaterializeResult(
        metadata={
            **row_metadata(rows, by=["power"]),
            "cameras": markdown_table(worst.sort("camera_id").to_dicts()),
        }
    )
