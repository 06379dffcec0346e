"""Looking into files in child processes with limits: what hangs or crashes costs one file.

What belongs here: the limits, and what a process's end says about its file. What does not: the
process (`probe_worker.py`), looking (`probe.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from fall_assets.footage.probe import LIMIT_S, Probe, UnusableFileError
from fall_assets.processes import ATTEMPTS, Failed, Message, Program, receive_json, spread

K = TypeVar("K")

WORKER = (sys.executable, "-P", "-m", "fall_assets.footage.probe_worker")
"""The program that looks."""


@dataclass(frozen=True)
class Limits:
    """What looking into one file may cost.

    Attributes:
        memory_bytes: address space of a process. An 8K picture takes 53 MB and a decoder keeps up
            to 17; Python with FFmpeg takes 130 MB.
        limit_s: for looking; a file that takes longer is given up.
        read_bytes_per_s: the slowest disk that is waited for while the file is hashed.
        grace_s: a process that does not give up by itself is killed after so much more.
    """

    memory_bytes: int = 2 << 30
    limit_s: float = LIMIT_S
    read_bytes_per_s: float = 10e6
    grace_s: float = 10.0

    def cpu_s(self, size: int) -> float:
        """Processor time for a file of `size` bytes."""
        return self.limit_s + self.grace_s + size / self.read_bytes_per_s

    def wall_s(self, size: int) -> float:
        """Time for a file of `size` bytes; slow storage costs none of the processor's."""
        return self.limit_s + self.grace_s + 2 * size / self.read_bytes_per_s


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Looked(Generic[K]):
    """What came of one file: a probe, an error, or neither where it is gone.

    Attributes:
        key: the caller's.
        seconds: that it took in the process; 0 where that did not say.
        peak_bytes: the largest resident memory of its process up to then; 0 where it did not say.
    """

    key: K
    probe: Probe | None = None
    error: UnusableFileError | None = None
    seconds: float = 0.0
    peak_bytes: int = 0


def probe_all(
    files: Iterable[tuple[K, Path]],
    *,
    settle_s: float,
    now_s: float,
    workers: int = 2,
    limits: Limits = DEFAULT_LIMITS,
    worker: Sequence[str] = WORKER,
) -> Iterator[Looked[K]]:
    """Look into files, each named by a key, in at most `workers` processes.

    Each file gives one `Looked`, in the order in which they are done; files are drawn as processes
    become free, and none starts without a file. `settle_s` and `now_s` as for `probe`.
    """

    def described(file: tuple[K, Path]) -> Message:
        path = os.fsencode(file[1]).hex()
        return {
            "path": path,
            "settle_s": settle_s,
            "now_s": now_s,
            "limit_s": limits.limit_s,
            "cpu_s": limits.cpu_s(_size(file[1])),
        }

    program: Program[tuple[K, Path], Message] = Program(
        command=worker,
        greeting={"memory_bytes": limits.memory_bytes},
        describe=described,
        receive=receive_json,
        name="a process that looks into footage",
        deadline_s=lambda file: limits.wall_s(_size(file[1])),
    )
    for (key, _path), answer in spread(program, files, workers=max(workers, 1)):
        yield _looked(key, answer, limits)


def _looked(key: K, answer: Message | Failed, limits: Limits) -> Looked[K]:
    if isinstance(answer, Failed):
        if answer.why == "took_too_long":
            error = UnusableFileError(
                "took_too_long", f"looking into it took more than {limits.limit_s:.0f} s"
            )
        else:
            error = UnusableFileError(
                "crashed_the_decoder",
                f"the process that looked into it ended {ATTEMPTS} times: {answer.error}",
            )
        return Looked(key, error=error)
    figures = {"seconds": answer["seconds"], "peak_bytes": answer["peak_bytes"]}
    if "probe" in answer:
        return Looked(key, probe=Probe(**answer["probe"]), **figures)
    if "refused" in answer:
        return Looked(key, error=UnusableFileError(**answer["refused"]), **figures)
    return Looked(key, **figures)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
