"""The rollout: decisions taken on the lake's evidence, recorded, and carried out.

What belongs here: reading and writing what `fall_assets.rollout` decides on, and making it true at
the boxes and in the registry. What does not: the decisions themselves (`rollout.machine`), where
evidence comes from (`rollout_evidence`), who serves on a day (`serving`).

A decision counts from the moment when its row stands in the table `rollout`; evidence and places
are written before it, under its number, in the place of what a killed run left there, and what it
asks for is done after it. A run that is killed anywhere in between leaves either no decision, and
the next run takes one, or a decision that is not carried out yet, which the next run does.

What is carried out is the state, so that a decision which cannot be carried out holds up nothing:
guards, orders and days go on, and the next one that changes who watches takes its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from fall_assets.delivery.channels import Webhook
from fall_assets.errors import FallAssetsError, PermanentFailureError
from fall_assets.lake.registry import one_row, table
from fall_assets.pipeline.locks import locked
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.rollout_evidence import (
    Pair,
    collect,
    complete_days,
    facts,
    late_falls,
    traits,
)
from fall_assets.pipeline.serving import parts_of, places_as_of
from fall_assets.pipeline.work import Work
from fall_assets.rollout import machine
from fall_assets.rollout.assignment import assign
from fall_assets.rollout.evidence import EVIDENCE_SCHEMA, Arm, arm, empty
from fall_assets.rollout.guards import Facts, Missed, check
from fall_assets.rollout.judgement import Judgement
from fall_assets.rollout.judging import judge
from fall_assets.rollout.library import LibraryVerdict, compare_library
from fall_assets.rollout.machine import (
    AUTOMATIC,
    CHANGES,
    ENDING_ORDERS,
    Decision,
    Look,
    Order,
    Replayed,
    Standing,
    decide,
    given,
    proved,
    standing,
    start,
)
from fall_assets.rollout.settings import RolloutSettings
from fall_assets.site import build_settings

if TYPE_CHECKING:
    from fall_assets.learning.metrics import VideoOutcome

_OWNER_ACTIONS = frozenset({"roll_back", "hold"})
_OWNER_TRIED = timedelta(days=3)
"""So long the owner's webhook is tried; a decision that is older is no news to him."""
_ORDERS_WAIT_S = 600.0
"""An order waits so long for a look that is under way."""
_KEY = ("day", "camera_id", "role", "shadow")


@dataclass(frozen=True)
class Rollout:
    """One rollout as the lake has it."""

    id: str
    champion: str
    challenger: str
    settings: RolloutSettings
    history: tuple[Decision, ...]

    @property
    def pair(self) -> Pair:
        """Its two versions."""
        return Pair(self.champion, self.challenger)

    @property
    def first_day(self) -> date:
        """The first day on which the challenger watches."""
        return self.history[0].effective_day

    @property
    def here(self) -> Standing:
        """Where it stands."""
        return standing(self.history)

    @property
    def last(self) -> Decision:
        """Its newest decision."""
        return self.history[-1]

    @property
    def change(self) -> Decision:
        """The newest decision that changed who watches which camera."""
        return next(one for one in reversed(self.history) if one.action in CHANGES)

    def followed(self, order_id: str) -> Decision | None:
        """The decision that was taken on an order; none where it was not given yet."""
        orders = ((one, one.numbers.get("order")) for one in self.history)
        return next(
            (one for one, order in orders if order_id and order and order.get("id") == order_id),
            None,
        )


@dataclass(frozen=True)
class Advanced:
    """What a call of `advance` did: the rollout as it stands, and the decisions that were new."""

    rollout: Rollout | None
    decisions: tuple[Decision, ...]
    reason: str


def rollouts(work: Work) -> list[Rollout]:
    """All rollouts, oldest first."""
    rows = work.lake.read("rollout").sort("rollout_id", "number")
    found = []
    for (rollout_id,), own in rows.group_by(["rollout_id"], maintain_order=True):
        decisions = own.to_dicts()
        first = decisions[0]
        found.append(
            Rollout(
                str(rollout_id),
                first["champion"],
                first["challenger"],
                build_settings(
                    RolloutSettings, json.loads(first["settings"]), f"rollout {rollout_id}: "
                ),
                tuple(_decision(row) for row in decisions),
            )
        )
    return sorted(found, key=lambda one: one.history[0].at_utc)


