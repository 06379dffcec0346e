"""Key points, boxes and sequences as bytes of the lake: float16, little-endian, row by row.

Half precision resolves 0.0005 of the picture, below the pose network's own error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fall_assets.errors import PermanentFailureError

KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""COCO's 17 key points, in order."""

LEFT_SHOULDER, RIGHT_SHOULDER = KEYPOINTS.index("left_shoulder"), KEYPOINTS.index("right_shoulder")
LEFT_HIP, RIGHT_HIP = KEYPOINTS.index("left_hip"), KEYPOINTS.index("right_hip")

_KEYPOINT_SHAPE = (len(KEYPOINTS), 3)
_BOX_SHAPE = (5,)
_HALF = np.dtype("<f2")


def pack_keypoints(keypoints: NDArray[np.floating[Any]]) -> bytes:
    """Bytes of key points of shape (samples, 17, 3): x, y (shares of the picture), score."""
    return _pack(keypoints, _KEYPOINT_SHAPE, "key points")


def unpack_keypoints(packed: bytes) -> NDArray[np.float32]:
    """Key points of shape (samples, 17, 3) from `pack_keypoints`' bytes."""
    return _unpack(packed, _KEYPOINT_SHAPE, "key points")


def pack_boxes(boxes: NDArray[np.floating[Any]]) -> bytes:
    """Bytes of boxes of shape (samples, 5): x0, y0, x1, y1 (shares of the picture), score."""
    return _pack(boxes, _BOX_SHAPE, "boxes")


def unpack_boxes(packed: bytes) -> NDArray[np.float32]:
    """Boxes of shape (samples, 5) from `pack_boxes`' bytes."""
    return _unpack(packed, _BOX_SHAPE, "boxes")


def pack_sequence(values: NDArray[np.floating[Any]]) -> bytes:
    """Bytes of a sequence of shape (samples, width), at least one value each.

    A row of NaN is a sample without a picture; a row may not hold NaN beside numbers, nor anything
    that half precision cannot hold (beyond 65,504).
    """
    if values.ndim != 2 or not values.size:
        raise ValueError(f"a sequence must have shape (samples, width), not {values.shape}")
    with np.errstate(over="ignore"):
        half = values.astype(_HALF)
    missing = np.isnan(half)
    if (missing.any(axis=1) != missing.all(axis=1)).any() or np.isinf(half).any():
        raise ValueError("a sample of a sequence must be finite in half precision, or wholly NaN")
    return half.tobytes()


def unpack_sequence(packed: bytes, width: int) -> NDArray[np.float32]:
    """A sequence of shape (samples, width) from `pack_sequence`'s bytes; NaN: no picture."""
    return _unpack(packed, (width,), "sequence")


def _pack(values: NDArray[np.floating[Any]], shape: tuple[int, ...], what: str) -> bytes:
    if values.shape[1:] != shape or values.ndim != len(shape) + 1:
        raise ValueError(f"{what} must have shape (samples, {shape}), not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{what} must be finite: an unseen sample is 0 with score 0")
    return values.astype(_HALF).tobytes()


def _unpack(packed: bytes, shape: tuple[int, ...], what: str) -> NDArray[np.float32]:
    size = int(np.prod(shape)) * _HALF.itemsize
    if len(packed) % size:
        raise PermanentFailureError(
            f"{len(packed)} bytes are no packed {what}: a sample takes {size} bytes; "
            "compute the features of that segment again"
        )
    return np.frombuffer(packed, _HALF).reshape(-1, *shape).astype(np.float32)
