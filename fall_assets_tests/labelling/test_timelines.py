"""Intervals on a camera's timeline, and several annotators in the label files of a folder."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.labelling.clips import cut_clips
from fall_assets.labelling.readers import LabelReading, read_labels
from fall_assets_tests.labelling.rows import video, videos
from fall_assets_tests.labelling.tools.scenario import EXPORTS, FPS

CAMERA = "camera,start_utc,end_utc,label,source,annotator,track,zone,event,subject,stated_utc"
FILE = "file,start_s,end_s,label,source,annotator,track,zone,event,subject,stated_utc"
START = datetime(2026, 3, 1, 8, 15, tzinfo=UTC)


def segment(at_s: float, duration_s: float = 20.0, **values: Any) -> dict[str, Any]:
    """A segment of cam-01 that starts `at_s` after 08:15; its name is its start."""
    start = START + timedelta(seconds=at_s)
    return video(
        f"cam-01/{start:%Y-%m-%d/%H-%M-%S}.mp4", duration_s, start_utc=start, day=start.date(),
        **values,
    )  # fmt: skip


def write(landing: Path, *lines: str, path: str = "labels/a.csv") -> None:
    (landing / path).parent.mkdir(parents=True, exist_ok=True)
    (landing / path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(landing: Path, header: str, *lines: str, rule: str = "priority") -> LabelReading:
    """What lines say of three segments of 20 s of cam-01 that follow each other."""
    write(landing, header, *lines)
    return read_labels(landing, videos(*(segment(20.0 * n) for n in range(3))), rule=rule)


def parts(reading: LabelReading) -> list[tuple[str, float, float, str]]:
    rows = reading.labels.sort("start_utc", "label")
    return [
        (name[-12:-4], *rest)
        for name, *rest in rows.select("video_id", "start_s", "end_s", "label").iter_rows()
    ]


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def test_an_interval_over_segments_has_a_part_in_each(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        CAMERA,
        f"cam-01,{at(18.5)},{at(41.25)},lying,reviewer,ann,3,Bed,,patient,",
    )
    assert reading.problems.is_empty()
    assert parts(reading) == [
        ("08-15-00", 18.5, 20, "lying"),
        ("08-15-20", 0, 20, "lying"),
        ("08-15-40", 0, 1.25, "lying"),
    ]
    rows = reading.labels
    assert rows["interval_id"].n_unique() == 1
    assert rows["label_id"].is_unique().all()
    assert rows["start_utc"].min() == START + timedelta(seconds=18.5)
    assert rows["end_utc"].max() == START + timedelta(seconds=41.25)
    assert (rows["end_utc"] - rows["start_utc"]).sum() == timedelta(seconds=22.75)
    assert set(rows.select("annotator", "track", "zone", "subject").rows()) == {
        ("ann", 3, "bed", "patient")
    }


def test_a_fall_over_two_segments_is_one_event(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        CAMERA,
        f"cam-01,{at(19)},{at(20.5)},fall,reviewer,,,,,,",
        f"cam-01,{at(20.5)},{at(50)},lying_after_fall,reviewer,,,,,,",
        f"cam-01,{at(55)},{at(56)},fall,reviewer,,,,,,",
    )
    rows = reading.labels.sort("start_utc")
    assert rows["label"].to_list() == ["fall", "fall", "lying_after_fall", "lying_after_fall",
                                       "fall"]  # fmt: skip
    events = rows["event_id"].to_list()
    assert events[0] is not None
    assert events[0] == events[1] == events[2]
    assert events[4] == "site/cam-01/2026-03-01T08:15:40Z#1"


def test_a_zone_of_the_clock_does_not_matter(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        CAMERA,
        "cam-01,2026-03-01T09:15:02+01:00,2026-03-01T08:15:05Z,walking,staff,,,,,,",
    )
    assert parts(reading) == [("08-15-00", 2, 5, "walking")]


def test_a_gap_between_segments_takes_nothing_away(tmp_path: Path) -> None:
    write(tmp_path, CAMERA, f"cam-01,{at(10)},{at(70)},sitting,reviewer,,,,,,")
    films = videos(segment(0), segment(60))
    reading = read_labels(tmp_path, films)
    assert parts(reading) == [("08-15-00", 10, 20, "sitting"), ("08-16-00", 0, 10, "sitting")]
    assert reading.problems.is_empty()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"cam-01,{at(200)},{at(210)},walking,reviewer,,,,,,", "has no footage of"),
        (f"cam-09,{at(0)},{at(10)},walking,reviewer,,,,,,", "no footage of camera 'cam-09'"),
        (f"cam-01,{at(10)},{at(0)},walking,reviewer,,,,,,", "does not end after its start"),
        (f"cam-01,{at(0)},{at(90_000)},walking,reviewer,,,,,,", "longer than a day"),
        ("cam-01,2026-03-01T08:15:00,2026-03-01T08:16:00Z,walking,staff,,,,,,", "with its zone"),
        ("cam-01,0001-01-01T00:00+14:00,0001-01-01T09:00+14:00,walking,staff,,,,,,", "that year"),
        (f"cam-01,{at(0)},soon,walking,reviewer,,,,,,", "end_utc 'soon'"),
        (f"cam-01,{at(0)},,walking,reviewer,,,,,,", "no end_utc"),
        (f",{at(0)},{at(1)},walking,reviewer,,,,,,", "no file, start_s, end_s"),
        (f"cam-01,{at(0)},{at(1)},waling,reviewer,,,,,,", "did you mean 'walking'"),
        (f"cam-01,{at(0)},{at(1)},walking,reviewer,,-1,,,,", "track '-1'"),
        (f"cam-01,{at(0)},{at(1)},walking,reviewer,,,,,,today", "stated_utc 'today'"),
    ],
)
def test_an_impossible_interval_is_reported(tmp_path: Path, line: str, reason: str) -> None:
    reading = read(tmp_path, CAMERA, line, f"cam-01,{at(2)},{at(3)},standing,staff,,,,,,")
    assert parts(reading) == [("08-15-00", 2, 3, "standing")]
    assert reading.problems.select("file", "line").rows() == [("labels/a.csv", 2)]
    assert reason in reading.problems["reason"].item()


def test_one_file_may_speak_of_files_and_of_cameras(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        "file,start_s,end_s,camera,start_utc,end_utc,label,source",
        "cam-01/2026-03-01/08-15-00.mp4,0,5,,,,walking,reviewer",
        f",,,cam-01,{at(5)},{at(9)},sitting,reviewer",
    )
    assert reading.problems.is_empty()
    assert parts(reading) == [("08-15-00", 0, 5, "walking"), ("08-15-00", 5, 9, "sitting")]


def test_a_contradiction_takes_the_whole_interval(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        CAMERA,
        f"cam-01,{at(15)},{at(30)},sitting,reviewer,,,,,,",
        f"cam-01,{at(22)},{at(45)},walking,reviewer,,,,,,",
        f"cam-01,{at(50)},{at(55)},lying,reviewer,,,,,,",
    )
    assert parts(reading) == [("08-15-40", 10, 15, "lying")]
    assert reading.problems["line"].to_list() == [2, 3]
    assert at(22) in reading.problems["reason"][0]


def test_a_small_overlap_at_a_boundary_is_trimmed(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        CAMERA,
        f"cam-01,{at(15)},{at(20.3)},sitting,reviewer,,,,,,",
        f"cam-01,{at(19.9)},{at(30)},walking,reviewer,,,,,,",
    )
    assert reading.problems.is_empty()
    assert [(a, b, label) for _name, a, b, label in parts(reading)] == [
        (15, pytest.approx(19.9), "sitting"), (pytest.approx(19.9), 20, "walking"),
        (0, 10, "walking"),
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.floats(0.5, 30), st.floats(0, 20)), min_size=1, max_size=6),
    start_s=st.floats(-20, 150),
    length_s=st.floats(0.01, 100),
)
def test_parts_cover_what_there_is_footage_of(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[tuple[float, float]],
    start_s: float,
    length_s: float,
) -> None:
    films, at_s = [], 0.0
    for number, (duration_s, gap_s) in enumerate(lengths):
        films.append(video(f"v{number}", duration_s, start_utc=START + timedelta(seconds=at_s)))
        at_s += duration_s + gap_s
    landing = tmp_path_factory.mktemp("landing")
    write(landing, CAMERA, f"cam-01,{at(start_s)},{at(start_s + length_s)},lying,staff,,,,,,")
    reading = read_labels(landing, videos(*films))
    covered = 0.0
    for film in films:
        begin = (film["start_utc"] - START).total_seconds()
        overlap = min(begin + film["duration_s"], start_s + length_s) - max(begin, start_s)
        covered += max(overlap, 0.0)
    told = float((reading.labels["end_s"] - reading.labels["start_s"]).sum())
    assert told == pytest.approx(covered, abs=1e-4)
    assert reading.labels.is_empty() is not reading.problems.is_empty()


def test_a_fall_over_two_segments_counts_by_its_whole_length(tmp_path: Path) -> None:
    """4 s of fall, 3 s of them in the first segment: only windows that see 70 % count."""
    write(
        tmp_path,
        CAMERA,
        f"cam-01,{at(0)},{at(17)},walking,reviewer,,,,,,",
        f"cam-01,{at(17)},{at(21)},fall,reviewer,,,,,,",
        f"cam-01,{at(21)},{at(40)},lying_after_fall,reviewer,,,,,,",
    )
    films = videos(segment(0), segment(20))
    clips = cut_clips(read_labels(tmp_path, films).labels, films)
    first, second = (clips.filter(video_id=name).sort("end_s") for name in films["video_id"])
    assert first.filter(target=1)["end_s"].to_list() == [20.0]
    assert first.filter(pl.col("end_s") > 17, pl.col("target").is_null())["end_s"].to_list() == [
        17.5, 18, 18.5, 19, 19.5,
    ]  # fmt: skip
    assert second.filter(target=1).is_empty()
    assert second["split_group"].unique().to_list() == first["split_group"].unique().to_list()
    # The same fall with most of it in the second segment: its windows see what lies before it
    # as unseen, and count by what they see.
    write(
        tmp_path,
        CAMERA,
        f"cam-01,{at(19)},{at(23)},fall,reviewer,,,,,,",
        f"cam-01,{at(23)},{at(40)},lying_after_fall,reviewer,,,,,,",
    )
    clips = cut_clips(read_labels(tmp_path, films).labels, films)
    assert clips.filter(target=1).select("video_id", "end_s").rows() == [
        (films["video_id"][1], end_s) for end_s in (3.0, 3.5, 4.0)
    ]


def test_who_is_not_named_is_the_source(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        FILE,
        "cam-01/2026-03-01/08-15-00.mp4,0,5,walking,by eye,,,,,,",
        "cam-01/2026-03-01/08-15-00.mp4,5,9,sitting,staff,zoe,,,,,",
    )
    assert reading.labels["annotator"].to_list() == ["by_eye", "zoe"]
    assert reading.labels["resolution"].to_list() == ["only", "only"]


def test_two_annotators_do_not_contradict_themselves(tmp_path: Path) -> None:
    lines = (
        "cam-01/2026-03-01/08-15-00.mp4,0,10,walking,reviewer,ann,,,,,2026-03-02T08:00:00Z",
        "cam-01/2026-03-01/08-15-00.mp4,10,20,lying,reviewer,ann,,,,,2026-03-02T08:00:00Z",
        "cam-01/2026-03-01/08-15-00.mp4,0,9,walking,reviewer,bob,,,,,2026-03-03T08:00:00Z",
        "cam-01/2026-03-01/08-15-00.mp4,9,10,fall,reviewer,bob,,,,,2026-03-03T08:00:00Z",
        "cam-01/2026-03-01/08-15-00.mp4,10,20,lying_after_fall,reviewer,bob,,,,,"
        "2026-03-03T08:00:00Z",
    )
    reading = read(tmp_path, FILE, *lines)
    assert reading.problems.is_empty()
    assert reading.annotations.height == 5
    assert [label for *_rest, label in parts(reading)] == ["walking", "fall", "lying_after_fall"]
    said = [json.loads(text) for text in reading.conflicts["said"]]
    assert said == [
        {"ann": "walking", "bob": "fall"}, {"ann": "lying", "bob": "lying_after_fall"},
    ]  # fmt: skip
    fall = "site/cam-01/2026-03-01T08:15:00Z#1"
    events = dict(reading.annotations.select("label", "event_id").iter_rows())
    assert (events["fall"], events["lying_after_fall"], events["lying"]) == (fall, fall, None)
    strict = read(tmp_path, FILE, *lines, rule="unanimous")
    assert parts(strict) == [("08-15-00", 0, 9, "walking")]
    assert strict.annotations.height == 5
    assert strict.conflicts["decided"].to_list() == [None, None]


def test_a_sighting_names_the_same_video(tmp_path: Path) -> None:
    write(tmp_path, FILE, "copy/of it.mp4,0,5,walking,reviewer,,,,,,")
    film = segment(0)
    sightings = pl.DataFrame({"path": ["copy/of it.mp4"], "video_id": [film["video_id"]]})
    reading = read_labels(tmp_path, videos(film), sightings)
    assert reading.labels["video_id"].to_list() == [film["video_id"]]
    assert read_labels(tmp_path, videos(film)).problems.height == 1


def test_objects_of_a_bucket_are_named_by_their_address(tmp_path: Path) -> None:
    write(
        tmp_path,
        FILE,
        "s3://ward/cam/one.mp4,0,5,walking,reviewer,,,,,,",
        "s3://ward/cam/two.mp4,0,5,walking,reviewer,,,,,,",
    )
    film = segment(0) | {"path": "s3://ward/cam/one.mp4"}
    reading = read_labels(tmp_path, videos(film))
    assert reading.labels.height == 1
    assert (reading.problems.height, reading.absent_files) == (0, 1)


def test_a_named_second_opinion_on_a_data_set_is_kept(tmp_path: Path) -> None:
    path = "gmdcsa24/Subject 1/ADL/01.mp4"
    write(
        tmp_path,
        "File Name,Length (seconds),Time of Recording,Attire,Description, Classes",
        "01.mp4,10,Day,Shirt,sits, Sitting[0 to 6]",
        path="gmdcsa24/Subject 1/ADL.csv",
    )
    write(
        tmp_path,
        "file,start_s,end_s,label,source,annotator",
        "Subject 1/ADL/01.mp4,0,5,walking,by eye,ann",
        "Subject 1/ADL/01.mp4,0,6,lying,by eye,",
        path="gmdcsa24/labels.csv",
    )
    film = video(path, dataset="gmdcsa24", scene="gmdcsa24/1", day=date(2024, 1, 3))
    reading = read_labels(tmp_path, videos(film))
    assert reading.annotations.select("annotator", "label", "outcome").rows() == [
        ("ann", "walking", "outvoted"), ("dataset", "sitting", "used"),
    ]  # fmt: skip
    assert reading.labels.select("label", "end_s").rows() == [("sitting", 6.0)]


def test_an_export_that_nobody_knows_is_reported(tmp_path: Path) -> None:
    write(tmp_path, '{"a": 1}', path="labels/odd.json")
    write(tmp_path, "odd", path="labels/odd.tsv")
    reading = read_labels(tmp_path, videos(segment(0)))
    assert reading.problems["file"].to_list() == ["labels/odd.json", "labels/odd.tsv"]


line = st.lists(
    st.one_of(
        st.sampled_from(
            ["cam-01", at(1), at(30), "fall", "reviewer", "walking", "ann", "3", "-1", "nan", "1e9",
             "cam-01/2026-03-01/08-15-00.mp4", "0", "12.5", "../x", "s3://b/c", "\x00"]
        ),
        st.text(max_size=8),
    ),
    max_size=12,
).map(",".join)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(header=st.sampled_from([CAMERA, FILE, f"{FILE},camera,start_utc,end_utc"]),
       lines=st.lists(line, max_size=5))  # fmt: skip
def test_no_line_raises_and_the_rows_fit_the_tables(
    tmp_path_factory: pytest.TempPathFactory, header: str, lines: list[str]
) -> None:
    landing = tmp_path_factory.mktemp("landing")
    (landing / "labels").mkdir()
    text = "\n".join([header, *lines])
    (landing / "labels" / "a.csv").write_bytes(text.encode("utf-8", errors="replace"))
    reading = read_labels(landing, videos(segment(0), segment(20)))
    assert reading.labels["label_id"].is_unique().all()
    assert reading.annotations["label_id"].is_unique().all()


def test_a_labelling_tools_annotators_are_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "export.json").write_bytes((EXPORTS / "label_studio.json").read_bytes())
    films = videos(*(video(path, 60.0, video_id=path[::-1], fps=fps) for path, fps in FPS.items()))
    reading = read_labels(tmp_path, films)
    assert reading.annotations["annotator"].n_unique() == 2
    assert set(reading.labels["resolution"]) <= {"only", "agreed", "priority"}
    assert set(reading.labels["source"]) == {"reviewer"}
    spoken = set(reading.annotations.filter(pl.col("outcome") != "outvoted")["video_id"])
    assert set(reading.labels["video_id"]) <= spoken
