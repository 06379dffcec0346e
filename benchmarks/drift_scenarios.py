"""Drift in simulated footage with known truth: is it found, how soon, and is it called by its name?

    python -m benchmarks.drift_scenarios [--only NAME ...] [--folder DIR]
        [--stage films|features|profiles|judge|all] [--again] [--seed N] [--json FILE]

Nine changes that matter and five that do not (`fall_assets.simulation.scenarios`), each generated
from a seed. They happen to one of two ordinary hospitals, of which the one where people change
keeps more films: what a scenario leaves as it is is linked, and its features copied. The pipeline
is the real one: collection, features, a champion learned from the ordinary week, scores and alerts,
the profile of each day, the drift report of each day.

Of each scenario it tells whether something was confirmed, on which of its days, what it was called,
and what the change does to the champion: falls found and false alarms on the affected cameras,
beside the same days of the hospital in which nothing happens (for night and weekend, which are in
it, beside its other days after the ordinary week). Counts are events, by the simulation's truth.

Goals: every drift is confirmed under its name on all cameras that it concerns, and under no other
name on any, by its 2nd day (the 7th of what grows); of what is ordinary nothing is confirmed. Ends
with 1 where a goal is missed.

Each stage keeps its result in the folder; `--again` does the asked stage anew. `judge` works on a
copy and takes seconds a scenario, so that it can be repeated while the judge is worked on. `all`
does what is missing, and judges.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from fall_assets.lake import Lake
from fall_assets.lake.registry import one_row
from fall_assets.pipeline.work import Work
from fall_assets.simulation.hospital import generate
from fall_assets.simulation.scenarios import (
    CHANGE_DAY,
    FIRST_DAY,
    ORDINARY,
    SCENARIOS,
    SEED,
    Scenario,
    ordinary_hospital,
)
from fall_assets.site import Site, SiteSettings, read_settings

STAGES: Final = ("films", "features", "profiles", "judge", "all")
SETTINGS: Final = """
[footage]
settle_s = 0.0

[features]
workers = {workers}

# People in a picture of 320 x 180 are no larger than the network needs.
[features.detector.picture]
long_side = 192

[learning]
folds = 3
simulated_windows = 4000
training_steps = 300
"""

BEGAN = time.perf_counter()


def say(text: str) -> None:
    """Progress, for a person who waits."""
    print(f"{time.perf_counter() - BEGAN:>6.0f} s  {text}", file=sys.__stderr__, flush=True)


@dataclass(frozen=True)
class Bench:
    """Where everything lies, and how many processes work."""

    folder: Path
    workers: int = 2
    seed: int = SEED

    def films(self, name: str) -> Path:
        """Landing folder of a scenario."""
        return self.folder / "films" / name

    def site(self, name: str, *, judged: bool = False) -> Site:
        """The site of a scenario; the judge has one of its own."""
        root = self.folder / ("judged" if judged else "sites") / name
        root.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "site.toml"
        return Site(root, self.films(name), _settings(settings, self.workers))

    def work(self, name: str, *, judged: bool = False) -> Work:
        """Work on the site of a scenario."""
        site = self.site(name, judged=judged)
        return Work(site, Lake(site.lake_root), "drift_scenarios")

    def mark(self, stage: str, name: str) -> Path:
        """The file that says that a stage of a scenario is done."""
        return self.folder / "done" / f"{name}.{stage}"


def _settings(path: Path, workers: int) -> SiteSettings:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SETTINGS.format(workers=workers))
    return read_settings(path)


# Stages. Each of the ordinary hospital first.


def make_films(bench: Bench, name: str) -> None:
    """The films of a scenario; what is as in the ordinary hospital is linked."""
    base = _base(name)
    spec = (
        ordinary_hospital(bench.seed, name)
        if name == base
        else SCENARIOS[name].hospital(bench.seed)
    )
    like = None if name == base else bench.films(base)
    made = generate(spec, bench.films(name), workers=bench.workers, like=like)
    say(f"{name}: {made.segments} films, {made.made} new, {made.fall_segments} show a fall")


def make_features(bench: Bench, name: str) -> None:
    """Collection, features, scores and alerts; of the ordinary hospital the champion too."""
    root = bench.folder / "sites" / name
    shutil.rmtree(root, ignore_errors=True)
    base = _base(name)
    if name == base:
        work = bench.work(name)
        _take_in(work, _days(name))
        _learn(work)
    else:
        _copy_site(bench.site(base), root)
        work = bench.work(name)
        _take_in(work, SCENARIOS[name].days)
    _score(work, _days(name))
    say(f"{name}: features, scores and alerts of {len(_days(name))} days")


def make_profiles(bench: Bench, name: str) -> None:
    """The profile of each day that is ordinary or looked at."""
    from fall_assets.pipeline.profiles import make_profile

    work = bench.work(name)
    base = _base(name)
    if name != base:
        _copy_tables(bench.work(base).lake.root, work.lake.root, PROFILE)
    for day in _days(name):
        make_profile(work, day)
    say(f"{name}: profiles of {len(_days(name))} days")


PROFILE: Final = ("camera_profile", "camera_facts", "scenes", "camera_embeddings")
"""Tables of the stage 'profiles'; copied from the ordinary hospital before a scenario's own."""


