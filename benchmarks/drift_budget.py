"""Is the budget for false drifts kept, and what does keeping it cost?

    python -m benchmarks.drift_budget [--sites N] [--large CAMERAS] [--power N] [--days N]

- stable: sites of 10 simulated cameras (`fall_assets.simulation.days`: day and night, weekends,
  seasons of light, teams that take turns, patients who stay for days to weeks), each begun in
  another week of the year. 28 ordinary days, then 30 days that are judged one by one by
  `drift.report.judge` with the budget of the default settings, each with what was
  reported before. Nothing changes: every drift that counts is false. A false drift is a camera on
  which a cause is confirmed that was not on the day before. One site of 200 cameras besides.
- naive: what `ks` of each day's hours against all ordinary hours says of the same days, hours
  counted as independent, Bonferroni over the day's tests at the same budget: that is what counting
  windows does, with 900 times fewer of them.
- power: the same sites with a change of one figure on one camera each, 5 days after the ordinary
  ones: days from the change until a drift counts on that camera (0: on its first day).

- wards: the same for changes of people that concern all 3 cameras of a ward: another patient is no
  drift, so that one camera alone seldom says enough.

Printed: false drifts, camera-months, the rate in the unit of the budget with the exact Poisson
interval (Garwood 1936), and the verdict. Exit code 1 where the measured rate is above the budget.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from multiprocessing import get_context

import polars as pl

from fall_assets.drift.days import CameraDays
from fall_assets.drift.report import Past, judge
from fall_assets.drift.settings import DAYS_PER_MONTH, DriftSettings
from fall_assets.lake.registry import table
from fall_assets.simulation.days import FIGURES, Change, WardSpec, camera_name, simulate_days

ORDINARY, JUDGED, CAMERAS, SITES, LARGE = 28, 30, 10, 20, 200
BEGINS = 5
MODEL = "1"

CHANGES: tuple[tuple[str, str, float, int, bool], ...] = (
    ("brightness +0.10", "brightness", 0.10, 0, False),
    ("brightness +0.15", "brightness", 0.15, 0, False),
    ("contrast -0.06", "contrast", -0.06, 0, False),
    ("sharpness x 0.5", "sharpness", 0.5, 0, True),
    ("sharpness x 0.5 over 14 days", "sharpness", 0.5, 14, True),
    ("noise x 2.5", "noise", 2.5, 0, True),
    ("colour x 0.1", "colour", 0.1, 0, True),
    ("upright_height x 0.65", "upright_height", 0.65, 0, True),
    ("lying_x +0.25", "lying_x", 0.25, 0, False),
    ("rolling +0.7", "rolling", 0.7, 0, False),
)
"""Name, figure, amount, days over which it grows, whether it is a factor."""

WARD_CAMERAS, WARD_DAYS = 3, 10
WARD_CHANGES: tuple[tuple[str, str, float, int, bool], ...] = (
    ("ward: upright_height x 0.65", "upright_height", 0.65, 0, True),
    ("ward: upright_height x 0.8", "upright_height", 0.8, 0, True),
    ("ward: upright -0.4", "upright", -0.4, 0, False),
    ("ward: rolling +0.5", "rolling", 0.5, 0, False),
)
"""The same, of all cameras of a ward."""


@dataclass
class Judged:
    """What was said of one site."""

    cameras: int
    days: int
    drifts: list[tuple[str, date, str]] = field(default_factory=list)
    naive: int = 0
    seconds: list[float] = field(default_factory=list)


def judge_site(
    spec: WardSpec,
    changes: tuple[Change, ...] = (),
    camera_months: float = DriftSettings().camera_months,
    naive: bool = True,
) -> Judged:
    """Judge the days after the ordinary ones, each with what was reported before."""
    days = simulate_days(spec, changes)
    first = spec.first + timedelta(days=ORDINARY)
    usual = days.profile.filter(pl.col("day") < first)
    schema = table("ordinary_days").schema
    ordinary = (
        usual.select("camera_id", recorded_day="day")
        .unique()
        .sort("camera_id", "recorded_day")
        .with_columns(
            model_version=pl.lit(MODEL), feature_set=pl.lit("simulated"), regime=pl.lit(0)
        )
        .select(pl.col(name).cast(kind) for name, kind in schema.items())
    )
    settings = DriftSettings(camera_months=camera_months)
    past = Past()
    judged = Judged(spec.cameras, spec.days - ORDINARY)
    before: set[str] = set()
    for number in range(judged.days):
        day = first + timedelta(days=number)
        today = days.of([day])
        known = CameraDays(
            pl.concat([usual, today.profile]),
            days.facts.filter(pl.col("day") <= day),
            days.scenes,
            days.embeddings,
        )
        started = time.perf_counter()
        found = judge(known, ordinary, day, MODEL, settings, past)
        judged.seconds.append(time.perf_counter() - started)
        past = Past(
            pl.concat([past.causes, found.causes]),
            pl.concat([past.signals, found.signals]),
        )
        counts = found.causes.filter(pl.col("confirmed"))
        for camera_id, cause in counts.select("camera_id", "cause").iter_rows():
            if camera_id not in before:
                judged.drifts.append((camera_id, day, cause))
        before = set(counts["camera_id"])
        if naive:
            judged.naive += _naive(usual, today.profile, settings)
    return judged


def _naive(usual: pl.DataFrame, today: pl.DataFrame, settings: DriftSettings) -> int:
    """Cameras that plain Kolmogorov-Smirnov tests of hours call drift on this day."""
    from scipy.stats import ks_2samp

    old = usual.partition_by("camera_id", "figure", as_dict=True)
    new = today.partition_by("camera_id", "figure", as_dict=True)
    cameras = today["camera_id"].n_unique()
    alpha = settings.false_drifts_a_day(cameras) / max(1, len(new))
    called = set()
    for key, rows in new.items():
        if key[0] not in called and key in old:
            test = ks_2samp(old[key]["value"].to_numpy(), rows["value"].to_numpy(), method="asymp")
            if test.pvalue <= alpha:
                called.add(key[0])
    return len(called)


def poisson_interval(count: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a Poisson mean (Garwood 1936)."""
    from scipy.stats import chi2

    tail = (1 - level) / 2
    low = chi2.ppf(tail, 2 * count) / 2 if count else 0.0
    return float(low), float(chi2.ppf(1 - tail, 2 * count + 2) / 2)