def newest(work: Work, rollout_id: str | None = None) -> Rollout | None:
    """The newest rollout, or the one of that id.

    Raises:
        PermanentFailureError: there is none of that id.
    """
    known = rollouts(work)
    if rollout_id is None:
        return known[-1] if known else None
    for one in known:
        if one.id == rollout_id:
            return one
    ids = ", ".join(one.id for one in known) or "none"
    raise PermanentFailureError(f"no rollout {rollout_id!r}; there are: {ids}")


def advance(work: Work, order: Order | None = None, now: datetime | None = None) -> Advanced:
    """Take every decision that is due: guards, an order, each day of evidence that came in.

    Where no rollout runs, the registered challenger's begins, if the site's settings say so. An
    order that was followed already (by its id) is not followed again. What could not be carried
    out is tried again, and raised at the end: the decisions stand.

    Raises:
        PermanentFailureError: there is nothing that the order could be for, or it does not fit.
        FallAssetsError: the newest decision could not be carried out.
    """
    with locked(work, "rollout", wait_s=0.0 if order is None else _ORDERS_WAIT_S):
        now = now or datetime.now(UTC)
        current, taken = newest(work), list[Decision]()
        if order is not None and current is None:
            raise PermanentFailureError("there was no rollout yet: nothing to give orders to")
        ends = order is not None and order.action in ENDING_ORDERS
        # Whoever wants it back does not wait for what is not wanted any more.
        failure = None if ends else _settle(work, now)
        reason = "no new evidence"
        if order is not None and current is not None:
            known = current.followed(order.id)
            if known is None:
                current = _take(work, current, current.here.looked, now, order, taken)
            else:
                reason = f"this order was followed already: {known.sentence}"
        elif current is not None and not current.here.ended:
            current = _days(work, current, now, taken)
        elif not work.site.settings.rollout.automatic:
            reason = "no rollout runs, and none begins by itself"
        elif failure is None:
            # The registry knows who serves once the last one is carried out.
            begun = _begin(work, None, None, AUTOMATIC, now, "")
            reason = "no challenger waits for a rollout"
            if begun is not None:
                taken.append(begun.last)
                current = _days(work, begun, now, taken)
        if taken or ends:
            failure = _settle(work, now)
    if failure is not None:
        raise failure
    return Advanced(current, tuple(taken), taken[-1].sentence if taken else reason)


@dataclass(frozen=True)
class Reason:
    """Why a look is due.

    Attributes:
        text: in words.
        key: the same for as long as it is the same reason; the words may tell minutes.
        again: whether to ask again where a look changed nothing.
    """

    text: str
    key: str
    again: bool = True


def due(work: Work, now: datetime | None = None) -> list[Reason]:
    """Why `advance` should be called now; empty where it would do nothing.

    Cheap: it reads a few rows and the last hours' reports, and neither the registry nor footage.
    """
    now = now or datetime.now(UTC)
    known = rollouts(work)
    current = known[-1] if known else None
    reasons: list[Reason] = []
    if current is not None and not current.here.ended:
        reasons += _news(work, current, now)
    elif work.site.settings.rollout.automatic:
        waiting = _waiting(work)
        text = f"version {waiting} waits for its rollout"
        reasons += [] if waiting is None else [Reason(text, text)]
    if current is not None and not _mark(work, current).exists():
        text = f"decision {current.change.number} of rollout {current.id} is not carried out"
        reasons.append(Reason(text, text))
    for one, decision in _untold(work, known):
        text = f"the owner does not know of decision {decision.number} of rollout {one.id}"
        reasons.append(Reason(text, text))
    return reasons


