"""One film of people who come, stand and leave; nobody falls."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from fall_assets.datasets.base import Dataset, DatasetCamera, Seen

_CAMERA = DatasetCamera("people_walking", "people_walking", "corner")


def _read_path(path: str) -> Seen | None:
    return Seen(_CAMERA, Path(path).stem)


DATASET = Dataset(
    "people_walking",
    date(2024, 1, 4),
    _read_path,
    {"adl:people_walk_in_stand_leave": "walking"},
)
