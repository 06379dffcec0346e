"""Named automation conditions. Each says what it does with late data, failures and re-runs."""

from typing import Any

import dagster as dg

Condition = dg.AutomationCondition[Any]

# What is not by day would ask for every day that ever was. A new model, camera or zone changes what
# later days get; past days are recomputed by a person or a backfill. The gateway's inbox has a
# sensor, which knows the days that its rows speak of.
_NOT_BY_DAY = dg.AssetSelection.assets(
    "cameras", "zones", "registered_model", "drift_reference", "edge_alerts"
)


def when_upstream_changed() -> Condition:
    """Materialize a day when something upstream of that same day was materialized.

    Late data: a segment that arrives for an old day changes `videos` of that day, and that day
    alone is computed anew. Failures: a day whose run failed is not requested again until its
    upstream changes (the run's own retries apply); nothing is requested while an upstream day is
    missing or in progress. Re-runs: a run that already computed upstream and this asset together
    does not trigger it again. New models, cameras and zones do not recompute past days.
    """
    changed = dg.AutomationCondition.any_deps_updated().ignore(_NOT_BY_DAY)
    missing = dg.AutomationCondition.any_deps_missing().ignore(_NOT_BY_DAY)
    running = dg.AutomationCondition.any_deps_in_progress().ignore(_NOT_BY_DAY)
    return (
        changed.since_last_handled() & ~missing & ~running & ~dg.AutomationCondition.in_progress()
    ).with_label("when_upstream_changed")


def when_any_day_changed() -> Condition:
    """Make anew what is not by day when any day upstream of it was materialized.

    Cheap: belongs to the `data_automation` sensor. Late data of any day counts, failures wait for
    the next change upstream, and a run that already computed upstream and this asset together does
    not trigger it again.
    """
    return _changed_and_quiet("when_any_day_changed")


def when_learning_material_changed() -> Condition:
    """Cut a training set or learn anew when what is upstream of it was materialized.

    Expensive: belongs to the `learning_automation` sensor, which is off until a person turns it
    on. Late data and re-runs as in `when_upstream_changed`; a failed run is not requested again
    until upstream changes.
    """
    return _changed_and_quiet("when_learning_material_changed")


def _changed_and_quiet(label: str) -> Condition:
    return (
        dg.AutomationCondition.any_deps_updated().since_last_handled()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label(label)
