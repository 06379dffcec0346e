"""Whose software an edge package holds, and the licence texts that must travel with it.

What belongs here: who owns a file of the frozen runtime, and where the text of its licence is.
What does not: freezing (`edge_build.py`).

Nothing goes into a package unnamed: a file that nobody is known to own, or an owner without a
text, fails the build.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from fall_assets.errors import PermanentFailureError

TEXTS: Final = Path(__file__).with_name("licence_texts")
_OWN_LICENCE: Final = Path(__file__).resolve().parents[2] / "LICENSE"
_LONG: Final = ("Apache-2.0", "GPL-2", "GPL-3", "LGPL-2", "LGPL-2.1", "LGPL-3")

# Wheels that bring no text of their own.
_WITHOUT_TEXT: Final = {"ai-edge-litert": "Apache-2.0", "flatbuffers": "Apache-2.0"}
# What a wheel's native libraries are called, whose they are, and under which licence: (pattern of
# the file's name, name, SPDX expression). The text is TEXTS/name.txt.
_NATIVE: Final = tuple(
    (re.compile(pattern), name, licence)
    for pattern, name, licence in (
        (r"lib(avcodec|avdevice|avfilter|avformat|avutil|swresample|swscale)\b", "ffmpeg",
         "LGPL-3.0-or-later"),
        (r"libSvtAv1Enc\b", "svt-av1", "BSD-3-Clause-Clear"),
        (r"libXau\b", "libxau", "MIT"),
        (r"libxcb\b", "libxcb", "MIT"),
        (r"libasound\b", "alsa-lib", "LGPL-2.1-or-later"),
        (r"libdav1d\b", "dav1d", "BSD-2-Clause"),
        (r"libdrm\b", "libdrm", "MIT"),
        (r"libgmp\b", "gmp", "LGPL-3.0-or-later OR GPL-2.0-or-later"),
        (r"libgnutls\b", "gnutls", "LGPL-2.1-or-later"),
        (r"lib(hogweed|nettle)\b", "nettle", "LGPL-3.0-or-later OR GPL-2.0-or-later"),
        (r"libmp3lame\b", "lame", "LGPL-2.0-or-later"),
        (r"libopencore-amr", "opencore-amr", "Apache-2.0"),
        (r"libopus\b", "opus", "BSD-3-Clause"),
        (r"libunistring\b", "libunistring", "LGPL-3.0-or-later OR GPL-2.0-or-later"),
        (r"lib(webp|webpmux|sharpyuv)\b", "libwebp", "BSD-3-Clause"),
        (r"libvpl\b", "libvpl", "MIT"),
        (r"libvpx\b", "libvpx", "BSD-3-Clause"),
        (r"libx264\b", "x264", "GPL-2.0-or-later"),
        (r"libx265\b", "x265", "GPL-2.0-or-later"),
        (r"lib(ssl|crypto)\b", "openssl", "Apache-2.0"),
        (r"libsqlite3\b", "sqlite", "blessing"),
        (r"libffi\b", "libffi", "MIT"),
        (r"liblzma\b", "xz", "0BSD"),
        (r"libbz2\b", "bzip2", "bzip2-1.0.6"),
        (r"libz\b", "zlib", "Zlib"),
        (r"libuuid\b", "util-linux", "BSD-3-Clause"),
        (r"lib(stdc\+\+|gcc_s|gfortran|quadmath|gomp)[.-]", "gcc-runtime",
         "GPL-3.0-or-later WITH GCC-exception-3.1"),
        (r"libexpat\b|pyexpat\.", "expat", "MIT"),
        (r"libmpdec\b|_decimal\.", "mpdecimal", "BSD-2-Clause"),
    )
)  # fmt: skip


class LicenceError(PermanentFailureError):
    """Something would be in the package whose owner or licence text is not known."""


@dataclass(frozen=True)
class Part:
    """Something inside a package: its name, version, licence (SPDX where known), its texts."""

    name: str
    version: str
    licence: str
    texts: tuple[Path, ...]


def parts_of(files: Iterable[str], modules: Mapping[str, str]) -> list[Part]:
    """All that a frozen runtime is made of, by name.

    Args:
        files: paths below the folder with the runtime's libraries.
        modules: the Python modules inside and the files that they were made from.

    Raises:
        LicenceError: nobody is known to own a file or module, or an owner brings no text.
    """
    found: dict[str, Part] = {}
    owners = metadata.packages_distributions()
    for path in sorted(files):
        for part in _of_file(path, owners):
            found[part.name] = part
    for module, source in sorted(modules.items()):
        part = _of_module(module, source, owners)
        found[part.name] = part
    for part in (_python(), _of_distribution("pyinstaller"), _movenet(), _own(), _long_texts()):
        found[part.name] = part
    return [found[name] for name in sorted(found)]


def _of_file(path: str, owners: Mapping[str, list[str]]) -> list[Part]:
    top, _, rest = path.partition("/")
    name = path.rpartition("/")[2]
    native = [
        Part(name, _library_version(path), licence, (_text(name),))
        for pattern, name, licence in _NATIVE
        if pattern.match(path.rpartition("/")[2])
    ]
    if native and (not rest or top.endswith(".libs")):
        return native
    if top.startswith(("python", "libpython")) or top in ("base_library.zip", "lib-dynload"):
        return [_python(), *native]
    if rest and top.endswith(".libs"):
        # numpy's licence file speaks for OpenBLAS, which it names.
        if name.startswith("libopenblas") and top == "numpy.libs":
            return [_of_distribution("numpy")]
    elif rest and top.endswith(".dist-info"):
        return [_of_distribution(top.split("-")[0])]
    elif (owner := top.split(".")[0]) in owners:
        return [_of_distribution(owners[owner][0])]
    raise LicenceError(
        f"nobody is known to own {path}, which would be in the package; name it in "
        "delivery/edge_licences.py with its licence's text, or leave it out in delivery/edge_build"
    )


def _of_module(module: str, source: str, owners: Mapping[str, list[str]]) -> Part:
    top = module.split(".")[0]
    if top == "fall_assets":
        return _own()
    if top in sys.stdlib_module_names or Path(source).is_relative_to(
        sysconfig.get_paths()["stdlib"]
    ):
        return _python()
    if top not in owners:
        raise LicenceError(f"nobody is known to own the module {module} ({source})")
    return _of_distribution(owners[top][0])


def _of_distribution(name: str) -> Part:
    distribution = metadata.distribution(name)
    name = distribution.metadata["Name"]
    said = distribution.metadata
    licence = _said(said, "License-Expression") or _said(said, "License") or "see its text"
    texts = [
        Path(str(file.locate()))
        for file in distribution.files or ()
        if re.search(r"licen[cs]e|notice|copying|authors", file.name, re.IGNORECASE)
        and file.suffix.lower() in ("", ".txt", ".md", ".rst", ".apache", ".bsd")
        and len(file.parts) <= 3
    ]
    if not texts and name in _WITHOUT_TEXT:
        licence = _WITHOUT_TEXT[name]
        texts = [_text(licence)]
    texts = [text for text in texts if text.is_file()]
    if not texts:
        raise LicenceError(
            f"{name} {distribution.version} brings no licence text and would be in the package; "
            "put its text into delivery/licence_texts and name it in delivery/edge_licences.py"
        )
    return Part(name, distribution.version, licence.splitlines()[0], tuple(sorted(texts)))


def _said(said: metadata.PackageMetadata, field: str) -> str | None:
    return said[field] if field in said else None  # noqa: SIM401 (its type has no get)


def _python() -> Part:
    text = Path(sysconfig.get_paths()["stdlib"]) / "LICENSE.txt"
    if not text.is_file():
        raise LicenceError(f"Python's own licence text is not at {text}; install Python with it")
    return Part("python", sys.version.split()[0], "PSF-2.0", (text,))


def _movenet() -> Part:
    return Part("movenet-multipose", "1", "Apache-2.0", (_text("Apache-2.0"),))


def _own() -> Part:
    own = metadata.distribution("fall-assets")
    text = _OWN_LICENCE
    if not text.is_file():
        return _of_distribution("fall-assets")
    return Part("fall-assets", own.version, "Apache-2.0", (text,))


def _long_texts() -> Part:
    """The licences that the others refer to by name."""
    return Part("texts", "-", "as named", tuple(_text(name) for name in _LONG))


def _text(name: str) -> Path:
    path = TEXTS / f"{name}.txt"
    if not path.is_file():
        raise LicenceError(f"there is no licence text {path}")
    return path


def _library_version(path: str) -> str:
    numbers = re.search(r"\.so\.([0-9.]+)$", path)
    owner = path.partition("/")[0].removesuffix(".libs")
    if "/" in path and ".libs/" in path:
        bundle = metadata.distribution(owner)
        return f"{numbers[1] if numbers else '-'} in {bundle.metadata['Name']} {bundle.version}"
    return numbers[1] if numbers else "-"
