"""One camera, watched for ever: a thread that opens it, reads it, and opens it again.

What belongs here: connections, the times of packets, what is done when the box is too slow. What
does not: opening (`sources`), finding falls (`watcher`), telling anybody (`raising`).

Two threads per camera. The reader takes packets from the network the moment they come, so that the
time of arrival is known however busy the box is; the watcher's thread does the rest. Nothing that
happens to one camera reaches another: whatever goes wrong in its threads is logged and the camera
is opened again, after 1 s, then 2 s and so on up to a minute, each wait drawn between nothing and
that (a hundred cameras that lost one switch do not come back in step).

**Times.** An alarm's time is when its frame arrived, by the box's clock: cameras' clocks are wrong
more often than right. Packets' time stamps only tell what lies between two frames. A stamp that
jumps back, or ahead by more than was waited, is a camera whose clock was set: the stream's own time
goes on without the jump. A file that is read as fast as possible has no arrival; its alarms are
told as if it had been played from the moment it was opened.

**Too slow.** Where a live camera's packets wait for more than `MAX_LAG_S`, those up to the next key
frame are left out (counted as `shed`): an alarm that comes minutes late helps nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from fall_assets.edge.condition import CameraJudge, Cells, Condition, Drift, Moment
from fall_assets.edge.config import CameraSettings
from fall_assets.edge.sender import wait_s
from fall_assets.edge.sources import Source, SourceError, file_path, open_source

if TYPE_CHECKING:
    from av import Packet, VideoStream

    from fall_assets.edge.engine import Alarm
    from fall_assets.edge.watcher import WatchFigures

_log = logging.getLogger(__name__)

MAX_LAG_S: Final = 2.0
STABLE_S: Final = 60.0
"""A connection that held for so long begins the waits anew when it breaks."""
JUMP_S: Final = 2.0
"""So much further than was waited a time stamp may go before it is a jump."""

_QUEUE_BYTES: Final = 32 << 20
_QUEUE_FAST: Final = 64
_POLL_S: Final = 0.5
_REORDER_S: Final = 1.0
_ARRIVALS: Final = 4096
_TOLD_AGAIN_S: Final = 60.0


class WatcherLike(Protocol):
    """What this module needs of `watcher.Watcher`."""

    @property
    def figures(self) -> WatchFigures:
        """What became of the stream so far."""

    @property
    def newest_s(self) -> float:
        """The newest packet's time, in seconds of the alarms' clock."""

    @property
    def event_until_s(self) -> float | None:
        """How far the newest event lasts by now; None before the first."""

    def take(self, packet: Packet[VideoStream], /) -> list[Alarm]:
        """Take the next packet."""

    def finish(self) -> list[Alarm]:
        """The connection has ended."""

    def shed_until_key(self) -> None:
        """Leave out packets until the next key frame."""

    def latest_picture(self) -> npt.NDArray[np.uint8] | None:
        """The newest picture, RGB."""


OnPicture = Callable[[float, Cells], None]
Watch = Callable[[Source, OnPicture], WatcherLike]
"""Makes the watcher of one connection; it is to call the second argument with key pictures."""


@dataclass(frozen=True)
class Raised:
    """An alarm of one camera, by the box's clock.

    Attributes:
        connected_utc: when the connection was made on which it was seen.
        start_utc, raised_utc: as the alarm has them.
        arrived_s: when the frame arrived with which it became known (monotonic).
        known_s: when it was known (monotonic).
        picture: the newest picture, RGB (height, width, 3), if there is one.
        file: names a file that is played once, by its path, size and time; None for all else.
    """

    camera_id: str
    alarm: Alarm
    connected_utc: datetime
    start_utc: datetime
    raised_utc: datetime
    arrived_s: float
    known_s: float
    picture: npt.NDArray[np.uint8] | None = field(repr=False)
    file: str | None = None


@dataclass
class Counts:
    """What came from a camera since the box was started.

    `received` are frames that arrived, decoded or not (the motion gate leaves most of a quiet room
    in their packets); `damaged` and `shed` of them were not looked at. `scored` are samples that
    were.
    """

    received: int = 0
    bytes: int = 0
    damaged: int = 0
    shed: int = 0
    decoded: int = 0
    scored: int = 0
    open_s: float = 0.0
    watched_s: float = 0.0
    connections: int = 0
    clock_jumps: int = 0
    worst_lag_s: float = 0.0


@dataclass(frozen=True)
class _Item:
    packet: Packet[VideoStream]
    arrived: Moment


class PacketQueue:
    """Packets between the two threads of a camera.

    `put` waits where `wait` is set (files read as fast as possible); else, with more than 32 MiB
    waiting, packets are dropped up to the next key frame, and counted.
    """

    def __init__(self, *, wait: bool) -> None:
        self.dropped = 0
        self._wait, self._items = wait, deque[_Item]()
        self._bytes, self._dropping = 0, False
        self._ended, self._error = False, None  # type: bool, Exception | None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: _Item) -> bool:
        """Add a packet; False where nobody wants it any more."""
        with self._changed:
            while self._wait and len(self._items) >= _QUEUE_FAST and not self._closed:
                self._changed.wait(_POLL_S)
            if self._closed:
                return False
            size = item.packet.size
            if not self._wait:
                full = self._bytes + size > _QUEUE_BYTES
                self._dropping = full or (self._dropping and not item.packet.is_keyframe)
                if self._dropping:
                    self.dropped += 1
                    return True
            self._items.append(item)
            self._bytes += size
            self._changed.notify_all()
            return True

    def end(self, error: Exception | None = None) -> None:
        """Nothing will follow."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def get(self, timeout_s: float) -> _Item | None:
        """The next packet; None where none came in that time.

        Raises EOFError at the end, or what `end` was given.
        """
        with self._changed:
            if not self._items and not self._ended:
                self._changed.wait(timeout_s)
            if self._items:
                item = self._items.popleft()
                self._bytes -= item.packet.size
                self._changed.notify_all()
                return item
            if self._ended:
                raise self._error or EOFError
            return None

    def close(self) -> None:
        """Nobody reads any more."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()


class ArrivalClock:
    """Time stamps of one connection that only go forward, in the stream's time base.

    They begin at 0. `jumps` counts how often the camera's own clock was set. Where a stream has no
    stamps (`stamped=False`) the time of arrival counts; a single packet without one (the first of
    RTSP) follows on the one before, by `rate` frames a second. Files are left as they are, but for
    where they begin again.
    """

    def __init__(
        self, time_base: Fraction, *, stamped: bool, live: bool, rate: float | None = None
    ) -> None:
        self.jumps = 0
        self._base, self._stamped, self._live = time_base, stamped, live
        self._shift = 0
        self._last: tuple[int, float] | None = None  # by the camera, arrival
        self._given: int | None = None
        self._step = max(1, round(Fraction(1 / rate if rate else 0.04) / time_base))
        self._began_s = 0.0
        self._again = False

    def restart(self) -> None:
        """A file begins again."""
        self._again = True

    def stamps(
        self, pts: int | None, dts: int | None, arrived_s: float
    ) -> tuple[int | None, int | None]:
        """The packet's pts and dts as they are to be."""
        stamp = dts if dts is not None else pts
        if self._live and not self._stamped:
            return self._by_arrival(arrived_s)
        if stamp is None:
            if not self._live:
                return pts, dts
            self._given = self._next(0)
            return self._given, self._given
        last = self._last
        if last is None:
            self._shift = self._next(0) - (stamp if pts is None else pts)
        elif self._jumped(stamp, last, dts is None, arrived_s):
            waited = round((arrived_s - last[1]) / float(self._base)) if self._live else 0
            self._shift = self._next(waited) - stamp
            self.jumps += not self._again
            self._again = False
        elif 0 < stamp - last[0] < 1 / self._base:
            self._step = stamp - last[0]
        self._last = stamp, arrived_s
        self._given = stamp + self._shift
        return (None if pts is None else pts + self._shift), (
            None if dts is None else dts + self._shift
        )

    def _next(self, waited: int) -> int:
        """What follows on the newest stamp, so many ticks later but one frame at least."""
        return 0 if self._given is None else self._given + max(self._step, waited)

    def _jumped(
        self, stamp: int, last: tuple[int, float], reordered: bool, arrived_s: float
    ) -> bool:
        if self._again:
            return True
        step_s = float((stamp - last[0]) * self._base)
        if not self._live:
            return False
        # pts alone go back and forth where frames are stored in another order than shown.
        if step_s < (-_REORDER_S if reordered else 0.0):
            return True
        return step_s > arrived_s - last[1] + JUMP_S

    def _by_arrival(self, arrived_s: float) -> tuple[int, int]:
        if self._given is None:
            self._began_s, self._given = arrived_s, -1
        stamp = max(self._given + 1, round((arrived_s - self._began_s) / float(self._base)))
        self._given = stamp
        return stamp, stamp


