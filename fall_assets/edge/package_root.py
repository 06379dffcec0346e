"""The folder in which a box keeps its packages, and what it remembers about them.

What belongs here: the layout, the state file, the lock, clearing up. What does not: deciding what
runs (`agent.py`).

    packages/MANIFEST_SHA256/   verified packages; a folder here is whole
    downloads/ARCHIVE_SHA256    archives on their way
    state/SLOT/                 what a runner keeps: outbox, health.json
    state.json                  what shall run; replaced in one step, and the only truth
    current                     link to the package that serves; for whoever starts the agent

State and packages survive a power cut at any moment: a package is there whole or not at all, and a
state names only packages that are there.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from fall_assets.edge.package import remove_unfinished
from fall_assets.errors import PassingFailureError, PermanentFailureError

_FORMAT: Final = 1
_MAX_REPORTS: Final = 50


class RootInUseError(PassingFailureError):
    """Another agent works in this folder."""


@dataclass(frozen=True)
class Running:
    """One package at work. `cameras` are this box's ids, none: all."""

    manifest_sha256: str
    model_version: str
    sequence: int
    cameras: tuple[str, ...]
    shadow: bool


@dataclass(frozen=True)
class Setup:
    """What runs together; `serial` is that of the assignment, -1 where it was set up by hand."""

    serial: int
    parts: tuple[Running, ...]

    @property
    def sequence(self) -> int:
        """The newest package that serves in it."""
        return max((part.sequence for part in self.parts if not part.shadow), default=0)

    @property
    def packages(self) -> frozenset[str]:
        """The packages in it."""
        return frozenset(part.manifest_sha256 for part in self.parts)


@dataclass(frozen=True)
class Report:
    """What is to be told to the gateway."""

    package: str
    state: str
    detail: str


@dataclass(frozen=True)
class State:
    """What the box remembers.

    Attributes:
        serial, digest: of the newest assignment that was seen; -1 before the first.
        current: what shall run.
        previous: the last good one before it, to go back to.
        on_probation: whether `current` has not been healthy yet.
        starts: how often the agent began anew in this probation.
        bad: packages that failed, and the assignment's serial under which they did.
        reports: not told yet, oldest first.
    """

    serial: int = -1
    digest: str = ""
    current: Setup | None = None
    previous: Setup | None = None
    on_probation: bool = False
    starts: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    reports: tuple[Report, ...] = ()

    def reporting(self, package: str, state: str, detail: str = "") -> State:
        """The same with one more report; the oldest are dropped where there are many."""
        reports = (*self.reports, Report(package, state, detail[:1000]))
        return replace(self, reports=reports[-_MAX_REPORTS:])

    def switched(self, setup: Setup) -> State:
        """The same with another setup at work, on probation."""
        good = self.previous if self.on_probation else self.current
        return replace(self, current=setup, previous=good, on_probation=True, starts=0)

    def gone_back(self) -> State:
        """The same with the last good setup at work again."""
        return replace(self, current=self.previous, previous=None, on_probation=False, starts=0)


class PackageRoot:
    """The folder; made where it is missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.packages = self.folder / "packages"
        self.downloads = self.folder / "downloads"
        self.states = self.folder / "state"
        self.link = self.folder / "current"
        self._file = self.folder / "state.json"
        try:
            for made in (self.packages, self.downloads, self.states):
                made.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PermanentFailureError(f"cannot keep packages in {folder}: {error}") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Work in the folder alone. Raises RootInUseError where somebody else does."""
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RootInUseError(f"an agent works in {self.folder}; stop it first") from error
            yield

    def load(self) -> State:
        """What was remembered; nothing on the first start.

        Raises PermanentFailureError where the file is damaged (it is never half written).
        """
        try:
            content = json.loads(self._file.read_text("utf-8"))
        except FileNotFoundError:
            return State()
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error
        try:
            if content.pop("format") != _FORMAT:
                raise ValueError("of another format")
            return State(
                **{
                    **content,
                    "current": _setup(content["current"]),
                    "previous": _setup(content["previous"]),
                    "reports": tuple(Report(**one) for one in content["reports"]),
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(error) from error

    def save(self, state: State) -> None:
        """Remember; durable on return. Raises PassingFailureError where the disk is full."""
        content = json.dumps({"format": _FORMAT, **asdict(state)}, indent=1)
        partial = self._file.with_suffix(".part")
        try:
            with partial.open("w") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._file)
            sync_folder(self.folder)
        except OSError as error:
            raise PassingFailureError(f"cannot write {self._file}: {error}") from error

    def package(self, manifest_sha256: str) -> Path:
        """Where a package is or will be."""
        return self.packages / manifest_sha256

    def point_to(self, manifest_sha256: str | None) -> None:
        """Let `current` name a package; None: nothing."""
        if manifest_sha256 is None:
            self.link.unlink(missing_ok=True)
            return
        target = Path("packages") / manifest_sha256
        if self.link.is_symlink() and self.link.readlink() == target:
            return
        partial = self.folder / "current.part"
        partial.unlink(missing_ok=True)
        partial.symlink_to(target)
        partial.replace(self.link)
        sync_folder(self.folder)

    def clear(self, keep: Iterable[str], keep_downloads: Iterable[str] = ()) -> None:
        """Remove packages and downloads but the named ones, and what was left half done.

        The package that this program itself runs from stays.
        """
        remove_unfinished(self.packages)
        kept, kept_downloads = set(keep), set(keep_downloads)
        own = Path(sys.executable).resolve()
        for folder in self.packages.iterdir():
            if folder.name in kept or own.is_relative_to(folder.resolve()):
                continue
            # A package that is half removed must not look whole.
            gone = folder.with_name(f".unpacking-gone-{folder.name[:16]}")
            shutil.rmtree(gone, ignore_errors=True)
            with suppress(OSError):
                folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        for file in self.downloads.iterdir():
            if file.name not in kept_downloads:
                file.unlink(missing_ok=True)

    def _damaged(self, error: Exception) -> PermanentFailureError:
        return PermanentFailureError(
            f"{self._file} is damaged ({error!r}); move it away and install the package again"
        )


def sync_folder(folder: Path) -> None:
    """Make what was renamed in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _setup(content: Any) -> Setup | None:
    if content is None:
        return None
    parts = tuple(Running(**{**one, "cameras": tuple(one["cameras"])}) for one in content["parts"])
    return Setup(content["serial"], parts)
