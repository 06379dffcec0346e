"""Whether what judges a model was also learned from: the same video, scene, person or motion.

What belongs here: what two folds share, and motion that stands in both nearly the same. What does
not: dealing folds out (`labelling.splits`). Pure, numpy only.

Copies of one recording under other names (re-encoded, trimmed, of another camera file) have other
ids, so motion itself is compared: windows of people's key points, relative to the trunk and in
body sizes, as the detector sees them. Windows in which nobody moves are left out: whoever stands
still looks like anybody who does.

What the default distance does, on the 138 public recordings of the benchmarks (262 moving windows,
5 folds): none is that near to one of another fold (the nearest two, of one actor, are 0.044
apart), while of the same windows with 1 % of the picture's sides of jitter on every point 95 %
are, of windows cut 0.1 s later 90 %, and cut 0.2 s later 5 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.windows import (
    KEY_POINTS,
    Floats,
    SegmentTracks,
    Wholes,
    WindowSettings,
    pose_features,
    scored_ends,
    seen,
    window_at,
)

_POOLED = 4
_TOGETHER = 2048
_COARSE = 32
_COORDINATES = slice(0, 2 * KEY_POINTS)
_PATH = slice(3 * KEY_POINTS, 3 * KEY_POINTS + 2)


@dataclass(frozen=True)
class LeakageSettings:
    """When two windows are near-duplicates, and how many are too many.

    Attributes:
        distance: root mean square of the differences of all coordinates over the window, in body
            sizes, at or under which two windows are near-duplicates.
        min_motion: root mean square by which coordinates move about their means; under it a
            window is too still to tell anything.
        min_seen: share of a window's samples in which the person must be seen.
        max_windows: of more windows so many are drawn, with `seed`.
        max_share: of the windows compared, so many may have a near-duplicate in another fold.
        windows: how windows are cut.
    """

    distance: float = 0.03
    min_motion: float = 0.1
    min_seen: float = 0.7
    max_windows: int = 20_000
    max_share: float = 0.005
    seed: int = 0
    windows: WindowSettings = field(default_factory=lambda: WindowSettings(stride_s=0.5))


@dataclass(frozen=True)
class Twins:
    """Two segments of different folds with near-duplicate windows.

    `windows`: how many of the first's have one in the second; the nearest two end at `end_s` and
    `other_end_s`, `distance` apart.
    """

    video_id: str
    other_id: str
    fold: int
    other_fold: int
    windows: int
    distance: float
    end_s: float
    other_end_s: float


@dataclass(frozen=True)
class Shared:
    """A video, scene, subject or group of clips (`kind`) that lies in several folds."""

    kind: str
    name: str
    folds: tuple[int, ...]


@dataclass(frozen=True)
class Leakage:
    """What folds share.

    Attributes:
        shared: videos, scenes, subjects and groups that lie in several folds.
        twins: pairs of segments, the nearest first.
        compared: windows with motion that were compared.
        windows: windows with motion that there were.
        duplicated: of those compared, how many have a near-duplicate in another fold.
        settings: by what rule.
    """

    shared: tuple[Shared, ...]
    twins: tuple[Twins, ...]
    compared: int
    windows: int
    duplicated: int
    settings: LeakageSettings

    @property
    def share(self) -> float:
        """Of the windows compared, the share with a near-duplicate in another fold."""
        return self.duplicated / self.compared if self.compared else 0.0

    @property
    def passed(self) -> bool:
        """Nothing is shared, and no more near-duplicates than allowed."""
        return not self.shared and self.share <= self.settings.max_share

    @property
    def text(self) -> str:
        """All in one sentence."""
        parts = [f"{shared.kind} {shared.name} lies in folds {_list(shared.folds)}" for shared in
                 self.shared[:5]]  # fmt: skip
        if len(self.shared) > 5:
            parts.append(f"{len(self.shared) - 5} more are in several folds")
        parts.append(
            f"{self.duplicated} of {self.compared} moving windows have a near-duplicate (at most "
            f"{self.settings.distance:g} body sizes away) in another fold, allowed are "
            f"{self.settings.max_share:.1%}"
        )
        return "; ".join(parts)


def find_leaks(
    learning_set: LearningSet,
    videos: pl.DataFrame | None = None,
    groups: Mapping[str, str] | None = None,
    settings: LeakageSettings | None = None,
) -> Leakage:
    """What the folds of a training set share.

    Args:
        learning_set: labelled footage in folds; what only teaches is looked at as well.
        videos: rows of `videos` (video_id, dataset, scene, subject); None looks at motion only. A
            data set that names a single subject has it in every fold, and nothing is said of it.
        groups: split group of each segment, as the set's manifest has it.
        settings: when windows are near-duplicates.
    """
    settings = settings or LeakageSettings()
    folds = {video_id: truth.fold for video_id, truth in learning_set.truths.items()}
    shared = [*_shared_rows(folds, videos), *_shared("group", (groups or {}).items(), folds)]
    found = _moving_windows(learning_set, settings)
    if len(found) > settings.max_windows:
        rng = np.random.default_rng(settings.seed)
        chosen = found.take(np.sort(rng.permutation(len(found))[: settings.max_windows]))
    else:
        chosen = found
    twins, duplicated = _twins(chosen, folds, settings)
    return Leakage(tuple(shared), tuple(twins), len(chosen), len(found), duplicated, settings)


def motion_of(windows: Floats, aspect: Floats | float) -> Floats:
    """What windows (n, samples, 17, 3) are compared by: (n, numbers) float32, in body sizes.

    The root mean square difference of two rows is their distance. Means over 0.4 s take the
    network's jitter out.
    """
    features = pose_features(windows, aspect)
    kept = np.concatenate([features[..., _COORDINATES], features[..., _PATH]], axis=-1)
    n, samples, width = kept.shape
    steps = samples // _POOLED
    pooled = kept[:, : steps * _POOLED].reshape(n, steps, _POOLED, width).mean(axis=2)
    return np.asarray(pooled.reshape(n, steps * width), np.float32)


@dataclass(frozen=True)
class _Windows:
    """Moving windows: `motion` (n, numbers), the number of each one's segment, and its end."""

    motion: Floats
    segment: Wholes
    end_s: Floats
    fold: Wholes
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.segment)

    def take(self, chosen: Wholes) -> _Windows:
        return _Windows(
            self.motion[chosen],
            self.segment[chosen],
            self.end_s[chosen],
            self.fold[chosen],
            self.names,
        )


