"""Windows of whole segments to learn from, for algorithms that do not look at single people.

What belongs here: which clips teach, how often each is drawn, and a set's samples by window.
What does not: what a model makes of them. numpy and Polars only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.labelling.automatic import EVERY_FOLD
from fall_assets.learning.algorithms.base import InputKind, MissingInputError, Plan
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.inputs import SegmentInputs, Stretch
from fall_assets.learning.windows import Floats, Wholes, WindowSettings, scored_ends

_TINY = 1e-6


@dataclass(frozen=True)
class Examples:
    """Certain clips; all arrays share their first axis.

    `segment` (n,) is the number in `segments` of each one's segment; `end_s` (n,) when its window
    ends, `target` (n,) 0 or 1, `weight` (n,): how often it is drawn, relative to the others of
    its class; `fold` (n,).
    """

    segments: tuple[str, ...]
    segment: Wholes
    end_s: npt.NDArray[np.float64]
    target: Wholes
    weight: Floats
    fold: Wholes

    def __len__(self) -> int:
        return len(self.target)

    def of(self, plan: Plan) -> Wholes:
        """Numbers of the examples that teach the model of a plan."""
        if plan.folds is None:
            return np.arange(len(self))
        return np.flatnonzero(np.isin(self.fold, [*plan.folds, EVERY_FOLD]))

    def only(self, chosen: npt.NDArray[np.bool_]) -> Examples:
        """Those of the examples that are marked."""
        return Examples(
            self.segments,
            self.segment[chosen],
            self.end_s[chosen],
            self.target[chosen],
            self.weight[chosen],
            self.fold[chosen],
        )


def examples_of(learning_set: LearningSet) -> Examples:
    """The certain clips of a set, each as one window of its whole picture.

    Each fall weighs the same however many windows show it, and a long segment weighs more than a
    short one only by the square root of its length, as in `dataset.training_windows`; the clips'
    own weights multiply these.
    """
    falls = pl.col("target") != 0
    same = pl.when(falls).then(pl.col("event_id")).otherwise(None)
    clips = (
        learning_set.clips.select("video_id", "end_s", "target", "event_id", "fold", "weight")
        .filter(pl.col("target").is_not_null())
        .with_columns(count=pl.len().over("video_id", falls.alias("falls"), same.alias("same")))
    )
    count = clips["count"].to_numpy().astype(np.float64)
    target = clips["target"].to_numpy().astype(np.int64)
    weight = clips["weight"].to_numpy()
    segments = tuple(sorted(clips["video_id"].unique()))
    place = {video_id: number for number, video_id in enumerate(segments)}
    return Examples(
        segments,
        np.array([place[video_id] for video_id in clips["video_id"]], np.int64),
        clips["end_s"].to_numpy().astype(np.float64),
        target,
        (np.where(target != 0, 1 / count, count**-0.5) * weight).astype(np.float32),
        clips["fold"].to_numpy().astype(np.int64),
    )


@dataclass(frozen=True)
class DenseSamples:
    """A set's samples of one segment on one clock: `values` (samples, width), `seen` (samples,).

    Where nothing was looked at, values are 0 and `seen` is false. Sample k is of moment
    k / `rate_hz`.
    """

    rate_hz: float
    values: Floats
    seen: npt.NDArray[np.bool_]

    def window(self, end_s: float, samples: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """The `samples` samples up to, and without, `end_s`: values and where they were seen."""
        last = round(end_s * self.rate_hz)
        first = last - samples
        values = np.zeros((samples, self.values.shape[1]), np.float32)
        seen = np.zeros(samples, np.bool_)
        source = slice(max(first, 0), max(min(last, len(self.values)), 0))
        taken = self.values[source]
        at = source.start - first
        values[at : at + len(taken)] = taken
        seen[at : at + len(taken)] = self.seen[source]
        return values, seen

    def windows(
        self, ends_s: Sequence[float], samples: int
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Several of them: (n, samples, width) and (n, samples)."""
        if not len(ends_s):
            empty = np.zeros((0, samples, self.values.shape[1]), np.float32)
            return empty, np.zeros((0, samples), np.bool_)
        each = [self.window(end_s, samples) for end_s in ends_s]
        return np.stack([values for values, _ in each]), np.stack([seen for _, seen in each])


