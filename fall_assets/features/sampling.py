"""Decoding a segment once and choosing the frames that are looked at.

What belongs here: time stamps and the decoder. What does not: what is computed from a frame.
"""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fall_assets.features.segment_file import MAX_JUMP_S, SegmentFile, open_segment, unreadable

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream

T = TypeVar("T")

_TICK_S = 1e-4


class SampleClock:
    """Says which samples a frame serves.

    Sample k is the first frame at or after k / `sample_hz` seconds, if it comes at most
    `max_wait_s` after that; else the sample has no picture. One frame may serve several samples
    where the camera is slower than the clock.
    """

    def __init__(self, sample_hz: float, max_wait_s: float) -> None:
        self._hz = sample_hz
        self._max_wait_s = max_wait_s
        self._next = 0

    def serve(self, time_s: float) -> range:
        """Numbers of the samples that the frame at `time_s` serves; times must not go back."""
        last = math.floor((time_s + _TICK_S) * self._hz)
        first = max(self._next, math.ceil((time_s - self._max_wait_s - _TICK_S) * self._hz))
        if last < first:
            return range(0)
        self._next = last + 1
        return range(first, last + 1)

    def skip_to(self, time_s: float) -> None:
        """Serve no sample before that moment any more."""
        self._next = max(self._next, math.ceil((time_s - _TICK_S) * self._hz))


class Plan:
    """Which of a segment's frames are decoded: spans from key frame on, and single key frames.

    `spans` are (start, end) in seconds, apart and in order, each starting at a key frame's time;
    `singles` are times of key frames outside of them. `first_pts` is the zero of all times, in the
    stream's time base.
    """

    def __init__(
        self, first_pts: int, spans: Sequence[tuple[float, float]], singles: Sequence[float] = ()
    ) -> None:
        self.first_pts = first_pts
        self._spans = list(spans)
        self._singles = list(singles)
        self._open_until_s = -math.inf

    def until_s(self, key_s: float) -> float:
        """How far to decode from the key frame at that time on; the time itself: only it; -inf:
        not at all.
        """
        if key_s < self._open_until_s:
            return self._open_until_s
        place = bisect.bisect_right(self._spans, (key_s + _TICK_S, math.inf)) - 1
        if place >= 0 and key_s < self._spans[place][1]:
            return self._spans[place][1]
        place = bisect.bisect_left(self._singles, key_s - _TICK_S)
        is_single = place < len(self._singles) and self._singles[place] <= key_s + _TICK_S
        return key_s if is_single else -math.inf

    def look_at(self, key_s: float) -> None:
        """Decode one more key frame, later than what is at hand, by itself."""
        bisect.insort(self._singles, key_s)

    def open(self, until_s: float) -> None:
        """Decode on to a moment, from the single frame on that is at hand."""
        self._open_until_s = until_s


class Segment:
    """A segment that is decoded once, frame by frame; memory does not grow with its length.

    `frames` counts what was decoded, and `decode_s` is the time that the container and the decoder
    took.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._path = path
        self._threads = threads
        self._file: SegmentFile | None = None
        self._left_out = 0
        self.frames = 0
        self.last_s = 0.0
        self.decode_s = 0.0

    @property
    def lost(self) -> int:
        """What could not be used so far."""
        return self._left_out + (self._file.lost if self._file is not None else 0)

    def decode(self) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (seconds from the first frame, frame) with times that always grow.

        Packets that cannot be decoded and frames whose time stamp does not grow are left out and
        counted in `lost`. Raises UnreadableSegmentError where the file cannot be opened, yields no
        frame, or has time stamps that jump by more than an hour.
        """
        with open_segment(self._path, threads=self._threads) as file:
            self._file = file
            start: float | None = None
            for frame in self._timed(self._frames(file)):
                if frame.pts is None or frame.time_base is None:
                    time_s = self.last_s + 1 / file.fps if self.frames else 0.0
                else:
                    stamp = float(frame.pts * frame.time_base)
                    start = stamp if start is None else start
                    time_s = stamp - start
                if self._takes(time_s):
                    yield time_s, frame
        if not self.frames:
            raise unreadable(self._path, "yields no frame")

    def decode_planned(self, plan: Plan) -> Iterator[tuple[float, VideoFrame, bool]]:
        """Yield (seconds, frame, whether it is a single one) of what a plan wants.

        All packets are read and only those that the plan needs are decoded. The plan may be opened
        when a single frame was yielded. Where a span ends right before a key frame of an open
        group, the frames that hang on that key frame are left out. Raises as `decode` does, but
        where nothing is wanted.
        """
        with open_segment(self._path, threads=self._threads) as file:
            self._file = file
            yield from self._timed(self._planned(file, plan))

    def _planned(self, file: SegmentFile, plan: Plan) -> Iterator[tuple[float, VideoFrame, bool]]:
        if file.stream.time_base is None:
            raise unreadable(self._path, "has no time base")
        base = file.stream.time_base
        decoder = file.decoder
        # Rounded as `decode` rounds it: frames may lie exactly on the clock's border.
        zero_s = float(plan.first_pts * base)
        from_s, until_s = math.inf, -math.inf
        is_running = False

        def shown(packet: Packet[VideoStream] | None) -> Iterator[tuple[float, VideoFrame, bool]]:
            for frame in file.decoded(packet):
                if frame.pts is None:
                    self._left_out += 1
                    continue
                time_s = float(frame.pts * base) - zero_s
                # What stands before a key frame in an open group cannot be decoded from it.
                if from_s - _TICK_S <= time_s <= until_s + _TICK_S and self._takes(time_s):
                    yield time_s, frame, False

        for packet in file.packets():
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None:
                continue
            time_s = float(stamp * base) - zero_s
            order_s = time_s if packet.dts is None else float(packet.dts * base) - zero_s
            wanted_s = plan.until_s(time_s) if packet.is_keyframe else -math.inf
            if is_running and wanted_s > time_s:
                until_s = max(until_s, wanted_s)
            elif is_running and (time_s if packet.is_keyframe else order_s) > until_s + _TICK_S:
                yield from shown(None)
                decoder.flush_buffers()
                is_running = False
            if not is_running:
                if wanted_s == time_s:
                    for frame in [*file.decoded(packet), *file.decoded(None)]:
                        if self._takes(time_s):
                            yield time_s, frame, True
                    decoder.flush_buffers()
                    wanted_s = plan.until_s(time_s)
                    if wanted_s > time_s:
                        # It is decoded again, as the first of those that follow.
                        self.frames -= 1
                        self.last_s = math.nextafter(time_s, -math.inf)
                if wanted_s <= time_s:
                    continue
                is_running, from_s, until_s = True, time_s, wanted_s
            yield from shown(packet)
        if is_running:
            yield from shown(None)

    def _takes(self, time_s: float) -> bool:
        """Count a frame; False where its time does not grow."""
        if self.frames and time_s <= self.last_s:
            self._left_out += 1
            return False
        if self.frames and time_s - self.last_s > MAX_JUMP_S:
            raise unreadable(
                self._path, f"has time stamps that jump from {self.last_s:.1f} to {time_s:.1f} s"
            )
        self.frames += 1
        self.last_s = time_s
        return True

    def _timed(self, frames: Iterator[T]) -> Iterator[T]:
        """The same, with the time that it takes to make them counted."""
        while True:
            started = time.perf_counter()
            frame = next(frames, None)
            self.decode_s += time.perf_counter() - started
            if frame is None:
                return
            yield frame

    def _frames(self, file: SegmentFile) -> Iterator[VideoFrame]:
        for packet in file.packets():
            yield from file.decoded(packet)
