"""Schedules. Each says which day it is for."""

from datetime import timedelta

import dagster as dg

from fall_assets import jobs


@dg.schedule(
    job=jobs.nightly,
    cron_schedule="0 2 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def nightly_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """At 02:00 UTC, close the day before: late files, features, predictions, alerts, drift.

    What the sensors already did is done again and changes nothing.
    """
    day = (context.scheduled_execution_time - timedelta(days=1)).date().isoformat()
    return dg.RunRequest(run_key=day, partition_key=day)


@dg.schedule(
    job=jobs.retention,
    cron_schedule="0 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def retention_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """At 03:00 UTC, delete footage that is older than the site's retention.

    After the nightly close, so that late labels and alerts of the day before keep their footage.
    Off until a person turns it on; with a retention of 0 days it deletes nothing.
    """
    return dg.RunRequest(run_key=context.scheduled_execution_time.date().isoformat())


@dg.schedule(
    job=jobs.maintenance,
    cron_schedule="0 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def maintenance_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """At 04:00 UTC, join the small files that the day's batches left in the lake.

    Runs that write at the same time are not disturbed; what they write beside is left for the next
    night.
    """
    return dg.RunRequest(run_key=context.scheduled_execution_time.date().isoformat())


@dg.schedule(
    job=jobs.health,
    cron_schedule="*/10 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def health_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every ten minutes, look at cameras, disk, runs and gateway as they are now.

    For now and no day: a tick that was missed is not made up for by Dagster, and need not be.
    """
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())


ALL_SCHEDULES = [nightly_schedule, retention_schedule, maintenance_schedule, health_schedule]
