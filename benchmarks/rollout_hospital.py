"""A small simulated hospital that lives day by day through Dagster, for `rollout_footage`.

What belongs here: films, the days, versions in the registry, ticks and the runs that they ask for.
What does not: what must come out of it (`rollout_footage`).
"""

from __future__ import annotations

import contextlib
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import polars as pl

from fall_assets.automation.schedules import nightly_schedule
from fall_assets.automation.sensors import footage_sensor, rollout_sensor
from fall_assets.learning.detector import Detector
from fall_assets.pipeline.feedback import answer_alert
from fall_assets.pipeline.rollout import Rollout, newest
from fall_assets.simulation.hospital import HospitalSpec, generate
from fall_assets_tests.dagster_layer.ticks import run, tick
from fall_assets_tests.pipeline.rolled_site import register
from fall_assets_tests.site import TestSite, bring_day_back, take_day_away

FIRST: Final = date(2026, 3, 1)
LEARNED: Final = 3
"""Days before the first rollout; the newest of them is held back from learning."""
LOOSE, PROPER = 0.35, 0.85
"""Shares of the ordinary films that stay silent under a version's threshold."""
SETTINGS: Final = """
[footage]
settle_s = 0.0

[features.detector.picture]
long_side = 192

[learning]
folds = 3
simulated_windows = 2000
training_steps = 200

# Little footage makes a poor model: the gate before the registry is not what is looked at here.
[gate]
min_sensitivity = 0.0
max_false_alarms_per_hour = 100000.0

[gate.slices]
names = ""

[rollout]
episode_min = 0.5
keep_days = 1
sensitivity_margin = 0.4
steps = [
    { share = 0.0, max_days = 4 },
    { share = 0.25, max_days = 4 },
    { share = 0.5, max_days = 4, margin = 1.5 },
]
"""

BEGAN = time.perf_counter()


def say(text: str) -> None:
    """Progress, for a person who waits."""
    print(f"{time.perf_counter() - BEGAN:>6.0f} s  {text}", file=sys.stderr, flush=True)


class Hospital:
    """A site that lives day by day."""

    def __init__(self, folder: Path, days: int) -> None:
        self.site = site_in(folder / "site")
        (self.site.root / "site.toml").write_text(SETTINGS)
        self.keep = folder / "to come"
        spec = HospitalSpec(
            first_day=FIRST,
            days=days,
            cameras=6,
            segments_per_day=5,
            segment_s=10.0,
            width=320,
            height=180,
            changed_cameras=0,
            bad_files=0,
            fall_share=0.4,
        )
        told = 0.0

        def rendered(done: int, total: int) -> None:
            nonlocal told
            if time.perf_counter() - told > 10 or done == total:
                told = time.perf_counter()
                say(f"films: {done} of {total}")

        made = generate(spec, self.site.landing, workers=2, progress=rendered)
        print(
            f"films      {made.segments} of {spec.segment_s:g} s from {spec.cameras} cameras over "
            f"{days} days, {made.fall_segments} show a fall"
        )
        self.days = [FIRST + timedelta(days=number) for number in range(days)]
        self.truth = self._falls()
        for day in self.days:
            take_day_away(self.site.landing, day, self.keep / str(day))
        self.lived = 0
        self._cursor: str | None = None

    def record(self, *, labelled: bool) -> date:
        """The next day's films arrive, and people's labels where they label it."""
        if self.lived == len(self.days):
            raise SystemExit("the days of footage ran out: give more with --days")
        day = self.days[self.lived]
        self.lived += 1
        if not labelled:
            (self.keep / str(day) / "labels" / f"{day}.csv").unlink()
        bring_day_back(self.site.landing, self.keep / str(day))
        requests, self._cursor = tick(self.site, footage_sensor, self._cursor)
        assert [request.partition_key for request in requests] == [str(day)]
        for request in requests:
            quietly(self.site, run, self.site, request, "collection")
        return day

    def learn(self) -> None:
        """The first days, labelled, once around the loop."""
        for _ in range(LEARNED):
            self.record(labelled=True)
        say("lifecycle: features, learning, registration")
        quietly(self.site, self.site.execute, "lifecycle", self.days[:LEARNED])

    def live(self) -> date:
        """A day: films, the nightly run, answers; the rollout is not looked at yet."""
        day = self.record(labelled=False)
        context = dg.build_schedule_context(
            instance=self.site.instance,
            scheduled_execution_time=datetime(day.year, day.month, day.day, 2, tzinfo=UTC)
            + timedelta(days=1),
            repository_def=self.site.definitions.get_repository_def(),
        )
        for request in nightly_schedule.evaluate_tick(context).run_requests or []:
            assert request.partition_key == str(day)
            quietly(self.site, run, self.site, request, "nightly")
        self._answer(day)
        return day

    def _answer(self, day: date) -> None:
        """Nurses come to each alert and say what they found."""
        work = self.site.work
        for alert in work.lake.read("alerts", days=[day]).iter_rows(named=True):
            is_fall = any(
                camera == alert["camera_id"]
                and alert["start_utc"] <= end + timedelta(seconds=10)
                and alert["raised_utc"] >= start - timedelta(seconds=1)
                for camera, start, end in self.truth
            )
            answer_alert(work, alert["alert_id"], "fall" if is_fall else "no_fall", by="the truth")

    def _falls(self) -> list[tuple[str, datetime, datetime]]:
        """Camera, start and end of every fall of the films, as the simulation tells them."""
        found = []
        for file in sorted((self.site.landing / "labels").glob("*.csv")):
            rows = pl.read_csv(file, infer_schema=False).filter(pl.col("label") == "fall")
            for name, start_s, end_s in rows.select("file", "start_s", "end_s").iter_rows():
                camera, day, at = Path(name).with_suffix("").parts
                began = datetime.strptime(f"{day} {at}", "%Y-%m-%d %H-%M-%S").replace(tzinfo=UTC)
                found.append(
                    (
                        camera,
                        began + timedelta(seconds=float(start_s)),
                        began + timedelta(seconds=float(end_s)),
                    )
                )
        return found


