"""A camera is judged by the time of its own newest report, whatever was written when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.monitoring.cameras import STATES, CameraNow, cameras_now
from fall_assets.monitoring.settings import HealthSettings
from fall_assets_tests.monitoring.telemetry import NOW, frame, report

SETTINGS = HealthSettings()
PLACE = ("Ward A", "12")


def look(*rows: dict[str, Any], settings: HealthSettings = SETTINGS) -> CameraNow:
    [camera] = cameras_now(frame(*rows), [("cam-1", *PLACE)], NOW, settings)
    return camera


def minutes(count: int, **other: Any) -> list[dict[str, Any]]:
    return [report("cam-1", ago, **other) for ago in range(count)]


def test_a_camera_that_reports_is_well() -> None:
    camera = look(*minutes(20))
    assert (camera.state, camera.freshness, camera.advice) == ("ok", "fresh", "")
    assert camera.last_utc == NOW
    assert camera.frames_share == 1.0


def test_a_camera_that_was_not_heard_of_for_long_is_stale_since_its_last_report() -> None:
    heard = look(report("cam-1", 44))
    silent = look(report("cam-1", 46), report("cam-1", 900))
    assert (heard.state, silent.state, silent.freshness) == ("ok", "stale", "stale")
    assert silent.since_utc == NOW - timedelta(minutes=46)
    assert "box" in silent.advice


def test_a_camera_without_any_report_was_never_seen() -> None:
    camera = look(report("cam-2", 1))
    assert (camera.state, camera.since_utc, camera.last_utc) == ("never_seen", None, None)


def test_reports_of_a_time_to_come_say_nothing_of_now() -> None:
    ahead = report("cam-1", -60)
    camera = look(ahead)
    assert camera.state == "never_seen"
    assert "clock is ahead" in camera.detail
    assert look(ahead, report("cam-1", 60)).state == "stale"
    assert look(report("cam-1", -4)).state == "ok", "clocks differ by a little"


@pytest.mark.parametrize(
    ("told", "state"),
    [("lost", "dead"), ("black", "blind"), ("frozen", "frozen"), ("moved", "moved")],
)
def test_a_box_that_watches_the_stream_is_believed(told: str, state: str) -> None:
    since = NOW - timedelta(hours=2)
    camera = look(*minutes(3, state=told, since_utc=since), report("cam-1", 3))
    assert (camera.state, camera.since_utc) == (state, since)
    assert camera.advice


def test_no_frames_are_a_dead_camera_though_nobody_says_so() -> None:
    none = {"frames_decoded": 0, "fps_measured": 0.0, "state": None, "since_utc": None}
    camera = look(*minutes(16, **none), report("cam-1", 16))
    assert (camera.state, camera.since_utc) == ("dead", NOW - timedelta(minutes=15))
    by_file = {"frames_expected": None, "frames_decoded": None, "fps_measured": None, "box": None}
    gone = by_file | {"state": None, "since_utc": None, "bandwidth_kbps": 0.0}
    assert look(report("cam-1", 0, **gone)).state == "dead"


@pytest.mark.parametrize(
    "few",
    [
        {"frames_decoded": 700},
        {"frames_expected": None, "fps_measured": 5.0},
        {"state": "starved"},
    ],
)
def test_too_few_pictures_are_told(few: dict[str, Any]) -> None:
    camera = look(*minutes(16, **few))
    assert camera.state == "starved"
    assert camera.detail


def test_one_bad_minute_does_not_starve_a_camera() -> None:
    assert look(report("cam-1", 0, frames_decoded=100), *minutes(16)[1:]).state == "ok"


def test_off_is_off_by_its_power_or_by_the_settings() -> None:
    camera = look(*minutes(5, power="off", state="lost"), *(report("cam-1", n) for n in (5, 6)))
    assert (camera.state, camera.since_utc) == ("off", NOW - timedelta(minutes=4))
    assert camera.expected
    meant = replace(SETTINGS, off=("cam-1",))
    for rows in ([], minutes(3), [report("cam-1", 5000)]):
        camera = look(*rows, settings=meant)
        assert (camera.state, camera.expected, camera.advice) == ("off", False, "")


rows_of_reports = st.lists(
    st.builds(
        report,
        st.sampled_from(["cam-1", "cam-2", "cam-3"]),
        st.integers(-600, 5000),
        state=st.sampled_from(["ok", "lost", "black", "frozen", "moved", "starved", None]),
        power=st.sampled_from(["mains", "off", "unknown"]),
        frames_decoded=st.sampled_from([0, 400, 1500, None]),
        fps_measured=st.sampled_from([0.0, 5.0, 25.0, None]),
        bandwidth_kbps=st.sampled_from([0.0, 900.0]),
        since_utc=st.sampled_from([None, NOW - timedelta(days=1), NOW + timedelta(days=1)]),
    ),
    max_size=12,
    unique_by=lambda row: (row["camera_id"], row["at_utc"]),
)
CAMERAS = [("cam-1", *PLACE), ("cam-2", *PLACE), ("cam-3", *PLACE)]


@given(rows_of_reports, st.randoms())
def test_every_camera_has_one_state_whatever_was_reported_in_whatever_order(
    rows: list[dict[str, Any]], random: Any
) -> None:
    found = cameras_now(frame(*rows), CAMERAS, NOW, SETTINGS)
    assert [one.camera_id for one in found] == ["cam-1", "cam-2", "cam-3"]
    for camera in found:
        times = [
            row["at_utc"]
            for row in rows
            if row["camera_id"] == camera.camera_id and row["at_utc"] <= NOW + timedelta(minutes=5)
        ]
        assert camera.state in STATES
        assert camera.last_utc == max(times, default=None)
        late = camera.last_utc is None or NOW - camera.last_utc > timedelta(minutes=45)
        assert (camera.freshness == "fresh") is not late
        assert (camera.state in ("stale", "never_seen")) is late
        assert camera.since_utc is None or camera.since_utc <= max(times)
    random.shuffle(rows)
    assert cameras_now(frame(*rows), CAMERAS, NOW, SETTINGS) == found


@given(rows_of_reports, rows_of_reports)
def test_filling_in_older_days_makes_no_camera_fresh(
    rows: list[dict[str, Any]], older: list[dict[str, Any]]
) -> None:
    """Whatever arrives late: what is older than all that is known changes no camera's state."""
    filled = [
        row | {"at_utc": row["at_utc"] - timedelta(days=10), "state": "ok", "power": "mains"}
        for row in older
    ]
    before = cameras_now(frame(*rows), CAMERAS, NOW, SETTINGS)
    after = cameras_now(pl.concat([frame(*rows), frame(*filled)]), CAMERAS, NOW, SETTINGS)
    for was, now in zip(before, after, strict=True):
        assert now.freshness != "fresh" or was.freshness == "fresh"
        if was.last_utc is not None:
            assert (now.state, now.last_utc) == (was.state, was.last_utc)


@given(rows_of_reports, st.integers(0, 10_000))
def test_without_news_a_camera_only_gets_staler(rows: list[dict[str, Any]], later_min: int) -> None:
    past = [row for row in rows if row["at_utc"] <= NOW]
    now = cameras_now(frame(*past), CAMERAS, NOW, SETTINGS)
    later = cameras_now(frame(*past), CAMERAS, NOW + timedelta(minutes=later_min), SETTINGS)
    order = ["fresh", "stale", "never_seen"]
    for one, other in zip(now, later, strict=True):
        assert order.index(other.freshness) >= order.index(one.freshness)
