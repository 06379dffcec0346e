"""A site whose drift reports are written by hand, for what is done about them.

What belongs here: rows of the tables that `pipeline.answers` reads. What does not: judging days.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from fall_assets.lake import Lake
from fall_assets.lake.registry import one_row, table
from fall_assets.pipeline.training_sets import manifest_file
from fall_assets.pipeline.work import Work
from fall_assets.rollout.settings import RolloutSettings
from fall_assets.site import Site, SiteSettings

FIRST = date(2026, 3, 1)
CAMERAS = ("cam-1", "cam-2", "cam-3")


def new_work(root: Path, settings: SiteSettings | None = None) -> Work:
    site = Site(root, root / "landing", settings or SiteSettings())
    work = Work(site, Lake(site.lake_root))
    hung = [
        {"camera_id": name, "ward": "A", "room": name, "view": "corner", "dataset": "site"}
        for name in CAMERAS
    ]
    cameras = pl.DataFrame(hung, schema=table("cameras").schema)
    work.lake.replace("cameras", cameras, work.provenance())
    return work


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def evening(number: int) -> datetime:
    """When a day's report is there."""
    return datetime(2026, 3, 1, 22, tzinfo=UTC) + timedelta(days=number)


def report(
    work: Work,
    number: int,
    causes: Mapping[str, str] | None = None,
    *,
    version: str = "1",
    since: int | None = None,
    drifted: Sequence[str] = (),
    tests: int = 8,
) -> None:
    """A judged day: `causes` by camera; `drifted` are kinds of signals that drifted."""
    today = day(number)
    causes = causes or {}
    common = {"day": today, "model_version": version}
    signals = [
        {
            **common,
            "camera_id": camera,
            "signal": f"{kind}-{which}",
            "kind": kind,
            "reference": "before",
            "today": "now",
            "drifted": kind in drifted and camera in causes,
            "effect": 2.0 if kind in drifted and camera in causes else 0.3,
            "p_value": 1e-6 if kind in drifted and camera in causes else 0.4,
        }
        for camera in CAMERAS
        for kind in ("quality", "pose", "score")
        for which in range(tests)
    ]
    rows = [
        {
            **common,
            "camera_id": camera,
            "cause": cause,
            "since": today if since is None else day(since),
            "confirmed": True,
            "words": f"{camera}: {cause}",
            "evidence": "[]",
        }
        for camera, cause in causes.items()
    ]
    verdict = {
        **common,
        "drifted": bool(causes),
        "drift_id": "drift" if causes else None,
        "cameras": json.dumps(sorted(causes)),
        "verdict": "told",
        "windows": 100,
    }
    for name, frame in (
        ("drift_signals", pl.DataFrame(signals, schema=table("drift_signals").schema)),
        ("drift_causes", pl.DataFrame(rows, schema=table("drift_causes").schema)),
        ("drift_report", one_row("drift_report", verdict)),
    ):
        work.lake.replace_partition(name, today, frame, work.provenance(today))


def film(
    work: Work,
    number: int,
    camera: str,
    *,
    labels: int = 0,
    size: tuple[int, int] = (3840, 2160),
    fps: float = 25.0,
) -> None:
    """A segment of the day, with intervals that people labelled, in the place of the day's."""
    today = day(number)
    video_id = hashlib.sha256(f"{camera} {number}".encode()).hexdigest()
    start = datetime(today.year, today.month, today.day, 8, tzinfo=UTC)
    video = {
        "day": today,
        "video_id": video_id,
        "camera_id": camera,
        "dataset": "site",
        "path": f"{camera}/{today}/080000.mp4",
        "start_utc": start,
        "duration_s": 600.0,
        "width": size[0],
        "height": size[1],
        "fps": fps,
        "frames": 100,
        "codec": "h264",
        "bytes": 1000,
        "scene": f"{camera} {today}",
    }
    rows = [
        {
            "day": today,
            "label_id": f"{video_id} {place}",
            "video_id": video_id,
            "camera_id": camera,
            "start_s": 4.0 * place,
            "end_s": 4.0 * place + 4,
            "label": "walking",
            "original_label": "walking",
            "source": "reviewer",
            "taxonomy_version": 1,
            "file": "labels.csv",
            "line": place + 1,
        }
        for place in range(labels)
    ]
    work.lake.replace_partition("videos", today, one_row("videos", video), work.provenance(today))
    frame = pl.DataFrame(rows, schema=table("labels").schema)
    work.lake.replace_partition("labels", today, frame, work.provenance(today))


