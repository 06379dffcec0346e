"""One connection to a camera: packets in, alarms out.

What belongs here: which packets are decoded, and when the engine looks. What does not: opening
connections (`sources`), judging signs of motion (`live_gate`), what is made of pictures (`engine`).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import av.error
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fall_assets.edge.engine import Alarm, StreamEngine
from fall_assets.edge.live_gate import LiveGate
from fall_assets.edge.model import EdgeModel, PosePool
from fall_assets.edge.stream_clock import StreamClock
from fall_assets.features.compressed import CellMaker
from fall_assets.features.crop import Crop
from fall_assets.features.gate import MotionGateSettings, Stretch
from fall_assets.features.pictures import PictureMaker
from fall_assets.learning.algorithms.base import Scores

if TYPE_CHECKING:
    from av import Packet, VideoCodecContext, VideoFrame, VideoStream

    Packets = Packet[VideoStream]

HOLE_S = 10.0
"""After a longer hole in the pictures people are followed anew."""

_USUAL_FPS = 25.0
_STILL_SIDE = 640
_HALF_MS = 5e-4
_TICK_S = 1e-4
_SAME_KEY_S = 1e-3  # the lake has stretches in milliseconds
_MOST_PACKETS = 2000
_MOST_BYTES = 24_000_000
_SAME_SHAPE = 0.01
_SIGHTINGS = 3


@dataclass
class WatchFigures:
    """What became of a stream so far.

    Attributes:
        frames: packets that came.
        decoded: frames that were decoded, glances and those before a sign of motion included.
        samples: pictures in which people were followed.
        glances: single pictures in which people were looked for while the gate was shut.
        damaged: packets and frames that could not be used, or came too late.
        shed: packets that were thrown away because the box could not keep up.
        open_s: seconds of the stream in which the gate was open.
        watched_s: seconds of the stream that went by.
        decode_s, pose_s, head_s: seconds of this thread's processor time for the decoder, the pose
            network, and scoring.
    """

    frames: int = 0
    decoded: int = 0
    samples: int = 0
    glances: int = 0
    damaged: int = 0
    shed: int = 0
    open_s: float = 0.0
    watched_s: float = 0.0
    decode_s: float = 0.0
    pose_s: float = 0.0
    head_s: float = 0.0


class Watcher:
    """Watches one connection; for one thread at a time. A new connection needs a new one.

    Times are of the stream's own clock, seconds from its first frame, which never goes back. To say
    when an alarm was in UTC, take the time at which `take` returned it and go back by
    `known_s - raised_s`: that is right whatever the camera's clock does.
    """

    def __init__(
        self,
        model: EdgeModel,
        pool: PosePool,
        decoder: VideoCodecContext,
        time_base: Fraction | float | None,
        *,
        crop: Crop | None = None,
        beds: Sequence[ArrayLike] = (),
        gate: Literal["live", "open"] | Sequence[Stretch] = "live",
        on_picture: Callable[[float, NDArray[np.float32]], None] | None = None,
        keep_scores: bool = False,
        fps: float | None = None,
    ) -> None:
        """Watch what `decoder` decodes.

        Args:
            model: what to detect with.
            pool: pose networks, shared with other streams.
            decoder: of the camera's stream; it is this watcher's alone.
            time_base: seconds in a unit of the packets' time stamps.
            crop: the part of the picture that is used; default: all of it.
            beds: outlines (corners, 2) in shares of the whole picture.
            gate: `live` judges by itself; `open` looks at everything; stretches of a file, as the
                platform recorded them (`motion_gate`), are looked at and nothing else.
            on_picture: called with the time and the mean luma of cells (rows, columns) of a
                picture every few seconds.
            keep_scores: keep every score, for `scores`; memory then grows.
            fps: frames per second, where the decoder does not know it and packets have no times.
        """
        if not decoder.is_open:
            decoder.thread_count = 1
            decoder.thread_type = "NONE"
        self._decoder = decoder
        rate = fps or float(decoder.framerate or 0) or _USUAL_FPS
        self._step_s = 1 / rate
        self._clock = StreamClock(time_base or 0.0, self._step_s)
        crop = crop or Crop()
        self._engine = StreamEngine(model, pool, crop=crop, beds=beds, keep_scores=keep_scores)
        settings = model.info.features.gate or MotionGateSettings()
        self._settings = settings
        self._gate = LiveGate(settings) if gate == "live" else None
        self._spans = None if isinstance(gate, str) else _joined(gate)
        self._cells = CellMaker(settings.rows, settings.columns)
        self._on_picture = on_picture
        self._crop = model.info.features.picture.crop.inside(crop)
        self._stills = PictureMaker(self._crop)
        self._latest: VideoFrame | None = None
        self._kept: deque[tuple[float, Packets]] = deque()
        self._kept_bytes = 0
        self._is_running = self._spans is None or bool(
            self._spans and self._spans[0][0] <= _HALF_MS
        )
        self._until_s = math.inf if self._spans is None else -math.inf
        if self._spans is not None and self._is_running:
            self._until_s = self._spans[0][1]
        self._span: tuple[float, float] | None = None
        self._has_stretch = False
        self._begin_s = 0.0
        self._is_catching_up = self._is_peeking = False
        self._is_shedding = False
        self._last_s: float | None = None
        self._end_s = 0.0
        self._packet_s: float | None = None
        self._epoch = 0
        self._shape: tuple[int, int, int] | None = None
        self._aspect = 0.0
        self._picture_s = -math.inf
        self._figures = WatchFigures()

    @property
    def figures(self) -> WatchFigures:
        """What became of the stream so far."""
        figures, engine = self._figures, self._engine
        figures.samples = engine.samples
        figures.pose_s, figures.head_s = engine.pose_s, engine.head_s
        return figures

    @property
    def scores(self) -> Scores:
        """Scores of all moments so far; raises ValueError where they are not kept."""
        return self._engine.scores

    @property
    def is_open(self) -> bool:
        """Whether the gate is open at the moment."""
        return self._is_running

    @property
    def newest_s(self) -> float:
        """The newest packet's time."""
        return self._clock.packet_s

    @property
    def event_until_s(self) -> float | None:
        """How far the newest event lasts by what is known now; None before the first."""
        return self._engine.event_until_s

    def take(self, packet: Packets) -> list[Alarm]:
        """Take the next packet, in the order of the stream; alarms that it has raised.

        A packet that cannot be decoded is counted and does no harm.
        """
        if not packet.size:
            return []
        figures = self._figures
        figures.frames += 1
        stamp = packet.pts if packet.pts is not None else packet.dts
        time_s = self._clock.of_packet(stamp)
        self._go_by(time_s)
        length_s = packet.duration * self._base_s(packet) if packet.duration else self._step_s
        self._end_s = max(self._end_s, time_s + length_s)
        if self._is_shedding:
            if not packet.is_keyframe:
                figures.shed += 1
                return []
            self._is_shedding = self._is_peeking = False
            self._decoder.flush_buffers()
        if self._gate is not None:
            return self._take_live(self._gate, time_s, packet)
        if self._spans is not None:
            return self._take_recorded(self._spans, time_s, packet)
        return self._decode(packet)

    def finish(self, duration_s: float | None = None) -> list[Alarm]:
        """The connection has ended: what the decoder holds back, and the last moments.

        `duration_s` is the stream's length, where the caller knows better than its packets.
        """
        alarms = self._decode(None) if self._is_running else []
        self._is_running = False
        return alarms + self._engine.finish(self._end_s if duration_s is None else duration_s)

    def shed_until_key(self) -> None:
        """Throw packets away until the next key frame, because the box cannot keep up.

        They are counted in `figures.shed`. What they showed is not seen.
        """
        self._is_shedding = True
        self._forget_packets()

    def latest_picture(self) -> NDArray[np.uint8] | None:
        """The newest decoded frame, the part that is looked at: RGB, at most 640 pixels long."""
        if self._latest is None:
            return None
        width, height = self._stills.size(self._latest)
        used = max(
            (self._crop.x1 - self._crop.x0) * width, (self._crop.y1 - self._crop.y0) * height
        )
        return self._stills.rgb(self._latest, max(1, min(_STILL_SIDE, round(used))))

    def _base_s(self, packet: Packets) -> float:
        return float(packet.time_base or 0)

    def _go_by(self, time_s: float) -> None:
        """Count the time that has gone by since the packet before."""
        if self._packet_s is not None and time_s > self._packet_s:
            passed_s = min(time_s - self._packet_s, HOLE_S)
            self._figures.watched_s += passed_s
            self._figures.open_s += passed_s if self._is_running else 0.0
        self._packet_s = time_s if self._packet_s is None else max(time_s, self._packet_s)

    def _take_recorded(
        self, spans: list[tuple[float, float]], time_s: float, packet: Packets
    ) -> list[Alarm]:
        """Decode what a file's recorded stretches hold, as `sampling.Segment` does."""
        if not self._clock.has_begun and not self._is_running:
            # The first frame says where the zero is.
            frames = self._decoded(packet)
            if frames:
                self._clock.of_frame(frames[0].pts, None)
                self._decoder.flush_buffers()
                time_s = 0.0
            if not frames or not packet.is_keyframe:
                return []
        alarms: list[Alarm] = []
        order_s = time_s
        if packet.dts is not None and packet.pts is not None:
            order_s -= (packet.pts - packet.dts) * self._base_s(packet)
        wanted_s = self._wanted_until(spans, time_s) if packet.is_keyframe else -math.inf
        if self._is_running and wanted_s > time_s:
            self._until_s = max(self._until_s, wanted_s)
        elif self._is_running and (time_s if packet.is_keyframe else order_s) > (
            self._until_s + _TICK_S
        ):
            alarms += self._stop()
        if not self._is_running:
            if wanted_s <= time_s:
                return alarms + self._engine.idle_until(order_s - _HALF_MS)
            self._is_running, self._until_s = True, wanted_s
        return alarms + self._decode(packet)

    def _wanted_until(self, spans: list[tuple[float, float]], key_s: float) -> float:
        """How far to decode from a key frame on; -inf: not at all."""
        for place, (start_s, end_s) in enumerate(spans):
            if start_s - _SAME_KEY_S <= key_s < end_s:
                if abs(key_s - start_s) <= _SAME_KEY_S:
                    spans[place] = (key_s, end_s)
                return end_s
        return -math.inf

    def _take_live(self, gate: LiveGate, time_s: float, packet: Packets) -> list[Alarm]:
        is_timeless = packet.pts is None and packet.dts is None
        if packet.is_keyframe or self._kept:
            self._kept.append((time_s, packet))
            self._kept_bytes += packet.size
        gate.packet(time_s, packet.size, is_key=packet.is_keyframe)
        if self._is_running:
            alarms = self._decode(packet)
            # Without a key frame to begin from, what is shut now could not be opened again.
            if not gate.is_open(time_s) and self._kept and not is_timeless:
                alarms += self._stop()
                gate.shut(time_s)
            self._trim(time_s)
            return alarms
        if not gate.is_open(time_s):
            self._peek(gate, time_s, packet)
        if not gate.is_open(time_s) and self._is_too_much():
            gate.force(time_s)
        if gate.is_open(time_s):
            return self._open(gate.look_from_s)
        self._trim(min(time_s, self._picture_s) - self._settings.before_s)
        first_s = self._kept[0][0] if self._kept else time_s
        return self._engine.idle_until(first_s)

    def _peek(self, gate: LiveGate, time_s: float, packet: Packets) -> None:
        """Decode a frame of closed time, if a picture or a glance is due.

        Key frames by themselves; where packets tell nothing, all frames.
        """
        is_due = gate.wants_picture(time_s) or gate.wants_glance(time_s)
        if gate.needs_pictures and (self._is_peeking or packet.is_keyframe):
            self._is_peeking = True
            frames = self._decoded(packet)
        elif packet.is_keyframe and is_due:
            self._flush_peeking()
            frames = self._decoded(packet) + self._decoded(None)
            self._decoder.flush_buffers()
        else:
            return
        if frames:
            self._latest = frames[0]
            if is_due:
                self._judge(gate, time_s, frames[0])

    def _flush_peeking(self) -> None:
        if self._is_peeking:
            self._decoder.flush_buffers()
            self._is_peeking = False

    def _judge(self, gate: LiveGate, time_s: float, frame: VideoFrame) -> None:
        try:
            if self._is_turned(frame):
                self._engine.turn(frame)
            if gate.wants_picture(time_s):
                self._picture(time_s, frame)
            if gate.wants_glance(time_s):
                self._figures.glances += 1
                gate.glanced(
                    time_s,
                    sees=self._engine.glance(frame),
                    has_sighted=self._engine.sightings >= _SIGHTINGS,
                    counts_since=self._engine.counts_since,
                )
        except (av.error.FFmpegError, ValueError):
            self._figures.damaged += 1

    def _open(self, from_s: float) -> list[Alarm]:
        """Decode what is kept, from the key frame before a moment on; the gate is open."""
        packets = list(self._kept)
        first = 0
        for place, (time_s, packet) in enumerate(packets):
            if packet.is_keyframe and time_s <= from_s + _TICK_S:
                first = place
        self._flush_peeking()
        self._is_running, self._is_catching_up = True, True
        # What stands between the key frame and that moment is decoded only.
        self._begin_s = max(packets[first][0], from_s) if packets else 0.0
        newest_s = self._packet_s if self._packet_s is not None else self._begin_s
        self._figures.open_s += max(newest_s - max(self._begin_s, self._last_s or 0.0), 0.0)
        alarms: list[Alarm] = []
        for _, packet in packets[first:]:
            alarms += self._decode(packet)
        self._is_catching_up = False
        return alarms

    def _stop(self) -> list[Alarm]:
        """The gate shuts: what the decoder holds back is the last that is seen."""
        alarms: list[Alarm] = []
        if self._gate is not None and self._gate.needs_pictures:
            self._is_peeking = True
        else:
            alarms += self._decode(None)
            self._decoder.flush_buffers()
        self._is_running, self._has_stretch, self._span = False, False, None
        return alarms + self._engine.end()

    def _is_too_much(self) -> bool:
        return len(self._kept) > _MOST_PACKETS or self._kept_bytes > _MOST_BYTES

    def _trim(self, needed_s: float) -> None:
        """Let go of what stands before the last key frame at or before a moment."""
        first = 0
        for place, (time_s, packet) in enumerate(self._kept):
            if time_s > needed_s + _TICK_S:
                break
            if packet.is_keyframe:
                first = place
        for _ in range(first):
            self._kept_bytes -= self._kept.popleft()[1].size
        if self._is_too_much():
            self._forget_packets()

    def _forget_packets(self) -> None:
        self._kept.clear()
        self._kept_bytes = 0

    def _decoded(self, packet: Packets | None) -> list[VideoFrame]:
        started = time.thread_time()
        try:
            frames = self._decoder.decode(packet)
        except av.error.EOFError:
            frames = []
        except (av.error.FFmpegError, ValueError):
            self._figures.damaged += 1
            frames = []
        self._figures.decode_s += time.thread_time() - started
        self._figures.decoded += len(frames)
        return frames

    def _decode(self, packet: Packets | None) -> list[Alarm]:
        alarms: list[Alarm] = []
        for frame in self._decoded(packet):
            time_s, epoch = self._clock.of_frame(frame.pts, self._last_s)
            if self._last_s is not None and time_s <= self._last_s:
                self._figures.damaged += not self._is_catching_up
                continue
            try:
                alarms += self._show(time_s, epoch, frame)
            except (av.error.FFmpegError, ValueError):
                # A picture that cannot be converted.
                self._figures.damaged += 1
        return alarms

    def _show(self, time_s: float, epoch: int, frame: VideoFrame) -> list[Alarm]:
        """The next frame that is decoded in order."""
        alarms: list[Alarm] = []
        last_s, self._last_s = self._last_s, time_s
        self._latest = frame
        is_new = epoch != self._epoch or (last_s is not None and time_s - last_s > HOLE_S)
        self._epoch = epoch
        is_turned = self._is_turned(frame)
        is_over = self._span is not None and time_s > self._span[1] + _HALF_MS
        if self._has_stretch and (is_new or is_turned or is_over):
            alarms += self._engine.end()
            self._has_stretch, self._span = False, None
        if is_turned:
            self._engine.turn(frame)
        if self._is_picture_due(time_s, frame):
            self._picture(time_s, frame)
        if not self._has_stretch:
            if self._spans is not None:
                self._span = _holding(self._spans, time_s)
                if self._span is None:
                    return alarms
                self._begin_s = self._span[0]
            self._engine.begin(self._begin_s)
            self._has_stretch = True
        return alarms + self._engine.look(time_s, frame)

    def _is_turned(self, frame: VideoFrame) -> bool:
        """Whether pictures have another shape from this one on."""
        shape = (frame.width, frame.height, frame.rotation)
        if shape == self._shape:
            return False
        self._shape = shape
        width, height = self._stills.size(frame)
        aspect, before = width / height, self._aspect
        if before and abs(aspect / before - 1) <= _SAME_SHAPE:
            return False
        self._aspect = aspect
        return before > 0

    def _is_picture_due(self, time_s: float, frame: VideoFrame) -> bool:
        if self._gate is None and self._on_picture is None:
            return False
        passed_s = time_s - self._picture_s
        every_s = self._settings.key_every_s - _HALF_MS
        # Where key frames are rare, another picture tells more than none.
        return passed_s >= (every_s if frame.key_frame else 2 * every_s)

    def _picture(self, time_s: float, frame: VideoFrame) -> None:
        self._picture_s = time_s
        cells = self._cells.of(frame)
        if self._gate is not None:
            self._gate.picture(time_s, cells)
        if self._on_picture is not None:
            self._on_picture(time_s, cells)


def _joined(stretches: Sequence[Stretch]) -> list[tuple[float, float]]:
    """What stretches cover, in order and apart."""
    joined: list[tuple[float, float]] = []
    for start_s, end_s in sorted((one.start_s, one.end_s) for one in stretches):
        if joined and start_s <= joined[-1][1] + _HALF_MS:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_s))
        else:
            joined.append((start_s, end_s))
    return joined


def _holding(spans: Sequence[tuple[float, float]], time_s: float) -> tuple[float, float] | None:
    for span in spans:
        if span[0] - _HALF_MS <= time_s <= span[1] + _HALF_MS:
            return span
    return None
