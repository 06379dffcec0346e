"""Answers to drift: what is known, what is written down, and what is carried out.

What belongs here: reading the lake for `drift.answers`, writing the table `drift_answers`, a
person's word. What does not: which answer follows (`drift.answers`), launching retrainings and
knowing how they went (the Dagster layer, which hands in the runs).

The table only grows, a row per change of state. Who decides reads it, and who writes holds the
site's lock `drift-answers`: a call that is repeated, or that follows one that was killed, writes
what is missing and nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from fall_assets.drift.answers import (
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
from fall_assets.drift.episodes import Episode, Note, ReportedDay, Sighting, episodes
from fall_assets.drift.plans import ASKABLE, PLANS, Answer
from fall_assets.drift.progress import Progress, Row, State, by_episode, fold, notes_of
from fall_assets.errors import PermanentFailureError
from fall_assets.labelling.automatic import SOURCE as AUTOMATIC
from fall_assets.lake.registry import table
from fall_assets.pipeline.drift_records import read_rows
from fall_assets.pipeline.locks import locked
from fall_assets.pipeline.rollout import begin, rollouts
from fall_assets.pipeline.training_sets import load_training_set
from fall_assets.pipeline.work import Work

WINDOW_DAYS = 42
"""Reported days that are read; of what began before, the rows of `drift_answers` tell."""

_LOCK = "drift-answers"
_LOCK_WAIT_S = 300.0
_OF_PEOPLE = ("pose", "score")
_NOT_ORDINARY = frozenset({"clock", "skew"})
"""Causes that stay wrong however long they last; they never become ordinary."""


@dataclass(frozen=True)
class Standing:
    """What the lake tells of drift at one moment."""

    days: tuple[ReportedDay, ...]
    episodes: tuple[Episode, ...]
    rows: tuple[Row, ...]

    @property
    def newest_day(self) -> date | None:
        """The newest reported day."""
        return max((one.day for one in self.days), default=None)

    def progress(self, episode_id: str) -> Progress:
        """How far an episode is."""
        return fold(row for row in self.rows if row.episode_id == episode_id)


@dataclass(frozen=True)
class Answered:
    """What a call of `answer_drift` wrote, and what is left: what waits, and a retraining."""

    rows: tuple[Row, ...]
    decision: Decision
    episodes: tuple[Episode, ...]


def read_standing(work: Work) -> Standing:
    """The episodes of the newest `WINDOW_DAYS` reported days, and what was done about them.

    The cost does not grow with the history: older days are not read. An episode that was over and
    is not reported in that time is not in it.
    """
    rows = read_rows(work)
    notes = notes_of(rows)
    days = work.lake.days("drift_report")[-WINDOW_DAYS:]
    if not days:
        return Standing((), (), tuple(rows))
    reports = work.lake.read("drift_report", days=days, columns=["day", "model_version"])
    # Of a day that was reported of several versions, the newest version's report counts.
    versions: dict[date, str] = {}
    for day, version in reports.iter_rows():
        versions[day] = max(versions.get(day, version), version, key=_number)
    names = ("day", "model_version", "camera_id", "cause", "since", "confirmed", "words")
    causes = work.lake.read("drift_causes", days=days, columns=names)
    sightings = [Sighting(**row) for row in causes.iter_rows(named=True)]
    lasting = [note for note in notes if note.until is None or note.until >= days[0]]
    concerned = {one.camera_id for one in sightings} | {
        camera for note in lasting for camera in note.cameras
    }
    judged = _judged(work, days, sorted(concerned)) if concerned else {}
    reported = tuple(
        ReportedDay(day, version, frozenset(judged.get((day, version), ())))
        for day, version in sorted(versions.items())
    )
    settings = work.site.settings.retraining
    found = episodes(
        reported,
        sightings,
        lasting,
        clear_days=settings.clear_days,
        join_days=settings.join_days,
    )
    return Standing(reported, (*_forgotten(notes, lasting), *found), tuple(rows))


def _forgotten(notes: Sequence[Note], lasting: Sequence[Note]) -> Iterator[Episode]:
    """Episodes that were over before the window; a retraining of theirs may still be followed."""
    for note in notes:
        if note not in lasting:
            yield Episode(
                note.episode_id,
                note.cause,
                tuple(sorted(note.cameras)),
                note.since,
                note.until,
                note.model_version,
                False,
            )


def _judged(
    work: Work, days: Sequence[date], cameras: Sequence[str]
) -> dict[tuple[date, str], set[str]]:
    """Which of some cameras were judged on which day, by which version."""
    seen = work.lake.read(
        "drift_signals",
        days=days,
        columns=["day", "model_version", "camera_id"],
        where=pl.col("camera_id").is_in(cameras),
    ).unique()
    found: dict[tuple[date, str], set[str]] = {}
    for day, version, camera in seen.iter_rows():
        found.setdefault((day, version), set()).add(camera)
    return found


def decide(
    work: Work,
    now: datetime,
    runs: Sequence[Run] = (),
    learned: Mapping[str, str | None] | None = None,
) -> Decision:
    """What can be done about drift now; nothing is written.

    Args:
        work: the site.
        now: with a time zone.
        runs: the newest retrainings, as Dagster knows them.
        learned: version that each run registered; None where it registered no new one.
    """
    return _decide(work, read_standing(work), now, runs, learned or {})


def answer_drift(
    work: Work,
    now: datetime,
    runs: Sequence[Run] = (),
    learned: Mapping[str, str | None] | None = None,
) -> Answered:
    """Write down and carry out all that can be done about drift now, but for retrainings.

    Those the Dagster layer launches, from the decision that is returned; once they are among
    `runs`, they are written down here. Called twice, the second call writes nothing.

    Args: as of `decide`.

    Raises:
        BusyError: another call is under way.
        PermanentFailureError: a rollout that a person approved cannot begin.
    """
    written: list[Row] = []
    with locked(work, _LOCK, wait_s=_LOCK_WAIT_S):
        standing = read_standing(work)
        begun: set[str] = set()
        while True:
            decision = _decide(work, standing, now, runs, learned or {})
            rolled = [
                one for one in decision.records if one.act == "rollout" and one.key not in begun
            ]
            for step in rolled:
                begun.add(step.key)
                begin(
                    work,
                    str(step.evidence["version"]),
                    by=f"drift {step.episode.id}",
                    order_id=step.key,
                    now=now,
                )
            rows = _rows(standing, [one for one in decision.records if not one.act], now)
            if rows:
                _write(work, rows)
                written += rows
                for row in rows:
                    work.log(f"{row.answer} {row.state}: {row.sentence}")
                standing = replace(standing, rows=(*standing.rows, *rows))
            elif not rolled:
                return Answered(tuple(written), decision, standing.episodes)


def approve(
    work: Work, episode_id: str, answer: Answer, by: str, why: str = "", now: datetime | None = None
) -> Row:
    """Write down that a person lets an answer go on; the sensor takes it from there.

    A failed answer is tried once more, a retraining also where its version was not rolled out.

    Raises:
        PermanentFailureError: there is no such episode, or the answer waits for nobody.
    """
    return _say(work, episode_id, answer, "approved", by, why, now)


def refuse(
    work: Work, episode_id: str, answer: Answer, by: str, why: str = "", now: datetime | None = None
) -> Row:
    """Write down that a person does not want an answer; those after it are not given either.

    What drifted then counts as looked at, and becomes ordinary.

    Raises:
        PermanentFailureError: there is no such episode, or the answer was given already.
    """
    return _say(work, episode_id, answer, "refused", by, why, now)


def _say(
    work: Work,
    episode_id: str,
    answer: Answer,
    state: State,
    by: str,
    why: str,
    now: datetime | None,
) -> Row:
    now = now or datetime.now(UTC)
    with locked(work, _LOCK, wait_s=_LOCK_WAIT_S):
        rows = read_rows(work)
        own = by_episode(rows)
        if episode_id not in own:
            known = ", ".join(note.episode_id for note in notes_of(rows)) or "none"
            raise PermanentFailureError(f"no episode {episode_id!r}; there are: {known}")
        if answer not in ASKABLE:
            raise PermanentFailureError(
                f"{answer} asks nobody; a person decides on {', '.join(ASKABLE)}"
            )
        progress = fold(own[episode_id])
        here = progress.state(answer)
        open_to: tuple[State | None, ...] = ("asked", "refused", "failed")
        if state == "refused":
            open_to = (None, "asked", "approved", "failed")
        again = (
            answer == "retrain" and state == "approved" and progress.state("rollout") == "failed"
        )
        if here not in open_to and not again:
            raise PermanentFailureError(
                f"{answer} of {episode_id} is {here or 'not begun'}: there is nothing to be {state}"
            )
        assert progress.note is not None  # noqa: S101 - an episode's first row is its annotation
        reason = f": {why}" if why else "."
        said = "lets it go on" if state == "approved" else "does not want it"
        row = Row(
            _later(now, rows),
            episode_id,
            progress.note.model_version,
            progress.note.cause,
            progress.note.cameras,
            progress.note.since,
            answer,
            state,
            f"{by} {said}{reason}",
            {"by": by, "why": why},
        )
        _write(work, [row])
    return row


def accepted_changes(work: Work, model_version: str) -> list[tuple[str, date, date]]:
    """Changes under a champion after which nothing remains to be done: they are ordinary now.

    That is what was only to be told of, what resampling was shown to suffice for, and what a
    person refused to have learned. A camera that has another drift that is not so is left out:
    its days are not ordinary.

    Returns:
        Camera, first and last day; the last is the newest reported one while it lasts.
    """
    standing = read_standing(work)
    newest = standing.newest_day
    accepted: list[tuple[str, date, date]] = []
    other: list[tuple[str, date, date]] = []
    for episode in standing.episodes:
        progress = standing.progress(episode.id)
        if newest is None or (progress.note is None and not episode.open):
            continue
        ours = accepted if _is_accepted(episode, progress) else other
        if ours is other or model_version in (episode.model_version, *episode.days_by):
            until = episode.until or newest
            ours += [(camera, episode.since, until) for camera in episode.cameras]
    return [
        (camera, since, until)
        for camera, since, until in sorted(accepted)
        if not any(camera == one and since <= last and first <= until for one, first, last in other)
    ]


def _is_accepted(episode: Episode, progress: Progress) -> bool:
    if progress.note is None or episode.cause in _NOT_ORDINARY:
        return False
    row = progress.states.get("normalise")
    if row is not None and row.evidence.get("suffices"):
        return True
    if any(progress.state(answer) == "refused" for answer in ("labels", "retrain")):
        return True
    return PLANS[episode.cause].answers == ("annotate",)


# Deciding -----------------------------------------------------------------------------------------


def _decide(
    work: Work,
    standing: Standing,
    now: datetime,
    runs: Sequence[Run],
    learned: Mapping[str, str | None],
) -> Decision:
    facts = _facts(work, standing, runs, learned)
    return next_steps(standing.episodes, standing.rows, facts, work.site.settings.retraining, now)


def _facts(
    work: Work, standing: Standing, runs: Sequence[Run], versions: Mapping[str, str | None]
) -> Facts:
    """What the next steps may ask for, and no more: most ticks read nothing here."""
    normalised: dict[str, Normalised] = {}
    labelled: dict[str, int] = {}
    learned: dict[str, Learned | None] = {}
    judged: dict[tuple[str, str], tuple[Counts, Counts] | None] = {}
    followed: set[str] = set()
    learns = False
    for episode in standing.episodes:
        progress = standing.progress(episode.id)
        plan = PLANS[episode.cause]
        if progress.note is None or (episode.until and progress.state("retrain") is None):
            continue
        if "normalise" in plan.answers and progress.state("normalise") is None:
            normalised[episode.id] = _normalised(work, standing, episode)
        if "labels" in plan.answers and progress.state("labels") not in ("done", "skipped"):
            labelled[episode.id] = _labelled(work, episode)
        row = progress.states.get("retrain")
        learns = learns or (episode.open and (row is None or row.state != "done"))
        if row is not None and row.state == "started":
            for run_id in {str(row.evidence["run_id"]), *_runs_of(runs, episode)}:
                if run_id in versions:
                    learned[run_id] = _learned(work, episode, versions[run_id])
        if row is not None and row.state == "done":
            if progress.state("evaluate") is None:
                model_run = str(row.evidence["model_run"])
                judged[episode.id, model_run] = _sides(work, episode, model_run)
            if progress.state("rollout") not in ("done", "failed", "skipped", "refused"):
                followed.add(str(row.evidence["version"]))
    settings = work.site.settings
    return Facts(
        newest_day=standing.newest_day,
        runs=runs,
        normalised=normalised,
        labelled=labelled,
        learned=learned,
        judged=judged,
        rollouts=_rollout_states(work, followed) if followed else {},
        rollout_running=_running(work) if learns else "",
        rollouts_begin=settings.rollout.automatic,
    )


def _runs_of(runs: Sequence[Run], episode: Episode) -> Iterator[str]:
    return (run.run_id for run in runs if run.episode_id == episode.id)


def _normalised(work: Work, standing: Standing, episode: Episode) -> Normalised:
    """Whether the feature set evens the change out, by its settings and by the tests since."""
    detector = work.site.settings.features.detector
    since = [one.day for one in standing.days if one.day >= episode.since]
    ours = pl.col("camera_id").is_in(list(episode.cameras))
    videos = work.lake.read("videos", days=since, columns=["width", "height", "fps"], where=ours)
    side, rate = detector.picture.long_side, detector.sample_hz
    possible, how = True, "no footage of these cameras since"
    if not videos.is_empty():
        longest = int(videos.select(pl.max_horizontal("width", "height").min()).item())
        fps = float(videos["fps"].to_numpy().min())
        # Time stamps jitter: a camera at 9.9 Hz still gives a frame to nearly every sample.
        possible = longest >= side and fps >= 0.95 * rate
        how = (
            f"pictures of {longest} px and more are scaled to {side} px, {fps:.3g} and more frames "
            f"a second are sampled at {rate:g} Hz"
        )
        if longest < side:
            how = f"pictures of {longest} px hold less than the {side} px that were learned from"
        elif not possible:
            how = f"{fps:.3g} frames a second are fewer than the {rate:g} that were learned from"
    tests = work.lake.read(
        "drift_signals",
        days=since,
        columns=["day", "model_version", "drifted", "effect"],
        # A figure that could not be tested says nothing for it.
        where=ours & pl.col("kind").is_in(_OF_PEOPLE) & pl.col("p_value").is_not_null(),
    )
    return Normalised(
        possible,
        how,
        tests["day"].n_unique(),
        tests.height,
        int(tests["drifted"].sum()),
        float(tests["effect"].fill_null(0.0).to_numpy().max(initial=0.0)),
    )


def _labelled(work: Work, episode: Episode) -> int:
    """Intervals that people labelled of the cameras since the drift began."""
    days = [day for day in work.lake.days("labels") if day >= episode.since]
    rows = work.lake.read(
        "labels",
        days=days,
        columns=["label_id", "interval_id"],
        where=(pl.col("source") != AUTOMATIC) & pl.col("camera_id").is_in(list(episode.cameras)),
    )
    return rows.select(pl.coalesce("interval_id", "label_id").n_unique()).item() if days else 0


def _learned(work: Work, episode: Episode, version: str | None) -> Learned | None:
    """What a version learned from: clips of the drifted cameras since the drift, and all others."""
    if version is None:
        return None
    known = work.lake.read("registered_model").filter(pl.col("model_version") == version)
    if known.is_empty():
        return None
    row = known.sort("registered_utc").row(-1, named=True)
    clips = load_training_set(work, row["training_set_id"]).columns(("day", "camera_id"))
    new = clips.filter(
        pl.col("day") >= episode.since, pl.col("camera_id").is_in(list(episode.cameras))
    ).height
    return Learned(row["run_id"], version, new, clips.height - new)


def _sides(work: Work, episode: Episode, model_run: str) -> tuple[Counts, Counts] | None:
    """Candidate and champion on the drifted cameras since, and on all others, from `comparison`."""
    # Counts stand beside every figure: one figure's rows are one row per camera.
    rows = work.lake.read(
        "comparison",
        where=(pl.col("run_id") == model_run)
        & pl.col("slice").is_in(["camera", "changed"])
        & (pl.col("figure") == "sensitivity"),
    )
    if rows.is_empty():
        return None
    rows = rows.filter(pl.col("evaluated_utc") == pl.col("evaluated_utc").max())
    ours, since = pl.col("value").is_in(list(episode.cameras)), pl.col("slice") == "changed"
    return _counts(rows.filter(ours & since)), _counts(rows.filter(~ours & ~since))


def _counts(rows: pl.DataFrame) -> Counts:
    names = (
        *("falls", "candidate_found", "champion_found"),
        *("candidate_false_alarms", "champion_false_alarms"),
    )
    sums: dict[str, Any] = {name: int(rows[name].sum()) for name in names}
    return Counts(cameras=rows.height, camera_days=float(rows["camera_days"].sum()), **sums)


def _rollout_states(work: Work, versions: Iterable[str]) -> dict[str, RolloutState]:
    """Rollouts of some versions; the newest of each."""
    known = {one.challenger: one for one in rollouts(work)}
    registered = work.lake.read(
        "registered_model", columns=["model_version", "alias", "registered_utc"]
    ).sort("registered_utc")
    serving = registered.filter(pl.col("alias") == "champion")["model_version"].to_list()
    order = registered["model_version"].unique(maintain_order=True).to_list()
    states = {}
    for version in versions:
        later = order[order.index(version) + 1 :] if version in order else []
        one = known.get(version)
        newer = next((name for name in later if name in known), "")
        if one is None:
            by_hand = bool(serving) and serving[-1] == version
            states[version] = RolloutState(serves=by_hand, superseded_by=newer)
            continue
        states[version] = RolloutState(one.id, one.last.state, one.last.sentence, one.here.promoted)
    return states


def _running(work: Work) -> str:
    """In words, that a version is on its way to all cameras; empty where none is."""
    known = rollouts(work)
    if known and not known[-1].here.ended and not known[-1].here.promoted:
        one = known[-1]
        return f"rollout {one.id} of version {one.challenger} is in state {one.last.state}"
    settings = work.site.settings.rollout
    registered = work.lake.read(
        "registered_model", columns=["model_version", "alias", "registered_utc"]
    )
    if registered.is_empty() or not settings.automatic or settings.mode == "ab":
        return ""
    newest = registered.sort("registered_utc").row(-1, named=True)
    tried = {one.challenger for one in known}
    if newest["alias"] != "challenger" or newest["model_version"] in tried:
        return ""
    return f"version {newest['model_version']} waits for its rollout"


# Writing ------------------------------------------------------------------------------------------


def _rows(standing: Standing, steps: Sequence[Step], now: datetime) -> list[Row]:
    rows: list[Row] = []
    for step in steps:
        one = step.episode
        rows.append(
            Row(
                _later(now, [*standing.rows, *rows]),
                one.id,
                one.model_version,
                one.cause,
                one.cameras,
                one.since,
                step.answer,
                step.state,
                step.sentence,
                step.evidence,
            )
        )
    return rows


def _later(now: datetime, rows: Sequence[Row]) -> datetime:
    """A moment after all rows: their order is the order in which they were written."""
    newest = max((row.at_utc for row in rows), default=None)
    return now if newest is None else max(now, newest + timedelta(microseconds=1))


def _write(work: Work, rows: Sequence[Row]) -> None:
    frame = pl.DataFrame(
        [
            {
                **vars(row),
                "cameras": json.dumps(row.cameras),
                "evidence": json.dumps(row.evidence, sort_keys=True, default=str),
                "run_id": work.run_id,
            }
            for row in rows
        ],
        schema=table("drift_answers").schema,
    )
    work.lake.append("drift_answers", frame, work.provenance())


def _number(version: str) -> tuple[int, str]:
    """Order of versions: the registry counts them."""
    return (int(version), "") if version.isdigit() else (-1, version)
