"""One clock for a stream whose time stamps may be missing, jump or go back. Pure.

What belongs here: time stamps. What does not: what is done at a jump (`watcher`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from fall_assets.features.segment_file import MAX_JUMP_S

BACK_S = 5.0
"""Time stamps that go back by more are of a clock that was set; less is disorder."""


@dataclass
class _Epoch:
    """Time stamps that belong together: second `zero_s` of them is second `at_s` of the stream."""

    number: int
    zero_s: float
    at_s: float
    newest_s: float


class StreamClock:
    """Seconds from the stream's first frame on, which grow whatever the time stamps do."""

    def __init__(self, base_s: Fraction | float, step_s: float) -> None:
        """`base_s` is the time base, `step_s` from frame to frame where nothing says it.

        A fraction is rounded as the platform rounds it: frames may lie exactly on the border
        between two samples.
        """
        self._base_s, self._step_s = base_s, step_s
        self._epoch: _Epoch | None = None
        self._before: _Epoch | None = None
        self._has_packet = self._has_frame = False
        self.packet_s = 0.0
        """Newest time of a packet."""

    @property
    def has_begun(self) -> bool:
        """Whether a frame has said where the zero is."""
        return self._has_frame

    def of_packet(self, stamp: int | None) -> float:
        """Seconds of a packet with that time stamp, in the order in which packets come."""
        if stamp is None or self._base_s <= 0:
            self.packet_s += self._step_s if self._has_packet else 0.0
            self._has_packet = True
            return self.packet_s
        self._has_packet = True
        raw_s = float(stamp * self._base_s)
        epoch = self._epoch
        if epoch is None:
            epoch = self._epoch = _Epoch(0, raw_s, 0.0, raw_s)
        elif not -BACK_S <= raw_s - epoch.newest_s <= MAX_JUMP_S:
            self._before = epoch
            at_s = self.packet_s + self._step_s
            epoch = self._epoch = _Epoch(epoch.number + 1, raw_s, at_s, raw_s)
        epoch.newest_s = max(epoch.newest_s, raw_s)
        time_s = raw_s - epoch.zero_s + epoch.at_s
        self.packet_s = max(self.packet_s, time_s)
        return time_s

    def of_frame(self, stamp: int | None, last_s: float | None) -> tuple[float, int]:
        """Seconds of a decoded frame, and which of the stream's epochs it belongs to.

        `last_s` is the time of the frame before it; the stream's first frame is its zero.
        """
        is_first, self._has_frame = not self._has_frame, True
        epoch = self._epoch
        if stamp is None or epoch is None or self._base_s <= 0:
            number = epoch.number if epoch is not None else 0
            return (0.0 if last_s is None else last_s + self._step_s), number
        raw_s = float(stamp * self._base_s)
        before = self._before
        if is_first:
            shift_s = epoch.zero_s - raw_s
            epoch.zero_s = raw_s
            self.packet_s = max(self.packet_s + shift_s, 0.0)
        elif before is not None and abs(raw_s - before.newest_s) < abs(raw_s - epoch.newest_s):
            epoch = before
        return raw_s - epoch.zero_s + epoch.at_s, epoch.number
