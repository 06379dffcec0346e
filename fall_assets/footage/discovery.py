"""Which segments lie in a site's sources, by day, and which are new.

What belongs here: finding files by their names and times. What does not: opening them (see
`probe.py`). Footage lies below the landing folder or in buckets, laid out by path templates; the
folders of known data sets may stand in the landing folder beside it.

What a tick costs. A file is looked at when its name's day is one of the last days (HOT); that cost
depends on the recorders, not on the history. Whatever arrives for another day is found in two
ways: a new folder for an old day is noticed by its parent's time of change, and a patrol looks at a
bounded number of old folders (or pages of a bucket) per tick, in rotation, so that every late file
is found in the end.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from fall_assets.datasets import DATASETS, SITE, Dataset, DatasetCamera, place
from fall_assets.errors import FallAssetsError, PermanentFailureError
from fall_assets.footage.buckets import Bucket, BucketObject, split
from fall_assets.footage.sources import SourceSettings
from fall_assets.footage.store import FileState, address, fingerprint
from fall_assets.footage.template import Listing, PathTemplate, listing

LONGEST_SEGMENT_S = 3600.0
"""A segment is written for no longer than this; older folders have no file that still grows."""

LATE_DAYS = 2
"""So many days back, every file is looked at in every tick; older days are the patrol's."""

PATROL_FOLDERS = 64
"""Old folders that one tick looks at."""

PATROL_FILES = 1000
"""Old files that one tick looks at where days have no folders, and one day has no more."""

PATROL_PAGES = 2
"""Pages of 1000 old keys of a bucket that one tick lists."""

UPLOAD_S = 900.0
"""A store may show an object so long after the time that it calls its last change: S3 counts from
the start of an upload in parts.
"""

_MOST_REMEMBERED = 10_000
_MOST_WATCHED = 2_000
_FIRST_DAY = date(2000, 1, 1)
_FUTURE_DAYS = 366
_LONGEST_STRIDE = 1024
_SETTLED_CLOCK_S = 1.0
"""Clocks that are kept right by small corrections stay within this."""


@dataclass(frozen=True)
class Found:
    """A file that may be a segment, known by its name only.

    Attributes:
        path: below the landing folder, with '/', or 's3://bucket/key'.
        camera_id: the camera.
        start_utc: when it starts.
        dataset: the data set's name, or 'site'.
        subject: who is seen, where the source tells.
        scene: what must stay together in a split.
        camera: what the source knows about the camera; None for a site's own.
        source: the configured source, or the data set.
        unusable_name: the name is not valid UTF-8; `path` and `camera_id` show it escaped, and
            nothing can be opened by it.
        state: what a bucket's listing told besides; None for files, which are looked up singly.
    """

    path: str
    camera_id: str
    start_utc: datetime
    dataset: str
    subject: str | None
    scene: str
    camera: DatasetCamera | None = None
    source: str = SITE
    unusable_name: bool = False
    state: FileState | None = None


@dataclass(frozen=True)
class Change:
    """A file that is new or was written again; `path` as in `Found`."""

    day: date
    path: str
    fingerprint: str


@dataclass
class Progress:
    """What a source remembers from one tick to the next; it goes into the cursor as JSON.

    Attributes:
        where: the source's place and layout; with another one everything is looked at again.
        until_s: changes up to this moment were reported.
        patrol_at: the last folder, key or day that the patrol looked at; '' before the first.
        round_s: when the patrol's present round began.
        last_round_s: when the round before it began: late files since then are reported.
        stride: how many days the patrol looks at, where days have no folders.
        watched: old days' folders that changed lately, and until when they are looked at.
        seen: hashes of what was reported and might be met again, with their times of change.
    """

    where: str
    until_s: float = -math.inf
    patrol_at: str = ""
    round_s: float = -math.inf
    last_round_s: float = -math.inf
    stride: int = 1
    watched: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)

    def is_news(self, path: str, print_: str, changed_s: float) -> bool:
        """Whether this was not reported yet; it is remembered from now on."""
        key = hashlib.blake2b(os.fsencode(f"{path} {print_}"), digest_size=8).hexdigest()
        if key in self.seen:
            return False
        if len(self.seen) < _MOST_REMEMBERED:
            self.seen[key] = changed_s
        return True

    def forget(self, before_s: float) -> None:
        """Forget what was reported of changes before a moment."""
        self.seen = {key: at for key, at in self.seen.items() if at > before_s}


