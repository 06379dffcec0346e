"""What a picture is like, whoever is in it: brightness, contrast, sharpness, noise, colour.

numpy only. Luma and RGB come in full range, 0 to 255; figures go out as shares of that range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLOUR_SIDE = 256
"""Long side of the picture that colour is told from: that of the detector's, which is there."""

_BLOCK = 16
_COLOUR_STEP = 2
_BLACK, _WHITE = 16, 239


@dataclass(frozen=True)
class Quality:
    """Figures of one picture.

    Brightness, contrast, sharpness and noise are shares of full luma; `warmth` (-1 to 1) and
    `colour` (0 to 1) are None where no colours were at hand; `dark_share` and `bright_share` are
    shares of the picture.
    """

    brightness: float
    contrast: float
    sharpness: float
    noise: float
    warmth: float | None = None
    colour: float | None = None
    dark_share: float | None = None
    bright_share: float | None = None


def quality(
    small: NDArray[np.uint8], detail: NDArray[np.uint8], rgb: NDArray[np.uint8] | None = None
) -> Quality:
    """Figures from a scaled luma plane (the whole view) and an unscaled one (single pixels).

    Brightness, contrast and the shares of black (below 16) and white (above 239) come from `small`,
    so that they do not depend on the resolution; sharpness and noise from `detail`, because scaling
    would remove what they measure; warmth and colour from the scaled `rgb` (height, width, 3).
    """
    tint, chroma = (None, None) if rgb is None else (warmth(rgb), colour(rgb))
    return Quality(
        brightness=float(small.mean()) / 255,
        contrast=float(small.std()) / 255,
        sharpness=sharpness(detail),
        noise=noise(detail),
        warmth=tint,
        colour=chroma,
        dark_share=np.count_nonzero(small < _BLACK) / small.size,
        bright_share=np.count_nonzero(small > _WHITE) / small.size,
    )


def warmth(rgb: NDArray[np.uint8]) -> float:
    """Mean of red less blue, share of the full range: -1 (blue) to 1 (red), 0 where all is grey."""
    return (float(rgb[..., 0].mean()) - float(rgb[..., 2].mean())) / 255


def colour(rgb: NDArray[np.uint8]) -> float:
    """Mean chroma, 0 to 1: of each pixel the largest channel less the smallest.

    0 is a picture of greys, as a camera gives in infrared light. Every second row and column counts
    for all.
    """
    seen = rgb[::_COLOUR_STEP, ::_COLOUR_STEP]
    red, green, blue = seen[..., 0], seen[..., 1], seen[..., 2]
    largest = np.maximum(np.maximum(red, green), blue)
    return float((largest - np.minimum(np.minimum(red, green), blue)).mean()) / 255


def sharpness(luma: NDArray[np.uint8]) -> float:
    """Mean absolute Laplacian (4 neighbours) of a luma plane, share of full luma."""
    if min(luma.shape) < 3:
        return 0.0
    plane = luma.astype(np.int16)
    laplacian = (
        plane[:-2, 1:-1] + plane[2:, 1:-1] + plane[1:-1, :-2] + plane[1:-1, 2:]
    ) - 4 * plane[1:-1, 1:-1]
    return float(np.abs(laplacian).mean()) / 255


def noise(luma: NDArray[np.uint8]) -> float:
    """Standard deviation of a luma plane's noise, share of full luma.

    Immerkaer's estimator (Computer Vision and Image Understanding 64(2), 1996): the mean absolute
    response to a mask that ignores slopes. It is taken block by block and the median of the blocks
    is returned, so that edges do not count as noise as long as half the picture is smooth. What
    the codec smoothed away is gone: 2 of 255 before encoding (H.264, crf 26) measure as 0.05.
    """
    if min(luma.shape) < _BLOCK + 2:
        return 0.0
    plane = luma.astype(np.int16)
    across = plane[:, :-2] - 2 * plane[:, 1:-1] + plane[:, 2:]
    response = np.abs(across[:-2] - 2 * across[1:-1] + across[2:])
    rows, columns = response.shape[0] // _BLOCK, response.shape[1] // _BLOCK
    blocks = response[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    middle = np.median(blocks.mean(axis=(1, 3), dtype=np.float64))
    return float(middle) * math.sqrt(math.pi / 2) / 6 / 255
