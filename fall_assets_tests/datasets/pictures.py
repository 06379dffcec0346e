"""Small pictures for tests. What belongs here: encoding them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def picture(path: Path, seed: int = 0, width: int = 32, height: int = 24) -> Path:
    """Write a picture of one grey; the seed makes its brightness, the suffix its format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(path.suffix, seed, width, height))
    return path


def encoded(suffix: str, seed: int = 0, width: int = 32, height: int = 24) -> bytes:
    """The bytes of such a picture."""
    codec, pixels = ("png", "rgb24") if suffix == ".png" else ("mjpeg", "yuvj420p")
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, pixels
    context.time_base = Fraction(1, 25)
    content = np.full((height, width, 3), 20 + 10 * (seed % 20), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(content, format="rgb24").reformat(format=pixels)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def decoded(path: Path) -> list[tuple[float, int]]:
    """Time in seconds and seed of each picture of a video."""
    shown = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            grey = float(frame.to_ndarray(format="rgb24").mean())
            shown.append((float(frame.pts * frame.time_base), round((grey - 20) / 10)))
    return shown
