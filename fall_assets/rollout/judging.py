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
from fall_assets.rollout.rates import Counts, RateTable
from fall_assets.rollout.settings import Weights

_MEASURES: Mapping[str, pl.Expr] = {
    "alarms": (pl.col("alerts") - pl.col("confirmed")).cast(pl.Float64),
    "dismissed": pl.col("dismissed").cast(pl.Float64),
    "abstained": pl.col("abstained_h").ceil(),
}
"""What is counted per camera, day and version. `alarms`: false ones, answered or not."""

_DAY_SHRINK = 20.0
_LARGEST_LOG = 600.0


def judge(
    evidence: pl.DataFrame,
    first_day: date,
    margin: float,
    weights: Weights,
    delay_margin_s: float = 1.0,
) -> Judgement:
    """Judge all days up to the newest one of the evidence.

    Args:
        evidence: rows as `EVIDENCE_SCHEMA` says; days before `first_day` are the champion's
            history.
        first_day: of the rollout.
        margin: not worse means: less than so many times the champion's false alarms.
        weights: of the measures.
        delay_margin_s: the challenger's alarms may come so much later.
    """
    logs: dict[str, float] = {}
    log_not_worse, ratio = 0.0, None
    for measure, expression in _MEASURES.items():
        # Nobody can dismiss what nobody is shown.
        rows = evidence.filter(~pl.col("shadow")) if measure == "dismissed" else evidence
        table, (n0, t0, n1, t1) = _arrays(rows, first_day, expression)
        logs[measure] = table.log_e_worse(n0, t0, n1, t1) if t1.any() else 0.0
        if measure == "alarms" and t1.any():
            log_not_worse = table.log_e_not_worse(n0, t0, n1, t1, margin)
            ratio = table.ratio(n0, t0, n1, t1)
    logs["delay"] = log_e_later(_delays(evidence, delay_margin_s))
    return Judgement(
        e_worse=combined(logs, weights),
        e_not_worse=_e(log_not_worse),
        by_measure={measure: _e(log) for measure, log in sorted(logs.items())},
        ratio=ratio,
        margin=margin,
    )


def path(
    evidence: pl.DataFrame,
    first_day: date,
    margins: Mapping[date, float],
    weights: Weights,
    delay_margin_s: float = 1.0,
) -> list[tuple[date, Judgement]]:
    """The judgement as of each day of `margins`, which says the margin of that day's step."""
    return [
        (
            day,
            judge(
                evidence.filter(pl.col("day") <= day), first_day, margin, weights, delay_margin_s
            ),
        )
        for day, margin in sorted(margins.items())
    ]


def combined(logs: Mapping[str, float], weights: Weights) -> float:
    """The weighted mean of e-values that are given by their logarithms.

    Whatever the measures have to do with each other, the mean of e-processes is one.
    """
    shares = asdict(weights)
    total = sum(shares.values())
    return float(sum(shares[measure] / total * _e(log) for measure, log in logs.items()))


def _arrays(
    evidence: pl.DataFrame, first_day: date, counted: pl.Expr
) -> tuple[RateTable, tuple[Counts, Counts, Counts, Counts]]:
    """What the days before say, and counts and camera-days of both versions, per camera."""
    rows = evidence.select(
        "day", "camera_id", "stratum", "role", "camera_days", n=counted
    ).with_columns(before=pl.col("day") < first_day)
    cameras = rows.group_by("camera_id").agg(pl.col("stratum").last()).sort("camera_id")
    strata = cameras["stratum"].rank("dense").to_numpy().astype(np.int64) - 1
    history = (
        rows.filter("before")
        .group_by("camera_id", "day")
        .agg(pl.col("n", "camera_days").sum())
        .group_by("camera_id")
        .agg(
            pl.col("n").sum(),
            pl.col("camera_days").sum(),
            (pl.col("n") ** 2).sum().alias("squares"),
        )
    )
    known = cameras.join(history, on="camera_id", how="left").fill_null(0.0)
    table = RateTable.learn(
        strata, *(known[name].to_numpy().copy() for name in ("n", "camera_days", "squares"))
    )
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
    """How lively each day is on the whole site, by the champion's counts; 1 is as before.

    Cameras change their version in the middle of a rollout: without this a lively week would be
    held against whoever watched then.
    """
    rates = pl.DataFrame({"camera_id": camera_ids, "rate": table.rate[table.stratum]})
    return (
        ours.join(rates, on="camera_id", how="left")
        .with_columns(champions=pl.col("role") == "champion")
        .group_by("day")
        .agg(
            pl.col("n").filter("champions").sum().alias("n"),
            (pl.col("rate") * pl.col("camera_days")).filter("champions").sum().alias("expected"),
        )
        .select(
            "day",
            level=(_DAY_SHRINK * table.dispersion + pl.col("n"))
            / (_DAY_SHRINK * table.dispersion + pl.col("expected")),
        )
    )


def _delays(evidence: pl.DataFrame, margin_s: float) -> list[tuple[bool, float]]:
    """Delays day by day; from the challenger's the margin is taken off."""
    rows = evidence.sort("day", "camera_id", "role").select("role", "delays_s").explode("delays_s")
    return [
        (True, delay - margin_s) if role == "challenger" else (False, delay)
        for role, delay in rows.drop_nulls("delays_s").iter_rows()
    ]


def _e(log: float) -> float:
    return math.exp(min(log, _LARGEST_LOG))
