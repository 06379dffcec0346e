"""The gate before the registry: is this candidate good enough, and no worse than what serves?

Pure: figures in, a verdict in words out. Not here: computing the figures (`learning.metrics`) or
registering the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SliceRules:
    """When a slice holds a candidate back, however good it is over all footage.

    A slice counts where it holds `min_falls` falls (for sensitivity) or `min_hours` of footage
    (for false alarms). It holds the candidate where the loss is over the slack and, over resampled
    scenes, the candidate is worse in `min_worse_share` of them: at 0.95 that is near three falls
    lost and none gained. With many slices some hold by chance even for an equal model; a higher
    share holds less often, and 0 holds on the slack alone.

    Attributes:
        names: slices that are looked at, with blanks between them; empty looks at none.
        min_falls: falls in the slice.
        max_sensitivity_loss: in absolute terms.
        min_hours: hours of footage in the slice.
        max_false_alarm_increase: relative to the champion's.
        false_alarm_slack: so many further alarms are always allowed.
        min_worse_share: 0 to 1.
    """

    names: str = "dataset camera changed view room light body_size hour label"
    min_falls: int = 5
    max_sensitivity_loss: float = 0.05
    min_hours: float = 0.5
    max_false_alarm_increase: float = 0.5
    false_alarm_slack: int = 2
    min_worse_share: float = 0.95


@dataclass(frozen=True)
class GateSettings:
    """Floors that every model must reach, and how much worse than the champion it may be.

    The limit on false alarms is loose because a first evaluation rests on minutes of footage, where
    one alarm is several per hour; a site with hours of it should set it far lower.
    `max_sensitivity_loss` is in absolute terms (0.05: from 0.90 to 0.85 at worst),
    `max_false_alarm_increase` is relative (0.25: a quarter more). On little footage one alarm is a
    large share, so that `false_alarm_slack` further alarms are always allowed.

    Off unless set: `min_sensitivity_low` is a floor for the lower end of the sensitivity's 95 %
    interval, which also asks for enough falls; `max_delay_p95_s` (0: any) limits the delay.
    `slices` are the rules per slice.
    """

    min_sensitivity: float = 0.5
    max_false_alarms_per_hour: float = 60.0
    max_sensitivity_loss: float = 0.05
    max_false_alarm_increase: float = 0.25
    false_alarm_slack: int = 1
    min_sensitivity_low: float = 0.0
    max_delay_p95_s: float = 0.0
    slices: SliceRules = field(default_factory=SliceRules)


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate may enter the registry, and every reason, good and bad.

    `held_by`: the slices that hold it back, as 'room ward-2/4'.
    """

    passed: bool
    reasons: tuple[str, ...]
    held_by: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All in one sentence."""
        return f"{'passed' if self.passed else 'refused'}: {'; '.join(self.reasons)}"


def judge_candidate(
    candidate: Mapping[str, Any],
    champion: Mapping[str, Any] | None,
    settings: GateSettings | None = None,
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> Verdict:
    """Judge a candidate by its row of the table `evaluation` with slice 'all'.

    `champion` is the champion's row on the same training set, or None where nothing serves yet.
    Needed of both: sensitivity, false_alarms_per_hour (each may be None or absent, NaN counts as
    missing), camera_days, falls; training_set_id is compared where both have it. What is missing
    for the candidate refuses it, since an unproved model is no good one; what is missing for the
    champion leaves that comparison out and says so.

    `comparisons` are rows of the table `comparison` of the same two (`learning.slices.compare`):
    slices in which the candidate is worse hold it back, each named in a reason.
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
    if settings.min_sensitivity_low > 0:
        low = _figure(candidate, "sensitivity_low")
        note(
            low is not None and low >= settings.min_sensitivity_low,
            f"the sensitivity's 95 % interval starts at {_shown(low)}, "
            f"wanted {settings.min_sensitivity_low:.3f} or more",
        )
    if settings.max_delay_p95_s > 0:
        delay = _figure(candidate, "delay_p95_s")
        note(
            delay is not None and delay <= settings.max_delay_p95_s,
            f"95 % of the falls that were found are reported within {_shown(delay)} s, "
            f"wanted {settings.max_delay_p95_s:.3f} s or less",
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
    held, looked_at = _held(comparisons, settings.slices)
    bad += held.values()
    if comparisons and settings.slices.names.split() and not held:
        good.append(f"no slice is worse than the champion's ({looked_at} hold enough to tell)")
    return Verdict(not bad, (*bad, *good), tuple(held))


def _held(rows: Sequence[Mapping[str, Any]], rules: SliceRules) -> tuple[dict[str, str], int]:
    """The slices that hold the candidate, with the reason, and how many could have."""
    reasons: dict[str, str] = {}
    looked_at: set[str] = set()
    wanted = set(rules.names.split())
    for row in rows:
        if row["slice"] not in wanted:
            continue
        name = f"{row['slice']} {row['value']}"
        own, usual = _figure(row, "candidate"), _figure(row, "champion")
        hours = 24 * (_figure(row, "camera_days") or 0.0)
        worse = _figure(row, "worse_share")
        if own is None or usual is None or worse is None:
            continue
        if row["figure"] == "sensitivity" and row["falls"] >= rules.min_falls:
            looked_at.add(name)
            loss = usual - own
            reason = (
                f"{name}: {row['candidate_found']} of {row['falls']} falls found against the "
                f"champion's {row['champion_found']}"
            )
            allowed = rules.max_sensitivity_loss
        elif row["figure"] == "false_alarms_per_camera_day" and hours >= rules.min_hours:
            looked_at.add(name)
            loss = float(row["candidate_false_alarms"] - row["champion_false_alarms"])
            reason = (
                f"{name}: {row['candidate_false_alarms']} false alarms against the champion's "
                f"{row['champion_false_alarms']} in {hours:.1f} h"
            )
            allowed = max(
                rules.false_alarm_slack,
                row["champion_false_alarms"] * rules.max_false_alarm_increase,
            )
        else:
            continue
        if loss > allowed + 1e-9 and worse >= rules.min_worse_share - 1e-9:
            ending = f"{reason} (worse in {worse:.0%} of resampled scenes)"
            reasons[name] = f"{reasons[name]}; {ending}" if name in reasons else f"held: {ending}"
    return reasons, len(looked_at)


def _shown(value: float | None) -> str:
    return "an unknown figure" if value is None else f"{value:.3f}"


def _figure(row: Mapping[str, Any], name: str) -> float | None:
    """The figure, or None where it is missing."""
    value = row.get(name)
    return None if value is None or math.isnan(value) else float(value)
