"""A day against ordinary days: how often it is wrong, and what it finds."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from fall_assets.drift.daily import DAILY_SCHEMA, DailySettings, daily_tests
from fall_assets.simulation.days import Change, WardSpec, camera_name, simulate_days

FIRST = date(2026, 3, 2)


def camera_days(
    cameras: int, days: int, seed: int, *, between: float = 0.03, within: float = 0.03
) -> pl.DataFrame:
    """Brightness by hour: a daily course, days that differ, hours that differ."""
    rng = np.random.default_rng(seed)
    course = 0.5 + 0.2 * np.sin(np.arange(24) / 24 * 2 * np.pi)
    day = between * rng.standard_normal((cameras, days, 1))
    values = course + day + within * rng.standard_normal((cameras, days, 24))
    index = np.indices(values.shape)
    return pl.DataFrame(
        {
            "day": [FIRST + timedelta(days=int(each)) for each in index[1].ravel()],
            "camera_id": [f"c{each:02d}" for each in index[0].ravel()],
            "hour": index[2].ravel(),
            "figure": ["brightness"] * values.size,
            "value": values.ravel(),
            "windows": np.full(values.size, 200),
        }
    )


def split(profile: pl.DataFrame, ordinary: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first days, and the day after them."""
    day = FIRST + timedelta(days=ordinary)
    return profile.filter(pl.col("day") < day), profile.filter(pl.col("day") == day)


def test_days_that_differ_as_days_do_are_no_drift() -> None:
    """Where days differ as much as hours, a test of hours calls most days drift; this does not."""
    profile = camera_days(40, 43, 0)
    ordinary = profile.filter(pl.col("day") < FIRST + timedelta(days=28))
    p = np.concatenate(
        [
            daily_tests(ordinary, profile.filter(pl.col("day") == FIRST + timedelta(days=number)))[
                "p"
            ].to_numpy()
            for number in range(28, 43)
        ]
    )
    assert (p < 0.05).mean() <= 0.07
    assert (p < 0.001).mean() <= 0.004
    assert (p < 0.5).mean() > 0.2


def test_a_real_step_is_certain_and_told_in_the_figure_s_unit() -> None:
    ordinary, today = split(camera_days(6, 29, 1, between=0.01), 28)
    brighter = pl.col("camera_id") == "c03"
    today = today.with_columns(
        pl.when(brighter).then(pl.col("value") + 0.2).otherwise(pl.col("value")).alias("value")
    )
    tested = daily_tests(ordinary, today)
    changed = tested.filter(brighter).row(0, named=True)
    assert changed["p"] < 1e-6
    assert changed["z"] > 5
    assert changed["after"] - changed["before"] == pytest.approx(0.2, abs=0.03)
    assert changed["before"] == pytest.approx(0.5, abs=0.02)
    assert 0.005 < changed["spread"] < 0.03
    assert (changed["ordinary_days"], changed["hours"]) == (28, 24)
    assert tested.filter(~brighter)["p"].min() > 1e-3  # type: ignore[operator]


