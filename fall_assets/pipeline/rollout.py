"""The rollout: decisions taken on the lake's evidence, recorded, and carried out.

What belongs here: reading and writing what `fall_assets.rollout` decides on, and making it true at
the boxes and in the registry. What does not: the decisions themselves (`rollout.machine`), where
evidence comes from (`rollout_evidence`), who serves on a day (`serving`).

A decision counts from the moment when its row stands in the table `rollout`; evidence and places
are written before it, under its number, and what it asks for is done after it. A run that is killed
anywhere in between leaves either no decision, and the next run takes the same one, or a decision
that is not carried out yet, which the next run does first.
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

from fall_assets.delivery.channels import DeliveryFailedError, Webhook
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import one_row, table
from fall_assets.pipeline.locks import locked
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.rollout_evidence import Pair, collect, complete_days, facts, traits
from fall_assets.pipeline.serving import parts_of
from fall_assets.pipeline.work import Work
from fall_assets.rollout.assignment import Place, assign
from fall_assets.rollout.evidence import EVIDENCE_SCHEMA, Arm, arm, empty
from fall_assets.rollout.guards import Facts, Missed, check
from fall_assets.rollout.judgement import Judgement
from fall_assets.rollout.judging import judge
from fall_assets.rollout.library import LibraryVerdict, compare_library
from fall_assets.rollout.machine import (
    AUTOMATIC,
    Decision,
    Look,
    Order,
    Standing,
    decide,
    equal,
    given,
    standing,
    start,
)
from fall_assets.rollout.settings import RolloutSettings
from fall_assets.site import build_settings

if TYPE_CHECKING:
    from fall_assets.learning.metrics import VideoOutcome

_OWNER_ACTIONS = frozenset({"roll_back", "hold"})
_KEY = ("day", "camera_id", "role", "shadow")
_COMMITS = 64
"""So many of the newest commits are looked at for days that were scored too early."""


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

    Where no rollout runs, the registered challenger's begins, if the site's settings say so.

    Raises:
        PermanentFailureError: there is nothing that the order could be for, or it does not fit.
    """
    now = now or datetime.now(UTC)
    with locked(work, "rollout"):
        current, taken = newest(work), list[Decision]()
        if current is not None:
            carry_out(work, current)
        if order is not None:
            if current is None:
                raise PermanentFailureError("there was no rollout yet: nothing to give orders to")
            current = _take(work, current, current.here.looked, now, order, taken)
        elif current is None or current.here.ended:
            if not work.site.settings.rollout.automatic:
                return Advanced(current, (), "no rollout runs, and none begins by itself")
            begun = _begin(work, None, None, AUTOMATIC, now)
            if begun is None:
                return Advanced(current, (), "no challenger waits for a rollout")
            taken.append(begun.last)
            current = _days(work, begun, now, taken)
        else:
            current = _days(work, current, now, taken)
    return Advanced(current, tuple(taken), taken[-1].sentence if taken else "no new evidence")


def due(work: Work, now: datetime | None = None) -> str | None:
    """Why `advance` should be called now; none where it would do nothing.

    Cheap: it reads a few rows, and neither the registry nor footage.
    """
    now = now or datetime.now(UTC)
    current = newest(work)
    if current is None or current.here.ended:
        if current is not None and not _mark(work, current).exists():
            return f"decision {current.last.number} of rollout {current.id} is not carried out"
        if not work.site.settings.rollout.automatic:
            return None
        waiting = _waiting(work)
        return None if waiting is None else f"version {waiting} waits for its rollout"
    if not _mark(work, current).exists():
        return f"decision {current.last.number} of rollout {current.id} is not carried out"
    news = [day for day in complete_days(work, current.first_day, now) if day > current.here.looked]
    if news:
        return f"{len(news)} new days of evidence, up to {news[-1]}"
    noted = facts(work, current.pair, current.history[0].at_utc, [], now)
    tripped = check(noted, current.settings.guards)
    return f"guard {tripped[0].guard}: {tripped[0].text}" if tripped else None


def to_score_again(work: Work) -> list[date]:
    """Days on which the newest decision holds and that were scored before it was taken.

    Who watches which camera may have changed since; scored again, the day has both versions' scores
    and the alerts of the one that is live.
    """
    current = newest(work)
    if current is None or current.last.action == "look":
        return []
    decided = current.last
    days = [day for day in work.lake.days("predictions") if day >= decided.effective_day]
    if not days:
        return []
    written: dict[date, datetime] = {}
    for commit in work.lake.history("predictions", limit=_COMMITS):
        if commit.get("partition"):
            day = date.fromisoformat(commit["partition"])
            written[day] = max(commit["at_utc"], written.get(day, commit["at_utc"]))
    return [day for day in days if day in written and written[day] < decided.at_utc]


