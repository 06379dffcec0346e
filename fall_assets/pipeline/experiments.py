"""Experiments: attempts of a grid, each run once, recorded whole, and compared.

What belongs here: what an attempt reads and at which versions, what is recorded of it, and what it
costs. What does not: what an attempt is (`learning.attempts`), cross-validation
(`learning.evaluate`), the tracking store (`learning.tracking`).

Importing this module is cheap; torch and MLflow are imported when something is tried.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.features.extractors import locate
from fall_assets.features.packing import unpack_sequence
from fall_assets.features.pool import extract_all
from fall_assets.features.segments import VideoRef
from fall_assets.features.settings import FeatureSettings
from fall_assets.lake.registry import one_row, table
from fall_assets.learning.algorithms.base import Model
from fall_assets.learning.attempts import AttemptSettings, GridSettings, environment
from fall_assets.learning.dataset import COLUMNS, LearningSet
from fall_assets.learning.inputs import Stretch
from fall_assets.learning.metrics import event_metrics
from fall_assets.learning.tuning import smooth_sensitivity
from fall_assets.learning.windows import WindowSet
from fall_assets.lineage import git_commit, lock_sha256
from fall_assets.pipeline.evaluation import sheets_of
from fall_assets.pipeline.features import extract_day
from fall_assets.pipeline.files import files_of
from fall_assets.pipeline.learning import ordinary_films, plots_of
from fall_assets.pipeline.locks import locked
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.records import dataset_pins, fold_rows, scores_frame
from fall_assets.pipeline.training_sets import TrainingSet, load_training_set
from fall_assets.pipeline.work import Work
from fall_assets.simulation.poses import pose_windows

if TYPE_CHECKING:
    from fall_assets.learning.evaluate import CrossValidation
    from fall_assets.learning.tracking import AttemptRecord, Tracking

SMOOTHED_AT_PER_HOUR = 1.0
"""The rate of false alarms at which attempts of a grid are compared by smoothed sensitivity."""

COST_SAMPLE_S = 60.0
"""So much footage is extracted again to tell what a feature set alone costs."""

ROW_FILE = "row.json"

MorePlots = Callable[["CrossValidation", LearningSet], Mapping[str, bytes]]
"""Further plots of an attempt, by title."""

_SEQUENCE_COLUMNS = ("video_id", "part", "start_s", "rate_hz", "width", "values")
_SCORED_FOR_S = 3.0
_SCORED_WINDOWS = 4000
_FIGURES = (
    "falls",
    "found",
    "sensitivity",
    "sensitivity_low",
    "sensitivity_high",
    "false_alarms",
    "camera_days",
    "false_alarms_per_camera_day",
    "precision",
    "f1",
    "delay_median_s",
    "delay_p95_s",
)


@dataclass(frozen=True)
class AttemptData:
    """What an attempt reads.

    Attributes:
        learning_set: labelled footage as the algorithm sees it.
        pins: every table that was read, and its version.
        left_out: segments of the training set that lack one of the feature sets.
    """

    learning_set: LearningSet
    pins: dict[str, int]
    left_out: int


@dataclass(frozen=True)
class Experiments:
    """What became of a grid.

    Attributes:
        study_run_id: MLflow run under which the attempts are nested.
        rows: rows of `experiments` of all attempts of the grid, in the grid's order.
        tried: of them, those that were tried now.
        plots: PNG bytes by title.
    """

    study_run_id: str
    rows: list[dict[str, Any]]
    tried: int
    plots: dict[str, bytes]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Rows of attempts that failed."""
        return [row for row in self.rows if row["state"] == "failed"]


def run_experiments(
    work: Work,
    grid: GridSettings,
    training_set_id: str | None = None,
    *,
    again: bool = False,
    more_plots: MorePlots | None = None,
) -> Experiments:
    """Try every attempt of a grid that was not tried yet; the newest training set where none given.

    What an attempt needs of the footage is extracted first, all feature sets in one decoding pass.
    One attempt's error is recorded and the others go on. Where this process is killed, the next
    call goes on with the attempt that was broken off; attempts that failed are tried again.

    Args:
        work: the site and its lake.
        grid: the attempts.
        training_set_id: None takes the newest.
        again: try attempts that finished before, too.
        more_plots: further plots of each attempt; None takes contact sheets of what it missed.

    Raises:
        PermanentFailureError: no training set, or a grid that makes no attempts.
        BusyError: another process runs experiments on this site.
    """
    training_set = load_training_set(work, training_set_id)
    attempts = grid.attempts(usual_simulated(work, training_set))
    study = f"experiments {grid.study}"
    with locked(work, "experiments"):
        return run_attempts(
            work,
            study,
            attempts,
            training_set,
            settings=grid.as_values(),
            again=again,
            more_plots=more_plots,
        )


