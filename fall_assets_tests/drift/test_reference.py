"""Which camera-days are ordinary to a model."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.drift.reference import KEEP_DAYS, next_regime, ordinary_days, split_days
from fall_assets.lake.registry import table

FIRST = date(2026, 1, 1)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def seen(days: int, *cameras: str) -> pl.DataFrame:
    rows = [(camera, day(number)) for camera in cameras for number in range(days)]
    return pl.DataFrame(rows, schema={"camera_id": pl.String, "day": pl.Date}, orient="row")


def causes(*stretches: tuple[str, str, int, int], confirmed: bool = True) -> pl.DataFrame:
    """(camera, cause, first, last day) each."""
    rows = [
        {
            "day": day(number),
            "model_version": "1",
            "camera_id": camera,
            "cause": cause,
            "since": day(first),
            "confirmed": confirmed,
            "p_value": None,
            "words": "",
            "evidence": "[]",
        }
        for camera, cause, first, last in stretches
        for number in range(first, last + 1)
    ]
    return pl.DataFrame(rows, schema=table("drift_causes").schema)


def regimes(rows: pl.DataFrame, camera: str) -> list[list[int]]:
    own = rows.filter(pl.col("camera_id") == camera).sort("regime", "recorded_day")
    found: dict[int, list[int]] = {}
    for regime, recorded in own.select("regime", "recorded_day").iter_rows():
        found.setdefault(regime, []).append((recorded - FIRST).days)
    return [found[number] for number in sorted(found)]


def test_four_weeks_up_to_what_was_learned_are_ordinary() -> None:
    rows = ordinary_days(seen(40, "a", "b"), causes(), "2", "set", day(35))
    assert dict(rows.schema) == table("ordinary_days").schema
    assert regimes(rows, "a") == regimes(rows, "b") == [list(range(36 - KEEP_DAYS, 36))]


def test_a_drift_that_was_learned_begins_another_life() -> None:
    drift = causes(("a", "smaller_people", 20, 39))
    rows = ordinary_days(seen(40, "a", "b"), drift, "2", "set", day(25))
    assert regimes(rows, "a") == [list(range(20)), list(range(20, 26))]
    assert len(regimes(rows, "b")) == 1


def test_what_was_mended_ends_its_life() -> None:
    knocked = causes(("a", "view_moved", 10, 12))
    rows = ordinary_days(seen(20, "a"), knocked, "2", "set", day(19))
    assert regimes(rows, "a") == [list(range(10)), [10, 11, 12], list(range(13, 20))]


def test_suspicions_and_clocks_cut_nothing() -> None:
    for none in (
        causes(("a", "pose", 10, 12), confirmed=False),
        causes(("a", "clock", 10, 12)),
    ):
        assert len(regimes(ordinary_days(seen(20, "a"), none, "2", "set", day(19)), "a")) == 1


def test_an_accepted_change_is_one_more_life_once() -> None:
    rows = ordinary_days(seen(10, "a"), causes(), "2", "set", day(9))
    more = next_regime(rows, "a", [day(9), day(10), day(11)])
    assert regimes(pl.concat([rows, more]), "a") == [list(range(10)), [10, 11]]
    assert next_regime(pl.concat([rows, more]), "a", [day(10), day(11)]).is_empty()
    assert next_regime(rows, "unknown", [day(10)]).is_empty()


@given(st.lists(st.integers(0, 60)), st.lists(st.integers(-5, 70)))
def test_cutting_loses_no_day_and_mixes_none(days: list[int], cuts: list[int]) -> None:
    parts = split_days([day(one) for one in days], [day(one) for one in cuts])
    assert [one for part in parts for one in part] == sorted({day(one) for one in days})
    assert all(parts)
    for cut in (day(one) for one in cuts):
        assert not any(part[0] < cut <= part[-1] for part in parts)
