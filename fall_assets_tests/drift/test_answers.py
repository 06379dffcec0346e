"""Answers come in one order, each once, never in a hurry, and only while the drift is there."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from fall_assets.drift.answers import (
    AnswerSettings,
    Counts,
    Decision,
    Facts,
    Learned,
    Normalised,
    RolloutState,
    Run,
    Step,
    next_steps,
)
from fall_assets.drift.episodes import Episode, ReportedDay, Sighting, episodes
from fall_assets.drift.plans import ORDER, PLANS, Answer
from fall_assets.drift.progress import Row, State, by_episode, fold, is_settled, notes_of
from fall_assets.lake.registry import DRIFT_CAUSES

FIRST = date(2026, 3, 1)
NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
SETTINGS = AnswerSettings()


def drifted(cause: str = "exposure", **values: Any) -> Episode:
    known: dict[str, Any] = {
        "id": f"{cause}-1",
        "cause": cause,
        "cameras": ("cam-1",),
        "since": FIRST,
        "until": None,
        "model_version": "1",
        "standing": True,
        "days_by": {"1": 3},
        "words": "it is darker",
    }
    return Episode(**(known | values))


class Life:
    """What a site goes through: rows that are written, and facts that change."""

    def __init__(self, settings: AnswerSettings = SETTINGS, now: datetime = NOON) -> None:
        self.settings = settings
        self.now = now
        self.rows: list[Row] = []
        self.facts = Facts(newest_day=FIRST + timedelta(days=3))

    def look(self, *found: Episode) -> Decision:
        return next_steps(found, self.rows, self.facts, self.settings, self.now)

    def write(self, step: Step, state: State | None = None) -> Row:
        one = step.episode
        newest = max((row.at_utc for row in self.rows), default=self.now)
        at = max(self.now, newest + timedelta(microseconds=1))
        told = (one.id, one.model_version, one.cause, one.cameras, one.since)
        row = Row(at, *told, step.answer, state or step.state, step.sentence, step.evidence)
        self.rows.append(row)
        return row

    def tick(self, *found: Episode) -> Step | None:
        """Write all that can be written; the retraining that is to be launched."""
        for _ in range(50):
            decision = self.look(*found)
            records = [one for one in decision.records if not one.act]
            if not records:
                return decision.retraining
            for step in records:
                self.write(step)
        raise AssertionError("it never comes to rest")

    def launch(self, step: Step, state: str = "going") -> Run:
        run = Run(
            f"run-{len(self.facts.runs) + 1}",
            self.now,
            state,  # type: ignore[arg-type]
            step.episode.id,
            step.attempt,
        )
        self.facts = replace(self.facts, runs=(run, *self.facts.runs))
        return run

    def finish(self, run: Run, version: str) -> None:
        runs = tuple(
            replace(one, state="succeeded") if one == run else one for one in self.facts.runs
        )
        learned = {**self.facts.learned, run.run_id: Learned(f"m{version}", version, 40, 900)}
        self.facts = replace(self.facts, runs=runs, learned=learned)

    def states(self, episode: Episode) -> list[tuple[Answer, State]]:
        rows = by_episode(self.rows).get(episode.id, [])
        return [(row.answer, row.state) for row in rows]

    def says(self, episode: Episode, answer: Answer) -> str:
        return fold(by_episode(self.rows)[episode.id]).states[answer].sentence


def to_retrain(life: Life, *found: Episode) -> Step:
    """Enough labels come in, and learning is due."""
    life.facts = replace(life.facts, labelled={one.id: 60 for one in found})
    step = life.tick(*found)
    assert step is not None
    return step


def to_rollout(life: Life, episode: Episode, version: str = "2") -> None:
    """Learned, judged and waiting for its rollout."""
    life.finish(life.launch(to_retrain(life, episode)), version)
    sides = (
        Counts(1, 4, 4, 1, 0.5, 2, 30),
        Counts(5, 20, 19, 19, 2.5, 8, 9),
    )
    judged = {**life.facts.judged, (episode.id, f"m{version}"): sides}
    life.facts = replace(life.facts, judged=judged)
    assert life.tick(episode) is None


def test_every_cause_has_a_plan_in_the_order_of_answers_with_a_reason() -> None:
    assert set(PLANS) == set(DRIFT_CAUSES)
    for cause, plan in PLANS.items():
        assert plan.answers[0] == "annotate", cause
        assert list(plan.answers) == [one for one in ORDER if one in plan.answers], cause
        assert not set(plan.answers) & set(plan.skipped), cause
        assert plan.why, cause
        # Nothing on the way to a later answer is left out without a reason.
        last = ORDER.index(plan.answers[-1])
        assert {*plan.answers, *plan.skipped} == set(ORDER[: last + 1]), cause


@pytest.mark.parametrize("cause", ["codec", "firmware", "camera_model", "clock", "skew"])
def test_some_causes_are_only_told_of(cause: str) -> None:
    life, episode = Life(), drifted(cause)
    assert life.tick(episode) is None
    assert life.states(episode) == [("annotate", "done")]
    assert "Since 2026-03-01, camera cam-1: it is darker. Nothing more is done" in life.says(
        episode, "annotate"
    )
    assert is_settled(fold(life.rows), PLANS[cause])


def test_the_whole_way_in_order_with_numbers() -> None:
    life, episode = Life(), drifted()
    assert life.tick(episode) is None
    assert life.states(episode) == [
        ("annotate", "done"),
        ("normalise", "skipped"),
        ("labels", "started"),
    ]
    assert "resampling changes neither light" in life.says(episode, "normalise")
    assert "50 labelled intervals of camera cam-1" in life.says(episode, "labels")
    assert life.look(episode).waits == (
        "exposure since 2026-03-01 (exposure-1): 0 of 50 labelled intervals",
    )
    to_rollout(life, episode)
    assert "40 clips of camera cam-1 since 2026-03-01, and from 900 of all other" in life.says(
        episode, "retrain"
    )
    evaluated = life.says(episode, "evaluate")
    assert "2 false alarms in 0.5 camera-days (champion 30), 4 of 4 falls" in evaluated
    assert "On the 5 others: 8 false alarms" in evaluated
    assert "There it" not in evaluated
    life.facts = replace(
        life.facts, rollouts={"2": RolloutState("r1", "shadow", "it watches", False)}
    )
    life.tick(episode)
    life.facts = replace(
        life.facts, rollouts={"2": RolloutState("r1", "full", "all have it", True)}
    )
    life.tick(episode)
    assert life.states(episode)[3:] == [
        ("labels", "done"),
        ("retrain", "started"),
        ("retrain", "done"),
        ("evaluate", "done"),
        ("rollout", "started"),
        ("rollout", "done"),
    ]
    over = replace(episode, until=FIRST + timedelta(days=9), standing=False)
    life.tick(over)
    assert life.states(episode)[-1] == ("annotate", "done")
    assert life.tick(over) is None
    note = notes_of(life.rows)[0]
    assert (note.until, note.learned) == (over.until, NOON.date())


@pytest.mark.parametrize(
    ("others", "says", "worse"),
    [
        (Counts(5, 20, 13, 19), "finds 6 falls fewer; more than chance: look before", True),
        (Counts(5, 525, 516, 518), "finds 2 falls fewer; so much comes by chance.", False),
        (Counts(5, 20, 19, 19, 1, 14, 4), "raises 10 false alarms more; more than chance", True),
        (Counts(5, 20, 18, 19, 1, 5, 4), "finds 1 fall fewer and raises 1 false alarm more", False),
    ],
)
def test_what_the_other_cameras_lose_is_told_with_whether_it_is_chance(
    others: Counts, says: str, *, worse: bool
) -> None:
    life, episode = Life(), drifted()
    life.finish(life.launch(to_retrain(life, episode)), "2")
    sides = (Counts(1, 4, 4, 1), others)
    life.facts = replace(life.facts, judged={(episode.id, "m2"): sides})
    life.tick(episode)
    evaluated = fold(by_episode(life.rows)[episode.id]).states["evaluate"]
    assert says in evaluated.sentence
    assert evaluated.evidence["worse"] is worse


@pytest.mark.parametrize(
    ("seen", "suffices", "says"),
    [
        (Normalised(True, "4K to 256 px", 2, 12, 0, 0.4), True, "Suffices: 4K to 256 px; 0 of 12"),
        (Normalised(True, "4K to 256 px", 2, 12, 1, 2.0), False, "Does not suffice: 4K"),
        (Normalised(False, "5 frames a second"), False, "Does not suffice: 5 frames a second."),
        (Normalised(True, "4K", 1, 12, 0, 0.4), None, ""),
        (Normalised(True, "4K", 2, 9, 0, 0.4), None, ""),
    ],
)
def test_normalising_suffices_where_the_tests_show_it(
    seen: Normalised, suffices: bool | None, says: str
) -> None:
    life, episode = Life(), drifted("resolution")
    life.facts = replace(life.facts, normalised={episode.id: seen})
    life.tick(episode)
    if suffices is None:
        assert life.states(episode) == [("annotate", "done")]
        assert "being watched" in life.look(episode).waits[0]
        life.facts = replace(life.facts, newest_day=FIRST + timedelta(days=7))
        life.tick(episode)
        assert life.says(episode, "normalise").startswith("Could not be shown in 7 days")
        suffices = False
    else:
        assert life.says(episode, "normalise").startswith(says)
    assert (("labels", "started") in life.states(episode)) is not suffices
    assert is_settled(fold(life.rows), PLANS["resolution"]) is suffices


def test_labels_are_waited_for_and_then_it_goes_on_with_what_there_is() -> None:
    life, episode = Life(), drifted()
    life.tick(episode)
    life.facts = replace(life.facts, labelled={episode.id: 3})
    life.now += timedelta(days=6)
    assert life.tick(episode) is None
    life.now += timedelta(days=1, minutes=1)
    assert life.tick(episode) is not None
    assert life.says(episode, "labels") == (
        "After 7 days 3 of 50 labelled intervals: goes on with them."
    )


def test_nothing_is_learned_where_nobody_labelled_until_somebody_does() -> None:
    life, episode = Life(), drifted()
    life.tick(episode)
    life.now += timedelta(days=8)
    assert life.tick(episode) is None
    assert life.states(episode)[-1] == ("labels", "failed")
    life.now += timedelta(days=8)
    assert life.tick(episode) is None
    assert life.states(episode)[-1] == ("labels", "failed")
    assert to_retrain(life, episode).answer == "retrain"


@pytest.mark.parametrize("cause", ["lens_blurred", "view_moved"])
def test_a_technician_comes_first(cause: str) -> None:
    life, episode = Life(), drifted(cause)
    life.facts = replace(life.facts, labelled={episode.id: 60})
    assert life.tick(episode) is None
    assert "Please: " in life.says(episode, "annotate")
    life.now += timedelta(days=4)
    assert life.tick(episode) is None
    assert ("labels", "started") not in life.states(episode)
    mended = replace(episode, until=FIRST + timedelta(days=4), standing=False)
    other = Life()
    other.rows, other.now = list(life.rows), life.now + timedelta(days=9)
    assert other.tick(mended) is None
    assert not any(answer == "retrain" for answer, _ in other.states(episode))
    life.now += timedelta(days=1, minutes=1)
    assert life.tick(episode) is not None


def test_a_retraining_is_launched_by_one_key_until_it_is_written_down() -> None:
    life, episode = Life(), drifted()
    first = to_retrain(life, episode)
    assert first.key == "drift-exposure-1-retrain-1"
    again = life.tick(episode)
    assert again is not None
    assert again.key == first.key
    life.launch(first)
    for _ in range(3):
        assert life.tick(episode) is None
    assert life.states(episode)[-1] == ("retrain", "started")


def test_a_failed_retraining_is_not_tried_again_without_a_person() -> None:
    life, episode = Life(), drifted()
    life.launch(to_retrain(life, episode), "failed")
    for _ in range(3):
        assert life.tick(episode) is None
        life.now += timedelta(days=10)
    assert life.states(episode)[-1] == ("retrain", "failed")
    assert "`fall-assets drift approve exposure-1 retrain`" in life.says(episode, "retrain")
    life.write(Step(episode, "retrain", "approved", "a person"))
    step = life.tick(episode)
    assert step is not None
    assert step.key == "drift-exposure-1-retrain-2"


def test_a_retry_of_a_run_that_died_goes_on_for_it() -> None:
    life, episode = Life(), drifted()
    step = to_retrain(life, episode)
    life.launch(step, "failed")
    life.now += timedelta(minutes=5)
    retry = life.launch(step)
    assert life.tick(episode) is None
    assert life.states(episode)[-1] == ("retrain", "started")
    life.finish(retry, "2")
    life.tick(episode)
    assert ("retrain", "done") in life.states(episode)


def test_one_retraining_answers_all_that_waited_for_it() -> None:
    life = Life()
    one, other = drifted(), drifted("wheelchairs", cameras=("cam-2",))
    run = life.launch(to_retrain(life, one, other))
    assert life.tick(one, other) is None
    shared = fold(by_episode(life.rows)["wheelchairs-1"]).states["retrain"]
    assert shared.evidence["run_id"] == run.run_id
    assert shared.evidence["shared"]
    # Labels that come in later are not learned from by a run that began before.
    life.now += timedelta(days=1, minutes=1)
    late = drifted("pose", cameras=("cam-3",))
    life.facts = replace(life.facts, labelled={late.id: 60})
    assert life.tick(one, other, late) is None
    assert life.states(late)[-1] == ("labels", "done")
    assert "another retraining is under way" in " ".join(life.look(one, other, late).waits)


def test_cool_down_and_the_week_s_limit() -> None:
    settings = AnswerSettings(cooldown_days=1, max_per_week=2)
    life = Life(settings)
    kinds = ["exposure", "pose", "wheelchairs"]
    found: list[Episode] = []
    for number, cause in enumerate(kinds):
        episode = drifted(cause, cameras=(f"cam-{number}",))
        found.append(episode)
        life.facts = replace(life.facts, labelled={one.id: 60 for one in found})
        step = life.tick(*found)
        if number == 2:
            assert step is None
            life.now += timedelta(days=1)
            assert life.tick(*found) is None
            assert "2 retrainings in the last seven days" in life.look(*found).waits[-1]
            life.now = NOON + timedelta(days=7)
            step = life.tick(*found)
        assert step is not None
        assert step.episode == episode
        life.finish(life.launch(step), str(number + 2))
        life.tick(*found)
        life.now += timedelta(hours=12)
        if number == 0:
            early = drifted(kinds[1], cameras=("cam-1",))
            life.facts = replace(life.facts, labelled={one.id: 60 for one in (*found, early)})
            assert life.tick(*found, early) is None
            assert "cool-down lasts until 2026-03-06 12:00" in life.look(*found, early).waits[-1]
            life.now += timedelta(hours=12)


def test_nothing_is_learned_while_it_is_not_confirmed_or_a_rollout_is_on_its_way() -> None:
    life, episode = Life(), drifted(standing=False)
    life.facts = replace(life.facts, labelled={episode.id: 60})
    assert life.tick(episode) is None
    assert "does not confirm" in life.look(episode).waits[0]
    life.facts = replace(life.facts, rollout_running="rollout r1 is in state step")
    standing = replace(episode, standing=True)
    assert life.tick(standing) is None
    assert "rollout r1 is in state step" in life.look(standing).waits[0]


def test_what_is_over_is_not_answered_any_more_but_finished() -> None:
    over = drifted(until=FIRST + timedelta(days=3), standing=False)
    life = Life()
    assert life.tick(over) is None
    assert life.rows == []
    episode = drifted()
    life.tick(episode)
    assert life.tick(over) is None
    assert life.states(over)[-2:] == [("annotate", "done"), ("labels", "skipped")]
    # Not over after all: it goes on where it was, and labels are not asked for twice.
    assert to_retrain(life, episode).answer == "retrain"
    assert life.states(episode).count(("labels", "started")) == 1
    # A retraining that runs is followed to its end.
    run = life.launch(to_retrain(life, episode))
    life.tick(over)
    life.finish(run, "2")
    life.facts = replace(life.facts, judged={(over.id, "m2"): None})
    life.tick(over)
    assert life.states(over)[-2:] == [("retrain", "done"), ("evaluate", "skipped")]


def test_what_was_learned_and_is_still_there_is_asked_of_a_person_once() -> None:
    life, episode = Life(), drifted()
    to_rollout(life, episode)
    life.facts = replace(life.facts, rollouts={"2": RolloutState("r1", "full", "all", True)})
    life.tick(episode)
    assert life.states(episode)[-1] == ("rollout", "done")
    still = replace(episode, days_by={"1": 3, "2": 2})
    for _ in range(5):
        life.now += timedelta(days=10)
        assert life.tick(still) is None
    assert life.states(episode)[-1] == ("retrain", "asked")
    assert life.states(episode).count(("retrain", "asked")) == 1
    assert "version 2 learned from it and serves, and reports it on 2 days" in life.says(
        episode, "retrain"
    )
    life.write(Step(episode, "retrain", "approved", "a person"))
    step = life.tick(still)
    assert step is not None
    assert step.attempt == 2
    life.finish(life.launch(step), "3")
    life.tick(still)
    assert fold(life.rows).state("rollout") is None


def test_the_same_cause_that_comes_back_is_asked_of_a_person() -> None:
    life, episode = Life(), drifted()
    to_rollout(life, episode)
    over = replace(episode, until=FIRST + timedelta(days=5), standing=False)
    life.tick(over)
    life.now += timedelta(days=20)
    back = drifted(id="exposure-2", since=FIRST + timedelta(days=20))
    life.facts = replace(life.facts, labelled={back.id: 60})
    assert life.tick(over, back) is None
    assert life.states(back)[-1] == ("retrain", "asked")
    assert "it came back" in life.says(back, "retrain")
    # Other cameras, or long after, it is learned by itself.
    life.now += timedelta(days=20)
    later = drifted(id="exposure-3", since=FIRST + timedelta(days=40))
    elsewhere = drifted(id="exposure-4", cameras=("cam-9",))
    life.facts = replace(life.facts, labelled={later.id: 60})
    assert life.tick(over, later) is not None
    life.facts = replace(life.facts, labelled={elsewhere.id: 60})
    assert life.tick(over, elsewhere) is not None


@pytest.mark.parametrize("answer", ["labels", "retrain"])
@pytest.mark.parametrize("word", ["approved", "refused"])
def test_approval_is_a_setting(answer: Answer, word: State) -> None:
    life, episode = Life(AnswerSettings(approval=(answer,))), drifted()
    life.facts = replace(life.facts, labelled={episode.id: 60})
    for _ in range(3):
        assert life.tick(episode) is None
        life.now += timedelta(days=1)
    assert life.states(episode)[-1] == (answer, "asked")
    life.write(Step(episode, answer, word, "a person"))
    step = life.tick(episode)
    assert (step is not None) == (word == "approved")
    if word == "refused":
        assert life.states(episode)[-1] == (answer, "refused")


def test_a_rollout_waits_for_a_person_where_none_begins_by_itself() -> None:
    life, episode = Life(), drifted()
    life.facts = replace(life.facts, rollouts_begin=False, rollouts={"2": RolloutState()})
    to_rollout(life, episode)
    assert life.states(episode)[-1] == ("rollout", "asked")
    life.write(Step(episode, "rollout", "approved", "a person"))
    decision = life.look(episode)
    assert [one.act for one in decision.records] == ["rollout"]
    life.facts = replace(life.facts, rollouts={"2": RolloutState("r1", "shadow", "it watches")})
    life.tick(episode)
    assert life.states(episode)[-1] == ("rollout", "started")


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (RolloutState("r1", "rolled_back", "too many alarms"), "failed"),
        (RolloutState("r1", "aborted", "a person"), "failed"),
        (RolloutState("r1", "retired", "all have it", True), "done"),
        (RolloutState(serves=True), "done"),
        (RolloutState(superseded_by="3"), "skipped"),
    ],
)
def test_how_a_rollout_ends(seen: RolloutState, state: State) -> None:
    life, episode = Life(), drifted()
    to_rollout(life, episode)
    life.facts = replace(life.facts, rollouts={"2": seen})
    life.tick(episode)
    assert life.states(episode)[-1] == ("rollout", state)


def test_a_camera_that_joins_is_told_of() -> None:
    life, episode = Life(), drifted()
    life.tick(episode)
    life.tick(replace(episode, cameras=("cam-1", "cam-2")))
    assert "cam-2 joined; now cameras cam-1, cam-2" in life.says(episode, "annotate")
    assert notes_of(life.rows)[0].cameras == {"cam-1", "cam-2"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"approval": ("annotate",)}, "approval may hold labels, retrain, rollout"),
        ({"cooldown_days": -1.0}, "cooldown_days must be at least 0"),
        ({"clear_days": 0}, "clear_days must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AnswerSettings(**wrong)


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Life(now=datetime(2026, 3, 1)).look()


CAUSES = ("exposure", "resolution", "lens_blurred", "codec")
CAMERAS = ("a", "b")


class World(Life):
    """A site whose days are drawn, and whose runs die, are killed and are launched in doubt."""

    def __init__(self, settings: AnswerSettings, chance: random.Random) -> None:
        super().__init__(settings)
        self.chance = chance
        self.days: list[ReportedDay] = []
        self.sightings: list[Sighting] = []
        self.launched: dict[str, datetime] = {}
        self.version = 1

    def live(self, number: int, marks: dict[tuple[str, str], str]) -> None:
        day = FIRST + timedelta(days=number)
        self.now = datetime(day.year, day.month, day.day, 3, tzinfo=UTC) + timedelta(days=1)
        self.days.append(ReportedDay(day, str(self.version)))
        self.sightings += [
            Sighting(day, str(self.version), camera, cause, day, mark == "!", cause)
            for (cause, camera), mark in marks.items()
        ]
        for _ in range(self.chance.randint(0, 4)):
            self.now += timedelta(hours=self.chance.randint(0, 4))
            self.platform()
            self.look_once(number, marks)

    def found(self) -> list[Episode]:
        return episodes(
            self.days[-30:],
            [one for one in self.sightings if one.day >= self.days[-30:][0].day],
            notes_of(self.rows),
            clear_days=self.settings.clear_days,
            join_days=self.settings.join_days,
        )

    def platform(self) -> None:
        """Runs end, versions are registered and rolled out, people label and answer."""
        for run in self.facts.runs:
            if run.state == "going" and self.chance.random() < 0.5:
                if self.chance.random() < 0.3:
                    runs = [
                        replace(one, state="failed") if one == run else one
                        for one in self.facts.runs
                    ]
                    self.facts = replace(self.facts, runs=tuple(runs))
                else:
                    self.version += 1
                    self.finish(run, str(self.version))
        found = self.found()
        versions = [str(number) for number in range(2, self.version + 1)]
        state = self.chance.choice(["shadow", "full", "rolled_back"])
        self.facts = replace(
            self.facts,
            newest_day=self.days[-1].day,
            labelled={one.id: self.chance.choice([0, 3, 60]) for one in found},
            normalised={
                one.id: Normalised(
                    True,
                    "",
                    self.chance.randint(0, 3),
                    self.chance.randint(0, 20),
                    self.chance.randint(0, 1),
                )
                for one in found
            },
            judged={(one.id, f"m{name}"): None for one in found for name in versions},
            rollouts={name: RolloutState("r", state, state, state == "full") for name in versions},
        )
        for one in found:
            progress = fold(by_episode(self.rows).get(one.id, ()))
            for answer in ("labels", "retrain"):
                if progress.state(answer) == "asked" and self.chance.random() < 0.3:
                    word = self.chance.choice(["approved", "refused"])
                    self.write(Step(one, answer, word, "a person"))  # type: ignore[arg-type]

    def look_once(self, number: int, marks: dict[tuple[str, str], str]) -> None:
        """A tick; it may be killed anywhere, and two may look at the same moment."""
        found = self.found()
        decision = self.look(*found)
        assert self.look(*found) == decision
        for step in decision.records:
            if self.chance.random() < 0.2:
                return
            self.write(step)
        asked = decision.retraining
        if asked is None or self.chance.random() < 0.2:
            return
        assert asked.key not in self.launched
        assert asked.episode.standing
        # It is confirmed on that very day.
        assert any(
            mark == "!" and cause == asked.episode.cause and camera in asked.episode.cameras
            for (cause, camera), mark in marks.items()
        )
        self.launched[asked.key] = self.now
        self.launch(asked)


_marks = st.dictionaries(
    st.tuples(st.sampled_from(CAUSES), st.sampled_from(CAMERAS)),
    st.sampled_from(["!", "!", "?"]),
    max_size=4,
)


@given_settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    story=st.lists(st.tuples(st.integers(1, 6), _marks), max_size=8),
    seed=st.integers(0, 2**32),
    cooldown=st.sampled_from([0.0, 1.0, 3.5]),
    weekly=st.integers(0, 3),
    approval=st.sampled_from([(), ("retrain",), ("labels", "retrain")]),
)
def test_a_life_of_ticks_and_deaths_keeps_every_promise(
    story: list[tuple[int, dict[tuple[str, str], str]]],
    seed: int,
    cooldown: float,
    weekly: int,
    approval: tuple[str, ...],
) -> None:
    settings = AnswerSettings(
        cooldown_days=cooldown,
        max_per_week=weekly,
        approval=approval,
        label_days=2.0,
        patience_days=1.0,
        repeat_days=5.0,
    )
    world = World(settings, random.Random(seed))
    number = 0
    for length, marks in story:
        for _ in range(length):
            world.live(number, marks)
            number += 1
    for rows in by_episode(world.rows).values():
        states = [(row.answer, row.state) for row in rows]
        said = states.count(("retrain", "approved"))
        for answer in ORDER:
            more = states.count((answer, "approved")) if answer == "labels" else said
            assert states.count((answer, "started")) <= 1 + more
        begun = [ORDER.index(answer) for answer, _ in dict.fromkeys(states)]
        firsts = list(dict.fromkeys(begun))
        if said <= 1 and ("retrain", "asked") not in states:
            assert firsts == sorted(firsts)
        assert states[0] == ("annotate", "done")
    starts = sorted(world.launched.values())
    for earlier, later in pairwise(starts):
        assert later - earlier >= timedelta(days=cooldown)
    for moment in starts:
        week = [one for one in starts if timedelta(0) <= moment - one < timedelta(days=7)]
        assert len(week) <= weekly
