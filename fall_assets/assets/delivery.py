"""Delivery: the registry."""

import dagster as dg

from fall_assets.assets.support import working
from fall_assets.automation.conditions import when_learning_material_changed
from fall_assets.pipeline.delivery import register_candidate
from fall_assets.resources.site import SiteResource


@dg.asset(
    deps=["evaluation"],
    automation_condition=when_learning_material_changed(),
    kinds={"mlflow"},
)
def registered_model(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """The registry's newest version: champion where none serves, else challenger."""
    with working(context, site) as work:
        registered = register_candidate(work)
    return dg.MaterializeResult(
        metadata={
            "version": registered.version,
            "alias": registered.alias,
            "MLflow run": registered.run_id,
            "registered by this run": registered.is_new,
            "reason": registered.reason,
        }
    )
