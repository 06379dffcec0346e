"""A real runtime takes half a minute to build: `benchmarks.edge_package` does it.

Here it is a shell script; all around it is real.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fall_assets.delivery import edge_build, edge_licences
from fall_assets.delivery.edge_build import (
    BuiltPackage,
    EdgeBuildError,
    PackageVersions,
    build_package,
    build_runtime,
    runtime_id,
)
from fall_assets.delivery.edge_licences import LicenceError, parts_of
from fall_assets.edge.model import MODEL_FILE
from fall_assets.edge.package import EXECUTABLE, unpack, verify_package
from fall_assets.edge.parity import FileScores
from fall_assets.edge.self_test import SelfTestError, run_self_test
from fall_assets.features.settings import FeatureSettings
from fall_assets.learning.events import EventSettings
from fall_assets.learning.windows import WindowSettings

KEY = Ed25519PrivateKey.generate()
FOUND = {"end_s": [4.0, 5.0], "score": [0.25, 0.75], "track": [0, 0], "events": []}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that says which model it is; its networks are not asked here."""
    from dataclasses import asdict

    folder, features = tmp_path / "model", FeatureSettings()
    folder.mkdir()
    for name in ("head.onnx", "pose.tflite"):
        (folder / name).write_bytes(b"network")
    content = {
        "format": 1,
        "model_version": "7",
        "feature_set": features.as_dict(),
        "feature_set_version": features.version,
        "windows": asdict(WindowSettings()),
        "events": asdict(EventSettings()),
        "head": {"file": "head.onnx", "sha256": "0" * 64, "precision": "float32"},
        "pose": {"file": "pose.tflite", "sha256": features.pose.network},
    }
    (folder / MODEL_FILE).write_text(json.dumps(content))
    return folder


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "runtime"
    program = folder / EXECUTABLE
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{json.dumps(FOUND)}'\n")
    program.chmod(0o755)
    (folder / "licences").mkdir()
    (folder / "licences" / "python.txt").write_text("text")
    (folder / "licences" / "licences.json").write_text(
        '[{"name": "python", "version": "3", "licence": "PSF-2.0", "files": ["python.txt"]}]'
    )
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"film")
    return path


def _build(model: Path, runtime: Path, clip: Path, out: Path, **more: object) -> BuiltPackage:
    usual: dict[str, object] = {
        "sequence": 3,
        "versions": PackageVersions("7", FeatureSettings().version, "0.1.0+abc"),
        "key": KEY,
        "clip": clip,
        "created": datetime(2026, 3, 1, tzinfo=UTC),
    }
    return build_package(model, runtime, out, **{**usual, **more})  # type: ignore[arg-type]


def test_a_package_holds_what_it_must_and_a_box_takes_it(
    model: Path, runtime: Path, clip: Path, tmp_path: Path
) -> None:
    built = _build(model, runtime, clip, tmp_path / "out")
    found = unpack(built.archive, tmp_path / "box", [KEY.public_key()])
    assert found.sha256 == built.manifest_sha256
    assert (found.sequence, found.model_version) == (3, "7")
    assert built.archive_size == built.archive.stat().st_size
    paths = {file.path for file in found.files}
    assert paths == {
        EXECUTABLE, "model/model.json", "model/head.onnx", "model/pose.tflite",
        "self-test/clip.mp4", "self-test/expected.json", "licences/python.txt",
        "licences/licences.json",
    }  # fmt: skip
    assert [file.path for file in found.files if file.executable] == [EXECUTABLE]
    assert {licence.file for licence in found.licences} <= paths
    expected = json.loads((tmp_path / "box/self-test/expected.json").read_text())
    assert expected["package"] == FOUND
    assert expected["training"] is None


def test_the_same_inputs_give_the_same_archive(
    model: Path, runtime: Path, clip: Path, tmp_path: Path
) -> None:
    one, other = (_build(model, runtime, clip, tmp_path / name) for name in ("one", "other"))
    assert one.archive_sha256 == other.archive_sha256
    assert one.manifest_sha256 == other.manifest_sha256


def test_the_training_frameworks_scores_are_kept_and_must_agree(
    model: Path, runtime: Path, clip: Path, tmp_path: Path
) -> None:
    def framework(off: float) -> FileScores:
        return FileScores.from_dict({**FOUND, "score": [0.25, 0.75 + off]})

    built = _build(model, runtime, clip, tmp_path / "one", framework=lambda _: framework(9e-5))
    assert built.self_test["training"]["score"][1] == pytest.approx(0.75009)
    with pytest.raises(EdgeBuildError, match="at 5 s"):
        _build(model, runtime, clip, tmp_path / "two", framework=lambda _: framework(2e-4))
    assert not list((tmp_path / "two").glob("*.tar.gz"))


