"""Recorders that write below the landing folder: which files there are, and which are new.

What belongs here: the walk through folders, of the last days and in rotation of all others. What
does not: the layout of paths (`template.py`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from fall_assets.footage.notices import notices_of, opened
from fall_assets.footage.sources import SourceSettings
from fall_assets.footage.store import fingerprint
from fall_assets.footage.template import Listing, PathTemplate, listing
from fall_assets.footage.watching import (
    Change,
    Found,
    Progress,
    Window,
    site_file,
    status_of,
    was_hot,
)

LONGEST_SEGMENT_S = 3600.0
"""A segment is written for no longer than this; older folders have no file that still grows."""

PATROL_FOLDERS = 64
"""Old folders that one tick looks at."""

PATROL_FILES = 1000
"""Old files that one tick looks at where days have no folders, and one day has no more."""

_RARE = 10
"""A folder whose notices are heard is patrolled so much less often."""

_MOST_WATCHED = 2_000
_FIRST_DAY = date(2000, 1, 1)
_FUTURE_DAYS = 366
_LONGEST_STRIDE = 1024
_NOTHING_TOLD: Mapping[str, float] = {}


@dataclass(frozen=True)
class FolderSource:
    """Recorders that write below the landing folder, laid out by a template."""

    landing: Path
    settings: SourceSettings
    template: PathTemplate

    @property
    def name(self) -> str:
        """As configured."""
        return self.settings.name

    @property
    def where(self) -> str:
        """Folder, template and zone."""
        return f"{self._root} {self.template.text} {self.template.timezone}"

    @property
    def _root(self) -> Path:
        return self.landing / self.settings.at

    def days(self) -> list[date]:
        """Days with at least one file."""
        return self.template.days(self._root)

    def find(self, day: date) -> list[Found]:
        """The day's files; folders of other days are not listed."""
        return [
            site_file(self._path(path), camera, start, self.name)
            for path, camera, start in self.template.find(self._root, day)
        ]

    def changed(self, window: Window, progress: Progress) -> Iterator[Change]:
        """Look at the last days' files, at new folders of old days, and at the patrol's share."""
        if math.isinf(window.since_s):
            yield from self._everything(window, progress)
            return
        progress.forget(progress.last_round_s)
        if self.template.days_have_folders:
            hot = self._hot_days(window)
            yield from self._last_days(window, hot)
            for change in self._new_folders(window, progress, frozenset(hot)):
                yield from self._late(change, progress)
            for change in self._patrol(window, progress, frozenset(hot)):
                yield from self._late(change, progress)
        else:
            yield from self._flat(window, progress)

    def _everything(self, window: Window, progress: Progress) -> Iterator[Change]:
        progress.round_s = progress.last_round_s = window.done_s
        for change, _changed_s in self._settled(window):
            yield change

    def _hot_days(self, window: Window) -> list[date]:
        """What names may tell of the window's days."""
        return sorted({local for day in window.hot for local in self.template.local_days(day)})

    def _last_days(self, window: Window, hot: Sequence[date]) -> Iterator[Change]:
        fresh_s = window.since_s - LONGEST_SEGMENT_S

        def enter(folder: str, depth: int, _day: date | None) -> bool:
            return depth < self.template.file_depth or self._changed_s(folder) >= fresh_s

        for change, _changed_s in self._settled(window, local_days=hot, enter=enter):
            yield change

    def _new_folders(
        self, window: Window, progress: Progress, hot: frozenset[date]
    ) -> Iterator[tuple[Change, float]]:
        """Files in folders of old days that are new or have new entries right in them.

        A day folder's parent is listed only where its entries changed since the last tick.
        """
        changed: list[str] = []

        def enter(folder: str, depth: int, day: date | None) -> bool:
            if depth < self.template.day_depth:
                # Above the days' parents, entries change without these folders noticing.
                return True
            is_changed = self._changed_s(folder) > window.since_s
            if day is not None and day not in hot and is_changed:
                changed.append(self.template.day_folder(folder))
            return day is None and is_changed

        for _ in self.template.walk(self._root, enter=enter):
            pass
        for folder in changed:
            if len(progress.watched) < _MOST_WATCHED:
                progress.watched[folder] = window.done_s + LONGEST_SEGMENT_S
        for folder in sorted({*changed, *progress.watched}):
            yield from self._in_folder(window, folder)
            if window.done_s > progress.watched.get(folder, math.inf):
                del progress.watched[folder]

    def _in_folder(self, window: Window, folder: str) -> Iterator[tuple[Change, float]]:
        """Files in a folder that changed in the window; all of them where the folder was moved."""
        status = status_of(f"{self._root}/{folder}")
        if status is None:
            return
        # A move changes neither the entries of a folder nor the files in it.
        moved = status.st_mtime <= window.since_s < status.st_ctime
        moved_s = status.st_ctime if moved else -math.inf
        yield from self._settled(window, moved_s=moved_s, below=folder)

    def _patrol(
        self, window: Window, progress: Progress, hot: frozenset[date]
    ) -> Iterator[tuple[Change, float]]:
        late = replace(window, since_s=progress.last_round_s)
        looked_at = 0
        for folder, day in self.template.folders(self._root, after=progress.patrol_at):
            if day in hot:
                continue
            if looked_at == PATROL_FOLDERS:
                return
            looked_at += 1
            progress.patrol_at = folder
            if self._changed_s(folder) > late.since_s:
                yield from self._in_folder(late, folder)
        progress.patrol_at = ""
        progress.last_round_s, progress.round_s = progress.round_s, window.done_s

    def _flat(self, window: Window, progress: Progress) -> Iterator[Change]:
        """Look at the names that the system says changed; else list all of them, once, and look at
        those of the last days and of the patrol's share of the older ones.
        """
        heard = opened(self._root) if self.template.file_depth == 0 else None
        told = None if heard is None else heard.since(window.since_s, window.done_s)
        if told is not None:
            yield from self._told(window, progress, told)
            return
        names = lru_cache(maxsize=None)(listing)
        if self.template.file_depth == 0:
            heard = notices_of(self._root, len(names(self._root)))
        hot = self._hot_days(window)
        fresh_s = window.since_s - LONGEST_SEGMENT_S

        def enter(folder: str, depth: int, _day: date | None) -> bool:
            return depth < self.template.file_depth or self._changed_s(folder) >= fresh_s

        back = window
        if heard is not None and math.isfinite(heard.listed_s):
            back = replace(window, since_s=min(window.since_s, heard.listed_s))
        for change, changed_s in self._settled(back, local_days=hot, enter=enter, names=names):
            # What changed before the last tick was reported by it, if it was told of it.
            if (
                changed_s > window.since_s
                or heard is None
                or not heard.was_told(PurePosixPath(change.path).name)
            ):
                yield change
        most = PATROL_FILES if heard is None else _RARE * PATROL_FILES
        days = self._patrolled(hot, progress, names, most)
        late = replace(window, since_s=progress.last_round_s)
        for arrived in self._settled(late, local_days=days, names=names):
            yield from self._late(arrived, progress)
        if days[0] == _FIRST_DAY:
            progress.patrol_at = ""
            progress.last_round_s, progress.round_s = progress.round_s, window.done_s
        else:
            progress.patrol_at = days[0].isoformat()
        if heard is not None:
            heard.listed(window.done_s)

    def _told(
        self, window: Window, progress: Progress, told: Mapping[str, float]
    ) -> Iterator[Change]:
        """Of the files of which the system told, those that arrived in the window, of any day."""
        for change, changed_s in self._settled(window, told_s=told, names=lambda _folder: [*told]):
            day_is_hot = was_hot(change.day, changed_s)
            if day_is_hot or progress.is_news(change.path, change.fingerprint, changed_s):
                yield change

    def _patrolled(
        self, hot: list[date], progress: Progress, names: Listing, most: int
    ) -> list[date]:
        """The days before those that were patrolled last: as many as hold few enough files."""
        last = hot[-1] + timedelta(days=_FUTURE_DAYS)
        if progress.patrol_at:
            last = min(last, date.fromisoformat(progress.patrol_at) - timedelta(days=1))
        if last in hot:
            last = hot[0] - timedelta(days=1)
        while True:
            first = max(last - timedelta(days=progress.stride - 1), _FIRST_DAY)
            if first <= hot[-1] < last:
                first = hot[-1] + timedelta(days=1)
            days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
            files = self.template.names_of(self._root, days, names)
            if files <= most or progress.stride == 1:
                if files <= most // 4:
                    progress.stride = min(2 * progress.stride, _LONGEST_STRIDE)
                return days
            progress.stride = max(progress.stride // 4, 1)

    def _late(self, change: tuple[Change, float], progress: Progress) -> Iterator[Change]:
        """The change, where no tick looked at its day when it came, and it was not reported."""
        told, changed_s = change
        if was_hot(told.day, changed_s):
            return
        if progress.is_news(told.path, told.fingerprint, changed_s):
            yield told

    def _settled(
        self,
        window: Window,
        *,
        moved_s: float = -math.inf,
        told_s: Mapping[str, float] = _NOTHING_TOLD,
        **walk: Any,
    ) -> Iterator[tuple[Change, float]]:
        """Files of a walk that arrived in the window, and when they did.

        A file did not arrive before its folder was moved, nor before it was told of.
        """
        root, found = str(self._root), dict[str, tuple[os.stat_result, float]]()

        # Asked before a name's time is read: most files of a tick did not change.
        def keep(path: str) -> bool:
            status = status_of(f"{root}/{path}")
            if status is None:
                return False
            arrived_s = max(status.st_ctime, moved_s, told_s.get(path, -math.inf))
            if not window.holds(arrived_s):
                return False
            found[path] = status, arrived_s
            return True

        for path, _camera, start in self.template.walk(self._root, keep=keep, **walk):
            status, arrived_s = found.pop(path)
            yield Change(start.date(), self._path(path), fingerprint(status)), arrived_s

    def _changed_s(self, folder: str) -> float:
        status = status_of(f"{self._root}/{folder}")
        return -math.inf if status is None else status.st_ctime

    def _path(self, path: str) -> str:
        return f"{self.settings.at}/{path}" if self.settings.at else path
