"""Packets in, alarms out: whatever the packets are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from fall_assets.edge import watcher as watcher_module
from fall_assets.edge.engine import Alarm, StreamEngine
from fall_assets.edge.model import EdgeModel
from fall_assets.edge.watcher import Watcher
from fall_assets.features.crop import Crop
from fall_assets.features.gate import Stretch
from fall_assets.features.people import People
from fall_assets_tests.edge.films import (
    BASE,
    FPS,
    Packet,
    changed,
    decoder,
    encoded,
    room,
    stamped,
    watched,
)
from fall_assets_tests.edge.models import ScriptedPool
from fall_assets_tests.edge.test_engine import Actor

MOVING = (500, 560)


@pytest.fixture(scope="module")
def quiet_room() -> list[Packet]:
    """90 s at 10 frames a second, a key frame every 2 s; something moves from 50 to 56 s."""
    return encoded(room(900, moving=MOVING))


@pytest.fixture(scope="module")
def short() -> list[Packet]:
    """12 s with a key frame every 2 s."""
    return encoded(room(120, moving=(0, 120)))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Times of all frames at which the engine looked."""
    times: list[float] = []
    look = StreamEngine.look

    def noted(self: StreamEngine, time_s: float, frame: av.VideoFrame) -> list[Alarm]:
        times.append(round(time_s, 3))
        return look(self, time_s, frame)

    monkeypatch.setattr(StreamEngine, "look", noted)
    return times


@pytest.fixture
def watch(edge_model: EdgeModel) -> Callable[..., Watcher]:
    """Makes a watcher that sees nobody unless it is told to."""

    def make(**how: Any) -> Watcher:
        how = {"pool": ScriptedPool(), "decoder": decoder(), "gate": "open", "fps": FPS, **how}
        pool, own = how.pop("pool"), how.pop("decoder")
        return Watcher(edge_model, pool, own, BASE, **how)

    return make


def walker() -> Iterator[People]:
    """Somebody who is always there and falls at 5 s."""
    actor = Actor(0, 1e9, 0, 5, 0.4, 1, missed=0.0)
    return (actor.people(number / 10) for number in itertools.count())


def test_an_open_gate_decodes_everything(
    watch: Callable[..., Watcher], short: list[Packet], looks: list[float]
) -> None:
    watcher = watch(keep_scores=True, crop=Crop(0.0, 0.0, 0.5, 1.0))
    assert watcher.latest_picture() is None
    watched(watcher, short)
    figures = watcher.figures
    assert (figures.frames, figures.decoded, figures.samples) == (120, 120, 120)
    assert (figures.damaged, figures.shed, figures.glances) == (0, 0, 0)
    assert figures.watched_s == figures.open_s == pytest.approx(11.9)
    assert looks == [round(number / 10, 3) for number in range(120)]
    assert watcher.scores.end_s[-1] == 12.0
    picture = watcher.latest_picture()
    assert picture is not None
    assert picture.shape == (192, 160, 3)


def test_key_pictures_are_handed_on(watch: Callable[..., Watcher], short: list[Packet]) -> None:
    seen: list[tuple[float, tuple[int, ...], float]] = []

    def note(time_s: float, cells: NDArray[np.float32]) -> None:
        seen.append((time_s, cells.shape, float(cells.mean())))

    watched(watch(on_picture=note), short)
    assert [time_s for time_s, _, _ in seen] == [0.0, 4.0, 8.0]
    assert all(shape == (12, 20) and 60 < mean < 200 for _, shape, mean in seen)


def test_the_live_gate_opens_for_what_moves_and_from_before_on(
    watch: Callable[..., Watcher], quiet_room: list[Packet], looks: list[float]
) -> None:
    watcher = watch(gate="live", keep_scores=True)
    watched(watcher, quiet_room)
    figures = watcher.figures
    assert figures.frames == 900
    assert set(range(480, 660)) <= {round(time_s * 10) for time_s in looks}
    assert looks == sorted(looks)
    assert len(looks) < 450
    assert figures.open_s < 50
    # A glance every 15 s of the closed time.
    assert 1 <= figures.glances <= 4
    # Moments at which nobody looked count as well.
    assert watcher.scores.end_s.tolist() == pytest.approx(np.arange(1.0, 90.01, 0.2).tolist())


