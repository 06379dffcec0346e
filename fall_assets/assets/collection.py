"""Collection: cameras, videos and what was left out."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from fall_assets.assets.support import SINGLE_RUN, days_of, row_metadata, working
from fall_assets.partitions import DAYS
from fall_assets.pipeline.collection import RETRY_TAG, collect, refresh_cameras
from fall_assets.resources.site import SiteResource


@dg.asset(kinds={"csv"})
def cameras(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """Every camera of the site: its ward, room and view."""
    with working(context, site) as work:
        rows = refresh_cameras(work)
    return dg.MaterializeResult(metadata=row_metadata(rows, by=["ward", "view"]))


@dg.multi_asset(
    specs=[
        dg.AssetSpec("videos", deps=[cameras], kinds={"ffmpeg"}),
        dg.AssetSpec("quarantine", deps=[cameras], kinds={"ffmpeg"}),
    ],
    partitions_def=DAYS,
    backfill_policy=SINGLE_RUN,
)
def intake(
    context: dg.AssetExecutionContext, site: SiteResource
) -> Iterator[dg.MaterializeResult[None]]:
    """Take in the segments of each day; what cannot be used is quarantined with a reason."""
    with working(context, site) as work:
        retry = context.has_tag(RETRY_TAG)
        taken = [collect(work, day, retry=retry) for day in days_of(context)]
    videos = pl.concat([day.videos for day in taken])
    quarantine = pl.concat([day.quarantine for day in taken])
    sightings = pl.concat([day.sightings for day in taken])
    yield dg.MaterializeResult(
        asset_key="videos",
        metadata={
            **row_metadata(videos, by=["dataset", "camera_id"]),
            "hours": round(float(videos["duration_s"].sum()) / 3600, 3),
            "bytes": int(videos["bytes"].sum()),
            "names": sightings.height,
            "names that are gone": sightings["gone_utc"].count(),
        },
    )
    yield dg.MaterializeResult(
        asset_key="quarantine", metadata=row_metadata(quarantine, by=["reason", "action"])
    )
