"""What changes in a hospital: drift that a detector may suffer from, and what is ordinary.

What belongs here: the kinds of change, when they hold, and how a segment is filmed under them. What
does not: the hospital's plan and files (`hospital.py`), pixels (`render.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from fall_assets.simulation.render import Light, Sensor


@dataclass(frozen=True)
class Kind:
    """A kind of change.

    Attributes:
        meaning: what happens, in words.
        cause: the name by which a drift report should call it; None where it is ordinary life.
        of_room: it happens in a room, so that all its cameras see it.
        amount: its usual size, in the unit that `meaning` tells.
        least, most: range of `amount`.
    """

    meaning: str
    cause: str | None = None
    of_room: bool = False
    amount: float = 1.0
    least: float = 0.0
    most: float = 1.0


KINDS: Final[Mapping[str, Kind]] = {
    "resolution": Kind(
        "the camera records that many lines, 16 to 9; drawn small and scaled up, with the fine "
        "grain of the larger sensor",
        "resolution", amount=2160, least=90, most=2160,
    ),
    "frame_rate": Kind("so many frames a second", "frame_rate", amount=5, least=1, most=60),
    "smear": Kind(
        "the lens is smeared: blur of so many thousandths of the picture's width, and haze",
        "lens_blurred", amount=9, least=0, most=50,
    ),
    "exposure": Kind(
        "exposure is that many times what it was, and the white balance colder",
        "exposure", amount=1.45, least=0.2, most=3,
    ),
    "knock": Kind(
        "the camera is turned by so many degrees, and a third of that about its axis",
        "view_moved", amount=10, least=-60, most=60,
    ),
    "infrared": Kind(
        "the night mode stays on: grey, flat light from the camera, noise so many times the usual",
        "night_mode", amount=2.5, least=1, most=10,
    ),
    "children": Kind(
        "of the patients that share are children of 1.0 to 1.4 m, who are livelier",
        "smaller_people", of_room=True, amount=1.0,
    ),
    "furniture": Kind(
        "the bed and the chair change sides, and the walls are painted",
        "room_changed", of_room=True,
    ),
    "wheelchairs": Kind(
        "that share of the patients who would be on their feet sit in wheelchairs and roll along",
        "wheelchairs", of_room=True, amount=0.8,
    ),
    "night": Kind(
        "day and night: daylight by the hour, weather by the day, lamps turned low at night, when "
        "most patients lie; that share of it",
        of_room=True,
    ),
    "weekend": Kind(
        "families visit in the afternoon; on Saturdays and Sundays more of them, and staff that "
        "share less often",
        of_room=True, amount=0.5,
    ),
    "visitors": Kind("that share of the scenes by day has visitors", of_room=True, amount=0.6),
    "curtains": Kind("the curtains are drawn, and keep that share of daylight out",
                     of_room=True, amount=0.7),
    "sun": Kind(
        "the season: daylight grows by that share, and the sun falls on the floor about noon",
        of_room=True, amount=0.3,
    ),
}  # fmt: skip
"""All kinds by name. What has a cause is drift, the others are not."""

DAWN_H: Final = 6.0
DUSK_H: Final = 18.0
NIGHT_H: Final = (21, 6)
"""Lamps are low from the first hour to the second, UTC."""
_VISITING_H: Final = (9, 20)
_WEEKDAY_FAMILIES: Final = 0.08
_WEEKEND_FAMILIES: Final = 0.3
_LAMPS: Final = 0.74
_NIGHT_LAMPS: Final = 0.50
_SKY: Final = 0.12
_WINDOW: Final = 0.30
_WEATHER: Final = (0.60, 1.10)
_DIM_WINDOW: Final = 0.12


@dataclass(frozen=True)
class Change:
    """Something that changes for some cameras on a day.

    Attributes:
        kind: a name of `KINDS`.
        cameras: ids of the cameras that see it; empty for all.
        first_day: the first day on which it can be seen. On the hospital's first day it is how
            things are there from the start.
        days: over so many days it grows, from a part of `1 / days` on the first; 1 is at once.
        amount: its size when it is full grown, in the unit that `KINDS` tells; None is the usual.
    """

    kind: str
    cameras: tuple[str, ...] = ()
    first_day: date = date(2026, 3, 1)
    days: int = 1
    amount: float | None = None

    def __post_init__(self) -> None:
        kind = KINDS.get(self.kind)
        if kind is None:
            raise ValueError(f"Change: no kind {self.kind!r}; there are: {', '.join(KINDS)}")
        if self.days < 1:
            raise ValueError(f"Change: {self.kind} grows over at least 1 day, not {self.days}")
        if not kind.least <= self.size <= kind.most:
            raise ValueError(
                f"Change: amount of {self.kind} must be {kind.least:g} to {kind.most:g}, "
                f"not {self.size:g}"
            )
        if len(set(self.cameras)) < len(self.cameras):
            raise ValueError(f"Change: {self.kind} names a camera twice")

    @property
    def size(self) -> float:
        """Its size when it is full grown."""
        return KINDS[self.kind].amount if self.amount is None else self.amount

    def sees(self, camera_id: str) -> bool:
        """Whether it is one of the camera's."""
        return not self.cameras or camera_id in self.cameras

    def share(self, day: date) -> float:
        """How much of it is there on a day, 0 to 1."""
        return float(np.clip(((day - self.first_day).days + 1) / self.days, 0.0, 1.0))

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self) | {
            "first_day": self.first_day.isoformat(), "cameras": list(self.cameras),
        }  # fmt: skip

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Change:
        """What `as_json` gave; raises ValueError or TypeError for anything else."""
        first_day = date.fromisoformat(row["first_day"])
        return cls(**{**row, "first_day": first_day, "cameras": tuple(row["cameras"])})


