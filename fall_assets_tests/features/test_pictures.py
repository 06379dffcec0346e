"""Every setting of a picture does what it says, and equal pictures are made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fall_assets.features import pictures
from fall_assets.features.crop import Crop
from fall_assets.features.pictures import PictureMaker, adjusted
from fall_assets.features.settings import PictureSettings
from fall_assets_tests.features.clips import plain, write_clip

COLOURS = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
"""Blocks of 40 x 40 pixels make a picture of 320 x 240."""


def frames(path: Path, count: int = 1) -> list[av.VideoFrame]:
    picture = COLOURS.repeat(40, axis=0).repeat(40, axis=1)
    write_clip(path / "a.mp4", [picture] * count, quality="4")
    with av.open(str(path / "a.mp4")) as container:
        return list(container.decode(video=0))


@pytest.fixture
def frame(tmp_path: Path) -> av.VideoFrame:
    return frames(tmp_path)[0]


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What FFmpeg's scaler was asked for."""
    asked: list[dict[str, Any]] = []

    class Counting:
        def __init__(self) -> None:
            self._real = VideoReformatter()

        def reformat(self, frame: av.VideoFrame, **options: Any) -> av.VideoFrame:
            asked.append(options)
            return self._real.reformat(frame, **options)

    monkeypatch.setattr(pictures, "VideoReformatter", Counting)
    return asked


def blocks(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The middle of each of the 6 x 8 blocks, on average."""
    side = picture.shape[0] // 6
    tiles = picture.reshape(6, side, 8, side, -1)[
        :, side // 4 : -side // 4, :, side // 4 : -side // 4
    ]
    middle: NDArray[np.float64] = tiles.mean(axis=(1, 3)).squeeze()
    return middle


def test_the_default_picture_is_what_ffmpeg_scales_and_nothing_else(
    frame: av.VideoFrame, conversions: list[dict[str, Any]]
) -> None:
    picture = PictureMaker(Crop()).picture(frame, PictureSettings())
    expected = VideoReformatter().reformat(
        frame, width=256, height=192, format="rgb24", interpolation="AREA"
    )
    assert (picture == expected.to_ndarray()).all()
    (only,) = conversions
    assert (only["width"], only["height"], only["format"]) == (256, 192, "rgb24")
    assert only["interpolation"] == "AREA"


def test_what_changes_nothing_is_not_even_copied() -> None:
    picture = plain(99)
    assert adjusted(picture, PictureSettings()) is picture


def test_grey_is_the_luma_three_times(frame: av.VideoFrame) -> None:
    maker = PictureMaker(Crop())
    grey = maker.picture(frame, PictureSettings(colour=False))
    colour = maker.picture(frame, PictureSettings())
    assert grey.shape == colour.shape == (192, 256, 3)
    assert (grey == grey[..., :1]).all()
    assert not (colour == colour[..., :1]).all()
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert blocks(grey[..., 0]) == pytest.approx(blocks(luma.astype(np.uint8)), abs=4)


def test_the_gray_form_is_one_plane(frame: av.VideoFrame) -> None:
    maker = PictureMaker(Crop())
    plane = maker.picture(frame, PictureSettings(), "gray")
    assert plane.shape == (192, 256)
    assert (plane == maker.picture(frame, PictureSettings(colour=False))[..., 0]).all()
    assert (plane == maker.luma(frame, 256)).all()


@pytest.mark.parametrize("colour", [True, False])
def test_brightness_is_added(frame: av.VideoFrame, colour: bool) -> None:
    maker = PictureMaker(Crop())
    before = maker.picture(frame, PictureSettings(colour=colour)).astype(int)
    after = maker.picture(frame, PictureSettings(colour=colour, brightness=0.2))
    assert (after == np.clip(before + 51, 0, 255)).all()


@pytest.mark.parametrize("colour", [True, False])
def test_contrast_spreads_about_the_middle(frame: av.VideoFrame, colour: bool) -> None:
    maker = PictureMaker(Crop())
    before = maker.picture(frame, PictureSettings(colour=colour)).astype(float)
    after = maker.picture(frame, PictureSettings(colour=colour, contrast=0.5))
    assert np.abs(after - ((before - 127.5) / 2 + 127.5)).max() <= 0.5
    assert after.std() < before.std()


@given(
    seed=st.integers(0, 2**32 - 1),
    brightness=st.floats(-1, 1),
    contrast=st.floats(0.01, 10),
)
def test_tones_are_the_formula(seed: int, brightness: float, contrast: float) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    settings = PictureSettings(brightness=brightness, contrast=contrast)
    exact = (picture - 127.5) * contrast + 127.5 + brightness * 255
    assert (adjusted(picture, settings) == np.clip(np.rint(exact), 0, 255)).all()


def blurred(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The 3 x 3 binomial blur, pixel by pixel, slowly."""
    padded = np.pad(picture.astype(np.float64), [(1, 1), (1, 1), (0, 0)], mode="edge")
    height, width = picture.shape[:2]
    weights = np.outer([1, 2, 1], [1, 2, 1]) / 16
    total = np.zeros(picture.shape)
    for down in range(3):
        for right in range(3):
            total += weights[down, right] * padded[down : down + height, right : right + width]
    return total


@given(seed=st.integers(0, 2**32 - 1), amount=st.sampled_from([-1.0, -0.5, 0.25, 1.0, 3.0]))
def test_sharpness_is_an_unsharp_mask(seed: int, amount: float) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (9, 6, 3), np.uint8)
    found = adjusted(picture, PictureSettings(sharpness=amount))
    exact = picture + amount * (picture - blurred(picture))
    assert np.abs(found - np.clip(exact, 0, 255)).max() <= 0.5 + 1e-6


