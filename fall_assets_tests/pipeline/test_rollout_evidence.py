"""The rollout's evidence and facts from what boxes told the gateway, as it stands in the lake."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fall_assets.delivery.gateway import GatewaySettings
from fall_assets.lake import Lake
from fall_assets.lake.registry import one_row, table
from fall_assets.pipeline.feedback import Verdict, answer_alert
from fall_assets.pipeline.rollout_evidence import (
    Pair,
    collect,
    complete_days,
    facts,
    late_falls,
)
from fall_assets.pipeline.work import Work
from fall_assets.rollout.guards import Tripped, check
from fall_assets.rollout.settings import GuardSettings, RolloutSettings
from fall_assets.site import Site, SiteSettings
from fall_assets_tests.pipeline.packages import package_row

DAY = date(2026, 3, 1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
NOW = MIDNIGHT + timedelta(days=1, hours=2)
PAIR = Pair("1", "2")
GUARDS = GuardSettings()


@pytest.fixture
def work(tmp_path: Path) -> Work:
    gateway = GatewaySettings(url="http://127.0.0.1:9")
    site = Site(tmp_path, tmp_path / "landing", SiteSettings(gateway=gateway))
    return Work(site, Lake(site.lake_root))


def at(minute: float) -> datetime:
    return MIDNIGHT + timedelta(minutes=minute)


def tell(work: Work, name: str, rows: Sequence[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=table(name).schema)
    for (day,), own in frame.group_by("day"):
        assert isinstance(day, date)
        work.lake.extend_partition(name, day, own, work.provenance(day))


def report(minute: float, camera: str, version: str, **more: Any) -> dict[str, Any]:
    """A report that the gateway had at once; a shadow's is a microsecond later, as it has it."""
    later = timedelta(microseconds=1 if more.get("shadow") else 0)
    own = {
        "day": at(minute).date(),
        "number": 1 + round(minute * 60_000) + 5_000_000,
        "camera_id": camera,
        "at_utc": at(minute) + later,
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


def reports(
    minutes: Iterable[float], camera: str, version: str, **more: Any
) -> list[dict[str, Any]]:
    return [report(minute, camera, version, **more) for minute in minutes]


def both(minutes: Iterable[float], camera: str, **more: Any) -> list[dict[str, Any]]:
    """A camera of the challenger: it raises the alerts, the champion watches in shadow."""
    told = list(minutes)
    return reports(told, camera, "2", **more) + reports(told, camera, "1", shadow=True, **more)


def alert(number: int, minute: float, camera: str, version: str, **more: Any) -> dict[str, Any]:
    own = {
        "day": at(minute).date(),
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


def alerts(
    first: int, minutes: Iterable[float], version: str, *, shadow: bool = False, late_s: float = 0.2
) -> list[dict[str, Any]]:
    return [
        alert(
            first + place,
            minute,
            "cam-1",
            version,
            shadow=shadow,
            received_utc=at(minute) + timedelta(seconds=late_s),
        )
        for place, minute in enumerate(minutes)
    ]


def test_a_fall_that_staff_reported_is_no_false_alarm_of_who_found_it(work: Work) -> None:
    tell(work, "edge_reports", both(range(1, 61), "cam-1"))
    tell(
        work,
        "edge_alerts",
        [alert(n, minute, "cam-1", "2") for n, minute in enumerate((10, 20, 40), 1)],
    )

    def tell_of(name: str, first: float, last: float) -> None:
        row = {"report_id": name, "camera_id": "cam-1", "by": "nurse", "reported_utc": at(60)}
        row |= {"from_utc": at(first), "until_utc": at(last)}
        work.lake.append("reported_falls", one_row("reported_falls", row), work.provenance())

    def confirmed() -> list[int]:
        evidence, _ = collect(work, [DAY], PAIR, {}, RolloutSettings())
        own = evidence.filter(pl.col("role") == "challenger")
        return [int(own["alerts"].sum()), int(own["confirmed"].sum())]

    assert confirmed() == [3, 0]
    # Somewhere within an hour says too little.
    tell_of("r0", -10, 55)
    assert confirmed() == [3, 0]
    # One report is one fall, however many alarms there are.
    tell_of("r1", 5, 25)
    assert confirmed() == [3, 1]


def test_boxes_say_who_watched_and_what_was_raised(work: Work) -> None:
    rows = both(range(1, 61), "cam-1")
    rows += [report(n, "cam-2", "1", state="black" if n <= 30 else "ok") for n in range(1, 61)]
    rows += [report(5, "cam-3", "7")]
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
    after = NOW + timedelta(hours=12)
    assert complete_days(work, DAY, after) == [DAY]

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


@pytest.mark.parametrize("every_s", [10, 60, 600, 3600])
def test_a_day_is_a_day_however_often_a_box_reports(work: Work, every_s: int) -> None:
    def moments(hours: Iterable[int]) -> list[float]:
        return [60 * hour + s / 60 for hour in hours for s in range(0, 3600, every_s)]

    rows = reports(moments(range(4)), "cam-1", "2")
    rows += reports(moments(range(4, 6)), "cam-1", "2", state="lost")
    rows += reports(moments(range(6)), "cam-2", "1")
    rows += reports(moments(range(10, 14)), "cam-2", "1")
    tell(work, "edge_reports", rows)
    evidence, _ = collect(work, [DAY], PAIR, {}, RolloutSettings())
    found = evidence.select("camera_id", pl.col("camera_days") * 24, "abstained_h").sort(
        "camera_id"
    )
    # Six hours are a quarter of a day, and the silence from six to ten was not watched.
    assert found.rows() == [
        ("cam-1", pytest.approx(4, abs=0.02), pytest.approx(2, abs=0.02)),
        ("cam-2", pytest.approx(10, abs=0.02), 0.0),
    ]


def test_a_day_waits_for_late_reports_and_for_staff(work: Work) -> None:
    tell(work, "edge_reports", [*both(range(1, 61), "cam-1"), report(24 * 60 + 5, "cam-1", "1")])
    shown = [alert(1, 10, "cam-1", "2"), alert(2, 20, "cam-1", "2")]
    tell(work, "edge_alerts", [*shown, alert(3, 30, "cam-1", "1", shadow=True)])
    night = NOW - timedelta(hours=2)
    assert complete_days(work, DAY, NOW) == []
    noon = NOW + timedelta(hours=10)
    assert complete_days(work, DAY, noon - timedelta(seconds=1)) == [], "staff may still come"
    assert complete_days(work, DAY, noon) == [DAY], "nobody came"
    for one in shown:
        said = {"alert_id": one["alert_id"], "at_utc": at(90), "by": "nurse", "verdict": "fall"}
        work.lake.append("alert_feedback", one_row("alert_feedback", said), work.provenance())
    assert complete_days(work, DAY, NOW) == [DAY]
    assert complete_days(work, DAY, night) == [], "late reports may still come"


def trips(work: Work, now: datetime, guards: GuardSettings = GUARDS) -> list[Tripped]:
    return check(facts(work, PAIR, MIDNIGHT, [], now, guards), guards)


def tripped(work: Work, now: datetime, guards: GuardSettings = GUARDS) -> list[str]:
    return [one.guard for one in trips(work, now, guards)]


def test_a_camera_that_falls_silent_under_the_challenger_trips_a_guard(work: Work) -> None:
    rows = reports(range(60), "cam-1", "2") + reports(range(120), "cam-1", "1", shadow=True)
    rows += [one for camera in (2, 3) for one in reports(range(120), f"cam-{camera}", "1")]
    tell(work, "edge_reports", rows)
    assert tripped(work, at(88)) == []
    (one,) = trips(work, at(122))
    assert (one.guard, one.subject) == ("heartbeat", "box-of-cam-1/cam-1")
    later = [*reports(range(120, 130), "cam-2", "1"), *reports(range(120, 130), "cam-3", "1")]
    tell(work, "edge_reports", later)
    (again,) = trips(work, at(131))
    assert again.text != one.text
    assert again.key == one.key, "the same trip has the same key, however long it lasts"


def test_the_limits_are_those_that_the_rollout_began_with(work: Work) -> None:
    rows = reports(range(60), "cam-1", "2") + reports(range(120), "cam-1", "1", shadow=True)
    tell(work, "edge_reports", rows)
    settings = replace(
        work.site.settings, rollout=RolloutSettings(guards=GuardSettings(heartbeat_min=600.0))
    )
    changed = replace(work, site=replace(work.site, settings=settings))
    assert tripped(changed, at(121)) == ["heartbeat"]


def test_a_network_that_is_away_is_not_the_challengers_fault(work: Work) -> None:
    rows = [*both(range(60), "cam-1"), *reports(range(61), "cam-4", "1")]
    rows += [one for camera in (2, 3) for one in reports(range(60), f"cam-{camera}", "1")]
    tell(work, "edge_reports", rows)
    assert tripped(work, at(180)) == []
    tell(work, "edge_reports", reports(range(61, 180), "cam-4", "1"))
    assert tripped(work, at(180)) == [], "two of the champion's three boxes are silent too"


def fleet(work: Work, until: Sequence[int], begin: int = 0) -> None:
    """Boxes of a camera each, all of which have the challenger from a minute to another."""
    rows = [
        one
        for number, end in enumerate(until)
        for one in both(range(begin, end), f"cam-{number}", box=f"box-{number}")
    ]
    before = [
        one
        for number in range(len(until))
        for one in reports(range(begin), f"cam-{number}", "1", box=f"box-{number}")
    ]
    tell(work, "edge_reports", rows + before)


def test_in_full_service_a_box_that_is_switched_off_after_hours_takes_nothing_back(
    work: Work,
) -> None:
    fleet(work, [600] * 9 + [500])
    assert tripped(work, at(601)) == []


def test_in_full_service_a_box_that_dies_soon_after_the_change_does(work: Work) -> None:
    fleet(work, [700] * 9 + [620], begin=600)
    (one,) = trips(work, at(701))
    assert (one.guard, one.subject) == ("heartbeat", "box-9/cam-9")


def test_in_full_service_half_the_network_away_takes_nothing_back(work: Work) -> None:
    fleet(work, [700] * 5 + [620] * 5, begin=600)
    assert tripped(work, at(701)) == []


def test_silence_is_not_judged_while_nobody_asked_the_gateway(work: Work) -> None:
    fleet(work, [60] * 9 + [55])
    assert tripped(work, at(160)) == []


def test_a_dead_challenger_is_seen_while_its_shadow_lives_however_late_one_looks(
    work: Work,
) -> None:
    tell(work, "edge_reports", reports(range(30), "cam-1", "2"))
    tell(work, "edge_reports", reports(range(0, 1430, 5), "cam-1", "1", shadow=True))
    assert tripped(work, at(1430)) == ["heartbeat"]


def test_a_challenger_that_never_told_of_its_camera_is_seen(work: Work) -> None:
    rows = reports(range(60), "cam-1", "1") + reports(range(60, 100), "cam-1", "1", shadow=True)
    tell(work, "edge_reports", rows)
    assert tripped(work, at(85)) == []
    assert tripped(work, at(100)) == ["heartbeat"]


def test_a_camera_that_was_taken_from_its_box_is_not_silent(work: Work) -> None:
    rows = both(range(60), "cam-1", box="box-1") + both(range(120), "cam-2", box="box-1")
    tell(work, "edge_reports", rows)
    assert tripped(work, at(121)) == []


def test_one_dead_camera_of_a_box_is_seen_and_named(work: Work) -> None:
    rows = both(range(120), "cam-1", box="box-1")
    rows += reports(range(60), "cam-2", "2", box="box-1")
    rows += reports(range(120), "cam-2", "1", box="box-1", shadow=True)
    # The box's newest live report is the champion's, of another of its cameras.
    rows += reports([n + 0.5 for n in range(120)], "cam-3", "1", box="box-1")
    tell(work, "edge_reports", rows)
    (one,) = trips(work, at(121))
    assert (one.guard, one.subject) == ("heartbeat", "box-1/cam-2")
    assert "box-1 (for 60 min: cam-2)" in one.text


def test_a_box_that_reports_once_an_hour_is_not_silent_in_between(work: Work) -> None:
    rows = reports([0, 60, 120], "cam-1", "2") + reports(range(160), "cam-2", "1")
    tell(work, "edge_reports", rows)
    assert tripped(work, at(161)) == []


def test_a_box_whose_clock_is_behind_is_not_silent(work: Work) -> None:
    rows = [
        report(n, "cam-1", "2", at_utc=at(n) - timedelta(minutes=45), day=at(n - 45).date())
        for n in range(60, 120)
    ]
    tell(work, "edge_reports", [*rows, *reports(range(60, 120), "cam-2", "1")])
    assert tripped(work, at(121)) == []


def test_a_box_whose_clock_is_years_ahead_hides_nothing(work: Work) -> None:
    rows = reports(range(60), "cam-1", "2") + reports(range(120), "cam-1", "1", shadow=True)
    for n in (30, 40):
        ahead = at(n) + timedelta(days=3650 + n)
        rows.append(report(n, "cam-2", "1", at_utc=ahead, day=ahead.date()))
    tell(work, "edge_reports", rows)
    assert tripped(work, at(121)) == ["heartbeat"]


def test_after_midnight_a_clock_that_is_ahead_hides_nothing(work: Work) -> None:
    rows = reports(range(1300, 1390), "cam-1", "2")
    rows += reports(range(1300, 1440), "cam-1", "1", shadow=True)
    rows.append(report(1500, "cam-2", "1"))
    tell(work, "edge_reports", rows)
    assert tripped(work, at(1441)) == ["heartbeat"]


def test_a_look_at_the_guards_reads_the_last_hours_alone(work: Work) -> None:
    minutes = range(0, 3 * 1440, 10)
    tell(work, "edge_reports", both(minutes, "cam-1") + reports(minutes, "cam-2", "1"))
    assert tripped(work, at(3 * 1440)) == []
    for day in (DAY, DAY + timedelta(days=1)):
        files = list(work.lake.root.rglob(f"edge_reports/day={day}/*.parquet"))
        assert files
        for file in files:
            file.unlink()
    assert tripped(work, at(3 * 1440)) == [], "the days before are not opened"


def full(minutes: Iterable[float], camera: str, version: str, **more: Any) -> list[dict[str, Any]]:
    return reports(minutes, camera, version, memory_percent=97.0, **more)


def test_a_full_memory_under_the_challenger_trips_a_guard(work: Work) -> None:
    tell(work, "edge_reports", full(range(5), "cam-1", "2", box="box-1"))
    # The newest report of the box is about a camera of the champion's.
    tell(work, "edge_reports", reports([4.5], "cam-2", "1", box="box-1", memory_percent=97.0))
    (one,) = trips(work, at(6))
    assert (one.guard, one.subject) == ("memory", "box-1")


def test_a_memory_that_was_full_before_the_challenger_came_says_nothing_of_it(work: Work) -> None:
    tell(work, "edge_reports", full(range(5), "cam-1", "1") + full(range(5, 7), "cam-1", "2"))
    assert tripped(work, at(8)) == []


def test_late_alerts_trip_a_guard_unless_the_champions_are_late_too(work: Work) -> None:
    tell(work, "edge_alerts", alerts(1, range(1, 7), "2", late_s=9))
    assert tripped(work, at(8)) == ["latency"]
    tell(work, "edge_alerts", alerts(20, [n + 0.5 for n in range(1, 7)], "1", late_s=12))
    assert tripped(work, at(8)) == []


def test_one_late_alert_alone_says_nothing(work: Work) -> None:
    tell(work, "edge_alerts", alerts(1, range(1, 10), "2") + alerts(20, [11], "2", late_s=60))
    assert tripped(work, at(13)) == []


def test_an_outage_that_delays_both_versions_says_nothing(work: Work) -> None:
    outage = [100 + 5 * n for n in range(6)]
    told = alerts(1, outage, "2", late_s=1800) + alerts(20, outage, "1", shadow=True, late_s=1800)
    tell(work, "edge_alerts", told)
    # The champion has many other alerts, so that its percentile knows nothing of the outage.
    tell(work, "edge_alerts", alerts(100, [200 + n for n in range(200)], "1"))
    assert tripped(work, at(500)) == []
    tell(work, "edge_alerts", alerts(900, [410 + n for n in range(5)], "2", late_s=30))
    assert tripped(work, at(500)) == ["latency"]


def test_latency_is_judged_on_the_last_hours_of_both_versions(work: Work) -> None:
    day = 1440
    # A bad night of the champion, and in full service the champion's alerts are all in shadow.
    tell(work, "edge_alerts", alerts(1, range(300, 400), "1", late_s=3600))
    late = alerts(500, [2 * day + 30 + n for n in range(6)], "2", late_s=30)
    tell(work, "edge_alerts", late)
    assert tripped(work, at(2 * day + 60)) == ["latency"]
    assert tripped(work, at(2 * day + 60), GuardSettings(latency_hours=72.0)) == []
    assert tripped(work, at(4 * day)) == [], "what was late days ago is over"
    shadows = alerts(800, [2 * day + 40 + 3 * n for n in range(6)], "1", shadow=True, late_s=40)
    tell(work, "edge_alerts", shadows)
    assert tripped(work, at(2 * day + 60)) == []


def test_late_alerts_of_a_challenger_in_shadow_trip_a_guard(work: Work) -> None:
    tell(work, "edge_alerts", alerts(1, range(1, 7), "2", shadow=True, late_s=9))
    tell(work, "edge_alerts", alerts(20, range(1, 7), "1"))
    assert tripped(work, at(8)) == ["latency"]


def test_a_package_that_a_box_refuses_trips_a_guard(work: Work) -> None:
    row = package_row("2", manifest_sha256="b" * 64)
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
    assert check(facts(work, other, MIDNIGHT, [], at(6), GUARDS), GUARDS) == []


# Falls that people tell of.


def hang(work: Work, **rooms: str) -> None:
    rows = [
        {
            "camera_id": name.replace("_", "-"),
            "ward": "w",
            "room": room,
            "view": "unknown",
            "dataset": "site",
        }
        for name, room in rooms.items()
    ]
    frame = pl.DataFrame(rows, schema=table("cameras").schema)
    work.lake.replace("cameras", frame, work.provenance())


def answered(work: Work, verdict: Verdict) -> list[str]:
    """What is missed where staff answer an alert of the champion's on camera 1 of a room.

    On camera 2, in the same room, and camera 3, in another, the champion in shadow raised one too,
    and the challenger none.
    """
    hang(work, cam_1="7", cam_2="7", cam_3="8", cam_4="unknown", cam_5="unknown")
    others = ("cam-2", "cam-3", "cam-5")
    rows = [one for camera in others for one in both(range(60), camera)]
    tell(work, "edge_reports", rows + reports(range(60), "cam-1", "1"))
    shadows = [
        alert(10 + place, 20.1, camera, "1", shadow=True) for place, camera in enumerate(others)
    ]
    tell(work, "edge_alerts", [alert(1, 20, "cam-1", "1"), alert(2, 20, "cam-4", "1"), *shadows])
    for alert_id in ("a1", "a2"):
        answer_alert(work, alert_id, verdict, by="nurse", now=at(25))
    _, missed = collect(work, [DAY], PAIR, {}, RolloutSettings())
    assert all(one.what == "a fall that staff confirmed" for one in missed)
    return [one.camera_id for one in missed]


def test_an_answer_to_an_older_versions_alert_holds_for_the_champion_in_its_shadow(
    work: Work,
) -> None:
    """Days before a rollout may be of a time when today's champion was itself a challenger."""
    hang(work, cam_1="7")
    watched = reports(range(60), "cam-1", "0") + reports(range(60), "cam-1", "1", shadow=True)
    tell(work, "edge_reports", watched)
    live, shadow = alert(1, 20, "cam-1", "0"), alert(2, 20.1, "cam-1", "1", shadow=True)
    tell(work, "edge_alerts", [live, shadow])
    answer_alert(work, "a1", "fall", by="nurse", now=at(25))
    evidence, _ = collect(work, [DAY], PAIR, {}, RolloutSettings())
    assert evidence.select("role", "alerts", "confirmed").rows() == [("champion", 1, 1)]


def test_a_fall_that_staff_confirmed_is_known_in_its_room_without_footage(work: Work) -> None:
    assert answered(work, "fall") == ["cam-2"]


def test_what_staff_dismissed_is_no_fall_that_was_missed(work: Work) -> None:
    assert answered(work, "no_fall") == []


def footage(work: Work, *falls: tuple[float, float]) -> None:
    """A segment of camera 1 with its labels, as people told of them so far."""
    video = {
        "day": DAY,
        "video_id": "v" * 16,
        "camera_id": "cam-1",
        "dataset": "site",
        "path": "cam-1/a.mp4",
        "start_utc": at(10),
        "duration_s": 3600.0,
        "width": 640,
        "height": 480,
        "fps": 25.0,
        "frames": 10,
        "codec": "h264",
        "bytes": 1,
        "scene": "s",
    }
    frame = pl.DataFrame([video], schema=table("videos").schema)
    work.lake.replace_partition("videos", DAY, frame, work.provenance(DAY))
    rows = [
        {
            "day": DAY,
            "label_id": f"l{start}",
            "video_id": "v" * 16,
            "camera_id": "cam-1",
            "start_s": start,
            "end_s": end,
            "label": "fall",
            "original_label": "fall",
            "source": "reviewer",
            "taxonomy_version": 1,
            "file": "labels.csv",
            "line": 1,
        }
        for start, end in falls
    ]
    labels = pl.DataFrame(rows, schema=table("labels").schema)
    work.lake.replace_partition("labels", DAY, labels, work.provenance(DAY))


def decide(work: Work, number: int) -> None:
    """A decision is written; what it says does not matter here."""
    row = {
        "rollout_id": "v2-test",
        "number": number,
        "at_utc": at(number),
        "evidence_day": DAY,
        "effective_day": DAY,
        "champion": "1",
        "challenger": "2",
        "action": "look",
        "state": "step",
        "step": 1,
        "share": 0.5,
        "by": "rule",
        "sentence": "s",
        "numbers": "{}",
        "settings": "{}",
    }
    work.lake.append("rollout", one_row("rollout", row), work.provenance())


def test_falls_that_are_told_after_a_decision_are_late(work: Work) -> None:
    assert late_falls(work, [DAY]) == 0
    hang(work, cam_1="7")
    footage(work, (5.0, 8.0))
    decide(work, 0)
    assert late_falls(work, [DAY]) == 0, "known to the decision"
    footage(work, (5.0, 8.0))
    assert late_falls(work, [DAY]) == 0, "read again, and the same"
    footage(work, (5.0, 8.0), (100.0, 103.0), (200.0, 203.0))
    assert late_falls(work, [DAY]) == 2
    assert late_falls(work, [DAY + timedelta(days=1)]) == 0, "of another day"
    assert late_falls(work, []) == 0
    decide(work, 1)
    assert late_falls(work, [DAY]) == 0


def test_answers_that_come_after_a_decision_are_late_falls_where_there_is_no_footage(
    work: Work,
) -> None:
    tell(work, "edge_alerts", [alert(n, 2 * n, f"cam-{n}", "1") for n in range(1, 5)])
    answer_alert(work, "a4", "fall", by="nurse", now=at(9))
    decide(work, 0)
    assert late_falls(work, [DAY]) == 0
    answer_alert(work, "a1", "fall", by="nurse", now=at(10))
    answer_alert(work, "a2", "no_fall", by="nurse", now=at(11))
    assert late_falls(work, [DAY]) == 1
    hang(work, cam_1="7")
    answer_alert(work, "a3", "fall", by="nurse", now=at(12))
    assert late_falls(work, [DAY]) == 2
    assert late_falls(work, [DAY - timedelta(days=1)]) == 0
    no_boxes = replace(work.site.settings, gateway=GatewaySettings())
    alone = replace(work, site=replace(work.site, settings=no_boxes))
    assert late_falls(alone, [DAY]) == 0, "with footage alone an answer becomes a label"
