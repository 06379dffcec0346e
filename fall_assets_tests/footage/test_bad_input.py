"""Nothing in a landing folder hangs, crashes the run or costs more than bounded time and memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from fall_assets.features.pool import extract_all
from fall_assets.features.segments import VideoRef
from fall_assets.features.settings import FeatureSettings
from fall_assets.footage.discovery import find
from fall_assets.footage.intake import Intake, inspect_day
from fall_assets.footage.probe import UnusableFileError
from fall_assets.footage.sandbox import Limits, Looked, probe_all
from fall_assets.footage.sources import SourceSettings
from fall_assets.footage.store import Footage
from fall_assets.lake.registry import table
from fall_assets_tests.footage.bad_files import (
    BAD_FILES,
    TAKEN_IN,
    BadFile,
    large_picture,
    matroska,
)
from fall_assets_tests.footage.films import film

psutil: Any = pytest.importorskip("psutil", reason="psutil is needed to look at processes")

DAY = date(2026, 3, 1)
MISBEHAVING = (sys.executable, "-P", "-m", "fall_assets_tests.footage.bad_worker")
SHORT = Limits(limit_s=1.5, grace_s=0.5)


def looked_into(
    files: dict[str, Path], *, limits: Limits = SHORT, worker: tuple[str, ...] = MISBEHAVING
) -> dict[str, Looked[str]]:
    found = probe_all(
        iter(files.items()), settle_s=0, now_s=time.time(), limits=limits, worker=worker
    )
    return {looked.key: looked for looked in found}


def outcome(looked: Looked[str]) -> str:
    if looked.error is not None:
        return looked.error.reason
    return TAKEN_IN if looked.probe is not None else "gone"


@pytest.fixture(scope="module")
def landings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bytes]]:
    """A landing folder for each kind of file, and the file's path below it."""
    made = {}
    for number, bad in enumerate(BAD_FILES):
        landing = tmp_path_factory.mktemp(f"bad-{number}") / "landing"
        landing.mkdir()
        made[bad.name] = landing, bad.make(landing)
    return made


@pytest.fixture(scope="module")
def outcomes(landings: dict[str, tuple[Path, bytes]]) -> dict[str, Looked[str]]:
    """What becomes of each, all looked into by the same two processes."""
    refused: dict[str, Looked[str]] = {}

    def staged() -> Iterator[tuple[str, Path]]:
        for name, (landing, path) in landings.items():
            (found,) = find(landing, [SourceSettings()], DAY)
            if found.unusable_name:
                error = UnusableFileError("unusable_name", found.path)
                refused[name] = Looked(name, error=error)
                continue
            assert found.path == os.fsdecode(path)
            try:
                yield name, Footage(landing, landing.parent).stage(found.path)
            except UnusableFileError as error:
                refused[name] = Looked(name, error=error)

    probed = probe_all(staged(), settle_s=0, now_s=time.time())
    return {looked.key: looked for looked in probed} | refused


@pytest.mark.parametrize("bad", BAD_FILES, ids=lambda bad: bad.name)
def test_every_bad_file_has_its_reason(bad: BadFile, outcomes: dict[str, Looked[str]]) -> None:
    if bad.name == "no right to read" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    looked = outcomes[bad.name]
    assert outcome(looked) in bad.becomes
    # Python with FFmpeg takes some 70 MB; no file made a process take much more.
    assert looked.peak_bytes < 300 << 20
    if looked.error is not None:
        assert looked.error.detail
        assert looked.error.advice


def test_what_is_taken_in_survives_the_extraction_of_features(
    landings: dict[str, tuple[Path, bytes]], tmp_path: Path
) -> None:
    videos = [
        VideoRef(landings[bad.name][0] / os.fsdecode(landings[bad.name][1]), bad.name, "cam", DAY)
        for bad in BAD_FILES
        if bad.is_good
    ]
    results = list(extract_all(videos, [FeatureSettings()], deadline_s=100))
    assert {result.video.video_id: result.error for result in results} == {
        video.video_id: None for video in videos
    }


