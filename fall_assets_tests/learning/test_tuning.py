"""The objective of a search, its spaces, and validation fold by fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.errors import PermanentFailureError
from fall_assets.learning.algorithms import registry
from fall_assets.learning.algorithms.base import FitContext, InputKind, Model, Plan, Scores
from fall_assets.learning.algorithms.registry import settings_of
from fall_assets.learning.attempts import AttemptSettings, GridError
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.evaluate import LearningSettings
from fall_assets.learning.events import EventSettings, Fall
from fall_assets.learning.inputs import SegmentInputs
from fall_assets.learning.metrics import ScoredVideo
from fall_assets.learning.tuning import (
    Range,
    TuningSettings,
    log_odds,
    nested,
    sensitivity_at,
    smooth_sensitivity,
    usual_space,
    validate_by_fold,
)
from fall_assets.learning.windows import scored_ends
from fall_assets_tests.learning.people import learning_set, small_settings

HOUR_S = 3600.0


def video(
    scores: dict[float, float], falls: tuple[float, ...] = (), number: int = 0
) -> ScoredVideo:
    """An hour with scores at some moments, and falls of a second at others."""
    ordered = sorted(scores.items())
    return ScoredVideo(
        str(number),
        "cam",
        "site",
        "room",
        HOUR_S,
        4.0,
        tuple(Fall(f"{number}-{at}", at, at + 1, at + 1) for at in falls),
        (),
        tuple(at for at, _ in ordered),
        tuple(score for _, score in ordered),
    )


def test_sensitivity_at_a_rate_by_hand() -> None:
    events = EventSettings()
    scores = {100.0: 0.9, 500.0: 0.6, 900.0: 0.8, 1300.0: 0.3}
    one = video(scores, falls=(98.0, 498.0))
    # Without a false alarm only the fall over 0.8 is found; with one allowed, both.
    assert sensitivity_at([one], 0.5, events) == 0.5
    assert sensitivity_at([one], 1.0, events) == 1.0
    assert sensitivity_at([video(scores)], 1.0, events) is None


def test_smoothing_keeps_the_order_of_clear_cases() -> None:
    quiet = {float(at): 0.1 for at in range(1000, 3000, 100)}
    lifted = [0.2, 0.5, 0.9, 0.99, 0.999]
    values = [smooth_sensitivity([video({100.0: s, **quiet}, (98.0,))], 1.0) for s in lifted]
    assert all(value is not None and 0 <= value <= 1 for value in values)
    assert values == sorted(values, key=lambda value: value or 0.0)
    assert len(set(values)) == len(values)
    assert (values[0] or 0) < 0.75 < (values[-1] or 0)


def test_without_falls_there_is_nothing_to_order() -> None:
    assert smooth_sensitivity([video({100.0: 0.5})], 1.0) is None
    assert smooth_sensitivity([], 1.0) is None


def test_an_unseen_fall_counts_for_nothing() -> None:
    quiet = {float(at): 0.3 for at in range(1000, 3000, 100)}
    value = smooth_sensitivity([video(quiet, (98.0,))], 1.0)
    assert value is not None
    assert value < 0.001


def test_moments_near_each_other_are_one_false_alarm() -> None:
    falls = {100.0: 0.7}
    apart = {1000.0: 0.9, 2000.0: 0.9, 3000.0: 0.9}
    together = {1000.0: 0.9, 1001.0: 0.9, 1002.0: 0.9}
    quiet = {float(at): 0.1 for at in range(1100, 1900, 100)}
    values = [
        smooth_sensitivity([video({**falls, **peaks, **quiet}, (98.0,))], 2.0)
        for peaks in (apart, together)
    ]
    assert (values[0] or 1) < (values[1] or 0)


shares = st.floats(0.001, 0.999)


@given(st.lists(shares, min_size=1, max_size=6), st.lists(shares, max_size=12), st.data())
def test_better_scores_never_lower_the_objective(
    falls: list[float], ordinary: list[float], data: st.DataObject
) -> None:
    def scored(falls: list[float], ordinary: list[float]) -> float:
        scores = {100.0 + 20 * n: s for n, s in enumerate(falls)}
        scores |= {1000.0 + 20 * n: s for n, s in enumerate(ordinary)}
        starts = tuple(99.0 + 20 * n for n in range(len(falls)))
        found = smooth_sensitivity([video(scores, starts)], 2.0)
        assert found is not None
        return found

    before = scored(falls, ordinary)
    place = data.draw(st.integers(0, len(falls) - 1))
    lifted = [max(s, 0.999) if n == place else s for n, s in enumerate(falls)]
    assert scored(lifted, ordinary) >= before - 1e-12
    # More rate is never worse, and so is less evidence against.
    assert 0 <= before <= 1
    assert scored(falls, [min(s, 0.001) for s in ordinary]) >= before - 1e-12


def test_log_odds_are_cut_off() -> None:
    odds = log_odds(np.array([0.0, 0.5, 1.0]))
    assert odds[1] == 0
    assert odds[0] == pytest.approx(-odds[2])
    assert np.isfinite(odds).all()


@pytest.mark.parametrize("algorithm", sorted(registry.ALGORITHMS))
def test_ready_spaces_hold_settings_that_the_algorithm_has(algorithm: str) -> None:
    try:
        space = usual_space(algorithm)
    except GridError:
        pytest.skip("no ready space")
    base = AttemptSettings(algorithm, settings_of(algorithm))
    for one in space:
        ends: tuple[Any, ...] = one.choices or (one.low, one.high)
        for value in (ends[0], ends[-1]):
            told = int(value) if one.kind == "int" else value
            assert base.with_training(nested({one.setting: told})) is not None


@pytest.mark.parametrize(
    ("given_values", "says"),
    [
        ({"setting": "a", "kind": "choice"}, "choice of nothing"),
        ({"setting": "a", "kind": "float", "low": 1.0, "high": 1.0}, "low must be below high"),
        ({"setting": "a", "kind": "int", "low": 0, "high": 3, "log": True}, "above 0"),
        ({"setting": "a", "kind": "text"}, "wanted float, int or choice"),
    ],
)
def test_what_is_no_range_is_refused(given_values: dict[str, Any], says: str) -> None:
    with pytest.raises(GridError, match=says):
        Range(**given_values)


def test_a_study_from_plain_values() -> None:
    settings = TuningSettings.from_values(
        {"trials": 3, "space": [{"setting": "network.width", "kind": "choice", "choices": [8, 16]}]}
    )
    assert settings.searched == (Range("network.width", "choice", choices=(8, 16)),)
    assert TuningSettings().searched == usual_space("pose-tcn")
    with pytest.raises(GridError, match="rounds"):
        TuningSettings.from_values({"rounds": 3})
    with pytest.raises(GridError, match="at least one trial"):
        TuningSettings(trials=0)
    with pytest.raises(GridError, match="above 0"):
        TuningSettings(false_alarms_per_hour=0)


def test_names_with_points_are_nested() -> None:
    assert nested({"a": 1, "b.c": 2, "b.d": 3}) == {"a": 1, "b": {"c": 2, "d": 3}}


@dataclass(frozen=True)
class _Remembered:
    """A model that remembers what it learned from, and finds every window half likely."""

    plans: tuple[Plan, ...]
    parameters: int = 0

    def scores(self, segment: SegmentInputs) -> Scores:
        ends = np.array(scored_ends(segment.duration_s))
        seeds = sum(plan.seed for plan in self.plans)
        return Scores(ends, np.full(len(ends), 1 / (2 + seeds)), (None,) * len(ends))

    def save(self, folder: Path) -> None:
        raise NotImplementedError


@dataclass
class _Remembering:
    """An algorithm that keeps the plans that it was given, of each fit."""

    fits: list[tuple[Plan, ...]]
    name: ClassVar[str] = "remembering"
    needs: ClassVar[frozenset[InputKind]] = frozenset()

    def fit(self, _set: LearningSet, plans: Sequence[Plan], _context: FitContext) -> list[Model]:
        self.fits.append(tuple(plans))
        return [_Remembered((plan,)) for plan in plans]

    def combine(self, models: Sequence[Model]) -> Model:
        return _Remembered(
            tuple(plan for one in models if isinstance(one, _Remembered) for plan in one.plans)
        )

    def load(self, folder: Path) -> Model:
        raise NotImplementedError


def test_each_segment_is_judged_once_by_models_of_all_other_folds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = learning_set(videos=18, folds=3)
    algorithm = _Remembering([])
    monkeypatch.setattr(LearningSettings, "build", lambda _: algorithm)
    parts = list(validate_by_fold(drawn, small_settings(seed=5)))
    assert [(part.fold, part.folds) for part in parts] == [(0, 3), (1, 3), (2, 3)]
    for part, plans in zip(parts, algorithm.fits, strict=True):
        assert {plan.folds for plan in plans} == {frozenset({0, 1, 2} - {part.fold})}
        judged = {drawn.truths[one.video_id].fold for one in part.videos}
        assert judged == {part.fold}
    everyone = [one.video_id for part in parts for one in part.videos]
    assert sorted(everyone) == sorted(truth.video_id for truth in drawn.reviewed)
    seeds = [plan.seed for plans in algorithm.fits for plan in plans]
    assert len(set(seeds)) == len(seeds) == 3 * small_settings().training.networks


def test_validation_by_fold_is_a_pure_function_of_its_seed() -> None:
    drawn = learning_set(videos=12, folds=2)
    first = next(validate_by_fold(drawn, small_settings()))
    assert next(validate_by_fold(drawn, small_settings())) == first
    assert next(validate_by_fold(drawn, small_settings(seed=1))) != first


def test_one_fold_is_too_few() -> None:
    with pytest.raises(PermanentFailureError, match="1 folds"):
        next(validate_by_fold(learning_set(videos=6, folds=1), small_settings()))
