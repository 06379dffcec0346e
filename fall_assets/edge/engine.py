"""From the pictures of one stream, in order, to scores and alarms, while it goes on.

What belongs here: sampling, following people, scoring and the rule that raises alarms, each exactly
as the platform does it for a file, but sample by sample and in memory that does not grow. What does
not: packets and the motion gate (`watcher`), the networks (`model`), delivering alarms (`outbox`).

**Hindsight.** The platform sees the whole file: who was seen weakly at first and is believed later
counts from the first sight on. Here the earlier moments are scored when a person is believed, and
the events are told again from there. So an alarm may be known later than it was raised, and all
scores are in the end those of the platform.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fall_assets.delivery.kinds import AFTER_S, BEFORE_S, Kind, kind_of
from fall_assets.edge.model import EdgeModel, PosePool
from fall_assets.features.crop import Crop
from fall_assets.features.people import People
from fall_assets.features.pictures import PictureMaker
from fall_assets.features.sampling import SampleClock
from fall_assets.features.tracking import Tracker
from fall_assets.learning.algorithms.base import Scores
from fall_assets.learning.events import Event, EventMachine
from fall_assets.learning.windows import (
    KEY_POINTS,
    Floats,
    Halves,
    WindowSettings,
    scored_end,
    scored_ends,
    seen,
)

if TYPE_CHECKING:
    from av import VideoFrame

REMEMBER_S = 600.0
"""Somebody who is seen weakly for longer than this before they are believed counts from so long
before on; the platform counts them from the first sight on, but also remembers whole segments."""

_BATCH = 256
_TINY_S = 1e-9


@dataclass(frozen=True)
class Alarm:
    """An event that was just raised; seconds of the stream's own clock (from its first frame).

    Attributes:
        start_s: the fall lies after it.
        raised_s: end of the window that raised it; at most one sample after what it saw.
        known_s: of the frame with which it became known; later than `raised_s` by seconds where
            somebody was believed in hindsight, earlier by less than a sample otherwise, as a window
            reaches to the end of its last sample.
        score: of the window that raised it.
        kind: by what is known at that moment: an alarm does not wait for what a person does next.
        keypoints: (people, 17, 3) in the newest picture, as shares of the part that is looked at, 0
            where somebody was not seen in it; None where nobody is followed.
    """

    start_s: float
    raised_s: float
    known_s: float
    score: float
    kind: Kind
    keypoints: NDArray[np.float32] | None


class StreamEngine:
    """One stream's pictures in, alarms out; for one thread at a time.

    What is looked at comes in stretches, as the motion gate lets it through: `begin`, `look` at
    every decoded frame, `end`. Nothing is carried from one stretch into the next. Memory is bounded
    but where `keep_scores` asks for all scores.
    """

    def __init__(
        self,
        model: EdgeModel,
        pool: PosePool,
        *,
        crop: Crop,
        beds: Sequence[ArrayLike] = (),
        keep_scores: bool = False,
    ) -> None:
        """`crop` is the camera's, `beds` are outlines (corners, 2) in shares of the whole picture.

        With `keep_scores` every score is kept, and whatever else it takes to be exact for ever.
        """
        info = model.info
        self._model, self._pool = model, pool
        self._windows, self._features = info.windows, info.features
        self._hz = info.windows.rate_hz
        looked_at = info.features.picture.crop.inside(crop)
        self._beds = [_inside(bed, looked_at) for bed in beds]
        self._pictures = PictureMaker(crop)
        self._clock = SampleClock(info.features.sample_hz, info.features.max_wait_s)
        self._tracker: Tracker | None = None
        self._is_open = False
        self._known = 0  # samples below it are as they will be, but for whom they belong to
        self._time_s = 0.0
        self._aspect = 0.0
        self._people: dict[tuple[int, int], _Person] = {}
        self._live: set[tuple[int, int]] = set()
        self._newest_first = -1
        self._stretch = 0
        self._history = _History(info.windows, EventMachine(info.events, info.windows.window_s))
        self._kept: _Kept | None = _Kept() if keep_scores else None
        self._remember = (
            None if keep_scores else max(round(REMEMBER_S * self._hz), info.windows.samples)
        )
        self._needed = info.windows.samples + round((BEFORE_S[0] + AFTER_S[1]) * self._hz)
        self.samples = 0
        self.sightings = 0
        self.pose_s = 0.0
        self.head_s = 0.0

    @property
    def scores(self) -> Scores:
        """All scores so far, where they are kept; those of the newest seconds may still rise.

        Raises ValueError where they are not.
        """
        if self._kept is None:
            raise ValueError("scores are kept where the engine was made with keep_scores=True")
        return self._kept.scores(self._history)

    @property
    def event_until_s(self) -> float | None:
        """How far the newest event lasts by what is known now; None before the first."""
        return self._history.event_until_s

    def begin(self, start_s: float) -> None:
        """A stretch begins: no sample before `start_s` is taken any more."""
        self._clock.skip_to(start_s)
        self._is_open, self._tracker = True, None
        self._stretch += 1
        self.sightings = 0

    def look(self, time_s: float, frame: VideoFrame) -> list[Alarm]:
        """Take the next frame of the stretch; `time_s` must grow from frame to frame."""
        if not self._is_open:
            raise ValueError("begin a stretch before looking at its frames")
        self._time_s = time_s
        if not self._aspect:
            self._aspect = self._pictures.aspect(frame, self._features.picture.crop)
        served = self._clock.serve(time_s)
        if not served:
            return []
        picture = self._pictures.picture(frame, self._features.picture)
        people = self._find(picture)
        self.sightings += len(people) > 0
        self.samples += 1
        if self._tracker is None:
            self._known = max(self._known, served.start)
            self._tracker = Tracker(
                self._features.pose.tracker,
                self._aspect,
                sample_hz=self._hz,
                first=self._known,
                keep=False,
            )
        alarms: list[Alarm] = []
        for sample in range(self._known, served.stop):
            shown = people if sample >= served.start else People.nobody()
            alarms += self._step(self._tracker, sample, shown)
        return alarms

    def end(self) -> list[Alarm]:
        """The stretch ends; moments at which somebody is still in view are scored."""
        return self._end(math.inf)

    def _end(self, limit: float) -> list[Alarm]:
        self._is_open, self._tracker = False, None
        self._people = {key: one for key, one in self._people.items() if one.counts}
        reach = self._windows.in_view or self._windows.samples
        last = max((one.last + reach for one in self._people.values()), default=0)
        alarms = self._score_until(int(min(last, limit)))
        self._settle()
        return alarms

    def turn(self, frame: VideoFrame) -> None:
        """From the next stretch on pictures have the shape of this one."""
        self._aspect = self._pictures.aspect(frame, self._features.picture.crop)

    def idle_until(self, time_s: float) -> list[Alarm]:
        """Between stretches: nothing before that moment will be looked at any more."""
        self._time_s = max(self._time_s, time_s)
        until = math.floor(time_s * self._hz)
        if self._is_open or until <= self._known:
            return []
        self._known = until
        alarms = self._score_until(until)
        self._settle()
        return alarms

    def finish(self, duration_s: float) -> list[Alarm]:
        """The stream has ended, so long after its first frame: score its last moments.

        Nothing can be looked at afterwards.
        """
        ends = scored_ends(duration_s, self._windows)
        whole = int(duration_s * self._hz + 1e-6)
        alarms = self._end(whole)
        alarms += self._score_until(whole)
        last_s = ends[-1] if ends else 0.0
        # A sample may be there before its time is over, and the stream have ended amid it.
        self._history.take_back(last_s)
        if last_s > self._history.last_end_s + _TINY_S:
            alarms += self._score([last_s])
        if self._kept is not None:
            self._kept.limit_s = last_s
        return alarms

    def glance(self, frame: VideoFrame) -> bool:
        """Look at a single picture of closed time; whether somebody may be in it."""
        if not self._aspect:
            self._aspect = self._pictures.aspect(frame, self._features.picture.crop)
        return len(self._find(self._pictures.picture(frame, self._features.picture))) > 0

    def counts_since(self, time_s: float) -> bool:
        """Whether somebody is believed who came at that moment or later, as far as is known."""
        first = math.ceil((time_s - 5e-4) * self._hz)
        return self._newest_first >= first

    def _find(self, picture: NDArray[np.uint8]) -> People:
        started = time.thread_time()
        with self._pool.borrow(picture.shape) as network:
            people = network.people(picture)
        self.pose_s += time.thread_time() - started
        return people

    def _step(self, tracker: Tracker, sample: int, people: People) -> list[Alarm]:
        """Sample number `sample` is there."""
        tracker.step(people)
        self._known = sample + 1
        alarms: list[Alarm] = []
        live = set()
        for one in tracker.followed():
            key = (self._stretch, one.number)
            live.add(key)
            person = self._people.get(key)
            if person is None:
                person = self._people[key] = _Person(one.first)
            if one.keypoints is not None:
                person.take(sample, one.keypoints, self._limit(person.counts))
            if one.counts and not person.counts:
                person.counts = True
                self._newest_first = max(self._newest_first, one.first)
                alarms += self._score_again(key, person)
        self._live = live
        self._forget()
        alarms += self._score_until(self._known)
        self._settle()
        return alarms

    def _limit(self, counts: bool) -> int | None:
        return self._needed if counts else self._remember

    def _forget(self) -> None:
        """Let go of whom no window that is still to be scored can hold."""
        begins = self._history.next_sample - self._windows.samples
        self._people = {
            key: one
            for key, one in self._people.items()
            if key in self._live or (one.counts and one.last >= begins)
        }

    def _score_until(self, known: int) -> list[Alarm]:
        """Score the moments whose last sample is below `known`."""
        ends = self._history.ends_until(known)
        alarms: list[Alarm] = []
        for at in range(0, len(ends), _BATCH):
            alarms += self._score(ends[at : at + _BATCH])
        return alarms

    def _score(self, ends: Sequence[float]) -> list[Alarm]:
        windows: list[Floats] = []
        whose: list[tuple[int, tuple[int, int]]] = []
        for place, end_s in enumerate(ends):
            last = round(end_s * self._hz)
            for key, one in self._people.items():
                window = one.window(last, self._windows) if one.counts else None
                if window is not None:
                    windows.append(window)
                    whose.append((place, key))
        best: list[tuple[float, tuple[int, int] | None]] = [(0.0, None)] * len(ends)
        for (place, key), value in zip(whose, self._head(windows), strict=True):
            if best[place][1] is None or value > best[place][0]:
                best[place] = (value, key)
        alarms = []
        for end_s, (value, who) in zip(ends, best, strict=True):
            event = self._history.add(end_s, value, who)
            if event is not None:
                alarms += self._alarm(event, who)
        return alarms

    def _score_again(self, key: tuple[int, int], person: _Person) -> list[Alarm]:
        """Somebody counts from now on: score the moments at which they were seen already."""
        windows: list[Floats] = []
        moments: list[_Moment] = []
        for moment in self._history.moments:
            window = person.window(round(moment.end_s * self._hz), self._windows)
            if window is not None:
                windows.append(window)
                moments.append(moment)
        has_changed = False
        for moment, value in zip(moments, self._head(windows), strict=True):
            if moment.who is None or value > moment.score:
                moment.score, moment.who = value, key
                has_changed = True
        if not has_changed:
            return []
        alarms: list[Alarm] = []
        for event, who in self._history.tell_again():
            alarms += self._alarm(event, who)
        return alarms

    def _head(self, windows: Sequence[Floats]) -> list[float]:
        if not windows:
            return []
        started = time.thread_time()
        aspect = np.full(len(windows), self._aspect, np.float32)
        scores: list[float] = self._model.score_windows(np.stack(windows), aspect).tolist()
        self.head_s += time.thread_time() - started
        return scores

    def _alarm(self, event: Event, who: tuple[int, int] | None) -> list[Alarm]:
        if not self._history.is_new(event):
            return []
        person = self._people.get(who) if who is not None else None
        kind: Kind = "fall"
        if person is not None and self._beds:
            points, first = person.all()
            times = (first + np.arange(len(points))) / self._hz
            kind = kind_of(points, times, event.raised_s, self._beds, aspect=self._aspect)
        shown = [
            one.at(self._known - 1)
            for key, one in self._people.items()
            if one.counts and key in self._live
        ]
        keypoints = np.stack(shown) if shown else None
        return [Alarm(event.start_s, event.raised_s, self._time_s, event.score, kind, keypoints)]

    def _settle(self) -> None:
        """Let go of moments whose scores are final."""
        hopes = [one.whole_from(self._windows) for one in self._people.values() if not one.counts]
        self._history.settle(min([self._known, *hopes]), self._kept)


class _Person:
    """One person's key points in half precision, as the lake has them; the newest only."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.last = first
        self.counts = False
        self._begin = first  # the sample in row 0
        self._rows: Halves = np.zeros((64, KEY_POINTS, 3), np.float16)

    def whole_from(self, settings: WindowSettings) -> int:
        """Windows that end after this sample can be scored as if nothing had been forgotten."""
        return self.first if self._begin == self.first else self._begin + settings.samples

    def take(self, sample: int, keypoints: Floats, limit: int | None) -> None:
        """They were seen in a sample; at least `limit` samples are remembered."""
        if limit is not None and sample - self._begin >= 2 * limit:
            self._move(sample - limit + 1, max(2 * limit, 64))
        if sample - self._begin >= len(self._rows):
            self._move(self._begin, max(2 * len(self._rows), sample - self._begin + 1))
        self._rows[sample - self._begin] = keypoints
        self.last = sample

    def _move(self, begin: int, size: int) -> None:
        rows = np.zeros((size, KEY_POINTS, 3), np.float16)
        kept = self._rows[begin - self._begin : self.last + 1 - self._begin]
        rows[: len(kept)] = kept
        self._rows, self._begin = rows, begin

    def window(self, end: int, settings: WindowSettings) -> Floats | None:
        """The window of samples up to, and without, `end`; None where it is not scored.

        As `windows.window_at` and `Detector.scores` have it.
        """
        first, length = end - settings.samples, self.last + 1 - self._begin
        begin, stop = max(first - self._begin, 0), min(end - self._begin, length)
        if stop - begin < settings.min_seen:
            return None
        window = np.zeros((settings.samples, KEY_POINTS, 3), np.float32)
        offset = begin + self._begin - first
        window[offset : offset + stop - begin] = self._rows[begin:stop]
        visible = seen(window)
        if settings.in_view and not visible[-settings.in_view :].any():
            return None
        return window if visible.sum() >= settings.min_seen else None

    def all(self) -> tuple[Floats, int]:
        """All that is remembered (samples, 17, 3), and the number of the first sample."""
        rows = self._rows[: self.last + 1 - self._begin].astype(np.float32)
        return rows, self._begin

    def at(self, sample: int) -> Floats:
        """Key points (17, 3) in one sample, 0 where they were not seen."""
        if not self._begin <= sample <= self.last:
            return np.zeros((KEY_POINTS, 3), np.float32)
        row: Floats = self._rows[sample - self._begin].astype(np.float32)
        return row


