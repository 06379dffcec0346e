"""A run that is killed in the middle of the features step, and run again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from fall_assets.jobs import RANGE_END_TAG, RANGE_START_TAG
from fall_assets_tests.site import DAYS, TestSite, new_site

REPOSITORY = Path(__file__).parents[2]


def start(site: TestSite) -> subprocess.Popen[str]:
    """`dagster job execute` up to the features, as a person would start it."""
    home = site.root / "home"
    home.mkdir(exist_ok=True)
    shutil.copy(REPOSITORY / "dagster.yaml", home)
    tags = {RANGE_START_TAG: str(DAYS[0]), RANGE_END_TAG: str(DAYS[1])}
    return subprocess.Popen(
        [
            str(Path(sys.executable).parent / "dagster"),
            *("job", "execute", "-m", "fall_assets.definitions", "-j", "lifecycle"),
            *("-o", "cameras,intake,decoding", "--tags", json.dumps(tags)),
        ],
        cwd=site.root,
        env={**site.environment, "DAGSTER_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_a_killed_run_ends_with_the_rows_of_an_undisturbed_one(
    lived_in: TestSite, hospital: Path, tmp_path: Path
) -> None:
    site = new_site(tmp_path / "site")
    shutil.copytree(hospital, site.landing, dirs_exist_ok=True)
    process = start(site)
    # Killed while the second day is decoded: the first is committed, the second is not.
    deadline = time.monotonic() + 240
    while DAYS[0] not in site.lake.days("features"):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no features appeared"
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    assert site.lake.days("features") == [DAYS[0]]

    assert start(site).wait(timeout=300) == 0
    for name in ("videos", "quarantine", "features", "pose_tracks"):
        mine, undisturbed = (
            lake.read(name, days=DAYS[:2]).drop("first_seen_utc", "tried_utc", strict=False)
            for lake in (site.lake, lived_in.lake)
        )
        assert mine.equals(undisturbed), name
    commits = [row["partition"] for row in site.lake.history("features") if row["partition"]]
    assert sorted(commits) == [str(day) for day in DAYS[:2]], "no day is decoded twice"