def _news(work: Work, current: Rollout, now: datetime) -> list[Reason]:
    """What came in since the newest decision of a rollout that goes on."""
    news = _days_to_look_at(work, current, now)
    if news:
        text = f"{len(news)} new days of evidence, up to {news[-1]}"
        return [Reason(text, text)]
    tripped = check(_facts(work, current, [], now), current.settings.guards)
    if tripped:
        return [Reason(f"guard {tripped[0].guard}: {tripped[0].text}", tripped[0].key)]
    if not current.here.share:
        return []
    oldest = max(
        current.first_day, current.here.looked - timedelta(days=current.settings.late_days)
    )
    days = [day for day in complete_days(work, oldest, now) if day <= current.here.looked]
    falls = late_falls(work, days)
    if not falls:
        return []
    text = f"{falls} falls of days that were looked at were told of since"
    key = f"falls {current.id} {current.last.number} {falls}"
    return [Reason(text, key, again=False)]


def to_score_again(work: Work) -> list[date]:
    """Days that were scored before the decision was taken that says who watches on them.

    Scored again, such a day has the scores of those who watch now, and the alerts of the one that
    is live.
    """
    current = newest(work)
    if current is None:
        return []
    decided = current.change
    days = [day for day in work.lake.days("predictions") if day >= decided.effective_day]
    scored = work.lake.written("predictions", days)
    return [day for day in days if day in scored and scored[day] < decided.at_utc]


def begin(
    work: Work,
    challenger: str | None = None,
    *,
    mode: str | None = None,
    by: str = AUTOMATIC,
    order_id: str = "",
    now: datetime | None = None,
) -> Rollout | None:
    """Begin the rollout of a version; default: the registry's challenger, once.

    Args:
        work: the site.
        challenger: its version.
        mode: 'canary' or 'ab'; default: the site's setting.
        by: who says so.
        order_id: see `Order.id`; where the newest rollout began by this order, it is returned.
        now: default now.

    Returns:
        None where there is no challenger that had none yet.

    Raises:
        PermanentFailureError: another rollout runs, no champion serves, a box's package is
            missing, or, in mode 'ab', the challenger finds fewer of the labelled falls.
        FallAssetsError: what the last rollout or this one asks for could not be carried out.
    """
    with locked(work, "rollout", wait_s=_ORDERS_WAIT_S):
        now = now or datetime.now(UTC)
        failure = _settle(work, now)
        begun = newest(work)
        if begun is None or begun.followed(order_id) is None:
            if failure is not None:
                raise failure
            begun = _begin(work, challenger, mode, by, now, order_id)
            failure = _settle(work, now)
    if failure is not None:
        raise failure
    return begun


def evidence_as_of(work: Work, rollout_id: str, number: int) -> pl.DataFrame:
    """The evidence that decision `number` knew, rows as `EVIDENCE_SCHEMA` says."""
    rows = work.lake.read(
        "rollout_evidence",
        where=(pl.col("rollout_id") == rollout_id) & (pl.col("number") <= number),
    )
    return (
        rows.rename({"footage_day": "day"})
        .sort("number")
        .unique(_KEY, keep="last", maintain_order=True)
        .with_columns(pl.col("delays_s").str.json_decode(pl.List(pl.Float64)))
        .select(list(EVIDENCE_SCHEMA))
        .sort(_KEY)
    )


def replay(work: Work, rollout_id: str) -> list[Replayed]:
    """Take every decision of a rollout once more from the lake.

    E-values and counts come from the evidence as it stood, guards from the facts that were noted,
    the library's verdict from its pairs' counts; orders are taken as they were given.
    """
    current = newest(work, rollout_id)
    if current is None:
        raise PermanentFailureError(f"no rollout {rollout_id!r}")

    def look_again(number: int) -> tuple[Look, Order | None, datetime]:
        recorded = current.history[number]
        before = replace(current, history=current.history[:number])
        noted, order, at = given(recorded)
        if order is not None and order.action in ENDING_ORDERS and not noted.samples:
            return _known(before), order, at
        evidence = evidence_as_of(work, current.id, number)
        noted_facts = Facts.from_dict(noted.samples["facts"])
        library = noted.library or noted.library_missing
        return _look(before, evidence, noted.day, noted_facts, lambda: library), order, at

    return machine.replay(current.history, look_again, current.settings)


