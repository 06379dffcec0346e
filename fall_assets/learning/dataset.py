"""Tables of the lake as a set to learn from and to judge on.

What belongs here: joining clips, videos, labels, cameras and pose tracks; which windows a model
is shown. What does not: cutting clips and folds (`labelling`), reading the lake.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.features.packing import unpack_keypoints
from fall_assets.labelling.automatic import SOURCE as AUTOMATIC
from fall_assets.learning.events import Fall
from fall_assets.learning.inputs import SegmentInputs, Stretch
from fall_assets.learning.metrics import Interval, ScoredVideo
from fall_assets.learning.windows import (
    KEY_POINTS,
    GatheredPoints,
    Halves,
    MixedTracksError,
    PackedTracks,
    SegmentTracks,
    Track,
    Wholes,
    WindowSet,
    WindowSettings,
    drops,
)

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "videos": ("video_id", "camera_id", "dataset", "start_utc", "duration_s"),
    "labels": ("video_id", "label_id", "start_s", "end_s", "label", "event_id"),
    "cameras": ("camera_id", "room"),
    "pose_tracks": (
        "video_id",
        "feature_set",
        "track",
        "start_s",
        "rate_hz",
        "aspect",
        "keypoints",
    ),
}
"""The columns that `LearningSet.from_tables` uses of each table, but for the clips."""

CLIP_COLUMNS = ("video_id", "end_s", "target", "event_id", "fold", "label_source")
"""The columns that it uses of the clips; it keeps all that it is given."""

REPLAY_COLUMNS = ("changed", "weight")
"""Columns of clips (see `replay`) that it also uses; without them none changed, and all weigh 1."""

CLIP_ORDER = ("video_id", "end_s", "clip_id")
"""How a training set's clips stand, so that nobody who reads them has to sort."""

_RATE_HZ = 10.0
"""Stated where nobody was seen, as in `segment_tracks`."""

_SAMPLE_BYTES = KEY_POINTS * 3 * np.dtype(np.float16).itemsize
_END_BITS = 40

_TOGETHER = 2048
"""So many windows are looked at at once, to bound memory."""

_JOINED_S = 1.0
"""A fall's lying, or its second part, may start this long after the first part's end."""


class UnusableSetError(PermanentFailureError):
    """The tables do not make a set to learn from."""


