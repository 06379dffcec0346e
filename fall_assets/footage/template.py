"""How a recorder names its files: a template turns a path into camera and time, and back.

What belongs here: the template language, the zone of the times in names, parsing, formatting and
the walk that follows a template through folders. What does not: what a found file is worth (see
`probe.py`) or which files are new (see `discovery.py`).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path, PurePosixPath
from zoneinfo import ZoneInfo

from fall_assets.errors import PermanentFailureError

SHORTEST_SEGMENT_S = 5.0
"""A name in the hour that exists twice means the second time where the file was last changed at
least so long after it: no segment is shorter.
"""

_FIELD_PATTERNS: Mapping[str, str] = {
    # Names that start with a dot are hidden or temporary in every recorder's layout.
    "camera": r"[^/\x00.][^/\x00]*",
    "date": r"\d{4}-\d{2}-\d{2}",
    "time": r"\d{2}-\d{2}-\d{2}",
    "year": r"\d{4}",
    "month": r"\d{2}",
    "day": r"\d{2}",
    "hour": r"\d{2}",
    "minute": r"\d{2}",
    "second": r"\d{2}",
    "epoch": r"\d{13}|\d{10}",
    "any": r"[^/\x00]*",
}
_DAY_FIELDS = ("year", "month", "day")
_COARSENESS = {
    **{"epoch": 0, "date": 0, "year": 0, "month": 1, "day": 2},
    **{"time": 3, "hour": 3, "minute": 4, "second": 5},
}
_FIELD = re.compile(r"\{([^{}]*)\}")
_ANY_TEXT = "0"
_MOST_NEEDLES = 64

Fields = dict[str, str]
Enter = Callable[[str, int, date | None], bool]
"""Whether to list a folder: its path below the root, its depth, and its day where that is told."""

Listing = Callable[[Path], Sequence[str]]
"""The names in a folder, in any order; none where it is no folder."""


class TemplateError(PermanentFailureError):
    """A path template cannot be used, or a path cannot be made from it."""


def listing(folder: Path) -> list[str]:
    """The names in a folder, in any order; none where it is absent or no folder.

    Raises PermanentFailureError where it may not be listed.
    """
    try:
        # A flat folder may hold a whole history: plain names cost least.
        return os.listdir(folder)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            return []
        raise PermanentFailureError(
            f"folder {folder} cannot be listed: {error.strerror}; see that the service may, and "
            "that the disk is there"
        ) from error


@dataclass(frozen=True)
class _Component:
    """One part of the path between slashes: literal texts at even places, fields at odd ones."""

    parts: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        return self.parts[1::2]

    def literal(self, known: Mapping[str, str]) -> str | None:
        """The component's text where all its fields are known."""
        text, complete = self.beginning(known)
        return text if complete else None

    def beginning(self, known: Mapping[str, str]) -> tuple[str, bool]:
        """The component's text up to its first unknown field, and whether that is all of it."""
        text = ""
        for place, part in enumerate(self.parts):
            if place % 2 and part not in known:
                return text, False
            text += known[part] if place % 2 else part
        return text, True

    def needle(self, known: Mapping[str, str]) -> str:
        """The longest text that every name with the known fields holds."""
        runs = [""]
        for place, part in enumerate(self.parts):
            if place % 2 and part not in known:
                runs.append("")
            else:
                runs[-1] += known[part] if place % 2 else part
        return max(runs, key=len)

    def regex(self, known: Mapping[str, str], seen: set[str]) -> str:
        """Matches the component's names; a field seen before must have the same text."""
        text = ""
        for place, part in enumerate(self.parts):
            if not place % 2:
                text += re.escape(part)
            elif part in known:
                text += re.escape(known[part])
            elif part in seen:
                text += f"(?P={part})"
            elif part == "any":
                text += _FIELD_PATTERNS[part]
            else:
                seen.add(part)
                text += f"(?P<{part}>{_FIELD_PATTERNS[part]})"
        return text

    def match(self, name: str, known: Mapping[str, str]) -> Fields | None:
        """What a name tells besides what is known; None where it does not fit."""
        camera = known.get("camera") if "camera" in self.fields else None
        match = _pattern(self, camera).fullmatch(name)
        if match is None:
            return None
        told = match.groupdict()
        if any(known.get(field, text) != text for field, text in told.items()):
            return None
        return {**known, **told}


@lru_cache(maxsize=4096)
def _pattern(component: _Component, camera: str | None) -> re.Pattern[str]:
    known = {} if camera is None else {"camera": camera}
    return re.compile(component.regex(known, set()), re.ASCII | re.DOTALL)


