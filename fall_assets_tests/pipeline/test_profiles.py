"""A day's profile: hours, facts and scenes of a small site whose numbers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fall_assets.drift.scenes import distance, unpack_cells
from fall_assets.drift.statistics import non_overlapping
from fall_assets.features.gate import gate_version
from fall_assets.features.packing import pack_sequence
from fall_assets.features.settings import EmbeddingSettings, FeatureSettings
from fall_assets.lake.registry import table
from fall_assets.pipeline.profiles import make_profile
from fall_assets.pipeline.work import Work
from fall_assets_tests.features.clips import moving_box, write_clip
from fall_assets_tests.pipeline.killed_collection import site_at

DAY = date(2026, 3, 1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
SET = FeatureSettings()
EMBEDDING = FeatureSettings(extractor=EmbeddingSettings())
TABLES = ("camera_profile", "camera_facts", "scenes", "camera_embeddings")
BLANK = {"String": "x", "Int64": 1, "Float64": 0.0, "Boolean": False}


def rows(name: str, given: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows of a table; what is not given and may not be null is made up."""
    made_up = {
        column.name: column.allowed[0]
        if column.allowed
        else BLANK.get(str(table(name).schema[column.name]))
        for column in table(name).columns
        if not column.nullable
    }
    return pl.DataFrame([{**made_up, "day": DAY, **one} for one in given], table(name).schema)


def video(number: int, camera_id: str, start: str, **more: Any) -> dict[str, Any]:
    hour, minute, second = map(int, start.split(":"))
    return {
        "video_id": f"{number:064x}",
        "camera_id": camera_id,
        "path": f"{camera_id}/{number}.mp4",
        "start_utc": MIDNIGHT + timedelta(hours=hour, minutes=minute, seconds=second),
        "duration_s": 10.0,
        "width": 640,
        "height": 360,
        "fps": 25.0,
        "codec": "h264",
        "scene": f"scene-{number}",
        **more,
    }


def windows(of: Mapping[str, Any], count: int = 7, **figures: Any) -> list[dict[str, Any]]:
    """Windows of 4 s, one a second; a figure that is a list has a value for each."""
    return [
        {
            "video_id": of["video_id"],
            "camera_id": of["camera_id"],
            "feature_set": SET.version,
            "window": number,
            "start_s": float(number),
            "end_s": number + 4.0,
            "watched": 1.0,
            "width": of["width"],
            "height": of["height"],
            "fps": 25.02,
            "people": None,
            **{name: v[number] if isinstance(v, list) else v for name, v in figures.items()},
        }
        for number in range(count)
    ]


VIDEOS = (
    video(1, "cam-1", "08:00:00"),
    # The second of its windows that do not overlap begins after nine.
    video(2, "cam-1", "08:59:58"),
    video(3, "cam-2", "23:59:58", width=1280, height=720, duration_s=30.0),
    video(4, "cam-2", "10:00:00", codec="hevc"),
)


def site(root: Path) -> Work:
    """Two cameras, four segments."""
    work = site_at(root)
    names = ({"camera_id": name} for name in ("cam-1", "cam-2"))
    work.lake.replace("cameras", rows("cameras", list(names)), work.provenance())
    features = [
        *windows(VIDEOS[0], brightness=[0.1, 0.9, 0.9, 0.9, 0.3, 0.9, 0.9], sitting=None),
        *windows(VIDEOS[1], brightness=0.5, sitting=[1.0, 0.0, 0.0, 0.0, None, 0.0, 0.0]),
        *windows(VIDEOS[2], brightness=0.7),
    ]
    other = [
        one | {"feature_set": EMBEDDING.version, "brightness": 0.0}
        for one in windows(VIDEOS[0], brightness=0.0)
    ]
    put(work, "videos", VIDEOS)
    put(work, "features", [*features, *other])
    return work


def put(work: Work, name: str, given: Sequence[Mapping[str, Any]]) -> None:
    work.lake.replace_partition(name, DAY, rows(name, given), work.provenance(DAY))


def figures(profile: pl.DataFrame, figure: str) -> dict[tuple[str, int], tuple[Any, int]]:
    found = profile.filter(pl.col("figure") == figure)
    return {
        (camera, hour): (pytest.approx(value, abs=1e-9), windows)
        for camera, hour, value, windows in found.select(
            "camera_id", "hour", "value", "windows"
        ).iter_rows()
    }


