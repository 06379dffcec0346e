"""Quality figures say what they claim, on pictures whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fall_assets.features.motion import changed_share
from fall_assets.features.quality import colour, noise, quality, sharpness, warmth

Plane = NDArray[np.uint8]


def noisy(plane: NDArray[np.float64], sigma: float, seed: int = 0) -> Plane:
    added = plane + np.random.default_rng(seed).normal(0, sigma, plane.shape)
    return np.clip(np.rint(added), 0, 255).astype(np.uint8)


def furnished() -> NDArray[np.float64]:
    """A room of plain surfaces with edges in every direction."""
    rng = np.random.default_rng(5)
    room = np.full((256, 256), 120.0)
    for _ in range(12):
        top, left = rng.integers(0, 230, 2)
        room[top : top + rng.integers(10, 60), left : left + rng.integers(10, 60)] = rng.integers(
            40, 200
        )
    return room


def bars(width: int) -> NDArray[np.float64]:
    return np.tile(np.where(np.arange(256) // width % 2, 180.0, 70.0), (256, 1))


@pytest.mark.parametrize("sigma", [2.0, 5.0, 10.0])
def test_noise_is_measured(sigma: float) -> None:
    slope = np.linspace(60, 180, 256)[None] + np.zeros((256, 1))
    assert noise(noisy(slope, sigma)) * 255 == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("sigma", [2.0, 5.0])
def test_edges_do_not_count_as_noise(sigma: float) -> None:
    assert noise(noisy(furnished(), sigma)) * 255 == pytest.approx(sigma, rel=0.2)


def test_a_clean_picture_has_no_noise() -> None:
    assert noise(np.full((64, 64), 90, np.uint8)) == 0
    assert noise(furnished().astype(np.uint8)) < 0.001


def test_blur_lowers_sharpness() -> None:
    sharp = bars(4)
    blurred = (np.roll(sharp, -1, 1) + 2 * sharp + np.roll(sharp, 1, 1)) / 4
    assert sharpness(blurred.astype(np.uint8)) < 0.7 * sharpness(sharp.astype(np.uint8))


def test_brightness_and_contrast_are_shares_of_full_luma() -> None:
    half = np.zeros((40, 40), np.uint8)
    half[:, 20:] = 255
    figures = quality(half, half)
    assert figures.brightness == pytest.approx(0.5)
    assert figures.contrast == pytest.approx(0.5)


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    low=st.integers(0, 255),
    seed=st.integers(0, 2**32 - 1),
)
def test_figures_stay_in_range(height: int, width: int, low: int, seed: int) -> None:
    plane = np.random.default_rng(seed).integers(low, 256, (height, width), np.uint8)
    figures = quality(plane, plane)
    assert 0 <= figures.brightness <= 1
    assert 0 <= figures.contrast <= 1
    assert figures.sharpness >= 0
    assert figures.noise >= 0


def test_nothing_moves_in_an_equal_picture() -> None:
    plane = bars(8).astype(np.uint8)
    assert changed_share(plane, plane, 0.06) == 0


def test_the_share_that_changed_is_counted() -> None:
    before = np.full((50, 80), 100, np.uint8)
    now = before.copy()
    now[:25, :40] = 160
    assert changed_share(before, now, 0.06) == pytest.approx(0.25)
    assert changed_share(now, before, 0.06) == pytest.approx(0.25)


def test_a_lamp_is_no_motion() -> None:
    before = bars(8).astype(np.uint8)
    assert changed_share(before, before + np.uint8(40), 0.06) == 0


def test_noise_is_no_motion() -> None:
    plane = bars(32)
    assert changed_share(noisy(plane, 3, 1), noisy(plane, 3, 2), 0.06) < 0.002


def test_another_resolution_is_a_whole_change() -> None:
    assert changed_share(np.zeros((9, 16), np.uint8), np.zeros((12, 16), np.uint8), 0.06) == 1


def test_colour_and_warmth_of_plain_pictures() -> None:
    grey, orange = np.full((40, 60, 3), 90, np.uint8), np.zeros((40, 60, 3), np.uint8)
    orange[:] = (255, 128, 0)
    assert (warmth(grey), colour(grey)) == (0, 0)
    assert (warmth(orange), colour(orange)) == (1, 1)
    assert (warmth(orange[..., ::-1]), colour(orange[..., ::-1])) == (-1, 1)
    half = grey.copy()
    half[:, 30:] = (140, 90, 39)
    assert warmth(half) == pytest.approx(101 / 255 / 2)
    assert colour(half) == pytest.approx(101 / 255 / 2)


def test_black_and_white_are_shares_of_the_picture() -> None:
    luma = np.full((10, 10), 128, np.uint8)
    luma[0], luma[1] = 15, 16
    luma[2:5], luma[5] = 240, 239
    found = quality(luma, luma)
    assert [found.dark_share, found.bright_share] == pytest.approx([0.1, 0.3])
    # Without colours at hand they are unknown, not grey.
    assert (found.warmth, found.colour) == (None, None)
