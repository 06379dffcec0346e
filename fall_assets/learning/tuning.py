"""What a search for settings looks for and where it searches.

What belongs here: the objective, search spaces as plain values, and validation fold by fold. What
does not: studies, processes and records (`pipeline.tuning`). optuna is not loaded by this import.

The objective is the sensitivity at a stated rate of false alarms, smoothed. Plain sensitivity at a
rate cannot order settings: of some tens of falls it has some tens of values, and with minutes of
footage one alarm more or less moves the threshold past many of them. So it is made of three parts:

1. every fall has its evidence, the highest log odds among the windows that may find it;
2. every stretch of ordinary footage has its peaks of log odds, which would be its false alarms;
   the threshold for a rate of r alarms in h hours is the (r h)-th highest peak, between two of
   them by interpolation over the log of their ranks, and above the highest by the exponential
   tail that the highest ten peaks suggest (peaks over a threshold; Coles, An Introduction to
   Statistical Modeling of Extreme Values, 2001, section 4.2, with shape 0);
3. a fall counts by how far its evidence lies over the threshold (logistic, one unit of log odds
   wide), and the mean of that is taken over the rate's half, the rate itself and its double.

A setting that lifts falls further above ordinary moments thus always scores higher, also where both
find every fall.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fall_assets.errors import PermanentFailureError
from fall_assets.learning.algorithms import registry
from fall_assets.learning.algorithms.base import FitContext, Plan
from fall_assets.learning.attempts import GridError
from fall_assets.learning.events import EventSettings
from fall_assets.learning.metrics import SECONDS_PER_HOUR, ScoredVideo, operating_curve

if TYPE_CHECKING:
    from fall_assets.learning.dataset import LearningSet
    from fall_assets.learning.evaluate import LearningSettings
    from fall_assets.learning.windows import WindowSet

Floats = npt.NDArray[np.float64]
Kind = Literal["float", "int", "choice"]

SOFTNESS = 1.0
"""Width of the step from a missed to a found fall, in log odds."""

_LEAST = 1e-6
_TAIL_PEAKS = 10
_LEAST_TAIL = 0.25
_AROUND = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Range:
    """One setting that is searched.

    Attributes:
        setting: its name among the algorithm's settings, nested ones as `a.b`.
        kind: a 'float' or an 'int' from `low` to `high`, or one of the `choices`.
        log: whether it is searched by its logarithm.
        choices: plain values; a list stands for a tuple.
    """

    setting: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "choice":
            if not self.choices:
                raise GridError(f"{self.setting} is a choice of nothing: give choices")
        elif self.kind not in ("float", "int"):
            raise GridError(f"{self.setting} is {self.kind!r}, wanted float, int or choice")
        elif not self.low < self.high or (self.log and self.low <= 0):
            raise GridError(
                f"{self.setting} lies in {self.low} to {self.high}: low must be below high, and "
                "above 0 where it is searched by its logarithm"
            )


SPACES: Mapping[str, tuple[Range, ...]] = {
    "pose-tcn": (
        Range("learning_rate", "float", 1e-3, 1e-2, log=True),
        Range("weight_decay", "float", 1e-3, 0.1, log=True),
        Range("positive_share", "float", 0.2, 0.6),
        Range("label_smoothing", "float", 0.0, 0.15),
        Range("network.width", "choice", choices=(16, 24, 32, 48)),
        Range("network.dropout", "float", 0.0, 0.4),
        Range("augmentation.time_scale", "float", 0.0, 0.4),
        Range("augmentation.jitter", "float", 0.0, 0.05),
    ),
}
"""What is searched where a study does not say; other algorithms by `usual_space`."""

_USUAL: Mapping[str, Range] = {
    "learning_rate": Range("learning_rate", "float", 3e-4, 3e-2, log=True),
    "weight_decay": Range("weight_decay", "float", 1e-3, 0.1, log=True),
    "dropout": Range("dropout", "float", 0.0, 0.4),
    "label_smoothing": Range("label_smoothing", "float", 0.0, 0.15),
    "positive_share": Range("positive_share", "float", 0.2, 0.6),
    "width": Range("width", "choice", choices=(16, 32, 48)),
    "trees": Range("trees", "int", 50, 400, log=True),
    "leaves": Range("leaves", "int", 4, 32, log=True),
}


def usual_space(algorithm: str) -> tuple[Range, ...]:
    """The ready search space of an algorithm, or the usual ranges of the settings that it has.

    Raises GridError where there are none. Loads the algorithm's settings.
    """
    if algorithm in SPACES:
        return SPACES[algorithm]
    has = registry.as_values(registry.settings_of(algorithm))
    found = tuple(one for name, one in _USUAL.items() if name in has)
    if not found:
        raise GridError(f"there is no ready search space for {algorithm}: give the study one")
    return found


@dataclass(frozen=True)
class TuningSettings:
    """A search for the best settings of one algorithm.

    Attributes:
        study: its name; a study of the same name goes on where it ended.
        algorithm: the algorithm.
        trials: finished trials (complete or pruned) to reach in all.
        space: what is searched; empty takes `usual_space`.
        training: settings of the algorithm that are the same in all trials.
        extractors, picture, sample_hz: of the feature sets, as in a grid.
        simulated_windows: as in a grid.
        false_alarms_per_hour: the rate at which sensitivity is wanted.
        seed: of the search; the training seed is in `training`.
        workers: processes; 1 works in this one.
        random_trials: so many trials are drawn at random before the model of the search speaks.
        warmup_folds: no trial is given up before so many folds are judged.
        storage: Optuna's address of a database; None keeps a SQLite file beside the tracking
            store's.
    """

    study: str = "tuning"
    algorithm: str = "pose-tcn"
    trials: int = 20
    space: tuple[Range, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    extractors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    picture: Mapping[str, Any] = field(default_factory=dict)
    sample_hz: float = 10.0
    simulated_windows: int | None = None
    false_alarms_per_hour: float = 1.0
    seed: int = 0
    workers: int = 1
    random_trials: int = 8
    warmup_folds: int = 2
    storage: str | None = None

    def __post_init__(self) -> None:
        if self.trials < 1 or self.workers < 1:
            raise GridError("a study needs at least one trial and one worker")
        if self.false_alarms_per_hour <= 0:
            raise GridError(
                "sensitivity is wanted at a rate of false alarms above 0, not "
                f"{self.false_alarms_per_hour}"
            )

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> TuningSettings:
        """From plain values, as Dagster's configuration, TOML or JSON hold them.

        Raises GridError for unknown names and values that make no sense.
        """
        parts = dict(values)
        try:
            parts["space"] = tuple(
                Range(**{**one, "choices": tuple(one.get("choices", ()))})
                for one in parts.get("space", ())
            )
            return cls(**parts)
        except TypeError as error:
            raise GridError(f"settings of a study: {error}") from error

    @property
    def searched(self) -> tuple[Range, ...]:
        """What is searched."""
        return self.space or usual_space(self.algorithm)


def nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Values by names such as `a.b` as nested mappings."""
    made: dict[str, Any] = {}
    for name, value in params.items():
        *path, last = name.split(".")
        place = made
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return made


