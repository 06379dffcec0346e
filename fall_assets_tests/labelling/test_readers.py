"""Label files become labels; what is impossible is reported by file and line and left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fall_assets.footage.discovery import days_with_footage
from fall_assets.footage.intake import inspect_day
from fall_assets.footage.sources import SourceSettings
from fall_assets.footage.store import Footage
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


GMDCSA24 = "File Name,Length (seconds),Time of Recording,Attire,Description, Classes"


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
def real_videos(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    footage = Footage(SAMPLES, tmp_path_factory.mktemp("cache"))
    sources = [SourceSettings()]
    no_cameras = table("cameras").empty()
    return pl.concat(
        inspect_day(footage, sources, day, cameras=no_cameras).decide().videos
        for day in days_with_footage(SAMPLES, sources)
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
