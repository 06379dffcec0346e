"""Which segments lie in a site's sources, by day, and which are new.

What belongs here: all sources together, and the cursor of a tick. What does not: how one source is
looked through (`folders.py`, `objects.py`, `recorded_sets.py`) and opening files (`probe.py`).

What a tick costs. A file is looked at when its name's day is one of the last days (HOT); that cost
depends on the recorders, not on the history. Whatever arrives for another day is found in two
ways: a new folder for an old day is noticed by its parent's time of change, and a patrol looks at a
bounded number of old folders (or pages of a bucket) per tick, in rotation, so that every late file
is found in the end.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from fall_assets.datasets import DATASETS
from fall_assets.errors import FallAssetsError, PermanentFailureError
from fall_assets.footage.buckets import split
from fall_assets.footage.folders import FolderSource
from fall_assets.footage.objects import BucketSource
from fall_assets.footage.recorded_sets import DatasetSource
from fall_assets.footage.sources import SourceSettings
from fall_assets.footage.template import PathTemplate
from fall_assets.footage.watching import Found, Progress, Source, Window, day_of, escaped

_SETTLED_CLOCK_S = 1.0
"""Clocks that are kept right by small corrections stay within this."""


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
            day_of(now_s),
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
