"""Scenes of simulated rooms: a turned camera, moved furniture, and what is no change at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from fall_assets.drift.scene_tests import scene_tests
from fall_assets.drift.scenes import (
    EXPLAINED,
    LOOKS,
    SceneError,
    blurred_jpeg,
    coarse,
    compare_scenes,
    distance,
    empty_scene,
    pack_cells,
    picture_at,
    unpack_cells,
)
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import table
from fall_assets.simulation.body import JOINT, Body
from fall_assets.simulation.camera import Camera, View, place, turned
from fall_assets.simulation.motions import perform
from fall_assets.simulation.render import Clothes, Exposure, Light, Scene, Sensor
from fall_assets.simulation.room import Room
from fall_assets_tests.features.clips import moving_box, write_clip

Picture = NDArray[np.uint8]

VIEWS: tuple[View, ...] = ("level", "corner")
ROOM = Room()
DAY = date(2026, 3, 1)


def camera(view: View) -> Camera:
    return place(view, ROOM, 640, 360, np.random.default_rng(5))


@cache
def drawn(room: Room, hung: Camera) -> Scene:
    return Scene(room, hung, seed=5)


def pictures(
    view: View,
    *,
    room: Room = ROOM,
    hung: Camera | None = None,
    light: Light | None = None,
    sensor: Sensor | None = None,
    people: Sequence[int] = (),
    seed: int = 0,
) -> list[Picture]:
    """RGB pictures of the room; somebody stands in those that `people` numbers."""
    hung = hung or camera(view)
    scene, gain = drawn(room, hung), None
    if light is not None:
        scene, gain = scene.lit(light)
    rng = np.random.default_rng(seed)
    exposure = Exposure(sensor or Sensor(), hung.width, hung.height, rng, gain)
    body = Body()
    joints = perform("stand", body, room, np.random.default_rng(1), 3.0).joints(np.array([1.0]))
    clothes = Clothes.draw(np.random.default_rng(2))
    assert JOINT["pelvis"] < joints.shape[1]
    return [
        np.asarray(
            cv2.cvtColor(
                exposure(scene.frame([(body, clothes, joints[0])] if number in people else [])),
                cv2.COLOR_YUV2RGB_I420,
            ),
            np.uint8,
        )
        for number in range(LOOKS)
    ]


def cells(*looks: Picture) -> Picture:
    return coarse(empty_scene(looks))


@pytest.mark.parametrize("view", VIEWS)
def test_an_ordinary_day_changes_little(view: View) -> None:
    known = [cells(*pictures(view))]
    for now in (
        pictures(view, seed=1),
        pictures(view, people=[2], seed=1),
        pictures(view, sensor=Sensor(exposure=1.4, warmth=10)),
        pictures(view, light=Light(lamps=0.5, pane=0.12), sensor=Sensor(noise=5)),
        pictures(view, room=replace(ROOM, curtains_drawn=True)),
        pictures(view, light=Light(lamps=0.9, window=0.3)),
    ):
        assert distance(known, [cells(*now)]).changed < 0.15


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("degrees", "roll"), [(10, 3), (-10, -3), (0, 10)])
def test_a_knocked_camera_is_told_from_a_changed_room(
    view: View, degrees: float, roll: float
) -> None:
    known = [cells(*pictures(view))]
    hung = turned(camera(view), degrees, roll)
    change = distance(known, [cells(*pictures(view, hung=hung))])
    assert change.changed > 0.4
    assert change.explained >= EXPLAINED
    if degrees:
        # Who turns to the right sees everything farther to the left.
        assert change.shift_x == pytest.approx(-np.sign(degrees) * 0.14, abs=0.05)
    else:
        assert change.turned_deg == pytest.approx(-roll, abs=2.5)
        assert abs(change.shift_x) < 0.05


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    "room", [replace(ROOM, bed_left=False, paint=1), replace(ROOM, bed_gap_m=1.3)]
)
def test_moved_furniture_is_a_change_that_no_turn_explains(view: View, room: Room) -> None:
    change = distance([cells(*pictures(view))], [cells(*pictures(view, room=room))])
    assert change.changed > 0.2
    assert change.explained < EXPLAINED


def test_the_nearest_reference_counts() -> None:
    before, after = (
        cells(*pictures("corner", room=room)) for room in (ROOM, replace(ROOM, bed_left=False))
    )
    assert distance([before], [after]).changed > 0.3
    assert distance([before, after], [after]).changed < 0.001
    # Of three scenes of today one is an outlier.
    assert distance([before], [before, after, before]).changed < 0.001
    with pytest.raises(ValueError, match="at least one"):
        distance([], [after])


def test_another_resolution_of_the_same_view_is_the_same_scene() -> None:
    small = [cv2.resize(one, (320, 180), interpolation=cv2.INTER_AREA) for one in pictures("level")]
    again = cells(*(np.asarray(one, np.uint8) for one in small))
    assert distance([cells(*pictures("level"))], [again]).changed < 0.05


def scene_rows(days: dict[date, Sequence[Picture]]) -> pl.DataFrame:
    rows = [
        {
            "day": day,
            "camera_id": "cam-01",
            "part": part,
            "picture": "files/none",
            "cells": pack_cells(cells(*looks)),
            "looks": len(looks),
        }
        for day, looks in days.items()
        for part in (1, 2)
    ]
    return pl.DataFrame(rows, schema=table("scenes").schema)


def test_a_day_is_compared_with_what_differs_between_ordinary_days() -> None:
    ordinary = scene_rows(
        {
            DAY + timedelta(days=number): pictures(
                "level",
                sensor=Sensor(exposure=0.8 + 0.1 * number),
                people=[number],
                seed=number,
            )
            for number in range(4)
        }
    )
    later = DAY + timedelta(days=9)
    same = compare_scenes(ordinary, scene_rows({later: pictures("level", seed=9)}))
    assert same is not None
    assert same.changed < 0.05
    assert same.turn is None
    knocked = pictures("level", hung=turned(camera("level"), 10))
    moved = compare_scenes(ordinary, scene_rows({later: knocked}))
    assert moved is not None
    assert max(moved.between) < 0.05
    assert moved.changed > 0.4
    assert len(moved.between) == 4
    [tested] = scene_tests(ordinary, scene_rows({later: knocked})).values()
    assert tested.p_value is not None
    assert tested.p_value < 0.01
    [unchanged] = scene_tests(ordinary, scene_rows({later: pictures("level", seed=9)})).values()
    assert unchanged.p_value is not None
    assert unchanged.p_value > 0.05
    assert moved.turn is not None
    assert moved.turn.is_moved
    furniture = pictures("level", room=replace(ROOM, bed_left=False))
    changed = compare_scenes(ordinary, scene_rows({later: furniture}))
    assert changed is not None
    assert changed.turn is not None
    assert not changed.turn.is_moved
    other_part = scene_rows({later: knocked}).with_columns(part=pl.lit(0, pl.Int64))
    assert compare_scenes(ordinary, other_part.head(1)) is None


def test_who_stands_in_a_few_pictures_is_not_in_the_scene() -> None:
    empty = empty_scene(pictures("level", seed=3)).astype(int)
    visited = empty_scene(pictures("level", people=[1, 4], seed=4)).astype(int)
    stayed = empty_scene(pictures("level", people=range(LOOKS), seed=4)).astype(int)
    assert np.abs(visited - empty).max() < 25
    assert np.abs(stayed - empty).max() > 60
    with pytest.raises(ValueError, match="at least one"):
        empty_scene([])


def test_what_people_see_has_no_detail_of_a_face() -> None:
    """Stripes as wide as a tenth of a head, over a head a tenth of the picture wide, are gone."""
    scene = np.full((108, 192, 3), 128, np.uint8)
    scene[40:60, 90:110] = np.where(np.arange(20) % 4 < 2, 20, 235)[None, :, None]
    jpeg = blurred_jpeg(scene)
    shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown is not None
    assert max(shown.shape) == 480
    middle = shown[110:140, 235:265].astype(int)
    assert np.ptp(middle) < 20


def test_cells_come_back_as_they_were() -> None:
    scene = np.random.default_rng(0).integers(0, 255, (54, 96), np.uint8)
    assert (unpack_cells(pack_cells(scene)) == scene).all()
    for broken in (b"", b"12", pack_cells(scene)[:-1]):
        with pytest.raises(PermanentFailureError, match="packed scene"):
            unpack_cells(broken)
    with pytest.raises(ValueError, match="uint8"):
        pack_cells(scene.astype(np.float32))


def test_a_picture_is_upright_and_of_its_time(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_box(20), rotation=90)
    assert picture_at(path, 1.0).shape == (768, 461, 3)
    # There is one key frame, at the start.
    first, last = (picture_at(path, at_s, exact=True) for at_s in (0.0, 1e6))
    assert (picture_at(path, 1.9) == first).all()
    assert np.abs(first.astype(int) - last).max() > 100
    (tmp_path / "b.mp4").write_bytes(b"no film")
    with pytest.raises(SceneError, match=r"b\.mp4"):
        picture_at(tmp_path / "b.mp4", 0.0)
