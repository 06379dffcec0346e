"""In what state a camera is, judged from what came from it. Pure: times are given, nothing is read.

What belongs here: the judgement. What does not: streams (`stream`), reports (`telemetry`).

The states, the worse before the better; the first that holds is the camera's:

- **lost**: no packet for 5 s.
- **black**: for 10 s the picture was as dark as one without light and had nothing in it.
- **frozen**: packets come, but for a minute all key pictures were the same, more alike than two
  pictures that a sensor took: noise and an encoder that works on it differ by 0.09 levels and more
  (root mean square over cells), the same picture encoded again by 0.02 (H.264 at constant quality,
  measured). A quiet room is not frozen. Not told: a frozen picture that an encoder with a constant
  low bit rate keeps on improving; and a camera that paints a running clock into a frozen picture.
- **moved**: what lasts in the picture (edges between blurred cells; the median of a minute, so that
  a passer-by is not in it) fits the view learned in the hours before clearly better when it is
  shifted, or not at all. A lamp shifts nothing. Not told: a move by less than about a twentieth of
  the picture; a zoom; a half covered lens; a wardrobe put in front of it; what was moved before the
  box had learned the view (ten minutes, anew after each start). What changes the whole picture
  (a lens covered with something that has a pattern, a switch to infrared light) may be called
  moved.
- **starved**: for 10 s less than half of the frames that should come did, or fewer than 5 a second.
- **starting**: not yet watched for long enough to say anything.
- **ok**.

Every state is entered only after it held for a while and left only after it did not for a while.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

State = Literal["ok", "lost", "frozen", "black", "moved", "starved", "starting"]
Cells = npt.NDArray[np.floating[Any]]
"""Mean luma, 0 to 255, of a picture's cells: (rows, columns)."""
Reals = npt.NDArray[np.float64]
Edges = tuple[Reals, Reals]

LOST_AFTER_S: Final = 5.0
BLACK_AFTER_S: Final = 10.0
FROZEN_AFTER_S: Final = 60.0
MOVED_AFTER_S: Final = 60.0
STARVED_AFTER_S: Final = 10.0
STEADY_S: Final = 3.0
"""So long packets come before a camera is no longer lost."""
LEAST_FPS: Final = 5.0
"""A detector that samples ten times a second sees no fall at less."""

_FPS_OVER_S: Final = 10.0
_BLACK_LUMA, _BLACK_SPREAD = 24.0, 3.0
_LIGHT_LUMA, _LIGHT_SPREAD = 28.0, 5.0
_SAME_RMS: Final = 0.04
_FROZEN_PICTURES: Final = 3
_MINUTE_S: Final = 60.0
_VIEW_PICTURES: Final = 5
_LEARNED_S: Final = 600.0
_VIEW_OVER_S: Final = 4 * 3600.0
_VIEW_MOST: Final = 64
# Of five simulated rooms: a view shifted by 5 % of the picture or more was liker when shifted back
# by 0.2 to 1.2; lamps, dark, people, curtains and a half covered lens by 0.13 at most.
_MOVED_GAIN, _BACK_GAIN = 0.2, 0.15
# Turned so far that nothing of the old view is left. Lamps at night leave 0.34.
_ELSEWHERE: Final = 0.15
_BACK_ABOVE: Final = 0.6
_SURELY_SAME: Final = 0.9
_SHIFTS: Final = [(rows, columns) for rows in range(-4, 5) for columns in range(-7, 8)]
_FLAT: Final = 0.5
_BETTER_FPS: Final = 1.2


@dataclass(frozen=True)
class Moment:
    """One moment by the box's two clocks: `mono_s` never jumps, `utc` may be corrected."""

    mono_s: float
    utc: datetime


@dataclass(frozen=True)
class Condition:
    """A camera's state, since when, and what tells it, in words."""

    state: State
    since_utc: datetime
    detail: str = ""


