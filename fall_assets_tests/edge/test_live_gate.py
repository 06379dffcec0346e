"""The live gate shuts where nothing moves, opens where something does, and learns what is usual."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fall_assets.edge.live_gate import LiveGate
from fall_assets.features.gate import MotionGateSettings

SETTINGS = MotionGateSettings()
FPS = 10
Cells = NDArray[np.float32]


class Camera:
    """A still room with a little noise; tests change what it sends."""

    def __init__(self, seed: int = 0, *, group: int = 20) -> None:
        self.rng = np.random.default_rng(seed)
        self.gate = LiveGate(SETTINGS)
        self.group = group
        self.frame = 0
        self.open: list[float] = []

    @property
    def time_s(self) -> float:
        return self.frame / FPS

    def send(
        self,
        seconds: float,
        *,
        bytes_: float = 500.0,
        cells: Callable[[Cells], Cells] = lambda cells: cells,
    ) -> list[float]:
        """Send so long; the times at which the gate was open."""
        was_open = []
        for _ in range(round(seconds * FPS)):
            is_key = self.frame % self.group == 0
            size = 9000 if is_key else bytes_
            self.gate.packet(self.time_s, round(size * self.rng.uniform(0.9, 1.1)), is_key=is_key)
            if is_key and self.gate.wants_picture(self.time_s):
                shade = 100 + self.rng.normal(0, 0.3, (SETTINGS.rows, SETTINGS.columns))
                self.gate.picture(self.time_s, cells(shade.astype(np.float32)))
            if self.gate.is_open(self.time_s):
                was_open.append(self.time_s)
            self.frame += 1
        return was_open


def shifted(cells: Cells) -> Cells:
    cells[3:6, 4:8] += 60
    return cells


def test_it_is_open_until_it_knows_what_is_usual() -> None:
    camera = Camera()
    open_s = camera.send(60)
    assert camera.gate.knows
    assert open_s == [number / FPS for number in range(len(open_s))]
    assert 10 <= open_s[-1] <= SETTINGS.shortest_s


def test_more_bytes_open_it_and_it_stays_open_for_a_while() -> None:
    camera = Camera()
    camera.send(60)
    moved = camera.send(3, bytes_=3000)
    # One bin has to end before it can be judged.
    assert moved[0] <= 60 + 2 * SETTINGS.bin_s
    assert camera.gate.look_from_s <= 60 - SETTINGS.before_s + SETTINGS.bin_s
    after = camera.send(60)
    assert 63 + SETTINGS.after_s - 0.6 <= after[-1] <= 63 + SETTINGS.after_s + 0.6


def test_a_hiccup_of_the_encoder_does_not_open_it() -> None:
    camera = Camera()
    camera.send(60)
    assert not camera.send(0.5, bytes_=900)
    assert not camera.send(20)


def test_a_changed_picture_opens_it_where_bytes_tell_nothing() -> None:
    camera = Camera()
    camera.send(60)
    moved = camera.send(8, cells=shifted)
    assert moved
    # It may have moved since the picture before.
    assert camera.gate.look_from_s <= 60 - SETTINGS.before_s
    after = camera.send(60, cells=shifted)
    assert after[-1] < 60 + 8 + SETTINGS.after_s + SETTINGS.key_every_s


def test_what_a_camera_shows_all_the_time_is_usual() -> None:
    """A fan in some cells, and a rain of bytes: the gate shuts, and still sees more than that."""
    camera = Camera()

    def fan(cells: Cells) -> Cells:
        cells[0:2, 0:3] += camera.rng.uniform(-12, 12, (2, 3))
        return cells

    camera.send(200, cells=fan, bytes_=4000)
    assert len(camera.send(100, cells=fan, bytes_=4000)) < 0.3 * 100 * FPS
    assert camera.send(8, cells=lambda cells: shifted(fan(cells)), bytes_=4000)


def test_who_never_rests_is_never_taken_for_usual() -> None:
    camera = Camera()

    def restless(cells: Cells) -> Cells:
        row, column = camera.rng.integers(0, 9), camera.rng.integers(0, 16)
        cells[row : row + 3, column : column + 4] += 60
        return cells

    open_s = 0
    for _ in range(40):
        open_s += len(camera.send(20, cells=restless, bytes_=camera.rng.uniform(500, 4000)))
    assert open_s >= 0.97 * 800 * FPS


def test_at_night_it_learns_anew() -> None:
    """Another camera mode takes three times the bytes from now on."""
    camera = Camera()
    camera.send(100)
    assert camera.send(60, bytes_=1500)
    camera.send(600, bytes_=1500)
    assert not camera.send(60, bytes_=1500)


def test_every_frame_may_be_a_key_frame() -> None:
    camera = Camera(group=1)
    camera.send(60)
    assert not camera.send(20)
    assert camera.send(8, cells=shifted)


def test_where_key_frames_come_often_they_are_pictures_enough() -> None:
    often, rare = Camera(group=20), Camera(group=30)
    for camera in (often, rare):
        camera.send(60)
    assert rare.gate.needs_pictures
    assert not often.gate.needs_pictures
    # Packets tell nothing: it opens with the next key frame, at most two seconds late.
    began_s = often.time_s
    assert often.send(8, cells=shifted)[0] <= began_s + 2.1


def test_pictures_between_key_frames_are_needed_until_packets_have_told() -> None:
    told, constant = Camera(group=30), Camera(group=30)
    for camera, more in ((told, 3000.0), (constant, 500.0)):
        camera.send(60)
        assert camera.gate.needs_pictures
        for _ in range(3):
            camera.send(8, cells=shifted, bytes_=more)
            camera.send(40)
    assert not told.gate.needs_pictures
    assert constant.gate.needs_pictures


def test_a_glance_opens_it_until_somebody_is_believed() -> None:
    gate = _shut()
    believed = [False]
    opened = []
    for number in range(12):
        time_s = 100.0 + 8 * number
        believed[0] = number >= 3
        if gate.glanced(time_s, sees=True, has_sighted=False, counts_since=lambda _: believed[0]):
            opened.append(number)
            assert gate.look_from_s == time_s
            assert gate.is_open(time_s + SETTINGS.somebody_s)
            assert gate.wants_glance(time_s + SETTINGS.somebody_s + 0.1)
    assert opened == [0, 1, 2]


def test_glances_that_never_lead_to_anybody_become_rare() -> None:
    gate = _shut()
    opened = [
        time_s
        for time_s in np.arange(100.0, 1000.0, 8.0).tolist()
        if gate.glanced(time_s, sees=True, has_sighted=False, counts_since=lambda _: False)
    ]
    assert len([time_s for time_s in opened if time_s < 400]) == SETTINGS.somebody_tries
    assert len(opened) == 3 * SETTINGS.somebody_tries


def test_a_glance_that_sees_nobody_opens_nothing() -> None:
    gate = _shut()
    assert not gate.glanced(100.0, sees=False, has_sighted=True, counts_since=lambda _: False)
    assert not gate.is_open(101.0)
    assert not gate.wants_glance(100.0 + SETTINGS.glance_s - 1)
    assert gate.wants_glance(100.0 + SETTINGS.glance_s)


def test_it_can_be_forced_open() -> None:
    gate = _shut()
    gate.force(100.0)
    assert gate.is_open(100.0 + SETTINGS.after_s)
    assert not gate.is_open(101.0 + SETTINGS.after_s)


@pytest.mark.parametrize("seconds", [3000])
def test_it_remembers_little(seconds: int) -> None:
    camera = Camera()
    camera.send(seconds)
    gate = camera.gate
    lengths = [len(part) for part in vars(gate).values() if hasattr(part, "__len__")]
    assert sum(lengths) < 1600


def _shut() -> LiveGate:
    camera = Camera()
    camera.send(90)
    assert not camera.gate.is_open(camera.time_s)
    return camera.gate
