"""The same motions as key points, without pictures: windows for training at scale.

What belongs here: projection into random cameras and what a pose network does to key points on the
way (jitter, lost people, low scores). What does not: footage on disk (`hospital.py`), features and
training (`learning`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fall_assets.simulation.body import COCO_POINTS, JOINT, Array, Body
from fall_assets.simulation.camera import Camera, View, place
from fall_assets.simulation.motions import FALLS, ORDINARY, Interval, Performance, perform
from fall_assets.simulation.room import Room

_VIEWS: Final[tuple[View, ...]] = ("level", "level", "corner", "corner", "ceiling")
_SIZES: Final = ((640, 360), (640, 480), (640, 360), (480, 480))
_RATE_HZ: Final = 25.0
_PLAYED_S: Final = 14.0
_PER_PLAY: Final = 12
_AFTER_FALL_S: Final = 2.5
_HELD_SHARE: Final = 0.7


@dataclass(frozen=True)
class PoseNoise:
    """What MoveNet MultiPose does to key points, measured on this package's rendered footage.

    Scores are means of a person's key points, errors are medians as a share of the body's extent
    in the picture; lying people are found worse than upright ones. `lost_*` is the share of time
    that a person is not found at all, in gaps of `gap_s` on average; `late_share` of the windows
    begin unseen, as those at the start of a segment do.
    """

    score_upright: float = 0.50
    score_lying: float = 0.25
    error_upright: float = 0.016
    error_lying: float = 0.050
    lost_upright: float = 0.02
    lost_lying: float = 0.12
    gap_s: float = 0.5
    swapped: float = 0.04
    late_share: float = 0.25


def pose_windows(
    n: int,
    seed: int,
    *,
    rate_hz: float = 10.0,
    window_s: float = 4.0,
    positive_share: float = 0.35,
    noise: PoseNoise | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """`n` windows of one person: key points, pictures' aspects and targets.

    Key points are float32 (n, samples, 17, 3): x and y as shares of the picture, score; all zero
    where the person is not seen. The aspect is width over height, float32 (n,). The target is 1
    where the window holds at least 70 % of a fall and ends no later than 2.5 s after it, 0 where it
    touches no fall and nobody lies on the floor after one (the rule of `labelling.clips`; windows
    in between are not given). About `positive_share` of the windows are positive, in random order.
    The same arguments give the same arrays. Raises ValueError for a share outside 0 to 1, a
    negative `n`, or a window that is longer than 8 s or shorter than 2.5 s.
    """
    if n < 0 or not 0 <= positive_share <= 1 or not 2.5 <= window_s <= 8.0 or rate_hz <= 0:
        raise ValueError(
            f"pose_windows: n={n} must not be negative, positive_share={positive_share} must be 0 "
            f"to 1, window_s={window_s} 2.5 to 8, rate_hz={rate_hz} positive"
        )
    rng = np.random.default_rng(seed)
    noise = noise or PoseNoise()
    samples = round(rate_hz * window_s)
    wanted = {1: round(n * positive_share), 0: n - round(n * positive_share)}
    shape = (n, samples, COCO_POINTS)
    clean, upright = np.zeros((*shape, 2)), np.zeros((n, samples))
    turned = np.ones(shape)
    aspect, target = np.zeros(n, np.float32), np.zeros(n, np.int64)
    seen_from = np.zeros(n, np.int64)
    filled = 0
    plays = _plays(rng)
    while filled < n:
        # Alternate so that a fall's calm start also gives negatives, until one kind is complete.
        falling = wanted[1] > 0 and (wanted[0] == 0 or rng.random() < 0.5)
        room, acted = next(plays[falling])
        for one in _cut(acted, room, rng, rate_hz, samples, noise.late_share):
            if filled < n and wanted[one.target] > 0:
                wanted[one.target] -= 1
                clean[filled], upright[filled] = one.points, one.upright
                turned[filled] = one.turned
                aspect[filled], target[filled] = one.aspect, one.target
                seen_from[filled] = one.seen_from
                filled += 1
    points = _blur(clean, upright, turned, aspect, seen_from, rate_hz, noise, rng)
    order = rng.permutation(n)
    return points[order], aspect[order], target[order]


@dataclass(frozen=True)
class _Window:
    points: Array
    upright: Array
    turned: Array
    aspect: float
    target: int
    seen_from: int


def _plays(rng: np.random.Generator) -> dict[bool, Iterator[tuple[Room, Performance]]]:
    """Endless performances, with a fall (True) and without, each programme in turn."""

    def endless(programmes: tuple[str, ...]) -> Iterator[tuple[Room, Performance]]:
        while True:
            for name in rng.permutation(np.array(programmes)).tolist():
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
                yield room, perform(name, body, room, rng, _PLAYED_S, rate_hz=_RATE_HZ)

    return {True: endless(FALLS), False: endless(ORDINARY)}


def _cut(
    acted: Performance,
    room: Room,
    rng: np.random.Generator,
    rate_hz: float,
    samples: int,
    late_share: float,
) -> Iterator[_Window]:
    """Windows of one performance, each through its own camera; one that misses is left out."""
    length = samples / rate_hz
    ends = _ends(acted, rng, length)
    if not ends:
        return
    back = np.arange(samples - 1, -1, -1) / rate_hz
    joints = acted.joints((np.array([end for end, _ in ends])[:, None] - back).ravel())
    joints = joints.reshape(len(ends), samples, -1, 3)
    trunk = joints[:, :, JOINT["neck"]] - joints[:, :, JOINT["pelvis"]]
    upright = np.clip(trunk[..., 2] / np.linalg.norm(trunk, axis=-1), 0.0, 1.0)
    for number, (end, target) in enumerate(ends):
        width, height = _SIZES[rng.integers(len(_SIZES))]
        camera = place(_VIEWS[rng.integers(len(_VIEWS))], room, width, height, rng)
        points, depth = camera.project(joints[number, :, :COCO_POINTS])
        shares = points / np.array([width, height])
        outside = ((shares < -0.02) | (shares > 1.02)).any(axis=-1) | (depth < 0.3)
        if outside.mean() > 0.25 or outside[-5:].mean() > 0.4:
            continue
        first = max(0, int(np.ceil((length - end) * rate_hz)))
        if rng.random() < late_share:
            fall = acted.fall
            latest = 0.6 * samples
            if target and fall:
                latest = (fall.start_s - (end - length)) * rate_hz
            first = max(first, int(rng.uniform(0, max(1.0, latest))))
        turned = _turned(joints[number], camera)
        turned[outside] = 0.15
        yield _Window(
            np.clip(shares, 0, 1), upright[number], turned, width / height, target, first
        )  # fmt: skip


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


def _turned(joints: Array, camera: Camera) -> Array:
    """How well each key point shows: 1 towards the camera, less on the far side of the body."""
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


def _blur(
    clean: Array,
    upright: Array,
    turned: Array,
    aspect: NDArray[np.float32],
    seen_from: NDArray[np.int64],
    rate_hz: float,
    noise: PoseNoise,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Make clean key points look found: jitter, swapped sides, scores, and people not found."""
    n, samples = upright.shape
    if n == 0:
        return np.zeros((0, samples, COCO_POINTS, 3), np.float32)
    shape = (n, samples, COCO_POINTS)
    lying = (1 - upright)[..., None]
    quality = np.clip(rng.normal(1.0, 0.22, (n, 1, 1)), 0.45, 1.5)
    wide = np.stack([aspect, np.ones(n)], axis=-1)[:, None, None]
    metric = clean * wide
    extent = np.ptp(metric, axis=2).max(axis=-1)[..., None]
    # Small people are found worse; the network sees about 256 pixels along the long side.
    quality = quality * np.clip(0.55 + extent, 0.6, 1.1)

    error = noise.error_upright + (noise.error_lying - noise.error_upright) * lying
    spread = error * extent / quality / np.sqrt(turned)
    jitter = 0.75 * _wander(rng, (*shape, 2), 0.85) + 0.65 * rng.standard_normal((*shape, 2))
    metric = metric + spread[..., None] * jitter
    points = np.clip(metric / wide, 0, 1)
    swap = _bursts(rng, np.full((n, samples), noise.swapped) * (0.5 + lying[..., 0]), 0.3 * rate_hz)
    for left in range(5, COCO_POINTS, 2):
        pair = points[:, :, [left, left + 1]]
        points[:, :, [left, left + 1]] = np.where(swap[..., None, None], pair[:, :, ::-1], pair)

    score = noise.score_upright + (noise.score_lying - noise.score_upright) * lying
    score = score * quality * turned + 0.07 * _wander(rng, shape, 0.6)
    score += 0.05 * rng.standard_normal(shape)
    limbs = np.ones(COCO_POINTS)
    limbs[[9, 10, 15, 16]] = 0.85
    score = np.clip(score * limbs, 0.02, 0.95)

    share = noise.lost_upright + (noise.lost_lying - noise.lost_upright) * lying[..., 0]
    lost = _bursts(rng, np.clip(share / quality[..., 0], 0, 0.6), noise.gap_s * rate_hz)
    lost |= np.arange(samples) < seen_from[:, None]
    out: NDArray[np.float32] = np.concatenate([points, score[..., None]], axis=-1, dtype=np.float32)
    out[lost] = 0.0
    return out


def _wander(rng: np.random.Generator, shape: tuple[int, ...], keep: float) -> Array:
    """Noise of variance 1 that is correlated from sample to sample (axis 1) by `keep`."""
    out = rng.standard_normal(shape)
    for step in range(1, shape[1]):
        out[:, step] = keep * out[:, step - 1] + np.sqrt(1 - keep**2) * out[:, step]
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