@dataclass(frozen=True)
class VideoTruth:
    """One labelled segment: where it was recorded and what happens in it.

    `reviewed` is false where only automatic labels speak: it teaches and never judges. `start_s`
    is the segment's start in seconds since 1970, None where nobody told. `changed`: recorded since
    its camera changed. `weight`: as how many it counts where a threshold is chosen.
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
    start_s: float | None = None
    changed: bool = False
    weight: int = 1

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
            self.start_s,
            self.changed,
            self.weight,
        )


class _Truths(Mapping[str, VideoTruth]):
    """What happens in each segment, put together when first asked for: windows do not need it."""

    def __init__(self, known: pl.DataFrame, labels: pl.DataFrame) -> None:
        self._known, self._labels = known, labels

    @cached_property
    def _all(self) -> dict[str, VideoTruth]:
        intervals = _intervals(self._labels)
        return {
            row["video_id"]: VideoTruth(
                row["video_id"],
                row["camera_id"],
                row["dataset"],
                row["room"] if row["room"] is not None else "unknown",
                row["duration_s"],
                row["fold"],
                *intervals.get(row["video_id"], ((), ())),
                row["reviewed"],
                row["start_utc"].timestamp() if row["start_utc"] is not None else None,
                row["changed"],
                row["weight"],
            )
            for row in self._known.iter_rows(named=True)
        }

    def __getitem__(self, video_id: str) -> VideoTruth:
        return self._all[video_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known["video_id"].to_list())

    def __len__(self) -> int:
        return self._known.height


class TrackTable(Mapping[str, SegmentTracks]):
    """The tracks of many segments, by segment: half precision in one array until asked for.

    A segment's tracks are made anew each time that it is asked for.
    """

    def __init__(self, durations: Mapping[str, float], pose_tracks: pl.DataFrame) -> None:
        """From rows of `pose_tracks` of one feature set; of other segments they are left out.

        Args:
            durations: the segments and their lengths in seconds.
            pose_tracks: any order of rows; at least the columns in `COLUMNS`.

        Raises:
            MixedTracksError: where tracks of one segment are sampled in several ways.
            PermanentFailureError: where key points are not packed as they should be.
        """
        self._durations = durations
        self._place = {video_id: place for place, video_id in enumerate(durations)}
        places = pl.DataFrame(
            {"video_id": list(durations), "place": range(len(durations))},
            schema={"video_id": pl.String, "place": pl.Int64},
        )
        rows = (
            pose_tracks.select("video_id", "track", "start_s", "rate_hz", "aspect")
            .with_row_index("row")
            .join(places, on="video_id", how="inner")
            .sort("place", "track", "row")
        )
        _refuse_mixed(rows)
        values, *where = _unpacked(pose_tracks.get_column("keypoints"))
        row = rows["row"].to_numpy().astype(np.int64)
        source, begin, length = (numbers[row] for numbers in where)
        self.rate_hz = rows["rate_hz"].to_numpy()
        self.aspect = rows["aspect"].to_numpy()
        start = np.rint(rows["start_s"].to_numpy() * self.rate_hz).astype(np.int64)
        self.packed = PackedTracks(values, source, begin, length, start)
        self._numbers = rows["track"].to_numpy()
        # Tracks ranges[v] to ranges[v + 1] are those of segment v.
        self._ranges = np.searchsorted(rows["place"].to_numpy(), np.arange(len(durations) + 1))

    def __getitem__(self, video_id: str) -> SegmentTracks:
        place = self._place[video_id]
        first, last = int(self._ranges[place]), int(self._ranges[place + 1])
        found = range(first, last)
        return SegmentTracks(
            video_id,
            self._durations[video_id],
            float(self.rate_hz[first]) if found else _RATE_HZ,
            float(self.aspect[first]) if found else 1.0,
            tuple(
                Track(int(self._numbers[k]), int(self.packed.start[k]), self.packed.keypoints(k))
                for k in found
            ),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)

    def places(self, video_ids: pl.Series) -> Wholes:
        """Number of each segment in this table; KeyError where one is not in it."""
        numbers = pl.DataFrame({"video_id": list(self._place), "place": range(len(self))})
        found = video_ids.to_frame("video_id").join(
            numbers, on="video_id", how="left", maintain_order="left"
        )["place"]
        if found.null_count():
            raise KeyError(video_ids.filter(found.is_null())[0])
        return found.to_numpy().astype(np.int64)

    def everybody(self, places: Wholes) -> tuple[Wholes, Wholes]:
        """Each asked segment's tracks: (which of `places`, number of the track), in order."""
        first = self._ranges[places]
        counts = self._ranges[places + 1] - first
        asked = np.repeat(np.arange(len(places)), counts)
        before = np.cumsum(counts) - counts
        return asked, np.arange(len(asked)) - before[asked] + first[asked]


