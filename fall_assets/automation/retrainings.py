"""Retrainings as Dagster knows them: what drift asked for, and what became of it.

What belongs here: the tags of such runs and reading them from the instance. What does not: which
retraining is due (`drift.answers`).
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Literal

import dagster as dg

from fall_assets.drift.answers import Run, Step
from fall_assets.drift.progress import Row

EPISODE_TAG = "fall_assets/drift_episode"
ATTEMPT_TAG = "fall_assets/drift_attempt"
ASKED_TAG = "fall_assets/asked_utc"
_WILL_RETRY_TAG = "dagster/will_retry"

NEWEST = 50
"""So many of the newest retrainings are looked at: more than a week's limit and its retries."""

_RETRY_COMES = timedelta(hours=1)
"""A run that died is started again within this, or the daemon that does so is off."""


def tags_of(step: Step, now: datetime) -> dict[str, str]:
    """Tags by which a retraining is found again, whatever became of cursor and tick."""
    return {
        EPISODE_TAG: step.episode.id,
        ATTEMPT_TAG: str(step.attempt),
        ASKED_TAG: now.isoformat(),
    }


def retrainings(instance: dg.DagsterInstance, job_name: str) -> list[Run]:
    """The newest retrainings, those of persons and schedules too, newest first."""
    records = instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=NEWEST)
    return [_run(record) for record in records]


def registered(
    instance: dg.DagsterInstance, runs: Collection[Run], rows: Collection[Row]
) -> dict[str, str | None]:
    """The version that each run registered; None where it registered no new one.

    Only of runs that succeeded and that the rows do not tell the end of: an old run is not asked
    for again.
    """
    told = {
        str(row.evidence.get("run_id"))
        for row in rows
        if row.answer == "retrain" and row.state in ("done", "failed")
    }
    waiting = {
        str(row.evidence.get("run_id"))
        for row in rows
        if row.answer == "retrain" and row.state == "started"
    }
    found: dict[str, str | None] = {}
    for run in runs:
        open_end = run.run_id in waiting or run.episode_id is not None
        if run.state == "succeeded" and run.run_id not in told and open_end:
            found[run.run_id] = _version_of(instance, run.run_id)
    return found


def _run(record: dg.RunRecord) -> Run:
    run = record.dagster_run
    asked = run.tags.get(ASKED_TAG)
    started = datetime.fromisoformat(asked) if asked else record.create_timestamp
    attempt = run.tags.get(ATTEMPT_TAG, "0")
    state: Literal["going", "succeeded", "failed"] = "going"
    if run.status is dg.DagsterRunStatus.SUCCESS:
        state = "succeeded"
    elif run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
        # The daemon marks a run that it will start again; the new one has the same tags.
        ended = datetime.fromtimestamp(record.end_time or 0, UTC)
        comes = run.tags.get(_WILL_RETRY_TAG) == "true" and (
            datetime.now(UTC) - ended < _RETRY_COMES
        )
        state = "going" if comes else "failed"
    return Run(
        run.run_id,
        started.astimezone(UTC),
        state,
        run.tags.get(EPISODE_TAG),
        int(attempt) if attempt.isdigit() else 0,
        run.status.value.lower(),
    )


def _version_of(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """What the run's materialization of `registered_model` says."""
    logs = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    for entry in logs:
        made = entry.asset_materialization
        if made is not None and made.asset_key == dg.AssetKey("registered_model"):
            metadata = made.metadata
            if metadata["registered by this run"].value is not True:
                return None
            return str(metadata["version"].value)
    return None
