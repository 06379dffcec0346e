"""The batched MMD against alibi-detect's: agreement, speed, and a whole site's day.

- agreement: 1,000 random cases (8 to 200 rows on each side, 1 to 64 figures, with and without a
  change) with 100 permutations. alibi-detect's permutations are drawn again with torch.randperm
  from the same seed and given to ours, so that both decide on the same ones; p = (b + 1) / (B + 1)
  of both, drift where p < 0.05. alibi-detect sums in single precision: two statistics closer than
  that may be told apart there and count as equal here, or the other way round.
- speed: 2,000 rows of 512 figures on each side, 100 permutations, ours drawing its own. In one run,
  in turn, both with the same number of threads (torch's, and BLAS's under numpy); the figure is the
  median of the ratios of the pairs. Both take the data as it comes: fitting alibi-detect's detector
  to the reference counts, importing it does not.
- site: a process of its own does a whole day of 200 cameras: from 1,000 windows of each that do not
  overlap (rows of `features`, in a lake) it makes the day's profile, and judges it against 28
  ordinary days of simulated wards (`simulation.days`), every figure, people's figures together, and
  the daily streams, as the drift report does. There is no footage, so that scenes are not taken,
  only compared: 4 a day and camera. Every 20th camera has changed. Printed: seconds of both, the
  peak memory, and how many cameras were rightly and wrongly suspected.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.drift.days import CameraDays
from fall_assets.drift.mmd import mmd_test
from fall_assets.drift.report import judge
from fall_assets.drift.scenes import pack_cells
from fall_assets.lake import Lake, Provenance
from fall_assets.lake.registry import table
from fall_assets.pipeline.profiles import make_profile
from fall_assets.pipeline.work import Work
from fall_assets.simulation.days import Change, WardSpec, camera_name, simulate_days
from fall_assets.site import Site

CASES, MOST_APART = 1000, 1e-5
ROWS, FIGURES, PERMUTATIONS, FASTER = 2000, 512, 100, 40.0
CAMERAS, WINDOWS, HOURS, ORDINARY_DAYS, CHANGED_EVERY = 200, 1000, 24, 28, 20
SITE_S, SITE_GB = 300.0, 2.0

Real = npt.NDArray[np.float64]


def alibi(reference: Real, today: Real, seed: int, permutations: int) -> tuple[float, float]:
    """alibi-detect's statistic and its b / B."""
    import torch
    from alibi_detect.cd import MMDDrift

    torch.manual_seed(seed)
    detector = MMDDrift(
        reference.astype(np.float32), backend="pytorch", n_permutations=permutations, device="cpu"
    )
    share, statistic, _ = detector.score(today.astype(np.float32))
    return float(statistic), float(share)


def alibi_arrangements(n: int, m: int, seed: int, permutations: int) -> npt.NDArray[np.bool_]:
    """Which rows alibi-detect's permutations put on today's side; (permutations, n + m)."""
    import torch

    torch.manual_seed(seed)
    sides = np.zeros((permutations, n + m), np.bool_)
    for row in sides:
        row[torch.randperm(n + m).numpy()[-m:]] = True
    return sides


def agreement(cases: int, seed: int) -> bool:
    """Whether both give the same statistics and decisions; prints what differs."""
    import torch

    # With more threads, small matrices mostly wait for each other.
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    apart, drifts, other_b, other = 0.0, 0, 0, 0
    for case in range(cases):
        n, m = (int(size) for size in rng.integers(8, 201, 2))
        f = int(rng.integers(1, 65))
        first = rng.normal(size=(n, f))
        # A change so small that every other case or so is drift.
        change = float(rng.choice([0.0, 1.0])) * 2.0 / np.sqrt(min(n, m)) / f**0.25
        second = rng.normal(change, rng.choice([1.0, 1.1]), size=(m, f))
        theirs, share = alibi(first, second, case, PERMUTATIONS)
        test = mmd_test(first, second, arrangements=alibi_arrangements(n, m, case, PERMUTATIONS))
        p = (round(share * PERMUTATIONS) + 1) / (PERMUTATIONS + 1)
        apart = max(apart, abs(test.statistic - theirs))
        drifts += p < 0.05
        other_b += abs(test.p_value - p) > 1e-9
        if (test.p_value < 0.05) != (p < 0.05):
            other += 1
            print(f"  case {case} ({n} and {m} rows of {f}): p {test.p_value:.4f}, theirs {p:.4f}")
    print(
        f"agreement: {cases} cases, {drifts} drifts; statistics at most {apart:.1e} apart (goal "
        f"{MOST_APART:.0e}); other p-values {other_b}, other decisions {other} (goal 0)",
        flush=True,
    )
    return apart <= MOST_APART and other == 0


