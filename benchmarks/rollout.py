"""Whether a rollout's judgement holds what it promises, beside the usual ways to judge a canary.

The counts are simulated (`fall_assets.simulation.rollouts`): 1,000 cameras, a look every day for 14
days. Assignment, e-values and state machine are those of production.

(a) The table of the issue: false rollback of a version as good as the champion, and catch of one
    with twice its false alarms, by the project's rule and by `benchmarks.rollout_rivals`. The rule
    sees what the rivals see: no past, nobody in shadow, no answers.
(b) The same with what a rollout has: 28 days of the past, both groups watched by both versions, and
    answers of staff, added one after the other.
(c) False rollback where the world is not as simple: cameras that differ, a ward with ten times the
    alarms, days that differ, cameras that hang together, bursts, versions that suit some cameras.
(d) Whole rollouts from shadow to retirement, on evidence as frames.
(e) False "not worse" in the same worlds: of versions with `margin` times the false alarms, how many
    the evidence calls better than that.

In (a) to (c) and (e) evidence goes through `RateTable` as arrays: frames for so many looks would
take days. One run of each variant is also judged through `judge`, and must agree.

Goals, else exit status 1: the project's rule rolls back at most 2 % of the versions that are as
good, in every cell of (a) and (b) and every scenario of (c) with what a rollout has, and in (d),
guards and the library aside; in every cell of (a) it catches as many as the e-value, less two
standard errors; and in every scenario of (e) at most 5 % are called better. With fewer than
`SURE_RUNS` runs only an interval wholly over the limit counts as missed.

    python -m benchmarks.rollout [--runs N] [--rollouts N] [--parts abcde] [--processes N] [--quick]
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from statistics import mean, median
from typing import Final, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import beta

from benchmarks.rollout_rivals import RIVALS, LiveCounts
from fall_assets.rollout.assignment import Place, assign
from fall_assets.rollout.evidence import Role, arm
from fall_assets.rollout.guards import Facts, Missed, check
from fall_assets.rollout.judgement import Judgement
from fall_assets.rollout.judging import combined, judge
from fall_assets.rollout.library import LibraryVerdict, compare_library
from fall_assets.rollout.machine import Decision, Look, Order, decide, standing, start
from fall_assets.rollout.rates import RateTable
from fall_assets.rollout.settings import RolloutSettings, StepSettings
from fall_assets.simulation.rollouts import (
    LATEST_ANSWER_D,
    Shadows,
    Site,
    SiteDay,
    SiteSpec,
    Version,
)

FIRST_DAY: Final = date(2026, 3, 2)
"""A Monday."""
DAYS: Final = 14
HISTORY_DAYS: Final = 28
MOST_FALSE: Final = 0.02
MOST_WRONG: Final = 0.05
MARGIN: Final = 2.0
SURE_RUNS: Final = 1000
"""With fewer runs a goal is missed only where the whole interval is beyond it."""
LIBRARY_FALLS: Final = 190
"""Labelled falls in (d)."""

PROJECT: Final = "project"
E_VALUE: Final = "e-value at 20"
OURS: Final = "e-values"

_ROLES: Final[tuple[Role, Role]] = ("champion", "challenger")

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Variant:
    """What the project's rule gets to see."""

    history: bool = True
    shadows: Shadows = "groups"
    staff: bool = True


VARIANTS: Final[Mapping[str, Variant]] = {
    PROJECT: Variant(history=False, shadows="none", staff=False),
    "+ 28 days before": Variant(shadows="none", staff=False),
    "+ shadows": Variant(staff=False),
    "+ staff": Variant(),
    "(shadow on all cameras)": Variant(shadows="all"),
}
IN_SHADOW: Final = "(shadow on all cameras)"
SERVED: Final = "+ staff"
"""What a rollout really has."""

CELLS: Final = ((0.01, 0.01), (0.01, 0.5), (0.1, 0.01), (0.1, 0.5))
"""False alarms per camera-day, and share of the cameras."""

