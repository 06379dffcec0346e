"""The days of `closed_loop`: what happens when, and the runs that sensors and schedules ask for.

What belongs here: the site, real ticks, runs as the daemon would launch them.
What does not: the world (`closed_loop_site`), what must come of it (`closed_loop`).

The daemon's part is played here, by its rules: a sensor keeps its cursor, a run key is launched
once, the run carries the tags that the daemon gives. Nothing else launches anything.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import dagster as dg

from benchmarks.closed_loop_site import Clock, World
from fall_assets.automation.schedules import nightly_schedule
from fall_assets.automation.sensors import (
    drift_sensor,
    footage_sensor,
    label_sensor,
    rollout_sensor,
)
from fall_assets.pipeline import features
from fall_assets.pipeline.serving import serving_on, watched
from fall_assets_tests.site import TestSite

SETTINGS: Final = """
[footage]
settle_s = 0.0

[features]
workers = 1

# The recorded pictures are tiny.
[features.detector.picture]
long_side = 96

[learning]
# A room each: with fewer, networks that judge would have learned from a room or two.
folds = 6
# What the site's own labels teach: simulated motion would teach every view and every body before.
simulated_windows = 0
# Ten times as many labels as the default is for.
training_steps = 1600
max_ordinary_alarms_per_hour = 0.0

[review]
# What is not labelled within days here never is.
days = 4

[gate]
min_sensitivity = 0.5
max_false_alarms_per_hour = 100.0
max_sensitivity_loss = 0.05

[gate.slices]
names = ""

[rollout]
episode_min = 0.5
keep_days = 1
evidence = 5.0
# The goal's own .02 a film of 15 s. The site records two minutes a day, in which two good versions
# raise an alarm a week: in its time no evidence tells their ratio.
acceptable_rate = 115.0
steps = [
    { share = 0.0, max_days = 10 },
    { share = 0.34, max_days = 10 },
]

