"""An archive from the gateway, in pieces, going on where it broke off.

What belongs here: the bytes of one file and whether they are the wanted ones. What does not: what
they mean (`package.py`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import threading
from pathlib import Path
from typing import Final

from fall_assets.edge.client import GatewayAwayError, GatewayClient
from fall_assets.errors import PassingFailureError, PermanentFailureError

_TRIES: Final = 5
_WAIT_S: Final = (0.5, 20.0)
_ROOM: Final = 4
"""An archive and what it holds unpacked, in sizes of the archive."""
_SYNC_EVERY: Final = 8 << 20


class WrongArchiveError(PermanentFailureError):
    """What was fetched is not what was asked for; it is thrown away."""


def fetch(
    client: GatewayClient, sha256: str, size: int, target: Path, stop: threading.Event
) -> None:
    """Fetch an archive to `target`; what is there already is gone on with.

    Args:
        client: to the gateway.
        sha256: of the archive, in hex.
        size: of the archive in bytes; no more than that is taken.
        target: the file; it is whole and right on return.
        stop: breaks it off (what was fetched stays).

    Raises:
        WrongArchiveError: the bytes are others.
        GatewayAwayError: broke off several times without a step forward; try later.
        PassingFailureError: the disk is full, or it was stopped.
        GatewayRefusedError: the gateway has no such package.
    """
    failures = 0
    while (there := target.stat().st_size if target.exists() else 0) < size:
        if stop.is_set():
            raise PassingFailureError("stopped while fetching a package")
        _require_room(target, size, there)
        try:
            _fetch_from(client, sha256, size, target, there, stop)
        except GatewayAwayError:
            came = (target.stat().st_size if target.exists() else 0) > there
            failures = 1 if came else failures + 1
            if failures >= _TRIES:
                raise
            first, most = _WAIT_S
            stop.wait(min(most, first * 2**failures) * random.uniform(0.5, 1))  # noqa: S311
    with target.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if there > size or found != sha256:
        target.unlink()
        raise WrongArchiveError(
            f"the fetched archive has SHA-256 {found[:16]}, the assignment says {sha256[:16]} (the "
            "beginnings); it was thrown away"
        )


def _fetch_from(
    client: GatewayClient,
    sha256: str,
    size: int,
    target: Path,
    there: int,
    stop: threading.Event,
) -> None:
    with client.open_package(sha256, there) as download:
        if download.offset not in (0, there):
            raise GatewayAwayError("sent another piece than was asked for")
        try:
            with target.open("r+b" if target.exists() else "wb") as file:
                file.truncate(download.offset)
                file.seek(download.offset)
                have, synced = download.offset, download.offset
                while piece := download.read():
                    have += len(piece)
                    if have > size:
                        file.truncate(0)
                        raise WrongArchiveError(
                            f"the archive goes on after {size} bytes; it was thrown away"
                        )
                    file.write(piece)
                    if have - synced > _SYNC_EVERY:
                        file.flush()
                        os.fsync(file.fileno())
                        synced = have
                    if stop.is_set():
                        raise PassingFailureError("stopped while fetching a package")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise PassingFailureError("the disk is full; make room for the package") from error
            raise PassingFailureError(f"cannot write {target}: {error}") from error
        if have < size and download.size is not None and download.size <= have:
            target.unlink()
            raise WrongArchiveError(
                f"the gateway's archive has {have} bytes, the assignment says {size}; it was "
                "thrown away"
            )
        if have < size:
            raise GatewayAwayError(f"the package broke off after {have} of {size} bytes")


def _require_room(target: Path, size: int, there: int) -> None:
    free = shutil.disk_usage(target.parent).free
    wanted = _ROOM * size - there
    if free < wanted:
        raise PassingFailureError(
            f"{free / 1e6:.0f} MB are free for packages, {wanted / 1e6:.0f} MB are needed; make "
            "room"
        )