class Arrivals:
    """When the frames of the last minutes arrived, by their time in the stream."""

    def __init__(self) -> None:
        self._rows = np.full((_ARRIVALS, 3), np.nan)
        self._count = 0

    def add(self, stream_s: float, arrived: Moment) -> None:
        """A frame of that time arrived."""
        self._rows[self._count % _ARRIVALS] = stream_s, arrived.mono_s, arrived.utc.timestamp()
        self._count += 1

    def at(self, stream_s: float) -> Moment | None:
        """When the frame nearest to that time arrived; None before the first.

        For a time before all that is remembered: so much before the oldest.
        """
        rows = self._rows[: min(self._count, _ARRIVALS)]
        if not len(rows):
            return None
        near, mono_s, utc_s = rows[np.argmin(np.abs(rows[:, 0] - stream_s))]
        off = min(0.0, stream_s - near) if near == rows[:, 0].min() else 0.0
        return Moment(float(mono_s + off), datetime.fromtimestamp(float(utc_s + off), UTC))


class CameraStream:
    """Watches one camera in threads of its own until it is stopped.

    Args:
        watch: makes the watcher of a connection.
        on_alarm: called in the camera's thread for every alarm; what it raises is logged and
            counts as a stumble of the box.
        hwaccel: as RunnerSettings has it.
        endless: False: a file that ends (or cannot be read) ends the stream.
    """

    def __init__(
        self,
        camera: CameraSettings,
        watch: Watch,
        on_alarm: Callable[[Raised], object],
        *,
        hwaccel: str = "none",
        endless: bool = True,
    ) -> None:
        self.camera = camera
        self.counts = Counts()
        self.problem = ""
        """Why there is no connection; empty while there is one."""
        self.stumbled_s: float | None = None
        """When something went wrong in the box itself, not with the camera (monotonic)."""
        self.rate: float | None = None
        """Frames a second as the stream itself says."""
        self._watch, self._on_alarm = watch, on_alarm
        self._hwaccel, self._endless = hwaccel, endless
        self._live = not (camera.is_file and camera.pace == "fast")
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._judge = CameraJudge(expected_fps=camera.fps, now=now(), live=self._live)
        self._drift: Drift | None = None
        self._camera_utc_s: float | None = None
        self._offset_s: float | None = None
        self._before = Counts()
        self._watcher: WatcherLike | None = None
        self._event_until_s: float | None = None
        self._event_until: datetime | None = None
        self._told: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name=f"camera {camera.id}", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Ask to end; `join` waits for it."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait so long for the end; whether it has ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def condition(self, at: Moment) -> Condition:
        """The camera's state; ask every few seconds."""
        with self._lock:
            return self._judge.condition(at)

    def fps(self, at: Moment) -> float | None:
        """Frames a second over the last 10 s."""
        with self._lock:
            return self._judge.fps(at)

    def clock_offset_s(self) -> float | None:
        """Seconds by which the camera's clock is ahead of the box's; None where it is not known.

        By the camera's own word where it gives one (RTCP), else by how much it ran away since the
        connection was made. Whole jumps are counted in `counts.clock_jumps`.
        """
        with self._lock:
            if self._offset_s is not None:
                return self._offset_s
            return self._drift.offset_s if self._drift is not None else None

    def figures(self) -> Counts:
        """What came so far."""
        with self._lock:
            counts = Counts(**vars(self.counts))
            before, watcher = self._before, self._watcher
        if watcher is not None:
            _add(before, watcher.figures, counts)
        else:
            _add(before, None, counts)
        return counts

    def event_until(self) -> datetime | None:
        """Until when the newest event lasted, as far as is known; None before the first."""
        with self._lock:
            return self._event_until

    def _note_event(self, until_s: float | None, arrivals: Arrivals) -> None:
        if until_s is None or until_s == self._event_until_s:
            return
        until = arrivals.at(until_s)
        with self._lock:
            self._event_until_s = until_s
            self._event_until = None if until is None else until.utc

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._connection()
                if not self._endless:
                    return
                problem = "the stream ended"
            except SourceError as error:
                problem = str(error)
                if self.camera.is_file and not self._endless:
                    self.problem = problem
                    _log.error("%s: %s", self.camera.id, problem)
                    return
            except Exception as error:
                # One camera's misfortune must not be another's.
                self.stumbled_s = time.monotonic()
                problem = f"{type(error).__name__}: {error}"
                self._say(f"{self.camera.id} stumbled", exc=True)
            if self._stop.is_set():
                return
            self.problem = self.camera.without_secrets(problem)
            if time.monotonic() - began >= STABLE_S:
                failures = 0
            failures += 1
            wait = wait_s(failures)
            _log.warning("%s: %s; again in %.1f s", self.camera.id, self.problem, wait)
            self._stop.wait(wait)

    def _connection(self) -> None:
        """One connection, from opening to its end."""
        source = open_source(self.camera, hwaccel=self._hwaccel)
        queue = PacketQueue(wait=not self._live)
        reader = threading.Thread(
            target=self._read, args=(source, queue), name=f"reader {self.camera.id}", daemon=True
        )
        session = _Session(self, source, queue)
        reader.start()
        try:
            session.watch()
        finally:
            queue.close()
            with self._lock:
                watcher, self._watcher = self._watcher, None
                if watcher is not None:
                    after = Counts()
                    _add(self._before, watcher.figures, after)
                    self._before = after
            # A camera takes one connection, often enough: the old one goes first.
            while reader.is_alive() and not self._stop.is_set():
                reader.join(_POLL_S)

    def _read(self, source: Source, queue: PacketQueue) -> None:
        """The reader's thread: packets, with the time of their arrival."""
        error: Exception | None = None
        try:
            self._read_all(source, queue)
        except Exception as caught:
            error = caught
        finally:
            queue.end(error)

    def _read_all(self, source: Source, queue: PacketQueue) -> None:
        camera = self.camera
        paced = self._live and camera.kind in ("file", "lavfi")
        # A file's stamps are right, whatever gaps there are.
        live = self._live and not paced
        clock = ArrivalClock(
            source.time_base, stamped=source.stamped, live=live, rate=source.rate or camera.fps
        )
        with self._lock:
            self._drift = Drift() if source.stamped and live else None
            self._offset_s = None
        began: float | None = None
        current = source
        base = float(source.time_base)
        try:
            while True:
                for packet in current.packets():
                    pts, dts = packet.pts, packet.dts
                    if paced:
                        packet.pts, packet.dts = clock.stamps(pts, dts, time.monotonic())
                        due = packet.dts if packet.dts is not None else packet.pts
                        if began is None:
                            began = time.monotonic() - (due or 0) * base
                        if due is not None and self._stop.wait(
                            max(0.0, began + due * base - time.monotonic())
                        ):
                            return
                    arrived = now()
                    if not paced:
                        packet.pts, packet.dts = clock.stamps(pts, dts, arrived.mono_s)
                    self._arrived(current, packet.size, arrived, pts, clock)
                    if self._stop.is_set() or not queue.put(_Item(packet, arrived)):
                        return
                if not (camera.is_file and camera.loop):
                    return
                current.close()
                current = open_source(camera)
                clock.restart()
        finally:
            current.close()

    def _arrived(
        self, source: Source, size: int, arrived: Moment, pts: int | None, clock: ArrivalClock
    ) -> None:
        with self._lock:
            self.problem = ""
            counts = self.counts
            counts.received += 1
            counts.bytes += size
            self._judge.frame(arrived)
            if pts is None or self._drift is None:
                return
            if clock.jumps:
                # The camera's clock was set: what it says is measured from here on.
                counts.clock_jumps += clock.jumps
                clock.jumps = 0
                self._drift, self._offset_s = Drift(), None
                self._tell_jump()
            stream_s = float(pts * source.time_base)
            self._drift.add(stream_s, arrived.mono_s)
            if self._drift.offset_s is not None and counts.received % 32 == 0:
                zero = source.camera_utc_s
                if zero is not None:
                    self._offset_s = zero + stream_s - arrived.utc.timestamp()

    def _tell_jump(self) -> None:
        self._say(f"{self.camera.id}: its time stamps jumped; frames are timed by their arrival")

    def _say(self, text: str, *, exc: bool = False) -> None:
        """Log a warning, the same one at most once a minute."""
        at = time.monotonic()
        if at - self._told.get(text, -_TOLD_AGAIN_S) < _TOLD_AGAIN_S:
            return
        self._told[text] = at
        _log.warning("%s", text, exc_info=exc)


