"""Settings of the monitoring. What belongs here: thresholds, and who is told of what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from typing import Final
from zoneinfo import ZoneInfo

PROBLEMS: Final[Mapping[str, str]] = {
    "camera_silent": "nothing is heard of a camera",
    "box_silent": "nothing is heard of all cameras of a box",
    "camera_never_seen": "a camera of the site never reported",
    "camera_off": "a camera has no power",
    "camera_dead": "a camera sends no pictures",
    "camera_blind": "a camera's picture is black",
    "camera_frozen": "a camera sends the same picture again and again",
    "camera_moved": "a camera looks elsewhere",
    "camera_starved": "a camera sends too few pictures",
    "disk_filling": "the disk is filling",
    "disk_full": "the disk is nearly full",
    "runs_failed": "runs of a job failed",
    "run_stuck": "a run waits or goes on for too long",
    "partitions_failed": "days failed and were not made since",
    "gateway_away": "the gateway does not answer",
    "drift": "cameras differ from what the detector learned",
}
"""Every kind of problem, in words."""

URL_VARIABLE: Final = "FALL_TECHNICIAN_WEBHOOK_URL"
"""Where the technician is told; a receiver of its own adds its name: `…_GERIATRICS`."""

_RECEIVER = re.compile(r"[a-z0-9][a-z0-9_]{0,39}")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class HealthSettings:
    """When something is wrong.

    Attributes:
        stale_min: nothing was heard of a camera for so long. Telemetry by way of the gateway is
            taken in every `[gateway] reports_every_min`, so at least twice that.
        judged_min: starved and dead are judged on so much of a camera's newest telemetry.
        starved_share: so small a share of the expected frames is too few.
        off: cameras that are switched off on purpose.
        disk_warn_share, disk_full_share: so small a share of the disk is left.
        disk_warn_days: the disk is full in so many days if it goes on like this.
        failed_hours: failed runs are counted over so long.
        queued_min: a run waits for too long.
        started_hours: a run goes on for too long.
        partition_days: failed days are looked for so far back.
    """

    stale_min: float = 45.0
    judged_min: float = 15.0
    starved_share: float = 0.5
    off: tuple[str, ...] = ()
    disk_warn_share: float = 0.15
    disk_full_share: float = 0.05
    disk_warn_days: float = 30.0
    failed_hours: float = 24.0
    queued_min: float = 60.0
    started_hours: float = 12.0
    partition_days: int = 60

    def __post_init__(self) -> None:
        for name in (
            "stale_min",
            "judged_min",
            "disk_warn_days",
            "failed_hours",
            "queued_min",
            "started_hours",
            "partition_days",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted over 0")
        if not 0 < self.starved_share < 1:
            raise ValueError(f"starved_share is {self.starved_share}, wanted between 0 and 1")
        if not 0 <= self.disk_full_share <= self.disk_warn_share < 1:
            raise ValueError(
                "disk_full_share and disk_warn_share must be shares, the first no larger than the "
                f"second, not {self.disk_full_share} and {self.disk_warn_share}"
            )


@dataclass(frozen=True)
class WardTechnician:
    """Who is told of one ward's cameras, and of what.

    Attributes:
        ward: its name, as `cameras` has it.
        receiver: whose webhook it is: the address is in `FALL_TECHNICIAN_WEBHOOK_URL_RECEIVER`,
            in capitals; empty: that of the site.
        tell: kinds of problems.
    """

    ward: str = ""
    receiver: str = ""
    tell: tuple[str, ...] = tuple(PROBLEMS)

    def __post_init__(self) -> None:
        _check_kinds(self.tell)
        if self.receiver and not _RECEIVER.fullmatch(self.receiver):
            raise ValueError(
                f"receiver {self.receiver!r}: write small letters, digits and underscores; its "
                f"address is read from {URL_VARIABLE}_NAME"
            )


@dataclass(frozen=True)
class TechnicianSettings:
    """Who is told of what is wrong, and how often.

    Attributes:
        tell: kinds of problems, where a ward has no choice of its own.
        wards: choices of wards, each instead of `tell`.
        wait_min: a problem is told once it lasted so long.
        settle_min: it has ended once it was gone for so long.
        repeat_hours: one that goes on is told again so often; 0: never.
        quiet_from, quiet_until: as "22:00": in that time only urgent ones are told, the others
            when it is over. Empty: none.
        timezone: zone of these times.
    """

    tell: tuple[str, ...] = tuple(PROBLEMS)
    wards: tuple[WardTechnician, ...] = ()
    wait_min: float = 10.0
    settle_min: float = 10.0
    repeat_hours: float = 24.0
    quiet_from: str = ""
    quiet_until: str = ""
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        _check_kinds(self.tell)
        names = [one.ward for one in self.wards]
        if "" in names:
            raise ValueError("a table [[wards]] names no ward: add ward = 'NAME'")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"[[wards]] names {', '.join(twice)} more than once: keep one")
        for name in ("wait_min", "settle_min", "repeat_hours"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted 0 or more")
        if bool(self.quiet_from) != bool(self.quiet_until):
            raise ValueError("quiet_from and quiet_until go together: write both or neither")
        for name in ("quiet_from", "quiet_until"):
            if getattr(self, name) and not _CLOCK.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} {getattr(self, name)!r} is no time: write it as '22:00'")
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"timezone {self.timezone!r} is not known: write it as 'Europe/Berlin'"
            ) from None

    def of(self, ward: str) -> WardTechnician:
        """Who is told of that ward ('': of what concerns no ward), and of what."""
        own = next((one for one in self.wards if ward and one.ward == ward), None)
        return own or WardTechnician(ward, "", self.tell)

    def is_quiet(self, now: datetime) -> bool:
        """Whether only urgent problems are told at that moment."""
        if not self.quiet_from:
            return False
        at = now.astimezone(ZoneInfo(self.timezone)).time()
        begin, end = time.fromisoformat(self.quiet_from), time.fromisoformat(self.quiet_until)
        return begin <= at < end if begin <= end else at >= begin or at < end


def _check_kinds(kinds: tuple[str, ...]) -> None:
    if unknown := [kind for kind in kinds if kind not in PROBLEMS]:
        raise ValueError(
            f"tell names {', '.join(map(repr, unknown))}, which is no kind of problem; there are: "
            f"{', '.join(PROBLEMS)}"
        )
