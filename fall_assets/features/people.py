"""The people of one picture.

What belongs here: the arrays, how alike two people are, and whether somebody lies or sits. What
does not: who is who over time (`tracking`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fall_assets.features.packing import (
    KEYPOINTS,
    LEFT_HIP,
    LEFT_SHOULDER,
    RIGHT_HIP,
    RIGHT_SHOULDER,
)

_KNEES = (KEYPOINTS.index("left_knee"), KEYPOINTS.index("right_knee"))
_WIDE = 0.8
_SQUARE = 1.0
_LEANING_DEGREES = 45.0
_SURE = 0.1
_SEEN = 0.2
_SHORT_THIGH = 0.55
_FROM_ABOVE = 0.8


@dataclass(frozen=True)
class People:
    """The people of one picture.

    `keypoints` has shape (k, 17, 3): x, y (shares of the picture), score; `boxes` has shape (k, 5):
    x0, y0, x1, y1 (shares of the picture), score. float32.
    """

    keypoints: NDArray[np.float32]
    boxes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    def at(self, rows: NDArray[np.intp] | NDArray[np.bool_] | list[int]) -> People:
        """Some of them, by index or mask."""
        return People(self.keypoints[rows], self.boxes[rows])

    @classmethod
    def nobody(cls) -> People:
        """An empty picture."""
        return cls(np.zeros((0, 17, 3), np.float32), np.zeros((0, 5), np.float32))


def box_overlap(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Intersection over union of boxes (n, >=4) with boxes (m, >=4), shape (n, m), 0 to 1."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=-1)
    area_a = (a[:, 2:4] - a[:, :2]).prod(axis=-1)
    area_b = (b[:, 2:4] - b[:, :2]).prod(axis=-1)
    union = area_a[:, None] + area_b[None, :] - shared
    overlap: NDArray[np.float64] = np.divide(
        shared, union, out=np.zeros_like(shared), where=union > 0
    )
    return overlap


def keypoint_similarity(people: People, aspect: float) -> NDArray[np.float64]:
    """How alike the poses of people are, pair by pair, shape (k, k), 0 to 1.

    Object key-point similarity as COCO defines it, with one fall-off for all key points: a tenth
    of the larger person's size (the root of the box's area). `aspect` is the picture's width over
    its height.
    """
    scale = np.array([aspect, 1.0])
    points = people.keypoints[..., :2].astype(np.float64) * scale
    size = np.sqrt(((people.boxes[:, 2:4] - people.boxes[:, :2]) * scale).prod(axis=-1))
    larger = np.maximum(np.maximum(size[:, None], size[None, :]), 1e-3)
    squared = ((points[:, None] - points[None, :]) ** 2).sum(axis=-1)
    alike = np.exp(-squared / (2 * (0.1 * larger[..., None]) ** 2))
    similarity: NDArray[np.float64] = alike.mean(axis=-1)
    return similarity


def lying(
    keypoints: NDArray[np.floating[Any]], boxes: NDArray[np.floating[Any]], aspect: float
) -> NDArray[np.bool_]:
    """Whether a person lies, sample by sample (or person by person), shape (n,).

    Args:
        keypoints: shape (n, 17, 3), as in `People` and `Track`.
        boxes: shape (n, 5); False where the score is 0, which means unseen.
        aspect: the picture's width over its height: angles and shapes are those of its pixels.

    The box's height over its width is the figure that tells lying best in the pictures of a level
    camera (Kwolek and Kepski, Computer Methods and Programs in Biomedicine 117(3), 2014, use it
    first of all). Below 0.8 a person lies. From there to 1.0 sitting and bending are as wide, so
    that the trunk, from the middle of the shoulders to that of the hips, must also lean 45 degrees
    or more from the vertical, at key points that score 0.1 or more. The trunk alone says little:
    who lies towards the camera has a trunk that stands in the picture. A camera at the ceiling
    sees people from above, where none of this holds.
    """
    points, box = np.asarray(keypoints, np.float64), np.asarray(boxes, np.float64)
    width, height = (box[:, 2] - box[:, 0]) * aspect, box[:, 3] - box[:, 1]
    shoulders = points[:, (LEFT_SHOULDER, RIGHT_SHOULDER)]
    hips = points[:, (LEFT_HIP, RIGHT_HIP)]
    trunk = (hips[..., :2].mean(axis=1) - shoulders[..., :2].mean(axis=1)) * [aspect, 1.0]
    leaning = np.degrees(np.arctan2(np.abs(trunk[:, 0]), trunk[:, 1])) >= _LEANING_DEGREES
    sure = np.minimum(shoulders[..., 2].max(axis=1), hips[..., 2].max(axis=1)) >= _SURE
    wide = height < _WIDE * width
    lies: NDArray[np.bool_] = wide | ((height < _SQUARE * width) & leaning & sure)
    return lies & (box[:, 4] > 0)


def sitting(
    keypoints: NDArray[np.floating[Any]], boxes: NDArray[np.floating[Any]], aspect: float
) -> NDArray[np.float64]:
    """Whether a person sits, shape (n,): 1 yes, 0 no, NaN where it cannot be told.

    Arguments as those of `lying`. Of who stands or walks, the knee of the straighter leg is 0.85
    trunks below the hips (Winter, Biomechanics and Motor Control of Human Movement, 4th ed., fig.
    4.1: thigh 0.245 of the height, trunk from hips to shoulders 0.288), however steeply a camera
    looks down, since trunk and thigh shrink alike. Of who sits, thighs are level: seen from the
    side the knee is as high as the hips, seen from the front by a camera that looks down by 30
    degrees it is half a trunk below. So a person sits who does not lie, whose trunk leans by less
    than 45 degrees and whose knees are both less than 0.55 trunks below the hips. Squatting is
    taken for sitting, kneeling is not.

    It cannot be told where the shoulders, the hips or the knees score below 0.2; where the trunk
    leans further but the person does not lie, and where it is shorter than 0.8 widths of the
    shoulders: bent, or seen by a camera at the ceiling.
    """
    points, box = np.asarray(keypoints, np.float64), np.asarray(boxes, np.float64)
    shoulders = points[:, (LEFT_SHOULDER, RIGHT_SHOULDER)]
    hips, knees = points[:, (LEFT_HIP, RIGHT_HIP)], points[:, _KNEES]
    trunk = (hips[..., :2].mean(axis=1) - shoulders[..., :2].mean(axis=1)) * [aspect, 1.0]
    length = np.linalg.norm(trunk, axis=1)
    upright = np.degrees(np.arctan2(np.abs(trunk[:, 0]), trunk[:, 1])) < _LEANING_DEGREES
    known = np.minimum(shoulders[..., 2].min(axis=1), hips[..., 2].min(axis=1)) >= _SEEN
    known &= knees[..., 2].min(axis=1) >= _SEEN
    across = np.linalg.norm((shoulders[:, 0, :2] - shoulders[:, 1, :2]) * [aspect, 1.0], axis=1)
    known &= upright & (length > 1e-3) & (length >= _FROM_ABOVE * across)
    drop = (knees[..., 1] - hips[..., 1].mean(axis=1)[:, None]).max(axis=1)
    lies = lying(keypoints, boxes, aspect)
    found: NDArray[np.float64] = np.where(known, drop < _SHORT_THIGH * length, np.nan)
    found[lies] = 0.0
    found[box[:, 4] <= 0] = np.nan
    return found
