"""Rooms and zones of a camera's picture, each for a period of time.

What belongs here: reading `zones.csv` of the landing folder and asking what is valid when. What
does not: which cameras there are.

A line is `camera_id,kind,name,polygon,valid_from,valid_until`: kind is one of ZONE_KINDS; polygon
is 'x y; x y; x y' in shares of the picture, empty for all of it; times are ISO with a zone, or a
day, which starts at midnight UTC. A later line for the same camera, kind and name (a room: for the
same camera, since a camera looks into one room at a time) closes the period before: a renovation is
a new line, never a change of an old one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from fall_assets.footage.lines import Line, read_lines
from fall_assets.labelling.statements import Place, Problem, place_of
from fall_assets.lake.registry import ZONE_KINDS, table

ZONES_FILE = "zones.csv"

_REQUIRED = ("camera_id", "kind", "name", "polygon", "valid_from", "valid_until")
_MOST_CORNERS = 100
_SMALLEST_AREA = 1e-6
_FIRST_YEAR, _LAST_YEAR = 1970, 2200

Corner = tuple[float, float]


@dataclass(frozen=True)
class ZoneReading:
    """Rows of the table `zones`, and the lines that were left out."""

    zones: pl.DataFrame
    problems: tuple[Problem, ...]


@dataclass
class _Period:
    """One line: a zone for a period."""

    place: Place
    camera_id: str
    kind: str
    name: str
    polygon: list[Corner] | None
    start: datetime
    end: datetime | None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.camera_id, self.kind, "" if self.kind == "room" else self.name


def read_zones(landing: Path, cameras: Collection[str] | None = None) -> ZoneReading:
    """Read `zones.csv` of a landing folder; without the file there are no zones.

    Args:
        landing: the landing folder.
        cameras: ids of all cameras, to find typing errors; None takes every name.

    Returns:
        Zones by camera, kind, name and start; problems in the order of lines. Lines are left out
        that cannot be (an end before its start, corners outside the picture, sides that cross) and
        those whose period overlaps one of an earlier line that has an end or starts no earlier.
    """
    path = landing / ZONES_FILE
    if not path.is_file():
        return ZoneReading(table("zones").empty(), ())
    problems: list[Problem] = []
    periods: defaultdict[tuple[str, str, str], list[_Period]] = defaultdict(list)
    for line in read_lines(path, _REQUIRED):
        place = place_of(landing, path, line)
        period = _period(line, place, cameras)
        if isinstance(period, _Period):
            clash = _add(periods[period.key], period)
            if clash is not None:
                problems.append(Problem(place, clash))
        else:
            problems.append(Problem(place, period))
    rows = [_row(period) for key in sorted(periods) for period in periods[key]]
    return ZoneReading(
        pl.DataFrame(rows, schema=table("zones").schema).sort(
            "camera_id", "kind", "name", "valid_from_utc"
        ),
        tuple(problems),
    )


def with_history(standing: pl.DataFrame, read: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """What was read, and the periods that were known and whose lines are gone.

    A line that is gone or has another start is no overwrite: its period ended where the next one
    of that zone starts, or now where there is none. Where a line was corrected to start earlier,
    the known period lies within the corrected one and goes.

    Args:
        standing: rows of the table `zones` as they stand.
        read: rows as `zones.csv` has them now.
        now: aware of its zone.
    """
    starts: defaultdict[tuple[str, str, str], list[datetime]] = defaultdict(list)
    for row in read.iter_rows(named=True):
        starts[_key_of(row)].append(row["valid_from_utc"])
    gone = standing.filter(~pl.col("zone_id").is_in(read["zone_id"].to_list()))
    kept = []
    for row in gone.iter_rows(named=True):
        known = sorted(starts[_key_of(row)])
        start, told_end = row["valid_from_utc"], row["valid_until_utc"]
        if any(other <= start for other in known):
            continue
        end = known[0] if known else now.astimezone(UTC)
        end = end if told_end is None else min(end, told_end)
        if end > start:
            kept.append(row | {"valid_until_utc": end})
    return pl.concat([read, pl.DataFrame(kept, schema=read.schema)]).sort(
        "camera_id", "kind", "name", "valid_from_utc"
    )


def _key_of(row: dict[str, Any]) -> tuple[str, str, str]:
    """What a zone is told apart by: a camera sees one room at a time."""
    return row["camera_id"], row["kind"], "" if row["kind"] == "room" else row["name"]


def zones_at(zones: pl.DataFrame, camera_id: str, moment: datetime) -> pl.DataFrame:
    """The zones that a camera sees at a moment, room included.

    Args:
        zones: rows of the table `zones`.
        camera_id: the camera.
        moment: aware of its zone; a period holds from its start to before its end.
    """
    at = pl.lit(moment.astimezone(UTC), pl.Datetime("us", "UTC"))
    return zones.filter(
        (pl.col("camera_id") == camera_id)
        & (pl.col("valid_from_utc") <= at)
        & (pl.col("valid_until_utc").is_null() | (pl.col("valid_until_utc") > at))
    )


def _add(periods: list[_Period], new: _Period) -> str | None:
    """Add a period of the same zone; what is wrong where it overlaps one that it cannot close."""
    closes: _Period | None = None
    for period in periods:
        ends_before = new.end is not None and new.end <= period.start
        starts_after = period.end is not None and period.end <= new.start
        if ends_before or starts_after:
            continue
        if period.end is None and period.start < new.start:
            closes = period
            continue
        return (
            f"overlaps line {period.place.line}, which is valid from {period.start.isoformat()}"
            f"{f' to {period.end.isoformat()}' if period.end else ''}; correct one of the periods"
        )
    if closes is not None:
        closes.end = new.start
    periods.append(new)
    return None


def _period(line: Line, place: Place, cameras: Collection[str] | None) -> _Period | str:
    """The line's period, or what is wrong with it."""
    if line.problem is not None:
        return line.problem
    cells = line.cells
    needed = ("camera_id", "kind", "name", "valid_from")
    if missing := [name for name in needed if name not in cells]:
        return f"no {', '.join(missing)}; fill the cell"
    kind = cells["kind"].lower()
    if kind not in ZONE_KINDS:
        return f"kind {cells['kind']!r} is not known; write one of {', '.join(ZONE_KINDS)}"
    if cameras is not None and cells["camera_id"] not in cameras:
        return f"there is no camera {cells['camera_id']!r}; correct its name"
    polygon = _polygon(cells["polygon"]) if "polygon" in cells else None
    if isinstance(polygon, str):
        return polygon
    start = _moment(cells["valid_from"])
    end = _moment(cells["valid_until"]) if "valid_until" in cells else None
    if start is None or (end is None and "valid_until" in cells):
        name = "valid_from" if start is None else "valid_until"
        return (
            f"{name} {cells[name]!r} must be a day or a time with its zone, as in 2026-03-01 or "
            "2026-03-01T08:15:00Z"
        )
    if end is not None and end <= start:
        return f"valid_until {cells['valid_until']!r} is not after valid_from"
    return _Period(place, cells["camera_id"], kind, cells["name"], polygon, start, end)


