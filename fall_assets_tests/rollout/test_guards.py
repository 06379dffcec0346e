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
    lambda boxes, **rest: Facts(champion_boxes=sum(boxes), champion_silent=boxes[0], **rest),
    st.tuples(st.integers(0, 50), st.integers(0, 50)),
    challenger=NAMES,
    crashes=st.lists(
        st.builds(Crash, NAMES, MOMENTS, st.sampled_from(["rolled_back", "refused"]), st.text())
    ),
    silent=st.lists(st.builds(Silence, NAMES, NUMBERS)),
    latency_p95_s=st.none() | NUMBERS,
    latency_alerts=st.integers(0, 1000),
    memory=st.lists(st.builds(MemoryUse, NAMES, st.floats(0, 100))),
    parity_failure=st.none() | NAMES,
    missed=st.lists(st.builds(Missed, NAMES, MOMENTS, st.text())),
)


def tripped(**facts: Any) -> list[str]:
    return [row.guard for row in check(Facts("12", **facts), LIMITS)]


def said(**facts: Any) -> str:
    (row,) = check(Facts("12", **facts), LIMITS)
    return row.text


def test_nothing_trips_where_all_is_well() -> None:
    assert tripped() == []
    assert (
        tripped(
            silent=[("b1", 29.9)],
            champion_boxes=10,
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
    assert tripped(silent=[("b1", minutes)]) == ["heartbeat"] * trips


def test_silence_says_which_boxes_and_how_long() -> None:
    assert said(silent=[("b1", 3.0), ("b2", 45.0), ("b3", 180.0)]) == (
        "No reports from boxes with version 12: b3 (for 3.0 h), b2 (for 45 min); "
        "the limit is 30 min."
    )


@pytest.mark.parametrize(
    ("boxes", "silent", "trips"),
    [(0, 0, True), (10, 0, True), (10, 1, True), (10, 2, False), (10, 10, False), (1, 1, False)],
)
def test_silence_is_not_held_against_it_where_the_network_is_out(
    boxes: int, silent: int, trips: bool
) -> None:
    facts = {"silent": [("b1", 90.0)], "champion_boxes": boxes, "champion_silent": silent}
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
    text = said(silent=[(f"b{n:02}", 60.0) for n in range(12)])
    assert "b04 (for 60 min) and 7 more" in text
    assert "b05" not in text


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
        ({"silent": [["b1", -1.0]]}, "silent: minutes is -1.0"),
        ({"silent": [["b1", float("nan")]]}, "minutes is nan"),
        ({"memory": [["b1", 101.0]]}, "percent is 101.0, wanted 0 to 100"),
        ({"memory": [["", 10.0]]}, "memory: box is ''"),
        ({"champion_boxes": True}, "champion_boxes is True"),
        ({"champion_boxes": 1, "champion_silent": 2}, "champion_silent is 2, of 1 boxes"),
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
