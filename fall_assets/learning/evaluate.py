"""Cross-validation of a detector, and judging one on labelled footage.

What belongs here: which fold teaches, which chooses the threshold and which judges. What does
not: counting events (`metrics`), training itself (`training`). torch is loaded when functions
run, not by this import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import table
from fall_assets.learning.algorithms import registry
from fall_assets.learning.algorithms.base import (
    Algorithm,
    AlgorithmSettings,
    FitContext,
    Model,
    Plan,
    Progress,
)
from fall_assets.learning.dataset import LearningSet, VideoTruth
from fall_assets.learning.events import EventSettings
from fall_assets.learning.inputs import SegmentInputs
from fall_assets.learning.metrics import (
    ScoredVideo,
    VideoOutcome,
    choose_threshold,
    event_metrics,
    operating_curve,
    outcome,
    threshold_grid,
)
from fall_assets.learning.windows import SegmentTracks, WindowSet, WindowSettings

if TYPE_CHECKING:
    from fall_assets.learning.detector import Detector


class TooFewFoldsError(PermanentFailureError):
    """Training, choosing a threshold and judging need a fold each."""


class NotServableError(PermanentFailureError):
    """Models of this algorithm can be tried and compared, but not yet served."""


@dataclass(frozen=True)
class LearningSettings:
    """Everything that decides a candidate, beside the data.

    `algorithm` is its name in `algorithms.registry`, `training` its settings.
    `max_false_alarms_per_hour`: where set, thresholds keep to it on the folds they are chosen on.
    `max_ordinary_alarms_per_hour`: where set, thresholds are raised until so many alarms are left
    on films of ordinary life (see `raised`).
    `missed_fall_cost`: where thresholds are chosen, so many false alarms weigh as a missed
    fall.
    """

    training: AlgorithmSettings
    windows: WindowSettings = field(default_factory=WindowSettings)
    events: EventSettings = field(default_factory=EventSettings)
    max_false_alarms_per_hour: float | None = None
    algorithm: str = "pose-tcn"
    max_ordinary_alarms_per_hour: float | None = None
    missed_fall_cost: float = 1.0

    def build(self) -> Algorithm:
        """The algorithm under its settings."""
        return registry.build(self.algorithm, self.training)

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class CrossValidation:
    """What models that had not seen it make of each segment.

    `videos`: out-of-fold scores; `thresholds`: each fold's, chosen without it; `outcomes`: the
    alarms of each segment at its fold's threshold; `threshold`: for a model that learned from all
    folds. A fold's threshold is chosen by what single networks make of the fold that each left
    out, and single networks' scores lie farther apart than those of several as one: a threshold
    that is right for them is too high for a model of several. This one is chosen by what several
    as one make of every fold.
    """

    videos: tuple[ScoredVideo, ...]
    thresholds: dict[int, float]
    outcomes: tuple[VideoOutcome, ...]
    threshold: float


def cross_validate(
    learning_set: LearningSet,
    settings: LearningSettings,
    *,
    simulated: WindowSet | None = None,
    ordinary: Sequence[SegmentTracks] = (),
    progress: Progress | None = None,
) -> CrossValidation:
    """Score every segment by networks that learned from other folds only.

    For each fold the others are its training folds. Each of the fold's networks leaves another
    one of them out; what it makes of the one it left out chooses the fold's threshold. So a
    threshold rests on footage that its network has not seen, and the judged fold has no part in
    it. Automatic clips teach with the fold they are in (in `EVERY_FOLD`: always); they choose and
    judge nothing.

    Args:
        learning_set: labelled footage in at least three folds.
        settings: everything that decides the result.
        simulated: further windows to learn from in every fold.
        ordinary: films without a fall that thresholds are raised by, where settings ask for it.
        progress: called with steps of training done and in all.

    Raises:
        TooFewFoldsError: with fewer than three folds.
        TooLittleDataError: where training folds hold no fall or nothing else.
    """
    folds = learning_set.folds
    if len(folds) < 3:
        raise TooFewFoldsError(
            f"footage lies in {len(folds)} folds, wanted 3 or more (one to learn from, one to "
            "choose the threshold on, one to judge): label footage of more scenes or subjects"
        )
    turns = _turns(folds, settings.training.networks)
    algorithm = settings.build()
    plans = [
        Plan(settings.training.seed * 1000 + number, frozenset(turn.learns_from))
        for number, turn in enumerate(turns)
    ]
    context = FitContext(settings.windows, simulated, progress=progress)
    models = algorithm.fit(learning_set, plans, context)
    window_s = settings.windows.window_s
    scored: list[ScoredVideo] = []
    outcomes: list[VideoOutcome] = []
    thresholds: dict[int, float] = {}
    quiet: list[list[ScoredVideo]] = []
    for fold in folds:
        members = [number for number, turn in enumerate(turns) if turn.judges == fold]
        chosen_on: list[ScoredVideo] = []
        for number in members:
            held_out = learning_set.videos_in([turns[number].chooses_on])
            chosen_on += score_videos(models[number], learning_set, held_out, window_s)
        together = algorithm.combine([models[number] for number in members])
        quiet.append(_score_ordinary(together, ordinary, settings))
        thresholds[fold] = _raised_on(_chosen_on(chosen_on, settings), quiet[-1], settings)
        judged = score_videos(together, learning_set, learning_set.videos_in([fold]), window_s)
        events = replace(settings.events, threshold=thresholds[fold])
        scored += judged
        outcomes += [outcome(video, events) for video in judged]
    threshold = _chosen_on(scored, settings)
    threshold = median(_raised_on(threshold, films, settings) for films in quiet)
    return CrossValidation(tuple(scored), thresholds, tuple(outcomes), threshold)


def raised(
    threshold: float, model: Model, ordinary: Sequence[SegmentTracks], settings: LearningSettings
) -> float:
    """The lowest threshold from `threshold` on that keeps to `max_ordinary_alarms_per_hour`.

    Labelled footage holds minutes of ordinary life, on which a wide range of thresholds raises
    nothing; hours of films without a fall tell them apart. The highest of the grid where none keeps
    to it.
    """
    return _raised_on(threshold, _score_ordinary(model, ordinary, settings), settings)


def _chosen_on(videos: Sequence[ScoredVideo], settings: LearningSettings) -> float:
    return choose_threshold(
        videos,
        settings.events,
        max_false_alarms_per_hour=settings.max_false_alarms_per_hour,
        missed_cost=settings.missed_fall_cost,
    )


def _score_ordinary(
    model: Model, ordinary: Sequence[SegmentTracks], settings: LearningSettings
) -> list[ScoredVideo]:
    """Films without a fall; none where no threshold is raised by them."""
    if settings.max_ordinary_alarms_per_hour is None:
        return []
    window_s, videos = settings.windows.window_s, []
    for film in ordinary:
        scores = model.scores(SegmentInputs(film.video_id, film.duration_s, film))
        truth = VideoTruth(film.video_id, film.video_id, "ordinary", "", film.duration_s, 0, (), ())
        videos.append(truth.scored(scores.end_s.tolist(), scores.score.tolist(), window_s))
    return videos


def _raised_on(threshold: float, films: Sequence[ScoredVideo], settings: LearningSettings) -> float:
    limit = settings.max_ordinary_alarms_per_hour
    if limit is None or not films:
        return threshold
    grid = [threshold, *(one for one in threshold_grid() if one > threshold)]
    for point in operating_curve(films, settings.events, grid):
        if (point.false_alarms_per_hour or 0.0) <= limit:
            return point.threshold
    return grid[-1]


def fit_final(
    learning_set: LearningSet,
    settings: LearningSettings,
    *,
    simulated: WindowSet | None = None,
    progress: Progress | None = None,
) -> Model:
    """A model of any algorithm that learned from every fold: its networks of several seeds as one.

    Nothing is left here to choose a threshold on: take `CrossValidation.threshold`.
    """
    algorithm = settings.build()
    plans = [
        Plan(settings.training.seed * 1000 + number) for number in range(settings.training.networks)
    ]
    context = FitContext(settings.windows, simulated, progress=progress)
    return algorithm.combine(algorithm.fit(learning_set, plans, context))


def train_final(
    learning_set: LearningSet,
    settings: LearningSettings,
    threshold: float,
    *,
    simulated: WindowSet | None = None,
    progress: Progress | None = None,
) -> Detector:
    """The same of a pose algorithm as a detector that can serve, with a threshold chosen before.

    Raises:
        NotServableError: the algorithm gives no detector.
    """
    from fall_assets.learning.algorithms.pose_tcn import PoseModel

    model = fit_final(learning_set, settings, simulated=simulated, progress=progress)
    if not isinstance(model, PoseModel):
        raise NotServableError(
            f"a model of {settings.algorithm} cannot be registered yet: it can be tried and "
            "compared; choose pose-tcn for a candidate"
        )
    detector = replace(model.detector, events=settings.events, training=settings.record())
    return detector.with_threshold(threshold)


def judge(detector: Detector, learning_set: LearningSet) -> tuple[VideoOutcome, ...]:
    """What a finished detector, at its own threshold, makes of the same segments.

    Beware: it may have learned from some of them, which flatters it. A champion that is judged
    beside a cross-validated candidate has this head start, so a candidate that beats it does.
    """
    from fall_assets.learning.algorithms.pose_tcn import PoseModel

    detector.check_feature_set(learning_set.feature_set)
    videos = score_videos(
        PoseModel(detector), learning_set, learning_set.reviewed, detector.windows.window_s
    )
    return tuple(outcome(video, detector.events) for video in videos)


def score_videos(
    model: Model, learning_set: LearningSet, truths: Sequence[VideoTruth], window_s: float
) -> list[ScoredVideo]:
    """Scores of some segments of a set, with their truth."""
    videos = []
    for truth in truths:
        scores = model.scores(learning_set.inputs(truth.video_id))
        videos.append(truth.scored(scores.end_s.tolist(), scores.score.tolist(), window_s))
    return videos


def evaluation_frame(
    outcomes: Sequence[VideoOutcome],
    *,
    run_id: str,
    training_set_id: str,
    role: str,
    evaluated_utc: datetime,
) -> pl.DataFrame:
    """Rows of the table `evaluation`: everything, and by data set, camera, room and label."""
    named = {
        "run_id": run_id,
        "training_set_id": training_set_id,
        "role": role,
        "evaluated_utc": evaluated_utc,
    }
    rows = [{**named, **row} for row in event_metrics(outcomes)]
    return pl.DataFrame(rows, schema=table("evaluation").schema)


@dataclass(frozen=True)
class _Turn:
    """One member of a cross-validation and what it does with each fold."""

    judges: int
    chooses_on: int
    learns_from: tuple[int, ...]


def _turns(folds: Sequence[int], networks: int) -> list[_Turn]:
    turns = []
    for place, fold in enumerate(folds):
        others = [*folds[place + 1 :], *folds[:place]]
        count = min(networks, len(others))
        # Spread over the others, so that every fold chooses as often as any other.
        for left_out in (others[number * len(others) // count] for number in range(count)):
            rest = tuple(other for other in others if other != left_out)
            turns.append(_Turn(fold, left_out, rest))
    return turns
