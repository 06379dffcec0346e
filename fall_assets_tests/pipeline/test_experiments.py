"""Attempts of a grid on a site of drawn people: what is recorded, and what happens after errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from mlflow.tracking import MlflowClient

from fall_assets.errors import PermanentFailureError
from fall_assets.learning.algorithms.registry import settings_of
from fall_assets.learning.attempts import AttemptSettings, GridSettings
from fall_assets.pipeline.experiments import Experiments, read_set, run_experiments
from fall_assets.pipeline.locks import BusyError, locked
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.training_sets import cut_training_set, load_training_set
from fall_assets.pipeline.work import Work
from fall_assets_tests.learning.people import DAY, video_id
from fall_assets_tests.pipeline.drawn_site import (
    GRID,
    MOTION,
    QUICK,
    VIDEOS,
    draw_site,
    kill_amid,
    work_on,
)

BROKEN = GridSettings.from_values(
    {
        "study": "drawn",
        "simulated_windows": 0,
        "blocks": [
            {
                "algorithms": ["embedding-tcn"],
                "extractors": {"embedding": {"backbone": "resnet18", "weights": "0" * 64}},
            },
            {"algorithms": ["pose-tcn"], "training": [{**QUICK, "steps": 5}]},
        ],
    }
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a training set and an empty tracking store; copy it."""
    root = tmp_path_factory.mktemp("drawn") / "site"
    work = draw_site(root)
    cut_training_set(work)
    tracking(work.site)
    return root


@pytest.fixture(scope="module")
def tried(
    drawn: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Experiments, list[str]]:
    """The same after the grid was tried; read it, do not change it."""
    root = tmp_path_factory.mktemp("tried") / "site"
    shutil.copytree(drawn, root)
    lines: list[str] = []
    return root, run_experiments(work_on(root, lines), GRID), lines


@pytest.fixture
def work(drawn: Path, tmp_path: Path) -> Work:
    shutil.copytree(drawn, tmp_path / "site")
    return work_on(tmp_path / "site")


def test_every_attempt_has_a_row_with_what_it_costs_and_brings(
    tried: tuple[Path, Experiments, list[str]],
) -> None:
    root, found, _ = tried
    work = work_on(root)
    rows = work.lake.read("experiments").sort("seed").to_dicts()
    assert [row["attempt_id"] for row in rows] == [row["attempt_id"] for row in found.rows]
    training_set = load_training_set(work)
    for row in rows:
        assert row["state"] == "finished"
        assert (row["segments"], row["left_out"], row["falls"]) == (VIDEOS, 0, 8)
        assert row["found"] == round(row["sensitivity"] * 8)
        assert row["sensitivity_low"] <= row["sensitivity"] <= row["sensitivity_high"]
        assert row["camera_days"] == pytest.approx(VIDEOS * 10 / 86400)
        assert row["train_s"] > 0
        assert row["score_ms_per_window"] > 0
        # No film is there to measure on.
        assert row["extract_s_per_hour"] is None
        assert json.loads(row["pins"]) == training_set.pins
        attempt = AttemptSettings.from_values(json.loads(row["settings"]))
        assert attempt.identity(training_set.id) == row["attempt_id"]
    assert rows[0]["model_digest"] != rows[1]["model_digest"]


def test_every_attempt_is_a_run_below_its_study(
    tried: tuple[Path, Experiments, list[str]],
) -> None:
    root, found, _ = tried
    work = work_on(root)
    client = MlflowClient(tracking(work.site).uri)
    parent = client.get_run(found.study_run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"attempts": 2, "failed": 0}
    for row in found.rows:
        run = client.get_run(row["run_id"])
        assert run.info.status == "FINISHED"
        tags, metrics = run.data.tags, run.data.metrics
        assert tags["mlflow.parentRunId"] == found.study_run_id
        assert tags["model_digest"] == row["model_digest"]
        assert run.data.params["training.steps"] == str(QUICK["steps"])
        assert metrics["sensitivity"] == row["sensitivity"]
        assert sum(metrics[f"fold.{fold}.falls"] for fold in range(4)) == 8
        assert metrics["dataset.site.falls"] + metrics["dataset.other.falls"] == 8
        assert run.inputs is not None
        inputs = {one.dataset.name: one.dataset for one in run.inputs.dataset_inputs}
        assert set(inputs) == {"training_set", *json.loads(row["pins"])}
        assert json.loads(inputs["pose_tracks"].source)["version"] == 1
        kept = {artifact.path for artifact in client.list_artifacts(row["run_id"])}
        assert kept >= {"model", "plots", "scores.parquet", "environment.json", "row.json"}
        plots = {artifact.path for artifact in client.list_artifacts(row["run_id"], "plots")}
        assert {"plots/confusion.png", "plots/sensitivity-against-false-alarms.png"} <= plots
    assert found.plots["cost and benefit"].startswith(b"\x89PNG")
    assert not list(root.rglob("*.pkl"))


