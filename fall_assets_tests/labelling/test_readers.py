"""Label files become labels; what is impossible is reported by file and line and left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fall_assets.footage.discovery import days_with_footage
from fall_assets.footage.intake import take_in
from fall_assets.footage.template import DEFAULT
from fall_assets.labelling.readers import LabelReading, label_files, read_labels
from fall_assets.lake.registry import LABELS, table
from fall_assets_tests.footage_samples import SAMPLES, needs_samples
from fall_assets_tests.labelling.rows import DAY, video, videos

HEADER = "file,start_s,end_s,label,source,note,zone,event,subject"
SEGMENT = "cam-01/2026-03-01/08-15-00.mp4"


def read(landing: Path, *lines: str, film: dict[str, Any] | None = None) -> LabelReading:
    """What a site's label file with those lines says about one segment of 20 s."""
    write(landing, "labels/2026-03-01.csv", HEADER, *lines)
    return read_labels(landing, videos(film or video(SEGMENT)))


def write(landing: Path, path: str, *lines: str) -> None:
    (landing / path).parent.mkdir(parents=True, exist_ok=True)
    (landing / path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def intervals(reading: LabelReading) -> list[tuple[float, float, str]]:
    return reading.labels.sort("start_s", "end_s").select("start_s", "end_s", "label").rows()


def places(reading: LabelReading) -> list[tuple[str, int, int]]:
    return reading.problems.select("file", "line", "part").rows()


def test_lines_become_labels(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        f"{SEGMENT},0,5.5,Walking,simulated,,,,patient",
        f"{SEGMENT},5.5,6.8,fall,by eye,,Floor,e1,patient",
        f"{SEGMENT},6.8,20,lying_after_fall,reviewer,,floor,,patient",
    )
    assert reading.problems.is_empty()
    assert reading.labels.schema == table("labels").schema
    assert reading.problems.schema == table("label_problems").schema
    rows = reading.labels.to_dicts()
    assert [row["label"] for row in rows] == ["walking", "fall", "lying_after_fall"]
    assert [row["original_label"] for row in rows] == ["Walking", "fall", "lying_after_fall"]
    assert [row["source"] for row in rows] == ["simulated", "by_eye", "reviewer"]
    assert [row["zone"] for row in rows] == [None, "floor", "floor"]
    assert [row["line"] for row in rows] == [2, 3, 4]
    event = f"site/{DAY}/e1"
    assert [row["event_id"] for row in rows] == [None, event, event]
    assert {row["video_id"] for row in rows} == {SEGMENT}


def test_reading_twice_is_the_same(tmp_path: Path) -> None:
    lines = (f"{SEGMENT},0,5,walking,reviewer,,,,", f"{SEGMENT},9,8,fall,reviewer,,,,")
    first, second = read(tmp_path, *lines), read(tmp_path, *lines)
    assert first.labels.equals(second.labels)
    assert first.problems.equals(second.problems)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (f"{SEGMENT},9.7,3,walking,reviewer,,,,", "does not end after its start"),
        (f"{SEGMENT},3,3,walking,reviewer,,,,", "does not end after its start"),
        (f"{SEGMENT},-1,3,walking,reviewer,,,,", "before the video"),
        (f"{SEGMENT},15,20.6,walking,reviewer,,,,", "lasts 20.00 s"),
        (f"{SEGMENT},20,20.2,walking,reviewer,,,,", "lasts 20.00 s"),
        (f"{SEGMENT},one,3,walking,reviewer,,,,", "must be numbers"),
        (f"{SEGMENT},nan,3,walking,reviewer,,,,", "finite"),
        (f"{SEGMENT},1,inf,walking,reviewer,,,,", "finite"),
        (f"{SEGMENT},1,,walking,reviewer,,,,", "no end_s"),
        (f"{SEGMENT},1,3,waling,reviewer,,,,", "did you mean 'walking'"),
        (f"{SEGMENT},1,3,walking,rumour,,,,", "source 'rumour'"),
        (f"../{SEGMENT},1,3,walking,reviewer,,,,", "leads out"),
        (f"/{SEGMENT},1,3,walking,reviewer,,,,", "leads out"),
        ("cam-01/none.mp4,1,3,walking,reviewer,,,,", "there is no file"),
        (f'{SEGMENT},1,3,"walking,reviewer,,,,', "quotes"),
        (f"{SEGMENT},1,3,walking,reviewer,a note, with a comma,,,e,s", "quote"),
    ],
)
def test_an_impossible_line_is_reported_and_left_out(tmp_path: Path, line: str, part: str) -> None:
    reading = read(
        tmp_path,
        f"{SEGMENT},4,5,sitting,reviewer,,,,",
        line,
        f"{SEGMENT},6,7,standing,reviewer,,,,",
    )
    assert intervals(reading) == [(4, 5, "sitting"), (6, 7, "standing")]
    assert places(reading) == [("labels/2026-03-01.csv", 3, 0)]
    problem = reading.problems.row(0, named=True)
    assert part in problem["reason"]
    assert problem["text"] == line


