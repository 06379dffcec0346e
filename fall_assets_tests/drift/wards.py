"""A simulated ward that is reported day by day, for tests of the judge."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import lru_cache

import polars as pl

from fall_assets.drift.days import CameraDays
from fall_assets.drift.report import DriftJudgement, Past, judge
from fall_assets.drift.settings import DriftSettings
from fall_assets.lake.registry import table
from fall_assets.simulation.days import Change, WardSpec, camera_name, simulate_days

SPEC = WardSpec(seed=3, cameras=3, days=22)
ORDINARY = 14
"""So many of its days are ordinary to the model; the others are judged."""


def day(number: int) -> date:
    return SPEC.first + timedelta(days=number)


@lru_cache(maxsize=8)
def lived(changes: tuple[Change, ...] = ()) -> CameraDays:
    return simulate_days(SPEC, changes)


def ordinary(*, days: range = range(ORDINARY), regime: int = 0) -> pl.DataFrame:
    rows = [
        {
            "model_version": "1",
            "camera_id": camera_name(camera),
            "recorded_day": day(number),
            "feature_set": "set",
            "regime": regime,
        }
        for camera in range(SPEC.cameras)
        for number in days
    ]
    return pl.DataFrame(rows, schema=table("ordinary_days").schema)


def with_fact(days: CameraDays, camera: int, fact: str, value: str, since: int) -> CameraDays:
    """The same with another value of a fact of one camera from a day on."""
    there = (
        (pl.col("camera_id") == camera_name(camera))
        & (pl.col("fact") == fact)
        & (pl.col("day") >= day(since))
    )
    known = pl.col("value")
    return replace(
        days,
        facts=days.facts.with_columns(
            pl.when(there).then(pl.lit(value)).otherwise(known).alias("value")
        ),
    )


def report(
    days: CameraDays,
    numbers: range,
    *,
    known: pl.DataFrame | None = None,
    settings: DriftSettings | None = None,
) -> list[DriftJudgement]:
    """Judge days one after the other, each with what was reported before."""
    past, reported = Past(), []
    for number in numbers:
        wanted = [day(one) for one in range(ORDINARY)] + [day(number)]
        if known is not None:
            wanted = sorted({*known["recorded_day"].to_list(), day(number)})
        judged = judge(
            days.of(wanted),
            ordinary() if known is None else known,
            day(number),
            "1",
            settings,
            past,
        )
        reported.append(judged)
        past = Past(
            pl.concat([past.causes, judged.causes]),
            pl.concat([past.signals, judged.signals]),
        )
    return reported


def causes(judged: DriftJudgement, *, confirmed: bool | None = None) -> list[tuple[str, str]]:
    """(camera, cause) of a day."""
    rows = judged.causes
    if confirmed is not None:
        rows = rows.filter(pl.col("confirmed") == confirmed)
    return [(camera, cause) for camera, cause in rows.select("camera_id", "cause").iter_rows()]
