"""What a box says of itself and its cameras every minute.

What belongs here: measuring the box, making reports, and keeping those that could not be sent. What
does not: judging a camera (`condition`), the request (`client`).

Reports are no alerts: those that wait are kept in memory, a bounded number of them, and a restart
forgets them. They never touch the disk.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import psutil

from fall_assets.edge.client import GatewayAwayError, GatewayRefusedError
from fall_assets.edge.condition import Condition
from fall_assets.edge.stream import Counts

_log = logging.getLogger(__name__)

MOST_KEPT: Final = 5000
"""Reports that wait at most: 8 cameras for ten hours, some 5 MB."""
BATCH: Final = 100
SPARED: Final = ("camera_model", "firmware")
"""What is left out where a gateway refuses reports: one from before it was known does."""

_PROCESSOR_SENSORS: Final = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal",
                             "soc_thermal", "acpitz")  # fmt: skip
_POWER_SUPPLIES: Final = Path("/sys/class/power_supply")

Power = Literal["mains", "battery", "off", "unknown"]
Report = Mapping[str, Any]


@dataclass(frozen=True)
class BoxFacts:
    """The box at one moment; percent of all cores and of the memory, degrees Celsius."""

    cpu_percent: float
    memory_percent: float
    temperature_c: float | None
    power: Power


class Box:
    """Measures the box. What cannot be read is None or `unknown`, never an error.

    For one thread: psutil counts the processor's use for each by itself.
    """

    def __init__(self) -> None:
        psutil.cpu_percent(interval=None)  # counts from here on

    def facts(self) -> BoxFacts:
        """The processor's use since the last call, and the rest as it is now."""
        return BoxFacts(
            float(psutil.cpu_percent(interval=None)),
            float(psutil.virtual_memory().percent),
            temperature_c(),
            power(),
        )


def temperature_c() -> float | None:
    """The processor's temperature, or the hottest sensor's; None where none can be read."""
    try:
        sensors = psutil.sensors_temperatures()
    except (AttributeError, OSError, ValueError):
        return None
    for names in (_PROCESSOR_SENSORS, tuple(sensors)):
        readings = [
            one.current
            for name in names
            for one in sensors.get(name, [])
            if one.current is not None and -50 < one.current < 150
        ]
        if readings:
            return float(max(readings))
    return None


def power(supplies: Path = _POWER_SUPPLIES) -> Power:
    """Where the box's power comes from; a box without a battery is on mains."""
    try:
        battery = psutil.sensors_battery()
        if battery is not None:
            # None where the driver does not tell.
            plugged: bool | None = battery.power_plugged
            return "unknown" if plugged is None else "mains" if plugged else "battery"
        # Without a battery psutil says the same as where it may not look.
        next(iter(supplies.iterdir()), None)
    except (AttributeError, OSError, ValueError):
        return "unknown"
    return "mains"


