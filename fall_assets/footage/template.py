"""How a recorder names its files: a template turns a path into camera and time, and back.

What belongs here: the template language, parsing, formatting and the walk that follows it through
folders. What does not: what a found file is worth (see `probe.py`) or which files are new (see
`discovery.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath

from fall_assets.errors import PermanentFailureError

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
}
_FIELD_GLOBS: Mapping[str, str] = {
    "camera": "*",
    "date": "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]",
    "time": "[0-9][0-9]-[0-9][0-9]-[0-9][0-9]",
    "year": "[0-9][0-9][0-9][0-9]",
    **dict.fromkeys(("month", "day", "hour", "minute", "second"), "[0-9][0-9]"),
}
_DAY_FIELDS = ("year", "month", "day")
_FIELD = re.compile(r"\{([^{}]*)\}")

Fields = dict[str, str]
Enter = Callable[[str, int, date | None], bool]
"""Whether to list a folder: its path below the root, its depth, and its day where that is told."""


class TemplateError(PermanentFailureError):
    """A path template cannot be used, or a path cannot be made from it."""


@dataclass(frozen=True)
class _Component:
    """One part of the path between slashes: literal texts at even places, fields at odd ones."""

    parts: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        return self.parts[1::2]

    def literal(self, known: Mapping[str, str]) -> str | None:
        """The component's text where all its fields are known."""
        if any(name not in known for name in self.fields):
            return None
        return "".join(known[part] if place % 2 else part for place, part in enumerate(self.parts))

    def pattern(self, known: Mapping[str, str]) -> re.Pattern[str]:
        """Matches the component's names; known fields must have their values."""
        text, seen = "", set[str]()
        for place, part in enumerate(self.parts):
            if not place % 2:
                text += re.escape(part)
            elif part in known:
                text += re.escape(known[part])
            elif part in seen:
                text += f"(?P={part})"
            else:
                seen.add(part)
                text += f"(?P<{part}>{_FIELD_PATTERNS[part]})"
        return re.compile(text, re.ASCII | re.DOTALL)


