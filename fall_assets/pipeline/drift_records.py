"""What was written down of drift: the table `drift_answers`, read by whoever learns or labels.

What belongs here: its rows, and what follows from them alone. What does not: deciding and writing
(`answers`).
"""

from __future__ import annotations

import json
from datetime import date
from typing import cast

from fall_assets.drift.plans import PLANS, Answer
from fall_assets.drift.progress import Row, State, by_episode, fold, is_settled
from fall_assets.pipeline.work import Work


def read_rows(work: Work) -> list[Row]:
    """All rows of `drift_answers`, oldest first: a dozen for each drift that ever was."""
    return [
        Row(
            one["at_utc"],
            one["episode_id"],
            one["model_version"],
            one["cause"],
            tuple(json.loads(one["cameras"])),
            one["since"],
            cast("Answer", one["answer"]),
            cast("State", one["state"]),
            one["sentence"],
            json.loads(one["evidence"]),
        )
        for one in work.lake.read("drift_answers").sort("at_utc").iter_rows(named=True)
    ]


def wanted_cameras(work: Work) -> dict[str, date]:
    """Cameras of which labels are wanted because of drift, each with the drift's first day.

    Those of open episodes whose plan asks for labels and that have not enough of them. Reads the
    table `drift_answers` alone.
    """
    found: dict[str, date] = {}
    for own in by_episode(read_rows(work)).values():
        progress = fold(own)
        note = progress.note
        if (
            note is None
            or note.evidence.get("until") is not None
            or is_settled(progress, PLANS[note.cause])
            or "labels" not in PLANS[note.cause].answers
            or progress.state("labels") in ("done", "skipped", "refused")
        ):
            continue
        for camera in note.cameras:
            found[camera] = min(note.since, found.get(camera, note.since))
    return found


def changed_cameras(work: Work) -> dict[str, date]:
    """Since when each camera sees what it sees now: the newest drift that is, or was, learned from.

    Drifts that went away by themselves, that a person refused to have learned, and those whose plan
    learns nothing are left out. Reads the table `drift_answers` alone.
    """
    found: dict[str, date] = {}
    for own in by_episode(read_rows(work)).values():
        progress = fold(own)
        note = progress.note
        if note is None or "retrain" not in PLANS[note.cause].answers:
            continue
        over = note.evidence.get("until") is not None
        state = progress.state("retrain")
        if state in ("refused", "skipped") or (over and state not in ("started", "done")):
            continue
        for camera in note.cameras:
            found[camera] = max(note.since, found.get(camera, note.since))
    return found
