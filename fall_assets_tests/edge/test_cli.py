"""The command on the box: what it says when it cannot, versions, and scoring files."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fall_assets.edge.cli import log_to_stderr, main
from fall_assets_tests.edge.boxes import new_box
from fall_assets_tests.footage.films import film


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_nothing_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "run" in capsys.readouterr().err


def test_versions(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--model", str(model_folder)]) == 0
    told = capsys.readouterr().out
    assert "fall-edge" in told
    assert "model 7" in told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda box: (box.folder / "token").chmod(0o644), "chmod 600"),
        (lambda box: (box.folder / "token").unlink(), "token"),
        (lambda box: (box.model / "model.json").unlink(), "model.json"),
        (lambda box: (box.folder / "edge.toml").write_text("x = 1"), "edge.toml lacks box"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: object,
    said: str,
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    box = new_box(tmp_path, model_folder, "http://127.0.0.1:1")
    box.camera("cam-1", "file:///none.mp4")
    config = box.write()
    assert callable(change)
    change(box)
    assert main(["run", "--config", str(config), "--model", str(box.model), "--once"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("fall-edge: ")
    assert said in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--cameras", "cam-9"], "no camera cam-9"), (["--cameras", ","], "none was named"),
     (["--once", "--cameras", "live"], "never ends")],
)  # fmt: skip
def test_cameras_that_are_not_there(
    tmp_path: Path,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    box = new_box(tmp_path, model_folder, "http://127.0.0.1:1")
    box.camera("cam-1", "file:///none.mp4").camera("live", "lavfi:testsrc")
    config = box.write()
    assert main(["run", "--config", str(config), "--model", str(box.model), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_scoring_files(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = film(tmp_path / "a.mp4", frames=25, fps=10), tmp_path / "b.mp4"
    bad.write_text("no film")
    for gate in ("open", "recorded", "live"):
        code = main(["score", str(good), "--model", str(model_folder), "--gate", gate, "--json"])
        assert code == 0
        told = json.loads(capsys.readouterr().out)
        assert told["file"] == str(good)
        assert len(told["score"]) == len(told["end_s"]) > 0
    assert main(["score", str(bad), str(good), "--model", str(model_folder)]) == 1
    shown = capsys.readouterr()
    assert "b.mp4" in shown.err
    assert f"{good}: " in shown.out


def test_log_lines_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    log = logging.getLogger("fall_assets.edge.test")
    log.warning("cam-1: %s", "two\nlines \x1b[31m and a colour")
    try:
        raise ValueError("with\na cause")
    except ValueError:
        log.exception("it failed")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("Z warning cam-1: two lines  [31m and a colour")
    assert "it failed | Traceback" in second


def test_the_command_starts_without_heavy_libraries() -> None:
    heavy = ("torch", "polars", "dagster", "mlflow", "scipy", "pyarrow", "pandas", "click")
    code = (
        "import sys; import fall_assets.edge.cli, fall_assets.edge.runner; "
        "fall_assets.edge.cli._parser(); "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