def _polygon(text: str) -> list[Corner] | str:
    """The corners, or what is wrong with them."""
    corners: list[Corner] = []
    for piece in text.split(";"):
        try:
            x, y = (float(part) for part in piece.split())
        except ValueError:
            return f"polygon corner {piece.strip()!r} is not 'x y'; write 'x y; x y; x y'"
        if not (0 <= x <= 1 and 0 <= y <= 1):
            return f"polygon corner {piece.strip()!r} lies outside the picture; give shares 0 to 1"
        corners.append((x, y))
    if len(corners) > 1 and corners[0] == corners[-1]:
        corners.pop()
    if not 3 <= len(corners) <= _MOST_CORNERS:
        return f"a polygon of {len(corners)} corners; give 3 to {_MOST_CORNERS}"
    if _sides_cross(corners):
        return "the polygon's sides cross; give its corners in order"
    if _area(corners) < _SMALLEST_AREA:
        return "the polygon has no area; correct its corners"
    return corners


def _area(corners: Sequence[Corner]) -> float:
    following = [*corners[1:], corners[0]]
    return abs(
        math.fsum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(corners, following, strict=True))
        / 2
    )


def _sides_cross(corners: Sequence[Corner]) -> bool:
    sides = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    count = len(sides)
    return any(
        _cross(*sides[i], *sides[j])
        for i in range(count)
        for j in range(i + 2, count)
        if (i, j) != (0, count - 1)
    )


def _cross(a: Corner, b: Corner, c: Corner, d: Corner) -> bool:
    def side(p: Corner, q: Corner, r: Corner) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def _moment(text: str) -> datetime | None:
    try:
        if len(text) == len("2026-03-01"):
            day = date.fromisoformat(text)
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        else:
            moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None or not _FIRST_YEAR < moment.year < _LAST_YEAR:
        return None
    return moment.astimezone(UTC)


def _row(period: _Period) -> dict[str, Any]:
    identity = (period.camera_id, period.kind, period.name, period.start.isoformat())
    return {
        "zone_id": hashlib.sha256(repr(identity).encode()).hexdigest()[:32],
        "camera_id": period.camera_id,
        "kind": period.kind,
        "name": period.name,
        "polygon": None if period.polygon is None else json.dumps(period.polygon),
        "valid_from_utc": period.start,
        "valid_until_utc": period.end,
        "file": period.place.file,
        "line": period.place.line,
    }
