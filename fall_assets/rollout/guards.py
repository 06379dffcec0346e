"""Guards that need no statistics: one look at the facts, and the rollout goes back at once.

What belongs here: the facts, and the limits held against them. What does not: where the facts come
from (`pipeline.rollout`), what going back means (`machine`), and everything that needs a test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, get_args

from fall_assets.rollout.settings import GuardSettings

GUARDS: Final = ("crash", "heartbeat", "latency", "memory", "parity", "missed_fall")
"""Names, in the order in which `check` tells them."""

CrashState = Literal["rolled_back", "refused"]

_MOST_TOLD = 5


class Crash(NamedTuple):
    """A box could not run the challenger's package.

    `at` is ISO 8601 with its offset; `state` is 'rolled_back' where it ran and the box went back,
    'refused' where it was never started; `detail` is the box's own word, or empty.
    """

    box: str
    at: str
    state: CrashState
    detail: str


class Silence(NamedTuple):
    """A box that last reported under the challenger; minutes since then."""

    box: str
    minutes: float


class MemoryUse(NamedTuple):
    """The lowest of a box's last `memory_reports` reports under the challenger, percent."""

    box: str
    percent: float


class Missed(NamedTuple):
    """A confirmed fall which the champion in shadow saw and the challenger did not.

    `at` is ISO 8601 with its offset; `what` says how it is known, in words, or is empty.
    """

    camera_id: str
    at: str
    what: str