@dataclass
class _Moment:
    """A scored moment whose score may still rise."""

    end_s: float
    score: float
    who: tuple[int, int] | None


class _History:
    """Scored moments in order, and the events of them.

    `moments` are those whose scores may still change; older ones are in the machine's state only.
    """

    def __init__(self, windows: WindowSettings, machine: EventMachine) -> None:
        self._windows = windows
        self._settled = machine  # has seen what is older than `moments`
        self._ahead = machine.copy()  # has seen all
        self._next = 0
        self._raised: deque[float] = deque()
        self.moments: deque[_Moment] = deque()
        self.last_end_s = self._settled_s = -math.inf

    @property
    def event_until_s(self) -> float | None:
        """End of the newest event; None before the first."""
        newest = self._ahead.newest
        return None if newest is None else newest.end_s

    @property
    def next_sample(self) -> int:
        """Where the window of the next scored moment ends."""
        return round(scored_end(self._next, self._windows) * self._windows.rate_hz)

    def ends_until(self, known: int) -> list[float]:
        """Moments that come next and whose windows end at sample `known` or before."""
        ends: list[float] = []
        while self.next_sample <= known:
            ends.append(scored_end(self._next, self._windows))
            self._next += 1
        return ends

    def add(self, end_s: float, score: float, who: tuple[int, int] | None) -> Event | None:
        """The next moment's score; the event that it has raised."""
        self.moments.append(_Moment(end_s, score, who))
        self.last_end_s = end_s
        return self._ahead.step(end_s, score)

    def take_back(self, last_s: float) -> None:
        """Forget what lies after `last_s`, before which the stream has ended."""
        while self.moments and self.moments[-1].end_s > last_s + _TINY_S:
            self.moments.pop()
            self.last_end_s = self.moments[-1].end_s if self.moments else self._settled_s
        self.tell_again()

    def tell_again(self) -> list[tuple[Event, tuple[int, int] | None]]:
        """Events that the moments raise by the scores they have now, and whose they are."""
        self._ahead = self._settled.copy()
        events: list[tuple[Event, tuple[int, int] | None]] = []
        for moment in self.moments:
            raised = self._ahead.step(moment.end_s, moment.score)
            newest = self._ahead.newest
            if raised is not None:
                events.append((raised, moment.who))
            elif events and newest is not None:
                events[-1] = (newest, events[-1][1])
        return events

    def is_new(self, event: Event) -> bool:
        """Whether no alarm has told of an event; it counts as told from now on."""
        if any(event.raised_s <= raised_s <= event.end_s for raised_s in self._raised):
            return False
        self._raised.append(event.raised_s)
        return True

    def settle(self, open_from: int, kept: _Kept | None) -> None:
        """No score of a window that ends at sample `open_from` or before changes any more."""
        # The newest moment stays: the stream may turn out to have ended before it.
        while len(self.moments) > 1:
            first = self.moments[0]
            if round(first.end_s * self._windows.rate_hz) > open_from:
                break
            self._settled.step(first.end_s, first.score)
            self.moments.popleft()
            self._settled_s = first.end_s
            if kept is not None:
                kept.add(first)
        if len(self._raised) > 1 and self.moments:
            oldest = self.moments[0].end_s
            while len(self._raised) > 1 and self._raised[0] < oldest:
                self._raised.popleft()


