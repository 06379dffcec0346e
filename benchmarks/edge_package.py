"""A real edge package: its size, how long it takes to build and to start, and a run in empty roots.

`python -m benchmarks.edge_package [--model DIR]` builds a package (of an untrained detector, where
no model folder is given), measures from the start of its program to the first score, and runs it
where there is nothing else: no Python, no network, no environment; in a Debian made by debootstrap
and in a root that holds nothing but glibc and zlib. Needs root, for chroot. Prints JSON.

What belongs here: what a package is as a file and as a program. What does not: how fast it watches
(`edge`), what it survives (`edge_faults`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import av
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from fall_assets.delivery.edge_build import (
    BuiltPackage,
    PackageVersions,
    build_package,
    build_runtime,
    run_packaged,
)
from fall_assets.edge.model import read_info
from fall_assets.edge.package import EXECUTABLE, unpack

GLIBC: Final = (
    "ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2", "libm.so.6", "libmvec.so.1",
    "libpthread.so.0", "libresolv.so.2", "librt.so.1", "libutil.so.1",
)  # fmt: skip
ZLIB: Final = "libz.so.1"
"""What PyInstaller's start program itself is linked with; every distribution's base holds it."""
_LIMIT_S: Final = 900
_PLACE: Final = "opt/package"


def main() -> None:
    """Build, measure, run in empty roots; print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a model folder; default: an untrained one")
    parser.add_argument("--runs", type=int, default=5, help="starts of each kind")
    parser.add_argument("--out", type=Path, help="keep the package here")
    parser.add_argument("--cache", type=Path, help="folder of built runtimes; default: none kept")
    parser.add_argument("--mirror", help="for debootstrap; default: the one that apt uses")
    parser.add_argument("--suite", default="bookworm", help="Debian's release")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        found: dict[str, Any] = {}
        key = Ed25519PrivateKey.generate()
        trusted = [key.public_key()]
        built = _build(told, work, key, found)
        found["glibc"] = _glibc(built.directory)
        found["starts"] = _starts(built, told.runs)
        found["roots"] = {
            "glibc and zlib only": _try(_bare_root, built, trusted, work / "bare"),
            "debootstrap": _try(
                lambda root: _debootstrap(root, told.suite, told.mirror),
                built,
                trusted,
                work / "debian",
            ),
        }
    print(json.dumps(found, indent=1))


def _build(
    told: argparse.Namespace, work: Path, key: Ed25519PrivateKey, found: dict[str, Any]
) -> BuiltPackage:
    model = told.model or _untrained(work / "model")
    info = read_info(model)
    began = time.perf_counter()
    runtime = build_runtime(work / "runtime", cache=told.cache or work / "cache", log=_say)
    found["runtime_s"] = round(time.perf_counter() - began, 1)
    began = time.perf_counter()
    built = build_package(
        model,
        runtime,
        told.out or work / "out",
        sequence=1,
        versions=PackageVersions(info.model_version, info.feature_set_version, "benchmark"),
        key=key,
        log=_say,
    )
    found["package_s"] = round(time.perf_counter() - began, 1)
    found["unpacked_mb"] = round(built.size / 1e6, 1)
    found["archive_mb"] = round(built.archive_size / 1e6, 1)
    found["files"] = len(built.manifest.files)
    folders: dict[str, float] = {}
    for file in built.manifest.files:
        parts = file.path.split("/")
        place = "/".join(parts[:3] if parts[0] == "fall-edge" else parts[:1])
        folders[place] = folders.get(place, 0) + file.size / 1e6
    largest = sorted(folders, key=folders.__getitem__, reverse=True)[:12]
    found["largest_mb"] = {place: round(folders[place], 1) for place in largest}
    return built


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _untrained(folder: Path) -> Path:
    from fall_assets.delivery.onnx_export import write_model
    from fall_assets.features.movenet import pose_network_path
    from fall_assets.features.settings import FeatureSettings
    from fall_assets.learning.detector import Detector
    from fall_assets.learning.network import NetworkSettings, TemporalNetwork

    features = FeatureSettings()
    network = TemporalNetwork(NetworkSettings(), [3, 4, 5]).eval()
    detector = Detector(network, features.version)
    write_model(detector, "0", features, pose_network_path(), folder)
    return folder


def _starts(built: BuiltPackage, runs: int) -> dict[str, Any]:
    """Seconds from the program's start to its end, having scored a clip with few windows.

    The clip is the self-test's, cut off after the first window's length and half a second: the
    first score comes a little before the end. Seconds of the processor tell it on a busy machine
    too. Cold: the package's files were dropped from the page cache before (what the kernel shares
    with other programs was not).
    """
    window_s = read_info(built.directory / "model").windows.window_s
    clip = built.archive.with_name("first-window.mp4")
    _cut(built.directory / "self-test" / "clip.mp4", clip, window_s + 0.5)
    command = (
        "score", "--json", "--model", str(built.directory / "model"), "--gate", "open", str(clip)
    )  # fmt: skip
    windows = json.loads(run_packaged(built.directory, *command))["score"]

    processor: list[float] = []

    def timed(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        run_packaged(built.directory, *arguments)
        took = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return took

    found: dict[str, Any] = {"windows": len(windows)}
    for kind in ("cold", "warm"):
        seconds = []
        for _ in range(runs):
            if kind == "cold":
                _forget(built.directory)
            seconds.append(timed(*command))
        found[f"{kind}_s"] = _spread(seconds)
        found[f"{kind}_processor_s"] = _spread(processor)
        processor.clear()
    found["version_s"] = _spread([timed("version") for _ in range(runs)])
    return found


def _cut(source: Path, target: Path, length_s: float) -> None:
    with av.open(str(source)) as film, av.open(str(target), "w") as short:
        video = film.streams.video[0]
        stream = short.add_stream_from_template(video)
        for packet in film.demux(video):
            if packet.pts is not None and float(packet.pts * packet.time_base) <= length_s:
                packet.stream = stream
                short.mux(packet)


def _spread(seconds: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(seconds), 2),
        "least": round(min(seconds), 2),
        "most": round(max(seconds), 2),
        "runs": len(seconds),
    }


