"""The whole features step on footage where somebody moves all the time, against the bare loop.

Both run in as many processes, start-up included, on the same files, turn by turn; the bare loop is
`bare_loop`: decode, resize, pose at the sampled frames. The goal is 0.9 of its rate. With
`--profile`, one segment is looked at with cProfile to see what the rest is. With `--hour`, the
segments are joined to one of an hour, and the memory of the process that extracts it is told.

    python -m benchmarks.features_busy [--repeats 3] [--footage FOLDER] [--profile] [--hour]
"""

from __future__ import annotations

import argparse
import cProfile
import math
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from benchmarks.recordings import busy_segments, join
from fall_assets.features.pool import extract_all
from fall_assets.features.segments import PassFigures, VideoRef
from fall_assets.features.settings import FeatureSettings
from fall_assets.processes import Failed, Message, Program, receive_json, spread

GOAL = 0.9
HOUR_S = 3600.0
LIMIT_BYTES = 600_000_000
BARE = (sys.executable, "-P", "-m", "benchmarks.bare_loop")


def refs(paths: Sequence[Path]) -> list[VideoRef]:
    """The files as segments of one camera."""
    return [
        VideoRef(path, f"{number:064x}", "cam-01", date(2026, 3, 1))
        for number, path in enumerate(paths)
    ]


def bare_s(paths: Sequence[Path], workers: int) -> tuple[float, int]:
    """Wall seconds of the bare loop in so many processes, and the frames that it decoded."""
    program: Program[Path, Message] = Program(
        command=BARE,
        greeting={},
        describe=lambda path: {"path": str(path)},
        receive=receive_json,
        name="a bare loop",
    )
    started, frames = time.perf_counter(), 0
    for path, answer in spread(program, paths, workers=workers):
        if isinstance(answer, Failed):
            sys.exit(f"{path}: {answer.error}")
        frames += int(answer["frames"])
    return time.perf_counter() - started, frames


def features_s(paths: Sequence[Path], workers: int) -> tuple[float, PassFigures]:
    """Wall seconds of the features step, and where its processes' time went."""
    figures = PassFigures()
    started = time.perf_counter()
    for result in extract_all(refs(paths), [FeatureSettings()], workers=workers):
        if result.frames is None:
            sys.exit(f"{result.video.path}: {result.error}")
        figures = figures.with_added(result.frames.figures)
    return time.perf_counter() - started, figures


def profile(path: Path) -> None:
    """Print what one segment's pass spends its time on, by function."""
    from fall_assets.features.extract import Team, extract

    team = Team.of([FeatureSettings()])
    profiler = cProfile.Profile()
    profiler.enable()
    extract(refs([path])[0], team)
    profiler.disable()
    print(f"\nprofile of {path.name} (own seconds; the profiler itself costs some):")
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(16)


def hour_bytes(paths: Sequence[Path], folder: Path, seconds: float) -> int:
    """Peak memory of the process that extracts an hour in which somebody moves all the time."""
    target = folder / "busy-hour.mp4"
    rounds = math.ceil(HOUR_S / (seconds * len(paths)))
    join(target, [path for _ in range(rounds) for path in paths])
    took_s, figures = features_s([target], 1)
    print(
        f"an hour: {figures.frames} frames, {figures.samples} samples, {took_s:.0f} s, "
        f"{figures.decoded / figures.frames:.1%} decoded, {figures.peak_bytes / 1e6:.0f} MB "
        f"(limit {LIMIT_BYTES / 1e6:.0f} MB)"
    )
    return figures.peak_bytes


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--segments", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--footage", type=Path, help="measure on all MP4 files below a folder")
    parser.add_argument("--keep", type=Path, help="folder of recordings to make or use again")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--hour", action="store_true", help="memory on an hour; takes 20 minutes")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="busy-") as folder:
        keep = asked.keep or Path(folder)
        keep.mkdir(parents=True, exist_ok=True)
        if asked.footage:
            paths = sorted(asked.footage.rglob("*.mp4"))
        else:
            paths = busy_segments(keep, asked.segments, asked.seconds)
        ratios, took = [], PassFigures()
        print(f"{'run':>3} {'bare s':>7} {'features s':>10} {'share of the rate':>18}")
        for run in range(asked.repeats):
            # Turn by turn, so that what else the machine does falls on both.
            if run % 2:
                ours, figures = features_s(paths, asked.workers)
                bare, frames = bare_s(paths, asked.workers)
            else:
                bare, frames = bare_s(paths, asked.workers)
                ours, figures = features_s(paths, asked.workers)
            took = took.with_added(figures)
            ratios.append(bare / ours)
            print(f"{run:>3} {bare:>7.1f} {ours:>10.1f} {ratios[-1]:>18.3f}", flush=True)
            if figures.decoded < 0.95 * frames and not asked.footage:
                sys.exit(f"the gate let {figures.decoded} of {frames} frames through: not busy")
        print(
            f"\n{len(paths)} segments, {frames} frames, {asked.workers} processes; ours decoded "
            f"{took.decoded / took.frames:.3f} of the frames"
        )
        print("where the processes' time went (all runs):")
        other_s = took.wall_s - took.gate_s - took.bare_s
        for name, seconds in (
            ("pose", took.extract_s),
            ("decoding", took.decode_s),
            ("pictures for the pose", took.picture_s),
            ("compressed reading and gate", took.gate_s),
            ("figures, tracks, rows", other_s),
        ):
            print(f"  {name:<28} {seconds:>7.1f} s {seconds / took.wall_s:>6.1%}")
        if asked.profile:
            profile(paths[0])
        if asked.hour and hour_bytes(paths, Path(folder), asked.seconds) > LIMIT_BYTES:
            return 1
    median = statistics.median(ratios)
    print(f"share of the bare loop's rate: {median:.3f} (goal at least {GOAL})")
    return 0 if median >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
