"""All that is measured of a site at one moment. What belongs here: its shape; nothing reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fall_assets.monitoring.cameras import CameraNow
from fall_assets.monitoring.disk import Disk
from fall_assets.monitoring.runs import RunFigures


@dataclass(frozen=True)
class TableUse:
    """What a table takes: bytes and files, and bytes added per day (None: not known yet)."""

    size: int
    files: int
    growth: float | None


@dataclass(frozen=True)
class DriftNow:
    """The newest drift report: its day, whether it is drift, and drifted cameras by cause."""

    day: datetime
    drifted: bool
    verdict: str
    cameras: Mapping[str, int]


@dataclass(frozen=True)
class RolloutNow:
    """The newest rollout: its state and the challenger's share of cameras, 0 to 1."""

    state: str
    share: float


@dataclass(frozen=True)
class BoxPackage:
    """What a box said last of a package that it was given."""

    box: str
    package: str
    state: str


@dataclass(frozen=True)
class Queue:
    """Segments that were taken in and not decoded yet, and the oldest one's age in seconds."""

    segments: int = 0
    oldest_s: float = 0.0


@dataclass(frozen=True)
class SiteFigures:
    """One site at one moment.

    Attributes:
        at_utc: when it was looked at.
        telemetry: False where no box ever reported: nothing is known of the cameras then.
        alerts: alerts of the last 24 h by ward, kind and source ('footage' or 'box').
        answers: what staff answered within the last 24 h, by verdict.
        falls: of the last 28 days, those that staff know of: 'alerted', or 'reported' without one.
        problems: open problems by kind and ward.
        storage: what tables take, as measured last.
        storage_growth: bytes a day by which the disk fills; None: not known.
        drift, rollout: None where there is none yet.
        gateway: whether the gateway answers; None: the site has none.
        runs: None where Dagster could not be asked.
    """

    at_utc: datetime
    telemetry: bool
    cameras: Sequence[CameraNow]
    disk: Disk
    storage: Mapping[str, TableUse] = field(default_factory=dict)
    storage_growth: float | None = None
    problems: Mapping[tuple[str, str], int] = field(default_factory=dict)
    alerts: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    answers: Mapping[str, int] = field(default_factory=dict)
    falls: Mapping[str, int] = field(default_factory=dict)
    queue: Queue = field(default_factory=Queue)
    drift: DriftNow | None = None
    rollout: RolloutNow | None = None
    gateway: bool | None = None
    packages: Sequence[BoxPackage] = ()
    runs: RunFigures | None = None
