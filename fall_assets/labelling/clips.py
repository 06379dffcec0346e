"""Clips: labelled windows, what a model is trained and evaluated on.

What belongs here: which windows are cut, what they are called and what they may not be split from.
What does not: the folds themselves (see `splits.py`).
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from fall_assets.datasets import SITE
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import LABELS, table

PRIORITY = (
    "fall",
    "lying_after_fall",
    "lying",
    "sitting_down",
    "bending",
    "sitting",
    "walking",
    "standing",
    "other",
)
"""Which label names a window where several hold at its end: the gravest first, and what a person
does before what is `other`.
"""


@dataclass(frozen=True)
class ClipSettings:
    """How windows are cut and when they hold a fall.

    Attributes:
        window_s: length of a window.
        stride_s: between the ends of two windows.
        first_end_s: end of the first window; it and others near the segment's start reach before
            it, as the first windows that are scored do.
        fall_share: share of a fall's interval that a window must hold to count as a fall.
        after_fall_s: how long after a fall's end a window that ends still counts as a fall.
    """

    window_s: float = 4.0
    stride_s: float = 0.5
    first_end_s: float = 1.0
    fall_share: float = 0.7
    after_fall_s: float = 2.5

    def __post_init__(self) -> None:
        if min(self.window_s, self.stride_s, self.first_end_s) <= 0:
            raise PermanentFailureError("window_s, stride_s and first_end_s must be above 0")
        if not 0 < self.fall_share <= 1 or self.after_fall_s < 0:
            raise PermanentFailureError(
                "fall_share must be above 0 and at most 1, after_fall_s at least 0"
            )


def cut_clips(
    labels: pl.DataFrame, videos: pl.DataFrame, settings: ClipSettings | None = None
) -> pl.DataFrame:
    """Cut the labelled windows of videos.

    Windows end every `stride_s` from `first_end_s` to the segment's end; a shorter segment has one
    that ends with it. A window takes the label that holds at its end (by PRIORITY where there are
    several); without one it is no clip. Its target is

    - 1 where it holds at least `fall_share` of a fall and ends at most `after_fall_s` after it
      (a fall over two segments counts by its whole length, and the window by what it sees of it
      in its own segment, as in prediction),
    - null where it touches a fall otherwise, or ends in lying after one: nobody can say whether an
      alarm is due,
    - 0 in all other cases.

    The split group keeps together what looks alike: a data set's subject where the videos know
    more than one of it; a site's subject where the labels tell (who falls, else who is labelled
    longest, so that a nurse who visits every room does not tie them all together); else the scene.
    Groups that share an event are one.

    Args:
        labels: rows of the table `labels`, with a column `subject` where sources tell whom they
            are about, and `interval_id`, `start_utc` and `end_utc` where they may span segments.
            Those of videos not given lengthen falls that reach into them, and are passed by
            otherwise.
        videos: rows of the table `videos`, whole data sets or days.
        settings: the defaults where None.

    Returns:
        Rows of the table `clips`, sorted by day, camera, video and end.
    """
    settings = settings or ClipSettings()
    ordered = _with_whole_length(labels).sort("video_id", "start_s", "end_s", "label", "label_id")
    by_video = {
        str(key[0]): part.to_dicts()
        for key, part in ordered.group_by("video_id", maintain_order=True)
    }
    groups = _split_groups(by_video, videos)
    rows = [
        row | {"split_group": groups[video["video_id"]]}
        for video in videos.sort("day", "camera_id", "video_id").iter_rows(named=True)
        if video["video_id"] in by_video
        for row in _clips_of(video, by_video[video["video_id"]], settings)
    ]
    return pl.DataFrame(rows, schema=table("clips").schema)


def _with_whole_length(labels: pl.DataFrame) -> pl.DataFrame:
    """Add `length_s`: how long each label's whole interval lasts on its camera's timeline."""
    own = pl.col("end_s") - pl.col("start_s")
    interval = ["camera_id", "interval_id"]
    if not {*interval, "start_utc", "end_utc"}.issubset(labels.columns):
        return labels.with_columns(length_s=own)
    spans = pl.col("interval_id").is_not_null() & (pl.col("video_id").n_unique().over(interval) > 1)
    first, last = pl.col("start_utc").min().over(interval), pl.col("end_utc").max().over(interval)
    whole = pl.when(spans).then((last - first).dt.total_microseconds() / 1e6)
    return labels.with_columns(length_s=whole.otherwise(None).fill_null(own))


def window_ends(duration_s: float, settings: ClipSettings) -> list[float]:
    """Ends of a segment's windows, in seconds from its start; empty for an empty segment."""
    if duration_s <= 0:
        return []
    if duration_s < settings.first_end_s:
        return [duration_s]
    # The slack keeps the last window where the duration is a multiple of the stride but for
    # rounding.
    count = math.floor((duration_s - settings.first_end_s) / settings.stride_s + 1e-6) + 1
    return [settings.first_end_s + k * settings.stride_s for k in range(count)]


