"""Public data sets that are understood as they are: one small module each.

What belongs here: the list of the data sets. Adding one: docs/datasets.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from fall_assets.datasets import (
    assist_iot,
    caucafall,
    gmdcsa24,
    le2i,
    omnifall,
    people_walking,
    up_fall,
    urfd,
)
from fall_assets.datasets.base import (
    SITE,
    Dataset,
    DatasetCamera,
    OwnLabels,
    Placed,
    Seen,
    place,
)

__all__ = [
    "DATASETS",
    "SITE",
    "Dataset",
    "DatasetCamera",
    "OwnLabels",
    "Placed",
    "Seen",
    "dataset_of_camera",
    "place",
]

DATASETS: Mapping[str, Dataset] = {
    module.DATASET.name: module.DATASET
    for module in (urfd, assist_iot, gmdcsa24, people_walking, up_fall, le2i, caucafall, omnifall)
}
"""The data sets that are known, by the name of their folder."""


def dataset_of_camera(camera_id: str) -> str:
    """The data set whose camera this is, or 'site'."""
    name = camera_id.split("-", 1)[0]
    return name if name in DATASETS else SITE
