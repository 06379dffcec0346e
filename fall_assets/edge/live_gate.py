"""Where in an endless stream somebody may be in motion, judged from what has come by now.

What belongs here: the judgement, on numbers alone. What does not: packets and decoding (`watcher`).

The signs and their numbers are those of `features.gate`, which judges a whole file at once. Here
what is ordinary is learned from the newest `learned_s` seconds, and again and again. Until it is
known the gate is open, and so it is again where nothing quiet has been seen for so long. As a sign
comes after what it is a sign of, the gate says from when on to look: what was not decoded since
must be kept until then.

A camera with a constant bit rate, or with much noise, tells by pictures only. So until packets
have told of what pictures saw, a few times and often enough, a picture is taken of every key frame;
where those are rarer than `KEYS_OFTEN_S`, nobody can wait for the next one, and pictures are taken
every `PEEK_S`, which costs the decoding of all frames but no look for people.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fall_assets.features.gate import MotionGateSettings

PEEK_S = 1.0
"""From picture to picture where packets are not known to tell."""

KEYS_OFTEN_S = 2.5
"""Key frames no farther apart than this are pictures enough: the gate opens so much late at most,
and what was not decoded until then is decoded then."""

_MAD = 1.4826
_WITNESSES = 20
_FEWEST_WITNESSES = 2
_FEWEST_QUIET = 8
_FEWEST_PICTURES = 3
_LOUD = 3.0
_CELLS = 2
_KEYS = 32
_FEWEST_GAPS = 3
_TICK_S = 5e-4


@dataclass
class _Bin:
    """Frames between key frames in one stretch of `bin_s`, by number from the stream's start."""

    number: int
    bytes: int = 0
    frames: int = 0
    is_loud: bool = False
    is_above: bool = False

    @property
    def level(self) -> float:
        return self.bytes / self.frames if self.frames else 0.0