[retraining]
cooldown_days = 2.0
max_per_week = 2
patience_days = 2.0
labels_wanted = 700
label_days = 8.0
"""

PASSES: Final = 12
"""Ticks of all sensors in a row after which they must have come to rest."""

BEGAN = time.perf_counter()


def say(text: str) -> None:
    """Progress, for a person who waits."""
    print(f"{time.perf_counter() - BEGAN:>6.0f} s  {text}", file=sys.stderr, flush=True)


@dataclass
class Daily:
    """A site that lives day by day, driven by its sensors and its schedule.

    `reviews` and `busy_reviews` are films that reviewers look at on a day: usually, and where the
    platform asks for labels of drifted cameras.
    """

    site: TestSite
    world: World
    clock: Clock
    reviews: int = 6
    busy_reviews: int = 36
    launched: list[tuple[datetime, str, bool]] = field(default_factory=list)
    _cursors: dict[str, str | None] = field(default_factory=dict)
    _keys: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def begin(cls, folder: Path, world: Callable[[Path], World], first: date) -> Daily:
        """A new site in a folder."""
        storage = folder / "dagster"
        for one in (storage, folder / "landing"):
            one.mkdir(parents=True, exist_ok=True)
        (folder / "site.toml").write_text(SETTINGS)
        os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
        # Nothing of the machine's own site takes part.
        os.environ["FALL_CONFIG"] = str(folder / "site.toml")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        # Of its runs nothing needs to outlive this process, and a file for each would cost most of
        # the time.
        site = TestSite(folder, dg.DagsterInstance.ephemeral(str(storage)))
        here = world(site.landing)
        # The pose network is the one thing that the world stands in for.
        vars(features)["extract_all"] = here.extract_all
        clock = Clock(datetime.combine(first, datetime.min.time(), UTC))
        clock.rule()
        return cls(site, here, clock)

    def set_up(self, days: list[date]) -> None:
        """The one thing that people do by hand: label the first days, and learn a champion."""
        self.world.install()
        for day in days:
            self._at(day, 23.0)
            self.world.record(day)
            self.world.label_all(day)
        self._at(days[-1] + timedelta(days=1), 0.5)
        with self._quiet():
            self.site.execute("lifecycle", days)

    def live(self, day: date) -> None:
        """A day and the morning after it."""
        self._at(day, 23.5)
        self.world.record(day)
        self._rest()
        self._at(day, 26.0)
        self._nightly(day)
        self._rest()
        self._at(day, 32.0)
        with self._quiet():
            work = self.site.work
            asked = _asks_for_labels(self.site)
            self.world.review(work, day, self.busy_reviews if asked else self.reviews)
            self.world.answer(work, day, self.clock.now())
            self.world.report(work, day, self.clock.now())
        self._at(day, 33.0)
        self._rest()

    def serving(self, day: date) -> dict[str, str]:
        """The version that raises each camera's alerts on a day."""
        with self._quiet():
            parts = [part for part in serving_on(self.site.work, day) if not part.shadow]
        return {
            camera: part.model_version
            for part, own in watched(parts, self.world.cameras)
            for camera in own
        }

    # The daemon's part.

    def _rest(self) -> None:
        """Tick all sensors and run what they ask for, until they ask for nothing."""
        sensors = (footage_sensor, label_sensor, rollout_sensor, drift_sensor)
        for _ in range(PASSES):
            if not sum(self._look(sensor) for sensor in sensors):
                return
        raise SystemExit(f"the sensors ask for ever: {self.launched[-6:]}")

    def _look(self, sensor: dg.SensorDefinition) -> int:
        count = 0
        for request in self._tick(sensor):
            key = (sensor.name, request.run_key or "")
            if request.run_key and key in self._keys:
                continue
            self._keys.add(key)
            job = request.job_name or str(sensor.job.name)
            self._launch(job, request, {"dagster/sensor_name": sensor.name})
            count += 1
        return count

    def _tick(self, sensor: dg.SensorDefinition) -> list[dg.RunRequest]:
        with (
            self._quiet(),
            dg.build_sensor_context(
                instance=self.site.instance,
                cursor=self._cursors.get(sensor.name),
                repository_def=self._repository,
                resources={"site": self.site.resource},
            ) as context,
        ):
            data = sensor.evaluate_tick(context)
        self._cursors[sensor.name] = data.cursor
        return list(data.run_requests or [])

    def _nightly(self, day: date) -> None:
        with self._quiet():
            context = dg.build_schedule_context(
                instance=self.site.instance,
                scheduled_execution_time=datetime.combine(day, datetime.min.time(), UTC)
                + timedelta(hours=26),
                repository_def=self._repository,
            )
            requests = nightly_schedule.evaluate_tick(context).run_requests or []
        for request in requests:
            self._launch("nightly", request, {"dagster/schedule_name": nightly_schedule.name})

    def _launch(self, job: str, request: dg.RunRequest, tags: dict[str, str]) -> None:
        began = self.clock.now()
        named = {"dagster/run_key": request.run_key} if request.run_key else {}
        with self._quiet():
            result = self._repository.get_job(job).execute_in_process(
                instance=self.site.instance,
                tags={**request.tags, **tags, **named},
                partition_key=request.partition_key,
                run_config=dict(request.run_config),
                raise_on_error=False,
            )
        self.launched.append((began, job, result.success))
        if not result.success:
            say(f"{began:%Y-%m-%d %H:%M}: a run of {job} failed; see {self._log}")

    @cached_property
    def _repository(self) -> dg.RepositoryDefinition:
        return self.site.definitions.get_repository_def()

    @property
    def _log(self) -> Path:
        return self.site.root / "runs.log"

    def _at(self, day: date, hours: float) -> None:
        self.clock.set(datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=hours))

    @contextlib.contextmanager
    def _quiet(self) -> Any:
        """What is done logs a lot; the log lies in the site's folder."""
        with self._log.open("a") as log, contextlib.redirect_stderr(log):
            yield


def _asks_for_labels(site: TestSite) -> bool:
    """Whether the first of the review queue tell reviewers that a camera drifted."""
    first = site.lake.read("review_queue").sort("rank").head(10)
    return bool(first["reason"].str.contains("drift").any()) if first.height else False
