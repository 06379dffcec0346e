"""The rollout's evidence and facts from what boxes told the gateway, as it stands in the lake."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fall_assets.delivery.gateway import GatewaySettings
from fall_assets.lake import Lake
from fall_assets.lake.registry import one_row, table
from fall_assets.pipeline.rollout_evidence import Pair, collect, complete_days, facts
from fall_assets.pipeline.work import Work
from fall_assets.rollout.guards import check
from fall_assets.rollout.settings import GuardSettings, RolloutSettings
from fall_assets.site import Site, SiteSettings

DAY = date(2026, 3, 1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
NOW = MIDNIGHT + timedelta(days=1, hours=2)
PAIR = Pair("1", "2")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    gateway = GatewaySettings(url="http://127.0.0.1:9")
    site = Site(tmp_path, tmp_path / "landing", SiteSettings(gateway=gateway))
    return Work(site, Lake(site.lake_root))


def at(minute: float) -> datetime:
    return MIDNIGHT + timedelta(minutes=minute)


def tell(work: Work, name: str, rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=table(name).schema)
    work.lake.extend_partition(name, DAY, frame, work.provenance(DAY))


def report(number: int, minute: float, camera: str, version: str, **more: Any) -> dict[str, Any]:
    own = {
        "day": DAY,
        "number": number,
        "camera_id": camera,
        "at_utc": at(minute) + timedelta(microseconds=number % 7),
        "cpu_percent": 10.0,
        "memory_percent": 20.0,
        "bandwidth_kbps": 900.0,
        "power": "mains",
        "box": f"box-of-{camera}",
        "model_version": version,
        "state": "ok",
        "shadow": False,
    }
    return own | more


def alert(number: int, minute: float, camera: str, version: str, **more: Any) -> dict[str, Any]:
    own = {
        "day": DAY,
        "alert_id": f"a{number}",
        "number": number,
        "box": f"box-of-{camera}",
        "camera_id": camera,
        "model_version": version,
        "start_utc": at(minute) - timedelta(seconds=4),
        "raised_utc": at(minute),
        "received_utc": at(minute) + timedelta(seconds=0.2),
        "score": 0.9,
        "kind": "fall",
        "shadow": False,
    }
    return own | more


def test_boxes_say_who_watched_and_what_was_raised(work: Work) -> None:
    rows = [report(n, n, "cam-1", "2") for n in range(1, 61)]
    rows += [report(100 + n, n + 0.5, "cam-1", "1", shadow=True) for n in range(1, 61)]
    rows += [
        report(200 + n, n, "cam-2", "1", state="black" if n <= 30 else "ok") for n in range(1, 61)
    ]
    rows += [report(300, 5, "cam-3", "7")]
    tell(work, "edge_reports", rows)
    tell(
        work,
        "edge_alerts",
        [
            alert(1, 10, "cam-1", "2"),
            alert(2, 10.1, "cam-1", "1", shadow=True),
            alert(3, 40, "cam-2", "1"),
            alert(4, 50, "cam-3", "7"),
        ],
    )
    said = {"alert_id": "a1", "at_utc": at(12), "by": "nurse", "verdict": "no_fall"}
    work.lake.append("alert_feedback", one_row("alert_feedback", said), work.provenance())
    assert complete_days(work, DAY, NOW) == [DAY]
    assert complete_days(work, DAY, NOW - timedelta(hours=2)) == [], "late reports may still come"

    evidence, missed = collect(work, [DAY], PAIR, {"cam-1": "w|p|f"}, RolloutSettings())
    assert missed == []
    found = {
        (row["camera_id"], row["role"]): (
            row["shadow"],
            round(row["camera_days"] * 1440),
            row["abstained_h"],
            row["alerts"],
            row["dismissed"],
        )
        for row in evidence.to_dicts()
    }
    assert found == {
        ("cam-1", "challenger"): (False, 60, 0.0, 1, 1),
        ("cam-1", "champion"): (True, 60, 0.0, 1, 1),
        ("cam-2", "champion"): (False, 30, 0.5, 1, 0),
    }


def tripped(work: Work, now: datetime) -> list[str]:
    noted = facts(work, PAIR, MIDNIGHT, [], now)
    return [one.guard for one in check(noted, GuardSettings())]


def test_a_box_that_falls_silent_under_the_challenger_trips_a_guard(work: Work) -> None:
    champions = [
        report(100 * camera + n, n, f"cam-{camera}", "1") for camera in (2, 3) for n in range(120)
    ]
    tell(work, "edge_reports", [*(report(n + 1, n, "cam-1", "2") for n in range(60)), *champions])
    assert tripped(work, at(122)) == ["heartbeat"]


def test_a_network_that_is_away_is_not_the_challengers_fault(work: Work) -> None:
    rows = [
        report(100 * camera + n, n, f"cam-{camera}", "2" if camera == 1 else "1")
        for camera in (1, 2, 3)
        for n in range(60)
    ]
    tell(work, "edge_reports", rows)
    assert tripped(work, at(180)) == []


def test_late_alerts_and_a_full_memory_trip_guards(work: Work) -> None:
    full = [report(n + 1, n, "cam-1", "2", memory_percent=97.0) for n in range(5)]
    tell(work, "edge_reports", full)
    late = [
        alert(n, n, "cam-1", "2", received_utc=at(n) + timedelta(seconds=9)) for n in range(1, 7)
    ]
    tell(work, "edge_alerts", late)
    assert tripped(work, at(6)) == ["latency", "memory"]
    # Where the champion's are as late it is the network.
    tell(
        work,
        "edge_alerts",
        [alert(20, 3, "cam-2", "1", received_utc=at(3) + timedelta(seconds=12))],
    )
    assert tripped(work, at(6)) == ["memory"]


def test_a_package_that_a_box_refuses_trips_a_guard(work: Work) -> None:
    row = {
        "sequence": 2,
        "model_version": "2",
        "runtime": "test",
        "feature_set": "test",
        "built_utc": MIDNIGHT,
        "precision": "float32",
        "archive": "edge/a.tar.gz",
        "archive_sha256": "a" * 64,
        "archive_bytes": 1,
        "manifest_sha256": "b" * 64,
        "unpacked_bytes": 1,
        "start_s": 1.0,
        "segments": 0,
        "windows": 0,
        "largest_difference": 0.0,
        "reason": "test",
    }
    work.lake.append("edge_package", one_row("edge_package", row), work.provenance())
    said = {
        "number": 1,
        "box": "box-1",
        "at_utc": at(5),
        "package": "b" * 64,
        "state": "refused",
        "detail": "the self-test failed (1): scores differ",
    }
    work.lake.append("edge_updates", one_row("edge_updates", said), work.provenance())
    assert tripped(work, at(6)) == ["crash", "parity"]
    other = replace(PAIR, challenger="3")
    assert check(facts(work, other, MIDNIGHT, [], at(6)), GuardSettings()) == []