def _moving_windows(learning_set: LearningSet, settings: LeakageSettings) -> _Windows:
    names = tuple(sorted(learning_set.truths))
    motions, segments, ends, folds = [], [], [], []
    for number, video_id in enumerate(names):
        motion, end_s = _moving(learning_set.tracks[video_id], settings)
        motions.append(motion)
        ends.append(end_s)
        segments.append(np.full(len(end_s), number, np.int64))
        folds.append(np.full(len(end_s), learning_set.truths[video_id].fold, np.int64))
    moving = [part for part in motions if len(part)] or [np.zeros((0, 0), np.float32)]
    return _Windows(
        np.concatenate(moving),
        np.concatenate([np.zeros(0, np.int64), *segments]),
        np.concatenate([np.zeros(0, np.float32), *ends]),
        np.concatenate([np.zeros(0, np.int64), *folds]),
        names,
    )


def _moving(tracks: SegmentTracks, settings: LeakageSettings) -> tuple[Floats, Floats]:
    ends = scored_ends(tracks.duration_s, settings.windows)
    windows, kept = [], []
    needed = settings.min_seen * settings.windows.samples
    for track in tracks.tracks:
        for end_s in ends:
            window = window_at(track, end_s, settings.windows)
            if seen(window).sum() >= needed:
                windows.append(window)
                kept.append(end_s)
    if not windows:
        return np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    motion = motion_of(np.stack(windows), tracks.aspect)
    steps = settings.windows.samples // _POOLED
    by_step = motion.reshape(len(motion), steps, -1)
    moves = np.sqrt(by_step.var(axis=1).mean(axis=1)) >= settings.min_motion
    return motion[moves], np.asarray(kept, np.float32)[moves]


