"""The figures that the label-efficiency benchmark reads off its curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from benchmarks.label_efficiency import Point, average_precision, labels_needed, mean_curve


def curve(*values: tuple[int, float]) -> list[Point]:
    return [Point(labels, precision, precision, precision, 0) for labels, precision in values]


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, unique_by=lambda x: x[1]))
def test_average_precision_is_scikit_learns(drawn: list[tuple[bool, float]]) -> None:
    target = np.array([int(fall) for fall, _ in drawn])
    score = np.array([value for _, value in drawn])
    if target.any():
        expected = average_precision_score(target, score)
        assert average_precision(target, score) == pytest.approx(expected)
    else:
        assert np.isnan(average_precision(target, score))


def test_labels_needed_are_read_between_rounds() -> None:
    rising = curve((0, 0.5), (10, 0.7), (20, 0.9), (30, 0.8))
    assert labels_needed(rising, 0.8) == pytest.approx(15)
    assert labels_needed(rising, 0.5) == 0
    assert labels_needed(rising, 0.95) is None


def test_the_mean_curve_ends_with_all_labels_whatever_the_pools() -> None:
    mean = mean_curve([curve((0, 0.4), (6, 0.6), (12, 0.9)), curve((0, 0.6), (6, 0.8), (14, 1.0))])
    assert [p.labels for p in mean] == [0, 6, 13]
    assert [p.precision for p in mean] == pytest.approx([0.5, 0.7, 0.95])
