"""From rows of evidence to a judgement: the same as by arrays, and all measures count."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from fall_assets.rollout.evidence import EVIDENCE_SCHEMA, arm
from fall_assets.rollout.judging import combined, judge
from fall_assets.rollout.ranks import log_e_later
from fall_assets.rollout.rates import RateTable
from fall_assets.rollout.settings import Weights

FIRST = date(2026, 3, 1)
CAMERAS = [f"cam-{number:02d}" for number in range(30)]
ALARMS_ALONE = Weights(alarms=1, dismissed=0, delay=0, abstained=0)


def row(day: int, camera: str, role: str = "champion", **more: Any) -> dict[str, Any]:
    own = {
        "day": FIRST + timedelta(days=day),
        "camera_id": camera,
        "stratum": f"ward-{int(camera[-2:]) % 3}|720p|v1",
        "role": role,
        "shadow": False,
        "camera_days": 1.0,
        "alerts": 0,
        "confirmed": 0,
        "dismissed": 0,
        "abstained_h": 0.0,
        "delays_s": [],
    }
    return own | more


def evidence(ratio: float, days: int = 10, **more: Any) -> pl.DataFrame:
    """A site where a third of each ward has a challenger with `ratio` times the false alarms."""
    rng = np.random.default_rng(4)
    rows = []
    for day in range(-20, days):
        for number, camera in enumerate(CAMERAS):
            tried = day >= 0 and number // 3 % 3 == 0
            alerts = int(rng.poisson(0.4 * (ratio if tried else 1.0)))
            rows.append(
                row(day, camera, "challenger" if tried else "champion", alerts=alerts, **more)
            )
    return pl.DataFrame(rows, schema=dict(EVIDENCE_SCHEMA))


def test_rows_and_arrays_say_the_same() -> None:
    rows = evidence(2.0)
    judged = judge(rows, FIRST, 2.0, ALARMS_ALONE)
    before, since = rows.filter(pl.col("day") < FIRST), rows.filter(pl.col("day") >= FIRST)

    def sums(frame: pl.DataFrame, expression: pl.Expr) -> np.ndarray[Any, np.dtype[np.float64]]:
        by_camera = dict(frame.group_by("camera_id").agg(expression).iter_rows())
        return np.array([float(by_camera.get(camera, 0)) for camera in CAMERAS])

    alerts, days = pl.col("alerts").sum(), pl.col("camera_days").sum()
    table = RateTable.learn(
        np.arange(len(CAMERAS)) % 3,
        sums(before, alerts),
        sums(before, days),
        sums(before, (pl.col("alerts") ** 2).sum()),
    )
    mine, theirs = (since.filter(role=role) for role in ("challenger", "champion"))
    arrays = (sums(theirs, alerts), sums(theirs, days), sums(mine, alerts), sums(mine, days))
    # Days of the rows are weighed by how lively the site was; both arms have the same days, so
    # that this moves both likelihoods and hardly their ratio.
    assert math.log(judged.e_worse) == pytest.approx(table.log_e_worse(*arrays), abs=1.0)
    assert math.log(judged.e_not_worse) == pytest.approx(
        table.log_e_not_worse(*arrays, 2.0), abs=1.0
    )
    assert judged.ratio is not None
    assert 1.4 < judged.ratio < 2.9


def test_worse_and_as_good_are_told_apart() -> None:
    worse, good = (judge(evidence(ratio), FIRST, 2.0, Weights()) for ratio in (3.0, 1.0))
    assert worse.e_worse > 20 > good.e_worse
    assert good.e_not_worse > 20 > worse.e_not_worse
    assert worse.e_worse_step == worse.e_worse, "the only step is all there is"


def test_a_step_is_also_judged_by_itself() -> None:
    """A version that is as good for weeks and gets worse once it is live."""
    calm = evidence(1.0, days=30)
    live = pl.col("day") >= FIRST + timedelta(days=30)
    rows = pl.concat([calm, evidence(3.0, days=36).filter(live)])
    pooled = judge(rows, FIRST, 2.0, ALARMS_ALONE)
    step = judge(rows, FIRST, 2.0, ALARMS_ALONE, step_began=FIRST + timedelta(days=30))
    assert pooled.e_worse < 20 < step.e_worse
    assert step.e_worse == pytest.approx((pooled.e_worse + step.e_worse_step) / 2)
    # Sums over cameras are taken by many threads, in any order.
    assert step.e_not_worse == pytest.approx(pooled.e_not_worse, rel=1e-9)


def test_confirmed_alarms_are_no_false_ones() -> None:
    rows = evidence(3.0)
    right = rows.with_columns(confirmed=pl.col("alerts"))
    assert (
        judge(right, FIRST, 2.0, ALARMS_ALONE).e_worse
        < 1.0
        < judge(rows, FIRST, 2.0, ALARMS_ALONE).e_worse
    )


def few_alarms(alerts_of_challenger: int) -> pl.DataFrame:
    """Two quiet weeks: three cameras of two minutes a day, both versions watch all of them."""
    minutes = 2 / 1440
    rows = [row(day, camera, camera_days=minutes) for day in range(-14, 14) for camera in CAMERAS]
    rows += [
        row(day, camera, "challenger", camera_days=minutes, shadow=True)
        for day in range(14)
        for camera in CAMERAS
    ]
    for number in range(alerts_of_challenger):
        rows[-1 - number]["alerts"] = 1
    return pl.DataFrame(rows, schema=dict(EVIDENCE_SCHEMA))


def test_next_to_no_alarms_are_few_enough_where_a_site_says_so() -> None:
    rows = few_alarms(1)
    silent = judge(rows, FIRST, 2.0, ALARMS_ALONE)
    assert silent.e_not_worse < 5
    acceptable = judge(rows, FIRST, 2.0, ALARMS_ALONE, acceptable_rate=50.0)
    assert acceptable.e_not_worse > 20
    # It opens no way round the evidence for worse.
    assert acceptable.e_worse == silent.e_worse
    # Twice as many as are acceptable are not few, and their ratio counts half.
    rate = 60 / (14 * len(CAMERAS) * 2 / 1440)
    many = few_alarms(60)
    ratio = judge(many, FIRST, 2.0, ALARMS_ALONE).e_not_worse
    refused = judge(many, FIRST, 2.0, ALARMS_ALONE, acceptable_rate=rate / 2)
    assert refused.e_not_worse == pytest.approx(ratio / 2, abs=0.01)
    assert type(refused).from_dict(refused.as_dict()) == refused


def test_each_measure_counts_by_its_weight() -> None:
    rows = evidence(1.0)
    tried = (pl.col("role") == "challenger") & (pl.col("day") >= FIRST)
    blind = rows.with_columns(abstained_h=pl.when(tried).then(8.0).otherwise(0.0))
    told = judge(blind, FIRST, 2.0, Weights())
    assert told.by_measure["abstained"] > 1e6
    assert told.e_worse > 20
    late = rows.with_columns(
        delays_s=pl.when(tried)
        .then(pl.lit([9.0]))
        .otherwise(pl.lit([1.0]))
        .cast(pl.List(pl.Float64))
    )
    assert judge(late, FIRST, 2.0, Weights()).by_measure["delay"] > 1e6
    logs = {"alarms": math.log(30.0), "dismissed": 0.0, "delay": 0.0, "abstained": 0.0}
    assert combined(logs, Weights()) == pytest.approx(0.85 * 30 + 0.15)
    assert combined({"alarms": 1e6}, ALARMS_ALONE) < math.inf


def test_without_a_challenger_nothing_is_claimed() -> None:
    rows = evidence(1.0).filter(pl.col("role") == "champion")
    judged = judge(rows, FIRST, 2.0, Weights())
    assert judged.e_worse == pytest.approx(1.0)
    assert (judged.e_not_worse, judged.ratio) == (1.0, None)
    assert arm(rows, "challenger").rate is None


def test_delays_from_one_distribution_seldom_look_later() -> None:
    rng = np.random.default_rng(7)
    crossed = 0
    for _ in range(300):
        delays = [(bool(rng.random() < 0.5), float(rng.integers(1, 6))) for _ in range(80)]
        crossed += max(log_e_later(delays[:end]) for end in range(10, 81, 10)) >= math.log(20)
    assert crossed <= 25, "one in twenty is allowed: 15 of 300"


def test_later_alarms_are_found_and_earlier_ones_are_not_held_against_it() -> None:
    rng = np.random.default_rng(8)
    early = [(False, float(value)) for value in rng.normal(2, 0.5, 40)]
    later = [*early, *((True, float(value)) for value in rng.normal(4, 0.5, 12))]
    sooner = [*early, *((True, float(value)) for value in rng.normal(1, 0.5, 12))]
    assert log_e_later(later) > math.log(20)
    assert log_e_later(sooner) < 0
    assert log_e_later([]) == 0.0
    assert log_e_later(later) == log_e_later(later), "ties are broken the same way each time"
