"""What a person reads at the end of a run. What belongs here: wording of figures in the lake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

import polars as pl

from fall_assets.lake import Lake
from fall_assets.site import Site


def summary(site: Site, lake: Lake, days: Sequence[date]) -> Iterator[str]:
    """Lines of the state of the lake after a run over `days`."""
    wanted = list(days)
    videos = lake.read("videos", days=wanted)
    aside = lake.read("quarantine", days=wanted)
    reasons = _counts(aside, "reason")
    hours = float(videos["duration_s"].sum()) / 3600
    cameras = videos["camera_id"].n_unique()
    yield f"segments taken in: {videos.height} ({hours:.2f} h, {cameras} cameras)"
    yield f"set aside:         {aside.height}{f' ({reasons})' if reasons else ''}"
    clips = lake.read("clips", days=wanted)
    yield f"clips per label:   {_counts(clips, 'label')}"
    yield f"                   {_counts(clips.with_columns(target=_TARGET), 'target')}"
    yield from _model(lake)
    packages = lake.read("edge_package").sort("sequence")
    if packages.height:
        package = packages.row(-1, named=True)
        yield (
            f"package for boxes: {package['sequence']} of version {package['model_version']}, "
            f"{package['archive_bytes'] / 1e6:.0f} MB ({package['archive']})"
        )
    alerts = lake.read("alerts", days=wanted)
    yield f"alerts raised:     {alerts.height} over {len(wanted)} days"
    reports = lake.read("drift_report", days=wanted).sort("day")
    if reports.height:
        newest = reports.row(-1, named=True)
        yield f"drift on {newest['day']}: {newest['verdict']}"
    yield f"lake:              {site.lake_root} (try: .venv/bin/fall-assets tables)"
    footage = "" if site.is_simulated else f" FOOTAGE={site.landing}"
    yield f"open the UI:       make dev{footage} (then http://127.0.0.1:3000)"


_TARGET = (
    pl.when(pl.col("target") == 1)
    .then(pl.lit("with a fall"))
    .when(pl.col("target") == 0)
    .then(pl.lit("without"))
    .otherwise(pl.lit("uncertain"))
)


def _model(lake: Lake) -> Iterator[str]:
    registered = lake.read("registered_model").sort("registered_utc")
    if registered.height:
        newest = registered.row(-1, named=True)
        yield (
            f"model registered:  version {newest['model_version']} as {newest['alias']} "
            f"(run {newest['run_id']})"
        )
    else:
        yield "model registered:  none"
    rows = lake.read("evaluation").filter(pl.col("slice") == "all", pl.col("role") == "candidate")
    if rows.is_empty():
        return
    row = rows.sort("evaluated_utc").row(-1, named=True)
    hours = row["camera_days"] * 24
    yield (
        f"false alarms:      {_figure(row['false_alarms_per_camera_day'], '.1f')} per camera-day "
        f"({row['false_alarms']} in {hours:.2f} h of labelled footage, cross-validated)"
    )
    yield (
        f"event sensitivity: {_figure(row['sensitivity'], '.3f')} "
        f"({row['found']} of {row['falls']} falls, 95 % interval "
        f"{_figure(row['sensitivity_low'], '.3f')} to {_figure(row['sensitivity_high'], '.3f')})"
    )
    yield (
        f"detection delay:   median {_figure(row['delay_median_s'], '.2f')} s, "
        f"95th percentile {_figure(row['delay_p95_s'], '.2f')} s"
    )


def _figure(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)


def _counts(frame: pl.DataFrame, column: str) -> str:
    counts = frame.group_by(column).len().sort("len", column, descending=[True, False])
    return ", ".join(f"{value} {count}" for value, count in counts.iter_rows())
