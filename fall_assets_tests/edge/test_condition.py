"""A camera's state, judged from drawn arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.edge.condition import (
    BoxClock,
    CameraJudge,
    Condition,
    Drift,
    Moment,
    SamePictures,
    View,
    edges,
    is_black,
    likeness,
)

Cells = npt.NDArray[np.float64]
Draw = Callable[[float], Cells]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> Moment:
    return Moment(1000.0 + seconds, NOON + timedelta(seconds=seconds))


def room(seed: int = 1, shift: int = 0) -> Cells:
    """Cells (12, 20) of a drawn room; the camera turned by so many cells."""
    rng = np.random.default_rng(seed)
    wide = np.full((12, 40), 110.0)
    for _ in range(14):
        top, left = rng.integers(0, 10), rng.integers(0, 36)
        height, width = rng.integers(2, 7), rng.integers(2, 9)
        wide[top : top + height, left : left + width] = rng.uniform(40, 220)
    return wide[:, 8 + shift : 28 + shift]


def noisy(seed: int = 0, rms: float = 0.12) -> Callable[[], Cells]:
    """What a sensor's noise leaves in the cells of an encoded picture (measured: 0.09 to 0.24)."""
    rng = np.random.default_rng(seed)
    return lambda: rng.normal(0, rms, (12, 20))


class Camera:
    """A judge that is fed with frames and pictures."""

    def __init__(self, fps: float = 25.0, expected: float = 25.0, key_every_s: float = 4.0) -> None:
        self.judge = CameraJudge(expected_fps=expected, now=at(0))
        self.fps, self.key_every_s = fps, key_every_s
        self.now_s = 0.0
        self.states: list[tuple[float, str]] = []
        self.condition: Condition = self.judge.condition(at(0))

    def run(self, seconds: float, draw: Draw | None, *, frames: bool = True) -> Condition:
        """So many seconds, looked at once a second; `draw` gives a key picture's cells."""
        end = self.now_s + seconds
        while self.now_s < end:
            if frames:
                for number in range(round(self.fps)):
                    self.judge.frame(at(self.now_s + number / self.fps))
                if draw is not None and self.now_s % self.key_every_s < 1:
                    self.judge.picture(at(self.now_s), draw(self.now_s))
            self.now_s += 1
            self.condition = self.judge.condition(at(self.now_s))
            if not self.states or self.states[-1][1] != self.condition.state:
                self.states.append((self.now_s, self.condition.state))
        return self.condition

    @property
    def order(self) -> list[str]:
        return [state for _, state in self.states]


def quiet(seed: int = 1, shift: int = 0) -> Draw:
    noise, picture = noisy(), room(seed, shift)
    return lambda _: picture + noise()


def test_a_camera_starts_and_is_well() -> None:
    camera = Camera()
    camera.run(600, quiet())
    assert camera.order == ["starting", "ok"]
    assert camera.condition.since_utc < NOON + timedelta(seconds=20)


def test_nothing_ever_came() -> None:
    camera = Camera()
    assert camera.run(30, None, frames=False).state == "lost"
    assert camera.order == ["starting", "lost"]
    assert camera.condition.since_utc == NOON


def test_lost_since_the_last_packet_and_back() -> None:
    camera = Camera()
    camera.run(60, quiet())
    lost = camera.run(100, None, frames=False)
    assert lost.state == "lost"
    assert abs((lost.since_utc - (NOON + timedelta(seconds=60))).total_seconds()) < 1
    camera.run(30, quiet())
    assert camera.order == ["starting", "ok", "lost", "starting", "ok"]


def test_packets_now_and_then_do_not_flap() -> None:
    camera = Camera()
    camera.run(60, quiet())
    for _ in range(20):
        camera.run(8, None, frames=False)
        camera.run(1, None)
    assert camera.order.count("lost") == 1


@pytest.mark.parametrize("rms", [0.0, 0.005, 0.01])
def test_frozen_is_the_same_picture_encoded_again(rms: float) -> None:
    camera = Camera()
    camera.run(120, quiet())
    noise, picture = noisy(rms=rms), room() + noisy()()
    frozen = camera.run(120, lambda _: picture + noise())
    assert frozen.state == "frozen"
    assert 118 <= (frozen.since_utc - NOON).total_seconds() <= 125
    camera.run(20, quiet())
    assert camera.order == ["starting", "ok", "frozen", "ok"]


