"""One decoded frame in the forms that the extractors need: small RGB, small luma, luma detail.

What belongs here: cropping, scaling, turning upright, all inside FFmpeg's scaler where it can be.
What does not: deciding which frames to use (`sampling`) or what they mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from fall_assets.features.segments import Crop

if TYPE_CHECKING:
    from av import VideoFrame


class PictureMaker:
    """Makes pictures of a segment's frames; keeps the scalers' tables between frames."""

    def __init__(self, crop: Crop) -> None:
        self._crop = crop
        self._scalers: dict[str, VideoReformatter] = {}

    def size(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height in pixels of the whole upright picture as recorded."""
        turned = frame.rotation % 180 != 0
        return (frame.height, frame.width) if turned else (frame.width, frame.height)

    def aspect(self, frame: VideoFrame) -> float:
        """Width over height of the part that is used; pixels are taken as square."""
        width, height = self._used(frame)
        return width / height

    def rgb(self, frame: VideoFrame, long_side: int) -> NDArray[np.uint8]:
        """The part that is used, (height, width, 3), its long side `long_side` pixels."""
        return self._scaled(frame, long_side, "rgb24")

    def luma(self, frame: VideoFrame, long_side: int) -> NDArray[np.uint8]:
        """Full-range luma of the same, (height, width)."""
        return self._scaled(frame, long_side, "gray")

    def luma_detail(self, frame: VideoFrame, side: int) -> NDArray[np.uint8]:
        """Full-range luma of the middle of the part that is used, at most `side` x `side`.

        Not scaled: sharpness and noise live in single pixels.
        """
        plane = self._convert(frame, "detail", frame.width, frame.height, "gray")
        used = self._crop.cut(plane)
        height, width = used.shape
        top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
        return used[top : top + side, left : left + side]

    def _used(self, frame: VideoFrame) -> tuple[float, float]:
        width, height = self.size(frame)
        crop = self._crop
        return (crop.x1 - crop.x0) * width, (crop.y1 - crop.y0) * height

    def _scaled(self, frame: VideoFrame, long_side: int, form: str) -> NDArray[np.uint8]:
        scale = long_side / max(self._used(frame))
        width, height = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
        picture = self._crop.cut(self._convert(frame, form, width, height, form))
        # Rounding may leave one pixel too many, which would cost a whole stride of padding.
        return picture[:long_side, :long_side]

    def _convert(
        self, frame: VideoFrame, name: str, width: int, height: int, form: str
    ) -> NDArray[np.uint8]:
        scaler = self._scalers.setdefault(name, VideoReformatter())
        converted = scaler.reformat(
            frame, width=width, height=height, format=form, interpolation="AREA", threads=1
        )
        picture = cast("NDArray[np.uint8]", converted.to_ndarray())
        quarter_turns = frame.rotation // 90 % 4
        return np.rot90(picture, quarter_turns) if quarter_turns else picture
