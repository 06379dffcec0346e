"""The site's health: what is wrong now with cameras, disk and runs, and who was told."""

from datetime import UTC, datetime

import dagster as dg

from fall_assets.assets.support import markdown_table, row_metadata, working
from fall_assets.monitoring.disk import days_until_full
from fall_assets.pipeline.health import keep_health
from fall_assets.resources.instance import assets_by_day, run_figures
from fall_assets.resources.site import SiteResource


@dg.asset(deps=["camera_health", "upkeep"])
def site_health(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """What was and is wrong with cameras, disk, runs and gateway; the technician is told."""
    with working(context, site) as work:
        settings = work.site.settings.health
        runs = run_figures(context.instance, assets_by_day(), settings, datetime.now(UTC))
        kept = keep_health(work, runs)
    shown = kept.open.select("since_utc", "ward", "sentence", "advice").to_dicts()
    cameras = [
        {
            "camera": camera.camera_id,
            "ward": camera.ward,
            "state": camera.state,
            "since": camera.since_utc,
            "heard of": camera.last_utc,
            "why": camera.detail,
        }
        for camera in kept.cameras
    ]
    tables = [
        {"table": name, "MB": use.size / 1e6, "files": use.files, "MB a day": _mb(use.growth)}
        for name, use in sorted(kept.storage.items(), key=lambda one: -one[1].size)
    ]
    return dg.MaterializeResult(
        metadata={
            **row_metadata(kept.open, by=["kind"]),
            "what is wrong": markdown_table(shown),
            "cameras": markdown_table(cameras),
            "told": [title for title, _ in kept.told],
            "not delivered": markdown_table(
                [{"what": title, "why": why} for title, why in kept.failed]
            ),
            "disk free": f"{kept.disk.free_share:.0%} of {kept.disk.total / 1e9:.0f} GB",
            "days until the disk is full": _days(days_until_full(kept.disk.free, kept.filling)),
            "tables": markdown_table(tables),
            "failed days": dg.MetadataValue.json(
                {asset: list(days) for asset, days in runs.partitions.items()}
            ),
            "failed runs": dg.MetadataValue.json(dict(runs.failed)),
        }
    )


def _mb(size: float | None) -> float | None:
    return None if size is None else size / 1e6


def _days(days: float | None) -> str:
    return "not known, or it does not fill" if days is None else f"{days:.0f}"
