"""The same motions as key points, without pictures: windows for training at scale.

What belongs here: projection into random cameras and what a pose network does to key points on the
way (jitter, lost people, low scores). What does not: footage on disk (`hospital.py`), features and
training (`learning`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fall_assets.simulation.body import COCO_POINTS, JOINT, Array, Body
from fall_assets.simulation.camera import Camera, View, place, place_anywhere
from fall_assets.simulation.motions import (
    FALLS,
    MORE_FALLS,
    MORE_ORDINARY,
    ORDINARY,
    Interval,
    Performance,
    Style,
    perform,
)
from fall_assets.simulation.room import Room

_VIEWS: Final[tuple[View, ...]] = ("level", "level", "corner", "corner", "ceiling")
_SIZES: Final = ((640, 360), (640, 480), (640, 360), (480, 480))
_RATE_HZ: Final = 25.0
_PLAYED_S: Final = 14.0
_PER_PLAY: Final = 12
_AFTER_FALL_S: Final = 2.5
_HELD_SHARE: Final = 0.9
_LEGS: Final = (11, 13, 15)
"""From the hips, from the knees, or from the ankles on, as COCO counts key points."""
_LEAST_SEEN: Final = 6
_CUT_SHARE: Final = 0.3
_JUST_BEFORE: Final = 0.5
_PASSERS: Final = 3
"""How often people pass through the picture, for once that each other programme is played."""
_BRISK_TEMPO: Final = (0.45, 1.0)
"""The healthy lie down on a bed at up to 0.44 of their size in 0.6 s (URFD's activities), which
is over twice as fast as the patients of `Style.draw` do in a hurry."""
_FREE_SIZES: Final = ((640, 360), (640, 480), (640, 360), (480, 480), (360, 640))


@dataclass(frozen=True)
class Scenery:
    """What is played and from where it is seen.

    Attributes:
        anywhere: share of windows from cameras that somebody put anywhere, instead of where a
            hospital hangs them.
        varied: also the programmes of `MORE_FALLS` and `MORE_ORDINARY`.
        brisk: share of people who move as the healthy do, up to twice as fast.
        cut_off: people may be half outside of the picture, come in and leave; otherwise such
            windows are left out.
        hidden: share of windows in which furniture hides the legs.
        onto_bed: falls from the feet onto the bed are falls to be learned; without, they are not
            played.
        beds_m: how high what one lies down on is, from and to.
    """

    anywhere: float = 0.6
    varied: bool = True
    brisk: float = 0.75
    cut_off: bool = True
    hidden: float = 0.12
    onto_bed: bool = True
    beds_m: tuple[float, float] = (0.25, 0.6)


@dataclass(frozen=True)
class PoseNoise:
    """What MoveNet MultiPose does to key points, measured on real footage (URFD, ASSIST-IoT).

    Errors are shares of the body's size. Somebody who does not move is found at the same place
    again and again, in a good light within 0.003 of their size; a camera in the ceiling, or far
    away, makes ten times of it, and so does motion. What is wrong stays wrong until they move.

    Attributes:
        jitter: error that differs from sample to sample: median over cameras, of who stands still.
        jitter_spread: how much cameras differ, as the standard deviation of its logarithm.
        jitter_lying: so many times as much where somebody lies.
        jitter_moving: a speed, in sizes per 0.1 s, that doubles it.
        bias_upright: error that stays for as long as nobody moves, of who stands.
        bias_lying: the same of who lies.
        lost: share of time that a person at the median jitter is not found; rises with it.
        lost_lying: so many times as much where somebody lies.
        gap_s: how long they are lost, on average.
        swapped: share of time that left and right change places, at the median jitter.
        late_share: share of windows that begin unseen, as those at a segment's start do.
        lying_from: how much worse the lying are found depends on room, light and clothes: each
            window draws a share of it, from this to 1.
    """

    jitter: float = 0.0045
    jitter_spread: float = 0.9
    jitter_lying: float = 2.5
    jitter_moving: float = 0.035
    bias_upright: float = 0.014
    bias_lying: float = 0.040
    lost: float = 0.01
    lost_lying: float = 4.0
    gap_s: float = 0.5
    swapped: float = 0.03
    late_share: float = 0.35
    lying_from: float = 0.15


def pose_windows(
    n: int,
    seed: int,
    *,
    rate_hz: float = 10.0,
    window_s: float = 4.0,
    positive_share: float = 0.35,
    noise: PoseNoise | None = None,
    scenery: Scenery | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """`n` windows of one person: key points, pictures' aspects and targets.

    Key points are float32 (n, samples, 17, 3): x and y as shares of the picture, score; all zero
    where the person is not seen. The aspect is width over height, float32 (n,). The target is 1
    where the window holds at least 90 % of a fall and ends no later than 2.5 s after it, 0 where it
    touches no fall and nobody lies on the floor after one; windows in between are not given. That
    is the rule of `labelling.clips`, which takes 70 %, since people do not label as exactly. About
    `positive_share` of the windows are positive, in random order.
    The same arguments give the same arrays. Raises ValueError for a share outside 0 to 1, a
    negative `n`, or a window that is longer than 8 s or shorter than 2.5 s.
    """
    if n < 0 or not 0 <= positive_share <= 1 or not 2.5 <= window_s <= 8.0 or rate_hz <= 0:
        raise ValueError(
            f"pose_windows: n={n} must not be negative, positive_share={positive_share} must be 0 "
            f"to 1, window_s={window_s} 2.5 to 8, rate_hz={rate_hz} positive"
        )
    rng = np.random.default_rng(seed)
    noise, scenery = noise or PoseNoise(), scenery or Scenery()
    samples = round(rate_hz * window_s)
    wanted = {1: round(n * positive_share), 0: n - round(n * positive_share)}
    shape = (n, samples, COCO_POINTS)
    clean, upright = np.zeros((*shape, 2)), np.zeros((n, samples))
    turned = np.ones(shape)
    aspect, target = np.zeros(n, np.float32), np.zeros(n, np.int64)
    gone = np.zeros((n, samples), np.bool_)
    filled = 0
    plays = _plays(rng, scenery)
    while filled < n:
        # Alternate so that a fall's calm start also gives negatives, until one kind is complete.
        falling = wanted[1] > 0 and (wanted[0] == 0 or rng.random() < 0.5)
        room, acted = next(plays[falling])
        for one in _cut(acted, room, rng, rate_hz, samples, noise.late_share, scenery):
            if filled < n and wanted[one.target] > 0:
                wanted[one.target] -= 1
                clean[filled], upright[filled] = one.points, one.upright
                turned[filled] = one.turned
                aspect[filled], target[filled] = one.aspect, one.target
                gone[filled] = one.gone
                filled += 1
    points = as_found(clean, upright, turned, aspect, gone, rate_hz, noise, rng)
    order = rng.permutation(n)
    return points[order], aspect[order], target[order]


@dataclass(frozen=True)
class PoseFilm:
    """One person through one camera for a while: what a pose network would yield of a film.

    `keypoints` float32 (samples, 17, 3) as in `pose_windows`, `aspect` the picture's width over its
    height, `programme` what was played, `labels` what happens in it; seen by `camera` in `room`,
    in which the top of the bed is `mattress_m` high.
    """

    programme: str
    keypoints: NDArray[np.float32]
    aspect: float
    labels: tuple[Interval, ...]
    room: Room
    camera: Camera
    mattress_m: float


def pose_films(
    programmes: Sequence[str],
    seed: int,
    *,
    duration_s: float = 60.0,
    rate_hz: float = 10.0,
    noise: PoseNoise | None = None,
    scenery: Scenery | None = None,
) -> list[PoseFilm]:
    """A film of each programme in turn; a name may stand there often.

    Its camera does not move; who leaves the picture is not seen until they are back.
    """
    rng = np.random.default_rng(seed)
    noise, scenery = noise or PoseNoise(), scenery or Scenery()
    samples = round(duration_s * rate_hz)
    times = np.arange(samples) / rate_hz
    films = []
    for programme in programmes:
        room, bed, acted = _play(programme, rng, scenery, duration_s)
        joints = acted.joints(times)
        camera = _camera(joints, room, rng, scenery)
        points, depth = camera.project(joints[:, :COCO_POINTS])
        shares = points / np.array([camera.width, camera.height])
        outside = ((shares < -0.02) | (shares > 1.02)).any(axis=-1) | (depth < 0.3)
        turned = visibility(joints, camera)
        turned[outside] = 0.15
        gone = outside.mean(axis=-1) > rng.uniform(0.45, 0.9)
        aspect = np.array([camera.width / camera.height], np.float32)
        placed = in_picture(shares, outside)
        found = as_found(
            placed[None], uprightness(joints)[None], turned[None], aspect, gone[None],
            rate_hz, noise, rng,
        )[0]  # fmt: skip
        films.append(
            PoseFilm(programme, found, float(aspect[0]), acted.intervals, room, camera, bed)
        )
    return films


@dataclass(frozen=True)
class _Window:
    points: Array
    upright: Array
    turned: Array
    aspect: float
    target: int
    gone: NDArray[np.bool_]


def _plays(
    rng: np.random.Generator, scenery: Scenery
) -> dict[bool, Iterator[tuple[Room, Performance]]]:
    """Endless performances, with a fall (True) and without, each programme in turn."""

    def endless(programmes: tuple[str, ...]) -> Iterator[tuple[Room, Performance]]:
        while True:
            for name in rng.permutation(np.array(programmes)).tolist():
                room, _, acted = _play(name, rng, scenery, _PLAYED_S)
                yield room, acted

    if not scenery.varied:
        return {True: endless(FALLS), False: endless(ORDINARY)}
    return {
        True: endless((*FALLS, *(x for x in MORE_FALLS if scenery.onto_bed or x != "onto_bed"))),
        False: endless((*ORDINARY, *MORE_ORDINARY, *["pass_by"] * (_PASSERS - 1))),
    }


def _play(
    name: str, rng: np.random.Generator, scenery: Scenery, duration_s: float
) -> tuple[Room, float, Performance]:
    """One programme by somebody in some room, and how high its bed is."""
    room = Room(
        width_m=float(rng.uniform(4.8, 6.5)),
        depth_m=float(rng.uniform(5.2, 6.5)),
        height_m=float(rng.uniform(2.6, 3.3)),
        bed_left=bool(rng.random() < 0.5),
    )
    child = bool(rng.random() < 0.06)
    adult = float(np.clip(rng.normal(1.69, 0.1), 1.45, 1.95))
    tall = float(rng.uniform(1.1, 1.4)) if child else adult
    body = Body(tall, child=child, girth=float(rng.uniform(0.9, 1.25)))
    style = None
    if rng.random() < scenery.brisk:
        tempo = float(rng.uniform(*_BRISK_TEMPO))
        style = replace(Style.draw(rng, staff=True), tempo=tempo)
    bed = float(rng.uniform(*scenery.beds_m))
    acted = perform(
        name, body, room, rng, duration_s, rate_hz=_RATE_HZ, style=style, mattress_m=bed
    )
    return room, bed, acted


def uprightness(joints: Array) -> Array:
    """How upright a trunk stands, 0 to 1: (..., joints, 3) -> (...)."""
    trunk = joints[..., JOINT["neck"], :] - joints[..., JOINT["pelvis"], :]
    upright: Array = np.clip(trunk[..., 2] / np.linalg.norm(trunk, axis=-1), 0.0, 1.0)
    return upright


def _cut(
    acted: Performance,
    room: Room,
    rng: np.random.Generator,
    rate_hz: float,
    samples: int,
    late_share: float,
    scenery: Scenery,
) -> Iterator[_Window]:
    """Windows of one performance, each through its own camera; one that misses is left out."""
    length = samples / rate_hz
    ends = _ends(acted, rng, length)
    if not ends:
        return
    back = np.arange(samples - 1, -1, -1) / rate_hz
    joints = acted.joints((np.array([end for end, _ in ends])[:, None] - back).ravel())
    joints = joints.reshape(len(ends), samples, -1, 3)
    upright = uprightness(joints)
    for number, (end, target) in enumerate(ends):
        camera = _camera(joints[number], room, rng, scenery)
        size = np.array([camera.width, camera.height])
        points, depth = camera.project(joints[number, :, :COCO_POINTS])
        shares = points / size
        outside = ((shares < -0.02) | (shares > 1.02)).any(axis=-1) | (depth < 0.3)
        first = max(0, int(np.ceil((length - end) * rate_hz)))
        if rng.random() < late_share:
            fall = acted.fall
            latest = 0.6 * samples
            if target and fall:
                latest = (fall.start_s - (end - length)) * rate_hz
                # Half of them begin just before the fall: a segment may start at any moment.
                if rng.random() < _JUST_BEFORE:
                    latest -= rng.uniform(0.0, 0.8) * rate_hz
                    first = max(first, int(latest))
            first = max(first, int(rng.uniform(0, max(1.0, latest))))
        gone = np.arange(samples) < first
        if not scenery.cut_off:
            if outside.mean() > 0.25 or outside[-5:].mean() > 0.4:
                continue
        else:
            # Too little of a body is nobody to a pose network.
            gone |= outside.mean(axis=-1) > rng.uniform(0.45, 0.9)
            if _misses(gone, acted.fall, end, rate_hz, target):
                continue
        turned = visibility(joints[number], camera)
        turned[outside] = 0.15
        if rng.random() < scenery.hidden:
            turned[:, _LEGS[int(rng.integers(len(_LEGS))) :]] *= 0.2
        yield _Window(
            in_picture(shares, outside), upright[number], turned, camera.width / camera.height,
            target, gone,
        )  # fmt: skip


def _camera(joints: Array, room: Room, rng: np.random.Generator, scenery: Scenery) -> Camera:
    """Where a hospital hangs one, or anywhere about where the person is at some moment."""
    if rng.random() >= scenery.anywhere:
        width, height = _SIZES[rng.integers(len(_SIZES))]
        return place(_VIEWS[rng.integers(len(_VIEWS))], room, width, height, rng)
    width, height = _FREE_SIZES[rng.integers(len(_FREE_SIZES))]
    x, y, _ = joints[rng.integers(len(joints)), JOINT["pelvis"]]
    return place_anywhere((float(x), float(y)), width, height, rng)


def in_picture(shares: Array, outside: NDArray[np.bool_]) -> Array:
    """Where a pose network puts key points (samples, 17, 2) of which some lie outside.

    A few at the edge of the picture. Where much is cut off, it takes what it sees for all of a
    small body, so that who walks out of the picture seems to shrink, and to sink where the legs are
    seen last (seen of MoveNet where people leave the picture sideways).
    """
    points = np.clip(shares, 0, 1)
    cut = (outside.mean(axis=-1) > _CUT_SHARE) & ~outside.all(axis=-1)
    low = np.where(outside[..., None], np.inf, points).min(axis=1)
    high = np.where(outside[..., None], -np.inf, points).max(axis=1)
    margin = 0.15 * (high - low)
    squeezed = np.clip(points, (low - margin)[:, None], (high + margin)[:, None])
    kept: Array = np.where(cut[:, None, None], np.clip(squeezed, 0, 1), points)
    return kept


def _misses(
    gone: NDArray[np.bool_], fall: Interval | None, end: float, rate_hz: float, target: int
) -> bool:
    """Whether a window shows too little to be learned from: of the person, or of the fall."""
    if (~gone).sum() < _LEAST_SEEN:
        return True
    if not target or fall is None:
        return False
    times = end - np.arange(len(gone) - 1, -1, -1) / rate_hz
    during = (times >= fall.start_s) & (times <= fall.end_s + 0.3)
    return bool(gone[during].mean() > 0.5) if during.any() else True


def _ends(acted: Performance, rng: np.random.Generator, length: float) -> list[tuple[float, int]]:
    """Moments at which windows end, with their targets."""
    fall, last = acted.fall, acted.duration_s
    if fall is None:
        return [(float(end), 0) for end in rng.uniform(1.5, last, _PER_PLAY)]
    held = fall.start_s + _HELD_SHARE * (fall.end_s - fall.start_s)
    # The window must reach back far enough to hold that share of the fall.
    latest = min(fall.end_s + _AFTER_FALL_S, last, fall.end_s + length - (fall.end_s - held))
    ends = [(float(end), 1) for end in rng.uniform(held, latest, _PER_PLAY // 2)]
    if fall.start_s > 2.0:
        ends += [(float(end), 0) for end in rng.uniform(1.5, fall.start_s, _PER_PLAY // 4)]
    later = [one for one in acted.intervals if _calm(one, fall, length)]
    for one in later[:2]:
        low = max(one.start_s, fall.end_s + length)
        ends.append((float(rng.uniform(low, one.end_s)), 0))
    return ends


def _calm(one: Interval, fall: Interval, length: float) -> bool:
    ordinary = one.label not in ("fall", "lying_after_fall")
    return ordinary and one.end_s > fall.end_s + length and one.start_s > fall.start_s


def visibility(joints: Array, camera: Camera) -> Array:
    """How well each key point shows, shape (samples, 17): 1 towards the camera, less behind.

    `joints` (samples, joints, 3), metres.
    """
    to_camera = np.asarray(camera.position) - joints[:, JOINT["head"]]
    to_camera /= np.linalg.norm(to_camera, axis=-1, keepdims=True)
    forward = joints[:, JOINT["nose"]] - joints[:, JOINT["head"]]
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    left = joints[:, JOINT["left_shoulder"]] - joints[:, JOINT["right_shoulder"]]
    left /= np.linalg.norm(left, axis=-1, keepdims=True)
    facing = (forward * to_camera).sum(axis=-1)
    sideways = (left * to_camera).sum(axis=-1)
    out = np.ones((len(joints), COCO_POINTS))
    out[:, :3] = np.clip(0.65 + 0.5 * facing, 0.25, 1.0)[:, None]
    for first, sign in ((3, 1.0), (4, -1.0)):
        out[:, first] = np.clip(0.75 + 0.45 * sign * sideways, 0.3, 1.0)
    for first, sign in ((5, 1.0), (6, -1.0)):
        out[:, first::2] *= np.clip(0.95 + 0.35 * sign * sideways, 0.55, 1.0)[:, None]
    return out


def as_found(
    clean: Array,
    upright: Array,
    turned: Array,
    aspect: NDArray[np.float32],
    gone: NDArray[np.bool_],
    rate_hz: float,
    noise: PoseNoise,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Make clean key points look found: jitter, swapped sides, scores, and people not found.

    Of n people: `clean` (n, samples, 17, 2), shares of the picture; `upright` and `gone`, whether
    they are out of it, (n, samples); `turned` (n, samples, 17), how well each shows; `aspect` (n,).
    Returns (n, samples, 17, 3): x, y, score; zero where nobody is found.
    """
    n, samples = upright.shape
    if n == 0:
        return np.zeros((0, samples, COCO_POINTS, 3), np.float32)
    # How much worse the network finds who lies depends on room, light and clothes.
    worse = rng.uniform(noise.lying_from, 1.0, (n, 1)) if noise.lying_from < 1 else 1.0
    lying = (1 - upright) * worse
    wide = np.stack([aspect, np.ones(n)], axis=-1)[:, None, None]
    metric = clean * wide
    extent = np.ptp(metric, axis=2).max(axis=-1)
    speed = _speed(metric, extent, rate_hz)
    # The network sees about 256 pixels along the long side: small people are found worse.
    size = np.maximum(extent.max(axis=1, keepdims=True), 0.02)
    camera = np.exp(noise.jitter_spread * rng.standard_normal((n, 1))) * (0.6 + 0.12 / size)
    calm = noise.jitter * camera * (1 + (noise.jitter_lying - 1) * lying)
    white = calm * (1 + speed / noise.jitter_moving)
    bias = noise.bias_upright + (noise.bias_lying - noise.bias_upright) * lying
    bias = bias * np.sqrt(camera)
    scale = (0.5 * extent + 0.5 * size)[..., None] / np.sqrt(turned)

    shape = (n, samples, COCO_POINTS, 2)
    # Heavy tails: now and then one joint is taken for another.
    heavy = rng.standard_t(3, shape) / np.sqrt(3)
    stays = np.exp(-speed / 0.1 - 0.003)
    error = white[..., None, None] * heavy + bias[..., None, None] * _wander(rng, shape, stays)
    points = np.clip((metric + scale[..., None] * error) / wide, 0, 1)
    doubt = calm / noise.jitter if noise.jitter else np.zeros_like(calm)
    often = np.clip(noise.swapped * doubt * (0.5 + lying), 0, 0.3)
    swap = _bursts(rng, often, 0.3 * rate_hz)
    for left in range(5, COCO_POINTS, 2):
        pair = points[:, :, [left, left + 1]]
        points[:, :, [left, left + 1]] = np.where(swap[..., None, None], pair[:, :, ::-1], pair)

    sure = np.clip(0.65 - 0.18 * np.log(np.maximum(white, 1e-4) / 0.005), 0.15, 0.8)[..., None]
    score = sure * turned + 0.07 * _wander(rng, shape[:-1], np.full((n, samples), 0.6))
    score += 0.05 * rng.standard_normal(shape[:-1])
    limbs = np.ones(COCO_POINTS)
    limbs[[9, 10, 15, 16]] = 0.85
    score = np.clip(score * limbs, 0.02, 0.95)

    share = noise.lost * doubt * (1 + (noise.lost_lying - 1) * lying)
    lost = _bursts(rng, np.clip(share, 0, 0.5), noise.gap_s * rate_hz)
    lost |= gone
    out: NDArray[np.float32] = np.concatenate([points, score[..., None]], axis=-1, dtype=np.float32)
    out[lost] = 0.0
    return out


def _speed(metric: Array, extent: Array, rate_hz: float) -> Array:
    """How fast a body moves in the picture, in sizes per 0.1 s: (n, samples)."""
    step = np.linalg.norm(np.diff(metric, axis=1, prepend=metric[:, :1]), axis=-1).mean(axis=-1)
    step = step / np.maximum(extent, 0.02) * rate_hz / 10
    around = np.pad(step, ((0, 0), (1, 1)), mode="edge")
    mean: Array = (around[:, :-2] + around[:, 1:-1] + around[:, 2:]) / 3
    return mean


def _wander(rng: np.random.Generator, shape: tuple[int, ...], keep: Array) -> Array:
    """Noise of variance 1 of which `keep` (n, samples) stays from sample to sample (axis 1)."""
    out = rng.standard_normal(shape)
    keep = keep.reshape(*keep.shape, *[1] * (len(shape) - 2))
    for step in range(1, shape[1]):
        stays = keep[:, step]
        out[:, step] = stays * out[:, step - 1] + np.sqrt(1 - stays**2) * out[:, step]
    return out


def _bursts(rng: np.random.Generator, share: Array, length: float) -> NDArray[np.bool_]:
    """A two-state chain per row that is on for `share` of the time, `length` samples at once."""
    n, samples = share.shape
    length = max(length, 1.0)
    draws = rng.random((n, samples))
    out = np.zeros((n, samples), np.bool_)
    out[:, 0] = draws[:, 0] < share[:, 0]
    for step in range(1, samples):
        start = np.clip(share[:, step] / (1 - share[:, step]) / length, 0, 1)
        out[:, step] = np.where(
            out[:, step - 1], draws[:, step] < 1 - 1 / length, draws[:, step] < start
        )
    return out
