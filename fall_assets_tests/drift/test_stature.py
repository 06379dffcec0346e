"""Stature: how tall people are for the place where they stand."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.drift.stature import with_stature
from fall_assets.lake.registry import table

FIRST = date(2026, 3, 2)


def rows(
    days: int, tall: float = 1.0, *, first: int = 0, seed: int = 0, place: float = 0.5
) -> pl.DataFrame:
    """Hours of people of that stature, who stand about a place."""
    rng = np.random.default_rng([seed, first])
    found = []
    for number in range(days):
        for hour in range(24):
            y = float(rng.uniform(place - 0.2, place + 0.2))
            height = 0.4 * tall * float(np.exp(2.5 * (y - 0.5) + rng.normal(0, 0.03)))
            at = FIRST + timedelta(days=first + number)
            for figure, value in (("upright_height", height), ("upright_y", y), ("people", 1.0)):
                found.append((at, "cam-1", hour, figure, value, 5))
    columns = ["day", "camera_id", "hour", "figure", "value", "windows"]
    frame = pl.DataFrame(found, schema=columns, orient="row")
    schema = table("camera_profile").schema
    return frame.select(pl.col(name).cast(kind) for name, kind in schema.items())


def mean(frame: pl.DataFrame) -> float:
    found = frame.filter(pl.col("figure") == "stature")["value"].log().mean()
    assert isinstance(found, float)
    return float(np.exp(found))


@given(tall=st.floats(0.4, 1.6), place=st.floats(0.3, 0.7))
def test_stature_is_told_wherever_people_stand(tall: float, place: float) -> None:
    old, new = with_stature(rows(7), rows(1, tall, first=7, place=place))
    assert mean(old) == pytest.approx(1.0, abs=0.02)
    assert mean(new) == pytest.approx(tall, rel=0.06)


def test_an_ordinary_day_is_measured_by_the_others() -> None:
    odd = pl.concat([rows(6), rows(1, 0.6, first=6)])
    old, _ = with_stature(odd, rows(1, first=7))
    of_day = old.filter(pl.col("day") == FIRST + timedelta(days=6))
    assert mean(of_day) == pytest.approx(0.6, rel=0.06), "as if it were today"


def test_the_measures_give_way_to_the_figure_and_the_rest_stays() -> None:
    for frame in with_stature(rows(3), rows(1, first=3)):
        assert set(frame["figure"]) == {"people", "stature"}
        assert dict(frame.schema) == table("camera_profile").schema


def test_the_order_of_rows_does_not_matter() -> None:
    old, new = rows(4), rows(1, first=4)
    mixed = with_stature(old.sample(fraction=1.0, shuffle=True, seed=1), new.reverse())
    keys = ["figure", "camera_id", "day", "hour"]
    for one, two in zip(with_stature(old, new), mixed, strict=True):
        assert one.sort(keys).equals(two.sort(keys))


@pytest.mark.parametrize("days", [0, 1])
def test_without_two_ordinary_days_a_camera_s_days_are_not_measured(days: int) -> None:
    old, _ = with_stature(rows(2).filter(pl.col("day") < FIRST + timedelta(days=days)), rows(1))
    assert old.filter(pl.col("figure") == "stature").is_empty()


def test_a_camera_that_sees_nobody_upright_has_no_stature() -> None:
    alone = pl.col("figure") == "people"
    old, new = with_stature(rows(3).filter(alone), rows(1, first=3))
    assert "stature" not in set(old["figure"]) | set(new["figure"])


def test_people_who_always_stand_at_one_place_are_measured_there() -> None:
    def standing(frame: pl.DataFrame, height: float) -> pl.DataFrame:
        fixed = {"upright_y": 0.5, "upright_height": height, "people": 1.0}
        return frame.with_columns(value=pl.col("figure").replace_strict(fixed))

    _, new = with_stature(standing(rows(3), 0.4), standing(rows(1, first=3), 0.2))
    assert mean(new) == pytest.approx(0.5)
