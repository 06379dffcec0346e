"""What comes next about a drift, and when. Pure.

Here: the next step of every episode, from what was written down and what is known. Not here: which
answers a cause takes (`plans.py`), how far they are (`progress.py`), episodes (`episodes.py`),
reading, writing and carrying out (`pipeline.answers`), launching runs (the Dagster layer).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal

from fall_assets.drift.episodes import Episode
from fall_assets.drift.plans import ASKABLE, ORDER, PLANS, Answer, Plan
from fall_assets.drift.progress import Progress, Row, State, by_episode, fold
from fall_assets.drift.words import plural

WEEK: Final = timedelta(days=7)
_CUT_AFTER: Final = timedelta(seconds=1)
"""A run cuts its training set later than this after it was asked for."""
_CHANCE: Final = 0.1
"""What a candidate loses counts as more than chance where chance brings so much less often."""
_LOST_RUN: Final = timedelta(days=2)
"""A run that Dagster does not know any more counts as failed after this."""


@dataclass(frozen=True)
class AnswerSettings:
    """How patient the loop is; the table `[retraining]` of `site.toml`.

    Attributes:
        cooldown_days: between the starts of two retrainings.
        max_per_week: retrainings in any seven days.
        clear_days: judged days in a row without the cause that end an episode.
        join_days: a camera with the same cause joins an episode within so many days.
        patience_days: so long a technician has to clean a lens or turn a camera back.
        normalise_days: reported days on which the tests must be quiet for resampling to suffice.
        normalise_tests: tests of people and scores that this takes.
        normalise_wait_days: after so many days without them it counts as not shown.
        labels_wanted: labelled intervals of the drifted cameras that are asked for.
        label_days: learning goes on with what there is after this.
        repeat_days: the same cause on the same camera is learned from without a person's word once
            in so many days.
        approval: answers that wait for a person: some of `ASKABLE`.
    """

    cooldown_days: float = 2.0
    max_per_week: int = 2
    clear_days: int = 2
    join_days: int = 5
    patience_days: float = 5.0
    normalise_days: int = 2
    normalise_tests: int = 10
    normalise_wait_days: int = 7
    labels_wanted: int = 50
    label_days: float = 7.0
    repeat_days: float = 30.0
    approval: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        least = {
            **dict.fromkeys(("clear_days", "normalise_days", "normalise_tests"), 1),
            **dict.fromkeys(("labels_wanted",), 1),
        }
        for name, value in vars(self).items():
            if name != "approval" and value < least.get(name, 0):
                raise ValueError(f"{name} must be at least {least.get(name, 0)}, not {value}")
        unknown = sorted(set(self.approval) - set(ASKABLE))
        if unknown:
            raise ValueError(
                f"approval may hold {', '.join(ASKABLE)}, not {', '.join(map(repr, unknown))}"
            )


@dataclass(frozen=True)
class Run:
    """A retraining as Dagster knows it.

    Attributes:
        run_id: its id.
        started_utc: when it was asked for.
        state: 'going' also while it waits for a place or for its retry.
        episode_id: the episode that asked for it; None where a person or a schedule did.
        attempt: the episode's how manieth, from 1.
        detail: what became of it, in words.
    """

    run_id: str
    started_utc: datetime
    state: Literal["going", "succeeded", "failed"]
    episode_id: str | None = None
    attempt: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Normalised:
    """What resampling did, on the drifted cameras since the change.

    `possible` says whether the feature set can (a picture is not smaller, a rate not lower than
    the trained one), `how` says it in words with numbers; `days` reported days with `tests` tests
    of people and scores, of which `drifted`; `largest` is the largest effect (1 is just felt).
    """

    possible: bool
    how: str
    days: int = 0
    tests: int = 0
    drifted: int = 0
    largest: float = 0.0


@dataclass(frozen=True)
class Learned:
    """What a retraining brought; `new_clips` are of drifted cameras since the drift."""

    model_run: str
    version: str
    new_clips: int
    old_clips: int


@dataclass(frozen=True)
class Counts:
    """Falls found and false alarms of candidate and champion on the same footage."""

    cameras: int = 0
    falls: int = 0
    candidate_found: int = 0
    champion_found: int = 0
    camera_days: float = 0.0
    candidate_false_alarms: int = 0
    champion_false_alarms: int = 0

    @property
    def worse(self) -> bool:
        """Whether the candidate misses more falls or raises more false alarms than by chance."""
        missed = (self.falls - self.candidate_found, self.falls - self.champion_found)
        alarms = (self.candidate_false_alarms, self.champion_false_alarms)
        return any(_more_than_chance(*pair) for pair in (missed, alarms))

    def losses(self) -> str:
        """What the candidate loses, in words, and whether so much comes by chance; or nothing."""
        fewer = self.champion_found - self.candidate_found
        more = self.candidate_false_alarms - self.champion_false_alarms
        said = [f"finds {plural(fewer, 'fall')} fewer"] if fewer > 0 else []
        said += [f"raises {plural(more, 'false alarm')} more"] if more > 0 else []
        if not said:
            return ""
        verdict = (
            "more than chance: look before it goes on" if self.worse else "so much comes by chance"
        )
        return f" There it {' and '.join(said)}; {verdict}."

    def words(self) -> str:
        """In words, leading with what a ward feels."""
        if not self.cameras:
            return "nothing labelled to judge by"
        return (
            f"{self.candidate_false_alarms} false alarms in {self.camera_days:.3g} camera-days "
            f"(champion {self.champion_false_alarms}), {self.candidate_found} of {self.falls} "
            f"falls found (champion {self.champion_found})"
        )


def _more_than_chance(mine: int, theirs: int) -> bool:
    """Whether `mine` is more than its half of both, were each as likely to be either's.

    Both counts are of the same footage, so that they differ less by chance than this supposes.
    """
    from scipy.stats import binomtest

    if mine <= theirs:
        return False
    return bool(binomtest(mine, mine + theirs, 0.5, "greater").pvalue < _CHANCE)


@dataclass(frozen=True)
class RolloutState:
    """A rollout of the version that was learned, or that there is none."""

    rollout_id: str = ""
    state: str = ""
    sentence: str = ""
    serves: bool = False
    """Whether the version is the champion."""
    superseded_by: str = ""
    """A version that was registered later and is rolled out in its place."""


@dataclass(frozen=True)
class Facts:
    """What is known besides the rows; only what a next step may ask for must be there.

    Attributes:
        newest_day: the newest reported day.
        runs: the newest retrainings, drift's and others'.
        normalised: by episode.
        labelled: labelled intervals of the episode's cameras since its first day, by episode.
        learned: by Dagster run that succeeded; None: it registered no new version.
        judged: by MLflow run: counts on the episode's cameras and on all others; None without a
            champion beside it.
        rollouts: by model version.
        rollout_running: a sentence, while a rollout is on its way to all cameras.
        rollouts_begin: whether they begin by themselves.
    """

    newest_day: date | None = None
    runs: Sequence[Run] = ()
    normalised: Mapping[str, Normalised] = field(default_factory=dict)
    labelled: Mapping[str, int] = field(default_factory=dict)
    learned: Mapping[str, Learned | None] = field(default_factory=dict)
    judged: Mapping[tuple[str, str], tuple[Counts, Counts] | None] = field(default_factory=dict)
    rollouts: Mapping[str, RolloutState] = field(default_factory=dict)
    rollout_running: str = ""
    rollouts_begin: bool = True


@dataclass(frozen=True)
class Step:
    """What is to be done next of an episode.

    `act` says what must happen beside the row, which is written once it is seen to have happened:
    'retrain' launches a run, 'rollout' begins one. `key` names the act for good: whoever launches
    by it launches each once.
    """

    episode: Episode
    answer: Answer
    state: State
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    act: Literal["", "retrain", "rollout"] = ""
    attempt: int = 0

    @property
    def key(self) -> str:
        """Of its act: the episode, the answer and the attempt."""
        return f"drift-{self.episode.id}-{self.answer}-{self.attempt}"


@dataclass(frozen=True)
class Decision:
    """Steps that can be taken now, at most one per episode, and what the others wait for."""

    steps: tuple[Step, ...]
    waits: tuple[str, ...]

    @property
    def records(self) -> tuple[Step, ...]:
        """Steps that are written down; a retraining is launched instead."""
        return tuple(one for one in self.steps if one.act != "retrain")

    @property
    def retraining(self) -> Step | None:
        """The retraining that starts now, if one does."""
        return next((one for one in self.steps if one.act == "retrain"), None)


def next_steps(
    found: Sequence[Episode],
    rows: Iterable[Row],
    facts: Facts,
    settings: AnswerSettings,
    now: datetime,
) -> Decision:
    """What can be done now, at most one step per episode and one retraining in all.

    A step that is written down may allow the next: call again with its row until nothing is left.

    Args:
        found: all episodes, also those that are over.
        rows: all rows of `drift_answers`.
        facts: see there.
        settings: see there.
        now: with a time zone.
    """
    if now.tzinfo is None:
        raise ValueError("times need a time zone: give them in UTC")
    own = by_episode(rows)
    table = _Table(own, facts, settings, now)
    steps: list[Step] = []
    for episode in sorted(found, key=lambda one: (one.since, one.cause, one.id)):
        step = table.step(episode, fold(own.get(episode.id, ())))
        if step is None or (step.act == "retrain" and any(s.act == "retrain" for s in steps)):
            continue
        steps.append(step)
    return Decision(tuple(steps), tuple(table.waits))


class _Table:
    """The rules, over what is known at one moment."""

    def __init__(
        self,
        rows: Mapping[str, Sequence[Row]],
        facts: Facts,
        settings: AnswerSettings,
        now: datetime,
    ) -> None:
        self.rows = rows
        self.facts = facts
        self.settings = settings
        self.now = now
        self.waits: list[str] = []

    def step(self, episode: Episode, progress: Progress) -> Step | None:
        """The next step of an episode."""
        plan = PLANS[episode.cause]
        if progress.note is None and not episode.open:
            # Over before anybody wrote it down: nothing to answer.
            return None
        annotated = self._annotate(episode, progress, plan)
        if annotated is not None:
            return annotated
        if (row := progress.states.get("normalise")) and row.evidence.get("suffices"):
            return None
        for answer in ORDER[1:]:
            state = progress.state(answer)
            if state == "skipped" and progress.states[answer].evidence.get("over"):
                return None
            if state in ("done", "skipped"):
                continue
            if answer not in plan.answers and answer not in plan.skipped:
                continue
            if state == "refused":
                return None
            if not episode.open and not self._follows(episode, answer, progress):
                return self._over(episode, answer, state)
            if answer in plan.skipped:
                return Step(episode, answer, "skipped", f"Not done: {plan.skipped[answer]}.")
            return self._of(episode, progress, plan, answer, state)
        return self._did_not_suffice(episode, progress)

    def _follows(self, episode: Episode, answer: Answer, progress: Progress) -> bool:
        """Whether an answer finishes what was begun, though the drift is over."""
        if answer == "retrain":
            launched = self._run_of(episode, progress.attempt) is not None
            return launched or progress.state("retrain") == "started"
        return answer in ("evaluate", "rollout") and progress.state("retrain") == "done"

    def _over(self, episode: Episode, answer: Answer, state: State | None) -> Step | None:
        if state == "failed":
            return None
        return Step(
            episode,
            answer,
            "skipped",
            f"Not done: the drift is over since {episode.until}.",
            {"over": True},
        )

    def _of(
        self,
        episode: Episode,
        progress: Progress,
        plan: Plan,
        answer: Answer,
        state: State | None,
    ) -> Step | None:
        if answer == "normalise":
            return self._normalise(episode)
        if answer == "labels":
            return self._labels(episode, progress, plan, state)
        if answer == "retrain":
            return self._retrain(episode, progress, state)
        if answer == "evaluate":
            return self._evaluate(episode, progress)
        return self._rollout(episode, progress, state)

    def _wait(self, episode: Episode, why: str) -> None:
        self.waits.append(f"{episode.cause} since {episode.since} ({episode.id}): {why}")

    # Annotate -----------------------------------------------------------------------------------

    def _annotate(self, episode: Episode, progress: Progress, plan: Plan) -> Step | None:
        until = episode.until.isoformat() if episode.until else None
        note = progress.note
        if (
            note is not None
            and set(note.cameras) >= set(episode.cameras)
            and note.evidence.get("until") == until
        ):
            return None
        where = _cameras(episode.cameras)
        if note is None:
            does = "" if len(plan.answers) > 1 else f" Nothing more is done: {plan.why}."
            asks = f" Please: {plan.technician}" if plan.technician else ""
            words = episode.words or episode.cause
            sentence = f"Since {episode.since}, {where}: {words}.{does}{asks}"
        elif until is not None:
            sentence = f"Over: the last day was {until}, {where}."
        elif note.evidence.get("until") is not None:
            sentence = f"Not over after all, {where}."
        else:
            more = [one for one in episode.cameras if one not in note.cameras]
            sentence = f"More of the same: {_cameras(more)} joined; now {where}."
        evidence = {"until": until, "words": episode.words, "technician": plan.technician}
        return Step(episode, "annotate", "done", sentence, evidence)

    # Normalise ----------------------------------------------------------------------------------

    def _normalise(self, episode: Episode) -> Step | None:
        seen = self.facts.normalised.get(episode.id)
        if seen is None:
            return None
        evidence: dict[str, Any] = dict(vars(seen))
        tests = (
            f"{seen.drifted} of {seen.tests} tests of people and scores drifted on {seen.days} "
            f"days since, the largest effect {seen.largest:.2g} (1 is just felt)"
        )
        enough = (
            seen.days >= self.settings.normalise_days
            and seen.tests >= self.settings.normalise_tests
        )
        newest = self.facts.newest_day or episode.since
        waited = (newest - episode.since).days
        if not seen.possible:
            verdict, suffices = f"Does not suffice: {seen.how}.", False
        elif enough:
            suffices = not seen.drifted
            verdict = f"{'Suffices' if suffices else 'Does not suffice'}: {seen.how}; {tests}."
        elif waited >= self.settings.normalise_wait_days:
            suffices = False
            verdict = f"Could not be shown in {waited} days to suffice: {seen.how}; {tests}."
        else:
            self._wait(episode, f"whether normalising suffices is being watched: {tests}")
            return None
        return Step(episode, "normalise", "done", verdict, {**evidence, "suffices": suffices})

    # Labels -------------------------------------------------------------------------------------

    def _labels(
        self, episode: Episode, progress: Progress, plan: Plan, state: State | None
    ) -> Step | None:
        wanted = self.settings.labels_wanted
        have = self.facts.labelled.get(episode.id, 0)
        where = _cameras(episode.cameras)
        if state in (None, "asked"):
            noted = progress.noted or self.now
            patience = noted + timedelta(days=self.settings.patience_days)
            if plan.patient and self.now < patience:
                self._wait(episode, f"a technician is asked until {_when(patience)}")
                return None
            if "labels" in self.settings.approval:
                return self._ask(episode, "labels", state, f"Shall people label {where}?")
        if state in (None, "approved"):
            sentence = (
                f"The review queue asks for {wanted} labelled intervals of {where} since "
                f"{episode.since}; {have} are there."
            )
            return Step(episode, "labels", "started", sentence, {"wanted": wanted, "have": have})
        evidence = {"wanted": wanted, "have": have}
        if have >= wanted:
            sentence = f"{have} labelled intervals of {where} since {episode.since}."
            return Step(episode, "labels", "done", sentence, evidence)
        row = progress.states["labels"]
        ends = row.at_utc + timedelta(days=self.settings.label_days)
        if state == "started" and self.now >= ends:
            days = f"{self.settings.label_days:g} days"
            if have:
                sentence = f"After {days} {have} of {wanted} labelled intervals: goes on with them."
                return Step(episode, "labels", "done", sentence, evidence)
            sentence = (
                f"After {days} nobody labelled {where}: there is nothing to learn from. It goes on "
                f"once {wanted} intervals are labelled; {_command('approve', episode, 'labels')} "
                "waits anew."
            )
            return Step(episode, "labels", "failed", sentence, evidence)
        self._wait(episode, f"{have} of {wanted} labelled intervals")
        return None

    # Retrain ------------------------------------------------------------------------------------

    def _retrain(self, episode: Episode, progress: Progress, state: State | None) -> Step | None:
        if state == "started":
            return self._learning(episode, progress)
        if state == "failed":
            return None
        # A run that was launched is written down whatever else holds by now.
        launched = self._run_of(episode, progress.attempt)
        if launched is not None:
            return self._started(episode, progress, launched, "")
        if not episode.open:
            return None
        if state in (None, "asked"):
            why = self._why_ask(episode)
            if why or state == "asked":
                return self._ask(episode, "retrain", state, f"Learn again? {why}".strip())
        ready = max(
            progress.states[name].at_utc
            for name in ("labels", "retrain")
            if name in progress.states
        )
        for run in self.facts.runs:
            if run.episode_id == episode.id or run.state == "failed":
                continue
            if run.started_utc > ready - _CUT_AFTER:
                also = " It was started for another reason, and learns from these labels too."
                return self._started(episode, progress, run, also)
        wait = self._not_now(episode)
        if wait:
            self._wait(episode, wait)
            return None
        sentence = (
            f"Learn again: {episode.cause} since {episode.since}, {_cameras(episode.cameras)}."
        )
        return Step(
            episode, "retrain", "started", sentence, act="retrain", attempt=progress.attempt
        )

    def _run_of(self, episode: Episode, attempt: int) -> Run | None:
        """The run of an attempt, where it was launched."""
        return self._newest(episode.id, attempt)

    def _newest(self, episode_id: str | None, attempt: int) -> Run | None:
        """The newest run of an episode's attempt: a retry follows the run that died."""
        own = [
            run
            for run in self.facts.runs
            if episode_id is not None and (run.episode_id, run.attempt) == (episode_id, attempt)
        ]
        return max(own, key=lambda run: (run.state != "failed", run.started_utc), default=None)

    def _started(self, episode: Episode, progress: Progress, run: Run, also: str) -> Step:
        sentence = f"Retraining {run.run_id[:8]} learns from old and new footage.{also}"
        evidence = {
            "run_id": run.run_id,
            "started_utc": run.started_utc.isoformat(),
            "attempt": progress.attempt,
            "shared": run.episode_id != episode.id,
        }
        return Step(episode, "retrain", "started", sentence, evidence)

    def _learning(self, episode: Episode, progress: Progress) -> Step | None:
        row = progress.states["retrain"]
        run_id = str(row.evidence["run_id"])
        run = next((one for one in self.facts.runs if one.run_id == run_id), None)
        if run is not None:
            run = self._newest(run.episode_id, run.attempt) or run
        again = f" {_command('approve', episode, 'retrain')} tries once more."
        if run is None:
            if self.now - row.at_utc < _LOST_RUN:
                return None
            sentence = f"Dagster does not know run {run_id[:8]} any more.{again}"
            return Step(episode, "retrain", "failed", sentence, {"run_id": run_id})
        evidence: dict[str, Any] = {"run_id": run.run_id}
        if run.state == "going":
            self._wait(episode, f"run {run.run_id[:8]} learns")
            return None
        if run.state == "failed":
            detail = f": {run.detail}" if run.detail else ""
            sentence = f"Retraining {run.run_id[:8]} failed{detail}.{again}"
            return Step(episode, "retrain", "failed", sentence, evidence)
        if run.run_id not in self.facts.learned:
            return None
        learned = self.facts.learned[run.run_id]
        if learned is None:
            sentence = f"Retraining {run.run_id[:8]} registered no new version.{again}"
            return Step(episode, "retrain", "failed", sentence, evidence)
        sentence = (
            f"Version {learned.version} learned from {learned.new_clips} clips of "
            f"{_cameras(episode.cameras)} since {episode.since}, and from {learned.old_clips} of "
            "all other cameras and days."
        )
        return Step(episode, "retrain", "done", sentence, {**evidence, **vars(learned)})

    def _why_ask(self, episode: Episode) -> str:
        """Why a person is asked before learning; empty where nobody is."""
        if "retrain" in self.settings.approval:
            return f"{episode.cause} since {episode.since}, {_cameras(episode.cameras)}."
        near = timedelta(days=self.settings.repeat_days)
        for episode_id, own in self.rows.items():
            other = fold(own)
            if (
                episode_id != episode.id
                and other.note is not None
                and other.note.cause == episode.cause
                and set(other.note.cameras) & set(episode.cameras)
                and other.learned is not None
                and self.now - other.learned < near
            ):
                return (
                    f"It was learned from the same cause on these cameras on "
                    f"{other.learned:%Y-%m-%d} ({episode_id}), and it came back."
                )
        return ""

    def _not_now(self, episode: Episode) -> str:
        """Why no retraining may start now; empty where one may."""
        if not episode.standing:
            return "the newest judged day does not confirm it"
        if self.facts.rollout_running:
            return self.facts.rollout_running
        if any(run.state == "going" for run in self.facts.runs):
            return "another retraining is under way"
        started = self._starts()
        if started:
            ready = started[-1] + timedelta(days=self.settings.cooldown_days)
            if self.now < ready:
                return f"the cool-down lasts until {_when(ready)}"
        recent = sum(self.now - moment < WEEK for moment in started)
        if recent >= self.settings.max_per_week:
            return (
                f"{recent} retrainings in the last seven days, the limit is "
                f"{self.settings.max_per_week}"
            )
        return ""

    def _starts(self) -> list[datetime]:
        """When drift's retrainings started, from what is written down and from Dagster."""
        starts = {
            run.run_id: run.started_utc for run in self.facts.runs if run.episode_id is not None
        }
        for own in self.rows.values():
            for row in own:
                if row.answer == "retrain" and row.state == "started":
                    if row.evidence.get("shared"):
                        continue
                    moment = datetime.fromisoformat(str(row.evidence["started_utc"]))
                    starts.setdefault(str(row.evidence["run_id"]), moment)
        return sorted(starts.values())

    # Evaluate -----------------------------------------------------------------------------------

    def _evaluate(self, episode: Episode, progress: Progress) -> Step | None:
        learned = progress.states.get("retrain")
        if learned is None or learned.state != "done":
            return None
        key = (episode.id, str(learned.evidence["model_run"]))
        if key not in self.facts.judged:
            return None
        version = learned.evidence["version"]
        sides = self.facts.judged[key]
        if sides is None:
            sentence = f"Version {version} was judged beside no champion: nothing to compare."
            return Step(episode, "evaluate", "skipped", sentence)
        new, old = sides
        sentence = (
            f"Version {version} on the drifted cameras since the drift: {new.words()}. On the "
            f"{old.cameras} others: {old.words()}.{old.losses()}"
        )
        evidence = {"version": version, "new": vars(new), "old": vars(old), "worse": old.worse}
        return Step(episode, "evaluate", "done", sentence, evidence)

    # Rollout ------------------------------------------------------------------------------------

    def _rollout(self, episode: Episode, progress: Progress, state: State | None) -> Step | None:
        learned = progress.states["retrain"]
        version = str(learned.evidence["version"])
        seen = self.facts.rollouts.get(version)
        if seen is None or state == "failed":
            return None
        evidence = {"version": version, "rollout_id": seen.rollout_id, "state": seen.state}
        if state == "started" or seen.state:
            if state != "started":
                sentence = f"Rollout {seen.rollout_id} of version {version}: {seen.sentence}"
                return Step(episode, "rollout", "started", sentence, evidence)
            if seen.serves or seen.state in ("full", "retired"):
                sentence = f"Version {version} serves all cameras: {seen.sentence}"
                return Step(episode, "rollout", "done", sentence, evidence)
            if seen.state in ("rolled_back", "aborted"):
                again = _command("approve", episode, "retrain")
                sentence = (
                    f"Version {version} does not serve: {seen.sentence} {again} learns once more."
                )
                return Step(episode, "rollout", "failed", sentence, evidence)
            self._wait(episode, f"rollout {seen.rollout_id} is in state {seen.state}")
            return None
        if seen.serves:
            sentence = f"Version {version} serves: a person promoted it."
            return Step(episode, "rollout", "done", sentence, evidence)
        if seen.superseded_by:
            sentence = f"Version {seen.superseded_by} is rolled out in place of {version}."
            return Step(episode, "rollout", "skipped", sentence, evidence)
        if self.facts.rollouts_begin:
            self._wait(episode, f"version {version} waits for its rollout")
            return None
        if state == "approved":
            return Step(
                episode,
                "rollout",
                "started",
                f"The rollout of version {version} begins, as a person said.",
                evidence,
                act="rollout",
                attempt=progress.attempt,
            )
        return self._ask(episode, "rollout", state, f"Shall version {version} be rolled out?")

    def _did_not_suffice(self, episode: Episode, progress: Progress) -> Step | None:
        """What is asked where the version that learned from a drift still reports it."""
        rollout = progress.states.get("rollout")
        if rollout is None or rollout.state != "done" or not episode.standing:
            return None
        version = str(rollout.evidence["version"])
        days = episode.days_by.get(version, 0)
        if not days:
            return None
        text = (
            f"Retraining did not suffice: version {version} learned from it and serves, and "
            f"reports it on {days} days. Learn again?"
        )
        return self._ask(episode, "retrain", None, text)

    def _ask(self, episode: Episode, answer: Answer, state: State | None, text: str) -> Step | None:
        if state == "asked":
            self._wait(episode, f"a person is asked: {_command('approve', episode, answer)}")
            return None
        sentence = (
            f"{text} Say {_command('approve', episode, answer)} or "
            f"{_command('refuse', episode, answer)}."
        )
        return Step(episode, answer, "asked", sentence)


def _command(word: str, episode: Episode, answer: Answer) -> str:
    return f"`fall-assets drift {word} {episode.id} {answer}`"


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _cameras(cameras: Sequence[str]) -> str:
    """Cameras in words; of many the first and the number."""
    if len(cameras) == 1:
        return f"camera {cameras[0]}"
    if len(cameras) <= 4:
        return f"cameras {', '.join(cameras)}"
    return f"{len(cameras)} cameras ({', '.join(cameras[:3])} and others)"
