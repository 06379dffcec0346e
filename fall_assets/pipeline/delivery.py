"""Delivery: the gate before the registry, and the registration of what passes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from fall_assets.delivery.gate import Verdict, judge_candidate
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import one_row
from fall_assets.pipeline.learning import newest_candidate
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.work import Work

if TYPE_CHECKING:
    from fall_assets.learning.tracking import Alias


def gate(work: Work) -> Verdict:
    """Judge the newest evaluation by the site's rules, in words."""
    rows = work.lake.read("evaluation").filter(pl.col("slice") == "all").sort("evaluated_utc")
    candidates = rows.filter(pl.col("role") == "candidate")
    if candidates.is_empty():
        raise PermanentFailureError("no candidate was evaluated yet: materialize evaluation")
    candidate = candidates.row(-1, named=True)
    beside = rows.filter(
        pl.col("role") == "champion",
        pl.col("training_set_id") == candidate["training_set_id"],
        pl.col("evaluated_utc") == candidate["evaluated_utc"],
    )
    by_slice = work.lake.read("comparison").filter(
        pl.col("run_id") == candidate["run_id"],
        pl.col("training_set_id") == candidate["training_set_id"],
        pl.col("evaluated_utc") == candidate["evaluated_utc"],
    )
    return judge_candidate(
        candidate,
        beside.row(-1, named=True) if beside.height else None,
        work.site.settings.gate,
        by_slice.to_dicts(),
    )


@dataclass(frozen=True)
class Registered:
    """A version of the registry, and whether this call made it."""

    version: str
    alias: str
    run_id: str
    is_new: bool
    reason: str


def register_candidate(work: Work) -> Registered:
    """Register the newest candidate: as champion where none serves, else as challenger.

    The gate stands before this. A run that is registered already is not registered again.

    Raises:
        PermanentFailureError: the gate refuses the candidate.
    """
    verdict = gate(work)
    if not verdict.passed:
        raise PermanentFailureError(f"the candidate stays out of the registry: {verdict.text}")
    candidate = newest_candidate(work)
    known = work.lake.read("registered_model").filter(pl.col("run_id") == candidate["run_id"])
    if known.height:
        row: dict[str, Any] = known.sort("registered_utc").row(-1, named=True)
        return Registered(row["model_version"], row["alias"], row["run_id"], False, row["reason"])
    store = tracking(work.site)
    alias: Alias = "challenger" if store.champion() else "champion"
    version = store.register(candidate["run_id"], alias, verdict.text)
    work.lake.append(
        "registered_model",
        one_row(
            "registered_model",
            {
                "model_version": version,
                "run_id": candidate["run_id"],
                "alias": alias,
                "registered_utc": datetime.now(UTC),
                "training_set_id": candidate["training_set_id"],
                "reason": verdict.text,
            },
        ),
        work.provenance(),
    )
    return Registered(version, alias, candidate["run_id"], True, verdict.text)


def promote(work: Work, version: str) -> None:
    """Make a registered version the champion at once, without a rollout.

    Raises:
        PermanentFailureError: there is no such version, or a rollout says who serves.
    """
    from fall_assets.pipeline.rollout import newest

    running = newest(work)
    if running is not None and not running.here.ended:
        raise PermanentFailureError(
            f"rollout {running.id} says who serves: `fall-assets rollout abort {running.id}` ends "
            "it, `roll-back` rejects its challenger"
        )
    tracking(work.site).promote(version)
    known = work.lake.read("registered_model").filter(pl.col("model_version") == version)
    if known.height:
        row = known.row(-1, named=True) | {
            "alias": "champion",
            "registered_utc": datetime.now(UTC),
            "reason": "promoted by hand",
        }
        work.lake.upsert("registered_model", one_row("registered_model", row), work.provenance())
