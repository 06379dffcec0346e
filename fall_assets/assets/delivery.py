"""Delivery: the registry, and the package for the boxes."""

import dagster as dg

from fall_assets.assets.support import markdown_table, row_metadata, working
from fall_assets.automation.conditions import when_learning_material_changed
from fall_assets.pipeline.delivery import register_candidate
from fall_assets.pipeline.edge import build_edge_package
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


@dg.asset(deps=["registered_model", "pose_tracks", "clips"], kinds={"onnx"})
def edge_package(
    context: dg.AssetExecutionContext, site: SiteResource
) -> dg.MaterializeResult[None]:
    """The newest version as a signed program for the boxes; it scores as its model does."""
    with working(context, site) as work:
        packaged = build_edge_package(work)
        packages = work.lake.read("edge_package")
    package = packaged.package
    return dg.MaterializeResult(
        metadata={
            **row_metadata(packages, by=["model_version"]),
            "segments compared": package["segments"],
            "built by this run": packaged.is_new,
            "version": package["model_version"],
            "sequence": package["sequence"],
            "archive": package["archive"],
            "archive MB": round(package["archive_bytes"] / 1e6, 1),
            "MB on the box": round(package["unpacked_bytes"] / 1e6, 1),
            "seconds to the end of the self-test": round(package["start_s"], 2),
            "largest difference of a score": package["largest_difference"],
            "number format": f"{package['precision']} ({package['reason']})",
            "variants": markdown_table(packaged.variants.to_dicts()),
        }
    )
