"""The jointed body: what its angles mean and where it rests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.simulation.body import INDEX, JOINT, JOINTS, PARAMETERS, Array, Body, posture


def _posed(body: Body, **degrees: float) -> Array:
    """Joints (joints, 3) of a body that rests in that posture."""
    rows = np.zeros((1, len(PARAMETERS)))
    for name, value in posture(**degrees).items():
        rows[0, INDEX[name]] = value
    rows[:, INDEX["z"]] = body.resting_height(rows)
    joints: Array = body.joints(rows)[0]
    return joints


def test_the_first_joints_are_cocos_in_order() -> None:
    assert JOINTS[:17] == (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder",
        "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
        "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    )  # fmt: skip


@pytest.mark.parametrize("height", [1.2, 1.7, 1.95])
def test_who_stands_is_as_tall_as_said(height: float) -> None:
    body = Body(height)
    joints = _posed(body)
    crown = joints[JOINT["crown"], 2] + body.radii()["crown"]
    assert crown == pytest.approx(height, rel=0.04)
    assert joints[JOINT["left_shoulder"], 1] > joints[JOINT["right_shoulder"], 1]
    assert joints[JOINT["nose"], 0] > joints[JOINT["head"], 0]


@pytest.mark.parametrize(
    ("degrees", "joint", "axis", "sign"),
    [
        ({"left_hip": 40}, "left_knee", 0, 1),
        ({"left_knee": 40}, "left_ankle", 0, -1),
        ({"right_shoulder": 60}, "right_elbow", 0, 1),
        ({"right_shoulder_abduction": 60}, "right_elbow", 1, -1),
        ({"left_shoulder_abduction": 60}, "left_elbow", 1, 1),
        ({"pitch": 20}, "head", 0, 1),
        ({"roll": 20}, "head", 1, -1),
        ({"spine_flexion": 20}, "head", 0, 1),
    ],
)
def test_flexion_goes_forwards_and_abduction_outwards(
    degrees: dict[str, float], joint: str, axis: int, sign: int
) -> None:
    body = Body()
    moved = _posed(body, **degrees)[JOINT[joint], axis] - _posed(body)[JOINT[joint], axis]
    assert sign * moved > 0.05


def test_who_lies_is_flat_on_the_floor_or_the_mattress() -> None:
    for pitch, support in ((-90, 0.0), (90, 0.0), (-90, 0.5)):
        joints = _posed(Body(), pitch=pitch, support=support)
        trunk = joints[[JOINT["left_hip"], JOINT["left_shoulder"], JOINT["head"]], 2]
        assert trunk.min() > support
        assert trunk.max() < support + 0.3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.floats(-1.5, 1.5, allow_nan=False), min_size=len(PARAMETERS), max_size=len(PARAMETERS)
    ),
    st.booleans(),
)
def test_bones_keep_their_length_and_nothing_is_under_the_floor(
    angles: list[float], child: bool
) -> None:
    body = Body(1.6, child=child)
    rows = np.array([angles])
    rows[:, INDEX["support"]] = 0.0
    rows[:, INDEX["z"]] = 0.0
    free = body.joints(rows, floor=False)[0]
    for side in ("left", "right"):
        hip, knee, ankle = (free[JOINT[f"{side}_{n}"]] for n in ("hip", "knee", "ankle"))
        assert np.linalg.norm(knee - hip) == pytest.approx(body.thigh_m)
        assert np.linalg.norm(ankle - knee) == pytest.approx(body.shank_m)
    rows[:, INDEX["z"]] = body.resting_height(rows)
    assert (body.joints(rows)[0, :, 2] >= 0.99 * np.array(list(body.radii().values()))).all()


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(KeyError, match="left_hipp"):
        posture(left_hipp=3)
