"""What is wrong now, as problems that begin and end.

What belongs here: turning judgements into problems with words, and following each from its
beginning to its end. What does not: judging (`cameras`, `disk`), telling people (`technician`).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from fall_assets.lake.registry import table
from fall_assets.monitoring.cameras import ADVICE, CameraNow, CameraState
from fall_assets.monitoring.disk import Disk, days_until_full
from fall_assets.monitoring.runs import RunFigures
from fall_assets.monitoring.settings import PROBLEMS, HealthSettings

URGENT: Final = frozenset(
    {
        "camera_silent",
        "box_silent",
        "camera_off",
        "camera_dead",
        "camera_blind",
        "camera_frozen",
        "disk_full",
        "gateway_away",
    }
)
"""While one of these lasts, falls are not seen or nobody is told: it is told at night, too."""

CAMERA_KINDS: Final = frozenset(kind for kind in PROBLEMS if kind.startswith(("camera_", "box_")))
DISK_KINDS: Final = frozenset({"disk_filling", "disk_full"})
RUN_KINDS: Final = frozenset({"runs_failed", "run_stuck", "partitions_failed"})

_KIND: Final[Mapping[CameraState, str]] = {
    "stale": "camera_silent",
    "never_seen": "camera_never_seen",
    "off": "camera_off",
    "dead": "camera_dead",
    "blind": "camera_blind",
    "frozen": "camera_frozen",
    "moved": "camera_moved",
    "starved": "camera_starved",
}
_FEW: Final = 5


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        kind: one of PROBLEMS.
        subject: what it is about: a camera, a box, a job, a run, an asset.
        ward: the ward concerned; empty: none in particular.
        since_utc: since when, as far as is known.
        sentence: what is wrong, in words that stay the same while nothing changes.
        advice: what to do.
    """

    kind: str
    subject: str
    ward: str
    since_utc: datetime
    sentence: str
    advice: str


def camera_problems(cameras: Sequence[CameraNow], now: datetime) -> list[Problem]:
    """Of cameras. Where all cameras of a box are silent it is one problem, the box's."""
    expected = [camera for camera in cameras if camera.expected]
    by_box: dict[str, list[CameraNow]] = defaultdict(list)
    for camera in expected:
        if camera.box:
            by_box[camera.box].append(camera)
    silent = {
        box: theirs
        for box, theirs in by_box.items()
        if len(theirs) > 1 and all(camera.state == "stale" for camera in theirs)
    }
    found = [_of_box(box, theirs) for box, theirs in sorted(silent.items())]
    for camera in expected:
        if camera.state == "ok" or (camera.state == "stale" and camera.box in silent):
            continue
        kind = _KIND[camera.state]
        found.append(
            Problem(
                kind,
                camera.camera_id,
                camera.ward,
                camera.since_utc or now,
                f"camera {camera.camera_id} (ward {camera.ward}, room {camera.room}): "
                f"{_OF_CAMERA[kind]}",
                camera.advice,
            )
        )
    return found


_OF_CAMERA: Final[Mapping[str, str]] = {
    "camera_silent": "nothing is heard of it",
    "camera_never_seen": "it never reported",
    "camera_off": "it has no power",
    "camera_dead": "it sends no pictures",
    "camera_blind": "its picture is black",
    "camera_frozen": "it sends the same picture again and again",
    "camera_moved": "it looks elsewhere",
    "camera_starved": "it sends too few pictures",
}


def _of_box(box: str, cameras: Sequence[CameraNow]) -> Problem:
    wards = {camera.ward for camera in cameras}
    names = [camera.camera_id for camera in cameras]
    return Problem(
        "box_silent",
        box,
        wards.pop() if len(wards) == 1 else "",
        max(camera.last_utc for camera in cameras if camera.last_utc is not None),
        f"box {box}: nothing is heard of its {len(names)} cameras: {_listed(names)}",
        ADVICE["stale"],
    )


