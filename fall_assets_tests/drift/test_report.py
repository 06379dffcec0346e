"""The day's judgement: change is found, named and counted, the ordinary is left alone."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest

from fall_assets.drift.report import judge
from fall_assets.drift.settings import DriftSettings
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import table
from fall_assets.simulation.days import Change, camera_name
from fall_assets_tests.drift.wards import (
    ORDINARY,
    SPEC,
    causes,
    day,
    lived,
    ordinary,
    report,
    with_fact,
)

SINCE = 16
FIRST, SECOND = camera_name(0), camera_name(1)
DARKER = Change(0, "brightness", -0.2, SINCE)
CHILDREN = tuple(
    Change(camera, figure, 0.65, SINCE, times=True)
    for camera in range(SPEC.cameras)
    for figure in ("person_height", "upright_height")
)
CAMERAS = [camera_name(camera) for camera in range(SPEC.cameras)]


def test_the_tables_have_the_registry_s_columns() -> None:
    [judged] = report(lived(), range(ORDINARY, ORDINARY + 1))
    for name, frame in (
        ("drift_signals", judged.signals),
        ("drift_causes", judged.causes),
        ("drift_report", judged.report),
    ):
        assert dict(frame.schema) == table(name).schema
        assert frame.select(table(name).key).is_unique().all()


def test_ordinary_days_are_no_drift() -> None:
    for judged in report(lived(), range(ORDINARY, SPEC.days)):
        assert not judged.drifted
        assert judged.report["drift_id"][0] is None
        assert judged.verdict.startswith("No drift: 3 cameras")


def test_what_changed_is_suspected_then_named_with_its_first_day() -> None:
    judged = report(lived((DARKER,)), range(ORDINARY, SINCE + 3))
    assert causes(judged[0]) == causes(judged[1]) == []
    assert causes(judged[2], confirmed=False) == [(FIRST, "exposure")]
    assert not judged[2].drifted
    assert "another day is awaited" in judged[2].verdict
    for later in judged[3:]:
        assert causes(later, confirmed=True) == [(FIRST, "exposure")]
        assert later.causes["since"].to_list() == [day(SINCE)]
        assert json.loads(later.report["cameras"][0]) == [FIRST]
    assert judged[3].report["drift_id"][0] == judged[4].report["drift_id"][0]
    assert "light or colours of the picture have changed" in judged[3].verdict


def test_a_drift_has_one_id_whichever_figure_tells_of_it() -> None:
    warmer = Change(0, "warmth", 0.1, SINCE)
    told = [report(lived((one,)), range(SINCE, SINCE + 2))[-1] for one in (DARKER, warmer)]
    assert [causes(one, confirmed=True) for one in told] == [[(FIRST, "exposure")]] * 2
    assert len({one.report["drift_id"][0] for one in told}) == 1


def test_a_ward_that_cares_for_children_is_named_though_one_camera_alone_is_not() -> None:
    judged = report(lived(CHILDREN), range(SINCE - 1, SINCE + 2))
    assert not judged[1].drifted, "it may be a visit"
    assert causes(judged[2], confirmed=True) == [(name, "smaller_people") for name in CAMERAS]
    assert judged[2].causes["since"].to_list() == [day(SINCE)] * len(CAMERAS)
    assert "people are smaller than before" in judged[2].verdict
    [alone] = report(lived(CHILDREN[:2]), range(SINCE, SINCE + 1))
    assert causes(alone) == [], "it may be one patient"


def test_children_who_visit_a_ward_for_a_day_are_no_drift() -> None:
    seen, away = lived(CHILDREN), lived()
    there = seen.of([day(SINCE)])
    others = away.of([day(number) for number in range(SPEC.days) if number != SINCE])
    visit = replace(away, profile=pl.concat([others.profile, there.profile]))
    judged = report(visit, range(SINCE - 1, SINCE + 4))
    assert [one.drifted for one in judged] == [False] * 5


def test_cameras_of_another_ward_are_not_asked() -> None:
    days = lived(CHILDREN).of([*map(day, range(ORDINARY)), day(SINCE)])
    apart = {name: f"ward {name}" for name in CAMERAS}
    assert causes(judge(days, ordinary(), day(SINCE), "1", wards=apart)) == []
    assert len(causes(judge(days, ordinary(), day(SINCE), "1"))) == len(CAMERAS)


def test_a_day_without_the_camera_is_no_day_without_the_change() -> None:
    days = lived((DARKER,))
    off = (pl.col("camera_id") == FIRST) & (pl.col("day") == day(SINCE + 1))
    gone = replace(days, profile=days.profile.filter(~off), facts=days.facts.filter(~off))
    judged = report(gone, range(SINCE, SINCE + 3))
    assert [causes(one, confirmed=True) for one in judged] == [[], [], [(FIRST, "exposure")]]
    assert judged[2].causes["since"].to_list() == [day(SINCE)]


def test_without_patience_a_first_day_counts() -> None:
    settings = DriftSettings(confirm_days=1)
    [judged] = report(lived((DARKER,)), range(SINCE, SINCE + 1), settings=settings)
    assert causes(judged, confirmed=True) == [(FIRST, "exposure")]


def test_another_resolution_counts_at_once_and_explains_the_rest() -> None:
    days = with_fact(lived((DARKER,)), 0, "resolution", "3840x2160", SINCE)
    [judged] = report(days, range(SINCE, SINCE + 1))
    assert causes(judged, confirmed=True) == [(FIRST, "resolution")]
    assert judged.causes["p_value"].to_list() == [None]
    assert "3840x2160" in judged.verdict


def test_a_frame_rate_may_be_a_little_off() -> None:
    usual = lived().facts.filter(pl.col("fact") == "frame_rate")["value"][0]
    for rate, found in ((f"{float(usual) * 0.9:.0f}", []), ("5", [(FIRST, "frame_rate")])):
        days = with_fact(lived(), 0, "frame_rate", rate, SINCE)
        [judged] = report(days, range(SINCE, SINCE + 1))
        assert causes(judged) == found


def test_the_same_on_two_cameras_is_told_once() -> None:
    days = lived()
    for camera in (0, 1):
        days = with_fact(days, camera, "resolution", "3840x2160", SINCE)
    [judged] = report(days, range(SINCE, SINCE + 1))
    assert f"cameras {FIRST} and {SECOND}:" in judged.verdict.lower()
    assert judged.verdict.count("resolution of the picture") == 1


def test_what_changes_slowly_is_found_before_it_is_over() -> None:
    slow = Change(0, "sharpness", 0.3, ORDINARY, ramp_days=8, times=True)
    judged = report(lived((slow,)), range(ORDINARY, SPEC.days))
    found = [place for place, one in enumerate(judged) if one.drifted]
    assert found
    assert found[0] <= 7
    assert causes(judged[found[0]], confirmed=True) == [(FIRST, "lens_blurred")]


def test_a_camera_that_nobody_learned_from_is_new() -> None:
    known = ordinary().filter(pl.col("camera_id") != SECOND)
    [judged] = report(lived(), range(ORDINARY, ORDINARY + 1), known=known)
    assert causes(judged, confirmed=True) == [(SECOND, "new_camera")]


def test_what_is_like_one_of_two_ordinary_lives_is_ordinary() -> None:
    days = lived((DARKER,))
    both = pl.concat([ordinary(), ordinary(days=range(SINCE, SINCE + 4), regime=1)])
    for judged in report(days, range(SINCE + 4, SPEC.days), known=both):
        assert causes(judged) == []


def test_a_day_without_footage_is_no_drift() -> None:
    days = lived().of([day(number) for number in range(ORDINARY)])
    judged = judge(days, ordinary(), day(ORDINARY), "1")
    assert not judged.drifted
    assert judged.verdict == "No drift: no footage on this day."
    assert judged.signals.is_empty()


def test_the_order_of_rows_changes_nothing() -> None:
    days = lived((DARKER,)).of([*map(day, range(ORDINARY)), day(SINCE)])
    shuffled = replace(
        days,
        profile=days.profile.sample(fraction=1.0, shuffle=True, seed=1),
        facts=days.facts.sample(fraction=1.0, shuffle=True, seed=2),
    )
    first, second = (judge(one, ordinary(), day(SINCE), "1") for one in (days, shuffled))
    assert first.signals.equals(second.signals)
    assert first.causes.equals(second.causes)
    assert first.report.equals(second.report)


def test_a_model_without_ordinary_days_is_told_what_to_do() -> None:
    with pytest.raises(PermanentFailureError, match="materialize drift_reference"):
        judge(lived(), ordinary(), day(SINCE), "2")


@pytest.mark.parametrize(
    "wrong", [{"camera_months": 0.0}, {"confirm_days": 0}, {"online_share": 0.95}, {"felt": 0.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        DriftSettings(**wrong)  # type: ignore[arg-type]