def camera_report(
    camera_id: str,
    *,
    at_utc: datetime,
    seconds: float,
    box: BoxFacts,
    before: Counts,
    after: Counts,
    fps_expected: float | None,
    fps_stream: float | None,
    model_version: str,
    condition: Condition,
    clock_offset_s: float | None,
    outbox: int,
    shadow: bool = False,
    camera_model: str = "",
    firmware: str = "",
) -> dict[str, Any]:
    """One camera's report over the `seconds` since the last one, as the gateway wants it.

    `frames_expected` are so many as should have come in that time, by the configured rate, else by
    the stream's own word (`fps_stream`), else 0: not known. `frames_decoded` are those that arrived
    and were looked at: frames that the motion gate left in their packets count, damaged ones and
    those left out because the box was too slow do not. `fps_measured` counts all that arrived.
    `gate_duty` is the share of the watched time in which the gate was open; None where nothing was
    watched. `bandwidth_kbps` is in kilobits (1000) a second, video alone. `shadow`,
    `camera_model` and `firmware` are there only where they are told: gateways that do not know them
    go on taking all other reports.
    """
    seconds = max(seconds, 1e-3)
    received = after.received - before.received
    lost = after.damaged - before.damaged + after.shed - before.shed
    watched_s = after.watched_s - before.watched_s
    duty = (after.open_s - before.open_s) / watched_s if watched_s > 0 else None
    expected = fps_expected or fps_stream or 0.0
    report = {
        "camera_id": camera_id,
        "at_utc": at_utc.isoformat(timespec="milliseconds"),
        "cpu_percent": round(box.cpu_percent, 1),
        "memory_percent": round(box.memory_percent, 1),
        "temperature_c": None if box.temperature_c is None else round(box.temperature_c, 1),
        "bandwidth_kbps": round((after.bytes - before.bytes) * 8 / 1000 / seconds, 1),
        "frames_expected": round(expected * seconds),
        "frames_decoded": max(0, received - lost),
        "fps_expected": fps_expected or None,
        "fps_measured": round(received / seconds, 2),
        "gate_duty": None if duty is None else round(min(1.0, max(0.0, duty)), 4),
        "power": box.power,
        "model_version": model_version,
        "state": condition.state,
        "since_utc": condition.since_utc.isoformat(timespec="milliseconds"),
        "clock_offset_s": None if clock_offset_s is None else round(clock_offset_s, 3),
        "outbox": outbox,
    }
    later: dict[str, Any] = {"shadow": True} if shadow else {}
    later |= {"camera_model": camera_model} if camera_model else {}
    later |= {"firmware": firmware} if firmware else {}
    return report | later


class Poster(Protocol):
    """What sends reports: `client.GatewayClient`."""

    def post_telemetry(self, reports: Sequence[Report]) -> int:
        """Post reports; raises GatewayAwayError or GatewayRefusedError."""


class ReportQueue:
    """Reports that wait to be sent, oldest first; the oldest are dropped where there are too many.

    Safe in threads. `dropped` counts what was never sent.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self.dropped = 0
        self.problem = ""
        self._most, self._reports = most, deque[Report]()
        self._lock = threading.Lock()
        self._sending = threading.Lock()

    def __len__(self) -> int:
        return len(self._reports)

    def add(self, reports: Sequence[Report]) -> None:
        """Keep reports until they are sent."""
        with self._lock:
            self._reports.extend(reports)
            while len(self._reports) > self._most:
                self._reports.popleft()
                self.dropped += 1

    def send(self, poster: Poster) -> bool:
        """Send what waits; whether nothing waits any more. Stops where the gateway is away."""
        with self._sending:
            while True:
                with self._lock:
                    batch = [self._reports[at] for at in range(min(BATCH, len(self._reports)))]
                if not batch:
                    self._say("")
                    return True
                try:
                    poster.post_telemetry(batch)
                except GatewayAwayError as error:
                    self._say(f"telemetry waits: {error}")
                    return False
                except GatewayRefusedError as error:
                    # The same reports would be refused again and hold up all that follow.
                    try:
                        taken = self._send_spared(poster, batch)
                    except GatewayAwayError as away:
                        self._say(f"telemetry waits: {away}")
                        return False
                    if not taken:
                        self._say(f"the gateway refuses telemetry: {error}")
                        self.dropped += len(batch)
                self._forget(batch)

    @staticmethod
    def _send_spared(poster: Poster, batch: Sequence[Report]) -> bool:
        """Send reports without what an older gateway does not know; whether it took them."""
        spared = [
            {name: value for name, value in report.items() if name not in SPARED}
            for report in batch
        ]
        if spared == [dict(report) for report in batch]:
            return False
        try:
            poster.post_telemetry(spared)
        except GatewayRefusedError:
            return False
        return True

    def _forget(self, batch: Sequence[Report]) -> None:
        with self._lock:
            for report in batch:
                # Some may have been dropped meanwhile.
                if self._reports and self._reports[0] is report:
                    self._reports.popleft()

    def _say(self, problem: str) -> None:
        if problem and problem != self.problem:
            _log.warning("%s", problem)
        elif self.problem and not problem:
            _log.info("telemetry arrives again")
        self.problem = problem
