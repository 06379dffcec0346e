"""Slices, intervals by resampling, and two models compared on the same footage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.delivery.gate import GateSettings, SliceRules, judge_candidate
from fall_assets.learning.bootstrap import FIGURES, Piece, paired, spreads
from fall_assets.learning.events import EventSettings, Fall
from fall_assets.learning.metrics import (
    Interval,
    ScoredVideo,
    VideoOutcome,
    event_metrics,
    outcome,
    percentile,
    poisson_interval,
)
from fall_assets.learning.slices import (
    Traits,
    body_size,
    compare,
    light,
    sliced_metrics,
    traits_of,
)
from fall_assets_tests.learning.people import learning_set, tables


def judged(number: int, *, falls: bool, alarm: bool, room: str = "a") -> VideoOutcome:
    """A segment of 60 s with or without a fall at 20 s, and with or without an alarm there."""
    ends = tuple(1.0 + 0.5 * step for step in range(119))
    video = ScoredVideo(
        f"video-{number}",
        f"cam-{room}",
        "site",
        room,
        60.0,
        4.0,
        (Fall(f"event-{number}", 20.0, 21.0, 21.0),) if falls else (),
        (Interval(0.0, 20.0, "walking"), Interval(20.0, 60.0, "fall" if falls else "bending")),
        ends,
        tuple(0.9 if alarm and end == 22.0 else 0.0 for end in ends),
    )
    return outcome(video, EventSettings(0.5))


def model(found: Sequence[bool], alarms: Sequence[bool], room: str = "a") -> list[VideoOutcome]:
    """Segments with falls, then segments without."""
    first = 0 if room == "a" else 1000
    with_falls = [judged(first + n, falls=True, alarm=f, room=room) for n, f in enumerate(found)]
    return with_falls + [
        judged(first + 500 + n, falls=False, alarm=f, room=room) for n, f in enumerate(alarms)
    ]


def test_the_exact_interval_agrees_with_published_figures() -> None:
    # Garwood 1936; Ulm, American Journal of Epidemiology 131(2), 1990, table 1.
    assert poisson_interval(0) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert poisson_interval(1) == pytest.approx((0.0253, 5.572), abs=1e-3)
    assert poisson_interval(10) == pytest.approx((4.795, 18.390), abs=1e-3)
    assert poisson_interval(100) == pytest.approx((81.364, 121.627), abs=1e-3)
    with pytest.raises(ValueError):
        poisson_interval(-1)


def test_every_figure_of_a_slice_stands_in_its_interval() -> None:
    outcomes = model([True] * 16 + [False] * 4, [True] * 3 + [False] * 17)
    (row,) = [row for row in sliced_metrics(outcomes) if row["slice"] == "all"]
    assert (row["falls"], row["found"], row["false_alarms"], row["scenes"]) == (20, 16, 3, 40)
    for name in ("sensitivity", "precision", "f1", "false_alarms_per_camera_day"):
        low, value, high = row[f"{name}_low"], row[name], row[f"{name}_high"]
        assert isinstance(low, float)
        assert isinstance(value, float)
        assert isinstance(high, float)
        assert low < value < high
    assert row["delay_median_s"] == row["delay_median_low_s"] == row["delay_median_high_s"] == 2.0


def test_slices_agree_with_the_plain_metrics() -> None:
    outcomes = model([True, False, True], [True, False])
    plain = {(row["slice"], row["value"]): row for row in event_metrics(outcomes)}
    rows = {(row["slice"], row["value"]): row for row in sliced_metrics(outcomes)}
    assert plain.keys() <= rows.keys()
    for key, row in plain.items():
        for name, value in row.items():
            assert rows[key][name] == (pytest.approx(value) if value is not None else None)


def test_a_slice_is_made_by_each_trait() -> None:
    outcomes = model([True, False], [False, True])
    ids = [item.video.video_id for item in outcomes]
    traits = {
        ids[0]: Traits("corner", "dark", "small", "00-05 h", "night"),
        ids[1]: Traits("corner", "bright", "large", "06-11 h", "day"),
        ids[2]: Traits("level", "dark", "small", "00-05 h", "night"),
    }
    rows = {(row["slice"], row["value"]): row for row in sliced_metrics(outcomes, traits)}
    assert rows["view", "corner"]["falls"] == 2
    assert rows["light", "dark"]["found"] == rows["light", "dark"]["falls"] == 1
    assert rows["light", "unknown"]["false_alarms"] == 1
    assert rows["hour", "00-05 h"]["scenes"] == 1
    assert rows["body_size", "large"]["sensitivity"] == 0.0
    # One scene: there is nothing to draw, and an interval of width 0 would be a lie told exactly.
    assert rows["hour", "00-05 h"]["f1_low"] is None


def test_traits_come_from_the_tables() -> None:
    frames = tables(videos=6, folds=3)
    drawn = learning_set(videos=6, folds=3)
    features = frames["videos"].select("video_id").with_columns(brightness=0.2)
    traits = traits_of(frames["videos"], frames["cameras"], features, drawn.tracks)
    assert {own.view for own in traits.values()} == {"level"}
    assert {own.light for own in traits.values()} == {"dark"}
    assert {own.hour for own in traits.values()} == {"00-05 h", "unknown"}
    assert {own.body_size for own in traits.values()} <= {"small", "medium"}
    assert {own.scene for own in traits.values()} == {f"scene-{n}" for n in range(6)}
    assert (light(None), light(0.3), light(0.5)) == ("unknown", "medium", "bright")
    nobody = learning_set(videos=3, folds=3).tracks
    assert body_size(nobody[next(iter(nobody))]) in {"small", "medium"}


@given(
    st.lists(st.lists(st.floats(-1, 30), max_size=4), min_size=1, max_size=12), st.integers(0, 9)
)
@settings(max_examples=40)
def test_weighted_percentiles_are_those_of_repeated_delays(
    delays: list[list[float]], seed: int
) -> None:
    pieces = [
        Piece(str(n), len(own), len(own), 0, 60.0, tuple(own)) for n, own in enumerate(delays)
    ]
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(pieces), len(pieces)).tolist()
    again = [pieces[n] for n in chosen]
    repeated = [Piece(str(n), p.falls, p.found, 0, 60.0, p.delays_s) for n, p in enumerate(again)]
    flat = [delay for own in repeated for delay in own.delays_s]
    shown = spreads(repeated, resamples=20)
    for name, share in (("delay_median_s", 0.5), ("delay_p95_s", 0.95)):
        expected = percentile(flat, share)
        assert shown[name].value == (None if expected is None else pytest.approx(expected))


def test_the_interval_over_scenes_is_wider_than_over_single_falls() -> None:
    alone = [Piece(str(n), 1, int(n % 2 == 0), 0, 60.0) for n in range(60)]
    # The same falls in scenes of ten that are found or missed together.
    together = [Piece(str(n), 10, 10 * int(n % 2 == 0), 0, 600.0) for n in range(6)]
    narrow, wide = spreads(alone)["f1"], spreads(together)["f1"]
    assert narrow.value == wide.value
    assert (wide.high or 0) - (wide.low or 0) > 2 * ((narrow.high or 0) - (narrow.low or 0))


def test_equal_models_do_not_differ() -> None:
    pieces = [Piece(str(n), 1, n % 2, 1, 60.0, (1.0,) * (n % 2)) for n in range(20)]
    for difference in paired(pieces, pieces):
        assert difference.difference == 0
        assert (difference.low, difference.high, difference.worse_share) == (0, 0, 0)


def test_a_model_that_finds_less_is_worse_in_nearly_all_resamples() -> None:
    better = [Piece(str(n), 1, 1, 0, 60.0, (1.0,)) for n in range(30)]
    worse = [Piece(str(n), 1, int(n >= 6), 0, 60.0, (2.0,) * int(n >= 6)) for n in range(30)]
    by_figure = {d.figure: d for d in paired(worse, better)}
    assert set(by_figure) == set(FIGURES)
    sensitivity = by_figure["sensitivity"]
    assert sensitivity.difference == pytest.approx(-0.2)
    assert sensitivity.low is not None
    assert sensitivity.high is not None
    assert sensitivity.worse_share is not None
    assert sensitivity.low < -0.2 < sensitivity.high < 0
    assert sensitivity.worse_share > 0.99
    assert by_figure["delay_median_s"].worse_share == 1.0
    assert by_figure["false_alarms_per_camera_day"].worse_share == 0.0


def test_models_are_compared_on_the_same_segments_only() -> None:
    with pytest.raises(ValueError, match="4 segments"):
        compare(model([True], [True]), model([True], [True], room="b"))


def test_a_candidate_that_is_better_on_average_and_worse_in_a_room_is_held() -> None:
    candidate = model([True] * 30, [False] * 10) + model([False] * 6 + [True] * 2, [], "b")
    champion = model([True] * 20 + [False] * 10, [True] * 10) + model([True] * 8, [], "b")
    rows = {row["slice"]: row for row in sliced_metrics(candidate)}
    served = {row["slice"]: row for row in sliced_metrics(champion)}
    assert (rows["all"]["found"] or 0) > (served["all"]["found"] or 0)  # type: ignore[operator]
    verdict = judge_candidate(rows["all"], served["all"], None, compare(candidate, champion))
    assert not verdict.passed
    assert verdict.held_by == ("camera cam-b", "room b")
    assert verdict.reasons[1].startswith(
        "held: room b: 2 of 8 falls found against the champion's 8"
    )
    ignored = GateSettings(slices=SliceRules(names="view light"))
    assert judge_candidate(rows["all"], served["all"], ignored, compare(candidate, champion)).passed
    few = GateSettings(slices=SliceRules(min_falls=9))
    assert judge_candidate(rows["all"], served["all"], few, compare(candidate, champion)).passed


def test_one_fall_less_in_a_room_holds_nothing() -> None:
    candidate = model([True] * 30, [False] * 10) + model([False] + [True] * 7, [], "b")
    champion = model([True] * 30, [False] * 10) + model([True] * 8, [], "b")
    comparison = compare(candidate, champion)
    rows = [
        next(r for r in sliced_metrics(m) if r["slice"] == "all") for m in (candidate, champion)
    ]
    assert judge_candidate(rows[0], rows[1], None, comparison).passed
    strict = GateSettings(slices=SliceRules(min_worse_share=0.0))
    assert judge_candidate(rows[0], rows[1], strict, comparison).held_by == (
        "camera cam-b",
        "room b",
    )


def test_more_false_alarms_in_a_room_hold_it() -> None:
    quiet = model([True] * 10, [False] * 40)
    loud = model([True] * 10, [True] * 8 + [False] * 32)
    everything = {"sensitivity": 1.0, "false_alarms_per_hour": 1.0, "camera_days": 1.0}
    verdict = judge_candidate(everything, everything, None, compare(loud, quiet))
    assert "room a" in verdict.held_by
    assert any("8 false alarms against the champion's 0" in reason for reason in verdict.reasons)
    assert judge_candidate(everything, everything, None, compare(quiet, loud)).passed