class CameraJudge:
    """Judges one camera. Not thread-safe.

    Args:
        expected_fps: what it should send; 0 where that is not known.
        now: when watching began.
        live: False for a file that is read as fast as it can be: nothing is said of its pace.
    """

    def __init__(self, *, expected_fps: float, now: Moment, live: bool = True) -> None:
        self._expected_fps, self._live = expected_fps, live
        self._began = now
        self._first: float | None = None
        self._last: Moment | None = None
        self._frames = FrameRate()
        self._black = _Lasting(BLACK_AFTER_S, 0.0)
        self._moved = _Lasting(MOVED_AFTER_S, MOVED_AFTER_S)
        self._starved = _Lasting(STARVED_AFTER_S, STARVED_AFTER_S)
        self._lost = _Lasting(0.0, 0.0)
        self._same = SamePictures()
        self._view = View()
        self._now = Condition("starting", now.utc)

    @property
    def view(self) -> View:
        """What the judge knows of the camera's view."""
        return self._view

    def frame(self, now: Moment) -> None:
        """A packet with a frame arrived."""
        if self._first is None or (
            self._last is not None and now.mono_s - self._last.mono_s > LOST_AFTER_S
        ):
            # Frames before a gap say nothing of the rate after it.
            self._first = now.mono_s
            self._frames = FrameRate()
        self._last = now
        self._frames.add(now.mono_s)

    def picture(self, now: Moment, cells: Cells) -> None:
        """A key picture was decoded."""
        cells = np.asarray(cells, np.float64)
        dark = is_black(cells, was_black=self._black.holds)
        self._black.tell(now, dark)
        self._same.add(now, cells)
        if not dark:
            self._moved.tell(now, self._view.add(now.mono_s, cells, self._moved.holds))

    def condition(self, now: Moment) -> Condition:
        """The state at this moment; ask at least every few seconds."""
        state, since, detail = self._judged(now)
        if state != self._now.state:
            self._now = Condition(state, since or now.utc, detail)
        else:
            self._now = Condition(state, self._now.since_utc, detail)
        return self._now

    def fps(self, now: Moment) -> float | None:
        """Frames a second over the last 10 s; None before so much was seen."""
        if self._first is None or now.mono_s - self._first < _FPS_OVER_S:
            return None
        return self._frames.per_second(now.mono_s)

    def _judged(self, now: Moment) -> tuple[State, datetime | None, str]:
        last = self._last or self._began
        silent_s = now.mono_s - last.mono_s
        came_s = last.mono_s - self._first if self._first is not None else 0.0
        is_lost = silent_s > LOST_AFTER_S or (self._lost.holds and came_s < STEADY_S)
        self._lost.tell(now, is_lost, began=last.utc)
        if self._lost.holds:
            return "lost", self._lost.since, f"no picture since {last.utc:%Y-%m-%d %H:%M:%S} UTC"
        if self._first is None:
            return "starting", None, "waiting for the first picture"
        # Without pictures nothing is known of them, so these hold on as they were.
        if self._black.holds_at(now):
            return "black", self._black.since, "dark, and nothing to be seen"
        if self._same.frozen(now):
            return "frozen", self._same.since, "the same picture again and again"
        if self._moved.holds_at(now):
            return "moved", self._moved.since, f"the view is another ({self._view.likeness:.2f})"
        fps = self.fps(now)
        if fps is None:
            known = self._now.state not in ("starting", "lost")
            return ("ok" if known or not self._live else "starting"), None, "counting frames"
        if self._live:
            least = max(self._expected_fps / 2, LEAST_FPS)
            if self._starved.holds:
                least *= _BETTER_FPS
            if self._expected_fps:
                # What is expected is never too few for itself.
                least = min(least, max(LEAST_FPS, 0.9 * self._expected_fps))
            self._starved.tell(now, fps < least)
            if self._starved.holds:
                wanted = f" of {self._expected_fps:g}" if self._expected_fps else ""
                return "starved", self._starved.since, f"{fps:.1f}{wanted} frames/s"
        return "ok", None, ""


