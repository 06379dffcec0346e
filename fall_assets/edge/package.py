"""The package as a box sees it: what is inside, whether it is what was signed, unpacking it.

What belongs here: the manifest, verifying a directory or an archive against it, unpacking. What
does not: making a package (`delivery.edge_build`), choosing and starting one (`agent.py`).

A package is a directory: `manifest.json`, `manifest.sig` (Ed25519 over the manifest's bytes) and
the files that the manifest names, no more and no less. An archive is a gzipped tar (ustar) of it:
regular files only, the manifest first and its signature second, so that nothing else is read
before the signature is known to be good. The reader knows no links, devices or extended headers;
whoever sends them is refused.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fall_assets.edge.signing import SIGNATURE_SIZE, verify
from fall_assets.errors import PassingFailureError, PermanentFailureError

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
EXECUTABLE: Final = "fall-edge/fall-edge"
MODEL_FOLDER: Final = "model"
SELF_TEST_FOLDER: Final = "self-test"
LICENCES_FOLDER: Final = "licences"

MAX_MANIFEST_BYTES: Final = 2_000_000
MAX_FILES: Final = 5_000
MAX_UNPACKED_BYTES: Final = 500_000_000
"""Twice what a package may have (`delivery.edge_build`); a box refuses more before unpacking it."""
MAX_ARCHIVE_BYTES: Final = 400_000_000

_MAX_PATH: Final = 250
_PIECE: Final = 1 << 20
_BLOCK: Final = 512
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_PART: Final = re.compile(r"[A-Za-z0-9_+@.,=~-]+(?: [A-Za-z0-9_+@.,=~-]+)*")
_TEMPORARY: Final = ".unpacking-"


class PackageError(PermanentFailureError):
    """This is no package that may be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class PackageFile:
    """One file: its path in the package with /, its size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str
    executable: bool = False


@dataclass(frozen=True)
class Licence:
    """Something inside, under which licence, and the file in the package with its text."""

    name: str
    version: str
    licence: str
    file: str


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says; `sha256` is that of its bytes and names the package.

    `sequence` grows with each package that is built: a lower one is older.
    """

    sequence: int
    model_version: str
    feature_set_version: str
    code_version: str
    platform: str
    created_utc: str
    files: tuple[PackageFile, ...]
    licences: tuple[Licence, ...] = ()
    sha256: str = field(default="", compare=False)

    @property
    def size(self) -> int:
        """Bytes of all files that it names."""
        return sum(file.size for file in self.files)

    def to_bytes(self) -> bytes:
        """The bytes to sign; the same manifest gives the same bytes."""
        content = {"format": FORMAT, **asdict(self)}
        del content["sha256"]
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """Read a manifest whose signature was verified.

        Raises:
            PackageError: it is no manifest, of another format, or names a path that could leave
                the package.
        """
        if len(content) > MAX_MANIFEST_BYTES:
            raise PackageError(f"a manifest of over {MAX_MANIFEST_BYTES} bytes")
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise PackageError(f"{MANIFEST} is no JSON: {error}") from None
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise PackageError(f"{MANIFEST} is not of format {FORMAT}; this box is too old for it")
        read = _Fields(value, MANIFEST)
        files = tuple(_file(entry) for entry in read.objects("files"))
        if not 0 < len(files) <= MAX_FILES:
            raise PackageError(f"{MANIFEST} names {len(files)} files, wanted 1 to {MAX_FILES}")
        paths = {file.path for file in files}
        if len(paths) != len(files):
            raise PackageError(f"{MANIFEST} names a file twice")
        if paths & {MANIFEST, SIGNATURE}:
            raise PackageError(f"{MANIFEST} names itself or its signature")
        manifest = cls(
            sequence=read.number("sequence"),
            model_version=read.text("model_version"),
            feature_set_version=read.text("feature_set_version"),
            code_version=read.text("code_version"),
            platform=read.text("platform"),
            created_utc=read.text("created_utc"),
            files=files,
            licences=tuple(_licence(entry) for entry in read.objects("licences")),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        if manifest.size > MAX_UNPACKED_BYTES:
            raise PackageError(f"{manifest.size} bytes unpacked, over {MAX_UNPACKED_BYTES}")
        try:
            datetime.fromisoformat(manifest.created_utc)
        except ValueError:
            raise PackageError(f"{MANIFEST}: created_utc is no time") from None
        return manifest


def this_platform() -> str:
    """The platform of this machine, as manifests name it: `linux-x86_64`."""
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def verify_package(
    place: Path, trusted: Sequence[Ed25519PublicKey], *, for_platform: str | None = None
) -> Manifest:
    """Verify a package's directory or archive; nothing is written.

    Args:
        place: the directory or the archive.
        trusted: public keys, one of which must have signed it.
        for_platform: what it must be made for; None: this machine.

    Raises:
        SignatureError: not signed by a trusted key.
        PackageError: anything in it differs from its manifest; the message says what.
    """
    if place.is_dir():
        return verify_directory(place, trusted, for_platform=for_platform)
    return _read_archive(place, trusted, for_platform, lambda _: None)


def verify_directory(
    folder: Path, trusted: Sequence[Ed25519PublicKey], *, for_platform: str | None = None
) -> Manifest:
    """As `verify_package`, of a directory."""
    try:
        content = _small(folder / MANIFEST, MAX_MANIFEST_BYTES)
        signature = _small(folder / SIGNATURE, SIGNATURE_SIZE)
        manifest = _verified_manifest(content, signature, trusted, for_platform)
        wanted = {file.path: file for file in manifest.files}
        for found in _walk(folder):
            if found in (MANIFEST, SIGNATURE):
                continue
            file = wanted.pop(found, None)
            if file is None:
                raise PackageError(f"{found} is in the package, and its manifest does not name it")
            _verify_file(folder / found, file)
        if wanted:
            raise PackageError(_missing(wanted))
    except OSError as error:
        raise PackageError(f"{folder} cannot be read: {error}") from error
    return manifest


def unpack(
    archive: Path,
    target: Path,
    trusted: Sequence[Ed25519PublicKey],
    *,
    manifest_sha256: str | None = None,
    for_platform: str | None = None,
) -> Manifest:
    """Verify an archive while it is unpacked; `target` appears whole and durable, or not at all.

    A target that is there already and verifies is left as it is.

    Args:
        archive: the archive's file.
        target: the directory to make; its parent must be there.
        trusted: public keys, one of which must have signed it.
        manifest_sha256: which package it must be; None: any.
        for_platform: as in `verify_package`.

    Raises:
        SignatureError, PackageError: as in `verify_package`.
        PassingFailureError: the disk is full.
    """
    temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=target.parent))
    try:
        manifest = _read_archive(
            archive, trusted, for_platform, lambda file: _Sink(temporary, file), manifest_sha256
        )
        for name in (MANIFEST, SIGNATURE):
            _sync(temporary / name)
        for folder, _, _ in os.walk(temporary, topdown=False):
            _sync(Path(folder))
        temporary.chmod(0o755)
        if target.exists():
            try:
                if verify_directory(target, trusted, for_platform=for_platform) == manifest:
                    return manifest
            except PermanentFailureError:
                # What was there is broken: the whole one takes its place.
                pass
            shutil.rmtree(target)
        temporary.rename(target)
        _sync(target.parent)
        return manifest
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PassingFailureError(
                f"the disk of {target.parent} is full; make room for the package"
            ) from error
        raise PackageError(f"{archive} cannot be unpacked to {target}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what `unpack` left in `folder` when it was killed."""
    for left in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(left, ignore_errors=True)


def write_archive(folder: Path, archive: Path) -> str:
    """Write the archive of a package's directory; its SHA-256 in hex.

    The same directory gives the same bytes: sorted, no times, no owners. Raises PackageError
    where a path is too long for a plain tar header.
    """
    manifest = Manifest.from_bytes((folder / MANIFEST).read_bytes())
    executable = {file.path for file in manifest.files if file.executable}
    paths = [MANIFEST, SIGNATURE, *sorted(file.path for file in manifest.files)]
    digest = hashlib.sha256()
    partial = archive.with_name(archive.name + ".part")
    with partial.open("wb") as raw:
        # No name and no time in gzip's header.
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as out:
            for path in paths:
                size = (folder / path).stat().st_size
                out.write(_header(path, size, path in executable))
                with (folder / path).open("rb") as file:
                    shutil.copyfileobj(file, out, _PIECE)
                out.write(bytes(-size % _BLOCK))
            out.write(bytes(2 * _BLOCK))
        raw.flush()
        os.fsync(raw.fileno())
    with partial.open("rb") as raw:
        while piece := raw.read(_PIECE):
            digest.update(piece)
    partial.replace(archive)
    return digest.hexdigest()


class _Sink:
    """A file that is being unpacked."""

    def __init__(self, folder: Path, file: PackageFile) -> None:
        self._path = folder / file.path
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._handle = os.open(self._path, flags, 0o600)
        self._mode = 0o755 if file.executable else 0o644

    def write(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left:
            left = left[os.write(self._handle, left) :]

    def close(self, *, whole: bool) -> None:
        try:
            if whole:
                os.fchmod(self._handle, self._mode)
                os.fsync(self._handle)
        finally:
            os.close(self._handle)


def _read_archive(
    archive: Path,
    trusted: Sequence[Ed25519PublicKey],
    for_platform: str | None,
    sink: Callable[[PackageFile], _Sink | None],
    manifest_sha256: str | None = None,
) -> Manifest:
    """Verify all of an archive, handing the bytes of its files to the sinks."""
    try:
        with archive.open("rb") as raw:
            if (size := os.fstat(raw.fileno()).st_size) > MAX_ARCHIVE_BYTES:
                raise PackageError(f"{size} bytes, over {MAX_ARCHIVE_BYTES}")
            with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                return _read_tar(
                    cast(IO[bytes], stream), trusted, for_platform, sink, manifest_sha256
                )
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PackageError(f"{archive.name} is cut off or no gzip archive: {error}") from error
    except FileNotFoundError as error:
        raise PackageError(f"there is no {archive}") from error


def _read_tar(
    stream: IO[bytes],
    trusted: Sequence[Ed25519PublicKey],
    for_platform: str | None,
    sink: Callable[[PackageFile], _Sink | None],
    manifest_sha256: str | None,
) -> Manifest:
    head: dict[str, bytes] = {}
    for name, limit in ((MANIFEST, MAX_MANIFEST_BYTES), (SIGNATURE, SIGNATURE_SIZE)):
        entry = _entry(stream)
        if entry is None or entry[0] != name:
            raise PackageError(f"the archive does not begin with {MANIFEST} and {SIGNATURE}")
        if entry[1] > limit:
            raise PackageError(f"{name} has {entry[1]} bytes, over {limit}")
        head[name] = b"".join(_content(stream, entry[1]))
    manifest = _verified_manifest(head[MANIFEST], head[SIGNATURE], trusted, for_platform)
    if manifest_sha256 is not None and manifest.sha256 != manifest_sha256:
        raise PackageError(
            f"package {manifest.sha256[:16]} is in the archive, wanted {manifest_sha256[:16]}"
        )
    for name, content in head.items():
        out = sink(PackageFile(name, len(content), ""))
        if out is not None:
            out.write(content)
            out.close(whole=True)
    wanted = {file.path: file for file in manifest.files}
    while (entry := _entry(stream)) is not None:
        path, size, executable = entry
        file = wanted.pop(path, None)
        if file is None:
            raise PackageError(
                f"{path!r} is in the archive, and the manifest does not name it (or it is twice)"
            )
        if size != file.size:
            raise PackageError(f"{path} has {size} bytes, the manifest says {file.size}")
        if executable != file.executable:
            raise PackageError(f"{path}: whether it may be run is not what the manifest says")
        _copy(stream, file, sink(file))
    if wanted:
        raise PackageError(_missing(wanted))
    while rest := stream.read(_PIECE):
        if rest.strip(b"\0") or stream.tell() > MAX_UNPACKED_BYTES + MAX_FILES * 2 * _BLOCK:
            raise PackageError("the archive goes on after its end")
    return manifest


def _copy(stream: IO[bytes], file: PackageFile, out: _Sink | None) -> None:
    digest, whole = hashlib.sha256(), False
    try:
        for piece in _content(stream, file.size):
            digest.update(piece)
            if out is not None:
                out.write(piece)
        whole = digest.hexdigest() == file.sha256
    finally:
        if out is not None:
            out.close(whole=whole)
    if not whole:
        raise PackageError(f"{file.path} is not what the manifest says (SHA-256 differs)")


def _entry(stream: IO[bytes]) -> tuple[str, int, bool] | None:
    """The next file's path, size, and whether it may be run; None at the archive's end."""
    header = _exactly(stream, _BLOCK)
    if header == bytes(_BLOCK):
        if _exactly(stream, _BLOCK) != bytes(_BLOCK):
            raise PackageError("the archive's end is damaged")
        return None
    try:
        wanted = int(header[148:156].strip(b"\0 "), 8)
        size = int(header[124:136].strip(b"\0 "), 8)
        mode = int(header[100:108].strip(b"\0 "), 8)
        name, prefix = (
            part.split(b"\0", 1)[0].decode("ascii") for part in (header[:100], header[345:500])
        )
    except ValueError:
        raise PackageError("a header in the archive is damaged") from None
    if sum(header[:148]) + 8 * 32 + sum(header[156:]) != wanted or header[257:262] != b"ustar":
        raise PackageError("a header in the archive is damaged")
    path = f"{prefix}/{name}" if prefix else name
    if header[156:157] not in (b"0", b"\0"):
        raise PackageError(
            f"{path!r} is no regular file (type {header[156:157]!r}); packages hold nothing else"
        )
    if not _is_safe(path):
        raise PackageError(f"{path!r} is no path inside a package")
    return path, size, bool(mode & 0o111)


def _header(path: str, size: int, executable: bool) -> bytes:
    prefix, name = "", path
    if len(name) > 100:
        cut = path.rfind("/", 0, 156)
        prefix, name = path[:cut], path[cut + 1 :]
        if cut < 1 or len(name) > 100:
            raise PackageError(f"{path} is too long for a plain tar header")
    header = bytearray(_BLOCK)
    header[: len(name)] = name.encode("ascii")
    header[345 : 345 + len(prefix)] = prefix.encode("ascii")
    header[100:108] = b"0000755\0" if executable else b"0000644\0"
    header[108:124] = b"0000000\0" * 2
    header[124:136] = b"%011o\0" % size
    header[136:148] = b"%011o\0" % 0
    header[156:157] = b"0"
    header[257:265] = b"ustar\00000"
    header[148:156] = b"%06o\0 " % (sum(header) + 8 * 32)
    return bytes(header)


def _content(stream: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left:
        piece = stream.read(min(left, _PIECE))
        if not piece:
            raise PackageError("the archive is cut off")
        left -= len(piece)
        yield piece
    if _exactly(stream, -size % _BLOCK).strip(b"\0"):
        raise PackageError("the archive is damaged")


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = stream.read(size - len(content))
        if not piece:
            raise PackageError("the archive is cut off")
        content += piece
    return content


def _verified_manifest(
    content: bytes,
    signature: bytes,
    trusted: Sequence[Ed25519PublicKey],
    for_platform: str | None,
) -> Manifest:
    verify(content, signature, trusted)
    manifest = Manifest.from_bytes(content)
    here = for_platform or this_platform()
    if manifest.platform != here:
        raise PackageError(f"made for {manifest.platform}, and this is {here}")
    return manifest


def _walk(folder: Path, inside: str = "") -> Iterator[str]:
    """Paths of all files below a folder; links and devices raise."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = f"{inside}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{path}/")
        elif entry.is_file(follow_symlinks=False):
            yield path
        else:
            raise PackageError(f"{path} is a link or a device; packages hold files only")
    if not found:
        raise PackageError(f"{inside or folder} is an empty folder, which no manifest names")


def _verify_file(path: Path, file: PackageFile) -> None:
    digest = hashlib.sha256()
    with _opened(path) as (opened, status):
        if status.st_size != file.size:
            raise PackageError(
                f"{file.path} has {status.st_size} bytes, the manifest says {file.size}"
            )
        if bool(status.st_mode & 0o111) != file.executable:
            raise PackageError(f"{file.path}: whether it may be run is not what the manifest says")
        while piece := opened.read(_PIECE):
            digest.update(piece)
    if digest.hexdigest() != file.sha256:
        raise PackageError(f"{file.path} is not what the manifest says (SHA-256 differs)")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], os.stat_result]]:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise PackageError(f"{path.name} is no regular file")
        yield file, status


def _small(path: Path, limit: int) -> bytes:
    try:
        with _opened(path) as (file, status):
            if status.st_size > limit:
                raise PackageError(f"{path.name} has {status.st_size} bytes, over {limit}")
            return file.read(limit)
    except FileNotFoundError as error:
        raise PackageError(f"there is no {path.name} in {path.parent}: no package") from error


def _missing(wanted: Mapping[str, PackageFile]) -> str:
    first = min(wanted)
    more = f" and {len(wanted) - 1} more" if len(wanted) > 1 else ""
    return f"{first}{more} is in the manifest and not in the package"


def _is_safe(path: str) -> bool:
    parts = path.split("/")
    return len(path) <= _MAX_PATH and all(
        _PART.fullmatch(part) and part.strip(".") and not part.startswith(_TEMPORARY)
        for part in parts
    )


def _file(entry: Mapping[str, Any]) -> PackageFile:
    read = _Fields(entry, f"{MANIFEST}, files")
    path, sha256, executable = read.text("path"), read.text("sha256"), entry.get("executable")
    if not _is_safe(path):
        raise PackageError(f"{MANIFEST}: {path!r} is no path inside a package")
    if not _SHA256.fullmatch(sha256) or not isinstance(executable, bool):
        raise PackageError(f"{MANIFEST}: sha256 or executable of {path} is no such thing")
    return PackageFile(path, read.number("size"), sha256, executable)


def _licence(entry: Mapping[str, Any]) -> Licence:
    read = _Fields(entry, f"{MANIFEST}, licences")
    return Licence(*(read.text(name) for name in ("name", "version", "licence", "file")))


class _Fields:
    def __init__(self, value: Mapping[str, Any], where: str) -> None:
        self._value, self._where = value, where

    def text(self, name: str) -> str:
        found = self._value.get(name)
        if not isinstance(found, str) or len(found) > 1000 or not found.isprintable():
            raise PackageError(f"{self._where}: {name} is missing or no text")
        return found

    def number(self, name: str) -> int:
        found = self._value.get(name)
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 2**53:
            raise PackageError(f"{self._where}: {name} is missing or no whole number from 0")
        return found

    def objects(self, name: str) -> list[Mapping[str, Any]]:
        found = self._value.get(name)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise PackageError(f"{self._where}: {name} is missing or no list of objects")
        return found


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
