"""Simulated camera-days: the same from a seed, ordinary where nothing changes."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from fall_assets.lake.registry import table
from fall_assets.simulation.days import FIGURES, Change, WardSpec, camera_name, simulate_days

SPEC = WardSpec(cameras=4, days=30, seed=5)


def test_rows_are_those_of_the_tables_and_the_same_from_a_seed() -> None:
    days = simulate_days(SPEC)
    assert days.profile.schema == table("camera_profile").schema
    assert days.facts.schema == table("camera_facts").schema
    assert set(days.profile["figure"]) == set(FIGURES)
    assert days.profile.select("camera_id", "day").n_unique() == 4 * 30
    assert days.profile["value"].is_finite().all()
    assert simulate_days(SPEC).profile.equals(days.profile)
    assert not simulate_days(WardSpec(cameras=4, days=30, seed=6)).profile.equals(days.profile)


def test_one_more_camera_changes_no_other() -> None:
    more = simulate_days(WardSpec(cameras=5, days=30, seed=5)).profile
    own = more.filter(pl.col("camera_id") != camera_name(4))
    assert own.equals(simulate_days(SPEC).profile)


def test_a_change_touches_its_own_figure_from_its_day_on() -> None:
    change = Change(1, "brightness", 0.1, 20, ramp_days=5)
    before, after = simulate_days(SPEC).profile, simulate_days(SPEC, [change]).profile
    keys = ["camera_id", "day", "hour", "figure"]
    differs = before.join(after, on=keys, suffix="_").filter(pl.col("value") != pl.col("value_"))
    assert set(differs["camera_id"]) == {camera_name(1)}
    assert set(differs["figure"]) == {"brightness"}
    grown = (
        differs.group_by("day")
        .agg((pl.col("value_") - pl.col("value")).mean())
        .sort("day")["value_"]
        .to_numpy()
    )
    assert len(grown) == 10
    assert grown[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert grown[5:] == pytest.approx([0.1] * 5)


def test_ordinary_life_is_there() -> None:
    spec = WardSpec(cameras=12, days=56, seed=7, first=date(2026, 3, 2), odd=0.0)
    profile = simulate_days(spec).profile

    def mean(figure: str, *when: pl.Expr) -> float:
        return float(profile.filter(pl.col("figure") == figure, *when)["value"].mean())  # type: ignore[arg-type]

    noon, night = pl.col("hour").is_between(11, 13), pl.col("hour") < 4
    assert mean("brightness", noon) > mean("brightness", night) + 0.05
    weekend = pl.col("day").dt.weekday() >= 6
    visited = pl.col("hour").is_between(14, 17)
    assert mean("people", visited, weekend) > mean("people", visited, ~weekend) + 0.1
    early, late = pl.col("day") < date(2026, 3, 16), pl.col("day") > date(2026, 4, 12)
    assert mean("brightness", noon, late) > mean("brightness", noon, early)
    # Patients stay: where people lie, the day before says much of today.
    lying = (
        profile.filter(pl.col("figure") == "lying_x")
        .group_by("camera_id", "day")
        .agg(pl.col("value").mean())
        .sort("camera_id", "day")
        .with_columns(pl.col("value") - pl.col("value").mean().over("camera_id"))
        .with_columns(before=pl.col("value").shift().over("camera_id"))
        .drop_nulls()
    )
    assert np.corrcoef(lying["value"], lying["before"])[0, 1] > 0.3
    hours = profile.filter(pl.col("figure") == "brightness").group_by("camera_id", "day").len()
    assert 0 < (hours["len"] < 24).mean() < 0.9  # type: ignore[operator]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no figure"):
        Change(0, "smell", 1.0, 0)
    with pytest.raises(ValueError, match="no camera 9"):
        simulate_days(SPEC, [Change(9, "noise", 2.0, 0, times=True)])
    with pytest.raises(ValueError, match="at least 1 camera"):
        WardSpec(cameras=0)
