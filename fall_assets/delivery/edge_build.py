"""An edge package from a model folder: freezes the runtime, writes, signs and archives the package.

What belongs here: PyInstaller, what is left out of the runtime, the package's folder and archive.
What does not: the model folder (`onnx_export`), what a box does with a package (`edge.package`),
whose licences are inside (`edge_licences`).

The runtime is the same for all models, so it is built once and kept under a hash of everything it
was made from: our modules, the versions of the wheels, Python. What is not named in `_KEPT` stays
out of it: the environment that builds it holds torch and much else, and PyInstaller follows every
import that it sees.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import fall_assets
from fall_assets.delivery.edge_licences import Part, parts_of
from fall_assets.edge.model import read_info
from fall_assets.edge.package import (
    EXECUTABLE,
    LICENCES_FOLDER,
    MANIFEST,
    MODEL_FOLDER,
    SELF_TEST_FOLDER,
    SIGNATURE,
    Licence,
    Manifest,
    PackageFile,
    this_platform,
    verify_package,
    write_archive,
)
from fall_assets.edge.parity import FileScores, compare
from fall_assets.edge.self_test import CLIP, EXPECTED, FORMAT, TOLERANCE
from fall_assets.edge.signing import sign
from fall_assets.errors import PassingFailureError, PermanentFailureError

Say = Callable[[str], None]

MAX_PACKAGE_BYTES: Final = 250_000_000
"""What a package may have unpacked."""

_ROOT: Final = Path(fall_assets.__file__).resolve().parents[1]
_ENTRY: Final = Path(__file__).with_name("edge_entry.py")
_NAME: Final = "fall-edge"
_INPUTS: Final = "inputs.json"
_KEPT: Final = (
    "ai_edge_litert", "av", "cryptography", "_cffi_backend", "fall_assets", "numpy", "onnxruntime",
    "psutil",
)  # fmt: skip
"""What the runtime may import beside the standard library."""
_LEFT_OUT: Final = (
    # Of Python: screens, tools, test suites.
    "curses", "ensurepip", "idlelib", "lib2to3", "pdb", "pydoc", "pydoc_data", "readline", "test",
    "tkinter", "turtle", "turtledemo", "_tkinter",
    # Ours: the platform's side, which type checkers alone follow from the box's.
    *(
        f"fall_assets.{name}"
        for name in (
            "assets", "automation", "checks", "cli", "commands", "datasets", "definitions", "drift",
            "gateway", "jobs", "labelling", "lake", "partitions", "pipeline", "resources",
            "simulation", "site",
        )
    ),
    "fall_assets.delivery.edge_build", "fall_assets.delivery.edge_licences",
    "fall_assets.delivery.gate", "fall_assets.delivery.gateway",
    # Of the wheels: converting, training, compiling and testing.
    "ai_edge_litert.aot", "ai_edge_litert.tools", "ai_edge_litert.vendors",
    "numpy.distutils", "numpy.f2py", "numpy.testing.tests",
    "onnxruntime.backend", "onnxruntime.datasets", "onnxruntime.quantization", "onnxruntime.tools",
    "onnxruntime.transformers",
)  # fmt: skip
# glibc's own: must be the box's, as all of glibc.
_OF_THE_BOX: Final = re.compile(r"(ld-linux|lib(c|m|mvec|dl|pthread|rt|resolv|util|nsl|anl)\.so)")
_NOT_NEEDED: Final = re.compile(r"LiteRtWebGpuAccelerator|\.dist-info/|__pycache__|\.pyi$|\.a$")
_BUILD_LIMIT_S: Final = 1800
_RUN_LIMIT_S: Final = 300
# C extensions import these where no analysis sees it; what they import in turn is asked of a
# process that loads all of it.
_LOADED: Final = (
    "import importlib, json, pkgutil, sys\n"
    "import ai_edge_litert.interpreter, av, numpy, onnxruntime, psutil, sqlite3, ssl\n"
    "import cryptography.hazmat.primitives.asymmetric.ed25519\n"
    "import cryptography.hazmat.primitives.serialization\n"
    "import fall_assets.edge\n"
    "for one in pkgutil.iter_modules(fall_assets.edge.__path__, 'fall_assets.edge.'):\n"
    "    if not one.name.endswith('__main__'):\n"
    "        importlib.import_module(one.name)\n"
    "print(json.dumps(sorted(sys.modules)))\n"
)


class EdgeBuildError(PermanentFailureError):
    """The package cannot be built; the message says what to do."""


@dataclass(frozen=True)
class PackageVersions:
    """Which model, which feature set, which code a package is made of."""

    model: str
    feature_set: str
    code: str


@dataclass(frozen=True)
class BuiltPackage:
    """A package: its directory, its archive, and what names them; sizes in bytes."""

    directory: Path
    archive: Path
    archive_sha256: str
    archive_size: int
    manifest: Manifest
    manifest_sha256: str
    size: int
    self_test: Mapping[str, Any]


def build_runtime(folder: Path, *, cache: Path, log: Say) -> Path:
    """The frozen runtime at `folder`, built only where the cache does not hold it.

    Args:
        folder: where it shall be; replaced. It is a copy (of hard links) of the cached one.
        cache: folder that keeps runtimes; the last three stay.
        log: takes lines that say how far it is.

    Returns:
        `folder`, with `fall-edge/` (the runtime) and `inputs.json` (what it was made from).

    Raises:
        PassingFailureError: our code was changed meanwhile.
        EdgeBuildError: PyInstaller or binutils is missing or fails, or the runtime would hold
            something that it must not.
        LicenceError: something inside has no licence text.
    """
    cache.mkdir(parents=True, exist_ok=True)
    kept = _cached(cache)
    if kept is None:
        kept = _build(cache, log)
    else:
        log(f"the runtime {kept.name} is built already")
    kept.touch()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder, copy_function=_link_or_copy)
    for old in sorted(_runtimes(cache), key=lambda one: one.stat().st_mtime)[:-3]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def runtime_id(runtime: Path) -> str:
    """What names a runtime: a hash of everything it was made from, in hex.

    Raises:
        EdgeBuildError: this is no folder that `build_runtime` gave.
    """
    try:
        content = json.loads((runtime / _INPUTS).read_text("utf-8"))
        return _digest({name: content[name] for name in content if name != "made"})
    except (OSError, ValueError) as error:
        raise EdgeBuildError(f"{runtime} is no runtime: {error}") from error


def build_package(
    model_folder: Path,
    runtime: Path,
    out: Path,
    *,
    sequence: int,
    versions: PackageVersions,
    key: Ed25519PrivateKey,
    clip: Path | None = None,
    framework: Callable[[Path], FileScores] | None = None,
    created: datetime | None = None,
    log: Say = lambda _: None,
) -> BuiltPackage:
    """Write, test, sign and archive a package.

    Args:
        model_folder: as `onnx_export.write_model` makes it.
        runtime: as `build_runtime` gives it.
        out: folder to write into: the package's directory and `NAME.tar.gz` beside it.
        sequence: grows with each package; boxes refuse a lower one.
        versions: what it is made of; must be what the model folder says.
        key: signs the manifest.
        clip: for the self-test; None: a fall that is drawn by the simulation.
        framework: scores the clip with what was trained; kept beside the package's own scores,
            which must agree within `parity.TOLERANCE`.
        created: time in the manifest; None: now.
        log: takes lines that say how far it is.

    Raises:
        EdgeBuildError: the versions differ, the package does not run or disagrees with the
            framework, or it is over MAX_PACKAGE_BYTES.
    """
    info = read_info(model_folder)
    if (info.model_version, info.feature_set_version) != (versions.model, versions.feature_set):
        raise EdgeBuildError(
            f"{model_folder} holds model {info.model_version} of feature set "
            f"{info.feature_set_version}, wanted {versions.model} and {versions.feature_set}"
        )
    name = f"{_NAME}-{sequence}-{re.sub(r'[^A-Za-z0-9._-]+', '-', versions.model)[:40]}"
    folder, archive = out / name, out / f"{name}.tar.gz"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(runtime / _NAME, folder / _NAME)
    shutil.copytree(model_folder, folder / MODEL_FOLDER)
    licences = _write_licences(runtime, folder / LICENCES_FOLDER)
    log("drawing the self-test's fall" if clip is None else "testing the package")
    expected = _write_self_test(folder, clip, framework)
    created = created or datetime.now(UTC)
    manifest = Manifest(
        sequence=sequence,
        model_version=versions.model,
        feature_set_version=versions.feature_set,
        code_version=versions.code,
        platform=this_platform(),
        created_utc=created.astimezone(UTC).isoformat(timespec="seconds"),
        files=tuple(_files(folder)),
        licences=tuple(licences),
    )
    if manifest.size > MAX_PACKAGE_BYTES:
        raise EdgeBuildError(
            f"the package has {manifest.size / 1e6:.0f} MB, over {MAX_PACKAGE_BYTES / 1e6:.0f}; "
            "see what grew: du -a | sort -n"
        )
    content = manifest.to_bytes()
    (folder / MANIFEST).write_bytes(content)
    (folder / SIGNATURE).write_bytes(sign(content, key))
    log(f"packing {manifest.size / 1e6:.0f} MB")
    sha256 = write_archive(folder, archive)
    # The way that a box goes, with the key that a box has.
    verify_package(archive, [key.public_key()])
    verified = verify_package(folder, [key.public_key()])
    log(f"{archive.name}: {archive.stat().st_size / 1e6:.0f} MB, {sha256[:16]}")
    return BuiltPackage(
        directory=folder,
        archive=archive,
        archive_sha256=sha256,
        archive_size=archive.stat().st_size,
        manifest=verified,
        manifest_sha256=verified.sha256,
        size=manifest.size,
        self_test=expected,
    )


# The runtime.


def _runtimes(cache: Path) -> list[Path]:
    return [one.parent for one in cache.glob(f"*/{_INPUTS}")]


def _cached(cache: Path) -> Path | None:
    """A runtime that today's sources would give."""
    for folder in _runtimes(cache):
        try:
            inputs = json.loads((folder / _INPUTS).read_text("utf-8"))
            if inputs == _inputs(inputs["sources"]) | {"made": inputs["made"]}:
                return folder
        except (OSError, ValueError, KeyError, TypeError, metadata.PackageNotFoundError):
            continue
    return None


