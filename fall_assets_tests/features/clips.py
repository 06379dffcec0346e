"""Small encoded clips for tests, made by PyAV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def write_clip(
    path: Path,
    pictures: Sequence[Picture],
    *,
    fps: float = 10.0,
    times_s: Sequence[float] | None = None,
    quality: str = "18",
    rotation: int = 0,
) -> Path:
    """Encode RGB pictures of shape (height, width, 3).

    `times_s` gives uneven time stamps; `rotation` is what players turn it by, counter-clockwise.
    """
    base = Fraction(1, 90_000)
    times = times_s if times_s is not None else [n / fps for n in range(len(pictures))]
    with av.open(str(path), mode="w") as container:
        options = {"crf": quality, "preset": "ultrafast", "bf": "0"}
        stream = container.add_stream("libx264", rate=round(fps), options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = base
        if rotation:
            stream.set_display_rotation(rotation)
        for picture, at in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = round(at / base)
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def plain(shade: int, width: int = 160, height: int = 96) -> Picture:
    return np.full((height, width, 3), shade, np.uint8)


def moving_box(
    count: int, *, width: int = 320, height: int = 192, step: int = 6, seed: int = 0
) -> list[Picture]:
    """A light box that crosses a textured room."""
    room = np.random.default_rng(seed).integers(60, 120, (height // 8, width // 8, 3), np.uint8)
    room = room.repeat(8, axis=0).repeat(8, axis=1)
    pictures = []
    for number in range(count):
        picture = room.copy()
        left = 10 + step * number
        picture[height // 3 : height, left : left + 30] = 230
        pictures.append(picture)
    return pictures


def every(count: int, make: Callable[[int], Picture]) -> list[Picture]:
    return [make(number) for number in range(count)]
