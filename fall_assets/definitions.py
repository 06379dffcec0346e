"""Everything that Dagster is told. Production and tests share `build_definitions`.

Loading this module is cheap: nothing here imports torch, MLflow, alibi-detect, OpenCV or
matplotlib; what needs them imports them when it runs.
"""

import warnings

import dagster as dg

# Partitioned checks are a preview of Dagster's, single-run backfills a beta; both are pinned.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from fall_assets import jobs  # noqa: E402
from fall_assets.assets import (  # noqa: E402
    answers,
    collection,
    delivery,
    health,
    labelling,
    learning,
    monitoring,
    operation,
    retention,
    studies,
)
from fall_assets.assets.support import with_policies  # noqa: E402
from fall_assets.automation.declarative import ALL_AUTOMATION  # noqa: E402
from fall_assets.automation.schedules import ALL_SCHEDULES  # noqa: E402
from fall_assets.automation.sensors import ALL_SENSORS  # noqa: E402
from fall_assets.checks import health as health_checks  # noqa: E402
from fall_assets.checks import judgement, quality  # noqa: E402
from fall_assets.resources.site import SiteResource  # noqa: E402

ALL_ASSETS = [
    collection.cameras,
    collection.intake,
    retention.deletions,
    labelling.zones,
    labelling.labels,
    labelling.label_agreement,
    labelling.clips,
    labelling.automatic_labels,
    labelling.review_queue,
    learning.decoding,
    learning.gate_duty,
    learning.training_set,
    studies.experiments,
    studies.tuning_study,
    learning.candidate_model,
    learning.evaluation,
    delivery.registered_model,
    delivery.edge_package,
    delivery.rollout,
    operation.predictions,
    operation.alerts,
    operation.edge_alerts,
    operation.camera_health,
    monitoring.camera_profile,
    monitoring.drift_reference,
    monitoring.drift_report,
    answers.drift_answers,
    monitoring.upkeep,
    health.site_health,
]


def build_definitions(site: SiteResource | None = None) -> dg.Definitions:
    """All definitions; `site` is where footage and lake are (None: the environment's)."""
    return dg.Definitions(
        assets=with_policies(ALL_ASSETS),
        asset_checks=dg.load_asset_checks_from_modules([quality, judgement, health_checks]),
        jobs=jobs.ALL_JOBS,
        sensors=[*ALL_SENSORS, *ALL_AUTOMATION],
        schedules=ALL_SCHEDULES,
        resources={"site": site or SiteResource()},
        # Also for the runs that conditions ask for: a process per step costs seconds each.
        executor=dg.in_process_executor,
    )


defs = build_definitions()
