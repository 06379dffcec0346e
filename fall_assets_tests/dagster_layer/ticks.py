"""Sensors driven by real ticks, and runs of what they ask for."""

from __future__ import annotations

import dagster as dg

from fall_assets_tests.site import TestSite


def tick(
    site: TestSite, sensor: dg.SensorDefinition, cursor: str | None = None
) -> tuple[list[dg.RunRequest], str | None]:
    """One evaluation of a sensor by Dagster; its run requests and its new cursor."""
    with dg.build_sensor_context(
        instance=site.instance,
        cursor=cursor,
        repository_def=site.definitions.get_repository_def(),
        resources={"site": site.resource},
    ) as context:
        data = sensor.evaluate_tick(context)
    return list(data.run_requests or []), data.cursor


def run(site: TestSite, request: dg.RunRequest, job: str) -> None:
    """Execute what a sensor asked for."""
    result = site.definitions.resolve_job_def(job).execute_in_process(
        instance=site.instance, tags=dict(request.tags), partition_key=request.partition_key
    )
    assert result.success
