"""What makes features of a segment's samples: one interface, one module per extractor.

What belongs here: extractors, what they need and yield, and their weights. What does not: decoding
and pictures (`sampling`, `pictures`), settings (`settings`), rows of the lake (`extract`).

Importing this package is cheap: an extractor's runtime (LiteRT, torch) comes when one is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fall_assets.features.extractors.base import Extractor, Needs, Part, Samples, Yield
from fall_assets.features.extractors.declared import needs_of, yields_of
from fall_assets.features.settings import (
    EmbeddingSettings,
    FeatureSettings,
    MotionSettings,
    PictureSettings,
    PoseSettings,
)

__all__ = ["Extractor", "Needs", "Part", "Samples", "Yield", "build", "describe", "locate"]


def locate(settings: FeatureSettings) -> Path | None:
    """The file of weights that a feature set needs; None where it needs none.

    It is fetched where it is one of torchvision's and this machine can, and checked to be the one
    that the settings name. To be called once, before worker processes begin, which then get the
    path. Raises PermanentFailureError where there is none, saying how to get it.
    """
    if isinstance(settings.extractor, PoseSettings):
        from fall_assets.features.movenet import pose_network_path, require_network

        path = pose_network_path()
        require_network(settings, path)
        return path
    if isinstance(settings.extractor, EmbeddingSettings):
        from fall_assets.features.extractors.weights import locate_weights

        return locate_weights(settings.extractor)
    return None


def build(settings: FeatureSettings, weights: Path | None = None) -> Extractor:
    """The extractor of a feature set, ready to work; it may serve any number of segments in turn.

    `weights` is what `locate` gave, which is called if it is not given. Raises
    PermanentFailureError where the weights are missing, damaged, or not those that the settings
    name.
    """
    if weights is None:
        weights = locate(settings)
    if isinstance(settings.extractor, PoseSettings):
        from fall_assets.features.extractors.pose import PoseExtractor
        from fall_assets.features.movenet import MoveNet

        return PoseExtractor(settings, MoveNet.of(settings, weights))
    if isinstance(settings.extractor, EmbeddingSettings):
        from fall_assets.features.extractors.embedding import EmbeddingExtractor

        return EmbeddingExtractor(settings, weights)
    from fall_assets.features.extractors.motion import MotionExtractor

    return MotionExtractor(settings)


EXAMPLES = (
    FeatureSettings(),
    FeatureSettings(extractor=EmbeddingSettings()),
    FeatureSettings(
        extractor=MotionSettings(), picture=PictureSettings(long_side=160, colour=False)
    ),
)
"""One feature set of each extractor, with settings to begin from."""


def describe(sets: Sequence[FeatureSettings] = EXAMPLES) -> list[dict[str, Any]]:
    """What feature sets need and yield: one row per yielded value; nothing is loaded for it."""
    rows = []
    for settings in sets:
        needs = needs_of(settings)
        for value in yields_of(settings):
            rows.append(
                {
                    "extractor": settings.extractor.kind,
                    "feature_set": settings.version,
                    "table": value.table,
                    "value": value.name,
                    "shape": value.shape,
                    "unit": value.unit,
                    "dtype": value.dtype,
                    "meaning": value.meaning,
                    "picture": needs.form,
                    "long_side": needs.long_side,
                    "sample_hz": needs.sample_hz,
                    "weights": needs.weights,
                    "device": needs.device,
                }
            )
    return rows