def installed(first_day: date) -> tuple[Change, ...]:
    """Day and night, weather, weekends and visits, as every hospital has them, from a day on."""
    return Change("night", (), first_day), Change("weekend", (), first_day)


def truth(
    changes: Sequence[Change], first_day: date, cameras: Sequence[str]
) -> list[dict[str, Any]]:
    """What is known of a hospital's changes, a row each; `first_day` is the hospital's.

    `is_drift` tells whether a drift report should name it, and `cause` how.
    """
    return [
        {
            "kind": one.kind,
            "cameras": list(one.cameras or cameras),
            "first_day": one.first_day.isoformat(),
            "days": one.days,
            "amount": one.size,
            "is_drift": KINDS[one.kind].cause is not None and one.first_day > first_day,
            "cause": KINDS[one.kind].cause if one.first_day > first_day else None,
            "meaning": KINDS[one.kind].meaning,
        }
        for one in changes
    ]


@dataclass(frozen=True)
class Now:
    """The changes that one camera, or one room, sees on a day: kind to size, and how much of it.

    Of several changes of one kind the last counts.
    """

    sizes: tuple[tuple[str, float, float], ...] = ()

    def __contains__(self, kind: str) -> bool:
        return any(name == kind for name, _, _ in self.sizes)

    def size(self, kind: str, default: float = 0.0) -> float:
        """The full size of a kind that is there."""
        return next((size for name, size, _ in self.sizes if name == kind), default)

    def grown(self, kind: str) -> float:
        """How much of a kind is there, 0 to 1."""
        return next((share for name, _, share in self.sizes if name == kind), 0.0)


def now(changes: Sequence[Change], cameras: Sequence[str], day: date) -> Now:
    """What these cameras, one or all of a room, see of the changes on a day."""
    found: dict[str, tuple[float, float]] = {}
    for change in changes:
        if change.share(day) > 0 and any(change.sees(camera) for camera in cameras):
            found[change.kind] = change.size, change.share(day)
    return Now(tuple((kind, size, share) for kind, (size, share) in sorted(found.items())))