@dataclass(frozen=True)
class LearningSet:
    """Labelled footage with its pose tracks, divided into folds.

    Only segments with clips are in it: footage that nobody looked at has no truth to learn from
    or to be judged by. Segments whose clips are all automatic teach and are never judged by.

    `clips` stand in `CLIP_ORDER`; `place` is the number of each one's segment in `tracks`.
    `stretches` of each segment are what a motion or an embedding set yields, `films` the files
    and `crops` the parts of them that cameras may show, where an algorithm asked for them.
    """

    truths: Mapping[str, VideoTruth]
    tracks: TrackTable
    clips: pl.DataFrame
    place: Wholes
    feature_set: str
    stretches: Mapping[str, tuple[Stretch, ...]] | None = None
    films: Mapping[str, Path] | None = None
    crops: Mapping[str, str | None] | None = None

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
            clips: rows of `clips` with a column `fold`; quickest in `CLIP_ORDER`. Without their
                ids, clips of one segment that end together stay in the order that is given.
            videos: rows of `videos`; others than the clips' are left out.
            labels: rows of `labels`, likewise.
            cameras: rows of `cameras`.
            pose_tracks: rows of `pose_tracks` of one feature set, likewise.

        The columns in `COLUMNS`, `CLIP_COLUMNS` and `REPLAY_COLUMNS` are enough.

        Raises:
            UnusableSetError: without clips or tracks, with tracks of several feature sets, where
                a segment lies in two folds or is not among the videos.
        """
        if clips.is_empty():
            raise UnusableSetError("there are no clips: label some footage first")
        feature_sets = sorted(pose_tracks["feature_set"].unique())
        if len(feature_sets) != 1:
            raise UnusableSetError(
                f"pose tracks of {len(feature_sets)} feature sets ({', '.join(feature_sets)}), "
                "wanted one: compute features first, and keep to one of their versions"
            )
        if not set(REPLAY_COLUMNS) <= set(clips.columns):
            clips = clips.with_columns(changed=pl.lit(False), weight=pl.lit(1))
        clips, number, first = _by_segment(clips)
        segments = clips["video_id"].gather(first)
        fold = clips["fold"].to_numpy()
        fold_of = np.minimum.reduceat(fold, first)
        split = np.flatnonzero(np.maximum.reduceat(fold, first) != fold_of)
        if len(split):
            raise UnusableSetError(
                f"segment {segments[int(split[0])]} has clips in several folds "
                f"({len(split)} such segments): assign folds by split group"
            )
        by_people = clips["label_source"].ne_missing(AUTOMATIC).to_numpy()
        folds = pl.LazyFrame(
            {
                "video_id": segments,
                "fold": fold_of,
                "reviewed": np.logical_or.reduceat(by_people, first),
                **{name: clips[name].gather(first) for name in REPLAY_COLUMNS},
            }
        )
        known = (
            videos.lazy()
            .join(folds, on="video_id")
            .join(
                cameras.lazy().select("camera_id", "room").unique("camera_id"),
                on="camera_id",
                how="left",
            )
            .sort("dataset", "camera_id", "start_utc", "video_id")
            .collect()
        )
        durations = dict(known.select("video_id", "duration_s").iter_rows())
        if len(durations) < len(segments):
            unknown = [video_id for video_id in segments if video_id not in durations]
            raise UnusableSetError(
                f"{len(unknown)} segments have clips but no row in videos, the first is "
                f"{unknown[0]}: read both tables at versions that belong together"
            )
        tracks = TrackTable(durations, pose_tracks)
        place = tracks.places(segments)[number]
        return cls(_Truths(known, labels), tracks, clips, place, feature_sets[0])

    @cached_property
    def folds(self) -> tuple[int, ...]:
        """Numbers of the folds that hold reviewed footage."""
        return tuple(sorted({truth.fold for truth in self.reviewed}))

    @property
    def reviewed(self) -> list[VideoTruth]:
        """The segments that people labelled: what thresholds are chosen and models judged on."""
        return [truth for truth in self.truths.values() if truth.reviewed]

    def with_clips(self, clips: pl.DataFrame) -> LearningSet:
        """The same segments with other clips to learn from; each of a segment of this set."""
        clips, number, first = _by_segment(clips)
        place = self.tracks.places(clips["video_id"].gather(first))[number]
        return replace(self, clips=clips, place=place)

    def inputs(self, video_id: str) -> SegmentInputs:
        """One segment as an algorithm sees it."""
        truth = self.truths[video_id]
        return SegmentInputs(
            video_id,
            truth.duration_s,
            self.tracks[video_id],
            self.stretches.get(video_id, ()) if self.stretches is not None else None,
            self.films.get(video_id) if self.films is not None else None,
            self.crops.get(video_id) if self.crops is not None else None,
        )

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
    only by the square root of its length, because its windows resemble each other. The clips'
    own weights multiply these.
    """
    settings = settings or WindowSettings()
    tracks = learning_set.tracks
    chosen, place = _certain_clips(learning_set)
    if chosen.is_empty():
        return WindowSet.empty(settings.samples)
    clip, track = tracks.everybody(place)
    first = tracks.packed.first_sample(track, chosen["end_s"].to_numpy()[clip], settings)
    usable = tracks.packed.scored(track, first, settings)
    clip, track, first = clip[usable], track[usable], first[usable]
    falls = chosen["target"].to_numpy() != 0
    kept = _who_falls(tracks, clip, track, first, falls, settings)
    clip, track, first = clip[kept], track[kept], first[kept]
    if not len(clip):
        return WindowSet.empty(settings.samples)
    return WindowSet(
        GatheredPoints(tracks.packed, track, first, settings.samples),
        tracks.aspect[track].astype(np.float32),
        chosen["target"].to_numpy()[clip].astype(np.int64),
        _weights(place, chosen["event_id"], clip, falls) * chosen["weight"].to_numpy()[clip],
        chosen["fold"].to_numpy()[clip].astype(np.int64),
    )


