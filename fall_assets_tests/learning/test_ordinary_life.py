"""Thresholds are raised until people who do not fall raise few alarms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fall_assets.learning.algorithms.base import Scores
from fall_assets.learning.evaluate import LearningSettings, cross_validate, raised
from fall_assets.learning.events import EventSettings
from fall_assets.learning.inputs import SegmentInputs
from fall_assets.learning.windows import SegmentTracks
from fall_assets.pipeline import learning
from fall_assets.pipeline.learning import ordinary_films
from fall_assets_tests.learning.people import learning_set, small_settings


@dataclass(frozen=True)
class Told:
    """A model that scores a film as its name says, for two scores in a row."""

    parameters: int = 0

    def scores(self, segment: SegmentInputs) -> Scores:
        ends = np.array([1.0, 1.2, 1.4])
        return Scores(ends, np.array([0.0, *[float(segment.video_id)] * 2]), (None,) * 3)

    def save(self, folder: Path) -> None:
        """Nothing to keep."""


def hours(*peaks: float) -> list[SegmentTracks]:
    return [SegmentTracks(str(peak), 3600.0, 10.0, 1.5) for peak in peaks]


@pytest.mark.parametrize(
    ("limit", "least", "most"),
    [(None, 0.4, 0.4), (1.0, 0.4, 0.4), (0.5, 0.5, 0.55), (0.25, 0.7, 0.75), (0.0, 0.85, 0.99)],
)
def test_the_threshold_rises_until_few_enough_are_left(
    limit: float | None, least: float, most: float
) -> None:
    settings = LearningSettings(
        small_settings().training,
        events=EventSettings(certain=1.0),
        max_ordinary_alarms_per_hour=limit,
    )
    threshold = raised(0.4, Told(), hours(0.2, 0.5, 0.7, 0.85), settings)
    assert least <= threshold <= most


def test_a_threshold_is_never_lowered() -> None:
    settings = LearningSettings(small_settings().training, max_ordinary_alarms_per_hour=1000.0)
    assert raised(0.8, Told(), hours(0.2, 0.5), settings) == 0.8


def test_every_fold_s_threshold_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "_FILM_S", 4.0)
    drawn, plain = learning_set(), small_settings()
    strict = LearningSettings(
        plain.training, plain.windows, plain.events, max_ordinary_alarms_per_hour=0.0
    )
    films = ordinary_films(strict)
    assert len(films) == 40
    assert all(film.duration_s == pytest.approx(4.0) for film in films)
    assert ordinary_films(plain) == []
    before = cross_validate(drawn, plain)
    after = cross_validate(drawn, strict, ordinary=films)
    assert all(after.thresholds[fold] >= before.thresholds[fold] for fold in before.thresholds)
    assert sum(after.thresholds.values()) > sum(before.thresholds.values())
