"""`fall-assets labels`: counts per data set, every line left out, and what reads each file."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fall_assets.commands.labels import labels
from fall_assets.lake import Lake
from fall_assets.pipeline.collection import collect, footage_days, refresh_cameras
from fall_assets.pipeline.labelling import label
from fall_assets.pipeline.work import Work
from fall_assets.site import site_from_environment
from fall_assets_tests.datasets.trees import write
from fall_assets_tests.footage.films import film
from fall_assets_tests.footage_samples import SAMPLES, needs_samples

SEGMENT = "cam-01/2026-03-01/08-15-00.mp4"


@pytest.fixture
def landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Footage of a site and of two data sets, with labels, some of them wrong."""
    monkeypatch.setenv("FALL_SITE", str(tmp_path / "site"))
    monkeypatch.setenv("FALL_FOOTAGE", str(tmp_path / "landing"))
    monkeypatch.setenv("FALL_CONFIG", str(tmp_path / "none.toml"))
    landing = tmp_path / "landing"
    film(landing / SEGMENT, seed=1)
    film(landing / "le2i/Office/video (1).avi", seed=2, codec="mpeg4")
    film(landing / "le2i/Office/video (2).avi", seed=3, codec="mpeg4")
    film(landing / "up_fall/Subject1Activity6Trial1Camera1.mp4", seed=4)
    write(landing, "le2i/Office/Annotation_files/video (1).txt", "11", "30", "1,1,0,0,1,1")
    write(landing, "le2i/Office/Annotation_files/video (2).txt", "1,1,0,0,1,1")
    write(
        landing,
        "labels/a.csv",
        "file,start_s,end_s,label,source",
        f"{SEGMENT},0,1,walking,reviewer",
        f"{SEGMENT},1,9,sitting,reviewer",
    )
    write(landing, "omnifall/labels/le2i.csv", "path,label,start,end,dataset")
    write(landing, "le2i/labels.csv", "file,start_s,end_s,label,source")
    return landing


def run(*arguments: str) -> Result:
    done = CliRunner().invoke(labels, arguments)
    assert done.exit_code == 0, done.output
    return done


def test_a_folder_is_reported_without_a_lake(landing: Path, tmp_path: Path) -> None:
    lines = run("report", "--footage", str(landing)).stdout.splitlines()
    table = {line[:18].strip(): line[18:].split() for line in lines[1:13]}
    assert lines[0].split() == ["le2i", "site", "up_fall", "all"]
    assert table["fall"] == ["1", "0", "0", "1"]
    assert table["walking"] == ["0", "1", "1", "2"]
    assert table["other"] == ["1", "0", "0", "1"]
    assert table["labels"] == ["2", "1", "1", "4"]
    assert table["videos"] == ["2", "1", "1", "4"]
    assert table["videos with labels"] == ["1", "1", "1", "3"]
    assert "left out: 2" in lines
    told = "\n".join(lines)
    assert "labels/a.csv:3: sitting 1 to 9 s does not fit" in told
    assert "le2i/Office/Annotation_files/video (2).txt:1: the two lines" in told
    assert not (tmp_path / "site").exists()


def test_the_lakes_labels_are_reported_the_same(landing: Path) -> None:
    site = site_from_environment()
    work = Work(site, Lake(site.lake_root))
    refresh_cameras(work)
    days = footage_days(work)
    for day in days:
        collect(work, day)
    label(work, days)
    assert run("report").stdout == run("report", "--footage", str(landing)).stdout


def test_an_empty_site_has_nothing_to_report(tmp_path: Path, landing: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "left out: 0" in run("report").stdout
    assert "left out: 0" in run("report", "--footage", str(tmp_path / "empty")).stdout
    assert "no label files below" in run("files", "--footage", str(tmp_path / "empty")).stdout


def test_each_label_file_names_its_reader(landing: Path) -> None:
    write(landing, "labels/tasks.json", "[]")
    told = dict(line.split(": ", 1) for line in run("files").stdout.splitlines())
    assert told == {
        "labels/a.csv": "our CSV",
        "labels/tasks.json": "the export of a labelling tool (docs/labelling-tools.md)",
        "le2i/Office/Annotation_files/video (1).txt": (
            "le2i's own labels (fall_assets/datasets/le2i.py)"
        ),
        "le2i/Office/Annotation_files/video (2).txt": (
            "le2i's own labels (fall_assets/datasets/le2i.py)"
        ),
        "le2i/labels.csv": "our CSV, for the videos that le2i's own label files do not list",
        "omnifall/labels/le2i.csv": "omnifall's own labels (fall_assets/datasets/omnifall.py)",
    }


@needs_samples
def test_the_real_footage_is_reported(landing: Path) -> None:
    lines = run("report", "--footage", str(SAMPLES)).stdout.splitlines()
    table = {line[:18].strip(): line[18:].split() for line in lines[1:13]}
    assert lines[0].split() == ["assist_iot", "gmdcsa24", "people_walking", "urfd", "all"]
    assert table["fall"] == ["2", "8", "0", "60", "70"]
    assert table["lying_after_fall"] == ["2", "8", "0", "60", "70"]
    assert table["labels"] == ["26", "36", "1", "257", "320"]
    assert table["videos with labels"] == table["videos"] == ["22", "15", "1", "100", "138"]
    (left_out,) = [line for line in lines if line.startswith("gmdcsa24/")]
    assert left_out.startswith("gmdcsa24/Subject 3/ADL.csv:13: 'Reading' has no times")