def disk_problems(
    disk: Disk, growth: float | None, now: datetime, settings: HealthSettings
) -> list[Problem]:
    """Of the site's disk; `growth` in bytes a day, None where nobody knows."""
    days = days_until_full(disk.free, growth)
    advice = (
        "free some of it: give [retention] days in site.toml, run the job maintenance, or add disk"
    )
    if disk.free_share <= settings.disk_full_share:
        said = f"the site's disk is nearly full: at most {settings.disk_full_share:.0%} is free"
        return [Problem("disk_full", "disk", "", now, said, advice)]
    if disk.free_share <= settings.disk_warn_share:
        said = f"the site's disk is filling: at most {settings.disk_warn_share:.0%} is free"
        return [Problem("disk_filling", "disk", "", now, said, advice)]
    if days is not None and days <= settings.disk_warn_days:
        said = (
            f"the site's disk is full within {settings.disk_warn_days:.0f} days if it goes on "
            "filling like this"
        )
        return [Problem("disk_filling", "disk", "", now, said, advice)]
    return []


def run_problems(runs: RunFigures, now: datetime, settings: HealthSettings) -> list[Problem]:
    """Of Dagster's runs and days."""
    found = [
        Problem(
            "runs_failed",
            job,
            "",
            now,
            f"job {job}: {count} run{'s' if count != 1 else ''} failed within "
            f"{settings.failed_hours:g} h",
            "open the run in the Dagster UI: its last error says what to do",
        )
        for job, count in sorted(runs.failed.items())
    ]
    for run in runs.stuck:
        does = "waits to start" if run.state == "queued" else "goes on"
        found.append(
            Problem(
                "run_stuck",
                run.run_id,
                "",
                run.since_utc,
                f"a run of job {run.job} {does} since {run.since_utc:%Y-%m-%d %H:%M} UTC",
                "look whether the Dagster daemon runs, and what the run waits for; end it in the "
                "UI if it hangs",
            )
        )
    for asset, days in sorted(runs.partitions.items()):
        if days:
            found.append(
                Problem(
                    "partitions_failed",
                    asset,
                    "",
                    now,
                    f"{asset}: {len(days)} day{'s' if len(days) != 1 else ''} failed and "
                    f"{'were' if len(days) != 1 else 'was'} not made since: {_listed(days)}",
                    "see to what the failed run says, then materialize these days in the UI",
                )
            )
    return found


def follow(
    before: pl.DataFrame,
    found: Iterable[Problem],
    looked_at: Collection[str],
    now: datetime,
    *,
    settle_min: float,
) -> pl.DataFrame:
    """The rows of `site_health` that are new or other than before.

    A problem begins when it is found; one that is not found any more is gone, and has ended once it
    was gone for `settle_min`. One that comes back before that is the same as it was. Problems of
    kinds that were not `looked_at` stay as they are.

    Args:
        before: rows of `site_health`; those that have ended may be left out.
        found: what is wrong now, each kind and subject once.
        looked_at: kinds of PROBLEMS that `found` is complete of.
        now: the moment, in UTC.
        settle_min: see above.
    """
    standing = {
        (row["kind"], row["subject"]): row
        for row in before.iter_rows(named=True)
        if not has_ended(row, now, settle_min)
    }
    changed: list[Mapping[str, Any]] = []
    seen = set()
    for problem in found:
        key = (problem.kind, problem.subject)
        seen.add(key)
        row = standing.get(key)
        told = {
            "ward": problem.ward,
            "sentence": problem.sentence,
            "advice": problem.advice,
            "gone_utc": None,
        }
        if row is None:
            row = {
                "problem_id": _id(problem, now),
                "kind": problem.kind,
                "subject": problem.subject,
                "since_utc": min(problem.since_utc, now),
                "found_utc": now,
            }
        after = {**row, **told}
        if after != row:
            changed.append(after)
    changed += [
        {**row, "gone_utc": now}
        for key, row in standing.items()
        if key not in seen and row["gone_utc"] is None and row["kind"] in looked_at
    ]
    return pl.DataFrame(changed, schema=table("site_health").schema)


def has_ended(row: Mapping[str, Any], now: datetime, settle_min: float) -> bool:
    """Whether a row of `site_health` is gone for good."""
    gone: datetime | None = row["gone_utc"]
    return gone is not None and now - gone >= timedelta(minutes=settle_min)


def _id(problem: Problem, now: datetime) -> str:
    text = "\n".join((problem.kind, problem.subject, now.isoformat()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _FEW
    return ", ".join(names[:_FEW]) + (f" and {more} more" if more > 0 else "")
