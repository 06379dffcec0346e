"""Le2i: text annotations whose first two lines are the fall."""

from __future__ import annotations

from pathlib import Path

import pytest

from fall_assets_tests.datasets.trees import intervals, lay, problems, read, write

BOXES = tuple(f"{n},1,292,152,311,240" for n in range(1, 200))
ROOM = "le2i/Coffee_room_01/Coffee_room_01"


def annotate(landing: Path, *lines: str, room: str = ROOM, folder: str = "Annotation_files") -> str:
    """A video and its annotation; the video's path."""
    lay(landing, f"{room}/Videos/video (7).avi")
    write(landing, f"{room}/{folder}/video (7).txt", *lines)
    return f"{room}/Videos/video (7).avi"


def test_the_first_two_lines_are_the_fall(tmp_path: Path) -> None:
    path = annotate(tmp_path, "51", "75", *BOXES)
    reading = read(tmp_path)
    assert intervals(reading, path) == [(0, 2, "other"), (2, 3, "fall")]
    assert problems(reading) == []
    assert reading.labels["event_id"].drop_nulls().to_list() == ["le2i/coffee_room_01-07#1"]


def test_homes_have_24_frames_per_second(tmp_path: Path) -> None:
    home = "le2i/Home_01/Home_01"
    path = annotate(tmp_path, "49", "72", *BOXES, room=home)
    assert intervals(read(tmp_path), path) == [(0, 2, "other"), (2, 3, "fall")]


def test_two_zeros_are_no_fall(tmp_path: Path) -> None:
    path = annotate(tmp_path, "0", "0", *BOXES, folder="Annotations_files")
    reading = read(tmp_path)
    assert intervals(reading, path) == [(0, 10, "other")]
    assert problems(reading) == []


def test_numbers_after_the_first_box_are_found(tmp_path: Path) -> None:
    path = annotate(tmp_path, BOXES[0], "26", "50", *BOXES[1:])
    assert intervals(read(tmp_path), path) == [(0, 1, "other"), (1, 2, "fall")]


def test_a_fall_from_the_first_frame_has_nothing_before_it(tmp_path: Path) -> None:
    path = annotate(tmp_path, "", "1", "", "25", *BOXES)
    assert intervals(read(tmp_path), path) == [(0, 1, "fall")]


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        (BOXES, "are missing"),
        ((), "are missing"),
        (("51",), "are missing"),
        (("51", "75x"), "are missing"),
        (("75", "51", *BOXES), "cannot be"),
        (("0", "51", *BOXES), "cannot be"),
        (("51", "0", *BOXES), "cannot be"),
        (("9000", "9010", *BOXES), "does not fit"),
    ],
)
def test_a_damaged_annotation_is_reported(
    lines: tuple[str, ...], part: str, tmp_path: Path
) -> None:
    path = annotate(tmp_path, *lines)
    reading = read(tmp_path)
    assert [label for _start, _end, label in intervals(reading, path)] in ([], ["other"])
    told = problems(reading)
    assert told
    for file, line, reason in told:
        assert (file, line) == (f"{ROOM}/Annotation_files/video (7).txt", 1)
        assert part in reason


def test_rooms_without_annotations_are_silent(tmp_path: Path) -> None:
    lay(tmp_path, "le2i/Office/Office/video (1).avi")
    reading = read(tmp_path)
    assert reading.labels.is_empty()
    assert problems(reading) == []


def test_an_annotation_in_an_unknown_folder_is_reported(tmp_path: Path) -> None:
    write(tmp_path, "le2i/Kitchen/Annotation_files/video (1).txt", "1", "2")
    (problem,) = problems(read(tmp_path))
    assert "'video (1).txt' below a room's folder" in problem[2]
