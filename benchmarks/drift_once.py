"""The answers to a drift under a real daemon that is killed again and again: each comes once.

    python -m benchmarks.drift_once [--kills 8] [--seed N]

A site has a drift of which enough is labelled. Dagster's daemon runs with the drift sensor turned
on, and is killed (SIGKILL, with every process it started) after a random while, so that it dies in
ticks, between a tick and its run, and in runs. After the last kill it is left alone until nothing
happens any more. Then the lake and Dagster's runs are counted.

The retraining itself finds nothing to learn from and fails, which Dagster may not mend by asking
for another: what counts is how often it was launched. Runs that Dagster starts again because their
process died are the same launch.

Goals: every answer and state stands once in `drift_answers`; exactly one retraining was launched.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import dagster as dg

from fall_assets import jobs
from fall_assets.lake import Lake
from fall_assets_tests.pipeline.drifted_site import film, new_work, report

LEAST_S, MOST_S = 5.0, 45.0
QUIET_S, PATIENCE_S = 45.0, 400.0
BEGAN = time.perf_counter()

INSTANCE: Final = """
telemetry: {{enabled: false}}
nux: {{enabled: false}}
storage: {{sqlite: {{base_dir: {home}/storage}}}}
run_retries: {{enabled: true, max_retries: 2, retry_on_asset_or_op_failure: false}}
run_monitoring: {{enabled: true, start_timeout_seconds: 60, poll_interval_seconds: 10}}
"""
WORKSPACE: Final = """
load_from:
  - python_module: {module_name: benchmarks.drift_once_site, location_name: drift_once}
"""


def say(text: str) -> None:
    """Progress, for a person who waits."""
    print(f"{time.perf_counter() - BEGAN:>5.0f} s  {text}", file=sys.stderr, flush=True)


def make_site(root: Path) -> None:
    """A camera sees less since the second day; people labelled enough of it."""
    work = new_work(root)
    report(work, 0)
    report(work, 1, {"cam-1": "exposure"})
    film(work, 1, "cam-1", labels=60)
    (root / "site.toml").write_text("")


def environment(root: Path, home: Path) -> dict[str, str]:
    """The daemon's, which the instance and its runs share."""
    return os.environ | {
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "FALL_SITE": str(root),
        "FALL_CONFIG": str(root / "site.toml"),
    }


class Daemon:
    """Dagster's daemon in a process group of its own."""

    def __init__(self, env: dict[str, str], workspace: Path, log: Path) -> None:
        with log.open("a") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dagster._daemon", "run", "-w", str(workspace)],
                env=env, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """At once, with everything that it started."""
        group = {self._process.pid}
        # Code servers and runs have groups of their own: found by their session.
        listed = subprocess.run(
            ["ps", "-o", "pid=", "-s", str(self._process.pid)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        group |= {int(pid) for pid in listed.stdout.split()}
        for pid in group:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()


def answers(root: Path) -> list[tuple[str, str, str]]:
    """What is written down: episode, answer, state."""
    rows = Lake(root / "lake").read("drift_answers").sort("at_utc")
    return [(row["episode_id"], row["answer"], row["state"]) for row in rows.iter_rows(named=True)]


def launches(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Retrainings that something asked for; those that Dagster started again are no others."""
    runs = instance.get_runs(dg.RunsFilter(job_name=jobs.retraining.name))
    return [run for run in runs if run.parent_run_id is None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, wait, count; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as scratch:
        root, home = Path(scratch) / "site", Path(scratch) / "dagster"
        home.mkdir()
        (home / "dagster.yaml").write_text(INSTANCE.format(home=home))
        workspace = home / "workspace.yaml"
        workspace.write_text(WORKSPACE)
        make_site(root)
        env = environment(root, home)
        subprocess.run(
            [sys.executable, "-m", "dagster", "sensor", "start", "drift_sensor", "-w", workspace],
            env=env, check=True, capture_output=True,
        )  # fmt: skip
        say("the drift sensor is turned on")
        with dg.DagsterInstance.from_config(str(home)) as instance:
            return _run(Path(scratch), env, workspace, instance, asked.kills, rng)


def _run(
    scratch: Path,
    env: dict[str, str],
    workspace: Path,
    instance: dg.DagsterInstance,
    kills: int,
    rng: random.Random,
) -> int:
    root, log = scratch / "site", scratch / "daemon.log"
    for number in range(kills):
        daemon = Daemon(env, workspace, log)
        lived_s = rng.uniform(LEAST_S, MOST_S)
        time.sleep(lived_s)
        daemon.kill()
        say(
            f"kill {number + 1} after {lived_s:.0f} s: {len(answers(root))} rows, "
            f"{len(launches(instance))} retrainings"
        )
    daemon = Daemon(env, workspace, log)
    quiet_since, before, until = time.monotonic(), None, time.monotonic() + PATIENCE_S
    while time.monotonic() < until and time.monotonic() - quiet_since < QUIET_S:
        time.sleep(2)
        runs = instance.get_runs()
        now = (answers(root), sorted((run.run_id, run.status.value) for run in runs))
        done = launches(instance) and all(run.is_finished for run in runs)
        if now != before or not done:
            quiet_since, before = time.monotonic(), now
    daemon.kill()
    told, launched = answers(root), launches(instance)
    print(f"killed {kills} times; {len(instance.get_runs())} runs in all")
    for episode, answer, state in told:
        print(f"  {episode}: {answer} {state}")
    twice = [row for row, count in Counter(told).items() if count > 1]
    print(f"retrainings launched: {len(launched)}; answers written twice: {twice or 'none'}")
    if len(launched) != 1 or twice:
        print(log.read_text()[-4000:], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