class LiveGate:
    """Says of a stream whether to look. Feed it with everything; memory is bounded.

    Times are seconds of the stream's clock, which does not go back.
    """

    def __init__(self, settings: MotionGateSettings) -> None:
        self.settings = settings
        pairs = max(int(settings.learned_s / settings.key_every_s), _FEWEST_PICTURES)
        bins = max(int(settings.learned_s / settings.bin_s), 2 * _FEWEST_QUIET)
        self._moved: deque[NDArray[np.float32]] = deque(maxlen=pairs)
        self._quiet: deque[tuple[int, float]] = deque(maxlen=bins)
        self._keys: deque[int] = deque(maxlen=_KEYS)
        self._key_times: deque[float] = deque(maxlen=_FEWEST_GAPS + 3)
        recent = int((settings.after_s + 4 * settings.key_every_s) / settings.bin_s) + 2
        self._bins: deque[_Bin] = deque(maxlen=recent)
        self._bin: _Bin | None = None
        self._cells: NDArray[np.float32] | None = None
        self._cells_s = self._first_s = -math.inf
        self._usual = self._margin = 0.0
        self._has_others = False
        self._witnesses: deque[bool] = deque(maxlen=_WITNESSES)
        self._knows = False
        self._until_s = math.inf
        self._from_s = -math.inf
        self._glance_s = -math.inf
        self._somebody_s = -math.inf
        self._tries = 0
        self._is_after_try = False

    @property
    def knows(self) -> bool:
        """Whether it is known what is ordinary; the gate is open as long as it is not."""
        return self._knows

    @property
    def needs_pictures(self) -> bool:
        """Whether other than key frames must be decoded to judge, as packets may tell nothing."""
        return (
            self._knows and self._has_others and not self._packets_tell and not self._has_often_keys
        )

    @property
    def _has_often_keys(self) -> bool:
        gaps = np.diff(self._key_times)
        return len(gaps) >= _FEWEST_GAPS and float(gaps.max()) <= KEYS_OFTEN_S + _TICK_S

    @property
    def _packets_tell(self) -> bool:
        told = sum(self._witnesses)
        # The first picture of a motion often comes before the bin that tells of it has ended.
        return told >= _FEWEST_WITNESSES and 3 * told >= len(self._witnesses)

    @property
    def look_from_s(self) -> float:
        """From when on what the newest sign is a sign of may have begun."""
        return self._from_s

    def is_open(self, time_s: float) -> bool:
        """Whether to look at a moment, by what is known now."""
        return time_s <= self._until_s + _TICK_S

    def wants_picture(self, time_s: float) -> bool:
        """Whether a key picture of that moment is to be taken."""
        is_mute = self._knows and not self._packets_tell
        every_s = min(PEEK_S, self.settings.key_every_s) if is_mute else self.settings.key_every_s
        return time_s >= self._cells_s + every_s - _TICK_S

    def wants_glance(self, time_s: float) -> bool:
        """Whether to look for people in a key picture of that moment, while the gate is shut."""
        return time_s >= self._glance_s - _TICK_S

    def packet(self, time_s: float, size: int, *, is_key: bool) -> None:
        """A packet has come, of so many bytes."""
        number = int(time_s / self.settings.bin_s)
        if self._bin is not None and number > self._bin.number:
            self._close(self._bin)
            self._bin = None
        if is_key:
            self._keys.append(size)
            self._key_times.append(time_s)
            return
        self._has_others = True
        if self._bin is None:
            self._bin = _Bin(number)
        self._bin.bytes += size
        self._bin.frames += 1

    def picture(self, time_s: float, cells: NDArray[np.float32]) -> None:
        """The cells of a key picture, (rows, columns), mean luma 0 to 255."""
        before, before_s = self._cells, self._cells_s
        self._cells, self._cells_s = cells, time_s
        if before is None:
            self._first_s = time_s
            return
        moved = (cells - before).ravel()
        moved = np.abs(moved - np.median(moved))
        self._moved.append(moved)
        has_changed = self._is_change(moved, time_s)
        inside = [one for one in self._bins if self._is_inside(one, before_s, time_s)]
        if has_changed and self._knows:
            first = int(before_s / self.settings.bin_s) - 1
            self._witnesses.append(any(b.is_above for b in self._bins if b.number >= first))
        if not has_changed:
            self._quiet += [(one.number, one.level) for one in inside if one.frames]
        self._learn(time_s)
        if has_changed and not any(one.is_loud for one in inside):
            # Packets say more precisely when it was, where they speak up.
            self._sign(before_s, time_s)

    def glanced(
        self,
        time_s: float,
        *,
        sees: bool,
        has_sighted: bool,
        counts_since: Callable[[float], bool],
    ) -> bool:
        """A single picture was looked at; whether the gate opens for it, because somebody is there.

        `sees`: somebody may be in it; `has_sighted`: somebody may have been, now and then, when it
        was last open; `counts_since` says whether somebody was believed who came at a moment or
        later. As in files, the gate opens a few times until somebody is believed.
        """
        settings = self.settings
        self._glance_s = time_s + settings.glance_s
        sees |= self._is_after_try and has_sighted
        self._is_after_try = False
        if time_s >= self._somebody_s + settings.somebody_every_s:
            self._somebody_s, self._tries = time_s, 0
        is_believed = counts_since(self._somebody_s)
        if is_believed or self._tries >= settings.somebody_tries or not sees:
            return False
        self._tries += 1
        self._is_after_try = True
        self._from_s = time_s
        self._until_s = max(self._until_s, time_s + settings.somebody_s)
        # Right after it one sees whether somebody is believed by now.
        self._glance_s = self._until_s
        return True

    def shut(self, time_s: float) -> None:
        """The gate was shut at that moment: glances are due from then on."""
        if not self._is_after_try:
            self._glance_s = time_s + self.settings.glance_s

    def force(self, time_s: float) -> None:
        """Open from a moment on, whatever the signs say; looking back as far as can be."""
        self._from_s = -math.inf
        self._until_s = max(self._until_s, time_s + self.settings.after_s)

    def _is_inside(self, one: _Bin, start_s: float, end_s: float) -> bool:
        bin_s = self.settings.bin_s
        return int(start_s / bin_s) < one.number < int(end_s / bin_s)

    def _is_change(self, moved: NDArray[np.float32], time_s: float) -> bool:
        settings = self.settings
        is_long = time_s - self._first_s >= settings.learned_s
        cap = settings.cell_cap_learned if is_long else settings.cell_cap
        own = np.median(np.stack(self._moved), axis=0)
        ordinary = np.minimum(np.maximum(own, np.median(own)), cap)
        threshold = np.maximum(settings.cell_level, settings.cell_times * ordinary)
        several = int((moved > threshold).sum()) >= _CELLS
        return several or bool((moved > 2 * threshold).any())

    def _learn(self, time_s: float) -> None:
        """What is ordinary, from what was quiet lately."""
        settings = self.settings
        oldest = (time_s - settings.learned_s) / settings.bin_s
        while self._quiet and self._quiet[0][0] < oldest:
            self._quiet.popleft()
        enough = len(self._moved) >= _FEWEST_PICTURES - 1
        if self._has_others:
            enough &= len(self._quiet) >= _FEWEST_QUIET
        if not enough or time_s - self._first_s < settings.shortest_s - settings.key_every_s:
            self._knows, self._until_s = False, math.inf
            return
        if self._quiet:
            levels = np.array([level for _, level in self._quiet])
            self._usual = float(np.median(levels))
            sigma = _MAD * float(np.median(np.abs(levels - self._usual)))
            key_bytes = float(np.median(self._keys)) if self._keys else 0.0
            self._margin = max(
                settings.packet_sigmas * sigma,
                settings.packet_share * self._usual,
                settings.packet_floor * key_bytes,
            )
        if not self._knows:
            # What went by without a judgement is judged now.
            self._knows, self._until_s = True, -math.inf
            for one in list(self._bins):
                self._judge(one)

    def _close(self, one: _Bin) -> None:
        self._bins.append(one)
        if self._knows:
            self._judge(one)

    def _judge(self, one: _Bin) -> None:
        one.is_above = one.level > self._usual + self._margin
        one.is_loud = one.level > self._usual + _LOUD * self._margin
        before = next((b for b in reversed(self._bins) if b.number == one.number - 1), None)
        is_joined = one.is_above and before is not None and before.is_above
        # One bin alone is a hiccup of the encoder, unless it is far above.
        if one.is_loud or is_joined:
            first = one.number - 1 if is_joined else one.number
            self._sign(first * self.settings.bin_s, (one.number + 1) * self.settings.bin_s)

    def _sign(self, start_s: float, end_s: float) -> None:
        if math.isinf(self._until_s) and self._until_s > 0:
            return
        if end_s > self._until_s:
            self._from_s = start_s - self.settings.before_s
        self._until_s = max(self._until_s, end_s + self.settings.after_s)
