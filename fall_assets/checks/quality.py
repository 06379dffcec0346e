"""Checks on footage, labels, clips, features and cameras."""

import dagster as dg
import polars as pl

from fall_assets.assets.support import days_of, markdown_table
from fall_assets.features.duty import stuck_gates
from fall_assets.partitions import DAYS
from fall_assets.resources.site import SiteResource

WARN = dg.AssetCheckSeverity.WARN
MODERATE_KAPPA = 0.41


@dg.asset_check(asset="quarantine", partitions_def=DAYS)
def nothing_waits_in_quarantine(
    context: dg.AssetCheckExecutionContext, site: SiteResource
) -> dg.AssetCheckResult:
    """Files that a person must look at; each row says what to do."""
    rows = site.lake().read("quarantine", days=days_of(context))
    waiting = rows.filter(pl.col("action") == "quarantined")
    shown = waiting.select("path", "reason", "detail", "advice").head(20).to_dicts()
    return dg.AssetCheckResult(
        passed=waiting.is_empty(),
        severity=WARN,
        metadata={"files": waiting.height, "what to do": markdown_table(shown)},
    )


@dg.asset_check(asset="labels", partitions_def=DAYS)
def every_label_line_was_understood(site: SiteResource) -> dg.AssetCheckResult:
    """Lines of label files that were left out."""
    rows = site.lake().read("label_problems")
    return dg.AssetCheckResult(
        passed=rows.is_empty(),
        severity=WARN,
        metadata={"lines": rows.height, "what is wrong": markdown_table(rows.head(20).to_dicts())},
    )


@dg.asset_check(asset="labels", partitions_def=DAYS)
def no_conflict_is_undecided(
    context: dg.AssetCheckExecutionContext, site: SiteResource
) -> dg.AssetCheckResult:
    """Stretches on which annotators differ and the site's rule decides nothing."""
    rows = site.lake().read("label_conflicts", days=days_of(context))
    undecided = rows.filter(pl.col("decided").is_null())
    shown = undecided.select("camera_id", "start_s", "end_s", "said").head(20).to_dicts()
    return dg.AssetCheckResult(
        passed=undecided.is_empty(),
        severity=WARN,
        metadata={
            "conflicts": rows.height,
            "undecided": undecided.height,
            "who said what": markdown_table(shown),
        },
    )


@dg.asset_check(asset="label_agreement")
def annotators_agree(site: SiteResource) -> dg.AssetCheckResult:
    """Pairs of annotators below moderate agreement (kappa 0.41, Landis and Koch 1977)."""
    rows = site.lake().read("label_agreement").filter(pl.col("label") == "all")
    low = rows.filter(pl.col("kappa") < MODERATE_KAPPA)
    shown = low.select("annotator", "other", "kappa", "seconds").to_dicts()
    return dg.AssetCheckResult(
        passed=low.is_empty(),
        severity=WARN,
        metadata={"pairs": rows.height, "who should talk": markdown_table(shown)},
    )


@dg.asset_check(asset="features", partitions_def=DAYS, blocking=True)
def every_segment_has_features(
    context: dg.AssetCheckExecutionContext, site: SiteResource
) -> dg.AssetCheckResult:
    """Every segment that has a file was decoded; a tenth missing stops what comes after."""
    from fall_assets.pipeline.files import files_of
    from fall_assets.pipeline.work import Work

    lake, days = site.lake(), days_of(context)
    videos = lake.read("videos", days=days).filter(pl.col("deleted_utc").is_null())
    done = lake.read("features", days=days, columns=["day", "video_id"])["video_id"].unique()
    absent = videos.filter(~pl.col("video_id").is_in(done.to_list()))
    # The recorder may have deleted some since they were taken in.
    work = Work(site.site(), lake)
    footage = work.footage
    files = files_of(work, absent).items()
    there = [key for key, path in files if footage.state(path) is not None]
    missing = absent.filter(pl.col("video_id").is_in(there))
    many = missing.height * 10 > videos.height
    return dg.AssetCheckResult(
        passed=missing.is_empty(),
        severity=dg.AssetCheckSeverity.ERROR if many else WARN,
        metadata={"missing": missing.height, "segments": missing["path"].head(20).to_list()},
    )


@dg.asset_check(asset="gate_duty", partitions_def=DAYS)
def no_gate_sticks(
    context: dg.AssetCheckExecutionContext, site: SiteResource
) -> dg.AssetCheckResult:
    """Cameras whose motion gate stood open nearly all day, or never opened in half a day."""
    rows = site.lake().read("gate_duty", days=days_of(context))
    stuck = stuck_gates(rows)
    shown = stuck.select("day", "camera_id", "duty", "footage_s", "stuck").head(20).to_dicts()
    return dg.AssetCheckResult(
        passed=stuck.is_empty(),
        severity=WARN,
        metadata={
            "cameras": rows.height,
            "stuck": stuck.height,
            "which": markdown_table(shown),
            "what to do": "look at the camera's footage: an image that shakes or flickers all "
            "over keeps the gate open, a dead or frozen image never opens it "
            "(docs/motion-gate.md)",
        },
    )


