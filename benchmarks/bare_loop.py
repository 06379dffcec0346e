"""The bare loop that features are measured against: decode, resize, pose at the sampled frames.

What belongs here: that loop, in this process or as a worker of `processes.spread`
(`python -m benchmarks.bare_loop`). What does not: measuring.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from fall_assets import processes
from fall_assets.features.movenet import MoveNet

SAMPLE_HZ = 10.0
LONG_SIDE = 256


def bare(path: Path, network: MoveNet | None) -> dict[str, float]:
    """Frames, samples and seconds of one file; without a network it is only decoded."""
    scaler, next_s, frames, samples = VideoReformatter(), 0.0, 0, 0
    started = time.perf_counter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.thread_type = "NONE"
        for frame in container.decode(stream):
            frames += 1
            if network is None or frame.time is None or frame.time < next_s - 1e-4:
                continue
            next_s += 1 / SAMPLE_HZ
            scale = LONG_SIDE / max(frame.width, frame.height)
            small = scaler.reformat(
                frame,
                width=round(frame.width * scale),
                height=round(frame.height * scale),
                format="rgb24",
                interpolation="AREA",
                threads=1,
            )
            network.people(cast("NDArray[np.uint8]", small.to_ndarray()))
            samples += 1
    return {"frames": frames, "samples": samples, "seconds": time.perf_counter() - started}


def _prepare(_greeting: processes.Message) -> processes.Work:
    network = MoveNet(min_score=0.08)
    return lambda task: [processes.to_json(bare(Path(task["path"]), network))]


if __name__ == "__main__":
    processes.serve(_prepare)
    sys.exit(0)
