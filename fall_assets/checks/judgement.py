"""Checks that judge models and days: the gate before the registry, the rollout, and drift."""

import dagster as dg

from fall_assets.assets.support import days_of
from fall_assets.partitions import DAYS
from fall_assets.pipeline.delivery import gate
from fall_assets.pipeline.rollout import newest
from fall_assets.pipeline.work import Work
from fall_assets.resources.site import SiteResource
from fall_assets.rollout.machine import waits_for


@dg.asset_check(asset="evaluation", blocking=True)
def candidate_may_be_registered(site: SiteResource) -> dg.AssetCheckResult:
    """The gate: a candidate under the floors, or worse than the champion, is not registered."""
    verdict = gate(Work(site.site(), site.lake()))
    return dg.AssetCheckResult(
        passed=verdict.passed,
        description=verdict.text,
        metadata={
            "held by": ", ".join(verdict.held_by) or "no slice",
            **{f"reason {n}": reason for n, reason in enumerate(verdict.reasons, start=1)},
        },
    )


@dg.asset_check(asset="drift_report", partitions_def=DAYS)
def footage_is_as_learned(
    context: dg.AssetCheckExecutionContext, site: SiteResource
) -> dg.AssetCheckResult:
    """Whether the newest of the days looks like what the champion learned from."""
    reports = site.lake().read("drift_report", days=days_of(context)).sort("day")
    if reports.is_empty():
        return dg.AssetCheckResult(passed=True, description="no report yet")
    newest = reports.row(-1, named=True)
    return dg.AssetCheckResult(
        passed=not newest["drifted"],
        severity=dg.AssetCheckSeverity.WARN,
        description=newest["verdict"],
        metadata={"drift": newest["drift_id"] or "none"},
    )


@dg.asset_check(asset="rollout")
def rollout_waits_for_nobody(site: SiteResource) -> dg.AssetCheckResult:
    """Whether a person must decide how the newest rollout goes on; the description says how."""
    current = newest(Work(site.site(), site.lake()))
    waits = None if current is None else waits_for(current.history)
    return dg.AssetCheckResult(
        passed=waits is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=waits or "nobody is asked",
        metadata={"rollout": current.id if current else "none"},
    )


@dg.asset_check(asset="rollout")
def challenger_was_not_rolled_back(site: SiteResource) -> dg.AssetCheckResult:
    """Whether the newest rollout went back; the description says on which numbers."""
    current = newest(Work(site.site(), site.lake()))
    went_back = current is not None and current.here.state == "rolled_back"
    return dg.AssetCheckResult(
        passed=not went_back,
        severity=dg.AssetCheckSeverity.ERROR,
        description=current.last.sentence if current else "no rollout yet",
        metadata={"rollout": current.id if current else "none"},
    )
