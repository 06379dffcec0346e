"""What Dagster costs: the lifecycle as a job against the same functions in a plain loop.

Both run on the same footage (a small simulated hospital), each in a process of its own and on an
empty lake, in turn. The figure is the ratio of wall times, pair by pair; the median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from fall_assets.simulation.hospital import HospitalSpec, generate

GOAL = 1.15
REPOSITORY = Path(__file__).resolve().parents[1]
SPEC = HospitalSpec(days=3, cameras=3, segments_per_day=3, segment_s=12.0)

PLAIN = """
from benchmarks.overhead import plain_loop
plain_loop()
"""


def plain_loop() -> None:
    """Every stage of the lifecycle, in order, without Dagster."""
    from fall_assets.lake import Lake
    from fall_assets.pipeline import (
        collection,
        delivery,
        features,
        labelling,
        learning,
        monitoring,
        operation,
        training_sets,
    )
    from fall_assets.pipeline.work import Work
    from fall_assets.site import site_from_environment

    site = site_from_environment()
    work = Work(site, Lake(site.lake_root))
    collection.refresh_cameras(work)
    days = collection.footage_days(work)
    for day in days:
        collection.collect_health(work, day)
        collection.collect(work, day)
    for day in days:
        features.extract_day(work, day)
    labelling.label(work, days)
    for day in days:
        clips = labelling.cut(work, day)
    labelling.contact_sheet(work, clips)
    training_sets.cut_training_set(work, days_held_back=1)
    learning.train_candidate(work)
    learning.evaluate_candidate(work)
    delivery.register_candidate(work)
    for day in days:
        operation.predict(work, day)
    for day in days:
        operation.raise_alerts(work, day)
    monitoring.keep_reference(work)
    for day in days:
        monitoring.report_drift(work, day)


def main() -> int:
    """Measure pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        root = Path(folder)
        landing = root / "landing"
        landing.mkdir()
        made = generate(SPEC, landing, workers=2)
        days = [str(SPEC.first_day), str(date.fromordinal(SPEC.first_day.toordinal() + 2))]
        print(f"{made.segments} segments, {made.footage_s:.0f} s of footage")
        print(f"{'pair':>4} {'job s':>8} {'loop s':>8} {'ratio':>7}")
        ratios = []
        for pair in range(1, pairs + 1):
            job = _timed(root, landing, _job(days))
            loop = _timed(root, landing, [sys.executable, "-c", PLAIN])
            ratios.append(job / loop)
            print(f"{pair:>4} {job:>8.1f} {loop:>8.1f} {ratios[-1]:>7.3f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"overhead: {ratio:.3f} (goal at most {GOAL})")
    return 0 if ratio <= GOAL else 1


def _job(days: list[str]) -> list[str]:
    tags = {
        "dagster/asset_partition_range_start": days[0],
        "dagster/asset_partition_range_end": days[-1],
    }
    dagster = Path(sys.executable).parent / "dagster"
    return [
        str(dagster),
        *("job", "execute", "-m", "fall_assets.definitions", "-j", "lifecycle"),
        *("--tags", json.dumps(tags)),
    ]


def _timed(root: Path, landing: Path, command: list[str]) -> float:
    """Wall seconds of a command on an empty site."""
    site, home = root / "site", root / "home"
    for path in (site, home):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", home)
    (home / "gate.toml").write_text(
        "[gate]\nmin_sensitivity = 0.0\nmax_false_alarms_per_hour = 100000.0\n"
    )
    environment = {
        **os.environ,
        "FALL_SITE": str(site),
        "FALL_FOOTAGE": str(landing),
        "FALL_CONFIG": str(home / "gate.toml"),
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(REPOSITORY),
    }
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
