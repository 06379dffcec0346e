"""Processes that write to a lake on command: what the concurrency tests set against each other."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import IO

import polars as pl

from fall_assets.lake import Lake
from fall_assets_tests.lake.rows import DAY_1, RUN, rows

ROUNDS = 5
LARGE = 100_000


def large(mark: float) -> pl.DataFrame:
    """A day of telemetry that takes a while to write; `mark` tells whose it is."""
    base = rows("camera_health", 1)
    first = base["at_utc"][0]
    moments = pl.datetime_range(first, first + timedelta(seconds=LARGE - 1), "1s", eager=True)
    return pl.concat([base] * LARGE).with_columns(
        at_utc=moments, cpu_percent=pl.lit(mark), bandwidth_kbps=pl.int_range(LARGE, eager=True)
    )


def different_days(lake: Lake, writer: int) -> None:
    for number in range(ROUNDS):
        day = DAY_1 + timedelta(days=writer)
        frame = rows("camera_health", number + 1, day=day)
        lake.replace_partition("camera_health", day, frame, RUN)


def same_day(lake: Lake, writer: int) -> None:
    for _ in range(ROUNDS):
        frame = rows("camera_health", 3).with_columns(cpu_percent=pl.lit(float(writer)))
        lake.replace_partition("camera_health", DAY_1, frame, RUN)


def extend_one_day(lake: Lake, writer: int) -> None:
    """Batches that overlap those of the others: every key is in the batches of all."""
    for number in range(1, ROUNDS + 1):
        frame = rows("camera_health", 3 * number).with_columns(cpu_percent=pl.lit(float(writer)))
        lake.extend_partition("camera_health", DAY_1, frame, RUN)


def extend_own_days(lake: Lake, writer: int) -> None:
    day = DAY_1 + timedelta(days=writer)
    for number in range(1, ROUNDS + 1):
        lake.extend_partition("camera_health", day, rows("camera_health", number, day=day), RUN)


def extend_and_join(lake: Lake, writer: int) -> None:
    """Two keep adding batches to a day while the others join its files and replace another day."""
    for number in range(ROUNDS):
        if writer < 2:
            frame = rows("camera_health", 4 * ROUNDS)[writer::2][2 * number : 2 * number + 2]
            lake.extend_partition("camera_health", DAY_1, frame, RUN)
        elif writer == 2:
            lake.maintain("camera_health")
        else:
            lake.maintain("camera_health")
            day = DAY_1 + timedelta(days=1)
            lake.replace_partition("camera_health", day, rows("camera_health", day=day), RUN)


def extend_large_day(lake: Lake, mark: int) -> None:
    lake.extend_partition("camera_health", DAY_1, large(float(mark)), RUN)


def append_same_keys(lake: Lake, writer: int) -> None:
    for number in range(1, ROUNDS + 1):
        lake.append("cameras", rows("cameras", number), RUN, skip_existing=True)


def upsert_own_keys(lake: Lake, writer: int) -> None:
    for number in range(ROUNDS):
        frame = rows("cameras", 1).with_columns(camera_id=pl.lit(f"cam-{writer}-{number}"))
        lake.upsert("cameras", frame, RUN)


def replace_large_day(lake: Lake, mark: int) -> None:
    lake.replace_partition("camera_health", DAY_1, large(float(mark)), RUN)


JOBS = {
    job.__name__: job
    for job in (
        different_days,
        same_day,
        extend_one_day,
        extend_own_days,
        extend_and_join,
        extend_large_day,
        append_same_keys,
        upsert_own_keys,
        replace_large_day,
    )
}


class Writer:
    """A process that has imported everything and waits for jobs."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answers = 0
        self._jobs = 0

    def is_ready(self) -> None:
        """Wait until it has imported everything, or has done its job."""
        while self._answers <= self._jobs:
            answer = _pipe(self.process.stdout).readline()
            assert answer == "ready\n", f"the writer failed: {answer!r}"
            self._answers += 1

    def begin(self, lake: Lake, job: str, number: int) -> None:
        """Let it start `job`; `is_ready` waits for the end."""
        pipe = _pipe(self.process.stdin)
        pipe.write(f"{lake.root}\t{job}\t{number}\n")
        pipe.flush()
        self._jobs += 1

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill()
        self.process.communicate()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def main() -> None:
    """Do jobs until nobody asks for more."""
    print("ready", flush=True)
    for line in sys.stdin:
        root, job, number = line.rstrip("\n").split("\t")
        JOBS[job](Lake(root), int(number))
        print("ready", flush=True)


if __name__ == "__main__":
    main()
