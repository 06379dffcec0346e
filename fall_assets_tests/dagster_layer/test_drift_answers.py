"""The drift sensor launches each answer once: through restarts, lost cursors and double ticks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from fall_assets import jobs
from fall_assets.automation import sensors
from fall_assets.automation.retrainings import (
    ATTEMPT_TAG,
    EPISODE_TAG,
    registered,
    retrainings,
)
from fall_assets.automation.sensors import REASON_TAG, drift_sensor
from fall_assets.pipeline.answers import approve
from fall_assets.pipeline.drift_records import read_rows
from fall_assets.resources.site import SiteResource
from fall_assets_tests.dagster_layer.ticks import run, tick
from fall_assets_tests.pipeline.drifted_site import film, new_work, register, report
from fall_assets_tests.site import TestSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[TestSite]:
    """A site on which a camera sees less since yesterday, of which people labelled enough."""
    root = tmp_path / "site"
    work = new_work(root)
    report(work, 0)
    report(work, 1, {"cam-1": "exposure"})
    film(work, 1, "cam-1", labels=60)
    (root / "site.toml").write_text("")
    (tmp_path / "dagster").mkdir()
    site = TestSite(root, dg.DagsterInstance.ephemeral(str(tmp_path / "dagster")))
    yield site
    site.instance.dispose()


def told(site: TestSite) -> list[tuple[str, str]]:
    return [(row.answer, row.state) for row in read_rows(site.work)]


def asked(site: TestSite) -> dict[str | None, dg.RunRequest]:
    """What a tick asks for, by job."""
    requests, cursor = tick(site, drift_sensor)
    assert cursor is None
    return {request.job_name: request for request in requests}


def learn(site: TestSite, request: dg.RunRequest, version: str | None) -> None:
    """A retraining as the daemon would run it, without the learning; None: it fails."""

    @dg.op
    def registering(context) -> None:  # type: ignore[no-untyped-def]
        if version is None:
            raise dg.Failure("the gate refuses it", allow_retries=False)
        metadata: dict[str, str | bool] = {"version": version, "registered by this run": True}
        context.log_event(dg.AssetMaterialization("registered_model", metadata=metadata))

    @dg.job(name=jobs.retraining.name)
    def retraining() -> None:
        registering()

    result = retraining.execute_in_process(
        instance=site.instance,
        tags={**request.tags, "dagster/run_key": str(request.run_key)},
        raise_on_error=False,
    )
    assert result.success is (version is not None)


def _empty(name: str) -> dg.JobDefinition:
    @dg.op
    def nothing() -> None:
        return None

    @dg.job(name=name)
    def empty() -> None:
        nothing()

    return empty


def wait(site: TestSite, request: dg.RunRequest) -> dg.DagsterRun:
    """A retraining that waits for its place."""
    return site.instance.create_run_for_job(
        _empty(jobs.retraining.name),
        tags=dict(request.tags),
        status=dg.DagsterRunStatus.NOT_STARTED,
    )


def test_each_answer_is_launched_once(site: TestSite) -> None:
    first = asked(site)
    assert set(first) == {"answering"}
    assert "Since 2026-03-02, camera cam-1" in first["answering"].tags[REASON_TAG]
    # Two ticks at once ask for the same run; Dagster launches a run key once.
    again = asked(site)
    assert again["answering"].run_key == first["answering"].run_key
    run(site, first["answering"], "answering")
    assert told(site)[-1] == ("labels", "done")

    # What comes before it is written down: now it learns, and only that.
    second = asked(site)
    assert set(second) == {"retraining"}
    request = second["retraining"]
    episode = read_rows(site.work)[0].episode_id
    assert request.run_key == f"drift-{episode}-retrain-1"
    assert request.tags[EPISODE_TAG] == episode
    assert request.tags[ATTEMPT_TAG] == "1"
    assert asked(site)["retraining"].run_key == request.run_key

    # The run exists and the tick that asked for it died, its cursor is lost.
    queued = wait(site, request)
    third = asked(site)
    assert set(third) == {"answering"}
    run(site, third["answering"], "answering")
    assert told(site)[-1] == ("retrain", "started")
    assert asked(site) == {}

    # Dagster forgets the run; the lake knows that it was started.
    site.instance.delete_run(queued.run_id)
    assert asked(site) == {}


def test_what_became_of_it_is_read_from_dagster(site: TestSite) -> None:
    run(site, asked(site)["answering"], "answering")
    request = asked(site)["retraining"]
    register(site.work, "2", new=40, old=900)
    learn(site, request, "2")
    run(site, asked(site)["answering"], "answering")
    states = told(site)
    assert states[-3:] == [("retrain", "started"), ("retrain", "done"), ("evaluate", "skipped")]
    rows = {row.answer: row for row in read_rows(site.work)}
    assert rows["retrain"].evidence["version"] == "2"
    # It waits for the rollout, tick by tick, and asks for nothing.
    requests, _ = tick(site, drift_sensor)
    assert requests == []
    # A finished retraining is not looked into again.
    runs = retrainings(site.instance, "retraining")
    assert [one.state for one in runs] == ["succeeded"]
    assert registered(site.instance, runs, read_rows(site.work)) == {}


def test_a_failed_one_is_tried_again_only_by_a_person(site: TestSite) -> None:
    run(site, asked(site)["answering"], "answering")
    learn(site, asked(site)["retraining"], None)
    run(site, asked(site)["answering"], "answering")
    assert told(site)[-1] == ("retrain", "failed")
    assert asked(site) == {}
    episode = read_rows(site.work)[0].episode_id
    approve(site.work, episode, "retrain", "Ada")
    # The cool-down counts failed ones too.
    requests, _ = tick(site, drift_sensor)
    assert requests == []
    (site.root / "site.toml").write_text("[retraining]\ncooldown_days = 0\n")
    assert asked(site)["retraining"].run_key == f"drift-{episode}-retrain-2"


def test_a_run_that_dagster_will_start_again_has_not_failed(site: TestSite) -> None:
    run(site, asked(site)["answering"], "answering")
    request = asked(site)["retraining"]
    learn(site, request, None)
    died = site.instance.get_runs()[0]
    site.instance.add_run_tags(died.run_id, {"dagster/will_retry": "true"})
    assert [one.state for one in retrainings(site.instance, "retraining")] == ["going"]
    wait(site, request)
    run(site, asked(site)["answering"], "answering")
    assert told(site)[-1] == ("retrain", "started")
    assert asked(site) == {}


def test_writing_down_is_not_asked_for_while_it_is_under_way(site: TestSite) -> None:
    request = asked(site)["answering"]
    site.instance.create_run_for_job(
        _empty("answering"),
        tags=dict(request.tags),
        status=dg.DagsterRunStatus.STARTED,
    )
    assert asked(site) == {}


def test_what_failed_to_be_written_is_asked_for_again_later(
    site: TestSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = set()
    for minute in (0, 5, 15):

        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
                return datetime(2026, 3, 2, 22, minute, tzinfo=UTC)  # noqa: B023

        monkeypatch.setattr(sensors, "datetime", Clock)
        keys.add(asked(site)["answering"].run_key)
    assert len(keys) == 2


def test_the_same_lake_with_another_instance_starts_nothing_twice(
    site: TestSite, tmp_path: Path
) -> None:
    run(site, asked(site)["answering"], "answering")
    wait(site, asked(site)["retraining"])
    run(site, asked(site)["answering"], "answering")
    (tmp_path / "fresh").mkdir()
    fresh = TestSite(site.root, dg.DagsterInstance.ephemeral(str(tmp_path / "fresh")))
    try:
        assert asked(fresh) == {}
    finally:
        fresh.instance.dispose()


def test_a_site_without_reports_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "dagster").mkdir()
    empty = TestSite(tmp_path, dg.DagsterInstance.ephemeral(str(tmp_path / "dagster")))
    (tmp_path / "site.toml").write_text("")
    try:
        assert isinstance(empty.resource, SiteResource)
        assert asked(empty) == {}
    finally:
        empty.instance.dispose()