def _clips_of(
    video: dict[str, Any], labels: Sequence[dict[str, Any]], settings: ClipSettings
) -> Iterable[dict[str, Any]]:
    falls = [label for label in labels if label["label"] == "fall"]
    for end_s in window_ends(video["duration_s"], settings):
        current = [x for x in labels if x["start_s"] < end_s <= x["end_s"] + 1e-6]
        if not current:
            continue
        at_end = min(current, key=lambda x: PRIORITY.index(x["label"]))
        start_s = end_s - settings.window_s
        target, fall = _judge(start_s, end_s, falls, settings)
        if target != 1 and at_end["label"] == "lying_after_fall":
            target = None
        clip_id = hashlib.sha256(f"{video['video_id']} {end_s:.3f}".encode()).hexdigest()[:32]
        yield {
            "day": video["day"],
            "clip_id": clip_id,
            "video_id": video["video_id"],
            "camera_id": video["camera_id"],
            "dataset": video["dataset"],
            "start_s": start_s,
            "end_s": end_s,
            "label": at_end["label"],
            "target": target,
            "event_id": (fall or at_end)["event_id"],
            "label_source": at_end["source"],
        }


def _judge(
    start_s: float, end_s: float, falls: Sequence[dict[str, Any]], settings: ClipSettings
) -> tuple[int | None, dict[str, Any] | None]:
    """The window's target as far as falls decide it, and the fall that does."""
    touched: dict[str, Any] | None = None
    for fall in falls:
        held_s = min(end_s, fall["end_s"]) - max(start_s, fall["start_s"])
        if held_s <= 1e-6:
            continue
        share = held_s / fall["length_s"]
        is_recent = end_s <= fall["end_s"] + settings.after_fall_s + 1e-6
        if share >= settings.fall_share - 1e-6 and is_recent:
            return 1, fall
        touched = fall
    return (0, None) if touched is None else (None, touched)


def _split_groups(
    by_video: dict[str, list[dict[str, Any]]], videos: pl.DataFrame
) -> dict[str, str]:
    """The split group of each video; groups that share an event take the first one's name."""
    subjects = dict(
        videos.group_by("dataset").agg(pl.col("subject").drop_nulls().n_unique()).iter_rows()
    )
    named: dict[str, str] = {}
    for row in videos.iter_rows(named=True):
        subject = row["subject"] if subjects[row["dataset"]] > 1 else None
        if row["dataset"] == SITE:
            subject = _main_subject(by_video.get(row["video_id"], ())) or row["subject"]
        named[row["video_id"]] = f"{row['dataset']}/{subject}" if subject else row["scene"]
    parents = {group: group for group in named.values()}

    def root(group: str) -> str:
        while parents[group] != group:
            parents[group] = parents[parents[group]]
            group = parents[group]
        return group

    group_of_event: dict[str, str] = {}
    for video_id in sorted(by_video.keys() & named.keys()):
        for label in by_video[video_id]:
            if label["event_id"] is not None:
                group = root(named[video_id])
                other = root(group_of_event.setdefault(label["event_id"], group))
                first, second = sorted((group, other))
                parents[second] = first
    return {video_id: root(group) for video_id, group in named.items()}


def _main_subject(labels: Sequence[dict[str, Any]]) -> str | None:
    """Whom a video is about: who falls, else who is labelled longest; None where nobody tells."""
    weights: defaultdict[str, float] = defaultdict(float)
    for label in labels:
        subject = label.get("subject")
        if subject is not None:
            is_fall = label["label"] == "fall"
            weights[subject] += math.inf if is_fall else label["end_s"] - label["start_s"]
    return min(weights, key=lambda x: (-weights[x], x), default=None)


if set(PRIORITY) != set(LABELS):
    raise AssertionError("PRIORITY and the registry's LABELS must hold the same labels")