def begin(
    work: Work,
    challenger: str | None = None,
    *,
    mode: str | None = None,
    by: str = AUTOMATIC,
    now: datetime | None = None,
) -> Rollout | None:
    """Begin the rollout of a version; default: the registry's challenger, once.

    `mode` is the site's setting where it is not given: 'canary' or 'ab'.

    None where there is no challenger that had none yet.

    Raises:
        PermanentFailureError: another rollout runs, no champion serves, or a box's package is
            missing.
    """
    now = now or datetime.now(UTC)
    with locked(work, "rollout"):
        return _begin(work, challenger, mode, by, now)


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


def places_as_of(work: Work, rollout_id: str, number: int) -> dict[str, Place]:
    """The cameras' places after decision `number`; a camera that is not in it is 'rest'."""
    rows = work.lake.read(
        "rollout_cameras",
        where=(pl.col("rollout_id") == rollout_id) & (pl.col("number") <= number),
    )
    newest_rows = rows.filter(pl.col("number") == pl.col("number").max())
    return dict(newest_rows.select("camera_id", "place").iter_rows())


def replay(work: Work, rollout_id: str) -> list[tuple[Decision, Decision | None, bool]]:
    """Take every decision once more from the lake: recorded, recomputed, and whether they agree.

    E-values and counts come from the evidence as it stood, guards from the facts that were noted,
    the library's verdict from its pairs' counts; orders are taken as they were given.
    """
    current = newest(work, rollout_id)
    if current is None:
        raise PermanentFailureError(f"no rollout {rollout_id!r}")
    pairs: list[tuple[Decision, Decision | None, bool]] = []
    first = current.history[0]
    again = start(
        current.id,
        current.champion,
        current.challenger,
        first.effective_day,
        first.at_utc,
        current.settings,
        first.by,
    )
    pairs.append((first, again, equal(first, again)))
    for place, recorded in enumerate(current.history[1:], start=1):
        before = replace(current, history=current.history[:place])
        noted, order, at = given(recorded)
        noted_facts = Facts.from_dict(noted.samples["facts"])
        look = _look(
            before,
            evidence_as_of(work, current.id, recorded.number),
            noted.day,
            noted_facts,
            lambda noted=noted: noted.library,  # type: ignore[misc]
        )
        recomputed = decide(before.history, look, current.settings, order, at)
        pairs.append((recorded, recomputed, equal(recorded, recomputed)))
    return pairs


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
    """Make the newest decision true: the registry's aliases, the boxes, and a word to the owner.

    Done once per decision, also by the run after one that was killed.
    """
    decision = current.last
    mark = _mark(work, current)
    if mark.exists():
        return
    if decision.action != "look":
        _name_aliases(work, current)
        _tell_boxes(work, current)
        if decision.action in _OWNER_ACTIONS:
            _tell_owner(work, current)
    work.lake.write_file(b"", "rollouts", mark.name)


# One decision ---------------------------------------------------------------------------------


