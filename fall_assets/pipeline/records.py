"""What a run in the tracking store records of its data and its scores.

What belongs here: tables as inputs of a run, scores as a table, figures by fold. What does not: the
store (`learning.tracking`), what is tried (`experiments`, `learning`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from fall_assets.lake.registry import table
from fall_assets.learning.metrics import ScoredVideo, VideoOutcome, event_metrics
from fall_assets.pipeline.work import Work

if TYPE_CHECKING:
    from fall_assets.learning.tracking import DatasetPin


def scores_frame(
    videos: Sequence[ScoredVideo], folds: Mapping[str, int], thresholds: Mapping[int, float]
) -> pl.DataFrame:
    """Out-of-fold scores: video_id, fold, threshold (null where none was chosen), end_s, score."""
    described = table("fold_scores").schema
    schema = {name: described[name] for name in described if name != "run_id"}
    frames = [
        pl.DataFrame(
            {
                "video_id": video.video_id,
                "fold": folds[video.video_id],
                "threshold": thresholds.get(folds[video.video_id]),
                "end_s": list(video.end_s),
                "score": list(video.score),
            },
            schema=schema,
        )
        for video in videos
    ]
    return pl.concat([pl.DataFrame(schema=schema), *frames]).sort("video_id", "end_s")


def fold_rows(outcomes: Sequence[VideoOutcome], folds: Mapping[str, int]) -> list[dict[str, Any]]:
    """Figures of each fold, as rows of a slice `fold`."""
    by_fold: dict[int, list[VideoOutcome]] = {}
    for item in outcomes:
        by_fold.setdefault(folds[item.video.video_id], []).append(item)
    return [
        {**event_metrics(by_fold[fold])[0], "slice": "fold", "value": str(fold)}
        for fold in sorted(by_fold)
    ]


def dataset_pins(
    work: Work, training_set: Mapping[str, object], pins: Mapping[str, int]
) -> list[DatasetPin]:
    """The tables that were read, and the list of clips, as inputs of a run.

    `training_set` is its row. A table's digest is a hash over the names of its files, which are
    unique and never change.
    """
    from fall_assets.learning.tracking import DatasetPin

    found = [
        DatasetPin(
            "training_set",
            0,
            str(training_set["manifest_sha256"]),
            str(training_set["manifest"]),
            {
                "clips": training_set["clips"],
                "falls": training_set["falls"],
                "folds": training_set["folds"],
            },
        )
    ]
    for name, version in sorted(pins.items()):
        snapshot = work.lake.snapshot(name, version=version)
        names = "\n".join(path.name for path in snapshot.files)
        digest = hashlib.sha256(names.encode()).hexdigest()
        rows = work.lake.rows(name, version=version)
        found.append(
            DatasetPin(name, version, digest, name, {"rows": rows, "files": len(snapshot.files)})
        )
    return found
