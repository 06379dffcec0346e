"""What the readers of labelling tools share: finding the video that is meant, and bookkeeping.

What belongs here: names of videos, places in a file, plain conversions. What does not: any tool's
format, and whether a time or a word makes sense (`labelling/readers.py`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import polars as pl

from fall_assets.labelling.statements import Place, Problem

MAX_BYTES = 64 * 1024 * 1024
"""The largest label file that is read at once: parsing JSON takes about ten times its size."""

_MAX_TEXT = 200
_LARGEST = 2**63 - 1
# Label Studio puts the first part of a UUID before the name of an uploaded file.
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")


@dataclass(frozen=True)
class Film:
    """What a reader must know of a video; `path` is its path in the table `videos`."""

    video_id: str
    path: str
    fps: float
    duration_s: float


class Films:
    """Videos by id and by the names under which tools may know them."""

    def __init__(self, videos: pl.DataFrame, sightings: pl.DataFrame | None = None) -> None:
        """From rows of `videos`, and of `sightings` where a video has several names."""
        columns = ("video_id", "path", "fps", "duration_s")
        self._by_id = {
            row["video_id"]: Film(**row)
            for row in videos.select(*columns).sort("path").iter_rows(named=True)
        }
        self._by_name: dict[str, dict[str, Film]] = {}
        for film in self._by_id.values():
            self._know(film.path, film)
        if sightings is not None:
            for video_id, path in sightings.select("video_id", "path").sort("path").iter_rows():
                if (seen := self._by_id.get(video_id)) is not None:
                    self._know(path, seen)

    def _know(self, path: str, film: Film) -> None:
        self._by_name.setdefault(path.rsplit("/", 1)[-1], {})[path] = film

    def by_id(self, video_id: object) -> Film | None:
        """The video of that content; None where it is not at hand."""
        return self._by_id.get(video_id) if isinstance(video_id, str) else None

    def by_path(self, path: str) -> Film | None:
        """The video with just that path; None where it is not at hand."""
        return self._by_name.get(path.rsplit("/", 1)[-1], {}).get(path)

    def by_name(self, name: str) -> Film | str:
        """The video that a tool's name or address means, else what is wrong with the name.

        Tools know a file by its name, by another machine's path or by an address: the video is the
        one whose path shares the most trailing parts with it, if there is one only. A name without
        a letter, as recorders give by the clock, may belong to a video that is not at hand: its
        whole path must be told.
        """
        for parts in _readings(name):
            known = self._by_name.get(parts[-1], {})
            shared = {path: _shared(parts, path.split("/")) for path in known}
            if best := [path for path in shared if shared[path] == max(shared.values())]:
                films = {known[path].video_id: known[path] for path in best}
                if len(films) == 1:
                    told_whole = any(shared[path] == len(path.split("/")) for path in best)
                    if told_whole or _is_telling(parts[-1]):
                        return next(iter(films.values()))
                    return (
                        f"{name!r} does not say which camera it is of ({best[0]}?); give the file "
                        "a name of its own, or its path below the landing folder"
                    )
                return (
                    f"{name!r} may be any of {len(films)} videos ({', '.join(sorted(best)[:3])}, "
                    "…); give the file a name of its own, or its path below the landing folder"
                )
        return (
            f"there is no video {name!r}; it must be named as its file below the landing folder, "
            "and be taken in"
        )

    def by_stem(self, stem: str) -> Film | str:
        """The video whose file name without suffix is `stem`, else what is wrong."""
        films = {
            film.video_id: film
            for name, known in self._by_name.items()
            if name.rsplit(".", 1)[0] == stem
            for film in known.values()
        }
        if len(films) == 1 and _is_telling(stem):
            return next(iter(films.values()))
        if films and not _is_telling(stem):
            return f"{stem!r} does not say which camera it is of"
        return f"{'no' if not films else 'more than one'} video is named {stem!r}"


class Places:
    """Where things stand in one label file; parts of one line are numbered from 0."""

    def __init__(self, landing: Path, path: Path) -> None:
        self._file = path.relative_to(landing).as_posix()
        self._parts: Counter[int] = Counter()

    def at(self, line: int, text: str) -> Place:
        """The next place on a line (or under a task's number), with a text for a person."""
        line = min(max(line, 1), _LARGEST)
        part = self._parts[line]
        self._parts[line] += 1
        plain = " ".join(text.split())
        return Place(
            self._file, line, part, plain if len(plain) <= _MAX_TEXT else f"{plain[:_MAX_TEXT]}…"
        )

    def problem(self, line: int, text: str, reason: str) -> Problem:
        """A problem at the next place on a line."""
        return Problem(self.at(line, text), reason)


def real(value: Any) -> float | None:
    """The finite number that a value is or that a text holds; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def whole(value: Any) -> int | None:
    """The whole number from 0 that a value is or that a text holds; None where it is none."""
    number = real(value)
    return int(number) if number is not None and 0 <= number < 2**53 and number % 1 == 0 else None


def word(value: Any) -> str | None:
    """A text without spaces at its ends; None where there is none."""
    return value.strip() or None if isinstance(value, str) else None


def moment(value: Any) -> datetime | None:
    """A time in ISO 8601; one without a zone is taken as UTC, None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value.strip())
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def zone_name(value: Any) -> str | None:
    """A zone as the tables hold it: in lower case."""
    text = word(value)
    return text.lower() if text else None


def _readings(name: str) -> list[list[str]]:
    """The parts of a name or address, in each of the ways that it can be read."""
    try:
        address = urlsplit(name)
        # Label Studio's local files stand behind `?d=`.
        wanted = parse_qs(address.query).get("d", [])
        texts = [*wanted, unquote(address.path) if address.scheme else name, unquote(name)]
    except ValueError:
        texts = [name]
    readings: list[list[str]] = []
    for text in [name, *texts]:
        parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            continue
        for last in (parts[-1], _UPLOADED.sub("", parts[-1])):
            if (reading := [*parts[:-1], last]) not in readings:
                readings.append(reading)
    return readings


def _is_telling(name: str) -> bool:
    """Whether a file's name is more than a time."""
    return any(letter.isalpha() for letter in name.rsplit(".", 1)[0])


def _shared(one: list[str], other: list[str]) -> int:
    """How many parts from the end two paths share."""
    count = 0
    for mine, yours in zip(reversed(one), reversed(other), strict=False):
        if mine != yours:
            break
        count += 1
    return count