def test_a_header_without_a_column_is_reported(tmp_path: Path) -> None:
    write(tmp_path, "labels/a.csv", "file,start,end,label,source", f"{SEGMENT},1,2,fall,staff")
    reading = read_labels(tmp_path, videos(video(SEGMENT)))
    assert places(reading) == [("labels/a.csv", 1, 0)]
    assert "start_s, end_s" in reading.problems["reason"].item()


def test_an_end_a_little_behind_the_video_is_cut(tmp_path: Path) -> None:
    reading = read(tmp_path, f"{SEGMENT},15,20.4,walking,reviewer,,,,")
    assert intervals(reading) == [(15, 20, "walking")]
    assert reading.problems.is_empty()


def test_contradicting_lines_are_both_left_out(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        f"{SEGMENT},0,10,walking,reviewer,,,,",
        f"{SEGMENT},5,12,sitting,reviewer,,,,",
        f"{SEGMENT},12,14,standing,reviewer,,,,",
    )
    assert intervals(reading) == [(12, 14, "standing")]
    assert places(reading) == [("labels/2026-03-01.csv", 2, 0), ("labels/2026-03-01.csv", 3, 0)]
    assert "line 3 of labels/2026-03-01.csv (sitting 5 to 12 s)" in reading.problems["reason"][0]


def test_a_small_overlap_is_trimmed(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        f"{SEGMENT},0,10,sitting,reviewer,,,,",
        f"{SEGMENT},9.8,11,fall,reviewer,,,,",
    )
    assert intervals(reading) == [(0, 9.8, "sitting"), (9.8, 11, "fall")]
    assert reading.problems.is_empty()


def test_two_people_may_do_different_things(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        f"{SEGMENT},0,10,lying,simulated,,bed,,patient",
        f"{SEGMENT},0,10,walking,simulated,,,,nurse",
    )
    assert reading.labels.height == 2
    assert reading.problems.is_empty()


def test_other_contradicts_nothing(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        f"{SEGMENT},0,10,sitting,reviewer,,,,",
        f"{SEGMENT},2,8,other,reviewer,,,,",
        f"{SEGMENT},3,9,other,reviewer,,,,",
    )
    assert reading.labels.height == 3
    assert reading.problems.is_empty()


def test_a_repeated_line_is_reported_once_and_kept_once(tmp_path: Path) -> None:
    line = f"{SEGMENT},0,1.5,fall,reviewer,,,,"
    reading = read(tmp_path, line, line)
    assert intervals(reading) == [(0, 1.5, "fall")]
    assert places(reading) == [("labels/2026-03-01.csv", 3, 0)]


def test_falls_without_an_event_are_counted_per_segment(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        f"{SEGMENT},1,2,fall,reviewer,,,,",
        f"{SEGMENT},2,4,lying_after_fall,reviewer,,,,",
        f"{SEGMENT},8,9,fall,reviewer,,,,",
    )
    first, lying, second = reading.labels["event_id"]
    assert first == lying == "site/cam-01/2026-03-01T08:15:00Z#1"
    assert second == "site/cam-01/2026-03-01T08:15:00Z#2"


def test_a_label_of_a_file_that_was_not_taken_in_is_counted(tmp_path: Path) -> None:
    write(tmp_path, "cam-01/2026-03-01/09-00-00.mp4", "quarantined")
    reading = read(tmp_path, "cam-01/2026-03-01/09-00-00.mp4,1,2,fall,staff,,,,")
    assert reading.labels.is_empty()
    assert reading.problems.is_empty()
    assert reading.absent_files == 1


def test_no_label_files_no_labels(tmp_path: Path) -> None:
    reading = read_labels(tmp_path, videos())
    assert reading.labels.is_empty()
    assert reading.labels.schema == table("labels").schema


URFD = "Sequence Name,Frame #,Label,HWRatio"


def urfd(*paths: str) -> pl.DataFrame:
    return videos(
        *(
            video(path, 10.0, dataset="urfd", scene=f"urfd/{Path(path).stem[:-5]}",
                  camera_id=f"urfd-{Path(path).stem[-4:]}")
            for path in paths
        )
    )  # fmt: skip


