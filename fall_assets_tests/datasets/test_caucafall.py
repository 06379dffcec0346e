"""CAUCAFall: the class of each frame, and names of activities."""

from __future__ import annotations

from pathlib import Path

from fall_assets_tests.datasets.trees import intervals, lay, problems, read, write

FALL = "caucafall/Dataset CAUCAFall/CAUCAFall/Subject.9/Fall forward"
WALK = "caucafall/Dataset CAUCAFall/CAUCAFall/Subject.9/Walk"
BOX = "0.309028 0.526042 0.215278 0.489583"


def frames(landing: Path, folder: str, video: str, classes: list[int], *names: str) -> str:
    """A folder as the release has it: the video, its frames, their classes."""
    lay(landing, f"{folder}/{video}")
    write(landing, f"{folder}/classes.txt", *names)
    for number, of_frame in enumerate(classes, start=1):
        lay(landing, f"{folder}/cfs9{number:05}.png")
        write(landing, f"{folder}/cfs9{number:05}.txt", f"{of_frame} {BOX}")
    return f"{folder}/{video}"


def test_frames_become_a_fall_and_lying_after_it(tmp_path: Path) -> None:
    classes = [0] * 40 + [1] * 60 + [0] * 21
    path = frames(tmp_path, FALL, "FallForwardS9.avi", classes, "nofall", "fall")
    reading = read(tmp_path, duration_s=6.0)
    assert intervals(reading, path) == [
        (0, 2, "other"),
        (2, 3.5, "fall"),
        (3.5, 5, "lying_after_fall"),
        (5, 6, "other"),
    ]
    assert problems(reading) == []
    told = reading.labels.filter(label="fall").row(0, named=True)
    assert (told["file"], told["line"]) == (f"{FALL}/cfs900041.txt", 1)
    assert told["event_id"] == "caucafall/s09-fallforward#1"


def test_daily_life_is_what_its_folder_says(tmp_path: Path) -> None:
    path = frames(tmp_path, WALK, "WalkS9.avi", [0] * 20, "nofall")
    reading = read(tmp_path, duration_s=11.7)
    assert intervals(reading, path) == [(0, 11.7, "walking")]
    assert problems(reading) == []


def test_odd_names_keep_their_place(tmp_path: Path) -> None:
    path = frames(tmp_path, FALL, "FallForwardS9.avi", [0] * 20 + [1] * 20, "nofall", "fall")
    folder = tmp_path / FALL
    (folder / "cfs900011.txt").rename(folder / "cfs900011 - copia.txt")
    (folder / "cfs900012.txt").rename(folder / "cfs900012a.txt")
    reading = read(tmp_path, duration_s=2.0)
    assert intervals(reading, path) == [(0, 1, "other"), (1, 2, "fall")]


def test_a_damaged_frame_file_splits_its_run_and_is_reported(tmp_path: Path) -> None:
    path = frames(tmp_path, FALL, "FallForwardS9.avi", [0] * 20 + [1] * 20, "nofall", "fall")
    write(tmp_path, f"{FALL}/cfs900011.txt", f"7 {BOX}")
    write(tmp_path, f"{FALL}/cfs900012.txt", "")
    reading = read(tmp_path, duration_s=2.0)
    assert intervals(reading, path) == [(0, 0.5, "other"), (0.6, 1, "other"), (1, 2, "fall")]
    told = problems(reading)
    assert [(file, line) for file, line, _reason in told] == [
        (f"{FALL}/cfs9000{n}.txt", 1) for n in (11, 12)
    ]
    assert "classes.txt (nofall, fall)" in told[0][2]


def test_names_tell_what_frames_do_not(tmp_path: Path) -> None:
    lay(tmp_path, f"{WALK}/WalkS9.avi", f"{FALL}/FallForwardS9.avi", "caucafall/adl/SitDownS9.mp4")
    reading = read(tmp_path)
    assert intervals(reading, f"{WALK}/WalkS9.avi") == [(0, 10, "walking")]
    assert intervals(reading, "caucafall/adl/SitDownS9.mp4") == [(0, 10, "sitting_down")]
    (problem,) = problems(reading)
    assert "falls in 1 videos" in problem[2]


def test_a_folder_without_frames_or_with_another_name_is_reported(tmp_path: Path) -> None:
    write(tmp_path, f"{FALL}/classes.txt", "nofall", "fall")
    write(tmp_path, "caucafall/Subject.1/Dance/classes.txt", "nofall")
    told = problems(read(tmp_path))
    assert "Fall forward/classes.txt" in told[0][0]
    assert "unpack the folder whole" in told[0][2]
    assert "give it its own name back" in told[1][2]
