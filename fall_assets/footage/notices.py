"""What the system tells of changes in a large folder, so that a tick need not list its names.

What belongs here: hearing of changes, and when that may not be trusted. What does not: which of
the changed files are segments (`folders.py`).

The notices live in the process that ticks and are lost with it. They only ever spare a listing: the
first ticks of a process list, and so does one every RELIST_S, which finds what was not told.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from watchfiles import watch

FEWEST_NAMES = 5_000
"""Listing a folder of fewer names costs less than hearing of its changes."""

RELIST_S = 300.0
"""So often a watched folder is listed all the same: a full queue loses notices without a word."""

_LISTEN_MS = 1_000


class Notices:
    """Names in one folder that changed since this process began to listen."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place = _place(folder)
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}
        self._began_s = math.inf
        self._heard = False
        self.listed_s = -math.inf
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True, name="footage-notices")
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it still listens to the folder that stands at its path."""
        return self._thread.is_alive() and _place(self._folder) == self._place

    def close(self) -> None:
        """Listen no more."""
        self._stop.set()

    def since(self, since_s: float, now_s: float) -> Mapping[str, float] | None:
        """Names that changed after a moment, with the time at which that was told.

        None where the folder must be listed: notices do not reach back so far, a listing is due,
        or the folder changed and nothing was told, as on a network's file system.
        """
        with self._lock:
            if not self._heard or self._began_s > since_s or now_s > self.listed_s + RELIST_S:
                return None
            told = {name: at for name, at in self._told.items() if at > since_s}
        if not told and _changed_s(self._folder) > since_s:
            return None
        return told

    def was_told(self, name: str) -> bool:
        """Whether a notice of this name came since the last listing."""
        with self._lock:
            return name in self._told

    def listed(self, done_s: float) -> None:
        """The folder was listed, and what changed up to `done_s` was reported."""
        with self._lock:
            self.listed_s = done_s
            self._told = {name: at for name, at in self._told.items() if at > done_s}

    def _listen(self) -> None:
        for changes in watch(
            self._folder,
            watch_filter=None,
            recursive=False,
            stop_event=self._stop,
            rust_timeout=_LISTEN_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            now_s = time.time()
            with self._lock:
                # The first answer says that listening has begun.
                self._began_s = min(self._began_s, now_s)
                self._heard = self._heard or bool(changes)
                self._told.update((os.path.basename(path), now_s) for _kind, path in changes)  # noqa: PTH119


_open: dict[Path, Notices] = {}
_opening = threading.Lock()


def notices_of(folder: Path, names: int) -> Notices | None:
    """The notices of a folder that holds so many names; None where listing it is as well."""
    if sys.platform != "linux":
        return None
    with _opening:
        found = _open.get(folder)
        if found is not None and (not found.is_alive or names < FEWEST_NAMES // 2):
            found.close()
            del _open[folder]
            found = None
        if found is None and names >= FEWEST_NAMES:
            found = _open[folder] = Notices(folder)
        return found


def opened(folder: Path) -> Notices | None:
    """The notices of a folder, where they live."""
    with _opening:
        found = _open.get(folder)
        return found if found is not None and found.is_alive else None


def _place(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _changed_s(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return math.inf
