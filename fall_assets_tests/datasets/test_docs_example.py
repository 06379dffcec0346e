"""The example in docs/datasets.md does what the page says."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from fall_assets.commands.labels import report_lines
from fall_assets.datasets import DATASETS
from fall_assets_tests.datasets.trees import lay, read, rows, write

PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"


def block(name: str) -> str:
    """The content of the page's block whose first line ends in this name."""
    text = PAGE.read_text(encoding="utf-8")
    (content,) = re.findall(rf"^```\w+ {name}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(content)


def test_the_example_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module_path = write(tmp_path, "package/sofa_falls.py", *block("module").splitlines())
    spec = importlib.util.spec_from_file_location("sofa_falls", module_path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "sofa_falls", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(DATASETS, module.DATASET.name, module.DATASET)
    landing = tmp_path / "landing"
    lay(landing, *block("tree").splitlines())
    write(landing, "sofa_falls/times.csv", *block("times").splitlines())
    reading = read(landing, duration_s=9.0)
    told = list(report_lines(rows(landing, 9.0), reading.labels, reading.problems))
    assert told == block("report").splitlines()


def test_every_data_set_has_a_row_in_the_docs() -> None:
    footage = (PAGE.parent / "footage.md").read_text(encoding="utf-8")
    assert [name for name in DATASETS if f"| `{name}` |" not in footage] == []