@dataclass(frozen=True)
class Facts:
    """What is known of the boxes and cameras under the challenger; JSON-able.

    Plain tuples and lists of the same values are taken for the named ones.

    Attributes:
        challenger: model version.
        crashes: said by boxes of the challenger's package.
        silent: boxes that last reported under the challenger, however short their silence.
        champion_boxes: boxes under the champion.
        champion_silent: of these, those that are silent for `heartbeat_min` or longer.
        latency_p95_s: of the challenger's alerts, raised to arrival at the gateway; None without.
        latency_alerts: of how many alerts that is.
        memory: boxes under the challenger that sent `memory_reports` reports or more.
        parity_failure: how a box's scores differ from the platform's; None: they do not.
        missed: falls.

    Raises:
        ValueError: a value that cannot be.
    """

    challenger: str
    crashes: Sequence[Crash] = ()
    silent: Sequence[Silence] = ()
    champion_boxes: int = 0
    champion_silent: int = 0
    latency_p95_s: float | None = None
    latency_alerts: int = 0
    memory: Sequence[MemoryUse] = ()
    parity_failure: str | None = None
    missed: Sequence[Missed] = ()

    def __post_init__(self) -> None:
        _text("challenger", self.challenger)
        for name, kind in _ROWS.items():
            rows = tuple(_row(name, kind, row) for row in _list(name, getattr(self, name)))
            object.__setattr__(self, name, rows)
        for name in ("champion_boxes", "champion_silent", "latency_alerts"):
            _count(name, getattr(self, name))
        if self.champion_silent > self.champion_boxes:
            raise ValueError(
                f"champion_silent is {self.champion_silent}, of {self.champion_boxes} boxes"
            )
        if self.latency_p95_s is not None:
            _number("latency_p95_s", self.latency_p95_s)
        if self.parity_failure is not None:
            _text("parity_failure", self.parity_failure)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` turns it back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {name: [list(row) for row in values[name]] for name in _ROWS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Facts:
        """From `as_dict`.

        Raises:
            ValueError: a key that is missing or not known, or a value that cannot be.
        """
        known = {field.name for field in fields(cls)}
        if wrong := known ^ set(values):
            raise ValueError(f"facts lack or do not know: {', '.join(sorted(wrong))}")
        return cls(**values)


@dataclass(frozen=True)
class Tripped:
    """A guard that says go back, and why, in a sentence."""

    guard: str
    text: str

    def __post_init__(self) -> None:
        if self.guard not in GUARDS:
            raise ValueError(f"guard {self.guard!r} is not known; there are: {', '.join(GUARDS)}")


def check(facts: Facts, settings: GuardSettings) -> list[Tripped]:
    """Guards that trip, at most one of each name, in the order of `GUARDS`.

    A crash, a parity failure and a missed fall trip at once. Silence and memory trip at their limit
    or over it; latency over it, when it was measured on `latency_alerts` alerts or more. Silent
    boxes are not held against the challenger while `outage_share` or more of the champion's boxes
    are silent too: then it is the network.
    """
    version = f"version {facts.challenger}"
    told: list[Tripped] = []
    if facts.crashes:
        told.append(Tripped("crash", _crash_text(facts, version)))
    silent = [row for row in facts.silent if row.minutes >= settings.heartbeat_min]
    if silent and not _outage(facts, settings):
        silent.sort(key=lambda row: (-row.minutes, row.box))
        boxes = _listed([f"{row.box} (for {_duration(row.minutes)})" for row in silent])
        text = (
            f"No reports from boxes with {version}: {boxes}; "
            f"the limit is {_duration(settings.heartbeat_min)}."
        )
        told.append(Tripped("heartbeat", text))
    p95_s = facts.latency_p95_s
    measured = p95_s is not None and facts.latency_alerts >= settings.latency_alerts
    if measured and p95_s is not None and p95_s > settings.latency_p95_s:
        text = (
            f"Alerts of {version} are slow: of {facts.latency_alerts}, 5 in 100 took "
            f"{p95_s:.4g} s or longer to reach the gateway; "
            f"the limit is {settings.latency_p95_s:g} s."
        )
        told.append(Tripped("latency", text))
    full = [row for row in facts.memory if row.percent >= settings.memory_percent]
    if full:
        full.sort(key=lambda row: (-row.percent, row.box))
        boxes = _listed([f"{row.box} (never under {row.percent:.4g} %)" for row in full])
        text = (
            f"Boxes with {version} run out of memory, in their last {settings.memory_reports} "
            f"reports: {boxes}; the limit is {settings.memory_percent:g} %."
        )
        told.append(Tripped("memory", text))
    if facts.parity_failure is not None:
        text = f"Boxes do not score as the platform does with {version}: {facts.parity_failure}"
        told.append(Tripped("parity", _closed(text)))
    if facts.missed:
        told.append(Tripped("missed_fall", _missed_text(facts, version)))
    return told


def _outage(facts: Facts, settings: GuardSettings) -> bool:
    boxes = facts.champion_boxes
    return boxes > 0 and facts.champion_silent / boxes >= settings.outage_share


def _crash_text(facts: Facts, version: str) -> str:
    said = {"rolled_back": "went back from it", "refused": "refused it"}
    boxes = [
        f"{row.box} {said[row.state]} at {_moment(row.at)}{_aside(row.detail)}"
        for row in sorted(facts.crashes, key=lambda row: (_instant(row.at), row.box))
    ]
    return f"Boxes cannot run the package of {version}: {_listed(boxes)}."


def _missed_text(facts: Facts, version: str) -> str:
    falls = [
        f"camera {row.camera_id} at {_moment(row.at)}{_aside(row.what)}"
        for row in sorted(facts.missed, key=lambda row: (_instant(row.at), row.camera_id))
    ]
    return (
        f"Missed by {version}, though the version in shadow saw them, were confirmed falls: "
        f"{_listed(falls)}."
    )


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - _MOST_TOLD
    return ", ".join(parts[:_MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


def _aside(text: str) -> str:
    return f" ({text.strip().rstrip('.')})" if text.strip() else ""


def _closed(text: str) -> str:
    return text.strip().rstrip(".") + "."


def _duration(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _instant(at: str) -> datetime:
    return datetime.fromisoformat(at).astimezone(UTC)


def _moment(at: str) -> str:
    return f"{_instant(at):%Y-%m-%d %H:%M:%S} UTC"


_ROWS: Final[Mapping[str, type[Crash | Silence | MemoryUse | Missed]]] = {
    "crashes": Crash,
    "silent": Silence,
    "memory": MemoryUse,
    "missed": Missed,
}


def _list(name: str, rows: object) -> Sequence[object]:
    if isinstance(rows, str) or not isinstance(rows, Sequence):
        raise ValueError(f"{name} is not a list: {rows!r}")
    return rows


def _row(name: str, kind: type[Crash | Silence | MemoryUse | Missed], row: object) -> object:
    wanted = kind._fields
    if isinstance(row, str) or not isinstance(row, Sequence) or len(row) != len(wanted):
        raise ValueError(f"{name} has {row!r}, wanted ({', '.join(wanted)})")
    named = dict(zip(wanted, row, strict=True))
    for field, value in named.items():
        where = f"{name}: {field}"
        if field in ("minutes", "percent"):
            _number(where, value)
        else:
            _text(where, value, empty=field in ("detail", "what"))
    if named.get("percent", 0) > 100:
        raise ValueError(f"{name}: percent is {named['percent']}, wanted 0 to 100")
    if "state" in named and named["state"] not in get_args(CrashState):
        states = ", ".join(get_args(CrashState))
        raise ValueError(f"{name}: state {named['state']!r} is not known; there are: {states}")
    if "at" in named:
        _utc(name, named["at"])
    return kind(*row)


def _utc(name: str, at: str) -> None:
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise ValueError(f"{name}: at {at!r} is not a moment in ISO 8601") from error
    if moment.tzinfo is None:
        raise ValueError(f"{name}: at {at!r} has no offset; write it in UTC with +00:00")


def _text(name: str, value: object, *, empty: bool = False) -> None:
    if not isinstance(value, str) or not (empty or value.strip()):
        raise ValueError(f"{name} is {value!r}, wanted {'a' if empty else 'a filled'} text")


def _count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is {value!r}, wanted a whole number from 0")


def _number(name: str, value: object) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not math.isfinite(float(str(value))) or float(str(value)) < 0:
        raise ValueError(f"{name} is {value!r}, wanted a number from 0")