def _forget(folder: Path) -> None:
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def _glibc(folder: Path) -> dict[str, Any]:
    """The newest glibc that any file inside asks for, and who asks."""
    asked: dict[tuple[int, ...], list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or not (".so" in path.name or path == folder / EXECUTABLE):
            continue
        text = subprocess.run(
            ["objdump", "-p", str(path)], capture_output=True, text=True, check=False, timeout=60
        ).stdout
        versions = [tuple(map(int, one.split("."))) for one in re.findall(r"GLIBC_([0-9.]+)", text)]
        if versions:
            asked.setdefault(max(versions), []).append(path.relative_to(folder).as_posix())
    newest = sorted(asked, reverse=True)[:3]
    return {
        ".".join(map(str, version)): [len(asked[version]), *asked[version][:6]]
        for version in newest
    }


def _try(
    make: Callable[[Path], None],
    built: BuiltPackage,
    trusted: Sequence[Ed25519PublicKey],
    root: Path,
) -> dict[str, Any]:
    try:
        root.mkdir()
        make(root)
        place = root / _PLACE
        place.parent.mkdir(parents=True, exist_ok=True)
        manifest = unpack(built.archive, place, trusted)
        shutil.copyfile(place / "self-test" / "clip.mp4", root / "clip.mp4")
        pythons = [
            path.relative_to(root).as_posix()
            for path in root.rglob("*python*")
            if place not in path.parents and path.is_file()
        ]
        # No network; /proc, which is no file of a distribution, is there on every box. Full names:
        # the program's environment is empty, PATH too.
        (root / "proc").mkdir(exist_ok=True)
        inside = f'{_tool("mount")} -t proc proc "$0/proc" && exec {_tool("chroot")} "$0" "$@"'
        enter = [_tool("unshare"), "--net", "--mount", _tool("sh"), "-c", inside]
        found: dict[str, Any] = {
            "package": manifest.sha256[:16],
            "python_outside_the_package": pythons,
            "files_outside_the_package": sum(
                path.is_file() for path in root.rglob("*") if place not in path.parents
            ),
        }
        for name, arguments in (
            ("self-test", ["self-test", "--package", f"/{_PLACE}"]),
            (
                "score",
                ["score", "--json", "--gate", "open", "--model", f"/{_PLACE}/model", "/clip.mp4"],
            ),
        ):
            began = time.perf_counter()
            done = subprocess.run(
                [*enter, str(root), f"/{_PLACE}/{EXECUTABLE}", *arguments],
                env={},
                capture_output=True,
                text=True,
                timeout=_LIMIT_S,
                check=False,
            )
            found[name] = {
                "code": done.returncode,
                "took_s": round(time.perf_counter() - began, 2),
                "said": _short(done.stdout, done.stderr),
            }
        return found
    except (OSError, subprocess.SubprocessError) as error:
        return {"not done": str(error)}


def _tool(name: str) -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise OSError(f"there is no {name} on this machine")
    return found


def _short(output: str, errors: str) -> Any:
    try:
        said = json.loads(output)
    except ValueError:
        return (output + errors)[-1500:]
    if "score" in said:
        return {"windows": len(said["score"]), "events": len(said["events"])}
    return said


def _bare_root(root: Path) -> None:
    """Nothing but glibc and zlib, from this machine, and an empty /tmp."""
    for name in (*GLIBC, ZLIB):
        for folder in (
            "/lib64",
            "/lib/x86_64-linux-gnu",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib64",
        ):
            source = Path(folder) / name
            if source.exists():
                where = "lib64" if name.startswith("ld-") else "lib/x86_64-linux-gnu"
                (root / where).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.resolve(), root / where / name)
                (root / where / name).chmod(0o755)
                break
    (root / "tmp").mkdir()


def _debootstrap(root: Path, suite: str, mirror: str | None) -> None:
    mirror = mirror or _aptmirror()
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", suite, str(root), *([mirror] if mirror else [])],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise OSError(f"debootstrap failed: {done.stdout[-300:]} {done.stderr[-300:]}")


def _aptmirror() -> str | None:
    """The first address that this machine's apt is configured with."""
    folder = Path("/etc/apt")
    for path in (*sorted(folder.glob("sources.list.d/*")), folder / "sources.list"):
        if path.is_file() and path.suffix in (".sources", ".list"):
            text = path.read_text("utf-8", "replace")
            match = re.search(r"^(?:URIs:|deb(?: \[[^\]]*\])?)\s+(\S+/debian)/?\s", text, re.M)
            if match:
                return match[1]
    return None


if __name__ == "__main__":
    main()