# The objective ----------------------------------------------------------------------------------


def smooth_sensitivity(
    videos: Sequence[ScoredVideo], false_alarms_per_hour: float, merge_gap_s: float = 10.0
) -> float | None:
    """Smoothed sensitivity around a rate of false alarms, 0 to 1; see the module's text.

    None without falls.
    """
    falls, peaks, hours = _evidence(videos, merge_gap_s)
    if not len(falls):
        return None
    wanted = []
    for share in _AROUND:
        threshold = _threshold_at(peaks, false_alarms_per_hour * share * hours)
        wanted.append(float(np.mean(1 / (1 + np.exp(-(falls - threshold) / SOFTNESS)))))
    return sum(wanted) / len(wanted)


def sensitivity_at(
    videos: Sequence[ScoredVideo], false_alarms_per_hour: float, events: EventSettings
) -> float | None:
    """Falls found at the best threshold that keeps to the rate on these videos, as counted events.

    The threshold is read off the same scores: this compares settings, it promises nothing. None
    without falls.
    """
    curve = operating_curve(videos, events)
    kept = [
        point.sensitivity
        for point in curve
        if point.sensitivity is not None
        and (point.false_alarms_per_hour or 0.0) <= false_alarms_per_hour
    ]
    if kept:
        return max(kept)
    return 0.0 if any(point.falls for point in curve) else None


