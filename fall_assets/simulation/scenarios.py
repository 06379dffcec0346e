"""The scenarios by which the drift report is judged: an ordinary hospital, and what becomes of it.

What belongs here: the hospital, the names, and what changes when. What does not: kinds of change
(`changes.py`), making films (`hospital.py`), judging (`benchmarks.drift_scenarios`).

Three cameras in two rooms. A week is ordinary, from a Monday on; then something happens, to the
first room with its two cameras or to one camera. Day and night, weather and weekends are in all of
them. The cameras differ from the start: the second records 720 lines, the third 25 frames a second.

A recorder keeps eight films of eight seconds of each camera's day. That shows what a picture is
like; how the people of a ward move takes more people, so that what changes people has three times
as many, in an ordinary hospital of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

from fall_assets.simulation.changes import KINDS, Change, installed
from fall_assets.simulation.hospital import HospitalSpec

FIRST_DAY: Final = date(2026, 3, 2)
ORDINARY_DAYS: Final = 7
DAYS: Final = 14
"""Days of the ordinary hospital; scenarios end before or with it."""
CHANGE_DAY: Final = FIRST_DAY + timedelta(days=ORDINARY_DAYS)
SEED: Final = 12

ORDINARY: Final = {"ordinary": 8, "ordinary_people": 24}
"""Hospitals in which nothing happens, and how many films they keep of a camera's day."""

_ROOM: Final = ("cam-01", "cam-02")
_SMALL: Final = ("cam-01",)
_LARGE: Final = ("cam-02",)
_QUICK: Final = ("cam-03",)


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    Attributes:
        name: the kind of change that it is about.
        cameras: whom it concerns; empty for all.
        judged_from, judged_days: the days on which a drift report is looked at.
        grows_days: over so many days it comes.
        ordinary: the hospital to which it happens.
    """

    name: str
    cameras: tuple[str, ...] = ()
    judged_from: date = CHANGE_DAY
    judged_days: int = 2
    grows_days: int = 1
    ordinary: str = "ordinary"

    @property
    def is_drift(self) -> bool:
        """Whether the drift report should name it."""
        return self.cause is not None

    @property
    def cause(self) -> str | None:
        """How the drift report should call it; None for what is ordinary."""
        return KINDS[self.name].cause

    @property
    def within_days(self) -> int:
        """By which of its days it should be named: the 2nd, of what grows the 7th."""
        return 7 if self.grows_days > 1 else 2

    @property
    def days(self) -> list[date]:
        """The days on which a drift report is looked at."""
        return [self.judged_from + timedelta(days=number) for number in range(self.judged_days)]

    def hospital(self, seed: int = SEED) -> HospitalSpec:
        """The hospital to which it happens, up to the last day that is looked at."""
        base = ordinary_hospital(seed, self.ordinary)
        days = (self.days[-1] - FIRST_DAY).days + 1
        # Night and weekends are in every hospital.
        if self.name in {change.kind for change in installed(FIRST_DAY)}:
            return replace(base, days=days)
        change = Change(self.name, self.cameras, CHANGE_DAY, self.grows_days)
        return replace(base, days=days, changes=(*base.changes, change))


def ordinary_hospital(seed: int = SEED, name: str = "ordinary") -> HospitalSpec:
    """A hospital in which nothing happens, until the last day of what happens in its place."""
    last = max(one.days[-1] for one in SCENARIOS.values() if one.ordinary == name)
    return HospitalSpec(
        seed=seed,
        first_day=FIRST_DAY,
        days=min(DAYS, (last - FIRST_DAY).days + 1),
        cameras=3,
        segments_per_day=ORDINARY[name],
        segment_s=8.0,
        fps=10,
        width=320,
        height=180,
        changed_cameras=0,
        bad_files=0,
        fall_share=0.3,
        hours=(0, 24),
        views=("level", "corner", "level"),
        drawn_width=480,
        changes=(
            *installed(FIRST_DAY),
            Change("resolution", _LARGE, FIRST_DAY, amount=720),
            Change("frame_rate", _QUICK, FIRST_DAY, amount=25),
        ),
    )


SCENARIOS: Final[Mapping[str, Scenario]] = {
    one.name: one
    for one in (
        Scenario("resolution", _LARGE),
        Scenario("children", _ROOM, ordinary="ordinary_people"),
        Scenario("furniture", _ROOM),
        Scenario("smear", _SMALL, judged_days=7, grows_days=14),
        Scenario("exposure", _SMALL),
        Scenario("frame_rate", _QUICK),
        Scenario("knock", _SMALL),
        Scenario("infrared", _SMALL),
        Scenario("wheelchairs", _ROOM, ordinary="ordinary_people"),
        Scenario("night"),
        Scenario("weekend", judged_from=FIRST_DAY + timedelta(days=12)),
        Scenario("visitors", _ROOM, ordinary="ordinary_people"),
        Scenario("curtains", _ROOM),
        Scenario("sun", _QUICK, judged_days=7, grows_days=28),
    )
}
"""All scenarios by name."""
