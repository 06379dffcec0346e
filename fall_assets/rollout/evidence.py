"""What is counted: one row per camera, day and version that watched it.

What belongs here: the shape of the evidence, and its sums. What does not: where counts come from
(`pipeline.rollout`), what they mean (`rates`, `ranks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

Role = Literal["champion", "challenger"]

EVIDENCE_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    "day": pl.Date(),
    "camera_id": pl.String(),
    "stratum": pl.String(),
    "role": pl.String(),
    "shadow": pl.Boolean(),
    "camera_days": pl.Float64(),
    "alerts": pl.Int64(),
    "confirmed": pl.Int64(),
    "dismissed": pl.Int64(),
    "abstained_h": pl.Float64(),
    "delays_s": pl.List(pl.Float64()),
}
"""Columns of evidence, in memory.

- `role`: whose counts they are; a camera has two rows a day where one version is its shadow.
- `shadow`: whether that version's alerts were shown to nobody.
- `camera_days`: how long it watched, in days (at most 1).
- `alerts`: episodes (alarms of the version within `episode_min` are one), confirmed ones included.
- `confirmed`, `dismissed`: episodes that staff called a fall, or a false alarm. Of a shadow: of its
  episodes that coincide with an answered alert or a labelled fall; so no shadow's dismissed ones
  are compared with anything.
- `abstained_h`: hours of the day in which it should have watched and could not judge.
- `delays_s`: of each confirmed episode, seconds from the fall's start to the alarm.

Days before the rollout have rows of the champion alone; `counts` tells them apart by day.
"""


@dataclass(frozen=True)
class Arm:
    """Sums over one role's rows, for words and tables.

    `false_alarms` are episodes less confirmed ones.
    """

    role: Role
    cameras: int
    camera_days: float
    alerts: int
    confirmed: int
    dismissed: int
    abstained_h: float

    @property
    def false_alarms(self) -> int:
        """Episodes that nobody called a fall."""
        return self.alerts - self.confirmed

    @property
    def rate(self) -> float | None:
        """False alarms per camera-day; none where nobody watched."""
        return self.false_alarms / self.camera_days if self.camera_days else None


def empty() -> pl.DataFrame:
    """Evidence without rows."""
    return pl.DataFrame(schema=dict(EVIDENCE_SCHEMA))


def arm(evidence: pl.DataFrame, role: Role) -> Arm:
    """Sums of a role, live and in shadow."""
    rows = evidence.filter(pl.col("role") == role)
    total = rows.select(
        pl.col("camera_id").n_unique(),
        pl.col("camera_days", "alerts", "confirmed", "dismissed", "abstained_h").sum(),
    ).row(0, named=True)
    return Arm(
        role,
        int(total["camera_id"]),
        float(total["camera_days"]),
        int(total["alerts"]),
        int(total["confirmed"]),
        int(total["dismissed"]),
        float(total["abstained_h"]),
    )