@dataclass(frozen=True)
class Window:
    """What one tick looks for: changes in (since_s, until_s], seconds since the epoch.

    Attributes:
        since_s, until_s: the bounds.
        done_s: the moment up to which the next tick need not look again.
        hot: the days (UTC) of which every file is looked at.
    """

    since_s: float
    until_s: float
    done_s: float
    hot: tuple[date, ...]

    @classmethod
    def between(cls, since_s: float, until_s: float, done_s: float, today: date) -> Window:
        """A tick's window; after a pause, the days of the pause are hot as well."""
        if math.isinf(since_s):
            return cls(since_s, until_s, done_s, ())
        first = min(_day(since_s), today) - timedelta(days=LATE_DAYS)
        days = (today - first).days + 2
        return cls(since_s, until_s, done_s, tuple(first + timedelta(days=n) for n in range(days)))

    def holds(self, changed_s: float) -> bool:
        """Whether a change lies in it."""
        return self.since_s < changed_s <= self.until_s


def _day(moment_s: float) -> date:
    return datetime.fromtimestamp(moment_s, UTC).date()


def _was_hot(day: date, changed_s: float) -> bool:
    """Whether a file of that day was looked at when it changed, by any tick's window."""
    arrived = _day(changed_s)
    return arrived - timedelta(days=LATE_DAYS) <= day <= arrived + timedelta(days=1)


