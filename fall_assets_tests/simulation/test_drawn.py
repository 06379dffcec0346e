"""Drawn films: who is before a hung camera, and what is known of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fall_assets.simulation.camera import place
from fall_assets.simulation.drawn import FALLS, LIFE, Hung, People, draw_film
from fall_assets.simulation.poses import PoseNoise
from fall_assets.simulation.room import Room

ROOM = Room()
HUNG = Hung(ROOM, place("corner", ROOM, 640, 480, np.random.default_rng(1)))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def heights(hung: Hung, programme: str) -> float:
    """Median height in the picture of who is seen, over some films."""
    films = [draw_film(hung, programme, rng(seed)).keypoints for seed in range(6)]
    seen = np.concatenate([film[film[..., 2].any(axis=-1)] for film in films])
    return float(np.median(np.ptp(seen[..., 1], axis=-1)))


def test_a_film_is_the_same_each_time_that_it_is_drawn() -> None:
    first, again = draw_film(HUNG, "stroll", rng()), draw_film(HUNG, "stroll", rng())
    assert first.labels == again.labels
    np.testing.assert_array_equal(first.keypoints, again.keypoints)
    assert first.keypoints.shape == (150, 17, 3)
    assert first.aspect == pytest.approx(640 / 480)


@pytest.mark.parametrize("people", ["adults", "children", "wheelchairs"])
def test_falls_hold_one_fall_and_life_holds_none(people: People) -> None:
    hung = replace(HUNG, people=people)
    for programme in FALLS[people]:
        falls = [one for one in draw_film(hung, programme, rng()).labels if one.label == "fall"]
        assert len(falls) == 1
        assert 0 < falls[0].start_s < falls[0].end_s <= 15.0
    for programme in LIFE[people]:
        assert all(one.label != "fall" for one in draw_film(hung, programme, rng()).labels)


def test_children_are_smaller_in_the_picture() -> None:
    assert heights(replace(HUNG, people="children"), "stroll") < 0.8 * heights(HUNG, "stroll")


def test_a_worse_picture_loses_people() -> None:
    worse = replace(HUNG, noise=PoseNoise(lost=0.3))
    films = [[draw_film(hung, "stand", rng(seed)) for seed in range(8)] for hung in (HUNG, worse)]
    usual, lost = (
        sum(int((film.keypoints[..., 2].any(axis=-1)).sum()) for film in some) for some in films
    )
    assert lost < 0.9 * usual


def test_an_unknown_programme_is_refused() -> None:
    with pytest.raises(ValueError, match="no programme 'fly'"):
        draw_film(HUNG, "fly", rng())