def register(work: Work, version: str, new: int, old: int, alias: str = "challenger") -> None:
    """A version that learned from `new` clips of cam-1 since the second day, and `old` others."""
    clips = pl.DataFrame(
        [{"day": day(2), "camera_id": "cam-1"}] * new
        + [{"day": day(0), "camera_id": "cam-1"}] * (old // 2)
        + [{"day": day(3), "camera_id": "cam-2"}] * (old - old // 2)
    )
    content = manifest_file(clips)
    made = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=int(version))
    row: dict[str, Any] = {
        "training_set_id": f"set-{version}",
        "created_utc": made,
        "pins": "{}",
        "first_day": day(0),
        "last_day": day(3),
        "feature_set": "f",
        "taxonomy_version": 1,
        "seed": 0,
        "folds": 5,
        "clips": new + old,
        "falls": 3,
        "automatic_clips": 0,
        "manifest": work.lake.write_file(content, "training_sets", f"set-{version}.parquet"),
        "manifest_sha256": hashlib.sha256(content).hexdigest(),
    }
    work.lake.append("training_set", one_row("training_set", row), work.provenance())
    registered = {
        "model_version": version,
        "run_id": f"mlflow-{version}",
        "alias": alias,
        "registered_utc": made,
        "training_set_id": f"set-{version}",
        "reason": "no worse",
    }
    work.lake.append("registered_model", one_row("registered_model", registered), work.provenance())


def compare(
    work: Work,
    version: str,
    found: Mapping[str, tuple[int, int, int, int]],
    changed: Sequence[str] = (),
) -> None:
    """By camera: falls found and false alarms of the candidate, then of the champion.

    Of those that `changed`, the same figures count for the time since as well.
    """
    rows = [
        {
            "run_id": f"mlflow-{version}",
            "champion_run_id": "mlflow-1",
            "training_set_id": f"set-{version}",
            "evaluated_utc": evening(0),
            "slice": which,
            "value": camera,
            "figure": figure,
            "falls": 5,
            "camera_days": 0.5,
            "scenes": 9,
            "candidate_found": one,
            "candidate_false_alarms": alarms,
            "champion_found": other,
            "champion_false_alarms": other_alarms,
        }
        for camera, (one, alarms, other, other_alarms) in found.items()
        for which in (("camera", "changed") if camera in changed else ("camera",))
        for figure in ("sensitivity", "false_alarms_per_camera_day")
    ]
    frame = pl.DataFrame(rows, schema=table("comparison").schema)
    work.lake.append("comparison", frame, work.provenance())


def roll_out(work: Work, version: str, states: Sequence[str]) -> None:
    """A rollout of a version that has gone through some states."""
    for number, state in enumerate(states):
        row = {
            "rollout_id": f"r-{version}",
            "number": number,
            "at_utc": evening(10 + number),
            "evidence_day": day(10 + number),
            "effective_day": day(11 + number),
            "champion": "1",
            "challenger": version,
            "action": "promote" if state == "full" else "begin",
            "state": state,
            "step": 0,
            "share": 1.0 if state == "full" else 0.0,
            "by": "the rule",
            "sentence": f"Version {version} is in state {state}.",
            "numbers": "{}",
            "settings": json.dumps(asdict(RolloutSettings())),
        }
        work.lake.append("rollout", one_row("rollout", row), work.provenance(), skip_existing=True)