class PathTemplate:
    """A recorder's layout below a folder or bucket, e.g. `{camera}/{date}/{time}.mp4`.

    Fields: `{camera}` (within one folder or file name), `{date}` as `2026-03-01`, `{time}` as
    `08-15-00`, `{year}` `{month}` `{day}` `{hour}` `{minute}` `{second}` as digits, `{epoch}` (Unix
    seconds with 10 digits, or milliseconds with 13) in place of day and time, and `{any}`, text
    that does not matter. A field may stand more than once and then says the same each time, but for
    `{any}`. Where minutes or seconds are not named, they are zero.

    Times in names are local times of `timezone` (an IANA name); `{epoch}` is always UTC. A local
    time that exists twice, when clocks are set back, is the later of the two where the file was
    last changed at least SHORTEST_SEGMENT_S after that, else the earlier. A local time that does
    not exist, when clocks are set forward, is read as of a clock that was not set.

    Raises TemplateError for an unknown field or zone, a missing camera, date or time of day, and a
    path that is absolute or climbs out.
    """

    def __init__(self, text: str, timezone: str = "UTC") -> None:
        self.text = text
        self.timezone = timezone
        path = PurePosixPath(text)
        if not text or path.is_absolute() or ".." in path.parts or "\\" in text or "\x00" in text:
            raise TemplateError(
                f"path template {text!r} must be a path below the landing folder; "
                f"give one such as {DEFAULT_TEXT!r}"
            )
        components = []
        for part in path.parts:
            pieces = _FIELD.split(part)
            components.append(_Component(tuple(pieces)))
            for literal in pieces[0::2]:
                if "{" in literal or "}" in literal:
                    raise TemplateError(f"path template {text!r} has an unpaired brace in {part!r}")
        self._components = tuple(components)
        names = {name for component in components for name in component.fields}
        if unknown := sorted(names - set(_FIELD_PATTERNS)):
            raise TemplateError(
                f"path template {text!r} has unknown fields {unknown}; "
                f"there are {', '.join(_FIELD_PATTERNS)}"
            )
        if "camera" not in names:
            raise TemplateError(f"path template {text!r} does not say the camera; add {{camera}}")
        self._has_day = "date" in names or names.issuperset(_DAY_FIELDS)
        if not self._has_day and "epoch" not in names:
            raise TemplateError(
                f"path template {text!r} does not say the day; add {{date}}, "
                "or {year}, {month} and {day}, or {epoch}"
            )
        if not names & {"time", "hour", "epoch"}:
            raise TemplateError(
                f"path template {text!r} does not say the time of day; add {{time}} or {{hour}}"
            )
        try:
            # A box without a time zone database knows UTC all the same.
            zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
        except (KeyError, ValueError, OSError) as error:
            raise TemplateError(
                f"time zone {timezone!r} is not known; give a name such as 'Europe/Berlin'"
            ) from error
        self._zone = zone if self._has_day else UTC
        seen: set[str] = set()
        whole = "/".join(component.regex({}, seen) for component in components)
        self._path = re.compile(whole, re.ASCII | re.DOTALL)
        self._names = names

    @property
    def file_depth(self) -> int:
        """The depth of the folders that hold the files; the landing folder's is 0."""
        return len(self._components) - 1

    @property
    def day_depth(self) -> int:
        """The depth of the folder in which the days stand side by side.

        Where no folder is named for a day, it is the files' own.
        """
        told: set[str] = set()
        for depth, component in enumerate(self._components):
            told.update(component.fields)
            if "date" in told or told.issuperset(_DAY_FIELDS):
                return depth
        return self.file_depth

    @property
    def days_have_folders(self) -> bool:
        """Whether a folder holds files of one (local) day only."""
        return self.day_depth < self.file_depth

    @property
    def time_depth(self) -> int:
        """The depth of the folder whose names are the first to tell anything of the time."""
        return next(
            depth
            for depth, component in enumerate(self._components)
            if any(field in _COARSENESS for field in component.fields)
        )

    @property
    def sorts_by_time(self) -> bool:
        """Whether paths of one camera, sorted as text, are sorted by their names' time."""
        ranks = [
            _COARSENESS[field]
            for component in self._components
            for field in component.fields
            if field in _COARSENESS
        ]
        ordered = ranks[0] == 0 and ranks == sorted(ranks)
        first = self._components[self.time_depth].fields
        # Text that does not matter must not stand before the time.
        before = next(place for place, field in enumerate(first) if field in _COARSENESS)
        return ordered and "any" not in first[:before]

    def __repr__(self) -> str:
        return f"PathTemplate({self.text!r}, {self.timezone!r})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PathTemplate)
            and other.text == self.text
            and other.timezone == self.timezone
        )

    def __hash__(self) -> int:
        return hash((self.text, self.timezone))

    def parse(self, path: str, changed_s: float | None = None) -> tuple[str, datetime] | None:
        """Camera and start (UTC) of a path below the landing folder; None where it does not fit.

        `changed_s` is when the file was last changed, in seconds since the epoch: it decides
        between the two meanings of a time in the hour that exists twice.
        """
        match = self._path.fullmatch(path)
        if match is None:
            return None
        known = match.groupdict()
        start = self._start(known, lambda: changed_s)
        return None if start is None else (known["camera"], start)

    def format(self, camera: str, start: datetime) -> str:
        """The path of that camera's segment.

        `start` carries a time zone; what is finer than the template's fields is cut off. Raises
        TemplateError where the camera's name cannot be part of a path or the start has no zone.
        """
        if not re.fullmatch(_FIELD_PATTERNS["camera"], camera, re.DOTALL):
            raise TemplateError(
                f"camera {camera!r} cannot be part of a path: it must not be empty, "
                "start with a dot or contain '/'"
            )
        if start.tzinfo is None:
            raise TemplateError(f"start {start!r} has no time zone; give UTC")
        known = self._time_fields(start.astimezone(self._zone)) | {
            "camera": camera,
            "any": _ANY_TEXT,
        }
        return "/".join(str(component.literal(known)) for component in self._components)

    def local_days(self, day: date) -> list[date]:
        """The days that names may tell of files that start on `day` (UTC), in order."""
        if self._zone is UTC:
            return [day]
        near = [day + timedelta(days=away) for away in range(-2, 3)]
        return [local for local in near if day in self.utc_days(local)]

    def utc_days(self, local: date) -> list[date]:
        """The days (UTC) on which files may start whose names tell the day `local`, in order."""
        if self._zone is UTC:
            return [local]
        midnight = datetime.combine(local, time())
        begin = midnight.replace(tzinfo=self._zone).astimezone(UTC)
        end = (midnight + timedelta(days=1)).replace(tzinfo=self._zone).astimezone(UTC)
        # When clocks are set near by, names may mean times outside of the day itself.
        before, after = (
            (moment.astimezone(self._zone).utcoffset() or timedelta())
            for moment in (begin - timedelta(days=1), end + timedelta(days=1))
        )
        first, last = begin - abs(after - before), end + abs(after - before)
        days = (last - timedelta(microseconds=1)).date() - first.date()
        return [first.date() + timedelta(days=n) for n in range(days.days + 1)]

    def day_folder(self, folder: str) -> str:
        """The part of a folder's path that reaches down to the day; all of it where it is short."""
        return "/".join(folder.split("/")[: self.day_depth + 1])

    def told_by(self, folder: str) -> date | None:
        """The local day that a folder's path tells; None where it does not."""
        fields = self._fields_of(folder)
        return None if fields is None else _known_day(fields)

    def beginning(self, path: str, camera: str, local: date) -> str:
        """The smallest text of a path in `path`'s folder on that local day or later.

        Only where `sorts_by_time`. The folder is the one whose names are the first to tell the
        time. Where the camera stands before the time in them, only its paths count.
        """
        parts = path.split("/")[: self.time_depth]
        known = self._day_known(local)
        first = self._components[self.time_depth].fields
        if "camera" in first[: next(n for n, field in enumerate(first) if field in _COARSENESS)]:
            known["camera"] = camera
        for component in self._components[self.time_depth :]:
            text, complete = component.beginning(known)
            parts.append(text)
            if not complete:
                break
        return "/".join(parts)

    def names_of(self, root: Path, local_days: Sequence[date], names: Listing) -> int:
        """How many names at most tell one of those days, where days have no folders."""
        needles = self._needles(local_days)
        return sum(
            len(_holding(names(root / folder), needles)) for folder, _day in self.folders(root)
        )

    def _day_known(self, local: date) -> Fields:
        """What is known of every name of a local day; the epoch as that of its first second."""
        first = int(datetime.combine(local, time(), tzinfo=UTC).timestamp()) - 86_400
        return {**_day_fields(local), "epoch": f"{max(first, 0):010}"}

    def _needles(self, days: Sequence[date]) -> list[str]:
        """Texts of which every file name of those local days holds one."""
        last = self._components[-1]
        needles: set[str] = set()
        if self._has_day:
            needles = {last.needle(_day_fields(day)) for day in days}
        elif "epoch" in last.parts:
            before = last.parts[last.parts.index("epoch") - 1]
            for day in days:
                midnight = int(datetime.combine(day, time(), tzinfo=UTC).timestamp())
                # Ten digits; the first five count 100,000 s.
                seconds = range(midnight, midnight + 186_400, 100_000)
                needles.update(before + f"{second:010}"[:5] for second in seconds)
        while len(needles) > _MOST_NEEDLES:
            needles = {needle[:-1] for needle in needles}
        return sorted(needles)

    def _time_fields(self, local: datetime) -> Fields:
        return _day_fields(local.date()) | {
            "time": f"{local:%H-%M-%S}",
            "hour": f"{local:%H}",
            "minute": f"{local:%M}",
            "second": f"{local:%S}",
            "epoch": f"{int(local.timestamp()):010}",
        }

    def _start(
        self, known: Mapping[str, str], changed_s: Callable[[], float | None]
    ) -> datetime | None:
        """The moment that the fields tell; None where there is none or where they disagree."""
        epoch = known.get("epoch")
        if epoch is not None and not self._has_day:
            return datetime.fromtimestamp(int(epoch) / (1000 if len(epoch) == 13 else 1), UTC)
        told = _told(known)
        if told is None or self._zone is UTC:
            return None if told is None else told.replace(tzinfo=UTC)
        try:
            first = told.replace(tzinfo=self._zone).astimezone(UTC)
            second = told.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        except OverflowError:
            return None
        # Where the time does not exist, the first is of the clock that was not set.
        if second <= first:
            return first
        changed = changed_s()
        is_second = changed is not None and changed >= second.timestamp() + SHORTEST_SEGMENT_S
        return second if is_second else first

    def walk(
        self,
        root: Path,
        *,
        local_days: Sequence[date] | None = None,
        enter: Enter = lambda _folder, _depth, _day: True,
        keep: Callable[[str], bool] = lambda _path: True,
        below: str = "",
        names: Listing = listing,
    ) -> Iterator[tuple[str, str, datetime]]:
        """Paths below `root` that fit, with camera and start; sorted within each folder.

        Only names are looked at: nothing is opened, and a file's time of change is asked only
        where its name has two meanings.

        Args:
            root: the folder that the template describes.
            local_days: only files whose names tell one of these days; folders of other days are
                not listed.
            enter: asked before a folder is listed (its path below `root`, '' for the root itself;
                how many components of the template it spans; the day where the path tells it); it
                may decline.
            keep: asked for each file whose name fits, before its time is read.
            below: only what lies in this folder.
            names: lists a folder.
        """
        for path, fields in self._files(root, local_days, enter, below, names):
            if not keep(path):
                continue
            start = self._start(fields, lambda path=path: _modified_s(f"{root}/{path}"))  # type: ignore[misc]
            if start is not None:
                yield path, fields["camera"], start

    def find(self, root: Path, day: date) -> Iterator[tuple[str, str, datetime]]:
        """Paths of the files that start on `day` (UTC), with camera and start."""
        for path, camera, start in self.walk(root, local_days=self.local_days(day)):
            if start.date() == day:
                yield path, camera, start

    def days(self, root: Path) -> list[date]:
        """Days (UTC) with at least one file that fits, sorted; folders below a known day are not
        listed to their end.
        """
        found: set[date] = set()

        # Once its days have shown a file each, a day's other folders are passed by.
        def enter(_folder: str, _depth: int, day: date | None) -> bool:
            return day is None or not found.issuperset(self.utc_days(day))

        for _path, _camera, start in self.walk(root, enter=enter):
            found.add(start.date())
        return sorted(found)

    def folders(self, root: Path, after: str = "") -> Iterator[tuple[str, date | None]]:
        """The folders that may hold files, with the local day that they tell; in a fixed order.

        Those up to and including `after` are left out, and what lies before it is not listed.
        """
        if self.file_depth == 0:
            if not after:
                yield "", None
            return
        yield from self._folders(root, "", 0, {}, after.split("/") if after else [])

    def _folders(
        self, root: Path, folder: str, depth: int, known: Fields, after: list[str]
    ) -> Iterator[tuple[str, date | None]]:
        for name, fields in self._entries(root, folder, depth, known):
            if after and name < after[0]:
                continue
            path = f"{folder}/{name}" if folder else name
            rest = after[1:] if after and name == after[0] else []
            if depth + 1 < self.file_depth:
                yield from self._folders(root, path, depth + 1, fields, rest)
            elif not (after and name == after[0]):
                yield path, _known_day(fields)

    def _fields_of(self, folder: str) -> Fields | None:
        known: Fields = {}
        for component, name in zip(self._components, folder.split("/"), strict=False):
            fields = component.match(name, known)
            if fields is None:
                return None
            known = fields
        return known

    def _files(
        self,
        root: Path,
        local_days: Sequence[date] | None,
        enter: Enter,
        below: str,
        names: Listing,
    ) -> Iterator[tuple[str, Fields]]:
        depth, known = 0, Fields()
        if below:
            told = self._fields_of(below)
            if told is None:
                return
            depth, known = len(below.split("/")), told
        if local_days is None:
            yield from self._descend(root, below, depth, known, enter, [], names)
        elif self.days_have_folders:
            for day in local_days:
                fields = {**known, **_day_fields(day)}
                if all(fields[name] == known.get(name, fields[name]) for name in fields):
                    yield from self._descend(root, below, depth, fields, enter, [], names)
        else:
            # One listing for all days: such a folder may be large.
            wanted = frozenset(local_days)
            for path, fields in self._descend(
                root, below, depth, known, enter, self._needles(local_days), names
            ):
                if self._local_day(fields) in wanted:
                    yield path, fields

    def _local_day(self, fields: Fields) -> date | None:
        if self._has_day:
            return _known_day(fields)
        start = self._start(fields, lambda: None)
        return None if start is None else start.date()

    def _descend(
        self,
        root: Path,
        folder: str,
        depth: int,
        known: Fields,
        enter: Enter,
        needles: Sequence[str],
        names: Listing,
    ) -> Iterator[tuple[str, Fields]]:
        is_last = depth == self.file_depth
        is_listed = is_last or self._components[depth].literal(known) is None
        if is_listed and not enter(folder, depth, _known_day(known)):
            return
        needles_here = needles if is_last else ()
        for name, fields in self._entries(root, folder, depth, known, needles_here, names):
            path = f"{folder}/{name}" if folder else name
            if is_last:
                yield path, fields
            else:
                yield from self._descend(root, path, depth + 1, fields, enter, needles, names)

    def _entries(
        self,
        root: Path,
        folder: str,
        depth: int,
        known: Fields,
        needles: Sequence[str] = (),
        names: Listing = listing,
    ) -> Iterator[tuple[str, Fields]]:
        """Names in a folder that fit, with what they tell; a known folder's without a listing."""
        component = self._components[depth]
        literal = component.literal(known)
        if literal is not None and depth < self.file_depth:
            yield literal, known
            return
        for name in sorted(_holding(names(root / folder), needles)):
            fields = component.match(name, known)
            if fields is not None:
                yield name, fields


