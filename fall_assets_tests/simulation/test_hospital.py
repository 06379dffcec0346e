"""The hospital on disk: files, truth, determinism, and what happens when it is cut off."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import av
import pytest

from fall_assets.labelling.zones import read_zones
from fall_assets.lake.registry import LABELS, VIEWS
from fall_assets.simulation import HospitalSpec, HospitalSummary, generate
from fall_assets.simulation.hospital import LABEL_COLUMNS, MANIFEST, LandingInUseError, plan
from fall_assets.simulation.motions import FALLS, ORDINARY

SPEC = HospitalSpec(
    days=2, cameras=3, segments_per_day=2, segment_s=9.0, fps=5, width=320, height=180,
    changed_cameras=1, changed_width=480, changed_height=270,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HospitalSummary]:
    landing = tmp_path_factory.mktemp("hospital") / "landing"
    return landing, generate(SPEC, landing, workers=1)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _labels(landing: Path) -> list[dict[str, str]]:
    return [row for path in sorted((landing / "labels").glob("*.csv")) for row in _rows(path)]


def _digests(landing: Path) -> dict[str, str]:
    return {
        str(path.relative_to(landing)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(landing.rglob("*"))
        if path.is_file()
    }


def _bad(landing: Path) -> set[str]:
    return {
        str(path.relative_to(landing))
        for path in landing.rglob("*.mp4")
        if path.stem.startswith("22-")
    }


def test_segments_are_h264_of_the_stated_length_in_the_recorders_layout(
    made: tuple[Path, HospitalSummary],
) -> None:
    landing, summary = made
    good = sorted(
        path
        for path in landing.rglob("*.mp4")
        if str(path.relative_to(landing)) not in _bad(landing)
    )
    assert len(good) == summary.segments == summary.made == 12
    for path in good:
        camera, day, clock = path.relative_to(landing).with_suffix("").parts
        assert camera in ("cam-01", "cam-02", "cam-03")
        datetime.strptime(f"{day} {clock}", "%Y-%m-%d %H-%M-%S").replace(tzinfo=UTC)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            times = [frame.time for frame in container.decode(stream)]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert times == pytest.approx([number / 5 for number in range(45)])


def test_changed_cameras_record_larger_darker_and_noisier_on_the_last_day(
    made: tuple[Path, HospitalSummary],
) -> None:
    landing, _ = made
    size: dict[tuple[str, str], set[tuple[int, int]]] = {}
    light: dict[tuple[str, str], list[float]] = {}
    for path in landing.rglob("*.mp4"):
        if str(path.relative_to(landing)) in _bad(landing):
            continue
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
        key = path.parts[-3], path.parts[-2]
        size.setdefault(key, set()).add((frame.width, frame.height))
        light.setdefault(key, []).append(float(frame.to_ndarray(format="gray").mean()))
    assert size.pop(("cam-02", "2026-03-02")) == {(480, 270)}
    assert set().union(*size.values()) == {(320, 180)}
    today, before = light["cam-02", "2026-03-02"], light["cam-02", "2026-03-01"]
    assert max(today) < 0.8 * min(before)


def test_labels_are_true_to_the_files_and_only_patients_fall(
    made: tuple[Path, HospitalSummary],
) -> None:
    landing, summary = made
    rows = _labels(landing)
    assert len(rows) == summary.labels
    assert tuple(rows[0]) == LABEL_COLUMNS
    for row in rows:
        assert (landing / row["file"]).stat().st_size > 0
        assert 0 <= float(row["start_s"]) < float(row["end_s"]) <= SPEC.segment_s
        assert row["label"] in LABELS
        assert row["source"] == "simulated"
        if row["label"] in ("fall", "lying_after_fall"):
            assert row["subject"].startswith("patient-")
            assert row["event"]
        else:
            assert not row["event"]
    fall_files = {row["file"] for row in rows if row["label"] == "fall"}
    assert len(fall_files) == summary.fall_segments
    assert len({row["event"] for row in rows if row["event"]}) == summary.falls
    assert summary.falls == round(0.45 * 8)


def test_cameras_of_one_room_see_the_same_happening(made: tuple[Path, HospitalSummary]) -> None:
    landing, _ = made
    cameras = {row["camera_id"]: row for row in _rows(landing / "cameras.csv")}
    assert cameras["cam-01"]["room"] == cameras["cam-02"]["room"] != cameras["cam-03"]["room"]
    assert {row["view"] for row in cameras.values()} <= set(VIEWS)
    told = [
        [tuple(row.values())[1:] for row in _labels(landing) if row["file"].startswith(camera)]
        for camera in ("cam-01", "cam-02")
    ]
    assert told[0] == told[1]


def test_every_camera_has_a_room_and_the_zones_that_it_sees(
    made: tuple[Path, HospitalSummary],
) -> None:
    landing, _ = made
    reading = read_zones(landing)
    assert reading.problems == ()
    cameras = {row["camera_id"]: row for row in _rows(landing / "cameras.csv")}
    rooms = reading.zones.filter(kind="room")
    assert dict(rooms.select("camera_id", "name").iter_rows()) == {
        camera: row["room"] for camera, row in cameras.items()
    }
    assert set(reading.zones.filter(kind="bed")["camera_id"]) == set(cameras)


def test_telemetry_covers_each_segment(made: tuple[Path, HospitalSummary]) -> None:
    landing, _ = made
    rows = [row for path in (landing / "telemetry").glob("*.csv") for row in _rows(path)]
    assert Counter(row["camera_id"] for row in rows) == {f"cam-0{n}": 8 for n in (1, 2, 3)}
    for row in rows:
        assert datetime.fromisoformat(row["at_utc"]).utcoffset() is not None
        assert 0 <= float(row["cpu_percent"]) <= 100
        assert 0 <= float(row["memory_percent"]) <= 100
        assert row["power"] in ("mains", "battery", "off")


def test_bad_files_are_bad_each_in_its_way(made: tuple[Path, HospitalSummary]) -> None:
    landing, summary = made
    bad = {path: (landing / path).read_bytes() for path in _bad(landing)}
    assert len(bad) == summary.bad_files == 3
    assert sum(content == b"" for content in bad.values()) == 1
    assert sum(content.startswith(b"The recorder") for content in bad.values()) == 1
    for path in bad:
        with pytest.raises((av.error.FFmpegError, IndexError)), av.open(str(landing / path)) as one:
            next(one.decode(video=0))


def test_generating_again_changes_nothing_and_makes_up_what_is_missing(tmp_path: Path) -> None:
    spec = replace(SPEC, days=1, cameras=1, segments_per_day=2, segment_s=4.0, changed_cameras=0)
    landing = tmp_path / "landing"
    generate(spec, landing, workers=1)
    before = _digests(landing)
    times = {path: path.stat().st_mtime_ns for path in landing.rglob("*.mp4")}
    assert generate(spec, landing, workers=1).made == 0
    assert {path: path.stat().st_mtime_ns for path in landing.rglob("*.mp4")} == times

    victim = next(path for path in sorted(landing.rglob("*.mp4")) if not path.stem.startswith("22"))
    victim.unlink()
    (landing / "cameras.csv").unlink()
    calls: list[tuple[int, int]] = []
    summary = generate(spec, landing, workers=1, progress=lambda *now: calls.append(now))
    assert summary.made == 1
    assert calls == [(1, 2), (2, 2)]
    assert _digests(landing) == before


def test_the_same_spec_gives_the_same_bytes_in_other_processes(
    made: tuple[Path, HospitalSummary], tmp_path: Path
) -> None:
    landing, _ = made
    generate(SPEC, tmp_path / "again", workers=2)
    assert _digests(tmp_path / "again") == _digests(landing)
    assert not list(tmp_path.rglob("*.part"))


def test_another_hospital_or_foreign_files_are_refused(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    spec = replace(SPEC, days=1, cameras=1, segments_per_day=0, changed_cameras=0, bad_files=0)
    generate(spec, landing)
    with pytest.raises(LandingInUseError, match="seed: 7 there, 8 wanted"):
        generate(replace(spec, seed=8), landing)
    (landing / MANIFEST).unlink()
    with pytest.raises(LandingInUseError, match="not made by the simulation"):
        generate(spec, landing)


def test_frigates_layout(tmp_path: Path) -> None:
    spec = replace(SPEC, days=1, cameras=1, segments_per_day=1, segment_s=2.0, changed_cameras=0,
                   bad_files=0, layout="frigate")  # fmt: skip
    generate(spec, tmp_path / "landing", workers=1)
    (path,) = (tmp_path / "landing").rglob("*.mp4")
    recordings, day, hour, camera, name = path.relative_to(tmp_path / "landing").parts
    assert (recordings, camera) == ("recordings", "cam-01")
    datetime.strptime(f"{day} {hour} {name}", "%Y-%m-%d %H %M.%S.mp4").replace(tzinfo=UTC)


def test_all_sorts_of_falls_and_of_ordinary_life_occur() -> None:
    scenes = plan(HospitalSpec())
    programmes = Counter(scene.programme for scene in scenes)
    assert set(FALLS) <= set(programmes)
    assert len(set(ORDINARY) - set(programmes)) <= 1
    starts = [(scene.room, scene.start) for scene in scenes]
    assert len(set(starts)) == len(starts)
    assert {scene.start.date() for scene in scenes} == {date(2026, 3, day) for day in (1, 2, 3)}


@pytest.mark.parametrize(
    ("field", "value"),
    [("days", 0), ("fps", 0), ("width", 333), ("fall_share", 1.5), ("changed_cameras", 9),
     ("segments_per_day", 100_000), ("bad_files", -1)],
)  # fmt: skip
def test_an_impossible_spec_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"HospitalSpec: .*"):
        replace(HospitalSpec(), **{field: value})


def test_the_command_says_what_it_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fall_assets.simulation", "--landing", str(tmp_path / "new"),
               "--days", "1", "--cameras", "1", "--changed-cameras", "0",
               "--segments-per-day", "0"]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "segments: 0" in run.stdout
    assert "bad files: 3" in run.stdout
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").touch()
    command[4] = str(tmp_path / "foreign")
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "not empty" in run.stderr


def test_importing_the_simulation_loads_nothing_heavy() -> None:
    code = (
        "import sys, fall_assets.simulation, fall_assets.simulation.poses;"
        "print([m for m in ('cv2', 'av', 'torch', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
