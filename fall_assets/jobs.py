"""The jobs: what is run together, by hand, by sensors and by schedules."""

import dagster as dg

from fall_assets.partitions import DAYS

COLLECTION = dg.AssetSelection.assets("cameras", "videos", "quarantine", "camera_health")
LABELLING = dg.AssetSelection.assets("zones", "labels", "label_agreement", "clips")
FEATURES = dg.AssetSelection.assets(
    "motion_gate", "sequences", "pose_tracks", "features", "gate_duty"
)
LEARNING = dg.AssetSelection.assets("training_set", "candidate_model", "evaluation")
STUDIES = dg.AssetSelection.assets("experiments", "tuning_study")
DELIVERY = dg.AssetSelection.assets("registered_model", "drift_reference")
PACKAGING = dg.AssetSelection.assets("edge_package")
ROLLOUT = dg.AssetSelection.assets("rollout")
WARD = dg.AssetSelection.assets("edge_alerts", "camera_health")
OPERATION = dg.AssetSelection.assets(
    "predictions", "alerts", "camera_profile", "drift_report", "automatic_labels", "review_queue"
)
ANSWERS = dg.AssetSelection.assets("drift_answers")
RETENTION = dg.AssetSelection.assets("deletions")
UPKEEP = dg.AssetSelection.assets("upkeep")
HEALTH = dg.AssetSelection.assets("site_health")
CAMERAS_NOW = dg.AssetSelection.checks(
    dg.AssetCheckKey(dg.AssetKey("camera_health"), "every_camera_reports_now")
)

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
LEARNING_TAGS = {"fall_assets/learning": "true"}

lifecycle = dg.define_asset_job(
    "lifecycle",
    # Deleting footage is a decision of its own; studies take as long as one lets them; a package is
    # made of what came out of it, a rollout goes day by day, and so does what is done about drift.
    selection=dg.AssetSelection.all()
    - (RETENTION | STUDIES | PACKAGING | ROLLOUT | HEALTH | ANSWERS),
    description=(
        "Once around the loop, over a range of days (tags dagster/asset_partition_range_start "
        "and _end). The newest day is held back from learning: it plays today."
    ),
    executor_def=dg.in_process_executor,
    tags=LEARNING_TAGS,
)

collection = dg.define_asset_job(
    "collection",
    selection=COLLECTION,
    partitions_def=DAYS,
    description="Take in a day's new footage and telemetry.",
    executor_def=dg.in_process_executor,
)

labelling = dg.define_asset_job(
    "labelling",
    selection=LABELLING,
    partitions_def=DAYS,
    description="Read the label files again and cut clips.",
    executor_def=dg.in_process_executor,
)

nightly = dg.define_asset_job(
    "nightly",
    # A rollout may have named another champion since yesterday, who has no reference yet.
    selection=COLLECTION
    | LABELLING
    | FEATURES
    | OPERATION
    | dg.AssetSelection.assets("drift_reference"),
    partitions_def=DAYS,
    description="Everything that a finished day needs but learning.",
    executor_def=dg.in_process_executor,
)

retraining = dg.define_asset_job(
    "retraining",
    selection=LEARNING | DELIVERY,
    description="Learn from everything up to now; the result is registered as challenger.",
    executor_def=dg.in_process_executor,
    tags=LEARNING_TAGS,
)

answering = dg.define_asset_job(
    "answering",
    selection=ANSWERS,
    description="Write down and carry out what is due about drift, but for retrainings.",
    executor_def=dg.in_process_executor,
)

model_selection = dg.define_asset_job(
    "model_selection",
    selection=dg.AssetSelection.assets("experiments"),
    description="Try the attempts of a grid on the newest training set, or a named one.",
    executor_def=dg.in_process_executor,
    tags=LEARNING_TAGS,
)

tuning = dg.define_asset_job(
    "tuning",
    selection=dg.AssetSelection.assets("tuning_study"),
    description="Search for an algorithm's best settings; a study goes on where it ended.",
    executor_def=dg.in_process_executor,
    tags=LEARNING_TAGS,
)

packaging = dg.define_asset_job(
    "packaging",
    selection=PACKAGING,
    description="Pack the newest registered version for the boxes beside the cameras.",
    executor_def=dg.in_process_executor,
)

rolling_out = dg.define_asset_job(
    "rolling_out",
    selection=ROLLOUT,
    description="Look at the rollout's guards and new days of evidence, or follow an order.",
    executor_def=dg.in_process_executor,
)

roll_back = dg.define_asset_job(
    "roll_back",
    selection=ROLLOUT,
    description="Give every camera back to the champion from before; boxes follow at their poll.",
    config={"ops": {"rollout": {"config": {"order": "roll_back", "by": "the UI"}}}},
    executor_def=dg.in_process_executor,
    # The first of those that wait for a free place.
    tags={"dagster/priority": "100"},
)

ward = dg.define_asset_job(
    "ward",
    selection=WARD | LABELLING,
    partitions_def=DAYS,
    description="Take in what boxes and wards sent to the gateway; answers become labels.",
    executor_def=dg.in_process_executor,
)

retention = dg.define_asset_job(
    "retention",
    selection=RETENTION,
    description="Delete footage that is older than the site's retention and that nothing keeps.",
    executor_def=dg.in_process_executor,
)

maintenance = dg.define_asset_job(
    "maintenance",
    selection=UPKEEP,
    description="Join the lake's small files and remove old ones.",
    executor_def=dg.in_process_executor,
)

health = dg.define_asset_job(
    "health",
    selection=HEALTH | CAMERAS_NOW,
    description="Look at cameras, disk, runs and gateway as they are now; tell the technician.",
    executor_def=dg.in_process_executor,
    # Before others that wait: it is short, and says what they wait for.
    tags={"dagster/priority": "50"},
)

ALL_JOBS = [
    lifecycle,
    collection,
    labelling,
    nightly,
    retraining,
    answering,
    model_selection,
    tuning,
    packaging,
    rolling_out,
    roll_back,
    ward,
    retention,
    maintenance,
    health,
]
