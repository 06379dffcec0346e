"""Tables of the lake as a set to learn from and to judge on.

What belongs here: joining clips, videos, labels, cameras and pose tracks; which windows a model
is shown. What does not: cutting clips and folds (`labelling`), reading the lake.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.labelling.automatic import SOURCE as AUTOMATIC
from fall_assets.learning.events import Fall
from fall_assets.learning.metrics import Interval, ScoredVideo
from fall_assets.learning.windows import (
    Floats,
    SegmentTracks,
    WindowSet,
    WindowSettings,
    seen,
    segment_tracks,
    strongest_drop,
    window_at,
)

_JOINED_S = 1.0
"""A fall's lying, or its second part, may start this long after the first part's end."""


class UnusableSetError(PermanentFailureError):
    """The tables do not make a set to learn from."""


@dataclass(frozen=True)
class VideoTruth:
    """One labelled segment: where it was recorded and what happens in it.

    `reviewed` is false where only automatic labels speak: it teaches and never judges.
    """

    video_id: str
    camera_id: str
    dataset: str
    room: str
    duration_s: float
    fold: int
    falls: tuple[Fall, ...]
    labels: tuple[Interval, ...]
    reviewed: bool = True

    def scored(
        self, end_s: Iterable[float], score: Iterable[float], window_s: float = 4.0
    ) -> ScoredVideo:
        """The segment with a detector's scores: ends of windows in seconds, one score each."""
        return ScoredVideo(
            self.video_id,
            self.camera_id,
            self.dataset,
            self.room,
            self.duration_s,
            window_s,
            self.falls,
            self.labels,
            tuple(end_s),
            tuple(score),
        )


@dataclass(frozen=True)
class LearningSet:
    """Labelled footage with its pose tracks, divided into folds.

    Only segments with clips are in it: footage that nobody looked at has no truth to learn from
    or to be judged by. Segments whose clips are all automatic teach and are never judged by.
    """

    truths: Mapping[str, VideoTruth]
    tracks: Mapping[str, SegmentTracks]
    clips: pl.DataFrame
    feature_set: str

    @classmethod
    def from_tables(
        cls,
        *,
        clips: pl.DataFrame,
        videos: pl.DataFrame,
        labels: pl.DataFrame,
        cameras: pl.DataFrame,
        pose_tracks: pl.DataFrame,
    ) -> LearningSet:
        """Join the lake's tables.

        Args:
            clips: rows of `clips` with a column `fold`.
            videos: rows of `videos`; others than the clips' are left out.
            labels: rows of `labels`, likewise.
            cameras: rows of `cameras`.
            pose_tracks: rows of `pose_tracks` of one feature set, likewise.

        Raises:
            UnusableSetError: without clips or tracks, with tracks of several feature sets, where
                a segment lies in two folds or is not among the videos.
        """
        if clips.is_empty():
            raise UnusableSetError("there are no clips: label some footage first")
        feature_sets = sorted(set(pose_tracks["feature_set"]))
        if len(feature_sets) != 1:
            raise UnusableSetError(
                f"pose tracks of {len(feature_sets)} feature sets ({', '.join(feature_sets)}), "
                "wanted one: compute features first, and keep to one of their versions"
            )
        folds = clips.group_by("video_id").agg(
            pl.col("fold").unique(),
            reviewed=pl.col("label_source").ne_missing(AUTOMATIC).any(),
        )
        split = folds.filter(pl.col("fold").list.len() > 1)
        if not split.is_empty():
            raise UnusableSetError(
                f"segment {split['video_id'][0]} has clips in several folds "
                f"({split.height} such segments): assign folds by split group"
            )
        unknown = folds.join(videos, on="video_id", how="anti")
        if not unknown.is_empty():
            raise UnusableSetError(
                f"{unknown.height} segments have clips but no row in videos, the first is "
                f"{unknown['video_id'][0]}: read both tables at versions that belong together"
            )
        known = videos.join(folds.with_columns(pl.col("fold").list.first()), on="video_id")
        known = known.join(
            cameras.select("camera_id", "room").unique("camera_id"),
            on="camera_id",
            how="left",
            maintain_order="left",
        ).sort("dataset", "camera_id", "start_utc", "video_id")
        intervals = _intervals(labels)
        truths = {
            row["video_id"]: VideoTruth(
                row["video_id"],
                row["camera_id"],
                row["dataset"],
                row["room"] if row["room"] is not None else "unknown",
                row["duration_s"],
                row["fold"],
                *intervals.get(row["video_id"], ((), ())),
                row["reviewed"],
            )
            for row in known.iter_rows(named=True)
        }
        people = pose_tracks.partition_by("video_id", as_dict=True)
        nobody = pose_tracks.clear()
        tracks = {
            truth.video_id: segment_tracks(
                truth.video_id, truth.duration_s, people.get((truth.video_id,), nobody)
            )
            for truth in truths.values()
        }
        ordered = clips.sort("video_id", "end_s", "clip_id")
        return cls(truths, tracks, ordered, feature_sets[0])

    @cached_property
    def folds(self) -> tuple[int, ...]:
        """Numbers of the folds that hold reviewed footage."""
        return tuple(sorted({truth.fold for truth in self.reviewed}))

    @property
    def reviewed(self) -> list[VideoTruth]:
        """The segments that people labelled: what thresholds are chosen and models judged on."""
        return [truth for truth in self.truths.values() if truth.reviewed]

    def videos_in(self, folds: Collection[int]) -> list[VideoTruth]:
        """The reviewed segments of some folds, always in the same order."""
        return [truth for truth in self.reviewed if truth.fold in folds]


