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
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fall_assets.errors import PermanentFailureError
from fall_assets.features.packing import unpack_keypoints

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float32]
Wholes = npt.NDArray[np.int64]

KEY_POINTS = 17
NOSE, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 0, 5, 6, 11, 12
LEFT_ANKLE, RIGHT_ANKLE = 15, 16
MIRRORED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""Index of each key point's counterpart on the other side of the body, in COCO's order."""

_HEAD = (0, 1, 2, 3, 4)
_TORSO = (LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP)
_EDGE_SHARE = 0.05
_TINY = 1e-6

CHANNELS = 2 * KEY_POINTS + KEY_POINTS + 2 + 2 + 2 + 2 + 2 + 3 + 2 + 4
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

    A track is scored in a window that holds at least `min_seen` samples of it. Gaps of up to
    `max_gap` samples are filled by interpolation.
    """

    window_s: float = 4.0
    stride_s: float = 0.5
    first_end_s: float = 1.0
    rate_hz: float = 10.0
    min_seen: int = 5
    max_gap: int = 8

    @property
    def samples(self) -> int:
        """Samples in a window."""
        return round(self.window_s * self.rate_hz)


@dataclass(frozen=True)
class WindowSet:
    """Windows to learn from; all arrays share their first axis.

    `keypoints` (n, samples, 17, 3), `aspect` (n,), `target` (n,) of 0 and 1, `weight` (n,): how
    often a window is drawn, relative to the others of its class (default: 1), `group` (n,): its
    fold (default: 0).
    """

    keypoints: Floats
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
            np.concatenate([part.keypoints for part in parts]),
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
    ends = [round(settings.first_end_s + i * settings.stride_s, 6) for i in range(max(count, 0))]
    if last > 0 and (not ends or last - ends[-1] > _TINY):
        ends.append(round(last, 6))
    return ends


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


def window_at(track: Track, end_s: float, settings: WindowSettings | None = None) -> Floats:
    """The window of a track that ends at `end_s`: (samples, 17, 3).

    It holds the samples from `end_s - window_s` up to, and without, `end_s`: what is known at
    that moment. Samples before the segment or outside the track are unseen (all zero).
    """
    settings = settings or WindowSettings()
    samples = settings.samples
    window = np.zeros((samples, KEY_POINTS, 3), np.float32)
    first = round(end_s * settings.rate_hz) - samples - track.start
    source = slice(max(first, 0), max(min(first + samples, len(track.keypoints)), 0))
    taken = track.keypoints[source]
    offset = source.start - first
    window[offset : offset + len(taken)] = taken
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
    In this order: key points x and y (34), scores (17), trunk's path (2), trunk's and head's
    velocity per 0.1 s (4), trunk's direction (2), feet to head (2), box width, height and the
    logarithm of their ratio (3), seen and mean score (2), nearness of the four edges (4).

    Args:
        keypoints: x and y as shares of the picture, y down; score 0 where unseen.
        aspect: the picture's width over its height, one per window or one for all.
        max_gap: samples up to which a gap is interpolated.
    """
    shape = keypoints.shape[:-2]
    points = hold_gaps(keypoints.reshape(-1, shape[-1], KEY_POINTS, 3), max_gap)
    n, samples = points.shape[:2]
    visible = seen(points).astype(np.float32)
    scores = points[..., 2]
    wide = np.broadcast_to(np.asarray(aspect, np.float32).reshape(-1, 1, 1), (n, 1, 1))
    xy = np.stack([points[..., 0] * wide, points[..., 1]], axis=-1)

    # Held samples carry no score: every joint then counts the same, as it did when last seen.
    trust = np.where(visible[..., None] > 0, scores, 1.0) + 0.01
    centre = _mean(xy, trust, _TORSO)
    low, high = xy.min(axis=2), xy.max(axis=2)
    box = high - low
    diagonal = np.hypot(box[..., 0], box[..., 1])
    size = _masked_percentile(diagonal, visible, 0.9)
    scale = np.maximum(size, 0.02)[:, None, None]

    start = _first_seen(centre, visible)
    path = (centre - start[:, None]) / scale
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
            scores,
            path,
            _difference(centre) / scale,
            _difference(head) / scale,
            direction,
            (head - feet) / scale,
            box / scale,
            np.log((box[..., 1:] / scale + 0.05) / (box[..., :1] / scale + 0.05)),
            visible[..., None],
            scores.mean(axis=-1, keepdims=True),
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
    column = 2 * KEY_POINTS + KEY_POINTS + 1
    height = pose_features(windows, aspect)[..., column]
    drops = (height - np.minimum.accumulate(height, axis=-1)).max(axis=-1)
    return int(np.argmax(drops))


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
