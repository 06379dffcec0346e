"""From scores to events, and from events to found and missed falls. Pure.

What belongs here: the rule by which scores become one alarm per fall, and the rule by which an
alarm counts as right. What does not: rates and intervals (`metrics`), where scores come from.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

EARLY_S = 1.0
"""An alarm this long before a labelled fall still finds it: labels are about that exact."""
LATE_S = 10.0
"""An alarm this long after a fall's end still finds it."""


@dataclass(frozen=True)
class EventSettings:
    """When scores become an event.

    An event is raised by `confirm` scores in a row at or over `threshold`, or by one that is at
    least `certain` as well: what looks like a fall for a moment only (somebody at the picture's
    edge, a glitch of the pose network) seldom looks so twice, and never much. It lasts while scores
    stay at or over `release_share` of the threshold and no window's length is missing. Two
    raises less than `merge_gap_s` apart are one event: a person who lies on the floor and moves
    is not a second fall.
    """

    threshold: float = 0.5
    release_share: float = 0.6
    confirm: int = 2
    certain: float = 0.9
    merge_gap_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}, wanted a share from 0 to 1")
        if not 0 <= self.certain <= 1:
            raise ValueError(f"certain is {self.certain}, wanted a share from 0 to 1")
        if not 0 < self.release_share <= 1:
            raise ValueError(f"release_share is {self.release_share}, wanted over 0 and up to 1")
        if self.confirm < 1 or self.merge_gap_s < 0:
            raise ValueError("confirm must be at least 1 and merge_gap_s at least 0")


@dataclass(frozen=True)
class Event:
    """One alarm, in seconds: the fall lies after `start_s`, the alarm went off at `raised_s`.

    `score` is the highest score of the event.
    """

    start_s: float
    raised_s: float
    end_s: float
    score: float


@dataclass(frozen=True)
class Fall:
    """One labelled fall in one segment; the person is known to lie until `until_s`."""

    event_id: str
    start_s: float
    end_s: float
    until_s: float

    @property
    def opens_s(self) -> float:
        """The earliest alarm that finds it."""
        return self.start_s - EARLY_S

    @property
    def closes_s(self) -> float:
        """The latest alarm that finds it."""
        return max(self.end_s + LATE_S, self.until_s)


@dataclass(frozen=True)
class Found:
    """A fall and the alarm that found it."""

    fall: Fall
    event: Event

    @property
    def delay_s(self) -> float:
        """From the fall's labelled start to the alarm; negative where the alarm came first."""
        return self.event.raised_s - self.fall.start_s


@dataclass(frozen=True)
class Matching:
    """What became of each fall and each alarm; every one of them stands in one place only."""

    found: tuple[Found, ...] = ()
    missed: tuple[Fall, ...] = ()
    repeated: tuple[Event, ...] = ()
    false_alarms: tuple[Event, ...] = ()


class EventMachine:
    """The rule by which scores become events, score by score.

    It remembers the newest event only, so that it may run for ever.
    """

    def __init__(self, settings: EventSettings, window_s: float) -> None:
        """`window_s`: length of a window; see `to_events`."""
        self._settings = settings
        self._window_s = window_s
        self._release = settings.threshold * settings.release_share
        self._run = 0
        self._first_s = 0.0
        self._previous_s = -math.inf
        self._is_lasting = False
        self._newest: Event | None = None

    @property
    def newest(self) -> Event | None:
        """The newest event as it stands by now; later scores may still lengthen it."""
        return self._newest

    def copy(self) -> EventMachine:
        """Another one that has seen the same scores."""
        return copy.copy(self)

    def step(self, end_s: float, score: float) -> Event | None:
        """Take the next window's score; the event that it has raised, if it has.

        Raises:
            ValueError: where the time does not rise.
        """
        if end_s <= self._previous_s:
            raise ValueError(f"times must rise: {end_s} after {self._previous_s}")
        if end_s - self._previous_s > self._window_s:  # a hole in the footage
            self._is_lasting = False
        self._previous_s = end_s
        settings, last = self._settings, self._newest
        self._run = self._run + 1 if score >= settings.threshold else 0
        if self._run == 1:
            self._first_s = end_s
        raised = self._run >= settings.confirm or (self._run > 0 and score >= settings.certain)
        if last is not None and (
            (self._is_lasting and score >= self._release)
            or (raised and end_s - last.end_s <= settings.merge_gap_s)
        ):
            self._newest = Event(last.start_s, last.raised_s, end_s, max(last.score, score))
            self._is_lasting = True
            return None
        self._is_lasting = raised
        if not raised:
            return None
        self._newest = Event(max(0.0, self._first_s - self._window_s), end_s, end_s, score)
        return self._newest


def to_events(
    end_s: Sequence[float],
    score: Sequence[float],
    settings: EventSettings,
    window_s: float,
) -> list[Event]:
    """Scores of windows, in order of time, as events.

    Args:
        end_s: ends of the windows in seconds, strictly rising.
        score: one per window, 0 to 1.
        settings: when an event is raised, lasts and is merged.
        window_s: length of a window; an event starts where the window that first scored over
            the threshold starts, but not before 0.

    Raises:
        ValueError: where the lengths differ or the times do not rise.
    """
    if len(end_s) != len(score):
        raise ValueError(f"{len(end_s)} times and {len(score)} scores")
    machine = EventMachine(settings, window_s)
    events: list[Event] = []
    for now, value in zip(end_s, score, strict=True):
        if machine.step(now, value) is not None:
            events.append(cast("Event", machine.newest))
        elif events:
            events[-1] = cast("Event", machine.newest)
    return events


def match(events: Sequence[Event], falls: Sequence[Fall]) -> Matching:
    """Which alarms found which falls.

    An alarm raised from `EARLY_S` before a fall until `LATE_S` after its end (or for as long as
    the person is known to lie) finds it. Each alarm finds one fall at most, the one whose time
    runs out first, so that as many falls as possible count as found. A further alarm on a fall
    that is found is `repeated`, not false. Every other alarm is false, whether that moment
    of the footage is labelled or not.
    """
    waiting = sorted(falls, key=lambda fall: (fall.closes_s, fall.start_s, fall.event_id))
    found: list[Found] = []
    repeated: list[Event] = []
    false_alarms: list[Event] = []
    for event in sorted(events, key=lambda event: (event.raised_s, event.end_s)):
        open_falls = [fall for fall in waiting if fall.opens_s <= event.raised_s <= fall.closes_s]
        if open_falls:
            waiting.remove(open_falls[0])
            found.append(Found(open_falls[0], event))
        elif any(fall.opens_s <= event.raised_s <= fall.closes_s for fall in falls):
            repeated.append(event)
        else:
            false_alarms.append(event)
    missed = sorted(waiting, key=lambda fall: (fall.start_s, fall.event_id))
    return Matching(tuple(found), tuple(missed), tuple(repeated), tuple(false_alarms))
