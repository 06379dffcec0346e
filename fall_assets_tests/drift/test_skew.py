"""Box and platform watched the same stream: what differs is a fault."""

from __future__ import annotations

from itertools import product

import polars as pl

from fall_assets.drift.days import CameraDays
from fall_assets.drift.effects import FELT, effect
from fall_assets.drift.report import judge
from fall_assets.drift.settings import DriftSettings
from fall_assets.drift.signals import SITE, precision_signals
from fall_assets.drift.skew import skew_signals
from fall_assets.drift.words import FIGURE_WORDS
from fall_assets_tests.drift.wards import ORDINARY, causes, day, lived, ordinary


def figures(*rows: tuple[str, str, float | None]) -> pl.DataFrame:
    schema = {"camera_id": pl.String, "figure": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_only_what_clocks_cannot_explain_is_skew() -> None:
    platform = figures(
        ("a", "frame_rate", 25.0), ("b", "frame_rate", 25.0), ("c", "gate_duty", 0.3)
    )
    boxes = figures(
        ("a", "frame_rate", 24.2), ("b", "frame_rate", 12.0), ("c", "gate_duty", 0.9),
        ("d", "frame_rate", 5.0), ("a", "gate_duty", None),
    )  # fmt: skip
    found = {
        (one.camera_id, one.signal): one.large
        for one in skew_signals(platform, boxes, DriftSettings())
    }
    assert found == {
        ("a", "frame_rate:box"): False,
        ("b", "frame_rate:box"): True,
        ("c", "gate_duty:box"): True,
    }


def judged_with(*more: object) -> list[tuple[str, str]]:
    days: CameraDays = lived().of([*map(day, range(ORDINARY)), day(ORDINARY)])
    return causes(judge(days, ordinary(), day(ORDINARY), "1", more=more))  # type: ignore[arg-type]


def test_skew_is_a_cause_of_its_own_and_no_other_frame_rate() -> None:
    camera = "ward-000"
    signals = skew_signals(
        figures((camera, "frame_rate", 25.0)), figures((camera, "frame_rate", 5.0)), DriftSettings()
    )
    assert judged_with(*signals) == [(camera, "skew")]


def answers(before: list[bool], after: list[bool]) -> pl.DataFrame:
    rows = [("ward-001", day(ORDINARY - 1), fall) for fall in before]
    rows += [("ward-001", day(ORDINARY), fall) for fall in after]
    schema = {"camera_id": pl.String, "day": pl.Date, "fall": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_staff_who_confirm_ever_less_are_believed_for_camera_and_site() -> None:
    usual = [True, True, False] * 12
    learned = day(ORDINARY - 1)
    same = precision_signals(answers(usual, usual), learned, 3, DriftSettings())
    assert not any(one.large for one in same)
    worse = list(precision_signals(answers(usual, [False] * 60), learned, 3, DriftSettings()))
    assert {one.camera_id for one in worse if one.large} == {SITE, "ward-001"}
    assert set(judged_with(*worse)) == {(SITE, "precision"), ("ward-001", "precision")}
    assert not list(
        precision_signals(answers(usual[:5], [False] * 60), learned, 3, DriftSettings())
    )


def test_what_is_felt_has_words_and_grows_with_the_change() -> None:
    assert set(FELT) - {"scene", "pose", "embedding"} <= set(FIGURE_WORDS)
    for figure, usual in product(FELT, (0.01, 0.3, 2.0)):
        sizes = [effect(figure, usual, usual + step) or 0.0 for step in (0.0, 0.1, 0.2)]
        assert sizes == sorted(sizes)
        assert sizes[0] == 0
    assert effect("people", 1.0, 9.0) is None
    assert effect("brightness", float("nan"), 0.5) is None