QUIET: Final = SiteSpec(answered=0.6, answer_days=0.5, concordance=0.5)
SCENARIOS: Final[Mapping[str, SiteSpec]] = {
    "as in the table": QUIET,
    "cameras differ (gamma, cv 1)": replace(QUIET, spread="gamma"),
    "cameras differ (lognormal, cv 2)": replace(QUIET, spread="lognormal", spread_cv=2.0),
    "a ward with 10 times the alarms": replace(QUIET, loud_ward=10.0),
    "day, night, weekends, outages": replace(
        QUIET, night=0.2, night_cameras=0.2, outages=0.1, weekend=0.4
    ),
    "wards hang together (cv 1 a day)": replace(QUIET, ward_shock=1.0),
    "the site hangs together (cv 1 a day)": replace(QUIET, site_shock=1.0),
    "bursts of 3": replace(QUIET, burst=3.0),
    "bursts of 10": replace(QUIET, burst=10.0),
    "versions suit cameras (cv 0.5)": replace(QUIET, camera_effect=0.5),
    "versions suit cameras (cv 1)": replace(QUIET, camera_effect=1.0),
    "all of it": replace(
        QUIET,
        spread="gamma",
        loud_ward=10.0,
        night=0.2,
        night_cameras=0.2,
        outages=0.1,
        weekend=0.4,
        ward_shock=0.5,
        site_shock=0.3,
        burst=2.0,
        camera_effect=0.3,
    ),
}


@dataclass(frozen=True)
class Trial:
    """Runs of one kind: what is simulated, and who judges it."""

    key: int
    spec: SiteSpec
    ratio: float
    share: float
    variants: tuple[str, ...]
    has_rivals: bool


@dataclass(frozen=True)
class Counted:
    """Of how many runs how many were rolled back, and on which days."""

    runs: int
    days: tuple[int, ...]

    @property
    def share(self) -> float:
        """Rolled back, of all runs."""
        return len(self.days) / self.runs

    def interval(self) -> tuple[float, float]:
        """Of `share`: 95 %, exact (Clopper and Pearson 1934)."""
        return interval(len(self.days), self.runs)

    def text(self) -> str:
        """For a cell of a table."""
        low, high = self.interval()
        return f"{100 * self.share:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def interval(found: int, of: int) -> tuple[float, float]:
    """Of a probability: 95 %, exact (Clopper and Pearson 1934)."""
    low = 0.0 if found == 0 else float(beta.ppf(0.025, found, of - found + 1))
    high = 1.0 if found == of else float(beta.ppf(0.975, found + 1, of - found))
    return low, high


# The project's rule, on arrays.


@dataclass(frozen=True)
class Watched:
    """One measure as a variant sees it: counts and camera-days, (days, cameras) each."""

    n0: Real
    t0: Real
    n1: Real
    t1: Real
    history: Real
    history_days: Real

    def table(self, strata: NDArray[np.int64]) -> RateTable:
        """What the days before say."""
        return RateTable.learn(
            strata,
            self.history.sum(axis=0),
            self.history_days.sum(axis=0),
            (self.history**2).sum(axis=0),
            (self.history.sum(axis=1), self.history_days.sum(axis=1)),
        )

    def sums(self, table: RateTable, looks: int) -> tuple[Real, Real, Real, Real]:
        """As `judging` sums the first `looks` days, each weighted by how lively it was."""
        n0, t0, n1, t1 = (of[:looks] for of in (self.n0, self.t0, self.n1, self.t1))
        level = table.levels(n0.sum(axis=1), t0 @ table.rate[table.stratum])
        return n0.sum(axis=0), level @ t0, n1.sum(axis=0), level @ t1


