"""Learning: features, a pinned training set, a candidate, and how well it finds falls."""

from collections.abc import Iterator
from datetime import date

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
from fall_assets.features.duty import duty_plot
from fall_assets.jobs import LEARNING_TAGS, RANGE_END_TAG
from fall_assets.lake.registry import TABLES
from fall_assets.learning.metrics import Row
from fall_assets.partitions import DAYS
from fall_assets.pipeline.duty import measure_duty
from fall_assets.pipeline.features import extract_day, total_of
from fall_assets.pipeline.learning import evaluate_candidate, train_candidate
from fall_assets.pipeline.training_sets import cut_training_set
from fall_assets.resources.site import SiteResource

_IN_EVERY_ROW = ("run_id", "champion_run_id", "training_set_id", "evaluated_utc")


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            name,
            deps=["videos"],
            description=TABLES[name].meaning,
            kinds=kinds,
            automation_condition=when_upstream_changed(),
        )
        for name, kinds in (
            ("motion_gate", {"ffmpeg"}),
            ("sequences", {"pytorch"}),
            ("pose_tracks", {"movenet"}),
            ("features", {"ffmpeg", "movenet"}),
        )
    ],
    partitions_def=DAYS,
    backfill_policy=SINGLE_RUN,
)
def decoding(
    context: dg.AssetExecutionContext, site: SiteResource
) -> Iterator[dg.MaterializeResult[None]]:
    """Decode each segment once, where something moves: figures, people's key points, sequences."""
    with working(context, site) as work:
        days = [extract_day(work, day) for day in days_of(context)]
    failed = [
        {"segment": path, "reason": reason} for day in days for path, reason in day.failed.items()
    ]
    took = total_of(day.figures for day in days)
    for name in ("motion_gate", "sequences", "pose_tracks"):
        yield dg.MaterializeResult(
            asset_key=name, metadata={"dagster/row_count": sum(day.rows[name] for day in days)}
        )
    yield dg.MaterializeResult(
        asset_key="features",
        metadata={
            "dagster/row_count": sum(day.rows["features"] for day in days),
            "feature sets": list(days[0].feature_sets),
            "segments": sum(day.segments for day in days),
            "segments already there": sum(day.reused for day in days),
            "segments whose file is gone": sum(day.gone for day in days),
            "segments without features": markdown_table(failed),
            "segments quarantined": sum(len(day.quarantined) for day in days),
            "hours of footage per hour": took.hours_per_hour,
            "share of the limit": took.limit_share,
            "share of the frames decoded": took.decoded_share,
            "seconds by step": dg.MetadataValue.json(took.seconds_by_step()),
            "largest process, MB": took.passes.peak_bytes / 1e6,
        },
    )


@dg.asset(
    deps=["motion_gate", "videos"],
    partitions_def=DAYS,
    backfill_policy=SINGLE_RUN,
    automation_condition=when_upstream_changed(),
)
def gate_duty(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """How long the motion gate stood open, by camera and day: what each camera costs."""
    with working(context, site) as work:
        rows = pl.concat([measure_duty(work, day) for day in days_of(context)])
    footage_s, open_s = float(rows["footage_s"].sum()), float(rows["open_s"].sum())
    most = rows.sort("duty", descending=True).head(20)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": rows.height,
            "duty": open_s / footage_s if footage_s else None,
            "camera hours": footage_s / 3600,
            "open longest": markdown_table(
                most.select("day", "camera_id", "duty", "decoded", "longest_open_s").to_dicts()
            ),
            "plot": picture(duty_plot(rows)),
        }
    )


class TrainingSetConfig(dg.Config):
    """Which days to learn from.

    `days_held_back` of the newest days with footage are left out. Unless told otherwise that is
    one day in a run over a range of days, where the newest plays today, and none elsewhere.
    """

    last_day: str | None = None
    days_held_back: int | None = None


@dg.asset(
    deps=["cameras", "videos", "labels", "clips", "features", "pose_tracks"],
    automation_condition=when_learning_material_changed(),
    op_tags=LEARNING_TAGS,
)
def training_set(
    context: dg.AssetExecutionContext, config: TrainingSetConfig, site: SiteResource
) -> dg.MaterializeResult[None]:
    """What is learned from, pinned: table versions, folds, and the hash of the list of clips."""
    last_day = date.fromisoformat(config.last_day) if config.last_day else None
    held_back = config.days_held_back
    if held_back is None:
        held_back = int(RANGE_END_TAG in context.run.tags)
    with working(context, site) as work:
        cut = cut_training_set(work, last_day=last_day, days_held_back=held_back)
    clips = cut.manifest
    return dg.MaterializeResult(
        metadata={
            **row_metadata(clips, by=["fold", "target", "dataset"]),
            "training set": cut.id,
            "table versions": dg.MetadataValue.json(cut.pins),
            "days": f"{cut.row['first_day']} to {cut.row['last_day']}",
            "falls": int(str(cut.row["falls"])),
            "automatic clips": int(str(cut.row["automatic_clips"])),
        },
        data_version=dg.DataVersion(cut.id),
    )


@dg.asset(
    deps=[training_set],
    automation_condition=when_learning_material_changed(),
    kinds={"pytorch", "mlflow"},
    op_tags=LEARNING_TAGS,
)
def candidate_model(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """A temporal network over pose tracks, trained with a seed and tracked in MLflow."""
    with working(context, site) as work:
        trained = train_candidate(work)
    return dg.MaterializeResult(
        metadata={
            "MLflow run": trained.run_id,
            "training set": trained.training_set_id,
            "threshold": trained.threshold,
            "parameters": trained.parameters,
            "settings": dg.MetadataValue.json(trained.settings),
        }
    )


@dg.asset(
    deps=[candidate_model],
    automation_condition=when_learning_material_changed(),
    op_tags=LEARNING_TAGS,
)
def evaluation(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """How well the candidate finds falls, in events, beside the champion on the same footage."""
    from fall_assets.learning.report import headline

    with working(context, site) as work:
        judged = evaluate_candidate(work)
    whole = [row for row in judged.rows if row["slice"] == "all"]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(judged.rows),
            # Markdown is wrapped, text is not.
            "in a sentence": dg.MetadataValue.md(headline(whole[0])),
            "verdict": dg.MetadataValue.md(judged.verdict.text),
            "by slice": markdown_table([_in_short(row) for row in judged.rows]),
            "against the champion": markdown_table(
                [
                    {name: value for name, value in row.items() if name not in _IN_EVERY_ROW}
                    for row in judged.comparisons
                ]
            ),
            "missed falls": judged.missed,
            "false alarms": judged.false_alarms,
            "folds": dg.MetadataValue.md(judged.leakage.text),
            "report": dg.MetadataValue.path(str(work.lake.resolve(judged.report))),
            "model card": dg.MetadataValue.md(work.lake.resolve(judged.card).read_text()),
            **{name: picture(png) for name, png in judged.plots.items()},
        }
    )


def _in_short(row: Row) -> dict[str, object]:
    """A row of an evaluation as a person compares them; the table holds the rest."""
    from fall_assets.learning.plots import slice_name
    from fall_assets.learning.report import with_interval

    return {
        "model": row["role"],
        "slice": slice_name(row),
        "falls found": f"{row['found']} of {row['falls']}",
        "sensitivity": with_interval(row, "sensitivity"),
        "false alarms": row["false_alarms"],
        "per camera-day": with_interval(row, "false_alarms_per_camera_day", 1),
        "F1": with_interval(row, "f1"),
        "median delay (s)": with_interval(row, "delay_median_s", 1),
    }