def test_urfds_postures_become_intervals_on_both_cameras(tmp_path: Path) -> None:
    postures = [-1] * 60 + [0] * 30 + [1] * 30
    write(
        tmp_path,
        "urfd/urfall-cam0-falls.csv",
        URFD,
        *(f"fall-01,{frame},{posture},1.0" for frame, posture in enumerate(postures, start=1)),
    )
    both = urfd("urfd/fall/fall-01-cam0.mp4", "urfd/fall/fall-01-cam1.mp4")
    reading = read_labels(tmp_path, both)
    for path in both["path"]:
        of_camera = reading.labels.filter(video_id=path)
        assert of_camera.select("start_s", "end_s", "label", "line").rows() == [
            (0.0, 2.0, "other", 2),
            (2.0, 3.0, "fall", 62),
            (3.0, 4.0, "lying_after_fall", 92),
        ]
    events = reading.labels["event_id"].drop_nulls().unique().to_list()
    assert events == ["urfd/fall-01#1"]


def test_urfds_daily_life_holds_no_fall(tmp_path: Path) -> None:
    frames = [*range(6, 60), *range(61, 121)]
    write(
        tmp_path,
        "urfd/urfall-cam0-adls.csv",
        URFD,
        *(f"adl-01,{n},{-1 if n < 31 else 0 if n < 61 else 1},1.0" for n in frames),
        "adl-01,121,2,1.0",
        "adl-01,121,0,1.0",
        "adl-01,240,-1,1.0",
    )
    reading = read_labels(tmp_path, urfd("urfd/adl/adl-01-cam0.mp4"))
    expected = [
        (5 / 30, 1.0, "other"),
        (1.0, 2.0, "other"),
        (2.0, 4.0, "lying"),
        (4.0, 121 / 30, "other"),
        (239 / 30, 8.0, "other"),
    ]
    for told, wanted in zip(intervals(reading), expected, strict=True):
        assert told == pytest.approx(wanted, abs=1e-5)
    assert places(reading) == [("urfd/urfall-cam0-adls.csv", 116, 0)]


GMDCSA24 = "File Name,Length (seconds),Time of Recording,Attire,Description, Classes"


def gmdcsa24(landing: Path, kind: str, *lines: str, duration_s: float = 10.0) -> LabelReading:
    write(landing, f"gmdcsa24/Subject 1/{kind}.csv", GMDCSA24, *lines)
    path = f"gmdcsa24/Subject 1/{kind}/01.mp4"
    return read_labels(
        landing,
        videos(video(path, duration_s, dataset="gmdcsa24", scene="gmdcsa24/s1-01", subject="s1")),
    )


def test_gmdcsa24s_falls_are_split_from_the_lying_after_them(tmp_path: Path) -> None:
    reading = gmdcsa24(
        tmp_path, "Fall", "01.mp4,10,Day,Shirt,falls, Falling (BW) [2 to 10]:; Standing [0 to 2.2]"
    )
    assert intervals(reading) == [
        (0, 2, "standing"),
        (2, 3.5, "fall"),
        (3.5, 10, "lying_after_fall"),
    ]
    assert reading.labels["event_id"].to_list() == [None, "gmdcsa24/s1-01#1", "gmdcsa24/s1-01#1"]
    assert reading.labels["label_id"].n_unique() == 3
    assert reading.problems.is_empty()


def test_gmdcsa24s_short_fall_has_no_lying(tmp_path: Path) -> None:
    reading = gmdcsa24(tmp_path, "Fall", "01.mp4,10,Day,Shirt,falls, Fall (FW)[2 to 3.2]")
    assert intervals(reading) == [(2, 3.2, "fall")]


def test_gmdcsa24s_end_of_the_clip_is_known_to_whole_seconds(tmp_path: Path) -> None:
    reading = gmdcsa24(
        tmp_path, "ADL", "01.mp4,07,Day,Shirt,walks, Walking[0 to 7]; Sitting[5 to 8]",
        duration_s=6.08,
    )  # fmt: skip
    assert intervals(reading) == [(0, 6.08, "walking")]
    assert places(reading) == [("gmdcsa24/Subject 1/ADL.csv", 2, 1)]