@given(st.integers(0, 2**32 - 1), st.floats(0.08, 8.0), st.integers(0, 30))
@settings(max_examples=40)
def test_a_quiet_room_is_never_frozen(seed: int, rms: float, scene: int) -> None:
    noise, picture, same = noisy(seed, rms), room(scene), SamePictures()
    for number in range(60):
        same.add(at(4.0 * number), picture + noise())
        assert not same.frozen(at(4.0 * number))


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.012), st.integers(0, 30))
@settings(max_examples=40)
def test_the_same_picture_is_always_frozen(seed: int, rms: float, scene: int) -> None:
    noise, picture, same = noisy(seed, rms), room(scene) + noisy(seed)(), SamePictures()
    for number in range(17):
        same.add(at(4.0 * number), picture + noise())
    assert same.frozen(at(64.0))
    assert same.since == NOON


def test_black_is_dark_and_empty() -> None:
    assert is_black(np.full((12, 20), 16.0))
    assert is_black(np.zeros((12, 20)))
    assert not is_black(np.full((12, 20), 60.0))
    dark_room = 16 + room() * 0.08
    assert not is_black(dark_room)
    camera = Camera()
    camera.run(60, quiet())
    noise = noisy(rms=0.5)
    black = camera.run(60, lambda _: np.full((12, 20), 17.0) + noise())
    assert black.state == "black"
    assert 56 <= (black.since_utc - NOON).total_seconds() <= 66
    camera.run(60, quiet())
    assert camera.order == ["starting", "ok", "black", "ok"]


def test_a_picture_on_the_border_of_black_does_not_flap() -> None:
    camera = Camera()
    levels = (23.0, 25.0)
    noise = noisy(rms=0.5)
    camera.run(300, lambda s: np.full((12, 20), levels[int(s / 4) % 2]) + noise())
    assert len(camera.order) <= 3


@pytest.mark.parametrize("shift", [-5, -3, -2, 2, 3, 4])
def test_moved_and_back(shift: int) -> None:
    camera = Camera(fps=10, expected=10)
    camera.run(1800, quiet())
    moved = camera.run(300, quiet(shift=shift))
    assert moved.state == "moved"
    assert 1790 <= (moved.since_utc - NOON).total_seconds() <= 1880
    camera.run(300, quiet())
    assert camera.order == ["starting", "ok", "moved", "ok"]


def test_turned_to_another_place_is_moved() -> None:
    camera = Camera(fps=10, expected=10)
    camera.run(1800, quiet())
    assert camera.run(300, quiet(seed=9)).state == "moved"
    # And stays so: nobody has looked at it yet.
    assert camera.run(1800, quiet(seed=9)).state == "moved"


def lamp(strength: float, x: float, y: float, size: float) -> Cells:
    rows, columns = np.mgrid[:12, :20]
    light: Cells = strength * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / size**2)
    return light