def speed(repeats: int, threads: int) -> bool:
    """Whether ours is fast enough; prints the times of both."""
    import torch
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(ROWS, FIGURES)), rng.normal(size=(ROWS, FIGURES))
    ours, theirs, apart = [], [], 0.0
    before = torch.get_num_threads()
    with threadpool_limits(threads):
        torch.set_num_threads(threads)
        mmd_test(first, second, permutations=PERMUTATIONS)
        alibi(first, second, 0, 2)
        for repeat in range(repeats):
            started = time.perf_counter()
            test = mmd_test(first, second, permutations=PERMUTATIONS, seed=repeat)
            between = time.perf_counter()
            statistic, _ = alibi(first, second, repeat, PERMUTATIONS)
            theirs.append(time.perf_counter() - between)
            ours.append(between - started)
            apart = max(apart, abs(test.statistic - statistic))
        torch.set_num_threads(before)
    ratios = [slow / fast for slow, fast in zip(theirs, ours, strict=True)]
    ratio = statistics.median(ratios)
    print(
        f"speed, threads {threads}: ours {statistics.median(ours):.3f} s, alibi-detect "
        f"{statistics.median(theirs):.2f} s; {ratio:.0f} times faster (pairs {min(ratios):.0f} to "
        f"{max(ratios):.0f}; goal {FASTER:.0f}); statistics {apart:.1e} apart",
        flush=True,
    )
    return ratio >= FASTER and apart <= MOST_APART


def _features(site: Site, day: date) -> None:
    """One day's segments and windows of every camera, in the site's lake."""
    lake, settings = Lake(site.lake_root), site.settings.features.detector
    rng = np.random.default_rng(5)
    cameras = [camera_name(camera) for camera in range(CAMERAS)]
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    each = WINDOWS // HOURS
    schema = table("videos").schema
    videos = pl.DataFrame(
        [
            {
                "day": day,
                "video_id": f"{camera}-{hour:02d}",
                "camera_id": camera,
                "dataset": "site",
                "path": f"{camera}/{hour:02d}.mp4",
                "start_utc": midnight + timedelta(hours=hour),
                "duration_s": each * settings.window_s,
                "width": 1280,
                "height": 720,
                "fps": 10.0,
                "frames": int(each * settings.window_s * 10),
                "codec": "h264",
                "bytes": 1000,
                "subject": None,
                "scene": f"{camera}-{hour:02d}",
                "deleted_utc": None,
            }
            for camera in cameras
            for hour in range(HOURS)
        ],
        schema=schema,
    )
    made_by = Provenance("benchmark", None, "none")
    lake.append("cameras", _cameras(cameras), made_by)
    lake.replace_partition("videos", day, videos, made_by)
    described = table("features")
    number = np.tile(np.arange(each) * 4, len(videos))
    start_s = number * settings.stride_s
    columns: dict[str, object] = {
        "day": [day] * len(number),
        "video_id": np.repeat(videos["video_id"].to_numpy(), each),
        "camera_id": np.repeat(videos["camera_id"].to_numpy(), each),
        "feature_set": [settings.version] * len(number),
        "window": number,
        "start_s": start_s,
        "end_s": start_s + settings.window_s,
        "width": np.full(len(number), 1280),
        "height": np.full(len(number), 720),
        "fps": np.full(len(number), 10.0),
    }
    for column in described.columns:
        if column.name not in columns:
            columns[column.name] = rng.uniform(0.2, 0.4, len(number))
    features = pl.DataFrame(columns, schema=described.schema)
    lake.replace_partition("features", day, features, made_by)


