"""The command line, in a process of its own, on a site that the lifecycle ran on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fall_assets_tests.site import TestSite

COMMAND = Path(sys.executable).parent / "fall-assets"


def run(site: TestSite, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), *arguments],
        env={**site.environment, "DAGSTER_HOME": str(site.root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_detect_prints_a_json_line_per_event(lived_in: TestSite, tmp_path: Path) -> None:
    version = lived_in.lake.read("registered_model")["model_version"][0]
    alerts = lived_in.lake.read("alerts")
    paths = dict(lived_in.lake.read("videos").select("video_id", "path").iter_rows())
    # Two of the segments with alerts, and a file that is none.
    chosen = [paths[video] for video in alerts["video_id"].unique(maintain_order=True)[:2]]
    broken = tmp_path / "notes.mp4"
    broken.write_text("not a video")
    files = [str(lived_in.landing / path) for path in chosen]
    done = run(lived_in, "detect", *files, str(broken))
    assert done.returncode == 1
    assert f"{broken}: " in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["file"] for line in lines} == set(files)
    for line in lines:
        assert list(line) == ["file", "start_s", "end_s", "score", "model"]
        assert line["model"] == version
    # The same code as `predictions`: the same events as the alerts of these segments, whose key
    # points went through the lake in half precision.
    wanted = alerts.filter(alerts["video_id"].is_in([v for v, p in paths.items() if p in chosen]))
    assert sorted(line["score"] for line in lines) == pytest.approx(
        sorted(wanted["score"]), abs=2e-3
    )


def test_detect_says_what_to_do_without_a_champion(empty_site: TestSite, hospital: Path) -> None:
    done = run(empty_site, "detect", str(next(hospital.glob("cam-01/*/*.mp4"))))
    assert done.returncode == 1
    assert "no champion is registered yet" in done.stderr
    assert "Traceback" not in done.stderr


def test_sql_reads_tables_at_any_version(lived_in: TestSite) -> None:
    done = run(lived_in, "sql", "select count(*) as n from videos")
    assert done.returncode == 0
    assert str(lived_in.lake.rows("videos")) in done.stdout
    old = run(lived_in, "sql", "select count(*) as n from videos", "--at", "videos=1")
    assert str(lived_in.lake.read("videos", version=1).height) in old.stdout
    assert run(lived_in, "sql", "select 1 as one", "--csv").stdout == "one\n1\n"
    wrong = run(lived_in, "sql", "select nothing from nowhere")
    assert wrong.returncode == 1
    assert "nowhere" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), ["videos", "rows, version", "Segments taken in"]),
        (("clips",), ["split_group", "What must stay in one fold"]),
    ],
)
def test_tables_say_what_they_hold(
    lived_in: TestSite, arguments: tuple[str, ...], said: list[str]
) -> None:
    done = run(lived_in, "tables", *arguments)
    assert done.returncode == 0
    for words in said:
        assert words in done.stdout


def test_an_unknown_table_is_named(lived_in: TestSite) -> None:
    done = run(lived_in, "tables", "wards")
    assert done.returncode == 1
    assert "no table 'wards'" in done.stderr