@dataclass(frozen=True)
class Sampling:
    """How a set's samples lie: `rate_hz` per second, `width` values each."""

    rate_hz: float
    width: int

    def samples(self, windows: WindowSettings) -> int:
        """Samples in a window."""
        return max(1, round(windows.window_s * self.rate_hz))

    def least_seen(self, windows: WindowSettings) -> int:
        """Samples that a window must hold to be scored, for the same time as people's tracks."""
        return max(1, round(windows.min_seen * self.rate_hz / windows.rate_hz))


def sampling_of(learning_set: LearningSet, segments: Sequence[str], kind: InputKind) -> Sampling:
    """How the samples of a set lie.

    Raises MissingInputError where the set was read without them, or they are of several kinds.
    """
    if learning_set.stretches is None:
        raise MissingInputError(
            f"the learning set was read without {kind} samples: read the table `sequences` of a "
            f"feature set of kind {kind!r} with it"
        )
    found = {
        Sampling(stretch.rate_hz, stretch.values.shape[1])
        for video_id in segments
        for stretch in learning_set.stretches.get(video_id, ())
    }
    if len(found) != 1:
        kinds = sorted((one.rate_hz, one.width) for one in found)
        raise MissingInputError(
            f"the {kind} samples of {len(segments)} segments are of {len(found)} kinds (rate, "
            f"width): {kinds}; wanted one: compute features of one feature set for them"
        )
    return found.pop()


def dense(segment: SegmentInputs, sampling: Sampling, kind: InputKind) -> DenseSamples:
    """A segment's samples on one clock.

    Raises MissingInputError where they were not read or are not of the sampling.
    """
    if segment.stretches is None:
        raise MissingInputError(
            f"segment {segment.video_id} has no {kind} samples: materialize features with a set "
            f"of kind {kind!r} and read them with it"
        )
    rate, width = sampling.rate_hz, sampling.width
    count = max([int(segment.duration_s * rate + _TINY) + 1, *map(_end, segment.stretches)])
    values = np.zeros((count, width), np.float32)
    seen = np.zeros(count, np.bool_)
    for stretch in segment.stretches:
        if (stretch.rate_hz, stretch.values.shape[1]) != (rate, width):
            raise MissingInputError(
                f"{kind} samples of segment {segment.video_id} have {stretch.values.shape[1]} "
                f"values at {stretch.rate_hz} Hz, the model learned from {width} at {rate} Hz: "
                "compute its features with the same set"
            )
        first = round(stretch.start_s * rate)
        there = np.isfinite(stretch.values).all(axis=1)
        part = slice(first, first + len(there))
        values[part] = np.where(there[:, None], stretch.values, 0)
        seen[part] = there
    return DenseSamples(rate, values, seen)


def _end(stretch: Stretch) -> int:
    return round(stretch.start_s * stretch.rate_hz) + len(stretch.values)


def dense_of(
    learning_set: LearningSet, segments: Sequence[str], sampling: Sampling, kind: InputKind
) -> list[DenseSamples]:
    """The same of several segments of a set."""
    return [dense(learning_set.inputs(video_id), sampling, kind) for video_id in segments]


def class_chances(
    target: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    positive_share: float,
    strata: Sequence[tuple[float, npt.NDArray[np.bool_]]] = (),
) -> npt.NDArray[np.float64]:
    """Chance of each example to be drawn: falls `positive_share` of all, by weight among them.

    `strata` divides each class further: the share of its draws, and which examples it holds.

    Raises TooLittleDataError without a fall, or without anything else.
    """
    from fall_assets.learning.training import TooLittleDataError

    for wanted, name in ((True, "a fall"), (False, "no fall")):
        if not ((target > 0) == wanted).any():
            raise TooLittleDataError(
                f"none of {len(target)} windows to learn from holds {name}: label more footage"
            )
    parts = strata or ((1.0, np.ones(len(target), np.bool_)),)
    chances = np.zeros(len(target), np.float64)
    for falls, share in ((True, positive_share), (False, 1 - positive_share)):
        for part, members in parts:
            chosen = members & ((target > 0) == falls)
            total = float(weight[chosen].sum())
            if total > 0:
                chances[chosen] = weight[chosen] / total * share * part
    return np.asarray(chances / chances.sum())


def window_ends(segment: SegmentInputs, windows: WindowSettings) -> npt.NDArray[np.float64]:
    """When the windows end at which every algorithm scores a segment."""
    return np.asarray(scored_ends(segment.duration_s, windows), np.float64)