def _begin(
    work: Work, challenger: str | None, mode: str | None, by: str, now: datetime
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
    decision = start(rollout_id, serving.version, challenger, first_day, now, settings, by)
    current = Rollout(rollout_id, serving.version, challenger, settings, (decision,))
    _write_evidence(work, current, 0, _history(work, current))
    _write_places(work, current, decision, {})
    _write_decision(work, current, decision)
    carry_out(work, current)
    return current


def _days(work: Work, current: Rollout, now: datetime, taken: list[Decision]) -> Rollout:
    """Take a decision for every day that came in, then look at the guards once more."""
    for day in complete_days(work, current.first_day, now):
        if not current.here.ended and day > current.here.looked:
            current = _take(work, current, day, now, None, taken)
    if not current.here.ended:
        current = _take(work, current, current.here.looked, now, None, taken)
    return current


def _waiting(work: Work) -> str | None:
    """The newest registered version, where it is a challenger that had no rollout yet."""
    rows = work.lake.read("registered_model", columns=["model_version", "alias", "registered_utc"])
    if rows.is_empty():
        return None
    row = rows.sort("registered_utc").row(-1, named=True)
    tried = work.lake.read("rollout", columns=["challenger"])["challenger"]
    if row["alias"] != "challenger" or row["model_version"] in tried:
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
    known = evidence_as_of(work, current.id, number - 1)
    late = current.settings.late_days
    days = [
        one
        for one in complete_days(work, max(current.first_day, day - timedelta(days=late)), now)
        if one <= day
    ]
    missed: list[Missed] = []
    evidence = known
    if days:
        counted, missed = collect(work, days, current.pair, _strata(work), current.settings)
        changed = _changed(counted, known)
        evidence = pl.concat([known, changed]).unique(_KEY, keep="last", maintain_order=True)
    else:
        changed = empty()
    noted = facts(work, current.pair, current.history[0].at_utc, missed, now)
    shown = day if day >= current.first_day else None
    look = _look(current, evidence.sort(_KEY), shown, noted, lambda: _library(work, current))
    # Boxes tell assignments apart by the millisecond, and several days may be caught up at once.
    at = max(now, current.last.at_utc + timedelta(milliseconds=1))
    decision = decide(current.history, look, current.settings, order, at)
    if decision is None:
        return current
    _write_evidence(work, current, number, changed)
    moved = replace(current, history=(*current.history, decision))
    if decision.share != current.last.share or decision.state != current.last.state:
        _write_places(work, current, decision, places_as_of(work, current.id, number - 1))
    _write_decision(work, moved, decision)
    work.log(decision.sentence)
    carry_out(work, moved)
    taken.append(decision)
    return moved


def _look(
    current: Rollout,
    evidence: pl.DataFrame,
    day: date | None,
    noted: Facts,
    library: Callable[[], LibraryVerdict | None],
) -> Look:
    """What is known, from the evidence up to a day and the facts.

    The library is only asked where shadow could end: that takes a while, and whoever asks it every
    day asks until it says what he wants to hear.
    """
    here = current.here
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
        )
    step = current.settings.steps[here.step]
    ends = here.phase == "shadow" and (
        days_in_step >= step.max_days
        or (judgement is not None and judgement.e_not_worse >= current.settings.evidence)
    )
    return Look(
        day=day,
        days_in_step=days_in_step,
        judgement=judgement,
        library=library() if ends else None,
        tripped=tuple(check(noted, current.settings.guards)),
        arms=(arm(ours, "champion"), arm(ours, "challenger")) if ours.height else None,
        samples={"facts": noted.as_dict()},
    )


def _library(work: Work, current: Rollout) -> LibraryVerdict:
    """The verdict on the labelled falls, found once per rollout and noted with its decisions."""
    for decision in reversed(current.history):
        if decision.number and decision.numbers.get("library") is not None:
            return LibraryVerdict.from_dict(decision.numbers["library"])
    return compare_library(library_pairs(work, current.pair), current.settings.sensitivity_margin)


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


def _write_places(
    work: Work, current: Rollout, decision: Decision, before: Mapping[str, Place]
) -> None:
    """Draw the cameras' places for a share; drawn again they are the same."""
    cameras = traits(work)
    places = assign(
        current.id,
        cameras,
        decision.share,
        pin=current.settings.pin,
        exclude=current.settings.exclude,
        before=before,
        share_before=current.last.share,
    )
    frame = pl.DataFrame(
        [
            {
                "rollout_id": current.id,
                "number": decision.number,
                "camera_id": camera.camera_id,
                "stratum": camera.stratum,
                "place": places[camera.camera_id],
            }
            for camera in cameras
        ],
        schema=table("rollout_cameras").schema,
    )
    work.lake.upsert("rollout_cameras", frame, work.provenance())


def _write_evidence(work: Work, current: Rollout, number: int, evidence: pl.DataFrame) -> None:
    if evidence.is_empty():
        return
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
    work.lake.upsert("rollout_evidence", rows, work.provenance())


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


def _mark(work: Work, current: Rollout) -> Path:
    """The file that says that the newest decision was carried out."""
    return work.lake.file("rollouts", f"{current.id}-{current.last.number}.done")


def _name_aliases(work: Work, current: Rollout) -> None:
    """The registry's aliases as the rollout's state wants them."""
    here, store = current.here, tracking(work.site)
    if here.promoted:
        store.promote(current.challenger)
        store.move_alias("previous", None if here.state == "retired" else current.champion)
        return
    if current.last.action in ("roll_back", "abort"):
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
    assign_parts(work, "*", parts, packages, allow_older=True, issued_utc=current.last.at_utc)


def _tell_owner(work: Work, current: Rollout) -> None:
    """Tell the models' owner that it went back, or waits; a receiver that is away is left."""
    decision, url = current.last, work.site.owner_webhook_url
    work.log(f"owner: rollout {current.id}: {decision.sentence}")
    if not url:
        return
    try:
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
    except DeliveryFailedError as error:
        work.log(f"the owner's webhook: {error}")
