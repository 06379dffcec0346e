"""Gradient-boosted trees over statistics of motion. Needs no GPU and no torch.

What belongs here: figures of a window of a motion set's samples, and LightGBM on them. What does
not: how motion is measured (`features.extractors.motion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from fall_assets.errors import PermanentFailureError
from fall_assets.learning.algorithms.base import (
    AlgorithmSettings,
    FitContext,
    InputKind,
    Model,
    Plan,
    Scores,
)
from fall_assets.learning.algorithms.examples import (
    Sampling,
    class_chances,
    dense,
    dense_of,
    examples_of,
    sampling_of,
    window_ends,
)
from fall_assets.learning.algorithms.files import (
    TREES_FILE,
    ModelFileError,
    load_any,
    read_settings,
    together,
    write_settings,
)
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.inputs import SegmentInputs
from fall_assets.learning.windows import Floats, WindowSettings

if TYPE_CHECKING:
    import lightgbm

NAME = "motion-boosting"
FIGURES = 5
"""The first values of a motion sample: changed share, middle x and y, width and height."""

_PARTS = 4
_CHANGED, _Y, _HEIGHT = 0, 2, 4
_LEAST_CHANGE = 1e-4


class MotionSetError(PermanentFailureError):
    """The samples are not those of a motion set."""


@dataclass(frozen=True)
class MotionBoostingSettings(AlgorithmSettings):
    """Size and shape of the trees; see LightGBM's parameters of nearly the same names.

    `trees` of up to `leaves` leaves, each at least of `least_in_leaf` windows. `feature_share`
    of the figures and `window_share` of the windows are shown to each tree. In training, falls
    weigh `positive_share` of all windows.
    """

    trees: int = 150
    leaves: int = 15
    learning_rate: float = 0.05
    least_in_leaf: int = 20
    feature_share: float = 0.5
    window_share: float = 0.8
    l2: float = 1.0
    positive_share: float = 0.4

    def __post_init__(self) -> None:
        if self.trees < 1 or self.leaves < 2 or self.least_in_leaf < 1:
            raise ValueError("wanted are trees >= 1, leaves >= 2 and least_in_leaf >= 1")
        if not (0 < self.feature_share <= 1 and 0 < self.window_share <= 1):
            raise ValueError("feature_share and window_share must be above 0 and up to 1")
        if self.learning_rate <= 0 or self.l2 < 0 or not 0 < self.positive_share < 1:
            raise ValueError("wanted are learning_rate > 0, l2 >= 0 and 0 < positive_share < 1")


def motion_figures(values: Floats, seen: npt.NDArray[np.bool_]) -> Floats:
    """What the trees see of windows: (n, samples, width), (n, samples) -> (n, 7 width + 8).

    Of each value: mean, deviation and maximum, and the mean of each quarter of the window (NaN
    where nothing was looked at in it). Then of the whole picture: the share of samples seen;
    height of the moving part, weighted by how much moves, in each quarter; how far it sinks from
    its highest quarter to a later one; its change of shape from wide to high; when most moved.

    Raises MotionSetError where samples hold fewer values than a motion set's.
    """
    if values.shape[2] <= FIGURES:
        raise MotionSetError(
            f"samples of {values.shape[2]} values are no motion: choose a feature set whose "
            "extractor is 'motion'"
        )
    samples = values.shape[1]
    there = seen[..., None]
    count = np.maximum(seen.sum(axis=1), 1)[:, None]
    mean = values.sum(axis=1, where=there) / count
    spread = np.sqrt((((values - mean[:, None]) ** 2).sum(axis=1, where=there)) / count)
    most = values.max(axis=1, where=there, initial=0)
    changed = values[..., _CHANGED] * seen
    quarters, heights, shapes = [], [], []
    for part in np.array_split(np.arange(samples), _PARTS):
        own, shown = values[:, part], seen[:, part]
        held = shown.sum(axis=1)[:, None]
        sums = own.sum(axis=1, where=shown[..., None])
        quarters.append(np.where(held > 0, sums / np.maximum(held, 1), np.nan))
        moved = changed[:, part]
        total = moved.sum(axis=1)
        enough = total > _LEAST_CHANGE
        safe = np.where(enough, total, 1)
        heights.append(np.where(enough, (own[..., _Y] * moved).sum(axis=1) / safe, np.nan))
        shape = own[..., _HEIGHT] - own[..., _HEIGHT - 1]
        shapes.append(np.where(enough, (shape * moved).sum(axis=1) / safe, np.nan))
    height = np.stack(heights, axis=1)
    # y points down: sinking makes it larger.
    lowest = np.fmin.accumulate(height, axis=1)
    sunk = np.nan_to_num(height - lowest, nan=0.0).max(axis=1)
    strongest = changed.argmax(axis=1) / max(samples - 1, 1)
    whole = [seen.mean(axis=1), sunk, shapes[-1] - shapes[0], strongest]
    figures = np.concatenate(
        [mean, spread, most, *quarters, height, np.stack(whole, axis=1)], axis=1
    )
    seen_by_trees: Floats = figures.astype(np.float32)
    return seen_by_trees


@dataclass(frozen=True)
class MotionModel:
    """Trees in LightGBM's own text, and how the samples lay that they learned from."""

    trees: str
    sampling: Sampling
    windows: WindowSettings

    @cached_property
    def _booster(self) -> lightgbm.Booster:
        import lightgbm

        return lightgbm.Booster(model_str=self.trees)

    @property
    def parameters(self) -> int:
        """Splits (two numbers each: figure and value) and leaves."""
        leaves = sum(
            int(line.removeprefix("num_leaves="))
            for line in self.trees.splitlines()
            if line.startswith("num_leaves=")
        )
        trees = self._booster.num_trees()
        return leaves + 2 * (leaves - trees)

    def scores(self, segment: SegmentInputs) -> Scores:
        """As `Model.scores`; 0 where too little of a window was looked at."""
        samples = dense(segment, self.sampling, "motion")
        ends = window_ends(segment, self.windows)
        values, seen = samples.windows(ends.tolist(), self.sampling.samples(self.windows))
        usable = seen.sum(axis=1) >= self.sampling.least_seen(self.windows)
        score = np.zeros(len(ends))
        if usable.any():
            figures = motion_figures(values[usable], seen[usable])
            score[usable] = np.asarray(self._booster.predict(figures, num_threads=1))
        return Scores(ends, score, (None,) * len(ends))

    def save(self, folder: Path) -> None:
        """`model.json` and the trees as text."""
        (folder / TREES_FILE).write_text(self.trees)
        sampling = {"rate_hz": self.sampling.rate_hz, "width": self.sampling.width}
        write_settings(folder, NAME, self.windows, {"sampling": sampling}, TREES_FILE)


