"""A worker of the pool: `python -m fall_assets.features.worker`, fed through its standard input.

What belongs here: how a task is worked on. What does not: extraction, and deciding what a crash
means (`pool`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from fall_assets import processes
from fall_assets.features import wire
from fall_assets.features.segments import SegmentFeatures, VideoRef
from fall_assets.features.settings import FeatureSettings

Work = Callable[[VideoRef], SegmentFeatures]


def serve(prepare: Callable[[FeatureSettings, Path], Work]) -> None:
    """Answer segments from standard input until it ends (see `processes.serve`).

    The greeting holds the settings and the pose network's path, of which `prepare` makes the work.
    """

    def prepared(greeting: processes.Message) -> processes.Work:
        settings = FeatureSettings.from_dict(greeting["settings"])
        work = prepare(settings, Path(greeting["network"]))
        return lambda task: wire.feature_chunks(work(wire.video_of(task)))

    processes.serve(prepared)


def extraction(settings: FeatureSettings, network: Path) -> Work:
    """The work of the pool's workers: `extract` with a network that is loaded once."""
    from fall_assets.features.extract import extract
    from fall_assets.features.movenet import MoveNet

    loaded = MoveNet.of(settings, network)
    return lambda video: extract(video, settings, network=loaded)


if __name__ == "__main__":
    serve(extraction)
    sys.exit(0)
