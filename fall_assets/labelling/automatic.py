"""Automatic labels: intervals from a model's scores, and which of them may teach.

What belongs here: from scores to intervals with a confidence, and the choice of clips that enter
a training set. What does not: reading the lake (`pipeline`), learning.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from fall_assets.labelling.clips import ClipSettings, cut_clips
from fall_assets.labelling.taxonomy import TAXONOMY_VERSION
from fall_assets.lake.registry import table
from fall_assets.learning.events import LATE_S, Event, EventSettings, to_events

SOURCE = "auto"
FALL, OTHER = "fall", "other"

OTHER_PIECE_S = 4.0
"""The longest interval of `other`: one doubtful moment spoils no more than this."""

FALL_BEFORE_S = 1.0
"""A fall starts about this long before the end of the first window that shows it.

A window shows a fall from 70 % of it on (`ClipSettings.fall_share`); falls of the data sets take
1 to 1.5 s.
"""

EVERY_FOLD = -2
"""Fold of automatic clips of a group that nobody reviewed: no fold that is judged holds it."""


def automatic_intervals(
    end_s: Sequence[float],
    score: Sequence[float],
    seen: Sequence[bool],
    settings: EventSettings,
    window_s: float = 4.0,
    clips: ClipSettings | None = None,
) -> list[tuple[float, float, str, float]]:
    """The intervals of one segment that a model's scores speak for.

    An event becomes a `fall`: windows count as showing it from 70 % of it on until 2.5 s after
    it (`ClipSettings`), so it starts 1 s before the end of the first window over the threshold
    and ends 2.5 s before the end of the last. What scores under the threshold while somebody is
    seen becomes `other`, in intervals of at most 4 s. Nothing is said of what lies within a
    window's length before an event or 10 s after it, of moments in which nobody is seen, nor of a
    score over the threshold that was not confirmed.

    The confidence of a fall is the event's highest score, that of `other` is 1 less the highest
    score in it. It is the network's own opinion and no calibrated probability: networks are
    surer than they are right (Guo et al., arXiv 1706.04599).

    Args:
        end_s: ends of the scored windows, in seconds from the segment's start, strictly rising.
        score: one per window, 0 to 1.
        seen: whether anybody was scored in the window.
        settings: when scores become an event.
        window_s: length of a window.
        clips: how clips will be cut from the intervals.

    Returns:
        (start_s, end_s, label, confidence), in order of time.
    """
    clips = clips or ClipSettings()
    # A score that flickers below the threshold is one event; only its own windows show the fall.
    events = to_events(end_s, score, settings, window_s)
    intervals = [_fall(event, end_s, score, settings, clips) for event in events]
    under = [
        anybody and value < settings.threshold for anybody, value in zip(seen, score, strict=True)
    ]
    intervals += _others(end_s, score, under, events, window_s)
    return sorted(intervals)


def automatic_labels(
    predictions: pl.DataFrame,
    settings: EventSettings,
    window_s: float = 4.0,
    clips: ClipSettings | None = None,
) -> pl.DataFrame:
    """Rows of the table `automatic_labels` from rows of `predictions` of one model.

    The same predictions give the same rows, ids among them, in the same order.
    """
    rows: list[dict[str, Any]] = []
    ordered = predictions.sort("day", "camera_id", "video_id", "end_s")
    for (video_id,), own in ordered.group_by(["video_id"], maintain_order=True):
        first = own.row(0, named=True)
        for start_s, end_s, label, confidence in automatic_intervals(
            own["end_s"].to_list(),
            own["score"].to_list(),
            own["track"].is_not_null().to_list(),
            settings,
            window_s,
            clips,
        ):
            named = f"{video_id} {first['model_version']} {start_s:.3f} {end_s:.3f} {label}"
            rows.append(
                {
                    "day": first["day"],
                    "label_id": hashlib.sha256(named.encode()).hexdigest()[:32],
                    "video_id": video_id,
                    "camera_id": first["camera_id"],
                    "model_version": first["model_version"],
                    "feature_set": first["feature_set"],
                    "start_s": start_s,
                    "end_s": end_s,
                    "label": label,
                    "confidence": confidence,
                    "taxonomy_version": TAXONOMY_VERSION,
                }
            )
    return pl.DataFrame(rows, schema=table("automatic_labels").schema)


def automatic_clips(
    automatic: pl.DataFrame, videos: pl.DataFrame, confidence: float
) -> pl.DataFrame:
    """Clips cut from automatic labels by the rules of all clips; `label_source` is 'auto'.

    Args:
        automatic: rows of `automatic_labels`.
        videos: rows of `videos`; automatic labels of others are passed by.
        confidence: labels less sure than this are left out.

    Returns:
        Rows of the table `clips` with a certain target.
    """
    sure = automatic.filter(pl.col("confidence") >= confidence)
    labels = sure.with_columns(
        pl.when(pl.col("label") == FALL).then("label_id").alias("event_id"),
        pl.lit(SOURCE).alias("source"),
        pl.lit(None, pl.String).alias("subject"),
    )
    clips = cut_clips(labels, videos).filter(pl.col("target").is_not_null())
    return clips.with_columns(pl.lit(SOURCE).alias("label_source"))


def choose_automatic(
    reviewed: pl.DataFrame,
    automatic: pl.DataFrame,
    scenes: pl.DataFrame,
    *,
    share: float,
    seed: int,
) -> pl.DataFrame:
    """The automatic clips that enter a training set, each with the fold that it belongs to.

    A group goes into the fold in which people's clips of it or of its scenes lie, so that it
    never teaches a network that is judged on them. Where nobody reviewed either, it is in
    `EVERY_FOLD`; where they lie in several folds, it is left out, and so is every segment of
    which people labelled anything. Of the rest so many are taken that they make up at most
    `share` of the whole set, chosen by a hash of seed and clip, so that a run over the same
    tables chooses the same and neighbours are not chosen together.

    Args:
        reviewed: people's clips of the set, with `fold`.
        automatic: clips of `automatic_clips`.
        scenes: columns video_id and scene of all the segments.
        share: at most this share of the set, 0 to below 1.
        seed: of the choice.

    Returns:
        Rows of `automatic` with `fold`, sorted by clip_id.
    """
    if not 0 <= share < 1:
        raise ValueError(f"a share of {share}, wanted 0 or more and below 1")
    most = math.floor(share / (1 - share) * len(reviewed) + 1e-9)
    scene_of = scenes.select("video_id", "scene").unique("video_id")
    placed = reviewed.select("video_id", "split_group", "fold").join(scene_of, on="video_id")
    fresh = automatic.join(reviewed, on="video_id", how="anti")
    groups = fresh.select("video_id", "split_group").unique().join(scene_of, on="video_id")
    touched = pl.concat(
        [
            groups.join(placed.select(shared, "fold").unique(), on=shared).select(
                "split_group", "fold"
            )
            for shared in ("split_group", "scene")
        ]
    )
    folds = touched.group_by("split_group").agg(pl.col("fold").unique().alias("folds"))
    chosen = (
        fresh.join(folds, on="split_group", how="left")
        .filter(pl.col("folds").list.len().fill_null(0) <= 1)
        .with_columns(fold=pl.col("folds").list.first().fill_null(EVERY_FOLD))
    )
    order = [
        hashlib.sha256(f"{seed} {clip_id}".encode()).hexdigest() for clip_id in chosen["clip_id"]
    ]
    return (
        chosen.with_columns(pl.Series("order", order, pl.String))
        .sort("order")
        .head(most)
        .select(*automatic.columns, "fold")
        .sort("clip_id")
    )


def _fall(
    event: Event,
    end_s: Sequence[float],
    score: Sequence[float],
    settings: EventSettings,
    clips: ClipSettings,
) -> tuple[float, float, str, float]:
    over = [
        end
        for end, value in zip(end_s, score, strict=True)
        if event.start_s < end <= event.end_s and value >= settings.threshold
    ]
    first = min(over, default=event.raised_s)
    # Of several ways down within one event, the first is the fall.
    run = first
    for end in over:
        if end - run > clips.after_fall_s:
            break
        run = end
    start_s = max(0.0, first - FALL_BEFORE_S)
    stop_s = max(first, run - clips.after_fall_s)
    return start_s, stop_s, FALL, event.score


def _others(
    end_s: Sequence[float],
    score: Sequence[float],
    under: Sequence[bool],
    events: Sequence[Event],
    window_s: float,
) -> Iterator[tuple[float, float, str, float]]:
    """Stretches in which somebody is seen under the threshold and no event is near, in pieces."""
    start: float | None = None
    stop = highest = 0.0
    previous = 0.0
    for end, value, is_under in zip(end_s, score, under, strict=True):
        near = any(x.start_s - window_s <= end <= x.end_s + LATE_S for x in events)
        hole = end - previous > window_s
        speaks = is_under and not near
        full = start is not None and end - start > OTHER_PIECE_S + 1e-6
        if start is not None and (not speaks or hole or full):
            yield start, stop, OTHER, 1 - highest
            start = None
        if speaks:
            if start is None:
                start = max(previous, end - window_s) if not hole else end - window_s
                highest = 0.0
            stop, highest = end, max(highest, value)
        previous = end
    if start is not None:
        yield start, stop, OTHER, 1 - highest
