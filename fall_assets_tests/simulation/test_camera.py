"""Cameras: projection, rays and the three views."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from fall_assets.simulation.camera import Camera, View, place, place_anywhere
from fall_assets.simulation.room import Room


def test_the_target_is_in_the_middle_and_up_is_up() -> None:
    camera = Camera((0.0, 0.0, 1.0), (0.0, 4.0, 1.0), 90.0, 640, 360)
    points = np.array([[0, 4, 1], [0, 4, 2], [1, 4, 1]], float)
    pixels, depth = camera.project(points)
    np.testing.assert_allclose(pixels, [[320, 180], [320, 100], [400, 180]], atol=1e-9)
    np.testing.assert_allclose(depth, 4.0)


@pytest.mark.parametrize("view", get_args(View))
def test_a_ray_through_a_pixel_meets_what_projects_there(view: View) -> None:
    camera = place(view, Room(), 64, 36, np.random.default_rng(1))
    points = np.asarray(camera.position) + 2.5 * camera.rays()
    pixels, depth = camera.project(points)
    rows, columns = np.mgrid[:36, :64]
    np.testing.assert_allclose(pixels, np.stack([columns + 0.5, rows + 0.5], axis=-1), atol=1e-6)
    np.testing.assert_allclose(depth, 2.5)


@pytest.mark.parametrize("view", get_args(View))
@pytest.mark.parametrize("bed_left", [True, False])
def test_every_view_sees_the_free_floor(view: View, bed_left: bool) -> None:
    room = Room(bed_left=bed_left)
    x0, x1, y0, y1 = room.free
    for seed in range(5):
        camera = place(view, room, 640, 360, np.random.default_rng(seed))
        corners = np.array([[x, y, 0.1] for x in (x0, x1) for y in (y0, y1)])
        pixels, depth = camera.project(corners)
        assert (depth > 0.3).all()
        inside = (pixels >= 0).all(axis=1) & (pixels <= [640, 360]).all(axis=1)
        assert inside.mean() >= 0.75


def test_a_camera_put_anywhere_mostly_sees_the_person() -> None:
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(300):
        camera = place_anywhere((2.0, 3.0), 640, 480, rng)
        pixels, depth = camera.project(np.array([[2.0, 3.0, 1.0]]))
        inside = (pixels[0] >= 0).all() and (pixels[0] <= [640, 480]).all()
        seen.append(bool(inside and depth[0] > 0))
    assert np.mean(seen) > 0.7
