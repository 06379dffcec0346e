"""Changes to pose windows that a real camera and pose network could have made.

What belongs here: numpy, on key points, before features are made of them; so that mirroring,
tilting and losing joints stay true to what a camera sees. What does not: anything learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fall_assets.learning.windows import KEY_POINTS, MIRRORED, Floats

_CENTRE = 0.5
_LOST_SCORE = 0.05


@dataclass(frozen=True)
class AugmentationSettings:
    """How strongly windows are changed; probabilities are per window.

    `mirror`: left and right change places. `time_scale`: motion up to so much faster or slower.
    `rotation_deg`, `stretch`: the camera's roll, and width against height as under another tilt.
    `jitter`: noise of key points, share of the person's size. `joint_dropout`: single joints
    are guessed wrongly. `gap`: a stretch of samples is lost. `late_start`: the person was not
    seen at first. `score_scale`: the pose network is up to so much more or less sure.
    """

    mirror: float = 0.5
    time_scale: float = 0.25
    rotation_deg: float = 15.0
    stretch: float = 0.3
    jitter: float = 0.01
    joint_dropout: float = 0.3
    gap: float = 0.2
    late_start: float = 0.2
    score_scale: float = 0.3


def augment(
    keypoints: Floats, aspect: Floats, settings: AugmentationSettings, rng: np.random.Generator
) -> Floats:
    """Changed copies of windows: (n, samples, 17, 3) with aspect (n,) -> the same shape."""
    points = _time_scaled(keypoints, settings, rng)
    points = _mirrored(points, settings, rng)
    points = _tilted(points, aspect, settings, rng)
    points = _jittered(points, aspect, settings, rng)
    points = _with_gaps(points, settings, rng)
    scale = rng.uniform(1 - settings.score_scale, 1 + settings.score_scale, (len(points), 1, 1))
    points[..., 2] = np.clip(points[..., 2] * scale, 0, 1)
    return points


def mirror(keypoints: Floats) -> Floats:
    """Left and right changed over, in the picture and on the body: (..., 17, 3)."""
    flipped = keypoints[..., list(MIRRORED), :].copy()
    flipped[..., 0] = np.where(flipped[..., 2] > 0, 1 - flipped[..., 0], 0)
    return flipped


def _mirrored(points: Floats, settings: AugmentationSettings, rng: np.random.Generator) -> Floats:
    chosen = rng.random(len(points)) < settings.mirror
    points[chosen] = mirror(points[chosen])
    return points


def _time_scaled(
    points: Floats, settings: AugmentationSettings, rng: np.random.Generator
) -> Floats:
    """Resampled about the window's end, which is where the decision falls."""
    n, samples = points.shape[:2]
    factor = np.exp(rng.uniform(-1, 1, (n, 1)) * np.log1p(settings.time_scale))
    at = (samples - 1) - (samples - 1 - np.arange(samples)) * factor
    inside = at >= 0
    at = np.clip(at, 0, samples - 1)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, samples - 1)
    share = (at - low).astype(np.float32)[..., None, None]
    rows = np.arange(n)[:, None]
    left, right = points[rows, low], points[rows, high]
    both = ((left[..., 2:] > 0).any(axis=2) & (right[..., 2:] > 0).any(axis=2))[..., None]
    nearest = np.where(share < _CENTRE, left, right)
    scaled = np.where(both, left * (1 - share) + right * share, nearest)
    scaled[~inside] = 0
    return scaled.astype(np.float32)


def _tilted(
    points: Floats, aspect: Floats, settings: AugmentationSettings, rng: np.random.Generator
) -> Floats:
    n = len(points)
    angle = np.deg2rad(rng.uniform(-settings.rotation_deg, settings.rotation_deg, n))
    stretch = np.exp(rng.uniform(-1, 1, n) * np.log1p(settings.stretch))
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    wide = aspect[:, None, None]
    x = (points[..., 0] - _CENTRE) * wide * stretch[:, None, None]
    y = points[..., 1] - _CENTRE
    points[..., 0] = (x * cos - y * sin) / wide + _CENTRE
    points[..., 1] = x * sin + y * cos + _CENTRE
    return points


def _jittered(
    points: Floats, aspect: Floats, settings: AugmentationSettings, rng: np.random.Generator
) -> Floats:
    n, samples = points.shape[:2]
    size = _sizes(points)[:, None, None, None]
    noise = rng.standard_normal((n, samples, KEY_POINTS, 2), dtype=np.float32)
    noise *= settings.jitter * size * rng.uniform(0, 1, (n, 1, 1, 1)).astype(np.float32)
    lost = (rng.random((n, 1)) < settings.joint_dropout) & (rng.random((n, KEY_POINTS)) < 0.25)
    wrong = rng.standard_normal((n, 1, KEY_POINTS, 2), dtype=np.float32) * 0.15 * size
    noise += np.where(lost[:, None, :, None], wrong, 0)
    noise[..., 0] /= aspect[:, None, None]
    points[..., :2] += noise
    seen = points[..., 2] > 0
    points[..., 2] = np.where(lost[:, None] & seen, _LOST_SCORE, points[..., 2])
    return points


def _with_gaps(points: Floats, settings: AugmentationSettings, rng: np.random.Generator) -> Floats:
    n, samples = points.shape[:2]
    at = np.arange(samples)
    start = rng.integers(0, samples, (n, 1))
    length = rng.integers(1, max(samples // 5, 2), (n, 1))
    gone = (at >= start) & (at < start + length) & (rng.random((n, 1)) < settings.gap)
    late = rng.integers(0, max(samples // 2, 1), (n, 1))
    gone |= (at < late) & (rng.random((n, 1)) < settings.late_start)
    points[gone] = 0
    return points


def _sizes(points: Floats) -> Floats:
    """Height of the person's box where seen, median over the window: (n,)."""
    seen = points[..., 2] > 0
    y = points[..., 1]
    high = np.where(seen, y, -np.inf).max(axis=-1)
    low = np.where(seen, y, np.inf).min(axis=-1)
    heights = np.where(seen.any(axis=-1), high - low, 0)
    counts = np.maximum(seen.any(axis=-1).sum(axis=-1), 1)
    return np.asarray(heights.sum(axis=-1) / counts, np.float32)
