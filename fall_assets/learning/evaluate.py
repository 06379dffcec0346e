"""Cross-validation of a detector, and judging one on labelled footage.

What belongs here: which fold teaches, which chooses the threshold and which judges. What does
not: counting events (`metrics`), training itself (`training`). torch is loaded when functions
run, not by this import.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.labelling.automatic import EVERY_FOLD
from fall_assets.lake.registry import table
from fall_assets.learning.dataset import LearningSet, VideoTruth, training_windows
from fall_assets.learning.events import EventSettings
from fall_assets.learning.metrics import (
    ScoredVideo,
    VideoOutcome,
    choose_threshold,
    event_metrics,
    outcome,
)
from fall_assets.learning.windows import WindowSet, WindowSettings

if TYPE_CHECKING:
    from fall_assets.learning.detector import Detector
    from fall_assets.learning.training import ExampleBank, TrainingSettings

Progress = Callable[[int, int], None]


class TooFewFoldsError(PermanentFailureError):
    """Training, choosing a threshold and judging need a fold each."""


@dataclass(frozen=True)
class LearningSettings:
    """Everything that decides a candidate, beside the data.

    `max_false_alarms_per_hour`: where set, thresholds keep to it on the folds they are chosen on.
    """

    training: TrainingSettings
    windows: WindowSettings = field(default_factory=WindowSettings)
    events: EventSettings = field(default_factory=EventSettings)
    max_false_alarms_per_hour: float | None = None

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class CrossValidation:
    """What models that had not seen it make of each segment.

    `videos`: out-of-fold scores; `thresholds`: each fold's, chosen without it; `outcomes`: the
    alarms of each segment at its fold's threshold.
    """

    videos: tuple[ScoredVideo, ...]
    thresholds: dict[int, float]
    outcomes: tuple[VideoOutcome, ...]

    @property
    def threshold(self) -> float:
        """Median of the folds' thresholds."""
        return median(self.thresholds.values())


def default_settings() -> LearningSettings:
    """The settings that a candidate is learned with unless others are asked for. Loads torch."""
    from fall_assets.learning.training import TrainingSettings

    return LearningSettings(TrainingSettings())


def cross_validate(
    learning_set: LearningSet,
    settings: LearningSettings,
    *,
    simulated: WindowSet | None = None,
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
    from fall_assets.learning.detector import Detector
    from fall_assets.learning.training import Plan, train_members

    turns = _turns(folds, settings.training.networks)
    network = train_members(
        _bank(learning_set, settings, simulated),
        [
            Plan(settings.training.seed * 1000 + number, frozenset({*turn.learns_from, EVERY_FOLD}))
            for number, turn in enumerate(turns)
        ],
        settings.training,
        progress,
    )
    detector = Detector(network, learning_set.feature_set, settings.windows, settings.events)
    scored: list[ScoredVideo] = []
    outcomes: list[VideoOutcome] = []
    thresholds: dict[int, float] = {}
    for fold in folds:
        members = [number for number, turn in enumerate(turns) if turn.judges == fold]
        chosen_on: list[ScoredVideo] = []
        for number in members:
            member = replace(detector, network=network.pick([number]))
            held_out = learning_set.videos_in([turns[number].chooses_on])
            chosen_on += score_videos(member, learning_set, held_out)
        thresholds[fold] = choose_threshold(
            chosen_on,
            settings.events,
            max_false_alarms_per_hour=settings.max_false_alarms_per_hour,
        )
        together = replace(detector, network=network.pick(members))
        together = together.with_threshold(thresholds[fold])
        judged = score_videos(together, learning_set, learning_set.videos_in([fold]))
        scored += judged
        outcomes += [outcome(video, together.events) for video in judged]
    return CrossValidation(tuple(scored), thresholds, tuple(outcomes))


def train_final(
    learning_set: LearningSet,
    settings: LearningSettings,
    threshold: float,
    *,
    simulated: WindowSet | None = None,
    progress: Progress | None = None,
) -> Detector:
    """A detector that learned from every fold, with a threshold that was chosen before.

    Give it `CrossValidation.threshold`; nothing is left here to choose one on.
    """
    from fall_assets.learning.training import train_on

    detector = train_on(
        _bank(learning_set, settings, simulated),
        settings.training,
        feature_set=learning_set.feature_set,
        window_settings=settings.windows,
        progress=progress,
    )
    detector = replace(detector, events=settings.events, training=settings.record())
    return detector.with_threshold(threshold)


def judge(detector: Detector, learning_set: LearningSet) -> tuple[VideoOutcome, ...]:
    """What a finished detector, at its own threshold, makes of the same segments.

    Beware: it may have learned from some of them, which flatters it. A champion that is judged
    beside a cross-validated candidate has this head start, so a candidate that beats it does.
    """
    detector.check_feature_set(learning_set.feature_set)
    videos = score_videos(detector, learning_set, learning_set.reviewed)
    return tuple(outcome(video, detector.events) for video in videos)


def score_videos(
    detector: Detector, learning_set: LearningSet, truths: Sequence[VideoTruth]
) -> list[ScoredVideo]:
    """Scores of some segments of a set, with their truth."""
    videos = []
    for truth in truths:
        scores = detector.scores(learning_set.tracks[truth.video_id])
        window_s = detector.windows.window_s
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


def _bank(
    learning_set: LearningSet, settings: LearningSettings, simulated: WindowSet | None
) -> ExampleBank:
    from fall_assets.learning.training import make_bank

    return make_bank(
        training_windows(learning_set, settings.windows),
        settings.training,
        simulated=simulated,
        window_settings=settings.windows,
    )


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
