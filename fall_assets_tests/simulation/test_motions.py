"""Motions: every programme is labelled, smooth and does what its name says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from fall_assets.lake.registry import LABELS
from fall_assets.simulation.body import JOINT, Array, Body
from fall_assets.simulation.motions import (
    FALLS,
    MORE_FALLS,
    MORE_ORDINARY,
    ORDINARY,
    VISIT,
    Performance,
    Style,
    perform,
)
from fall_assets.simulation.room import Room

DURATION_S = 20.0
SEEDS = (0, 1, 2)


def _play(programme: str, seed: int) -> Performance:
    rng = np.random.default_rng(seed)
    room = Room(bed_left=seed % 2 == 0)
    return perform(programme, Body(1.62 + 0.08 * seed), room, rng, DURATION_S)


def _heights(acted: Performance, joint: str, start_s: float, end_s: float) -> Array:
    times = np.arange(start_s, end_s, 0.02)
    heights: Array = acted.joints(times)[:, JOINT[joint], 2]
    return heights


@pytest.mark.parametrize("programme", [*FALLS, *ORDINARY, VISIT])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_programme_is_labelled_and_moves_like_a_person(programme: str, seed: int) -> None:
    acted = _play(programme, seed)
    assert acted.duration_s == DURATION_S
    assert acted.intervals
    assert {one.label for one in acted.intervals} <= set(LABELS)
    assert {one.zone for one in acted.intervals} <= {None, "bed", "chair", "door", "floor"}
    for before, after in pairwise(acted.intervals):
        assert before.end_s <= after.start_s + 1e-9
    if programme != VISIT and acted.intervals[0].start_s == 0.0:
        assert sum(one.end_s - one.start_s for one in acted.intervals) == pytest.approx(DURATION_S)
    joints = acted.body.joints(acted.parameters)
    assert np.isfinite(joints).all()
    assert joints[..., 2].min() >= 0
    speed = np.linalg.norm(np.diff(joints[:, : JOINT["crown"]], axis=0), axis=-1) * acted.rate_hz
    # A rod of 1.9 m that topples hits the floor with 7.5 m/s at its tip; arms add a little.
    assert speed.max() < (10.0 if acted.fall else 6.0)


@pytest.mark.parametrize("kind", FALLS)
@pytest.mark.parametrize("seed", range(6))
def test_a_fall_takes_about_a_second_and_ends_on_the_floor(kind: str, seed: int) -> None:
    acted = _play(kind, seed)
    falls = [one for one in acted.intervals if one.label == "fall"]
    assert len(falls) == 1
    fall = falls[0]
    assert 0.75 <= fall.end_s - fall.start_s <= 1.6
    assert 2.0 < fall.start_s < DURATION_S - 2.5
    head = _heights(acted, "head", fall.start_s - 0.5, fall.end_s + 1.0)
    assert head[0] > 0.55
    assert head[-1] < 0.40
    assert _heights(acted, "pelvis", fall.end_s + 0.2, fall.end_s + 1.0).max() < 0.35
    after = next(one for one in acted.intervals if one.start_s >= fall.end_s - 1e-9)
    assert (after.label, after.zone) == ("lying_after_fall", "floor")
    assert fall.zone in {"out_of_bed": {"bed"}, "from_chair": {"chair", "bed"}}.get(kind, {"floor"})


@pytest.mark.parametrize("seed", range(4))
def test_a_fall_ends_in_the_room_and_not_in_the_furniture(seed: int) -> None:
    for kind in ("forwards", "backwards", "sideways"):
        acted, room = _play(kind, seed), Room(bed_left=seed % 2 == 0)
        assert acted.fall is not None
        place = acted.joints(np.array([acted.fall.end_s + 0.5]))[0]
        for joint in ("head", "pelvis", "left_knee"):
            x, y = place[JOINT[joint], :2]
            assert 0 < x < room.width_m
            assert 0 < y < room.depth_m


@pytest.mark.parametrize("programme", ORDINARY)
def test_ordinary_life_holds_no_fall(programme: str) -> None:
    for seed in SEEDS:
        labels = {one.label for one in _play(programme, seed).intervals}
        assert not labels & {"fall", "lying_after_fall"}


@pytest.mark.parametrize(
    ("label", "programme", "low", "high"),
    [
        ("standing", "stand", 1.3, 1.9),
        ("walking", "stroll", 1.2, 1.9),
        ("sitting", "sit_still", 0.8, 1.5),
        ("lying", "lie_still", 0.5, 0.95),
    ],
)
def test_a_label_says_how_high_the_head_is(
    label: str, programme: str, low: float, high: float
) -> None:
    for seed in SEEDS:
        acted = _play(programme, seed)
        for one in acted.intervals:
            if one.label == label and one.end_s - one.start_s > 0.6:
                head = _heights(acted, "head", one.start_s + 0.25, one.end_s - 0.25)
                assert low < head.min()
                assert head.max() < high


def test_lying_down_on_purpose_is_slower_than_falling() -> None:
    down = []
    for seed in SEEDS:
        acted = _play("lie_on_floor", seed)
        lying = next(one for one in acted.intervals if one.label == "lying")
        going = next(one for one in acted.intervals if one.end_s == lying.start_s)
        down.append(going.end_s - going.start_s)
        assert _heights(acted, "head", lying.start_s + 0.5, lying.end_s - 0.5).max() < 0.4
    assert min(down) >= 2.9


def test_feet_hardly_slip_while_walking() -> None:
    acted = _play("stroll", 2)
    walking = max(
        (one for one in acted.intervals if one.label == "walking"),
        key=lambda one: one.end_s - one.start_s,
    )
    times = np.arange(walking.start_s + 1.0, walking.end_s - 1.0, 0.02)
    joints = acted.joints(times)
    feet = joints[:, [JOINT["left_ankle"], JOINT["right_ankle"]]]
    lower = feet[:-1, :, 2].argmin(axis=1)
    speed = np.linalg.norm(np.diff(feet[..., :2], axis=0), axis=-1) * 50
    body = np.linalg.norm(np.diff(joints[:, JOINT["pelvis"], :2], axis=0), axis=-1) * 50
    assert np.median(speed[np.arange(len(lower)), lower]) < 0.5 * np.median(body)


def test_the_same_seed_moves_the_same() -> None:
    first, second, other = _play("forwards", 1), _play("forwards", 1), _play("forwards", 2)
    np.testing.assert_array_equal(first.parameters, second.parameters)
    assert first.intervals == second.intervals
    assert first.intervals != other.intervals


def test_an_unknown_programme_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="juggle"):
        perform("juggle", Body(), Room(), np.random.default_rng(0), 5.0)


@pytest.mark.parametrize("programme", [*MORE_FALLS, *MORE_ORDINARY])
@pytest.mark.parametrize("seed", SEEDS)
def test_further_programmes_are_labelled_and_fall_where_they_say(programme: str, seed: int) -> None:
    acted = _play(programme, seed)
    assert acted.duration_s == DURATION_S
    assert {one.label for one in acted.intervals} <= set(LABELS)
    assert np.isfinite(acted.parameters).all()
    if programme in MORE_ORDINARY:
        assert acted.fall is None
        return
    assert acted.fall is not None
    assert 0.4 < acted.fall.end_s - acted.fall.start_s < 3.0
    assert acted.fall.zone == ("bed" if programme == "onto_bed" else "floor")
    before = _heights(acted, "neck", acted.fall.start_s - 0.1, acted.fall.start_s)
    after = _heights(acted, "neck", acted.fall.end_s + 0.5, acted.fall.end_s + 1.0)
    assert after.mean() < 0.65 * before.mean()


def test_the_healthy_lie_down_in_less_time() -> None:
    def descent_s(tempo: float) -> float:
        style = Style(1.1, 3.0, 1.0, 0.7, tempo)
        rng = np.random.default_rng(0)
        acted = perform("lie_fast", Body(), Room(), rng, DURATION_S, style=style)
        return sum(
            one.end_s - one.start_s
            for one in acted.intervals
            if one.zone == "bed" and one.label in ("sitting_down", "other")
        )

    assert descent_s(0.5) < 0.6 * descent_s(1.0)


def test_a_lower_bed_is_lower() -> None:
    def head_m(mattress_m: float) -> float:
        rng = np.random.default_rng(1)
        acted = perform("lie_still", Body(), Room(), rng, DURATION_S, mattress_m=mattress_m)
        return float(_heights(acted, "head", 0.1, 0.5).mean())

    assert head_m(0.52) - head_m(0.30) == pytest.approx(0.22, abs=0.03)
