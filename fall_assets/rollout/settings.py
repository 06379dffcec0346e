"""How a rollout goes: `[rollout]` of site.toml."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepSettings:
    """One step: on which share of the cameras the challenger raises the alerts, and for how long.

    Attributes:
        share: of the site's cameras, 0 to 1; 0 raises nothing (shadow).
        min_days: so many days of evidence are seen before the next step, however clear they are.
        max_days: after so many without a verdict a person is asked.
        margin: the next step asks for evidence that the challenger raises less than `margin` times
            the champion's false alarms.
    """

    share: float = 0.0
    min_days: int = 1
    max_days: int = 14
    margin: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}, wanted 0 to 1")
        if not 1 <= self.min_days <= self.max_days:
            raise ValueError(
                f"min_days {self.min_days} and max_days {self.max_days}: wanted 1 <= min <= max"
            )
        if self.margin <= 1:
            raise ValueError(f"margin is {self.margin}, wanted over 1")


@dataclass(frozen=True)
class GuardSettings:
    """Limits that need no statistics; over one of them the rollout goes back at once.

    Attributes:
        heartbeat_min: a camera under the challenger, or its box soon after the change, that is
            silent for so long.
        outage_share: unless so many of the champion's boxes are silent too (of all boxes, once all
            have the challenger): then it is the network.
        latency_p95_s: from the moment an alert is raised to its arrival at the gateway.
        latency_alerts: so many alerts are needed to judge the latency.
        latency_hours: alerts of so many hours back are looked at, the same for both versions.
        memory_percent: of a box, in `memory_reports` reports in a row.
        memory_reports: see there.
    """

    heartbeat_min: float = 30.0
    outage_share: float = 0.2
    latency_p95_s: float = 5.0
    latency_alerts: int = 5
    latency_hours: float = 24.0
    memory_percent: float = 95.0
    memory_reports: int = 3


@dataclass(frozen=True)
class Weights:
    """How the measures share the probability of a false rollback; only their ratios count.

    The combined evidence is their weighted mean, which stays an e-process however the measures
    hang together (Vovk and Wang 2021, E-values: calibration, combination and applications).
    """

    alarms: float = 0.85
    dismissed: float = 0.04
    delay: float = 0.08
    abstained: float = 0.03

    def __post_init__(self) -> None:
        values = (self.alarms, self.dismissed, self.delay, self.abstained)
        if min(values) < 0 or sum(values) <= 0:
            raise ValueError(f"weights may not be negative, and not all 0: {self}")


def _steps() -> tuple[StepSettings, ...]:
    return (
        StepSettings(share=0.0, min_days=3, max_days=14, margin=2.0),
        StepSettings(share=0.01, min_days=2, max_days=14, margin=2.0),
        StepSettings(share=0.5, min_days=3, max_days=14, margin=1.5),
    )


@dataclass(frozen=True)
class RolloutSettings:
    """How a rollout goes.

    Attributes:
        automatic: a registered challenger's rollout begins by itself.
        mode: 'canary' goes step by step to all cameras; 'ab' puts both versions side by side for
            `ab_days` on `ab_share` of the cameras each and reports, without promotion.
        steps: shadow first, then growing shares; after the last the challenger serves everywhere.
        evidence: an e-value that decides, for worse as for not worse. The probability that a
            challenger which is no worse is rolled back by them is at most 1 / evidence; the library
            of falls adds its own (see there).
        history_days: the champion's days before the rollout that tell the cameras apart.
        episode_min: alarms of a camera closer than this are one false alarm to a ward.
        answer_hours: a day whose alerts are not all answered is judged so long after its end; what
            nobody has answered by then counts as false.
        acceptable_rate: false alarms per camera-day that the wards can live with. Where both
            versions raise next to none, months tell no ratio of them: evidence that the challenger
            raises fewer than this is as good as evidence on the ratio. 0: none is acceptable, the
            ratio decides alone.
        late_days: answers of staff may come so many days late; those days are counted again.
        sensitivity_margin: on the library of labelled falls the challenger may find so much less
            of them, in absolute terms, where it is not certain that it finds fewer.
        sensitivity_slack: so much less is not worse even where it is certain. With a thousand falls
            a loss of 1 in 100 is; a version that takes a flood of false alarms away is not held up
            by it.
        delay_margin_s: the challenger's alarms may come so much later without being worse.
        keep_days: after all cameras have the challenger, the old version stays in shadow so long.
        ab_days: see `mode`; a comparison runs its whole time unless a guard trips, and does not
            begin where the library says that the challenger finds fewer falls.
        ab_share: see `mode`.
        exclude: cameras that keep the champion, also when all others have the challenger (which is
            then in their shadow); when the champion is retired they get the challenger too.
        pin: cameras that get the challenger at the first live step.
        weights: of the measures.
        guards: limits without statistics.
    """

    automatic: bool = True
    mode: str = "canary"
    steps: tuple[StepSettings, ...] = field(default_factory=_steps)
    evidence: float = 20.0
    history_days: int = 28
    episode_min: float = 10.0
    answer_hours: float = 12.0
    acceptable_rate: float = 0.0
    late_days: int = 3
    sensitivity_margin: float = 0.1
    sensitivity_slack: float = 0.02
    delay_margin_s: float = 1.0
    keep_days: int = 7
    ab_days: int = 14
    ab_share: float = 0.5
    exclude: tuple[str, ...] = ()
    pin: tuple[str, ...] = ()
    weights: Weights = field(default_factory=Weights)
    guards: GuardSettings = field(default_factory=GuardSettings)

    def __post_init__(self) -> None:
        if self.mode not in ("canary", "ab"):
            raise ValueError(f"mode {self.mode!r} is not known; there are: canary, ab")
        shares = [step.share for step in self.steps]
        if not shares or shares[0] != 0 or shares != sorted(set(shares)):
            raise ValueError(f"steps must begin with share 0 and grow, not {shares}")
        if self.evidence <= 1:
            raise ValueError(f"evidence is {self.evidence}, wanted over 1")
        if not 0 < self.ab_share <= 0.5:
            raise ValueError(f"ab_share is {self.ab_share}, wanted over 0 and up to 0.5")
        if both := set(self.exclude) & set(self.pin):
            raise ValueError(f"cameras both in pin and exclude: {', '.join(sorted(both))}")
        if not 0 <= self.sensitivity_slack < self.sensitivity_margin:
            raise ValueError(
                f"sensitivity_slack is {self.sensitivity_slack}, wanted from 0 and less than "
                f"sensitivity_margin, {self.sensitivity_margin}"
            )
        if self.acceptable_rate < 0:
            raise ValueError(f"acceptable_rate is {self.acceptable_rate}, wanted 0 or more")
        if self.delay_margin_s < 0:
            raise ValueError(f"delay_margin_s is {self.delay_margin_s}, wanted 0 or more")
        if min(self.history_days, self.late_days, self.keep_days, self.ab_days) < 0:
            raise ValueError("history_days, late_days, keep_days and ab_days may not be negative")
        if self.answer_hours < 0:
            raise ValueError(f"answer_hours is {self.answer_hours}, wanted 0 or more")
