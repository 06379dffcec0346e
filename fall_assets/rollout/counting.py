"""From alarms, falls and watching to evidence: one day of a site.

What belongs here: which alarms are one episode, which were right, whose they were. What does not:
where they come from (`pipeline.rollout_evidence`), what follows from the counts (`judging`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import polars as pl

from fall_assets.learning.events import Event, Fall, match
from fall_assets.rollout.evidence import EVIDENCE_SCHEMA
from fall_assets.rollout.guards import Missed

_MOMENT = pl.Datetime("us", "UTC")

ALARM_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    "camera_id": pl.String(),
    "role": pl.String(),
    "shadow": pl.Boolean(),
    "start_utc": _MOMENT,
    "raised_utc": _MOMENT,
    "verdict": pl.String(),
}
"""Alarms of both versions, and of others ('other') that staff answered; `verdict`: of staff,
'fall', 'no_fall' or 'unsure', null where none."""

FALL_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    "camera_id": pl.String(),
    "start_utc": _MOMENT,
    "end_utc": _MOMENT,
}
"""Falls that somebody labelled, or told of."""

WATCH_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    "camera_id": pl.String(),
    "role": pl.String(),
    "shadow": pl.Boolean(),
    "camera_days": pl.Float64(),
    "abstained_h": pl.Float64(),
}
"""How long each version watched each camera, and could not judge."""

SAME_S: Final = 30.0
"""Alarms of two versions so close together are about the same thing."""


@dataclass(frozen=True)
class _Alarm:
    start_s: float
    raised_s: float
    verdict: str | None


def count_day(
    day: date,
    alarms: pl.DataFrame,
    falls: pl.DataFrame,
    watched: pl.DataFrame,
    strata: Mapping[str, str],
    episode_min: float,
    told: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, list[Missed]]:
    """A day's evidence, a row per camera and version that watched, and falls that were missed.

    An alarm is confirmed where it finds a labelled fall (`events.match`) or staff called it a fall.
    What staff said of one version's alarm holds for the other's within `SAME_S`, since a shadow's
    alarms are shown to nobody.

    A fall that staff told of is seen by a version with an alarm within `SAME_S` of it. It can be
    missed, and that is all it counts for: as its time is that of an alarm, the delays of the
    version that raised the alarm would be too good.

    Args:
        day: UTC.
        alarms: rows as `ALARM_SCHEMA` says, raised on that day.
        falls: rows as `FALL_SCHEMA` says.
        watched: rows as `WATCH_SCHEMA` says.
        strata: of each camera; 'unknown' where it is not in it.
        episode_min: alarms of one version closer than this are one episode.
        told: falls that staff confirmed, by each camera that may have seen them; rows as
            `FALL_SCHEMA` says.
    """
    midnight = datetime.combine(day, time(), UTC)
    by_camera = alarms.partition_by("camera_id", as_dict=True)
    falls_by_camera = falls.partition_by("camera_id", as_dict=True)
    told_by_camera = {} if told is None else told.partition_by("camera_id", as_dict=True)
    rows: list[dict[str, Any]] = []
    missed: list[Missed] = []
    watching = watched.partition_by("camera_id", as_dict=True, maintain_order=True)
    for (camera_id,), own in sorted(watching.items(), key=lambda item: str(item[0])):
        there = list(_alarms(by_camera.get((camera_id,)), midnight))
        truths = _falls(falls_by_camera.get((camera_id,)), midnight)
        found: dict[tuple[str, bool], set[str]] = {}
        for row in own.sort("role", "shadow").iter_rows(named=True):
            who = (row["role"], row["shadow"])
            mine = [alarm for whose, alarm in there if whose == who]
            others = [alarm for whose, alarm in there if whose != who]
            counted, found[who] = _count(mine, others, truths, episode_min)
            rows.append(
                {"day": day, "stratum": strata.get(str(camera_id), "unknown"), **row, **counted}
            )
        live, shadow = ("challenger", False), ("champion", True)
        if live in found and shadow in found:
            overlooked = [
                (fall.start_s, "a labelled fall")
                for fall in truths
                if fall.event_id in found[shadow] - found[live]
            ]
            overlooked += [
                (fall.start_s, "a fall that staff confirmed")
                for fall in _falls(told_by_camera.get((camera_id,)), midnight)
                if not any(_overlap(fall, truth) for truth in truths)
                and _seen(fall, there, shadow)
                and not _seen(fall, there, live)
            ]
            missed += [
                Missed(
                    str(camera_id),
                    (midnight + timedelta(seconds=start_s)).isoformat(timespec="seconds"),
                    what,
                )
                for start_s, what in overlooked
            ]
    schema = dict(EVIDENCE_SCHEMA)
    return pl.DataFrame(rows, schema=schema).select(list(schema)), missed


def _count(
    mine: Sequence[_Alarm], others: Sequence[_Alarm], truths: Sequence[Fall], episode_min: float
) -> tuple[dict[str, Any], set[str]]:
    """Counts of one version on one camera, and the ids of the falls that it found."""
    events = [Event(one.start_s, one.raised_s, one.raised_s, 1.0) for one in mine]
    matching = match(events, truths)
    right = {one.event.raised_s for one in matching.found}
    right |= {one.raised_s for one in matching.repeated}
    verdicts = []
    for alarm in mine:
        said = alarm.verdict or next(
            (
                one.verdict
                for one in others
                if one.verdict and abs(one.raised_s - alarm.raised_s) <= SAME_S
            ),
            None,
        )
        verdicts.append("fall" if alarm.raised_s in right else said)
    episodes: list[list[str | None]] = []
    last_s = float("-inf")
    for alarm, verdict in sorted(
        zip(mine, verdicts, strict=True), key=lambda pair: pair[0].raised_s
    ):
        if alarm.raised_s - last_s >= 60 * episode_min:
            episodes.append([])
        episodes[-1].append(verdict)
        last_s = alarm.raised_s
    confirmed = sum("fall" in episode for episode in episodes)
    dismissed = sum("no_fall" in episode and "fall" not in episode for episode in episodes)
    counts = {
        "alerts": len(episodes),
        "confirmed": confirmed,
        "dismissed": dismissed,
        "delays_s": [round(one.delay_s, 2) for one in matching.found],
    }
    return counts, {one.fall.event_id for one in matching.found}


def _seen(
    fall: Fall, alarms: Sequence[tuple[tuple[str, bool], _Alarm]], who: tuple[str, bool]
) -> bool:
    return any(
        whose == who and fall.start_s - SAME_S <= alarm.raised_s <= fall.end_s + SAME_S
        for whose, alarm in alarms
    )


def _overlap(one: Fall, other: Fall) -> bool:
    return one.start_s - SAME_S <= other.end_s and other.start_s <= one.end_s + SAME_S


def _alarms(
    rows: pl.DataFrame | None, midnight: datetime
) -> Iterator[tuple[tuple[str, bool], _Alarm]]:
    if rows is None:
        return
    for row in rows.sort("raised_utc").iter_rows(named=True):
        yield (
            (row["role"], row["shadow"]),
            _Alarm(
                (row["start_utc"] - midnight).total_seconds(),
                (row["raised_utc"] - midnight).total_seconds(),
                row["verdict"],
            ),
        )


def _falls(rows: pl.DataFrame | None, midnight: datetime) -> list[Fall]:
    """Falls, those that touch each other as one."""
    falls: list[Fall] = []
    for row in rows.sort("start_utc").iter_rows(named=True) if rows is not None else ():
        start_s, end_s = (
            (row[name] - midnight).total_seconds() for name in ("start_utc", "end_utc")
        )
        if falls and start_s - falls[-1].end_s < 1.0:
            last = falls.pop()
            start_s, end_s = last.start_s, max(last.end_s, end_s)
        falls.append(Fall(str(len(falls)), start_s, end_s, end_s))
    return falls
