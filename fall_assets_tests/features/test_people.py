"""Who lies, on poses that are drawn and on real ones."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fall_assets.features.crop import Crop
from fall_assets.features.movenet import MoveNet
from fall_assets.features.people import People, lying, sitting
from fall_assets.features.pictures import PictureMaker
from fall_assets.simulation.body import COCO_POINTS, Body
from fall_assets.simulation.camera import View, place
from fall_assets.simulation.motions import perform
from fall_assets.simulation.room import Room
from fall_assets_tests.footage_samples import SAMPLES, needs_samples

# An upright person of height 1 as pixels from the middle of the hips; y goes down.
STANDING = np.array(
    [
        *[(0.0, -0.45), (-0.02, -0.47), (0.02, -0.47), (-0.04, -0.46), (0.04, -0.46)],
        *[(-0.1, -0.32), (0.1, -0.32), (-0.13, -0.15), (0.13, -0.15), (-0.13, 0.0), (0.13, 0.0)],
        *[(-0.07, 0.0), (0.07, 0.0), (-0.07, 0.25), (0.07, 0.25), (-0.07, 0.5), (0.07, 0.5)],
    ]
)
SITTING = STANDING.copy()
SITTING[13:] = [(0.28, 0.02), (0.34, 0.02), (0.3, 0.28), (0.36, 0.28)]


def pose(
    points: NDArray[np.float64], *, aspect: float = 4 / 3, turned: float = 0.0, score: float = 0.5
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Key points (1, 17, 3) and boxes (1, 5) of a person turned by degrees, 0.5 of the height."""
    angle = np.radians(turned)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shares = points @ matrix.T * 0.5 / [aspect, 1.0] + 0.5
    margin = np.array([0.03 / aspect, 0.03])
    box = np.concatenate([shares.min(axis=0) - margin, shares.max(axis=0) + margin, [score]])
    keypoints = np.concatenate([shares, np.full((17, 1), score)], axis=1)
    return keypoints[None], box[None]


@pytest.mark.parametrize("aspect", [4 / 3, 16 / 9, 9 / 16])
@pytest.mark.parametrize(
    ("points", "turned", "expected"),
    [
        (STANDING, 0, False),
        (STANDING, 20, False),
        (STANDING, -20, False),
        (STANDING, 90, True),
        (STANDING, -90, True),
        (STANDING, 75, True),
        (STANDING, 110, True),
        (SITTING, 0, False),
    ],
)
def test_lying_is_a_matter_of_pixels(
    points: NDArray[np.float64], turned: float, expected: bool, aspect: float
) -> None:
    keypoints, boxes = pose(points, aspect=aspect, turned=turned)
    assert lying(keypoints, boxes, aspect).tolist() == [expected]


def test_nearly_square_boxes_are_decided_by_the_trunk() -> None:
    keypoints, boxes = pose(STANDING, turned=90)
    boxes[0, [1, 3]] = [0.28, 0.74]
    boxes[0, [0, 2]] = [0.3, 0.7]
    shape = (0.74 - 0.28) / (0.4 * 4 / 3)
    assert 0.8 < shape < 1.0
    upright, _ = pose(STANDING)
    assert lying(keypoints, boxes, 4 / 3).tolist() == [True]
    assert lying(upright, boxes, 4 / 3).tolist() == [False]
    # Key points that are guessed say nothing.
    keypoints[..., 2] = 0.05
    assert lying(keypoints, boxes, 4 / 3).tolist() == [False]


def test_who_is_not_seen_does_not_lie() -> None:
    keypoints, boxes = pose(STANDING, turned=90)
    nobody = People.nobody()
    assert lying(nobody.keypoints, nobody.boxes, 1.5).shape == (0,)
    assert lying(np.zeros_like(keypoints), np.zeros_like(boxes), 1.5).tolist() == [False]
    both = np.concatenate([boxes, np.zeros_like(boxes)])
    found = lying(np.concatenate([keypoints, np.zeros_like(keypoints)]), both, 4 / 3)
    assert found.tolist() == [True, False]


@given(st.floats(-180, 180), st.floats(0.3, 3))
def test_lying_is_the_same_in_a_mirror(turned: float, aspect: float) -> None:
    keypoints, boxes = pose(STANDING, aspect=aspect, turned=turned)
    mirrored, turned_box = keypoints.copy(), boxes.copy()
    mirrored[..., 0] = 1 - keypoints[..., 0]
    turned_box[:, [0, 2]] = 1 - boxes[:, [2, 0]]
    assert lying(keypoints, boxes, aspect) == lying(mirrored, turned_box, aspect)


