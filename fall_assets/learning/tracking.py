"""Runs and the model registry in MLflow, which is loaded when a `Tracking` is made.

What belongs here: everything that calls MLflow. What does not: the gate before the registry
(`delivery.gate`), what is worth recording (the caller's).

A model's files are plain artifacts of its run, a folder of safetensors and JSON; MLflow's own
model flavours are not used, because they load pickle. The digest of the files is a tag of the run
and is verified whenever a detector is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from fall_assets.errors import PassingFailureError, PermanentFailureError
from fall_assets.learning.detector import Detector

if TYPE_CHECKING:
    import polars as pl
    from mlflow.entities.model_registry import ModelVersion

Alias = Literal["champion", "challenger", "previous"]
CHAMPION: Alias = "champion"
CHALLENGER: Alias = "challenger"
PREVIOUS: Alias = "previous"
EXPERIMENT = "fall-detection"
MODEL_NAME = "fall-detector"

MODEL_FOLDER = "model"
"""Where an attempt's run keeps its model; a candidate's run has `detector`."""
SCORES_FILE = "scores.parquet"
KIND = "kind"
ATTEMPT_ID = "attempt_id"
MODEL_DIGEST = "model_digest"

RunKind = Literal["candidate", "attempt", "trial"]

_FOLDER = "detector"
_DIGEST = "detector_digest"
_STUDY = "study"
_PARENT = "mlflow.parentRunId"
_NAME = "mlflow.runName"
_METRICS_AT_ONCE = 900
_NOT_IN_A_KEY = re.compile(r"[^A-Za-z0-9_\-. /]")
_LONGEST_PARAMETER = 6000
_PASSING = frozenset({"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"})


class UnknownModelError(PermanentFailureError):
    """There is no such run, version or alias, or it holds no detector."""


class TrackingAwayError(PassingFailureError):
    """The tracking store did not answer."""


@dataclass(frozen=True)
class ModelVersionInfo:
    """One version in the registry."""

    version: str
    run_id: str
    aliases: tuple[str, ...]
    description: str


@dataclass(frozen=True)
class DatasetPin:
    """A table that a run read: an input of the run in MLflow.

    `digest` changes when the data do (at most 36 characters); `profile` is a few facts.
    """

    name: str
    version: int
    digest: str
    source: str
    profile: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AttemptRecord:
    """What is recorded of an attempt, beside its model.

    Attributes:
        attempt_id: its identity.
        title: its name in MLflow.
        kind: 'attempt', or 'trial' of a search, which has no model.
        settings: everything that decided it; nested values become `a.b` parameters.
        pins: what the data was.
        inputs: the tables that were read.
        metrics: rows of figures by slice (`metrics.event_metrics`), and by fold.
        figures: further single figures by name.
        plots: PNG bytes by title.
        files: further files by name.
        scores: out-of-fold scores, columns video_id, fold, threshold, end_s and score.
        environment: versions and the machine.
        git_commit: commit of the code.
        lock_sha256: SHA-256 of the lock file.
    """

    attempt_id: str
    title: str
    settings: Mapping[str, Any]
    pins: Mapping[str, Any]
    git_commit: str
    lock_sha256: str
    kind: RunKind = "attempt"
    inputs: Sequence[DatasetPin] = ()
    metrics: Sequence[Mapping[str, Any]] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    plots: Mapping[str, bytes] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    scores: pl.DataFrame | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """What a run holds to be rebuilt from.

    `folder` has its artifacts; `scores` is None where the run keeps none.
    """

    run_id: str
    kind: RunKind
    tags: Mapping[str, str]
    settings: Mapping[str, Any]
    pins: Mapping[str, Any]
    environment: Mapping[str, str]
    folder: Path

    @property
    def scores(self) -> pl.DataFrame | None:
        """Out-of-fold scores as they were recorded."""
        import polars as pl

        file = self.folder / SCORES_FILE
        return pl.read_parquet(file) if file.is_file() else None

    @property
    def model(self) -> Path | None:
        """The folder of the model's files, if the run has one."""
        name = _FOLDER if self.kind == "candidate" else MODEL_FOLDER
        return self.folder / name if (self.folder / name).is_dir() else None

    @property
    def digest(self) -> str | None:
        """The recorded digest of the model's files."""
        return self.tags.get(_DIGEST if self.kind == "candidate" else MODEL_DIGEST)


