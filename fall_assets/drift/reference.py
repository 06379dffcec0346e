"""The reference: which camera-days are ordinary to a model.

Here: choosing them. Not here: what those days were like (table `camera_profile`), or comparing a
day with them (`report.py`).

A camera may have had several ordinary lives: one before its ward began to care for children and one
since, both of which the model learned from. Such a life is a *regime*. A day is ordinary if it is
like any one of them: mixed into one, they would make everything between them look ordinary too.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import polars as pl

from fall_assets.lake.registry import table

KEEP_DAYS = 28
"""So many of a regime's newest days are its measure: four weeks hold four of each weekday."""

_REGIMES = 3
_UNSEEN = ("codec", "firmware", "clock", "precision", "scores", "skew")
"""Causes after which the camera's picture and people are as before."""


def ordinary_days(
    seen: pl.DataFrame,
    causes: pl.DataFrame,
    model_version: str,
    feature_set: str,
    last_day: date,
    *,
    keep_days: int = KEEP_DAYS,
) -> pl.DataFrame:
    """Rows of the table `ordinary_days`: what was ordinary to a model when it learned.

    Args:
        seen: camera_id and day of every camera-day that has a profile.
        causes: rows of `drift_causes`, of whichever model; the confirmed ones end a camera's
            regime where they begin and where they end.
        model_version: the model.
        feature_set: the set of its figures.
        last_day: the newest day that it learned from.
        keep_days: so many of a regime's newest days.

    Returns:
        The newest three regimes of each camera, numbered by age from 0.
    """
    cuts = _cuts(causes)
    rows: list[dict[str, object]] = []
    known = seen.filter(pl.col("day") <= last_day).select("camera_id", "day").unique()
    for (camera_id,), own in sorted(known.partition_by("camera_id", as_dict=True).items()):
        regimes = split_days(own["day"].to_list(), cuts.get(str(camera_id), ()))[-_REGIMES:]
        for number, days in enumerate(regimes):
            rows += [
                {
                    "model_version": model_version,
                    "camera_id": camera_id,
                    "recorded_day": day,
                    "feature_set": feature_set,
                    "regime": number,
                }
                for day in days[-keep_days:]
            ]
    schema = table("ordinary_days").schema
    return pl.DataFrame(rows, schema=schema).sort("camera_id", "recorded_day")


def next_regime(
    ordinary: pl.DataFrame, camera_id: str, days: Iterable[date], keep_days: int = KEEP_DAYS
) -> pl.DataFrame:
    """Rows for one more regime of a camera: a change that was looked at and needs no answer.

    Days that are ordinary already are left out; empty where nothing remains or the camera has no
    ordinary day.
    """
    own = ordinary.filter(pl.col("camera_id") == camera_id)
    known = set(own["recorded_day"].to_list())
    new = sorted(set(days) - known)[-keep_days:]
    if own.is_empty() or not new:
        return ordinary.clear()
    first = own.row(0, named=True)
    number = int(own["regime"].to_numpy().max()) + 1
    rows = [{**first, "recorded_day": day, "regime": number} for day in new]
    return pl.DataFrame(rows, schema=ordinary.schema)


def split_days(days: Iterable[date], cuts: Iterable[date]) -> list[list[date]]:
    """Days in order, cut before each of `cuts`; no part is empty."""
    parts: list[list[date]] = [[]]
    waiting = sorted(set(cuts), reverse=True)
    for day in sorted(set(days)):
        while waiting and waiting[-1] <= day:
            waiting.pop()
            if parts[-1]:
                parts.append([])
        parts[-1].append(day)
    return [part for part in parts if part]


def _cuts(causes: pl.DataFrame) -> dict[str, list[date]]:
    """By camera: first days of confirmed causes, and the days after their last."""
    stretches = (
        causes.filter("confirmed", ~pl.col("cause").is_in(_UNSEEN))
        .group_by("camera_id", "cause", "since")
        .agg(pl.col("day").max().alias("last"))
        .sort("camera_id", "since", "cause")
    )
    cuts: dict[str, list[date]] = {}
    for row in stretches.iter_rows(named=True):
        ends = row["last"] + timedelta(days=1)
        cuts.setdefault(row["camera_id"], []).extend([row["since"], ends])
    return cuts
