"""What an algorithm is to everything else: settings, `fit`, and models that score segments.

What belongs here: the interface, and what all algorithms share. What does not: any one of them.
Importing this is cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from fall_assets.errors import PermanentFailureError
from fall_assets.learning.inputs import SegmentInputs
from fall_assets.learning.windows import WindowSet, WindowSettings

if TYPE_CHECKING:
    from fall_assets.learning.dataset import LearningSet

Progress = Callable[[int, int], None]

InputKind = Literal["pose", "motion", "embedding", "frames"]
"""What an algorithm looks at: people's tracks, a set's motion or embeddings, or the film itself."""


class MissingInputError(PermanentFailureError):
    """A segment lacks what an algorithm looks at."""


@dataclass(frozen=True)
class Scores:
    """Scores of one segment, one per scored window, in order of time.

    `end_s` (n,) in seconds, `score` (n,) from 0 to 1, both float64; `track`: the person with the
    highest score, none where nobody was seen (score 0).
    """

    end_s: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]
    track: tuple[int | None, ...]

    def __len__(self) -> int:
        return len(self.end_s)


@dataclass(frozen=True)
class Plan:
    """What one model learns from: segments of some folds (None: of all).

    Simulated windows, where there are any, teach every model.
    """

    seed: int
    folds: frozenset[int] | None = None


@dataclass(frozen=True)
class FitContext:
    """What all models of a fit share.

    Attributes:
        windows: how windows are cut.
        simulated: further windows of people to learn from; only pose algorithms can use them.
        device: 'cpu', 'cuda', …; None takes a GPU where there is one and it pays.
        progress: called with what is done and what there is to do.
        workers: processes or threads to use where an algorithm can.
    """

    windows: WindowSettings = field(default_factory=WindowSettings)
    simulated: WindowSet | None = None
    device: str | None = None
    progress: Progress | None = None
    workers: int = 1


@runtime_checkable
class Model(Protocol):
    """A trained model. Its score of a window depends on that window alone."""

    @property
    def parameters(self) -> int:
        """Trained numbers (of a tree: its splits and leaves)."""

    def scores(self, segment: SegmentInputs) -> Scores:
        """Score the windows of one segment, at the same ends as any other algorithm.

        Raises MissingInputError where the segment lacks what the algorithm looks at.
        """

    def save(self, folder: Path) -> None:
        """Write it into an empty folder, without pickle."""


@dataclass(frozen=True)
class AlgorithmSettings:
    """What decides a model beside the data; algorithms add their own plain values.

    `networks` models of different seeds are averaged.
    """

    seed: int = 0
    networks: int = 1


class Algorithm(Protocol):
    """One algorithm under its settings."""

    name: ClassVar[str]

    def __init__(self, settings: Any) -> None: ...

    @property
    def needs(self) -> frozenset[InputKind]:
        """What it looks at; a learning set must be read with all of it."""

    def fit(
        self, learning_set: LearningSet, plans: Sequence[Plan], context: FitContext
    ) -> list[Model]:
        """A model per plan. The same plans, set and settings give the same models.

        Raises TooLittleDataError where a plan leaves no fall, or nothing else, to learn from.
        """

    def combine(self, models: Sequence[Model]) -> Model:
        """Several of its models as one, whose score is the mean of their log odds."""

    def load(self, folder: Path) -> Model:
        """Read what `Model.save` wrote. Raises PermanentFailureError where it is damaged."""


@dataclass(frozen=True)
class Averaged:
    """Several models as one: the mean of their log odds, window by window."""

    models: tuple[Model, ...]

    @property
    def parameters(self) -> int:
        """Of all of them."""
        return sum(model.parameters for model in self.models)

    def scores(self, segment: SegmentInputs) -> Scores:
        """As `Model.scores`; the person is that of the model that is surest."""
        each = [model.scores(segment) for model in self.models]
        return averaged(each)

    def save(self, folder: Path) -> None:
        """Each into a folder of its own."""
        for number, model in enumerate(self.models):
            (folder / f"{number:02d}").mkdir(parents=True)
            model.save(folder / f"{number:02d}")


_LEAST = 1e-6


def averaged(each: Sequence[Scores]) -> Scores:
    """The mean of the log odds of several scores of the same windows.

    Raises ValueError where the windows differ.
    """
    first = each[0]
    for other in each[1:]:
        if not np.array_equal(other.end_s, first.end_s):
            raise ValueError("scores of different windows cannot be averaged")
    if len(each) == 1:
        return first
    shares = np.clip(np.stack([scores.score for scores in each]), _LEAST, 1 - _LEAST)
    odds = np.log(shares / (1 - shares)).mean(axis=0)
    surest = np.argmax(shares, axis=0)
    track = tuple(each[model].track[window] for window, model in enumerate(surest.tolist()))
    seen = np.array([any(s.track[w] is not None for s in each) for w in range(len(first))], bool)
    somebody = seen | np.any([scores.score > 0 for scores in each], axis=0)
    return Scores(first.end_s, np.where(somebody, 1 / (1 + np.exp(-odds)), 0.0), track)
