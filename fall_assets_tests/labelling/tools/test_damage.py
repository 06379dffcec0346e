"""Whatever stands in a label file: no reader raises, and nothing is dropped without a word."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.labelling.statements import Problem
from fall_assets.labelling.tools import base, reader_for
from fall_assets_tests.labelling.tools.scenario import EXPORTS, films, read

FILES = sorted(EXPORTS.iterdir())

WORDS = """
id data annotations completions result value ranges start end timelinelabels labels type fps path
start_s video completed_by project metadata view file vid z av choices annotation_id attribute
fid_list from_name drafts zone number
"""

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["fall", "timelinelabels", "x.mp4", "cam-01", "../x", "", "7", "\x00"])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS.split()),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


def everything(folder: Path, name: str, content: bytes) -> int:
    """How many things a file says, right or wrong; 0 where it is no tool's file."""
    (folder / "labels").mkdir(exist_ok=True)
    path = folder / "labels" / name
    path.write_bytes(content)
    reader = reader_for(path)
    items = [] if reader is None else list(reader(folder, path, films()))
    assert len({(x.place.line, x.place.part) for x in items}) == len(items)
    return len(items)


@settings(max_examples=150, deadline=None)
@given(content=JSON)
def test_no_json_raises(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    folder = tmp_path_factory.getbasetemp()
    everything(folder, "a.json", json.dumps(content).encode())
    task = {"id": 1, "data": content, "annotations": [{"id": 1, "result": content}]}
    assert everything(folder, "a.json", json.dumps([task]).encode()) >= 1
    region = {"id": "a", "type": "timelinelabels", "value": content}
    task = {"data": {"path": "x.mp4", "fps": 5}, "annotations": [{"result": [region]}]}
    everything(folder, "a.json", json.dumps(task).encode())
    project = {"project": {}, "view": {}, "file": {}, "metadata": {"m": content}}
    assert everything(folder, "a.json", json.dumps(project).encode()) >= 1


@settings(max_examples=150, deadline=None)
@given(data=st.data(), path=st.sampled_from(FILES))
def test_no_damage_raises(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, path: Path
) -> None:
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 200)))
    put = data.draw(st.binary(max_size=20))
    everything(tmp_path_factory.getbasetemp(), path.name, content[:start] + put + content[end:])


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=200), suffix=st.sampled_from(["json", "xml", "eaf", "csv", "txt"]))
def test_no_text_raises(tmp_path_factory: pytest.TempPathFactory, text: str, suffix: str) -> None:
    content = text.encode("utf-8", "surrogatepass")
    count = everything(tmp_path_factory.getbasetemp(), f"a.{suffix}", content)
    if suffix in ("json", "xml", "eaf"):
        assert count >= 1 or text.strip() in ("[]", "{}")


def test_deep_nesting_is_reported(tmp_path: Path) -> None:
    found = read(tmp_path, "deep.json", "[" * 200_000)
    assert "not JSON that can be read" in found.problems[0].reason
    numbers = read(tmp_path, "long.json", "[" + "1" * 10_000 + "]")
    assert len(numbers.problems) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_unreadable_files_are_reported(tmp_path: Path, path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    copy.chmod(0)
    reader = reader_for(copy)
    assert reader is not None
    (problem,) = reader(tmp_path, copy, films())
    assert isinstance(problem, Problem)
    assert "permissions" in problem.reason


def test_large_files_are_not_started_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fall_assets.labelling.tools.MAX_BYTES", 100)
    for path in FILES:
        found = read(tmp_path, path.name, path.read_bytes())
        assert not found.statements
        assert "export it in parts" in found.problems[0].reason
    assert base.MAX_BYTES > 2**20
