"""The state machine of a rollout: a history of decisions and one look give the next decision.

What belongs here: states, orders, decisions, and their sentences. What does not: the evidence and
its tests (`evidence`, `rates`, `library`, `guards`), which cameras get what (`assignment`), reading
and writing (`pipeline.rollout`). Pure: the same history, look and order give the same decision, so
a rollout can be replayed, and a run that was killed ends in the same decisions.

    shadow -> step (1 %) -> step (50 %) -> full -> retired     mode 'canary'
    comparing -> reported                                      mode 'ab'

Each of these can be held by a person or for want of evidence, rolled back by evidence, by a guard
or by a person, and, before all cameras have the challenger, aborted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_DOWN, Context
from typing import Any, Final, Literal, get_args

from fall_assets.errors import PermanentFailureError
from fall_assets.rollout.evidence import Arm
from fall_assets.rollout.guards import Tripped
from fall_assets.rollout.judgement import Judgement
from fall_assets.rollout.library import LibraryVerdict
from fall_assets.rollout.settings import RolloutSettings, StepSettings

State = Literal[
    "shadow",
    "step",
    "full",
    "retired",
    "held",
    "rolled_back",
    "aborted",
    "comparing",
    "reported",
]
Action = Literal[
    "start", "look", "next", "promote", "hold", "resume", "roll_back", "abort", "retire", "report"
]
OrderAction = Literal["approve", "resume", "hold", "roll_back", "abort"]
Outcome = Literal["equal", "same decision, other numbers", "differs"]
"""How a decision comes out when it is taken again; the numbers are those in its sentence."""

ENDED: Final[frozenset[State]] = frozenset({"retired", "rolled_back", "aborted", "reported"})
"""States that nothing leaves."""
AUTOMATIC: Final = "automatic"
"""`Decision.by` where no person ordered it."""

CHANGES: Final[frozenset[Action]] = frozenset(
    {"start", "next", "promote", "retire", "roll_back", "abort", "report"}
)
"""Actions that change who watches which camera; the others leave boxes and registry alone."""
ENDING_ORDERS: Final[frozenset[OrderAction]] = frozenset({"roll_back", "abort"})
"""Orders that are followed whatever the evidence says."""

_CLOCK_BEGINS: Final[frozenset[Action]] = frozenset({"start", "next", "promote", "resume"})


_NAMED = 5


@dataclass(frozen=True)
class Order:
    """What a person wants.

    Attributes:
        action: 'approve' goes to the next step, whatever the evidence; 'resume' leaves the hold,
            and the step's days are counted anew; 'hold' stays until a person says more;
            'roll_back' rejects the challenger; 'abort' ends the rollout without a judgement.
        by: who.
        why: in their words; may be empty.
        id: tells this order from the next one, so that it is followed once however often the run
            that brings it is started again; empty: not known.

    Raises:
        PermanentFailureError: nobody is named, or the action is not known.
    """

    action: OrderAction
    by: str
    why: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        if self.action not in get_args(OrderAction):
            raise PermanentFailureError(
                f"order {self.action!r} is not known; there are: {', '.join(get_args(OrderAction))}"
            )
        if not self.by.strip():
            raise PermanentFailureError("an order needs a name: say who gives it")


@dataclass(frozen=True)
class Look:
    """What is known when a decision is taken.

    Attributes:
        day: newest day with evidence; none before the first.
        days_in_step: days of evidence from `Standing.step_began` on.
        judgement: none where nothing can be judged yet.
        library: on the labelled falls, asked for in shadow only; none where it was not compared.
        library_missing: why it could not be compared although that was due.
        tripped: guards that tripped since the last decision.
        arms: sums of champion and challenger, for words.
        samples: numbers that are recorded with the decision and not read; JSON-able.
    """

    day: date | None
    days_in_step: int
    judgement: Judgement | None = None
    library: LibraryVerdict | None = None
    library_missing: str = ""
    tripped: Sequence[Tripped] = ()
    arms: tuple[Arm, Arm] | None = None
    samples: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """One row of a rollout's history.

    Attributes:
        number: from 0 without gaps.
        at_utc: when it was taken.
        day: newest day of evidence that it knew; of number 0 the day before the start.
        effective_day: the first day on which it holds, the day after `day`.
        action: what was done; 'look' changes nothing.
        state: after it.
        step: index into the settings' steps, after it; stays where the rollout ended, and at the
            last step once all cameras have the challenger.
        share: of the cameras on which the challenger raises the alerts, after it.
        by: the person who ordered it, or `AUTOMATIC`.
        sentence: what was decided on which numbers, for people.
        numbers: what it was taken on, JSON-able; see `given`.
    """

    number: int
    at_utc: datetime
    day: date
    effective_day: date
    action: Action
    state: State
    step: int
    share: float
    by: str
    sentence: str
    numbers: Mapping[str, Any]

    @property
    def held_from(self) -> State | None:
        """The state in which a held rollout serves on; none where it is not held."""
        return self.numbers["held_from"] if self.state == "held" else None


@dataclass(frozen=True)
class Standing:
    """Where a rollout stands after a history.

    Attributes:
        state: of the last decision, as `step` and `share`.
        step: see `Decision`.
        share: see `Decision`.
        held_from: the state in which a held rollout serves on; none where it is not held.
        step_began: the first day whose evidence counts for the present step, or for the time in
            'full' or 'comparing'; none once it ended.
        full_since: the first day on which all cameras have the challenger; none before.
        looked: newest day of evidence that was judged.
    """

    state: State
    step: int
    share: float
    held_from: State | None
    step_began: date | None
    full_since: date | None
    looked: date

    @property
    def phase(self) -> State:
        """The state, or of a held rollout the one in which it is held."""
        return self.held_from or self.state

    @property
    def ended(self) -> bool:
        """Whether nothing more can be decided."""
        return self.state in ENDED

    @property
    def promoted(self) -> bool:
        """Whether the challenger has become the champion, and has not been taken back."""
        return self.phase in ("full", "retired")


def standing(history: Sequence[Decision]) -> Standing:
    """Fold a history, all decisions of one rollout by number.

    Raises:
        PermanentFailureError: it is empty or has gaps.
    """
    if [decision.number for decision in history] != list(range(len(history))) or not history:
        raise PermanentFailureError(
            f"a rollout's decisions have the numbers {[d.number for d in history]}, wanted 0, 1, "
            "2 and so on: rows of the table 'rollout' are missing; restore an earlier version of it"
        )
    first, last = history[0], history[-1]
    step_began, looked = first.effective_day, first.day
    full_since: date | None = None
    held_from: State | None = None
    before: State = first.state
    for decision in history:
        if decision.action in _CLOCK_BEGINS:
            step_began = decision.effective_day
        if decision.action == "promote":
            full_since = decision.effective_day
        # An order judges no evidence: its day is still to be looked at.
        if decision.numbers.get("order") is None:
            looked = max(looked, decision.day)
        if decision.state != "held":
            held_from = None
        elif before != "held":
            held_from = before
        before = decision.state
    return Standing(
        last.state,
        last.step,
        last.share,
        held_from,
        None if last.state in ENDED else step_began,
        full_since,
        looked,
    )


def start(
    rollout_id: str,
    champion: str,
    challenger: str,
    day: date,
    now: datetime,
    settings: RolloutSettings,
    by: str = AUTOMATIC,
    *,
    order_id: str = "",
    library: LibraryVerdict | None = None,
) -> Decision:
    """Decision 0: into shadow, or side by side in mode 'ab'.

    Args:
        rollout_id: names it in commands.
        champion: model version that serves.
        challenger: model version that is to be proved.
        day: the first day on which the challenger watches.
        now: when it is decided.
        settings: hold for the whole rollout.
        by: who starts it.
        order_id: of the order to begin, where a person gave one; see `Order.id`.
        library: of a comparison, which has no shadow that comes first.

    Raises:
        PermanentFailureError: both versions are the same, nobody is named, or the challenger of a
            comparison finds fewer falls.
    """
    if champion == challenger:
        raise PermanentFailureError(
            f"version {champion} is the champion already: name another one as the challenger"
        )
    if not by.strip():
        raise PermanentFailureError("a rollout needs a name: say who starts it")
    state: State = "shadow"
    share = 0.0
    if library is not None and library.verdict == "worse":
        raise PermanentFailureError(
            f"version {challenger} is not put beside champion {champion}: it finds fewer falls "
            f"({_inside(library.text)}); train another one, or let it watch in shadow alone "
            "(mode 'canary')"
        )
    if settings.mode == "ab":
        state, share = "comparing", settings.ab_share
        what = (
            f"is put beside champion {champion}, each on {_percent(share)} of the cameras, for "
            f"{_days(settings.ab_days)} from {day}"
        )
        if library is not None:
            what += f" ({_inside(library.text)})"
    else:
        what = (
            f"watches in shadow of champion {champion} from {day}, until the evidence says that it "
            f"has {_few(settings.steps[0].margin, settings.acceptable_rate)}, for up to "
            f"{_days(settings.steps[0].max_days)}"
        )
    return Decision(
        number=0,
        at_utc=now,
        day=day - timedelta(days=1),
        effective_day=day,
        action="start",
        state=state,
        step=0,
        share=share,
        by=by,
        sentence=f"Challenger {challenger} {what}.",
        numbers={
            "rollout_id": rollout_id,
            "champion": champion,
            "challenger": challenger,
            "held_from": None,
            "order": {"action": "begin", "by": by, "id": order_id} if order_id else None,
            "library": None if library is None else library.as_dict(),
        },
    )


def decide(
    history: Sequence[Decision],
    look: Look,
    settings: RolloutSettings,
    order: Order | None,
    now: datetime,
) -> Decision | None:
    """Take the next decision; none where there is nothing to record.

    A guard comes before an order, and an order before the evidence: a day that came in together
    with an order is looked at by the next call.

    Args:
        history: all decisions so far.
        look: what is known.
        settings: of this rollout, as recorded when it began.
        order: what a person wants.
        now: when it is decided.

    Raises:
        PermanentFailureError: the order does not fit the state; the message says what to do.
    """
    case = _Case(history, standing(history), look, settings, order, now)
    if case.here.ended:
        if order is not None:
            raise PermanentFailureError(case.why_ended())
        return None
    if look.tripped:
        return case.guarded()
    if order is not None:
        return case.ordered(order)
    if look.day is None or look.day <= case.here.looked:
        return None
    return case.looked()


def waits_for(history: Sequence[Decision]) -> str | None:
    """What a person must do, in words; none where nobody is needed."""
    last = history[-1]
    if standing(history).state != "held":
        return None
    held = next(decision for decision in reversed(history) if decision.action == "hold")
    return held.sentence if last is held else f"{held.sentence} {last.sentence}"


def given(decision: Decision) -> tuple[Look, Order | None, datetime]:
    """What a decision was taken on, from its own numbers; not of number 0, which has no look.

    Raises:
        ValueError: it is number 0.
    """
    if decision.number == 0:
        raise ValueError("decision 0 starts the rollout: it was taken on no look")
    numbers = decision.numbers
    judgement, library, arms, order = (
        numbers[name] for name in ("judgement", "library", "arms", "order")
    )
    look = Look(
        day=None if numbers["look_day"] is None else date.fromisoformat(numbers["look_day"]),
        days_in_step=numbers["days_in_step"],
        judgement=None if judgement is None else Judgement.from_dict(judgement),
        library=None if library is None else LibraryVerdict.from_dict(library),
        library_missing=numbers.get("library_missing", ""),
        tripped=tuple(Tripped(**one) for one in numbers["tripped"]),
        arms=None if arms is None else (Arm(**arms["champion"]), Arm(**arms["challenger"])),
        samples=numbers["samples"],
    )
    return look, None if order is None else Order(**order), decision.at_utc


@dataclass(frozen=True)
class Replayed:
    """One decision, taken once more.

    Attributes:
        recorded: as it stands.
        recomputed: as it comes out; none where nothing should have been recorded.
        outcome: how both compare.
    """

    recorded: Decision
    recomputed: Decision | None
    outcome: Outcome


def replay(
    history: Sequence[Decision],
    looks: Callable[[int], tuple[Look, Order | None, datetime]],
    settings: RolloutSettings,
) -> list[Replayed]:
    """Take every decision once more.

    `looks` gives what was known for a decision's number, from 1; `given` does so from its own
    numbers.
    """
    found = []
    for place, recorded in enumerate(history):
        try:
            if place:
                look, order, now = looks(recorded.number)
                recomputed = decide(history[:place], look, settings, order, now)
            else:
                recomputed = _start_again(recorded, settings)
        except (PermanentFailureError, LookupError, TypeError, ValueError):
            # An order that is refused today should not have been recorded, and numbers that cannot
            # be read were not written by us.
            recomputed = None
        found.append(Replayed(recorded, recomputed, compare(recorded, recomputed)))
    return found


def compare(recorded: Decision, recomputed: Decision | None) -> Outcome:
    """Whether both decide the same, and in the same words; when does not matter.

    Words that differ where nothing else does have other numbers in them: another version of a
    library, or of this code, computes e-values a little differently.
    """
    if recomputed is None or _decided(recorded) != _decided(recomputed):
        return "differs"
    same = recorded.sentence == recomputed.sentence
    return "equal" if same else "same decision, other numbers"


def proved(
    judgement: Judgement | None, days_in_step: int, step: StepSettings, evidence: float
) -> bool:
    """Whether the evidence is enough for the next step."""
    return (
        judgement is not None
        and days_in_step >= step.min_days
        and judgement.e_not_worse >= evidence
        # What was seen before may outweigh what is seen now, and now it counts.
        and judgement.e_worse_step <= 1.0
    )


def _start_again(first: Decision, settings: RolloutSettings) -> Decision:
    numbers = first.numbers
    order, library = numbers.get("order"), numbers.get("library")
    return start(
        str(numbers["rollout_id"]),
        str(numbers["champion"]),
        str(numbers["challenger"]),
        first.effective_day,
        first.at_utc,
        settings,
        first.by,
        order_id="" if order is None else str(order["id"]),
        library=None if library is None else LibraryVerdict.from_dict(library),
    )


def _decided(decision: Decision) -> tuple[object, ...]:
    return (
        decision.action,
        decision.state,
        decision.step,
        decision.share,
        decision.day,
        decision.effective_day,
        decision.by,
    )


@dataclass(frozen=True)
class _Case:
    """All that one decision is taken on, and the words for it."""

    history: Sequence[Decision]
    here: Standing
    look: Look
    settings: RolloutSettings
    order: Order | None
    now: datetime

    def guarded(self) -> Decision:
        """A guard tripped."""
        tripped = " and ".join(
            f"guard {one.guard} tripped ({_inside(one.text)})" for one in self.look.tripped
        )
        ending = self._back()
        if self.order is not None:
            name = self.order.action.replace("_", "-")
            ending += f", and the order {name} of {_clean(self.order.by)} is not followed"
        return self._decision("roll_back", "rolled_back", f"{self._since()}, {tripped}: {ending}")

    def looked(self) -> Decision:
        """A new day of evidence."""
        judgement, state = self.look.judgement, self.here.state
        is_worse = judgement is not None and judgement.e_worse >= self.settings.evidence
        # A comparison takes its time and then reports: that one is worse is what it is for.
        if is_worse and self.here.phase != "comparing":
            return self._on_evidence("roll_back", "rolled_back", f"it is worse, so {self._back()}")
        if state == "held":
            also = ""
            if self.here.phase in ("shadow", "step") and self._proved():
                also = ", although the evidence is now enough for the next step"
            return self._on_evidence("look", "held", f"it is held until a person decides{also}")
        if state == "full":
            return self._full()
        if state == "comparing":
            return self._comparing()
        return self._on_the_way()

    def ordered(self, order: Order) -> Decision:
        """A person's order; raises PermanentFailureError where it does not fit."""
        phase, is_held = self.here.phase, self.here.state == "held"
        if order.action == "approve":
            if phase == "comparing":
                raise PermanentFailureError(
                    f"rollout {self.rollout_id} compares two versions and promotes neither: "
                    "nothing to approve; a rollout of mode 'canary' goes to all cameras"
                )
            if phase == "full":
                raise PermanentFailureError(
                    f"rollout {self.rollout_id} has reached all cameras: nothing to approve; "
                    f"champion {self.champion} is retired after {_days(self.settings.keep_days)}"
                )
            return self._next(order)
        if order.action == "resume":
            if not is_held:
                raise PermanentFailureError(
                    f"rollout {self.rollout_id} runs {self._where()} and is not held: nothing to "
                    "resume"
                )
            ending = (
                f"it goes on {self._where(phase)} from {self.effective_day}, its days counted anew"
            )
            return self._on_order(order, "resume", phase, "resumes", ending)
        if order.action == "hold":
            if is_held:
                raise PermanentFailureError(
                    f"rollout {self.rollout_id} is held already; {self._ways()}"
                )
            ending = f"it stays {self._where()} until a person decides: {self._ways()}"
            return self._on_order(order, "hold", "held", "holds", ending)
        if order.action == "roll_back":
            return self._on_order(order, "roll_back", "rolled_back", "rolls back", self._back())
        if phase == "full":
            raise PermanentFailureError(
                f"rollout {self.rollout_id} has reached all cameras: nothing to abort; "
                f"{self._command('roll-back')} brings champion {self.champion} back"
            )
        return self._on_order(order, "abort", "aborted", "aborts", self._back())

    def why_ended(self) -> str:
        """Why an order comes too late, and what to do."""
        last = self.history[-1]
        ended = {
            "retired": f"was completed, and version {self.champion} retired",
            "rolled_back": "was rolled back",
            "aborted": "was aborted",
            "reported": "ended with its report",
        }[last.state]
        what = "register the version that you want as the challenger: a new rollout begins with it"
        if last.state == "retired":
            what = f"to go back, {what}"
        since = last.effective_day
        return f"rollout {self.rollout_id} {ended}, from {since}: no order changes it; {what}"

    # The states.

    def _on_the_way(self) -> Decision:
        """In shadow or on a share of the cameras: on, stay, or ask."""
        step, library = self.settings.steps[self.here.step], self.look.library
        is_proved, is_late = self._proved(), self.look.days_in_step >= step.max_days
        in_shadow = self.here.state == "shadow"
        falls = "" if library is None else _inside(library.text)
        if not is_proved and not is_late:
            return self._on_evidence("look", self.here.state, self._goes_on())
        # The library is asked once, when the step would end: asked daily, its p-values would roll
        # back good versions, and in shadow nobody is harmed by waiting.
        if in_shadow and library is not None and library.verdict == "worse":
            ending = f"it finds fewer falls ({falls}), so {self._back()}"
            return self._on_evidence("roll_back", "rolled_back", ending)
        if not is_proved:
            reasons = [reason for reason in (self._against(), falls) if reason]
            also = f" ({'; '.join(reasons)})" if reasons else ""
            return self._ask(
                f"not enough evidence yet after {self.look.days_in_step} of at most "
                f"{_days(step.max_days)}{also}"
            )
        if in_shadow and library is None:
            missing = "it was not compared on the library of labelled falls"
            if self.look.library_missing:
                missing += f" ({_inside(self.look.library_missing)})"
            if is_late:
                return self._ask(missing)
            return self._on_evidence("look", "shadow", f"{missing} yet, and waits for that")
        if in_shadow and library is not None and library.verdict == "undecided":
            return self._ask(f"its false alarms are fine, but not its falls ({falls})")
        return self._next(also=f" and finds the falls ({falls})" if in_shadow else "")

    def _comparing(self) -> Decision:
        days, judgement = self.look.days_in_step, self.look.judgement
        if days < self.settings.ab_days:
            left = _days(self.settings.ab_days - days)
            return self._on_evidence("look", "comparing", f"the comparison goes on for {left}")
        found = "whether the challenger is worse cannot be told"
        if judgement is not None:
            fewer = _few(judgement.margin, judgement.acceptable_rate)
            is_worse, is_not_worse = (
                e_value >= self.settings.evidence
                for e_value in (judgement.e_worse, judgement.e_not_worse)
            )
            if is_worse:
                found = "the challenger is worse" + (f", with {fewer}" if is_not_worse else "")
            elif is_not_worse:
                found = f"the challenger is not worse: it has {fewer}"
        ending = f"{found}, the comparison ends, and {self._back()}"
        return self._on_evidence("report", "reported", ending)

    def _full(self) -> Decision:
        days = self.look.days_in_step
        if days < self.settings.keep_days:
            left = _days(self.settings.keep_days - days)
            ending = f"version {self.champion} stays in shadow for {left}"
            return self._on_evidence("look", "full", ending)
        ending = f"version {self.champion} is retired from {self.effective_day}"
        if kept := self._excluded():
            ending += f", and the excluded cameras ({kept}) have version {self.challenger} then"
        return self._on_evidence("retire", "retired", ending, share=1.0)

    def _next(self, order: Order | None = None, *, also: str = "") -> Decision:
        """The next step, or all cameras."""
        step = self.here.step + 1
        action: Action = "next"
        state: State = "step"
        share = 1.0
        if step < len(self.settings.steps):
            share = self.settings.steps[step].share
            what = f"it goes to {_percent(share)} of the cameras from {self.effective_day}"
        else:
            action, state, step = "promote", "full", self.here.step
            kept = self._excluded()
            but = f" but the excluded ones ({kept})" if kept else ""
            what = (
                f"it serves all cameras{but} as the champion from {self.effective_day}, with "
                f"version {self.champion} in shadow for {_days(self.settings.keep_days)}"
            )
        if order is not None:
            verb = "approves the next step"
            return self._on_order(order, action, state, verb, what, step=step, share=share)
        margin = self.settings.steps[self.here.step].margin
        few = _few(margin, self.settings.acceptable_rate)
        ending = f"it has {few}{also}, so {what}"
        return self._on_evidence(action, state, ending, step=step, share=share)

    def _ask(self, why: str) -> Decision:
        return self._on_evidence("hold", "held", f"{why}, so a person decides: {self._ways()}")

    def _proved(self) -> bool:
        step = self.settings.steps[self.here.step]
        return proved(self.look.judgement, self.look.days_in_step, step, self.settings.evidence)

    def _against(self) -> str:
        """What this step alone says for worse, where all days together are enough; else nothing."""
        judgement = self.look.judgement
        if (
            judgement is None
            or judgement.e_not_worse < self.settings.evidence
            or judgement.e_worse_step <= 1.0
        ):
            return ""
        return (
            "the days of this step alone speak for worse (an e-value of "
            f"{_e_value(judgement.e_worse_step)}, wanted 1 or less)"
        )

    def _excluded(self) -> str:
        """The cameras that keep the champion, in words."""
        names = sorted(self.settings.exclude)
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return ", ".join(names[:_NAMED]) + more

    # The record.

    def _on_evidence(
        self,
        action: Action,
        state: State,
        ending: str,
        *,
        step: int | None = None,
        share: float | None = None,
    ) -> Decision:
        sentence = f"{self._since()}, {self._figures()}: {ending}"
        return self._decision(action, state, sentence, step, share)

    def _on_order(
        self,
        order: Order,
        action: Action,
        state: State,
        verb: str,
        ending: str,
        *,
        step: int | None = None,
        share: float | None = None,
    ) -> Decision:
        why = _clean(order.why)
        sentence = f"{_clean(order.by)} {verb}" + (f" ({why})" if why else "")
        sentence += f"; {self._since(lower=True)}, {self._figures()}: {ending}"
        return self._decision(action, state, sentence, step, share, by=order.by)

    def _decision(
        self,
        action: Action,
        state: State,
        sentence: str,
        step: int | None = None,
        share: float | None = None,
        by: str = AUTOMATIC,
    ) -> Decision:
        if state in ("rolled_back", "aborted", "reported"):
            share = 0.0
        look, arms = self.look, self.look.arms
        return Decision(
            number=len(self.history),
            at_utc=self.now,
            day=self.day,
            effective_day=self.effective_day,
            action=action,
            state=state,
            step=self.here.step if step is None else step,
            share=self.here.share if share is None else share,
            by=by,
            sentence=f"{sentence}.",
            numbers={
                "look_day": None if look.day is None else look.day.isoformat(),
                "days_in_step": look.days_in_step,
                "judgement": None if look.judgement is None else look.judgement.as_dict(),
                "library": None if look.library is None else look.library.as_dict(),
                "library_missing": look.library_missing,
                "tripped": [{"guard": one.guard, "text": one.text} for one in look.tripped],
                "arms": None if arms is None else {arm.role: asdict(arm) for arm in arms},
                "samples": dict(look.samples),
                "order": None if self.order is None else asdict(self.order),
                "held_from": self.here.phase if state == "held" else None,
            },
        )

    @property
    def day(self) -> date:
        """Newest day of evidence; never before that of the last decision."""
        return max(self.look.day or self.history[-1].day, self.history[-1].day)

    @property
    def effective_day(self) -> date:
        """See `Decision`."""
        return self.day + timedelta(days=1)

    # Words.

    @property
    def rollout_id(self) -> str:
        """As started."""
        return str(self.history[0].numbers["rollout_id"])

    @property
    def champion(self) -> str:
        """The version that served when the rollout began."""
        return str(self.history[0].numbers["champion"])

    @property
    def challenger(self) -> str:
        """The version that is to be proved."""
        return str(self.history[0].numbers["challenger"])

    def _where(self, state: State | None = None) -> str:
        state = state or self.here.state
        words = {
            "shadow": "in shadow",
            "step": f"at {_percent(self.here.share)} of the cameras",
            "full": "on all cameras",
            "comparing": f"side by side at {_percent(self.here.share)} of the cameras each",
        }
        return f"{words[self.here.phase]} (held)" if state == "held" else words[state]

    def _since(self, *, lower: bool = False) -> str:
        word = "after" if lower else "After"
        return f"{word} {_days(self.look.days_in_step)} {self._where()}"

    def _figures(self) -> str:
        """Rates, counts and e-values."""
        parts = ["no alarms are counted yet"]
        if self.look.arms is not None:
            champion, challenger = self.look.arms
            parts = [
                f"false alarms per camera-day are {_rate(challenger)} of challenger "
                f"{self.challenger} and {_rate(champion)} of champion {self.champion}"
            ]
        judgement = self.look.judgement
        if judgement is None:
            return ", ".join(parts)
        if judgement.ratio is not None:
            parts.append(f"an estimated ratio of {_number(judgement.ratio)}")
        e_values = (
            f"e-values {_e_value(judgement.e_worse)} for worse and "
            f"{_e_value(judgement.e_not_worse)} for less than {judgement.margin:g} times as many"
            f"{_or_fewer(judgement.acceptable_rate)} ({self.settings.evidence:g} decides)"
        )
        return f"{', '.join(parts)}, {e_values}"

    def _goes_on(self) -> str:
        step, days = self.settings.steps[self.here.step], self.look.days_in_step
        judgement = self.look.judgement
        if judgement is not None and judgement.e_not_worse >= self.settings.evidence:
            if days < step.min_days:
                return f"it is fine so far, and goes on until {_days(step.min_days)} are seen"
            longest = _days(step.max_days - days)
            return f"it is fine on all days together, but {self._against()}: {longest} are left"
        return f"not decided yet, it goes on for up to {_days(step.max_days - days)}"

    def _back(self) -> str:
        if self.here.phase == "shadow":
            return f"champion {self.champion} stays on all cameras"
        return f"champion {self.champion} serves all cameras from {self.effective_day}"

    def _command(self, name: str) -> str:
        return f"`fall-assets rollout {name} {self.rollout_id}`"

    def _ways(self) -> str:
        """What a person can do about a hold."""
        phase, ways = self.here.phase, []
        if phase in ("shadow", "step"):
            following = self.here.step + 1
            target = "all"
            longest = self.settings.steps[self.here.step].max_days
            if following < len(self.settings.steps):
                target = f"{_percent(self.settings.steps[following].share)} of the"
            ways.append(f"{self._command('approve')} goes to {target} cameras")
            ways.append(f"{self._command('resume')} watches for up to {_days(longest)} more")
        elif phase == "full":
            keep = _days(self.settings.keep_days)
            ways.append(f"{self._command('resume')} retires version {self.champion} after {keep}")
        else:
            ways.append(
                f"{self._command('resume')} compares for another {_days(self.settings.ab_days)}"
            )
        ways.append(f"{self._command('roll-back')} rejects the challenger")
        if phase != "full":
            ways.append(f"{self._command('abort')} ends it without a judgement")
        return ", ".join(ways[:-1]) + f", or {ways[-1]}"


