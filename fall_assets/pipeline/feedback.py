"""What staff say of alerts.

What belongs here: recording and reading answers. What does not: what is learned from them (see
`labelling/queue.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, get_args

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import one_row
from fall_assets.pipeline.work import Work

Verdict = Literal["fall", "no_fall", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


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
