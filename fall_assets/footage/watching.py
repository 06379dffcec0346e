"""What one look for footage finds, and what a source remembers from one look to the next.

What belongs here: the types that all sources share. What does not: where files lie (`folders.py`,
`objects.py`, `recorded_sets.py`) and the cursor of a tick (`discovery.py`).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from fall_assets.datasets import SITE, DatasetCamera
from fall_assets.footage.store import FileState

LATE_DAYS = 2
"""So many days back, every file is looked at in every tick; older days are the patrol's."""

_MOST_REMEMBERED = 10_000


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
        first = min(day_of(since_s), today) - timedelta(days=LATE_DAYS)
        days = (today - first).days + 2
        return cls(since_s, until_s, done_s, tuple(first + timedelta(days=n) for n in range(days)))

    def holds(self, changed_s: float) -> bool:
        """Whether a change lies in it."""
        return self.since_s < changed_s <= self.until_s


def day_of(moment_s: float) -> date:
    """The day (UTC) of a moment in seconds since the epoch."""
    return datetime.fromtimestamp(moment_s, UTC).date()


def was_hot(day: date, changed_s: float) -> bool:
    """Whether a file of that day was looked at when it changed, by any tick's window."""
    arrived = day_of(changed_s)
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


def escaped(path: str) -> str:
    """A name that holds bytes which are no UTF-8, with these as '\\xNN'; others as they are."""
    return path if is_text(path) else os.fsencode(path).decode("utf-8", "backslashreplace")


def is_text(name: str) -> bool:
    """Whether a name from the file system is valid UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def site_file(path: str, camera: str, start: datetime, source: str) -> Found:
    """A file of one of the site's own sources, as its name tells it."""
    name = escaped(camera)
    return Found(
        path=escaped(path),
        camera_id=name,
        start_utc=start,
        dataset=SITE,
        subject=None,
        scene=f"{SITE}/{name}/{start.date()}",
        source=source,
        unusable_name=not is_text(path),
    )


def status_of(path: str) -> os.stat_result | None:
    """A file's state, links followed; None where it is gone."""
    try:
        # Asked for every file of the last days: a Path would cost more than the question.
        return os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
