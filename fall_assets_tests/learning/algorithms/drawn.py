"""What other algorithms see of the drawn people: motion, embeddings and films made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from fall_assets.learning.algorithms.base import AlgorithmSettings
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.evaluate import CrossValidation, LearningSettings
from fall_assets.learning.inputs import SegmentInputs, Stretch
from fall_assets.learning.windows import Floats
from fall_assets_tests.features.clips import write_clip
from fall_assets_tests.learning.people import RATE_HZ, learning_set

EMBEDDED = 24
_FILM = (48, 64)


def with_motion(drawn: LearningSet) -> LearningSet:
    """A motion set's values: how fast the person moves, where, how wide and how high, 2 x 2."""
    return _with(drawn, _motion)


def with_embeddings(drawn: LearningSet) -> LearningSet:
    """A linear mixture of the person's shape with noise, as a backbone might give."""
    mixture = np.random.default_rng(0).normal(0, 1, (34, EMBEDDED)).astype(np.float32)

    def embedded(keypoints: Floats, number: int) -> Floats:
        shape = keypoints[..., :2] - keypoints[..., :2].mean(axis=1, keepdims=True)
        noise = np.random.default_rng((1, number)).normal(0, 0.02, (len(keypoints), EMBEDDED))
        made: Floats = (shape.reshape(len(shape), -1) @ mixture + noise).astype(np.float32)
        return made

    return _with(drawn, embedded)


def with_films(drawn: LearningSet, folder: Path) -> LearningSet:
    """Films in which a light box stands for the person."""
    films = {}
    for number, (video_id, tracks) in enumerate(drawn.tracks.items()):
        height, width = _FILM
        pictures = []
        for points in tracks.tracks[0].keypoints[..., :2]:
            low = np.clip(points.min(axis=0), 0, 1) * (width, height)
            high = np.clip(points.max(axis=0), 0, 1) * (width, height)
            picture = np.full((height, width, 3), 60, np.uint8)
            picture[int(low[1]) : int(high[1]) + 1, int(low[0]) : int(high[0]) + 1] = 220
            pictures.append(picture)
        films[video_id] = write_clip(folder / f"{number}.mp4", pictures, fps=RATE_HZ)
    return replace(drawn, films=films)


def small_set(videos: int = 18, folds: int = 3) -> LearningSet:
    return learning_set(videos, folds)


def learned(algorithm: str, settings: AlgorithmSettings) -> LearningSettings:
    return LearningSettings(settings, algorithm=algorithm)


def ranked(validation: CrossValidation) -> float:
    """Share of pairs of a segment with a fall and one without whose highest scores rank right."""
    falls = [max(video.score) for video in validation.videos if video.falls]
    others = [max(video.score) for video in validation.videos if not video.falls]
    assert falls
    assert others
    return float(np.mean([[fall > other for other in others] for fall in falls]))


def every_segment(drawn: LearningSet) -> list[SegmentInputs]:
    return [drawn.inputs(video_id) for video_id in drawn.truths]


def _with(drawn: LearningSet, values: Callable[[Floats, int], Floats]) -> LearningSet:
    stretches = {}
    for number, (video_id, tracks) in enumerate(drawn.tracks.items()):
        made = values(tracks.tracks[0].keypoints, number)
        half = len(made) // 2
        # In two stretches, as a gate that shuts for a moment leaves them.
        stretches[video_id] = (
            Stretch(0.0, RATE_HZ, made[:half]),
            Stretch(half / RATE_HZ, RATE_HZ, made[half:]),
        )
    return replace(drawn, stretches=stretches)


def _motion(keypoints: Floats, number: int) -> Floats:
    points = keypoints[..., :2]
    step = np.zeros(len(points), np.float32)
    step[1:] = np.abs(np.diff(points, axis=0)).mean(axis=(1, 2))
    low, high = points.min(axis=1), points.max(axis=1)
    middle = points.mean(axis=1)
    cells = np.random.default_rng((2, number)).uniform(0, 0.1, (len(points), 4))
    values = np.column_stack([np.minimum(5 * step, 1), middle, high - low, cells])
    return values.astype(np.float32)