class _Kept:
    """All scores of a stream."""

    def __init__(self) -> None:
        self.limit_s = math.inf
        self._end_s: list[float] = []
        self._score: list[float] = []
        self._who: list[tuple[int, int] | None] = []
        self._numbers: dict[tuple[int, int], int] = {}

    def add(self, moment: _Moment) -> None:
        self._end_s.append(moment.end_s)
        self._score.append(moment.score)
        self._who.append(moment.who)

    def scores(self, history: _History) -> Scores:
        last = history.moments
        end_s = [*self._end_s, *(one.end_s for one in last)]
        score = [*self._score, *(one.score for one in last)]
        who = [*self._who, *(one.who for one in last)]
        count = sum(end <= self.limit_s + _TINY_S for end in end_s)
        for one in who:
            if one is not None:
                self._numbers.setdefault(one, len(self._numbers))
        return Scores(
            np.array(end_s[:count], np.float64),
            np.array(score[:count], np.float64),
            tuple(None if one is None else self._numbers[one] for one in who[:count]),
        )


def _inside(bed: ArrayLike, crop: Crop) -> NDArray[np.float64]:
    """An outline (corners, 2) in shares of the whole picture, in shares of a part of it."""
    low = np.array([crop.x0, crop.y0])
    shares: NDArray[np.float64] = (np.asarray(bed, np.float64) - low) / (
        np.array([crop.x1, crop.y1]) - low
    )
    return shares
