"""Footage by its path, wherever it lies: a local file of it, its state, its deletion.

What belongs here: confining paths to the landing folder, and the cache of what lies in buckets.
What does not: finding footage (see `discovery.py`) and what its content is worth (see `probe.py`).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile

from fall_assets.errors import PermanentFailureError
from fall_assets.footage.buckets import SCHEME, Bucket, is_address, split

CACHE_BYTES = 20 * 1024**3
"""Copies of objects take no more room than this; the longest unused go first."""

_KEPT_S = 3600.0
"""A copy used within this time stays although the cache is full: a stage may read it still."""


class ForbiddenPathError(PermanentFailureError):
    """A path leads out of the landing folder or the bucket."""


@dataclass(frozen=True)
class FileState:
    """What is known of a file without reading it.

    Attributes:
        bytes: its size.
        fingerprint: changes whenever the file is written again.
        modified_s: when it was last changed, in seconds since the epoch.
    """

    bytes: int
    fingerprint: str
    modified_s: float


@dataclass(frozen=True)
class Footage:
    """All footage of a site.

    A path is below the landing folder, with '/', or 's3://bucket/key'.

    Attributes:
        landing: the landing folder.
        cache: where copies of objects lie; whatever else lies there may be removed.
        cache_bytes: how much room copies may take, but for those used within the last hour.
    """

    landing: Path
    cache: Path
    cache_bytes: int = CACHE_BYTES

    def stage(self, path: str) -> Path:
        """A local file with the content; for an object a copy that is made once per etag.

        Raises:
            UnusableFileError: outside_root, where a link or '..' leads out of the landing folder;
                unreadable, where a link leads nowhere.
            FileNotFoundError: there is no such file.
            BucketAwayError, BucketError: as `Bucket` raises them.
        """
        if not is_address(path):
            return self._confined(path)
        bucket, key = split(path)
        found = Bucket(bucket).state(key)
        if found is None:
            raise FileNotFoundError(f"there is no object {path}")
        target = self._copy(path, found.etag)
        try:
            os.utime(target)
        except FileNotFoundError:
            self._make_room(found.bytes)
            with _replacing(target) as part:
                Bucket(bucket).download(key, part)
        return target

    def state(self, path: str) -> FileState | None:
        """What is known of a file without reading it; None where it is gone.

        A link is followed; one that leads nowhere is gone.
        """
        if is_address(path):
            bucket, key = split(path)
            found = Bucket(bucket).state(key)
            return None if found is None else FileState(found.bytes, found.etag, found.changed_s)
        try:
            status = (self.landing / path).stat()
        except (OSError, ValueError):
            return None
        return FileState(status.st_size, fingerprint(status), status.st_mtime)

    def delete(self, path: str) -> bool:
        """Delete the named file and no other; False where it was gone already.

        Of a link, the link is deleted and not what it leads to.

        Raises:
            ForbiddenPathError: the path leads out of the landing folder, or names a folder.
            OSError: the file cannot be deleted.
            BucketAwayError, BucketError: as `Bucket` raises them.
        """
        if is_address(path):
            bucket, key = split(path)
            if not key:
                raise ForbiddenPathError(f"{path} names a bucket, not an object of it")
            return Bucket(bucket).delete(key)
        named = PurePosixPath(path)
        if not path or named.is_absolute() or ".." in named.parts:
            raise ForbiddenPathError(f"{path!r} is not a path below the landing folder")
        target = self.landing / path
        root = self.landing.resolve()
        try:
            folder = target.parent.resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, RuntimeError) as error:
            raise ForbiddenPathError(f"{path!r}: its links lead in a circle") from error
        if not folder.is_relative_to(root):
            raise ForbiddenPathError(f"{path!r} leads out of the landing folder by a link")
        if target.is_dir() and not target.is_symlink():
            raise ForbiddenPathError(f"{path!r} is a folder; only files are deleted")
        try:
            target.unlink()
        except FileNotFoundError:
            return False
        return True

    def forget(self, path: str, fingerprint: str) -> None:
        """Remove the copy of an object as it was with that fingerprint, where there is one."""
        if is_address(path):
            self._copy(path, fingerprint).unlink(missing_ok=True)

    def _copy(self, path: str, etag: str) -> Path:
        name = hashlib.sha256(f"{path}\n{etag}".encode()).hexdigest()
        return self.cache / f"{name}{PurePosixPath(path).suffix}"

    def _confined(self, path: str) -> Path:
        from fall_assets.footage.probe import UnusableFileError

        root = self.landing.resolve()
        named = root / path
        try:
            target = named.resolve()
        except (OSError, RuntimeError) as error:
            raise UnusableFileError("unreadable", "its links lead in a circle") from error
        if not target.is_relative_to(root):
            raise UnusableFileError("outside_root", "it leads out of the landing folder")
        try:
            target.lstat()
        except FileNotFoundError:
            if named.is_symlink():
                raise UnusableFileError(
                    "unreadable", "it is a link to a file that is not there"
                ) from None
            raise FileNotFoundError(f"there is no file {path} in the landing folder") from None
        return target

    def _make_room(self, wanted: int) -> None:
        """Remove copies, the longest unused first, until `wanted` bytes fit."""
        copies = []
        for path in self.cache.glob("*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            copies.append((status.st_mtime, status.st_size, path))
        taken = sum(size for _used_s, size, _path in copies) + wanted
        for used_s, size, path in sorted(copies):
            if taken <= self.cache_bytes or used_s > time.time() - _KEPT_S:
                return
            path.unlink(missing_ok=True)
            taken -= size


def fingerprint(status: os.stat_result) -> str:
    """The fingerprint of a local file."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def address(bucket: str, key: str) -> str:
    """The path of an object."""
    return f"{SCHEME}{bucket}/{key}"


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A file beside `target` that takes its place when the block ends well, and goes otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=target.parent, prefix=".part-", delete=False) as file:
        part = Path(file.name)
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
