"""How far the answers to a drift are: the fold of what was written down. Pure.

What was done is a list of rows that only grows (the table `drift_answers`); the state of an episode
is the fold of its rows, so that whoever is killed, or asks twice, finds what is left to do and no
more. Not here: what comes next (`answers.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from fall_assets.drift.episodes import Note
from fall_assets.drift.plans import ORDER, Answer, Plan

State = Literal["asked", "approved", "refused", "started", "done", "failed", "skipped"]


@dataclass(frozen=True)
class Row:
    """A change of state: a row of the table `drift_answers`."""

    at_utc: datetime
    episode_id: str
    model_version: str
    cause: str
    cameras: tuple[str, ...]
    since: date
    answer: Answer
    state: State
    sentence: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far an episode is: the fold of its rows.

    Attributes:
        note: the newest annotation.
        states: the newest row of each answer, those of an earlier attempt left out.
        labels_asked: when labels were first asked for.
        attempt: of the retraining, from 1.
        attempted: whether this attempt was started.
        noted: when the drift was first written down.
        learned: when the first retraining started.
    """

    note: Row | None
    states: Mapping[Answer, Row]
    attempt: int = 1
    attempted: bool = False
    noted: datetime | None = None
    learned: datetime | None = None

    def state(self, answer: Answer) -> State | None:
        """Of an answer; None where nothing was written of it in this attempt."""
        row = self.states.get(answer)
        return row.state if row else None


def fold(rows: Iterable[Row]) -> Progress:
    """The progress of one episode from its rows.

    A skip because the drift was over is taken back by the next annotation that says it is not.
    """
    note: Row | None = None
    states: dict[Answer, Row] = {}
    before: dict[Answer, Row | None] = {}
    attempt, attempted = 1, False
    noted: datetime | None = None
    learned: datetime | None = None
    for row in sorted(rows, key=lambda one: (one.at_utc, ORDER.index(one.answer))):
        if row.answer == "annotate":
            if row.evidence.get("until") is None:
                for answer, earlier in before.items():
                    if earlier is None:
                        states.pop(answer, None)
                    else:
                        states[answer] = earlier
                before = {}
            note, noted = row, noted or row.at_utc
        elif row.answer == "retrain" and row.state in ("asked", "approved") and attempted:
            attempt, attempted = attempt + 1, False
            states.pop("evaluate", None)
            states.pop("rollout", None)
        if row.state == "skipped" and row.evidence.get("over"):
            before[row.answer] = states.get(row.answer)
        states[row.answer] = row
        if row.answer == "retrain" and row.state == "started":
            attempted, learned = True, learned or row.at_utc
    return Progress(note, states, attempt, attempted, noted, learned)


def by_episode(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of each episode, oldest first."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda one: (one.at_utc, ORDER.index(one.answer))):
        found.setdefault(row.episode_id, []).append(row)
    return found


def notes_of(rows: Iterable[Row]) -> list[Note]:
    """What was last written down of each episode, for `episodes.episodes`."""
    notes = []
    for episode_id, own in by_episode(rows).items():
        progress = fold(own)
        if progress.note is None:
            continue
        until = progress.note.evidence.get("until")
        notes.append(
            Note(
                episode_id,
                progress.note.cause,
                frozenset(progress.note.cameras),
                progress.note.since,
                date.fromisoformat(until) if until else None,
                progress.note.model_version,
                progress.learned.date() if progress.learned else None,
            )
        )
    return notes


def is_settled(progress: Progress, plan: Plan) -> bool:
    """Whether nothing more follows by itself, until the drift is over or a person says so."""
    if progress.note is None:
        return False
    row = progress.states.get("normalise")
    if row is not None and row.evidence.get("suffices"):
        return True
    for answer in plan.answers[1:]:
        state = progress.state(answer)
        if state in ("refused", "failed"):
            return True
        if state not in ("done", "skipped"):
            return False
    return True