def paths_of(current: Rollout) -> bytes | None:
    """A PNG of the evidence day by day, as it was judged; none before the first day."""
    from fall_assets.rollout.plots import evidence_paths

    judged = [
        (decision.day, decision.numbers["judgement"])
        for decision in current.history
        if decision.numbers.get("judgement") is not None
    ]
    by_day = {day: Judgement.from_dict(numbers) for day, numbers in judged}
    if not by_day:
        return None
    return evidence_paths(
        list(by_day),
        [one.e_worse for one in by_day.values()],
        [one.e_not_worse for one in by_day.values()],
        current.history,
        current.settings.evidence,
    )


def counts_of(current: Rollout) -> list[dict[str, Any]]:
    """Counts per arm as the newest look had them, for people."""
    for decision in reversed(current.history):
        arms = decision.numbers.get("arms")
        if arms is not None:
            both = (Arm(**arms[role]) for role in ("champion", "challenger"))
            return [
                {
                    "version": f"{one.role} {getattr(current, one.role)}",
                    "cameras": one.cameras,
                    "camera-days": round(one.camera_days, 2),
                    "false alarms per camera-day": one.rate,
                    "alarms": one.alerts,
                    "confirmed": one.confirmed,
                    "dismissed": one.dismissed,
                    "hours without a judgement": round(one.abstained_h, 2),
                }
                for one in both
            ]
    return []


def carry_out(work: Work, current: Rollout) -> None:
    """Make what stands true: the registry's aliases, and what the boxes are to run.

    Done once per decision that changes it, also by the run after one that was killed.
    """
    mark = _mark(work, current)
    if mark.exists():
        return
    _name_aliases(work, current)
    _tell_boxes(work, current)
    work.lake.write_file(b"", "rollouts", mark.name)


# One decision ---------------------------------------------------------------------------------


def _begin(
    work: Work,
    challenger: str | None,
    mode: str | None,
    by: str,
    now: datetime,
    order_id: str,
) -> Rollout | None:
    """`begin`, for whoever has the lock."""
    from fall_assets.pipeline.edge import newest_package

    known = rollouts(work)
    if known and not known[-1].here.ended:
        raise PermanentFailureError(
            f"rollout {known[-1].id} runs: wait for its end, or abort it "
            f"(`fall-assets rollout abort {known[-1].id}`)"
        )
    store = tracking(work.site)
    serving = store.champion()
    if challenger is None:
        waiting = store.challenger()
        if (
            waiting is None
            or serving is None
            or any(waiting.version == one.challenger for one in known)
            or (by == AUTOMATIC and _was_refused(work, waiting.version))
        ):
            return None
        challenger = waiting.version
    if serving is None:
        raise PermanentFailureError("no champion serves yet: there is nothing to compare with")
    store.version(challenger)
    if work.site.settings.gateway.url:
        for version in (serving.version, challenger):
            newest_package(work, version)
    settings = work.site.settings.rollout
    settings = replace(settings, mode=mode or settings.mode)
    first_day = _first_day(work, now)
    rollout_id = _new_id(serving.version, challenger, len(known))
    pair = Pair(serving.version, challenger)
    library = None
    if settings.mode == "ab":
        # It is live from its first day: what is asked at the end of shadow is asked now.
        library = compare_library(
            library_pairs(work, pair), settings.sensitivity_margin, settings.sensitivity_slack
        )
        if library.verdict == "worse":
            work.lake.write_file(library.text.encode(), "rollouts", _refusal(challenger))
    decision = start(
        *(rollout_id, pair.champion, challenger, first_day, now, settings, by),
        order_id=order_id,
        library=library,
    )
    current = Rollout(rollout_id, pair.champion, challenger, settings, (decision,))
    _write_evidence(work, current, 0, _history(work, current))
    _write_places(work, current)
    _write_decision(work, current, decision)
    work.log(decision.sentence)
    return current


def _refusal(challenger: str) -> str:
    """The file that says that a version is not compared side by side, and why."""
    return f"refused-{challenger}.txt"


def _was_refused(work: Work, challenger: str) -> bool:
    """Whether the site compares side by side, and the version finds too few falls for that.

    A person may ask for it again; by itself it does not begin.
    """
    mode = work.site.settings.rollout.mode
    return mode == "ab" and work.lake.file("rollouts", _refusal(challenger)).exists()


