"""A site of drawn people with labels, tracks and a motion set, made without decoding anything."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

from fall_assets.features.packing import pack_sequence
from fall_assets.features.settings import FeatureSettings, MotionSettings
from fall_assets.lake import Lake
from fall_assets.lake.registry import table
from fall_assets.learning.attempts import GridSettings
from fall_assets.learning.tuning import TuningSettings
from fall_assets.pipeline.work import Work
from fall_assets.site import LearningChoices, Site, SiteSettings
from fall_assets_tests.learning.people import DAY, RATE_HZ, SEGMENT_S, tables

VIDEOS = 24
FEATURE_SET = FeatureSettings().version
MOTION = FeatureSettings(extractor=MotionSettings(columns=2, rows=2))

QUICK = {
    "steps": 25,
    "batch": 32,
    "examples": 400,
    "networks": 1,
    "average": 0.9,
    "network": {"width": 16, "dilations": [1, 1]},
}
"""Settings that learn drawn people within a second or two."""


def work_on(root: Path, lines: list[str] | None = None) -> Work:
    choices = LearningChoices(
        folds=4, simulated_windows=60, training_steps=20, max_ordinary_alarms_per_hour=0
    )
    site = Site(root, root / "landing", SiteSettings(learning=choices))
    log = (lambda line: None) if lines is None else lines.append
    return Work(site, Lake(site.lake_root), run_id="run-1", log=log)


def draw_site(root: Path) -> Work:
    """24 segments, a third of them falls, with pose tracks of the usual set and a motion set."""
    work = work_on(root)
    frames = tables(VIDEOS)
    frames["clips"] = frames["clips"].drop("fold")
    frames["pose_tracks"] = frames["pose_tracks"].with_columns(feature_set=pl.lit(FEATURE_SET))
    frames["features"] = pl.concat(
        feature_rows(frames["videos"], version) for version in (FEATURE_SET, MOTION.version)
    )
    frames["sequences"] = _sequences(frames["videos"])
    work.lake.replace("cameras", frames.pop("cameras"), work.provenance())
    for name in ("videos", "labels", "clips", "pose_tracks", "sequences", "features"):
        work.lake.replace_partition(name, DAY, frames[name], work.provenance(DAY))
    return work


def feature_rows(videos: pl.DataFrame, feature_set: str) -> pl.DataFrame:
    figures = {"fps": 10.0, "brightness": 0.5, "contrast": 0.2, "sharpness": 0.1, "noise": 0.0}
    figures |= {"watched": 1.0, "motion_mean": 0.1, "motion_max": 0.2}
    rows = [
        {
            **{name: video[name] for name in ("day", "video_id", "camera_id", "width", "height")},
            "feature_set": feature_set,
            "window": 0,
            "start_s": 0.0,
            "end_s": 4.0,
            **figures,
        }
        for video in videos.iter_rows(named=True)
    ]
    return pl.DataFrame(rows, schema=table("features").schema)


def _sequences(videos: pl.DataFrame) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    samples, width = int(SEGMENT_S * RATE_HZ), 9
    rows = [
        {
            **{name: video[name] for name in ("day", "video_id", "camera_id")},
            "feature_set": MOTION.version,
            "part": 0,
            "start_s": 0.0,
            "rate_hz": RATE_HZ,
            "samples": samples,
            "width": width,
            "values": pack_sequence(rng.random((samples, width), np.float32)),
        }
        for video in videos.iter_rows(named=True)
    ]
    return pl.DataFrame(rows, schema=table("sequences").schema)


GRID = GridSettings.from_values(
    {
        "study": "drawn",
        "simulated_windows": 40,
        "blocks": [{"algorithms": ["pose-tcn"], "training": [QUICK], "seeds": [0, 1]}],
    }
)
STUDY = TuningSettings.from_values(
    {
        "study": "drawn",
        "trials": 4,
        "random_trials": 2,
        "simulated_windows": 40,
        "training": QUICK,
        "space": [
            {"setting": "learning_rate", "kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
            {"setting": "network.dilations", "kind": "choice", "choices": [[1], [1, 1]]},
        ],
    }
)


def kill_amid(root: Path, what: str, number: int) -> None:
    """Run `killed_study` on a site until it has killed itself."""
    command = [sys.executable, "-m", "fall_assets_tests.pipeline.killed_study"]
    ended = subprocess.run(
        [*command, str(root), what, str(number)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