def test_what_was_tried_is_not_tried_again(
    tried: tuple[Path, Experiments, list[str]], tmp_path: Path
) -> None:
    root, before, lines = tried
    shutil.copytree(root, tmp_path / "site")
    found = run_experiments(work_on(tmp_path / "site"), GRID)
    assert (found.tried, found.rows) == (0, before.rows)
    assert found.study_run_id == before.study_run_id
    assert any("falls" in line for line in lines)


def test_a_row_that_was_lost_is_taken_from_its_run(
    tried: tuple[Path, Experiments, list[str]], tmp_path: Path
) -> None:
    root, before, _ = tried
    shutil.copytree(root, tmp_path / "site")
    work = work_on(tmp_path / "site")
    rows = work.lake.read("experiments")
    work.lake.replace("experiments", rows.head(1), work.provenance())
    # The store's database names files of the first site, which is still there.
    assert run_experiments(work, GRID).rows == before.rows


def test_an_attempts_error_is_recorded_and_the_others_go_on(work: Work) -> None:
    found = run_experiments(work, BROKEN)
    broken, fine = found.rows
    assert (broken["state"], fine["state"]) == ("failed", "finished")
    assert "cannot be had" in broken["error"]
    assert found.failed == [broken]
    client = MlflowClient(tracking(work.site).uri)
    run = client.get_run(broken["run_id"])
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == broken["error"]
    assert run.data.tags["mlflow.parentRunId"] == found.study_run_id
    # What failed is tried again, what finished is not.
    assert run_experiments(work, BROKEN).tried == 1


def test_a_killed_grid_goes_on_where_it_was(work: Work) -> None:
    root = work.site.root
    kill_amid(root, "experiments", 1)
    before = work.lake.read("experiments").to_dicts()
    assert len(before) == 1
    found = run_experiments(work, GRID)
    assert found.tried == 1
    assert before[0] in found.rows
    assert [row["state"] for row in found.rows] == ["finished", "finished"]
    client = MlflowClient(tracking(work.site).uri)
    experiment = client.get_experiment_by_name("fall-detection")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'attempt'")
    states = sorted(run.info.status for run in runs)
    assert states == ["FINISHED", "FINISHED", "KILLED"]


def test_another_process_is_waited_for_by_nobody(work: Work) -> None:
    with locked(work, "experiments"), pytest.raises(BusyError):
        run_experiments(work, GRID)


def test_motion_is_read_at_the_version_that_is_pinned(work: Work) -> None:
    training_set = load_training_set(work)
    attempt = AttemptSettings("motion-boosting", settings_of("motion-boosting"), (MOTION,))
    data = read_set(work, training_set, attempt)
    assert data.pins == {**training_set.pins, "features": 1, "sequences": 1}
    assert data.learning_set.feature_set == MOTION.version
    stretches = data.learning_set.inputs(video_id(3)).stretches
    assert stretches is not None
    assert stretches[0].values.shape == (100, 9)
    rows = work.lake.read("sequences", days=[DAY])
    work.lake.replace_partition("sequences", DAY, rows.head(0), work.provenance(DAY))
    again = read_set(work, training_set, attempt, data.pins)
    now = again.learning_set.inputs(video_id(3)).stretches
    assert now is not None
    assert (now[0].values == stretches[0].values).all()


def test_segments_without_the_features_are_left_out_and_counted(work: Work) -> None:
    rows = work.lake.read("features", days=[DAY])
    gone = (pl.col("video_id") == video_id(0)) & (pl.col("feature_set") == MOTION.version)
    work.lake.replace_partition("features", DAY, rows.filter(~gone), work.provenance(DAY))
    training_set = load_training_set(work)
    attempt = AttemptSettings("motion-boosting", settings_of("motion-boosting"), (MOTION,))
    data = read_set(work, training_set, attempt)
    assert data.left_out == 1
    assert video_id(0) not in data.learning_set.truths
    assert len(data.learning_set.truths) == VIDEOS - 1
    work.lake.replace_partition(
        "features",
        DAY,
        rows.filter(pl.col("feature_set") != MOTION.version),
        work.provenance(DAY),
    )
    with pytest.raises(PermanentFailureError, match="no segment of training set"):
        read_set(work, training_set, attempt)