def run_attempts(
    work: Work,
    study: str,
    attempts: Sequence[AttemptSettings],
    training_set: TrainingSet,
    *,
    settings: Mapping[str, Any],
    again: bool = False,
    more_plots: MorePlots | None = None,
) -> Experiments:
    """The same for a list of attempts; `settings` are the study's. The caller keeps others away."""
    by_id = {attempt.identity(training_set.id): attempt for attempt in attempts}
    more_plots = more_plots or sheets_of(work, training_set)
    store = tracking(work.site)
    study_run_id = store.start_study(study, settings)
    known = _finished(work, list(by_id))
    todo = {one: attempt for one, attempt in by_id.items() if again or one not in known}
    work.log(f"{len(by_id)} attempts, {len(by_id) - len(todo)} of them tried before")
    unusable = prepare_features(work, training_set, list(todo.values()))
    costs = _ExtractionCosts(work, training_set)
    progress = work.progress(f"{study}: attempts")
    for number, (attempt_id, attempt) in enumerate(todo.items()):
        progress(number, len(todo), note=attempt.title)
        one = _Attempt(work, store, training_set, attempt, attempt_id, study, study_run_id)
        row = None if again else one.recovered()
        row = row or one.run(unusable, costs, more_plots)
        work.lake.upsert("experiments", one_row("experiments", row), work.provenance())
        work.log(_line(row))
    progress(len(todo), len(todo))
    rows = _rows(work, list(by_id))
    plots = _comparison(rows)
    files = {f"plots/{title.replace(' ', '-')}.png": png for title, png in plots.items()}
    failed = sum(row["state"] == "failed" for row in rows)
    store.end_study(study_run_id, {"attempts": len(rows), "failed": failed}, files)
    return Experiments(study_run_id, rows, len(todo), plots)


# What an attempt reads ----------------------------------------------------------------------------


def usual_simulated(work: Work, training_set: TrainingSet) -> int:
    """How many simulated windows the site mixes in with this training set."""
    choices = work.site.settings.learning
    falls = int(str(training_set.row["falls"]))
    return choices.simulated_windows if falls < choices.simulated_below_falls else 0


def simulated_for(attempt: AttemptSettings) -> WindowSet | None:
    """The simulated windows of an attempt, always the same ones."""
    if not attempt.simulated_windows:
        return None
    return WindowSet(
        *pose_windows(
            attempt.simulated_windows,
            attempt.training.seed,
            rate_hz=attempt.windows.rate_hz,
            window_s=attempt.windows.window_s,
        )
    )


def prepare_features(
    work: Work, training_set: TrainingSet, attempts: Sequence[AttemptSettings]
) -> dict[str, str]:
    """Extract what the attempts lack on the training set's days, in one pass a day.

    Returns what is wrong with feature sets that cannot be had, by their version.
    """
    wanted = {one.version: one for attempt in attempts for one in attempt.features}
    wanted.pop(str(training_set.row["feature_set"]), None)
    unusable: dict[str, str] = {}
    for version, settings in list(wanted.items()):
        try:
            locate(settings)
        except PermanentFailureError as error:
            unusable[version] = str(error)
            del wanted[version]
    if not wanted:
        return unusable
    site = work.site
    choices = replace(site.settings.features, more=tuple(wanted.values()))
    asked = replace(work, site=replace(site, settings=replace(site.settings, features=choices)))
    for day in _days_without(work, training_set, list(wanted)):
        try:
            found = extract_day(asked, day)
        except PermanentFailureError as error:
            # Segments whose features are missing are left out of each attempt, and counted.
            work.log(f"{day}: {error}")
            continue
        if found.gone or found.failed:
            work.log(
                f"{day}: no features of {found.gone} deleted, {len(found.failed)} broken files"
            )
    return unusable