@dataclass(frozen=True)
class Run:
    """One simulated rollout of one step."""

    trial: Trial
    site: Site
    places: Mapping[str, Place]
    before: Sequence[SiteDay]
    days: Sequence[SiteDay]

    @cached_property
    def live(self) -> Mask:
        """Where the challenger raises the alerts."""
        return self.site.live(self.places)

    def counts(self) -> LiveCounts:
        """What the rivals see."""
        control = np.array([self.places[name] == "control" for name in self.site.camera_ids])
        champion = np.stack([day.false_alarms("champion") for day in self.days])
        challenger = np.stack([day.false_alarms("challenger") for day in self.days])
        watched = np.stack([day.camera_days for day in self.days])
        live = self.live
        return LiveCounts(
            challenger[:, live],
            champion[:, control],
            champion[:, ~live],
            watched[:, live].sum(axis=1),
            watched[:, ~live].sum(axis=1),
        )

    def alarms(self, variant: Variant) -> Watched:
        """False alarms."""
        return self._watched(variant, *(self._false_alarms[role] for role in _ROLES))

    def dismissed(self, variant: Variant, look: int) -> Watched:
        """False alarms that staff have answered by the end of a look's day."""
        # Days before the first have rows below 0.
        lags = np.clip(look - 1 - np.arange(-len(self.before), DAYS), 0, LATEST_ANSWER_D)
        rows = np.arange(len(lags))
        # Nobody is shown what a shadow raises, so that nobody dismisses it.
        live_only = replace(variant, shadows="none")
        return self._watched(live_only, *(self._dismissed[role][lags, rows] for role in _ROLES))

    @cached_property
    def _days(self) -> list[SiteDay]:
        return [*self.before, *self.days]

    @cached_property
    def _camera_days(self) -> Real:
        return np.stack([day.camera_days for day in self._days])

    @cached_property
    def _false_alarms(self) -> dict[Role, Real]:
        """Of each version, (days, cameras)."""
        return {
            role: np.stack([day.false_alarms(role) for day in self._days]).astype(float)
            for role in _ROLES
        }

    @cached_property
    def _dismissed(self) -> dict[Role, Real]:
        """By days since the alert, (lags, days, cameras)."""
        nobody = np.zeros(len(self.live), bool)
        return {
            role: np.array(
                [
                    [
                        day.dismissed(
                            role,
                            nobody if day.day < FIRST_DAY else self.live,
                            day.day + timedelta(days=lag),
                        )
                        for day in self._days
                    ]
                    for lag in range(LATEST_ANSWER_D + 1)
                ],
                dtype=float,
            )
            for role in _ROLES
        }

    def evidence(self, variant: Variant, as_of: date) -> pl.DataFrame:
        """The same as a frame."""
        live = self.live
        nobody = np.zeros(len(live), bool)
        shadow = self.site.shadow(self.places, variant.shadows)
        parts = [self.site.evidence(day, nobody, nobody, as_of) for day in self.before]
        evidence = pl.concat(
            [
                *(parts if variant.history else []),
                *(self.site.evidence(d, live, shadow, as_of) for d in self.days if d.day <= as_of),
            ]
        )
        return evidence if variant.staff else evidence.with_columns(dismissed=pl.lit(0, pl.Int64))

    def _watched(self, variant: Variant, champion: Real, challenger: Real) -> Watched:
        live, shadow = self.live, self.site.shadow(self.places, variant.shadows)
        sees0, sees1 = ~live | shadow, live | shadow
        now, past = slice(len(self.before), None), slice(0, len(self.before))
        watched = self._camera_days[now]
        history, history_days = champion[past], self._camera_days[past]
        if not variant.history:
            history = history_days = np.zeros((1, len(live)))
        return Watched(
            champion[now] * sees0,
            watched * sees0,
            challenger[now] * sees1,
            watched * sees1,
            history,
            history_days,
        )


def simulate(trial: Trial, number: int) -> Run:
    """Run `number` of a trial; the same ones give the same run."""
    site = Site(trial.spec, Version(ratio=trial.ratio), seed=[trial.key, number])
    places = assign(f"rollout-{trial.key}-{number}", site.traits, trial.share)
    has_past = any(VARIANTS[name].history for name in trial.variants)
    past = [site.day(FIRST_DAY - timedelta(days=d)) for d in range(HISTORY_DAYS, 0, -1)]
    days = [site.day(FIRST_DAY + timedelta(days=d)) for d in range(DAYS)]
    return Run(trial, site, places, past if has_past else [], days)