def _base(name: str) -> str:
    """The ordinary hospital to which a scenario happens; of that, itself."""
    return name if name in ORDINARY else SCENARIOS[name].ordinary


def _days(name: str) -> list[date]:
    """The days of a scenario that differ from the ordinary hospital's; of that, all."""
    if name == _base(name):
        return [
            FIRST_DAY + timedelta(days=number)
            for number in range(ordinary_hospital(name=name).days)
        ]
    return SCENARIOS[name].days


def _take_in(work: Work, days: Sequence[date]) -> None:
    from fall_assets.pipeline.collection import collect, refresh_cameras
    from fall_assets.pipeline.features import extract_day
    from fall_assets.pipeline.labelling import cut, label, refresh_zones

    refresh_cameras(work)
    refresh_zones(work)
    for day in days:
        collect(work, day)
        _forget_replaced(work, day)
    label(work, list(days))
    for day in days:
        cut(work, day)
        extract_day(work, day)


def _forget_replaced(work: Work, day: date) -> None:
    """Remove films of the ordinary hospital in whose place others lie: here they never were.

    A lake keeps what is known of footage whose file is gone; that would count beside the new films.
    """
    videos = work.lake.read("videos", days=[day])
    standing = videos.filter(pl.col("deleted_utc").is_null())
    if standing.height == videos.height:
        return
    here = pl.col("video_id").is_in(standing["video_id"].to_list())
    seen = work.lake.read("sightings", days=[day], where=here)
    for name, rows in (("sightings", seen), ("alerts", work.lake.read("alerts").clear())):
        work.lake.replace_partition(name, day, rows, work.provenance(day))
    work.lake.replace_partition("videos", day, standing, work.provenance(day))


def _learn(work: Work) -> None:
    """A champion of the ordinary week, without the gate: little footage makes a poor model."""
    from fall_assets.pipeline.learning import train_candidate
    from fall_assets.pipeline.models import tracking
    from fall_assets.pipeline.training_sets import cut_training_set

    training_set = cut_training_set(work, last_day=CHANGE_DAY - timedelta(days=1))
    trained = train_candidate(work, training_set.id)
    version = tracking(work.site).register(trained.run_id, "champion", "learned from the week")
    row = {
        "model_version": version,
        "run_id": trained.run_id,
        "alias": "champion",
        "registered_utc": datetime.now(UTC),
        "training_set_id": training_set.id,
        "reason": "learned from the ordinary week",
    }
    work.lake.append("registered_model", one_row("registered_model", row), work.provenance())


def _score(work: Work, days: Sequence[date]) -> None:
    from fall_assets.pipeline.operation import predict, raise_alerts

    for day in days:
        predict(work, day)
    for day in days:
        raise_alerts(work, day, channels=[])


# Copies.


def _copy_site(site: Site, root: Path) -> None:
    """A copy of a site's lake that shares its registry and what is never written again."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copytree(site.lake_root, root / "lake", copy_function=_link_or_copy)
    registry = root / "mlflow"
    if not registry.exists():
        registry.symlink_to(site.mlflow_root.resolve(), target_is_directory=True)


def _copy_tables(lake: Path, into: Path, names: Sequence[str]) -> None:
    for name in names:
        source, target = lake / "tables" / name, into / "tables" / name
        shutil.rmtree(target, ignore_errors=True)
        if source.is_dir():
            shutil.copytree(source, target, copy_function=_link_or_copy)
    # Pictures of the tables' rows.
    if (lake / "files").is_dir():
        shutil.copytree(
            lake / "files", into / "files", copy_function=_link_or_copy, dirs_exist_ok=True
        )


def _link_or_copy(source: str, target: str) -> str:
    # Parquet files of a lake are written once.
    if source.endswith(".parquet"):
        if not os.path.exists(target):  # noqa: PTH110 - copytree gives texts
            os.link(source, target)
    else:
        shutil.copy2(source, target)
    return target


# Judging.


@dataclass(frozen=True)
class Events:
    """Falls and alarms of some camera-days, counted as events by the simulation's truth."""

    falls: int
    found: int
    false_alarms: int
    camera_hours: float

    def text(self) -> str:
        """As a person reads it."""
        hourly = self.false_alarms / self.camera_hours if self.camera_hours else 0.0
        return f"{self.found}/{self.falls}, {self.false_alarms} ({hourly:.0f}/h)"