# People.


def is_night(at: datetime) -> bool:
    """Whether lamps are low at that moment."""
    return at.hour >= NIGHT_H[0] or at.hour < NIGHT_H[1]


def staff_share(present: Now, at: datetime) -> float:
    """Factor by which visits of staff become rarer."""
    if "weekend" in present and at.weekday() >= 5:
        return 1.0 - present.size("weekend")
    return 1.0


def visitors(present: Now, at: datetime, draws: Sequence[float]) -> int:
    """How many visitors are in a scene, by two numbers drawn from 0 to 1."""
    share = 0.0
    if "weekend" in present:
        share = _WEEKEND_FAMILIES if at.weekday() >= 5 else _WEEKDAY_FAMILIES
    if "visitors" in present:
        share = max(share, present.size("visitors") * present.grown("visitors"))
    if not _VISITING_H[0] <= at.hour < _VISITING_H[1] or draws[0] >= share:
        return 0
    return 1 if draws[1] < 0.6 else 2


# Light and the camera.


def filmed_by(present: Now, own: Sensor) -> Sensor:
    """What becomes of a camera's sensor under the changes."""
    from dataclasses import replace

    sensor = own
    if "exposure" in present:
        grown = present.grown("exposure")
        factor = 1 + (present.size("exposure") - 1) * grown
        sensor = replace(
            sensor, exposure=sensor.exposure * factor, warmth=sensor.warmth - 12.0 * grown
        )
    if "smear" in present:
        grown = present.grown("smear")
        sensor = replace(
            sensor,
            blur=present.size("smear") / 1000 * grown,
            contrast=sensor.contrast * (1 - 0.2 * grown),
        )
    if "infrared" in present:
        sensor = replace(
            sensor,
            grey=True,
            exposure=0.80,
            contrast=sensor.contrast * 0.55,
            noise=sensor.noise * present.size("infrared"),
            warmth=0.0,
        )
    return sensor


def lit_by(present: Now, at: datetime, weather: float) -> Light | None:
    """The light in a room at a moment, None for the even one that pictures are drawn in.

    Args:
        present: the changes that the camera sees.
        at: the moment, UTC.
        weather: drawn from 0 to 1 for the day; 1 is a bright one.
    """
    from fall_assets.simulation.render import Light

    if "infrared" in present:
        return Light(lamps=1.0, window=0.0, pane=0.35, fall_off=0.35)
    if not {"night", "curtains", "sun"} & {kind for kind, _, _ in present.sizes}:
        return None
    hour = at.hour + at.minute / 60
    height = max(0.0, math.sin(math.pi * (hour - DAWN_H) / (DUSK_H - DAWN_H)))
    if "night" in present:
        low, high = _WEATHER
        daylight = height**0.6 * (low + (high - low) * weather)
        lamps = _NIGHT_LAMPS if is_night(at) else _LAMPS
        share = present.size("night")
        lamps, daylight = lamps * share + _LAMPS * (1 - share), daylight * share + (1 - share)
    else:
        lamps, daylight = _LAMPS, 1.0
    season = present.grown("sun") * present.size("sun")
    daylight *= 1 + season
    if "curtains" in present:
        daylight *= 1 - present.size("curtains") * present.grown("curtains")
    # The sun reaches the floor where it stands high and the sky is clear.
    clear = weather > 0.3 and abs(hour - 12.0) < 3.5 and "curtains" not in present
    return Light(
        lamps=lamps + _SKY * daylight,
        window=_WINDOW * daylight,
        pane=_DIM_WINDOW + (1 - _DIM_WINDOW) * min(1.0, 1.4 * daylight),
        patch=min(1.0, 4 * present.grown("sun")) * (0.45 if clear and "sun" in present else 0.0),
        patch_at=(hour - 12.0) / 3.5,
    )