class FrameRate:
    """Frames a second over the last 10 s, in memory of ten numbers."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque(maxlen=int(_FPS_OVER_S) + 1)

    def add(self, mono_s: float) -> None:
        """A frame came."""
        second = int(mono_s)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1][1] += 1
        else:
            self._seconds.append([second, 1])

    def per_second(self, mono_s: float) -> float:
        """Over the ten whole seconds before this one."""
        end = int(mono_s)
        count = sum(frames for second, frames in self._seconds if end - _FPS_OVER_S <= second < end)
        return count / _FPS_OVER_S


@dataclass
class _Lasting:
    """Something that holds once it was told for `enter_s`, until it was not for `leave_s`."""

    enter_s: float
    leave_s: float
    holds: bool = False
    since: datetime | None = None
    _told: bool = False
    _from: Moment | None = field(default=None)

    def tell(self, now: Moment, is_so: bool, *, began: datetime | None = None) -> None:
        """Say whether it is so now; `began`: it is known to have begun then."""
        if self._from is None or is_so != self._told:
            self._told, self._from = is_so, now
        lasted = now.mono_s - self._from.mono_s
        if is_so and not self.holds and lasted >= self.enter_s:
            self.holds, self.since = True, began or self._from.utc
        elif not is_so and self.holds and lasted >= self.leave_s:
            self.holds, self.since = False, None

    def holds_at(self, now: Moment) -> bool:
        """Whether it holds, with nothing new told since."""
        if self._from is not None:
            self.tell(now, self._told)
        return self.holds


def is_black(cells: Cells, *, was_black: bool = False) -> bool:
    """Whether a picture is as dark as one without light and has nothing in it.

    Video black is luma 16, or 0 where a camera uses the full range. One that was black must get
    clearly lighter.
    """
    luma, spread = (_LIGHT_LUMA, _LIGHT_SPREAD) if was_black else (_BLACK_LUMA, _BLACK_SPREAD)
    return bool(cells.mean() < luma and cells.std() < spread)


class SamePictures:
    """Since when all key pictures are the same, but for what encoding them again changes."""

    def __init__(self) -> None:
        self.since: datetime | None = None
        self._first: tuple[Moment, Cells] | None = None
        self._last_s = 0.0
        self._count = 0

    def add(self, now: Moment, cells: Cells) -> None:
        """A key picture; one that differs proves that the camera lives."""
        first = self._first
        if first is not None and first[1].shape == cells.shape:
            difference = float(np.sqrt(np.mean((cells - first[1]) ** 2)))
            if difference <= _SAME_RMS:
                self._count += 1
                self._last_s = now.mono_s
                return
        self._first, self._count, self._last_s = (now, cells), 1, now.mono_s
        self.since = None

    def frozen(self, now: Moment) -> bool:
        """Whether the same picture came for a minute, at least three times."""
        if self._first is None or self._count < _FROZEN_PICTURES:
            return False
        began = self._first[0]
        is_frozen = self._last_s - began.mono_s >= FROZEN_AFTER_S
        self.since = began.utc if is_frozen else None
        return is_frozen


class View:
    """What lasts in a camera's picture, learned as a running mean over hours.

    `likeness` is the last comparison, -1 to 1 (1: the same edges).
    """

    def __init__(self) -> None:
        self.likeness = 1.0
        self._recent: deque[tuple[float, Cells]] = deque()
        self._known: Edges | None = None
        self._learned_s = 0.0
        self._at_s: float | None = None

    def add(self, mono_s: float, cells: Cells, is_moved: bool) -> bool:
        """A key picture; whether the view is another than the one that was learned."""
        recent = self._recent
        if recent and recent[-1][1].shape != cells.shape:
            recent.clear()
            self._known = None
        recent.append((mono_s, cells))
        while mono_s - recent[0][0] > _MINUTE_S or len(recent) > _VIEW_MOST:
            recent.popleft()
        if len(recent) < _VIEW_PICTURES:
            return is_moved
        now = edges(np.median([one for _, one in recent], axis=0))
        if now is None:
            # Fog, or a sheet over the lens: no edges, nothing to compare.
            return is_moved
        passed = min(max(0.0, mono_s - (self._at_s or mono_s)), _MINUTE_S)
        self._at_s = mono_s
        if self._known is None:
            self._known, self._learned_s = now, 0.0
            return False
        self.likeness = likeness(self._known, now)
        gain = 0.0
        if self.likeness < _SURELY_SAME:
            gain = max(likeness(self._known, now, *shift) for shift in _SHIFTS) - self.likeness
        if is_moved and self._learned_s >= _LEARNED_S:
            return self.likeness < _BACK_ABOVE or gain > _BACK_GAIN
        if self._learned_s >= _LEARNED_S and (gain > _MOVED_GAIN or self.likeness < _ELSEWHERE):
            return True
        if self._learned_s >= _LEARNED_S and self.likeness < _BACK_ABOVE:
            # What is doubtful is not learned.
            return False
        self._learned_s += passed
        share = passed / min(max(self._learned_s, _MINUTE_S), _VIEW_OVER_S)
        self._known = (
            self._known[0] + share * (now[0] - self._known[0]),
            self._known[1] + share * (now[1] - self._known[1]),
        )
        return False


def edges(cells: Cells) -> Edges | None:
    """What lasts whatever the light: steps between neighbouring cells, across and down.

    Roots of the steps, so that one lamp or window does not outweigh the room. None where there are
    none. Shapes (rows, columns - 1) and (rows - 1, columns).
    """
    blurred = _blurred(np.asarray(cells, np.float64))
    across, down = np.diff(blurred, axis=1), np.diff(blurred, axis=0)
    if float(np.abs(across).mean() + np.abs(down).mean()) < _FLAT:
        return None
    return np.sign(across) * np.sqrt(np.abs(across)), np.sign(down) * np.sqrt(np.abs(down))


def likeness(known: Edges, now: Edges, rows: int = 0, columns: int = 0) -> float:
    """The cosine between two views, -1 to 1, the second shifted by so many cells."""
    one = np.concatenate([_shifted(part, rows, columns).ravel() for part in known])
    other = np.concatenate([_shifted(part, -rows, -columns).ravel() for part in now])
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length > 0 else 0.0


def _shifted(part: Reals, rows: int, columns: int) -> Reals:
    """The part that is left of a shifted array."""
    height, width = part.shape
    return part[
        max(0, rows) : max(0, height + min(0, rows)),
        max(0, columns) : max(0, width + min(0, columns)),
    ]


def _blurred(cells: Reals) -> Reals:
    """Means with neighbours (1 2 1), edges repeated."""
    for axis in (0, 1):
        padded = np.pad(cells, [(1, 1) if axis == a else (0, 0) for a in (0, 1)], mode="edge")
        before, after = (
            np.take(padded, range(start, start + cells.shape[axis]), axis) for start in (0, 2)
        )
        cells = (before + 2 * cells + after) / 4
    return cells


class Drift:
    """How far a camera's own clock ran away from the box's since the connection began.

    A packet can come late, never early, so only the most punctual one of each ten seconds counts.
    """

    def __init__(self) -> None:
        self._bin: tuple[int, float] | None = None
        self._first: float | None = None
        self.offset_s: float | None = None
        """Seconds that the camera's clock gained (or lost, below 0); None in the first seconds."""

    def add(self, stream_s: float, mono_s: float) -> None:
        """A frame whose time is `stream_s` by the camera arrived at `mono_s` by the box."""
        number, ahead = int(mono_s // 10), stream_s - mono_s
        if self._bin is None or self._bin[0] == number:
            self._bin = (number, max(ahead, self._bin[1]) if self._bin else ahead)
            return
        punctual = self._bin[1]
        self._bin = (number, ahead)
        if self._first is None:
            self._first = punctual
        self.offset_s = punctual - self._first


class BoxClock:
    """Notices that the box's own clock was set: wall clock against the one that never jumps."""

    TOLERANCE_S: Final = 1.0

    def __init__(self, now: Moment) -> None:
        self._difference = now.utc.timestamp() - now.mono_s
        self.jumps = 0

    def check(self, now: Moment) -> float:
        """Seconds by which the wall clock was set since the last look; 0.0 where it was not."""
        difference = now.utc.timestamp() - now.mono_s
        jump = difference - self._difference
        self._difference = difference
        if abs(jump) <= self.TOLERANCE_S:
            return 0.0
        self.jumps += 1
        return jump
