"""Runs and the registry, on a real store of MLflow in a temporary folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fall_assets.learning.detector import Detector, DetectorFileError
from fall_assets.learning.tracking import Tracking, UnknownModelError
from fall_assets_tests.learning.people import segment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def tracking(folder: Path) -> Tracking:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return Tracking(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")


def _log(tracking: Tracking, detector: Detector) -> str:
    return tracking.log_candidate(
        detector,
        settings={"training": {"seed": 3, "steps": 9}, "simulated_windows": 0},
        pins={"training_set_id": "abc", "clips": 4},
        metrics={"sensitivity": 0.9, "falls": 10, "slice": "all", "f1": None},
        plots={"detection delay": b"\x89PNG"},
        git_commit="c0ffee",
        lock_sha256="f00d",
    )


@pytest.fixture(scope="module")
def run_id(tracking: Tracking, detector: Detector) -> str:
    return _log(tracking, detector)


def test_a_run_records_what_is_needed_to_rebuild_it(
    tracking: Tracking, run_id: str, folder: Path
) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking.uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["training.seed"] == "3"
    assert run.data.metrics == {"sensitivity": 0.9, "falls": 10.0}
    assert run.data.tags["git_commit"] == "c0ffee"
    assert run.data.tags["lock_sha256"] == "f00d"
    assert run.data.tags["pin.training_set_id"] == "abc"
    kept = {artifact.path for artifact in client.list_artifacts(run_id)}
    assert kept == {"detector", "plots", "settings.json", "pins.json", "metrics.json"}
    (pins,) = (folder / "artifacts").rglob("pins.json")
    assert json.loads(pins.read_text()) == {"training_set_id": "abc", "clips": 4}
    assert not list((folder / "artifacts").rglob("*.pkl"))


def test_a_recorded_detector_comes_back(
    tracking: Tracking, run_id: str, detector: Detector
) -> None:
    loaded = tracking.load_detector(run_id)
    tracks = segment(0, "fall", 4)
    np.testing.assert_array_equal(loaded.scores(tracks).score, detector.scores(tracks).score)


def test_champion_and_challenger_are_aliases_that_move(
    tracking: Tracking, run_id: str, detector: Detector
) -> None:
    assert tracking.champion() is None
    assert tracking.challenger() is None
    with pytest.raises(UnknownModelError, match="no champion"):
        tracking.load_detector("champion")
    first = tracking.register(run_id, "champion", "the first")
    assert tracking.register(run_id, "champion", "again") == first
    second = tracking.register(
        _log(tracking, detector.with_threshold(0.25)), "challenger", "the second"
    )
    assert second != first
    champion, challenger = tracking.champion(), tracking.challenger()
    assert champion is not None
    assert challenger is not None
    assert (champion.version, champion.run_id, champion.description) == (first, run_id, "the first")
    assert challenger.aliases == ("challenger",)
    assert tracking.load_detector(second).threshold == 0.25
    tracking.promote(second)
    promoted = tracking.champion()
    assert promoted is not None
    assert promoted.version == second
    assert tracking.challenger() is None
    assert tracking.version(first).aliases == ()
    assert tracking.load_detector("champion").threshold == 0.25


def test_changed_files_are_not_loaded(tracking: Tracking, detector: Detector, folder: Path) -> None:
    spoilt = _log(tracking, detector)
    (file,) = (folder / "artifacts").glob(f"{spoilt}/**/detector.json")
    file.write_text(file.read_text().replace('"merge_gap_s": 10.0', '"merge_gap_s": 99.0'))
    with pytest.raises(DetectorFileError, match="not the one that was recorded"):
        tracking.load_detector(spoilt)


def test_what_is_not_there_is_said_so(tracking: Tracking) -> None:
    with pytest.raises(UnknownModelError, match="0123abcd"):
        tracking.load_detector("0123abcd")
    with pytest.raises(UnknownModelError, match="no version 99"):
        tracking.load_detector("99")
    with pytest.raises(UnknownModelError):
        tracking.promote("99")
    with pytest.raises(UnknownModelError, match="0123abcd"):
        tracking.register("0123abcd", "champion", "")


def test_a_run_that_cannot_be_written_is_marked_as_failed(
    tracking: Tracking, detector: Detector
) -> None:
    from mlflow.tracking import MlflowClient

    with pytest.raises(TypeError):
        tracking.log_candidate(
            detector, settings={}, pins={}, metrics={}, plots={"x": "no bytes"},  # type: ignore[dict-item]
            git_commit="", lock_sha256="",
        )  # fmt: skip
    client = MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name("fall-detection")
    assert experiment is not None
    newest = client.search_runs([experiment.experiment_id])[0]
    assert newest.info.status == "FAILED"
    with pytest.raises(UnknownModelError, match="holds no detector"):
        tracking.register(newest.info.run_id, "champion", "")


def test_the_environments_store_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    uri = f"sqlite:///{folder}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert Tracking(f"sqlite:///{tmp_path}/other.db", tmp_path).uri == uri
    assert not (tmp_path / "other.db").exists()
