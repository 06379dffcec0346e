"""The rollout's decisions: from shadow to all cameras, back at once, and never past a person."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import ROLLOUT_PLACES, ROLLOUT_STATES
from fall_assets.rollout import machine
from fall_assets.rollout.assignment import Place
from fall_assets.rollout.evidence import Arm
from fall_assets.rollout.guards import GUARDS, Tripped
from fall_assets.rollout.judgement import LARGEST, Judgement
from fall_assets.rollout.library import LibraryVerdict, compare_library
from fall_assets.rollout.machine import (
    AUTOMATIC,
    ENDED,
    Decision,
    Look,
    Order,
    OrderAction,
    State,
    compare,
    decide,
    replay,
    standing,
    start,
    waits_for,
)
from fall_assets.rollout.settings import RolloutSettings, StepSettings

FIRST = date(2026, 3, 1)
CANARY = RolloutSettings(
    steps=(
        StepSettings(share=0.0, min_days=1, max_days=14, margin=2.0),
        StepSettings(share=0.01, min_days=1, max_days=14, margin=2.0),
        StepSettings(share=0.5, min_days=2, max_days=14, margin=1.5),
    ),
    keep_days=7,
)
AB = RolloutSettings(mode="ab")
GOOD, WORSE, QUIET = (0.2, 40.0), (25.0, 0.1), (0.9, 1.1)
FINE = compare_library([(True, True)] * 80, 0.1)
FEWER = compare_library([(True, True)] * 12 + [(True, False)] * 9, 0.1)
FEW = compare_library([(True, True)] * 5, 0.1)
CRASH = Tripped("crash", "Boxes cannot run the package of version new: box-7 refused it.")
E = tuple[float, float]


class Site:
    """A rollout as the platform drives it: a look every day, orders whenever they come."""

    def __init__(
        self, settings: RolloutSettings = CANARY, library: LibraryVerdict | None = FINE
    ) -> None:
        self.settings, self.library = settings, library
        self.day: date | None = None
        self.history: list[Decision] = [
            start("ward-7", "old", "new", FIRST, self.now(0), settings, "night shift")
        ]

    def now(self, number: int) -> datetime:
        return datetime(2026, 3, 1, 6, tzinfo=UTC) + timedelta(hours=number)

    def look(self, e: E | None, tripped: Sequence[Tripped] = ()) -> Look:
        here, days = standing(self.history), 0
        if self.day is not None and here.step_began is not None:
            days = max(0, (self.day - here.step_began).days + 1)
        margin = self.settings.steps[here.step].margin
        return Look(
            day=self.day,
            days_in_step=days,
            judgement=e and Judgement(*e, {"alarms": e[0], "delay": 1.0}, 1.04, margin),
            library=self.library if here.state == "shadow" else None,
            tripped=tripped,
            arms=(
                Arm("champion", 1000, 370.5 * days, 11 * days, 0, 2, 0.5),
                Arm("challenger", 10, 385.0 * days, 13 * days, days, 3, 0.25),
            ),
            samples={"boxes": 10, "lake": {"alerts": 3}},
        )

    def decide(
        self, e: E | None = None, *, order: Order | None = None, tripped: Sequence[Tripped] = ()
    ) -> Decision | None:
        found = decide(
            self.history,
            self.look(e, tripped),
            self.settings,
            order,
            self.now(len(self.history)),
        )
        if found is not None:
            self.history.append(found)
        return found

    def next_day(self, e: E | None = GOOD, days: int = 1) -> Decision | None:
        found = None
        for _ in range(days):
            self.day = FIRST if self.day is None else self.day + timedelta(days=1)
            found = self.decide(e)
        return found

    def order(self, action: OrderAction, why: str = "") -> Decision:
        found = self.decide(order=Order(action, "Anna", why))
        assert found is not None
        return found

    @property
    def state(self) -> str:
        return self.history[-1].state

    @property
    def last(self) -> Decision:
        return self.history[-1]


def site_in(phase: str) -> Site:
    """A canary rollout that got so far without trouble; 'held' in the first live step."""
    site = Site(AB if phase == "comparing" else CANARY)
    days = {"shadow": 0, "comparing": 0, "step 1": 1, "held": 1, "step 2": 2, "full": 4}[phase]
    site.next_day(GOOD, days)
    if phase == "held":
        site.order("hold")
    return site


PHASES = ("shadow", "step 1", "step 2", "held", "full", "comparing")


def test_a_good_version_goes_from_shadow_to_all_cameras_and_the_old_one_is_retired() -> None:
    site = Site()
    site.next_day(GOOD, 11)
    moves = [
        (one.action, one.state, one.step, one.share, one.effective_day.day)
        for one in site.history
        if one.action != "look"
    ]
    assert moves == [
        ("start", "shadow", 0, 0.0, 1),
        ("next", "step", 1, 0.01, 2),
        ("next", "step", 2, 0.5, 3),
        ("promote", "full", 2, 1.0, 5),
        ("retire", "retired", 2, 1.0, 12),
    ]
    # Every day of evidence is a row, also where nothing changed.
    assert [one.day.day for one in site.history[1:]] == list(range(1, 12))
    assert standing(site.history).full_since == date(2026, 3, 5)
    assert standing(site.history).promoted
    assert site.next_day() is None


def test_one_look_a_day_is_recorded_and_none_before_the_first_day() -> None:
    site = Site()
    assert site.decide(GOOD) is None
    assert site.next_day(QUIET) is not None
    assert site.decide(WORSE) is None
    assert site.day is not None
    site.day -= timedelta(days=1)
    assert site.decide(WORSE) is None
    assert len(site.history) == 2


def test_the_steps_longest_and_shortest_time_hold() -> None:
    settings = RolloutSettings(
        steps=(StepSettings(min_days=3, max_days=5), StepSettings(share=0.2, max_days=2))
    )
    site = Site(settings)
    site.next_day(GOOD, 2)
    assert site.state == "shadow"
    assert "fine so far" in site.last.sentence
    site.next_day(GOOD)
    assert (site.state, site.last.share) == ("step", 0.2)
    site.next_day(QUIET)
    assert site.state == "step"
    site.next_day(QUIET)
    assert site.state == "held"


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "comparing"])
def test_a_worse_version_is_rolled_back_from_every_state(phase: str) -> None:
    site = site_in(phase)
    found = site.next_day(WORSE)
    assert found is not None
    assert (found.action, found.state, found.share) == ("roll_back", "rolled_back", 0.0)
    assert found.effective_day == found.day + timedelta(days=1)
    assert "25 for worse" in found.sentence
    assert "champion old" in found.sentence
    assert not standing(site.history).promoted
    assert waits_for(site.history) is None


def test_evidence_at_the_threshold_decides_and_below_it_does_not() -> None:
    below = Site()
    below.next_day((19.9999, 19.9999))
    assert below.state == "shadow"
    # Rounded up, the sentence would contradict the decision.
    assert "19.9 for worse and 19.9 for less" in below.last.sentence
    at = Site()
    at.next_day((19.0, 20.0))
    assert at.state == "step"
    at.next_day((20.0, 20.0))
    assert at.state == "rolled_back"


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("phase", PHASES)
def test_a_guard_rolls_back_at_once_from_every_state(phase: str, guard: str) -> None:
    site = site_in(phase)
    found = site.decide(GOOD, tripped=[Tripped(guard, "Box 7 says so.")])
    assert found is not None
    assert (found.state, found.share, found.by) == ("rolled_back", 0.0, AUTOMATIC)
    assert f"guard {guard} tripped (box 7 says so)" in found.sentence
    assert found.numbers["tripped"] == [{"guard": guard, "text": "Box 7 says so."}]


def test_a_look_that_knows_fewer_days_does_not_turn_time_back() -> None:
    site = site_in("step 1")
    site.next_day(QUIET, 2)
    known, site.day = site.last, FIRST
    found = site.decide(QUIET, tripped=[CRASH])
    assert found is not None
    assert (found.day, found.effective_day) == (known.day, known.effective_day)


def test_a_guard_comes_before_an_order_and_the_order_is_not_lost_silently() -> None:
    site = site_in("step 1")
    found = site.decide(GOOD, order=Order("approve", "Anna"), tripped=[CRASH])
    assert found is not None
    assert found.state == "rolled_back"
    assert "order approve of Anna is not followed" in found.sentence


def quiet_hospital() -> Site:
    """Nothing was decided in the longest time of the first live step."""
    site = site_in("step 1")
    site.next_day(QUIET, 14)
    return site


def test_a_quiet_hospital_does_not_pass_but_asks_a_person() -> None:
    site = quiet_hospital()
    assert (site.last.action, site.state, site.last.share) == ("hold", "held", 0.01)
    assert site.last.held_from == "step"
    asked = waits_for(site.history)
    assert asked is not None
    assert "not enough evidence yet after 14 of at most 14 days" in asked
    for command in ("approve", "resume", "roll-back", "abort"):
        assert f"`fall-assets rollout {command} ward-7`" in asked
    site.next_day(GOOD)
    assert site.state == "held"
    asked_later = waits_for(site.history)
    assert asked_later is not None
    assert asked_later.startswith(asked)
    assert "the evidence is now enough for the next step" in asked_later


def test_a_person_approves_and_the_next_step_begins() -> None:
    site = quiet_hospital()
    found = site.order("approve", "quiet ward,\n no complaints.")
    assert (found.state, found.step, found.share, found.by) == ("step", 2, 0.5, "Anna")
    assert found.sentence.startswith("Anna approves the next step (quiet ward, no complaints); ")
    assert standing(site.history).step_began == found.effective_day
    assert waits_for(site.history) is None


def test_a_person_approves_the_last_step_and_the_challenger_is_promoted() -> None:
    site = site_in("step 2")
    found = site.order("approve")
    assert (found.action, found.state, found.share, found.by) == ("promote", "full", 1.0, "Anna")


def test_a_person_resumes_and_the_steps_days_are_counted_anew() -> None:
    site = quiet_hospital()
    found = site.order("resume")
    assert (found.state, found.step, found.share) == ("step", 1, 0.01)
    assert standing(site.history).step_began == found.effective_day
    site.next_day(QUIET, 13)
    assert site.state == "step"
    site.next_day(QUIET)
    assert site.state == "held"


@pytest.mark.parametrize(("action", "state"), [("roll_back", "rolled_back"), ("abort", "aborted")])
@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "full"])
def test_a_person_ends_it_in_every_state(phase: str, action: OrderAction, state: State) -> None:
    site = site_in(phase)
    found = site.order(action)
    assert (found.state, found.share, found.by) == (state, 0.0, "Anna")


def test_the_day_of_an_order_is_still_looked_at() -> None:
    site = site_in("step 1")
    site.day = site.last.day + timedelta(days=1)
    site.decide(WORSE, order=Order("approve", "Anna"))
    assert site.last.share == 0.5
    site.decide(WORSE)
    assert site.state == "rolled_back"


def test_a_hold_keeps_the_share_and_days_are_looked_at_all_the_same() -> None:
    site = site_in("step 1")
    site.order("hold", "building works")
    site.next_day(GOOD, 30)
    assert (site.state, site.last.share, site.last.step) == ("held", 0.01, 1)
    assert standing(site.history).phase == "step"
    assert len(site.history) == 2 + 1 + 30


def test_fewer_falls_on_the_library_roll_back_before_any_alert_is_raised() -> None:
    site = Site(library=FEWER)
    site.next_day(QUIET)
    assert site.state == "shadow"
    site.next_day(GOOD)
    assert site.state == "rolled_back"
    assert "it finds fewer falls (of 21 labelled falls" in site.last.sentence
    late = Site(library=FEWER)
    late.next_day(QUIET, 14)
    assert late.state == "rolled_back"


def test_a_small_library_asks_a_person_with_its_own_words() -> None:
    site = Site(library=FEW)
    site.next_day(GOOD)
    assert site.state == "held"
    asked = waits_for(site.history)
    assert asked is not None
    assert FEW.text.rstrip(".")[1:] in asked
    assert site.order("approve").share == 0.01


def test_without_a_comparison_on_the_library_nothing_leaves_the_shadow() -> None:
    site = Site(library=None)
    site.next_day(GOOD, 13)
    assert site.state == "shadow"
    assert "library" in site.last.sentence
    site.next_day(GOOD)
    assert site.state == "held"
    assert "library" in site.last.sentence


def test_why_the_library_has_no_verdict_is_said() -> None:
    site = Site(library=None)
    site.day = FIRST
    look = dataclasses.replace(site.look(GOOD), library_missing="Version new is gone.")
    found = decide(site.history, look, CANARY, None, site.now(1))
    assert found is not None
    assert "library of labelled falls (version new is gone) yet, and waits" in found.sentence
    assert machine.given(found)[0] == look


def test_excluded_cameras_are_named_where_they_matter() -> None:
    settings = dataclasses.replace(CANARY, exclude=("cam-9", "cam-1"))
    site = Site(settings)
    site.next_day(GOOD, 4)
    assert "it serves all cameras but the excluded ones (cam-1, cam-9) as" in site.last.sentence
    site.next_day(GOOD, 7)
    assert site.state == "retired"
    assert "and the excluded cameras (cam-1, cam-9) have version new then" in site.last.sentence


def test_a_day_without_counts_is_a_look_and_says_so() -> None:
    site = Site()
    site.day = FIRST
    found = decide(site.history, Look(FIRST, 1), CANARY, None, site.now(1))
    assert found is not None
    assert (found.action, found.state) == ("look", "shadow")
    assert "no alarms are counted yet" in found.sentence


def test_a_comparison_ends_with_its_report_and_promotes_nothing() -> None:
    site = Site(AB)
    assert (site.state, site.last.share) == ("comparing", 0.5)
    site.next_day(GOOD, 13)
    assert site.state == "comparing"
    site.next_day(GOOD)
    assert (site.last.action, site.state, site.last.share) == ("report", "reported", 0.0)
    assert "is not worse: it has less than 2 times the false alarms, the" in site.last.sentence
    assert not standing(site.history).promoted
    assert site.next_day() is None


@pytest.mark.parametrize(
    ("e", "says"),
    [
        (QUIET, "whether the challenger is worse cannot be told, the comparison ends"),
        (WORSE, "the challenger is worse, the comparison ends"),
        ((30.0, 30.0), "the challenger is worse, with less than 2 times the false alarms, the"),
    ],
)
def test_a_comparison_takes_its_whole_time_and_reports_both_directions(e: E, says: str) -> None:
    site = Site(AB)
    site.next_day(e, 7)
    site.order("hold")
    site.next_day(e)
    assert site.state == "held"
    site.order("resume")
    site.next_day(e, 13)
    assert site.state == "comparing"
    site.next_day(e)
    assert (site.last.action, site.state) == ("report", "reported")
    assert says in site.last.sentence
    assert "old serves all cameras" in site.last.sentence


def test_a_comparison_does_not_begin_with_fewer_falls_on_the_library() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    with pytest.raises(PermanentFailureError, match=r"finds fewer falls.*mode 'canary'"):
        start("r", "old", "new", FIRST, now, AB, library=FEWER)
    begun = start("r", "old", "new", FIRST, now, AB, library=FINE)
    assert "80 labelled falls" in begun.sentence
    assert LibraryVerdict.from_dict(begun.numbers["library"]) == FINE
    (again,) = replay([begun], lambda _: machine.given(begun), AB)
    assert again.outcome == "equal"


def test_what_a_step_shows_alone_must_not_speak_for_worse() -> None:
    def judged(step: float) -> Look:
        look = site.look(GOOD)
        assert look.judgement is not None
        return dataclasses.replace(
            look, judgement=dataclasses.replace(look.judgement, e_worse_step=step)
        )

    def next_day(step: float) -> Decision:
        assert site.day is not None
        site.day += timedelta(days=1)
        found = decide(site.history, judged(step), CANARY, None, site.now(len(site.history)))
        assert found is not None
        site.history.append(found)
        return found

    site = site_in("step 1")
    waits = next_day(1.01)
    assert (waits.action, waits.share) == ("look", 0.01)
    assert (
        "it is fine on all days together, but the days of this step alone speak for worse (an "
        "e-value of 1.01, wanted 1 or less): 13 days are left" in waits.sentence
    )
    assert next_day(1.0).share == 0.5
    site = site_in("step 1")
    for _ in range(14):
        asked = next_day(3.0)
    assert asked.state == "held"
    assert "not enough evidence yet after 14 of at most 14 days (the days of" in asked.sentence


def test_a_held_comparison_is_resumed_and_not_approved() -> None:
    site = site_in("comparing")
    asked = site.order("hold").sentence
    assert "rollout resume" in asked
    assert "rollout approve" not in asked
    with pytest.raises(PermanentFailureError, match="promotes neither"):
        site.order("approve")
    assert site.order("resume").state == "comparing"


def test_on_all_cameras_one_order_goes_back_within_the_days_kept() -> None:
    site = site_in("full")
    site.next_day(GOOD, 6)
    assert standing(site.history).promoted
    found = site.order("roll_back", "night nurses complain")
    assert (found.action, found.state, found.share) == ("roll_back", "rolled_back", 0.0)
    assert "champion old serves all cameras" in found.sentence
    assert not standing(site.history).promoted


def test_after_the_days_kept_going_back_is_refused_with_the_reason() -> None:
    site = site_in("full")
    site.next_day(GOOD, 7)
    assert site.state == "retired"
    with pytest.raises(PermanentFailureError, match=r"version old retired.*to go back, register"):
        site.order("roll_back")


def test_a_hold_on_all_cameras_keeps_the_old_version() -> None:
    site = site_in("full")
    asked = site.order("hold").sentence
    assert "rollout roll-back" in asked
    assert "rollout abort" not in asked
    site.next_day(GOOD, 20)
    assert (site.state, standing(site.history).promoted) == ("held", True)
    site.order("resume")
    site.next_day(GOOD, 6)
    assert site.state == "full"
    site.next_day(GOOD)
    assert site.state == "retired"


@pytest.mark.parametrize(
    ("phase", "action", "says"),
    [
        ("full", "approve", "nothing to approve"),
        ("full", "abort", "roll-back"),
        ("step 1", "resume", "not held"),
        ("held", "hold", "rollout resume"),
        ("comparing", "approve", "mode 'canary'"),
    ],
)
def test_an_order_that_does_not_fit_says_what_does(
    phase: str, action: OrderAction, says: str
) -> None:
    site = site_in(phase)
    with pytest.raises(PermanentFailureError, match=says):
        site.order(action)


@pytest.mark.parametrize("action", get_args(OrderAction))
@pytest.mark.parametrize("end", sorted(ENDED))
def test_an_ended_rollout_takes_no_order(end: State, action: OrderAction) -> None:
    site = Site(AB if end == "reported" else CANARY)
    if end == "aborted":
        site.order("abort")
    else:
        site.next_day(WORSE if end == "rolled_back" else GOOD, 14)
    assert site.state == end
    with pytest.raises(PermanentFailureError, match="register the version"):
        site.order(action)
    assert site.decide(WORSE, tripped=[CRASH]) is None


def test_orders_and_starts_name_somebody_and_something() -> None:
    with pytest.raises(PermanentFailureError, match="who gives it"):
        Order("hold", " ")
    with pytest.raises(PermanentFailureError, match="approve, resume"):
        Order("launch", "Anna")  # type: ignore[arg-type]
    now = datetime(2026, 3, 1, tzinfo=UTC)
    with pytest.raises(PermanentFailureError, match="who starts it"):
        start("r", "old", "new", FIRST, now, CANARY, "")
    with pytest.raises(PermanentFailureError, match="champion already"):
        start("r", "old", "old", FIRST, now, CANARY, "Anna")


def test_a_history_with_a_gap_is_refused() -> None:
    site = Site()
    site.next_day(QUIET, 3)
    with pytest.raises(PermanentFailureError, match="rows of the table"):
        standing([*site.history[:1], *site.history[2:]])
    with pytest.raises(PermanentFailureError, match="rows of the table"):
        standing([])


def test_a_sentence_says_the_numbers_and_what_follows() -> None:
    site = Site()
    site.next_day(GOOD)
    site.next_day(QUIET)
    assert site.last.sentence == (
        "After 1 day at 1 % of the cameras, false alarms per camera-day are 0.0312 (12 in 385 "
        "camera-days) of challenger new and 0.0297 (11 in 370 camera-days) of champion old, an "
        "estimated ratio of 1.04, e-values 0.9 for worse and 1.1 for less than 2 times as many "
        "(20 decides): not decided yet, it goes on for up to 13 days."
    )


def test_a_judgement_survives_json() -> None:
    known = Judgement(math.inf, 2.5, {"alarms": math.inf, "delay": 0.0}, None, 2.0)
    back = Judgement.from_dict(json.loads(json.dumps(known.as_dict(), allow_nan=False)))
    assert back == Judgement(LARGEST, 2.5, {"alarms": LARGEST, "delay": 0.0}, None, 2.0)
    assert Judgement.from_dict(back.as_dict()) == back


@pytest.mark.parametrize("value", [math.nan, -0.1])
def test_a_broken_e_value_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="alarms"):
        Judgement(1.0, 1.0, {"alarms": value}, None, 2.0)


# Whatever happens.

# Mostly quiet days: where much happens at once, few rollouts get beyond their first step.
e_values = st.sampled_from(
    [GOOD] * 12 + [QUIET] * 6 + [None, WORSE, (19.99, 0.0), (0.0, 19.99), (math.inf, math.inf)]
)
kind_orders: tuple[OrderAction, ...] = ("approve", "resume", "hold")
moves = st.fixed_dictionaries(
    {
        "days": st.sampled_from([1, 1, 1, 1, 3, 0]),
        "e": e_values,
        "order": st.sampled_from(
            [*[None] * 40, *kind_orders * 3, "roll_back", "abort"],
        ),
        "tripped": st.sampled_from([*[()] * 60, (CRASH,)]),
    }
)
sites = st.builds(
    Site,
    settings=st.sampled_from(
        [
            CANARY,
            AB,
            RolloutSettings(mode="ab", ab_days=3),
            RolloutSettings(keep_days=0, steps=(StepSettings(max_days=2),)),
            RolloutSettings(steps=(StepSettings(max_days=2), StepSettings(share=1.0, max_days=3))),
        ]
    ),
    library=st.sampled_from([FINE, FINE, FINE, FEW, FEWER, None]),
)


def walk(site: Site, steps: Sequence[dict[str, Any]]) -> None:
    """Live through `steps`; orders that do not fit are refused and change nothing."""
    for step in steps:
        if step["days"]:
            site.day = (site.day or FIRST - timedelta(days=1)) + timedelta(days=step["days"])
        order = step["order"] and Order(step["order"], "Anna", "so")
        try:
            site.decide(step["e"], order=order, tripped=step["tripped"])
        except PermanentFailureError:
            site.decide(step["e"], tripped=step["tripped"])


@given(site=sites, steps=st.lists(moves, max_size=30))
def test_whatever_happens_the_share_grows_only_by_a_verdict_or_an_order(
    site: Site, steps: list[dict[str, Any]]
) -> None:
    walk(site, steps)
    history = site.history
    assert [one.number for one in history] == list(range(len(history)))
    for place, (before, after) in enumerate(pairwise(history), start=1):
        look, order, _ = machine.given(after)
        assert before.state not in ENDED
        assert after.day >= before.day
        assert after.effective_day == after.day + timedelta(days=1)
        if after.share > before.share:
            assert after.action in ("next", "promote")
            enough = look.judgement is not None and look.judgement.e_not_worse >= 20
            assert enough or (order is not None and order.action == "approve")
            assert not look.tripped
        if after.action == "look":
            assert (after.state, after.step, after.share) == (
                before.state,
                before.step,
                before.share,
            )
            assert after.day > standing(history[:place]).looked
        if before.state == "held" and after.state not in ("held", "rolled_back"):
            assert order is not None
        if after.state in ("rolled_back", "aborted", "reported"):
            assert after.share == 0
        assert (after.held_from is not None) == (after.state == "held")
        assert after.held_from == standing(history[: place + 1]).held_from
    assert (waits_for(history) is not None) == (site.state == "held")


@given(site=sites, steps=st.lists(moves, max_size=30))
def test_a_rollout_is_replayed_from_its_rows(site: Site, steps: list[dict[str, Any]]) -> None:
    walk(site, steps)
    # As the lake keeps them.
    stored = [
        dataclasses.replace(one, numbers=json.loads(json.dumps(one.numbers, allow_nan=False)))
        for one in site.history
    ]
    assert standing(stored) == standing(site.history)
    pairs = replay(stored, lambda number: machine.given(stored[number]), site.settings)
    assert len(pairs) == len(stored)
    for one in pairs:
        assert one.outcome == "equal"
        assert one.recomputed == one.recorded


@given(site=sites, steps=st.lists(moves, min_size=1, max_size=15), cut=st.integers(0, 14))
def test_a_run_killed_on_the_way_ends_in_the_same_decisions(
    site: Site, steps: list[dict[str, Any]], cut: int
) -> None:
    again = Site(site.settings, site.library)
    walk(site, steps)
    walk(again, steps[:cut])
    if cut:
        # The killed run's last look comes once more: its decision is there already.
        repeated = dict(steps[min(cut, len(steps)) - 1], days=0, order=None, tripped=())
        ordered = again.last.number and again.last.numbers["order"] is not None
        if not ordered:
            known = len(again.history)
            walk(again, [repeated])
            assert len(again.history) == known
    walk(again, steps[cut:])
    outcomes = {compare(*pair) for pair in zip(site.history, again.history, strict=True)}
    assert outcomes == {"equal"}


def test_a_replay_shows_a_decision_that_was_changed_by_hand() -> None:
    site = Site()
    site.next_day(QUIET, 2)
    forged = dataclasses.replace(site.last, state="full", share=1.0)
    history = [*site.history[:-1], forged]
    pairs = replay(history, lambda number: machine.given(history[number]), CANARY)
    assert [one.outcome for one in pairs] == ["equal", "equal", "differs"]


def test_a_replay_tells_other_numbers_from_another_decision() -> None:
    site = Site()
    site.next_day(QUIET, 2)
    history = list(site.history)
    reworded = history[1].sentence.replace("0.9 for worse", "0.91 for worse")
    history[1] = dataclasses.replace(history[1], sentence=reworded)
    pairs = replay(history, lambda number: machine.given(history[number]), CANARY)
    wanted = ["equal", "same decision, other numbers", "equal"]
    assert [one.outcome for one in pairs] == wanted


@pytest.mark.parametrize(
    "order", [{"action": "launch", "by": "Anna"}, {"action": "hold", "to": 1}, "hold", {}]
)
def test_a_forged_order_differs_and_breaks_nothing(order: object) -> None:
    site = Site()
    site.order("hold")
    forged = dataclasses.replace(site.last, numbers=dict(site.last.numbers, order=order))
    history = [site.history[0], forged]
    pairs = replay(history, lambda number: machine.given(history[number]), CANARY)
    assert [one.outcome for one in pairs] == ["equal", "differs"]


def test_an_order_of_before_orders_had_ids_is_replayed() -> None:
    site = Site()
    site.order("hold", "so")
    old = dict(site.last.numbers, order={"action": "hold", "by": "Anna", "why": "so"})
    del old["library_missing"]
    history = [site.history[0], dataclasses.replace(site.last, numbers=old)]
    pairs = replay(history, lambda number: machine.given(history[number]), CANARY)
    assert [one.outcome for one in pairs] == ["equal", "equal"]


def test_a_replay_shows_rows_after_the_end_as_ones_that_should_not_be() -> None:
    site = Site()
    site.next_day(WORSE)
    late = dataclasses.replace(
        site.last,
        number=2,
        numbers=dict(site.last.numbers, order=dataclasses.asdict(Order("abort", "Anna"))),
    )
    history = [*site.history, late]
    pairs = replay(history, lambda number: machine.given(history[number]), CANARY)
    assert (pairs[-1].recorded, pairs[-1].recomputed) == (late, None)
    assert pairs[-1].outcome == "differs"
    with pytest.raises(ValueError, match="no look"):
        machine.given(history[0])


def test_the_schema_registry_knows_every_state_and_place() -> None:
    assert set(ROLLOUT_STATES) == set(get_args(State))
    assert set(ROLLOUT_PLACES) == set(get_args(Place))
