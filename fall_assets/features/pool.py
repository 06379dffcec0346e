"""Extraction spread over processes, one segment at a time each.

What belongs here: what goes to the workers and what a crash costs. What does not: processes
(`fall_assets.processes`), the work (`worker`, `extract`) and keeping its results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fall_assets.errors import PermanentFailureError
from fall_assets.features import wire
from fall_assets.features.movenet import pose_network_path, require_network
from fall_assets.features.segments import SegmentFeatures, SegmentResult, VideoRef
from fall_assets.features.settings import FeatureSettings
from fall_assets.processes import ATTEMPTS, Failed, Program, spread

WORKER = (sys.executable, "-P", "-m", "fall_assets.features.worker")
"""The program that does the work."""

DEADLINE_S = 4 * 3600.0
"""A segment lasts an hour at most; what takes longer than four hangs."""


def extract_all(
    videos: Sequence[VideoRef],
    settings: FeatureSettings,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    worker: Sequence[str] = WORKER,
    deadline_s: float = DEADLINE_S,
) -> Iterator[SegmentResult]:
    """Extract from many segments in `workers` processes; yield each result as it comes.

    Every segment gives exactly one result: frames, or an error that says why there are none. A
    crash of a worker costs the segment it worked on and nothing else; that segment is tried once
    more in a new process. One that takes longer than `deadline_s` is given up. `progress` is
    called with (finished, all). The processes end with the iterator, and with this process however
    it ends. `worker` is the program that does the work.

    Raises PermanentFailureError, before anything is decoded, where the pose network is missing or
    not the one that the settings name, or where no worker can start.
    """
    if workers < 1:
        raise PermanentFailureError(f"extraction needs at least one worker, not {workers}")
    network = pose_network_path()
    require_network(settings, network)
    program: Program[VideoRef, SegmentFeatures] = Program(
        command=worker,
        greeting={"settings": settings.as_dict(), "network": str(network)},
        describe=wire.job,
        receive=wire.receive_features,
        name="an extraction worker",
        deadline_s=lambda _video: deadline_s,
    )
    return _results(program, videos, workers, progress)


def _results(
    program: Program[VideoRef, SegmentFeatures],
    videos: Sequence[VideoRef],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[SegmentResult]:
    outcomes = spread(program, videos, workers=workers)
    for finished, (video, outcome) in enumerate(outcomes, start=1):
        if progress:
            progress(finished, len(videos))
        if isinstance(outcome, Failed):
            yield SegmentResult(video, error=_said(video.path, outcome))
        else:
            yield SegmentResult(video, frames=outcome)


def _said(path: Path, failed: Failed) -> str:
    if failed.why == "crashed":
        return (
            f"{path}: the process that decoded it ended {ATTEMPTS} times ({failed.error}); "
            "quarantine the file, or look for another reason such as too little memory"
        )
    if failed.why == "took_too_long":
        return f"{path}: it took too long to decode and was given up; quarantine the file"
    return failed.error
