"""The technician is told once when a problem begins, once when it ends, whoever was away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from fall_assets.lake.registry import table
from fall_assets.monitoring.settings import PROBLEMS, TechnicianSettings, WardTechnician
from fall_assets.monitoring.technician import due, tell
from fall_assets_tests.delivery.test_channels import Receiver
from fall_assets_tests.monitoring.telemetry import NOW

SETTINGS = TechnicianSettings()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


def row(problem_id: str = "p1", **other: Any) -> dict[str, Any]:
    return {
        "problem_id": problem_id,
        "kind": "camera_dead",
        "subject": "cam-1",
        "ward": "Ward A",
        "since_utc": NOW,
        "found_utc": NOW,
        "gone_utc": None,
        "sentence": "camera cam-1 (ward Ward A, room 12): it sends no pictures",
        "advice": "restart it",
    } | other


class Technician:
    """Problems and what was sent of them, as the lake would keep it."""

    def __init__(self, urls: Mapping[str, str], settings: TechnicianSettings = SETTINGS) -> None:
        self.urls, self.settings = urls, settings
        self.deliveries = table("technician_deliveries").empty()

    def look(self, minute: float, *rows: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
        """Look so many minutes after NOW: (event, channel, receiver, taken) of what was sent."""
        now = NOW + timedelta(minutes=minute)
        problems = pl.DataFrame(list(rows), schema=table("site_health").schema)
        messages = due(problems, self.deliveries, self.urls, self.settings, now)
        return [
            (message.event, message.channel, message.receiver, sent)
            for message, sent, _ in tell(messages, self.urls, lambda: now, self._record)
        ]

    def _record(self, rows: pl.DataFrame) -> None:
        self.deliveries = pl.concat([self.deliveries, rows])


def events(receiver: Receiver) -> list[tuple[Any, Any]]:
    return [(body["event"], body["title"]) for _, body in receiver.requests]


def test_a_beginning_and_an_end_are_told_once_each(receiver: Receiver) -> None:
    technician = Technician({"": receiver.url})
    assert technician.look(9, row()) == [], "not before it lasted"
    both = [("begin", "log", "", True), ("begin", "webhook", "", True)]
    assert technician.look(10, row()) == both
    for minute in (11, 20, 60):
        assert technician.look(minute, row()) == []
    gone = row(gone_utc=NOW + timedelta(minutes=70))
    assert technician.look(71, gone) == [], "it may come back"
    assert technician.look(80, gone) == [
        ("end", channel, "", True) for channel in ("log", "webhook")
    ]
    assert technician.look(90, gone) == []
    sentence = row()["sentence"]
    assert events(receiver) == [("begin", sentence), ("end", f"over: {sentence}")]
    headers, body = receiver.requests[0]
    assert headers["idempotency-key"] == "p1-begin-0"
    assert body == {
        "kind": "site_problem",
        "problem": "camera_dead",
        "event": "begin",
        "urgent": True,
        "title": sentence,
        "problem_id": "p1",
        "subject": "cam-1",
        "ward": "Ward A",
        "advice": "restart it",
        "since_utc": NOW.isoformat(timespec="milliseconds"),
    }


def test_what_lasts_is_told_again_now_and_then_and_not_made_up_for(receiver: Receiver) -> None:
    technician = Technician({"": receiver.url}, replace(SETTINGS, repeat_hours=2.0))
    technician.look(10, row())
    for minute in (60, 129, 130, 140, 249, 600, 605):
        technician.look(minute, row())
    assert [event for event, _ in events(receiver)] == ["begin", "again", "again"]
    keys = [headers["idempotency-key"] for headers, _ in receiver.requests]
    assert keys == ["p1-begin-0", "p1-again-1", "p1-again-4"]
    never = Technician({"": receiver.url}, replace(SETTINGS, repeat_hours=0.0))
    never.look(10, row())
    assert never.look(10_000, row()) == []


def test_a_receiver_that_is_away_is_told_later_and_holds_up_nothing(receiver: Receiver) -> None:
    technician = Technician({"": receiver.url})
    receiver.status = 503
    rows = [row(f"p{number}") for number in range(8)]
    sent = technician.look(10, *rows)
    assert sum(channel == "log" and taken for _, channel, _, taken in sent) == 8
    assert len(receiver.requests) == 3, "left alone after three failures in a row"
    receiver.status = 200
    technician.look(20, *rows)
    taken = technician.deliveries.filter("delivered", channel="webhook")
    assert sorted(taken["problem_id"]) == sorted(one["problem_id"] for one in rows)
    assert technician.look(30, *rows) == []


def test_a_run_killed_between_sending_and_noting_sends_the_same_key_again(
    receiver: Receiver,
) -> None:
    technician = Technician({"": receiver.url})
    technician.look(10, row())
    technician.deliveries = technician.deliveries.filter(channel="log")
    technician.look(20, row())
    keys = {headers["idempotency-key"] for headers, _ in receiver.requests}
    assert (len(receiver.requests), keys) == (2, {"p1-begin-0"})


def test_each_ward_has_its_own_technician_and_choice() -> None:
    site, geriatrics = Receiver(), Receiver()
    try:
        wards = (
            WardTechnician("Geriatrics", "geriatrics", ("camera_dead",)),
            WardTechnician("Children", "nobody", tuple(PROBLEMS)),
        )
        technician = Technician(
            {"": site.url, "geriatrics": geriatrics.url},
            TechnicianSettings(tell=("camera_dead", "disk_full"), wards=wards),
        )
        told = technician.look(
            10,
            row("p1", ward="Geriatrics"),
            row("p2", ward="Geriatrics", kind="camera_moved"),
            row("p3", ward="Surgery"),
            row("p4", ward="Surgery", kind="camera_moved"),
            row("p5", ward="", kind="disk_full"),
            row("p6", ward="Children", kind="camera_moved"),
        )
        assert len([one for one in told if one[1] == "log"]) == 4
        assert [body["problem_id"] for _, body in geriatrics.requests] == ["p1"]
        names = [body["problem_id"] for _, body in site.requests]
        assert names == ["p3", "p5", "p6"], "a receiver without an address: the site's is told"
    finally:
        site.close()
        geriatrics.close()


@pytest.mark.parametrize(
    ("hour", "kinds"),
    [(21, {"camera_dead", "camera_moved"}), (23, {"camera_dead"}), (3, {"camera_dead"})],
)
def test_at_night_only_what_is_urgent_is_told(hour: int, kinds: set[str]) -> None:
    settings = replace(SETTINGS, quiet_from="22:00", quiet_until="06:00", timezone="Asia/Tokyo")
    # Tokyo is nine hours ahead of UTC.
    now = datetime.fromisoformat(f"2026-03-12T{hour:02}:30:00+09:00")
    found = now - timedelta(hours=1)
    rows = [row(kind, kind=kind, found_utc=found) for kind in ("camera_dead", "camera_moved")]
    problems = pl.DataFrame(rows, schema=table("site_health").schema)
    messages = due(problems, table("technician_deliveries").empty(), {}, settings, now)
    assert {message.problem["kind"] for message in messages} == kinds


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"tell": ("camera_lost",)}, "camera_lost"),
        ({"quiet_from": "22:00"}, "go together"),
        ({"quiet_from": "25:00", "quiet_until": "06:00"}, "25:00"),
        ({"timezone": "Mars/Base"}, "Mars/Base"),
        ({"wait_min": -1.0}, "wait_min"),
        ({"wards": (WardTechnician("A"), WardTechnician("A"))}, "more than once"),
        ({"wards": (WardTechnician(),)}, "names no ward"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        TechnicianSettings(**wrong)
