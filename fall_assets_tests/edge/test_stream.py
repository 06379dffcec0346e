"""A camera's threads: reconnecting, times, being too slow, and one camera beside another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.edge import sources, stream
from fall_assets.edge.condition import Moment
from fall_assets.edge.config import CameraSettings
from fall_assets.edge.engine import Alarm
from fall_assets.edge.sources import Source
from fall_assets.edge.stream import (
    ArrivalClock,
    Arrivals,
    CameraStream,
    OnPicture,
    PacketQueue,
    Raised,
    _Item,
    now,
)
from fall_assets.edge.watcher import WatchFigures
from fall_assets.simulation.cameras import CameraServer
from fall_assets.simulation.films import load_film
from fall_assets_tests.edge.waiting import until
from fall_assets_tests.footage.films import film

BASE = Fraction(1, 90_000)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Standin:
    """A watcher that remembers packets, and raises an alarm where it is told to."""

    def __init__(self, source: Source, on_picture: OnPicture | None = None) -> None:
        self.source, self.on_picture = source, on_picture
        self.figures = WatchFigures()
        self.stamps: list[int | None] = []
        self.newest_s = 0.0
        self.event_until_s: float | None = None
        self.finished = False
        self.shed_asked = 0
        self.on_take: Callable[[Standin], list[Alarm]] = lambda _: []
        self.on_finish: Callable[[Standin], list[Alarm]] = lambda _: []

    def take(self, packet: Any) -> list[Alarm]:
        self.figures.frames += 1
        self.stamps.append(packet.dts)
        self.newest_s = float(packet.pts * self.source.time_base)
        return self.on_take(self)

    def finish(self) -> list[Alarm]:
        self.finished = True
        return self.on_finish(self)

    def shed_until_key(self) -> None:
        self.shed_asked += 1

    def latest_picture(self) -> npt.NDArray[np.uint8] | None:
        return np.zeros((4, 4, 3), np.uint8)


def alarm_at(seconds: float) -> Alarm:
    return Alarm(max(0.0, seconds - 4), seconds, seconds, 0.9, "fall", None)


class Watched:
    """A stream with stand-ins, one per connection."""

    def __init__(self, camera: CameraSettings, **how: Any) -> None:
        self.made: list[Standin] = []
        self.raised: list[Raised] = []
        self.prepare: Callable[[Standin], None] = lambda _: None
        self.stream = CameraStream(camera, self._watch, self.raised.append, **how)

    def _watch(self, source: Source, on_picture: OnPicture) -> Standin:
        standin = Standin(source, on_picture)
        self.prepare(standin)
        self.made.append(standin)
        return standin

    @property
    def frames(self) -> int:
        return sum(one.figures.frames for one in list(self.made))


@contextmanager
def running(watched: Watched) -> Iterator[Watched]:
    watched.stream.start()
    try:
        yield watched
    finally:
        watched.stream.stop()
        assert watched.stream.join(20), "the camera's thread does not end"


def file_camera(path: Path, **other: Any) -> CameraSettings:
    return CameraSettings("cam-1", f"file://{path}", **other)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long waits between connections."""
    monkeypatch.setattr(stream, "wait_s", lambda failures: 0.05)
    monkeypatch.setattr(sources, "READ_S", 1.0)


def test_a_file_is_read_once_as_fast_as_possible(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames=200, fps=10)
    watched = Watched(file_camera(path, pace="fast"), endless=False)
    watched.prepare = lambda one: setattr(
        one, "on_take", lambda w: [alarm_at(12.0)] if w.figures.frames == 130 else []
    )
    before = datetime.now(UTC)
    with running(watched):
        until(lambda: not watched.stream.alive, "the file's end")
    after = datetime.now(UTC)
    assert watched.frames == 200
    assert watched.made[0].finished
    assert watched.stream.figures().received == 200
    (raised,) = watched.raised
    # As if it had been played from the moment it was opened.
    assert before <= raised.raised_utc - timedelta(seconds=12) <= after
    assert raised.start_utc == raised.raised_utc - timedelta(seconds=4)
    assert raised.file is not None
    assert str(path) in raised.file


def test_the_last_moments_of_a_file_count(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames=20, fps=10)
    watched = Watched(file_camera(path, pace="fast"), endless=False)
    watched.prepare = lambda one: setattr(one, "on_finish", lambda _: [alarm_at(2.0)])
    with running(watched):
        until(lambda: not watched.stream.alive, "the file's end")
    assert len(watched.raised) == 1


def test_a_file_at_real_pace_is_told_by_arrival(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames=10, fps=10)
    watched = Watched(file_camera(path), endless=False)
    arrived: list[datetime] = []

    def take(one: Standin) -> list[Alarm]:
        arrived.append(datetime.now(UTC))
        return [alarm_at(0.5)] if one.figures.frames == 6 else []

    watched.prepare = lambda one: setattr(one, "on_take", take)
    with running(watched):
        until(lambda: not watched.stream.alive, "the file's end")
    (raised,) = watched.raised
    assert arrived[4] < raised.raised_utc <= arrived[5]
    assert raised.arrived_s <= raised.known_s


