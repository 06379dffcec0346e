"""A site of drawn people that lives day by day, with a champion and challengers, for rollouts.

What belongs here: days of footage as the lake has them after features, and versions in the
registry. What does not: what a rollout makes of them (the tests).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from fall_assets.features.settings import FeatureSettings
from fall_assets.lake import Lake
from fall_assets.lake.registry import one_row, table
from fall_assets.learning.detector import Detector
from fall_assets.learning.evaluate import train_final
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.operation import predict, raise_alerts
from fall_assets.pipeline.rollout import Advanced, advance
from fall_assets.pipeline.training_sets import cut_training_set
from fall_assets.pipeline.work import Work
from fall_assets.rollout.settings import RolloutSettings, StepSettings
from fall_assets.site import LearningChoices, Site, SiteSettings
from fall_assets_tests.learning.people import (
    DAY,
    kind_of,
    learning_set,
    segment,
    small_settings,
    tables,
    video_id,
)
from fall_assets_tests.pipeline.drawn_site import feature_rows

FEATURE_SET = FeatureSettings().version
CAMERAS = 8
SEGMENTS = 24
HISTORY = 4
"""Days that the champion has scored before the rollout."""
FIRST = DAY + timedelta(days=HISTORY)
"""The first day of the rollout."""

ROLLOUT = RolloutSettings(
    steps=(
        StepSettings(share=0.0, max_days=6),
        StepSettings(share=0.25, max_days=6),
        StepSettings(share=0.5, max_days=6, margin=1.5),
    ),
    # No ward is here.
    answer_hours=0.0,
    # The drawn days are minutes long: a few alarms must decide.
    evidence=5.0,
    episode_min=0.5,
    keep_days=2,
)


def new_work(root: Path, rollout: RolloutSettings = ROLLOUT) -> Work:
    settings = SiteSettings(learning=LearningChoices(folds=4), rollout=rollout)
    site = Site(root, root / "landing", settings)
    return Work(site, Lake(site.lake_root))


def detectors() -> dict[str, Detector]:
    """Versions that differ in their threshold.

    Of segments without a fall 'champion' takes a quarter for one, 'worse' three quarters, 'better'
    none; all of them find every fall.
    """
    learned = train_final(learning_set(), small_settings(), 0.5)
    peaks = [
        max(learned.scores(segment(number, kind_of(number), seed)).score)
        for seed in range(HISTORY, HISTORY + 4)
        for number in range(SEGMENTS)
        if kind_of(number) != "fall"
    ]
    thresholds = {
        "champion": float(np.quantile(peaks, 0.75)),
        "worse": float(np.quantile(peaks, 0.25)),
        "better": 0.5,
    }
    return {
        name: replace(
            learned,
            feature_set=FEATURE_SET,
            events=replace(learned.events, threshold=threshold, confirm=1, certain=1.0),
        )
        for name, threshold in thresholds.items()
    }


def settle(root: Path, champion: Detector) -> Work:
    """A site with a champion that has scored some days, and a training set."""
    work = new_work(root)
    for number in range(HISTORY):
        bring(work, DAY + timedelta(days=number))
    cut_training_set(work)
    register(work, champion, "champion")
    for number in range(HISTORY):
        score(work, DAY + timedelta(days=number))
    return work


def bring(work: Work, day: date) -> None:
    """A day's footage, as it stands in the lake once its features are computed, with labels."""
    offset = (day - DAY).days
    frames = tables(SEGMENTS, seed=offset)
    ids = {video_id(number): video_id(offset * 1000 + number) for number in range(SEGMENTS)}
    cameras = {video_id(number): f"cam-{number // 3 % CAMERAS + 1}" for number in range(SEGMENTS)}
    known = frames["cameras"].row(0, named=True)
    hung = [
        known | {"camera_id": f"cam-{number + 1}", "ward": f"ward-{number % 2}"}
        for number in range(CAMERAS)
    ]
    schema = table("cameras").schema
    work.lake.replace("cameras", pl.DataFrame(hung, schema=schema), work.provenance())
    shown = pl.col("video_id").replace_strict(cameras)
    later = timedelta(days=offset)
    frames["videos"] = frames["videos"].with_columns(pl.col("start_utc") + later)
    frames["features"] = feature_rows(frames["videos"], FEATURE_SET)
    frames["pose_tracks"] = frames["pose_tracks"].with_columns(feature_set=pl.lit(FEATURE_SET))
    frames["clips"] = frames["clips"].drop("fold")
    for name in ("videos", "labels", "clips", "pose_tracks", "features"):
        rows = frames[name].with_columns(day=pl.lit(day), camera_id=shown)
        rows = rows.with_columns(pl.col("video_id").replace_strict(ids))
        for unique in ("label_id", "clip_id"):
            if unique in rows.columns:
                rows = rows.with_columns((pl.lit(f"{offset}-") + pl.col(unique)).alias(unique))
        work.lake.replace_partition(name, day, rows, work.provenance(day))


def score(work: Work, day: date) -> None:
    """What the nightly run makes of a day."""
    predict(work, day)
    raise_alerts(work, day, channels=[])


def after(day: date) -> datetime:
    """Two in the morning after a day."""
    return datetime(day.year, day.month, day.day, 2, tzinfo=UTC) + timedelta(days=1)


def live(work: Work, day: date) -> Advanced:
    """A day comes in and is scored, and the rollout is looked at."""
    bring(work, day)
    score(work, day)
    return advance(work, now=after(day))


def register(work: Work, detector: Detector, alias: str) -> str:
    """Put a version into the registry and the lake."""
    store = tracking(work.site)
    run_id = store.log_candidate(
        detector,
        settings={"of": alias, "threshold": detector.threshold},
        pins={},
        metrics={},
        plots={},
        git_commit="unknown",
        lock_sha256="unknown",
    )
    version = store.register(run_id, alias, "test")  # type: ignore[arg-type]
    row = {
        "model_version": version,
        "run_id": run_id,
        "alias": alias,
        "registered_utc": after(FIRST - timedelta(days=2)) + timedelta(minutes=int(version)),
        "training_set_id": work.lake.read("training_set")["training_set_id"][0],
        "reason": "test",
    }
    work.lake.append("registered_model", one_row("registered_model", row), work.provenance())
    return version
