"""What the features step costs per segment, for 10 to 10,000 segments of one day.

Fifty simulated scenes of two seconds are encoded; each segment is one of them with a few bytes of
its own after its end, so that it is another content, and is taken in by the real intake. One day
holds all of them, the worst case for commits. Every size has a site of its own, and its features
are extracted by a process of its own, so that peaks of memory are that size's.

Seconds per segment: wall time from the first result to the last commit, over the segments but the
first. What comes before is start-up (processes, networks, what stands in the lake), the same for
every size; it is shown beside it, and `whole` is the wall time with it over all segments. Sizes
below a thousand are measured before and after the large ones, and their median counts, so that
what else the machine does falls on both. The ratio is to the cheapest of all smaller sizes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

GOAL = 1.3
SIZES = (10, 100, 1_000, 10_000)
SMALL = 1_000
"""Sizes below it are measured twice."""
MEMORY_FROM = 100
"""Memory is compared from the first size of at least so many segments on."""
SCENES = 50
CAMERAS = 20
REPOSITORY = Path(__file__).resolve().parents[1]
PLOT = REPOSITORY / "docs" / "features_growth.png"
MIB = 1024**2

Figures = dict[str, float]


def make_scenes(folder: Path) -> list[bytes]:
    """Contents of short simulated segments."""
    from fall_assets.simulation.hospital import HospitalSpec, generate

    spec = HospitalSpec(
        days=1, cameras=5, segments_per_day=SCENES // 5, segment_s=2.0, fps=5,
        width=160, height=90, changed_cameras=0, bad_files=0,
    )  # fmt: skip
    generate(spec, folder, workers=2)
    return [path.read_bytes() for path in sorted(folder.rglob("*.mp4"))]


def write_segments(landing: Path, scenes: Sequence[bytes], count: int) -> None:
    """So many segments of one day, each of a content of its own."""
    for number in range(count):
        camera, second = f"cam-{number % CAMERAS:02}", 5 * (number // CAMERAS)
        name = time.strftime("%H-%M-%S", time.gmtime(second))
        path = landing / camera / "2026-03-01" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        # A box that players pass over.
        own = b"\0\0\0\x10free" + number.to_bytes(8, "big")
        path.write_bytes(scenes[number % len(scenes)] + own)


def measure(root: Path) -> Figures:
    """Take the day in and extract its features; what it took. Runs in a process of its own."""
    from fall_assets.lake import Lake
    from fall_assets.memory import peak_bytes
    from fall_assets.pipeline.collection import collect
    from fall_assets.pipeline.features import extract_day
    from fall_assets.pipeline.work import Work
    from fall_assets.site import FeatureChoices, FootageSettings, Site, SiteSettings

    day = datetime(2026, 3, 1, tzinfo=UTC).date()
    settings = SiteSettings(
        footage=FootageSettings(settle_s=0.0), features=FeatureChoices(workers=2)
    )
    site = Site(root, root / "landing", settings)
    work = Work(site, Lake(site.lake_root), log=lambda line: print(line, file=sys.stderr))
    if not work.lake.rows("videos"):
        collect(work, day)
        return {"segments": float(work.lake.rows("videos"))}
    started = time.perf_counter()
    done = extract_day(work, day)
    wall_s = time.perf_counter() - started
    figures = done.figures
    if done.failed or figures.segments != done.segments:
        sys.exit(f"{len(done.failed)} of {done.segments} segments gave no features: {done.failed}")
    return {
        "segments": float(figures.segments),
        "startup_s": figures.first_result_s,
        "each_s": (figures.wall_s - figures.first_result_s) / (figures.segments - 1),
        "whole_s": wall_s / figures.segments,
        "limit_share": figures.limit_share,
        "parent_bytes": float(peak_bytes()),
        "worker_bytes": float(figures.passes.peak_bytes),
    }


def in_a_process(root: Path) -> Figures:
    """`measure`, in a process that ends with it."""
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--measure", str(root)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"the measurement failed:\n{done.stderr[-3000:]}")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_size(scenes: Sequence[bytes], size: int) -> Figures:
    """One size, on a site of its own."""
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        root = Path(folder)
        write_segments(root / "landing", scenes, size)
        taken = in_a_process(root)["segments"]
        if taken != size:
            sys.exit(f"intake took {taken:.0f} of {size} segments")
        return in_a_process(root)


def ratios(sizes: Sequence[int], values: Sequence[float], first: int = 0) -> list[float | None]:
    """Each value over the least of those of smaller sizes, of at least `first` segments."""
    found: list[float | None] = []
    for place, value in enumerate(values):
        smaller = [values[one] for one in range(place) if sizes[one] >= first]
        found.append(value / min(smaller) if smaller else None)
    return found


def draw(path: Path, sizes: Sequence[int], rows: Sequence[Figures]) -> None:
    """Cost and memory against the number of segments."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (cost, memory) = plt.subplots(1, 2, figsize=(10, 4))
    for name, label in (("each_s", "without start-up"), ("whole_s", "with start-up")):
        cost.plot(sizes, [row[name] for row in rows], marker="o", label=label)
    cost.axhline(
        GOAL * rows[0]["each_s"], ls=":", color="grey", label=f"{GOAL} x {sizes[0]} segments'"
    )
    cost.set_ylabel("seconds per segment")
    for name, label in (("parent_bytes", "parent"), ("worker_bytes", "largest worker")):
        memory.plot(sizes, [row[name] / MIB for row in rows], marker="o", label=label)
    memory.set_ylabel("peak resident memory in MiB")
    for axes in (cost, memory):
        axes.set_xscale("log")
        axes.set_xticks(list(sizes), [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("segments of the day")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def report(sizes: Sequence[int], rows: Sequence[Figures]) -> bool:
    """Print the table; whether the goals are met."""
    names = ("each_s", "parent_bytes", "worker_bytes")
    found: dict[str, list[float | None]] = {
        name: ratios(sizes, [row[name] for row in rows], MEMORY_FROM if "bytes" in name else 0)
        for name in names
    }
    print(
        f"{'segments':>8} {'start-up s':>10} {'each ms':>8} {'ratio':>6} {'whole ms':>8} "
        f"{'limit':>6} {'parent MiB':>10} {'ratio':>6} {'worker MiB':>10} {'ratio':>6}"
    )
    for place, (size, row) in enumerate(zip(sizes, rows, strict=True)):
        each, parent, worker = (_shown(found[name][place]) for name in names)
        print(
            f"{size:>8} {row['startup_s']:>10.2f} {1e3 * row['each_s']:>8.1f} {each:>6} "
            f"{1e3 * row['whole_s']:>8.1f} {row['limit_share']:>6.0%} "
            f"{row['parent_bytes'] / MIB:>10.0f} {parent:>6} "
            f"{row['worker_bytes'] / MIB:>10.0f} {worker:>6}"
        )
    known = [ratio for name in names for ratio in found[name] if ratio is not None]
    met = max(known, default=0.0) <= GOAL
    print(f"largest ratio {max(known, default=0.0):.2f}, goal at most {GOAL}")
    return met


def _shown(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def main() -> int:
    """Measure every size, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--plot", type=Path, default=PLOT, help="where the picture goes")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure)))
        return 0
    sizes: list[int] = sorted(set(asked.sizes))
    if sizes[0] < 2:
        parser.error("a size must be at least 2")
    with tempfile.TemporaryDirectory(prefix="growth-scenes-") as folder:
        scenes = make_scenes(Path(folder) / "landing")
    runs: dict[int, list[Figures]] = {size: [] for size in sizes}
    again = [size for size in reversed(sizes) if size < SMALL]
    for size in [*sizes, *again]:
        runs[size].append(measure_size(scenes, size))
        print(f"  {size} segments: {runs[size][-1]}", file=sys.stderr, flush=True)
    rows = [_middle(runs[size]) for size in sizes]
    met = report(sizes, rows)
    draw(asked.plot, sizes, rows)
    print(f"plot: {asked.plot}")
    return 0 if met else 1


def _middle(measured: Sequence[Figures]) -> Figures:
    return {name: statistics.median(one[name] for one in measured) for name in measured[0]}


if __name__ == "__main__":
    sys.exit(main())
