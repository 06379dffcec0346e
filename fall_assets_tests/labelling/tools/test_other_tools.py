"""CVAT, VIA and ELAN: exports in the tools' own formats become intervals."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.labelling.tools import Films, reader_for
from fall_assets_tests.labelling.tools.scenario import BED, EXPORTS, HALL, NIGHT, films, read

TASK = "cam-01_08-15-00.mp4"


def known() -> Films:
    return films(["ward/" + TASK, NIGHT])


def test_cvat_tracks_become_intervals(tmp_path: Path) -> None:
    found = read(tmp_path, "cvat.xml", (EXPORTS / "cvat.xml").read_bytes(), known())
    assert not found.problems
    film = f"ward/{TASK}"
    # 25 frames a second; the task shows every fifth frame, frames are counted in the video.
    assert found.intervals == [
        (film, 2.0, 3.2, "fall"),
        (film, 4.0, 4.2, "fall"),
        (film, 0.0, 1.0, "walking"),
        (film, 1.0, 1.6, "sitting_down"),
        (film, 5.6, 6.0, "lying_after_fall"),
    ]
    assert [x.track for x in found.statements] == [0, 0, 1, 1, 2]
    assert [x.zone for x in found.statements] == [None, None, None, "chair", None]
    assert [x.source for x in found.statements] == ["reviewer"] * 4 + ["auto"]
    assert {x.annotator for x in found.statements} == {"anna"}
    assert all(x.stated_utc is not None for x in found.statements)
    assert [x.place.line for x in found.statements] == [1, 1, 2, 2, 3]


@settings(max_examples=50, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 1400), st.integers(1, 60)), min_size=1, max_size=5),
    step=st.sampled_from([1, 2, 5]),
)
def test_cvat_tracks_come_back_within_a_frame(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int]], step: int
) -> None:
    """Each track as the exporter writes it: a shape per shown frame, then one outside."""
    tracks = ""
    for number, (first, length) in enumerate(spans):
        shown = [first * step + k * step for k in range(length)]
        shapes = "".join(f'<box frame="{f}" keyframe="0" outside="0"/>' for f in shown)
        shapes += f'<box frame="{shown[-1] + step}" keyframe="1" outside="1"/>'
        tracks += f'<track id="{number}" label="fall" source="manual">{shapes}</track>'
    text = (
        f"<annotations><version>1.1</version><meta><task><frame_filter>step={step}</frame_filter>"
        f"</task><source>room-7_clip.mp4</source></meta>{tracks}</annotations>"
    )
    found = read(tmp_path_factory.mktemp("cvat"), "x.xml", text)
    assert not found.problems
    assert [x[0::3] for x in found.intervals] == [(NIGHT, "fall")] * len(spans)
    times = [x[1:3] for x in found.intervals]
    assert times == [(round(a * step / 10, 6), round((a + n) * step / 10, 6)) for a, n in spans]


def test_cvat_projects_name_a_video_per_task(tmp_path: Path) -> None:
    text = f"""<annotations><meta><project><tasks>
    <task><id>4</id><source>{BED}</source></task><task><id>5</id><source>{HALL}</source></task>
    </tasks></project></meta>
    <track id="0" label="fall" task_id="5" source="manual">
    <box frame="30" outside="0"/><box frame="60" outside="1"/></track>
    <track id="1" label="fall" task_id="4" source="manual">
    <box frame="25" outside="0"/><box frame="50" outside="1"/></track></annotations>"""
    assert read(tmp_path, "x.xml", text).intervals == [
        (HALL, 1.0, 2.0, "fall"),
        (BED, 1.0, 2.0, "fall"),
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("<annotations><image id='0' name='a.png'/></annotations>", "CVAT for images"),
        ("<annotations><track id='0' label='fall'/></annotations>", "does not name its video"),
        ("<html/>", "neither CVAT"),
        ("no XML", "not XML"),
        ("", "not XML"),
        ("<annotations><track", "not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>', "declares entities"),
        (
            '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotations>&b;</annotations>',
            "declares entities",
        ),
        ("<annotations>" * 100 + "</annotations>" * 100, "nested"),
    ],
)
def test_xml_that_cannot_be_used_is_reported(tmp_path: Path, text: str, part: str) -> None:
    found = read(tmp_path, "x.xml", text)
    assert not found.statements
    assert part in found.problems[-1].reason


def test_what_stands_before_the_damage_is_kept(tmp_path: Path) -> None:
    whole = (EXPORTS / "cvat.xml").read_text()
    cut = whole[: whole.index('<track id="2"') + 30]
    found = read(tmp_path, "cvat.xml", cut, known())
    assert len(found.statements) == 4
    assert "not XML" in found.problems[-1].reason


def test_via_segments_become_intervals(tmp_path: Path) -> None:
    found = read(tmp_path, "via.csv", (EXPORTS / "via.csv").read_bytes())
    assert found.intervals == [(NIGHT, 0.5, 4.25, "walking"), (NIGHT, 4.25, 5.5, "fall")]
    assert [(x.zone, x.subject) for x in found.statements] == [(None, None), ("floor", "patient")]
    assert [(x.place.line, x.reason.split(";")[0]) for x in found.problems] == [
        (13, "no temporal segment: it needs a start and an end in seconds"),
        (14, "the segment has no label"),
        (15, "there is no video 'elsewhere.mp4'"),
    ]


def test_a_via_project_says_the_same_as_its_csv(tmp_path: Path) -> None:
    table = read(tmp_path, "via.csv", (EXPORTS / "via.csv").read_bytes())
    project = read(tmp_path, "via.json", (EXPORTS / "via.json").read_bytes())
    assert project.intervals == table.intervals
    assert [x.zone for x in project.statements] == [None, "floor"]
    assert ["no temporal segment" in x.reason for x in project.problems] == [True]


def test_elan_text_becomes_intervals(tmp_path: Path) -> None:
    found = read(tmp_path, "morning.txt", (EXPORTS / "elan.txt").read_bytes())
    assert not found.problems
    assert found.intervals == [
        (NIGHT, 0.5, 4.25, "walking"),
        (NIGHT, 4.25, 5.5, "fall"),
        (NIGHT, 30.0, 40.12, "bending"),
    ]
    assert [x.subject for x in found.statements] == ["P1", "P1", None]


def test_elan_text_with_a_column_per_tier(tmp_path: Path) -> None:
    found = read(tmp_path, "all.txt", (EXPORTS / "elan_columns.txt").read_bytes())
    assert found.intervals == [
        (NIGHT, 0.5, 4.25, "walking"),
        (NIGHT, 4.25, 5.5, "fall"),
        (NIGHT, 4.25, 5.5, "standing"),
    ]


@pytest.mark.parametrize(
    "row",
    [
        "a\t00:00:01.500\t00:00:02.750\t00:00:01.250\tfall",
        "a\t1.5\t2.75\t1.25\tfall",
        "a\t1500\t2750\t1250\tfall",
        "a\t1.5\t2.75\tfall",
        "a\tP\t00:00:01.500\t1.5\t1500\t00:00:02.750\t2.75\t2750\tfall",
        "00:00:01.500\t00:00:02.750\tfall",
    ],
)
def test_elan_text_in_any_choice_of_columns(tmp_path: Path, row: str) -> None:
    found = read(tmp_path, "room-7_clip.txt", row + "\n")
    assert found.intervals == [(NIGHT, 1.5, 2.75, "fall")]


def test_an_elan_text_must_tell_its_video(tmp_path: Path) -> None:
    found = read(tmp_path, "mine.txt", "a\t1.5\t2.75\tfall\n")
    assert not found.statements
    assert "does not say which video" in found.problems[0].reason


def test_elan_documents_become_intervals(tmp_path: Path) -> None:
    found = read(tmp_path, "room.eaf", (EXPORTS / "elan.eaf").read_bytes())
    assert found.intervals == [(NIGHT, 0.5, 4.25, "walking"), (NIGHT, 4.25, 5.5, "fall")]
    assert [(x.annotator, x.subject) for x in found.statements] == [("anna", "patient")] * 2
    assert [x.zone for x in found.statements] == [None, "floor"]
    assert [x.reason for x in found.problems] == [
        "'lying' on tier activity has no times of its own; align it",
        "it has no text on tier activity; write its label",
    ]


def test_a_film_that_starts_within_the_timeline_is_counted_from_its_start(tmp_path: Path) -> None:
    text = (EXPORTS / "elan.eaf").read_text()
    text = text.replace("<MEDIA_DESCRIPTOR", '<MEDIA_DESCRIPTOR TIME_ORIGIN="2000"')
    found = read(tmp_path, "room.eaf", text)
    assert found.intervals[0] == (NIGHT, 2.5, 6.25, "walking")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("own.csv", "file,start_s,end_s,label,source\ncam/x.mp4,1.5,2.75,fall,reviewer\n"),
        ("headless.csv", "cam/x.mp4,1.5,2.75,fall,reviewer\n"),
        ("README.txt", "Labels of ward 3.\n\nAnna labels 10 minutes, Ben 20 30.\n"),
        ("empty.txt", ""),
        ("table.csv", ""),
        ("labels.ods", "anything"),
    ],
)
def test_files_of_no_tool_are_left_alone(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert reader_for(tmp_path / name) is None