@dg.asset_check(asset="training_set", blocking=True)
def no_group_lies_in_two_folds(site: SiteResource) -> dg.AssetCheckResult:
    """Segments and falls of one subject or scene are in one fold, so that nothing leaks."""
    from fall_assets.pipeline.training_sets import load_training_set
    from fall_assets.pipeline.work import Work

    manifest = load_training_set(Work(site.site(), site.lake())).manifest
    leaks = {
        column: manifest.drop_nulls(column)
        .group_by(column)
        .agg(pl.col("fold").n_unique())
        .filter(pl.col("fold") > 1)
        .height
        for column in ("split_group", "video_id", "event_id")
    }
    return dg.AssetCheckResult(
        passed=not any(leaks.values()),
        metadata={f"{column} in two folds": count for column, count in leaks.items()},
    )


@dg.asset_check(asset="training_set")
def folds_share_no_motion(site: SiteResource) -> dg.AssetCheckResult:
    """No window has a near-duplicate in another fold, which would be learned by heart."""
    from fall_assets.pipeline.evaluation import check_leakage
    from fall_assets.pipeline.training_sets import open_training_set
    from fall_assets.pipeline.work import Work

    work = Work(site.site(), site.lake())
    leakage = check_leakage(work, *open_training_set(work).read())
    return dg.AssetCheckResult(
        passed=leakage.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=leakage.text,
        metadata={"near-duplicates": len(leakage.twins), "share": leakage.share},
    )


@dg.asset_check(asset="camera_health", partitions_def=DAYS)
def every_camera_is_alive(
    context: dg.AssetCheckExecutionContext, site: SiteResource
) -> dg.AssetCheckResult:
    """Cameras of the site that reported nothing, were off, or sent no stream."""
    lake, days = site.lake(), days_of(context)
    health = lake.read("camera_health", days=days)
    if health.is_empty():
        return dg.AssetCheckResult(
            passed=True, description="no telemetry lies beside the footage of these days"
        )
    cameras = lake.read("cameras").filter(pl.col("dataset") == "site")["camera_id"]
    silent = sorted(set(cameras) - set(health["camera_id"]))
    latest = health.sort("at_utc").group_by("camera_id").last()
    off = latest.filter((pl.col("power") == "off") | (pl.col("bandwidth_kbps") <= 0))
    troubled = [*silent, *sorted(off["camera_id"])]
    return dg.AssetCheckResult(
        passed=not troubled,
        severity=WARN,
        description=f"look at {', '.join(troubled)}" if troubled else "all cameras report",
        metadata={"silent": silent, "off or without a stream": sorted(off["camera_id"])},
    )


_BLIND = ("lost", "frozen", "black", "moved")


@dg.asset_check(asset="camera_health", partitions_def=DAYS)
def no_camera_is_blind(
    context: dg.AssetCheckExecutionContext, site: SiteResource
) -> dg.AssetCheckResult:
    """Cameras whose newest report says that nothing can be seen: lost, frozen, black or moved."""
    reports = site.lake().read("camera_health", days=days_of(context)).drop_nulls("state")
    latest = reports.sort("at_utc").group_by("camera_id").last()
    blind = latest.filter(pl.col("state").is_in(_BLIND)).sort("camera_id")
    told = [
        f"{row['camera_id']} is {row['state']} since {row['since_utc']:%Y-%m-%d %H:%M} UTC"
        for row in blind.iter_rows(named=True)
    ]
    return dg.AssetCheckResult(
        passed=not told,
        severity=WARN,
        description="; ".join(told) or "every camera that a box watches is seen",
        metadata={"blind": blind["camera_id"].to_list()},
    )


@dg.asset_check(asset="camera_health", partitions_def=DAYS)
def no_camera_is_starved(
    context: dg.AssetCheckExecutionContext, site: SiteResource
) -> dg.AssetCheckResult:
    """Cameras that bring less than half of the pictures that they should: a silent failure."""
    reports = site.lake().read("camera_health", days=days_of(context))
    known = reports.filter(pl.col("fps_expected") > 0, pl.col("fps_measured").is_not_null())
    rates = known.group_by("camera_id").agg(
        pl.col("fps_measured").median(), pl.col("fps_expected").median()
    )
    starved = rates.filter(2 * pl.col("fps_measured") < pl.col("fps_expected")).sort("camera_id")
    told = [
        f"{camera} brings {measured:.1f} of {expected:g} pictures/s"
        for camera, measured, expected in starved.iter_rows()
    ]
    return dg.AssetCheckResult(
        passed=not told,
        severity=WARN,
        description="; ".join(told) or "every camera brings the pictures that it should",
        metadata={"starved": starved["camera_id"].to_list()},
    )


@dg.asset_check(asset="edge_alerts")
def boxes_run_what_they_were_given(site: SiteResource) -> dg.AssetCheckResult:
    """Boxes whose newest word on a package is that they refused it or went back."""
    latest = site.lake().read("edge_updates").sort("number").group_by("box").last()
    unwilling = latest.filter(pl.col("state").is_in(["refused", "rolled_back"])).sort("box")
    told = [
        f"{row['box']} {row['state'].replace('_', ' ')} {row['package'][:12]}: {row['detail']}"
        for row in unwilling.iter_rows(named=True)
    ]
    return dg.AssetCheckResult(
        passed=not told,
        severity=WARN,
        description="; ".join(told) or "no box refused its package",
        metadata={"boxes": unwilling["box"].to_list()},
    )