def _cameras(names: list[str]) -> pl.DataFrame:
    rows = [(name, "unknown", "unknown", "unknown", "site", None) for name in names]
    return pl.DataFrame(rows, schema=table("cameras").schema, orient="row")


def _scenes(days: list[date], cameras: int) -> pl.DataFrame:
    """Scenes of all cameras: each its own room, with some noise on each day."""
    rng = np.random.default_rng(6)
    rows = []
    for camera in range(cameras):
        room = np.kron(rng.integers(0, 255, (9, 16)), np.ones((6, 6)))
        for day in days:
            for part in range(4):
                seen = np.clip(room + rng.normal(0, 4, room.shape), 0, 255).astype(np.uint8)
                rows.append((day, camera_name(camera), part, "none", pack_cells(seen), 6))
    return pl.DataFrame(rows, schema=table("scenes").schema, orient="row")


def judge_site(cameras: int) -> dict[str, Any]:
    """A site's day: seconds of the profile and of the judgement, peak memory, who is suspected."""
    changes = [
        Change(camera, "sharpness", 0.5, ORDINARY_DAYS, times=True)
        for camera in range(0, cameras, CHANGED_EVERY)
    ]
    days = simulate_days(WardSpec(seed=7, cameras=cameras, days=ORDINARY_DAYS + 1), changes)
    numbers = days.profile["day"].unique().sort().to_list()
    today = numbers[-1]
    days = CameraDays(days.profile, days.facts, _scenes(numbers[-8:], cameras), days.embeddings)
    ordinary = (
        days.facts.filter(pl.col("day") < today)
        .select(
            model_version=pl.lit("1"),
            camera_id="camera_id",
            recorded_day="day",
            feature_set=pl.lit("set"),
            regime=pl.lit(0, pl.Int64),
        )
        .unique()
    )
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), Path(folder) / "landing")
        site.landing.mkdir()
        _features(site, today)
        started = time.perf_counter()
        made = make_profile(Work(site, Lake(site.lake_root)), today)
        profile_s = time.perf_counter() - started
    started = time.perf_counter()
    judged = judge(days, ordinary, today, "1")
    judge_s = time.perf_counter() - started
    return {
        "profile_s": profile_s,
        "judge_s": judge_s,
        "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "rows": made.profile.height,
        "tests": judged.signals["p_value"].drop_nulls().len(),
        "suspected": judged.causes["camera_id"].unique().to_list(),
    }


def site(cameras: int) -> bool:
    """Whether a site's day is judged in time and memory; prints both."""
    # A process of its own, so that the peak is of this alone.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        judged = pool.submit(judge_site, cameras).result()
    changed = {camera_name(camera) for camera in range(0, cameras, CHANGED_EVERY)}
    suspected = set(judged["suspected"])
    seconds, gb = judged["profile_s"] + judged["judge_s"], judged["gb"]
    print(
        f"site: {cameras} cameras with {WINDOWS} windows: profile {judged['profile_s']:.1f} s, "
        f"judgement {judged['judge_s']:.1f} s of {judged['tests']} tests (goal under {SITE_S:.0f} "
        f"together), peak {gb:.2f} GB (goal under {SITE_GB:.0f}); suspected "
        f"{len(suspected & changed)} of {len(changed)} changed, {len(suspected - changed)} others",
        flush=True,
    )
    return bool(seconds < SITE_S and gb < SITE_GB)


def main() -> int:
    """Measure all three and tell which goals are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cameras", type=int, default=CAMERAS)
    asked = parser.parse_args()
    met = {"site": site(asked.cameras)}
    for threads in asked.threads:
        met[f"speed with {threads}"] = speed(asked.repeats, threads)
    met["agreement"] = agreement(asked.cases, seed=8)
    missed = [name for name, held in met.items() if not held]
    print(f"drift_speed: {'missed ' + ', '.join(missed) if missed else 'all goals met'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