def test_hours_hold_means_of_windows_that_do_not_overlap(tmp_path: Path) -> None:
    work = site(tmp_path)
    profile = make_profile(work, DAY).profile
    assert figures(profile, "brightness") == {
        ("cam-1", 8): (0.3, 3),
        ("cam-1", 9): (0.5, 1),
        # What reaches over midnight counts for the last hour.
        ("cam-2", 23): (0.7, 2),
    }
    # Unknown windows do not count, and an hour without known ones has no row.
    assert figures(profile, "sitting") == {("cam-1", 8): (1.0, 1)}
    assert figures(profile, "people") == {}
    kept = non_overlapping(
        work.lake.read("features", days=[DAY]).filter(pl.col("feature_set") == SET.version)
    )
    assert kept.height == profile.filter(figure="brightness")["windows"].sum()


def test_figures_that_came_later_are_left_out_of_old_rows(tmp_path: Path) -> None:
    profile = make_profile(site(tmp_path), DAY).profile
    assert "warmth" not in profile["figure"].to_list()
    assert "noise" in profile["figure"].to_list()


def test_gate_duty_comes_from_the_detectors_gate(tmp_path: Path) -> None:
    work = site(tmp_path)
    assert SET.gate is not None
    gate = {"video_id": VIDEOS[0]["video_id"], "camera_id": "cam-1", "duration_s": 10.0}
    gate |= {"open_s": 2.0, "stretches": '[[1.0, 3.0, "motion"]]'}
    other = {"gate": "another", "stretches": '[[0.0, 10.0, "motion"]]', "open_s": 10.0}
    put(work, "motion_gate", [gate | {"gate": gate_version(SET.gate)}, gate | other])
    assert figures(make_profile(work, DAY).profile, "gate_duty") == {("cam-1", 8): (0.2, 3)}


def test_scores_are_those_of_the_version_that_watches_the_camera(tmp_path: Path) -> None:
    work = site(tmp_path)
    scored = [
        {
            "video_id": VIDEOS[0]["video_id"],
            "camera_id": "cam-1",
            "model_version": version,
            "end_s": end_s,
            "score": score,
        }
        for version, scores in (("1", (0.1, 0.6, 0.2, 0.2, 0.2, 0.4)), ("2", (1.0,)))
        for end_s, score in zip((2.0, 4.0, 5.0, 6.0, 7.0, 8.0), scores, strict=False)
    ]
    put(work, "predictions", scored)
    alert = {"video_id": VIDEOS[0]["video_id"], "camera_id": "cam-1", "model_version": "1"}
    at = VIDEOS[0]["start_utc"] + timedelta(seconds=4)
    alert |= {"start_utc": at, "raised_utc": at, "end_utc": at, "kind": "fall"}
    put(work, "alerts", [alert | {"alert_id": "a", "score": 0.6}])
    profile = make_profile(work, DAY).profile
    assert figures(profile, "score") == {("cam-1", 8): (0.5, 2)}
    assert figures(profile, "score_high") == {("cam-1", 8): (0.5, 2)}
    # 10 s and, of the other segment, 2 s of that hour.
    assert figures(profile, "alerts_per_hour") == {("cam-1", 8): (300.0, 2)}


def test_facts_are_exact(tmp_path: Path) -> None:
    work = site(tmp_path)
    health = {"camera_id": "cam-1", "camera_model": "Maker One", "firmware": "1.2"}
    put(
        work,
        "camera_health",
        [
            health | {"at_utc": MIDNIGHT, "clock_offset_s": 1.6},
            health | {"at_utc": MIDNIGHT + timedelta(hours=1), "clock_offset_s": 2.2},
            {"camera_id": "cam-1", "at_utc": MIDNIGHT + timedelta(hours=2), "firmware": "1.3"},
        ],
    )
    facts = make_profile(work, DAY).facts
    found = {(row[1], row[2], row[3]): row[4] for row in facts.iter_rows()}
    assert found == {
        ("cam-1", "resolution", "640x360"): 1.0,
        ("cam-1", "codec", "h264"): 1.0,
        ("cam-1", "frame_rate", "25"): 1.0,
        ("cam-1", "camera_model", "Maker One"): 1.0,
        ("cam-1", "firmware", "1.2"): pytest.approx(2 / 3),
        ("cam-1", "firmware", "1.3"): pytest.approx(1 / 3),
        ("cam-1", "clock", "2"): 1.0,
        ("cam-2", "resolution", "1280x720"): 0.75,
        ("cam-2", "resolution", "640x360"): 0.25,
        ("cam-2", "codec", "h264"): 0.75,
        ("cam-2", "codec", "hevc"): 0.25,
        ("cam-2", "frame_rate", "25"): 1.0,
    }