def _twins(
    windows: _Windows, folds: Mapping[str, int], settings: LeakageSettings
) -> tuple[list[Twins], int]:
    """Pairs of segments of different folds, the nearest first, and how many windows have a twin."""
    if len(windows) < 2:
        return [], 0
    motion = windows.motion - windows.motion.mean(axis=0)
    width = motion.shape[1]
    _, axes = np.linalg.eigh(motion.T @ motion)
    # A projection onto some directions never makes two windows lie farther apart, so that nothing
    # is lost where only what is near in it is looked at whole.
    coarse = motion @ axes[:, -_COARSE:]
    limit = settings.distance * np.sqrt(width)
    norms = (coarse**2).sum(axis=1)
    nearest: dict[tuple[int, int], tuple[float, int, int]] = {}
    with_twin: dict[tuple[int, int], set[int]] = {}
    duplicated: set[int] = set()
    for at in range(0, len(windows), _TOGETHER):
        part = slice(at, at + _TOGETHER)
        apart = norms[part, None] + norms - 2 * coarse[part] @ coarse.T
        near = (apart <= limit**2 * 1.001 + 1e-4) & (windows.fold[part, None] != windows.fold)
        first, second = np.nonzero(near)
        first = first + at
        distance = np.concatenate(
            [
                np.zeros(0),
                *(
                    np.sqrt(((motion[first[i:j]] - motion[second[i:j]]) ** 2).mean(axis=1))
                    for i, j in ((k, k + _TOGETHER) for k in range(0, len(first), _TOGETHER))
                ),
            ]
        )
        close = distance <= settings.distance
        duplicated.update(first[close].tolist())
        for one, other, gap in zip(
            first[close].tolist(), second[close].tolist(), distance[close].tolist(), strict=True
        ):
            pair = (int(windows.segment[one]), int(windows.segment[other]))
            if pair[0] > pair[1]:
                continue
            with_twin.setdefault(pair, set()).add(one)
            if pair not in nearest or gap < nearest[pair][0]:
                nearest[pair] = (gap, one, other)
    twins = [
        Twins(
            windows.names[a],
            windows.names[b],
            folds[windows.names[a]],
            folds[windows.names[b]],
            len(with_twin[a, b]),
            gap,
            float(windows.end_s[one]),
            float(windows.end_s[other]),
        )
        for (a, b), (gap, one, other) in nearest.items()
    ]
    return sorted(twins, key=lambda twin: (twin.distance, twin.video_id)), len(duplicated)


def _shared_rows(folds: Mapping[str, int], videos: pl.DataFrame | None) -> list[Shared]:
    if videos is None:
        return []
    rows = videos.filter(pl.col("video_id").is_in(list(folds)))
    several = {
        dataset
        for dataset, count in rows.group_by("dataset")
        .agg(pl.col("subject").drop_nulls().n_unique())
        .iter_rows()
        if count > 1
    }
    named = rows.filter(pl.col("dataset").is_in(list(several)), pl.col("subject").is_not_null())
    subjects = named.select(
        "video_id", pl.concat_str("dataset", "subject", separator="/")
    ).iter_rows()
    return [
        *_shared("scene", rows.select("video_id", "scene").iter_rows(), folds),
        *_shared("subject", subjects, folds),
    ]


def _shared(kind: str, names: Iterable[tuple[str, str]], folds: Mapping[str, int]) -> list[Shared]:
    lies_in: dict[str, set[int]] = {}
    for video_id, name in names:
        if video_id in folds:
            lies_in.setdefault(name, set()).add(folds[video_id])
    return [
        Shared(kind, name, tuple(sorted(found)))
        for name, found in sorted(lies_in.items())
        if len(found) > 1
    ]


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers)
