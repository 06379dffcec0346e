"""A search on a site of drawn people: its records, what happens after a kill, several processes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import Trial

from fall_assets.errors import PermanentFailureError
from fall_assets.learning.tuning import Range
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.reproduction import reproduce
from fall_assets.pipeline.training_sets import cut_training_set
from fall_assets.pipeline.tuning import OtherStudyError, Tuned, run_tuning
from fall_assets.pipeline.work import Work
from fall_assets_tests.pipeline.drawn_site import STUDY, draw_site, kill_amid, work_on


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a training set and an empty tracking store; copy it."""
    root = tmp_path_factory.mktemp("drawn") / "site"
    work = draw_site(root)
    cut_training_set(work)
    tracking(work.site)
    return root


@pytest.fixture(scope="module")
def tuned(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Work, Tuned]:
    """The same after a search; read it, do not change it."""
    root = tmp_path_factory.mktemp("tuned") / "site"
    shutil.copytree(drawn, root)
    work = work_on(root)
    return work, run_tuning(work, STUDY)


@pytest.fixture
def work(drawn: Path, tmp_path: Path) -> Work:
    shutil.copytree(drawn, tmp_path / "site")
    return work_on(tmp_path / "site")


def _told(tuned: Tuned) -> list[tuple[Any, ...]]:
    """What must not hang on when or how often it was run, of trials that were not broken off."""
    return [
        (json.dumps(row["params"]), row["state"], row["value"], row["sensitivity"], row["folds"])
        for row in tuned.rows
        if row["state"] != "failed"
    ]


def test_trials_are_rows_and_runs_below_the_study(tuned: tuple[Work, Tuned]) -> None:
    work, found = tuned
    rows = work.lake.read("tuning_study").sort("trial").to_dicts()
    assert [row["trial"] for row in rows] == [0, 1, 2, 3]
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    client = MlflowClient(tracking(work.site).uri)
    for row in rows:
        run = client.get_run(row["run_id"])
        assert run.data.tags["mlflow.parentRunId"] == found.study_run_id
        assert run.data.metrics["smooth_sensitivity"] == row["value"]
        params = json.loads(row["params"])
        assert set(params) == {"learning_rate", "network.dilations"}
        settings = json.loads(row["settings"])["training"]
        assert settings["learning_rate"] == params["learning_rate"]
        assert settings["network"]["dilations"] == params["network.dilations"]
    assert len({row["params"] for row in rows}) == 4
    assert {name: png[:4] for name, png in found.plots.items()} == dict.fromkeys(
        ("history", "importances", "settings"), b"\x89PNG"
    )


def test_the_best_is_an_attempt_with_a_model(tuned: tuple[Work, Tuned]) -> None:
    work, found = tuned
    complete = [row for row in found.rows if row["state"] == "complete"]
    best = max(complete, key=lambda row: row["value"])
    assert found.best_value == best["value"]
    assert found.best is not None
    assert json.loads(json.dumps(found.best)) == json.loads(best["settings"])
    assert found.attempt is not None
    assert found.attempt["state"] == "finished"
    assert json.loads(found.attempt["settings"]) == json.loads(best["settings"])
    assert work.lake.read("experiments")["run_id"].to_list() == [found.attempt["run_id"]]


def test_a_trial_can_be_made_again(tuned: tuple[Work, Tuned]) -> None:
    work, found = tuned
    again = reproduce(work, found.rows[1]["run_id"])
    assert again.kind == "trial"
    assert again.is_exact
    assert again.model is None


def test_a_killed_search_goes_on_as_if_it_had_not_been(
    work: Work, tuned: tuple[Work, Tuned]
) -> None:
    kill_amid(work.site.root, "tuning", 2)
    assert work.lake.read("tuning_study").height == 2
    found = run_tuning(work, STUDY)
    assert _told(found) == _told(tuned[1])
    (broken,) = [row for row in found.rows if row["state"] == "failed"]
    assert broken["trial"] == 2
    assert "process ended" in broken["error"]
    assert found.tried == 2


def test_more_trials_go_on_and_no_more_do_nothing(tuned: tuple[Work, Tuned]) -> None:
    work, before = tuned
    found = run_tuning(work, STUDY)
    assert found.tried == 0
    assert _told(found) == _told(before)
    assert found.attempt == before.attempt


def test_what_was_given_up_says_so(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trial, "should_prune", lambda trial: trial.number == 1)
    found = run_tuning(work, replace(STUDY, trials=2))
    assert [row["state"] for row in found.rows] == ["complete", "pruned"]
    assert found.rows[0]["error"] is None
    assert found.rows[1]["error"].startswith("given up after 1 of 4 folds")
    assert found.best_value == found.rows[0]["value"]


def test_several_processes_share_a_search(work: Work) -> None:
    found = run_tuning(work, replace(STUDY, workers=2))
    assert [row["trial"] for row in found.rows] == [0, 1, 2, 3]
    assert {row["state"] for row in found.rows} <= {"complete", "pruned"}
    assert len({json.dumps(row["params"]) for row in found.rows}) == 4
    # What another process scored, this one can score again.
    assert reproduce(work, found.rows[0]["run_id"]).agrees


def test_another_search_needs_another_name(tuned: tuple[Work, Tuned]) -> None:
    work, _ = tuned
    with pytest.raises(OtherStudyError, match="false_alarms_per_hour"):
        run_tuning(work, replace(STUDY, false_alarms_per_hour=5.0))
    with pytest.raises(OtherStudyError, match="space"):
        run_tuning(work, replace(STUDY, space=STUDY.space[:1]))


def test_settings_that_fail_are_recorded(work: Work) -> None:
    space = (Range("steps", "choice", choices=("few", "many")),)
    with pytest.raises(PermanentFailureError, match=r"no trial .* wanted int"):
        run_tuning(work, replace(STUDY, space=space, trials=2))
    rows = work.lake.read("tuning_study")
    assert rows["state"].to_list() == ["failed", "failed"]
    assert rows["error"].str.contains("wanted int").all()
    assert rows.filter(pl.col("value").is_not_null()).is_empty()