def test_recorded_stretches_are_looked_at_and_nothing_else(
    watch: Callable[..., Watcher], quiet_room: list[Packet], looks: list[float]
) -> None:
    spans = [Stretch(10.0, 13.0, "packets"), Stretch(48.0, 67.0, "picture")]
    watcher = watch(gate=spans)
    watched(watcher, quiet_room)
    wanted = [*range(100, 131), *range(480, 671)]
    assert [round(time_s * 10) for time_s in looks] == wanted
    # The first frame says where the zero is.
    assert watcher.figures.decoded <= len(wanted) + 1


def test_somebody_who_lies_still_is_looked_at(
    watch: Callable[..., Watcher], quiet_room: list[Packet], looks: list[float]
) -> None:
    """The network sees somebody, weakly, as soon as it looks at single pictures."""
    actor = Actor(0, 1e9, 1e9, 0, 0.4, 1, missed=0.0)
    pool = ScriptedPool(actor.people(number / 10) for number in itertools.count())
    nobody, somebody = watch(gate="live"), watch(gate="live", pool=pool)
    watched(nobody, quiet_room[:480])
    before = len(looks)
    watched(somebody, quiet_room[:480])
    assert len(looks) - before > before + 40


def test_damaged_packets_do_no_harm(watch: Callable[..., Watcher], short: list[Packet]) -> None:
    rng = np.random.default_rng(0)
    for gate in ("open", "live", [Stretch(0.0, 12.0, "short")]):
        packets = []
        for packet in short:
            content = bytearray(bytes(packet))
            if rng.random() < 0.3:
                at = rng.integers(0, len(content), 20)
                content = bytearray(np.frombuffer(content, np.uint8).copy())
                for place in at:
                    content[place] = rng.integers(0, 256)
                content = content[: rng.integers(1, len(content) + 1)]
            packets.append(changed(packet, bytes(content)))
        packets.insert(40, changed(short[40], b"\x00" * 50))
        watcher = watch(gate=gate, keep_scores=True)
        watched(watcher, packets)
        assert watcher.figures.damaged > 0
        assert watcher.figures.decoded > 20
        assert watcher.scores.end_s[-1] == 12.0


def test_packets_may_have_no_times(
    watch: Callable[..., Watcher], quiet_room: list[Packet], looks: list[float]
) -> None:
    packets = [stamped(changed(one, bytes(one)), None) for one in quiet_room[:200]]
    watcher = watch(gate="live", keep_scores=True)
    watched(watcher, packets)
    assert watcher.figures.decoded == 200
    assert looks == pytest.approx([number / 10 for number in range(200)], abs=0.002)
    assert watcher.scores.end_s[-1] == pytest.approx(20.0, abs=0.11)


@pytest.mark.parametrize("gate", ["open", "live"])
@pytest.mark.parametrize("jump_s", [-3600.0, -30.0, 20.0, 1e6])
def test_a_clock_that_jumps_begins_a_new_stretch(
    watch: Callable[..., Watcher],
    short: list[Packet],
    looks: list[float],
    jump_s: float,
    gate: str,
) -> None:
    """Nobody is followed across the jump, and the stream's own clock goes on."""
    jump = round(jump_s / BASE)
    packets = [
        stamped(changed(one, bytes(one)), (one.pts or 0) + (jump if number >= 60 else 0))
        for number, one in enumerate(short)
    ]
    watcher = watch(gate=gate, pool=ScriptedPool(walker()), keep_scores=True)
    watched(watcher, packets)
    assert watcher.figures.damaged == 0
    assert looks == sorted(set(looks))
    assert len(looks) == 120
    assert looks[59] == 5.9
    # A hole of seconds may be one in the film; a clock that is hours off is not.
    assert looks[60] == pytest.approx(26.0 if jump_s == 20 else 6.0)
    # Right after it nobody has been seen often enough.
    scores = watcher.scores
    after = (scores.end_s > looks[60] + 0.05) & (scores.end_s < looks[60] + 0.25)
    assert [scores.track[place] for place in np.flatnonzero(after)] == [None]


