"""The jointed body: segment lengths, postures as joint angles, forward kinematics.

What belongs here: one person's body in space and where its joints are. What does not: how it moves
through time (`motions.py`) and what a camera makes of it (`camera.py`, `render.py`).

World axes: x to the right, y to the back of the room, z up, metres. Body axes: x forward, y to the
person's left, z towards the head. Angles are radians inside, degrees in `posture`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PARAMETERS: Final = (
    "x", "y", "z",
    "yaw", "pitch", "roll", "twist",
    "spine_flexion", "spine_side", "spine_twist",
    "neck_flexion", "head_turn",
    "left_hip", "right_hip",
    "left_hip_abduction", "right_hip_abduction",
    "left_knee", "right_knee",
    "left_shoulder", "right_shoulder",
    "left_shoulder_abduction", "right_shoulder_abduction",
    "left_shoulder_rotation", "right_shoulder_rotation",
    "left_elbow", "right_elbow",
    "support",
)  # fmt: skip
"""A posture's parameters, in order: pelvis position (m), its orientation, joint angles (rad), and
the height (m) of what carries the trunk: 0 on the floor, the seat's or mattress's height else.

The pelvis is turned by yaw about the world's z, then pitch (forwards positive), roll (to the right
positive) and twist about its own long axis. Flexion is positive forwards, for the knee backwards;
abduction is away from the body, shoulder rotation is inwards."""

INDEX: Final[Mapping[str, int]] = {name: number for number, name in enumerate(PARAMETERS)}
METRES: Final = frozenset({"x", "y", "z", "support"})

JOINTS: Final = (
    "nose",
    "left_eye", "right_eye", "left_ear", "right_ear",
    "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow",
    "left_wrist", "right_wrist",
    "left_hip", "right_hip",
    "left_knee", "right_knee",
    "left_ankle", "right_ankle",
    "pelvis", "waist", "neck", "head", "crown",
    "left_hand", "right_hand",
    "left_heel", "right_heel",
    "left_toe", "right_toe",
    "left_rib", "right_rib",
)  # fmt: skip
"""Names of the points that `Body.joints` gives; the first 17 are COCO's key points in order."""

JOINT: Final[Mapping[str, int]] = {name: number for number, name in enumerate(JOINTS)}
COCO_POINTS: Final = 17

_SIDE: Final = np.array([1.0, -1.0])  # left, right
_TRUNK: Final = tuple(
    JOINT[name]
    for name in ("pelvis", "left_hip", "right_hip", "waist", "left_rib", "right_rib",
                 "left_shoulder", "right_shoulder", "head")
)  # fmt: skip
_LEGS: Final = tuple(
    JOINT[f"{side}_{name}"]
    for name in ("knee", "ankle", "heel", "toe")
    for side in ("left", "right")
)


def posture(**degrees: float) -> dict[str, float]:
    """A (partial) posture: joint angles given in degrees, positions and support in metres.

    Raises KeyError for a name that is not in `PARAMETERS`.
    """
    for name in degrees:
        if name not in INDEX:
            raise KeyError(f"no body parameter {name!r}; there are: {', '.join(PARAMETERS)}")
    return {
        name: value if name in METRES else float(np.deg2rad(value))
        for name, value in degrees.items()
    }


@dataclass(frozen=True)
class _Axes:
    """Orientation per sample as its three basis vectors, each (..., 3)."""

    x: Array
    y: Array
    z: Array

    def about_x(self, angle: Array) -> _Axes:
        c, s = np.cos(angle)[..., None], np.sin(angle)[..., None]
        return _Axes(self.x, c * self.y + s * self.z, c * self.z - s * self.y)

    def about_y(self, angle: Array) -> _Axes:
        c, s = np.cos(angle)[..., None], np.sin(angle)[..., None]
        return _Axes(c * self.x - s * self.z, self.y, s * self.x + c * self.z)

    def about_z(self, angle: Array) -> _Axes:
        c, s = np.cos(angle)[..., None], np.sin(angle)[..., None]
        return _Axes(c * self.x + s * self.y, c * self.y - s * self.x, self.z)

    def both_sides(self) -> _Axes:
        """The same axes for the left and the right limb, shape (samples, 2, 3)."""
        return _Axes(self.x[:, None], self.y[:, None], self.z[:, None])

    def point(self, forward: float, left: float | Array, up: float) -> Array:
        sideways = left[..., None] if isinstance(left, np.ndarray) else left
        offset: Array = forward * self.x + sideways * self.y + up * self.z
        return offset


