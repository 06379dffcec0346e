"""A worker that dies on some segments: the pool's tests run it in place of the real one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from fall_assets.features.segments import SegmentFeatures, VideoRef
from fall_assets.features.settings import FeatureSettings
from fall_assets.features.worker import Weights, Work, extraction, serve


def crashing(sets: Sequence[FeatureSettings], weights: Weights) -> Work:
    """Dies on `always-*`, dies once on `once-*`, raises a bug on `bug-*`, extracts the rest."""
    real = extraction(sets, weights)

    def work(video: VideoRef) -> SegmentFeatures:
        mark = video.path.with_suffix(".tried")
        first_time = not mark.exists()
        mark.touch()
        if video.path.name.startswith("always") or (
            video.path.name.startswith("once") and first_time
        ):
            os.kill(os.getpid(), signal.SIGKILL)
        if video.path.name.startswith("bug"):
            raise TypeError("nobody thought of this")
        if video.path.name.startswith("loud"):
            sys.stdout.write("a library prints\n" * 1000)
            sys.stdout.flush()
        return real(video)

    return work


if __name__ == "__main__":
    serve(crashing)
