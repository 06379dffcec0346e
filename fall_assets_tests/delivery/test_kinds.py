"""What kind of fall it is: by hand, by properties, and on simulated key points."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.delivery.kinds import BEFORE_S, IN_WORDS, LEAST_SEEN, Kind, kind_of
from fall_assets.lake.registry import ALERT_KINDS
from fall_assets.learning.windows import MIRRORED
from fall_assets.simulation.beds import bed_films
from fall_assets.simulation.poses import Scenery

Reals = npt.NDArray[np.float64]
BED = np.array([(0.1, 0.5), (0.5, 0.5), (0.5, 0.7), (0.1, 0.7)])
AWAY = np.array([(0.9, 0.9), (1.0, 0.9), (1.0, 1.0), (0.9, 1.0)])
TIMES = np.arange(100) / 10
RAISED_S = 7.0
IN_BED, BESIDE, BEHIND = (0.2, 0.6), (0.7, 0.85), (0.3, 0.47)


def person(hips: tuple[float, float], *, upright: bool = False, legs: float = 0.2) -> Reals:
    """Key points (17, 3) about the hips: lying along x, or upright with so long legs."""
    points = np.zeros((17, 3))
    along = np.zeros(17)
    along[:5], along[5:7], along[7:11] = -0.17, -0.12, -0.06
    along[13:15], along[15:17] = legs / 2, legs
    points[:, int(upright)] = along
    points[:, :2] += hips
    points[:, 2] = 0.6
    return points


def film(before: Reals, after: Reals, changes_s: float = 6.0) -> Reals:
    """Key points (100, 17, 3) of somebody who is here and then there."""
    return np.where((changes_s > TIMES)[:, None, None], before, after)


def kind(keypoints: Reals, *beds: Reals, aspect: float = 16 / 9) -> Kind:
    return kind_of(keypoints, TIMES, RAISED_S, beds, aspect=aspect)


def test_kinds_are_those_of_the_table_and_have_words() -> None:
    assert get_args(Kind) == ALERT_KINDS
    assert set(IN_WORDS) == set(ALERT_KINDS)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (person(IN_BED), person(BESIDE), "fall_out_of_bed"),
        (person(BESIDE, upright=True), person(IN_BED), "fall_onto_bed"),
        (person(BESIDE, upright=True), person(BESIDE), "fall"),
        # In front of the bed the hips of who stands are over it, the feet are not.
        (person((0.2, 0.6), upright=True), person(BESIDE), "fall"),
        (person((0.2, 0.6), upright=True), person(IN_BED), "fall_onto_bed"),
        # Who sits on its edge is on it.
        (person((0.2, 0.6), upright=True, legs=0.12), person(BESIDE), "fall_out_of_bed"),
        # A body lies on top of the mattress, seen from the side above it.
        (person(BESIDE), person((0.3, 0.48)), "fall_onto_bed"),
        (person(BESIDE), person((0.3, 0.4)), "fall"),
        # Within the bed, or behind it: that cannot be told.
        (person(IN_BED), person((0.4, 0.6)), "fall"),
        (person(IN_BED), person(BEHIND), "fall"),
    ],
)
def test_where_somebody_was_and_where_they_came_to_lie(
    before: Reals, after: Reals, said: Kind
) -> None:
    assert kind(film(before, after), BED) == said
    assert kind(film(before, after), AWAY, BED) == said
    assert kind(film(before, after)) == "fall"


def test_who_was_not_seen_before_or_after_fell() -> None:
    out = film(person(IN_BED), person(BESIDE))
    before, after = out.copy(), out.copy()
    start = RAISED_S - BEFORE_S[0]
    seen = (start <= TIMES) & (start + (LEAST_SEEN - 1) / 10 > TIMES)
    before[(TIMES < 6) & ~seen] = 0
    after[TIMES >= 6.8] = 0
    assert kind(before, BED) == kind(after, BED) == "fall"
    assert kind(out * (TIMES[:, None, None] != 3.0), BED) == "fall_out_of_bed"


def test_what_cannot_be_is_refused() -> None:
    out = film(person(IN_BED), person(BESIDE))
    with pytest.raises(ValueError, match=r"\(100, 17, 3\) and times of shape \(3,\)"):
        kind_of(out, TIMES[:3], RAISED_S, [BED], aspect=1.0)
    with pytest.raises(ValueError, match=r"a bed of shape \(2, 2\)"):
        kind(out, BED[:2])
    with pytest.raises(ValueError, match="aspect is 0"):
        kind(out, BED, aspect=0.0)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Reals, Reals]:
    """Key points (100, 17, 3) of somebody who goes from here to there, unseen now and then, and a
    bed of four corners."""
    place = st.tuples(st.floats(0.2, 0.8), st.floats(0.2, 0.8))
    bodies = [
        person(draw(place), upright=draw(st.booleans()), legs=draw(st.floats(0.05, 0.3)))
        for _ in range(2)
    ]
    keypoints = film(bodies[0], bodies[1], changes_s=draw(st.floats(3.0, 8.0)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    keypoints[..., :2] += rng.normal(0, draw(st.sampled_from([0.0, 0.01, 0.03])), (100, 17, 2))
    keypoints[rng.random(100) < draw(st.sampled_from([0.0, 0.3, 0.9]))] = 0
    (x, y), wide, high = draw(place), draw(st.floats(0.05, 0.4)), draw(st.floats(0.05, 0.4))
    bed = np.array([(x, y), (x + wide, y), (x + wide, y + high), (x, y + high)])
    return keypoints, bed + np.array([(draw(st.floats(-0.05, 0.05)), 0)] * 2 + [(0, 0)] * 2)


@settings(max_examples=150)
@given(scene=scenes(), side=st.sampled_from([-1, 1]))
def test_a_bed_far_away_changes_nothing(scene: tuple[Reals, Reals], side: int) -> None:
    keypoints, bed = scene
    far = bed + np.array([5.0 * side, 0.0])
    assert kind(keypoints, far) == "fall"
    assert kind(keypoints, far, bed) == kind(keypoints, bed)


@settings(max_examples=150)
@given(scene=scenes())
def test_the_mirrored_scene_is_of_the_same_kind(scene: tuple[Reals, Reals]) -> None:
    keypoints, bed = scene
    mirrored = keypoints[:, MIRRORED].copy()
    mirrored[..., 0] = 1 - mirrored[..., 0]
    mirrored[~(mirrored[..., 2] > 0)] = 0
    other = np.stack([1 - bed[:, 0], bed[:, 1]], axis=1)
    assert kind(mirrored, other) == kind(keypoints, bed)


@settings(max_examples=150)
@given(scene=scenes(), turn=st.integers(0, 3), later=st.integers(-50, 50))
def test_neither_the_first_corner_nor_the_clock_counts(
    scene: tuple[Reals, Reals], turn: int, later: int
) -> None:
    keypoints, bed = scene
    turned = np.roll(bed, turn, axis=0)[::-1]
    said = kind_of(keypoints, TIMES + later, RAISED_S + later, [turned], aspect=16 / 9)
    assert said == kind(keypoints, bed)


def rates(programme: str, **scenery: Any) -> Counter[str]:
    """Kinds of a programme's falls, raised a second after their end."""
    films = bed_films([programme] * 40, 5, duration_s=16.0, scenery=Scenery(**scenery))
    found: Counter[str] = Counter()
    for one in films:
        fall = next(label for label in one.film.labels if label.label == "fall")
        beds = [] if one.bed is None else [one.bed]
        keypoints = one.film.keypoints
        times = np.arange(len(keypoints)) / 10
        said = kind_of(keypoints, times, fall.end_s + 1, beds, aspect=one.film.aspect)
        found[said] += 1
    return found


@pytest.mark.parametrize(
    ("programme", "said"),
    [
        ("out_of_bed", "fall_out_of_bed"),
        ("onto_bed", "fall_onto_bed"),
        ("forwards", "fall"),
        ("faint", "fall"),
    ],
)
def test_simulated_falls_before_a_ward_s_cameras(programme: str, said: Kind) -> None:
    assert rates(programme, anywhere=0.0)[said] >= 32


def test_the_same_seed_gives_the_same_films_and_beds() -> None:
    first, again = (bed_films(["out_of_bed", "onto_bed"], 3, duration_s=10.0) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.film.keypoints, other.film.keypoints)
        assert one.bed == other.bed
        assert one.bed is None or np.ptp(one.bed, axis=0).min() > 0
