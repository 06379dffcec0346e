"""Drawn films: what a pose network would find in a film of a given camera, without its pictures.

What belongs here: one person before one hung camera, as key points with labels; how a ward's people
and a camera's condition change them. What does not: random rooms and cameras to train on
(`poses.py`), pictures (`films.py`, `render.py`), which camera records what on which day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fall_assets.simulation import poses
from fall_assets.simulation.body import COCO_POINTS, Body
from fall_assets.simulation.camera import Camera
from fall_assets.simulation.motions import FALL_FROM_WHEELCHAIR, ROLL, Interval, Style, perform
from fall_assets.simulation.poses import PoseNoise
from fall_assets.simulation.room import MATTRESS_M, Room

People = Literal["adults", "children", "wheelchairs"]

FALLS: Final[Mapping[People, Sequence[str]]] = {
    "adults": ("forwards", "backwards", "sideways", "out_of_bed", "from_chair"),
    "children": ("forwards", "backwards", "sideways", "out_of_bed"),
    "wheelchairs": (FALL_FROM_WHEELCHAIR,),
}
"""How the people of a ward fall; each as often as it stands there."""

LIFE: Final[Mapping[People, Sequence[str]]] = {
    "adults": (
        "stroll", "stroll", "stand", "pick_up", "sit_down", "sit_still", "lie_down", "lie_still",
        "leave_bed", "sit_fast",
    ),
    "children": (
        "hurry", "hurry", "exercise", "exercise", "exercise", "crawl", "sit_on_floor", "crouch",
        "kneel", "sit_fast",
    ),
    "wheelchairs": (ROLL, ROLL, ROLL, ROLL, "reach_down", "sit_still", "lie_still"),
}  # fmt: skip
"""What they do otherwise, likewise."""

_PLAYED_HZ: Final = 25.0
_CHILD_M: Final = (0.95, 1.25)
_CHILD_TEMPO: Final = (0.45, 0.8)
"""Children sit and lie down up to twice as fast as patients do."""


@dataclass(frozen=True)
class Hung:
    """A camera as it hangs in its room, and whom it sees.

    Attributes:
        room: where.
        camera: how it looks into it.
        people: who lives there.
        noise: what the pose network does to the key points of its pictures.
        mattress_m: height of the bed.
    """

    room: Room
    camera: Camera
    people: People = "adults"
    noise: PoseNoise = field(default_factory=PoseNoise)
    mattress_m: float = MATTRESS_M


@dataclass(frozen=True)
class DrawnFilm:
    """What a pose network finds in one film of one person, and the truth of it.

    `keypoints` float32 (samples, 17, 3): x and y as shares of the picture, score; zero where the
    person is not seen. `aspect` is the picture's width over its height.
    """

    programme: str
    keypoints: NDArray[np.float32]
    aspect: float
    labels: tuple[Interval, ...]


def draw_film(
    hung: Hung,
    programme: str,
    rng: np.random.Generator,
    *,
    duration_s: float = 15.0,
    rate_hz: float = 10.0,
) -> DrawnFilm:
    """A person who does what the programme says (see `motions.perform`) before that camera.

    The same generator in the same state gives the same film. Who leaves the picture is not seen
    until they are back.
    """
    body, style = _person(hung.people, rng)
    acted = perform(
        programme, body, hung.room, rng, duration_s,
        rate_hz=_PLAYED_HZ, style=style, mattress_m=hung.mattress_m,
    )  # fmt: skip
    joints = acted.joints(np.arange(round(duration_s * rate_hz)) / rate_hz)
    camera = hung.camera
    points, depth = camera.project(joints[:, :COCO_POINTS])
    shares = points / np.array([camera.width, camera.height])
    outside = ((shares < -0.02) | (shares > 1.02)).any(axis=-1) | (depth < 0.3)
    turned = poses.visibility(joints, camera)
    turned[outside] = 0.15
    # Too little of a body is nobody to a pose network.
    gone = outside.mean(axis=-1) > rng.uniform(0.45, 0.9)
    aspect = np.array([camera.width / camera.height], np.float32)
    found = poses.as_found(
        poses.in_picture(shares, outside)[None], poses.uprightness(joints)[None], turned[None],
        aspect, gone[None], rate_hz, hung.noise, rng,
    )[0]  # fmt: skip
    return DrawnFilm(programme, found, float(aspect[0]), acted.intervals)


def _person(people: People, rng: np.random.Generator) -> tuple[Body, Style | None]:
    """Somebody of the ward; None is a patient's style, as `perform` draws it."""
    girth = float(rng.uniform(0.9, 1.25))
    if people == "children":
        lively = Style.draw(rng, staff=True)
        style = replace(lively, tempo=float(rng.uniform(*_CHILD_TEMPO)))
        return Body(float(rng.uniform(*_CHILD_M)), child=True, girth=girth), style
    return Body(float(np.clip(rng.normal(1.69, 0.1), 1.45, 1.95)), girth=girth), None