def test_embeddings_are_means_of_hours(tmp_path: Path) -> None:
    work = site(tmp_path)
    values = np.array([[1.0, 0.0], [3.0, 0.0], [np.nan, np.nan], [8.0, 4.0]], np.float32)
    part = {"rate_hz": 1.0, "samples": 4, "width": 2, "values": pack_sequence(values)}
    part |= {"video_id": VIDEOS[1]["video_id"], "camera_id": "cam-1", "part": 0, "start_s": 0.0}
    put(
        work,
        "sequences",
        [part | {"feature_set": EMBEDDING.version}, part | {"feature_set": "motion-0"}],
    )
    found = make_profile(work, DAY).embeddings
    assert found.select("camera_id", "hour", "feature_set", "samples").rows() == [
        ("cam-1", 8, EMBEDDING.version, 2),
        ("cam-1", 9, EMBEDDING.version, 1),
    ]
    assert [np.frombuffer(one, "<f4").tolist() for one in found["values"]] == [[2, 0], [8, 4]]


def filmed(work: Work, *, seed: int = 0) -> None:
    for one in VIDEOS:
        path = work.site.landing / one["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = round(10 * one["duration_s"])
        pictures = moving_box(frames, seed=seed + (one["camera_id"] == "cam-2"), step=1)
        write_clip(path, pictures)


def test_scenes_are_kept_when_the_footage_is_gone(tmp_path: Path) -> None:
    work = site(tmp_path)
    filmed(work)
    first = make_profile(work, DAY).scenes
    assert first.select("camera_id", "part", "looks").rows() == [
        ("cam-1", 1, 6),
        ("cam-2", 1, 3),
        ("cam-2", 3, 3),
    ]
    for picture in first["picture"]:
        assert work.lake.resolve(picture).read_bytes().startswith(b"\xff\xd8")
    cells = [unpack_cells(packed) for packed in first["cells"]]
    assert distance(cells[1:2], cells[2:]).changed < 0.1
    assert distance(cells[:1], cells[1:2]).changed > 0.3
    (work.site.landing / VIDEOS[2]["path"]).unlink()
    (work.site.landing / VIDEOS[3]["path"]).write_bytes(b"broken")
    assert_frame_equal(make_profile(work, DAY).scenes, first)


def test_a_scene_shows_the_cameras_crop_only(tmp_path: Path) -> None:
    work = site(tmp_path)
    filmed(work)
    cropped = rows("cameras", [{"camera_id": "cam-1", "crop": "0,0,0.5,1"}, {"camera_id": "cam-2"}])
    work.lake.replace("cameras", cropped, work.provenance())
    cells = [unpack_cells(packed) for packed in make_profile(work, DAY).scenes["cells"]]
    assert [one.shape for one in cells] == [(96, 80), (58, 96), (58, 96)]


def test_the_same_day_twice_gives_the_same_rows(tmp_path: Path) -> None:
    work = site(tmp_path)
    filmed(work)
    made = make_profile(work, DAY)
    before = {name: work.lake.read(name) for name in TABLES}
    make_profile(work, DAY)
    for name in TABLES:
        assert_frame_equal(work.lake.read(name), before[name])
    assert_frame_equal(work.lake.read("camera_profile"), made.profile, check_row_order=False)


def test_a_day_without_footage_is_empty(tmp_path: Path) -> None:
    work = site_at(tmp_path)
    made = make_profile(work, DAY)
    assert made.profile.is_empty()
    assert made.facts.is_empty()
    assert made.scenes.is_empty()
    assert made.embeddings.is_empty()
    assert all(work.lake.rows(name) == 0 for name in TABLES)
