"""What staff say of alerts, and of falls that raised none.

What belongs here: recording and reading answers and reports. What does not: what is learned from
them (see `labelling/queue.py`).

A detector's labels come from its alerts, so that falls which it never sees would never be labelled:
it would count as better than it is, and learn only what it knows. Staff find such falls, and report
most of them: three in four stand in a hospital's incident reports (Hill et al., Measuring Falls
Events in Acute Hospitals, J Am Geriatr Soc 2010; doi 10.1111/j.1532-5415.2010.02856.x).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal, get_args

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import one_row, table
from fall_assets.pipeline.work import Work

Verdict = Literal["fall", "no_fall", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

_LONGEST_MIN: Final = 1440


class FeedbackError(PermanentFailureError):
    """An answer that cannot be recorded: the message says why."""


def answer_alert(
    work: Work, alert_id: str, verdict: Verdict, *, by: str, now: datetime | None = None
) -> None:
    """Record what staff found when they came to an alert; the newest answer counts.

    Raises:
        FeedbackError: there is no such alert, no such verdict, or nobody is named.
    """
    if verdict not in VERDICTS:
        raise FeedbackError(f"verdict {verdict!r} is not known; there are: {', '.join(VERDICTS)}")
    if not by.strip():
        raise FeedbackError("name who answers")
    named = [
        work.lake.scan(name).filter(pl.col("alert_id") == alert_id).select("alert_id")
        for name in ("alerts", "edge_alerts")
    ]
    if pl.concat(named).collect().is_empty():
        raise FeedbackError(f"no alert {alert_id!r}; `fall-assets alerts list` names them")
    row = {
        "alert_id": alert_id,
        "at_utc": datetime.now(UTC) if now is None else now.astimezone(UTC),
        "by": by.strip(),
        "verdict": verdict,
    }
    work.lake.append("alert_feedback", one_row("alert_feedback", row), work.provenance())


def report_fall(
    work: Work,
    camera_id: str,
    found: datetime,
    *,
    by: str,
    within_min: float = 10.0,
    now: datetime | None = None,
) -> str:
    """Record a fall that staff found and no alert told of; reported twice, it counts once.

    Args:
        work: the site.
        camera_id: a camera of the room.
        found: when it happened at the latest, with its zone.
        by: who reports it: a name or a role.
        within_min: it happened so many minutes before that at the earliest.
        now: when it is reported.

    Returns:
        The report's id.

    Raises:
        FeedbackError: there is no such camera, nobody is named, or the time has no zone, lies in
            the future, or is no stretch of at most a day.
    """
    reported = (now or datetime.now(UTC)).astimezone(UTC)
    if found.tzinfo is None:
        raise FeedbackError(f"{found} has no zone: give one, such as {found.isoformat()}+01:00")
    until = found.astimezone(UTC)
    if until > reported:
        raise FeedbackError(f"{until} lies in the future; give the time at which it was found")
    if not 0 < within_min <= _LONGEST_MIN:
        raise FeedbackError(f"{within_min} minutes before it was found; give 1 to {_LONGEST_MIN}")
    if not by.strip():
        raise FeedbackError("name who reports")
    cameras = work.lake.read("cameras", columns=["camera_id"])["camera_id"]
    if camera_id not in cameras:
        raise FeedbackError(
            f"there is no camera {camera_id!r}; there are: {', '.join(cameras.sort().head(20))}"
        )
    report = {
        "camera_id": camera_id,
        "from_utc": until - timedelta(minutes=within_min),
        "until_utc": until,
        "by": by.strip(),
        "reported_utc": reported,
        "number": None,
    }
    return keep_reports(work, [report])[0]


def keep_reports(work: Work, reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Store reports of falls, each with all columns of `reported_falls` but its id; their ids.

    Of two that tell of one camera and minute, the last stays.
    """
    if not reports:
        return []
    rows = [
        {**report, "report_id": _report_id(report["camera_id"], report["until_utc"])}
        for report in reports
    ]
    schema = table("reported_falls").schema
    frame = pl.DataFrame(rows, schema=schema).unique("report_id", keep="last", maintain_order=True)
    work.lake.upsert("reported_falls", frame, work.provenance())
    return [row["report_id"] for row in rows]


def _report_id(camera_id: str, until: datetime) -> str:
    named = f"{camera_id} {until.isoformat(timespec='minutes')}"
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def reported_falls(work: Work, days: Sequence[date]) -> pl.DataFrame:
    """Reports of falls that may have happened on some days: rows of `reported_falls`."""
    wanted = [day + timedelta(days=late) for day in days for late in (0, 1)]
    rows = work.lake.read("reported_falls", where=pl.col("until_utc").dt.date().is_in(wanted))
    return rows.filter(
        pl.col("from_utc").dt.date().is_in(list(days))
        | pl.col("until_utc").dt.date().is_in(list(days))
    )


def answered_alerts(work: Work, *, newest_days: int) -> pl.DataFrame:
    """Alerts of the newest days that have any, newest first, with the newest answer.

    Columns: those of `alerts`, and `verdict`, `by`, `answered_utc` (null where nobody answered).
    """
    days = work.lake.days("alerts")[-newest_days:] if newest_days > 0 else []
    alerts = work.lake.read("alerts", days=days)
    answers = (
        work.lake.read("alert_feedback")
        .sort("at_utc")
        .group_by("alert_id")
        .last()
        .rename({"at_utc": "answered_utc"})
    )
    return alerts.join(answers, on="alert_id", how="left").sort("raised_utc", descending=True)