def test_a_loop_goes_on_without_a_seam(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames=20, fps=10)
    watched = Watched(file_camera(path, pace="fast", loop=True))
    with running(watched):
        until(lambda: watched.frames > 100, "five rounds")
    (one,) = watched.made
    stamps = [stamp for stamp in one.stamps if stamp is not None]
    steps = np.diff(stamps)
    assert (steps > 0).all()
    assert float(steps.max() * one.source.time_base) == pytest.approx(0.1, abs=0.03)
    assert watched.stream.figures().clock_jumps == 0


def test_a_missing_file_is_tried_again_and_again(quick: None, tmp_path: Path) -> None:
    watched = Watched(file_camera(tmp_path / "a.mp4", pace="fast"))
    with running(watched):
        until(lambda: watched.stream.problem, "a problem")
        assert "No such file" in watched.stream.problem
        film(tmp_path / "a.mp4")
        until(lambda: watched.frames > 0, "frames of the file that is there now")


def test_a_watcher_that_fails_is_made_anew(quick: None, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames=20)
    watched = Watched(file_camera(path, pace="fast"))

    def fail(one: Standin) -> list[Alarm]:
        raise RuntimeError("the network is of rubber")

    watched.prepare = lambda one: setattr(one, "on_take", fail)
    with running(watched):
        until(lambda: len(watched.made) >= 2, "another watcher")
        assert watched.stream.alive
        assert watched.stream.stumbled_s is not None


def test_an_alarm_that_cannot_be_told_does_not_end_the_camera(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames=20)
    told: list[Raised] = []

    def tell(raised: Raised) -> None:
        told.append(raised)
        raise OSError("no")

    made: list[Standin] = []

    def watch(source: Source, on_picture: OnPicture) -> Standin:
        one = Standin(source)
        one.on_take = lambda _: [alarm_at(0.1)]
        made.append(one)
        return one

    camera = CameraStream(file_camera(path, pace="fast"), watch, tell, endless=False)
    camera.start()
    assert camera.join(20)
    assert len(told) == made[0].figures.frames == 20
    assert camera.stumbled_s is not None, "the box is not well then"


def test_rtsp_lost_and_found(quick: None, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames=40, fps=20, gop=10)
    with CameraServer({"a": load_film(path, gop_s=0.5)}) as server:
        watched = Watched(CameraSettings("cam-1", server.rtsp_url("a"), fps=20))
        with running(watched):
            until(lambda: watched.frames > 20, "pictures by RTSP")
            server.drop("a")
            until(lambda: len(watched.made) >= 2, "another connection")
            count = watched.frames
            until(lambda: watched.frames > count + 20, "pictures on it")
            server.set_fault("a", "silent")
            until(lambda: "nothing came in time" in watched.stream.problem, "silence to be told")
            server.set_fault("a", "none")
            count = watched.frames
            until(lambda: watched.frames > count + 20, "pictures again")
            assert watched.stream.problem == ""
        figures = watched.stream.figures()
        assert figures.connections == len(watched.made) >= 3
        assert figures.received >= watched.frames
        assert figures.bytes > 0


def test_a_cameras_clock_that_is_set(quick: None, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames=40, fps=20, gop=10)
    with CameraServer({"a": load_film(path, gop_s=0.5)}) as server:
        watched = Watched(CameraSettings("cam-1", server.rtsp_url("a")))
        with running(watched):
            until(lambda: watched.frames > 20, "pictures")
            server.set_fault("a", "clock", 7200.0)
            until(lambda: watched.stream.figures().clock_jumps > 0, "the jump to be seen")
            until(lambda: watched.frames > 60, "pictures after it")
        (one,) = watched.made
        stamps = [stamp for stamp in one.stamps if stamp is not None]
        assert (np.diff(stamps) > 0).all()
        assert float((stamps[-1] - stamps[0]) * one.source.time_base) < 60


def test_one_bad_camera_beside_a_good_one(quick: None, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames=40, fps=20, gop=10)
    with CameraServer({"good": load_film(path, gop_s=0.5), "bad": load_film(path)}) as server:
        server.set_fault("bad", "refused")
        good = Watched(CameraSettings("good", server.http_url("good")))
        bad = Watched(CameraSettings("bad", server.http_url("bad")))
        with running(good), running(bad):
            until(lambda: bad.stream.problem, "the bad one's problem")
            until(lambda: good.frames > 40, "pictures of the good one")
        assert bad.frames == 0


