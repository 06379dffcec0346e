"""Runs and the model registry in MLflow, which is loaded when a `Tracking` is made.

What belongs here: everything that calls MLflow. What does not: the gate before the registry
(`delivery.gate`), what is worth recording (the caller's).

A model's files are plain artifacts of its run, a folder of safetensors and JSON; MLflow's own
model flavours are not used, because they load pickle. The digest of the files is a tag of the run
and is verified whenever a detector is loaded.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fall_assets.errors import PassingFailureError, PermanentFailureError
from fall_assets.learning.detector import Detector

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

Alias = Literal["champion", "challenger"]
CHAMPION: Alias = "champion"
CHALLENGER: Alias = "challenger"
EXPERIMENT = "fall-detection"
MODEL_NAME = "fall-detector"

_FOLDER = "detector"
_DIGEST = "detector_digest"
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
        """
        try:
            run = self._client.create_run(self._experiment_id())
        except self._failure as error:
            raise self._error(error, "no run can be made") from error
        run_id: str = run.info.run_id
        try:
            self._log(run_id, detector, settings, pins, metrics, plots)
            for key, value in (("git_commit", git_commit), ("lock_sha256", lock_sha256)):
                self._client.set_tag(run_id, key, value)
            self._client.set_terminated(run_id, "FINISHED")
        except BaseException as error:
            self._client.set_terminated(run_id, "FAILED")
            if isinstance(error, self._failure):
                raise self._error(error, f"run {run_id} cannot be written") from error
            raise
        return run_id

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

    def champion(self) -> ModelVersionInfo | None:
        """The version that serves; none where nothing was promoted yet."""
        return self._by_alias(CHAMPION)

    def challenger(self) -> ModelVersionInfo | None:
        """The version that is being proved, if there is one."""
        return self._by_alias(CHALLENGER)

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
                text = json.dumps(content, indent=2, sort_keys=True, default=str)
                (root / f"{name}.json").write_text(text + "\n")
            (root / "plots").mkdir()
            for title, picture in plots.items():
                (root / "plots" / f"{title.replace(' ', '-').replace('/', '-')}.png").write_bytes(
                    picture
                )
            client.log_artifacts(run_id, folder)
        client.set_tag(run_id, _DIGEST, digest)

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