class Source(Protocol):
    """A way in which footage lies somewhere."""

    @property
    def name(self) -> str:
        """As configured; no two of a site are the same."""
        ...

    @property
    def where(self) -> str:
        """Place and layout in words that change whenever one of them does."""
        ...

    def days(self) -> list[date]:
        """Days with footage, sorted."""
        ...

    def find(self, day: date) -> list[Found]:
        """The day's files."""
        ...

    def changed(self, window: Window, progress: Progress) -> Iterator[Change]:
        """Files that changed in the window, some perhaps twice; moves `progress` on."""
        ...


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
            _found(self._path(path), camera, start, self.name)
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
        status = _status(f"{self._root}/{folder}")
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
        """All names are listed, once; only those of the last days and of the patrol's share of the
        older ones are looked at.
        """
        names = lru_cache(maxsize=None)(listing)
        hot = self._hot_days(window)
        fresh_s = window.since_s - LONGEST_SEGMENT_S

        def enter(folder: str, depth: int, _day: date | None) -> bool:
            return depth < self.template.file_depth or self._changed_s(folder) >= fresh_s

        for change, _changed_s in self._settled(window, local_days=hot, enter=enter, names=names):
            yield change
        days = self._patrolled(hot, progress, names)
        late = replace(window, since_s=progress.last_round_s)
        for told in self._settled(late, local_days=days, names=names):
            yield from self._late(told, progress)
        if days[0] == _FIRST_DAY:
            progress.patrol_at = ""
            progress.last_round_s, progress.round_s = progress.round_s, window.done_s
        else:
            progress.patrol_at = days[0].isoformat()

    def _patrolled(self, hot: list[date], progress: Progress, names: Listing) -> list[date]:
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
            if files <= PATROL_FILES or progress.stride == 1:
                if files <= PATROL_FILES // 4:
                    progress.stride = min(2 * progress.stride, _LONGEST_STRIDE)
                return days
            progress.stride = max(progress.stride // 4, 1)

    def _late(self, change: tuple[Change, float], progress: Progress) -> Iterator[Change]:
        """The change, where no tick looked at its day when it came, and it was not reported."""
        told, changed_s = change
        if _was_hot(told.day, changed_s):
            return
        if progress.is_news(told.path, told.fingerprint, changed_s):
            yield told

    def _settled(
        self, window: Window, *, moved_s: float = -math.inf, **walk: Any
    ) -> Iterator[tuple[Change, float]]:
        """Files of a walk that arrived in the window, and when they did."""
        root, found = str(self._root), dict[str, tuple[os.stat_result, float]]()

        # Asked before a name's time is read: most files of a tick did not change.
        def keep(path: str) -> bool:
            status = _status(f"{root}/{path}")
            if status is None:
                return False
            arrived_s = max(status.st_ctime, moved_s)
            if not window.holds(arrived_s):
                return False
            found[path] = status, arrived_s
            return True

        for path, _camera, start in self.template.walk(self._root, keep=keep, **walk):
            status, arrived_s = found.pop(path)
            yield Change(start.date(), self._path(path), fingerprint(status)), arrived_s

    def _changed_s(self, folder: str) -> float:
        status = _status(f"{self._root}/{folder}")
        return -math.inf if status is None else status.st_ctime

    def _path(self, path: str) -> str:
        return f"{self.settings.at}/{path}" if self.settings.at else path


@dataclass(frozen=True)
class BucketSource:
    """Recorders that write into a bucket, laid out by a template."""

    settings: SourceSettings
    template: PathTemplate

    @property
    def name(self) -> str:
        """As configured."""
        return self.settings.name

    @property
    def where(self) -> str:
        """Address, template and zone."""
        return f"{self.settings.at} {self.template.text} {self.template.timezone}"

    @property
    def _bucket(self) -> Bucket:
        return Bucket(split(self.settings.at)[0])

    @property
    def _prefix(self) -> str:
        return split(self.settings.at)[1].strip("/")

    def days(self) -> list[date]:
        """Days with at least one object; every key is listed."""
        return sorted({start.date() for _object, _camera, start in self._below(self._prefix)})

    def find(self, day: date) -> list[Found]:
        """The day's objects; keys of other days are not listed where they sort by time."""
        local = self.template.local_days(day)
        return [
            replace(
                _found(self._path(object_), camera, start, self.name),
                state=FileState(object_.bytes, object_.etag, object_.changed_s),
            )
            for object_, camera, start in self._from(min(local), max(local))
            if start.date() == day
        ]

    def changed(self, window: Window, progress: Progress) -> Iterator[Change]:
        """List the last days' keys and the patrol's pages."""
        if math.isinf(window.since_s):
            progress.round_s = progress.last_round_s = window.done_s
            for object_, _camera, start in self._below(self._prefix):
                if window.holds(object_.changed_s):
                    yield Change(start.date(), self._path(object_), object_.etag)
                    if object_.changed_s > window.done_s - UPLOAD_S:
                        progress.is_news(object_.key, object_.etag, object_.changed_s)
            return
        shown = replace(window, since_s=window.since_s - UPLOAD_S)
        first = min(local for day in window.hot for local in self.template.local_days(day))
        for object_, _camera, start in self._from(first, date.max):
            if shown.holds(object_.changed_s):
                yield from self._news(object_, start, progress)
        yield from self._patrol(window, progress)
        progress.forget(min(progress.last_round_s - UPLOAD_S, shown.since_s))

    def _patrol(self, window: Window, progress: Progress) -> Iterator[Change]:
        late = replace(window, since_s=progress.last_round_s - UPLOAD_S)
        left = PATROL_PAGES * 1000
        for object_, _camera, start in self._below(self._prefix, after=progress.patrol_at):
            if left == 0:
                return
            left -= 1
            progress.patrol_at = object_.key
            changed_s = object_.changed_s
            if late.holds(changed_s) and not _was_hot(start.date(), changed_s):
                yield from self._news(object_, start, progress)
        progress.patrol_at = ""
        progress.last_round_s, progress.round_s = progress.round_s, window.done_s

    def _news(self, object_: BucketObject, start: datetime, progress: Progress) -> Iterator[Change]:
        if progress.is_news(object_.key, object_.etag, object_.changed_s):
            yield Change(start.date(), self._path(object_), object_.etag)

    def _from(self, first: date, last: date) -> Iterator[tuple[BucketObject, str, datetime]]:
        """Objects whose names tell a local day of first to last, at least.

        In each folder that holds several cameras' times, keys are sorted by camera and then by
        time: what lies before `first` is jumped over.
        """
        if not self.template.sorts_by_time:
            yield from self._below(self._prefix)
            return
        for folder in self._parents(self._prefix, self.template.time_depth):
            after: str | None = ""
            while after is not None:
                after = yield from self._until_jump(folder, after, first, last)

    def _until_jump(
        self, folder: str, after: str, first: date, last: date
    ) -> Generator[tuple[BucketObject, str, datetime], None, str | None]:
        """Yield objects after a key until others are to be jumped over; where to go on, or None."""
        for object_, camera, start in self._below(folder, after):
            path = object_.key[len(self._key("")) :]
            begin = self._key(self.template.beginning(path, camera, first))
            if object_.key < begin and after < begin:
                return begin
            if last < date.max and start.date() > last + timedelta(days=1):
                end = self._key(self.template.beginning(path, camera, date.max))
                if after < end:
                    return end
            yield object_, camera, start
        return None

    def _parents(self, folder: str, depth: int) -> Iterator[str]:
        """Folders so many levels below one."""
        if depth == 0:
            yield folder
            return
        for name in self._bucket.folders(folder):
            yield from self._parents(f"{folder}/{name}" if folder else name, depth - 1)

    def _below(self, folder: str, after: str = "") -> Iterator[tuple[BucketObject, str, datetime]]:
        skip = len(self._prefix) + 1 if self._prefix else 0
        for object_ in self._bucket.objects(folder, after):
            told = self.template.parse(object_.key[skip:], object_.changed_s)
            if told is not None:
                yield object_, *told

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    def _path(self, object_: BucketObject) -> str:
        return address(self._bucket.name, object_.key)


@dataclass(frozen=True)
class DatasetSource:
    """One data set's folder."""

    landing: Path
    dataset: Dataset

    @property
    def name(self) -> str:
        """The data set's."""
        return self.dataset.name

    @property
    def where(self) -> str:
        """Its folder."""
        return f"{self.landing}/{self.dataset.name}"

    def days(self) -> list[date]:
        """The nominal day, where the folder holds a video."""
        return [self.dataset.day] if place(self.landing, self.dataset) else []

    def find(self, day: date) -> list[Found]:
        """All files on the nominal day, none on others."""
        if day != self.dataset.day:
            return []
        return [
            Found(
                path=escaped(placed.path),
                camera_id=escaped(placed.seen.camera.camera_id),
                start_utc=placed.start_utc,
                dataset=self.dataset.name,
                subject=placed.seen.subject and escaped(placed.seen.subject),
                scene=escaped(f"{self.dataset.name}/{placed.seen.scene}"),
                camera=placed.seen.camera,
                source=self.dataset.name,
                unusable_name=not _is_text(placed.path),
            )
            for placed in place(self.landing, self.dataset)
        ]

    def changed(self, window: Window, progress: Progress) -> Iterator[Change]:
        """Look at every file: data sets are small."""
        for placed in place(self.landing, self.dataset):
            status = _status(f"{self.landing}/{placed.path}")
            if status is not None and window.holds(status.st_ctime):
                yield Change(self.dataset.day, placed.path, fingerprint(status))


def open_sources(landing: Path, sources: Sequence[SourceSettings]) -> list[Source]:
    """The site's own sources, and the data sets whose folders are there.

    Raises PermanentFailureError where two sources have one name or a source's folder does not lie
    below the landing folder; TemplateError for a template or zone that cannot be used.
    """
    opened: list[Source] = []
    for settings in sources:
        template = PathTemplate(settings.template, settings.timezone)
        at = PurePosixPath(settings.at)
        if settings.is_bucket:
            split(settings.at)
            opened.append(BucketSource(settings, template))
        elif at.is_absolute() or ".." in at.parts or "\x00" in settings.at:
            raise PermanentFailureError(
                f"source {settings.name!r}: {settings.at!r} is not a folder below the landing "
                "folder; correct 'at' in data/site.toml"
            )
        else:
            folder = "" if at == PurePosixPath() else at.as_posix()
            opened.append(FolderSource(landing, replace(settings, at=folder), template))
    present = [dataset for dataset in DATASETS.values() if (landing / dataset.name).is_dir()]
    opened += [DatasetSource(landing, dataset) for dataset in present]
    names = [source.name for source in opened]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PermanentFailureError(
            f"several sources are named {', '.join(twice)}: give each its own name in "
            "data/site.toml, and none that of a data set"
        )
    return opened


def find(landing: Path, sources: Sequence[SourceSettings], day: date) -> list[Found]:
    """The day's files, sorted by path; only names are read.

    A link that leads out of the landing folder is found like any file and refused at intake. Where
    two sources claim a file, it is the first one's.
    """
    found: dict[str, Found] = {}
    for source in open_sources(landing, sources):
        for file in source.find(day):
            found.setdefault(file.path, file)
    return [found[path] for path in sorted(found)]


def days_with_footage(landing: Path, sources: Sequence[SourceSettings]) -> list[date]:
    """Days for which files lie in the sources, sorted."""
    return sorted({day for source in open_sources(landing, sources) for day in source.days()})


def new_since(
    landing: Path,
    sources: Sequence[SourceSettings],
    cursor: str | None,
    *,
    settle_s: float = 10.0,
    now: datetime | None = None,
    report: Callable[[FallAssetsError], None] | None = None,
) -> tuple[dict[date, dict[str, str]], str]:
    """Files that were finished since the last call, by day, and the cursor for the next call.

    A file is reported, with its fingerprint, once it has not changed for `settle_s`, and again
    whenever it changes. Without a cursor every file is reported, as are all of a source whose
    place, template or zone is another: intake of a known file changes nothing. The times are the
    file system's change times, which copying and unpacking cannot set back; the file system's
    clock must agree with this machine's within `settle_s`.

    Where this machine's clock was set back since the last call, everything that changed since then
    is looked at again, so that some files may be reported twice and none is lost.

    Args:
        landing: the landing folder.
        sources: the site's sources.
        cursor: what the last call returned.
        settle_s: see above.
        now: the time; the clock's where None.
        report: told of a source that cannot be looked at (a bucket that is away); the others go
            on, and it is looked at from the same place next time. Where None, the error is raised.
    """
    now_s = time.time() if now is None else now.timestamp()
    done_s = now_s - settle_s
    told, set_back_s = _read_cursor(cursor, now_s)
    by_day: dict[date, dict[str, str]] = {}
    remembered: dict[str, Any] = {}
    for source in open_sources(landing, sources):
        before = told.get(source.name, {})
        progress = _progress(before, source.where, set_back_s)
        if progress.until_s > done_s + _SETTLED_CLOCK_S:
            # Another settle_s, or a clock that was set back while this machine was off.
            progress = Progress(source.where)
        window = Window.between(
            progress.until_s,
            # What carries a time to come was written before the clock was set back.
            math.inf if set_back_s else done_s,
            done_s,
            _day(now_s),
        )
        try:
            changes = list(source.changed(window, progress))
        except FallAssetsError as error:
            if report is None:
                raise
            report(error)
            if before:
                remembered[source.name] = before
            continue
        for change in changes:
            by_day.setdefault(change.day, {}).setdefault(escaped(change.path), change.fingerprint)
        progress.until_s = max(done_s, progress.until_s)
        remembered[source.name] = asdict(progress)
    new = {day: dict(sorted(paths.items())) for day, paths in sorted(by_day.items())}
    return new, json.dumps({**_clock(now_s), "sources": remembered}, separators=(",", ":"))


def escaped(path: str) -> str:
    """A name that holds bytes which are no UTF-8, with these as '\\xNN'; others as they are."""
    return path if _is_text(path) else os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _found(path: str, camera: str, start: datetime, source: str) -> Found:
    name = escaped(camera)
    return Found(
        path=escaped(path),
        camera_id=name,
        start_utc=start,
        dataset=SITE,
        subject=None,
        scene=f"{SITE}/{name}/{start.date()}",
        source=source,
        unusable_name=not _is_text(path),
    )


def _clock(now_s: float) -> dict[str, Any]:
    """How far this machine's clock is from one that nobody sets, and since which start of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return {"boot": boot, "clock_s": now_s - time.clock_gettime(time.CLOCK_BOOTTIME)}
    except (OSError, AttributeError):
        return {"boot": "", "clock_s": 0.0}


def _read_cursor(cursor: str | None, now_s: float) -> tuple[dict[str, Any], float]:
    """What each source remembers, and by how much the clock was set back since then, seconds."""
    try:
        told = json.loads(cursor or "{}")
    except json.JSONDecodeError:
        return {}, 0.0
    if not isinstance(told, dict) or not isinstance(told.get("sources"), dict):
        return {}, 0.0
    clock, clock_s = _clock(now_s), told.get("clock_s")
    if not clock["boot"] or told.get("boot") != clock["boot"] or not isinstance(clock_s, float):
        return told["sources"], 0.0
    back_s = clock_s - clock["clock_s"]
    return told["sources"], back_s if back_s > _SETTLED_CLOCK_S else 0.0


def _progress(told: Any, where: str, set_back_s: float) -> Progress:
    """What a source remembers, on today's clock; nothing where it does not fit the source."""
    if not isinstance(told, dict) or told.get("where") != where:
        return Progress(where)
    try:
        progress = Progress(**told)
    except TypeError:
        return Progress(where)
    progress.until_s -= set_back_s
    progress.round_s -= set_back_s
    progress.last_round_s -= set_back_s
    return progress


def _status(path: str) -> os.stat_result | None:
    """A file's state, links followed; None where it is gone."""
    try:
        # Asked for every file of the last days: a Path would cost more than the question.
        return os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