def _inputs(sources: Mapping[str, str]) -> dict[str, Any]:
    """All that a runtime is made from; `sources` names our files by path in the repository."""
    edge = {f"fall_assets/edge/{path.name}" for path in (_ROOT / "fall_assets/edge").glob("*.py")}
    names = {*sources, *edge, *(str(one.relative_to(_ROOT)) for one in _own_tools())}
    return {
        "python": sys.version,
        "platform": this_platform(),
        "wheels": {
            name: metadata.version(name)
            for name in (
                "ai-edge-litert", "av", "cffi", "cryptography", "numpy", "onnxruntime", "psutil",
                "pyinstaller", "pyinstaller-hooks-contrib",
            )
        },
        "sources": _hashes(names),
    }  # fmt: skip


def _hashes(names: Iterable[str]) -> dict[str, str]:
    return {
        name: hashlib.sha256((_ROOT / name).read_bytes()).hexdigest()
        for name in sorted(names)
        if (_ROOT / name).is_file()
    }


def _digest(inputs: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _own_tools() -> list[Path]:
    here = Path(__file__).resolve()
    texts = sorted(here.with_name("licence_texts").glob("*.txt"))
    return [here, here.with_name("edge_licences.py"), _ENTRY, *texts]


def _build(cache: Path, log: Say) -> Path:
    for tool in ("strip", "objdump"):
        if shutil.which(tool) is None:
            raise EdgeBuildError(f"there is no {tool}; install binutils")
    if importlib.util.find_spec("PyInstaller") is None:
        raise EdgeBuildError("PyInstaller is not installed; run make setup")
    log("building the runtime; this takes about a minute, once per change of the code")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as name:
        work = Path(name)
        before = _hashes(str(path.relative_to(_ROOT)) for path in _ROOT.glob("fall_assets/**/*.py"))
        modules = _freeze(work)
        log(f"frozen after {time.monotonic() - began:.0f} s")
        frozen = work / "dist" / _NAME
        result = work / "runtime"
        _copy_runtime(frozen, result / _NAME)
        _check_modules(modules)
        libraries = result / _NAME / "_internal"
        parts = parts_of((str(path.relative_to(libraries)) for path in _all(libraries)), modules)
        _keep_licences(parts, result / LICENCES_FOLDER)
        own = {
            str(Path(source).relative_to(_ROOT)): ""
            for source in modules.values()
            if Path(source).is_relative_to(_ROOT / "fall_assets")
        }
        inputs = _inputs(own)
        changed = [name for name in own if before.get(name) != inputs["sources"].get(name)]
        if changed:
            raise PassingFailureError(f"{changed[0]} was changed while it was built: build again")
        made = {"modules": len(modules), "bytes": sum(p.stat().st_size for p in _all(libraries))}
        (result / _INPUTS).write_text(json.dumps(inputs | {"made": made}, indent=1) + "\n")
        target = cache / _digest(inputs)[:16]
        shutil.rmtree(target, ignore_errors=True)
        result.replace(target)
    log(f"runtime {target.name} built in {time.monotonic() - began:.0f} s")
    return target


def _freeze(work: Path) -> dict[str, str]:
    """Run PyInstaller; the pure modules inside and their files."""
    environment = os.environ | {
        # So that the same sources give the same bytes.
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": "315532800",
        "PYINSTALLER_CONFIG_DIR": str(work / "config"),
    }
    owners = metadata.packages_distributions()
    left_out = [
        name
        for name in sorted(owners)
        if name.isidentifier() and name not in _KEPT and name not in sys.stdlib_module_names
    ]
    loaded = _run([sys.executable, "-c", _LOADED], work, environment, "loading what is packed")
    hidden = [
        name
        for name in json.loads(loaded.splitlines()[-1])
        if (name.split(".")[0] in _KEPT or name.split(".")[0] in sys.stdlib_module_names)
        and name.split(".")[0] not in ("__main__", "this", "antigravity")
        and not any(name == out or name.startswith(f"{out}.") for out in _LEFT_OUT)
    ]
    command = [
        sys.executable, "-m", "PyInstaller", "--onedir", "--noconfirm", "--clean", "--noupx",
        "--console", "--log-level", "WARN", "--name", _NAME, "--paths", str(_ROOT),
        "--distpath", str(work / "dist"), "--workpath", str(work / "work"),
        "--specpath", str(work), "--contents-directory", "_internal",
    ]  # fmt: skip
    for out in (*left_out, *_LEFT_OUT):
        command += ["--exclude-module", out]
    for name in hidden:
        command += ["--hidden-import", name]
    _run([*command, str(_ENTRY)], work, environment, "PyInstaller")
    table = ast.literal_eval((work / "work" / _NAME / "PYZ-00.toc").read_text("utf-8"))
    return {name: source for name, source, kind in table[1] if kind.startswith("PYMODULE")}


def _run(command: list[str], work: Path, environment: Mapping[str, str], what: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 (the command is ours)
            command,
            cwd=work,
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=_BUILD_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EdgeBuildError(f"{what} took over {_BUILD_LIMIT_S} s") from error
    if done.returncode:
        raise EdgeBuildError(f"{what} failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
    return done.stdout


def _check_modules(modules: Mapping[str, str]) -> None:
    wrong = sorted(
        {
            name.split(".")[0]
            for name in modules
            if name.split(".")[0] not in (*_KEPT, *sys.stdlib_module_names)
            and not name.startswith(("_sysconfigdata", "pyimod"))
        }
    )
    if wrong:
        raise EdgeBuildError(
            f"the runtime would hold {', '.join(wrong)}, which is not meant to be in it: change "
            "the import, or name it in delivery/edge_build.py"
        )


def _copy_runtime(frozen: Path, target: Path) -> None:
    """Copy what PyInstaller made: stripped of symbols, without links and what is not needed."""
    for path in _all(frozen):
        inside = path.relative_to(frozen)
        # The links only repeat at the top what libraries find beside each other anyway.
        if path.is_symlink() or _NOT_NEEDED.search(str(inside)):
            continue
        if _OF_THE_BOX.match(path.name):
            continue
        to = target / inside
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
        is_program = inside == Path(_NAME)
        if ".so" in path.name:
            _strip(to)
        to.chmod(0o755 if is_program else 0o644)


def _strip(path: Path) -> None:
    """Take symbols away that only debuggers read; a library that strip cannot read stays."""
    stripped = path.with_name(path.name + ".stripped")
    done = subprocess.run(  # noqa: S603
        ["strip", "--strip-unneeded", "-o", str(stripped), str(path)],  # noqa: S607
        capture_output=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 0 and not done.stderr.strip():
        stripped.replace(path)
    else:
        stripped.unlink(missing_ok=True)


# The package.


def _write_self_test(
    folder: Path, clip: Path | None, framework: Callable[[Path], FileScores] | None
) -> dict[str, Any]:
    place = folder / SELF_TEST_FOLDER
    place.mkdir()
    if clip is None:
        draw_clip(place / CLIP)
    else:
        shutil.copyfile(clip, place / CLIP)
    printed = run_packaged(folder, "self-test", "--package", str(folder), "--print")
    try:
        found = FileScores.from_dict(json.loads(printed))
    except (ValueError, KeyError, TypeError) as error:
        raise EdgeBuildError(
            f"the packaged program printed no readable scores ({error!r}): {printed[:300]}"
        ) from error
    if not found.score:
        raise EdgeBuildError(
            "no window of the self-test's clip was scored, so that the self-test would prove "
            "nothing; use a longer clip"
        )
    trained = framework(place / CLIP) if framework is not None else None
    wrong = compare(found, trained) if trained is not None else []
    if wrong:
        raise EdgeBuildError(
            "on the self-test's clip the package (here) and the training framework (there) "
            f"differ: {'; '.join(wrong)}"
        )
    expected = {
        "format": FORMAT,
        "tolerance": TOLERANCE,
        "package": _told(found),
        "training": None if trained is None else _told(trained),
    }
    (place / EXPECTED).write_text(json.dumps(expected, indent=1) + "\n")
    run_packaged(folder, "self-test", "--package", str(folder))
    return expected


def _told(scores: FileScores) -> dict[str, Any]:
    """What does not depend on how fast it was."""
    told = scores.as_dict()
    return {name: told[name] for name in ("end_s", "score", "track", "events")}


def run_packaged(folder: Path, *arguments: str) -> str:
    """Run the package's own `fall-edge` with nothing of this environment; what it prints.

    Raises:
        EdgeBuildError: it fails, or takes over 5 minutes.
    """
    try:
        done = subprocess.run(  # noqa: S603
            [str(folder / EXECUTABLE), *arguments],
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=_RUN_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EdgeBuildError(f"the packaged program does not run: {error}") from error
    if done.returncode:
        raise EdgeBuildError(
            f"the packaged program failed ({done.returncode}): {done.stderr.strip()[-1500:]}"
        )
    return done.stdout


def draw_clip(path: Path) -> None:
    """Draw twelve seconds in which a person falls; the same each time."""
    from fall_assets.simulation import HospitalSpec, generate

    spec = HospitalSpec(
        seed=11, days=1, cameras=1, segments_per_day=1, segment_s=12.0, fps=10, width=320,
        height=192, changed_cameras=0, bad_files=0, fall_share=1.0, visit_share=0.0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        generate(spec, Path(scratch), workers=1)
        (clip,) = sorted(Path(scratch).rglob("*.mp4"))
        shutil.copyfile(clip, path)


def _keep_licences(parts: list[Part], folder: Path) -> None:
    """Keep the texts with the runtime, so that a package is written without asking again."""
    folder.mkdir(parents=True)
    listed = []
    for part in parts:
        names = []
        for text in part.texts:
            # Several parts may have the same file name, one part several files.
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{part.name}-{text.stem}{text.suffix}")
            shutil.copyfile(text, folder / name)
            names.append(name)
        listed.append(
            {"name": part.name, "version": part.version, "licence": part.licence, "files": names}
        )
    (folder / "licences.json").write_text(json.dumps(listed, indent=1) + "\n")


def _write_licences(runtime: Path, folder: Path) -> Iterator[Licence]:
    shutil.copytree(runtime / LICENCES_FOLDER, folder)
    listed = json.loads((folder / "licences.json").read_text("utf-8"))
    return (
        Licence(part["name"], part["version"], part["licence"], f"{LICENCES_FOLDER}/{name}")
        for part in listed
        for name in part["files"]
    )


def _files(folder: Path) -> Iterator[PackageFile]:
    for path in _all(folder):
        inside = path.relative_to(folder).as_posix()
        if not path.is_file() or path.is_symlink():
            raise EdgeBuildError(f"{inside} is no regular file; a package holds nothing else")
        executable = inside == EXECUTABLE
        if not executable and path.stat().st_mode & 0o111:
            path.chmod(0o644)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield PackageFile(inside, path.stat().st_size, digest, executable)


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
