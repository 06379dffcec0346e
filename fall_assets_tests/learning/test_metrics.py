"""Counts, intervals and the choice of a threshold."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.learning.events import EventSettings, Fall
from fall_assets.learning.metrics import (
    Interval,
    ScoredVideo,
    choose_threshold,
    event_metrics,
    operating_curve,
    outcome,
    percentile,
    threshold_grid,
    wilson,
)

AT_ONCE = EventSettings(confirm=1)
"""The first score over the threshold is an alarm: peaks of one score decide."""


def scored_video(
    number: int,
    peak: float,
    *,
    falls: bool,
    camera: str = "cam-1",
    dataset: str = "site",
    background: float = 0.01,
) -> ScoredVideo:
    """A segment of 36 s with a score of `background`, and one of `peak` at 6 s."""
    ends = tuple(1.0 + 0.5 * step for step in range(71))
    scores = tuple(peak if end == 6.0 else background for end in ends)
    fall = (Fall(f"event-{number}", 5.0, 6.0, 6.0),) if falls else ()
    middle = Interval(5.0, 6.0, "fall" if falls else "bending")
    labels = (Interval(0.0, 5.0, "walking"), middle)
    return ScoredVideo(
        str(number), camera, dataset, f"room-{camera}", 36.0, 4.0, fall, labels, ends, scores
    )


def test_the_interval_agrees_with_published_figures() -> None:
    # Newcombe, Statistics in Medicine 17, 1998, table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0, 0) is None


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_holds_the_share(successes: int, extra: int) -> None:
    trials = successes + extra
    interval = wilson(successes, trials)
    assert interval is not None
    assert 0 <= interval[0] <= successes / trials <= interval[1] <= 1


def test_more_successes_than_trials_are_refused() -> None:
    with pytest.raises(ValueError):
        wilson(3, 2)


def test_metrics_count_events_by_slice() -> None:
    videos = [
        scored_video(0, 0.9, falls=True),
        scored_video(1, 0.2, falls=True, camera="cam-2"),
        scored_video(2, 0.9, falls=False, camera="cam-2", dataset="other"),
        scored_video(3, 0.1, falls=False),
    ]
    outcomes = [outcome(video, EventSettings(0.5)) for video in videos]
    rows = {(row["slice"], row["value"]): row for row in event_metrics(outcomes)}
    everything = rows["all", "all"]
    assert (everything["falls"], everything["found"], everything["false_alarms"]) == (2, 1, 1)
    assert everything["sensitivity"] == everything["precision"] == everything["f1"] == 0.5
    assert everything["camera_days"] == pytest.approx(4 * 36 / 86400)
    assert everything["false_alarms_per_hour"] == pytest.approx(25)
    assert everything["false_alarms_per_camera_day"] == pytest.approx(600)
    assert everything["delay_median_s"] == everything["delay_p95_s"] == 1.0
    assert everything["threshold"] == 0.5
    assert rows["camera", "cam-2"]["found"] == 0
    assert rows["room", "room-cam-1"]["found"] == 1
    other = rows["dataset", "other"]
    assert other["falls"] == 0
    assert other["sensitivity"] is other["sensitivity_low"] is other["delay_median_s"] is None
    assert rows["label", "bending"]["false_alarms"] == 1
    assert rows["label", "fall"]["found"] == 1
    assert rows["label", "walking"]["false_alarms"] == 0


def test_an_alarm_outside_every_label_counts() -> None:
    video = scored_video(0, 0.01, falls=False)
    late = tuple(0.9 if end == 30.0 else 0.0 for end in video.end_s)
    unlabelled = ScoredVideo(**{**video.__dict__, "score": late})
    rows = event_metrics([outcome(unlabelled, EventSettings(0.5))])
    alarms = {row["value"]: row["false_alarms"] for row in rows if row["slice"] == "label"}
    assert alarms["unlabelled"] == 1


def test_metrics_of_nothing_are_undefined_and_not_zero() -> None:
    (row,) = event_metrics([])
    assert row["falls"] == 0
    assert row["sensitivity"] is row["f1"] is row["false_alarms_per_hour"] is None


def test_the_threshold_lies_in_the_middle_of_the_gap() -> None:
    videos = [scored_video(n, 0.9, falls=True) for n in range(3)]
    videos += [scored_video(n, 0.1, falls=False) for n in range(3, 6)]
    threshold = choose_threshold(videos, AT_ONCE)
    assert threshold == pytest.approx(0.5, abs=0.05)
    assert all(not outcome(v, EventSettings(threshold)).matching.false_alarms for v in videos)


def test_the_threshold_keeps_to_a_limit_on_false_alarms() -> None:
    videos = [scored_video(n, peak, falls=True) for n, peak in enumerate((0.4, 0.45, 0.5, 0.9))]
    videos += [scored_video(9, 0.6, falls=False)]
    free = choose_threshold(videos, AT_ONCE)
    limited = choose_threshold(videos, AT_ONCE, max_false_alarms_per_hour=1.0)
    assert free < 0.4
    assert 0.6 < limited < 0.9


def test_a_missed_fall_may_weigh_more_than_a_false_alarm() -> None:
    falls = [scored_video(n, peak, falls=True) for n, peak in enumerate((0.3, 0.35, 0.9, 0.95))]
    calm = [scored_video(10 + n, 0.5 + n / 100, falls=False) for n in range(5)]
    chosen = {
        cost: choose_threshold([*falls, *calm], AT_ONCE, missed_cost=cost) for cost in (1.0, 4.0)
    }
    # Two falls more for five false alarms: a bad bargain one for one, a good one at four to one.
    assert 0.54 < chosen[1.0] < 0.9
    assert chosen[4.0] < 0.3
    (point,) = operating_curve([*falls, *calm], AT_ONCE, [chosen[4.0]])
    assert point.f(4.0) == pytest.approx(5 * 4 / (5 * 4 + 5))
    assert point.f(1.0) == point.f1


def test_without_a_fall_there_is_nothing_to_choose_by() -> None:
    assert (
        choose_threshold([scored_video(0, 0.9, falls=False)], EventSettings(), default=0.7) == 0.7
    )


@given(st.lists(st.tuples(st.floats(0.02, 0.98), st.booleans()), min_size=1, max_size=12))
def test_a_higher_threshold_never_finds_more(peaks: list[tuple[float, bool]]) -> None:
    videos = [scored_video(n, peak, falls=falls) for n, (peak, falls) in enumerate(peaks)]
    curve = operating_curve(videos, AT_ONCE)
    for low, high in pairwise(curve):
        assert low.found >= high.found
    best = max(point.f1 or 0 for point in curve)
    chosen = choose_threshold(videos, AT_ONCE)
    at = operating_curve(videos, AT_ONCE, [chosen])[0]
    assert (at.f1 or 0) == pytest.approx(best) or not any(falls for _, falls in peaks)


def test_thresholds_are_even_in_log_odds_and_symmetric() -> None:
    grid = threshold_grid(5)
    assert grid[0] == pytest.approx(0.01)
    assert grid[2] == pytest.approx(0.5)
    assert grid[4] == pytest.approx(0.99)
    assert grid[1] + grid[3] == pytest.approx(1)


@given(st.lists(st.floats(-5, 20), min_size=1, max_size=30), st.floats(0, 1))
def test_percentiles_lie_between_the_ends(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found is not None
    assert min(values) - 1e-9 <= found <= max(values) + 1e-9
    assert percentile([], share) is None
