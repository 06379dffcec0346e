"""Reports say what they should, wait in memory, and never grow without end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from fall_assets.edge.client import GatewayAwayError, GatewayRefusedError
from fall_assets.edge.condition import Condition
from fall_assets.edge.stream import Counts
from fall_assets.edge.telemetry import (
    BATCH,
    Box,
    BoxFacts,
    ReportQueue,
    camera_report,
    power,
    temperature_c,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FACTS = BoxFacts(12.34, 50.0, 61.25, "mains")
BEFORE = Counts(received=100, bytes=1000, damaged=1, shed=2, open_s=5.0, watched_s=50.0)
AFTER = Counts(received=1600, bytes=7_501_000, damaged=4, shed=12, open_s=20.0, watched_s=110.0)


def report(**other: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "at_utc": NOON,
        "seconds": 60.0,
        "box": FACTS,
        "before": BEFORE,
        "after": AFTER,
        "fps_expected": 25.0,
        "fps_stream": 24.0,
        "model_version": "7",
        "condition": Condition("ok", NOON - timedelta(hours=1)),
        "clock_offset_s": 0.12345,
        "outbox": 3,
    }
    return camera_report("cam-1", **told | other)


def test_a_report_is_of_its_minute() -> None:
    assert report() == {
        "camera_id": "cam-1",
        "at_utc": "2026-03-01T12:00:00.000+00:00",
        "cpu_percent": 12.3,
        "memory_percent": 50.0,
        "temperature_c": 61.2,
        "bandwidth_kbps": 1000.0,
        "frames_expected": 1500,
        "frames_decoded": 1487,
        "fps_expected": 25.0,
        "fps_measured": 25.0,
        "gate_duty": 0.25,
        "power": "mains",
        "model_version": "7",
        "state": "ok",
        "since_utc": "2026-03-01T11:00:00.000+00:00",
        "clock_offset_s": 0.123,
        "outbox": 3,
    }


def test_a_shadow_says_so_and_others_say_nothing_of_it() -> None:
    assert report(shadow=True) == report() | {"shadow": True}
    assert "shadow" not in report(), "older gateways refuse fields that they do not know"


def test_a_camera_s_model_and_firmware_are_told_where_they_are_known() -> None:
    told = report(camera_model="ACME Dome 4", firmware="9.80.1")
    assert told == report() | {"camera_model": "ACME Dome 4", "firmware": "9.80.1"}
    assert not {"camera_model", "firmware"} & set(report()), "older gateways refuse them"


def test_a_camera_that_is_lost_still_has_frames_that_were_expected() -> None:
    told = report(after=BEFORE, condition=Condition("lost", NOON), clock_offset_s=None)
    assert (told["frames_expected"], told["frames_decoded"]) == (1500, 0)
    assert (told["fps_measured"], told["bandwidth_kbps"]) == (0.0, 0.0)
    assert told["gate_duty"] is None
    assert told["clock_offset_s"] is None


def test_what_is_expected_where_nobody_said_it() -> None:
    assert report(fps_expected=None)["fps_expected"] is None
    assert report(fps_expected=None)["frames_expected"] == 24 * 60
    assert report(fps_expected=None, fps_stream=None)["frames_expected"] == 0


def test_the_gate_leaves_frames_in_their_packets_and_they_count() -> None:
    after = replace(AFTER, damaged=1, shed=2, decoded=0)
    assert report(after=after)["frames_decoded"] == 1500


def test_the_box_can_be_measured_here() -> None:
    facts = Box().facts()
    assert 0 <= facts.cpu_percent <= 100
    assert 0 < facts.memory_percent <= 100
    assert facts.power in ("mains", "battery", "off", "unknown")


def test_temperatures(monkeypatch: pytest.MonkeyPatch) -> None:
    def sensors(**kinds: list[float]) -> None:
        told = {name: [SimpleNamespace(current=c) for c in all_] for name, all_ in kinds.items()}
        monkeypatch.setattr(psutil, "sensors_temperatures", lambda: told, raising=False)

    sensors(nvme=[80.0], coretemp=[55.0, 58.0])
    assert temperature_c() == 58.0
    sensors(nvme=[41.0])
    assert temperature_c() == 41.0
    sensors(coretemp=[65261.8])
    assert temperature_c() is None
    sensors()
    assert temperature_c() is None
    monkeypatch.delattr(psutil, "sensors_temperatures")
    assert temperature_c() is None


def test_power(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def battery(plugged: bool | None) -> None:
        told = SimpleNamespace(power_plugged=plugged)
        monkeypatch.setattr(psutil, "sensors_battery", lambda: told, raising=False)

    battery(True)
    assert power() == "mains"
    battery(False)
    assert power() == "battery"
    battery(None)
    assert power() == "unknown"
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None)
    assert power(tmp_path) == "mains"
    assert power(tmp_path / "none") == "unknown"


class Gateway:
    def __init__(self) -> None:
        self.got: list[Mapping[str, Any]] = []
        self.problem: Exception | None = None

    def post_telemetry(self, reports: Sequence[Mapping[str, Any]]) -> int:
        if self.problem is not None:
            raise self.problem
        assert len(reports) <= BATCH
        self.got += reports
        return len(reports)


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{"number": number} for number in numbers]


def test_reports_wait_for_the_gateway_in_order() -> None:
    gateway, queue = Gateway(), ReportQueue()
    gateway.problem = GatewayAwayError("not reached")
    for minute in range(250):
        queue.add(numbered(minute))
    assert not queue.send(gateway)
    assert (len(queue), queue.dropped) == (250, 0)
    assert "not reached" in queue.problem
    gateway.problem = None
    assert queue.send(gateway)
    assert gateway.got == numbered(*range(250))
    assert (len(queue), queue.problem) == (0, "")


def test_the_oldest_are_dropped_and_counted() -> None:
    gateway, queue = Gateway(), ReportQueue(most=10)
    queue.add(numbered(*range(25)))
    assert (len(queue), queue.dropped) == (10, 15)
    assert queue.send(gateway)
    assert gateway.got == numbered(*range(15, 25))


class OlderGateway(Gateway):
    """Refuses fields that it does not know, as all gateways do."""

    def post_telemetry(self, reports: Sequence[Mapping[str, Any]]) -> int:
        if any(set(report) - {"number"} for report in reports):
            raise GatewayRefusedError("extra fields not permitted", status=422)
        return super().post_telemetry(reports)


def test_an_older_gateway_still_gets_reports_of_cameras_whose_model_is_told() -> None:
    gateway, queue = OlderGateway(), ReportQueue()
    queue.add([{"number": 1, "camera_model": "ACME Dome 4"}, {"number": 2, "firmware": "9.80"}])
    assert queue.send(gateway)
    assert gateway.got == numbered(1, 2)
    assert (queue.dropped, queue.problem) == (0, "")
    # What it refuses for another reason is given up as before.
    queue.add([{"number": 3, "camera_model": "ACME Dome 4", "size": 3}])
    assert queue.send(gateway)
    assert (gateway.got, queue.dropped) == (numbered(1, 2), 1)
    gateway.problem = GatewayAwayError("not reached")
    queue.add([{"number": 4, "camera_model": "ACME Dome 4"}])
    assert queue.send(gateway) is False
    assert len(queue) == 1, "a gateway that goes away in between loses nothing"


def test_refused_reports_do_not_hold_up_the_others() -> None:
    gateway, queue = Gateway(), ReportQueue()
    queue.add(numbered(1, 2))
    gateway.problem = GatewayRefusedError("no such camera", status=403)
    assert queue.send(gateway)
    assert queue.dropped == 2
    gateway.problem = None
    queue.add(numbered(3))
    assert queue.send(gateway)
    assert gateway.got == numbered(3)
