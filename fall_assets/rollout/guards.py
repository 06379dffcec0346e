"""Guards that need no statistics: one look at the facts, and the rollout goes back at once.

What belongs here: the facts, and the limits held against them. What does not: where the facts come
from (`pipeline.rollout`), what going back means (`machine`), and everything that needs a test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, get_args

from fall_assets.rollout.settings import GuardSettings

GUARDS: Final = ("crash", "heartbeat", "latency", "memory", "parity", "missed_fall")
"""Names, in the order in which `check` tells them."""

CrashState = Literal["rolled_back", "refused"]

_MOST_TOLD = 5
_CLOSE = 4
"""A box that goes silent within so many `heartbeat_min` of a change may have died of it."""


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
    """A camera under the challenger of which no live report comes; all in minutes.

    `minutes` since its last live report; `shadow_minutes` since the champion's in shadow of the
    same camera, None where that never told of it; `box_minutes` since the box told anything at all;
    `lived_minutes` from the box's change to the challenger to its last report.
    """

    box: str
    camera_id: str
    minutes: float
    shadow_minutes: float | None
    box_minutes: float
    lived_minutes: float


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
        silent: cameras under the challenger without a live report for `heartbeat_min` or longer.
        champion_boxes: boxes none of whose cameras is under the challenger.
        champion_silent: of these, those that are silent for `heartbeat_min` or longer.
        boxes: all boxes.
        boxes_silent: of these, those that are silent for `heartbeat_min` or longer.
        latency_p95_s: of the challenger's alerts, raised to arrival at the gateway; None without.
        latency_alerts: of how many alerts that is.
        memory: boxes whose last `memory_reports` reports under the challenger were all at
            `memory_percent` or over.
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
    boxes: int = 0
    boxes_silent: int = 0
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
        counts = ("champion_boxes", "champion_silent", "boxes", "boxes_silent", "latency_alerts")
        for name in counts:
            _count(name, getattr(self, name))
        for of, name in (("champion_boxes", "champion_silent"), ("boxes", "boxes_silent")):
            if getattr(self, name) > getattr(self, of):
                raise ValueError(f"{name} is {getattr(self, name)}, of {getattr(self, of)} boxes")
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
    """A guard that says go back, and why, in a sentence; `subject` names what it is about."""

    guard: str
    text: str
    subject: str = ""

    def __post_init__(self) -> None:
        if self.guard not in GUARDS:
            raise ValueError(f"guard {self.guard!r} is not known; there are: {', '.join(GUARDS)}")

    @property
    def key(self) -> str:
        """The same as long as it trips over the same; the text tells minutes, which go on."""
        return f"{self.guard}: {self.subject}"


def check(facts: Facts, settings: GuardSettings) -> list[Tripped]:
    """Guards that trip, at most one of each name, in the order of `GUARDS`.

    A crash, a parity failure and a missed fall trip at once. Silence and memory trip at their limit
    or over it; latency over it, when it was measured on `latency_alerts` alerts or more.

    Silence of a camera is held against the challenger where its box goes on telling of others, or
    the champion in shadow of that camera: a camera that both do not tell of was taken away. Of a
    box that is silent as a whole see `_died_of_it`.
    """
    version = f"version {facts.challenger}"
    told: list[Tripped] = []
    if facts.crashes:
        text = _crash_text(facts, version)
        told.append(Tripped("crash", text, _named(row.box for row in facts.crashes)))
    silent = [row for row in facts.silent if _blamed(row, facts, settings)]
    if silent:
        text = (
            f"No reports of what {version} watches, from boxes: {_silence_text(silent)}; "
            f"the limit is {_duration(settings.heartbeat_min)}."
        )
        subject = _named(f"{row.box}/{row.camera_id}" for row in silent)
        told.append(Tripped("heartbeat", text, subject))
    p95_s = facts.latency_p95_s
    measured = p95_s is not None and facts.latency_alerts >= settings.latency_alerts
    if measured and p95_s is not None and p95_s > settings.latency_p95_s:
        text = (
            f"Alerts of {version} are slow: of {facts.latency_alerts}, 5 in 100 took "
            f"{p95_s:.4g} s or longer to reach the gateway; "
            f"the limit is {settings.latency_p95_s:g} s."
        )
        told.append(Tripped("latency", text, facts.challenger))
    full = [row for row in facts.memory if row.percent >= settings.memory_percent]
    if full:
        full.sort(key=lambda row: (-row.percent, row.box))
        boxes = _listed([f"{row.box} (never under {row.percent:.4g} %)" for row in full])
        text = (
            f"Boxes with {version} run out of memory, in their last {settings.memory_reports} "
            f"reports: {boxes}; the limit is {settings.memory_percent:g} %."
        )
        told.append(Tripped("memory", text, _named(row.box for row in full)))
    if facts.parity_failure is not None:
        text = f"Boxes do not score as the platform does with {version}: {facts.parity_failure}"
        told.append(Tripped("parity", _closed(text), facts.challenger))
    if facts.missed:
        subject = _named(f"{row.camera_id} at {_moment(row.at)}" for row in facts.missed)
        told.append(Tripped("missed_fall", _missed_text(facts, version), subject))
    return told


def _blamed(row: Silence, facts: Facts, settings: GuardSettings) -> bool:
    """Whether a camera's silence is held against the challenger."""
    limit = settings.heartbeat_min
    if row.minutes < limit:
        return False
    if row.box_minutes >= limit:
        return _died_of_it(row, facts, settings)
    return row.shadow_minutes is None or row.shadow_minutes < limit


def _died_of_it(row: Silence, facts: Facts, settings: GuardSettings) -> bool:
    """Whether a box of which nothing is heard at all is held against the challenger.

    Only where it went silent soon after the challenger came, and too few others are silent for it
    to be the network. A version that takes a box down does so when it starts (one that fills the
    memory trips that guard first, and one that ends or reboots the box again and again is given up
    by the box itself), and then every box that gets it next is at risk: better go back once too
    often. A box that ran with it for hours was switched off or lost its network. Going back does
    not reach it, and would not bring it back: its cameras are watched by neither version, and the
    ward's page says so.
    """
    of, silent = (
        (facts.champion_boxes, facts.champion_silent)
        if facts.champion_boxes
        # Once all boxes have the challenger, they are each other's witnesses.
        else (facts.boxes, facts.boxes_silent)
    )
    if of and silent / of >= settings.outage_share:
        return False
    return row.lived_minutes <= _CLOSE * settings.heartbeat_min


def _silence_text(silent: Sequence[Silence]) -> str:
    boxes: dict[str, list[Silence]] = {}
    for row in sorted(silent, key=lambda row: (-row.minutes, row.box, row.camera_id)):
        boxes.setdefault(row.box, []).append(row)
    return _listed(
        [
            f"{box} (for {_duration(rows[0].minutes)}: {_listed([row.camera_id for row in rows])})"
            for box, rows in boxes.items()
        ]
    )


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


def _named(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))


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
        if field == "shadow_minutes" and value is None:
            continue
        if field == "percent" or field.endswith("minutes"):
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
