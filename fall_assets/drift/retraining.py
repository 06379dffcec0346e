"""When drift is answered by learning again: once per drift, never in a hurry. Pure.

Here: the decision from reports and past retrainings. Not here: reading them, launching a run, or
asking a person (the Dagster layer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta


@dataclass(frozen=True)
class DriftDay:
    """What the drift report says of one day (a row of the table `drift_report`)."""

    day: date
    model_version: str
    drifted: bool
    drift_id: str | None
    verdict: str = ""


@dataclass(frozen=True)
class Retraining:
    """A retraining that was started because of drift, whatever became of it."""

    drift_id: str
    started_utc: datetime


@dataclass(frozen=True)
class RetrainingSettings:
    """How patient the loop is.

    A drift must stand in the newest `confirm_days` reported days in a row; between two retrainings
    lie at least `cooldown_days`; in any seven days there are at most `max_per_week`.
    """

    cooldown_days: float = 2.0
    confirm_days: int = 1
    max_per_week: int = 2

    def __post_init__(self) -> None:
        if self.cooldown_days < 0 or self.confirm_days < 1 or self.max_per_week < 0:
            raise ValueError(
                "cooldown_days and max_per_week may not be negative, confirm_days must be at "
                f"least 1; got {self}"
            )


@dataclass(frozen=True)
class Decision:
    """Whether to start a retraining now, for which drift, and why or why not.

    `drift_id` is the drift that is there today, also where nothing is started. It serves as the
    run key: whoever launches runs by it launches each once, even if two ticks decide at once.
    """

    start: bool
    drift_id: str | None
    reason: str


def decide(
    reports: Sequence[DriftDay],
    retrainings: Sequence[Retraining],
    settings: RetrainingSettings,
    now: datetime,
) -> Decision:
    """Whether the newest reported day asks for a retraining that was not started yet.

    `reports` are days of the live champion, in any order; of a day reported twice the last given
    counts. A drift that is no longer in the newest report is over, and days filled in late change
    nothing unless they are the newest. `retrainings` must hold every one that was ever started for
    drift, failed ones too: a drift is answered once, and a run that failed is its retries' matter.
    `now` and the times of retrainings carry a time zone.
    """
    if now.tzinfo is None or any(past.started_utc.tzinfo is None for past in retrainings):
        raise ValueError("times need a time zone: give them in UTC")
    days = [report for _, report in sorted({report.day: report for report in reports}.items())]
    if not days:
        return Decision(False, None, "no drift report yet")
    newest = days[-1]
    drift_id = newest.drift_id
    if not newest.drifted or drift_id is None:
        return Decision(False, None, f"no drift on {newest.day}")
    if any(past.drift_id == drift_id for past in retrainings):
        return Decision(False, drift_id, f"drift {drift_id} was answered before")
    streak = 0
    for report in reversed(days):
        if not report.drifted or report.drift_id != drift_id:
            break
        streak += 1
    if streak < settings.confirm_days:
        return Decision(
            False,
            drift_id,
            f"drift {drift_id} was seen on {streak} of {settings.confirm_days} days that it takes",
        )
    started = sorted(past.started_utc for past in retrainings)
    ready = started[-1] + timedelta(days=settings.cooldown_days) if started else now
    if now < ready:
        return Decision(
            False,
            drift_id,
            f"drift {drift_id} waits until {ready:%Y-%m-%d %H:%M} UTC: the last retraining "
            f"started {started[-1]:%Y-%m-%d %H:%M}, the cool-down is {settings.cooldown_days:g} d",
        )
    recent = sum(now - moment < timedelta(days=7) for moment in started)
    if recent >= settings.max_per_week:
        return Decision(
            False,
            drift_id,
            f"drift {drift_id} waits: {recent} retrainings in the last seven days, the limit is "
            f"{settings.max_per_week}",
        )
    return Decision(True, drift_id, f"drift {drift_id} on {newest.day}: {newest.verdict}")
