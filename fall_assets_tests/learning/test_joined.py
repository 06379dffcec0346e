"""Segments of a camera that follow each other are judged as one stretch of footage."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.events import EventSettings, Fall
from fall_assets.learning.metrics import (
    Interval,
    ScoredVideo,
    VideoOutcome,
    event_metrics,
    joined,
    operating_curve,
    operating_point,
    outcome,
)
from fall_assets_tests.learning.people import tables

LENGTH_S = 30.0
NOON = 1_000_000.0


def part(
    number: int,
    *,
    falls: tuple[Fall, ...] = (),
    labels: tuple[Interval, ...] = (),
    alarms: tuple[float, ...] = (),
    camera: str = "cam-1",
    gap_s: float = 0.0,
) -> VideoOutcome:
    """Segment `number` of a camera; scores are high where a window ends at one of `alarms`."""
    ends = tuple(1.0 + 0.5 * step for step in range(59))
    video = ScoredVideo(
        f"{camera}-{number}",
        camera,
        "site",
        "room",
        LENGTH_S,
        4.0,
        falls,
        labels,
        ends,
        tuple(0.9 if end in alarms else 0.0 for end in ends),
        NOON + number * (LENGTH_S + gap_s),
    )
    return outcome(video, EventSettings(0.5))


def counts(outcomes: list[VideoOutcome]) -> tuple[int, int, int]:
    row = event_metrics(outcomes)[0]
    return int(row["falls"] or 0), int(row["found"] or 0), int(row["false_alarms"] or 0)


FIRST = (Fall("e", 29.0, 30.0, 30.0),)
REST = (Fall("e", 0.0, 0.6, 5.0),)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((), (), (1, 0, 0)),
        ((30.0,), (), (1, 1, 0)),
        ((), (2.0,), (1, 1, 0)),
        ((29.5,), (2.0,), (1, 1, 0)),
        ((), (25.0,), (1, 0, 1)),
    ],
)
def test_a_fall_in_two_segments_counts_once(
    before: tuple[float, ...], after: tuple[float, ...], expected: tuple[int, int, int]
) -> None:
    outcomes = [part(0, falls=FIRST, alarms=before), part(1, falls=REST, alarms=after)]
    assert counts(outcomes) == expected
    assert counts(outcomes[::-1]) == expected


def test_the_delay_counts_from_where_the_fall_began() -> None:
    found = joined([part(0, falls=FIRST), part(1, falls=REST, alarms=(2.0,))])
    # It stands with the segment that it starts in, on that segment's clock.
    (hit,) = found[0].matching.found
    assert hit.fall.start_s == 29.0
    assert hit.event.raised_s == 32.0
    assert hit.delay_s == 3.0
    assert (found[1].matching.found, found[1].matching.missed) == ((), ())


def test_other_events_other_cameras_and_gaps_are_not_joined() -> None:
    other = (Fall("f", 0.0, 0.6, 5.0),)
    assert counts([part(0, falls=FIRST), part(1, falls=other)])[0] == 2
    assert counts([part(0, falls=FIRST), part(1, falls=REST, camera="cam-2")])[0] == 2
    assert counts([part(0, falls=FIRST), part(1, falls=REST, gap_s=2.5)])[0] == 2
    unknown = [replace(item.video, start_s=None) for item in (part(0, falls=FIRST), part(1))]
    both = [outcome(video, EventSettings(0.5)) for video in unknown]
    assert joined(both) == both


def test_a_late_alarm_in_the_next_segment_finds_the_fall_before_it() -> None:
    end = (Fall("e", 27.0, 29.0, 29.0),)
    assert counts([part(0, falls=end), part(1, alarms=(4.0,))]) == (1, 1, 0)
    assert counts([part(0, falls=end), part(1, alarms=(20.0,))]) == (1, 0, 1)
    # Who is labelled to lie there still is no false alarm, however late.
    lying = (Interval(0.0, 30.0, "lying_after_fall"),)
    assert counts([part(0, falls=end), part(1, labels=lying, alarms=(20.0,))]) == (1, 1, 0)
    longer = [part(0, falls=end), part(1, labels=lying), part(2, labels=lying, alarms=(9.0,))]
    assert counts(longer) == (1, 1, 0)


def test_an_alarm_that_goes_on_is_one_alarm() -> None:
    going_on = [part(0, alarms=(29.0, 29.5, 30.0)), part(1, alarms=(1.0, 1.5))]
    assert counts(going_on) == (0, 0, 1)
    joint = joined(going_on)
    (alarm,) = joint[0].matching.false_alarms
    assert (alarm.raised_s, alarm.end_s) == (29.0, 31.5)
    assert joint[1].matching.false_alarms == ()
    assert counts([part(0, alarms=(5.0,)), part(1, alarms=(5.0,))]) == (0, 0, 2)


def test_the_curve_counts_it_once_as_well() -> None:
    outcomes = [part(0, falls=FIRST), part(1, falls=REST, alarms=(2.0,))]
    (point,) = operating_curve([o.video for o in outcomes], EventSettings(), [0.5])
    assert (point.falls, point.found, point.false_alarms) == (1, 1, 0)


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.lists(st.sampled_from([1.0, 2.0, 9.0, 16.0, 29.0, 30.0]), unique=True, max_size=4),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_to_join_twice_changes_nothing_and_loses_no_fall(
    drawn: list[tuple[bool, list[float]]],
) -> None:
    outcomes = [
        part(n, falls=(Fall(f"e{n}", 14.0, 15.0, 15.0),) if fall else (), alarms=tuple(alarms))
        for n, (fall, alarms) in enumerate(drawn)
    ]
    once = joined(outcomes)
    assert joined(once) == once
    point = operating_point(once, 0.5)
    assert point.falls == sum(fall for fall, _ in drawn)
    alarms = sum(
        len(o.matching.found) + len(o.matching.repeated) + len(o.matching.false_alarms)
        for o in once
    )
    assert alarms <= sum(len(o.events) for o in outcomes)


def test_segments_of_a_learning_set_know_when_they_start() -> None:
    frames = tables(videos=6, folds=3)
    learning_set = LearningSet.from_tables(**frames)
    for row in frames["videos"].iter_rows(named=True):
        truth = learning_set.truths[row["video_id"]]
        assert truth.start_s == row["start_utc"].timestamp()
        assert truth.scored([1.0], [0.5]).start_s == truth.start_s
