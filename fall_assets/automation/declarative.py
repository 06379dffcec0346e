"""The automation sensors that evaluate the assets' conditions: cheap and expensive ones apart."""

import dagster as dg

from fall_assets import jobs

data_automation = dg.AutomationConditionSensorDefinition(
    "data_automation",
    target=jobs.LABELLING | jobs.FEATURES | jobs.OPERATION,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="New footage becomes labels, clips, features, predictions, alerts, drift reports.",
)

learning_automation = dg.AutomationConditionSensorDefinition(
    "learning_automation",
    target=jobs.LEARNING | jobs.DELIVERY,
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=300,
    run_tags=jobs.LEARNING_TAGS,
    description="Learn anew whenever clips or features change. Expensive, so off by default.",
)

ALL_AUTOMATION = [data_automation, learning_automation]
