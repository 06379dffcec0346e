"""Checks on what holds now, whatever day is made.

They belong to no day and block nothing: a check on a partitioned asset that blocks must be by day
(see `quality`).
"""

from datetime import UTC, datetime

import dagster as dg

from fall_assets.assets.support import markdown_table
from fall_assets.monitoring.problems import URGENT, has_ended
from fall_assets.pipeline.health import has_telemetry, look_at_cameras
from fall_assets.pipeline.work import Work
from fall_assets.resources.site import SiteResource

_BAD = ("stale", "off", "dead", "blind", "frozen")


@dg.asset_check(asset="camera_health")
def every_camera_reports_now(site: SiteResource) -> dg.AssetCheckResult:
    """Cameras of which nothing is heard now, or that see nothing, by their own newest report.

    The time that counts is that of the telemetry: making an old day again changes nothing.
    """
    work = Work(site.site(), site.lake())
    if not has_telemetry(work):
        return dg.AssetCheckResult(
            passed=True, description="no box ever reported: nothing is known of the cameras"
        )
    cameras = look_at_cameras(work, datetime.now(UTC))
    wrong = [one for one in cameras if one.expected and one.state != "ok"]
    bad = [one for one in wrong if one.state in _BAD]
    shown = [
        {
            "camera": one.camera_id,
            "ward": one.ward,
            "room": one.room,
            "state": one.state,
            "since": one.since_utc,
            "why": one.detail,
            "what to do": one.advice,
        }
        for one in wrong
    ]
    told = "; ".join(f"{one.camera_id}: {one.state}, {one.advice}" for one in wrong[:20])
    return dg.AssetCheckResult(
        passed=not wrong,
        severity=dg.AssetCheckSeverity.ERROR if bad else dg.AssetCheckSeverity.WARN,
        description=told or "every camera reports, and sees something",
        metadata={
            "cameras": len(cameras),
            "heard of": sum(one.freshness == "fresh" for one in cameras),
            "what to do": markdown_table(shown),
        },
    )


@dg.asset_check(asset="site_health")
def nothing_is_wrong(site: SiteResource) -> dg.AssetCheckResult:
    """Open problems of cameras, disk, runs and gateway; urgent ones are errors."""
    now = datetime.now(UTC)
    settle_min = site.site().settings.technician.settle_min
    rows = [
        row
        for row in site.lake().read("site_health").sort("found_utc").iter_rows(named=True)
        if not has_ended(row, now, settle_min) and row["gone_utc"] is None
    ]
    urgent = [row for row in rows if row["kind"] in URGENT]
    shown = [
        {name: row[name] for name in ("since_utc", "ward", "sentence", "advice")} for row in rows
    ]
    return dg.AssetCheckResult(
        passed=not rows,
        severity=dg.AssetCheckSeverity.ERROR if urgent else dg.AssetCheckSeverity.WARN,
        description="; ".join(row["sentence"] for row in rows[:20]) or "nothing is wrong",
        metadata={"problems": len(rows), "urgent": len(urgent), "which": markdown_table(shown)},
    )
