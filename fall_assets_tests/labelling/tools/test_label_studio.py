"""Label Studio: what goes out as tasks comes back as the same intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.labelling.tools.label_studio import Suggestion, export_tasks, labelling_config
from fall_assets.lake.registry import LABELS
from fall_assets_tests.labelling.tools.scenario import (
    BED,
    EXPORTS,
    HALL,
    NIGHT,
    PIECES,
    Told,
    check,
    films,
    piece,
    read,
    region,
)


def told(tmp_path: Path, *tasks: dict[str, Any]) -> Told:
    return read(tmp_path, "export.json", json.dumps(list(tasks)))


def task(results: list[dict[str, Any]], **data: Any) -> dict[str, Any]:
    shown = {"path": BED, "video_id": BED[::-1], "fps": 10.0, "start_s": 2.0} | data
    return {
        "id": 7,
        "data": {name: value for name, value in shown.items() if value is not None},
        "annotations": [{"id": 3, "completed_by": 1, "result": results}],
    }


def test_the_export_of_a_real_server_is_understood(tmp_path: Path) -> None:
    check(read(tmp_path, "x.json", (EXPORTS / "label_studio.json").read_bytes()), [1, 2])


def test_its_short_form_says_the_same(tmp_path: Path) -> None:
    whole = read(tmp_path, "x.json", (EXPORTS / "label_studio.json").read_bytes())
    least = read(tmp_path, "y.json", (EXPORTS / "label_studio_min.json").read_bytes())
    assert sorted(least.intervals) == sorted(whole.intervals)
    assert {x.annotator for x in least.statements} == {x.annotator for x in whole.statements}
    assert [x.zone for x in least.of("label-studio/2")] == ["floor"]


@settings(max_examples=50, deadline=None)
@given(
    fps=st.sampled_from([5.0, 10.0, 12.5, 14.985, 25.0]),
    start_s=st.floats(0, 40),
    first_s=st.floats(0, 15),
    length_s=st.floats(0.2, 15),
    label=st.sampled_from(LABELS),
)
def test_suggestions_accepted_as_they_are_come_back_within_a_frame(
    tmp_path_factory: pytest.TempPathFactory,
    fps: float,
    start_s: float,
    first_s: float,
    length_s: float,
    label: str,
) -> None:
    begin_s = start_s + first_s
    end_s = min(begin_s + length_s, start_s + 16)
    exported = export_tasks([piece(BED, start_s, Suggestion(label, begin_s, end_s), fps=fps)])[0]
    exported["annotations"] = [
        {"id": 1, "completed_by": 1, "result": exported.pop("predictions")[0]["result"]}
    ]
    folder = tmp_path_factory.mktemp("round")
    (statement,) = read(folder, "x.json", json.dumps([exported])).statements
    assert (statement.target, statement.word) == (BED, label)
    assert abs(statement.start_s - begin_s) <= 1 / fps
    assert abs(statement.end_s - end_s) <= 1 / fps


def test_tasks_carry_what_is_needed_to_come_back() -> None:
    exported = export_tasks(PIECES)
    assert [("predictions" in x) for x in exported] == [True, True, False, False]
    data = exported[0]["data"]
    assert (data["path"], data["video_id"], data["camera_id"]) == (BED, BED[::-1], "cam-01")
    assert (data["start_s"], data["fps"], data["item_id"]) == (5.0, 12.5, "item-cam-01-5")
    assert exported[0]["predictions"][0]["model_version"] == "4"
    json.dumps(exported)


def test_suggestions_outside_the_preview_are_not_suggested() -> None:
    (exported,) = export_tasks([piece(BED, 20.0, Suggestion("fall", 1.0, 3.0))])
    assert "predictions" not in exported
    (cut,) = export_tasks([piece(BED, 20.0, Suggestion("other", 0.0, 60.0))])
    assert cut["predictions"][0]["result"][0]["value"]["ranges"] == [{"start": 1, "end": 200}]


def test_the_configuration_offers_every_label() -> None:
    root = ElementTree.fromstring(labelling_config())
    assert [x.get("value") for x in root.iter("Label")] == list(LABELS)
    assert {x.get("value") for x in root.iter("Choice")} == {"bed", "chair", "door", "floor"}
    video = root.find("Video")
    assert video is not None
    assert (video.get("value"), video.get("frameRate")) == ("$video", "$fps")


def test_frames_count_from_one_and_include_the_last(tmp_path: Path) -> None:
    (statement,) = told(tmp_path, task(region("a", "fall", 1, 10))).statements
    assert (statement.start_s, statement.end_s) == (2.0, 3.0)


def test_labels_in_seconds_are_read(tmp_path: Path) -> None:
    old = {
        "id": "w1",
        "from_name": "tricks",
        "to_name": "audio",
        "type": "labels",
        "value": {"start": 1.25, "end": 2.5, "channel": 0, "labels": ["fall", "lying"]},
    }
    own = {"id": 1, "data": {"video_url": "/data/upload/1/1a2b3c4d-room-7_clip.mp4"}}
    found = told(tmp_path, {**own, "annotations": [{"id": 1, "result": [old]}]})
    assert found.intervals == [(NIGHT, 1.25, 2.5, "fall"), (NIGHT, 1.25, 2.5, "lying")]


def test_a_task_of_a_whole_video_takes_its_frame_rate(tmp_path: Path) -> None:
    data = {"path": None, "video_id": None, "fps": None, "start_s": None}
    for address in (
        f"/data/local-files/?d=films/{HALL}",
        f"s3://ward/{HALL}",
        f"https://host/{HALL}?sig=1",
    ):
        found = told(tmp_path, task(region("a", "fall", 31, 60), **data, video=address))
        assert found.intervals == [(HALL, 1.0, 2.0, "fall")], address


def test_an_address_that_may_be_several_videos_is_reported(tmp_path: Path) -> None:
    data = {"path": None, "video_id": None}
    found = told(tmp_path, task(region("a", "fall", 1, 9), **data, video="x/08-15-00.mp4"))
    assert not found.statements
    assert "may be any of 2 videos" in found.problems[0].reason


@pytest.mark.parametrize(
    ("who", "annotator"),
    [
        ({"id": 4, "email": "ann@example.org"}, "ann@example.org"),
        ({"id": 4}, "label-studio/4"),
        (4, "label-studio/4"),
        ("ann@example.org", "ann@example.org"),
        (None, None),
    ],
)
def test_annotators_are_named_as_the_export_does(
    tmp_path: Path, who: Any, annotator: str | None
) -> None:
    labelled = task(region("a", "fall", 1, 10))
    labelled["annotations"][0]["completed_by"] = who
    assert told(tmp_path, labelled).statements[0].annotator == annotator


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"result": []}, "without any region"),
        ({"result": None}, "without any region"),
        ({"was_cancelled": True}, "skipped"),
        ({"result": region("a", "fall", 0, 3)}, "frames must be numbers from 1"),
        ({"result": region("a", "fall", 9, 3)}, "frames must be numbers from 1"),
        ({"result": [{"type": "videorectangle", "value": {"sequence": []}}]}, "is no interval"),
        ({"result": ["?"]}, "cannot be read"),
    ],
)
def test_what_says_nothing_is_reported(tmp_path: Path, change: dict[str, Any], part: str) -> None:
    labelled = task(region("a", "fall", 1, 10))
    labelled["annotations"][0] |= change
    found = told(tmp_path, labelled)
    assert not found.statements
    (problem,) = found.problems
    assert part in problem.reason
    assert problem.place.line == 7


@pytest.mark.parametrize("path", ["../../etc/x.mp4", "/etc/x.mp4", "a\\..\\x.mp4"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    labelled = task(region("a", "fall", 1, 10), path=path, video_id="unknown")
    found = told(tmp_path, labelled)
    assert not found.statements
    assert "leads out" in found.problems[0].reason


def test_drafts_and_other_files_are_reported(tmp_path: Path) -> None:
    labelled = task(region("a", "fall", 1, 10)) | {"drafts": [{"id": 1}]}
    found = told(tmp_path, labelled)
    assert len(found.statements) == 1
    assert "not submitted" in found.problems[0].reason
    other = read(tmp_path, "notes.json", '{"title": "notes"}')
    assert "neither an export of Label Studio nor" in other.problems[0].reason


def test_a_video_renamed_since_is_found_by_its_content(tmp_path: Path) -> None:
    labelled = task(region("a", "fall", 1, 10), path="old/name.mp4")
    assert told(tmp_path, labelled).statements[0].target == BED


def test_a_video_that_is_not_at_hand_keeps_its_path(tmp_path: Path) -> None:
    """It is not taken for another camera's film of the same minute."""
    absent = HALL.replace("cam-02", "cam-09")
    labelled = task(region("a", "fall", 1, 10), path=absent, video_id="unknown")
    found = read(tmp_path, "x.json", json.dumps([labelled]), films([HALL]))
    assert found.intervals == [(absent, 2.0, 3.0, "fall")]


@pytest.mark.parametrize("name", ["08-15-00.mp4", f"/home/ann/{HALL.replace('cam-02', 'cam-09')}"])
def test_a_name_by_the_clock_is_no_name(tmp_path: Path, name: str) -> None:
    data = {"path": None, "video_id": None}
    labelled = task(region("a", "fall", 1, 9), **data, video=name)
    found = read(tmp_path, "x.json", json.dumps([labelled]), films([HALL]))
    assert not found.statements
    assert "does not say which camera" in found.problems[0].reason