class Tracking:
    """A tracking store, with its registry.

    Args:
        uri: MLflow's address, `sqlite:///…/mlflow.db` or `http://…`; the environment variable
            MLFLOW_TRACKING_URI goes before it.
        artifact_root: where artifacts of new experiments go in a local store; a server decides
            for itself.
        experiment: name of the experiment; made where it does not exist.
        model: name of the registered model.
    """

    def __init__(
        self,
        uri: str,
        artifact_root: Path,
        experiment: str = EXPERIMENT,
        model: str = MODEL_NAME,
    ) -> None:
        # Read by MLflow as it is imported.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("DO_NOT_TRACK", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._failure: type[Exception] = MlflowException
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or uri
        self._artifact_root = artifact_root
        self._experiment = experiment
        self._model = model
        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._client = MlflowClient(self.uri, registry_uri=self.uri)
            self._client.search_experiments(max_results=1)
        except MlflowException as error:
            raise self._error(error, f"the tracking store {self.uri} cannot be opened") from error

    def log_candidate(
        self,
        detector: Detector,
        *,
        settings: Mapping[str, Any],
        pins: Mapping[str, Any],
        metrics: Mapping[str, Any],
        plots: Mapping[str, bytes],
        git_commit: str,
        lock_sha256: str,
        inputs: Sequence[DatasetPin] = (),
        scores: pl.DataFrame | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Record a trained detector; returns the run's id.

        The run ends as FINISHED only when everything is in it; where something fails it is
        marked FAILED and the error is raised.

        Args:
            detector: saved among the run's artifacts.
            settings: everything that decided the training; nested values become `a.b` parameters,
                and the whole is kept as `settings.json`.
            pins: what the data was: ids, table versions and hashes; tags and `pins.json`.
            metrics: numbers are logged, texts and missing figures are left out.
            plots: PNG bytes by title.
            git_commit: commit of the code.
            lock_sha256: SHA-256 of the lock file.
            inputs: the tables that were read.
            scores: out-of-fold scores, as in `AttemptRecord`.
            environment: versions and the machine.
        """
        with self._new_run({KIND: "candidate"}) as run_id:
            self._log(run_id, detector, settings, pins, metrics, plots)
            for key, value in (("git_commit", git_commit), ("lock_sha256", lock_sha256)):
                self._client.set_tag(run_id, key, value)
            self._log_inputs(run_id, inputs)
            self._log_data(run_id, scores, environment)
        return run_id

    def start_study(self, study: str, settings: Mapping[str, Any]) -> str:
        """The run under which a study's attempts are nested; the same one for the same name.

        Settings are kept as they were when the study began, and as they are now.
        """
        try:
            known = self._search(f"tags.{_STUDY} = '{_quoted(study)}' and tags.{KIND} = 'study'")
            if known:
                run_id = known[-1]
                self._client.update_run(run_id, "RUNNING")
            else:
                tags = {_STUDY: study, KIND: "study", _NAME: study}
                run = self._client.create_run(self._experiment_id(), tags=tags)
                run_id = str(run.info.run_id)
                for key, value in _flat(settings).items():
                    self._client.log_param(run_id, key, str(value)[:_LONGEST_PARAMETER])
            text = json.dumps(settings, indent=2, sort_keys=True, default=str)
            self._client.log_text(run_id, text + "\n", "settings.json")
        except self._failure as error:
            raise self._error(error, f"study {study} cannot be started") from error
        return run_id

    def end_study(
        self, run_id: str, figures: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> None:
        """Record what became of a study: single figures, and files (plots, tables) by name."""
        try:
            self._log_metrics(run_id, figures)
            with tempfile.TemporaryDirectory(prefix="fall-assets-") as folder:
                for name, content in files.items():
                    (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                    (Path(folder) / name).write_bytes(content)
                self._client.log_artifacts(run_id, folder)
            self._client.set_terminated(run_id, "FINISHED")
        except self._failure as error:
            raise self._error(error, f"run {run_id} cannot be written") from error

    def log_attempt(
        self,
        record: AttemptRecord,
        parent: str,
        model: Path | None = None,
    ) -> str:
        """Record an attempt below its study; returns the run's id.

        What a killed process began of the same attempt is marked KILLED first. The run ends as
        FINISHED only when everything is in it.

        Args:
            record: what is known.
            parent: the study's run.
            model: folder of the model's files; none keeps no model.
        """
        try:
            of_attempt = f"tags.{ATTEMPT_ID} = '{record.attempt_id}' and tags.{KIND} = "
            for broken in self._search(
                f"{of_attempt}'{record.kind}' and attributes.status = 'RUNNING'"
            ):
                self._client.set_terminated(broken, "KILLED")
        except self._failure as error:
            raise self._error(error, "the runs cannot be searched") from error
        tags = {
            KIND: record.kind,
            ATTEMPT_ID: record.attempt_id,
            _PARENT: parent,
            _NAME: record.title[:250],
            "git_commit": record.git_commit,
            "lock_sha256": record.lock_sha256,
            **{f"pin.{key}": str(value) for key, value in record.pins.items()},
        }
        with self._new_run(tags) as run_id:
            for key, value in _flat(record.settings).items():
                self._client.log_param(run_id, key, str(value)[:_LONGEST_PARAMETER])
            self._log_inputs(run_id, record.inputs)
            self._log_metrics(run_id, {**_by_slice(record.metrics), **record.figures})
            with tempfile.TemporaryDirectory(prefix="fall-assets-") as folder:
                root = Path(folder)
                _write_json(root, "settings", record.settings)
                _write_json(root, "pins", record.pins)
                _write_json(root, "metrics", list(record.metrics))
                _write_json(root, "figures", record.figures)
                _write_plots(root, record.plots)
                for name, content in record.files.items():
                    (root / name).write_bytes(content)
                if model is not None:
                    shutil.copytree(model, root / MODEL_FOLDER)
                    self._client.set_tag(run_id, MODEL_DIGEST, folder_digest(model))
                self._client.log_artifacts(run_id, folder)
            self._log_data(run_id, record.scores, record.environment)
        return run_id

    def log_failure(self, record: AttemptRecord, parent: str, error: str) -> str:
        """Record that an attempt failed, and why, below its study; returns the run's id."""
        tags = {
            KIND: record.kind,
            ATTEMPT_ID: record.attempt_id,
            _PARENT: parent,
            _NAME: record.title[:250],
            "git_commit": record.git_commit,
            "lock_sha256": record.lock_sha256,
            "error": error[:_LONGEST_PARAMETER],
        }
        try:
            run = self._client.create_run(self._experiment_id(), tags=tags)
            run_id = str(run.info.run_id)
            for key, value in _flat(record.settings).items():
                self._client.log_param(run_id, key, str(value)[:_LONGEST_PARAMETER])
            self._client.set_terminated(run_id, "FAILED")
        except self._failure as failure:
            raise self._error(failure, "a failed attempt cannot be recorded") from failure
        return run_id

    def finished_attempt(self, attempt_id: str, kind: RunKind = "attempt") -> str | None:
        """The newest run that recorded an attempt whole; None where there is none."""
        wanted = (
            f"tags.{ATTEMPT_ID} = '{_quoted(attempt_id)}' and tags.{KIND} = '{kind}' "
            "and attributes.status = 'FINISHED'"
        )
        try:
            found = self._search(wanted)
        except self._failure as error:
            raise self._error(error, "the runs cannot be searched") from error
        return found[0] if found else None

    def read_run(self, run_id: str, folder: Path) -> RunRecord:
        """What a run holds to be rebuilt from; its files are written below `folder`.

        Runs of before this was recorded hold no scores and no environment.

        Raises:
            UnknownModelError: there is no such run, or it is none of ours.
        """
        tags = self._run_tags(run_id)
        said = tags.get(KIND, "candidate" if _DIGEST in tags else "")
        if said not in get_args(RunKind):
            raise UnknownModelError(
                f"run {run_id} is neither a candidate nor an attempt ({said or 'unknown'}): "
                "name another run"
            )
        try:
            found = Path(self._client.download_artifacts(run_id, "", str(folder)))
        except (self._failure, OSError) as error:
            raise self._error(error, f"the files of run {run_id} cannot be read") from error
        known: dict[str, Any] = {}
        for name in ("settings", "pins", "environment"):
            file = found / f"{name}.json"
            known[name] = json.loads(file.read_text()) if file.is_file() else {}
        if not known["settings"] or not known["pins"]:
            raise UnknownModelError(
                f"run {run_id} does not say what it was made of (settings.json, pins.json): it "
                "cannot be rebuilt"
            )
        return RunRecord(run_id, cast("RunKind", said), tags, folder=found, **known)

    def read_file(self, run_id: str, name: str) -> bytes:
        """One file of a run. Raises UnknownModelError where it has none of that name."""
        with tempfile.TemporaryDirectory(prefix="fall-assets-") as folder:
            try:
                return Path(self._client.download_artifacts(run_id, name, folder)).read_bytes()
            except (self._failure, OSError) as error:
                raise self._error(error, f"run {run_id} has no file {name}") from error

    def load_detector(self, model: str) -> Detector:
        """The detector of a run id, of a version's number or of an alias, verified.

        Raises:
            UnknownModelError: where there is none.
            DetectorFileError: where its files are not the ones that were recorded.
        """
        run_id = self.run_of(model)
        try:
            tags = self._client.get_run(run_id).data.tags
            if _DIGEST not in tags:
                raise UnknownModelError(f"run {run_id} holds no detector: name another run")
            with tempfile.TemporaryDirectory(prefix="fall-assets-") as folder:
                found = self._client.download_artifacts(run_id, _FOLDER, folder)
                return Detector.load(Path(found), expected_digest=tags[_DIGEST])
        except (self._failure, OSError) as error:
            raise self._error(error, f"the detector of run {run_id} cannot be read") from error

    def register(self, run_id: str, alias: Alias, description: str) -> str:
        """Make a version of a run's detector and give it an alias; returns its number.

        A run that already is a version keeps it: nothing is registered twice. The alias moves
        from whichever version had it.
        """
        if _DIGEST not in self._run_tags(run_id):
            raise UnknownModelError(f"run {run_id} holds no detector: name another run")
        try:
            if not self._client.search_registered_models(f"name = '{self._model}'"):
                self._client.create_registered_model(
                    self._model, description="Finds patient falls in pose tracks."
                )
            known = self._client.search_model_versions(
                f"name = '{self._model}' and run_id = '{run_id}'"
            )
            if known:
                version = str(known[0].version)
            else:
                made = self._client.create_model_version(
                    self._model,
                    source=f"runs:/{run_id}/{_FOLDER}",
                    run_id=run_id,
                    description=description,
                )
                version = str(made.version)
            self._client.set_registered_model_alias(self._model, alias, version)
        except self._failure as error:
            raise self._error(error, f"run {run_id} cannot be registered") from error
        return version

    def promote(self, version: str) -> None:
        """Make a version the champion; it stops being the challenger.

        Raises:
            UnknownModelError: where there is no such version.
        """
        chosen = self.version(version)
        try:
            self._client.set_registered_model_alias(self._model, CHAMPION, chosen.version)
            if CHALLENGER in chosen.aliases:
                self._client.delete_registered_model_alias(self._model, CHALLENGER)
        except self._failure as error:
            raise self._error(error, f"version {version} cannot be promoted") from error

    def move_alias(self, alias: Alias, version: str | None) -> None:
        """Give an alias to a version, or to none.

        Raises:
            UnknownModelError: where there is no such version.
        """
        try:
            if version is not None:
                self._client.set_registered_model_alias(
                    self._model, alias, self.version(version).version
                )
            elif self._by_alias(alias) is not None:
                self._client.delete_registered_model_alias(self._model, alias)
        except self._failure as error:
            raise self._error(error, f"the {alias} cannot be named") from error

    def champion(self) -> ModelVersionInfo | None:
        """The version that serves; none where nothing was promoted yet."""
        return self._by_alias(CHAMPION)

    def challenger(self) -> ModelVersionInfo | None:
        """The version that is being proved, if there is one."""
        return self._by_alias(CHALLENGER)

    def previous(self) -> ModelVersionInfo | None:
        """The version that served before, for as long as it can be gone back to."""
        return self._by_alias(PREVIOUS)

    def version(self, version: str) -> ModelVersionInfo:
        """One version by its number.

        Raises:
            UnknownModelError: where there is none.
        """
        try:
            return _info(self._client.get_model_version(self._model, version))
        except self._failure as error:
            raise self._error(error, f"no version {version} of {self._model}") from error

    def run_of(self, model: str) -> str:
        """The run of a version's number or of an alias; a run's id is returned as it is."""
        if model in (CHAMPION, CHALLENGER):
            named = self._by_alias(model)
            if named is None:
                raise UnknownModelError(f"no {model} is registered: register a candidate first")
            return named.run_id
        return self.version(model).run_id if model.isdecimal() and len(model) < 10 else model

    def _log(
        self,
        run_id: str,
        detector: Detector,
        settings: Mapping[str, Any],
        pins: Mapping[str, Any],
        metrics: Mapping[str, Any],
        plots: Mapping[str, bytes],
    ) -> None:
        client = self._client
        for key, value in _flat(settings).items():
            client.log_param(run_id, key, str(value)[:_LONGEST_PARAMETER])
        client.log_param(run_id, "parameters", detector.parameters)
        client.log_param(run_id, "feature_set", detector.feature_set)
        client.log_param(run_id, "threshold", detector.threshold)
        for key, value in pins.items():
            client.set_tag(run_id, f"pin.{key}", str(value))
        for key, value in metrics.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                client.log_metric(run_id, key, value)
        with tempfile.TemporaryDirectory(prefix="fall-assets-") as folder:
            root = Path(folder)
            digest = detector.save(root / _FOLDER)
            for name, content in (("settings", settings), ("pins", pins), ("metrics", metrics)):
                _write_json(root, name, content)
            _write_plots(root, plots)
            client.log_artifacts(run_id, folder)
        client.set_tag(run_id, _DIGEST, digest)

    @contextmanager
    def _new_run(self, tags: Mapping[str, str]) -> Iterator[str]:
        """A run that ends as FINISHED, or as FAILED where something is raised."""
        try:
            run = self._client.create_run(self._experiment_id(), tags=dict(tags))
        except self._failure as error:
            raise self._error(error, "no run can be made") from error
        run_id: str = run.info.run_id
        try:
            yield run_id
            self._client.set_terminated(run_id, "FINISHED")
        except BaseException as error:
            self._client.set_terminated(run_id, "FAILED")
            if isinstance(error, self._failure):
                raise self._error(error, f"run {run_id} cannot be written") from error
            raise

    def _search(self, wanted: str) -> list[str]:
        """Ids of runs, the newest first."""
        found = self._client.search_runs(
            [self._experiment_id()], wanted, order_by=["attributes.start_time DESC"]
        )
        return [str(run.info.run_id) for run in found]

    def _log_inputs(self, run_id: str, inputs: Sequence[DatasetPin]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if not inputs:
            return
        made = [
            DatasetInput(
                Dataset(
                    one.name,
                    one.digest[:36],
                    "lake",
                    json.dumps({"uri": one.source, "version": one.version}),
                    profile=json.dumps(one.profile),
                ),
                [InputTag("mlflow.data.context", "training")],
            )
            for one in inputs
        ]
        self._client.log_inputs(run_id, made)

    def _log_metrics(self, run_id: str, figures: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        known = [
            Metric(_NOT_IN_A_KEY.sub("_", key)[:250], float(value), now, 0)
            for key, value in figures.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        for start in range(0, len(known), _METRICS_AT_ONCE):
            self._client.log_batch(run_id, metrics=known[start : start + _METRICS_AT_ONCE])

    def _log_data(
        self,
        run_id: str,
        scores: pl.DataFrame | None,
        environment: Mapping[str, str] | None,
    ) -> None:
        """What a rebuilt model is compared with."""
        with tempfile.TemporaryDirectory(prefix="fall-assets-") as folder:
            root = Path(folder)
            if environment:
                _write_json(root, "environment", environment)
            if scores is not None:
                scores.write_parquet(root / SCORES_FILE, compression="zstd")
            if any(root.iterdir()):
                self._client.log_artifacts(run_id, folder)

    def _experiment_id(self) -> str:
        known = self._client.get_experiment_by_name(self._experiment)
        if known is not None:
            return str(known.experiment_id)
        local = not self.uri.startswith(("http://", "https://"))
        try:
            return str(
                self._client.create_experiment(
                    self._experiment, self._artifact_root.absolute().as_uri() if local else None
                )
            )
        except self._failure:
            # Another process was faster.
            known = self._client.get_experiment_by_name(self._experiment)
            if known is None:
                raise
            return str(known.experiment_id)

    def _by_alias(self, alias: str) -> ModelVersionInfo | None:
        try:
            models = self._client.search_registered_models(f"name = '{self._model}'")
            version = models[0].aliases.get(alias) if models else None
        except self._failure as error:
            raise self._error(error, f"the {alias} cannot be looked up") from error
        return self.version(str(version)) if version is not None else None

    def _run_tags(self, run_id: str) -> Mapping[str, str]:
        try:
            tags: Mapping[str, str] = self._client.get_run(run_id).data.tags
        except self._failure as error:
            raise self._error(error, f"there is no run {run_id} in {self.uri}") from error
        return tags

    def _error(self, error: Exception, what: str) -> Exception:
        """Passing where the store is busy or away, else permanent."""
        if getattr(error, "error_code", "") in _PASSING:
            return TrackingAwayError(f"{what}: {error}; try again")
        return UnknownModelError(f"{what}: {error}; look at the runs and versions there are")


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files below a folder, in hex."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in files
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _by_slice(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures by name: those over everything as they are, others as `slice.value.name`."""
    named = {}
    for row in rows:
        every = row["slice"] == "all"
        prefix = "" if every else f"{row['slice']}.{row['value']}."
        for name, value in row.items():
            if name not in ("slice", "value"):
                named[f"{prefix}{name}"] = value
    return named


def _write_json(folder: Path, name: str, content: Any) -> None:
    text = json.dumps(content, indent=2, sort_keys=True, default=str)
    (folder / f"{name}.json").write_text(text + "\n")


def _write_plots(folder: Path, plots: Mapping[str, bytes]) -> None:
    (folder / "plots").mkdir()
    for title, picture in plots.items():
        name = title.replace(" ", "-").replace("/", "-")
        (folder / "plots" / f"{name}.png").write_bytes(picture)


def _quoted(text: str) -> str:
    """A text for a filter; MLflow's filters cannot escape quotes."""
    if "'" in text or '"' in text or "\\" in text:
        raise PermanentFailureError(f"{text!r} holds a quote or a backslash: use another name")
    return text


def _info(version: ModelVersion) -> ModelVersionInfo:
    return ModelVersionInfo(
        str(version.version),
        str(version.run_id),
        tuple(version.aliases),
        version.description or "",
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `a.b` names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