def falls_of(labels: pl.DataFrame) -> tuple[Fall, ...]:
    """The falls in the labels of one segment, in order of time.

    Parts of one fall (same `event_id`, less than 1 s apart) are one. The lying that follows it
    without a break is when it is known to be still on.
    """
    ordered = labels.sort("start_s", maintain_order=True)
    return _falls(ordered.select("label", "start_s", "end_s", "event_id", "label_id").rows())


def _falls(labels: Sequence[tuple[str, float, float, str | None, str]]) -> tuple[Fall, ...]:
    """The same from rows (label, start_s, end_s, event_id, label_id) in order of time."""
    falls: list[Fall] = []
    for label, start_s, end_s, event, label_id in labels:
        if label != "fall":
            continue
        event_id = event or label_id
        last = falls[-1] if falls else None
        if last and last.event_id == event_id and start_s - last.end_s < _JOINED_S:
            end_s = max(end_s, last.end_s)
            falls[-1] = Fall(event_id, last.start_s, end_s, end_s)
        else:
            falls.append(Fall(event_id, start_s, end_s, end_s))
    lying = [row for row in labels if row[0] == "lying_after_fall"] if falls else []
    for place, fall in enumerate(falls):
        until_s = fall.end_s
        for _, start_s, end_s, _, _ in lying:
            if fall.start_s <= start_s <= until_s + _JOINED_S:
                until_s = max(until_s, end_s)
        falls[place] = Fall(fall.event_id, fall.start_s, fall.end_s, until_s)
    return tuple(falls)


def _who_falls(
    tracks: TrackTable,
    clip: Wholes,
    track: Wholes,
    first: Wholes,
    falls: npt.NDArray[np.bool_],
    settings: WindowSettings,
) -> npt.NDArray[np.bool_]:
    """Which windows to keep: of several in a clip with a fall, the one that sinks farthest."""
    kept = np.ones(len(clip), np.bool_)
    several = np.bincount(clip, minlength=len(falls)) > 1
    doubtful = np.flatnonzero((falls & several)[clip])
    if not len(doubtful):
        return kept
    points = GatheredPoints(tracks.packed, track[doubtful], first[doubtful], settings.samples)
    aspect = tracks.aspect[track[doubtful]].astype(np.float32)
    sunk = np.concatenate(
        [
            drops(points[at : at + _TOGETHER], aspect[at : at + _TOGETHER])
            for at in range(0, len(doubtful), _TOGETHER)
        ]
    )
    # By clip, then by depth, then in order: the first of each clip stays.
    order = np.lexsort((np.arange(len(doubtful)), -sunk, clip[doubtful]))
    _, best = np.unique(clip[doubtful][order], return_index=True)
    kept[doubtful] = False
    kept[doubtful[order[best]]] = True
    return kept


def _by_segment(clips: pl.DataFrame) -> tuple[pl.DataFrame, Wholes, Wholes]:
    """Clips in `CLIP_ORDER`, not moved where they stand so, as a training set's do.

    With each one's number of its segment, and where the segments begin.
    """
    number = clips["video_id"].rle_id().to_numpy().astype(np.int64)
    first = np.flatnonzero(np.diff(number, prepend=-1))
    segments = clips["video_id"].gather(first)
    end_us = np.rint(clips["end_s"].to_numpy() * 1e6).astype(np.int64)
    ends = (number << _END_BITS) + end_us
    in_order = (
        end_us.max(initial=0) < 2**_END_BITS
        and (ends[1:] > ends[:-1]).all()
        and (segments[1:] > segments[:-1]).all()
    )
    if in_order:
        return clips, number, first
    order = [name for name in CLIP_ORDER if name in clips.columns]
    clips = clips.sort(order, maintain_order=True)
    number = clips["video_id"].rle_id().to_numpy().astype(np.int64)
    return clips, number, np.flatnonzero(np.diff(number, prepend=-1))


