"""How people move: programmes of everyday acts and of falls, with their labels.

What belongs here: joint angles and places through time, and what each stretch of time is called.
What does not: cameras, pictures, files.

A `Performer` acts in a room: each act appends samples, and an interval in the taxonomy of
`lake.registry.LABELS`. `perform` plays one named programme. Everything is drawn from the generator
that the caller hands in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from fall_assets.simulation.body import INDEX, JOINT, PARAMETERS, Array, Body, posture
from fall_assets.simulation.room import MATTRESS_M, SEAT_M, Room

RATE_HZ: Final = 50.0

FallKind = Literal[
    "forwards",
    "backwards",
    "sideways",
    "out_of_bed",
    "from_chair",
    "faint",
    "to_knees",
    "slide_down",
    "onto_bed",
    "squat_back",
]
FALLS: Final[tuple[FallKind, ...]] = (
    "forwards",
    "backwards",
    "sideways",
    "out_of_bed",
    "from_chair",
)
"""Programmes in which the person falls, once; what footage is rendered of."""

MORE_FALLS: Final[tuple[FallKind, ...]] = (
    "faint",
    "to_knees",
    "slide_down",
    "onto_bed",
    "squat_back",
)
"""Further ones, for key points only: the knees give way and the body sinks upright before it tips;
first onto the knees; slowly down a wall; from the feet onto the bed; squatting to soften it, onto
the seat and over onto the back or a side (what most people do who fall backwards: Hsiao and
Robinovitch, Journal of Biomechanics 31(1), 1998)."""

ORDINARY: Final = (
    "stroll",
    "lie_down",
    "pick_up",
    "sit_down",
    "lie_still",
    "sit_fast",
    "leave_bed",
    "sit_still",
    "lie_fast",
    "stand",
    "lie_on_floor",
)
"""Programmes of ordinary life; sitting or lying down fast, bending and lying down on the floor on
purpose are the ones that are easily taken for a fall."""

MORE_ORDINARY: Final = (
    "crouch",
    "kneel",
    "exercise",
    "crawl",
    "sit_on_floor",
    "lie_on_side",
    "hurry",
    "pass_by",
    "reach_down",
)
"""Further ways of being low, bent or quick without falling, and of walking through the picture,
for key points only."""

VISIT: Final = "visit"
"""The programme of staff: come in, go to the bed or the patient, help, leave."""

ROLL: Final = "roll"
FALL_FROM_WHEELCHAIR: Final = "from_wheelchair"
WHEELED: Final = (ROLL, FALL_FROM_WHEELCHAIR)
"""Programmes in a wheelchair: roll about, and fall out of it."""

WHEELCHAIR_SEAT_M: Final = 0.50

Keys = Sequence[tuple[float, Mapping[str, float]]]


@dataclass(frozen=True)
class Interval:
    """A labelled stretch of time: seconds from the start, a label, and where in the room."""

    start_s: float
    end_s: float
    label: str
    zone: str | None = None


@dataclass(frozen=True)
class Performance:
    """What one person did: body, parameters (samples, len(PARAMETERS)) at `rate_hz`, labels.

    `wheelchair` is where the person's wheelchair is, x, y (m) and yaw (rad), shape (samples, 3).
    """

    body: Body
    parameters: Array
    rate_hz: float
    intervals: tuple[Interval, ...]
    wheelchair: Array | None = None

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.parameters) / self.rate_hz

    @property
    def fall(self) -> Interval | None:
        """The fall, from loss of balance to rest on the floor; None where there is none."""
        return next((one for one in self.intervals if one.label == "fall"), None)

    def at(self, times_s: Array) -> Array:
        """Parameters at those times, linear between samples, held at the ends."""
        return self._between(self.parameters, times_s)

    def wheelchair_at(self, times_s: Array) -> Array | None:
        """Where the wheelchair is at those times, shape (times, 3); None where there is none."""
        return None if self.wheelchair is None else self._between(self.wheelchair, times_s)

    def _between(self, rows: Array, times_s: Array) -> Array:
        place = np.clip(times_s * self.rate_hz, 0, len(rows) - 1)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, len(rows) - 1)
        share = (place - low)[:, None]
        mixed: Array = rows[low] * (1 - share) + rows[high] * share
        return mixed

    def joints(self, times_s: Array) -> Array:
        """Joint positions at those times, shape (times, joints, 3), m."""
        return self.body.joints(self.at(times_s))


@dataclass(frozen=True)
class Style:
    """How this person moves: pace in m/s, stoop in degrees, and how far arms swing and it sways.

    `tempo` scales the time that everything but walking and falling takes.
    """

    pace: float
    stoop: float
    swing: float
    sway: float
    tempo: float = 1.0

    @classmethod
    def draw(cls, rng: np.random.Generator, *, staff: bool = False) -> Style:
        """A patient's style, slow and a little bent, or that of staff."""
        if staff:
            return cls(rng.uniform(1.0, 1.35), rng.uniform(0, 5), rng.uniform(0.8, 1.2), 0.7)
        return cls(
            rng.uniform(0.55, 1.05),
            rng.uniform(2, 20),
            rng.uniform(0.3, 1.0),
            rng.uniform(0.7, 1.8),
        )


def minimum_jerk(u: Array) -> Array:
    """Share of the way at share `u` of the time (Flash and Hogan 1985): smooth start and end."""
    smooth: Array = u**3 * (10 - 15 * u + 6 * u**2)
    return smooth


def topple(u: Array) -> Array:
    """Share of the way at share `u` of the time of a falling rod: slow start, fast end.

    A rod hinged at the floor obeys a'' = (3 g / 2 L) sin a; for small a that is cosh(w t) with
    w = 2.9 / s at 1.7 m, so over about one second the shape is (cosh 3u - 1) / (cosh 3 - 1).
    """
    falling: Array = (np.cosh(3.0 * u) - 1) / (math.cosh(3.0) - 1)
    return falling


