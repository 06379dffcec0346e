"""How much of a picture changed since the last sample. numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def changed_share(before: NDArray[np.uint8], now: NDArray[np.uint8], threshold: float) -> float:
    """Share of pixels, 0 to 1, whose luma changed by more than `threshold` (share of full luma).

    A change that the whole picture shares (exposure, a lamp) is taken off first. Both planes are
    small and scaled by area, which averages most noise away. Planes of different sizes (the camera
    changed its resolution) count as wholly changed.
    """
    return float(changed_pixels(before, now, threshold).mean())


def changed_pixels(
    before: NDArray[np.uint8], now: NDArray[np.uint8], threshold: float
) -> NDArray[np.bool_]:
    """Which pixels of `now` changed, in the sense of `changed_share`; shape of `now`."""
    if before.shape != now.shape:
        return np.ones(now.shape, bool)
    difference = now.astype(np.int16) - before.astype(np.int16)
    difference -= np.int16(np.median(difference))
    changed: NDArray[np.bool_] = np.abs(difference) > threshold * 255
    return changed