def training_windows(
    learning_set: LearningSet, settings: WindowSettings | None = None
) -> WindowSet:
    """Windows of all clips that are certain, each with its fold as its group.

    A clip without a fall gives a window for everybody seen in it. One with a fall gives one: the
    person with the strongest way down, because the label does not say who fell. Each fall
    weighs the same however many windows show it, and a long segment weighs more than a short one
    only by the square root of its length, because its windows resemble each other.
    """
    settings = settings or WindowSettings()
    truths = learning_set.truths
    chosen = learning_set.clips.filter(pl.col("target").is_not_null()).select(
        "video_id", "end_s", "target", "event_id"
    )
    points, aspects, targets, folds, sources = [], [], [], [], []
    for video_id, end_s, target, event_id in chosen.iter_rows():
        segment = learning_set.tracks[video_id]
        people = _people(segment, end_s, settings)
        if target and len(people):
            people = people[[strongest_drop(people, segment.aspect)]]
        for window in people:
            points.append(window)
            aspects.append(segment.aspect)
            targets.append(target)
            folds.append(truths[video_id].fold)
            sources.append((video_id, event_id) if target else (video_id, None))
    if not points:
        return WindowSet.empty(settings.samples)
    counts: dict[tuple[str, str | None], int] = {}
    for source in sources:
        counts[source] = counts.get(source, 0) + 1
    weights = [
        1 / counts[source] if target else counts[source] ** -0.5
        for source, target in zip(sources, targets, strict=True)
    ]
    return WindowSet(
        np.stack(points),
        np.asarray(aspects, np.float32),
        np.asarray(targets, np.int64),
        np.asarray(weights, np.float32),
        np.asarray(folds, np.int64),
    )


def falls_of(labels: pl.DataFrame) -> tuple[Fall, ...]:
    """The falls in the labels of one segment, in order of time.

    Parts of one fall (same `event_id`, less than 1 s apart) are one. The lying that follows it
    without a break is when it is known to be still on.
    """
    parts = [
        (row["start_s"], row["end_s"], row["event_id"] or row["label_id"])
        for row in labels.filter(pl.col("label") == "fall").sort("start_s").iter_rows(named=True)
    ]
    lying = labels.filter(pl.col("label") == "lying_after_fall").sort("start_s")
    falls: list[Fall] = []
    for start_s, end_s, event_id in parts:
        last = falls[-1] if falls else None
        if last and last.event_id == event_id and start_s - last.end_s < _JOINED_S:
            end_s = max(end_s, last.end_s)
            falls[-1] = Fall(event_id, last.start_s, end_s, end_s)
        else:
            falls.append(Fall(event_id, start_s, end_s, end_s))
    for place, fall in enumerate(falls):
        until_s = fall.end_s
        for start_s, end_s in lying.select("start_s", "end_s").iter_rows():
            if fall.start_s <= start_s <= until_s + _JOINED_S:
                until_s = max(until_s, end_s)
        falls[place] = Fall(fall.event_id, fall.start_s, fall.end_s, until_s)
    return tuple(falls)


def _people(segment: SegmentTracks, end_s: float, settings: WindowSettings) -> Floats:
    windows = [window_at(track, end_s, settings) for track in segment.tracks]
    usable = [window for window in windows if seen(window).sum() >= settings.min_seen]
    return np.stack(usable) if usable else WindowSet.empty(settings.samples).keypoints


def _intervals(labels: pl.DataFrame) -> dict[str, tuple[tuple[Fall, ...], tuple[Interval, ...]]]:
    truths = {}
    for (video_id,), rows in labels.sort("start_s", "end_s").group_by("video_id"):
        intervals = tuple(
            Interval(*row) for row in rows.select("start_s", "end_s", "label").iter_rows()
        )
        truths[str(video_id)] = (falls_of(rows), intervals)
    return truths