def _evidence(videos: Sequence[ScoredVideo], merge_gap_s: float) -> tuple[Floats, Floats, float]:
    """Log odds of each fall, ordinary peaks from the highest down, and hours of footage."""
    falls: list[float] = []
    peaks: list[float] = []
    for video in videos:
        ends = np.asarray(video.end_s)
        odds = log_odds(np.asarray(video.score, np.float64))
        ordinary = np.ones(len(ends), np.bool_)
        for fall in video.falls:
            inside = (ends >= fall.opens_s) & (ends <= fall.closes_s)
            falls.append(float(odds[inside].max(initial=float(log_odds(np.zeros(1))[0]))))
            ordinary &= ~inside
        peaks += _peaks(ends[ordinary], odds[ordinary], merge_gap_s)
    hours = sum(video.duration_s for video in videos) / SECONDS_PER_HOUR
    return np.array(falls), np.sort(np.array(peaks))[::-1], hours


def log_odds(score: Floats) -> Floats:
    """Log odds of shares, cut off at one in a million: (n,) -> (n,)."""
    share = np.clip(score, _LEAST, 1 - _LEAST)
    return np.asarray(np.log(share / (1 - share)))


def _peaks(ends: Floats, odds: Floats, apart_s: float) -> list[float]:
    """The highest values that lie more than `apart_s` apart: what could be alarms of their own."""
    found: list[float] = []
    taken = np.zeros(0)
    for place in np.argsort(-odds, kind="stable").tolist():
        if not len(taken) or np.abs(taken - ends[place]).min() > apart_s:
            taken = np.append(taken, ends[place])
            found.append(float(odds[place]))
    return found


def _threshold_at(peaks: Floats, alarms: float) -> float:
    """The threshold that so many peaks would exceed; `peaks` from the highest down."""
    if not len(peaks):
        return float(log_odds(np.zeros(1))[0])
    if alarms >= 1:
        ranks = np.log(np.arange(1, len(peaks) + 1))
        return float(np.interp(math.log(alarms), ranks, peaks))
    highest = peaks[:_TAIL_PEAKS]
    scale = max(float((highest - highest[-1]).mean()), _LEAST_TAIL)
    return float(peaks[0]) - scale * math.log(max(alarms, _LEAST))


# Validation fold by fold ------------------------------------------------------------------------


@dataclass(frozen=True)
class FoldScores:
    """Out-of-fold scores of one fold, and how many folds there are."""

    fold: int
    folds: int
    videos: tuple[ScoredVideo, ...]


def validate_by_fold(
    learning_set: LearningSet, settings: LearningSettings, simulated: WindowSet | None = None
) -> Iterator[FoldScores]:
    """Score each fold by models that learned from all the others, one fold after the other.

    Unlike `evaluate.cross_validate` nothing is held back for a threshold: what is read off the
    scores needs none, and a trial that does badly can be given up after the first folds.

    Raises:
        PermanentFailureError: with fewer than two folds.
    """
    from fall_assets.learning.evaluate import score_videos

    folds = learning_set.folds
    if len(folds) < 2:
        raise PermanentFailureError(
            f"footage lies in {len(folds)} folds, wanted 2 or more: label footage of more scenes "
            "or subjects"
        )
    algorithm = settings.build()
    context = FitContext(settings.windows, simulated)
    networks = settings.training.networks
    for place, fold in enumerate(folds):
        others = frozenset(folds) - {fold}
        plans = [
            Plan(settings.training.seed * 1000 + place * networks + number, others)
            for number in range(networks)
        ]
        model = algorithm.combine(algorithm.fit(learning_set, plans, context))
        truths = learning_set.videos_in([fold])
        scored = score_videos(model, learning_set, truths, settings.windows.window_s)
        yield FoldScores(fold, len(folds), tuple(scored))