def test_pictures_may_change_their_size(watch: Callable[..., Watcher], looks: list[float]) -> None:
    packets = [
        *encoded(room(40)),
        *encoded(room(40, width=640, height=384), first=40),
        *encoded(room(40, width=192, height=320), first=80),
    ]
    watcher = watch(pool=ScriptedPool(walker()), keep_scores=True)
    watched(watcher, packets)
    assert watcher.figures.damaged == 0
    assert len(looks) == 120
    scores = watcher.scores
    unseen = [end for end, who in zip(scores.end_s, scores.track, strict=True) if who is None]
    # Only the other shape begins a new stretch.
    assert unseen == pytest.approx([8.2, 8.4])
    picture = watcher.latest_picture()
    assert picture is not None
    assert picture.shape == (320, 192, 3)


def test_what_is_thrown_away_is_counted(
    watch: Callable[..., Watcher], short: list[Packet], looks: list[float]
) -> None:
    for gate in ("open", "live"):
        looks.clear()
        watcher = watch(gate=gate, keep_scores=True)
        for number, packet in enumerate(short):
            if number == 25:
                watcher.shed_until_key()
            watcher.take(packet)
        watcher.finish()
        assert watcher.figures.shed == 15
        assert watcher.figures.damaged == 0
        assert [round(time_s * 10) for time_s in looks] == [*range(25), *range(40, 120)]


def test_motion_jpeg_is_watched_too(watch: Callable[..., Watcher], looks: list[float]) -> None:
    packets = encoded(room(600, moving=(400, 440)), codec="mjpeg")
    watcher = watch(gate="live", decoder=decoder("mjpeg"))
    watched(watcher, packets)
    assert watcher.figures.damaged == 0
    assert set(range(400, 520)) <= {round(time_s * 10) for time_s in looks}
    assert watcher.figures.decoded < 500


def test_a_camera_that_fills_its_packets_is_not_seen_late(
    watch: Callable[..., Watcher], looks: list[float]
) -> None:
    """All packets are alike, and key frames 10 s apart: pictures between them tell."""
    packets = []
    for packet in encoded(room(700, moving=(520, 560)), group=100):
        content = bytes(packet)
        filler = b"\0\0\0\1\x0c" + b"\xff" * (20_000 - len(content)) + b"\x80"
        packets.append(changed(packet, content + filler))
    watcher = watch(gate="live")
    late = []
    for number, packet in enumerate(packets):
        known = len(looks)
        watcher.take(packet)
        late += [number / 10 - time_s for time_s in looks[known:] if time_s >= 52.0]
    watcher.finish()
    assert set(range(520, 660)) <= {round(time_s * 10) for time_s in looks}
    assert max(late) <= 1.05
    assert len(looks) < 550


def test_without_key_frames_it_stays_open(
    watch: Callable[..., Watcher], looks: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be kept could not be opened again: nothing is missed."""
    monkeypatch.setattr(watcher_module, "_MOST_PACKETS", 100)
    packets = encoded(room(600, moving=(400, 440)), group=10_000)
    watcher = watch(gate="live")
    watched(watcher, packets)
    assert set(range(400, 450)) <= {round(time_s * 10) for time_s in looks}
    assert len(looks) == len(set(looks))


def test_alarms_are_those_of_the_engine(watch: Callable[..., Watcher], short: list[Packet]) -> None:
    alarms = watched(watch(pool=ScriptedPool(walker())), short)
    assert alarms
    for alarm in alarms:
        assert alarm.known_s == pytest.approx(alarm.raised_s - 0.1)
        assert alarm.keypoints is not None
