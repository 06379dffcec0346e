"""Studies: a search for an algorithm's best settings, trial by trial, that goes on after a kill.

What belongs here: the study, its trials in one or several processes, and what is recorded of each.
What does not: the objective and the search spaces (`learning.tuning`), what an attempt reads
(`pipeline.experiments`).

A trial is finished in the study only after it stands in the tracking store, by the process that
holds the study's lock. So whatever is found running when the lock is taken was broken off: it is
marked as failed and its settings are tried again. What the search proposes hangs on its seed and
on the trials that finished before, so that with one worker a study that was broken off proposes
what it would have proposed otherwise.

Importing this module is cheap; optuna, torch and MLflow are imported when something is tried.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.lake import Lake
from fall_assets.lake.registry import table
from fall_assets.learning.attempts import AttemptSettings, GridBlock, GridSettings, environment
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.metrics import ScoredVideo
from fall_assets.learning.tuning import (
    Range,
    TuningSettings,
    nested,
    sensitivity_at,
    smooth_sensitivity,
    validate_by_fold,
)
from fall_assets.learning.windows import WindowSet
from fall_assets.lineage import git_commit, lock_sha256
from fall_assets.pipeline.experiments import (
    prepare_features,
    read_set,
    run_attempts,
    simulated_for,
    usual_simulated,
)
from fall_assets.pipeline.locks import locked
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.records import dataset_pins, scores_frame
from fall_assets.pipeline.training_sets import TrainingSet, load_training_set
from fall_assets.pipeline.work import Work
from fall_assets.processes import (
    Failed,
    Program,
    Readable,
    receive,
    receive_json,
    serve,
    spread,
    to_json,
)
from fall_assets.site import Site

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

WORKER = (sys.executable, "-P", "-m", "fall_assets.pipeline.tuning")
"""The program that tries settings."""

RETRIES = 2
"""Settings whose trial was broken off are tried again so often; then they may be at fault."""

_BEGUN_WITH = "begun_with"
_RETRY = "retry"
_BROKEN_OFF = "broken_off"


class OtherStudyError(PermanentFailureError):
    """A study of that name was begun with other data, another space or another objective."""


@dataclass(frozen=True)
class Tuned:
    """A study as it stands.

    Attributes:
        study: its name.
        study_run_id: MLflow run under which the trials are nested.
        rows: rows of `tuning_study`, in order of the trials.
        best: settings of the best complete trial, as plain values; None where none is complete.
        best_value: its smoothed sensitivity.
        attempt: the row of `experiments` of the best settings, tried as an attempt.
        importances: share of the values' variance by setting; empty with too few trials.
        tried: trials that ended now.
        plots: PNG bytes by title.
    """

    study: str
    study_run_id: str
    rows: list[dict[str, Any]]
    best: dict[str, Any] | None
    best_value: float | None
    attempt: dict[str, Any] | None
    importances: dict[str, float]
    tried: int
    plots: dict[str, bytes]


@dataclass(frozen=True)
class Answer:
    """What came of a trial, and the out-of-fold scores of the folds that were judged."""

    trial: int
    state: str
    params: dict[str, Any]
    attempt: dict[str, Any]
    folds: int = 0
    value: float | None = None
    sensitivity: float | None = None
    error: str | None = None
    scores: pl.DataFrame | None = None


def run_tuning(
    work: Work,
    settings: TuningSettings,
    training_set_id: str | None = None,
    *,
    worker: Sequence[str] = WORKER,
) -> Tuned:
    """Search until the study has as many finished trials as it shall; then try the best in full.

    A study of the same name goes on, also after a kill; with its number of trials raised it goes on
    further. The best settings become an attempt in `experiments`, with a model.

    Args:
        work: the site and its lake.
        settings: the study.
        training_set_id: None takes the newest for a new study, and a study's own for an old one.
        worker: the program that tries settings where there are several workers.

    Raises:
        OtherStudyError: the study was begun with other settings or data.
        PermanentFailureError: no trial could be finished; the message holds the last error.
        BusyError: another process works on the study.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = f"tuning {settings.study}"
    file_name = hashlib.sha256(settings.study.encode()).hexdigest()[:16]
    with locked(work, f"tuning-{file_name}"):
        study = _open(_storage(work, settings), name, settings)
        training_set = _training_set(work, study, training_set_id)
        base = _base(work, settings, training_set)
        _check_same(study, settings, training_set, base)
        problems = prepare_features(work, training_set, [base])
        if problems:
            raise PermanentFailureError(f"features cannot be had: {'; '.join(problems.values())}")
        data = read_set(work, training_set, base, study.user_attrs.get("pins"))
        study.set_user_attr("pins", data.pins)
        spec = _Spec(
            work.site.root,
            work.site.landing,
            _storage(work, settings),
            settings,
            training_set.id,
            data.pins,
            base,
        )
        store = tracking(work.site)
        run_id = store.start_study(name, asdict(settings))
        recorder = _Recorder(work, training_set, data.pins, study, settings, base, run_id)
        recorder.sweep()
        tried = _search(work, spec, data.learning_set, study, recorder, worker)
        recorder.sweep()
        best = _best(study)
        if best is None:
            errors = [trial.user_attrs.get("error") for trial in study.trials]
            said = [error for error in errors if error]
            raise PermanentFailureError(
                f"no trial of {name} was completed; the last that failed said: "
                f"{said[-1] if said else 'nothing'}"
            )
        winner = base.with_training(nested(_decoded(best.params)))
        with locked(work, "experiments", wait_s=600):
            confirmed = run_attempts(
                work, name, [winner], training_set, settings=asdict(settings)
            ).rows[0]
        rows = recorder.rows()
        shares = _importances(study)
        plots = _plots(rows, shares)
        files = {f"plots/{title.replace(' ', '-')}.png": png for title, png in plots.items()}
        files["trials.json"] = json.dumps(rows, default=str, indent=2).encode()
        store.end_study(run_id, {"best_value": best.value, "trials": len(rows)}, files)
    return Tuned(
        name, run_id, rows, winner.as_values(), best.value, confirmed, shares, tried, plots
    )


