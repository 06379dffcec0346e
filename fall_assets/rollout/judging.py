"""From evidence to a judgement: every measure's e-process, and their weighted mean.

What belongs here: which columns make which measure, and the levels of days. What does not: the
tests themselves (`rates`, `ranks`), what is done about it (`machine`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date

import numpy as np
import polars as pl

from fall_assets.rollout.judgement import Judgement
from fall_assets.rollout.ranks import log_e_later
from fall_assets.rollout.rates import Counts, RateTable, log_e_fewer
from fall_assets.rollout.settings import Weights

_MEASURES: Mapping[str, pl.Expr] = {
    "alarms": (pl.col("alerts") - pl.col("confirmed")).cast(pl.Float64),
    "dismissed": pl.col("dismissed").cast(pl.Float64),
    "abstained": pl.col("abstained_h").ceil(),
}
"""What is counted per camera, day and version. `alarms`: false ones, answered or not."""

_LARGEST_LOG = 600.0

Arms = tuple[Counts, Counts, Counts, Counts]
"""Counts and camera-days of the champion, then of the challenger, (cameras,) each."""


def judge(
    evidence: pl.DataFrame,
    first_day: date,
    margin: float,
    weights: Weights,
    delay_margin_s: float = 1.0,
    step_began: date | None = None,
    acceptable_rate: float = 0.0,
) -> Judgement:
    """Judge all days up to the newest one of the evidence, and those of the present step alone.

    What was seen in shadow still counts at 1 %, and what is seen live counts twice: a version that
    does well as a shadow may do worse once it is the one that raises the alerts.

    Args:
        evidence: rows as `EVIDENCE_SCHEMA` says; days before `first_day` are the champion's
            history.
        first_day: of the rollout.
        margin: not worse means: less than so many times the champion's false alarms.
        weights: of the measures.
        delay_margin_s: the challenger's alarms may come so much later.
        step_began: the first day of the present step; none where it is the rollout's.
        acceptable_rate: false alarms per camera-day; the mean of two e-values then stands against
            "as many times the champion's as `margin`, and so many": to show either is enough.
    """
    counted = _counted(evidence, first_day)
    logs = _logs(counted, evidence, delay_margin_s)
    e_worse = e_step = combined(logs, weights)
    if step_began is not None and step_began > first_day:
        # The days before the rollout tell the cameras apart as ever.
        step = evidence.filter((pl.col("day") < first_day) | (pl.col("day") >= step_began))
        e_step = combined(_logs(_counted(step, first_day), step, delay_margin_s), weights)
        e_worse = (e_worse + e_step) / 2
    e_not_worse, ratio = 1.0, None
    table, counts = counted["alarms"]
    if counts[3].any():
        e_not_worse = _e(table.log_e_not_worse(*counts, margin))
        ratio = table.ratio(*counts)
        if acceptable_rate > 0:
            e_not_worse = (e_not_worse + _e(_log_e_fewer(evidence, table, acceptable_rate))) / 2
    return Judgement(
        e_worse=e_worse,
        e_not_worse=e_not_worse,
        by_measure={measure: _e(log) for measure, log in sorted(logs.items())},
        ratio=ratio,
        margin=margin,
        e_worse_step=e_step,
        acceptable_rate=acceptable_rate,
    )


def combined(logs: Mapping[str, float], weights: Weights) -> float:
    """The weighted mean of e-values that are given by their logarithms.

    Whatever the measures have to do with each other, the mean of e-processes is one.
    """
    shares = asdict(weights)
    total = sum(shares.values())
    return float(sum(shares[measure] / total * _e(log) for measure, log in logs.items()))


def _counted(evidence: pl.DataFrame, first_day: date) -> dict[str, tuple[RateTable, Arms]]:
    """What is known of each measure."""
    live = evidence.filter(~pl.col("shadow"))
    return {
        # Nobody can dismiss what nobody is shown.
        measure: _arrays(live if measure == "dismissed" else evidence, first_day, expression)
        for measure, expression in _MEASURES.items()
    }


def _logs(
    counted: Mapping[str, tuple[RateTable, Arms]], evidence: pl.DataFrame, delay_margin_s: float
) -> dict[str, float]:
    """Log e-values against "no worse", of each measure."""
    logs = {
        measure: table.log_e_worse(*counts) if counts[3].any() else 0.0
        for measure, (table, counts) in counted.items()
    }
    return logs | {"delay": log_e_later(_delays(evidence, delay_margin_s))}


def _arrays(evidence: pl.DataFrame, first_day: date, counted: pl.Expr) -> tuple[RateTable, Arms]:
    """What the days before say, and counts and camera-days of both versions, per camera."""
    rows = evidence.select(
        "day", "camera_id", "stratum", "role", "camera_days", n=counted
    ).with_columns(before=pl.col("day") < first_day)
    cameras = rows.group_by("camera_id").agg(pl.col("stratum").last()).sort("camera_id")
    strata = cameras["stratum"].rank("dense").to_numpy().astype(np.int64) - 1
    history = (
        rows.filter("before").group_by("camera_id", "day").agg(pl.col("n", "camera_days").sum())
    )
    sums = history.group_by("camera_id").agg(
        pl.col("n").sum(), pl.col("camera_days").sum(), (pl.col("n") ** 2).sum().alias("squares")
    )
    known = cameras.join(sums, on="camera_id", how="left", maintain_order="left").fill_null(0.0)
    by_day = history.group_by("day").agg(pl.col("n", "camera_days").sum()).sort("day")
    counts, days, squares = (
        known[name].to_numpy().copy() for name in ("n", "camera_days", "squares")
    )
    on_days = by_day["n"].to_numpy(), by_day["camera_days"].to_numpy()
    table = RateTable.learn(strata, counts, days, squares, on_days)
    ours = rows.filter(~pl.col("before"))
    levels = _levels(ours, cameras["camera_id"], table)
    sums = (
        ours.join(levels, on="day", how="left")
        .group_by("camera_id", "role")
        .agg(
            pl.col("n").sum(),
            (pl.col("camera_days") * pl.col("level")).sum().alias("t"),
        )
    )
    found: list[Counts] = []
    for role in ("champion", "challenger"):
        own = cameras.join(
            sums.filter(pl.col("role") == role), on="camera_id", how="left", maintain_order="left"
        ).fill_null(0.0)
        found += [own["n"].to_numpy(), own["t"].to_numpy()]
    return table, (found[0], found[1], found[2], found[3])


def _levels(ours: pl.DataFrame, camera_ids: pl.Series, table: RateTable) -> pl.DataFrame:
    """How lively each day is on the whole site, by the champion's counts."""
    rates = pl.DataFrame({"camera_id": camera_ids, "rate": table.rate[table.stratum]})
    days = (
        ours.join(rates, on="camera_id", how="left")
        .with_columns(champions=pl.col("role") == "champion")
        .group_by("day")
        .agg(
            pl.col("n").filter("champions").sum().alias("n"),
            (pl.col("rate") * pl.col("camera_days")).filter("champions").sum().alias("expected"),
        )
    )
    level = table.levels(days["n"].to_numpy(), days["expected"].to_numpy())
    return days.select("day", level=pl.Series(level, dtype=pl.Float64))


def _log_e_fewer(evidence: pl.DataFrame, table: RateTable, rate: float) -> float:
    """Log e-value against "the challenger's false alarms per camera-day are `rate` or more"."""
    own = evidence.filter(pl.col("role") == "challenger")
    alarms, days = own.select(_MEASURES["alarms"].sum(), pl.col("camera_days").sum()).row(0)
    return log_e_fewer(alarms, days, rate, table.dispersion)


def _delays(evidence: pl.DataFrame, margin_s: float) -> list[tuple[bool, float]]:
    """Delays day by day; from the challenger's the margin is taken off."""
    rows = evidence.sort("day", "camera_id", "role").select("role", "delays_s").explode("delays_s")
    return [
        (True, delay - margin_s) if role == "challenger" else (False, delay)
        for role, delay in rows.drop_nulls("delays_s").iter_rows()
    ]


def _e(log: float) -> float:
    return math.exp(min(log, _LARGEST_LOG))
