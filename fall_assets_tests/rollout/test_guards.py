"""Each guard trips at its limit and not short of it, and says which box or camera."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.rollout.guards import (
    GUARDS,
    Crash,
    Facts,
    MemoryUse,
    Missed,
    Silence,
    Tripped,
    check,
)
from fall_assets.rollout.settings import GuardSettings

LIMITS = GuardSettings(
    heartbeat_min=30.0,
    outage_share=0.2,
    latency_p95_s=5.0,
    latency_alerts=5,
    memory_percent=95.0,
    memory_reports=3,
)
AT = "2026-03-01T04:05:06+00:00"

NAMES = st.text("abc 12-", min_size=1, max_size=6).filter(lambda text: bool(text.strip()))
NUMBERS = st.floats(0, 1e6)
MOMENTS = st.datetimes(datetime(2000, 1, 1), timezones=st.timezones()).map(
    lambda at: at.isoformat(timespec="seconds")
)
FACTS = st.builds(
    lambda boxes, **rest: Facts(
        champion_boxes=sum(boxes),
        champion_silent=boxes[0],
        boxes=2 * sum(boxes),
        boxes_silent=2 * boxes[0],
        **rest,
    ),
    st.tuples(st.integers(0, 50), st.integers(0, 50)),
    challenger=NAMES,
    crashes=st.lists(
        st.builds(Crash, NAMES, MOMENTS, st.sampled_from(["rolled_back", "refused"]), st.text())
    ),
    silent=st.lists(
        st.builds(Silence, NAMES, NAMES, NUMBERS, st.none() | NUMBERS, NUMBERS, NUMBERS)
    ),
    latency_p95_s=st.none() | NUMBERS,
    latency_alerts=st.integers(0, 1000),
    memory=st.lists(st.builds(MemoryUse, NAMES, st.floats(0, 100))),
    parity_failure=st.none() | NAMES,
    missed=st.lists(st.builds(Missed, NAMES, MOMENTS, st.text())),
)


def tripped(**facts: Any) -> list[str]:
    return [row.guard for row in check(Facts("12", **facts), LIMITS)]


def quiet(
    box: str = "b1",
    camera: str = "c1",
    minutes: float = 90.0,
    shadow: float | None = 1.0,
    box_minutes: float = 1.0,
    lived: float = 600.0,
) -> Silence:
    """A camera of which the challenger tells nothing; its box and its shadow go on."""
    return Silence(box, camera, minutes, shadow, box_minutes, lived)


def dead(box: str = "b1", minutes: float = 90.0, lived: float = 10.0) -> Silence:
    """A camera of a box that tells nothing at all."""
    return quiet(box, minutes=minutes, shadow=minutes, box_minutes=minutes, lived=lived)


def said(**facts: Any) -> str:
    (row,) = check(Facts("12", **facts), LIMITS)
    return row.text


def test_nothing_trips_where_all_is_well() -> None:
    assert tripped() == []
    assert (
        tripped(
            silent=[quiet(minutes=29.9)],
            champion_boxes=10,
            boxes=20,
            latency_p95_s=1.0,
            latency_alerts=100,
            memory=[("b1", 94.9)],
        )
        == []
    )


@pytest.mark.parametrize(
    ("state", "words"), [("rolled_back", "went back from it"), ("refused", "refused it")]
)
def test_a_crash_trips(state: str, words: str) -> None:
    text = said(crashes=[("b1", "2026-03-01T05:05:06+01:00", state, "exit code 139.")])
    assert text == (
        "Boxes cannot run the package of version 12: "
        f"b1 {words} at 2026-03-01 04:05:06 UTC (exit code 139)."
    )
    assert tripped(crashes=[("b1", AT, state, "")]) == ["crash"]


@pytest.mark.parametrize(("minutes", "trips"), [(29.99, False), (30.0, True), (31.0, True)])
def test_silence_trips_at_its_limit(minutes: float, trips: bool) -> None:
    assert tripped(silent=[quiet(minutes=minutes)]) == ["heartbeat"] * trips


def test_silence_says_which_boxes_and_cameras_and_how_long() -> None:
    silent = [
        quiet("b1", minutes=3.0),
        quiet("b2", "c3", 45.0),
        quiet("b2", "c2", 50.0),
        quiet("b3", "c9", 180.0),
    ]
    assert said(silent=silent) == (
        "No reports of what version 12 watches, from boxes: b3 (for 3.0 h: c9), "
        "b2 (for 50 min: c2, c3); the limit is 30 min."
    )


@pytest.mark.parametrize(("shadow", "trips"), [(None, True), (29.0, True), (30.0, False)])
def test_a_camera_that_the_shadow_does_not_tell_of_either_is_gone(
    shadow: float | None, trips: bool
) -> None:
    facts = {"silent": [quiet(shadow=shadow)], "champion_boxes": 10, "champion_silent": 10}
    assert tripped(**facts) == ["heartbeat"] * trips, "the network has nothing to do with it"


@pytest.mark.parametrize(("lived", "trips"), [(0.0, True), (120.0, True), (121.0, False)])
def test_a_box_that_tells_nothing_is_held_against_it_soon_after_the_change_alone(
    lived: float, trips: bool
) -> None:
    facts = {"silent": [dead(lived=lived)], "champion_boxes": 10, "boxes": 11, "boxes_silent": 1}
    assert tripped(**facts) == ["heartbeat"] * trips


@pytest.mark.parametrize(
    ("champions", "silent", "boxes", "all_silent", "trips"),
    [
        (10, 0, 20, 10, True),
        (10, 1, 20, 2, True),
        (10, 2, 20, 3, False),
        (1, 1, 20, 2, False),
        (0, 0, 10, 1, True),
        (0, 0, 10, 2, False),
        (0, 0, 1, 1, False),
        (0, 0, 0, 0, True),
    ],
)
def test_a_dead_box_is_not_held_against_it_where_the_network_is_out(
    champions: int, silent: int, boxes: int, all_silent: int, trips: bool
) -> None:
    facts = {
        "silent": [dead()],
        "champion_boxes": champions,
        "champion_silent": silent,
        "boxes": boxes,
        "boxes_silent": all_silent,
    }
    assert tripped(**facts) == ["heartbeat"] * trips
    # Only silence is the network's fault.
    assert "crash" in tripped(**facts, crashes=[("b1", AT, "rolled_back", "")])


@pytest.mark.parametrize(
    ("p95_s", "alerts", "trips"),
    [(5.0, 100, False), (5.01, 100, True), (5.01, 5, True), (99.0, 4, False), (None, 100, False)],
)
def test_latency_trips_over_its_limit_with_enough_alerts(
    p95_s: float | None, alerts: int, trips: bool
) -> None:
    assert tripped(latency_p95_s=p95_s, latency_alerts=alerts) == ["latency"] * trips


def test_latency_says_how_slow() -> None:
    assert said(latency_p95_s=7.25, latency_alerts=23) == (
        "Alerts of version 12 are slow: of 23, 5 in 100 took 7.25 s or longer to reach the "
        "gateway; the limit is 5 s."
    )


@pytest.mark.parametrize(("percent", "trips"), [(94.99, False), (95.0, True), (100.0, True)])
def test_memory_trips_at_its_limit(percent: float, trips: bool) -> None:
    assert tripped(memory=[("b1", 10.0), ("b2", percent)]) == ["memory"] * trips


def test_memory_says_which_box() -> None:
    assert said(memory=[("b1", 10.0), ("b2", 96.5)]) == (
        "Boxes with version 12 run out of memory, in their last 3 reports: "
        "b2 (never under 96.5 %); the limit is 95 %."
    )


def test_a_parity_failure_trips() -> None:
    assert said(parity_failure="scores differ by 0.2 at 3.4 s of fall-01.mp4") == (
        "Boxes do not score as the platform does with version 12: "
        "scores differ by 0.2 at 3.4 s of fall-01.mp4."
    )


def test_a_missed_fall_trips() -> None:
    assert said(missed=[("cam-7", AT, "answered by staff")]) == (
        "Missed by version 12, though the version in shadow saw them, were confirmed falls: "
        "camera cam-7 at 2026-03-01 04:05:06 UTC (answered by staff)."
    )


def test_long_lists_are_cut_and_counted() -> None:
    text = said(silent=[quiet(f"b{n:02}", minutes=60.0) for n in range(12)])
    assert "b04 (for 60 min: c1) and 7 more" in text
    assert "b05" not in text


@pytest.mark.parametrize(
    ("early", "late", "key"),
    [
        (
            {"silent": [quiet("b2"), quiet("b1", "c2"), quiet("b1")]},
            {"silent": [quiet("b1", "c2", 95.0), quiet("b1", minutes=99.0), quiet("b2")]},
            "heartbeat: b1/c1, b1/c2, b2/c1",
        ),
        (
            {"memory": [("b1", 96.0)]},
            {"memory": [("b1", 99.0)]},
            "memory: b1",
        ),
        (
            {"latency_p95_s": 6.0, "latency_alerts": 5},
            {"latency_p95_s": 9.0, "latency_alerts": 8},
            "latency: 12",
        ),
        (
            {"crashes": [("b1", AT, "rolled_back", "")]},
            {"crashes": [("b1", AT, "rolled_back", ""), ("b1", AT, "rolled_back", "again")]},
            "crash: b1",
        ),
        ({"parity_failure": "by .2"}, {"parity_failure": "by .3"}, "parity: 12"),
        (
            {"missed": [("c1", AT, "")]},
            {"missed": [("c1", AT, "a labelled fall")]},
            "missed_fall: c1 at 2026-03-01 04:05:06 UTC",
        ),
    ],
)
def test_a_trip_has_the_same_key_as_long_as_it_is_about_the_same(
    early: dict[str, Any], late: dict[str, Any], key: str
) -> None:
    (one,), (other,) = (check(Facts("12", **facts), LIMITS) for facts in (early, late))
    assert one.key == other.key == key
    assert one.guard not in ("heartbeat", "memory", "latency") or one.text != other.text


@settings(deadline=None)
@given(FACTS)
def test_each_guard_trips_once_in_order_and_facts_survive_json(facts: Facts) -> None:
    again = Facts.from_dict(json.loads(json.dumps(facts.as_dict(), allow_nan=False)))
    assert again == facts
    rows = check(facts, LIMITS)
    assert check(again, LIMITS) == rows
    guards = [row.guard for row in rows]
    assert guards == [guard for guard in GUARDS if guard in guards]
    assert [Tripped(**asdict(row)) for row in rows] == rows
    assert all(facts.challenger in row.text and row.text.endswith(".") for row in rows)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"challenger": ""}, "challenger is ''"),
        ({"crashes": "b1"}, "crashes is not a list"),
        ({"crashes": [["b1", AT, "rolled_back"]]}, r"wanted \(box, at, state, detail\)"),
        ({"crashes": [["b1", AT, "tired", ""]]}, "there are: rolled_back, refused"),
        ({"crashes": [["b1", "yesterday", "refused", ""]]}, "not a moment in ISO 8601"),
        ({"missed": [["c1", "2026-03-01T04:05:06", ""]]}, "has no offset"),
        ({"silent": [["b1", "c1", -1.0, None, 1.0, 1.0]]}, "silent: minutes is -1.0"),
        ({"silent": [["b1", "c1", float("nan"), None, 1.0, 1.0]]}, "minutes is nan"),
        ({"silent": [["b1", "c1", 1.0, -1.0, 1.0, 1.0]]}, "shadow_minutes is -1.0"),
        ({"silent": [["b1", "c1", 1.0, None, None, 1.0]]}, "box_minutes is None"),
        ({"silent": [["b1", "", 1.0, None, 1.0, 1.0]]}, "silent: camera_id is ''"),
        ({"memory": [["b1", 101.0]]}, "percent is 101.0, wanted 0 to 100"),
        ({"memory": [["", 10.0]]}, "memory: box is ''"),
        ({"champion_boxes": True}, "champion_boxes is True"),
        ({"champion_boxes": 1, "champion_silent": 2}, "champion_silent is 2, of 1 boxes"),
        ({"boxes": 3, "boxes_silent": 4}, "boxes_silent is 4, of 3 boxes"),
        ({"latency_p95_s": float("inf")}, "latency_p95_s is inf"),
        ({"latency_alerts": 1.5}, "latency_alerts is 1.5"),
        ({"parity_failure": " "}, "parity_failure is ' '"),
        ({"mood": "bad"}, "do not know: mood"),
    ],
)
def test_facts_that_cannot_be_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Facts.from_dict(Facts("12").as_dict() | change)


def test_facts_that_lack_something_are_refused() -> None:
    values = Facts("12").as_dict()
    del values["missed"]
    with pytest.raises(ValueError, match="lack or do not know: missed"):
        Facts.from_dict(values)


def test_an_unknown_guard_is_refused() -> None:
    with pytest.raises(ValueError, match="'weather' is not known; there are: crash, heartbeat"):
        Tripped("weather", "It rains.")