# The study ----------------------------------------------------------------------------------------


def _storage(work: Work, settings: TuningSettings) -> str:
    if settings.storage is not None:
        return settings.storage
    work.site.mlflow_root.mkdir(parents=True, exist_ok=True)
    # Not in MLflow's own database: both keep their schema's version in tables of the same name.
    return f"sqlite:///{work.site.mlflow_root}/optuna.db"


def _open(storage: str, name: str, settings: TuningSettings) -> Study:
    import optuna

    local = storage.startswith("sqlite:")
    options = {"connect_args": {"timeout": 60}} if local else {}
    return optuna.create_study(
        storage=optuna.storages.RDBStorage(storage, engine_kwargs=options),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=max(3, settings.random_trials // 2),
            n_warmup_steps=settings.warmup_folds,
        ),
    )


def _training_set(work: Work, study: Study, training_set_id: str | None) -> TrainingSet:
    begun: Mapping[str, Any] = study.user_attrs.get(_BEGUN_WITH, {})
    return load_training_set(work, training_set_id or begun.get("training_set_id"))


def _base(work: Work, settings: TuningSettings, training_set: TrainingSet) -> AttemptSettings:
    """The attempt that the searched settings are put into."""
    block = GridBlock(
        (settings.algorithm,),
        pictures=(settings.picture,),
        sample_hz=(settings.sample_hz,),
        extractors=settings.extractors,
    )
    grid = GridSettings(
        settings.study,
        (block,),
        max_false_alarms_per_hour=None,
        simulated_windows=settings.simulated_windows,
    )
    (attempt,) = grid.attempts(usual_simulated(work, training_set))
    return attempt.with_training(settings.training)


def _check_same(
    study: Study, settings: TuningSettings, training_set: TrainingSet, base: AttemptSettings
) -> None:
    """Values of trials can only be compared where all of this is the same."""
    now = {
        "training_set_id": training_set.id,
        "base": json.dumps(base.as_values(), sort_keys=True),
        "space": json.dumps([asdict(one) for one in settings.searched]),
        "false_alarms_per_hour": settings.false_alarms_per_hour,
        "seed": settings.seed,
    }
    begun: Mapping[str, Any] | None = study.user_attrs.get(_BEGUN_WITH)
    if begun is None:
        study.set_user_attr(_BEGUN_WITH, now)
        return
    differs = [name for name, value in now.items() if begun.get(name) != value]
    if differs:
        raise OtherStudyError(
            f"study {study.study_name} was begun with another {', '.join(differs)}: give the new "
            "search another name, or go back to what it was begun with"
        )


