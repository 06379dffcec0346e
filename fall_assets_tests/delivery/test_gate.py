"""The gate lets good models in and says why it keeps others out."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.delivery.gate import GateSettings, judge_candidate


def row(**figures: Any) -> dict[str, Any]:
    return {
        "training_set_id": "t",
        "falls": 20,
        "found": 18,
        "sensitivity": 0.9,
        "false_alarms_per_hour": 2.0,
        "camera_days": 1.0,
        **figures,
    }


def test_a_good_first_model_passes_and_says_so() -> None:
    verdict = judge_candidate(row(), None)
    assert verdict.passed
    assert verdict.text == (
        "passed: sensitivity 0.900 (18 of 20 falls) is at least the floor 0.500; 2.00 false alarms "
        "per hour (48.0 per camera-day) are at most the limit 60.00; there is no champion to "
        "compare with"
    )


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (row(sensitivity=0.4), "below the floor 0.500"),
        (row(false_alarms_per_hour=61.0), "over the limit 60.00"),
        (row(sensitivity=None), "no falls among the clips"),
        (row(sensitivity=math.nan), "no falls among the clips"),
        (row(false_alarms_per_hour=None), "no footage was judged"),
        ({}, "no falls among the clips"),
    ],
)
def test_floors_hold_without_a_champion(candidate: dict[str, Any], reason: str) -> None:
    verdict = judge_candidate(candidate, None)
    assert not verdict.passed
    assert reason in verdict.reasons[0]


@pytest.mark.parametrize(
    ("candidate", "passed"),
    [
        (row(), True),
        (row(sensitivity=0.85), True),
        (row(sensitivity=0.849), False),
        (row(false_alarms_per_hour=2.5), True),
        (row(false_alarms_per_hour=2.6), False),
        (row(training_set_id="u"), False),
    ],
)
def test_a_candidate_may_be_little_worse_than_the_champion(
    candidate: dict[str, Any], passed: bool
) -> None:
    assert judge_candidate(candidate, row()).passed is passed


def test_one_alarm_more_on_little_footage_is_no_reason() -> None:
    quiet = row(false_alarms_per_hour=0.0, camera_days=0.5 / 24)
    assert judge_candidate({**quiet, "false_alarms_per_hour": 2.0}, quiet).passed
    assert not judge_candidate({**quiet, "false_alarms_per_hour": 4.0}, quiet).passed


def test_an_unjudged_champion_is_named_and_does_not_block() -> None:
    verdict = judge_candidate(row(), row(sensitivity=None, false_alarms_per_hour=None))
    assert verdict.passed
    assert "the champion's sensitivity is unknown, not compared" in verdict.reasons


@given(
    candidate=st.tuples(st.floats(0, 1), st.floats(0, 40)),
    champion=st.tuples(st.floats(0, 1), st.floats(0, 40)),
    better=st.tuples(st.floats(0, 1), st.floats(0, 40)),
)
def test_better_never_fails_where_worse_passes(
    candidate: tuple[float, float], champion: tuple[float, float], better: tuple[float, float]
) -> None:
    def judged(sensitivity: float, alarms: float) -> bool:
        figures = row(sensitivity=sensitivity, false_alarms_per_hour=alarms)
        serving = row(sensitivity=champion[0], false_alarms_per_hour=champion[1])
        return judge_candidate(figures, serving, GateSettings()).passed

    if judged(*candidate):
        assert judged(max(candidate[0], better[0]), min(candidate[1], better[1]))


def test_floors_for_the_interval_and_the_delay_hold_where_they_are_set() -> None:
    strict = GateSettings(min_sensitivity_low=0.7, max_delay_p95_s=3.0)
    figures = {"sensitivity_low": 0.75, "delay_p95_s": 2.0}
    assert judge_candidate(row(**figures), None, strict).passed
    few = judge_candidate(row(**{**figures, "sensitivity_low": 0.6}), None, strict)
    assert not few.passed
    assert "starts at 0.600, wanted 0.700" in few.reasons[0]
    assert not judge_candidate(row(**{**figures, "delay_p95_s": 4.0}), None, strict).passed
    assert not judge_candidate(row(**{**figures, "delay_p95_s": None}), None, strict).passed