def rolled_back(run: Run, variant: Variant) -> int:
    """The look at which the state machine rolls back, 0 for none."""
    settings = RolloutSettings(
        steps=(
            StepSettings(share=0.0),
            StepSettings(share=run.trial.share, min_days=DAYS, max_days=DAYS),
        )
    )
    history = _at_the_step(settings)
    for look, e_worse in enumerate(e_values(run, variant, settings), start=1):
        day = FIRST_DAY + timedelta(days=look - 1)
        judgement = Judgement(e_worse, 0.0, {OURS: e_worse}, None, settings.steps[1].margin)
        decision = decide(history, Look(day, look, judgement), settings, None, _at(day))
        if decision is not None:
            history.append(decision)
            if decision.state == "rolled_back":
                return look
    return 0


def e_values(run: Run, variant: Variant, settings: RolloutSettings) -> Iterator[float]:
    """`Judgement.e_worse` of each look.

    A measure of which nothing was counted has an e-value between 0 and 1 and costs as much as the
    others: it is left at 1 unless that could decide.
    """
    strata = run.site.strata
    alarms = run.alarms(variant)
    table = alarms.table(strata)
    for look in range(1, DAYS + 1):
        logs = {"alarms": table.log_e_worse(*alarms.sums(table, look)), "delay": 0.0}
        as_of = FIRST_DAY + timedelta(days=look - 1)
        if variant.staff:
            dismissed = run.dismissed(variant, look)
            answered = dismissed.table(strata)
            logs["dismissed"] = answered.log_e_worse(*dismissed.sums(answered, look))
        silent = {name: 0.0 for name in ("dismissed", "abstained") if name not in logs}
        e_worse = combined({**logs, **silent}, settings.weights)
        if 0 <= e_worse - settings.evidence < 1:
            e_worse = judge(run.evidence(variant, as_of), FIRST_DAY, 2.0, settings.weights).e_worse
        yield e_worse


def agree(run: Run, variant: Variant) -> float:
    """How far arrays and frames are apart on the last day, of the logarithm of the alarms' e."""
    settings = RolloutSettings()
    as_of = FIRST_DAY + timedelta(days=DAYS - 1)
    alarms = run.alarms(variant)
    table = alarms.table(run.site.strata)
    ours = {"alarms": table.log_e_worse(*alarms.sums(table, DAYS))}
    if variant.staff:
        dismissed = run.dismissed(variant, DAYS)
        answered = dismissed.table(run.site.strata)
        ours["dismissed"] = answered.log_e_worse(*dismissed.sums(answered, DAYS))
    theirs = judge(run.evidence(variant, as_of), FIRST_DAY, 2.0, settings.weights).by_measure
    return max(abs(log - math.log(theirs[measure])) for measure, log in ours.items())


def _at_the_step(settings: RolloutSettings) -> list[Decision]:
    """A history that has just come to the one live step, from `FIRST_DAY` on."""
    now = _at(FIRST_DAY)
    history = [start("benchmark", "1", "2", FIRST_DAY, now, settings)]
    order = Order("approve", "benchmark")
    decision = decide(history, Look(None, 0), settings, order, now)
    if decision is None or decision.state != "step" or decision.effective_day != FIRST_DAY:
        raise RuntimeError(f"the state machine did not come to the step: {decision}")
    return [*history, decision]


def _at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 23, 59, tzinfo=UTC)


def judged(task: tuple[Trial, int, int]) -> dict[str, list[int]]:
    """Some runs of a trial: of each rule the look of each run's rollback, 0 for none."""
    trial, begin, end = task
    found: dict[str, list[int]] = {}
    for number in range(begin, end):
        run = simulate(trial, number)
        for name in trial.variants:
            found.setdefault(name, []).append(rolled_back(run, VARIANTS[name]))
        if trial.has_rivals:
            counts = run.counts()
            for name, rule in RIVALS.items():
                found.setdefault(name, []).append(rule(counts))
    return found


def called_better(task: tuple[Trial, int, int]) -> dict[str, list[int]]:
    """Some runs of a trial: the look at which each is shown to be under `MARGIN`, 0 for none."""
    trial, begin, end = task
    found = []
    for number in range(begin, end):
        run = simulate(trial, number)
        (name,) = trial.variants
        alarms = run.alarms(VARIANTS[name])
        table = alarms.table(run.site.strata)
        threshold = math.log(RolloutSettings().evidence)
        looks = (
            look
            for look in range(1, DAYS + 1)
            if table.log_e_not_worse(*alarms.sums(table, look), MARGIN) >= threshold
        )
        found.append(next(looks, 0))
    return {name: found}