def _finished(study: Study) -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _tried(study: Study) -> int:
    """Trials that ended by themselves: those that were broken off are not among them."""
    return sum(
        trial.state.is_finished() and not trial.user_attrs.get(_BROKEN_OFF)
        for trial in study.get_trials(deepcopy=False)
    )


def _best(study: Study) -> FrozenTrial | None:
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)


def _importances(study: Study) -> dict[str, float]:
    import optuna

    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):
        # Too few trials, or all with one value.
        return {}
    return {name: float(share) for name, share in found.items() if np.isfinite(share)}


# One trial ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Spec:
    """What a process needs to try settings."""

    root: Path
    landing: Path
    storage: str
    settings: TuningSettings
    training_set_id: str
    pins: dict[str, int]
    base: AttemptSettings

    def as_values(self) -> dict[str, Any]:
        return {
            "root": str(self.root),
            "landing": str(self.landing),
            "storage": self.storage,
            "settings": asdict(self.settings),
            "training_set_id": self.training_set_id,
            "pins": self.pins,
            "base": self.base.as_values(),
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> _Spec:
        return cls(
            Path(values["root"]),
            Path(values["landing"]),
            values["storage"],
            TuningSettings.from_values(values["settings"]),
            values["training_set_id"],
            dict(values["pins"]),
            AttemptSettings.from_values(values["base"]),
        )


@dataclass
class _Trier:
    """Tries one proposal after the other; it leaves ending them in the study to the recorder."""

    settings: TuningSettings
    base: AttemptSettings
    learning_set: LearningSet
    study: Study
    simulated: WindowSet | None = field(init=False)
    drawn: int = 0

    def __post_init__(self) -> None:
        self.simulated = simulated_for(self.base)

    def try_next(self) -> Answer:
        """Ask for settings and judge them fold by fold."""
        self.study.sampler = self._sampler()
        trial = self.study.ask()
        answer = Answer(trial.number, "failed", {}, self.base.as_values())
        try:
            params = _suggested(trial, self.settings.searched)
            attempt = self.base.with_training(nested(params))
            answer = replace(answer, params=params, attempt=attempt.as_values())
            return self._judged(trial, attempt, answer)
        except Exception as error:
            return replace(answer, error=f"{type(error).__name__}: {error}")

    def _judged(self, trial: Trial, attempt: AttemptSettings, answer: Answer) -> Answer:
        videos: list[ScoredVideo] = []
        judged = 0
        state, value = "complete", None
        gap_s = attempt.events.merge_gap_s
        rate = self.settings.false_alarms_per_hour
        for part in validate_by_fold(self.learning_set, attempt.learning, self.simulated):
            videos += part.videos
            judged += 1
            value = smooth_sensitivity(videos, rate, gap_s)
            if value is None:
                continue
            trial.report(value, judged - 1)
            if judged < part.folds and trial.should_prune():
                state = "pruned"
                trial.set_user_attr(
                    "error",
                    f"given up after {judged} of {part.folds} folds, under the median of others "
                    "there",
                )
                break
        if value is None:
            raise PermanentFailureError("no fold holds a fall: label falls first")
        folds = {truth.video_id: truth.fold for truth in self.learning_set.truths.values()}
        return replace(
            answer,
            state=state,
            folds=judged,
            value=value,
            sensitivity=sensitivity_at(videos, rate, attempt.events),
            scores=scores_frame(videos, folds, {}),
        )

    def _sampler(self) -> Any:
        """A sampler whose draws hang on the seed and on the trials before."""
        import optuna

        tried = _tried(self.study)
        # Of several workers no two may draw the same, even where they begin at the same moment, or
        # do not see yet what another has finished.
        self.drawn += 1
        several = [os.getpid(), self.drawn] if self.settings.workers > 1 else []
        (seed,) = np.random.SeedSequence([self.settings.seed, tried, *several]).generate_state(1)
        return optuna.samplers.TPESampler(
            n_startup_trials=self.settings.random_trials, multivariate=True, seed=int(seed)
        )


def _suggested(trial: Trial, space: Sequence[Range]) -> dict[str, Any]:
    for one in space:
        if one.kind == "float":
            trial.suggest_float(one.setting, one.low, one.high, log=one.log)
        elif one.kind == "int":
            trial.suggest_int(one.setting, int(one.low), int(one.high), log=one.log)
        else:
            # As JSON, so that lists can be chosen as well.
            trial.suggest_categorical(one.setting, [json.dumps(value) for value in one.choices])
    return _decoded(trial.params)


def _decoded(params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.loads(value) if isinstance(value, str) else value
        for name, value in params.items()
    }


# All trials ---------------------------------------------------------------------------------------


def _search(
    work: Work,
    spec: _Spec,
    learning_set: LearningSet,
    study: Study,
    recorder: _Recorder,
    worker: Sequence[str],
) -> int:
    """Try until there are trials enough; how many ended. A failed trial is not made up for."""
    settings = spec.settings
    finished = _finished(study)
    missing = max(0, settings.trials - finished)
    work.log(f"{study.study_name}: {finished} of {settings.trials} trials are finished")
    progress = work.progress(f"{study.study_name}: trials")
    ended = 0
    if missing and settings.workers == 1:
        trier = _Trier(settings, spec.base, learning_set, study)
        answers: Iterator[Answer | Failed] = (trier.try_next() for _ in range(missing))
    else:
        answers = _spread(spec, missing, worker)
    for answer in answers:
        if isinstance(answer, Failed):
            work.log(f"a process that tried settings ended: {answer.error}")
        else:
            recorder.record(answer)
            ended += 1
        best = _best(study)
        note = "" if best is None else f"best so far {best.value:.3f} (trial {best.number})"
        progress(ended, missing, note=note)
    return ended


def _spread(spec: _Spec, count: int, worker: Sequence[str]) -> Iterator[Answer | Failed]:
    program: Program[int, Answer] = Program(
        command=worker,
        greeting=spec.as_values(),
        describe=lambda number: {"task": number},
        receive=_receive,
        name="a tuning worker",
    )
    for _, outcome in spread(program, range(count), workers=spec.settings.workers):
        yield outcome


def _receive(pipe: Readable) -> Answer:
    values = receive_json(pipe)
    scores = receive(pipe)
    return Answer(**values, scores=pl.read_parquet(io.BytesIO(scores)) if scores else None)


def _sent(answer: Answer) -> Iterator[bytes]:
    buffer = io.BytesIO()
    if answer.scores is not None:
        answer.scores.write_parquet(buffer)
    values = {name: value for name, value in vars(answer).items() if name != "scores"}
    yield to_json(values)
    yield buffer.getvalue()


def _prepare(greeting: dict[str, Any]) -> Any:
    """What a process does that tries settings."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = _Spec.from_values(greeting)
    work = Work(Site(spec.root, spec.landing), Lake(spec.root / "lake"))
    training_set = load_training_set(work, spec.training_set_id)
    data = read_set(work, training_set, spec.base, spec.pins)
    study = _open(spec.storage, f"tuning {spec.settings.study}", spec.settings)
    trier = _Trier(spec.settings, spec.base, data.learning_set, study)
    return lambda _task: _sent(trier.try_next())


# Records ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recorder:
    """Ends trials: in the tracking store, then in the study, then in the lake."""

    work: Work
    training_set: TrainingSet
    pins: dict[str, int]
    study: Study
    settings: TuningSettings
    base: AttemptSettings
    study_run_id: str

    def record(self, answer: Answer) -> None:
        """Record what came of a trial."""
        from optuna.trial import TrialState

        from fall_assets.learning.tracking import AttemptRecord

        store = tracking(self.work.site)
        record = AttemptRecord(
            self._attempt_id(answer.trial),
            f"trial {answer.trial}: " + ", ".join(_shown(answer.params)),
            answer.attempt,
            {"training_set_id": self.training_set.id, **self.pins},
            git_commit(),
            lock_sha256(),
            kind="trial",
            figures={
                "smooth_sensitivity": answer.value,
                "sensitivity": answer.sensitivity,
                "folds": answer.folds,
            },
            scores=answer.scores,
            environment=environment(),
        )
        if answer.state == "failed":
            run_id = store.log_failure(record, self.study_run_id, answer.error or "unknown")
            self._fail(answer.trial, answer.error or "unknown")
        else:
            inputs = dataset_pins(self.work, self.training_set.row, self.pins)
            run_id = store.log_attempt(replace(record, inputs=inputs), self.study_run_id)
            if answer.state == "pruned":
                self.study.tell(answer.trial, state=TrialState.PRUNED)
            else:
                self.study.tell(answer.trial, answer.value)
        self._write({answer.trial: (answer, run_id)})

    def sweep(self) -> None:
        """Mark what runs as failed: whoever ran it is gone. Its settings are tried again.

        Rows that a killed process did not write are written, too.
        """
        from optuna.trial import TrialState

        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            self._fail(trial.number, "its process ended", broken_off=True)
            retry = int(trial.user_attrs.get(_RETRY, 0))
            if trial.params and retry < RETRIES:
                self.study.enqueue_trial(trial.params, user_attrs={_RETRY: retry + 1})
                self.work.log(f"trial {trial.number} was broken off: it is tried again")
        self._write({})

    def rows(self) -> list[dict[str, Any]]:
        """The study's rows of `tuning_study`, with `params` as values."""
        rows = self._known()
        return [{**row, "params": json.loads(row["params"])} for row in rows.to_dicts()]

    def _fail(self, number: int, error: str, *, broken_off: bool = False) -> None:
        from optuna.trial import TrialState

        storage = self.study._storage
        trial_id = storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        storage.set_trial_user_attr(trial_id, "error", error)
        storage.set_trial_user_attr(trial_id, _BROKEN_OFF, broken_off)
        self.study.tell(number, state=TrialState.FAIL)

    def _known(self) -> pl.DataFrame:
        name = pl.col("study") == self.study.study_name
        return self.work.lake.read("tuning_study", where=name).sort("trial")

    def _write(self, answers: Mapping[int, tuple[Answer, str]]) -> None:
        """Rows of all trials that ended and have none yet."""
        known = set(self._known()["trial"])
        rows = [
            self._row(trial, answers.get(trial.number))
            for trial in self.study.trials
            if trial.state.is_finished() and trial.number not in known
        ]
        if rows:
            frame = pl.DataFrame(rows, schema=table("tuning_study").schema)
            self.work.lake.upsert("tuning_study", frame, self.work.provenance())

    def _row(self, trial: FrozenTrial, known: tuple[Answer, str] | None) -> dict[str, Any]:
        from optuna.trial import TrialState

        states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
        params = _decoded(trial.params)
        try:
            attempt = self.base.with_training(nested(params)).as_values()
        except PermanentFailureError:
            # The space holds what the algorithm refuses; `error` says so.
            attempt = self.base.as_values()
        answer, run_id = known if known is not None else (None, self._run_of(trial.number))
        steps = trial.intermediate_values
        value = steps[max(steps)] if steps else None
        return {
            "study": self.study.study_name,
            "trial": trial.number,
            "state": states.get(trial.state, "failed"),
            "created_utc": _utc(trial.datetime_start),
            "ended_utc": _utc(trial.datetime_complete),
            "training_set_id": self.training_set.id,
            "algorithm": self.settings.algorithm,
            "params": json.dumps(params, sort_keys=True),
            "settings": json.dumps(attempt, sort_keys=True),
            "pins": json.dumps(self.pins, sort_keys=True),
            "folds": len(steps) if answer is None else answer.folds,
            "value": value,
            "sensitivity": None if answer is None else answer.sensitivity,
            "error": trial.user_attrs.get("error"),
            "run_id": run_id,
        }

    def _run_of(self, number: int) -> str | None:
        return tracking(self.work.site).finished_attempt(self._attempt_id(number), "trial")

    def _attempt_id(self, number: int) -> str:
        content = json.dumps([self.study.study_name, self.training_set.id, number])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def _utc(moment: datetime | None) -> datetime:
    """Optuna's moments are of the local clock, without a zone."""
    return (moment or datetime.now()).astimezone(UTC)


def _shown(params: Mapping[str, Any]) -> list[str]:
    return [
        f"{name.rpartition('.')[-1]} {value:.3g}"
        if isinstance(value, float)
        else f"{name.rpartition('.')[-1]} {value}"
        for name, value in params.items()
    ]


def _plots(rows: Sequence[Mapping[str, Any]], shares: Mapping[str, float]) -> dict[str, bytes]:
    from fall_assets.learning import tuning_plots

    names = list(shares) or sorted({name for row in rows for name in row["params"]})
    return {
        "history": tuning_plots.history(rows),
        "importances": tuning_plots.importances(shares),
        "settings": tuning_plots.slices(rows, names),
    }


if __name__ == "__main__":
    serve(_prepare)