def read_set(
    work: Work,
    training_set: TrainingSet,
    attempt: AttemptSettings,
    pins: Mapping[str, int] | None = None,
) -> AttemptData:
    """The training set as the attempt sees it, at these versions of tables, or else at the newest.

    Labels, videos and cameras, and the training set's own feature set, are always read at the
    versions that the training set pins. Segments that lack one of the feature sets are left out.

    Raises:
        PermanentFailureError: no segment has the features, or a pinned version is gone.
    """
    own_set = str(training_set.row["feature_set"])
    pose = attempt.set_of("pose")
    other = attempt.set_of("motion") or attempt.set_of("embedding")
    foreign = [one.version for one in (pose, other) if one is not None and one.version != own_set]
    chosen = dict(pins) if pins is not None else _newest_pins(work, training_set, foreign)
    clips = training_set.learning_clips()
    ids = clips["video_id"].unique()
    if foreign:
        done = work.lake.read(
            "features",
            days=clips["day"].unique().sort().to_list(),
            columns=["video_id", "feature_set"],
            where=pl.col("feature_set").is_in(foreign),
            version=chosen["features"],
        ).unique()
        complete = done.group_by("video_id").len().filter(pl.col("len") == len(foreign))
        clips = clips.filter(pl.col("video_id").is_in(complete["video_id"].to_list()))
        if clips.is_empty():
            raise PermanentFailureError(
                f"no segment of training set {training_set.id} has feature set "
                f"{', '.join(foreign)}: materialize features with it, or look why they failed"
            )
    days = clips["day"].unique().sort().to_list()
    frames = work.lake.at({name: chosen[name] for name in COLUMNS}).read(COLUMNS, days=days)
    pose_set = own_set if pose is None else pose.version
    frames["pose_tracks"] = frames["pose_tracks"].filter(pl.col("feature_set") == pose_set)
    learning_set = LearningSet.from_tables(clips=clips, **frames)
    if other is not None:
        stretches = _stretches(work, learning_set, other.version, days, chosen["sequences"])
        name = learning_set.feature_set if pose is not None else other.version
        learning_set = replace(learning_set, feature_set=name, stretches=stretches)
    if "frames" in attempt.needs:
        learning_set = replace(learning_set, films=_films(work, learning_set, days))
    return AttemptData(learning_set, chosen, len(ids) - clips["video_id"].n_unique())


def _newest_pins(work: Work, training_set: TrainingSet, foreign: Sequence[str]) -> dict[str, int]:
    """The training set's versions, and of tables that it does not answer for the newest."""
    pins = dict(training_set.pins)
    kinds = {version.partition("-")[0] for version in foreign}
    # `features` first: what it names stands in the other tables already.
    names = ["features"] if foreign else []
    names += ["pose_tracks"] if "pose" in kinds else []
    names += ["sequences"] if kinds - {"pose"} else []
    for name in names:
        version = work.lake.version(name)
        if version is not None:
            pins[name] = version
    return pins


def _stretches(
    work: Work, learning_set: LearningSet, feature_set: str, days: Sequence[date], version: int
) -> dict[str, tuple[Stretch, ...]]:
    rows = work.lake.read(
        "sequences",
        days=days,
        columns=_SEQUENCE_COLUMNS,
        where=(pl.col("feature_set") == feature_set)
        & pl.col("video_id").is_in(list(learning_set.truths)),
        version=version,
    )
    found: dict[str, list[Stretch]] = {}
    for row in rows.sort("video_id", "part").iter_rows(named=True):
        values = unpack_sequence(row["values"], row["width"])
        found.setdefault(row["video_id"], []).append(
            Stretch(row["start_s"], row["rate_hz"], values)
        )
    return {video_id: tuple(stretches) for video_id, stretches in found.items()}


def _films(work: Work, learning_set: LearningSet, days: Sequence[date]) -> dict[str, Path]:
    videos = _videos(work, days, list(learning_set.truths))
    return {video_id: work.footage.stage(path) for video_id, path in files_of(work, videos).items()}


def _videos(work: Work, days: Sequence[date], ids: Sequence[str]) -> pl.DataFrame:
    return work.lake.read("videos", days=days, where=pl.col("video_id").is_in(list(ids)))


def _days_without(work: Work, training_set: TrainingSet, versions: Sequence[str]) -> list[date]:
    """Days on which a segment of the training set lacks one of these feature sets."""
    segments = training_set.columns(("day", "video_id")).unique()
    days = segments["day"].unique().sort().to_list()
    done = work.lake.read(
        "features",
        days=days,
        columns=["video_id", "feature_set"],
        where=pl.col("feature_set").is_in(list(versions)),
    ).unique()
    counts = done.group_by("video_id").len()
    lacking = segments.join(counts, on="video_id", how="left").filter(
        pl.col("len").fill_null(0) < len(versions)
    )
    return sorted(set(lacking["day"]))