@pytest.mark.parametrize(
    ("program", "match"),
    [
        ("exit 3", "failed"),
        ("echo '{}'", "no readable scores"),
        ('echo \'{"end_s": [], "score": [], "track": [], "events": []}\'', "no window"),
    ],
)
def test_a_program_that_does_not_score_gives_no_package(
    program: str, match: str, model: Path, runtime: Path, clip: Path, tmp_path: Path
) -> None:
    (runtime / EXECUTABLE).write_text(f"#!/bin/sh\n{program}\n")
    with pytest.raises(EdgeBuildError, match=match):
        _build(model, runtime, clip, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar.gz"))


def test_versions_must_be_those_of_the_model(
    model: Path, runtime: Path, clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgeBuildError, match="holds model 7"):
        _build(
            model, runtime, clip, tmp_path / "out",
            versions=PackageVersions("8", FeatureSettings().version, "0"),
        )  # fmt: skip


def test_a_package_that_grew_too_large_is_not_made(
    model: Path, runtime: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_build, "MAX_PACKAGE_BYTES", 100)
    with pytest.raises(EdgeBuildError, match="MB"):
        _build(model, runtime, clip, tmp_path / "out")


def test_the_caches_runtime_is_used_while_its_inputs_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyInstaller's part is replaced; what decides whether it is called is real."""
    calls = []

    def freeze(work: Path) -> Mapping[str, str]:
        calls.append(work)
        program = work / "dist" / "fall-edge" / "fall-edge"
        program.parent.mkdir(parents=True)
        program.write_text("program")
        (program.parent / "_internal").mkdir()
        (program.parent / "_internal" / "libpython3.11.so.1.0").write_text("python")
        (program.parent / "_internal" / "libz.so.1").symlink_to("libpython3.11.so.1.0")
        (program.parent / "_internal" / "libc.so.6").write_text("the box has its own")
        source = Path(edge_build.__file__).parents[1] / "errors.py"
        return {"fall_assets.errors": str(source), "json": json.__file__}

    monkeypatch.setattr(edge_build, "_freeze", freeze)
    said: list[str] = []

    def build() -> Path:
        return build_runtime(tmp_path / "runtime", cache=tmp_path / "cache", log=said.append)

    one = runtime_id(build())
    assert runtime_id(build()) == one
    assert len(calls) == 1
    assert any("built already" in line for line in said)
    names = [path.name for path in (tmp_path / "runtime/fall-edge").rglob("*")]
    # No links, nothing of glibc.
    assert sorted(names) == ["_internal", "fall-edge", "libpython3.11.so.1.0"]

    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "99" if name == "numpy" else real(name)
    )
    assert runtime_id(build()) != one
    assert len(calls) == 2
    listed = json.loads((tmp_path / "runtime/licences/licences.json").read_text())
    assert {"python", "fall-assets", "movenet-multipose", "pyinstaller"} <= {
        part["name"] for part in listed
    }
    assert all((tmp_path / "runtime/licences" / name).stat().st_size > 100
               for part in listed for name in part["files"])  # fmt: skip


def test_what_must_not_be_inside_fails_the_build(tmp_path: Path) -> None:
    for module in ("torch.nn", "polars", "PIL.Image", "dagster"):
        with pytest.raises(EdgeBuildError, match=module.split(".")[0]):
            edge_build._check_modules({"json": "", module: ""})
    edge_build._check_modules({"json.decoder": "", "fall_assets.errors": "", "numpy": ""})


def test_every_distribution_and_library_has_a_licence_text() -> None:
    import av

    bundled = Path(av.__file__).parents[1] / "av.libs"
    files = [f"av.libs/{path.name}" for path in bundled.iterdir()]
    files += ["libssl.so.3", "libstdc++.so.6", "python3.11/lib-dynload/_decimal.so"]
    modules = {
        name: f"/{name}.py" for name in ("ai_edge_litert.interpreter", "cryptography", "psutil")
    }
    parts = {part.name: part for part in parts_of(files, modules)}
    assert {
        "ai-edge-litert", "cryptography", "ffmpeg", "gcc-runtime", "movenet-multipose",
        "mpdecimal", "openssl", "psutil", "python", "x264", "x265",
    } <= set(parts)  # fmt: skip
    assert all(text.stat().st_size for part in parts.values() for text in part.texts)


def test_what_nobody_is_known_to_own_fails_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LicenceError, match=r"libsecret-1\.so"):
        parts_of(["av.libs/libsecret-1.so.3"], {})
    with pytest.raises(LicenceError, match="strange"):
        parts_of([], {"strange.module": "/strange.py"})
    monkeypatch.setattr(edge_licences, "_WITHOUT_TEXT", {})
    with pytest.raises(LicenceError, match="ai-edge-litert"):
        parts_of([], {"ai_edge_litert": "/x.py"})


def test_a_self_test_notices_other_scores(
    model: Path, runtime: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = _build(model, runtime, clip, tmp_path / "out")
    scores = {"off": 0.0}

    def measured(_: Path) -> FileScores:
        return FileScores.from_dict({**FOUND, "score": [0.25, 0.75 + scores["off"]]})

    monkeypatch.setattr("fall_assets.edge.self_test.measure", measured)
    assert run_self_test(built.directory).windows == 2
    scores["off"] = 0.02
    with pytest.raises(SelfTestError, match="at 5 s"):
        run_self_test(built.directory)
    verify_package(built.directory, [KEY.public_key()])
