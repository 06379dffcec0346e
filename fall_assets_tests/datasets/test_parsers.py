"""No text in a label file stops the reading: it gives statements and problems, never an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fall_assets.datasets import DATASETS
from fall_assets.labelling.files import dataset_statements, label_files
from fall_assets.labelling.readers import read_labels
from fall_assets.labelling.statements import Problem, Statement
from fall_assets_tests.datasets.trees import lay, read
from fall_assets_tests.labelling.rows import videos

FALL = "caucafall/Subject.1/Fall left"
LABEL_FILES = {
    "urfd": "urfd/urfall-cam0-falls.csv",
    "gmdcsa24": "gmdcsa24/Subject 1/Fall.csv",
    "up_fall": "up_fall/Subject1/Activity1/Trial1/Subject1Activity1Trial1.csv",
    "le2i": "le2i/Office/Annotation_files/video (1).txt",
    "caucafall": f"{FALL}/classes.txt",
    "omnifall": "omnifall/labels/le2i.csv",
}
VIDEOS = (
    "urfd/fall-01-cam0.mp4",
    "gmdcsa24/Subject 1/Fall/01.mp4",
    "up_fall/Subject1/Activity1/Trial1/Camera1.mp4",
    "up_fall/Subject1/Activity7/Trial1/Camera1.mp4",
    "le2i/Office/video (1).avi",
    f"{FALL}/FallLeftS1.avi",
)
HEADERS = {
    "urfd": "Sequence Name,Frame #,Label",
    "gmdcsa24": "File Name,Length (seconds),Classes",
    "up_fall": "TimeStamps,Subject,Activity,Trial,Tag",
    "le2i": "12",
    "caucafall": "nofall",
    "omnifall": "path,label,start,end,subject,cam,dataset",
}

CELL = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "", "0", "1", "-1", "2", "1e400", "nan", "inf", "-0.5", "٣", "99999999999999999999",
            "fall-01", "01.mp4", "Falling [0 to 2]; Sitting[2 to", "2018-07-04T12:04:17.738369",
            "2018-07-04T12:04:17+02:00", "Office/video_1", "../../x", "le2i", "GMDCSA24", '"',
            "0 0.5 0.5 0.1 0.1", "\x00", "\ufeff", "\udcff".encode("utf-8", "replace").decode(),
        ]
    ),
)  # fmt: skip
LINE = st.lists(CELL, max_size=8).map(",".join)
CONTENT = st.one_of(
    st.binary(max_size=300),
    st.lists(LINE, max_size=12).map(lambda lines: "\n".join(lines).encode()),
)


def test_every_own_label_format_is_tried() -> None:
    assert set(LABEL_FILES) == {name for name, x in DATASETS.items() if x.own_labels is not None}


@pytest.mark.parametrize("name", LABEL_FILES)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(CONTENT, st.booleans())
def test_no_content_stops_the_reading(
    tmp_path: Path, name: str, content: bytes, headed: bool
) -> None:
    lay(tmp_path, *VIDEOS)
    path = tmp_path / LABEL_FILES[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEADERS[name].encode() + b"\n" + content if headed else content)
    # In CAUCAFall's folders each frame has a file of its own.
    (tmp_path / FALL).mkdir(parents=True, exist_ok=True)
    (tmp_path / FALL / "cis100001.txt").write_bytes(content)
    (tmp_path / FALL / "cis100002.txt").write_bytes(b"1 0.5 0.5 0.1 0.1")
    assert path in label_files(tmp_path)
    items = list(dataset_statements(tmp_path, name))
    assert all(isinstance(item, Statement | Problem) for item in items)
    for item in items:
        assert item.place.line >= 1
        if isinstance(item, Problem):
            assert item.reason
    reading = read(tmp_path)
    assert reading.labels.filter(reading.labels["end_s"] <= reading.labels["start_s"]).is_empty()


@pytest.mark.parametrize("name", [name for name in LABEL_FILES if name != "caucafall"])
def test_what_is_no_file_is_no_label_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / LABEL_FILES[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    assert list(dataset_statements(tmp_path, name)) == []
    path.unlink()
    path.mkdir()
    assert list(dataset_statements(tmp_path, name)) == []


@pytest.mark.parametrize(
    "path",
    [
        b"up_fall/\xff/Subject1Activity1Trial1Camera1.mp4",
        b"caucafall/\xff/Dance/classes.txt",
        b"omnifall/labels/\xff.csv",
        b"le2i/\xff/Kitchen/Annotation_files/video (1).txt",
        b"labels/\xff.csv",
    ],
)
def test_names_that_are_no_text_are_shown_escaped(path: bytes, tmp_path: Path) -> None:
    named = os.fsencode(tmp_path) + b"/" + path
    Path(os.fsdecode(named)).parent.mkdir(parents=True)
    Path(os.fsdecode(named)).write_bytes(b"a,b\n1,2\n")
    (file,) = read_labels(tmp_path, videos()).problems["file"]
    assert file == path.decode("utf-8", "backslashreplace")
