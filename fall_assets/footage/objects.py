"""Recorders that write into a bucket: which objects there are, and which are new.

What belongs here: what is listed, and in which order. What does not: the requests (`buckets.py`).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from fall_assets.footage.buckets import Bucket, BucketObject, split
from fall_assets.footage.sources import SourceSettings
from fall_assets.footage.store import FileState, address
from fall_assets.footage.template import PathTemplate
from fall_assets.footage.watching import Change, Found, Progress, Window, site_file, was_hot

PATROL_PAGES = 2
"""Pages of 1000 old keys of a bucket that one tick lists."""

UPLOAD_S = 900.0
"""A store may show an object so long after the time that it calls its last change: S3 counts from
the start of an upload in parts.
"""


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
                site_file(self._path(object_), camera, start, self.name),
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
            if late.holds(changed_s) and not was_hot(start.date(), changed_s):
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
