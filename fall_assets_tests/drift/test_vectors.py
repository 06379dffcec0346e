"""Vectors of camera-hours: days differ from one another, and only more than that is a change."""

from __future__ import annotations

import numpy as np
import pytest

from fall_assets.drift.mmd import Labels
from fall_assets.drift.vectors import Vectors, VectorTest, vector_tests

DAYS, HOURS, FIGURES = 12, 10, 4
Reals = np.ndarray[tuple[int, int], np.dtype[np.float64]]
NUMBERS = np.repeat(np.arange(DAYS), HOURS)


def ward(seed: int, *, shift: float = 0.0, days_differ: float = 0.5) -> tuple[Reals, Reals]:
    """Ordinary hours (days * hours, figures), and those of one more day."""
    rng = np.random.default_rng(seed)
    whole = rng.normal(0, days_differ, (DAYS + 1, 1, FIGURES))
    hours = whole + rng.normal(size=(DAYS + 1, HOURS, FIGURES))
    return hours[:-1].reshape(-1, FIGURES), hours[-1] + shift


def vector_test(
    ordinary: Reals,
    days: np.ndarray,  # type: ignore[type-arg]
    today: Reals,
    strata: Labels | None = None,
) -> VectorTest:
    return vector_tests({"a": Vectors(ordinary, days, today, strata)})["a"]


def p_value(seed: int, **changed: float) -> float:
    ordinary, today = ward(seed, **changed)
    found = vector_test(ordinary, NUMBERS, today).p_value
    assert found is not None
    return found


def test_days_that_differ_are_no_change() -> None:
    seldom = sum(p_value(seed, days_differ=1.0) <= 0.05 for seed in range(60))
    assert seldom <= 8


def test_another_world_is_a_change() -> None:
    assert max(p_value(seed, shift=4.0, days_differ=0.3) for seed in range(10)) < 0.01


def test_other_cameras_lend_what_they_know_of_days() -> None:
    ordinary, today = ward(1, shift=3.0, days_differ=0.3)
    few = NUMBERS < 6
    alone = {"a": Vectors(ordinary[few], NUMBERS[few], today)}
    others = {f"b{seed}": Vectors(*_whole(seed, days_differ=0.3)) for seed in range(2, 6)}
    first, second = (vector_tests(cameras)["a"].p_value for cameras in (alone, alone | others))
    assert first is not None
    assert second is not None
    assert second < first / 5


def _whole(seed: int, **changed: float) -> tuple[Reals, np.ndarray, Reals]:  # type: ignore[type-arg]
    ordinary, today = ward(seed, **changed)
    return ordinary, NUMBERS, today


def test_few_days_say_nothing() -> None:
    ordinary, today = ward(1, shift=9.0)
    four = NUMBERS < 4
    assert vector_test(ordinary[four], NUMBERS[four], today).p_value is None
    assert vector_test(ordinary, NUMBERS, today[:1]).p_value is None


def test_the_order_of_rows_and_a_constant_figure_change_nothing() -> None:
    ordinary, today = ward(2, shift=1.0)
    ordinary[:, 0] = today[:, 0] = 0.5
    order = np.random.default_rng(0).permutation(len(ordinary))
    first = vector_test(ordinary, NUMBERS, today)
    second = vector_test(ordinary[order], NUMBERS[order], today[::-1])
    assert first.mmd == pytest.approx(second.mmd, rel=1e-9)
    assert first.lsdd == pytest.approx(second.lsdd, rel=0.2)


def test_night_is_compared_with_night() -> None:
    ordinary, today = ward(3)
    strata = Labels(np.tile(np.arange(HOURS) % 2, DAYS), np.arange(HOURS) % 2)
    assert vector_test(ordinary, NUMBERS, today, strata).p_value is not None


@pytest.mark.parametrize(
    ("ordinary", "days", "today"),
    [
        (np.zeros((5, 2)), np.arange(5), np.zeros((3, 1))),
        (np.zeros((5, 2)), np.arange(4), np.zeros((3, 2))),
        (np.zeros((0, 2)), np.arange(0), np.zeros((3, 2))),
        (np.full((5, 2), np.nan), np.arange(5), np.zeros((3, 2))),
    ],
)
def test_bad_vectors_are_refused(ordinary: Reals, days: np.ndarray, today: Reals) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="row"):
        vector_test(ordinary, days, today)