def test_sharpness_goes_up_and_down(frame: av.VideoFrame) -> None:
    maker = PictureMaker(Crop())

    def edges(sharpness: float) -> float:
        picture = maker.picture(frame, PictureSettings(sharpness=sharpness)).astype(float)
        return float(np.abs(np.diff(picture, axis=0)).max(axis=0).mean())

    assert edges(-1) < edges(-0.5) < edges(0) < edges(1)


@pytest.mark.parametrize("long_side", [64, 128, 256])
def test_the_long_side_is_the_resolution(frame: av.VideoFrame, long_side: int) -> None:
    picture = PictureMaker(Crop()).picture(frame, PictureSettings(long_side))
    assert picture.shape == (long_side * 3 // 4, long_side, 3)


def test_the_crop_of_a_set_lies_in_the_crop_of_the_camera(frame: av.VideoFrame) -> None:
    right_half, lower_left = Crop(0.5, 0, 1, 1), Crop(0, 0.5, 0.5, 1)
    maker = PictureMaker(right_half)
    whole = PictureMaker(Crop()).picture(frame, PictureSettings(320))
    settings = PictureSettings(120, crop=lower_left)
    picture = maker.picture(frame, settings)
    # A quarter of the right half: 80 x 120 pixels, enlarged to nothing.
    assert picture.shape[:2] == (120, 80)
    assert picture.astype(float) == pytest.approx(whole[120:, 160:240].astype(float), abs=6)
    assert maker.aspect(frame, lower_left) == pytest.approx(80 / 120)
    assert maker.aspect(frame) == pytest.approx(160 / 240)


def test_equal_requests_share_one_picture(
    frame: av.VideoFrame, conversions: list[dict[str, Any]]
) -> None:
    maker = PictureMaker(Crop())
    settings = PictureSettings(128, brightness=0.1)
    first = maker.picture(frame, settings)
    assert maker.picture(frame, PictureSettings(128, brightness=0.1)) is first
    # What differs in tone only shares the conversion, which is the dear part.
    assert maker.picture(frame, PictureSettings(128)) is not first
    assert len(conversions) == 1
    maker.picture(frame, PictureSettings(128, colour=False))
    maker.picture(frame, PictureSettings(128, contrast=2.0), "gray")
    maker.luma(frame, 128)
    assert len(conversions) == 2


def test_nobody_can_write_into_a_shared_picture(frame: av.VideoFrame) -> None:
    maker = PictureMaker(Crop())
    for settings in (PictureSettings(), PictureSettings(colour=False), PictureSettings(contrast=2)):
        with pytest.raises(ValueError, match="read-only"):
            maker.picture(frame, settings)[0, 0] = 0
    with pytest.raises(ValueError, match="read-only"):
        maker.rgb(frame, 256)[0, 0] = 0


def test_another_frame_has_other_pictures(
    tmp_path: Path, conversions: list[dict[str, Any]]
) -> None:
    write_clip(tmp_path / "b.mp4", [plain(40), plain(200)])
    with av.open(str(tmp_path / "b.mp4")) as container:
        dark, light = container.decode(video=0)
    maker = PictureMaker(Crop())
    found = [maker.picture(one, PictureSettings(64)).mean() for one in (dark, light, dark)]
    assert found == pytest.approx([40, 200, 40], abs=3)
    assert len(conversions) == 3


def test_scalers_do_not_grow_without_end(frame: av.VideoFrame) -> None:
    maker = PictureMaker(Crop())
    for long_side in range(16, 16 + 100):
        maker.luma(frame, long_side)
    assert len(maker._scalers) <= 32


def test_a_turned_recording_keeps_its_settings(tmp_path: Path) -> None:
    bright_top = plain(30, 160, 96)
    bright_top[:48] = 220
    write_clip(tmp_path / "a.mp4", [bright_top], rotation=90)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
    maker = PictureMaker(Crop())
    left = maker.picture(frame, PictureSettings(80, brightness=0.1, crop=Crop(0, 0, 0.5, 1)))
    assert left.shape[:2] == (80, 24)
    assert left.mean() == pytest.approx(220 + 25.5, abs=5)
