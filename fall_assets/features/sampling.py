"""Decoding a segment once and choosing the frames that are looked at.

What belongs here: time stamps and the decoder. What does not: what is computed from a frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import av.error

from fall_assets.errors import PermanentFailureError
from fall_assets.footage.media import open_media, video_stream

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

_TICK_S = 1e-4
_MAX_JUMP_S = 3600.0


class UnreadableSegmentError(PermanentFailureError):
    """Nothing can be decoded from the file."""


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


class Segment:
    """A segment that is decoded once, frame by frame; memory does not grow with its length."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._path = path
        self._threads = threads
        self.frames = 0
        self.last_s = 0.0
        self.lost = 0

    def decode(self) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (seconds from the first frame, frame) with times that always grow.

        Packets that cannot be decoded and frames whose time stamp does not grow are left out and
        counted in `lost`. Raises UnreadableSegmentError where the file cannot be opened, yields no
        frame, or has time stamps that jump by more than an hour.
        """
        try:
            container = open_media(self._path)
        except (av.error.FFmpegError, OSError) as error:
            raise self._unreadable(f"cannot be opened: {error}") from error
        with container:
            stream = video_stream(container)
            if stream is None:
                raise self._unreadable("holds no video stream")
            stream.codec_context.thread_count = self._threads
            stream.thread_type = "AUTO" if self._threads != 1 else "NONE"
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            start: float | None = None
            for frame in self._frames(container, stream):
                if frame.pts is None or frame.time_base is None:
                    time_s = self.last_s + 1 / rate if self.frames else 0.0
                else:
                    stamp = float(frame.pts * frame.time_base)
                    start = stamp if start is None else start
                    time_s = stamp - start
                if self.frames and time_s <= self.last_s:
                    self.lost += 1
                    continue
                if time_s - self.last_s > _MAX_JUMP_S:
                    raise self._unreadable(
                        f"has time stamps that jump from {self.last_s:.1f} to {time_s:.1f} s"
                    )
                self.frames += 1
                self.last_s = time_s
                yield time_s, frame
        if not self.frames:
            raise self._unreadable("yields no frame")

    def _frames(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                # The container breaks off here; what was read so far stands.
                self.lost += 1
                return
            try:
                yield from packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.lost += 1

    def _unreadable(self, what: str) -> UnreadableSegmentError:
        return UnreadableSegmentError(
            f"{self._path} {what}; quarantine it or have the recorder write it again"
        )
