"""What Dagster's instance says of runs and days.

What belongs here: asking it, at a cost that does not grow with its history: runs of the last hours
and those that are not over, at most so many; days from the status that Dagster keeps per asset.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal

import dagster as dg

from fall_assets.monitoring.runs import RunFigures, StuckRun
from fall_assets.monitoring.settings import HealthSettings
from fall_assets.partitions import DAYS

MOST_RUNS = 1000
"""Failed runs that are counted at most."""
MOST_UNFINISHED = 200

_WAITING = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
]
_GOING = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def run_figures(
    instance: dg.DagsterInstance,
    assets: Iterable[dg.AssetKey],
    settings: HealthSettings,
    now: datetime,
) -> RunFigures:
    """Failed and stuck runs, and the failed days of `assets`, which are partitioned by day."""
    failed = instance.get_run_records(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE],
            updated_after=now - timedelta(hours=settings.failed_hours),
        ),
        limit=MOST_RUNS,
    )
    waiting = _unfinished(instance, _WAITING)
    going = _unfinished(instance, _GOING)
    stuck = _stuck(waiting, "queued", now - timedelta(minutes=settings.queued_min))
    stuck += _stuck(going, "started", now - timedelta(hours=settings.started_hours))
    return RunFigures(
        failed=dict(Counter(_name(record.dagster_run) for record in failed)),
        stuck=tuple(sorted(stuck, key=lambda run: run.since_utc)),
        waiting=len(waiting),
        going=len(going),
        partitions=_failed_days(instance, assets, settings, now),
    )


def open_instance() -> dg.DagsterInstance:
    """The instance of DAGSTER_HOME."""
    return dg.DagsterInstance.get()


def assets_by_day() -> list[dg.AssetKey]:
    """The platform's assets that are made day by day."""
    from fall_assets.definitions import defs

    return [spec.key for spec in defs.resolve_all_asset_specs() if spec.partitions_def == DAYS]


def _unfinished(
    instance: dg.DagsterInstance, statuses: list[dg.DagsterRunStatus]
) -> list[dg.RunRecord]:
    """The oldest first, as these are the ones that may be stuck."""
    return list(
        instance.get_run_records(
            dg.RunsFilter(statuses=statuses), limit=MOST_UNFINISHED, ascending=True
        )
    )


def _stuck(
    records: list[dg.RunRecord], state: Literal["queued", "started"], before: datetime
) -> list[StuckRun]:
    found = []
    for record in records:
        since = record.create_timestamp.astimezone(UTC)
        if state == "started" and record.start_time is not None:
            since = datetime.fromtimestamp(record.start_time, UTC)
        if since < before:
            run = record.dagster_run
            found.append(StuckRun(run.run_id, _name(run), state, since))
    return found


def _name(run: dg.DagsterRun) -> str:
    """The job; runs that conditions and people ask for have one without a name of its own."""
    return "assets" if run.job_name.startswith("__") else run.job_name


def _failed_days(
    instance: dg.DagsterInstance,
    assets: Iterable[dg.AssetKey],
    settings: HealthSettings,
    now: datetime,
) -> dict[str, list[str]]:
    first = (now - timedelta(days=settings.partition_days)).date().isoformat()
    days = [key for key in DAYS.get_partition_keys(current_time=now) if key >= first]
    found = {}
    for asset in assets:
        statuses = instance.get_status_by_partition(asset, days, DAYS) or {}
        failed = [day for day in days if statuses.get(day) is dg.AssetPartitionStatus.FAILED]
        if failed:
            found[asset.to_user_string()] = failed
    return found