@dataclass
class Verdict:
    """What the drift reports of one scenario said, and what they should have."""

    name: str
    cause: str | None
    after_days: int | None = None
    """On which of its days, from 1, something was confirmed first where it should or may not be."""
    named_after_days: int | None = None
    """On which of its days the right name was confirmed on all cameras that it concerns."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """Confirmed by the day on which it counts: camera to names."""
    before: Events | None = None
    after: Events | None = None
    missed: str = ""
    took_s: float = 0.0


def judge(bench: Bench, name: str) -> Verdict:
    """Report each day of a scenario to a fresh copy of its site, and compare with the truth."""
    from fall_assets.pipeline.monitoring import keep_reference, report_drift

    began = time.perf_counter()
    scenario = SCENARIOS[name]
    root = bench.folder / "judged" / name
    shutil.rmtree(root, ignore_errors=True)
    _copy_site(bench.site(name), root)
    work = bench.work(name, judged=True)
    keep_reference(work)
    causes = []
    for day in scenario.days:
        report_drift(work, day)
        causes.append(work.lake.read("drift_causes", days=[day]).filter(pl.col("confirmed")))
    verdict = verdict_of(scenario, causes)
    verdict.before, verdict.after = _effect(bench, scenario)
    verdict.took_s = time.perf_counter() - began
    return verdict


def verdict_of(scenario: Scenario, causes: Sequence[pl.DataFrame]) -> Verdict:
    """What confirmed causes, a frame per day of the scenario, say of it."""
    verdict = Verdict(scenario.name, scenario.cause)
    concerned = set(scenario.cameras)
    right: set[str] = set()
    for number, rows in enumerate(causes[: scenario.within_days], start=1):
        for camera, cause in rows.select("camera_id", "cause").iter_rows():
            names = verdict.names.setdefault(camera, [])
            if cause not in names:
                names.append(cause)
            if verdict.after_days is None and (camera in concerned or not scenario.is_drift):
                verdict.after_days = number
            if camera in concerned and cause == scenario.cause:
                right.add(camera)
        if scenario.is_drift and right == concerned and verdict.named_after_days is None:
            verdict.named_after_days = number
    others = sorted(
        f"{camera}: {cause}"
        for camera, names in verdict.names.items()
        for cause in names
        if camera not in concerned or cause != scenario.cause
    )
    if scenario.is_drift and verdict.named_after_days is None:
        lacking = ", ".join(sorted(concerned - right))
        verdict.missed = f"not named {scenario.cause} on {lacking} by day {scenario.within_days}"
    elif others:
        verdict.missed = "raised" if not scenario.is_drift else "also named something else"
    if others:
        verdict.missed += f" ({'; '.join(others)})"
    return verdict


def _effect(bench: Bench, scenario: Scenario) -> tuple[Events, Events]:
    """The champion without the change and with it."""
    base = _base(scenario.name)
    ordinary, own = bench.work(base), bench.work(scenario.name)
    cameras = list(scenario.cameras) or ["cam-01", "cam-02", "cam-03"]
    before = scenario.days
    if not scenario.cameras:
        before = [day for day in _days(base) if day >= CHANGE_DAY and day not in scenario.days]
    return _events(ordinary, before, cameras), _events(own, scenario.days, cameras)


def _events(work: Work, days: Sequence[date], cameras: Sequence[str]) -> Events:
    seen = pl.col("camera_id").is_in(list(cameras))
    videos = work.lake.read("videos", days=days).filter(seen)
    starts = dict(videos.select("video_id", "start_utc").iter_rows())
    told = work.lake.read("labels", days=days).filter(seen, pl.col("label") == "fall")
    falls = [
        (camera, starts[video] + timedelta(seconds=start), starts[video] + timedelta(seconds=end))
        for camera, video, start, end in told.select(
            "camera_id", "video_id", "start_s", "end_s"
        ).iter_rows()
    ]
    alerts = list(
        work.lake.read("alerts", days=days)
        .filter(seen)
        .select("camera_id", "start_utc", "raised_utc")
        .iter_rows()
    )

    def meet(fall: tuple[str, datetime, datetime], alert: tuple[str, datetime, datetime]) -> bool:
        camera, start, end = fall
        return (
            alert[0] == camera
            and alert[1] <= end + timedelta(seconds=10)
            and alert[2] >= start - timedelta(seconds=1)
        )

    return Events(
        falls=len(falls),
        found=sum(any(meet(fall, alert) for alert in alerts) for fall in falls),
        false_alarms=sum(not any(meet(fall, alert) for fall in falls) for alert in alerts),
        camera_hours=float(videos["duration_s"].sum()) / 3600,
    )


def table_of(verdicts: Sequence[Verdict]) -> str:
    """All verdicts, a line each."""
    lines = [
        f"{'scenario':12} {'found on day':13} {'named right':12} {'names':46} "
        f"{'before: falls, false':22} {'after: falls, false':22} goal"
    ]
    for one in verdicts:
        per_name: dict[str, list[str]] = {}
        for camera, causes in one.names.items():
            for cause in causes:
                per_name.setdefault(cause, []).append(camera.removeprefix("cam-"))
        names = ", ".join(f"{cause} ({'+'.join(cameras)})" for cause, cameras in per_name.items())
        right = f"day {one.named_after_days}" if one.named_after_days else "-"
        lines.append(
            f"{one.name:12} {'-' if one.after_days is None else one.after_days!s:13} {right:12} "
            f"{names or '-':46} {one.before.text() if one.before else '-':22} "
            f"{one.after.text() if one.after else '-':22} "
            f"{'MISSED: ' + one.missed if one.missed else 'met'}"
        )
    return "\n".join(lines)


# The whole.


def do(bench: Bench, stage: str, names: Sequence[str], *, again: bool) -> None:
    """Do a stage of the ordinary hospital and of some scenarios, where it is not done yet."""
    work: Callable[[Bench, str], None] = {
        "films": make_films,
        "features": make_features,
        "profiles": make_profiles,
    }[stage]
    for name in (*dict.fromkeys(map(_base, names)), *names):
        mark = bench.mark(stage, name)
        if mark.exists() and not again:
            continue
        began = time.perf_counter()
        with _Logged(bench.folder / "runs.log"):
            work(bench, name)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(f"{time.perf_counter() - began:.1f}\n")
        for later in STAGES[STAGES.index(stage) + 1 : STAGES.index("judge")]:
            for stale in (name, *(one for one in SCENARIOS if _base(one) == name)):
                bench.mark(later, stale).unlink(missing_ok=True)


class _Logged:
    """What libraries say goes to a file; our own lines go to the terminal."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log = path.open("a")
        self._guards = (redirect_stdout(self._log), redirect_stderr(self._log))

    def __enter__(self) -> None:
        for guard in self._guards:
            guard.__enter__()

    def __exit__(self, *why: Any) -> None:
        for guard in reversed(self._guards):
            guard.__exit__(*why)
        self._log.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift_scenarios")
    parser.add_argument("--only", nargs="+", choices=tuple(SCENARIOS), metavar="NAME")
    parser.add_argument("--folder", type=Path, default=Path("data/drift_scenarios"))
    parser.add_argument("--stage", choices=STAGES, default="all")
    parser.add_argument("--again", action="store_true", help="do the stage anew")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=SEED, help="another hospital: another folder")
    parser.add_argument("--json", type=Path, help="write the verdicts there too")
    asked = parser.parse_args(arguments)
    bench = Bench(asked.folder.resolve(), asked.workers, asked.seed)
    names = list(asked.only or SCENARIOS)
    wanted = STAGES[: STAGES.index("judge")] if asked.stage in ("all", "judge") else (asked.stage,)
    for stage in wanted:
        do(bench, stage, names, again=asked.again and stage == asked.stage)
    if asked.stage not in ("all", "judge"):
        return 0
    verdicts = []
    for name in names:
        with _Logged(bench.folder / "runs.log"):
            verdict = judge(bench, name)
        say(f"{name}: judged in {verdict.took_s:.1f} s")
        verdicts.append(verdict)
    print(table_of(verdicts))
    missed = [one.name for one in verdicts if one.missed]
    print(f"\ngoals met: {len(verdicts) - len(missed)} of {len(verdicts)}", end="")
    print(f"; missed: {', '.join(missed)}" if missed else "")
    if asked.json:
        asked.json.write_text(json.dumps([asdict(one) for one in verdicts], indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
