"""Windows over people's pose tracks, and the figures that a network sees of each.

What belongs here: tracks as arrays, cutting windows out of them, turning key points into
features; numpy only, so that an edge box can use it. What does not: networks (`network`),
joining tables of the lake (`dataset`).

Everything about a window is computed from that window alone: a score never depends on what was
seen before it, after it, or on what else is in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from fall_assets.errors import PermanentFailureError
from fall_assets.features.packing import unpack_keypoints

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
Wholes = npt.NDArray[np.int64]

KEY_POINTS = 17
NOSE, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 0, 5, 6, 11, 12
LEFT_ANKLE, RIGHT_ANKLE = 15, 16
MIRRORED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""Index of each key point's counterpart on the other side of the body, in COCO's order."""

_HEAD = (0, 1, 2, 3, 4)
_TORSO = (LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP)
_SAMPLE = KEY_POINTS * 3
_EDGE_SHARE = 0.05
_TINY = 1e-6
_FEWEST_SIGHTS = 3

CHANNELS = 2 * KEY_POINTS + 2 + 2 + 2 + 2 + 2 + 3 + 4
"""Number of features per sample that `pose_features` gives."""


class MixedTracksError(PermanentFailureError):
    """Rows of several segments or feature sets were given as one segment."""


@dataclass(frozen=True)
class Track:
    """One person through a segment.

    `keypoints` is float32 of shape (samples, 17, 3): x and y as shares of the picture, y down,
    and the score, 0 where the person was not seen. Its first sample is the segment's sample
    number `start`.
    """

    number: int
    start: int
    keypoints: Floats

    def __post_init__(self) -> None:
        if self.keypoints.ndim != 3 or self.keypoints.shape[1:] != (KEY_POINTS, 3):
            raise ValueError(
                f"track {self.number}: key points of shape {self.keypoints.shape}, "
                f"wanted (samples, {KEY_POINTS}, 3)"
            )


@dataclass(frozen=True)
class SegmentTracks:
    """Everybody seen in one segment, sampled at `rate_hz` from its first frame on.

    `aspect` is the picture's width over its height.
    """

    video_id: str
    duration_s: float
    rate_hz: float
    aspect: float
    tracks: tuple[Track, ...] = ()


@dataclass(frozen=True)
class WindowSettings:
    """How windows are cut and what counts as having seen somebody.

    A track is scored in a window that holds at least `min_seen` samples of it, while the person is
    in view: seen in one of the last `in_view` samples. Who walks out of the picture is last seen as
    a pair of legs, which looks like a fall as long as nothing more is seen of it. Gaps of up to
    `max_gap` samples are filled by interpolation.
    """

    window_s: float = 4.0
    stride_s: float = 0.2
    first_end_s: float = 1.0
    rate_hz: float = 10.0
    min_seen: int = 5
    max_gap: int = 8
    in_view: int = 2

    @property
    def samples(self) -> int:
        """Samples in a window."""
        return round(self.window_s * self.rate_hz)


