"""UP-Fall: labels from the sensors' table, else from the names."""

from __future__ import annotations

from pathlib import Path

from fall_assets_tests.datasets.trees import intervals, lay, problems, read, write

HEAD = (
    "TimeStamps,AnkleAccelerometer,,,Infrared,Subject,Activity,Trial,Tag",
    "Time,x-axis (g),y-axis (g),z-axis (g),,,,,",
)
FALL = "up_fall/Subject1/Activity2/Trial1"
CAMERAS = tuple(f"{FALL}/Subject1Activity2Trial1Camera{n}.mp4" for n in (1, 2))


def samples(
    *tags: tuple[float, int], subject: int = 1, activity: int = 2, trial: int = 1
) -> list[str]:
    """Lines of the table; each ends in one comma too many, as the set's do."""
    trial_of = f"{subject},{activity},{trial}"
    return [
        f"2018-07-04T12:04:{17.738369 + at_s:09.6f},0.1,0.2,0.3,1,{trial_of},{tag},"
        for at_s, tag in tags
    ]


def test_tags_become_intervals_on_both_cameras(tmp_path: Path) -> None:
    lay(tmp_path, *CAMERAS)
    write(
        tmp_path,
        f"{FALL}/Subject1Activity2Trial1.csv",
        *HEAD,
        *samples((0, 7), (1, 7), (2, 2), (3, 2), (3.5, 11), (9, 11)),
    )
    reading = read(tmp_path)
    assert problems(reading) == []
    for path in CAMERAS:
        assert intervals(reading, path) == [
            (0, 2, "standing"),
            (2, 3.5, "fall"),
            (3.5, 9.055, "lying_after_fall"),
        ]
    assert reading.labels["event_id"].drop_nulls().unique().to_list() == ["up_fall/s01-a02-t1#1"]
    lines = reading.labels.filter(video_id=CAMERAS[0]).sort("start_s")["line"]
    assert lines.to_list() == [3, 5, 7]


def test_the_whole_table_serves_all_trials(tmp_path: Path) -> None:
    walk = "up_fall/Subject2/Activity6/Trial3/Camera1.mp4"
    lay(tmp_path, *CAMERAS, walk)
    write(
        tmp_path,
        "up_fall/CompleteDataSet.csv",
        *HEAD,
        *samples((0, 7), (1, 2), (2, 20), (3, 99), (4, 7)),
        *samples((30, 6), (39.99, 6), subject=2, activity=6, trial=3),
    )
    reading = read(tmp_path)
    assert intervals(reading, CAMERAS[0]) == [
        (0, 1, "standing"),
        (1, 2, "fall"),
        (2, 3, "bending"),
        (4, 4.055, "standing"),
    ]
    assert intervals(reading, walk) == [(0, 10, "walking")]
    (problem,) = problems(reading)
    assert problem[:2] == ("up_fall/CompleteDataSet.csv", 6)
    assert "'tag 99' is not in the taxonomy of up_fall" in problem[2]


def test_a_trial_that_two_files_tell_is_read_once_and_said_once(tmp_path: Path) -> None:
    lay(tmp_path, *CAMERAS)
    lines = samples((0, 7), (2, 2), (4, 11))
    write(tmp_path, "up_fall/CompleteDataSet.csv", *HEAD, *lines)
    write(tmp_path, f"{FALL}/Subject1Activity2Trial1.csv", *HEAD, *lines)
    reading = read(tmp_path)
    assert len(intervals(reading, CAMERAS[0])) == 3
    (problem,) = problems(reading)
    assert problem[:2] == (f"{FALL}/Subject1Activity2Trial1.csv", 3)
    assert "1 trials, s01-a02-t1 the first of them" in problem[2]


def test_damaged_lines_cost_themselves_only(tmp_path: Path) -> None:
    lay(tmp_path, *CAMERAS)
    path = write(
        tmp_path,
        f"{FALL}/Subject1Activity2Trial1.csv",
        *HEAD,
        *samples((0, 7)),
        "yesterday,0,0,0,0,1,2,1,7",
        "2018-07-04T12:04:18.000000,0,0,0,0,1,2,1,seven",
        *samples((2, 2), (1, 7), (4, 11)),
        "2018-07-04T12:04:2",
    )
    reading = read(tmp_path)
    assert intervals(reading, CAMERAS[1])[:2] == [(0, 2, "standing"), (2, 4, "fall")]
    told = problems(reading)
    name = path.relative_to(tmp_path).as_posix()
    assert [(file, line) for file, line, _reason in told] == [(name, n) for n in (4, 5, 7, 9)]
    assert "time stamp" in told[0][2]
    assert "1, 2, 1, seven: subject, activity, trial, tag must be whole" in told[1][2]
    assert "comes after a later time" in told[2][2]
    assert "too few to hold a tag" in told[3][2]


def test_a_table_without_its_columns_is_reported(tmp_path: Path) -> None:
    lay(tmp_path, *CAMERAS)
    write(tmp_path, "up_fall/CompleteDataSet.csv", "TimeStamps,Subject,Activity,Trial", "1,1,1,1")
    (table, falls) = problems(read(tmp_path))
    assert table == (
        "up_fall/CompleteDataSet.csv",
        1,
        "the header has no column tag; add it",
    )
    assert "falls in 2 videos" in falls[2]


def test_names_tell_what_no_table_tells(tmp_path: Path) -> None:
    walk = "up_fall/Subject1/Activity6/Trial1/Camera1.mp4"
    lying = "up_fall/Subject1Activity11Trial1Camera2.mp4"
    lay(tmp_path, walk, lying, *CAMERAS)
    reading = read(tmp_path, duration_s=59.9)
    assert intervals(reading, walk) == [(0, 59.9, "walking")]
    assert intervals(reading, lying) == [(0, 59.9, "lying")]
    assert intervals(reading, CAMERAS[0]) == []
    # Said once, not once per video.
    (problem,) = problems(reading)
    assert problem[:2] == (CAMERAS[0], 1)
    assert "falls in 2 videos" in problem[2]


def test_labels_csv_comes_before_names(tmp_path: Path) -> None:
    walk = "Subject1/Activity6/Trial1/Camera1.mp4"
    other = "Subject1/Activity6/Trial1/Camera2.mp4"
    lay(tmp_path, f"up_fall/{walk}", f"up_fall/{other}")
    write(
        tmp_path,
        "up_fall/labels.csv",
        "file,start_s,end_s,label,source",
        f"{walk},1,2,standing,by eye",
    )
    reading = read(tmp_path)
    assert intervals(reading, f"up_fall/{walk}") == [(1, 2, "standing")]
    assert intervals(reading, f"up_fall/{other}") == [(0, 10, "walking")]


def test_other_tables_of_the_set_are_no_label_files(tmp_path: Path) -> None:
    lay(tmp_path, *CAMERAS)
    write(tmp_path, f"{FALL}/Subject1Activity2Trial1Features1&0.5.csv", "a,b", "1,2")
    assert [file for file, _line, _reason in problems(read(tmp_path))] == [CAMERAS[0]]
