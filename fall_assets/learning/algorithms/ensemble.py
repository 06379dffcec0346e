"""Several algorithms as one, whose score is the weighted mean of their log odds.

What belongs here: fitting each of them and putting scores together. What does not: what any of
them is. Importing this is cheap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from fall_assets.learning.algorithms.base import (
    Algorithm,
    AlgorithmSettings,
    FitContext,
    InputKind,
    Model,
    Plan,
    Scores,
)
from fall_assets.learning.algorithms.files import ModelFileError, read_settings, write_settings
from fall_assets.learning.algorithms.registry import AlgorithmError, build, settings_of
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.inputs import SegmentInputs

NAME = "ensemble"
_EVERY = 1000


@dataclass(frozen=True)
class MemberSettings:
    """One algorithm by name, its settings by name (the rest by default), and its weight."""

    algorithm: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True)
class EnsembleSettings(AlgorithmSettings):
    """The members; each is fitted under the ensemble's seed.

    `least`: scores nearer to 0 or 1 than this count as so near, so that no member, such as one
    that saw nobody, decides alone.
    """

    members: tuple[MemberSettings, ...] = (
        MemberSettings("pose-tcn"),
        MemberSettings("motion-boosting"),
    )
    least: float = 0.01

    def __post_init__(self) -> None:
        if not self.members or not 0 < self.least < 0.5:
            raise ValueError("an ensemble needs a member at least, and 0 < least < 0.5")
        if any(not 0 < member.weight < np.inf for member in self.members):
            raise ValueError("weights of an ensemble's members must be above 0")
        for member in self.members:
            if member.algorithm == NAME:
                raise ValueError("an ensemble is no member of an ensemble: name its members")
            fixed = sorted({"seed", "networks"} & set(member.settings))
            if fixed:
                raise ValueError(
                    f"{' and '.join(fixed)} of {member.algorithm} are the ensemble's: set them "
                    "there"
                )


def weighted(each: Sequence[Scores], weights: Sequence[float], least: float) -> Scores:
    """The weighted mean of the log odds of several scores of the same windows.

    Scores are brought to `least` to 1 - `least` first. The person is that of the surest member
    that names one. Where no member has anything to say, the score is 0.

    Raises ValueError where the windows differ.
    """
    first = each[0]
    if any(not np.array_equal(other.end_s, first.end_s) for other in each):
        raise ValueError("scores of different windows cannot be averaged")
    raw = np.stack([scores.score for scores in each])
    shares = np.clip(raw, least, 1 - least)
    share = np.asarray(weights, np.float64) / np.sum(weights)
    odds = (np.log(shares / (1 - shares)) * share[:, None]).sum(axis=0)
    track: list[int | None] = []
    for window, order in enumerate(np.argsort(-raw, axis=0, kind="stable").T.tolist()):
        named = (each[member].track[window] for member in order)
        track.append(next((person for person in named if person is not None), None))
    somebody = (raw > 0).any(axis=0) | np.array([person is not None for person in track], bool)
    return Scores(first.end_s, np.where(somebody, 1 / (1 + np.exp(-odds)), 0.0), tuple(track))


@dataclass(frozen=True)
class EnsembleModel:
    """One model of each member."""

    names: tuple[str, ...]
    weights: tuple[float, ...]
    least: float
    models: tuple[Model, ...]

    @property
    def parameters(self) -> int:
        """Of all of them."""
        return sum(model.parameters for model in self.models)

    def scores(self, segment: SegmentInputs) -> Scores:
        """As `Model.scores`."""
        each = [model.scores(segment) for model in self.models]
        return weighted(each, self.weights, self.least)

    def save(self, folder: Path) -> None:
        """Each into a folder of its own, and `model.json`."""
        for place, (name, model) in enumerate(zip(self.names, self.models, strict=True)):
            own = folder / _folder(place, name)
            own.mkdir()
            model.save(own)
        values = {"members": list(self.names), "weights": self.weights, "least": self.least}
        write_settings(folder, NAME, None, values)


class Ensemble:
    """Fits its members one after another, each on the same plans."""

    name: ClassVar[str] = NAME

    def __init__(self, settings: EnsembleSettings) -> None:
        self.settings = settings
        self._members = [_member(one, settings) for one in settings.members]
        needs = self.needs
        if {"motion", "embedding"} <= needs:
            raise AlgorithmError(
                "members of an ensemble need motion and embeddings: a learning set holds the "
                "samples of one feature set beside people's tracks, so choose one of both"
            )

    @property
    def needs(self) -> frozenset[InputKind]:
        """What any of its members looks at."""
        return frozenset().union(*(member.needs for member in self._members))

    def fit(
        self, learning_set: LearningSet, plans: Sequence[Plan], context: FitContext
    ) -> list[Model]:
        """See `Algorithm.fit`."""
        fitted = []
        for number, member in enumerate(self._members):
            own = replace(context, progress=self._progress(context, number))
            fitted.append(member.fit(learning_set, plans, own))
        return [self._model(models) for models in zip(*fitted, strict=True)]

    def combine(self, models: Sequence[Model]) -> Model:
        """Each member's models are combined as it does by itself."""
        own = [cast("EnsembleModel", model) for model in models]
        return self._model(
            [
                member.combine([model.models[place] for model in own])
                for place, member in enumerate(self._members)
            ]
        )

    def load(self, folder: Path) -> Model:
        """Read what was saved; members' own settings come from their files."""
        content = read_settings(folder, NAME)
        try:
            names = tuple(str(name) for name in content["members"])
            weights = tuple(float(weight) for weight in content["weights"])
            least = float(content["least"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{folder} holds no readable ensemble ({error})") from error
        models = tuple(
            build(name, settings_of(name)).load(folder / _folder(place, name))
            for place, name in enumerate(names)
        )
        return EnsembleModel(names, weights, least, models)

    def _model(self, models: Sequence[Model]) -> Model:
        members = self.settings.members
        return EnsembleModel(
            tuple(member.algorithm for member in members),
            tuple(member.weight for member in members),
            self.settings.least,
            tuple(models),
        )

    def _progress(self, context: FitContext, number: int) -> Any:
        if context.progress is None:
            return None
        tell, parts = context.progress, len(self._members)
        # Members count in steps of their own.
        return lambda done, total: tell(
            number * _EVERY + _EVERY * done // max(total, 1), parts * _EVERY
        )


def _member(member: MemberSettings, settings: EnsembleSettings) -> Algorithm:
    own = settings_of(member.algorithm, member.settings)
    return build(member.algorithm, replace(own, seed=settings.seed, networks=settings.networks))


def _folder(place: int, name: str) -> str:
    return f"{place}-{name}"