@dataclass(frozen=True)
class PackedTracks:
    """Many people's tracks in half precision, where and as they were read from the lake.

    Track k is the `length[k]` samples that stand one after another, as 17 times x, y and score, in
    the array `values[source[k]]` from place `begin[k]` on; its first is its segment's sample
    number `start[k]`.
    """

    values: Sequence[Halves]
    source: Wholes
    begin: Wholes
    length: Wholes
    start: Wholes

    def keypoints(self, track: int) -> Floats:
        """The key points of one track: (samples, 17, 3)."""
        begin = int(self.begin[track])
        packed = self.values[self.source[track]][begin : begin + int(self.length[track]) * _SAMPLE]
        keypoints: Floats = packed.reshape(-1, KEY_POINTS, 3).astype(np.float32)
        return keypoints

    def windows(self, track: Wholes, first: Wholes, samples: int) -> Floats:
        """The `samples` samples from sample `first` of each track: (n, samples, 17, 3).

        Samples outside of the track are unseen (all zero).
        """
        at = first[:, None] + np.arange(samples)
        inside = (at >= 0) & (at < self.length[track, None])
        place = self.begin[track, None] + at * _SAMPLE
        whole = inside.all(axis=1)
        points = np.zeros((len(track), samples, _SAMPLE), np.float32)
        for number in np.unique(self.source[track]).tolist():
            own = self.source[track] == number
            records = _records(self.values[number])
            full = own & whole
            points[full] = records[place[full]]
            part = (own & ~whole)[:, None] & inside
            points[part] = records[place[part]]
        return points.reshape(len(track), samples, KEY_POINTS, 3)

    def first_sample(
        self, track: Wholes, end_s: npt.NDArray[np.float64], settings: WindowSettings
    ) -> Wholes:
        """Where windows that end at `end_s` begin, in samples from each track's first one."""
        ends = np.rint(end_s * settings.rate_hz).astype(np.int64)
        return np.asarray(ends - settings.samples - self.start[track])

    def scored(
        self, track: Wholes, first: Wholes, settings: WindowSettings
    ) -> npt.NDArray[np.bool_]:
        """Which windows, from sample `first` of each track on, show enough of the person.

        The same as `window_at` and `min_seen` say of one.
        """
        ends = np.cumsum(self.length)
        counted = np.zeros(int(self.length.sum()) + 1, np.int32)
        np.cumsum(self._seen(ends), out=counted[1:])
        begin, length = (ends - self.length)[track], self.length[track]

        def until(sample: Wholes) -> npt.NDArray[np.int32]:
            upto: npt.NDArray[np.int32] = counted[begin + np.clip(sample, 0, length)]
            return upto

        last = first + settings.samples
        whole = until(last)
        enough = whole - until(first) >= settings.min_seen
        if settings.in_view:
            enough &= whole > until(last - settings.in_view)
        return np.asarray(enough)

    def _seen(self, ends: Wholes) -> npt.NDArray[np.bool_]:
        """Where the person was seen, of all samples of all tracks, track by track."""
        bits = [values.view(np.uint16) for values in self.values]
        begins, lengths = self.begin.tolist(), (self.length * _SAMPLE).tolist()
        first_joint = [
            bits[number][begin + 2 : begin + length : _SAMPLE]
            for number, begin, length in zip(self.source.tolist(), begins, lengths, strict=True)
        ]
        found = _positive(np.concatenate([np.zeros(0, np.uint16), *first_joint]))
        # Most often the first joint says it already.
        rest = np.flatnonzero(~found)
        track = np.searchsorted(ends, rest, side="right")
        place = self.begin[track] + (rest - ends[track] + self.length[track]) * _SAMPLE
        for number, halves in enumerate(bits):
            own = self.source[track] == number
            # A row per joint: numpy is slow at many short rows.
            scores = np.ascontiguousarray(_records(halves)[place[own], 2::3].T)
            found[rest[own]] = _positive(scores).any(axis=0)
        return found


