"""Many segments over several processes: the same rows, and a crash costs one segment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from fall_assets.errors import PermanentFailureError
from fall_assets.features.extract import Team, extract
from fall_assets.features.movenet import pose_network_path
from fall_assets.features.pool import extract_all
from fall_assets.features.segments import TABLES, SegmentResult, VideoRef
from fall_assets.features.settings import FeatureSettings
from fall_assets_tests.features.clips import moving_box, write_clip

psutil: Any = pytest.importorskip("psutil", reason="psutil is needed to look at processes")

SETTINGS = [FeatureSettings()]
CRASHING = (sys.executable, "-P", "-m", "fall_assets_tests.features.crashing_worker")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", moving_box(12))


def refs(folder: Path, clip: Path, *names: str) -> list[VideoRef]:
    videos = []
    for number, name in enumerate(names):
        shutil.copy(clip, folder / name)
        videos.append(VideoRef(folder / name, f"{number:064x}", "cam-01", date(2026, 3, 1)))
    return videos


def by_name(results: list[SegmentResult]) -> dict[str, SegmentResult]:
    found = {result.video.path.name: result for result in results}
    assert len(found) == len(results)
    return found


def children() -> list[Any]:
    """Processes of this one that are alive, Python's own resource tracker aside."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and not any("resource_tracker" in part for part in child.cmdline())
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_rows_are_those_of_a_single_extraction(
    tmp_path: Path, clip: Path, workers: int
) -> None:
    team = Team.of(SETTINGS)
    videos = refs(tmp_path, clip, "a.mp4", "b.mp4", "c.mp4")
    results = by_name(list(extract_all(videos, SETTINGS, workers=workers)))
    for video in videos:
        frames = results[video.path.name].frames
        ours = extract(video, team)
        assert frames is not None
        assert set(frames.tables) == set(TABLES)
        for name in TABLES:
            assert_frame_equal(frames.tables[name], ours.tables[name])
        assert frames.duration_s == ours.duration_s
        assert frames.figures.decoded == ours.figures.decoded
        assert 0 < frames.figures.bare_s < frames.figures.wall_s
        assert frames.figures.peak_bytes > 10e6
    assert children() == []


def test_a_bad_file_costs_only_itself(tmp_path: Path, clip: Path) -> None:
    videos = refs(tmp_path, clip, "a.mp4", "b.mp4", "c.mp4")
    videos[1].path.write_bytes(b"no film")
    results = by_name(list(extract_all(videos, SETTINGS)))
    assert results["b.mp4"].frames is None
    assert "b.mp4 cannot be opened" in (results["b.mp4"].error or "")
    assert results["a.mp4"].error is None
    assert results["c.mp4"].frames is not None


def test_a_crash_costs_only_its_segment(tmp_path: Path, clip: Path) -> None:
    names = ("a.mp4", "always.mp4", "b.mp4", "once.mp4", "bug.mp4", "loud.mp4", "c.mp4")
    videos = refs(tmp_path, clip, *names)
    results = by_name(list(extract_all(videos, SETTINGS, worker=CRASHING)))
    assert set(results) == set(names)
    assert {name for name, result in results.items() if result.error} == {"always.mp4", "bug.mp4"}
    assert f"signal {signal.SIGKILL.value}" in (results["always.mp4"].error or "")
    assert "ended 2 times" in (results["always.mp4"].error or "")
    # What a person needs to find the bug.
    assert "TypeError: nobody thought of this" in (results["bug.mp4"].error or "")
    assert results["always.mp4"].why == "crashed"
    assert children() == []


def test_only_crashes_end_too(tmp_path: Path, clip: Path) -> None:
    videos = refs(tmp_path, clip, "always-1.mp4", "always-2.mp4")
    results = list(extract_all(videos, SETTINGS, workers=2, worker=CRASHING))
    assert all(result.error for result in results)
    assert len(results) == 2


def test_nothing_to_do_starts_nothing() -> None:
    assert list(extract_all([], SETTINGS)) == []


def test_no_process_is_left_where_the_results_are_not_wanted(tmp_path: Path, clip: Path) -> None:
    results = extract_all(refs(tmp_path, clip, *(f"{n}.mp4" for n in range(6))), SETTINGS)
    next(results)
    assert children()
    results.close()  # type: ignore[attr-defined]
    assert children() == []


def test_workers_end_when_the_parent_is_killed(tmp_path: Path, clip: Path) -> None:
    program = (
        "import sys; from datetime import date; from pathlib import Path\n"
        "from fall_assets.features.pool import extract_all\n"
        "from fall_assets.features.segments import VideoRef\n"
        "from fall_assets.features.settings import FeatureSettings\n"
        "videos = [VideoRef(Path(sys.argv[1]), '0' * 64, 'c', date(2026, 3, 1))] * 1000\n"
        "for _ in extract_all(videos, [FeatureSettings()]): print('one', flush=True)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, clip], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"one\n"
    workers = psutil.Process(parent.pid).children()
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []


@pytest.mark.parametrize("problem", ["network", "worker"])
def test_what_is_wrong_for_all_is_said_once(tmp_path: Path, clip: Path, problem: str) -> None:
    videos = refs(tmp_path, clip, "a.mp4")
    if problem == "network":
        with pytest.raises(PermanentFailureError, match="needs the pose network"):
            extract_all(videos, [SETTINGS[0].with_network("0" * 64)])
    else:
        broken = (sys.executable, "-c", "raise SystemExit('no such library')")
        with pytest.raises(PermanentFailureError, match=r"cannot start.*no such library"):
            list(extract_all(videos, SETTINGS, worker=broken))
    assert children() == []


def test_at_least_one_worker_is_needed() -> None:
    with pytest.raises(PermanentFailureError, match="at least one worker"):
        extract_all([], SETTINGS, workers=0)


def test_a_script_without_a_main_guard_can_call_it(tmp_path: Path, clip: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from datetime import date; from pathlib import Path\n"
        "from fall_assets.features.pool import extract_all\n"
        "from fall_assets.features.segments import VideoRef\n"
        "from fall_assets.features.settings import FeatureSettings\n"
        "video = VideoRef(Path(sys.argv[1]), '0' * 64, 'c', date(2026, 3, 1))\n"
        "print([r.error for r in extract_all([video], [FeatureSettings()])])\n"
    )
    done = subprocess.run(
        [sys.executable, script, clip], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "[None]\n"


def test_a_worker_imports_nothing_heavy() -> None:
    program = (
        "import json, sys; import fall_assets.features.worker, fall_assets.features.extract\n"
        "import ai_edge_litert.interpreter\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "mlflow", "alibi_detect", "sklearn", "scipy", "cv2", "matplotlib", "dagster"}
    assert not heavy & set(json.loads(done.stdout))


def test_importing_the_package_does_not_import_the_network_s_runtime() -> None:
    program = "import sys, fall_assets.features; print('ai_edge_litert' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_the_environment_of_the_parent_reaches_the_workers(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A site that names another file of the same network must get that one in every process.
    copy = tmp_path / "copy.tflite"
    shutil.copy(pose_network_path(), copy)
    monkeypatch.setenv("FALL_POSE_NETWORK", str(copy))
    monkeypatch.setenv("FALL_CACHE", os.devnull)
    (result,) = extract_all(refs(tmp_path, clip, "a.mp4"), SETTINGS)
    assert result.error is None