def site_in(root: Path) -> TestSite:
    """A site in a folder, which may hold one already, with an instance of its own."""
    storage = root / "dagster"
    for folder in (storage, root / "landing"):
        folder.mkdir(parents=True, exist_ok=True)
    return TestSite(root, dg.DagsterInstance.local_temp(str(storage)))


def quietly(site: TestSite, what: Any, *args: Any, **named: Any) -> Any:
    """Do what logs a lot; the log lies in the site's folder."""
    path = site.root / "runs.log"
    with path.open("a") as log, contextlib.redirect_stderr(log):
        try:
            return what(*args, **named)
        except BaseException:
            print(f"a run failed; its log is the end of {path}:", file=sys.__stderr__)
            print(path.read_text()[-3000:], file=sys.__stderr__)
            raise


def look(site: TestSite) -> list[str]:
    """Tick `rollout_sensor` and run what it asks for, until it asks for nothing; the reasons."""
    reasons: list[str] = []
    for _ in range(5):
        requests, _ = tick(site, rollout_sensor)
        if not requests:
            return reasons
        for request in requests:
            reasons.append(request.tags["fall_assets/reason"])
            quietly(site, run, site, request, str(request.job_name))
    raise SystemExit(f"rollout_sensor asks for ever: {reasons[-1]}")


def known(site: TestSite) -> Rollout:
    """The newest rollout."""
    found = newest(site.work)
    assert found is not None
    return found


def thresholds(hospital: Hospital) -> tuple[float, float]:
    """A loose and a proper threshold, by the highest scores of films in which nobody falls."""
    lake = hospital.site.lake
    falls = lake.read("labels").filter(pl.col("label") == "fall")["video_id"].unique()
    peaks = lake.read("predictions").group_by("video_id").agg(pl.col("score").max())
    ordinary = peaks.filter(~pl.col("video_id").is_in(falls.to_list()))["score"]
    loose, proper = (float(ordinary.quantile(share) or 0.0) for share in (LOOSE, PROPER))
    return loose, proper


def put(site: TestSite, detector: Detector, alias: str) -> str:
    """Register a version as of now, with what was learned for the network as its own."""
    work = site.work
    version = register(work, detector, alias)
    mine = pl.col("model_version") == version
    rows = work.lake.read("registered_model").filter(mine)
    rows = rows.with_columns(registered_utc=pl.lit(datetime.now(UTC)))
    work.lake.upsert("registered_model", rows, work.provenance())
    learned = work.lake.read("candidate_model").head(1)
    learned = learned.with_columns(
        run_id=pl.lit(rows["run_id"].item()),
        threshold=pl.lit(detector.threshold),
        created_utc=pl.lit(datetime.now(UTC)),
    )
    work.lake.append("candidate_model", learned, work.provenance())
    return version
