"""Small videos for tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# The AV1 encoder tells its settings to the terminal.
os.environ.setdefault("SVT_LOG", "1")

_QUIET = {
    "libx265": {"x265-params": "log-level=none:pools=1:frame-threads=1", "preset": "ultrafast"},
    "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}

_made: dict[str, bytes] = {}


def film(
    path: Path,
    *,
    frames: int = 20,
    fps: int = 10,
    width: int = 64,
    height: int = 48,
    seed: int = 0,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container: str | None = None,
    pixels: str = "yuv420p",
    gop: int | None = None,
    stamps_ms: Sequence[int] | None = None,
) -> Path:
    """Write a video of moving noise; the seed makes its content.

    The same arguments give the same bytes: x264 alone does not, about one film in a hundred is
    another where the process's memory was used before.

    `container` is FFmpeg's name of the format where the suffix does not tell; `stamps_ms` are the
    frames' times in place of `frames` at `fps`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = repr((path.suffix, frames, fps, width, height, seed, codec, options, container, pixels,
                  gop, stamps_ms))  # fmt: skip
    if asked in _made:
        path.write_bytes(_made[asked])
        return path
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    if stamps_ms is not None:
        frames = len(stamps_ms)
    with av.open(str(path), "w", format=container, options=options or {}) as target:
        stream = target.add_stream(codec, rate=fps, options=_QUIET.get(codec, {}))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        if gop is not None:
            stream.gop_size = gop
        if stamps_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(np.roll(noise, number, axis=1), format="rgb24")
            if stamps_ms is not None:
                picture.pts, picture.time_base = stamps_ms[number], Fraction(1, 1000)
            target.mux(stream.encode(picture))
        target.mux(stream.encode())
    _made[asked] = path.read_bytes()
    return path


def sound(path: Path) -> Path:
    """Write a file that holds sound only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        silence = np.zeros((1, 1024), dtype=np.float32)
        for number in range(10):
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut(path: Path, target: Path, share: float) -> Path:
    """Write the first part of a file."""
    content = path.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content[: int(len(content) * share)])
    return target