def _certain_clips(learning_set: LearningSet) -> tuple[pl.DataFrame, Wholes]:
    """Clips with a target by segment, end and id, and the number of each one's segment."""
    weight = pl.col("weight").cast(pl.Float32)
    clips = learning_set.clips.select("end_s", "target", "event_id", "fold", weight)
    certain = clips["target"].is_not_null()
    return clips.filter(certain), learning_set.place[certain.to_numpy()]


def _weights(
    place: Wholes, event_id: pl.Series, clip: Wholes, falls: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """One over the number of windows of a fall; for others, over the root of their segment's.

    Only falls with an event are counted by it, the rest of a segment together.

    Args:
        place: number of each clip's segment.
        event_id: of each clip, or null.
        clip: number of each window's clip.
        falls: whether each clip shows a fall.
    """
    source = place.copy()
    named = np.flatnonzero(falls & event_id.is_not_null().to_numpy())
    if len(named):
        events = pl.DataFrame({"place": place[named], "event": event_id.gather(named)})
        number = events.select(pl.struct("place", "event").rank("dense")).to_series().to_numpy()
        source[named] = int(place.max()) + number
    counts = np.bincount(source[clip], minlength=int(source.max()) + 1)
    # The root by Python: numpy's may differ in the last bit.
    of_fall = np.array([1 / max(count, 1) for count in counts.tolist()], np.float32)
    of_other = np.array([max(count, 1) ** -0.5 for count in counts.tolist()], np.float32)
    return np.where(falls, of_fall[source], of_other[source])[clip]


def _unpacked(keypoints: pl.Series) -> tuple[list[Halves], Wholes, Wholes, Wholes]:
    """Packed key points where they lie in memory.

    The arrays that hold them, and of each row the number of its array, the place where it begins
    in it, and its samples. Nothing is copied where Polars holds them as they were in the file.
    """
    views = keypoints.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    _, packed, *buffers = views.buffers()
    # Length, first four bytes, number of the buffer, place in it (Arrow's binary view).
    fields = np.frombuffer(packed or b"", np.int32).reshape(-1, 4)
    fields = fields[views.offset : views.offset + len(views)]
    size, number, place = (fields[:, field].astype(np.int64) for field in (0, 2, 3))
    for row in np.flatnonzero(size % _SAMPLE_BYTES)[:1].tolist():
        unpack_keypoints(keypoints[row])  # It says what is wrong.
    empty = size == 0
    if (place[~empty] % 2).any():
        together = np.frombuffer(b"".join(keypoints.to_list()), "<f2")
        return [together], np.zeros_like(size), (np.cumsum(size) - size) // 2, size // _SAMPLE_BYTES
    values = [np.frombuffer(buffer, "<f2", len(buffer) // 2) for buffer in buffers]
    number[empty], place[empty] = 0, 0
    return values or [np.zeros(0, "<f2")], number, place // 2, size // _SAMPLE_BYTES


def _refuse_mixed(rows: pl.DataFrame) -> None:
    """Refuse tracks of one segment that are sampled in several ways; rows by segment."""
    before = pl.col("rate_hz", "aspect").shift(1)
    differs = pl.any_horizontal(pl.col("rate_hz", "aspect") != before)
    mixed = rows.filter((pl.col("place") == pl.col("place").shift(1)) & differs)
    for video_id, rate_hz, aspect in mixed.select("video_id", "rate_hz", "aspect").rows()[:1]:
        raise MixedTracksError(
            f"a track of {video_id} is sampled at {rate_hz} Hz with aspect {aspect}, another "
            "otherwise: they are sampled in several ways; give those of one feature set"
        )


def _intervals(labels: pl.DataFrame) -> dict[str, tuple[tuple[Fall, ...], tuple[Interval, ...]]]:
    by_video: dict[str, list[tuple[Any, ...]]] = {}
    ordered = labels.sort("start_s", "end_s", maintain_order=True)
    for video_id, *row in ordered.select(
        "video_id", "label", "start_s", "end_s", "event_id", "label_id"
    ).iter_rows():
        by_video.setdefault(video_id, []).append(tuple(row))
    return {
        video_id: (
            _falls(rows),
            tuple(Interval(start_s, end_s, label) for label, start_s, end_s, *_ in rows),
        )
        for video_id, rows in by_video.items()
    }