# Whole rollouts.


@dataclass(frozen=True)
class Challenger:
    """A kind of challenger in (d)."""

    name: str
    version: Version
    rate: float


CHALLENGERS: Final = tuple(
    Challenger(f"{name}, {rate:g}", version, rate)
    for rate in (0.01, 0.1)
    for name, version in (
        ("as good", Version()),
        ("better (ratio 0.7)", Version(ratio=0.7)),
        ("twice the false alarms", Version(ratio=2.0)),
        ("less sensitive (0.80)", Version(sensitivity=0.8)),
        ("slower (20 s)", Version(delay_s=20.0)),
    )
)
WHOLE: Final = SiteSpec(
    spread="gamma",
    loud_ward=10.0,
    night=0.5,
    weekend=0.7,
    ward_shock=0.3,
    site_shock=0.1,
    burst=1.2,
    camera_effect=0.2,
    falls=0.002,
    fall_concordance=0.95,
    answered=0.6,
    reported=0.9,
    abstained_h=0.2,
)


@dataclass(frozen=True)
class Outcome:
    """How a rollout ended, after how many days, and what the wards heard.

    `share` is the greatest that it reached; `excess` the alerts of the wards less those that they
    would have heard from the champion.
    """

    state: str
    why: str
    days: int
    share: float
    excess: int


def rollout(task: tuple[int, int, int]) -> list[Outcome]:
    """Some whole rollouts of a challenger."""
    which, begin, end = task
    return [whole(CHALLENGERS[which], which, number) for number in range(begin, end)]


def whole(challenger: Challenger, which: int, number: int) -> Outcome:
    """One rollout from its start until it ends or asks a person."""
    settings = RolloutSettings()
    spec = replace(WHOLE, false_alarms=challenger.rate)
    site = Site(spec, challenger.version, seed=[97, which, number])
    nobody = np.zeros(spec.cameras, bool)
    before = [site.day(FIRST_DAY - timedelta(days=d)) for d in range(HISTORY_DAYS, 0, -1)]
    past = pl.concat([site.evidence(day, nobody, nobody, FIRST_DAY) for day in before])
    identity = f"rollout-{which}-{number}"
    history = [start(identity, "1", "2", FIRST_DAY, _at(FIRST_DAY), settings)]
    library = _library(challenger.version, [98, which, number], settings.sensitivity_margin)
    places: dict[str, Place] = {}
    place_share, excess, greatest = 0.0, 0, 0.0
    served: list[tuple[SiteDay, Mask, Mask]] = []
    settled = [past]
    while history[-1].state in ("shadow", "step", "full"):
        last = history[-1]
        greatest = max(greatest, last.share)
        live, shadow = nobody, ~nobody
        if last.state == "full":
            live = ~nobody
        elif last.state == "step":
            if last.share != place_share:
                places = assign(
                    identity, site.traits, last.share, before=places, share_before=place_share
                )
                place_share = last.share
            live, shadow = site.live(places), site.shadow(places, "groups")
        today = site.day(last.effective_day)
        served.append((today, live, shadow))
        excess += today.live_alerts(live) - today.live_alerts(nobody)
        while (today.day - served[0][0].day).days > LATEST_ANSWER_D:
            settled.append(site.evidence(*served.pop(0), today.day))
        recent = [site.evidence(*one, today.day) for one in served]
        evidence = pl.concat([*settled, *recent])
        step_began = standing(history).step_began or today.day
        ours = evidence.filter(pl.col("day") >= FIRST_DAY)
        missed = sum(one[0].missed(one[1], one[2], today.day) for one in served)
        facts = Facts("2", missed=[Missed("camera", _at(today.day).isoformat(), "")] * missed)
        look = Look(
            day=today.day,
            days_in_step=(today.day - step_began).days + 1,
            judgement=judge(
                evidence,
                FIRST_DAY,
                settings.steps[last.step].margin,
                settings.weights,
                step_began=step_began,
            ),
            library=library if last.state == "shadow" else None,
            tripped=check(facts, settings.guards),
            arms=(arm(ours, "champion"), arm(ours, "challenger")),
        )
        decision = decide(history, look, settings, None, _at(today.day))
        if decision is None:
            raise RuntimeError(f"no decision on {today.day} after {last}")
        history.append(decision)
    last = history[-1]
    return Outcome(last.state, _why(last), len(history) - 1, greatest, excess)