def _smooth(values: Array, sigma: float) -> Array:
    """Gaussian along the first axis, `sigma` in samples, edges held."""
    reach = math.ceil(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    out = np.zeros_like(values)
    for offset, weight in enumerate(kernel):
        out += weight * padded[offset : offset + len(values)]
    return out


class Performer:
    """Acts in a room, one act after the other; `performance` gives the result.

    `start` names the posture at the beginning: "stand" on the free floor, "sit" on the chair,
    "lie" in bed, "wheelchair" in one on the free floor, or "corridor" outside, out of sight (then
    `come_in` is the first act).
    """

    def __init__(
        self,
        body: Body,
        room: Room,
        rng: np.random.Generator,
        *,
        start: Literal["stand", "sit", "lie", "corridor", "wheelchair"] = "stand",
        style: Style | None = None,
        rate_hz: float = RATE_HZ,
        mattress_m: float = MATTRESS_M,
    ) -> None:
        self.mattress_m = mattress_m
        self.body, self.room, self.rng, self.rate_hz = body, room, rng, rate_hz
        self.style = style or Style.draw(rng)
        self._tempo = self.style.tempo
        self._rows: list[Array] = []
        self._wheels: list[Array] = []
        self._rides = start == "wheelchair"
        self._samples = 0
        self._intervals: list[tuple[int, int, str, str | None]] = []
        self._now = np.zeros(len(PARAMETERS))
        self._gone = False
        self._on: Literal["floor", "chair", "edge", "bed", "down"] = "floor"
        self._set(self._standing())
        if start == "stand":
            x, y = room.spot(rng)
            self._set({"x": x, "y": y, "yaw": float(rng.uniform(-math.pi, math.pi))})
        elif start == "sit":
            self._set(self._seated(SEAT_M))
            self._set({"x": room.chair[0], "y": room.chair[1], "yaw": self._chair_yaw})
            self._on = "chair"
        elif start == "lie":
            self._set(self._in_bed())
            self._set(self._bed_turn())
            self._on = "bed"
        elif start == "wheelchair":
            x, y = room.spot(rng)
            self._set(self._seated(WHEELCHAIR_SEAT_M))
            self._set({"x": x, "y": y, "yaw": float(rng.uniform(-math.pi, math.pi))})
            self._on = "chair"
        else:
            x, y = room.corridor
            self._set({"x": x, "y": y, "yaw": math.pi / 2})

    # What is asked of it.

    @property
    def time_s(self) -> float:
        """Seconds played so far."""
        return self._samples / self.rate_hz

    def performance(self, duration_s: float) -> Performance:
        """The first `duration_s` seconds; the last posture is held, barely moving, if shorter."""
        if self.time_s < duration_s:
            self.wait(duration_s - self.time_s + 1 / self.rate_hz)
        wanted = max(1, round(duration_s * self.rate_hz))
        rows = _smooth(np.concatenate(self._rows), 0.05 * self.rate_hz)
        height = self.body.resting_height(rows)
        rows[:, INDEX["z"]] = _smooth(height[:, None], 0.04 * self.rate_hz)[:, 0]
        intervals: list[Interval] = []
        for first, last, label, zone in self._intervals:
            start, end = first / self.rate_hz, min(last, wanted) / self.rate_hz
            if end <= start:
                continue
            before = intervals[-1] if intervals else None
            if before and (before.label, before.zone, before.end_s) == (label, zone, start):
                intervals[-1] = Interval(before.start_s, end, label, zone)
            else:
                intervals.append(Interval(start, end, label, zone))
        wheels = None
        if self._wheels:
            wheels = _smooth(np.concatenate(self._wheels), 0.05 * self.rate_hz)[:wanted]
        return Performance(self.body, rows[:wanted], self.rate_hz, tuple(intervals), wheels)

    def wait(self, seconds: float) -> None:
        """Stay as it is for that long: breathing, swaying, small movements of head and arms."""
        labels = {
            "floor": ("standing", None), "chair": ("sitting", "chair"), "edge": ("sitting", "bed"),
            "bed": ("lying", "bed"), "down": ("lying_after_fall", "floor"),
        }  # fmt: skip
        label, zone = labels[self._on]
        if self._on == "down" and not any(row[2] == "fall" for row in self._intervals):
            label = "lying"
        lively = {"floor": 1.0, "chair": 1.0, "edge": 1.0, "bed": 0.7, "down": 0.5}[self._on]
        with_arms = self._on in ("floor", "chair", "edge") and seconds > 2.0
        self._idle(seconds, lively * self.style.sway, gesture=with_arms)
        if not self._gone:
            self._name(label, zone, seconds)

    def walk_to(self, x: float, y: float, *, brake: bool = True) -> None:
        """Turn to the place and walk there; without `brake` it arrives in mid-stride."""
        away_x, away_y = x - self._now[INDEX["x"]], y - self._now[INDEX["y"]]
        distance = math.hypot(away_x, away_y)
        if distance < 0.12:
            return
        began = self._samples
        heading = math.atan2(away_y, away_x)
        self._turn(heading)
        pace = self.style.pace * float(self.rng.uniform(0.9, 1.1))
        ramp = 0.5
        seconds = distance / pace + (ramp if brake else ramp / 2)
        u = self._clock(seconds)
        speed = np.minimum(1.0, u / ramp)
        if brake:
            speed = np.minimum(speed, (seconds - u) / ramp)
        gone = np.cumsum(np.maximum(speed, 0.0))
        gone *= distance / gone[-1]
        rows = self._gait(gone, speed, pace)
        rows[:, INDEX["x"]] = self._now[INDEX["x"]] + away_x * gone / distance
        rows[:, INDEX["y"]] = self._now[INDEX["y"]] + away_y * gone / distance
        self._append(rows)
        self._name("walking", None, since=began)

    def roll_to(self, x: float, y: float) -> None:
        """In a wheelchair: turn to the place and roll there, pushing the wheels by hand."""
        away_x, away_y = x - self._now[INDEX["x"]], y - self._now[INDEX["y"]]
        distance = math.hypot(away_x, away_y)
        if distance < 0.2:
            return
        began = self._samples
        angle = self._nearest_yaw(math.atan2(away_y, away_x)) - self._now[INDEX["yaw"]]
        turning = minimum_jerk(self._share(max(0.4, abs(angle) / np.deg2rad(90))))
        rows = np.repeat(self._now[None], len(turning), axis=0)
        rows[:, INDEX["yaw"]] += angle * turning
        self._append(rows)
        pace = float(self.rng.uniform(0.45, 0.9))
        way = self._share(distance / pace + 0.8)
        gone = minimum_jerk(way)
        rows = np.repeat(self._now[None], len(way), axis=0)
        rows[:, INDEX["x"]] += away_x * gone
        rows[:, INDEX["y"]] += away_y * gone
        push = np.sin(2 * math.pi * self.rng.uniform(0.6, 1.0) * way * len(way) / self.rate_hz)
        push *= np.minimum(1.0, 6 * np.minimum(way, 1 - way))
        for side in ("left", "right"):
            rows[:, INDEX[f"{side}_shoulder"]] += np.deg2rad(28) * push
            rows[:, INDEX[f"{side}_elbow"]] -= np.deg2rad(18) * push
        rows[:, INDEX["spine_flexion"]] += np.deg2rad(6) * push
        self._append(rows)
        self._name("sitting", "chair", since=began)

    def come_in(self, after_s: float = 0.0) -> None:
        """From the corridor through the doorway; nothing is named while it is out of sight."""
        self._idle(max(0.1, after_s), 0.3)
        out_of_sight = len(self._intervals)
        outside, (door_x, door_y) = self.room.corridor, self.room.door
        self.walk_to(outside[0], door_y, brake=False)
        self.walk_to(door_x, door_y, brake=False)
        del self._intervals[out_of_sight:]
        self.walk_to(*self.room.threshold, brake=False)

    def go_out(self) -> None:
        """Through the doorway and along the corridor, out of sight; nothing is named there."""
        self.walk_to(*self.room.threshold, brake=False)
        self.walk_to(*self.room.door, brake=False)
        out_of_sight = len(self._intervals)
        outside, (_, door_y) = self.room.corridor, self.room.door
        self.walk_to(outside[0], door_y, brake=False)
        self.walk_to(*outside)
        del self._intervals[out_of_sight:]
        self._gone = True

    def turn_to(self, heading: float) -> None:
        """Turn on the spot, with small steps; labelled as walking."""
        began = self._samples
        self._turn(heading)
        self._name("walking", None, since=began)

    def sit_down(self, on: Literal["chair", "edge"] = "chair", *, fast: bool = False) -> None:
        """Go to the chair or the bed's edge, turn round and sit down; fast takes 0.6 to 0.9 s."""
        if on == "chair":
            (seat_x, seat_y), yaw, seat = self.room.chair, self._chair_yaw, SEAT_M
        else:
            seat_x = self.room.bed_edge_x - 0.20 * self.room.inward
            seat_y, yaw, seat = self._bed_y - 0.15, self._edge_yaw, self.mattress_m
        seated = self._seated(seat)
        reach = self.body.thigh_m * math.sin(
            seated["left_hip"] - seated["pitch"]
        ) - 0.05 * self.body.height_m * (1 if self.body.child else 0)
        self.walk_to(seat_x + reach * math.cos(yaw), seat_y + reach * math.sin(yaw))
        self.turn_to(yaw)
        seconds = self.rng.uniform(0.6, 0.9) if fast else self.rng.uniform(1.2, 2.0)
        bend = 22 if fast else 34
        began = self._samples
        self._path(
            [
                (0.0, {}),
                (0.45, posture(pitch=bend * 0.6, spine_flexion=bend, left_hip=58, right_hip=58,
                               left_knee=52, right_knee=52, left_shoulder=20, right_shoulder=20,
                               left_elbow=35, right_elbow=35)),
                (0.85, seated | posture(pitch=6, spine_flexion=bend * 0.7)
                 | {"left_hip": seated["left_hip"] + 0.2, "right_hip": seated["right_hip"] + 0.2,
                    "support": seat * 0.97, "x": seat_x, "y": seat_y}),
                (1.0, seated | {"x": seat_x, "y": seat_y}),
            ],
            seconds,
            ease=(lambda u: u**1.7) if fast else minimum_jerk,
        )  # fmt: skip
        self._on = on
        self._name("sitting_down", "bed" if on == "edge" else "chair", since=began)

    def stand_up(self) -> None:
        """From the chair or the bed's edge to the feet."""
        zone = "bed" if self._on == "edge" else "chair"
        began = self._samples
        forward = self.body.thigh_m * 0.95
        yaw = self._now[INDEX["yaw"]]
        x, y = self._now[INDEX["x"]], self._now[INDEX["y"]]
        there = {"x": x + forward * math.cos(yaw), "y": y + forward * math.sin(yaw)}
        half = {name: (there[name] + here) / 2 for name, here in (("x", x), ("y", y))}
        self._path(
            [
                (0.0, {}),
                (0.35, posture(pitch=25, spine_flexion=30, left_hip=105, right_hip=105,
                               left_knee=92, right_knee=92, left_shoulder=25, right_shoulder=25)),
                (0.7, posture(pitch=22, spine_flexion=22, left_hip=60, right_hip=60,
                              left_knee=55, right_knee=55, support=0.0) | half),
                (1.0, self._standing() | there),
            ],
            float(self.rng.uniform(1.2, 2.2)),
        )  # fmt: skip
        self._on = "floor"
        self._name("other", zone, since=began)

    def lie_down(self, *, fast: bool = False, on_side: bool = False) -> None:
        """From the bed's edge (goes there first) into bed; fast takes 1.0 to 1.5 s."""
        if self._on != "edge":
            self.sit_down("edge", fast=fast)
            if not fast and not on_side:
                self.wait(float(self.rng.uniform(0.4, 1.5)))
        began = self._samples
        lying = self._in_bed() | self._bed_turn()
        if on_side:
            lying |= posture(twist=float(self.rng.choice([-75.0, 75.0])), left_hip=45,
                             right_hip=50, left_knee=60, right_knee=70, left_shoulder=50,
                             right_shoulder=55, left_elbow=70, right_elbow=60)  # fmt: skip
        yaw = lying["yaw"] = self._nearest_yaw(lying["yaw"])
        here = self._now
        half = {
            "x": (here[INDEX["x"]] * 0.5 + lying["x"] * 0.5),
            "y": (here[INDEX["y"]] * 0.5 + lying["y"] * 0.5),
            "yaw": here[INDEX["yaw"]] * 0.45 + yaw * 0.55,
        }
        self._path(
            [
                (0.0, {}),
                (0.5, posture(pitch=-42, spine_flexion=18, left_hip=58, right_hip=66, left_knee=62,
                              right_knee=50, left_shoulder=-15, right_shoulder=10, left_elbow=40,
                              right_elbow=40, neck_flexion=15) | half),
                (1.0, lying),
            ],
            float(self.rng.uniform(1.0, 1.5) if fast else self.rng.uniform(2.2, 3.8)),
        )  # fmt: skip
        self._on = "bed"
        self._name("other", "bed", since=began)

    def turn_in_bed(self, onto: Literal["back", "other"] = "other") -> None:
        """From the back to the side or the other way, staying in bed; or back onto the back."""
        began = self._samples
        if onto == "back" or abs(self._now[INDEX["twist"]]) > 0.5:
            target = self._in_bed()
        else:
            side = float(self.rng.choice([-1.0, 1.0]))
            target = self._in_bed() | posture(
                twist=75 * side, left_hip=45, right_hip=55, left_knee=60, right_knee=75,
                left_shoulder=50, right_shoulder=60, left_elbow=70, right_elbow=60,
                left_shoulder_abduction=2, right_shoulder_abduction=2,
            )  # fmt: skip
        self._path([(0.0, {}), (1.0, target)], float(self.rng.uniform(1.6, 3.0)))
        self._name("lying", "bed", since=began)

    def leave_bed(self) -> None:
        """From lying in bed to sitting on its edge, then to the feet."""
        began = self._samples
        edge = self._seated(self.mattress_m) | {
            "x": self.room.bed_edge_x - 0.20 * self.room.inward,
            "y": self._bed_y - 0.15,
            "yaw": self._nearest_yaw(self._edge_yaw),
        }
        half = {name: (self._now[INDEX[name]] + edge[name]) / 2 for name in ("x", "y", "yaw")}
        self._path(
            [
                (0.0, {}),
                (0.5, posture(pitch=-40, twist=0, spine_flexion=25, left_hip=60, right_hip=55,
                              left_knee=50, right_knee=60, left_shoulder=-20, right_shoulder=20,
                              neck_flexion=20) | half),
                (1.0, edge),
            ],
            float(self.rng.uniform(2.0, 3.5)),
        )  # fmt: skip
        self._on = "edge"
        self._name("other", "bed", since=began)
        self.wait(float(self.rng.uniform(0.5, 2.0)))
        self.stand_up()

    def pick_up(self) -> None:
        """Bend or squat to the floor, pick something up, straighten."""
        began = self._samples
        squat = self.rng.random() < 0.4
        down = (
            posture(pitch=20, spine_flexion=45, left_hip=120, right_hip=112, left_knee=118,
                    right_knee=108, left_shoulder=70, right_shoulder=85)
            if squat
            else posture(pitch=62, spine_flexion=48, left_hip=78, right_hip=74, left_knee=28,
                         right_knee=24, left_shoulder=75, right_shoulder=100, neck_flexion=-15)
        )  # fmt: skip
        level = posture(left_elbow=10, right_elbow=5, left_shoulder_abduction=5)
        self._path(
            [(0.0, {}), (1.0, down | level)], float(self.rng.uniform(0.8, 1.6)), anchor="feet"
        )
        self._idle(float(self.rng.uniform(0.3, 1.0)), 0.5)
        self._path(
            [(0.0, {}), (1.0, self._standing())], float(self.rng.uniform(0.9, 1.7)), anchor="feet"
        )
        self._name("bending", None, since=began)

    def crouch(self) -> None:
        """Squat for some seconds, as to tie a shoe or look under the bed; straighten."""
        began = self._samples
        u = self.rng.uniform
        down = posture(pitch=u(5, 30), spine_flexion=u(25, 55), left_hip=u(105, 125),
                       right_hip=u(100, 120), left_knee=u(105, 130), right_knee=u(100, 128),
                       left_shoulder=u(30, 85), right_shoulder=u(30, 85), left_elbow=u(5, 70),
                       right_elbow=u(5, 70), neck_flexion=u(-20, 15))  # fmt: skip
        self._path([(0.0, {}), (1.0, down)], float(u(0.5, 1.4)), anchor="feet")
        self._idle(float(u(0.5, 4.0)), 1.2)
        self._path([(0.0, {}), (1.0, self._standing())], float(u(0.6, 1.5)), anchor="feet")
        self._name("bending", None, since=began)

    def reach_down(self) -> None:
        """While seated, bend to the floor as for a shoe or something dropped; sit up again."""
        began = self._samples
        u = self.rng.uniform
        sitting = dict(zip(PARAMETERS, self._now.tolist(), strict=True))
        upright = {name: sitting[name] for name in PARAMETERS if name not in ("x", "y", "z")}
        deep = u(0.6, 1.0)
        down = posture(pitch=55 * deep, spine_flexion=u(40, 60) * deep, spine_side=u(-20, 20),
                       left_hip=110, right_hip=110, left_shoulder=u(60, 110),
                       right_shoulder=u(20, 110), left_elbow=u(5, 30), right_elbow=u(5, 30),
                       neck_flexion=u(-20, 15))  # fmt: skip
        # The thighs stay on the seat: what the trunk tips, the hips bend.
        for name in ("left_hip", "right_hip"):
            down[name] = upright[name] + down["pitch"] - upright["pitch"]
        self._path([(0.0, {}), (1.0, down)], float(u(0.5, 1.4)))
        self._idle(float(u(0.2, 2.0)), 1.0)
        self._path([(0.0, {}), (1.0, upright)], float(u(0.5, 1.4)))
        self._name("bending", "bed" if self._on == "edge" else "chair", since=began)

    def kneel(self, *, then_rise: bool = True) -> None:
        """Down onto one knee or both, perhaps bowing to the floor, and up again."""
        began = self._samples
        u = self.rng.uniform
        both = u() < 0.5 or not then_rise
        down = (
            posture(pitch=u(0, 15), spine_flexion=u(5, 30), left_hip=u(0, 20), right_hip=u(0, 20),
                    left_knee=u(95, 112), right_knee=u(95, 112))
            if both
            else posture(pitch=u(0, 15), spine_flexion=u(5, 35), left_hip=u(85, 100),
                         right_hip=u(-8, 10), left_knee=u(85, 100), right_knee=u(92, 108))
        )  # fmt: skip
        arms = posture(left_shoulder=u(10, 60), right_shoulder=u(10, 60), left_elbow=u(10, 60),
                       right_elbow=u(10, 60))  # fmt: skip
        self._path([(0.0, {}), (1.0, down | arms)], float(u(0.7, 1.6)), anchor="feet")
        if not then_rise:
            return
        if u() < 0.5:
            bowed = posture(pitch=u(25, 55), spine_flexion=u(30, 50), left_shoulder=u(60, 100),
                            right_shoulder=u(60, 100))  # fmt: skip
            self._path([(0.0, {}), (1.0, bowed)], float(u(0.5, 1.2)), anchor="feet")
        self._idle(float(u(0.5, 4.0)), 1.5)
        self._path([(0.0, {}), (1.0, self._standing())], float(u(0.8, 1.8)), anchor="feet")
        self._name("bending", None, since=began)

    def crawl(self) -> None:
        """Down onto hands and knees, some steps so, and up again."""
        self.kneel(then_rise=False)
        began = self._samples
        u = self.rng.uniform
        on_hands = posture(pitch=58, spine_flexion=22, left_hip=62, right_hip=62, left_knee=88,
                           right_knee=88, left_shoulder=82, right_shoulder=82, left_elbow=8,
                           right_elbow=8, neck_flexion=-30)  # fmt: skip
        self._path([(0.0, {}), (1.0, on_hands)], float(u(0.6, 1.2)))
        time = self._clock(float(u(2.0, 5.0)))
        rows = np.repeat(self._now[None], len(time), axis=0)
        beat = np.sin(2 * math.pi * u(0.7, 1.2) * time)
        for name, sign in (("left_hip", 1), ("right_hip", -1), ("left_shoulder", -1),
                           ("right_shoulder", 1)):  # fmt: skip
            rows[:, INDEX[name]] += sign * np.deg2rad(18) * beat
        yaw, pace = self._now[INDEX["yaw"]], u(0.2, 0.5)
        rows[:, 0] += pace * time * math.cos(yaw)
        rows[:, 1] += pace * time * math.sin(yaw)
        self._append(rows)
        self._path([(0.0, {}), (0.5, posture(pitch=10, left_hip=60, right_hip=10)),
                    (1.0, self._standing())], float(u(1.2, 2.5)))  # fmt: skip
        self._name("other", None, since=began)

    def sit_on_floor(self) -> None:
        """Sit down on the floor in control, stay, get up."""
        began = self._samples
        u = self.rng.uniform
        sitting = posture(pitch=u(-22, -5), spine_flexion=u(10, 30), left_hip=u(88, 105),
                          right_hip=u(88, 105), left_knee=u(5, 95), right_knee=u(5, 95),
                          left_shoulder=u(-30, 50), right_shoulder=u(-30, 50),
                          left_elbow=u(5, 60), right_elbow=u(5, 60))  # fmt: skip
        self._path(
            [
                (0.0, {}),
                (0.55, posture(pitch=22, spine_flexion=30, left_hip=112, right_hip=116,
                               left_knee=118, right_knee=122, left_shoulder=20,
                               right_shoulder=10)),
                (1.0, sitting),
            ],
            float(u(1.6, 3.5)),
            anchor="feet",
        )  # fmt: skip
        self._idle(float(u(1.5, 5.0)), 1.5)
        self._name("other", "floor", since=began)
        self.get_up_from_floor()

    def exercise(self) -> None:
        """Some repetitions of one exercise on the feet: squats, bends, reaching, arms and legs."""
        began = self._samples
        u = self.rng.uniform
        kind = int(self.rng.integers(5))
        out, arms_up = posture(), posture(left_shoulder=160, right_shoulder=160)
        if kind == 0:
            out = posture(pitch=18, spine_flexion=25, left_hip=100, right_hip=100, left_knee=105,
                          right_knee=105, left_shoulder=85, right_shoulder=85)  # fmt: skip
        elif kind == 1:
            side = float(self.rng.choice([-1.0, 1.0]))
            out = posture(spine_side=35 * side, roll=10 * side, left_shoulder_abduction=150,
                          right_shoulder_abduction=40)  # fmt: skip
        elif kind == 2:
            out = posture(pitch=65, spine_flexion=50, left_hip=80, right_hip=80, left_knee=10,
                          right_knee=10, left_shoulder=110, right_shoulder=110)  # fmt: skip
        elif kind == 3:
            out = posture(left_shoulder_abduction=165, right_shoulder_abduction=165,
                          left_hip_abduction=22, right_hip_abduction=22)  # fmt: skip
        else:
            out = posture(left_hip=85, left_knee=95, right_hip=-15, right_knee=70, pitch=8,
                          left_shoulder=30, right_shoulder=-20)  # fmt: skip
        for _ in range(int(self.rng.integers(2, 6))):
            seconds = float(u(0.45, 1.3))
            self._path([(0.0, {}), (1.0, out)], seconds, anchor="feet")
            back = self._standing() | (arms_up if kind == 2 and u() < 0.5 else {})
            self._path([(0.0, {}), (1.0, back)], seconds * float(u(0.8, 1.3)), anchor="feet")
        self._name("other", None, since=began)

    def tend(self, seconds: float) -> None:
        """Lean over somebody or something and use both hands."""
        began = self._samples
        lean = posture(pitch=14, spine_flexion=28, left_hip=18, right_hip=18, left_knee=8,
                       right_knee=8, left_shoulder=48, right_shoulder=55, left_elbow=45,
                       right_elbow=40, neck_flexion=12)  # fmt: skip
        self._path([(0.0, {}), (1.0, lean)], 1.0, anchor="feet")
        self._idle(max(0.5, seconds - 2.0), 2.0, gesture=True)
        self._path([(0.0, {}), (1.0, self._standing())], 1.0, anchor="feet")
        self._name("bending", None, since=began)

    def lie_down_on_floor(self) -> None:
        """Squat, sit and lie down on the floor, on purpose and in control, in 3 to 5 s."""
        heading = next(
            (
                angle
                for angle in self.rng.uniform(-math.pi, math.pi, 40)
                if self._space(self._now[INDEX["x"]], self._now[INDEX["y"]], angle + math.pi)
            ),
            self._now[INDEX["yaw"]],
        )
        self.turn_to(float(heading))
        began = self._samples
        # Faster than this it would look like a fall.
        self._tempo = max(self._tempo, 0.7)
        self._path(
            [
                (0.0, {}),
                (0.35, posture(pitch=25, spine_flexion=30, left_hip=110, right_hip=118,
                               left_knee=118, right_knee=125, left_shoulder=30,
                               right_shoulder=30)),
                (0.6, posture(pitch=-18, spine_flexion=25, left_hip=92, right_hip=95, left_knee=95,
                              right_knee=85, left_shoulder=-35, right_shoulder=-30, left_elbow=10,
                              right_elbow=10)),
                (1.0, self._supine()),
            ],
            float(self.rng.uniform(3.0, 5.0)),
            anchor="feet",
        )  # fmt: skip
        self._tempo = self.style.tempo
        self._on = "down"
        self._name("other", "floor", since=began)

    def get_up_from_floor(self) -> None:
        """From the floor by sitting and crouching to the feet, in 4 to 6 s."""
        began = self._samples
        self._path(
            [
                (0.0, {}),
                (0.4, posture(pitch=-12, roll=0, twist=0, spine_flexion=25, left_hip=88,
                              right_hip=92, left_knee=80, right_knee=95, left_shoulder=-20,
                              right_shoulder=-25, left_shoulder_abduction=25,
                              right_shoulder_abduction=20, left_elbow=10, right_elbow=10,
                              neck_flexion=8, head_turn=0)),
                (0.7, posture(pitch=30, spine_flexion=35, left_hip=112, right_hip=105,
                              left_knee=115, right_knee=105, left_shoulder=45, right_shoulder=50)),
                (1.0, self._standing()),
            ],
            float(self.rng.uniform(4.0, 6.0)),
        )  # fmt: skip
        self._on = "floor"
        self._name("other", "floor", since=began)

    def fall(self, kind: FallKind) -> None:
        """Fall: 0.8 to 1.5 s from loss of balance to rest on the floor.

        A person on foot first walks to a place where there is room to fall; one in bed or on the
        chair (`out_of_bed`, `from_chair`) must be there already.
        """
        self._tempo = 1.0
        self._rides = False
        if kind == "out_of_bed":
            self._fall_out_of_bed()
        elif kind == "from_chair":
            self._fall_from_seat()
        elif kind == "onto_bed":
            self._fall_onto_bed()
        else:
            self._fall_on_foot(kind)
        self._on = "down"
        self._settle()
        self._tempo = self.style.tempo

    def stir(self, seconds: float) -> None:
        """Move arms and legs while lying on the floor, trying to get up, without success."""
        began = self._samples
        now = self._now.copy()
        until = self.time_s + seconds
        while self.time_s < until:
            change = {
                name: float(now[INDEX[name]] + self.rng.normal(0, 0.35))
                for name in ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
                             "left_hip", "right_hip", "left_knee", "right_knee")
            }  # fmt: skip
            for name in ("left_elbow", "right_elbow", "left_knee", "right_knee"):
                change[name] = max(0.05, change[name])
            change["spine_flexion"] = float(now[INDEX["spine_flexion"]] + self.rng.normal(0, 0.12))
            self._path([(0.0, {}), (1.0, change)], float(self.rng.uniform(0.7, 1.4)))
        self._name("lying_after_fall", "floor", since=began)

    # Falls in detail.

    def _fall_on_foot(self, kind: FallKind) -> None:
        rng = self.rng
        side = float(rng.choice([-1.0, 1.0]))
        lean = {
            "forwards": 0.0, "to_knees": 0.0, "backwards": math.pi, "slide_down": math.pi,
            "squat_back": math.pi,
        }.get(kind, -side * math.pi / 2)  # fmt: skip
        here_x, here_y = self._now[INDEX["x"]], self._now[INDEX["y"]]
        spot, heading = (here_x, here_y), self._now[INDEX["yaw"]]
        for _ in range(60):
            x, y = self.room.spot(rng)
            if math.hypot(x - here_x, y - here_y) < 0.8:
                continue
            angle = math.atan2(y - here_y, x - here_x)
            if self._space(x, y, angle + lean):
                spot, heading = (x, y), angle
                break
        self.walk_to(*spot, brake=kind != "forwards" or rng.random() < 0.4)
        if kind != "forwards" and rng.random() < 0.6:
            self.wait(float(rng.uniform(0.4, 1.5)))
        began = self._samples
        carried = 0.30 * self.style.pace if kind == "forwards" else 0.0
        seconds = float(rng.uniform(0.8, 1.4))
        if kind == "slide_down":
            self._path(self._down_a_wall(side), float(rng.uniform(1.4, 2.6)), anchor="feet")
            self._name("fall", "floor", since=began)
            return
        if kind == "squat_back":
            self._path(self._squat_back(side), float(rng.uniform(1.0, 2.0)), anchor="feet")
            self._name("fall", "floor", since=began)
            return
        if kind == "to_knees":
            knees = posture(pitch=12, spine_flexion=18, left_hip=12, right_hip=16, left_knee=104,
                            right_knee=98, left_shoulder=45, right_shoulder=40, left_elbow=40,
                            right_elbow=40)  # fmt: skip
            self._path([(0.0, {}), (1.0, knees)], float(rng.uniform(0.35, 0.7)), ease=topple,
                       anchor="feet")  # fmt: skip
            if rng.random() < 0.5:
                self._idle(float(rng.uniform(0.1, 0.6)), 0.5)
            seconds = float(rng.uniform(0.5, 0.9))
        self._path(
            {
                "forwards": self._prone,
                "backwards": self._onto_back,
                "sideways": self._onto_side,
                "faint": self._crumple,
                "to_knees": self._flat_from_knees,
            }[kind](side),
            seconds,
            ease=topple,
            anchor="feet",
            drift=(carried * math.cos(heading), carried * math.sin(heading)),
        )
        self._name("fall", "floor", since=began)

    def _prone(self, side: float) -> Keys:
        u = self.rng.uniform
        step = "left" if side > 0 else "right"
        return [
            (0.0, {}),
            (0.10, posture(pitch=14, spine_flexion=12, left_shoulder=25, right_shoulder=25)
             | posture(**{f"{step}_hip": 28, f"{step}_knee": 30})),
            (0.50, posture(pitch=46, spine_flexion=10, left_hip=12, right_hip=16, left_knee=48,
                           right_knee=40, left_shoulder=75, right_shoulder=70, left_elbow=45,
                           right_elbow=50, neck_flexion=-10, roll=4 * side)),
            (1.0, posture(pitch=u(84, 92), roll=u(-12, 12), spine_flexion=u(-4, 6),
                          left_hip=u(-6, 12), right_hip=u(-6, 25), left_knee=u(2, 20),
                          right_knee=u(2, 45), left_hip_abduction=u(4, 18),
                          right_hip_abduction=u(4, 18), left_shoulder=u(20, 150),
                          right_shoulder=u(80, 150), left_shoulder_abduction=u(5, 40),
                          right_shoulder_abduction=u(5, 40), left_elbow=u(10, 90),
                          right_elbow=u(20, 100), neck_flexion=-5, head_turn=u(35, 60) * side)),
        ]  # fmt: skip

    def _onto_back(self, side: float) -> Keys:
        u = self.rng.uniform
        return [
            (0.0, {}),
            (0.12, posture(pitch=-12, spine_flexion=8, left_hip=2, right_hip=20, right_knee=25,
                           left_shoulder=45, right_shoulder=40, left_shoulder_abduction=35,
                           right_shoulder_abduction=40)),
            (0.55, posture(pitch=-34, spine_flexion=22, left_hip=52, right_hip=60, left_knee=80,
                           right_knee=75, left_shoulder=30, right_shoulder=20,
                           left_shoulder_abduction=30, right_shoulder_abduction=35, left_elbow=35,
                           right_elbow=30, neck_flexion=20)),
            (1.0, self._supine() | posture(roll=u(-10, 10), left_hip=u(0, 40), left_knee=u(0, 70),
                                           head_turn=u(0, 40) * side)),
        ]  # fmt: skip

    def _onto_side(self, side: float) -> Keys:
        u = self.rng.uniform
        low, high = ("right", "left") if side > 0 else ("left", "right")
        crumples = u() < 0.45
        middle = (
            posture(pitch=12, roll=14 * side, spine_flexion=28, left_hip=62, right_hip=58,
                    left_knee=105, right_knee=98, neck_flexion=20)
            if crumples
            else posture(roll=42 * side, spine_flexion=10, left_hip=22, right_hip=28, left_knee=42,
                         right_knee=38)
        )  # fmt: skip
        reach = posture(**{f"{low}_shoulder_abduction": 60, f"{low}_elbow": 30,
                           f"{high}_shoulder": 30, f"{high}_shoulder_abduction": 30})  # fmt: skip
        return [
            (0.0, {}),
            (0.12, posture(roll=9 * side, spine_side=6 * side)),
            (0.55, middle | reach),
            (1.0, posture(pitch=u(-8, 14), roll=u(82, 92) * side, twist=u(-22, 22),
                          spine_flexion=u(0, 25), spine_side=0, left_hip=u(10, 60),
                          right_hip=u(10, 60), left_knee=u(15, 85), right_knee=u(15, 85),
                          neck_flexion=u(-5, 20))
             | posture(**{f"{low}_shoulder": u(60, 130), f"{low}_shoulder_abduction": u(0, 15),
                          f"{low}_elbow": u(20, 80), f"{high}_shoulder": u(20, 80),
                          f"{high}_shoulder_abduction": u(-5, 10), f"{high}_elbow": u(30, 80)})),
        ]  # fmt: skip

    def _flat_from_knees(self, side: float) -> Keys:
        return [(0.0, {}), self._prone(side)[-1]]

    def _crumple(self, side: float) -> Keys:
        """The knees give way: straight down first, then onto the back or a side."""
        u = self.rng.uniform
        end = (self._onto_back if u() < 0.4 else self._onto_side)(side)[-1][1]
        return [
            (0.0, {}),
            (0.45, posture(pitch=u(0, 15), spine_flexion=u(10, 30), left_hip=u(60, 85),
                           right_hip=u(60, 85), left_knee=u(95, 120), right_knee=u(95, 120),
                           neck_flexion=u(5, 25), roll=8 * side)),
            (0.65, posture(pitch=u(-20, 10), roll=22 * side, spine_flexion=u(15, 30),
                           left_hip=u(80, 100), right_hip=u(80, 100), left_knee=u(80, 115),
                           right_knee=u(80, 115))),
            (1.0, end),
        ]  # fmt: skip

    def _down_a_wall(self, side: float) -> Keys:
        u = self.rng.uniform
        return [
            (0.0, {}),
            (0.5, posture(pitch=u(-20, -8), spine_flexion=u(15, 30), left_hip=u(85, 105),
                          right_hip=u(85, 105), left_knee=u(85, 110), right_knee=u(85, 110),
                          neck_flexion=u(0, 20))),
            (0.65, posture(pitch=u(-22, -8), left_hip=u(75, 100), right_hip=u(75, 100),
                           left_knee=u(30, 90), right_knee=u(30, 90), roll=8 * side)),
            (1.0, self._onto_side(side)[-1][1]),
        ]  # fmt: skip

    def _squat_back(self, side: float) -> Keys:
        """Squat, seat on the floor, and over: onto the back, or half onto a side."""
        u = self.rng.uniform
        end = self._supine() | posture(
            twist=side * u(0, 60), left_hip=u(5, 75), right_hip=u(5, 75), left_knee=u(5, 105),
            right_knee=u(5, 105),
        )  # fmt: skip
        return [
            (0.0, {}),
            (u(0.35, 0.5), posture(pitch=u(5, 25), spine_flexion=u(20, 35), left_hip=u(95, 118),
                                   right_hip=u(95, 118), left_knee=u(100, 125),
                                   right_knee=u(100, 125), left_shoulder=u(0, 50),
                                   right_shoulder=u(0, 50))),
            (u(0.6, 0.72), posture(pitch=u(-30, -5), spine_flexion=u(20, 35), left_hip=u(85, 110),
                                   right_hip=u(85, 110), left_knee=u(60, 120),
                                   right_knee=u(60, 120), left_shoulder=u(-50, -10),
                                   right_shoulder=u(-50, -10), left_elbow=u(5, 30),
                                   right_elbow=u(5, 30), neck_flexion=u(0, 25))),
            (1.0, end),
        ]  # fmt: skip

    def _fall_onto_bed(self) -> None:
        """From the feet beside the bed, onto it across its edge, face or back first."""
        u, inward = self.rng.uniform, self.room.inward
        y = self._bed_y + float(u(-0.5, 0.1))
        self.walk_to(self.room.bed_edge_x + 0.30 * inward, y)
        onto_face = u() < 0.5
        to_bed = math.pi if inward > 0 else 0.0
        self.turn_to(to_bed if onto_face else to_bed + math.pi)
        began = self._samples
        end = dict(self._prone(1.0)[-1][1] if onto_face else self._supine())
        end |= posture(left_hip=u(0, 40), right_hip=u(0, 40), left_knee=u(20, 80),
                       right_knee=u(20, 80))  # fmt: skip
        middle = posture(pitch=40 if onto_face else -32, spine_flexion=15, left_hip=40,
                         right_hip=40, left_knee=30, right_knee=30)  # fmt: skip
        over = {"x": self.room.bed_x - 0.10 * inward, "support": self.mattress_m}
        self._path(
            [(0.0, {}), (0.55, middle), (1.0, {**end, **over})],
            float(u(0.7, 1.3)),
            ease=topple,
        )
        self._name("fall", "bed", since=began)

    def _fall_out_of_bed(self) -> None:
        u, inward = self.rng.uniform, self.room.inward
        edge, began = self.room.bed_edge_x, self._samples
        yaw = self._now[INDEX["yaw"]] + float(u(-0.25, 0.25))
        # In bed the head is at the back wall, so the left side is on the side of +x.
        self._path(
            [
                (0.0, {}),
                (0.25, posture(twist=55 * inward, left_hip=12, right_hip=18, left_knee=30,
                               right_knee=35, left_hip_abduction=2, right_hip_abduction=2,
                               left_shoulder=30, right_shoulder=30)
                 | {"x": edge - 0.22 * inward}),
                (0.50, posture(twist=95 * inward, left_hip=30, right_hip=25)
                 | {"x": edge + 0.02 * inward, "support": self.mattress_m * 0.96}),
                (1.0, posture(twist=u(140, 185) * inward, support=0.0, pitch=-90 + u(-4, 4),
                              spine_flexion=u(0, 12), left_hip=u(0, 40), right_hip=u(0, 40),
                              left_knee=u(10, 60), right_knee=u(10, 60), left_shoulder=u(30, 140),
                              right_shoulder=u(30, 140), left_shoulder_abduction=u(0, 30),
                              right_shoulder_abduction=u(0, 30), left_elbow=u(20, 90),
                              right_elbow=u(20, 90), head_turn=u(-40, 40))
                 | {"x": edge + u(0.38, 0.60) * inward, "yaw": yaw}),
            ],
            float(u(0.9, 1.4)),
            ease=topple,
        )  # fmt: skip
        self._name("fall", "bed", since=began)

    def _fall_from_seat(self) -> None:
        u = self.rng.uniform
        zone = "bed" if self._on == "edge" else "chair"
        began, yaw = self._samples, self._now[INDEX["yaw"]]
        x, y = self._now[INDEX["x"]], self._now[INDEX["y"]]

        def ahead(metres: float) -> dict[str, float]:
            return {"x": x + metres * math.cos(yaw), "y": y + metres * math.sin(yaw)}

        side = float(self.rng.choice([-1.0, 1.0]))
        seat = self._now[INDEX["support"]]
        if u() < 0.6:
            end = self._prone(side)[-1][1]
            lean, gone = 0.0, 0.85
        else:
            end = self._onto_side(side)[-1][1]
            lean, gone = 35.0 * side, 0.60
        self._path(
            [
                (0.0, {}),
                (0.18, posture(pitch=22, roll=lean * 0.4, spine_flexion=28, left_hip=95,
                               right_hip=95, neck_flexion=18)),
                (0.55, posture(pitch=48, roll=lean, spine_flexion=30, left_hip=98, right_hip=90,
                               left_knee=108, right_knee=100, left_shoulder=65, right_shoulder=60)
                 | ahead(gone * 0.45) | {"support": seat * 0.45}),
                (1.0, {**end, **ahead(gone), "support": 0.0}),
            ],
            float(u(0.9, 1.5)),
            ease=topple,
        )  # fmt: skip
        self._name("fall", zone, since=began)

    def _settle(self) -> None:
        """The body's last movement after it has come to the floor."""
        began = self._samples
        loose = {
            name: float(self._now[INDEX[name]] + self.rng.normal(0, 0.10))
            for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip", "twist")
        }
        for name in ("left_knee", "right_knee", "left_elbow", "right_elbow"):
            loose[name] = max(0.03, float(self._now[INDEX[name]] + self.rng.normal(0, 0.12)))
        self._path([(0.0, {}), (1.0, loose)], float(self.rng.uniform(0.4, 0.8)))
        self._name("lying_after_fall", "floor", since=began)

    # Postures and places.

    @property
    def _chair_yaw(self) -> float:
        return math.pi if self.room.bed_left else 0.0

    @property
    def _edge_yaw(self) -> float:
        return 0.0 if self.room.bed_left else math.pi

    @property
    def _bed_y(self) -> float:
        """Where the pelvis lies in bed."""
        return self.room.bed_y[1] - 0.15 - 0.49 * self.body.height_m

    def _standing(self) -> dict[str, float]:
        stoop = self.style.stoop
        return posture(
            pitch=0.25 * stoop, roll=0, twist=0, spine_flexion=0.75 * stoop, spine_side=0,
            spine_twist=0, neck_flexion=-0.3 * stoop, head_turn=0, left_hip=4 + 0.25 * stoop,
            right_hip=2 + 0.25 * stoop, left_hip_abduction=4, right_hip_abduction=4, left_knee=6,
            right_knee=4, left_shoulder=2, right_shoulder=4, left_shoulder_abduction=9,
            right_shoulder_abduction=9, left_shoulder_rotation=10, right_shoulder_rotation=10,
            left_elbow=16, right_elbow=18, support=0.0,
        )  # fmt: skip

    def _seated(self, seat: float) -> dict[str, float]:
        """Seated with the shanks upright, so that thigh and shank fit the seat's height."""
        body = self.body
        drop = (
            seat + body.pelvis_radius_m - 0.01 * body.height_m - body.shank_m - body.sole_m
        ) / body.thigh_m
        thigh = math.degrees(math.acos(min(0.6, max(-0.1, drop))))
        return posture(
            pitch=-8, roll=0, twist=0, spine_flexion=8 + 0.5 * self.style.stoop, spine_side=0,
            spine_twist=0, neck_flexion=4, head_turn=0, left_hip=thigh - 8, right_hip=thigh - 8,
            left_hip_abduction=6, right_hip_abduction=6, left_knee=thigh, right_knee=thigh,
            left_shoulder=22, right_shoulder=20, left_shoulder_abduction=7,
            right_shoulder_abduction=7, left_shoulder_rotation=18, right_shoulder_rotation=18,
            left_elbow=58, right_elbow=62,
        ) | {"support": seat}  # fmt: skip

    def _supine(self) -> dict[str, float]:
        u = self.rng.uniform
        return posture(
            pitch=u(-92, -86), roll=0, twist=u(-8, 8), spine_flexion=u(-2, 4), spine_side=0,
            spine_twist=0, neck_flexion=u(0, 10), head_turn=u(-25, 25), left_hip=u(0, 12),
            right_hip=u(0, 30), left_knee=u(2, 15), right_knee=u(2, 55),
            left_hip_abduction=u(3, 14), right_hip_abduction=u(3, 14),
            left_shoulder=u(-5, 30), right_shoulder=u(-5, 40),
            left_shoulder_abduction=u(10, 65), right_shoulder_abduction=u(10, 65),
            left_shoulder_rotation=10, right_shoulder_rotation=10, left_elbow=u(5, 60),
            right_elbow=u(5, 60),
        )  # fmt: skip

    def _in_bed(self) -> dict[str, float]:
        return self._supine() | posture(
            left_hip_abduction=3, right_hip_abduction=4, left_hip=2, right_hip=6, right_knee=12,
            left_shoulder_abduction=14, right_shoulder_abduction=12, left_shoulder=8,
            right_shoulder=12, left_shoulder_rotation=55,
            right_shoulder_rotation=60, left_elbow=50, right_elbow=65, neck_flexion=12,
            support=self.mattress_m,
        )  # fmt: skip

    def _bed_turn(self) -> dict[str, float]:
        return {"x": self.room.bed_x, "y": self._bed_y, "yaw": -math.pi / 2}

    def _space(self, x: float, y: float, direction: float) -> bool:
        """Whether a body can come to lie from that place in that direction."""
        length = self.body.height_m
        return all(
            self.room.clear(
                x + share * length * math.cos(direction), y + share * length * math.sin(direction)
            )
            for share in (0.0, 0.35, 0.7, 1.0, 1.15)
        )

    # Samples.

    def _set(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._now[INDEX[name]] = value

    def _clock(self, seconds: float) -> Array:
        return np.arange(1, max(2, round(seconds * self.rate_hz)) + 1) / self.rate_hz

    def _share(self, seconds: float) -> Array:
        """From just above 0 to 1 in so many seconds of samples."""
        time = self._clock(seconds)
        share: Array = time / time[-1]
        return share

    def _append(self, rows: Array) -> None:
        if self._rides:
            self._wheels.append(rows[:, [INDEX["x"], INDEX["y"], INDEX["yaw"]]])
        elif self._wheels:
            self._wheels.append(np.repeat(self._wheels[-1][-1:], len(rows), axis=0))
        self._rows.append(rows)
        self._samples += len(rows)
        self._now = rows[-1].copy()

    def _name(
        self,
        label: str,
        zone: str | None,
        seconds: float | None = None,
        *,
        since: int | None = None,
    ) -> None:
        if since is None:
            since = self._samples - max(2, round((seconds or 0.0) * self.rate_hz))
        if self._samples > since:
            self._intervals.append((since, self._samples, label, zone))

    def _nearest_yaw(self, yaw: float) -> float:
        now = self._now[INDEX["yaw"]]
        return float(now + (yaw - now + math.pi) % (2 * math.pi) - math.pi)

    def _path(
        self,
        keys: Keys,
        seconds: float,
        *,
        ease: Callable[[Array], Array] = minimum_jerk,
        anchor: Literal["feet"] | None = None,
        drift: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Move through the keys (share of the way, partial posture); what is not named stays.

        With `anchor="feet"` the feet keep their place on the floor and the rest of the body moves
        about them; `drift` (m) is added over the whole way.
        """
        seconds *= self._tempo
        places = np.array([place for place, _ in keys])
        stops = np.repeat(self._now[None], len(keys), axis=0)
        for number, (_, values) in enumerate(keys):
            for name, value in values.items():
                stops[number:, INDEX[name]] = value
        time = self._clock(seconds)
        way = ease(time / time[-1])
        rows = np.stack([np.interp(way, places, column) for column in stops.T], axis=1)
        if anchor == "feet":
            both = np.concatenate([self._now[None], rows])
            both[:, :2] = 0.0
            ankles = self.body.joints(both)[:, [JOINT["left_ankle"], JOINT["right_ankle"]], :2]
            feet = ankles.mean(axis=1)
            rows[:, :2] = self._now[:2] + feet[0] - feet[1:] + way[:, None] * np.array(drift)
        self._append(rows)

    def _idle(self, seconds: float, lively: float, *, gesture: bool = False) -> None:
        time = self._clock(seconds)
        rows = np.repeat(self._now[None], len(time), axis=0)
        fade = np.minimum(1.0, np.minimum(time, time[-1] - time) / 0.6)
        degrees = {"roll": 0.5, "pitch": 0.5, "spine_flexion": 1.2, "spine_side": 0.8,
                   "neck_flexion": 2.5, "head_turn": 9.0, "left_shoulder": 2.5,
                   "right_shoulder": 2.5, "left_elbow": 4.0, "right_elbow": 4.0}  # fmt: skip
        if self._on in ("bed", "down"):
            degrees |= {"roll": 0.0, "pitch": 0.0, "left_knee": 2.0, "right_knee": 2.0}
        for name, size in degrees.items():
            waves = sum(
                np.sin(2 * math.pi * self.rng.uniform(0.06, 0.35) * time
                       + self.rng.uniform(0, 2 * math.pi))
                for _ in range(2)
            )  # fmt: skip
            rows[:, INDEX[name]] += np.deg2rad(size * lively) * 0.7 * waves * fade
        if gesture and self.rng.random() < 0.6:
            side = "left" if self.rng.random() < 0.5 else "right"
            middle = self.rng.uniform(0.3, 0.7) * time[-1]
            bump = np.exp(-0.5 * ((time - middle) / self.rng.uniform(0.35, 0.8)) ** 2) * fade
            rows[:, INDEX[f"{side}_shoulder"]] += bump * np.deg2rad(self.rng.uniform(20, 70))
            rows[:, INDEX[f"{side}_elbow"]] += bump * np.deg2rad(self.rng.uniform(30, 80))
        self._append(rows)

    def _gait(self, gone: Array, envelope: Array, pace: float) -> Array:
        """Joint angles of walking after `gone` metres; see Winter, fig. 2 ff. for the shapes."""
        size = np.deg2rad(np.clip(8 + 14 * pace, 12, 26))
        stride = 4 * self.body.leg_m * math.sin(size) * 0.92
        rows = np.repeat(self._now[None], len(gone), axis=0)
        base = self._standing()
        blend = minimum_jerk(np.clip(np.arange(1, len(gone) + 1) / (0.4 * self.rate_hz), 0, 1))
        for name, value in base.items():
            column = INDEX[name]
            rows[:, column] += (value - self._now[column]) * blend
        start = 0.0 if self.rng.random() < 0.5 else math.pi
        phase = start + math.pi / 2 + 2 * math.pi * gone / stride
        strength = np.clip(envelope, 0, 1)
        for side, shift in (("left", 0.0), ("right", math.pi)):
            turn = (phase + shift) % (2 * math.pi)
            swing = np.exp(-0.5 * ((turn - 4.6) / 0.62) ** 2)
            give = np.exp(-0.5 * ((turn - 0.8) / 0.4) ** 2)
            flexed = size / np.deg2rad(22)
            rows[:, INDEX[f"{side}_hip"]] += strength * (size * np.cos(turn) + 0.10)
            rows[:, INDEX[f"{side}_knee"]] += strength * flexed * (0.90 * swing + 0.18 * give)
            arm = -np.cos(turn) * size * 0.8 * self.style.swing
            rows[:, INDEX[f"{side}_shoulder"]] += strength * arm
            rows[:, INDEX[f"{side}_elbow"]] += strength * (0.12 + 0.3 * np.maximum(arm, 0))
        rows[:, INDEX["spine_twist"]] += strength * 0.07 * np.cos(phase + math.pi)
        rows[:, INDEX["roll"]] += strength * 0.025 * np.sin(phase) * self.style.sway
        return rows

    def _turn(self, heading: float) -> None:
        target = self._nearest_yaw(heading)
        angle = target - self._now[INDEX["yaw"]]
        if abs(angle) < 0.1:
            return
        time = self._clock(max(0.3, abs(angle) / np.deg2rad(130) + 0.15))
        way = minimum_jerk(time / time[-1])
        strength = np.sin(math.pi * time / time[-1]) * 0.45
        rows = self._gait(0.12 * abs(angle) * way, strength, 0.4)
        rows[:, INDEX["yaw"]] += angle * way
        self._append(rows)


def perform(
    programme: str,
    body: Body,
    room: Room,
    rng: np.random.Generator,
    duration_s: float,
    *,
    rate_hz: float = RATE_HZ,
    towards: tuple[float, float] | None = None,
    style: Style | None = None,
    mattress_m: float = MATTRESS_M,
) -> Performance:
    """Play a programme of `FALLS`, `ORDINARY`, both with `MORE_`, `WHEELED`, or `VISIT`.

    It takes `duration_s`. A fall happens between a quarter and two thirds of it where the duration
    allows (20 s does). `towards` is where staff of a visit go. `style` is drawn where it is None;
    `mattress_m` is the height of what one lies down on. Raises ValueError for an unknown programme.
    """
    if programme in FALLS or programme in MORE_FALLS:
        return _perform_fall(programme, body, room, rng, duration_s, rate_hz, style, mattress_m)
    if programme in WHEELED:
        falls = programme == FALL_FROM_WHEELCHAIR
        return _perform_wheeled(falls, body, room, rng, duration_s, rate_hz, style)
    if programme == VISIT:
        return _perform_visit(body, room, rng, duration_s, rate_hz, towards)
    if programme not in (*ORDINARY, *MORE_ORDINARY):
        known = ", ".join((*FALLS, *MORE_FALLS, *ORDINARY, *MORE_ORDINARY, *WHEELED, VISIT))
        raise ValueError(f"no programme {programme!r}; there are: {known}")
    u = rng.uniform
    start: Literal["stand", "sit", "lie", "corridor"] = {
        "lie_still": "lie", "leave_bed": "lie", "sit_still": "sit", "reach_down": "sit",
    }.get(programme, "stand")  # type: ignore[assignment]  # fmt: skip
    if programme == "stroll" and u() < 0.4:
        start = "corridor"
    one = Performer(
        body, room, rng, start=start, style=style, rate_hz=rate_hz, mattress_m=mattress_m
    )
    if programme in ("hurry", "pass_by"):
        fastest = 2.4 if programme == "hurry" else 1.6
        one.style = replace(one.style, pace=float(u(0.8, fastest)), stoop=float(u(0, 8)))
    if start == "corridor":
        one.come_in()

    def stroll() -> None:
        while one.time_s < duration_s:
            one.walk_to(*room.spot(rng))
            if u() < 0.5:
                one.wait(u(0.5, 2.5))

    def act(name: str) -> None:
        if name == "sit_down":
            one.sit_down("chair" if u() < 0.7 else "edge")
            one.wait(u(3.0, 6.0))
            one.stand_up()
        elif name == "sit_fast":
            one.sit_down("chair" if u() < 0.7 else "edge", fast=True)
            one.wait(u(3.0, 5.0))
            one.stand_up()
        elif name in ("lie_down", "lie_fast"):
            one.lie_down(fast=name == "lie_fast")
            one.wait(u(3.0, 6.0))
            one.turn_in_bed()
            one.wait(duration_s)
        elif name == "pick_up":
            one.pick_up()
            one.walk_to(*room.spot(rng))
            one.wait(u(0.3, 1.5))
        elif name == "lie_on_side":
            one.lie_down(fast=u() < 0.5, on_side=True)
            one.wait(duration_s)
        elif name == "reach_down":
            if one.time_s < 0.3 * duration_s or u() < 0.3:
                one.wait(u(0.5, 3.0))
            one.reach_down()
            one.wait(u(0.5, 3.0))
        elif name in ("crouch", "kneel", "exercise", "crawl", "sit_on_floor"):
            one.walk_to(*room.spot(rng))
            getattr(one, name)()
            one.wait(u(0.2, 1.5))
        elif name == "lie_on_floor":
            one.walk_to(room.width_m / 2, (room.free[2] + room.free[3]) / 2)
            one.lie_down_on_floor()
            one.wait(u(3.0, 6.0))
            one.get_up_from_floor()

    if programme in ("stroll", "hurry"):
        stroll()
    elif programme == "pass_by":
        while one.time_s < duration_s:
            one.walk_to(u(-3.0, room.width_m + 3.0), u(-3.0, room.depth_m + 3.0))
            if u() < 0.3:
                one.wait(u(0.3, 2.5))
    elif programme == "stand":
        while one.time_s < duration_s:
            one.wait(u(3.0, 7.0))
            one.turn_to(float(u(-math.pi, math.pi)))
    elif programme == "lie_still":
        while one.time_s < duration_s:
            one.wait(u(3.0, 8.0))
            one.turn_in_bed()
    elif programme == "sit_still":
        one.wait(u(0.5, 1.0) * duration_s)
        one.stand_up()
        stroll()
    elif programme == "leave_bed":
        one.wait(u(1.0, 5.0))
        one.leave_bed()
        stroll()
    else:
        one.wait(u(0.5, 2.5))
        while one.time_s < duration_s:
            act(programme)
    return one.performance(duration_s)


def _perform_fall(
    kind: str,
    body: Body,
    room: Room,
    rng: np.random.Generator,
    duration_s: float,
    rate_hz: float,
    style: Style | None,
    mattress_m: float,
) -> Performance:
    start: dict[str, Literal["stand", "sit", "lie"]] = {"out_of_bed": "lie", "from_chair": "sit"}

    def performer(posture: Literal["stand", "sit", "lie"]) -> Performer:
        return Performer(
            body, room, rng, start=posture, style=style, rate_hz=rate_hz, mattress_m=mattress_m
        )

    one = performer(start.get(kind, "stand"))
    u = rng.uniform
    moment = u(0.25, 0.62) * duration_s
    if kind == "from_chair":
        if duration_s > 12 and u() < 0.3:
            one = performer("lie")
            one.wait(0.5)
            one.leave_bed()
            one.sit_down("edge" if u() < 0.5 else "chair")
        one.wait(max(0.5, moment - one.time_s))
    elif kind == "out_of_bed":
        if moment > 5:
            one.wait(u(0.2, 0.6) * (moment - 3.5))
            one.turn_in_bed()
            one.turn_in_bed("back")
        one.wait(max(0.5, moment - one.time_s))
    else:
        while one.time_s < moment - 3.0:
            if u() < 0.5:
                one.walk_to(*room.spot(rng))
            elif u() < 0.2:
                one.pick_up()
            else:
                one.wait(u(0.5, 1.5))
    one.fall(kind)  # type: ignore[arg-type]
    end = u()
    if end < 0.35:
        one.wait(u(0.5, 2.0))
        one.stir(u(1.5, 4.0))
        one.wait(duration_s)
    elif end < 0.5 and one.time_s + 9 < duration_s:
        one.wait(u(2.5, 4.0))
        one.get_up_from_floor()
        one.wait(duration_s)
    return one.performance(duration_s)


def _perform_wheeled(
    falls: bool,
    body: Body,
    room: Room,
    rng: np.random.Generator,
    duration_s: float,
    rate_hz: float,
    style: Style | None,
) -> Performance:
    one = Performer(body, room, rng, start="wheelchair", style=style, rate_hz=rate_hz)
    until = rng.uniform(0.25, 0.5) * duration_s if falls else duration_s
    while one.time_s < until:
        if rng.random() < 0.35:
            one.wait(float(rng.uniform(0.5, 2.0)))
        else:
            one.roll_to(*room.spot(rng))
    if falls:
        one.fall("from_chair")
        if rng.random() < 0.4:
            one.stir(float(rng.uniform(1.5, 4.0)))
        one.wait(duration_s)
    return one.performance(duration_s)


def _perform_visit(
    body: Body,
    room: Room,
    rng: np.random.Generator,
    duration_s: float,
    rate_hz: float,
    towards: tuple[float, float] | None,
) -> Performance:
    style = Style.draw(rng, staff=True)
    one = Performer(body, room, rng, start="corridor", style=style, rate_hz=rate_hz)
    one.come_in(float(rng.uniform(0.05, 0.3)) * duration_s)
    x, y = towards or (room.bed_edge_x, room.bed_y[0] + 0.6)
    inside = room.threshold
    away = math.atan2(y - inside[1], x - inside[0])
    one.walk_to(x - 0.75 * math.cos(away), y - 0.75 * math.sin(away))
    one.tend(float(rng.uniform(3.0, 5.0)))
    one.wait(float(rng.uniform(0.5, 2.0)))
    if rng.random() < 0.7:
        one.go_out()
    return one.performance(duration_s)
