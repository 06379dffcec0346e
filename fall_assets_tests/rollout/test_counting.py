"""Alarms, falls and watching become a day's evidence."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.rollout.counting import ALARM_SCHEMA, FALL_SCHEMA, WATCH_SCHEMA, count_day
from fall_assets.rollout.evidence import EVIDENCE_SCHEMA
from fall_assets.rollout.guards import Missed

DAY = date(2026, 3, 1)
MIDNIGHT = datetime.combine(DAY, time(), UTC)
CAMERA = "cam-01"


def at(seconds: float) -> datetime:
    return MIDNIGHT + timedelta(seconds=seconds)


def alarm(
    raised_s: float, role: str = "challenger", verdict: str | None = None, **more: Any
) -> dict[str, Any]:
    own = {
        "camera_id": CAMERA,
        "role": role,
        "shadow": role == "champion",
        "start_utc": at(raised_s - 4),
        "raised_utc": at(raised_s),
        "verdict": verdict,
    }
    return own | more


def watching(*roles: str, camera: str = CAMERA) -> list[dict[str, Any]]:
    return [
        {
            "camera_id": camera,
            "role": role,
            "shadow": role == "champion",
            "camera_days": 0.5,
            "abstained_h": 0.25,
        }
        for role in roles
    ]


def counted(
    alarms: list[dict[str, Any]],
    falls: list[tuple[float, float]] = [],  # noqa: B006
    watched: list[dict[str, Any]] | None = None,
    told: list[tuple[float, float]] = [],  # noqa: B006
) -> tuple[dict[str, dict[str, Any]], list[Missed]]:
    labelled, confirmed = (
        pl.DataFrame(
            [(CAMERA, at(start), at(end)) for start, end in rows],
            schema=dict(FALL_SCHEMA),
            orient="row",
        )
        for rows in (falls, told)
    )
    rows, missed = count_day(
        DAY,
        pl.DataFrame(alarms, schema=dict(ALARM_SCHEMA)),
        labelled,
        pl.DataFrame(
            watching("challenger", "champion") if watched is None else watched,
            schema=dict(WATCH_SCHEMA),
        ),
        {CAMERA: "ward-1|720p|v1"},
        episode_min=10.0,
        told=confirmed,
    )
    assert dict(rows.schema) == dict(EVIDENCE_SCHEMA)
    return {row["role"]: row for row in rows.to_dicts()}, missed


def test_alarms_close_to_each_other_are_one_episode() -> None:
    rows, _ = counted([alarm(100), alarm(400), alarm(900), alarm(3000)])
    assert rows["challenger"]["alerts"] == 2
    assert rows["champion"]["alerts"] == 0
    assert rows["challenger"]["camera_days"] == 0.5
    assert rows["challenger"]["stratum"] == "ward-1|720p|v1"


def test_labels_and_answers_say_what_was_right() -> None:
    rows, missed = counted(
        [alarm(103), alarm(5000, verdict="no_fall"), alarm(9000, verdict="fall"), alarm(20000)],
        falls=[(100, 102)],
    )
    own = rows["challenger"]
    assert (own["alerts"], own["confirmed"], own["dismissed"]) == (4, 2, 1)
    assert own["delays_s"] == [3.0]
    assert missed == []


def test_an_answer_to_the_live_alarm_holds_for_the_shadow_of_the_same_moment() -> None:
    rows, _ = counted(
        [alarm(5000, verdict="no_fall"), alarm(5010, "champion"), alarm(9000, "champion")]
    )
    assert (rows["champion"]["alerts"], rows["champion"]["dismissed"]) == (2, 1)


def test_a_fall_that_only_the_shadow_saw_is_named() -> None:
    rows, missed = counted([alarm(103, "champion")], falls=[(100, 102), (4000, 4002)])
    assert rows["champion"]["confirmed"] == 1
    assert [(one.camera_id, one.at) for one in missed] == [
        (CAMERA, at(100).isoformat(timespec="seconds"))
    ]
    _, none = counted([alarm(103)], falls=[(100, 102)])
    assert none == [], "the champion in shadow did not see it either, or the challenger did"
    as_shadow = [alarm(103, "champion", shadow=False)]
    live = [
        {**row, "shadow": row["role"] == "challenger"} for row in watching("challenger", "champion")
    ]
    _, none = counted(as_shadow, falls=[(100, 102)], watched=live)
    assert none == [], "a challenger that raises nothing has missed nothing"


def test_a_fall_that_staff_confirmed_can_be_missed_and_counts_for_nothing_else() -> None:
    rows, missed = counted([alarm(103, "champion")], told=[(100, 102)])
    assert [(one.at, one.what) for one in missed] == [
        (at(100).isoformat(timespec="seconds"), "a fall that staff confirmed")
    ]
    assert rows["champion"]["confirmed"] == 0
    assert rows["champion"]["delays_s"] == []
    _, none = counted([alarm(103, "champion"), alarm(131)], told=[(100, 102)])
    assert none == [], "the challenger saw it too, within half a minute"
    _, none = counted([alarm(133, "champion")], told=[(100, 102)])
    assert none == [], "the champion's alarm was about something else"
    _, one = counted([alarm(103, "champion")], falls=[(100, 102)], told=[(101, 103)])
    assert [fall.what for fall in one] == ["a labelled fall"], "told of twice, and named once"


def test_who_did_not_watch_has_no_row() -> None:
    rows, _ = counted([alarm(100)], watched=watching("champion"))
    assert list(rows) == ["champion"]


@given(st.lists(st.tuples(st.integers(0, 86_399), st.sampled_from(["fall", "no_fall", None]))))
def test_counts_fit_together(alarms: list[tuple[int, str | None]]) -> None:
    rows, _ = counted([alarm(raised, verdict=verdict) for raised, verdict in alarms])
    own = rows["challenger"]
    assert own["confirmed"] + own["dismissed"] <= own["alerts"] <= len(alarms)
    assert (own["alerts"] == 0) == (not alarms)
    assert (own["confirmed"] > 0) == any(verdict == "fall" for _, verdict in alarms)
