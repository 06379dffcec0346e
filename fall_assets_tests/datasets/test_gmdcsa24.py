"""GMDCSA24: classes and times in one cell, typing errors included."""

from __future__ import annotations

from pathlib import Path

from fall_assets.labelling.readers import LabelReading, read_labels
from fall_assets_tests.datasets.trees import write
from fall_assets_tests.labelling.rows import video, videos

GMDCSA24 = "File Name,Length (seconds),Time of Recording,Attire,Description, Classes"


def gmdcsa24(landing: Path, kind: str, *lines: str, duration_s: float = 10.0) -> LabelReading:
    write(landing, f"gmdcsa24/Subject 1/{kind}.csv", GMDCSA24, *lines)
    path = f"gmdcsa24/Subject 1/{kind}/01.mp4"
    return read_labels(
        landing,
        videos(video(path, duration_s, dataset="gmdcsa24", scene="gmdcsa24/s1-01", subject="s1")),
    )


def times(reading: LabelReading) -> list[tuple[float, float, str]]:
    return reading.labels.sort("start_s", "end_s").select("start_s", "end_s", "label").rows()


def places(reading: LabelReading) -> list[tuple[str, int, int]]:
    return reading.problems.select("file", "line", "part").rows()


def test_gmdcsa24s_falls_are_split_from_the_lying_after_them(tmp_path: Path) -> None:
    reading = gmdcsa24(
        tmp_path, "Fall", "01.mp4,10,Day,Shirt,falls, Falling (BW) [2 to 10]:; Standing [0 to 2.2]"
    )
    assert times(reading) == [
        (0, 2, "standing"),
        (2, 3.5, "fall"),
        (3.5, 10, "lying_after_fall"),
    ]
    assert reading.labels["event_id"].to_list() == [None, "gmdcsa24/s1-01#1", "gmdcsa24/s1-01#1"]
    assert reading.labels["label_id"].n_unique() == 3
    assert reading.problems.is_empty()


def test_gmdcsa24s_short_fall_has_no_lying(tmp_path: Path) -> None:
    reading = gmdcsa24(tmp_path, "Fall", "01.mp4,10,Day,Shirt,falls, Fall (FW)[2 to 3.2]")
    assert times(reading) == [(2, 3.2, "fall")]


def test_gmdcsa24s_end_of_the_clip_is_known_to_whole_seconds(tmp_path: Path) -> None:
    reading = gmdcsa24(
        tmp_path, "ADL", "01.mp4,07,Day,Shirt,walks, Walking[0 to 7]; Sitting[5 to 8]",
        duration_s=6.08,
    )  # fmt: skip
    assert times(reading) == [(0, 6.08, "walking")]
    assert places(reading) == [("gmdcsa24/Subject 1/ADL.csv", 2, 1)]


def test_gmdcsa24s_typing_errors_cost_their_own_part_only(tmp_path: Path) -> None:
    reading = gmdcsa24(
        tmp_path,
        "ADL",
        "01.mp4,10,Day,Shirt,does things, Reading; Standing[0 to 1; 2 to 3; Walking[3 to 4]:; "
        "Sitting[9.7 to 3]; Flying[5 to 6]; Eating[x to 7]; Sleeping[8 to 9] ;",
    )
    assert times(reading) == [
        (0, 1, "standing"),
        (2, 3, "standing"),
        (3, 4, "walking"),
        (8, 9, "lying"),
    ]
    assert [part for _file, _line, part in places(reading)] == [0, 4, 5, 6]
    reasons = reading.problems["reason"].to_list()
    assert "no times" in reasons[0]
    assert "does not end after its start" in reasons[1]
    assert "taxonomy of gmdcsa24" in reasons[2]
    assert "no times" in reasons[3]
