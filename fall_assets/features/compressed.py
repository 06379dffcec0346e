"""What a segment tells before it is decoded: its packets, and small pictures of some key frames.

What belongs here: reading those. What does not: what they mean (`gate`), and decoding in full
(`sampling`). Imports PyAV.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from fall_assets.features.gate import CompressedFacts, MotionGateSettings
from fall_assets.features.segment_file import MAX_JUMP_S, SegmentFile, open_segment, unreadable

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream

_CELL_SIDE = 8
_CLOSE_S = 1.0


def read_compressed(path: Path, settings: MotionGateSettings) -> CompressedFacts:
    """Read all packets of a segment and decode some of its key frames.

    Key frames are taken `key_every_s` or more apart, the last one in any case, and the last frame
    of all. Memory holds 17 bytes a frame, 1 kB per key picture, and the packets of one group of
    pictures. Times count from the first frame that the decoder shows, as
    `sampling.Segment` counts them. As there, frames whose time does not grow from one group of
    pictures to the next are lost. Where times cannot be told (no time stamps, or a first frame that
    is no key frame), the facts hold no key picture, so that the gate stays open.

    Raises UnreadableSegmentError where the file cannot be opened, yields no frame, or has time
    stamps that jump by more than an hour.
    """
    with open_segment(path) as file:
        reading = _Reading(file, settings)
        for packet in file.packets():
            if packet.size:
                reading.take(packet)
        reading.finish()
        if reading.first is None:
            raise unreadable(path, "yields no frame")
        return reading.facts(float(file.stream.time_base or 0), file.fps)


class CellMaker:
    """Makes the small pictures by which the gate compares key frames."""

    def __init__(self, rows: int, columns: int) -> None:
        self._rows, self._columns = rows, columns
        self._scaler = VideoReformatter()

    def of(self, frame: VideoFrame) -> NDArray[np.float32]:
        """Mean luma of each cell of the whole picture, (rows, columns), 0 to 255."""
        # FFmpeg's filters have a limited length: it scales to some pixels a cell, numpy the rest.
        small = self._scaler.reformat(
            frame,
            width=self._columns * _CELL_SIDE,
            height=self._rows * _CELL_SIDE,
            format="gray",
            interpolation="AREA",
            threads=1,
        ).to_ndarray()
        squares = small.reshape(self._rows, _CELL_SIDE, self._columns, _CELL_SIDE)
        cells: NDArray[np.float32] = squares.mean(axis=(1, 3), dtype=np.float32)
        return cells


@dataclass
class _Reading:
    """What was read so far; times are in units of the stream's time base until the end."""

    file: SegmentFile
    settings: MotionGateSettings
    stamps: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    keys: bytearray = field(default_factory=bytearray)
    key_stamps: list[int] = field(default_factory=list)
    cells: list[NDArray[np.float32]] = field(default_factory=list)
    left_out: int = 0
    first: VideoFrame | None = None
    is_timeless: bool = False

    def __post_init__(self) -> None:
        self._cells = CellMaker(self.settings.rows, self.settings.columns)
        self._latest: int | None = None
        self._group_after: int | None = None
        self._next_key: int | None = None
        self._pending: Packet[VideoStream] | None = None
        self._group: list[Packet[VideoStream]] = []
        self._base: Fraction | None = None

    def take(self, packet: Packet[VideoStream]) -> None:
        """Take a packet in the order of the file."""
        self._base = packet.time_base
        if self.first is None:
            self._look_for_first(packet)
        if packet.is_discard:
            return
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            self.is_timeless = True
            return
        if packet.is_keyframe:
            self._group_after = self._latest
        if self._group_after is not None and stamp <= self._group_after:
            self.left_out += 1
            return
        self._latest = stamp if self._latest is None else max(self._latest, stamp)
        self.stamps.append(stamp)
        self.sizes.append(packet.size)
        self.keys.append(packet.is_keyframe)
        if packet.is_corrupt:
            self.left_out += 1
            return
        if packet.is_keyframe:
            self._group = []
            if self.first is not None:
                self._consider(packet, stamp)
        self._group.append(packet)

    def finish(self) -> None:
        """The file has ended."""
        if self.first is None:
            self._accept(self.file.decoded(None))
        pending = self._pending
        if pending is not None and pending.time_base is not None:
            stamp = cast("int", pending.pts if pending.pts is not None else pending.dts)
            if not self.key_stamps or (stamp - self.key_stamps[-1]) * pending.time_base > _CLOSE_S:
                self._picture(pending, stamp)
        self._last_picture()

    def _last_picture(self) -> None:
        """Take the very last frame as well: nothing else shows what came after the last key frame.

        Its group is decoded for that, one in a file.
        """
        if not self.key_stamps or self._latest is None or not self._base:
            return
        if (self._latest - self.key_stamps[-1]) * self._base <= _CLOSE_S:
            return
        frames: list[VideoFrame] = []
        for packet in (*self._group, None):
            frames = self.file.decoded(packet) or frames
        last = frames[-1] if frames else None
        if last is not None and last.pts is not None and last.pts > self.key_stamps[-1]:
            self._keep(last, last.pts)
        self.file.decoder.flush_buffers()

    def facts(self, base: float, rate: float) -> CompressedFacts:
        """Everything, in seconds from the first frame."""
        first = self.first.pts if self.first is not None else None
        if self.is_timeless or first is None or base <= 0 or not len(self.stamps):
            return self._timeless(rate)
        stamps = np.frombuffer(self.stamps, np.int64)
        order = np.argsort(stamps, kind="stable")
        order = order[stamps[order] >= first]
        # Two frames of one moment: one of them is never shown.
        kept = np.concatenate(([True], np.diff(stamps[order]) > 0))[: len(order)]
        self.left_out += len(order) - int(kept.sum())
        order = order[kept]
        times_s = (stamps[order] - first) * base
        is_key = np.frombuffer(bytes(self.keys), np.bool_)[order]
        if not len(times_s):
            return self._timeless(rate)
        jump = int(np.argmax(np.diff(times_s, prepend=0.0)))
        if times_s[jump] - (times_s[jump - 1] if jump else 0.0) > MAX_JUMP_S:
            raise unreadable(
                self.file.path,
                f"has time stamps that jump from {times_s[jump - 1]:.1f} to {times_s[jump]:.1f} s",
            )
        key_s = (np.array(self.key_stamps, np.int64) - first) * base
        cells = np.array(self.cells, np.float32).reshape(
            -1, self.settings.rows, self.settings.columns
        )
        shown = key_s >= 0 if is_key[0] else np.zeros(len(key_s), np.bool_)
        return CompressedFacts(
            times_s=times_s,
            sizes=np.frombuffer(self.sizes, np.int64)[order],
            is_key=is_key,
            key_s=key_s[shown],
            cells=cells[shown],
            duration_s=_duration_s(times_s, rate),
            first_pts=first,
            lost=self.left_out + self.file.lost,
        )

    def _timeless(self, rate: float) -> CompressedFacts:
        """Frames as evenly as the container says, in the order of the file."""
        count = max(len(self.sizes), 1)
        times_s = np.arange(count) / rate
        sizes = np.zeros(count, np.int64)
        sizes[: len(self.sizes)] = np.frombuffer(self.sizes, np.int64)
        is_key = np.arange(count) == 0
        grid = (0, self.settings.rows, self.settings.columns)
        return CompressedFacts(
            times_s,
            sizes,
            is_key,
            np.zeros(0),
            np.zeros(grid, np.float32),
            count / rate,
            0,
            self.left_out + self.file.lost,
        )

    def _look_for_first(self, packet: Packet[VideoStream]) -> None:
        if packet.size:
            self._accept(self.file.decoded(packet))

    def _accept(self, frames: list[VideoFrame]) -> None:
        """Keep the first frame that is shown: its time is the zero of all others."""
        if not frames:
            return
        self.first = frames[0]
        if frames[0].pts is not None:
            self._keep(frames[0], frames[0].pts)
        self.file.decoder.flush_buffers()

    def _consider(self, packet: Packet[VideoStream], stamp: int) -> None:
        if self._next_key is None or stamp >= self._next_key:
            self._picture(packet, stamp)
            self._pending = None
        else:
            self._pending = packet

    def _picture(self, packet: Packet[VideoStream], stamp: int) -> None:
        if self.key_stamps and stamp <= self.key_stamps[-1]:
            return
        frames = self.file.decoded(packet) + self.file.decoded(None)
        self.file.decoder.flush_buffers()
        if frames:
            self._keep(frames[0], stamp)

    def _keep(self, frame: VideoFrame, stamp: int) -> None:
        self.cells.append(self._cells.of(frame))
        self.key_stamps.append(stamp)
        # Not the frame's own time base, which a decoder that was flushed may set otherwise.
        if self._base:
            self._next_key = stamp + round(self.settings.key_every_s / self._base)


def _duration_s(times_s: NDArray[np.float64], rate: float) -> float:
    """The last frame is shown as long as its predecessors were."""
    step = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1 / rate
    return float(times_s[-1]) + step
