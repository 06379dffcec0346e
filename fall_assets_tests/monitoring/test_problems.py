"""Problems begin once, last while they are found, and end once."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.lake.registry import table
from fall_assets.monitoring.cameras import cameras_now
from fall_assets.monitoring.disk import Disk
from fall_assets.monitoring.problems import (
    RUN_KINDS,
    Problem,
    camera_problems,
    disk_problems,
    follow,
    has_ended,
    run_problems,
)
from fall_assets.monitoring.runs import RunFigures, StuckRun
from fall_assets.monitoring.settings import PROBLEMS, HealthSettings
from fall_assets_tests.monitoring.telemetry import NOW, frame, report

SETTINGS = HealthSettings()
SETTLE_MIN = 10.0


def dead(subject: str = "cam-1", sentence: str = "it sends nothing") -> Problem:
    return Problem("camera_dead", subject, "Ward A", NOW, sentence, "restart it")


def after(
    rows: pl.DataFrame, found: list[Problem], now: datetime, kinds: set[str] | None = None
) -> tuple[pl.DataFrame, int]:
    """All rows once `follow`'s are put in their places, and how many it changed."""
    looked_at = set(PROBLEMS) if kinds is None else kinds
    changed = follow(rows, found, looked_at, now, settle_min=SETTLE_MIN)
    kept = rows.join(changed, on="problem_id", how="anti")
    return pl.concat([kept, changed]), changed.height


def at(minute: float) -> datetime:
    return NOW + timedelta(minutes=minute)


def test_a_problem_that_lasts_is_one_row_that_is_written_once() -> None:
    rows, changed = after(table("site_health").empty(), [dead()], at(0))
    assert changed == 1
    for minute in (10, 20, 30):
        rows, changed = after(rows, [dead()], at(minute))
        assert changed == 0, "nothing is written while nothing changes"
    assert rows.select("kind", "subject", "found_utc", "gone_utc").rows() == [
        ("camera_dead", "cam-1", NOW, None)
    ]
    rows, changed = after(rows, [dead(sentence="it sends nothing at all")], at(40))
    assert (changed, rows["sentence"].to_list()) == (1, ["it sends nothing at all"])


def test_a_problem_that_comes_back_soon_is_the_same_and_later_another() -> None:
    rows, _ = after(table("site_health").empty(), [dead()], at(0))
    rows, _ = after(rows, [], at(10))
    assert rows["gone_utc"].to_list() == [at(10)]
    rows, _ = after(rows, [dead()], at(15))
    assert rows["gone_utc"].to_list() == [None]
    rows, _ = after(rows, [], at(20))
    rows, _ = after(rows, [dead()], at(31))
    assert rows.sort("found_utc")["gone_utc"].to_list() == [at(20), None]
    assert rows["problem_id"].n_unique() == 2


def test_what_was_not_looked_at_does_not_end() -> None:
    failed = Problem("runs_failed", "nightly", "", NOW, "it failed", "look")
    rows, _ = after(table("site_health").empty(), [failed, dead()], at(0))
    rows, _ = after(rows, [], at(10), set(PROBLEMS) - RUN_KINDS)
    gone = dict(rows.select("kind", "gone_utc").iter_rows())
    assert gone == {"runs_failed": None, "camera_dead": at(10)}


@given(st.lists(st.sets(st.sampled_from(["cam-1", "cam-2", "cam-3"])), max_size=30))
def test_at_every_moment_what_is_found_is_open_exactly_once(found: list[set[str]]) -> None:
    rows = table("site_health").empty()
    for number, subjects in enumerate(found):
        now = at(6 * number)
        rows, _ = after(rows, [dead(one) for one in sorted(subjects)], now)
        lasting = rows.filter(pl.col("gone_utc").is_null())["subject"].to_list()
        assert sorted(lasting) == sorted(subjects)
        still_open = [
            row["subject"]
            for row in rows.iter_rows(named=True)
            if not has_ended(row, now, SETTLE_MIN)
        ]
        assert len(still_open) == len(set(still_open)), "one episode at a time"


def test_a_box_that_is_silent_is_one_problem() -> None:
    rows = [report(f"cam-{n}", 60, box="box-1") for n in range(7)]
    rows += [report("cam-8", 1, box="box-2"), report("cam-9", 90, box="box-2")]
    cameras = [(f"cam-{n}", "Ward A", str(n)) for n in range(10) if n != 7]
    found = camera_problems(cameras_now(frame(*rows), cameras, NOW, SETTINGS), NOW)
    assert [(one.kind, one.subject, one.ward) for one in found] == [
        ("box_silent", "box-1", "Ward A"),
        ("camera_silent", "cam-9", "Ward A"),
    ]
    assert "7 cameras: cam-0, cam-1, cam-2, cam-3, cam-4 and 2 more" in found[0].sentence


def test_a_camera_s_problem_says_where_and_what_to_do() -> None:
    rows = frame(report("cam-1", 1, state="black", since_utc=NOW - timedelta(hours=1)))
    [found] = camera_problems(cameras_now(rows, [("cam-1", "Ward A", "12")], NOW, SETTINGS), NOW)
    assert found.sentence == "camera cam-1 (ward Ward A, room 12): its picture is black"
    assert found.since_utc == NOW - timedelta(hours=1)
    assert "covered" in found.advice
    off = HealthSettings(off=("cam-1",))
    assert camera_problems(cameras_now(rows, [("cam-1", "Ward A", "12")], NOW, off), NOW) == []


def test_the_disk_fills_by_what_is_left_or_by_when_it_is_full() -> None:
    def kinds(free: int, growth: float | None) -> list[str]:
        return [one.kind for one in disk_problems(Disk(1000, free), growth, NOW, SETTINGS)]

    assert kinds(400, None) == []
    assert kinds(400, 1.0) == []
    assert kinds(400, 20.0) == ["disk_filling"]
    assert kinds(150, None) == ["disk_filling"]
    assert kinds(50, 20.0) == ["disk_full"]


def test_runs_and_days_that_failed_are_named() -> None:
    stuck = StuckRun("run-1", "retraining", "started", NOW - timedelta(hours=13))
    figures = RunFigures({"nightly": 2}, [stuck], 0, 1, {"features": ["2026-03-01"]})
    found = run_problems(figures, NOW, SETTINGS)
    assert [(one.kind, one.subject) for one in found] == [
        ("runs_failed", "nightly"),
        ("run_stuck", "run-1"),
        ("partitions_failed", "features"),
    ]
    assert "2 runs failed" in found[0].sentence
    assert found[2].sentence == "features: 1 day failed and was not made since: 2026-03-01"
