"""OmniFall labels the videos of other data sets, beside what those say themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from fall_assets.labelling.files import dataset_statements
from fall_assets.labelling.statements import Problem, Statement
from fall_assets.labelling.taxonomy import to_label
from fall_assets_tests.datasets.trees import intervals, lay, problems, read, write

HEAD = "path,label,start,end,subject,cam,dataset"
VIDEOS = {
    "caucafall": "caucafall/CAUCAFall/Subject.1/Fall backwards/FallBackwardsS1.avi",
    "le2i": "le2i/Office/Office/video (14).avi",
    "GMDCSA24": "gmdcsa24/Subject 1/Fall/13.mp4",
    "up_fall": "up_fall/Subject1Activity1Trial1Camera1.mp4",
}
PATHS = {
    "caucafall": "backwards/FallBackwardsS1",
    "le2i": "Office/video_14",
    "GMDCSA24": "Subject_1/Fall/13",
    "up_fall": "Subject1/Activity1/Trial1/Subject1Activity1Trial1Camera1",
}


@pytest.mark.parametrize("name", VIDEOS)
def test_its_paths_find_the_videos_beside_it(name: str, tmp_path: Path) -> None:
    lay(tmp_path, VIDEOS[name])
    path = PATHS[name]
    write(
        tmp_path,
        f"omnifall/labels/{name}.csv",
        HEAD,
        f"{path},8,0.0,1.93,1,1,{name}",
        f"{path},1,1.93,3.77,1,1,{name}",
        f"{path},2,3.77,9.0,1,1,{name}",
    )
    reading = read(tmp_path)
    # A fall is not cut short here: OmniFall tells where it ends.
    assert intervals(reading, VIDEOS[name]) == [
        (0, 1.93, "standing"),
        (1.93, 3.77, "fall"),
        (3.77, 9, "lying_after_fall"),
    ]
    assert [p for p in problems(reading) if p[0].startswith("omnifall/")] == []


def test_both_cameras_of_up_fall_keep_their_own_times(tmp_path: Path) -> None:
    lay(tmp_path, *(f"up_fall/Subject1Activity1Trial1Camera{n}.mp4" for n in (1, 2)))
    path = "Subject1/Activity1/Trial1/Subject1Activity1Trial1Camera"
    write(
        tmp_path,
        "omnifall/labels/up_fall.csv",
        HEAD,
        f"{path}1,1,1.0,2.0,1,1,up_fall",
        f"{path}2,1,1.2,2.2,1,2,up_fall",
    )
    reading = read(tmp_path)
    assert intervals(reading, "up_fall/Subject1Activity1Trial1Camera1.mp4") == [(1, 2, "fall")]
    assert intervals(reading, "up_fall/Subject1Activity1Trial1Camera2.mp4") == [(1.2, 2.2, "fall")]


def test_it_is_an_annotator_beside_the_own_labels(tmp_path: Path) -> None:
    lay(tmp_path, VIDEOS["GMDCSA24"])
    write(
        tmp_path,
        "gmdcsa24/Subject 1/Fall.csv",
        "File Name,Length (seconds),Time of Recording,Attire,Description, Classes",
        "13.mp4,10,Day,Shirt,falls, Falling (BW)[0.4 to 10]",
    )
    write(
        tmp_path, "omnifall/labels/GMDCSA24.csv", HEAD, "Subject_1/Fall/13,1,0.0,1.92,1,1,GMDCSA24"
    )
    (own,) = dataset_statements(tmp_path, "gmdcsa24")
    (beside,) = dataset_statements(tmp_path, "omnifall")
    assert isinstance(own, Statement)
    assert isinstance(beside, Statement)
    assert own.target == beside.target == VIDEOS["GMDCSA24"]
    assert (own.annotator_of, beside.annotator_of) == ("dataset", "omnifall")


def test_data_sets_that_are_not_known_are_said_once_each(tmp_path: Path) -> None:
    write(
        tmp_path,
        "omnifall/labels/mixed.csv",
        HEAD,
        *(f"colors/S1P{n}K1,0,0.0,1.0,1,1,cmdfall" for n in range(50)),
        *(f"fall/fall_ch_{n:03},1,0.0,1.0,-1,-1,of-syn" for n in range(70)),
    )
    told = problems(read(tmp_path))
    assert [(line, reason.split(",")[0]) for _file, line, reason in told] == [
        (2, "50 lines"),
        (52, "70 lines"),
    ]
    assert "'cmdfall'" in told[0][2]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("Office/video_14,1,zero,1.0,1,1,le2i", "in seconds are needed"),
        ("Office/video_14,,0.0,1.0,1,1,le2i", "in seconds are needed"),
        ("Kitchen/video_14,1,0.0,1.0,1,1,le2i", "is not one of data set 'le2i'"),
        (",1,0.0,1.0,1,1,le2i", "is not one of data set 'le2i'"),
        ("Office/video_14,16,0.0,1.0,1,1,le2i", "'16' is not in the taxonomy of omnifall"),
        ("Office/video_14,1,-9.5,-7.2,1,1,le2i", "starts before the video"),
        ("Office/video_14,1,2.0,1.0,1,1,le2i", "does not end after its start"),
        ("Office/video_14,1,0.0,1.0,1,1,omnifall", "not known"),
        ('Office/video_14,"1,0.0,1.0,1,1,le2i', "quotes"),
    ],
)
def test_damaged_lines_cost_themselves_only(line: str, part: str, tmp_path: Path) -> None:
    lay(tmp_path, VIDEOS["le2i"])
    write(
        tmp_path,
        "omnifall/labels/le2i.csv",
        HEAD,
        line,
        "Office/video_14,walk,1.0,2.0,1,1,le2i",
    )
    reading = read(tmp_path)
    assert intervals(reading, VIDEOS["le2i"]) == [(1, 2, "walking")]
    (problem,) = problems(reading)
    assert problem[:2] == ("omnifall/labels/le2i.csv", 2)
    assert part in problem[2]


def test_labels_of_absent_videos_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "omnifall/labels/le2i.csv", HEAD, "Office/video_14,1,0.0,1.0,1,1,le2i")
    reading = read(tmp_path)
    assert (reading.absent_files, problems(reading)) == (1, [])


def test_links_and_words_of_paths_lead_nowhere(tmp_path: Path) -> None:
    write(
        tmp_path,
        "omnifall/labels/le2i.csv",
        HEAD,
        "../../etc/Office/video_14,1,0.0,1.0,1,1,le2i",
    )
    items = list(dataset_statements(tmp_path, "omnifall"))
    assert len(items) == 1
    # It stands for a video that is not there: no file is opened by a label's path.
    assert isinstance(items[0], Problem) or read(tmp_path).absent_files == 1


def test_all_sixteen_classes_stand_for_labels() -> None:
    assert [to_label("omnifall", word) for word in ("walk", "fall", "fallen", "stand_up")] == [
        "walking",
        "fall",
        "lying_after_fall",
        "other",
    ]
    for word in ("kneel_down", "kneeling", "squat_down", "squatting"):
        assert to_label("omnifall", word) == "bending"
    assert to_label("omnifall", "lie_down") == "lying"
    assert {to_label("omnifall", word) for word in ("crawl", "jump", "other")} == {"other"}