def _days(work: Work, current: Rollout, now: datetime, taken: list[Decision]) -> Rollout:
    """Take a decision for every day that came in, then look at the guards once more."""
    while not current.here.ended and (days := _days_to_look_at(work, current, now)):
        current = _take(work, current, days[0], now, None, taken)
    if not current.here.ended:
        current = _take(work, current, current.here.looked, now, None, taken)
    return current


def _days_to_look_at(work: Work, current: Rollout, now: datetime) -> list[date]:
    """Days of evidence that nobody looked at, up to the first that must be scored again.

    Boxes watch as they were told at the time; the platform scores a day as it stood when the day
    came in, and where several come in together a decision on the first may change the second.
    """
    days = [day for day in complete_days(work, current.first_day, now) if day > current.here.looked]
    if work.site.settings.gateway.url or not days:
        return days
    wait = to_score_again(work)
    return [day for day in days if day < wait[0]] if wait else days


def _waiting(work: Work) -> str | None:
    """The newest registered version, where it is a challenger that had no rollout yet."""
    rows = work.lake.read("registered_model", columns=["model_version", "alias", "registered_utc"])
    if rows.is_empty():
        return None
    row = rows.sort("registered_utc").row(-1, named=True)
    tried = work.lake.read("rollout", columns=["challenger"])["challenger"]
    if row["alias"] != "challenger" or row["model_version"] in tried:
        return None
    if _was_refused(work, row["model_version"]):
        return None
    if work.site.settings.gateway.url:
        packaged = work.lake.read("edge_package", columns=["model_version"])["model_version"]
        if row["model_version"] not in packaged:
            return None
    return str(row["model_version"])


def _take(
    work: Work,
    current: Rollout,
    day: date,
    now: datetime,
    order: Order | None,
    taken: list[Decision],
) -> Rollout:
    """Take the next decision, if there is one to take; the rollout after it."""
    number = current.last.number + 1
    changed = empty()
    if order is not None and order.action in ENDING_ORDERS:
        look = _known(current)
    else:
        look, changed = _look_now(work, current, day, now)
    # Boxes tell assignments apart by the millisecond, and several days may be caught up at once.
    at = max(now, current.last.at_utc + timedelta(milliseconds=1))
    decision = decide(current.history, look, current.settings, order, at)
    if decision is None:
        return current
    moved = replace(current, history=(*current.history, decision))
    _write_evidence(work, current, number, changed)
    _write_places(work, moved)
    _write_decision(work, moved, decision)
    work.log(decision.sentence)
    taken.append(decision)
    return moved


def _known(current: Rollout) -> Look:
    """What the last look knew: an order that ends the rollout waits for nothing newer."""
    days = set[date]()
    judgement, arms, day = None, None, None
    for decision in current.history[1:]:
        noted, order, _ = given(decision)
        if order is None and noted.day is not None:
            days.add(noted.day)
            judgement, arms, day = noted.judgement, noted.arms, noted.day
    began = current.here.step_began
    in_step = 0 if began is None else sum(one >= began for one in days)
    return Look(day=day, days_in_step=in_step, judgement=judgement, arms=arms)


def _look_now(work: Work, current: Rollout, day: date, now: datetime) -> tuple[Look, pl.DataFrame]:
    """What is known at the end of a day, and the evidence that is new in it."""
    known = evidence_as_of(work, current.id, current.last.number)
    late = current.settings.late_days
    days = [
        one
        for one in complete_days(work, max(current.first_day, day - timedelta(days=late)), now)
        if one <= day
    ]
    missed: list[Missed] = []
    evidence, changed = known, empty()
    if days:
        counted, missed = collect(work, days, current.pair, _strata(work), current.settings)
        changed = _changed(counted, known)
        evidence = pl.concat([known, changed]).unique(_KEY, keep="last", maintain_order=True)
    noted = _facts(work, current, missed, now)
    shown = day if day >= current.first_day else None
    look = _look(current, evidence.sort(_KEY), shown, noted, lambda: _library(work, current))
    return look, changed