def _why(last: Decision) -> str:
    if last.numbers["tripped"]:
        return "guard"
    judgement = last.numbers["judgement"]
    if last.state == "rolled_back" and judgement["e_worse"] >= RolloutSettings().evidence:
        shares = asdict(RolloutSettings().weights)
        by_measure = judgement["by_measure"]
        return max(shares, key=lambda measure: float(shares[measure] * by_measure[measure]))
    if last.state == "rolled_back":
        return "library"
    return "library" if "falls (" in last.sentence else "evidence" if last.state == "held" else ""


def _library(version: Version, seed: list[int], margin: float) -> LibraryVerdict:
    rng = np.random.default_rng(seed)
    hard = rng.random((LIBRARY_FALLS, 2))
    together = rng.random(LIBRARY_FALLS) < WHOLE.fall_concordance
    hard[together, 1] = hard[together, 0]
    found = hard < [Version().sensitivity, version.sensitivity]
    return compare_library([(bool(one), bool(two)) for one, two in found], margin)


# Running and printing.


def spread(
    pool: ProcessPoolExecutor | None, work: Callable[[T], R], tasks: Sequence[T], what: str
) -> list[R]:
    """All results in the order of the tasks, with a line on stderr now and then."""
    began, told, results = time.monotonic(), 0.0, []
    for done, result in enumerate(map(work, tasks) if pool is None else pool.map(work, tasks), 1):
        results.append(result)
        passed = time.monotonic() - began
        if passed - told > 20 or done == len(tasks):
            told = passed
            print(f"{what}: {done} of {len(tasks)} after {passed:.0f} s", file=sys.stderr)
    return results


