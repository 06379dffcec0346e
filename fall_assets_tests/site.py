"""A small simulated site that tests share. What belongs here: making it and running jobs on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from fall_assets.definitions import build_definitions
from fall_assets.lake import Lake
from fall_assets.pipeline.work import Work
from fall_assets.resources.site import SiteResource
from fall_assets.simulation.hospital import HospitalSpec, generate

DAYS = (date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3))
CHANGED_DAY = DAYS[-1]
"""The day on which a camera was replaced."""

SPEC = HospitalSpec(
    first_day=DAYS[0],
    days=len(DAYS),
    cameras=3,
    segments_per_day=3,
    segment_s=10.0,
    width=320,
    height=180,
    changed_cameras=1,
    changed_width=640,
    changed_height=360,
    fall_share=0.6,
)

# Tests do not wait for files to settle. Little footage makes a poor model: the gate is tested by
# itself, here it lets pass. Pictures are small: most of the time goes into key points.
SETTINGS = """
[footage]
settle_s = 0.0

[features.detector.picture]
long_side = 192

[learning]
folds = 3
simulated_windows = 300
training_steps = 60
max_ordinary_alarms_per_hour = 0

[gate]
min_sensitivity = 0.0
max_false_alarms_per_hour = 100000.0
max_sensitivity_loss = 1.0
max_false_alarm_increase = 1000.0
false_alarm_slack = 1000

[gate.slices]
names = ""
"""


@dataclass(frozen=True)
class TestSite:
    """A site in a folder of its own, with the Dagster instance that works on it."""

    __test__ = False

    root: Path
    instance: dg.DagsterInstance

    @property
    def resource(self) -> SiteResource:
        return SiteResource(root=str(self.root), config=str(self.root / "site.toml"))

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    @property
    def lake(self) -> Lake:
        return self.resource.lake()

    @property
    def work(self) -> Work:
        return Work(self.resource.site(), self.lake)

    @property
    def environment(self) -> dict[str, str]:
        """What a process of its own needs to work on this site with these settings."""
        mine = {"FALL_SITE": str(self.root), "FALL_CONFIG": str(self.root / "site.toml")}
        return {**os.environ, **mine}

    @property
    def definitions(self) -> dg.Definitions:
        return build_definitions(self.resource)

    def execute(
        self,
        job: str,
        days: Sequence[date] = (),
        *,
        tags: dict[str, str] | None = None,
        run_config: Mapping[str, Any] | None = None,
        fails: bool = False,
    ) -> dg.ExecuteInProcessResult:
        """Run a job, over a range of days where some are given."""
        tags = dict(tags or {})
        if days:
            tags["dagster/asset_partition_range_start"] = min(days).isoformat()
            tags["dagster/asset_partition_range_end"] = max(days).isoformat()
        result = self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            tags=tags,
            run_config=run_config,
            raise_on_error=not fails,
        )
        assert result.success is not fails
        return result

    def rows(self) -> dict[str, int]:
        """Rows of every table that there is."""
        return {name: self.lake.rows(name) for name in self.lake.versions()}


def new_site(root: Path) -> TestSite:
    """An empty site below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "site.toml").write_text(SETTINGS)
    (root / "landing").mkdir(exist_ok=True)
    storage = root / "dagster"
    storage.mkdir()
    return TestSite(root, dg.DagsterInstance.ephemeral(str(storage)))


def fill(landing: Path) -> None:
    """Make the small hospital's footage."""
    generate(SPEC, landing, workers=2)


def take_day_away(landing: Path, day: date, keep: Path) -> None:
    """Move one day's footage, labels and telemetry into `keep`, as if it had not happened yet."""
    for path in sorted(landing.glob(f"**/{day}*")):
        target = keep / path.relative_to(landing)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)


def bring_day_back(landing: Path, keep: Path) -> None:
    """Put back what `take_day_away` took."""
    shutil.copytree(keep, landing, dirs_exist_ok=True)
