"""Extraction spread over processes, one segment at a time each.

What belongs here: what goes to the workers and what a crash costs. What does not: processes
(`fall_assets.processes`), the work (`worker`, `extract`) and keeping its results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fall_assets.errors import PermanentFailureError
from fall_assets.features import wire
from fall_assets.features.extractors import locate
from fall_assets.features.segments import SegmentFeatures, SegmentResult, VideoRef
from fall_assets.features.settings import FeatureSettings
from fall_assets.processes import ATTEMPTS, Failed, Program, spread

WORKER = (sys.executable, "-P", "-m", "fall_assets.features.worker")
"""The program that does the work."""

DEADLINE_S = 4 * 3600.0
"""A segment lasts an hour at most; what takes longer than four hangs."""


def extract_all(
    videos: Iterable[VideoRef],
    sets: Sequence[FeatureSettings],
    *,
    workers: int = 2,
    worker: Sequence[str] = WORKER,
    deadline_s: float = DEADLINE_S,
) -> Iterator[SegmentResult]:
    """Extract all feature sets from many segments in `workers` processes; yield each as it comes.

    Every segment gives exactly one result: frames, or an error that says why there are none. A
    crash of a worker costs the segment it worked on and nothing else; that segment is tried once
    more in a new process. One that takes longer than `deadline_s` is given up. Segments are drawn
    as workers become free. The processes end with the iterator, and with this process however it
    ends. `worker` is the program that does the work.

    Raises PermanentFailureError, before anything is decoded, where weights are missing or not those
    that the settings name, or where no worker can start.
    """
    if workers < 1:
        raise PermanentFailureError(f"extraction needs at least one worker, not {workers}")
    if not sets:
        raise PermanentFailureError("extraction needs at least one feature set")
    weights = {one.version: locate(one) for one in sets}
    program: Program[VideoRef, SegmentFeatures] = Program(
        command=worker,
        greeting={
            "sets": [one.as_dict() for one in sets],
            "weights": {
                version: None if path is None else str(path) for version, path in weights.items()
            },
        },
        describe=wire.job,
        receive=wire.receive_features,
        name="an extraction worker",
        deadline_s=lambda _video: deadline_s,
    )
    return (_result(*done) for done in spread(program, videos, workers=workers))


def _result(video: VideoRef, outcome: SegmentFeatures | Failed) -> SegmentResult:
    if isinstance(outcome, Failed):
        why = "unreadable" if outcome.why == "said" else outcome.why
        return SegmentResult(video, error=_said(video.path, outcome), why=why)
    return SegmentResult(video, frames=outcome)


def _said(path: Path, failed: Failed) -> str:
    if failed.why == "crashed":
        return (
            f"{path}: the process that decoded it ended {ATTEMPTS} times ({failed.error}); "
            "quarantine the file, or look for another reason such as too little memory"
        )
    if failed.why == "took_too_long":
        return f"{path}: it took too long to decode and was given up; quarantine the file"
    return failed.error