def test_a_slow_box_sheds_live_pictures(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_LAG_S", 0.2)
    path = film(tmp_path / "a.mp4", frames=100, fps=50)
    watched = Watched(file_camera(path, loop=True))

    def slow(one: Standin) -> list[Alarm]:
        if one.shed_asked == 0:
            time.sleep(0.05)
        return []

    watched.prepare = lambda one: setattr(one, "on_take", slow)
    with running(watched):
        until(lambda: watched.made and watched.made[0].shed_asked, "frames to be left out")
        until(lambda: watched.frames > 100, "it to go on")
    assert watched.stream.figures().worst_lag_s > 0.2


def test_a_file_read_fast_never_sheds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_LAG_S", 0.0)
    path = film(tmp_path / "a.mp4", frames=100)
    watched = Watched(file_camera(path, pace="fast"), endless=False)
    with running(watched):
        until(lambda: not watched.stream.alive, "the file's end")
    assert watched.made[0].shed_asked == 0
    assert watched.frames == 100


def test_stopping_takes_a_bounded_time(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames=20, fps=1)
    watched = Watched(file_camera(path, loop=True))
    watched.stream.start()
    until(lambda: watched.frames > 0, "a picture")
    ended = threading.Event()

    def stop() -> None:
        watched.stream.stop()
        watched.stream.join(60)
        ended.set()

    threading.Thread(target=stop, daemon=True).start()
    assert ended.wait(20)


def item(size: int = 100, *, key: bool = False) -> _Item:
    packet = av.Packet(bytes(size))
    packet.is_keyframe = key
    return _Item(packet, now())  # type: ignore[arg-type]


def test_a_queue_of_a_live_camera_is_bounded() -> None:
    queue = PacketQueue(wait=False)
    for number in range(50):
        assert queue.put(item(1 << 20, key=number % 10 == 0))
    kept = 0
    while queue.get(0.0) is not None:
        kept += 1
    assert kept == 32
    assert queue.dropped == 18
    # What follows makes no sense before the next key frame.
    queue.put(item())
    assert queue.get(0.0) is None
    queue.put(item(key=True))
    assert queue.get(0.0) is not None
    queue.end(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        queue.get(0.0)
    queue.close()
    assert not queue.put(item())


STEPS = st.lists(
    st.tuples(st.integers(1, 20), st.floats(0.0, 3.0), st.sampled_from([0, 0, 0, 0, 7200, -7200])),
    min_size=2,
    max_size=60,
)


@given(STEPS, st.integers(-(2**32), 2**32))
def test_stamps_never_go_back_nor_run_away(steps: list[tuple[int, float, int]], first: int) -> None:
    clock = ArrivalClock(BASE, stamped=True, live=True)
    stamp, arrived, given_before = first, 1000.0, None
    jumps = 0
    for frames, waited, jump in steps:
        moved = frames * 3600
        stamp += moved + jump * 90_000
        arrived += max(waited, moved / 90_000)
        jumps += jump != 0 and given_before is not None
        pts, dts = clock.stamps(stamp, stamp, arrived)
        assert pts is not None
        assert pts == dts
        if given_before is not None:
            assert given_before < pts
        given_before = pts
    assert clock.jumps == jumps
    assert given_before is not None
    assert given_before / 90_000 <= arrived - 1000.0 + 1


def test_b_frames_keep_their_order() -> None:
    clock = ArrivalClock(BASE, stamped=True, live=True)
    told = [
        clock.stamps(pts * 3600, dts * 3600, 10 + number / 25)
        for number, (pts, dts) in enumerate([(7, 5), (10, 6), (8, 7), (9, 8)])
    ]
    assert told == [(0, -7200), (10800, -3600), (3600, 0), (7200, 3600)]


def test_a_first_packet_without_a_time() -> None:
    clock = ArrivalClock(BASE, stamped=True, live=True, rate=25.0)
    assert clock.stamps(None, None, 10.0) == (0, 0)
    assert clock.stamps(104_400, 104_400, 10.04) == (3600, 3600)
    assert clock.stamps(108_000, 108_000, 10.08) == (7200, 7200)
    assert clock.jumps == 0


def test_late_packets_are_no_jump() -> None:
    clock = ArrivalClock(BASE, stamped=True, live=True)
    for number in range(100):
        # The network stands still for 4 s, then everything comes at once.
        arrived = number / 25 if number < 50 else max(6.0, number / 25)
        assert clock.stamps(number * 3600, number * 3600, arrived)[0] == number * 3600
    assert clock.jumps == 0


def test_streams_without_stamps_are_timed_by_arrival() -> None:
    clock = ArrivalClock(BASE, stamped=False, live=True)
    told = [clock.stamps(None, n * 3600, at)[0] for n, at in enumerate([5.0, 5.5, 5.5, 9.0])]
    assert told == [0, 45_000, 45_001, 360_000]


def test_gaps_of_a_file_stay() -> None:
    clock = ArrivalClock(BASE, stamped=True, live=False)
    told = [clock.stamps(s * 90_000, s * 90_000, 10.0)[0] for s in (3, 4, 60)]
    assert told == [0, 90_000, 57 * 90_000]
    assert clock.stamps(None, None, 10.0) == (None, None)


def test_when_a_frame_arrived() -> None:
    arrivals = Arrivals()
    assert arrivals.at(1.0) is None
    for number in range(10_000):
        seconds = number / 25
        arrivals.add(seconds, Moment(500 + seconds, NOON + timedelta(seconds=seconds)))
    exact = arrivals.at(399.0)
    assert exact is not None
    assert exact.mono_s == pytest.approx(899.0)
    assert exact.utc == NOON + timedelta(seconds=399)
    # Longer ago than is remembered: counted back.
    early = arrivals.at(100.0)
    assert early is not None
    assert early.mono_s == pytest.approx(600.0)
