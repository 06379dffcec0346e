"""The rollout in Dagster: a sensor that asks, an asset that decides, checks that say who waits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator

from fall_assets.automation.sensors import rollout_sensor
from fall_assets.pipeline.rollout import newest
from fall_assets_tests.dagster_layer.ticks import tick
from fall_assets_tests.pipeline import rolled_site
from fall_assets_tests.pipeline.rolled_site import FIRST
from fall_assets_tests.site import TestSite

SETTINGS = """
[learning]
folds = 4

[rollout]
evidence = 5.0
answer_hours = 0.0
episode_min = 0.5
keep_days = 2
steps = [
    { share = 0.0, max_days = 6 },
    { share = 0.25, max_days = 6 },
    { share = 0.5, max_days = 6, margin = 1.5 },
]
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[TestSite]:
    root = tmp_path / "site"
    versions = rolled_site.detectors()
    work = rolled_site.settle(root, versions["champion"])
    rolled_site.register(work, versions["better"], "challenger")
    (root / "site.toml").write_text(SETTINGS)
    storage = tmp_path / "dagster"
    storage.mkdir()
    site = TestSite(root, dg.DagsterInstance.ephemeral(str(storage)))
    assert site.work.site.settings.rollout == rolled_site.ROLLOUT
    yield site
    site.instance.dispose()


def test_a_sensor_moves_it_and_a_person_is_asked(site: TestSite) -> None:
    asked = _asked(site)
    assert list(asked.values()) == ["version 2 waits for its rollout"]
    began = _run(site)
    assert began["state"].value == "shadow"
    assert "watches in shadow of champion 1" in began["decision"].value
    assert _asked(site) == {}, "nothing to decide before there is evidence"

    rolled_site.bring(site.work, FIRST)
    rolled_site.score(site.work, FIRST)
    assert list(_asked(site).values()) == [f"1 new days of evidence, up to {FIRST}"]
    seen = _run(site)
    assert (seen["state"].value, seen["share"].value) == ("step", 0.25)
    assert seen["evidence"].value.startswith("![picture](data:image/png;base64,")
    assert "challenger 2" in seen["counts"].value
    assert seen["cameras"].value == {"challenger": 2, "control": 2, "rest": 4}
    assert _checks(site) == {
        "rollout_waits_for_nobody": True,
        "challenger_was_not_rolled_back": True,
    }

    held = _run(site, order="hold", by="Ada", why="a ward moves")
    assert "Ada" in held["waits for"].value
    checks = _checks(site)
    assert checks["rollout_waits_for_nobody"] is False
    told = _command(site, "rollout", "show")
    assert "a ward moves" in told

    assert int(site.definitions.resolve_job_def("roll_back").tags["dagster/priority"]) > 0
    site.execute("roll_back")
    current = newest(site.work)
    assert current is not None
    assert (current.last.state, current.last.by) == ("rolled_back", "the UI")
    assert _checks(site)["challenger_was_not_rolled_back"] is False
    assert "all decisions come out the same" in _command(site, "rollout", "replay", current.id)
    assert _asked(site) == {}
    _command(site, "promote", "2")
    failed = site.execute("rolling_out", run_config=_config(order="approve", by="Ada"), fails=True)
    assert not failed.success


def test_an_order_whose_run_is_started_again_is_followed_once(site: TestSite) -> None:
    _run(site)
    rolled_site.bring(site.work, FIRST)
    rolled_site.score(site.work, FIRST)
    config = _config(order="approve", by="Ada")
    first = site.execute("rolling_out", run_config=config)
    # As Dagster does with a run whose process died.
    job = site.definitions.resolve_job_def("rolling_out")
    again = site.instance.create_run_for_job(
        job, run_config=config, root_run_id=first.run_id, parent_run_id=first.run_id
    )
    for _ in execute_run_iterator(InMemoryJob(job), again, site.instance):
        pass
    finished = site.instance.get_run_by_id(again.run_id)
    assert finished is not None
    assert finished.is_success
    current = newest(site.work)
    assert current is not None
    assert current.last.numbers["order"]["id"] == first.run_id
    assert (current.last.share, current.last.number) == (0.25, 1)
    # The day was scored before: the sensor has it scored again, and nothing is judged until then.
    requests, _ = tick(site, rollout_sensor)
    assert [(one.job_name, one.partition_key) for one in requests] == [("nightly", str(FIRST))]
    _run(site, order="approve", by="Ada")
    current = newest(site.work)
    assert current is not None
    assert current.last.share == 0.5


def _asked(site: TestSite) -> dict[str | None, str]:
    requests, _ = tick(site, rollout_sensor)
    return {request.job_name: request.tags["fall_assets/reason"] for request in requests}


def _config(**order: str) -> dict[str, Any]:
    return {"ops": {"rollout": {"config": order}}}


def _run(site: TestSite, **order: str) -> dict[str, Any]:
    result = site.execute("rolling_out", run_config=_config(**order))
    (event,) = result.get_asset_materialization_events()
    return dict(event.materialization.metadata)


def _checks(site: TestSite) -> dict[str, bool]:
    """The newest outcome of each check of the rollout."""
    result = site.execute("rolling_out")
    return {one.check_name: one.passed for one in result.get_asset_check_evaluations()}


def _command(site: TestSite, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fall_assets.cli", *words],
        env=site.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
