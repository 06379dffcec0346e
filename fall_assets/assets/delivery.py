"""Delivery: the registry, the package for the boxes, and the rollout."""

from collections import Counter
from typing import cast

import dagster as dg

from fall_assets.assets.support import markdown_table, picture, row_metadata, working
from fall_assets.automation.conditions import when_learning_material_changed
from fall_assets.pipeline.delivery import register_candidate
from fall_assets.pipeline.edge import build_edge_package
from fall_assets.pipeline.rollout import advance, begin, counts_of, paths_of
from fall_assets.pipeline.serving import places_as_of
from fall_assets.resources.site import SiteResource
from fall_assets.rollout.machine import Order, OrderAction, waits_for


class RolloutOrder(dg.Config):
    """What a person wants of the rollout; empty: look at the evidence.

    `order`: begin, approve, resume, hold, roll_back or abort. `challenger` and `mode` are of
    'begin'. `order_id` tells an order from the next one; empty: the run's own id, or of a run that
    was started again that of the first. An order is followed once: to give it again, launch a new
    run instead of executing this one again.
    """

    order: str = ""
    order_id: str = ""
    by: str = ""
    why: str = ""
    challenger: str = ""
    mode: str = ""


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


@dg.asset(
    deps=["registered_model", "edge_package", "predictions", "alerts", "edge_alerts"],
    kinds={"matplotlib"},
)
def rollout(
    context: dg.AssetExecutionContext, config: RolloutOrder, site: SiteResource
) -> dg.MaterializeResult[None]:
    """The challenger against the champion, camera by camera: each decision with its numbers."""
    order_id = config.order_id or context.run.root_run_id or context.run_id
    with working(context, site) as work:
        wanted = None
        if config.order == "begin":
            challenger, mode = config.challenger or None, config.mode or None
            begin(work, challenger, mode=mode, by=config.by, order_id=order_id)
        elif config.order:
            action = cast("OrderAction", config.order)
            wanted = Order(action, config.by, config.why, order_id)
        done = advance(work, wanted)
        rows = work.lake.read("rollout")
        current = done.rollout
        if current is None:
            return dg.MaterializeResult(metadata={**row_metadata(rows), "decision": done.reason})
        places = places_as_of(work, current.id, current.last.number)
    counts = dict(Counter(map(str, places.values())))
    return dg.MaterializeResult(
        metadata={
            **row_metadata(rows),
            "decision": current.last.sentence,
            "this run": done.reason,
            "waits for": waits_for(current.history) or "nobody",
            "rollout": current.id,
            "state": current.last.state,
            "share": current.last.share,
            "cameras": dg.MetadataValue.json(counts),
            "decisions of this run": len(done.decisions),
            "evidence": picture(paths_of(current)),
            "counts": markdown_table(counts_of(current)),
        }
    )
