"""Sums over days: how long they run without change, and how soon they find one."""

from __future__ import annotations

import numpy as np
import pytest

from fall_assets.drift.online import cusum, run_time, threshold_for


def test_run_times_are_those_of_the_published_tables() -> None:
    # Montgomery, Introduction to Statistical Quality Control, table 9.3: two-sided, slack 0.5.
    assert run_time(4, 0.5) == pytest.approx(168, rel=0.01)
    assert run_time(5, 0.5) == pytest.approx(465, rel=0.01)
    assert run_time(4, 0.5, shift=1.0) == pytest.approx(8.38, rel=0.01)


@pytest.mark.parametrize("correlation", [0.0, 0.4])
def test_the_threshold_gives_the_run_time_that_was_asked_for(correlation: float) -> None:
    ert, slack = 60.0, 0.75
    threshold = threshold_for(ert, slack, correlation)
    rng = np.random.default_rng(2)
    streams, days = 1500, 600
    z = rng.standard_normal((streams, days))
    for day in range(1, days):
        z[:, day] = correlation * z[:, day - 1] + np.sqrt(1 - correlation**2) * z[:, day]
    up = down = np.zeros(streams)
    lengths = np.full(streams, float(days))
    for day in range(days):
        up = np.maximum(0, up + z[:, day] - slack)
        down = np.maximum(0, down - z[:, day] - slack)
        hit = (np.maximum(up, down) >= threshold) & (lengths == days)
        lengths[hit] = day + 1
    assert lengths.mean() == pytest.approx(ert, rel=0.12)


def test_a_correlated_stream_needs_a_higher_threshold() -> None:
    assert threshold_for(300, 0.75, 0.5) > 1.5 * threshold_for(300, 0.75, 0.0)


def test_slow_change_is_found_and_its_direction_told() -> None:
    rng = np.random.default_rng(3)
    still = rng.standard_normal(28)
    falling = still - np.maximum(0, np.arange(28) - 10) * 0.4
    ert = 100_000.0
    found = cusum(falling, ert)
    assert found.alarm
    assert found.statistic < 0
    assert found.alarm_day is not None
    assert 14 <= found.alarm_day <= 27
    assert not cusum(still, ert).alarm


def test_days_without_footage_are_passed_over_and_one_day_is_no_slow_change() -> None:
    scores = np.array([0.5, np.nan, 40.0, np.nan, 0.2])
    gone = cusum(scores, 100_000.0)
    assert gone == cusum(scores[np.isfinite(scores)], 100_000.0)
    assert not gone.alarm
    assert gone.alarm_day is None


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="ert above 2"):
        threshold_for(1.0)
    with pytest.raises(ValueError, match="correlation"):
        threshold_for(100.0, correlation=1.0)
