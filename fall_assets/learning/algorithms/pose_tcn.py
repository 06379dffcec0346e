"""A temporal convolution network over pose features. Loads torch: import it inside functions.

What belongs here: fitting the networks of `learning.network` to a plan each. What does not: the
networks (`network`), the steps of training (`training`), scoring and files (`detector`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from fall_assets.labelling.automatic import EVERY_FOLD
from fall_assets.learning.algorithms.base import (
    FitContext,
    InputKind,
    MissingInputError,
    Model,
    Plan,
    Scores,
)
from fall_assets.learning.dataset import LearningSet, training_windows
from fall_assets.learning.detector import Detector
from fall_assets.learning.inputs import SegmentInputs
from fall_assets.learning.training import TrainingSettings, make_bank, train_members


@dataclass(frozen=True)
class PoseModel:
    """A detector as a model: it scores the people's tracks."""

    detector: Detector

    @property
    def parameters(self) -> int:
        """Trained numbers of all its members."""
        return self.detector.parameters

    def scores(self, segment: SegmentInputs) -> Scores:
        """The highest score of all people at every scored moment."""
        if segment.tracks is None:
            raise MissingInputError(
                f"segment {segment.video_id} has no pose tracks of feature set "
                f"{self.detector.feature_set}: materialize features with that set"
            )
        return self.detector.scores(segment.tracks)

    def save(self, folder: Path) -> None:
        """As `Detector.save`."""
        self.detector.save(folder)


class PoseTcn:
    """All models of a fit share one bank of augmented examples and train at the same time."""

    name: ClassVar[str] = "pose-tcn"
    needs: ClassVar[frozenset[InputKind]] = frozenset({"pose"})

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings

    def fit(
        self, learning_set: LearningSet, plans: Sequence[Plan], context: FitContext
    ) -> list[Model]:
        """A detector of one member per plan; see `Algorithm.fit`."""
        bank = make_bank(
            training_windows(learning_set, context.windows),
            self.settings,
            simulated=context.simulated,
            window_settings=context.windows,
        )
        network = train_members(
            bank,
            [(plan.seed, _groups(plan)) for plan in plans],
            self.settings,
            context.progress,
        )
        whole = Detector(network, learning_set.feature_set, context.windows)
        return [
            PoseModel(replace(whole, network=network.pick([number])))
            for number in range(len(plans))
        ]

    def combine(self, models: Sequence[Model]) -> Model:
        """One detector whose members are theirs."""
        detectors = [model.detector for model in models if isinstance(model, PoseModel)]
        network = type(detectors[0].network).joined([one.network for one in detectors])
        return PoseModel(replace(detectors[0], network=network))

    def load(self, folder: Path) -> Model:
        """As `Detector.load`."""
        return PoseModel(Detector.load(folder))


def _groups(plan: Plan) -> frozenset[int] | None:
    return None if plan.folds is None else plan.folds | {EVERY_FOLD}
