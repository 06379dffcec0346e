"""Which segments lie in the landing folder, by day, and which are new.

What belongs here: finding files by their names and times. What does not: opening them (see
`probe.py`). A landing folder may hold a site's footage, laid out by a path template, and the
folders of known data sets beside it.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Protocol

from fall_assets.datasets import DATASETS, SITE, Dataset, DatasetCamera, place
from fall_assets.footage.template import Enter, PathTemplate

LONGEST_SEGMENT_S = 3600.0
"""A segment is written for no longer than this; older folders have no file that still grows."""

LATE_DAYS = 2
"""For so many days back, files that arrive late in a folder that was there already are noticed."""


@dataclass(frozen=True)
class Found:
    """A file that may be a segment, known by its name only.

    Attributes:
        path: below the landing folder, with '/'.
        camera_id: the camera.
        start_utc: when it starts.
        dataset: the data set's name, or 'site'.
        subject: who is seen, where the source tells.
        scene: what must stay together in a split.
        camera: what the source knows about the camera; None for a site's own.
    """

    path: str
    camera_id: str
    start_utc: datetime
    dataset: str
    subject: str | None
    scene: str
    camera: DatasetCamera | None = None


class Source(Protocol):
    """A way in which footage lies in a landing folder."""

    def days(self) -> list[date]:
        """Days with footage, sorted."""
        ...

    def find(self, day: date) -> list[Found]:
        """The day's files, sorted by path."""
        ...

    def changed(self, since_s: float, until_s: float, today: date) -> Iterator[tuple[date, str]]:
        """Day and path of files last changed after `since_s` and not after `until_s`.

        Both are seconds since the epoch.
        """
        ...


@dataclass(frozen=True)
class SiteSource:
    """The hospital's own footage, laid out by a template."""

    landing: Path
    template: PathTemplate

    def days(self) -> list[date]:
        """Days with at least one file."""
        return self.template.days(self.landing)

    def find(self, day: date) -> list[Found]:
        """The day's files; folders of other days are not listed."""
        return sorted(
            (
                Found(path, camera, start, SITE, None, f"{SITE}/{camera}/{day}")
                for path, camera, start in self.template.walk(self.landing, day=day)
            ),
            key=lambda found: found.path,
        )

    def changed(self, since_s: float, until_s: float, today: date) -> Iterator[tuple[date, str]]:
        """Look at the last days' folders, and at older ones only where they are new.

        The cost of a call depends on the cameras and on the last days' files, not on the history,
        where the template puts each day into folders of its own; only in the hour after a new
        day's folder came are its neighbours' times looked at, too. Files that come late into a
        folder that is older than LATE_DAYS are not noticed: materialize that day by hand.
        """
        fresh_s = since_s - LONGEST_SEGMENT_S
        recent = [today - timedelta(days=back) for back in range(-1, LATE_DAYS + 1)]

        def enter_recent(folder: str, depth: int, _day: date | None) -> bool:
            return depth < self.template.file_depth or self._changed_s(folder) >= fresh_s

        def enter_old(folder: str, depth: int, day: date | None) -> bool:
            if day in recent:
                return False
            return depth < self.template.day_depth or self._changed_s(folder) >= fresh_s

        if math.isinf(since_s):
            yield from self._settled(None, since_s, until_s, lambda *_: True)
            return
        for day in recent:
            yield from self._settled(day, since_s, until_s, enter_recent)
        for day, path in self._settled(None, since_s, until_s, enter_old):
            if day not in recent:
                yield day, path

    def _settled(
        self, day: date | None, since_s: float, until_s: float, enter: Enter
    ) -> Iterator[tuple[date, str]]:
        walk = self.template.walk(
            self.landing,
            day=day,
            enter=enter,
            keep=lambda path: since_s < self._changed_s(path) <= until_s,
        )
        for path, _camera, start in walk:
            yield start.date(), path

    def _changed_s(self, path: str) -> float:
        return _changed_s(f"{self.landing}/{path}")