def _facts(work: Work, current: Rollout, missed: Sequence[Missed], now: datetime) -> Facts:
    began = current.history[0].at_utc
    return facts(work, current.pair, began, missed, now, current.settings.guards)


def _look(
    current: Rollout,
    evidence: pl.DataFrame,
    day: date | None,
    noted: Facts,
    library: Callable[[], LibraryVerdict | str],
) -> Look:
    """What is known, from the evidence up to a day and the facts.

    The library gives its verdict or says why it has none. It is only asked where shadow could end:
    that takes a while, and whoever asks it every day asks until it says what he wants to hear.
    """
    here = current.here
    tripped = tuple(check(noted, current.settings.guards))
    ours = evidence.filter(pl.col("day") >= current.first_day)
    days_in_step = (
        0
        if here.step_began is None
        else ours.filter(pl.col("day") >= here.step_began)["day"].n_unique()
    )
    judgement = None
    if day is not None and ours.height:
        margin = current.settings.steps[here.step].margin
        judgement = judge(
            evidence,
            current.first_day,
            margin,
            current.settings.weights,
            current.settings.delay_margin_s,
            step_began=here.step_began,
            acceptable_rate=current.settings.acceptable_rate,
        )
    step = current.settings.steps[here.step]
    ends = here.phase == "shadow" and (
        days_in_step >= step.max_days
        or proved(judgement, days_in_step, step, current.settings.evidence)
    )
    found = library() if ends and not tripped else ""
    return Look(
        day=day,
        days_in_step=days_in_step,
        judgement=judgement,
        library=found if isinstance(found, LibraryVerdict) else None,
        library_missing=found if isinstance(found, str) else "",
        tripped=tripped,
        arms=(arm(ours, "champion"), arm(ours, "challenger")) if ours.height else None,
        samples={"facts": noted.as_dict()},
    )


def _library(work: Work, current: Rollout) -> LibraryVerdict | str:
    """The verdict on the labelled falls, found once per rollout and noted with its decisions."""
    for decision in reversed(current.history):
        if decision.numbers.get("library") is not None:
            return LibraryVerdict.from_dict(decision.numbers["library"])
    try:
        pairs = library_pairs(work, current.pair)
    except FallAssetsError as error:
        # The day is looked at all the same; the next one asks again.
        work.log(f"the versions are not compared on the labelled falls: {error}")
        return str(error)
    return compare_library(
        pairs, current.settings.sensitivity_margin, current.settings.sensitivity_slack
    )


def library_pairs(work: Work, pair: Pair) -> list[tuple[bool, bool]]:
    """Of each labelled fall of the challenger's training set: found by champion, by challenger.

    Both by what networks made of segments that they had not seen, as the evaluation does.
    """
    from fall_assets.pipeline.learning import judged_versions

    judged = judged_versions(work, pair.champion, pair.challenger)
    if not judged:
        return []
    found = [_found(one.outcomes) for one in judged]
    return [(found[0][fall], found[1][fall]) for fall in sorted(found[0].keys() & found[1].keys())]


def _found(outcomes: Sequence[VideoOutcome]) -> dict[tuple[str, str], bool]:
    """Of each fall, by segment and event: whether it was found."""
    falls: dict[tuple[str, str], bool] = {}
    for one in outcomes:
        for missed in one.matching.missed:
            falls[one.video.video_id, missed.event_id] = False
        for found in one.matching.found:
            falls[one.video.video_id, found.fall.event_id] = True
    return falls


# Reading and writing --------------------------------------------------------------------------


def _decision(row: Mapping[str, Any]) -> Decision:
    return Decision(
        number=row["number"],
        at_utc=row["at_utc"],
        day=row["evidence_day"],
        effective_day=row["effective_day"],
        action=row["action"],
        state=row["state"],
        step=row["step"],
        share=row["share"],
        by=row["by"],
        sentence=row["sentence"],
        numbers=json.loads(row["numbers"]),
    )


