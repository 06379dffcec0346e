"""A worker of the pool: `python -m fall_assets.features.worker`, fed through its standard input.

What belongs here: how a task is worked on. What does not: extraction, and deciding what a crash
means (`pool`).
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fall_assets import processes
from fall_assets.features import wire
from fall_assets.features.segments import SegmentFeatures, VideoRef
from fall_assets.features.settings import EmbeddingSettings, FeatureSettings

Work = Callable[[VideoRef], SegmentFeatures]
Weights = Mapping[str, Path | None]
"""Files of weights by the feature sets' versions."""

MEMORY_BYTES = 4 << 30
"""What a process may hold of its own. One hour of footage takes 0.3 GB; a runaway is a crash of one
segment and not of the machine.
"""

BACKBONE_MEMORY_BYTES = 16 << 30
"""The same with a backbone: CUDA maps gigabytes for itself."""


def serve(prepare: Callable[[Sequence[FeatureSettings], Weights], Work]) -> None:
    """Answer segments from standard input until it ends (see `processes.serve`).

    The greeting holds the feature sets and their weights' files, of which `prepare` makes the work.
    """

    def prepared(greeting: processes.Message) -> processes.Work:
        sets = [FeatureSettings.from_dict(one) for one in greeting["sets"]]
        has_backbone = any(isinstance(one.extractor, EmbeddingSettings) for one in sets)
        memory = BACKBONE_MEMORY_BYTES if has_backbone else MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        weights = {
            version: None if path is None else Path(path)
            for version, path in greeting["weights"].items()
        }
        work = prepare(sets, weights)
        return lambda task: wire.feature_chunks(work(wire.video_of(task)))

    processes.serve(prepared)


def extraction(sets: Sequence[FeatureSettings], weights: Weights) -> Work:
    """The work of the pool's workers: `extract` with extractors that are loaded once."""
    from fall_assets.features.extract import Team, extract

    team = Team.of(sets, weights)
    return lambda video: extract(video, team)


if __name__ == "__main__":
    serve(extraction)
    sys.exit(0)
