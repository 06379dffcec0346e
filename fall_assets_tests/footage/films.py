"""Small videos for tests."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


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
) -> Path:
    """Write a video of moving noise; the seed makes its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            picture = np.roll(noise, number, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
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