def test_gmdcsa24s_typing_errors_cost_their_own_part_only(tmp_path: Path) -> None:
    reading = gmdcsa24(
        tmp_path,
        "ADL",
        "01.mp4,10,Day,Shirt,does things, Reading; Standing[0 to 1; 2 to 3; Walking[3 to 4]:; "
        "Sitting[9.7 to 3]; Flying[5 to 6]; Eating[x to 7]; Sleeping[8 to 9] ;",
    )
    assert intervals(reading) == [
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


def test_a_data_sets_own_file_comes_before_labels_csv(tmp_path: Path) -> None:
    write(
        tmp_path,
        "gmdcsa24/labels.csv",
        "file,start_s,end_s,label,source,note",
        "Subject 1/ADL/01.mp4,0,5,Sitting,dataset,",
        "Subject 1/ADL/02.mp4,0,5,Walking,dataset,",
    )
    write(
        tmp_path,
        "gmdcsa24/Subject 1/ADL.csv",
        GMDCSA24,
        "01.mp4,10,Day,Shirt,sits, Sitting[0 to 6]",
    )
    both = [
        video(f"gmdcsa24/Subject 1/ADL/0{n}.mp4", dataset="gmdcsa24", scene=f"gmdcsa24/{n}")
        for n in (1, 2)
    ]
    reading = read_labels(tmp_path, videos(*both))
    assert reading.labels.select("video_id", "end_s", "file").sort("video_id").rows() == [
        ("gmdcsa24/Subject 1/ADL/01.mp4", 6.0, "gmdcsa24/Subject 1/ADL.csv"),
        ("gmdcsa24/Subject 1/ADL/02.mp4", 5.0, "gmdcsa24/labels.csv"),
    ]


def test_data_set_labels_of_absent_videos_are_counted(tmp_path: Path) -> None:
    write(
        tmp_path,
        "urfd/labels.csv",
        "file,start_s,end_s,label,source,note",
        "fall/fall-01-cam0.mp4,0,1,falling,dataset,",
        "fall/fall-01-cam0.mp4,1,2,lying_after_fall,dataset,",
    )
    reading = read_labels(tmp_path, videos())
    assert (reading.labels.height, reading.problems.height, reading.absent_files) == (0, 0, 1)


def test_every_label_file_is_listed(tmp_path: Path) -> None:
    files = [
        "gmdcsa24/Subject 1/ADL.csv",
        "gmdcsa24/labels.csv",
        "labels/2026-03-01.csv",
        "urfd/urfall-cam0-falls.csv",
    ]
    for path in (*files, "gmdcsa24/Subject 1/notes.csv", "labels/notes.txt", "other/labels.csv"):
        write(tmp_path, path, "")
    assert [path.relative_to(tmp_path).as_posix() for path in label_files(tmp_path)] == files


@pytest.fixture(scope="session")
def real_videos() -> pl.DataFrame:
    no_cameras = table("cameras").empty()
    return pl.concat(
        take_in(SAMPLES, DEFAULT, day, known={}, cameras=no_cameras).videos
        for day in days_with_footage(SAMPLES, DEFAULT)
    )


@needs_samples
def test_the_real_footage_is_labelled_whole(real_videos: pl.DataFrame) -> None:
    reading = read_labels(SAMPLES, real_videos)
    assert places(reading) == [("gmdcsa24/Subject 3/ADL.csv", 13, 0)]
    assert set(reading.labels["video_id"]) == set(real_videos["video_id"])
    falls = (
        reading.labels.filter(label="fall")
        .join(real_videos.select("video_id", "dataset"), on="video_id")
        .group_by("dataset")
        .agg(pl.len(), pl.col("event_id").n_unique().alias("events"))
        .sort("dataset")
    )
    assert falls.rows() == [("assist_iot", 2, 2), ("gmdcsa24", 8, 8), ("urfd", 60, 30)]
    assert reading.labels["label_id"].is_unique().all()
    assert set(reading.labels["label"]) <= set(LABELS)


@needs_samples
def test_urfds_own_files_agree_with_its_labels_csv(real_videos: pl.DataFrame) -> None:
    told = pl.read_csv(SAMPLES / "urfd" / "labels.csv").select(
        path="urfd/" + pl.col("file"), start="start_s", end="end_s"
    )
    read = (
        read_labels(SAMPLES, real_videos)
        .labels.join(real_videos.select("video_id", "path", "dataset"), on="video_id")
        .filter(dataset="urfd")
        .select("path", start="start_s", end="end_s")
    )
    assert read.sort("path", "start").height == told.height
    for mine, theirs in zip(
        read.sort("path", "start").iter_rows(), told.sort("path", "start").iter_rows(), strict=True
    ):
        assert mine[0] == theirs[0]
        assert mine[1:] == pytest.approx(theirs[1:], abs=0.001)
