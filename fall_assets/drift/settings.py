"""What a site decides about drift: the budget for false alarms, patience, what is just felt.

What belongs here: numbers that a site may set under `[drift]`. What does not: what is felt of each
figure (`effects.py`), or what is done about drift (`answers.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

DAYS_PER_MONTH = 30.4

_CAMERA_MONTHS_MIN = 0.1


@dataclass(frozen=True)
class DriftSettings:
    """What counts as drift, and how patient one is.

    Attributes:
        camera_months: at most one false drift in so many camera-months, for the whole site.
        online_share, precision_share: parts of that budget for daily streams and staff's answers.
        felt: scales the smallest change that counts; above 1 less is told.
        confirm_days: what is not exact must stand on so many reported days in a row.
        gap_days: a drift that is missed on so many reported days is still the same one.
        fps_change: share by which the frame rate may be off.
        clock_s: seconds by which a camera's clock may be off.
        ordinary_days: so many of the newest ordinary days are compared with.
        memory_days: so many days before are looked at for what changes slowly.
        precision_drop: how far staff-confirmed precision may fall below what it was.
        skew: how far a figure of the box may lie from the platform's, as a share of it.
    """

    camera_months: float = 50.0
    online_share: float = 0.15
    precision_share: float = 0.1
    felt: float = 1.0
    confirm_days: int = 2
    gap_days: int = 2
    fps_change: float = 0.2
    clock_s: float = 5.0
    ordinary_days: int = 28
    memory_days: int = 28
    precision_drop: float = 0.15
    skew: float = 0.25

    def __post_init__(self) -> None:
        if self.camera_months < _CAMERA_MONTHS_MIN:
            raise ValueError(f"camera_months must be at least {_CAMERA_MONTHS_MIN}")
        if self.online_share < 0 or self.precision_share < 0 or self.daily_share <= 0:
            raise ValueError("online_share and precision_share must be shares that leave some")
        if self.confirm_days < 1 or self.gap_days < 0 or self.felt <= 0:
            raise ValueError("confirm_days must be at least 1, gap_days 0, felt above 0")

    @property
    def daily_share(self) -> float:
        """Part of the budget that a day's tests share."""
        return 1 - self.online_share - self.precision_share

    def false_drifts_a_day(self, cameras: int) -> float:
        """The site's whole budget of one day."""
        return cameras / (self.camera_months * DAYS_PER_MONTH)

    @property
    def in_words(self) -> str:
        """The budget as a clause."""
        return (
            f"at most one false drift per {self.camera_months:g} camera-months for the whole site"
        )
