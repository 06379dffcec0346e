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
from fall_assets.learning.windows import SegmentTracks, WindowSet, WindowSettings

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
    it.

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
    members = min(settings.training.networks, len(folds) - 1)
    total = len(folds) * members
    bank = make_bank(learning_set, settings, simulated=simulated)
    scored: list[ScoredVideo] = []
    outcomes: list[VideoOutcome] = []
    thresholds: dict[int, float] = {}
    for turn, fold in enumerate(folds):
        others = [*folds[turn + 1 :], *folds[:turn]]
        detectors = []
        chosen_on: list[ScoredVideo] = []
        for member in range(members):
            # Spread over the others, so that every fold chooses as often as any other.
            left_out = others[member * len(others) // members]
            number = turn * members + member
            detector = _train(
                bank,
                learning_set.feature_set,
                [other for other in others if other != left_out],
                replace(settings.training, networks=1, seed=settings.training.seed * 100 + number),
                settings,
                _part(progress, number, total),
            )
            detectors.append(detector)
            chosen_on += score_videos(detector, learning_set, learning_set.videos_in([left_out]))
        thresholds[fold] = choose_threshold(
            chosen_on,
            settings.events,
            max_false_alarms_per_hour=settings.max_false_alarms_per_hour,
        )
        together = replace(
            detectors[0],
            networks=tuple(network for detector in detectors for network in detector.networks),
        ).with_threshold(thresholds[fold])
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
    bank = make_bank(learning_set, settings, simulated=simulated)
    detector = _train(
        bank,
        learning_set.feature_set,
        learning_set.folds,
        settings.training,
        settings,
        progress,
    )
    return replace(detector, training=settings.record()).with_threshold(threshold)


def judge(detector: Detector, learning_set: LearningSet) -> tuple[VideoOutcome, ...]:
    """What a finished detector, at its own threshold, makes of the same segments.

    Beware: it may have learned from some of them, which flatters it. A champion that is judged
    beside a cross-validated candidate has this head start, so a candidate that beats it does.
    """
    detector.check_feature_set(learning_set.feature_set)
    videos = score_videos(detector, learning_set, list(learning_set.truths.values()))
    return tuple(outcome(video, detector.events) for video in videos)


def score_videos(
    detector: Detector, learning_set: LearningSet, truths: Sequence[VideoTruth]
) -> list[ScoredVideo]:
    """Scores of some segments of a set, with their truth."""
    return [_with_truth(detector, truth, learning_set.tracks[truth.video_id]) for truth in truths]


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


def _with_truth(detector: Detector, truth: VideoTruth, tracks: SegmentTracks) -> ScoredVideo:
    scores = detector.scores(tracks)
    return ScoredVideo(
        truth.video_id,
        truth.camera_id,
        truth.dataset,
        truth.room,
        truth.duration_s,
        detector.windows.window_s,
        truth.falls,
        truth.labels,
        tuple(scores.end_s.tolist()),
        tuple(scores.score.tolist()),
    )


def make_bank(
    learning_set: LearningSet, settings: LearningSettings, *, simulated: WindowSet | None = None
) -> ExampleBank:
    """Examples of all folds to train on, each in its fold's group."""
    from fall_assets.learning import training

    return training.make_bank(
        training_windows(learning_set, settings.windows),
        settings.training,
        simulated=simulated,
        window_settings=settings.windows,
    )


def _train(
    bank: ExampleBank,
    feature_set: str,
    folds: Sequence[int],
    training_settings: TrainingSettings,
    settings: LearningSettings,
    progress: Progress | None,
) -> Detector:
    from fall_assets.learning.training import train_on

    detector = train_on(
        bank,
        training_settings,
        feature_set=feature_set,
        groups=folds,
        window_settings=settings.windows,
        progress=progress,
    )
    return replace(detector, events=settings.events)


def _part(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """Progress of one of several equal pieces of work, told as progress of the whole."""
    if progress is None:
        return None

    def report(done: int, total: int) -> None:
        progress(number * total + done, parts * total)

    return report
