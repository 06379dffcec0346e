"""The people of one picture. What belongs here: the arrays, and how alike two people are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
