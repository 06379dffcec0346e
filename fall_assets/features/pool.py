"""Extraction spread over processes, one segment at a time each.

What belongs here: starting workers, handing out segments, what a crash costs. What does not: the
work (`worker`, `extract`) and keeping its results.

The workers are plain child processes with pipes rather than `multiprocessing`: that imports the
parent's main module into each child (for a Dagster run seconds of it), and one crash there breaks
every segment in flight.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from fall_assets.errors import PermanentFailureError
from fall_assets.features import wire
from fall_assets.features.movenet import pose_network_path, require_network
from fall_assets.features.segments import SegmentResult, VideoRef
from fall_assets.features.settings import FeatureSettings

WORKER = (sys.executable, "-P", "-m", "fall_assets.features.worker")
"""The program that does the work."""

_ATTEMPTS = 2
_TAIL = 600
_GRACE_S = 5.0
_ONE_THREAD = dict.fromkeys(
    ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)


def extract_all(
    videos: Sequence[VideoRef],
    settings: FeatureSettings,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    worker: Sequence[str] = WORKER,
) -> Iterator[SegmentResult]:
    """Extract from many segments in `workers` processes; yield each result as it comes.

    Every segment gives exactly one result: frames, or an error that says why there are none. A
    crash of a worker costs the segment it worked on and nothing else; that segment is tried once
    more in a new process. `progress` is called with (finished, all). The processes end with the
    iterator, and with this process however it ends. `worker` is the program that does the work.

    Raises PermanentFailureError, before anything is decoded, where the pose network is missing or
    not the one that the settings name, or where no worker can start.
    """
    if workers < 1:
        raise PermanentFailureError(f"extraction needs at least one worker, not {workers}")
    network = pose_network_path()
    require_network(settings, network)
    return _results(videos, settings, network, workers, progress, worker)


def _results(
    videos: Sequence[VideoRef],
    settings: FeatureSettings,
    network: Path,
    workers: int,
    progress: Callable[[int, int], None] | None,
    command: Sequence[str],
) -> Iterator[SegmentResult]:
    waiting = deque((video, 1) for video in videos)
    finished = 0
    team: list[_Worker] = []
    with selectors.DefaultSelector() as answers:

        def hand_out(worker: _Worker) -> None:
            if waiting:
                worker.start(*waiting.popleft())
            else:
                worker.end()
                answers.unregister(worker.answers)
                team.remove(worker)

        def hire() -> None:
            worker = _Worker(command, settings, network)
            team.append(worker)
            answers.register(worker.answers, selectors.EVENT_READ, worker)

        try:
            for _ in range(min(workers, len(videos))):
                hire()
            while team:
                for key, _ in answers.select():
                    worker: _Worker = key.data
                    if worker.video is None:
                        worker.greet()
                        hand_out(worker)
                        continue
                    video, attempt = worker.video, worker.attempt
                    try:
                        result = worker.result()
                    except wire.BrokenWireError:
                        what = worker.end(_GRACE_S)
                        answers.unregister(worker.answers)
                        team.remove(worker)
                        again = attempt < _ATTEMPTS
                        if again:
                            waiting.append((video, attempt + 1))
                        if len(team) < len(waiting):
                            hire()
                        if again:
                            continue
                        result = SegmentResult(video, error=_crashed(video, what))
                    else:
                        hand_out(worker)
                    finished += 1
                    if progress:
                        progress(finished, len(videos))
                    yield result
        finally:
            for worker in team:
                worker.end()


def _crashed(video: VideoRef, what: str) -> str:
    return (
        f"{video.path}: the process that decoded it ended {_ATTEMPTS} times ({what}); quarantine "
        "the file, or look for another reason such as too little memory"
    )


class _Worker:
    """One child process and the segment that it works on (None while it starts)."""

    def __init__(self, command: Sequence[str], settings: FeatureSettings, network: Path) -> None:
        self.video: VideoRef | None = None
        self.attempt = 0
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **_ONE_THREAD, "PYTHONPATH": _python_path()},
            bufsize=0,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("the pipes were asked for")
        self._requests = self._process.stdin
        self.answers = self._process.stdout
        self._say({"settings": settings.as_dict(), "network": str(network)})

    def greet(self) -> None:
        """Hear that the worker is ready. Raises PermanentFailureError where it is not."""
        try:
            problem = wire.receive_json(self.answers)["error"]
        except wire.BrokenWireError:
            problem = f"it ended: {self.end(_GRACE_S)}"
        if problem is not None:
            raise PermanentFailureError(f"an extraction worker cannot start: {problem}")

    def start(self, video: VideoRef, attempt: int) -> None:
        """Give it a segment."""
        self.video, self.attempt = video, attempt
        self._say(wire.job(video))

    def result(self) -> SegmentResult:
        """Read what came of its segment. Raises BrokenWireError where the worker is gone."""
        if self.video is None:
            raise AssertionError("a result is only read of a worker that was given a segment")
        problem = wire.receive_json(self.answers)["error"]
        if problem is not None:
            return SegmentResult(self.video, error=problem)
        header = wire.receive_json(self.answers)
        return SegmentResult(self.video, frames=wire.receive_features(self.answers, header))

    def end(self, grace_s: float = 0.0) -> str:
        """End the process; return how it ended and the last that it printed.

        `grace_s` is how long it may take to end by itself.
        """
        self._requests.close()
        self.answers.close()
        try:
            status = self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if self._errors.closed:
            return "it was ended"
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL))
        printed = self._errors.read().decode(errors="replace").strip()
        self._errors.close()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"{how}; {printed}" if printed else how

    def _say(self, content: dict[str, object]) -> None:
        try:
            wire.send_json(self._requests, content)
        except wire.BrokenWireError:
            # It is gone; reading from it says so.
            return


def _python_path() -> str:
    """This package stays importable wherever the parent found it."""
    home = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    return f"{home}{os.pathsep}{inherited}" if inherited else home
