"""The gate opens for people, whatever the camera shows besides, and stays shut for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fall_assets.errors import PermanentFailureError
from fall_assets.features.gate import (
    CompressedFacts,
    MotionGateSettings,
    Stretch,
    duty,
    gate_version,
    open_stretches,
    without,
)

SETTINGS = MotionGateSettings()
FPS, GOP_S = 25, 2
ROWS, COLUMNS = SETTINGS.rows, SETTINGS.columns
Cells = NDArray[np.float64]
Show = Callable[[np.random.Generator, NDArray[np.float64]], Cells]
"""What a camera shows besides, at the times of the key pictures: (k, rows, columns)."""


@dataclass(frozen=True)
class Camera:
    """A camera that writes a segment: its noise, what it shows, and how it spends bytes.

    `still_bytes` are those of a frame of a still room and `spread` their deviation from frame to
    frame as a share; with `is_cbr` a frame takes as many whatever moves.
    """

    noise: float = 0.3
    still_bytes: float = 400.0
    spread: float = 0.2
    is_cbr: bool = False
    show: Show | None = None

    def record(
        self, seconds: float, people: list[tuple[float, float]] | None = None, seed: int = 0
    ) -> CompressedFacts:
        """A segment in which somebody walks about within the spans of time."""
        rng = np.random.default_rng(seed)
        times_s = np.arange(round(seconds * FPS)) / FPS
        is_key = np.arange(len(times_s)) % (GOP_S * FPS) == 0
        sizes = self.still_bytes * np.maximum(rng.normal(1, self.spread, len(times_s)), 0.05)
        key_s = times_s[is_key][:: round(SETTINGS.key_every_s / GOP_S)]
        cells = np.tile(rng.uniform(60, 180, (ROWS, COLUMNS)), (len(key_s), 1, 1))
        if self.show is not None:
            cells = cells + self.show(rng, key_s)
        for start, end in people or []:
            moving = (times_s >= start) & (times_s <= end)
            if not self.is_cbr:
                sizes[moving] += 3000 * rng.uniform(0.5, 1.5, moving.sum())
            for place in np.flatnonzero((key_s >= start) & (key_s <= end)):
                row, column = rng.integers(2, ROWS - 4), rng.integers(0, COLUMNS - 2)
                cells[place, row : row + 4, column : column + 2] -= rng.uniform(25, 50)
        cells += rng.normal(0, self.noise, cells.shape)
        sizes[is_key] = 30_000 + rng.normal(0, 300, is_key.sum())
        return CompressedFacts(
            times_s,
            sizes.astype(np.int64),
            is_key,
            key_s,
            np.clip(cells, 0, 255).astype(np.float32),
            seconds,
            0,
        )


def flicker(rng: np.random.Generator, key_s: NDArray[np.float64]) -> Cells:
    """A lamp that beats with the shutter: the whole picture, brighter and darker."""
    return np.broadcast_to(12 * np.sin(key_s * 2.1)[:, None, None], (len(key_s), ROWS, COLUMNS))


def bands(rng: np.random.Generator, key_s: NDArray[np.float64]) -> Cells:
    """The same with a rolling shutter: bands that move."""
    phase = rng.uniform(0, 2 * np.pi, len(key_s))[:, None]
    wave = 4 * np.sin(phase + np.arange(ROWS)[None] * 0.9)
    return np.broadcast_to(wave[:, :, None], (len(key_s), ROWS, COLUMNS))


def part(
    amplitude: float, rows: slice, columns: slice
) -> Callable[[np.random.Generator, NDArray[np.float64]], Cells]:
    """A part of the picture that is never still."""

    def show(rng: np.random.Generator, key_s: NDArray[np.float64]) -> Cells:
        shown = np.zeros((len(key_s), ROWS, COLUMNS))
        size = shown[:, rows, columns].shape
        shown[:, rows, columns] = rng.normal(0, amplitude, size)
        return shown

    return show


def lamp(rng: np.random.Generator, key_s: NDArray[np.float64]) -> Cells:
    """A lamp is switched on in the middle."""
    on = (key_s > key_s[-1] / 2).astype(float)
    return np.broadcast_to(30 * on[:, None, None], (len(key_s), ROWS, COLUMNS))


CAMERAS = {
    "quiet": Camera(),
    "noise": Camera(noise=0.8, still_bytes=12_000, spread=0.35),
    "flicker": Camera(show=flicker, still_bytes=2500, spread=0.5),
    "bands": Camera(show=bands, still_bytes=3000, spread=0.5),
    "clock": Camera(show=part(4, slice(0, 1), slice(3, 4)), spread=0.4),
    "rain": Camera(show=part(3, slice(0, 5), slice(2, 7)), still_bytes=4000, spread=0.6),
    "fan": Camera(show=part(4, slice(0, 3), slice(9, 13)), still_bytes=5000, spread=0.3),
    "lamp": Camera(show=lamp),
    "constant rate": Camera(is_cbr=True, still_bytes=4000, spread=0.4),
    "constant rate, fan": Camera(
        is_cbr=True, still_bytes=4000, show=part(4, slice(0, 3), slice(9, 13))
    ),
}
each_camera = pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS.keys())


@each_camera
@pytest.mark.parametrize("seconds", [60, 300, 3600])
def test_nothing_but_a_still_room_is_kept_out(camera: Camera, seconds: int) -> None:
    shares = [
        duty(open_stretches(camera.record(seconds, seed=seed), SETTINGS), seconds)
        for seed in range(20 if seconds < 1000 else 4)
    ]
    assert np.mean(shares) < 0.05, shares


@each_camera
@pytest.mark.parametrize("seconds", [60, 300, 3600])
def test_somebody_who_comes_and_goes_is_let_through(camera: Camera, seconds: int) -> None:
    for seed in range(10):
        came, went = seconds / 2, seconds / 2 + 9
        facts = camera.record(seconds, [(came, went)], seed=seed)
        (*_, found) = [
            one for one in open_stretches(facts, SETTINGS) if one.start_s <= came <= one.end_s
        ]
        assert found.start_s <= came - 1
        assert found.end_s >= min(went + 10, seconds)
        if seconds == 3600:
            assert duty(open_stretches(facts, SETTINGS), seconds) < 0.05


@each_camera
@pytest.mark.parametrize("seconds", [30, 60, 900])
def test_who_never_rests_is_not_taken_for_the_room(camera: Camera, seconds: int) -> None:
    for seed in range(5):
        facts = camera.record(seconds, [(0, seconds)], seed=seed)
        assert duty(open_stretches(facts, SETTINGS), seconds) > 0.9


def test_exercise_in_one_place_keeps_a_minute_open() -> None:
    def show(rng: np.random.Generator, key_s: NDArray[np.float64]) -> Cells:
        shown = np.zeros((len(key_s), ROWS, COLUMNS))
        shown[:, 4:9, 8:11] = rng.uniform(-40, 0, (len(key_s), 5, 3))
        return shown

    for seed in range(10):
        facts = Camera(show=show, is_cbr=True, still_bytes=4000).record(60, seed=seed)
        assert duty(open_stretches(facts, SETTINGS), 60) > 0.9


def test_a_short_segment_and_one_without_times_are_let_through() -> None:
    facts = CAMERAS["quiet"].record(10)
    assert open_stretches(facts, SETTINGS) == [Stretch(0.0, 10, "short")]
    facts = CAMERAS["quiet"].record(60)
    blind = replace(facts, key_s=facts.key_s[:0], cells=facts.cells[:0])
    assert open_stretches(blind, SETTINGS) == [Stretch(0.0, 60, "unknown")]


def test_a_hiccup_of_the_encoder_is_nobody() -> None:
    facts = CAMERAS["quiet"].record(120)
    hiccup = facts.sizes.copy()
    hiccup[1010] *= 6
    assert open_stretches(replace(facts, sizes=hiccup), SETTINGS) == []


@given(
    seed=st.integers(0, 10_000),
    seconds=st.integers(20, 400),
    spans=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 30)), max_size=4),
    name=st.sampled_from(sorted(CAMERAS)),
)
def test_stretches_are_in_order_and_start_at_key_frames(
    seed: int, seconds: int, spans: list[tuple[float, float]], name: str
) -> None:
    people = [(at * seconds, at * seconds + length) for at, length in spans]
    facts = CAMERAS[name].record(seconds, people, seed=seed)
    found = open_stretches(facts, SETTINGS)
    keys = set(facts.times_s[facts.is_key])
    edge = -1.0
    for one in found:
        assert edge < one.start_s < one.end_s <= seconds
        assert one.start_s in keys
        edge = one.end_s
    kept_out = without(found, seconds)
    open_s = sum(one.end_s - one.start_s for one in found)
    assert open_s + sum(end - start for start, end in kept_out) == pytest.approx(seconds)
    assert duty(found, seconds) == pytest.approx(open_s / seconds)
    assert open_stretches(facts, SETTINGS) == found


def test_a_version_hangs_on_every_setting() -> None:
    versions = {gate_version(SETTINGS), gate_version(replace(SETTINGS, after_s=12.0))}
    versions.add(gate_version(replace(SETTINGS, rows=13)))
    assert len(versions) == 3
    assert gate_version(MotionGateSettings()) == gate_version(SETTINGS)


@pytest.mark.parametrize(
    "wrong", [{"after_s": 0.0}, {"rows": 3.5}, {"columns": 65}, {"bin_s": "1"}, {"cell_cap": True}]
)
def test_settings_that_make_no_gate_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(PermanentFailureError, match=f"{next(iter(wrong))} of the motion gate"):
        replace(SETTINGS, **wrong)  # type: ignore[arg-type]