def _positive(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
    """Which halves, read as whole numbers, are above 0: those are 1 to 0x7C00 (infinity)."""
    above: npt.NDArray[np.bool_] = bits - np.uint16(1) < 0x7C00
    return above


def _records(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view in which row i is the sample that begins at place i."""
    if len(values) < _SAMPLE:
        return np.zeros((0, _SAMPLE), values.dtype)
    return np.lib.stride_tricks.sliding_window_view(values, _SAMPLE)


class Points(Protocol):
    """Key points of n windows, (n, samples, 17, 3): an array, or what gives parts of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, samples, 17, 3)."""

    def __len__(self) -> int: ...

    def __getitem__(self, windows: Any, /) -> Any: ...

    def __array__(self) -> npt.NDArray[Any]: ...


class GatheredPoints:
    """Windows that are taken from tracks when they are asked for; until then they cost nothing.

    Indexed by a number, a slice, a mask or an array of numbers, as an array of shape
    (n, samples, 17, 3) is; `np.asarray` gives all of it.
    """

    def __init__(self, tracks: PackedTracks, track: Wholes, first: Wholes, samples: int) -> None:
        """Window i is the `samples` samples from sample `first[i]` of track `track[i]` on.

        Samples outside of the track are unseen (all zero).
        """
        self._tracks, self._track, self._first, self._samples = tracks, track, first, samples

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, samples, 17, 3)."""
        return (len(self._track), self._samples, KEY_POINTS, 3)

    def __len__(self) -> int:
        return len(self._track)

    def __getitem__(self, windows: int | slice | npt.NDArray[Any]) -> Floats:
        track, first = np.asarray(self._track[windows]), np.asarray(self._first[windows])
        points = self._tracks.windows(track.reshape(-1), first.reshape(-1), self._samples)
        return points if track.ndim else np.asarray(points[0])

    def __array__(self, dtype: npt.DTypeLike = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype)


class StackedPoints:
    """Windows of several sources behind one another, indexed as `GatheredPoints` are."""

    def __init__(self, parts: Sequence[Points]) -> None:
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in self._parts])

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, samples, 17, 3)."""
        return (len(self), *self._parts[0].shape[1:])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, windows: int | slice | npt.NDArray[Any]) -> Floats:
        chosen = np.arange(len(self))[windows]
        numbers = np.atleast_1d(chosen)
        part_of = np.searchsorted(self._ends, numbers, side="right")
        points = np.empty((len(numbers), *self.shape[1:]), np.float32)
        for place, part in enumerate(self._parts):
            own = part_of == place
            if own.any():
                points[own] = part[numbers[own] - (self._ends[place] - len(part))]
        return points if np.ndim(chosen) else points[0]

    def __array__(self, dtype: npt.DTypeLike = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype)


@dataclass(frozen=True)
class WindowSet:
    """Windows to learn from; all arrays share their first axis.

    `keypoints` (n, samples, 17, 3), an array or what gives the windows that it is indexed by,
    `aspect` (n,), `target` (n,) of 0 and 1, `weight` (n,): how often a window is drawn, relative
    to the others of its class (default: 1), `group` (n,): its fold (default: 0).
    """

    keypoints: Points
    aspect: Floats
    target: Wholes
    weight: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    group: Wholes = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        count = len(self.target)
        if count and not len(self.weight):
            object.__setattr__(self, "weight", np.ones(count, np.float32))
        if count and not len(self.group):
            object.__setattr__(self, "group", np.zeros(count, np.int64))
        lengths = {count, len(self.keypoints), len(self.aspect), len(self.weight), len(self.group)}
        if len(lengths) > 1:
            raise ValueError(f"arrays of different lengths: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.target)

    @classmethod
    def empty(cls, samples: int) -> WindowSet:
        """No windows."""
        return cls(
            np.zeros((0, samples, KEY_POINTS, 3), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[WindowSet]) -> WindowSet:
        """One set of all parts, in order; at least one part."""
        return cls(
            StackedPoints([part.keypoints for part in parts]),
            np.concatenate([part.aspect for part in parts]),
            np.concatenate([part.target for part in parts]),
            np.concatenate([part.weight for part in parts]),
            np.concatenate([part.group for part in parts]),
        )


def scored_ends(duration_s: float, settings: WindowSettings | None = None) -> list[float]:
    """Ends of the windows that are scored, in seconds from the segment's start.

    From `first_end_s` on every `stride_s`, and once more at the segment's last whole sample,
    so that a fall at the very end of a segment is looked at. A segment shorter than
    `first_end_s` has that last one only.
    """
    settings = settings or WindowSettings()
    last = int(duration_s * settings.rate_hz + _TINY) / settings.rate_hz
    count = math.floor((last - settings.first_end_s) / settings.stride_s + _TINY) + 1
    ends = [scored_end(number, settings) for number in range(max(count, 0))]
    if last > 0 and (not ends or last - ends[-1] > _TINY):
        ends.append(round(last, 6))
    return ends


def scored_end(number: int, settings: WindowSettings) -> float:
    """The end of window `number`, from 0 on, of those that are scored every `stride_s`."""
    return round(settings.first_end_s + number * settings.stride_s, 6)


def segment_tracks(
    video_id: str, duration_s: float, pose_tracks: pl.DataFrame, rate_hz: float = 10.0
) -> SegmentTracks:
    """Everybody in one segment, from its rows of the table `pose_tracks`.

    Args:
        video_id: the segment.
        duration_s: its length.
        pose_tracks: its rows, of one feature set; none where nobody was seen.
        rate_hz: samples per second to state where nobody was seen.

    Raises:
        MixedTracksError: where the rows are of other segments or of several samplings.
    """
    tracks = []
    frames = set()
    for row in pose_tracks.sort("track").iter_rows(named=True):
        frames.add((row["video_id"], row["rate_hz"], row["aspect"]))
        start = round(row["start_s"] * row["rate_hz"])
        tracks.append(Track(row["track"], start, unpack_keypoints(row["keypoints"])))
    if len(frames) > 1 or any(found != video_id for found, _, _ in frames):
        raise MixedTracksError(
            f"tracks of {video_id} stand with others (segment, rate, aspect): {sorted(frames)}; "
            "give those of one segment and one feature set"
        )
    _, rate_hz, aspect = frames.pop() if frames else (video_id, rate_hz, 1.0)
    return SegmentTracks(video_id, duration_s, rate_hz, aspect, tuple(tracks))


def person_tracks(
    video_id: str, keypoints: Floats, *, rate_hz: float, aspect: float, max_gap_s: float = 1.5
) -> SegmentTracks:
    """One person through a film, (samples, 17, 3), as a tracker gives it.

    Who was away for longer than `max_gap_s` is somebody else; under three sights are nobody.
    """
    sights = np.flatnonzero(seen(keypoints))
    parts = np.split(sights, np.flatnonzero(np.diff(sights) > max_gap_s * rate_hz) + 1)
    tracks = tuple(
        Track(number, int(part[0]), keypoints[part[0] : part[-1] + 1])
        for number, part in enumerate(part for part in parts if len(part) >= _FEWEST_SIGHTS)
    )
    return SegmentTracks(video_id, len(keypoints) / rate_hz, rate_hz, aspect, tracks)


def window_at(track: Track, end_s: float, settings: WindowSettings | None = None) -> Floats:
    """The window of a track that ends at `end_s`: (samples, 17, 3).

    It holds the samples from `end_s - window_s` up to, and without, `end_s`: what is known at
    that moment. Samples before the segment or outside the track are unseen (all zero), and all of
    them are where the person is not in view at its end.
    """
    settings = settings or WindowSettings()
    samples = settings.samples
    window = np.zeros((samples, KEY_POINTS, 3), np.float32)
    first = round(end_s * settings.rate_hz) - samples - track.start
    source = slice(max(first, 0), max(min(first + samples, len(track.keypoints)), 0))
    taken = track.keypoints[source]
    offset = source.start - first
    window[offset : offset + len(taken)] = taken
    if settings.in_view and not seen(window[-settings.in_view :]).any():
        window[:] = 0
    return window


def seen(keypoints: Floats) -> npt.NDArray[np.bool_]:
    """Where the person was seen: (..., samples, 17, 3) -> (..., samples)."""
    return np.asarray((keypoints[..., 2] > 0).any(axis=-1))


def hold_gaps(keypoints: Floats, max_gap: int = 8) -> Floats:
    """Fill what was not seen: (n, samples, 17, 3) -> the same shape.

    Positions inside gaps of at most `max_gap` samples are interpolated linearly, elsewhere the
    last (before the first sight: the first) position is held. Scores stay 0 where unseen.
    """
    n, samples = keypoints.shape[:2]
    visible = seen(keypoints)
    index = np.broadcast_to(np.arange(samples), (n, samples))
    before = np.maximum.accumulate(np.where(visible, index, -1), axis=1)
    after = np.minimum.accumulate(np.where(visible, index, samples)[:, ::-1], axis=1)[:, ::-1]
    left = np.where(before >= 0, before, np.where(after < samples, after, 0))
    right = np.where(after < samples, after, left)
    gap = right - left
    bridged = (before >= 0) & (gap > 0) & (gap <= max_gap + 1)
    share = np.where(bridged, (index - left) / np.maximum(gap, 1), 0.0).astype(np.float32)
    rows = np.arange(n)[:, None]
    positions = keypoints[..., :2]
    filled = keypoints.copy()
    share = share[..., None, None]
    filled[..., :2] = positions[rows, left] * (1 - share) + positions[rows, right] * share
    return filled


def pose_features(keypoints: Floats, aspect: Floats | float, max_gap: int = 8) -> Floats:
    """What the network sees of a window: (..., samples, 17, 3) -> (..., samples, CHANNELS).

    Lengths are in units of the body's size: the 90th percentile over the window of the diagonal
    of the box around the key points, which is near the body's height whether the person stands
    or lies. Positions are relative to the trunk's centre, and the trunk's to where it was first
    seen, so that neither the place in the picture nor the distance from the camera matters.
    In this order: key points x and y (34), trunk's path (2), trunk's and head's
    velocity per 0.1 s (4), trunk's direction (2), feet to head (2), box width, height and the
    logarithm of their ratio (3), nearness of the four edges (4).

    How sure the pose network is, and in which samples it found the person, weighs and fills key
    points but is not shown: both tell one room and light from another better than a fall from
    an activity, and are what a detector that saw them carried over worst (docs/detector.md).

    Args:
        keypoints: x and y as shares of the picture, y down; score 0 where unseen.
        aspect: the picture's width over its height, one per window or one for all.
        max_gap: samples up to which a gap is interpolated.
    """
    shape = keypoints.shape[:-2]
    body = _body(keypoints.reshape(-1, shape[-1], KEY_POINTS, 3), aspect, max_gap)
    n, samples = body.points.shape[:2]
    xy, trust, centre, scale, visible = body.xy, body.trust, body.centre, body.scale, body.visible
    low, high, wide, box = body.low, body.high, body.wide, body.high - body.low
    path = body.path()
    head = _mean(xy, trust, _HEAD)
    feet = _mean(xy, trust, (LEFT_ANKLE, RIGHT_ANKLE))
    shoulders = _mean(xy, trust, (LEFT_SHOULDER, RIGHT_SHOULDER))
    hips = _mean(xy, trust, (LEFT_HIP, RIGHT_HIP))
    trunk = shoulders - hips
    direction = trunk / np.maximum(np.linalg.norm(trunk, axis=-1, keepdims=True), 0.02)
    edges = np.stack(
        [
            low[..., 0] / wide[..., 0],
            1 - high[..., 0] / wide[..., 0],
            low[..., 1],
            1 - high[..., 1],
        ],
        axis=-1,
    )
    features = np.concatenate(
        [
            ((xy - centre[:, :, None]) / scale[..., None]).reshape(n, samples, -1),
            path,
            _difference(centre) / scale,
            _difference(head) / scale,
            direction,
            (head - feet) / scale,
            box / scale,
            np.log((box[..., 1:] / scale + 0.05) / (box[..., :1] / scale + 0.05)),
            np.exp(-np.clip(edges, 0, 1) / _EDGE_SHARE) * visible[..., None],
        ],
        axis=-1,
    )
    bounded: Floats = np.clip(features, -4, 4).astype(np.float32)
    return bounded.reshape(*shape, CHANNELS)


def strongest_drop(windows: Floats, aspect: float) -> int:
    """Which of several people's windows (k, samples, 17, 3) shows the strongest way down.

    Only one of them falls: the one whose trunk sinks farthest, in body sizes, between its
    highest place and a later one. The first of equals.
    """
    return int(np.argmax(drops(windows, aspect)))


def drops(windows: Floats, aspect: Floats | float) -> Floats:
    """How far each trunk sinks, in body sizes, from its highest place to a later one.

    (n, samples, 17, 3) and an aspect per window, or one for all, -> (n,). As `pose_features` has
    it: bounded, and the same whatever else is in the batch.
    """
    height = np.clip(_body(windows, aspect).path()[..., 1], -4, 4)
    return np.asarray((height - np.minimum.accumulate(height, axis=-1)).max(axis=-1))


@dataclass(frozen=True)
class _Body:
    """What windows (n, samples, 17, 3) say of where a body is and how large.

    `points` without gaps, `visible` and lengths in picture heights: `xy`, the trunk's `centre`,
    the box from `low` to `high`; `scale` is the body's size.
    """

    points: Floats
    visible: Floats
    wide: Floats
    xy: Floats
    trust: Floats
    centre: Floats
    low: Floats
    high: Floats
    scale: Floats

    def path(self) -> Floats:
        """The trunk's way from where it was first seen, in body sizes: (n, samples, 2)."""
        start = _first_seen(self.centre, self.visible)
        return (self.centre - start[:, None]) / self.scale