CHANGES: dict[str, Callable[[Cells], Cells]] = {
    "dark": lambda cells: cells * 0.15 + 8,
    "bright": lambda cells: np.clip(cells * 1.5, 0, 255),
    "lamp": lambda cells: np.clip(cells + lamp(100, 15, 3, 4), 0, 255),
    "night and a lamp": lambda cells: np.clip(cells * 0.2 + lamp(150, 15, 3, 4), 0, 255),
    "sun from a side": lambda cells: cells * np.linspace(0.3, 1.2, 20),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("scene", [1, 2, 3])
def test_light_is_no_move(change: str, scene: int) -> None:
    camera = Camera(fps=10, expected=10)
    draw = quiet(scene)
    camera.run(1800, draw)
    camera.run(1800, lambda s: CHANGES[change](draw(s)))
    assert "moved" not in camera.order


def test_who_walks_through_or_sits_down_is_no_move() -> None:
    camera = Camera(fps=10, expected=10)
    draw = quiet()
    camera.run(1800, draw)

    def walks(seconds: float) -> Cells:
        cells = draw(seconds)
        left = int(seconds / 4) % 17
        cells[3:11, left : left + 3] = 60
        return cells

    def sits(seconds: float) -> Cells:
        cells = draw(seconds)
        cells[5:11, 8:11] = 50
        return cells

    camera.run(600, walks)
    camera.run(3600, sits)
    assert "moved" not in camera.order


@given(st.integers(0, 60), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_a_still_camera_is_never_moved(scene: int, seed: int) -> None:
    noise, picture, view = noisy(seed, 0.5), room(scene), View()
    told = [view.add(10.0 * n, picture + noise(), False) for n in range(200)]
    assert not any(told)


def test_a_picture_of_another_size_begins_anew() -> None:
    view = View()
    for number in range(200):
        assert not view.add(10.0 * number, room(), False)
    for number in range(200, 300):
        assert not view.add(10.0 * number, room(3)[:9, :12], False)


def test_a_white_wall_has_no_edges() -> None:
    assert edges(np.full((12, 20), 200.0)) is None
    some = edges(room())
    assert some is not None
    assert likeness(some, some) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("fps", "expected", "state"),
    [(25, 25, "ok"), (13, 25, "ok"), (12, 25, "starved"), (2.4, 25, "starved"),
     (2.4, 0, "starved"), (5, 0, "ok"), (5, 5, "ok"), (8, 15, "ok"), (4, 8, "starved")],
)  # fmt: skip
def test_starved(fps: float, expected: float, state: str) -> None:
    judge = CameraJudge(expected_fps=expected, now=at(0))
    condition = judge.condition(at(0))
    for number in range(round(120 * fps)):
        judge.frame(at(number / fps))
        condition = judge.condition(at(number / fps))
    assert condition.state == state
    if state == "starved":
        assert f"{fps:g}" in condition.detail


def test_a_rate_around_the_half_does_not_flap() -> None:
    camera = Camera()
    camera.run(30, quiet())
    for _ in range(30):
        camera.fps = 11
        camera.run(15, quiet())
        camera.fps = 14
        camera.run(15, quiet())
    assert len(camera.order) <= 3
    camera.fps = 25
    assert camera.run(40, quiet()).state == "ok"


def test_a_file_read_fast_is_not_judged_by_its_pace() -> None:
    judge = CameraJudge(expected_fps=25, now=at(0), live=False)
    for number in range(100):
        judge.frame(at(number * 1e-4))
    assert judge.condition(at(0.02)).state == "ok"


@given(st.lists(st.tuples(st.floats(0.01, 30.0), st.booleans()), max_size=80))
@settings(max_examples=60)
def test_whatever_comes_there_is_one_state_and_its_time(
    steps: Iterable[tuple[float, bool]],
) -> None:
    judge = CameraJudge(expected_fps=10, now=at(0))
    now_s, before = 0.0, judge.condition(at(0))
    rng = np.random.default_rng(0)
    for passed, is_picture in steps:
        now_s += passed
        judge.frame(at(now_s))
        if is_picture:
            judge.picture(at(now_s), rng.uniform(0, 255) * rng.random((12, 20)))
        condition = judge.condition(at(now_s))
        assert NOON <= condition.since_utc <= at(now_s).utc
        if condition.state == before.state:
            assert condition.since_utc == before.since_utc
        before = condition


def test_drift_of_a_cameras_clock() -> None:
    rng = np.random.default_rng(0)
    for rate in (0.0, 0.01, -0.001):
        drift = Drift()
        arrived_s = 0.0
        for number in range(6000):
            stream_s = number / 10
            # Packets come late, never early, and in order.
            arrived_s = max(arrived_s, 100 + stream_s + rng.exponential(0.1))
            drift.add(500 + stream_s * (1 + rate), arrived_s)
        assert drift.offset_s == pytest.approx(590 * rate, abs=0.2)


def test_the_boxs_clock_is_set() -> None:
    clock = BoxClock(at(0))
    assert clock.check(at(2)) == 0.0
    ahead = Moment(1004.0, NOON + timedelta(seconds=3604))
    assert clock.check(ahead) == pytest.approx(3600)
    assert clock.check(Moment(1006.0, NOON + timedelta(seconds=3606))) == 0.0
    assert clock.jumps == 1
