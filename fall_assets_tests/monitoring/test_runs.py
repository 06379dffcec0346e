"""Failed and stuck runs and failed days, asked of a real instance after real runs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest

from fall_assets.monitoring.runs import RunFigures
from fall_assets.monitoring.settings import HealthSettings
from fall_assets.partitions import DAYS
from fall_assets.resources.instance import assets_by_day, run_figures

SETTINGS = HealthSettings()
GOOD, BAD, OLD = "2026-03-01", "2026-03-02", "2025-11-01"
NOW = datetime(2026, 3, 10, tzinfo=UTC)
FAILS: set[str] = set()


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def by_day(context: dg.AssetExecutionContext) -> None:
    """Fails for some days."""
    if FAILS & set(context.partition_keys):
        raise RuntimeError("it fails")


JOB = dg.define_asset_job("daily", selection=["by_day"], executor_def=dg.in_process_executor)
DEFS = dg.Definitions(assets=[by_day], jobs=[JOB])
KEYS = [dg.AssetKey("by_day")]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    FAILS.clear()
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as temporary:
        yield temporary


def run(instance: dg.DagsterInstance, *days: str) -> None:
    tags = {
        "dagster/asset_partition_range_start": min(days),
        "dagster/asset_partition_range_end": max(days),
    }
    DEFS.resolve_job_def("daily").execute_in_process(
        instance=instance, tags=tags, raise_on_error=False
    )


def figures(instance: dg.DagsterInstance, now: datetime | None = None) -> RunFigures:
    return run_figures(
        instance, KEYS, HealthSettings(partition_days=2000), now or datetime.now(UTC)
    )


def test_failed_days_are_listed_until_they_are_made(instance: dg.DagsterInstance) -> None:
    assert figures(instance) == RunFigures()
    FAILS.add(BAD)
    run(instance, GOOD)
    run(instance, BAD)
    found = figures(instance)
    assert (found.failed, found.partitions) == ({"daily": 1}, {"by_day": [BAD]})
    run(instance, GOOD, BAD)
    found = figures(instance)
    assert found.failed == {"daily": 2}
    assert found.partitions == {"by_day": [GOOD, BAD]}, "a range that fails is all of its days"
    FAILS.clear()
    run(instance, BAD)
    assert figures(instance).partitions == {"by_day": [GOOD]}
    run(instance, GOOD)
    assert figures(instance).partitions == {}
    assert figures(instance).failed == {"daily": 2}, "they still failed"


def test_old_failures_are_not_looked_for(instance: dg.DagsterInstance) -> None:
    FAILS.add(OLD)
    run(instance, OLD)
    assert run_figures(instance, KEYS, SETTINGS, NOW).partitions == {}
    tomorrow = datetime.now(UTC) + timedelta(hours=25)
    assert figures(instance, tomorrow).failed == {}


def test_runs_that_wait_or_go_on_for_too_long_are_told(instance: dg.DagsterInstance) -> None:
    job = DEFS.resolve_job_def("daily")
    for status in (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED):
        instance.create_run_for_job(job_def=job, status=status)
    now = datetime.now(UTC)
    fresh = figures(instance, now)
    assert (fresh.waiting, fresh.going, fresh.stuck) == (1, 1, ())
    later = figures(instance, now + timedelta(hours=2))
    assert [(one.job, one.state) for one in later.stuck] == [("daily", "queued")]
    much_later = figures(instance, now + timedelta(hours=13))
    assert {one.state for one in much_later.stuck} == {"queued", "started"}
    assert all(one.since_utc <= now for one in much_later.stuck)


def test_asking_costs_the_same_however_many_runs_there_were(instance: dg.DagsterInstance) -> None:
    """Queries are counted: what grows with the history would be asked for run by run."""
    run(instance, GOOD)
    figures(instance)
    storage: Any = type(instance.event_log_storage)

    def queries() -> int:
        with mock.patch.object(
            storage, "index_connection", autospec=True, side_effect=storage.index_connection
        ) as opened:
            figures(instance)
        return int(opened.call_count)

    before = queries()
    for _ in range(4):
        run(instance, GOOD)
    figures(instance)
    assert 0 < queries() <= before


def test_the_platform_s_assets_by_day_are_known() -> None:
    names = {key.to_user_string() for key in assets_by_day()}
    assert {"videos", "features", "camera_health", "predictions"} <= names
    assert "site_health" not in names