class MotionBoosting:
    """One thread and fixed orders throughout, so that the same data give the same trees."""

    name: ClassVar[str] = NAME
    needs: ClassVar[frozenset[InputKind]] = frozenset({"motion"})

    def __init__(self, settings: MotionBoostingSettings) -> None:
        self.settings = settings

    def fit(
        self, learning_set: LearningSet, plans: Sequence[Plan], context: FitContext
    ) -> list[Model]:
        """See `Algorithm.fit`; simulated windows of people teach nothing here."""
        examples = examples_of(learning_set)
        sampling = sampling_of(learning_set, examples.segments, "motion")
        count, least = sampling.samples(context.windows), sampling.least_seen(context.windows)
        tables = []
        usable = np.zeros(len(examples), np.bool_)
        for number, samples in enumerate(
            dense_of(learning_set, examples.segments, sampling, "motion")
        ):
            own = np.flatnonzero(examples.segment == number)
            values, seen = samples.windows(examples.end_s[own].tolist(), count)
            kept = seen.sum(axis=1) >= least
            usable[own[kept]] = True
            if kept.any():
                tables.append((own[kept], motion_figures(values[kept], seen[kept])))
        width = 7 * sampling.width + 8
        figures = np.zeros((len(examples), width), np.float32)
        for own, part in tables:
            figures[own] = part
        figures, examples = figures[usable], examples.only(usable)
        models: list[Model] = []
        for number, plan in enumerate(plans):
            chosen = examples.of(plan)
            target = examples.target[chosen]
            chances = class_chances(target, examples.weight[chosen], self.settings.positive_share)
            trees = self._grow(figures[chosen], target, chances * len(target), plan.seed)
            models.append(MotionModel(trees, sampling, context.windows))
            if context.progress is not None:
                context.progress(number + 1, len(plans))
        return models

    def combine(self, models: Sequence[Model]) -> Model:
        """The mean of their log odds."""
        return together(list(models))

    def load(self, folder: Path) -> Model:
        """Read what was saved, checked against its SHA-256."""
        return load_any(folder, _load)

    def _grow(
        self,
        figures: Floats,
        target: npt.NDArray[np.int64],
        weight: npt.NDArray[np.float64],
        seed: int,
    ) -> str:
        import lightgbm

        own = self.settings
        options = {
            "objective": "binary",
            "num_leaves": own.leaves,
            "learning_rate": own.learning_rate,
            "min_data_in_leaf": own.least_in_leaf,
            "feature_fraction": own.feature_share,
            "bagging_fraction": own.window_share,
            "bagging_freq": 1,
            "lambda_l2": own.l2,
            "seed": seed % 2**31,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        }
        data = lightgbm.Dataset(figures, target, weight=weight, params=options, free_raw_data=True)
        return lightgbm.train(options, data, own.trees).model_to_string()


def _load(folder: Path) -> Model:
    settings = read_settings(folder, NAME)
    try:
        model = MotionModel(
            (folder / TREES_FILE).read_text(),
            Sampling(**settings["sampling"]),
            WindowSettings(**settings["windows"]),
        )
        model.parameters  # noqa: B018 - it reads the trees
    except Exception as error:
        # LightGBM says what is wrong with its text by an error of its own.
        raise ModelFileError(f"{folder} holds no readable trees ({error})") from error
    return model