def _stable(spec: WardSpec) -> Judged:
    judged = judge_site(spec)
    told = ", ".join(f"{camera} {day} {cause}" for camera, day, cause in judged.drifts)
    print(f"  site {spec.seed}: {told or 'nothing'}", file=sys.stderr, flush=True)
    return judged


def _changed(seed: int) -> list[tuple[str, int | None]]:
    """One site with one change on each camera: days until each is found."""
    start = ORDINARY + BEGINS
    changes = tuple(
        Change(camera, figure, amount, start, ramp, times)
        for camera, (_, figure, amount, ramp, times) in enumerate(CHANGES)
    )
    spec = _site(seed, len(CHANGES), ORDINARY + JUDGED)
    judged = judge_site(spec, changes, naive=False)
    changed = spec.first + timedelta(days=start)
    found: list[tuple[str, int | None]] = []
    for camera, (name, *_) in enumerate(CHANGES):
        days = [
            (day - changed).days
            for camera_id, day, _ in judged.drifts
            if camera_id == camera_name(camera) and day >= changed
        ]
        found.append((name, min(days, default=None)))
    return found


def _changed_ward(seed: int) -> list[tuple[str, int | None]]:
    """A ward of 3 cameras, each change on all of them: days until the first camera is named."""
    start = ORDINARY + BEGINS
    found: list[tuple[str, int | None]] = []
    for name, figure, amount, ramp, times in WARD_CHANGES:
        changes = tuple(
            Change(camera, figure, amount, start, ramp, times) for camera in range(WARD_CAMERAS)
        )
        spec = _site(seed, WARD_CAMERAS, start + WARD_DAYS)
        judged = judge_site(spec, changes, naive=False)
        changed = spec.first + timedelta(days=start)
        days = [(day - changed).days for _, day, _ in judged.drifts if day >= changed]
        found.append((name, min(days, default=None)))
    return found


def _site(seed: int, cameras: int, days: int) -> WardSpec:
    """Each site begins in another week of the year."""
    return WardSpec(
        cameras=cameras,
        days=days,
        seed=seed,
        first=date(2025, 1, 6) + timedelta(weeks=(seed * 11) % 52),
    )


def _told(name: str, sites: list[Judged]) -> bool:
    months = sum(site.cameras * site.days for site in sites) / DAYS_PER_MONTH
    camera_days = sum(site.cameras * site.days for site in sites)
    false = sum(len(site.drifts) for site in sites)
    per = DriftSettings().camera_months
    low, high = (each / months * per for each in poisson_interval(false))
    kept = false <= months / per
    seconds = statistics.median(one for site in sites for one in site.seconds)
    print(
        f"{name}: {false} false drifts in {months:.0f} camera-months: {false / months * per:.2f} "
        f"per {per:g} (95 % {low:.2f} to {high:.2f}), budget 1: "
        f"{'kept' if kept else 'NOT KEPT'}; a day judged in {seconds:.1f} s (median)"
    )
    naive = sum(site.naive for site in sites)
    print(f"  naive tests of hours: {naive} of {camera_days} camera-days are called drift")
    for cause, count in Counter(cause for site in sites for *_, cause in site.drifts).most_common():
        print(f"  false: {cause} x {count}")
    return kept


def main() -> int:
    """Run it all and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sites", type=int, default=SITES, help="stable sites of 10 cameras")
    parser.add_argument("--large", type=int, default=LARGE, help="cameras of the large site")
    parser.add_argument("--power", type=int, default=5, help="sites with changes")
    parser.add_argument("--days", type=int, default=JUDGED, help="days judged")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    print(f"{len(FIGURES)} figures, {ORDINARY} ordinary days, {arguments.days} days judged")
    kept = True
    days = ORDINARY + arguments.days
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool:
        if arguments.sites:
            specs = [_site(seed, CAMERAS, days) for seed in range(arguments.sites)]
            kept &= _told("stable sites of 10", list(pool.map(_stable, specs)))
        if arguments.power:
            found: dict[str, list[int | None]] = {}
            seeds = range(1000, 1000 + arguments.power)
            for one in (*pool.map(_changed, seeds), *pool.map(_changed_ward, seeds)):
                for name, delay in one:
                    found.setdefault(name, []).append(delay)
            print("change | found | days until it counts: median (most)")
            for name, delays in found.items():
                known = [delay for delay in delays if delay is not None]
                told = f"{statistics.median(known):.0f} ({max(known)})" if known else "-"
                print(f"{name} | {len(known)} of {len(delays)} | {told}")
        if arguments.large:
            large = list(pool.map(_stable, [_site(5000, arguments.large, days)]))
            kept &= _told(f"one stable site of {arguments.large}", large)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