class _Session:
    """One connection as the watcher's thread sees it."""

    def __init__(self, stream: CameraStream, source: Source, queue: PacketQueue) -> None:
        self._stream, self._source, self._queue = stream, source, queue
        self._connected = now()
        self._arrivals = Arrivals()
        self._file = _file_name(stream.camera)

    def watch(self) -> None:
        """Until the stream ends (returns), breaks off (raises SourceError) or is stopped."""
        stream, source = self._stream, self._source
        watcher = stream._watch(source, self._picture)
        with stream._lock:
            stream._watcher = watcher
            stream.counts.connections += 1
            stream.rate = source.rate
        _log.info(
            "%s: connected to %s (%s%s)",
            stream.camera.id,
            stream.camera.shown,
            source.codec,
            f", decoded by {source.hardware}" if source.hardware else "",
        )
        try:
            while not stream._stop.is_set():
                item = self._queue.get(_POLL_S)
                if item is not None:
                    self._take(watcher, item)
        except EOFError:
            self._raise(watcher, watcher.finish())
            return
        except SourceError:
            # What was seen last counts, however the connection ended.
            self._raise(watcher, watcher.finish())
            raise
        self._raise(watcher, watcher.finish())

    def _take(self, watcher: WatcherLike, item: _Item) -> None:
        stream = self._stream
        if stream._live:
            lag = time.monotonic() - item.arrived.mono_s
            if lag > stream.counts.worst_lag_s:
                stream.counts.worst_lag_s = lag
            if lag > MAX_LAG_S:
                watcher.shed_until_key()
                stream._say(
                    f"{stream.camera.id}: the box is too slow; frames are left out up to the next "
                    "key frame"
                )
        alarms = watcher.take(item.packet)
        self._arrivals.add(watcher.newest_s, item.arrived)
        self._raise(watcher, alarms)
        stream._note_event(watcher.event_until_s, self._arrivals)
        dropped = self._queue.dropped
        if dropped:
            self._queue.dropped -= dropped
            stream.counts.shed += dropped

    def _raise(self, watcher: WatcherLike, alarms: list[Alarm]) -> None:
        known_s = time.monotonic()
        for alarm in alarms:
            try:
                self._stream._on_alarm(self._by_the_box(alarm, watcher, known_s))
            except Exception:
                # The stream goes on, but the box is not well: a new package goes back for this.
                self._stream.stumbled_s = time.monotonic()
                _log.exception("%s: an alarm could not be raised", self._stream.camera.id)

    def _by_the_box(self, alarm: Alarm, watcher: WatcherLike, known_s: float) -> Raised:
        stream = self._stream
        if stream._live:
            raised, start, known = (
                self._arrivals.at(one) or self._connected
                for one in (alarm.raised_s, alarm.start_s, alarm.known_s)
            )
        else:
            raised, start = (
                Moment(
                    self._connected.mono_s + one,
                    datetime.fromtimestamp(self._connected.utc.timestamp() + one, UTC),
                )
                for one in (alarm.raised_s, alarm.start_s)
            )
            known = self._arrivals.at(alarm.known_s) or self._connected
        try:
            picture = watcher.latest_picture()
        except Exception:
            _log.exception("%s: no picture of an alarm", stream.camera.id)
            picture = None
        return Raised(
            stream.camera.id,
            alarm,
            self._connected.utc,
            min(start.utc, raised.utc),
            raised.utc,
            known.mono_s,
            known_s,
            picture,
            self._file,
        )

    def _picture(self, _time_s: float, cells: Cells) -> None:
        with self._stream._lock:
            self._stream._judge.picture(now(), cells)


def now() -> Moment:
    """This moment by both clocks."""
    return Moment(time.monotonic(), datetime.now(UTC))


def _file_name(camera: CameraSettings) -> str | None:
    """Names a file that is played once, so that it is known again; None for all else."""
    if not camera.is_file or camera.loop:
        return None
    path = file_path(camera)
    try:
        facts = path.stat()
    except OSError:
        return str(path)
    return f"{path}|{facts.st_size}|{facts.st_mtime_ns}"


def _add(before: Counts, figures: WatchFigures | None, into: Counts) -> None:
    """Add up what the watchers of all connections counted."""
    into.damaged = before.damaged
    into.decoded, into.scored = before.decoded, before.scored
    into.open_s, into.watched_s = before.open_s, before.watched_s
    into.shed += before.shed
    if figures is not None:
        into.damaged += figures.damaged
        into.shed += figures.shed
        into.decoded += figures.decoded
        into.scored += figures.samples + figures.glances
        into.open_s += figures.open_s
        into.watched_s += figures.watched_s
