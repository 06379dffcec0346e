"""The extractor `embedding`: what a backbone makes of each picture. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fall_assets.features.extractors.backbones import Backbone
from fall_assets.features.extractors.base import Needs, SampleOrder, SampleRows, Samples, Yield
from fall_assets.features.extractors.declared import needs_of, yields_of
from fall_assets.features.settings import EmbeddingSettings, FeatureSettings

BATCH = {"cpu": 8, "cuda": 32}
"""Pictures that go through the backbone together. On one thread of a CPU more bring nothing."""


class EmbeddingExtractor:
    """Collects sampled pictures into batches; memory holds one batch and the values.

    Batches begin and end with a stretch, so that a segment's values never hang on what was worked
    on before.
    """

    def __init__(self, settings: FeatureSettings, weights: Path | None) -> None:
        """`weights` is what `locate` gave; None for random ones."""
        if not isinstance(settings.extractor, EmbeddingSettings):
            raise TypeError(f"{settings.extractor} are no embedding settings")
        self._backbone = Backbone(settings.extractor, weights)
        device = self._backbone.device.type
        self.needs: Needs = needs_of(settings, device=device)
        self.yields: tuple[Yield, ...] = yields_of(settings, width=self._backbone.width)
        self._batch = BATCH.get(device, BATCH["cpu"])
        self._order = SampleOrder()
        self._rows = SampleRows(settings.sample_hz)
        self._pictures: list[NDArray[np.uint8]] = []
        self._served: list[range] = []

    def begin(self, aspect: float) -> None:
        """See `Extractor`."""
        self._order.begin()
        self._rows.clear()
        self._pictures, self._served = [], []

    def look(self, picture: NDArray[np.uint8], served: range) -> None:
        """See `Extractor`; `picture` has shape (height, width, 3)."""
        self._order.look(served)
        if self._pictures and self._pictures[0].shape != picture.shape:
            # The camera changed its resolution: pictures of two sizes are no batch.
            self._flush()
        self._pictures.append(picture)
        self._served.append(served)
        if len(self._pictures) >= self._batch:
            self._flush()

    def end(self) -> Sequence[Samples]:
        """See `Extractor`."""
        self._order.end()
        self._flush()
        return self._rows.finish()

    def _flush(self) -> None:
        if not self._pictures:
            return
        values = self._backbone.embed(np.stack(self._pictures))
        for served, row in zip(self._served, values, strict=True):
            self._rows.add(served, row)
        self._pictures, self._served = [], []
