"""Drift is answered once, after the cool-down, never by a flicker."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.drift.retraining import DriftDay, Retraining, RetrainingSettings, decide

FIRST = date(2026, 3, 1)
EVENING = datetime(2026, 3, 1, 20, tzinfo=UTC)


def report(day: int, drift_id: str | None) -> DriftDay:
    return DriftDay(FIRST + timedelta(days=day), "3", drift_id is not None, drift_id, "it is dark")


def test_drift_starts_a_retraining_with_the_reason() -> None:
    decision = decide([report(0, None), report(1, "a")], [], RetrainingSettings(), EVENING)
    assert decision.start
    assert decision.drift_id == "a"
    assert decision.reason == "drift a on 2026-03-02: it is dark"


@pytest.mark.parametrize(
    ("reports", "reason"),
    [([], "no drift report yet"), ([report(0, "a"), report(1, None)], "no drift on 2026-03-02")],
)
def test_no_drift_today_starts_nothing(reports: list[DriftDay], reason: str) -> None:
    decision = decide(reports, [], RetrainingSettings(), EVENING)
    assert not decision.start
    assert decision.reason == reason


def test_drift_is_answered_once_however_long_it_stays() -> None:
    past = [Retraining("a", EVENING - timedelta(days=300))]
    decision = decide([report(0, "a")], past, RetrainingSettings(), EVENING)
    assert not decision.start
    assert "answered before" in decision.reason


def test_the_cool_down_says_how_long() -> None:
    past = [Retraining("a", EVENING - timedelta(days=1))]
    settings = RetrainingSettings(cooldown_days=3)
    waiting = decide([report(0, "b")], past, settings, EVENING)
    assert not waiting.start
    assert "waits until 2026-03-03 20:00 UTC" in waiting.reason
    assert decide([report(0, "b")], past, settings, EVENING + timedelta(days=2)).start


def test_a_flicker_is_not_confirmed() -> None:
    settings = RetrainingSettings(confirm_days=2)
    days = [report(0, "a"), report(1, None), report(2, "a")]
    assert "seen on 1 of 2 days" in decide(days, [], settings, EVENING).reason
    assert decide([*days, report(3, "a")], [], settings, EVENING).start


def test_the_week_s_limit_holds() -> None:
    settings = RetrainingSettings(cooldown_days=0, max_per_week=2)
    past = [Retraining(name, EVENING - timedelta(days=day)) for name, day in (("a", 1), ("b", 6))]
    assert not decide([report(0, "c")], past, settings, EVENING).start
    assert decide([report(0, "c")], past, settings, EVENING + timedelta(days=1)).start


def test_a_day_that_is_recomputed_counts_as_it_is_now() -> None:
    days = [report(0, "a"), report(0, None)]
    assert not decide(days, [], RetrainingSettings(), EVENING).start


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        decide([], [], RetrainingSettings(), datetime(2026, 3, 1))


@given(
    story=st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=40),
    ticks=st.integers(1, 4),
    cooldown=st.floats(0, 10),
    confirm=st.integers(1, 4),
    weekly=st.integers(0, 4),
)
def test_a_life_of_ticks_keeps_every_promise(
    story: list[str | None], ticks: int, cooldown: float, confirm: int, weekly: int
) -> None:
    settings = RetrainingSettings(cooldown, confirm, weekly)
    reports: list[DriftDay] = []
    started: list[Retraining] = []
    for number, drift_id in enumerate(story):
        reports.append(report(number, drift_id))
        for tick in range(ticks):
            now = EVENING + timedelta(days=number, hours=tick)
            decision = decide(list(reversed(reports)), started, settings, now)
            assert decision.reason
            if decision.start:
                assert decision.drift_id == drift_id
                assert story[max(0, number - confirm + 1) : number + 1] == [drift_id] * confirm
                started.append(Retraining(str(drift_id), now))
    ids = [past.drift_id for past in started]
    assert len(ids) == len(set(ids))
    times = [past.started_utc for past in started]
    for earlier, later in pairwise(times):
        assert later - earlier >= timedelta(days=cooldown) - timedelta(microseconds=1)
    for moment in times:
        assert sum(timedelta(0) <= moment - other < timedelta(days=7) for other in times) <= weekly
    if cooldown == 0 and weekly == 4 and confirm == 1 and len(story) <= 7:
        assert set(ids) == {drift_id for drift_id in story if drift_id}