def test_a_change_of_shape_alone_is_found() -> None:
    ordinary, today = split(camera_days(6, 29, 2, between=0.01, within=0.03), 28)
    lamp = np.tile([0.25, -0.25], len(today) // 2)
    flickers = pl.col("camera_id") == "c00"
    today = today.with_columns(
        value=pl.col("value") + pl.when(flickers).then(pl.Series(lamp)).otherwise(0.0)
    )
    tested = daily_tests(ordinary, today).filter(flickers).row(0, named=True)
    assert tested["p_location"] > 0.01
    assert tested["p_shape"] < 1e-3
    assert tested["ks"] > 0.4
    assert tested["p"] == pytest.approx(2 * tested["p_shape"])


def test_a_day_of_which_only_nights_were_recorded_is_compared_with_nights() -> None:
    ordinary, today = split(camera_days(6, 29, 3, between=0.005), 28)
    tested = daily_tests(ordinary, today.filter(pl.col("hour") >= 18))
    assert tested["p"].min() > 1e-3  # type: ignore[operator]
    # The course of a day has its low there.
    assert tested["before"].max() < 0.45  # type: ignore[operator]
    assert set(tested["hours"]) == {6}


def test_few_ordinary_days_borrow_from_the_site_and_one_is_untested() -> None:
    profile = camera_days(20, 29, 4, between=0.01)
    ordinary, today = split(profile, 28)
    new = pl.col("camera_id") == "c00"
    today = today.with_columns(value=pl.col("value") + pl.when(new).then(0.15).otherwise(0.0))

    def newest(count: int) -> pl.DataFrame:
        since = FIRST + timedelta(days=28 - count)
        return ordinary.filter(~new | (pl.col("day") >= since))

    two = daily_tests(newest(2), today).filter(new).row(0, named=True)
    alone = daily_tests(newest(2).filter(new), today.filter(new)).row(0, named=True)
    one = daily_tests(newest(1), today).filter(new).row(0, named=True)
    none = daily_tests(ordinary.filter(~new), today).filter(new).row(0, named=True)
    assert two["p"] < 1e-3 < alone["p"]
    assert two["ordinary_days"] == 2
    assert one["p"] is None
    assert one["before"] is not None
    assert none["p"] is None
    assert none["before"] is None
    assert none["after"] is not None


def test_one_odd_ordinary_day_hides_no_change() -> None:
    ordinary, today = split(camera_days(10, 29, 5, between=0.01), 28)
    dark = (pl.col("camera_id") == "c00") & (pl.col("day") == FIRST + timedelta(days=9))
    ordinary = ordinary.with_columns(value=pl.when(dark).then(0.02).otherwise(pl.col("value")))
    changed = today.with_columns(value=pl.col("value") + 0.25)
    p = daily_tests(ordinary, changed).filter(pl.col("camera_id") == "c00")["p"][0]
    assert p < 1e-3


def test_a_figure_that_never_varied_is_no_drift_by_rounding() -> None:
    ordinary, today = split(camera_days(4, 29, 6, between=0.0, within=0.0), 28)
    same = daily_tests(ordinary, today.with_columns(value=pl.col("value") + 1e-6))
    assert same["p"].min() > 0.9  # type: ignore[operator]


def test_the_order_of_rows_does_not_matter_and_today_is_left_out_of_the_ordinary_days() -> None:
    profile = camera_days(5, 29, 7)
    ordinary, today = split(profile, 28)
    expected = daily_tests(ordinary, today)
    mixed = daily_tests(
        profile.sample(fraction=1, shuffle=True, seed=1),
        today.sample(fraction=1, shuffle=True, seed=2),
    )
    assert mixed.equals(expected)


def test_nothing_today_is_nothing_and_bad_input_is_refused() -> None:
    ordinary, today = split(camera_days(2, 5, 8), 4)
    assert daily_tests(ordinary, today.clear()).schema == DAILY_SCHEMA
    with pytest.raises(ValueError, match="of 4 days"):
        daily_tests(today, ordinary)
    with pytest.raises(ValueError, match="repeat each other"):
        daily_tests(ordinary, pl.concat([today, today]))


def test_a_new_patient_is_no_drift_and_children_are() -> None:
    """Ordinary wards: nothing is certain of all figures; people a third smaller are."""
    spec = WardSpec(cameras=8, days=33, seed=11)
    change = Change(2, "person_height", 0.5, 28, times=True)
    cut = spec.first + timedelta(days=28)
    settings = DailySettings(shape=False)
    budget = 1e-5

    def tested(profile: pl.DataFrame, number: int) -> pl.DataFrame:
        day = spec.first + timedelta(days=number)
        return daily_tests(
            profile.filter(pl.col("day") < cut), profile.filter(pl.col("day") == day), settings
        )

    still, changed = (simulate_days(spec, each).profile for each in ((), (change,)))
    assert all((tested(still, number)["p"] > budget).all() for number in range(28, 33))
    own = (pl.col("camera_id") == camera_name(2)) & (pl.col("figure") == "person_height")
    small = tested(changed, 30).filter(own).row(0, named=True)
    assert small["p"] < 1e-3
    assert small["z"] < 0
