"""Which figure moved."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fall_assets.drift.explain import Hours, explain, hours_of
from fall_assets.drift.mmd import Labels
from fall_assets.simulation.days import Change, camera_name
from fall_assets_tests.drift.wards import ORDINARY, day, lived

FIGURES = ("brightness", "sharpness", "person_height", "lying_x")


def hours(ordinary: npt.NDArray[np.float64], today: npt.NDArray[np.float64]) -> Hours:
    return numbered(FIGURES, ordinary, today, np.arange(len(ordinary), dtype=np.int64) // 24)


def numbered(
    figures: tuple[str, ...],
    ordinary: npt.NDArray[np.float64],
    today: npt.NDArray[np.float64],
    days: npt.NDArray[np.int64],
) -> Hours:
    parts = Labels(np.arange(len(ordinary)) % 4, np.arange(len(today)) % 4)
    return Hours(figures, ordinary, today, days, parts)


def test_the_figure_that_moved_comes_first_with_its_direction() -> None:
    rng = np.random.default_rng(1)
    scale = np.array([0.05, 0.001, 0.04, 0.1])
    ordinary = 0.5 + scale * rng.normal(size=(300, 4))
    today = 0.5 + scale * rng.normal([0, 0, -2.5, 0], 1, size=(24, 4))
    told = explain(hours(ordinary, today))
    first, *others = told.moved
    assert first.figure == "person_height"
    assert first.share > 0.4
    assert first.shift == pytest.approx(-2.5, abs=0.8)
    assert first.difference < 0
    assert first.weight < 0
    assert max(first.p_ks, first.p_cvm) < 1e-3 < min(one.p_ks for one in others)
    assert sum(one.share for one in told.moved) == pytest.approx(1.0)
    assert max(told.p_mmd, told.p_lsdd) < 0.02
    assert explain(hours(ordinary, today)) == told
    nothing = explain(hours(ordinary, 0.5 + scale * rng.normal(size=(24, 4))))
    assert min(nothing.p_mmd, nothing.p_lsdd) > 0.02


def test_a_figure_that_left_its_range_does_not_hide_another() -> None:
    rng = np.random.default_rng(2)
    ordinary = rng.normal(size=(300, 4))
    ordinary[:, 3] = 0.0
    today = rng.normal([4, 0, 0, 0], 1, size=(24, 4))
    today[:, 3] = 1000.0
    moved = explain(hours(ordinary, today)).moved
    assert {one.figure for one in moved[:2]} == {"brightness", "lying_x"}


def test_what_does_not_fit_is_refused() -> None:
    odd = numbered(FIGURES[:2], np.zeros((30, 4)), np.ones((20, 4)), np.zeros(30, np.int64))
    with pytest.raises(ValueError, match="a name for each of 4"):
        explain(odd)
    with pytest.raises(ValueError, match="need 20 ordinary hours, got 3"):
        explain(hours(np.zeros((3, 4)), np.ones((20, 4))))


def test_hours_of_a_day_that_are_alike_count_for_fewer() -> None:
    rng = np.random.default_rng(3)
    days = np.repeat(np.arange(13), 24)[:300]
    alike = rng.normal(size=(13, 4))[days] + 0.05 * rng.normal(size=(300, 4))
    today = np.full((24, 4), 0.8) + 0.05 * rng.normal(size=(24, 4))
    told = explain(numbered(FIGURES, alike, today, days.astype(np.int64)))
    assert min(one.p_ks for one in told.moved) > 0.05, "one day among others is nothing"


def test_a_camera_s_day_is_told_from_its_ordinary_days() -> None:
    darker = Change(0, "brightness", -0.2, ORDINARY)
    days = lived((darker,)).of([*map(day, range(ORDINARY)), day(ORDINARY)], camera_name(0))
    found = hours_of(days.profile, day(ORDINARY))
    assert found.ordinary.shape[1] == found.today.shape[1] == len(found.figures)
    assert "stature" in found.figures
    assert "upright_height" not in found.figures
    assert explain(found).moved[0].figure == "brightness"