def _write_decision(work: Work, current: Rollout, decision: Decision) -> None:
    row = {
        "rollout_id": current.id,
        "number": decision.number,
        "at_utc": decision.at_utc,
        "evidence_day": decision.day,
        "effective_day": decision.effective_day,
        "champion": current.champion,
        "challenger": current.challenger,
        "action": decision.action,
        "state": decision.state,
        "step": decision.step,
        "share": decision.share,
        "by": decision.by,
        "sentence": decision.sentence,
        "numbers": json.dumps(decision.numbers, sort_keys=True),
        "settings": json.dumps(asdict(current.settings), sort_keys=True),
    }
    work.lake.append("rollout", one_row("rollout", row), work.provenance())


def _write_places(work: Work, current: Rollout) -> None:
    """Draw the cameras' places for the newest decision; drawn again they are the same.

    Only what changes who watches draws them: other decisions leave them as they are.
    """
    decision = current.last
    drawn: dict[str, tuple[str, str]] = {}
    before = places_as_of(work, current.id, decision.number - 1)
    if decision.action in ("start", "next", "promote"):
        cameras = traits(work)
        places = assign(
            current.id,
            cameras,
            decision.share,
            pin=current.settings.pin,
            exclude=current.settings.exclude,
            before=before,
            share_before=current.history[-2].share if decision.number else decision.share,
        )
        drawn = {one.camera_id: (one.stratum, places[one.camera_id]) for one in cameras}
    elif decision.action in CHANGES and not decision.share:
        # All go back; whoever gave the order does not wait until the cameras were looked up.
        of_it = (pl.col("rollout_id") == current.id) & (pl.col("number") < decision.number)
        rows = work.lake.read("rollout_cameras", where=of_it).sort("number")
        strata = dict(rows.select("camera_id", "stratum").iter_rows())
        drawn = {camera_id: (strata[camera_id], "rest") for camera_id in before}
    frame = pl.DataFrame(
        [
            {
                "rollout_id": current.id,
                "number": decision.number,
                "camera_id": camera_id,
                "stratum": stratum,
                "place": place,
            }
            for camera_id, (stratum, place) in drawn.items()
        ],
        schema=table("rollout_cameras").schema,
    )
    _put(work, "rollout_cameras", current.id, decision.number, frame)


def _write_evidence(work: Work, current: Rollout, number: int, evidence: pl.DataFrame) -> None:
    rows = (
        evidence.rename({"day": "footage_day"})
        .with_columns(
            pl.lit(current.id).alias("rollout_id"),
            pl.lit(number, pl.Int64).alias("number"),
            pl.Series(
                "delays_s",
                [json.dumps(delays) for delays in evidence["delays_s"].to_list()],
                pl.String,
            ),
        )
        .select(list(table("rollout_evidence").schema))
    )
    _put(work, "rollout_evidence", current.id, number, rows)


def _put(work: Work, name: str, rollout_id: str, number: int, rows: pl.DataFrame) -> None:
    """Let these be a table's rows of a decision, whatever a killed run left under its number."""
    of_it = (pl.col("rollout_id") == rollout_id) & (pl.col("number") == number)
    left = work.lake.read(name, where=of_it)
    if left.is_empty():
        if rows.height:
            work.lake.append(name, rows, work.provenance())
    elif not left.sort(left.columns).equals(rows.sort(left.columns)):
        kept = work.lake.read(name, where=~of_it)
        work.lake.replace(name, pl.concat([kept, rows]), work.provenance())


