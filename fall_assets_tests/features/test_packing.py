"""What is packed comes back, to half precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.errors import PermanentFailureError
from fall_assets.features.packing import (
    pack_boxes,
    pack_keypoints,
    pack_sequence,
    unpack_boxes,
    unpack_keypoints,
    unpack_sequence,
)


@given(samples=st.integers(0, 40), seed=st.integers(0, 2**32 - 1))
def test_key_points_come_back(samples: int, seed: int) -> None:
    keypoints = np.random.default_rng(seed).uniform(-0.2, 1.2, (samples, 17, 3))
    packed = pack_keypoints(keypoints)
    assert len(packed) == samples * 17 * 3 * 2
    assert np.allclose(unpack_keypoints(packed), keypoints, atol=5e-4)
    # Packing what was unpacked changes nothing: rows can be read and written again.
    assert pack_keypoints(unpack_keypoints(packed)) == packed


@given(samples=st.integers(0, 40), seed=st.integers(0, 2**32 - 1))
def test_boxes_come_back(samples: int, seed: int) -> None:
    boxes = np.random.default_rng(seed).uniform(0, 1, (samples, 5))
    assert np.allclose(unpack_boxes(pack_boxes(boxes)), boxes, atol=5e-4)


def test_what_is_no_number_is_refused() -> None:
    keypoints = np.zeros((2, 17, 3))
    keypoints[1, 4, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        pack_keypoints(keypoints)


@pytest.mark.parametrize("shape", [(17, 3), (2, 16, 3), (2, 17, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        pack_keypoints(np.zeros(shape))


def test_damaged_bytes_are_refused() -> None:
    with pytest.raises(PermanentFailureError, match="no packed key points"):
        unpack_keypoints(pack_keypoints(np.zeros((2, 17, 3)))[:-2])


@given(samples=st.integers(1, 40), width=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_sequences_come_back(samples: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(-5, 5, (samples, width)).astype(np.float16)
    values[rng.uniform(size=samples) < 0.2] = np.nan
    packed = pack_sequence(values)
    assert len(packed) == samples * width * 2
    found = unpack_sequence(packed, width)
    assert np.array_equal(found, values.astype(np.float32), equal_nan=True)
    assert pack_sequence(found) == packed


@pytest.mark.parametrize(
    "values", [[[1.0, np.nan]], [[np.inf, 1.0]], [[1.0, 70_000.0]], [[-np.inf, np.nan]]]
)
def test_half_missing_samples_are_refused(values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="wholly NaN"):
        pack_sequence(np.array(values))


@pytest.mark.parametrize("shape", [(3,), (0, 4), (4, 0), (2, 2, 2)])
def test_sequences_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        pack_sequence(np.zeros(shape))


def test_a_sequence_of_another_width_is_refused() -> None:
    with pytest.raises(PermanentFailureError, match="no packed sequence"):
        unpack_sequence(pack_sequence(np.zeros((3, 5))), 4)