# One attempt --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Attempt:
    """One attempt on its way into the tracking store and the lake."""

    work: Work
    store: Tracking
    training_set: TrainingSet
    attempt: AttemptSettings
    attempt_id: str
    study: str
    study_run_id: str

    def recovered(self) -> dict[str, Any] | None:
        """The row of a run that was recorded whole before its process was killed."""
        run_id = self.store.finished_attempt(self.attempt_id)
        if run_id is None:
            return None
        row: dict[str, Any] = json.loads(self.store.read_file(run_id, ROW_FILE))
        created = datetime.fromisoformat(row["created_utc"])
        return {**row, "run_id": run_id, "created_utc": created}

    def run(
        self, unusable: Mapping[str, str], costs: _ExtractionCosts, more_plots: MorePlots | None
    ) -> dict[str, Any]:
        """Try it and record it; an error is recorded as well."""
        try:
            for one in self.attempt.features:
                if one.version in unusable:
                    raise PermanentFailureError(
                        f"feature set {one.version} cannot be had: {unusable[one.version]}"
                    )
            return self._tried(costs, more_plots)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            record = self._record(pins={"training_set_id": self.training_set.id})
            run_id = self.store.log_failure(record, self.study_run_id, said)
            return {**self._row({}), "state": "failed", "error": said, "run_id": run_id}

    def _tried(self, costs: _ExtractionCosts, more_plots: MorePlots | None) -> dict[str, Any]:
        from fall_assets.learning.evaluate import cross_validate, fit_final
        from fall_assets.learning.tracking import folder_digest

        attempt = self.attempt
        data = read_set(self.work, self.training_set, attempt)
        simulated = simulated_for(attempt)
        learning = attempt.learning
        validation = cross_validate(
            data.learning_set,
            learning,
            simulated=simulated,
            ordinary=ordinary_films(learning),
            progress=self.work.progress("cross-validation: steps"),
        )
        began = time.monotonic()
        model = fit_final(data.learning_set, learning, simulated=simulated)
        train_s = time.monotonic() - began
        folds = {truth.video_id: truth.fold for truth in data.learning_set.truths.values()}
        metrics = [*event_metrics(validation.outcomes), *fold_rows(validation.outcomes, folds)]
        smoothed = smooth_sensitivity(
            validation.videos, SMOOTHED_AT_PER_HOUR, attempt.events.merge_gap_s
        )
        figures = {
            **{name: metrics[0][name] for name in _FIGURES},
            "smooth_sensitivity": smoothed,
            "threshold": validation.threshold,
            "parameters": model.parameters,
            "train_s": train_s,
            "score_ms_per_window": _score_ms(model, data.learning_set),
            "extract_s_per_hour": costs.of(attempt.features),
            "segments": len(validation.videos),
            "left_out": data.left_out,
        }
        with tempfile.TemporaryDirectory(prefix="fall-assets-") as folder:
            model.save(Path(folder))
            row = {
                **self._row(data.pins),
                **figures,
                "state": "finished",
                "model_digest": folder_digest(Path(folder)),
            }
            record = replace(
                self._record(pins={"training_set_id": self.training_set.id, **data.pins}),
                inputs=dataset_pins(self.work, self.training_set.row, data.pins),
                metrics=metrics,
                figures={name: value for name, value in figures.items() if name not in metrics[0]},
                plots={
                    **plots_of(validation.outcomes),
                    **(more_plots(validation, data.learning_set) if more_plots else {}),
                },
                files={ROW_FILE: json.dumps(row, default=str, indent=2).encode()},
                scores=scores_frame(validation.videos, folds, validation.thresholds),
                environment=environment(),
            )
            run_id = self.store.log_attempt(record, self.study_run_id, Path(folder))
        return {**row, "run_id": run_id}

    def _record(self, pins: Mapping[str, Any]) -> AttemptRecord:
        from fall_assets.learning.tracking import AttemptRecord

        return AttemptRecord(
            self.attempt_id,
            self.attempt.title,
            self.attempt.as_values(),
            pins,
            git_commit(),
            lock_sha256(),
        )

    def _row(self, pins: Mapping[str, int]) -> dict[str, Any]:
        """What of a row of `experiments` is known before anything is tried."""
        unknown = dict.fromkeys(column.name for column in table("experiments").columns)
        return {
            **unknown,
            "attempt_id": self.attempt_id,
            "study": self.study,
            "title": self.attempt.title,
            "created_utc": datetime.now(UTC),
            "training_set_id": self.training_set.id,
            "algorithm": self.attempt.algorithm,
            "feature_sets": json.dumps([one.version for one in self.attempt.features]),
            "settings": json.dumps(self.attempt.as_values(), sort_keys=True),
            "pins": json.dumps(dict(pins), sort_keys=True),
            "seed": self.attempt.training.seed,
            "segments": 0,
            "left_out": 0,
            "git_commit": git_commit(),
            "lock_sha256": lock_sha256(),
        }


