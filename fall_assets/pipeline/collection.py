"""Collection: footage and telemetry come in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl

from fall_assets.footage.cameras import read_cameras
from fall_assets.footage.discovery import days_with_footage
from fall_assets.footage.intake import take_in
from fall_assets.footage.telemetry import read_telemetry
from fall_assets.footage.template import PathTemplate
from fall_assets.pipeline.work import Work


@dataclass(frozen=True)
class Collected:
    """What one day brought: rows of `videos` and of `quarantine`."""

    videos: pl.DataFrame
    quarantine: pl.DataFrame


def refresh_cameras(work: Work) -> pl.DataFrame:
    """Write the configured cameras; cameras that were only seen stay as they are."""
    configured = read_cameras(work.site.landing)
    work.lake.upsert("cameras", configured, work.provenance())
    return work.lake.read("cameras")


def footage_days(work: Work) -> list[date]:
    """The days for which footage lies in the landing folder."""
    return days_with_footage(work.site.landing, PathTemplate(work.site.settings.footage.template))


def collect(work: Work, day: date) -> Collected:
    """Take in the day's segments; what cannot be used is quarantined with a reason."""
    others = work.lake.read("videos", columns=["day", "video_id", "path"])
    known = others.filter(pl.col("day") != day)
    taken = take_in(
        work.site.landing,
        PathTemplate(work.site.settings.footage.template),
        day,
        known=dict(zip(known["video_id"], known["path"], strict=True)),
        cameras=work.lake.read("cameras"),
        previous_quarantine=work.lake.read("quarantine", days=[day]),
        settle_s=work.site.settings.footage.settle_s,
        workers=work.site.settings.features.workers,
        now=datetime.now(UTC),
        progress=work.progress(f"{day}: segments probed"),
    )
    work.lake.append("cameras", taken.cameras, work.provenance(), skip_existing=True)
    work.lake.replace_partition("videos", day, taken.videos, work.provenance(day))
    work.lake.replace_partition("quarantine", day, taken.quarantine, work.provenance(day))
    return Collected(taken.videos, taken.quarantine)


def collect_health(work: Work, day: date) -> pl.DataFrame:
    """Take in the telemetry that the cameras' boxes left beside the footage."""
    health, problems = read_telemetry(work.site.landing, day)
    for problem in problems:
        work.log(problem)
    work.lake.replace_partition("camera_health", day, health, work.provenance(day))
    return health
