"""One decoded frame in the forms that the extractors need: small RGB, small luma, luma detail.

What belongs here: cropping, scaling, turning upright (inside FFmpeg's scaler where it can be), and
the settings of a feature set's picture. What does not: deciding which frames to use (`sampling`) or
what they mean.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from fall_assets.features.crop import Crop
from fall_assets.features.settings import PictureSettings

if TYPE_CHECKING:
    from av import VideoFrame

Form = Literal["rgb", "gray"]
Picture = NDArray[np.uint8]

_WHOLE = Crop()
_MAX_SCALERS = 32


class PictureMaker:
    """Makes pictures of a segment's frames; keeps the scalers' tables between frames.

    Pictures of the frame at hand are kept until the next frame comes: who asks for the same gets
    the same array, so none of them can be written to.
    """

    def __init__(self, crop: Crop) -> None:
        """`crop` is the camera's: no picture shows anything outside of it."""
        self._crop = crop
        self._scalers: dict[tuple[str, int, int], VideoReformatter] = {}
        self._frame: VideoFrame | None = None
        self._converted: dict[tuple[str, int, int], Picture] = {}
        self._made: dict[tuple[PictureSettings, Form], Picture] = {}

    def size(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height in pixels of the whole upright picture as recorded."""
        turned = frame.rotation % 180 != 0
        return (frame.height, frame.width) if turned else (frame.width, frame.height)

    def aspect(self, frame: VideoFrame, crop: Crop = _WHOLE) -> float:
        """Width over height of the part that is used; pixels are taken as square.

        `crop` is a part of the camera's crop, as `PictureSettings` has it.
        """
        width, height = self._used(frame, self._inside(crop))
        return width / height

    def picture(self, frame: VideoFrame, settings: PictureSettings, form: Form = "rgb") -> Picture:
        """What a feature set's extractor sees of a frame.

        Shape (height, width, 3) for `rgb`, (height, width) for `gray`, which is full-range luma;
        uint8, the longer side at most `settings.long_side` pixels.
        """
        if form == "gray" and settings.colour:
            settings = replace(settings, colour=False)
        self._turn_to(frame)
        made = self._made.get((settings, form))
        if made is None:
            made = self._make(frame, settings, form)
            made.flags.writeable = False
            self._made[settings, form] = made
        return made

    def rgb(self, frame: VideoFrame, long_side: int) -> Picture:
        """The part that is used, (height, width, 3), its long side `long_side` pixels."""
        return self._scaled(frame, long_side, "rgb24", self._crop)

    def luma(self, frame: VideoFrame, long_side: int) -> Picture:
        """Full-range luma of the same, (height, width)."""
        return self._scaled(frame, long_side, "gray", self._crop)

    def luma_detail(self, frame: VideoFrame, side: int) -> Picture:
        """Full-range luma of the middle of the part that is used, at most `side` x `side`.

        Not scaled: sharpness and noise live in single pixels.
        """
        used = self._crop.cut(self._convert(frame, frame.width, frame.height, "gray"))
        height, width = used.shape
        top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
        return used[top : top + side, left : left + side]

    def _make(self, frame: VideoFrame, settings: PictureSettings, form: Form) -> Picture:
        crop = self._inside(settings.crop)
        if settings.colour:
            return adjusted(self._scaled(frame, settings.long_side, "rgb24", crop), settings)
        if form == "gray":
            return adjusted(self._scaled(frame, settings.long_side, "gray", crop), settings)
        grey = self.picture(frame, settings, "gray")
        return np.broadcast_to(grey[..., None], (*grey.shape, 3))

    def _inside(self, crop: Crop) -> Crop:
        """A part of the camera's crop as a part of the whole picture."""
        return self._crop if crop == _WHOLE else crop.inside(self._crop)

    def _used(self, frame: VideoFrame, crop: Crop) -> tuple[float, float]:
        width, height = self.size(frame)
        return (crop.x1 - crop.x0) * width, (crop.y1 - crop.y0) * height

    def _scaled(self, frame: VideoFrame, long_side: int, form: str, crop: Crop) -> Picture:
        scale = long_side / max(self._used(frame, crop))
        width, height = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
        picture = crop.cut(self._convert(frame, width, height, form))
        # Rounding may leave one pixel too many, which would cost a whole stride of padding.
        return picture[:long_side, :long_side]

    def _convert(self, frame: VideoFrame, width: int, height: int, form: str) -> Picture:
        self._turn_to(frame)
        key = (form, width, height)
        if key not in self._converted:
            if len(self._scalers) >= _MAX_SCALERS:
                self._scalers.clear()
            scaler = self._scalers.setdefault(key, VideoReformatter())
            converted = scaler.reformat(
                frame, width=width, height=height, format=form, interpolation="AREA", threads=1
            )
            picture = cast("Picture", converted.to_ndarray())
            picture.flags.writeable = False
            quarter_turns = frame.rotation // 90 % 4
            self._converted[key] = np.rot90(picture, quarter_turns) if quarter_turns else picture
        return self._converted[key]

    def _turn_to(self, frame: VideoFrame) -> None:
        if frame is not self._frame:
            self._frame = frame
            self._converted.clear()
            self._made.clear()


def adjusted(picture: Picture, settings: PictureSettings) -> Picture:
    """A picture with the settings' sharpness, then their contrast and brightness.

    Shape (height, width) or (height, width, 3), uint8, as it comes out. A value v becomes
    (v - 127.5) * contrast + 127.5 + brightness * 255, rounded and kept within 0 to 255. Settings
    that change nothing cost nothing: the picture itself is returned.
    """
    if settings.sharpness:
        picture = _sharpened(picture, settings.sharpness)
    if settings.brightness or settings.contrast != 1:
        picture = _tones(settings.brightness, settings.contrast)[picture]
    return picture


@functools.lru_cache(maxsize=64)
def _tones(brightness: float, contrast: float) -> Picture:
    """The new value of each of the 256 old ones."""
    old = np.arange(256, dtype=np.float64)
    new = (old - 127.5) * contrast + 127.5 + brightness * 255
    tones: Picture = np.clip(np.rint(new), 0, 255).astype(np.uint8)
    return tones


def _sharpened(picture: Picture, amount: float) -> Picture:
    """The picture plus `amount` times its difference from its blur; edges count as going on."""
    values = picture.astype(np.int16)
    sixteenfold = _binomial(_binomial(values, 0), 1)
    detail = (16 * values - sixteenfold).astype(np.float32)
    detail *= np.float32(amount / 16)
    detail += values
    return np.clip(np.rint(detail), 0, 255).astype(np.uint8)


def _binomial(values: NDArray[np.int16], axis: int) -> NDArray[np.int16]:
    """Four times the mean weighted 1, 2, 1 along an axis."""
    length = values.shape[axis]
    before = np.take(values, np.maximum(np.arange(length) - 1, 0), axis)
    after = np.take(values, np.minimum(np.arange(length) + 1, length - 1), axis)
    return before + 2 * values + after
