"""Who watches which camera: the champion alone, or both versions of a rollout, live or in shadow.

What belongs here: reading the rollout's tables as of a day, and which part each version has; the
platform's own predictions and the boxes' assignment go by the same parts. What does not: deciding
(`rollout.machine`), placing cameras (`rollout.assignment`), scoring (`operation`), signing
(`edge`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.work import Work
from fall_assets.rollout.assignment import Place
from fall_assets.rollout.machine import ENDED, State

if TYPE_CHECKING:
    from fall_assets.learning.detector import Detector

_SPLIT: Final[frozenset[State]] = frozenset({"step", "comparing"})
_PLACED: Final[frozenset[State]] = _SPLIT | {"full"}
_TAKEN_BACK: Final[frozenset[State]] = frozenset({"rolled_back", "aborted", "reported"})


@dataclass(frozen=True)
class Part:
    """One version and the cameras that it watches.

    Attributes:
        model_version: its number in the registry.
        cameras: their ids, sorted. None: of a live part all that no other live part names, of a
            shadow all.
        shadow: it scores, and nobody is told of its alerts.
    """

    model_version: str
    cameras: tuple[str, ...] | None
    shadow: bool


def parts_of(
    state: State, champion: str, challenger: str, places: Mapping[str, Place]
) -> tuple[Part, ...]:
    """What both versions of a rollout do in a state; of a held one, pass what it was held from.

    The part of all other cameras comes first: on a box whose cameras keep their version its runner
    then goes on undisturbed. `places` are those of the rollout's cameras; a camera without a place
    gets what most have. In 'full' only cameras that the settings exclude are 'rest': they keep the
    champion, with the challenger as their shadow.

    Raises:
        ValueError: a state in which nothing is served by itself ('held').
    """
    if state == "shadow":
        return Part(champion, None, shadow=False), Part(challenger, None, shadow=True)
    if state in _SPLIT:
        tried, control = _at(places, "challenger"), _at(places, "control")
        parts = (
            Part(champion, None, shadow=False),
            Part(challenger, tried, shadow=False),
            Part(champion, tried, shadow=True),
            Part(challenger, control, shadow=True),
        )
        return tuple(part for part in parts if part.cameras != ())
    if state == "full":
        kept, tried = _at(places, "rest"), _at(places, "challenger")
        parts = (
            Part(challenger, None, shadow=False),
            Part(champion, kept, shadow=False),
            # Nobody is his own shadow.
            Part(champion, tried if kept else None, shadow=True),
            Part(challenger, kept, shadow=True),
        )
        return tuple(part for part in parts if part.cameras != ())
    if state == "retired":
        return (Part(challenger, None, shadow=False),)
    if state in _TAKEN_BACK:
        return (Part(champion, None, shadow=False),)
    raise ValueError(f"nothing is served in state {state!r}: pass the state that it was held from")


def places_as_of(work: Work, rollout_id: str, number: int) -> dict[str, Place]:
    """The places of a rollout's cameras after decision `number`, as they were last drawn.

    A camera that came later, or had been taken down by then, has none.
    """
    rows = work.lake.read(
        "rollout_cameras",
        columns=["camera_id", "number", "place"],
        where=(pl.col("rollout_id") == rollout_id) & (pl.col("number") <= number),
    )
    drawn = rows.filter(pl.col("number") == pl.col("number").max())
    return dict(drawn.select("camera_id", "place").iter_rows())


def serving_on(work: Work, day: date) -> tuple[Part, ...]:
    """Who watches the cameras on a day; see `serving_over`."""
    return serving_over(work, [day])[day]


def serving_over(work: Work, days: Sequence[date]) -> dict[date, tuple[Part, ...]]:
    """Who watches the cameras on each of some days.

    Of each rollout the last decision that holds on the day counts. Of several, one that goes on
    comes before those that have ended, then the one that began last. Before the first rollout its
    champion serves, whoever does today. After the newest has ended the champion serves, who may
    have been named by hand since; but not a challenger that was taken back from all cameras.

    Raises:
        PermanentFailureError: no champion is registered and no rollout says who serves.
    """
    decisions = work.lake.read("rollout").sort("rollout_id", "number")
    found: dict[date, tuple[Part, ...]] = {}
    for day in days:
        standing = _standing(decisions, day)
        if standing is None:
            before = _champion(work) if decisions.is_empty() else _first_champion(decisions)
            found[day] = (Part(before, None, shadow=False),)
        elif standing.state in ENDED and standing.is_newest:
            found[day] = _after(work, standing)
        else:
            placed = standing.state in _PLACED
            places = places_as_of(work, standing.rollout_id, standing.number) if placed else {}
            found[day] = parts_of(standing.state, standing.champion, standing.challenger, places)
    return found


def watched(parts: Sequence[Part], cameras: Collection[str]) -> list[tuple[Part, tuple[str, ...]]]:
    """Each part with those of some cameras that it watches, sorted; parts without any left out.

    Each camera is in one live part: the one that names it, else the one of all others.

    Raises:
        PermanentFailureError: two live parts want the same camera.
    """
    live = [part for part in parts if not part.shadow]
    named = [camera for part in live for camera in part.cameras or ()]
    if len(set(named)) != len(named) or sum(part.cameras is None for part in live) > 1:
        raise PermanentFailureError(f"two versions shall raise the alerts of one camera: {parts}")
    others = set(cameras).difference(named)
    found = []
    for part in parts:
        if part.cameras is not None:
            own = set(part.cameras).intersection(cameras)
        else:
            own = set(cameras) if part.shadow else others
        if own:
            found.append((part, tuple(sorted(own))))
    return found


def detector_of(work: Work, version: str) -> Detector:
    """The detector of a version, verified.

    Raises:
        UnknownModelError: there is none.
    """
    return tracking(work.site).load_detector(version)


def rows_of(
    predictions: pl.DataFrame, serving: Mapping[date, Sequence[Part]], *, shadow: bool = False
) -> pl.DataFrame:
    """Of some rows of `predictions` those of versions that were live on their camera that day.

    With `shadow` those of versions that were in shadow. What a version scored on a day on which it
    did not watch the camera (under another decision, before it was computed anew) is in neither.
    `serving` has the parts of every day in `predictions`.
    """
    keys = ["day", "camera_id", "model_version"]
    cameras: dict[date, set[str]] = {}
    for day, camera in predictions.select("day", "camera_id").unique().iter_rows():
        cameras.setdefault(day, set()).add(camera)
    wanted = [
        (day, camera, part.model_version)
        for day, ids in cameras.items()
        for part, own in watched(serving[day], ids)
        if part.shadow == shadow
        for camera in own
    ]
    schema = {name: predictions.schema[name] for name in keys}
    return predictions.join(
        pl.DataFrame(wanted, schema=schema, orient="row"),
        on=keys,
        how="semi",
        maintain_order="left",
    )


def _at(places: Mapping[str, Place], place: Place) -> tuple[str, ...]:
    return tuple(sorted(camera for camera, at in places.items() if at == place))


@dataclass(frozen=True)
class _Standing:
    """Where a rollout stands on a day; `state` is never 'held'."""

    rollout_id: str
    number: int
    state: State
    champion: str
    challenger: str
    began: datetime
    is_newest: bool
    was_promoted: bool


def _standing(decisions: pl.DataFrame, day: date) -> _Standing | None:
    """The rollout that says who serves on a day."""
    if decisions.is_empty():
        return None
    began = decisions.group_by("rollout_id").agg(pl.col("at_utc").min())
    newest = began.sort("at_utc", "rollout_id")["rollout_id"][-1]
    found = []
    until = decisions.filter(pl.col("effective_day") <= day)
    for (rollout_id,), rows in until.group_by("rollout_id", maintain_order=True):
        history: list[dict[str, Any]] = rows.to_dicts()
        last = history[-1]
        serving = [row["state"] for row in history if row["state"] != "held"]
        if not serving:
            raise PermanentFailureError(
                f"rollout {rollout_id} is held and nothing says from what: rows of the table "
                "'rollout' are missing; restore an earlier version of it"
            )
        found.append(
            _Standing(
                str(rollout_id),
                last["number"],
                serving[-1],
                last["champion"],
                last["challenger"],
                history[0]["at_utc"],
                is_newest=rollout_id == newest,
                was_promoted="full" in serving,
            )
        )
    return max(
        found,
        key=lambda one: (one.state not in ENDED, one.began, one.rollout_id),
        default=None,
    )


def _after(work: Work, standing: _Standing) -> tuple[Part, ...]:
    """Who serves after the newest rollout has ended."""
    told = parts_of(standing.state, standing.champion, standing.challenger, {})
    now = tracking(work.site).champion()
    taken_back = standing.state in _TAKEN_BACK and standing.was_promoted
    if now is None or (taken_back and now.version == standing.challenger):
        # The registry hears of it a moment later.
        return told
    return (Part(now.version, None, shadow=False),)


def _first_champion(decisions: pl.DataFrame) -> str:
    """Who served before the oldest rollout; today's champion may be one that came out of it."""
    return str(decisions.sort("at_utc", "rollout_id", "number")["champion"][0])


def _champion(work: Work) -> str:
    serving = tracking(work.site).champion()
    if serving is None:
        raise PermanentFailureError(
            "no champion is registered yet: run the lifecycle (make run), or name a model with "
            "--model RUN_ID"
        )
    return serving.version