@dataclass(frozen=True)
class DatasetSource:
    """One data set's folder."""

    landing: Path
    dataset: Dataset

    def days(self) -> list[date]:
        """The nominal day, where the folder holds a video."""
        return [self.dataset.day] if place(self.landing, self.dataset) else []

    def find(self, day: date) -> list[Found]:
        """All files on the nominal day, none on others."""
        if day != self.dataset.day:
            return []
        return [
            Found(
                path=placed.path,
                camera_id=placed.seen.camera.camera_id,
                start_utc=placed.start_utc,
                dataset=self.dataset.name,
                subject=placed.seen.subject,
                scene=f"{self.dataset.name}/{placed.seen.scene}",
                camera=placed.seen.camera,
            )
            for placed in place(self.landing, self.dataset)
        ]

    def changed(self, since_s: float, until_s: float, today: date) -> Iterator[tuple[date, str]]:
        """Look at every file: data sets are small."""
        for placed in place(self.landing, self.dataset):
            if since_s < _changed_s(f"{self.landing}/{placed.path}") <= until_s:
                yield self.dataset.day, placed.path


def sources(landing: Path, template: PathTemplate) -> list[Source]:
    """The site's own footage, and the data sets whose folders are there."""
    present = [dataset for dataset in DATASETS.values() if (landing / dataset.name).is_dir()]
    return [
        SiteSource(landing, template),
        *(DatasetSource(landing, dataset) for dataset in present),
    ]


def find(landing: Path, template: PathTemplate, day: date) -> list[Found]:
    """The day's files, sorted by path; only names are read.

    A link that leads out of the landing folder is found like any file and refused at intake.
    """
    found: dict[str, Found] = {}
    for source in sources(landing, template):
        for file in source.find(day):
            found.setdefault(file.path, file)
    return [found[path] for path in sorted(found)]


def days_with_footage(landing: Path, template: PathTemplate) -> list[date]:
    """Days for which files lie in the landing folder, sorted."""
    return sorted({day for source in sources(landing, template) for day in source.days()})


def new_since(
    landing: Path,
    template: PathTemplate,
    cursor: str | None,
    *,
    settle_s: float = 10.0,
    now: datetime | None = None,
) -> tuple[dict[date, list[str]], str]:
    """Files that were finished since the last call, by day, and the cursor for the next call.

    A file is reported once it has not changed for `settle_s`, and again whenever it changes.
    Without a cursor, and after a change of the landing folder or the template, every file is
    reported: intake of a known file changes nothing. The times are the file system's change times,
    which copying and unpacking cannot set back; the file system's clock must agree with this
    machine's within `settle_s`.
    """
    moment_s = time.time() if now is None else now.timestamp()
    where = {"landing": str(landing), "template": template.text}
    since_s = _read_cursor(cursor, where)
    until_s = moment_s - settle_s
    if until_s <= since_s:
        return {}, cursor or ""
    today = datetime.fromtimestamp(moment_s, UTC).date()
    by_day: dict[date, set[str]] = {}
    for source in sources(landing, template):
        for day, path in source.changed(since_s, until_s, today):
            by_day.setdefault(day, set()).add(path)
    new = {day: sorted(paths) for day, paths in sorted(by_day.items())}
    return new, json.dumps({**where, "until_s": until_s})


def _read_cursor(cursor: str | None, where: dict[str, str]) -> float:
    """The moment up to which files were reported; -inf where the cursor does not fit."""
    if not cursor:
        return -math.inf
    try:
        told = json.loads(cursor)
    except json.JSONDecodeError:
        return -math.inf
    if not isinstance(told, dict) or any(told.get(key) != value for key, value in where.items()):
        return -math.inf
    until_s = told.get("until_s")
    return float(until_s) if isinstance(until_s, int | float) else -math.inf


def _changed_s(path: str) -> float:
    """When the file system last saw a change of content or name; -inf where it is gone."""
    try:
        # Asked for every file of the last days: a Path would cost more than the question.
        return os.stat(path).st_ctime  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return -math.inf
