"""The extractor `motion`: how much changed since the last sample, and where. No weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fall_assets.features.extractors.base import Needs, SampleOrder, SampleRows, Samples, Yield
from fall_assets.features.extractors.declared import needs_of, yields_of
from fall_assets.features.motion import changed_pixels
from fall_assets.features.settings import FeatureSettings, MotionSettings


class MotionExtractor:
    """Compares each sampled picture with the one before, in the same stretch.

    The first picture of a stretch, and the first after a longer gap, has none before, so that the
    parts begin with the second.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        if not isinstance(settings.extractor, MotionSettings):
            raise TypeError(f"{settings.extractor} are no motion settings")
        self.needs: Needs = needs_of(settings)
        self.yields: tuple[Yield, ...] = yields_of(settings)
        self._settings = settings.extractor
        self._order = SampleOrder()
        self._rows = SampleRows(settings.sample_hz)
        self._max_gap = self._rows.max_gap
        self._before: tuple[int, NDArray[np.uint8]] | None = None

    def begin(self, aspect: float) -> None:
        """See `Extractor`."""
        self._order.begin()
        self._rows.clear()
        self._before = None

    def look(self, picture: NDArray[np.uint8], served: range) -> None:
        """See `Extractor`; `picture` has shape (height, width)."""
        self._order.look(served)
        if self._before is not None:
            last, before = self._before
            if served.start - last <= self._max_gap:
                changed = changed_pixels(before, picture, self._settings.threshold)
                values = motion_values(changed, self._settings.rows, self._settings.columns)
                self._rows.add(served, values)
        self._before = (served.stop, picture)

    def end(self) -> Sequence[Samples]:
        """See `Extractor`."""
        self._order.end()
        self._before = None
        return self._rows.finish()


def motion_values(changed: NDArray[np.bool_], rows: int, columns: int) -> NDArray[np.float64]:
    """The values of one sample, shape (5 + rows * columns,), from which pixels changed.

    Share of changed pixels; x and y of their middle, from the top left; width and height of the
    evenly filled bar that has their standard deviation (the root of 12 times as wide), which one
    pixel of noise in a corner hardly moves; share of changed pixels in each cell. All are shares,
    0 to 1.
    """
    height, width = changed.shape
    y, x = np.nonzero(changed)
    cell_of_row = np.arange(height) * rows // height
    cell_of_column = np.arange(width) * columns // width
    pixels = np.outer(
        np.bincount(cell_of_row, minlength=rows), np.bincount(cell_of_column, minlength=columns)
    ).ravel()
    counts = np.bincount(cell_of_row[y] * columns + cell_of_column[x], minlength=rows * columns)
    cells = np.divide(counts, pixels, out=np.zeros(rows * columns), where=pixels > 0)
    if not len(x):
        return np.concatenate([[0.0, 0.5, 0.5, 0.0, 0.0], cells])
    spread = np.sqrt(12) * np.array([x.std() / width, y.std() / height])
    figures = [
        len(x) / changed.size,
        (x.mean() + 0.5) / width,
        (y.mean() + 0.5) / height,
        *np.minimum(spread, 1.0),
    ]
    return np.concatenate([figures, cells])
