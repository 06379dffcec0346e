"""Which figure moved."""

from __future__ import annotations

import numpy as np
import pytest

from fall_assets.drift.explain import hours_of, what_moved
from fall_assets.simulation.days import Change, camera_name
from fall_assets_tests.drift.wards import ORDINARY, day, lived

FIGURES = ("brightness", "sharpness", "person_height", "lying_x")


def test_the_figure_that_moved_comes_first_with_its_direction() -> None:
    rng = np.random.default_rng(1)
    scale = np.array([0.05, 0.001, 0.04, 0.1])
    ordinary = 0.5 + scale * rng.normal(size=(300, 4))
    today = 0.5 + scale * rng.normal([0, 0, -2.5, 0], 1, size=(24, 4))
    moved = what_moved(ordinary, today, FIGURES)
    assert moved[0].figure == "person_height"
    assert moved[0].share > 0.4
    assert moved[0].shift == pytest.approx(-2.5, abs=0.8)
    assert moved[0].difference < 0
    assert moved[0].weight < 0
    assert sum(one.share for one in moved) == pytest.approx(1.0)
    assert what_moved(ordinary, today, FIGURES) == moved


def test_a_figure_that_left_its_range_does_not_hide_another() -> None:
    rng = np.random.default_rng(2)
    ordinary = rng.normal(size=(300, 4))
    ordinary[:, 3] = 0.0
    today = rng.normal([4, 0, 0, 0], 1, size=(24, 4))
    today[:, 3] = 1000.0
    moved = what_moved(ordinary, today, FIGURES)
    assert {one.figure for one in moved[:2]} == {"brightness", "lying_x"}


def test_names_must_fit() -> None:
    with pytest.raises(ValueError, match="a name for each of 4"):
        what_moved(np.zeros((20, 4)), np.ones((20, 4)), FIGURES[:2])


def test_a_camera_s_day_is_told_from_its_ordinary_days() -> None:
    darker = Change(0, "brightness", -0.2, ORDINARY)
    days = lived((darker,)).of([*map(day, range(ORDINARY)), day(ORDINARY)], camera_name(0))
    figures, first, second = hours_of(days.profile, day(ORDINARY))
    assert first.shape[1] == second.shape[1] == len(figures)
    assert what_moved(first, second, figures)[0].figure == "brightness"