class PathTemplate:
    """A recorder's layout below the landing folder, e.g. `{camera}/{date}/{time}.mp4`.

    Fields: `{camera}` (within one folder or file name), `{date}` as `2026-03-01`, `{time}` as
    `08-15-00`, and `{year}` `{month}` `{day}` `{hour}` `{minute}` `{second}` as digits; all times
    are UTC. A field may stand more than once and then says the same each time. Where minutes or
    seconds are not named, they are zero.

    Raises TemplateError for an unknown field, a missing camera, date or time of day, and a path
    that is absolute or climbs out of the landing folder.
    """

    def __init__(self, text: str) -> None:
        self.text = text
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
        if "date" not in names and not names.issuperset(_DAY_FIELDS):
            raise TemplateError(
                f"path template {text!r} does not say the day; add {{date}}, "
                "or {year}, {month} and {day}"
            )
        if "time" not in names and "hour" not in names:
            raise TemplateError(
                f"path template {text!r} does not say the time of day; add {{time}} or {{hour}}"
            )
        self._names = names

    @property
    def file_depth(self) -> int:
        """The depth of the folders that hold the files; the landing folder's is 0."""
        return len(self._components) - 1

    @property
    def day_depth(self) -> int:
        """The depth of the folder in which the days stand side by side."""
        told: set[str] = set()
        for depth, component in enumerate(self._components):
            told.update(component.fields)
            if "date" in told or told.issuperset(_DAY_FIELDS):
                return depth
        raise AssertionError("the constructor requires a day")

    def __repr__(self) -> str:
        return f"PathTemplate({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathTemplate) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def parse(self, path: str) -> tuple[str, datetime] | None:
        """Camera and start (UTC) of a path below the landing folder; None where it does not fit."""
        parts = path.split("/")
        if len(parts) != len(self._components):
            return None
        known: Fields = {}
        for component, part in zip(self._components, parts, strict=True):
            match = component.pattern(known).fullmatch(part)
            if match is None:
                return None
            known |= match.groupdict()
        start = _start(known)
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
        moment = start.astimezone(UTC)
        known = _day_fields(moment.date()) | {
            "camera": camera,
            "time": f"{moment:%H-%M-%S}",
            "hour": f"{moment:%H}",
            "minute": f"{moment:%M}",
            "second": f"{moment:%S}",
        }
        return "/".join(str(component.literal(known)) for component in self._components)

    def glob_for(self, day: date) -> str:
        """A glob pattern, below the landing folder, for the files of one day and no other."""
        known = _day_fields(day)
        return "/".join(
            "".join(
                (known.get(part) or _FIELD_GLOBS[part])
                if place % 2
                else re.sub(r"([*?[])", r"[\1]", part)
                for place, part in enumerate(component.parts)
            )
            for component in self._components
        )

    def walk(
        self,
        root: Path,
        *,
        day: date | None = None,
        enter: Enter = lambda _folder, _depth, _day: True,
        keep: Callable[[str], bool] = lambda _path: True,
    ) -> Iterator[tuple[str, str, datetime]]:
        """Paths below `root` that fit, with camera and start; sorted within each folder.

        Only names are looked at: nothing is opened. With `day`, folders of other days are not
        listed. `enter(folder, depth, day)` is asked before a folder is listed (its path below
        `root`, '' for the root itself; how many components of the template it spans; the day
        where the path tells it) and may decline. `keep(path)` is asked for each file whose name
        fits, before its time is read.
        """
        known = {} if day is None else _day_fields(day)
        for path, fields in self._descend(root, "", 0, known, enter):
            start = _start(fields) if keep(path) else None
            if start is not None and (day is None or start.date() == day):
                yield path, fields["camera"], start

    def days(self, root: Path) -> list[date]:
        """Days with at least one file that fits, sorted; folders below a known day are not
        listed to their end.
        """
        found: set[date] = set()
        # Once a day has shown one file, its other folders are passed by.
        for _path, _camera, start in self.walk(
            root, enter=lambda _folder, _depth, day: day is None or day not in found
        ):
            found.add(start.date())
        return sorted(found)

    def _descend(
        self,
        root: Path,
        folder: str,
        depth: int,
        known: Fields,
        enter: Enter,
    ) -> Iterator[tuple[str, Fields]]:
        component = self._components[depth]
        is_last = depth + 1 == len(self._components)
        literal = component.literal(known)
        if literal is not None and not is_last:
            entries: list[tuple[str, Fields]] = [(literal, known)]
        elif not enter(folder, depth, _known_day(known)):
            return
        else:
            pattern = component.pattern(known)
            entries = [
                (name, known | match.groupdict())
                for name in _names(root / folder)
                if (match := pattern.fullmatch(name)) is not None
            ]
        for name, fields in entries:
            path = f"{folder}/{name}" if folder else name
            if is_last:
                yield path, fields
            else:
                yield from self._descend(root, path, depth + 1, fields, enter)


def _names(folder: Path) -> list[str]:
    """Names in a folder, sorted; none where it is absent or no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise PermanentFailureError(
            f"folder {folder} cannot be listed: {error.strerror}; give the service the right to"
        ) from error


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


def _start(known: Mapping[str, str]) -> datetime | None:
    """The moment that the fields tell; None where there is none or where they disagree."""
    day = _known_day(known)
    if day is None:
        return None
    clock = known.get("time", "").split("-") if "time" in known else []
    hour, minute, second = (
        clock
        if clock
        else (known.get("hour", "00"), known.get("minute", "00"), known.get("second", "00"))
    )
    try:
        moment = datetime(
            day.year, day.month, day.day, int(hour), int(minute), int(second), tzinfo=UTC
        )
    except ValueError:
        return None
    told = _day_fields(day) | {"hour": hour, "minute": minute, "second": second}
    return moment if all(known.get(name, value) == value for name, value in told.items()) else None


DEFAULT_TEXT = "{camera}/{date}/{time}.mp4"

DEFAULT = PathTemplate(DEFAULT_TEXT)
"""`cam-01/2026-03-01/08-15-00.mp4`."""

FRIGATE = PathTemplate("recordings/{date}/{hour}/{camera}/{minute}.{second}.mp4")
"""Frigate's recordings: `recordings/2026-03-01/08/cam-01/15.00.mp4`
(https://docs.frigate.video/configuration/record).
"""
