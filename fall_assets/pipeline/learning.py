"""Learning: a candidate from a pinned training set, and how well it finds falls.

Importing this module is cheap; torch and MLflow are imported when something is learned.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import one_row, table
from fall_assets.learning.algorithms.registry import settings_of
from fall_assets.learning.attempts import environment
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.detector import ALGORITHM
from fall_assets.learning.events import EventSettings
from fall_assets.learning.metrics import VideoOutcome, outcome
from fall_assets.learning.windows import SegmentTracks, WindowSet, person_tracks
from fall_assets.lineage import git_commit, lock_sha256
from fall_assets.pipeline.evaluation import Assessment, Judgement, assess
from fall_assets.pipeline.models import champion, tracking
from fall_assets.pipeline.records import dataset_pins, scores_frame
from fall_assets.pipeline.training_sets import TrainingSet, open_training_set
from fall_assets.pipeline.work import Work
from fall_assets.simulation.motions import MORE_ORDINARY, ORDINARY
from fall_assets.simulation.poses import pose_films, pose_windows

if TYPE_CHECKING:
    from fall_assets.learning.detector import Detector
    from fall_assets.learning.evaluate import LearningSettings

_FILMS_EACH, _FILM_S, _FILMS_SEED = 2, 60.0, 1_000_003
"""Films of each ordinary programme that thresholds are raised by; no window is of this seed."""


@dataclass(frozen=True)
class Trained:
    """A candidate as it stands in the tracking store and in the lake."""

    run_id: str
    training_set_id: str
    threshold: float
    parameters: int
    settings: dict[str, Any]


def train_candidate(work: Work, training_set_id: str | None = None) -> Trained:
    """Cross-validate, then learn from everything, and record both; None takes the newest set."""
    from fall_assets.learning.evaluate import cross_validate, train_final
    from fall_assets.learning.metrics import event_metrics

    training_set, learning_set = open_training_set(work, training_set_id).read()
    settings = learning_settings(work)
    simulated = simulated_windows(work, training_set)
    validation = cross_validate(
        learning_set,
        settings,
        simulated=simulated,
        ordinary=ordinary_films(settings),
        progress=work.progress("cross-validation: steps"),
    )
    detector = train_final(
        learning_set,
        settings,
        validation.threshold,
        simulated=simulated,
        progress=work.progress("final model: steps"),
    )
    record = {
        **settings.record(),
        "simulated_windows": 0 if simulated is None else len(simulated),
    }
    folds = {truth.video_id: truth.fold for truth in learning_set.truths.values()}
    scores = scores_frame(validation.videos, folds, validation.thresholds)
    run_id = tracking(work.site).log_candidate(
        detector,
        settings=record,
        pins={"training_set_id": training_set.id, **training_set.pins},
        metrics=event_metrics(validation.outcomes)[0],
        plots=plots_of(validation.outcomes),
        git_commit=git_commit(),
        lock_sha256=lock_sha256(),
        inputs=dataset_pins(work, training_set.row, training_set.pins),
        scores=scores,
        environment=environment(),
    )
    work.lake.append(
        "candidate_model",
        one_row(
            "candidate_model",
            {
                "run_id": run_id,
                "created_utc": datetime.now(UTC),
                "training_set_id": training_set.id,
                "algorithm": ALGORITHM,
                "feature_set": detector.feature_set,
                "settings": json.dumps(record, sort_keys=True),
                "threshold": detector.threshold,
                "parameters": detector.parameters,
                "git_commit": git_commit(),
                "lock_sha256": lock_sha256(),
            },
        ),
        work.provenance(),
    )
    of_the_run = scores.select(pl.lit(run_id).alias("run_id"), pl.all())
    work.lake.append("fold_scores", of_the_run, work.provenance())
    return Trained(run_id, training_set.id, detector.threshold, detector.parameters, record)


def evaluate_candidate(work: Work) -> Assessment:
    """Judge the newest candidate, and the champion on the same segments beside it.

    Both are judged by what networks made of segments that they had not seen: segments that the
    champion learned from count by its own cross-validation, all others by the champion itself.
    Rows go into `evaluation` and `comparison`, a report and a model card into the lake's files.
    """
    candidate = newest_candidate(work)
    training_set, learning_set = open_training_set(work, candidate["training_set_id"]).read()
    found = _out_of_fold(work, candidate["run_id"], learning_set)
    beside: Judgement | None = None
    serving = tracking(work.site).champion()
    if serving is not None and serving.run_id == candidate["run_id"]:
        work.log("the newest candidate is the champion itself: there is nothing to compare it with")
    elif serving is not None:
        detector, _ = champion(work.site)
        if detector.feature_set == learning_set.feature_set:
            beside = _judged(work, serving.run_id, detector, learning_set)
        else:
            work.log(
                f"champion {serving.version} uses feature set {detector.feature_set}, which this "
                "training set does not hold: it is not judged beside the candidate"
            )
    assessment = assess(
        work,
        training_set,
        learning_set,
        Judgement(candidate["run_id"], list(found.values())),
        beside,
        evaluated_utc=datetime.now(UTC),
        about={
            "algorithm": candidate["algorithm"],
            "feature set": candidate["feature_set"],
            "parameters": candidate["parameters"],
            "threshold": candidate["threshold"],
            "commit": candidate["git_commit"],
            **{f"version of {name}": version for name, version in training_set.pins.items()},
        },
    )
    for name, rows in (("evaluation", assessment.rows), ("comparison", assessment.comparisons)):
        if rows:
            frame = pl.DataFrame(rows, schema=table(name).schema)
            work.lake.upsert(name, frame, work.provenance())
    return assessment


def judged_versions(work: Work, *versions: str) -> list[Judgement]:
    """What registered versions make of the last one's training set, each judged as `_judged` says.

    None of them where a version needs another feature set than the set holds.

    Raises:
        PermanentFailureError: a version is not registered here, or the set is gone.
    """
    registered = work.lake.read("registered_model").filter(pl.col("model_version") == versions[-1])
    if registered.is_empty():
        raise PermanentFailureError(f"version {versions[-1]} is not in the table registered_model")
    learning_set = open_training_set(work, registered["training_set_id"][-1]).read()[1]
    store = tracking(work.site)
    judged = []
    for version in versions:
        run_id = store.version(version).run_id
        detector = store.load_detector(run_id)
        if detector.feature_set != learning_set.feature_set:
            work.log(
                f"version {version} uses feature set {detector.feature_set}, which the training "
                "set does not hold: the versions are not compared on it"
            )
            return []
        judged.append(_judged(work, run_id, detector, learning_set))
    return judged


def newest_candidate(work: Work) -> dict[str, Any]:
    """The newest row of `candidate_model`.

    Raises:
        PermanentFailureError: there is none.
    """
    rows = work.lake.read("candidate_model").sort("created_utc")
    if rows.is_empty():
        raise PermanentFailureError("no model was trained yet: materialize candidate_model")
    return rows.row(-1, named=True)


def learning_settings(work: Work) -> LearningSettings:
    """The settings that a candidate is learned with on this site. Loads torch."""
    from fall_assets.learning.evaluate import LearningSettings

    choices = work.site.settings.learning
    training = settings_of(ALGORITHM, {"seed": choices.seed, "steps": choices.training_steps})
    limit = choices.max_ordinary_alarms_per_hour
    return LearningSettings(
        training,
        max_ordinary_alarms_per_hour=limit or None,
        missed_fall_cost=choices.missed_fall_cost,
    )


def ordinary_films(settings: LearningSettings) -> list[SegmentTracks]:
    """Simulated people who do not fall, to raise thresholds by; none where nothing asks for it."""
    if settings.max_ordinary_alarms_per_hour is None:
        return []
    programmes = [name for name in (*ORDINARY, *MORE_ORDINARY) for _ in range(_FILMS_EACH)]
    rate_hz = settings.windows.rate_hz
    return [
        person_tracks(film.programme, film.keypoints, rate_hz=rate_hz, aspect=film.aspect)
        for film in pose_films(programmes, _FILMS_SEED, duration_s=_FILM_S, rate_hz=rate_hz)
    ]


def simulated_windows(work: Work, training_set: TrainingSet) -> WindowSet | None:
    """Simulated motion to mix in, as the site chose; None where there are falls enough."""
    choices = work.site.settings.learning
    falls = int(str(training_set.row["falls"]))
    if not choices.simulated_windows or falls >= choices.simulated_below_falls:
        return None
    work.log(f"{falls} labelled falls: {choices.simulated_windows} simulated windows are mixed in")
    return WindowSet(*pose_windows(choices.simulated_windows, choices.seed))


def plots_of(outcomes: Sequence[VideoOutcome]) -> dict[str, bytes]:
    """The plots of an evaluation by title, as PNG."""
    from fall_assets.learning import plots

    return {
        "sensitivity against false alarms": plots.sensitivity_curve(outcomes),
        "precision and recall": plots.precision_recall(outcomes),
        "confusion": plots.confusion(outcomes),
        "detection delay": plots.delays(outcomes),
    }


def _judged(work: Work, run_id: str, detector: Detector, learning_set: LearningSet) -> Judgement:
    """What a model makes of segments that it had not seen.

    Segments that it learned from count by its own cross-validation, all others by itself.
    """
    from fall_assets.learning.evaluate import judge

    own = _out_of_fold(work, run_id, learning_set)
    seen = judge(detector, learning_set)
    return Judgement(run_id, [own.get(one.video.video_id, one) for one in seen])


def _out_of_fold(work: Work, run_id: str, learning_set: LearningSet) -> dict[str, VideoOutcome]:
    """What cross-validation made of the set's segments, by segment, from the scores in the lake.

    A segment that the run's cross-validation did not hold is not in it.
    """
    scores = work.lake.read("fold_scores").filter(
        pl.col("run_id") == run_id, pl.col("video_id").is_in(list(learning_set.truths))
    )
    events = _events_of(work, run_id)
    outcomes = {}
    for (video_id,), rows in scores.sort("video_id", "end_s").group_by(
        ["video_id"], maintain_order=True
    ):
        truth = learning_set.truths[str(video_id)]
        video = truth.scored(rows["end_s"], rows["score"])
        outcomes[truth.video_id] = outcome(video, replace(events, threshold=rows["threshold"][0]))
    return outcomes


def _events_of(work: Work, run_id: str) -> EventSettings:
    """When scores of that run's model are an alarm."""
    settings = work.lake.read(
        "candidate_model", columns=["settings"], where=pl.col("run_id") == run_id
    )["settings"]
    return EventSettings(**json.loads(settings[0])["events"]) if len(settings) else EventSettings()
