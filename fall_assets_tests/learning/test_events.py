"""Scores become events, and events find falls."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.learning.events import (
    Event,
    EventMachine,
    EventSettings,
    Fall,
    match,
    to_events,
)

_SCORES = st.lists(st.floats(0, 1), max_size=80)
_TIMES = st.floats(0, 300)


def _times(count: int) -> list[float]:
    return [1.0 + 0.5 * number for number in range(count)]


def _fall(start_s: float, until_s: float = 0.0, name: str = "f") -> Fall:
    return Fall(name, start_s, start_s + 1, max(start_s + 1, until_s))


def _event(raised_s: float) -> Event:
    return Event(max(0.0, raised_s - 4), raised_s, raised_s, 0.9)


def test_an_event_lasts_until_the_score_falls_under_the_release() -> None:
    scores = [0.1, 0.9, 0.5, 0.35, 0.2, 0.1]
    settings = EventSettings(threshold=0.5, release_share=0.6, merge_gap_s=0.0)
    assert to_events(_times(6), scores, settings, 4.0) == [Event(0.0, 1.5, 2.5, 0.9)]


def test_two_raises_within_the_gap_are_one_event() -> None:
    scores = [0.9, 0.0, 0.0, 0.95] + [0.0] * 30 + [0.8]
    events = to_events(_times(35), scores, EventSettings(confirm=1, merge_gap_s=10.0), 4.0)
    assert [(event.raised_s, event.end_s, event.score) for event in events] == [
        (1.0, 2.5, 0.95),
        (18.0, 18.0, 0.8),
    ]


def test_confirmation_asks_for_scores_in_a_row() -> None:
    settings = EventSettings(confirm=2)
    assert not to_events(_times(4), [0.8, 0.1, 0.8, 0.1], settings, 4.0)
    (event,) = to_events(_times(4), [0.1, 0.8, 0.8, 0.1], settings, 4.0)
    assert event.raised_s == 2.0


def test_a_score_that_is_certain_needs_no_second() -> None:
    (event,) = to_events(_times(4), [0.1, 0.92, 0.1, 0.1], EventSettings(), 4.0)
    assert event.raised_s == 1.5
    assert not to_events(_times(4), [0.1, 0.92, 0.1, 0.1], EventSettings(certain=0.95), 4.0)
    # A threshold above it still has to be reached.
    assert not to_events(_times(4), [0.1, 0.92, 0.1, 0.1], EventSettings(threshold=0.95), 4.0)


def test_a_break_in_the_footage_ends_an_event() -> None:
    events = to_events([1.0, 1.5, 60.0], [0.9, 0.9, 0.9], EventSettings(), 4.0)
    assert [(event.raised_s, event.end_s) for event in events] == [(1.0, 1.5), (60.0, 60.0)]


@given(_SCORES, st.floats(0.05, 1), st.floats(0.1, 1), st.integers(1, 3), st.floats(0, 20))
def test_events_are_in_order_apart_and_over_the_threshold(
    scores: list[float], threshold: float, release: float, confirm: int, gap_s: float
) -> None:
    settings = EventSettings(threshold, release, confirm, merge_gap_s=gap_s)
    events = to_events(_times(len(scores)), scores, settings, 4.0)
    for event in events:
        assert 0 <= event.start_s <= event.raised_s <= event.end_s
        assert event.score >= threshold
    for before, after in pairwise(events):
        assert after.raised_s - before.end_s > gap_s


@given(_SCORES, st.floats(0.05, 1))
def test_there_is_an_event_exactly_where_a_score_reaches_the_threshold(
    scores: list[float], threshold: float
) -> None:
    settings = EventSettings(threshold, confirm=1)
    events = to_events(_times(len(scores)), scores, settings, 4.0)
    over = [t for t, score in zip(_times(len(scores)), scores, strict=True) if score >= threshold]
    assert bool(events) == bool(over)
    assert all(any(e.raised_s <= t <= e.end_s for e in events) for t in over)


@given(_SCORES, st.integers(0, 80))
def test_what_comes_later_does_not_change_what_was_raised(scores: list[float], cut: int) -> None:
    whole = to_events(_times(len(scores)), scores, EventSettings(), 4.0)
    part = to_events(_times(len(scores[:cut])), scores[:cut], EventSettings(), 4.0)
    raised = [event.raised_s for event in whole]
    assert [event.raised_s for event in part] == raised[: len(part)]


def test_times_must_rise_and_fit_the_scores() -> None:
    with pytest.raises(ValueError, match="rise"):
        to_events([1.0, 1.0], [0.1, 0.2], EventSettings(), 4.0)
    with pytest.raises(ValueError, match="scores"):
        to_events([1.0], [0.1, 0.2], EventSettings(), 4.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.2},
        {"certain": -0.1},
        {"release_share": 0.0},
        {"confirm": 0},
        {"merge_gap_s": -1.0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        EventSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raised_s", "until_s", "finds"),
    [(9.0, 0, True), (8.9, 0, False), (21.0, 0, True), (21.1, 0, False), (40.0, 40.0, True)],
)
def test_an_alarm_finds_a_fall_from_a_second_before_to_ten_after(
    raised_s: float, until_s: float, finds: bool
) -> None:
    matching = match([_event(raised_s)], [_fall(10.0, until_s)])
    assert bool(matching.found) == finds
    assert bool(matching.missed) == bool(matching.false_alarms) == (not finds)


def test_the_delay_runs_from_the_falls_start() -> None:
    assert match([_event(11.5)], [_fall(10.0)]).found[0].delay_s == pytest.approx(1.5)


def test_a_second_alarm_on_a_found_fall_is_not_false() -> None:
    matching = match([_event(11.0), _event(15.0)], [_fall(10.0)])
    assert len(matching.found) == len(matching.repeated) == 1
    assert not matching.false_alarms


@given(st.lists(_TIMES, max_size=12), st.lists(_TIMES, max_size=6))
def test_every_fall_and_every_alarm_is_counted_once(
    alarms: list[float], starts: list[float]
) -> None:
    falls = [_fall(start, name=str(number)) for number, start in enumerate(starts)]
    events = [_event(raised) for raised in alarms]
    matching = match(events, falls)
    assert len(matching.found) + len(matching.missed) == len(falls)
    alarms_counted = len(matching.found) + len(matching.repeated) + len(matching.false_alarms)
    assert alarms_counted == len(events)
    assert sorted(f.event_id for f in [x.fall for x in matching.found] + [*matching.missed]) == (
        sorted(fall.event_id for fall in falls)
    )


@given(st.lists(_TIMES, max_size=5, unique=True), st.lists(_TIMES, max_size=5))
def test_as_many_falls_as_possible_are_found(alarms: list[float], starts: list[float]) -> None:
    falls = [_fall(start, name=str(number)) for number, start in enumerate(starts)]
    found = len(match([_event(raised) for raised in alarms], falls).found)
    assert found == _largest_matching(alarms, falls)


def _largest_matching(alarms: list[float], falls: list[Fall]) -> int:
    """The same by trying every choice."""
    if not alarms:
        return 0
    first, rest = alarms[0], alarms[1:]
    best = _largest_matching(rest, falls)
    for fall in falls:
        if fall.opens_s <= first <= fall.closes_s:
            best = max(best, 1 + _largest_matching(rest, [f for f in falls if f is not fall]))
    return best


@given(_SCORES, st.floats(0.05, 1), st.floats(0.1, 1), st.integers(1, 3), st.floats(0, 20))
def test_score_by_score_gives_the_same_events(
    scores: list[float], threshold: float, release: float, confirm: int, gap_s: float
) -> None:
    settings = EventSettings(threshold, release, confirm, merge_gap_s=gap_s)
    times = [time_s + 30 * (number >= 40) for number, time_s in enumerate(_times(len(scores)))]
    machine, raised, finals = EventMachine(settings, 4.0), [], []
    for time_s, score in zip(times, scores, strict=True):
        # A copy goes its own way.
        machine.copy().step(time_s, 1.0)
        before = machine.newest
        event = machine.step(time_s, score)
        if event is not None:
            raised.append((event.start_s, event.raised_s))
            assert event.raised_s == event.end_s == time_s
            assert event.score == score
            finals += [] if before is None else [before]
    finals += [] if machine.newest is None else [machine.newest]
    events = to_events(times, scores, settings, 4.0)
    assert finals == events
    assert raised == [(event.start_s, event.raised_s) for event in events]