@pytest.mark.parametrize("aspect", [4 / 3, 16 / 9, 9 / 16])
@pytest.mark.parametrize(
    ("points", "turned", "expected"),
    [
        (STANDING, 0, 0.0),
        (STANDING, 20, 0.0),
        (SITTING, 0, 1.0),
        (SITTING, -15, 1.0),
        (STANDING, 90, 0.0),
    ],
)
def test_who_sits_has_level_thighs(
    points: NDArray[np.float64], turned: float, expected: float, aspect: float
) -> None:
    keypoints, boxes = pose(points, aspect=aspect, turned=turned)
    assert sitting(keypoints, boxes, aspect) == pytest.approx([expected])


@pytest.mark.parametrize("hidden", ["knees", "hips", "shoulders"])
def test_without_sure_key_points_sitting_is_unknown(hidden: str) -> None:
    keypoints, boxes = pose(SITTING)
    first = {"shoulders": 5, "hips": 11, "knees": 13}[hidden]
    keypoints[0, first, 2] = 0.1
    assert np.isnan(sitting(keypoints, boxes, 4 / 3)).all()
    assert np.isnan(sitting(keypoints, boxes * [1, 1, 1, 1, 0], 4 / 3)).all()


def _seated(view: View, programme: str, label: str) -> NDArray[np.float64]:
    """What `sitting` says of everything in some performances that has that label."""
    found = [np.zeros(0)]
    for seed in range(4):
        rng = np.random.default_rng(seed)
        room = Room(bed_left=seed % 2 == 0)
        acted = perform(programme, Body(), room, rng, 20.0)
        camera = place(view, room, 640, 360, rng)
        for part in acted.intervals:
            if part.label != label:
                continue
            joints = acted.joints(np.arange(part.start_s + 0.5, part.end_s - 0.5, 0.5))
            shares = camera.project(joints[:, :COCO_POINTS])[0] / [camera.width, camera.height]
            within = ((shares > 0) & (shares < 1)).all(axis=(1, 2))
            shares = shares[within]
            scores = np.full((*shares.shape[:2], 1), 0.6)
            corners = [shares.min(axis=1), shares.max(axis=1), scores[:, 0]]
            keypoints = np.concatenate([shares, scores], axis=2)
            boxes = np.concatenate(corners, axis=1)
            found.append(sitting(keypoints, boxes, camera.width / camera.height))
    return np.concatenate(found)


@pytest.mark.parametrize("view", ["level", "corner"])
@pytest.mark.parametrize(
    ("programme", "label", "expected"),
    [("sit_still", "sitting", 1.0), ("stand", "standing", 0.0), ("stroll", "walking", 0.0),
     ("lie_still", "lying", 0.0)],
)  # fmt: skip
def test_simulated_people_sit_stand_walk_and_lie(
    view: View, programme: str, label: str, expected: float
) -> None:
    found = _seated(view, programme, label)
    known = found[np.isfinite(found)]
    assert len(known) >= 20
    assert len(known) > 0.5 * len(found)
    assert known.mean() == pytest.approx(expected, abs=0.05)


def test_a_camera_at_the_ceiling_makes_nobody_sit() -> None:
    for programme, label in (("stand", "standing"), ("stroll", "walking")):
        found = _seated("ceiling", programme, label)
        assert np.nanmean(found) < 0.1


@needs_samples
def test_real_people_on_the_floor_lie_and_others_do_not(network: MoveNet) -> None:
    """Every second recording of the level camera, its labels by posture."""
    found: dict[str, list[bool]] = {}
    for number in range(2, 31, 2):
        name = f"fall/fall-{number:02d}-cam0.mp4"
        for time_s, lies in _seen(SAMPLES / "urfd" / name, network):
            for start, end, label in _labels(name):
                if start <= time_s < end:
                    found.setdefault(label, []).append(lies)
    assert len(found["lying_after_fall"]) > 50
    assert len(found["upright_or_other"]) > 50
    assert np.mean(found["lying_after_fall"]) > 0.85
    assert np.mean(found["upright_or_other"]) < 0.1


def _seen(path: Path, network: MoveNet) -> list[tuple[float, bool]]:
    """Five times a second: whether the best seen person lies."""
    rows = []
    maker = PictureMaker(Crop())
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % 6:
                continue
            people = network.people(maker.rgb(frame, 256))
            if len(people):
                # The best seen comes first.
                lies = lying(people.keypoints, people.boxes, maker.aspect(frame))
                rows.append((number / 30, bool(lies[0])))
    return rows


def _labels(name: str) -> list[tuple[float, float, str]]:
    with (SAMPLES / "urfd" / "labels.csv").open() as file:
        return [
            (float(row["start_s"]), float(row["end_s"]), row["label"])
            for row in csv.DictReader(file)
            if row["file"] == name
        ]
