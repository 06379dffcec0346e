"""What is known of Dagster's runs. What belongs here: the figures; `resources.instance` asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class StuckRun:
    """A run that waits (`queued`) or goes on (`started`) for too long, since when."""

    run_id: str
    job: str
    state: Literal["queued", "started"]
    since_utc: datetime


@dataclass(frozen=True)
class RunFigures:
    """Runs and days at one moment.

    Attributes:
        failed: failed runs of the last hours by job. Started again after a failure and then good:
            the failure still counts.
        stuck: runs that wait or go on for too long, oldest first.
        waiting, going: how many runs wait and go on now.
        partitions: days that failed and were not made since, by asset, oldest first.
    """

    failed: Mapping[str, int] = field(default_factory=dict)
    stuck: Sequence[StuckRun] = ()
    waiting: int = 0
    going: int = 0
    partitions: Mapping[str, Sequence[str]] = field(default_factory=dict)