def _body(keypoints: Floats, aspect: Floats | float, max_gap: int = 8) -> _Body:
    points = hold_gaps(keypoints, max_gap)
    n = len(points)
    visible = seen(points).astype(np.float32)
    scores = points[..., 2]
    wide = np.broadcast_to(np.asarray(aspect, np.float32).reshape(-1, 1, 1), (n, 1, 1))
    xy = np.stack([points[..., 0] * wide, points[..., 1]], axis=-1)
    # Held samples carry no score: every joint then counts the same, as it did when last seen.
    trust = np.where(visible[..., None] > 0, scores, 1.0) + 0.01
    centre = _mean(xy, trust, _TORSO)
    # numpy is slow at many short reductions; joint by joint is the same and five times faster.
    joints = [xy[:, :, joint] for joint in range(KEY_POINTS)]
    low, high = reduce(np.minimum, joints), reduce(np.maximum, joints)
    box = high - low
    diagonal = np.hypot(box[..., 0], box[..., 1])
    size = _masked_percentile(diagonal, visible, 0.9)
    scale = np.maximum(size, 0.02)[:, None, None]
    return _Body(points, visible, wide, xy, trust, centre, low, high, scale)


def _mean(xy: Floats, trust: Floats, joints: tuple[int, ...]) -> Floats:
    weight = trust[:, :, joints, None]
    return np.asarray((xy[:, :, joints] * weight).sum(axis=2) / weight.sum(axis=2), np.float32)


def _difference(path: Floats) -> Floats:
    step = np.zeros_like(path)
    step[:, 1:] = path[:, 1:] - path[:, :-1]
    return step


def _masked_percentile(values: Floats, mask: Floats, share: float) -> Floats:
    """Percentile over the samples that count, per row; 0 where none does."""
    ordered = np.sort(np.where(mask > 0, values, np.inf), axis=1)
    counts = mask.sum(axis=1).astype(np.int64)
    place = np.clip(np.ceil(share * counts).astype(np.int64) - 1, 0, None)
    picked = ordered[np.arange(len(values)), place]
    return np.where(counts > 0, picked, 0.0).astype(np.float32)


def _first_seen(path: Floats, mask: Floats, samples: int = 3) -> Floats:
    """Mean place over the first few samples that were seen: (n, t, 2) -> (n, 2)."""
    early = mask * (np.cumsum(mask, axis=1) <= samples)
    weight = np.maximum(early.sum(axis=1, keepdims=True), 1)
    return np.asarray((path * early[..., None]).sum(axis=1) / weight, np.float32)