# What it costs ------------------------------------------------------------------------------------


class _ExtractionCosts:
    """Seconds of one core for an hour of footage, of feature sets alone; each measured once."""

    def __init__(self, work: Work, training_set: TrainingSet) -> None:
        self._work, self._training_set = work, training_set
        self._known: dict[str, float | None] = {}

    def of(self, sets: Sequence[FeatureSettings]) -> float | None:
        """The sum over the sets; None without any, or where no film is left to measure on."""
        costs = [self._one(settings) for settings in sets]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if known and len(known) == len(costs) else None

    def _one(self, settings: FeatureSettings) -> float | None:
        if settings.version not in self._known:
            self._known[settings.version] = self._measured(settings)
        return self._known[settings.version]

    def _measured(self, settings: FeatureSettings) -> float | None:
        took_s, footage_s = 0.0, 0.0
        lengths = {video.video_id: length for video, length in self._sample}
        refs = [video for video, _ in self._sample]
        for result in extract_all(refs, [settings], workers=1):
            if result.frames is not None:
                took_s += result.frames.figures.wall_s
                footage_s += lengths[result.video.video_id]
        return took_s * 3600 / footage_s if footage_s else None

    @property
    def _sample(self) -> list[tuple[VideoRef, float]]:
        """Segments of the training set whose files are there, in order, `COST_SAMPLE_S` of them."""
        work = self._work
        segments = self._training_set.columns(("day", "video_id")).unique().sort("video_id")
        days = segments["day"].unique().sort().to_list()
        videos = _videos(work, days, segments["video_id"].to_list()).sort("video_id")
        files = files_of(work, videos)
        crops = dict(work.lake.read("cameras", columns=["camera_id", "crop"]).iter_rows())
        sample: list[tuple[VideoRef, float]] = []
        total_s = 0.0
        for row in videos.iter_rows(named=True):
            path = files.get(row["video_id"])
            if path is None or total_s >= COST_SAMPLE_S:
                continue
            try:
                file = work.footage.stage(path)
            except OSError:
                continue
            camera = row["camera_id"]
            video = VideoRef(file, row["video_id"], camera, row["day"], crops.get(camera))
            sample.append((video, row["duration_s"]))
            total_s += row["duration_s"]
        return sample


def _score_ms(model: Model, learning_set: LearningSet) -> float | None:
    """Milliseconds on one core to score a window, over some seconds of scoring."""
    windows, began = 0, 0.0
    with _one_torch_thread():
        for place, truth in enumerate(learning_set.reviewed):
            inputs = learning_set.inputs(truth.video_id)
            if place == 1:
                # The first segment is a warm-up.
                windows, began = 0, time.monotonic()
            windows += len(model.scores(inputs))
            if place and (windows >= _SCORED_WINDOWS or time.monotonic() - began > _SCORED_FOR_S):
                break
    if not began or not windows:
        return None
    return (time.monotonic() - began) * 1000 / windows


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# The lake's rows ----------------------------------------------------------------------------------


def _rows(work: Work, ids: Sequence[str]) -> list[dict[str, Any]]:
    rows = work.lake.read("experiments", where=pl.col("attempt_id").is_in(list(ids)))
    by_id = {row["attempt_id"]: row for row in rows.iter_rows(named=True)}
    return [by_id[one] for one in ids if one in by_id]


def _finished(work: Work, ids: Sequence[str]) -> set[str]:
    return {row["attempt_id"] for row in _rows(work, ids) if row["state"] == "finished"}


def _comparison(rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    from fall_assets.learning.tuning_plots import cost_benefit

    return {"cost and benefit": cost_benefit(rows)}


def _line(row: Mapping[str, Any]) -> str:
    if row["state"] == "failed":
        return f"{row['title']}: failed, {row['error']}"
    return (
        f"{row['title']}: {row['found']} of {row['falls']} falls, "
        f"{row['false_alarms']} false alarms in {row['camera_days'] * 24:.2f} h, "
        f"F1 {row['f1'] or 0.0:.3f}"
    )