def test_a_day_of_bad_files_is_taken_in_with_a_reason_for_each(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    names = [
        "zero bytes",
        "a text",
        "a named pipe",
        "a folder",
        "H.265",
        "a name that is not UTF-8",
    ]
    chosen = {bad.name: bad for bad in BAD_FILES if bad.name in names}
    for number, name in enumerate(sorted(chosen)):
        path = os.fsencode(landing) + b"/" + chosen[name].make(landing)
        camera = os.path.dirname(os.path.dirname(path))  # noqa: PTH120 - bytes
        if b"cam-01" in camera:
            os.rename(camera, os.fsencode(landing / f"cam-{number}"))  # noqa: PTH104
    taken = day_of(landing)
    assert taken.videos.height == 1
    assert sorted(taken.quarantine["reason"]) == [
        "empty", "not_a_video", "not_a_video", "not_a_video", "unusable_name",
    ]  # fmt: skip
    assert all("\udcff" not in path for path in taken.quarantine["path"])


def day_of(landing: Path, **rest: Any) -> Intake:
    return inspect_day(
        Footage(landing, landing.parent / "cache"),
        [SourceSettings()],
        DAY,
        cameras=table("cameras").empty(),
        settle_s=0,
        now=datetime(2026, 3, 2, tzinfo=UTC),
        **rest,
    ).decide()


@pytest.mark.parametrize(
    ("name", "reason", "detail"),
    [
        ("die.mp4", "crashed_the_decoder", "signal 11"),
        ("sleep.mp4", "took_too_long", "more than"),
        ("spin.mp4", "took_too_long", "more than"),
        ("stutter.mp4", "took_too_long", "more than"),
    ],
)
def test_what_hangs_or_crashes_costs_one_file(
    tmp_path: Path, name: str, reason: str, detail: str
) -> None:
    whole = film(tmp_path / "a.mp4")
    files = {n: tmp_path / n for n in (name, "a.mp4", "b.mp4", "die-once.mp4")}
    for path in files.values():
        path.write_bytes(whole.read_bytes())
    before = set(psutil.Process().children(recursive=True))
    found = looked_into(files)
    assert {n: outcome(looked) for n, looked in found.items()} == {
        name: reason, "a.mp4": TAKEN_IN, "b.mp4": TAKEN_IN, "die-once.mp4": TAKEN_IN,
    }  # fmt: skip
    error = found[name].error
    assert error is not None
    assert detail in error.detail
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_process_that_spins_is_ended_by_its_own_limit(tmp_path: Path) -> None:
    # The clock of the parent is far away: it is the processor's time that ends it.
    limits = Limits(limit_s=0.5, grace_s=0.4, read_bytes_per_s=1.0)
    whole = film(tmp_path / "spin.mp4")
    whole.write_bytes(b"x")
    assert outcome(looked_into({"x": whole}, limits=limits)["x"]) == "took_too_long"


def test_a_file_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    # As large as pictures may be, in a process that has hardly room for itself.
    picture = large_picture(5_900)
    large = tmp_path / "a.mkv"
    large.write_bytes(matroska(5_900, 5_900, [(100 * n, picture) for n in range(3)], b"MPNG"))
    limits = Limits(memory_bytes=150 << 20)
    found = looked_into(
        {"large": large, "small": film(tmp_path / "b.mp4")},
        limits=limits,
        worker=(sys.executable, "-P", "-m", "fall_assets.footage.probe_worker"),
    )
    assert {key: outcome(looked) for key, looked in found.items()} == {
        "large": "too_large",
        "small": TAKEN_IN,
    }


def test_a_process_that_looks_into_files_has_no_network() -> None:
    program = (
        "import socket, sys\n"
        "from fall_assets.footage.probe_worker import leave_network\n"
        "if not leave_network(): sys.exit(3)\n"
        "socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=5)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(
            [sys.executable, "-c", program, str(server.getsockname()[1])],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 3:
        pytest.skip("this system lets no process leave the network")
    assert "Network is unreachable" in done.stderr


def test_a_process_that_looks_into_files_imports_little() -> None:
    program = (
        "import sys, fall_assets.footage.probe_worker, fall_assets.footage.probe\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    for heavy in ("polars", "numpy", "torch", "dagster", "deltalake", "pyarrow"):
        assert f"'{heavy}'" not in done.stdout