def _few(margin: float, acceptable_rate: float) -> str:
    """What a step asks for."""
    return f"less than {margin:g} times the false alarms{_or_fewer(acceptable_rate)}"


def _or_fewer(acceptable_rate: float) -> str:
    return f" or fewer than {_number(acceptable_rate)} per camera-day" if acceptable_rate else ""


def _clean(text: str) -> str:
    """Fit to stand inside a sentence."""
    return " ".join(text.split()).rstrip(".")


def _inside(text: str) -> str:
    """A sentence, fit to stand in brackets."""
    return _clean(text[:1].lower() + text[1:])


def _days(count: int) -> str:
    return f"{count} day" if count == 1 else f"{count} days"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _number(value: float) -> str:
    """Three digits, and never as a power of ten for what people count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rate(arm: Arm) -> str:
    if arm.rate is None:
        return "unknown (0 camera-days)"
    return f"{_number(arm.rate)} ({arm.false_alarms} in {_number(arm.camera_days)} camera-days)"


def _e_value(value: float) -> str:
    """Rounded down, so that nothing looks like more than the threshold that is not."""
    if value >= 1e6:
        return "over 1,000,000"
    if value < 0.001:
        return "under 0.001"
    return f"{float(Context(prec=3, rounding=ROUND_DOWN).create_decimal(repr(float(value)))):g}"