def counted(
    pool: ProcessPoolExecutor | None,
    trials: Sequence[Trial],
    runs: int,
    what: str,
    work: Callable[[tuple[Trial, int, int]], dict[str, list[int]]] = judged,
) -> list[dict[str, Counted]]:
    """Of each trial, of each rule, in how many runs it decided."""
    chunk = max(1, min(50, runs // 4))
    tasks = [
        (trial, begin, min(begin + chunk, runs))
        for trial in trials
        for begin in range(0, runs, chunk)
    ]
    parts = spread(pool, work, tasks, what)
    found = []
    for trial in trials:
        looks: dict[str, list[int]] = {}
        for task, part in zip(tasks, parts, strict=True):
            if task[0].key == trial.key:
                for rule, of in part.items():
                    looks.setdefault(rule, []).extend(of)
        found.append({rule: Counted(runs, tuple(d for d in of if d)) for rule, of in looks.items()})
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in markdown."""
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def too_many(found: Counted, most: float = MOST_FALSE) -> bool:
    """Whether more versions are judged wrongly than promised."""
    limit = found.share if found.runs >= SURE_RUNS else found.interval()[0]
    return limit > most


def too_few(ours: Counted, theirs: Counted) -> bool:
    """Whether fewer bad versions are caught than another rule catches, less 2 standard errors."""
    # Two more runs, one of them caught: at 0 and 100 % the error would be 0 otherwise.
    p = (len(theirs.days) + 1) / (theirs.runs + 2)
    return ours.share < theirs.share - 2 * math.sqrt(p * (1 - p) / theirs.runs)


def part_ab(pool: ProcessPoolExecutor | None, runs: int, parts: str) -> list[str]:
    """Tables (a) and (b); returns the goals that were missed."""
    variants = tuple(VARIANTS) if "b" in parts else (PROJECT,)
    trials = [
        Trial(
            10 * number + int(ratio),
            replace(QUIET, false_alarms=rate),
            ratio,
            share,
            variants,
            True,
        )
        for number, (rate, share) in enumerate(CELLS, start=1)
        for ratio in (1.0, 2.0)
    ]
    worst = max(agree(simulate(trial, 0), VARIANTS[n]) for trial in trials for n in trial.variants)
    print(f"arrays and frames: logarithms of e-values differ by at most {worst:.1e}\n")
    missed = ["arrays and frames do not agree"] if worst > 1e-6 else []
    results = dict(
        zip(
            [(t.spec.false_alarms, t.share, t.ratio) for t in trials],
            counted(pool, trials, runs, "table"),
            strict=True,
        )
    )
    rules = [PROJECT, *RIVALS]
    names = [f"{rate:g}, {share:.0%}" for rate, share in CELLS]
    if "a" in parts:
        print(f"## (a) {runs} runs a cell, 14 daily looks, 95 % intervals\n")
        for title, ratio in (("False rollback (ratio 1)", 1.0), ("Caught (ratio 2)", 2.0)):
            table(
                [title, *names],
                [
                    [rule, *(results[(*cell, ratio)][rule].text() for cell in CELLS)]
                    for rule in rules
                ],
            )
    if "b" in parts:
        print(f"## (b) With what a rollout has, {runs} runs a cell\n")
        for title, ratio in (("False rollback (ratio 1)", 1.0), ("Caught (ratio 2)", 2.0)):
            table(
                [title, *names],
                [
                    [rule, *(results[(*cell, ratio)][rule].text() for cell in CELLS)]
                    for rule in (E_VALUE, *VARIANTS)
                ],
            )
        table(
            ["Day of the catch, median", *names],
            [
                [
                    rule,
                    *(
                        f"{median(days):.0f}" if (days := results[(*cell, 2.0)][rule].days) else "–"
                        for cell in CELLS
                    ),
                ]
                for rule in (E_VALUE, *VARIANTS)
            ],
        )
        for cell in ((0.01, 0.01), (0.1, 0.01)):
            bare, better = (results[(*cell, 2.0)][name] for name in (E_VALUE, SERVED))
            print(
                f"({cell[0]:g}, {cell[1]:.0%}): caught {bare.share:.1%} by the e-value, "
                f"{better.share:.1%} with what a rollout has "
                f"({100 * (better.share - bare.share):+.1f} points); false rollback "
                f"{results[(*cell, 1.0)][SERVED].text()}"
            )
        print()
    for cell, name in zip(CELLS, names, strict=True):
        for rule in variants:
            if too_many(results[(*cell, 1.0)][rule]):
                missed.append(f"false rollback at ({name}), {rule}")
        if too_few(results[(*cell, 2.0)][PROJECT], results[(*cell, 2.0)][E_VALUE]):
            missed.append(f"power at ({name})")
    return missed


def part_c(pool: ProcessPoolExecutor | None, runs: int) -> list[str]:
    """Table (c); returns the goals that were missed."""
    missed = []
    for share in (0.01, 0.5):
        trials = _worlds(share, 1.0, (PROJECT, SERVED))
        found = counted(pool, trials, runs, f"scenarios, {share:.0%}")
        print(
            f"## (c) False rollback of a version as good, 0.1 false alarms per camera-day, "
            f"{share:.0%} of the cameras, {runs} runs\n"
        )
        rules = [SERVED, PROJECT, *RIVALS]
        heads = ["project", "project, nothing but (a)", *RIVALS]
        table(
            ["Scenario", *heads],
            [
                [name, *(of[rule].text() for rule in rules)]
                for name, of in zip(SCENARIOS, found, strict=True)
            ],
        )
        missed += [
            f"false rollback where {name}, {share:.0%}"
            for name, of in zip(SCENARIOS, found, strict=True)
            if too_many(of[SERVED])
        ]
    return missed


def part_e(pool: ProcessPoolExecutor | None, runs: int) -> list[str]:
    """Table (e); returns the goals that were missed."""
    watching = {"in shadow on all cameras": (IN_SHADOW, 0.01), "at 50 %": (SERVED, 0.5)}
    found = {
        where: [
            of[variant]
            for of in counted(
                pool, _worlds(share, MARGIN, (variant,)), runs, f"margin {where}", called_better
            )
        ]
        for where, (variant, share) in watching.items()
    }
    print(
        f"## (e) Called better than {MARGIN:g} times the false alarms and is not, 0.1 false alarms "
        f"per camera-day of the champion, {runs} runs\n"
    )
    table(
        ["Scenario", *watching],
        [
            [name, *(found[where][place].text() for where in watching)]
            for place, name in enumerate(SCENARIOS)
        ],
    )
    return [
        f"called better where {name}, {where}"
        for where in watching
        for name, of in zip(SCENARIOS, found[where], strict=True)
        if too_many(of, MOST_WRONG)
    ]


def _worlds(share: float, ratio: float, variants: tuple[str, ...]) -> list[Trial]:
    """A trial of each scenario."""
    return [
        Trial(
            1000 + 10 * number + (share > 0.1),
            replace(spec, false_alarms=0.1),
            ratio,
            share,
            variants,
            PROJECT in variants,
        )
        for number, spec in enumerate(SCENARIOS.values())
    ]


def part_d(pool: ProcessPoolExecutor | None, rollouts: int) -> list[str]:
    """Table (d); returns the goals that were missed."""
    chunk = max(1, min(5, rollouts // 4))
    tasks = [
        (which, begin, min(begin + chunk, rollouts))
        for which in range(len(CHALLENGERS))
        for begin in range(0, rollouts, chunk)
    ]
    parts = spread(pool, rollout, tasks, "rollouts")
    print(f"## (d) {rollouts} whole rollouts of each challenger, default settings\n")
    rows, missed = [], []
    for which, challenger in enumerate(CHALLENGERS):
        outcomes = [
            outcome
            for task, part in zip(tasks, parts, strict=True)
            if task[0] == which
            for outcome in part
        ]
        by_test = [one.days for one in outcomes if one.why in asdict(RolloutSettings().weights)]
        if challenger.version == Version() and too_many(Counted(rollouts, tuple(by_test))):
            missed.append(f"false rollback of whole rollouts, {challenger.name}")
        ends = Counter((one.state, one.why, one.share) for one in outcomes)
        rows += [
            [
                challenger.name,
                state.replace("_", " ") + (f" ({why})" if why else ""),
                f"{greatest:.0%}",
                f"{count} of {len(outcomes)}",
                f"{median(days):.0f} ({min(days)}–{max(days)})",
                f"{mean(excess):+.0f} ({min(excess):+d} to {max(excess):+d})",
            ]
            for (state, why, greatest), count in sorted(ends.items(), key=lambda end: -end[1])
            for days, excess in [
                (
                    [
                        o.days
                        for o in outcomes
                        if (o.state, o.why, o.share) == (state, why, greatest)
                    ],
                    [
                        o.excess
                        for o in outcomes
                        if (o.state, o.why, o.share) == (state, why, greatest)
                    ],
                )
            ]
        ]
    table(
        [
            "Challenger, false alarms per camera-day",
            "Ended",
            "Greatest share",
            "Rollouts",
            "Days, median",
            "Alerts more than the champion's, mean",
        ],
        rows,
    )
    return missed


def main() -> int:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=2000, help="of each cell and scenario")
    parser.add_argument("--rollouts", type=int, default=100, help="of each challenger in (d)")
    parser.add_argument("--parts", default="abcde", help="letters of the tables")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="20 runs and 2 rollouts")
    asked = parser.parse_args()
    runs, rollouts = (20, 2) if asked.quick else (asked.runs, asked.rollouts)
    pool = None
    if asked.processes > 1:
        # Each process has a core of its own: threads for arrays of a thousand only wait for others.
        os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", POLARS_MAX_THREADS="1")
        # Polars' threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(asked.processes, mp_context=context)
    missed: list[str] = []
    try:
        if set(asked.parts) & set("ab"):
            missed += part_ab(pool, runs, asked.parts)
        if "c" in asked.parts:
            missed += part_c(pool, runs)
        if "d" in asked.parts:
            missed += part_d(pool, rollouts)
        if "e" in asked.parts:
            missed += part_e(pool, runs)
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    print(f"rollout: goals missed: {'; '.join(missed) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