def _holding(names: Sequence[str], needles: Sequence[str]) -> Sequence[str]:
    """The names that hold one of the texts; all where there are no texts."""
    if not needles or "" in needles:
        return names
    stem = os.path.commonprefix(list(needles))  # noqa: RUF071
    names = [name for name in names if stem in name]
    holds = re.compile("|".join(re.escape(needle) for needle in needles)).search
    return [name for name in names if holds(name)]


def _modified_s(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime  # noqa: PTH116
    except OSError:
        return None


def _day_fields(day: date) -> Fields:
    return {
        "date": day.isoformat(),
        "year": f"{day.year:04}",
        "month": f"{day.month:02}",
        "day": f"{day.day:02}",
    }


def _known_day(known: Mapping[str, str]) -> date | None:
    """The day that the fields tell; None where they do not, or where there is no such day."""
    text = known.get("date")
    if text is None and all(name in known for name in _DAY_FIELDS):
        text = "-".join(known[name] for name in _DAY_FIELDS)
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        return None


def _told(known: Mapping[str, str]) -> datetime | None:
    """The local time that the fields tell; None where there is none or where they disagree."""
    day = _known_day(known)
    if day is None:
        return None
    clock = known["time"].split("-") if "time" in known else []
    hour, minute, second = (
        clock
        if clock
        else (known.get("hour", "00"), known.get("minute", "00"), known.get("second", "00"))
    )
    try:
        moment = datetime(day.year, day.month, day.day, int(hour), int(minute), int(second))
    except ValueError:
        return None
    told = _day_fields(day) | {"hour": hour, "minute": minute, "second": second}
    return moment if all(known.get(name, value) == value for name, value in told.items()) else None


DEFAULT_TEXT = "{camera}/{date}/{time}.mp4"

DEFAULT = PathTemplate(DEFAULT_TEXT)
"""`cam-01/2026-03-01/08-15-00.mp4`."""

FRIGATE = PathTemplate("recordings/{date}/{hour}/{camera}/{minute}.{second}.mp4")
"""Frigate's recordings since 0.12, in UTC: `recordings/2026-03-01/08/cam-01/15.00.mp4`
(https://docs.frigate.video/configuration/record).
"""