def _changed(counted: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Rows that were not known, or not so."""
    return counted.join(known, on=list(EVIDENCE_SCHEMA), how="anti", nulls_equal=True)


def _history(work: Work, current: Rollout) -> pl.DataFrame:
    """The champion's days before the rollout."""
    oldest = current.first_day - timedelta(days=current.settings.history_days)
    name = "edge_reports" if work.site.settings.gateway.url else "predictions"
    days = [day for day in work.lake.days(name) if oldest <= day < current.first_day]
    if not days:
        return empty()
    counted, _ = collect(work, days, current.pair, _strata(work), current.settings)
    return counted.filter(pl.col("role") == "champion")


def _strata(work: Work) -> dict[str, str]:
    return {camera.camera_id: camera.stratum for camera in traits(work)}


def _first_day(work: Work, now: datetime) -> date:
    """The first day that a rollout can change: after all footage that was scored already."""
    if work.site.settings.gateway.url:
        return now.astimezone(UTC).date() + timedelta(days=1)
    scored = work.lake.days("predictions")
    return scored[-1] + timedelta(days=1) if scored else now.astimezone(UTC).date()


def _new_id(champion: str, challenger: str, number: int) -> str:
    """The same for a begin that was killed and is tried again; cameras are drawn by it."""
    text = f"{champion}|{challenger}|{number}"
    return f"v{challenger}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


# Carrying out ---------------------------------------------------------------------------------


def _settle(work: Work, now: datetime) -> FallAssetsError | None:
    """Tell the owner what he was not told yet, and carry out what stands; why that failed."""
    known = rollouts(work)
    for one, decision in _untold(work, known):
        _tell_owner(work, one, decision, now)
    if not known:
        return None
    try:
        carry_out(work, known[-1])
    except FallAssetsError as error:
        number = known[-1].change.number
        work.log(
            f"decision {number} of rollout {known[-1].id} stands and is not carried out, which is "
            f"tried again: {error}"
        )
        return error
    return None


def _mark(work: Work, current: Rollout) -> Path:
    """The file that says that what stands was carried out."""
    return work.lake.file("rollouts", f"{current.id}-{current.change.number}.done")


def _told(work: Work, current: Rollout, decision: Decision) -> Path:
    """The file that says that the owner was told of a decision."""
    return work.lake.file("rollouts", f"{current.id}-{decision.number}.told")


def _untold(work: Work, known: Sequence[Rollout]) -> list[tuple[Rollout, Decision]]:
    """What the owner was not told yet, oldest first."""
    return [
        (one, decision)
        for one in known
        for decision in one.history
        if decision.action in _OWNER_ACTIONS and not _told(work, one, decision).exists()
    ]


def _name_aliases(work: Work, current: Rollout) -> None:
    """The registry's aliases as the rollout's state wants them."""
    here, store = current.here, tracking(work.site)
    if here.promoted:
        store.promote(current.challenger)
        store.move_alias("previous", None if here.state == "retired" else current.champion)
        return
    if current.change.action in ("roll_back", "abort"):
        store.promote(current.champion)
        for alias, holder in (("challenger", store.challenger()), ("previous", store.previous())):
            if holder is not None and holder.version in (current.challenger, current.champion):
                store.move_alias(alias, None)  # type: ignore[arg-type]


def _tell_boxes(work: Work, current: Rollout) -> None:
    """Sign and send what every box is to run from now on; nothing without a gateway."""
    from fall_assets.pipeline.edge import assign_parts, newest_package

    if not work.site.settings.gateway.url:
        return
    parts = parts_of(
        current.here.phase,
        current.champion,
        current.challenger,
        places_as_of(work, current.id, current.last.number),
    )
    packages = {
        version: newest_package(work, version) for version in {one.model_version for one in parts}
    }
    assign_parts(work, "*", parts, packages, allow_older=True, issued_utc=current.change.at_utc)


def _tell_owner(work: Work, current: Rollout, decision: Decision, now: datetime) -> None:
    """Tell the models' owner that it went back, or waits.

    A receiver that is away holds up nothing; it is tried again by every look for a few days.
    """
    url, mark = work.site.owner_webhook_url, _told(work, current, decision)
    work.log(f"owner: rollout {current.id}: {decision.sentence}")
    try:
        if url:
            Webhook(url).post(
                {
                    "kind": "rollout",
                    "rollout_id": current.id,
                    "action": decision.action,
                    "state": decision.state,
                    "title": decision.sentence,
                    "at_utc": decision.at_utc.isoformat(timespec="milliseconds"),
                },
                f"{current.id}-{decision.number}",
            )
    except FallAssetsError as error:
        if now - decision.at_utc < _OWNER_TRIED:
            work.log(f"the owner's webhook, which is tried again: {error}")
            return
        work.log(
            f"the owner was not told of decision {decision.number} of rollout {current.id} in "
            f"{_OWNER_TRIED.days} days, and that is given up: tell him, and see to "
            f"FALL_OWNER_WEBHOOK_URL ({error})"
        )
    work.lake.write_file(b"", "rollouts", mark.name)
