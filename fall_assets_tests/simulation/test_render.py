"""Pictures: people are where the geometry says, behind what is nearer, and the sensor is obeyed."""

from __future__ import annotations

import numpy as np
import pytest

from fall_assets.simulation.body import INDEX, PARAMETERS, Array, Body
from fall_assets.simulation.camera import Camera
from fall_assets.simulation.motions import perform
from fall_assets.simulation.render import Clothes, Exposure, Scene, Sensor
from fall_assets.simulation.room import Room

ROOM = Room()
CAMERA = Camera((2.7, 0.1, 1.4), (2.7, 4.0, 0.9), 70.0, 320, 180)
CLOTHES = Clothes.draw(np.random.default_rng(3))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(ROOM, CAMERA, seed=1)


def _standing(x: float, y: float) -> tuple[Body, Clothes, Array]:
    body = Body()
    rows = np.zeros((1, len(PARAMETERS)))
    rows[0, :2] = x, y
    rows[:, INDEX["z"]] = body.resting_height(rows)
    return body, CLOTHES, body.joints(rows)[0]


def test_the_room_is_not_flat_and_people_are_drawn_where_they_project(scene: Scene) -> None:
    assert scene.background.shape == (180, 320, 3)
    assert scene.background.std() > 15
    person = _standing(2.7, 3.5)
    changed = np.abs(scene.frame([person]).astype(int) - scene.background).max(axis=2) > 40
    rows, columns = np.nonzero(changed)
    pixels, _ = CAMERA.project(person[2])
    assert abs(rows.min() - pixels[:, 1].min()) < 14
    assert abs(rows.max() - pixels[:, 1].max()) < 14
    assert abs(np.median(columns) - np.median(pixels[:, 0])) < 8


def test_nobody_is_seen_through_a_wall_or_furniture(scene: Scene) -> None:
    outside = _standing(*ROOM.corridor)
    np.testing.assert_array_equal(scene.frame([outside]), scene.background)
    bed = ROOM.bed_x, ROOM.bed_y[1] + 0.1
    low = Body(0.45)
    rows = np.zeros((1, len(PARAMETERS)))
    rows[0, :2] = bed
    rows[:, INDEX["z"]] = low.resting_height(rows)
    behind = (low, CLOTHES, low.joints(rows)[0])
    changed = np.abs(scene.frame([behind]).astype(int) - scene.background).max(axis=2) > 40
    assert changed.sum() < 5


def test_the_nearer_person_covers_the_other(scene: Scene) -> None:
    near, far = _standing(2.7, 2.6), _standing(2.7, 4.5)
    np.testing.assert_array_equal(scene.frame([near, far]), scene.frame([far, near]))


def test_exposure_darkens_and_noise_changes_from_frame_to_frame(scene: Scene) -> None:
    rng = np.random.default_rng(0)
    plain = Exposure(Sensor(noise=0.0), 320, 180, rng)(scene.background)
    dark = Exposure(Sensor(exposure=0.6, noise=0.0), 320, 180, rng)(scene.background)
    assert plain.shape == (270, 320)
    assert dark[:180].mean() == pytest.approx(16 + 0.6 * (plain[:180].mean() - 16), abs=1)
    noisy = Exposure(Sensor(noise=6.0), 320, 180, rng)
    first, second = noisy(scene.background)[:180], noisy(scene.background)[:180]
    assert (first.astype(int) - plain[:180]).std() == pytest.approx(6.0, rel=0.1)
    assert (first != second).mean() > 0.5


def test_a_scene_is_the_same_for_the_same_seed(scene: Scene) -> None:
    again = Scene(ROOM, CAMERA, seed=1)
    np.testing.assert_array_equal(scene.background, again.background)
    acted = perform("sideways", Body(), ROOM, np.random.default_rng(1), 8.0)
    joints = acted.joints(np.array([6.0]))[0]
    person = (acted.body, CLOTHES, joints)
    np.testing.assert_array_equal(scene.frame([person]), again.frame([person]))
