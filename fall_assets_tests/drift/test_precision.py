"""Staff's answers: evidence that may be looked at every day."""

from __future__ import annotations

import numpy as np
import pytest

from fall_assets.drift.precision import precision_evidence, usual_precision


def test_evidence_is_wrong_in_alpha_of_runs_at_most_however_often_one_looks() -> None:
    rng = np.random.default_rng(0)
    p0, alpha, runs = 0.6, 0.1, 400
    wrong = sum(
        precision_evidence(list(rng.random(120) < p0), p0, alpha).alarm is not None
        for _ in range(runs)
    )
    # 40 are allowed; three standard deviations above.
    assert wrong <= alpha * runs + 3 * np.sqrt(runs * alpha * (1 - alpha))


def test_expected_money_is_one_where_precision_is_just_what_it_was() -> None:
    p0 = 0.7
    answers = [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)]
    expected = sum(
        np.prod([p0 if fall else 1 - p0 for fall in each])
        * precision_evidence(each, p0, 0.05).path[-1]
        for each in answers
    )
    assert expected == pytest.approx(1.0)


def test_a_fall_of_precision_is_found_also_after_many_good_answers() -> None:
    rng = np.random.default_rng(1)
    good = list(rng.random(150) < 0.8)
    bad = list(rng.random(60) < 0.2)
    found = precision_evidence(good + bad, 0.65, 0.01)
    assert found.alarm is not None
    assert 150 <= found.alarm < 190
    assert found.since is not None
    assert 140 <= found.since <= 165
    assert found.p_value == 1 / found.peak <= 0.01
    assert precision_evidence(good, 0.65, 0.01).alarm is None


def test_no_answers_are_no_evidence() -> None:
    nothing = precision_evidence([], 0.5, 0.01)
    assert (nothing.peak, nothing.p_value, nothing.alarm) == (1.0, 1.0, None)


def test_usual_precision_is_careful_with_few_answers() -> None:
    few, many = usual_precision(3, 1), usual_precision(300, 100)
    assert few < many < 0.75
    with pytest.raises(ValueError, match="counts from 0"):
        usual_precision(-1, 2)
    with pytest.raises(ValueError, match="p0 and alpha"):
        precision_evidence([True], 1.0, 0.1)
