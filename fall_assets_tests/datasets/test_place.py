"""Videos of the data sets are known by their paths, and keep their place on the nominal day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fall_assets.datasets import DATASETS, dataset_of_camera, place
from fall_assets.errors import PermanentFailureError
from fall_assets_tests.datasets.trees import lay

PATHS = [
    ("urfd", "fall/fall-01-cam1.mp4", "urfd-cam1", "fall-01", None),
    ("urfd", "fall-01-cam1-rgb.mp4", "urfd-cam1", "fall-01", None),
    ("gmdcsa24", "Subject 3/Fall/01.mp4", "gmdcsa24-s3", "s3-fall-01", "s3"),
    ("gmdcsa24", "Subject_3/Fall/01.mp4", "gmdcsa24-s3", "s3-fall-01", "s3"),
    (
        "up_fall",
        "Subject7/Activity11/Trial2/Camera2.mp4",
        "up_fall-camera2",
        "s07-a11-t2",
        "s7",
    ),
    (
        "up_fall",
        "Subject7/Activity11/Trial2/Subject7Activity11Trial2Camera2.mp4",
        "up_fall-camera2",
        "s07-a11-t2",
        "s7",
    ),
    ("up_fall", "Subject7Activity11Trial2Camera2.avi", "up_fall-camera2", "s07-a11-t2", "s7"),
    (
        "le2i",
        "Coffee_room_01/Coffee_room_01/Videos/video (3).avi",
        "le2i-coffee_room_01",
        "coffee_room_01-03",
        "coffee_room_01",
    ),
    (
        "le2i",
        "Coffee_room_01/video_3.mp4",
        "le2i-coffee_room_01",
        "coffee_room_01-03",
        "coffee_room_01",
    ),
    (
        "le2i",
        "FallDataset/Lecture_room/Lecture room/video (27).avi",
        "le2i-lecture_room",
        "lecture_room-27",
        "lecture_room",
    ),
    ("le2i", "Office/Office/video (1).avi", "le2i-office", "office-01", "office"),
    (
        "caucafall",
        "Dataset CAUCAFall/CAUCAFall/Subject.10/Pick up object/PickupobjectS10.avi",
        "caucafall",
        "s10-pickupobject",
        "s10",
    ),
    ("caucafall", "backwards/FallBackwardsS1.mp4", "caucafall", "s01-fallbackwards", "s1"),
]


@pytest.mark.parametrize(("name", "path", "camera", "scene", "subject"), PATHS)
def test_a_path_tells_camera_scene_and_subject(
    name: str, path: str, camera: str, scene: str, subject: str | None, tmp_path: Path
) -> None:
    lay(tmp_path, f"{name}/{path}", f"{name}/notes.txt", f"{name}/.hidden.mp4")
    (placed,) = place(tmp_path, DATASETS[name])
    assert placed.path == f"{name}/{path}"
    seen = placed.seen
    assert (seen.camera.camera_id, seen.scene, seen.subject) == (camera, scene, subject)
    assert dataset_of_camera(camera) == name


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("urfd", "fall/fall-01-cam2.mp4"),
        ("up_fall", "Subject1Activity1Trial1Camera1_OF.mp4"),
        ("up_fall", "Subject1/Activity1/Trial1.mp4"),
        ("le2i", "Kitchen/video (1).avi"),
        ("caucafall", "Subject.1/Fall up/FallUpS1.avi"),
        ("omnifall", "videos/fall/fall_ch_001.mp4"),
    ],
)
def test_a_path_that_tells_nothing_known_is_passed_by(name: str, path: str, tmp_path: Path) -> None:
    lay(tmp_path, f"{name}/{path}")
    assert place(tmp_path, DATASETS[name]) == []


WHOLE = {
    "urfd": [
        *(f"adl/adl-{n:02}-cam0.mp4" for n in range(1, 41)),
        *(f"fall/fall-{n:02}-cam{c}.mp4" for n in range(1, 31) for c in (0, 1)),
    ],
    "up_fall": [
        f"Subject{s}Activity{a}Trial{t}Camera{c}.mp4"
        for s in range(1, 18)
        for a in range(1, 12)
        for t in (1, 2, 3)
        for c in (1, 2)
    ],
    "le2i": [
        f"{room}/Videos/video ({n}).avi"
        for room, first, last in (
            ("Coffee_room_01", 1, 48),
            ("Coffee_room_02", 49, 70),
            ("Home_01", 1, 30),
            ("Home_02", 31, 60),
            ("Lecture room", 1, 27),
            ("Office", 1, 33),
        )
        for n in range(first, last + 1)
    ],
    "caucafall": [
        f"Subject.{s}/{activity}/{activity}S{s}.avi"
        for s in range(1, 11)
        for activity in (
            "FallBackwards", "FallForward", "FallLeft", "FallRight", "FallSitting",
            "Hop", "Kneel", "Pickupobject", "SitDown", "Walk",
        )
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_data_set_fits_its_nominal_day(name: str, tmp_path: Path) -> None:
    paths = [f"{name}/{path}" for path in WHOLE[name]]
    lay(tmp_path, *paths)
    dataset = DATASETS[name]
    placed = place(tmp_path, dataset)
    assert [video.path for video in placed] == sorted(paths)
    starts = {video.seen.scene: video.start_utc for video in placed}
    assert len(set(starts.values())) == len(starts)
    assert {start.date() for start in starts.values()} == {dataset.day}
    # A camera sees one scene at a time.
    seen = {(video.seen.camera.camera_id, video.start_utc) for video in placed}
    assert len(seen) == len(placed)
    # Every third video alone: each starts when it does in the whole set.
    some = tmp_path / "some"
    lay(some, *paths[::3])
    whole = {video.path: video.start_utc for video in placed}
    for video in place(some, dataset):
        assert video.start_utc == whole[video.path]


def test_videos_without_a_number_take_free_places(tmp_path: Path) -> None:
    lay(tmp_path, "urfd/adl-02-cam0.mp4", "urfd/adl-99-cam0.mp4", "urfd/fall-77-cam0.mp4")
    starts = [video.start_utc for video in place(tmp_path, DATASETS["urfd"])]
    midnight = datetime(2024, 1, 1, tzinfo=UTC)
    assert starts == [midnight + timedelta(seconds=180 * slot) for slot in (1, 0, 2)]


def test_more_scenes_than_a_day_holds_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, *(f"assist_iot/adl/{n:03}.mp4" for n in range(481)))
    with pytest.raises(PermanentFailureError, match="481 scenes, more than its nominal day holds"):
        place(tmp_path, DATASETS["assist_iot"])


def test_each_data_set_has_a_day_of_its_own() -> None:
    days = [dataset.day for dataset in DATASETS.values()]
    assert len(set(days)) == len(days)
    assert list(DATASETS) == [dataset.name for dataset in DATASETS.values()]
