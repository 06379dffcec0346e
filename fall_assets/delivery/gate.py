"""The gate before the registry: is this candidate good enough, and no worse than what serves?

Pure: figures in, a verdict in words out. Not here: computing the figures (`learning.metrics`) or
registering the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GateSettings:
    """Floors that every model must reach, and how much worse than the champion it may be.

    The limit on false alarms is loose because a first evaluation rests on minutes of footage, where
    one alarm is several per hour; a site with hours of it should set it far lower.
    `max_sensitivity_loss` is in absolute terms (0.05: from 0.90 to 0.85 at worst),
    `max_false_alarm_increase` is relative (0.25: a quarter more). On little footage one alarm is a
    large share, so that `false_alarm_slack` further alarms are always allowed.
    """

    min_sensitivity: float = 0.5
    max_false_alarms_per_hour: float = 60.0
    max_sensitivity_loss: float = 0.05
    max_false_alarm_increase: float = 0.25
    false_alarm_slack: int = 1


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate may enter the registry, and every reason, good and bad."""

    passed: bool
    reasons: tuple[str, ...]

    @property
    def text(self) -> str:
        """All in one sentence."""
        return f"{'passed' if self.passed else 'refused'}: {'; '.join(self.reasons)}"


def judge_candidate(
    candidate: Mapping[str, Any],
    champion: Mapping[str, Any] | None,
    settings: GateSettings | None = None,
) -> Verdict:
    """Judge a candidate by its row of the table `evaluation` with slice 'all'.

    `champion` is the champion's row on the same training set, or None where nothing serves yet.
    Needed of both: sensitivity, false_alarms_per_hour (each may be None or absent, NaN counts as
    missing), camera_days, falls; training_set_id is compared where both have it. What is missing
    for the candidate refuses it, since an unproved model is no good one; what is missing for the
    champion leaves that comparison out and says so.
    """
    settings = settings or GateSettings()
    good: list[str] = []
    bad: list[str] = []

    def note(fine: bool, text: str) -> None:
        (good if fine else bad).append(text)

    sensitivity = _figure(candidate, "sensitivity")
    alarms = _figure(candidate, "false_alarms_per_hour")
    if sensitivity is None:
        bad.append("no falls among the clips, so that its sensitivity is unknown: label some")
    else:
        fine = sensitivity >= settings.min_sensitivity
        note(
            fine,
            f"sensitivity {sensitivity:.3f} ({candidate.get('found', '?')} of "
            f"{candidate.get('falls', '?')} falls) is {'at least' if fine else 'below'} the floor "
            f"{settings.min_sensitivity:.3f}",
        )
    if alarms is None:
        bad.append("no footage was judged, so that its false alarms are unknown")
    else:
        fine = alarms <= settings.max_false_alarms_per_hour
        note(
            fine,
            f"{alarms:.2f} false alarms per hour ({alarms * 24:.1f} per camera-day) are "
            f"{'at most' if fine else 'over'} the limit {settings.max_false_alarms_per_hour:.2f}",
        )
    if champion is None:
        good.append("there is no champion to compare with")
        return Verdict(not bad, (*bad, *good))

    sets = {row.get("training_set_id") for row in (candidate, champion)} - {None}
    if len(sets) > 1:
        bad.append("candidate and champion were judged on different clips: judge both on the same")
        return Verdict(False, (*bad, *good))
    served = _figure(champion, "sensitivity")
    if served is None:
        good.append("the champion's sensitivity is unknown, not compared")
    elif sensitivity is not None:
        loss = served - sensitivity
        note(
            loss <= settings.max_sensitivity_loss + 1e-9,
            f"sensitivity {sensitivity:.3f} against the champion's {served:.3f} "
            f"(at most {settings.max_sensitivity_loss:.3f} less)",
        )
    usual = _figure(champion, "false_alarms_per_hour")
    if usual is None:
        good.append("the champion's false alarms are unknown, not compared")
    elif alarms is not None:
        hours = 24 * (_figure(candidate, "camera_days") or 0.0)
        slack = settings.false_alarm_slack / hours if hours > 0 else 0.0
        allowed = usual + max(usual * settings.max_false_alarm_increase, slack)
        note(
            alarms <= allowed + 1e-9,
            f"{alarms:.2f} false alarms per hour against the champion's {usual:.2f} "
            f"(at most {allowed:.2f})",
        )
    return Verdict(not bad, (*bad, *good))


def _figure(row: Mapping[str, Any], name: str) -> float | None:
    """The figure, or None where it is missing."""
    value = row.get(name)
    return None if value is None or math.isnan(value) else float(value)