@dataclass(frozen=True)
class Body:
    """A body by its height, with segment lengths as shares of it.

    Source of the shares: Drillis and Contini (1966), as in Winter, Biomechanics and Motor Control
    of Human Movement, fig. 4.1; joint centres lie inside the breadths given there. A child has a
    larger head and shorter legs for its height; `girth` scales all radii.
    """

    height_m: float = 1.70
    child: bool = False
    girth: float = 1.0

    @property
    def leg_m(self) -> float:
        """Hip joint to sole, m."""
        return self.thigh_m + self.shank_m + self.sole_m

    @property
    def thigh_m(self) -> float:
        """Hip to knee, m."""
        return (0.225 if self.child else 0.245) * self.height_m

    @property
    def shank_m(self) -> float:
        """Knee to ankle, m."""
        return (0.225 if self.child else 0.246) * self.height_m

    @property
    def sole_m(self) -> float:
        """Ankle to sole, m."""
        return 0.039 * self.height_m

    @property
    def head_m(self) -> float:
        """Radius of the head, m."""
        return (0.074 if self.child else 0.058) * self.height_m

    @property
    def pelvis_radius_m(self) -> float:
        """Pelvis centre to the seat, m."""
        return 0.062 * self.height_m * self.girth

    def radii(self) -> dict[str, float]:
        """Radius of the flesh around each joint, m."""
        h, g = self.height_m, self.height_m * self.girth
        one = {
            "nose": 0.010 * h, "pelvis": 0.062 * g, "waist": 0.062 * g, "neck": 0.032 * h,
            "head": self.head_m, "crown": self.head_m * 0.8,
        }  # fmt: skip
        pair = {
            "eye": 0.006 * h, "ear": 0.012 * h, "shoulder": 0.036 * g, "elbow": 0.024 * g,
            "wrist": 0.017 * g, "hand": 0.022 * h, "hip": 0.054 * g, "knee": 0.034 * g,
            "ankle": 0.022 * g, "heel": 0.020 * h, "toe": 0.018 * h, "rib": 0.052 * g,
        }  # fmt: skip
        both = {f"{side}_{name}": r for name, r in pair.items() for side in ("left", "right")}
        return {name: (one | both)[name] for name in JOINTS}

    def joints(self, parameters: Array, *, floor: bool = True) -> Array:
        """Positions of all `JOINTS` in the world, shape (samples, joints, 3), m.

        `parameters` has the shape (samples, len(PARAMETERS)). With `floor`, what would be under it
        lies on it.
        """
        h = self.height_m
        p = {name: parameters[:, number] for name, number in INDEX.items()}
        samples = len(parameters)
        eye = np.broadcast_to(np.eye(3)[:, None], (3, samples, 3))
        pelvis_axes = (
            _Axes(eye[0], eye[1], eye[2])
            .about_z(p["yaw"]).about_y(p["pitch"]).about_x(p["roll"]).about_z(p["twist"])
        )  # fmt: skip
        chest_axes = (
            pelvis_axes.about_y(p["spine_flexion"])
            .about_x(p["spine_side"]).about_z(p["spine_twist"])
        )  # fmt: skip
        head_axes = chest_axes.about_y(p["neck_flexion"]).about_z(p["head_turn"])

        def pair(name: str) -> Array:
            return np.stack([p[f"left_{name}"], p[f"right_{name}"]], axis=1)

        out = np.empty((samples, len(JOINTS), 3))

        def put(name: str, value: Array) -> None:
            out[:, JOINT[name]] = value

        def put_pair(name: str, value: Array) -> None:
            out[:, JOINT[f"left_{name}"]] = value[:, 0]
            out[:, JOINT[f"right_{name}"]] = value[:, 1]

        pelvis = parameters[:, :3]
        waist = pelvis + pelvis_axes.point(0.0, 0.0, 0.075 * h)
        neck = waist + chest_axes.point(0.0, 0.0, 0.225 * h)
        head = neck + head_axes.point(0.014 * h, 0.0, 0.035 * h + self.head_m)
        r = self.head_m
        put("pelvis", pelvis)
        put("waist", waist)
        put("neck", neck)
        put("head", head)
        put("crown", head + head_axes.point(-0.1 * r, 0.0, 0.45 * r))
        put("nose", head + head_axes.point(1.05 * r, 0.0, -0.15 * r))
        sides = head_axes.both_sides()
        wide = np.broadcast_to(_SIDE, (samples, 2))
        put_pair("eye", head[:, None] + sides.point(0.88 * r, 0.38 * r * wide, 0.18 * r))
        put_pair("ear", head[:, None] + sides.point(-0.02 * r, 0.86 * r * wide, -0.02 * r))

        chest = chest_axes.both_sides()
        shoulder = waist[:, None] + chest.point(0.0, 0.104 * h * wide, 0.200 * h)
        put_pair("shoulder", shoulder)
        put_pair("rib", waist[:, None] + chest.point(0.0, 0.045 * h * wide, 0.120 * h))
        arm = (
            chest.about_x(pair("shoulder_abduction") * wide)
            .about_y(-pair("shoulder")).about_z(-pair("shoulder_rotation") * wide)
        )  # fmt: skip
        elbow = shoulder - 0.172 * h * arm.z
        forearm = arm.about_y(-pair("elbow"))
        wrist = elbow - 0.146 * h * forearm.z
        put_pair("elbow", elbow)
        put_pair("wrist", wrist)
        put_pair("hand", wrist - 0.050 * h * forearm.z)

        hip = pelvis[:, None] + pelvis_axes.both_sides().point(0.0, 0.052 * h * wide, -0.01 * h)
        thigh = pelvis_axes.both_sides().about_x(pair("hip_abduction") * wide).about_y(-pair("hip"))
        knee = hip - self.thigh_m * thigh.z
        shank = thigh.about_y(pair("knee"))
        ankle = knee - self.shank_m * shank.z
        put_pair("hip", hip)
        put_pair("knee", knee)
        put_pair("ankle", ankle)
        put_pair("heel", ankle + shank.point(-0.020 * h, 0.0, -0.020 * h))
        put_pair("toe", ankle + shank.point(0.095 * h, 0.0, -0.024 * h))
        if floor:
            out[:, :, 2] = np.maximum(out[:, :, 2], np.array(list(self.radii().values())))
        return out

    def resting_height(self, parameters: Array) -> Array:
        """Height of the pelvis at which the body just rests, shape (samples,), m.

        No point of the trunk is under the posture's `support`, and while the pelvis is upright no
        point of the legs is under the floor. Of somebody who lies, the trunk carries the weight and
        the limbs give way (`joints` keeps them above the floor).
        """
        flat = parameters.copy()
        flat[:, INDEX["z"]] = 0.0
        low = self.joints(flat, floor=False)[:, :, 2] - np.array(list(self.radii().values()))
        trunk = parameters[:, INDEX["support"]] - low[:, _TRUNK].min(axis=1)
        legs = -low[:, _LEGS].min(axis=1)
        upright = np.cos(parameters[:, INDEX["pitch"]]) * np.cos(parameters[:, INDEX["roll"]])
        share = np.clip((upright - 0.15) / 0.35, 0.0, 1.0)
        resting: Array = trunk + np.maximum(legs - trunk, 0.0) * share * share * (3 - 2 * share)
        return resting
