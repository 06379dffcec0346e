"""A temporal convolution network over a backbone's embeddings of the whole view. Loads torch.

What belongs here: this network, and fitting one per plan. What does not: backbones
(`features.extractors`), the steps of training (`fitting`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from fall_assets.learning.algorithms.base import (
    FitContext,
    InputKind,
    Model,
    Plan,
    Progress,
    Scores,
)
from fall_assets.learning.algorithms.examples import (
    DenseSamples,
    Examples,
    Sampling,
    class_chances,
    dense,
    dense_of,
    examples_of,
    sampling_of,
    window_ends,
)
from fall_assets.learning.algorithms.files import (
    WEIGHTS_FILE,
    load_any,
    load_state,
    read_settings,
    readable,
    together,
    write_settings,
    write_tensors,
)
from fall_assets.learning.algorithms.fitting import (
    Batch,
    NetworkTraining,
    draw,
    fit_network,
    parameters_of,
    partly,
    seeded,
)
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.device import Feeding, choose_device
from fall_assets.learning.inputs import SegmentInputs
from fall_assets.learning.network import NetworkSettings, TemporalNetwork
from fall_assets.learning.windows import WindowSettings

NAME = "embedding-tcn"
_BATCH = 256
_LEAST_DEVIATION = 1e-3


@dataclass(frozen=True)
class EmbeddingTcnSettings(NetworkTraining):
    """`reduced`: values per sample behind the first layer; `width`, `dilations`: of the network.

    `input_dropout` of a window's values are hidden in training, the same at all its samples:
    an embedding knows the room by heart otherwise.
    """

    learning_rate: float = 1e-3
    reduced: int = 32
    width: int = 32
    dilations: tuple[int, ...] = (1, 1, 2)
    dropout: float = 0.2
    input_dropout: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduced < 1 or self.width < 1 or not self.dilations:
            raise ValueError("wanted are reduced >= 1, width >= 1 and one dilation at least")
        if not (0 <= self.dropout < 1 and 0 <= self.input_dropout < 1):
            raise ValueError("dropout and input_dropout must be at least 0 and below 1")


class EmbeddingNetwork(nn.Module):
    """Standardises, hides some values, reduces by a linear layer, looks through time."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: int, settings: EmbeddingTcnSettings, seed: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        self.hide = settings.input_dropout
        self.reduce = nn.Linear(inputs, settings.reduced)
        form = NetworkSettings(
            channels=settings.reduced + 1,
            width=settings.width,
            dilations=settings.dilations,
            dropout=settings.dropout,
        )
        self.temporal = TemporalNetwork(form, [seed])

    def standardise(self, mean: Tensor, deviation: Tensor) -> None:
        """Take mean and deviation (inputs,) of the samples that teach."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp(min=_LEAST_DEVIATION))

    def forward(self, shown: Tensor) -> Tensor:
        """Log odds: (n, samples, inputs + 1) -> (n,); the last value says whether it was seen."""
        seen = shown[..., -1:]
        normal = (shown[..., :-1] - self.mean) / self.deviation
        if self.training and self.hide > 0:
            kept = torch.rand(len(normal), 1, normal.shape[2], device=normal.device) >= self.hide
            normal = normal * kept / (1 - self.hide)
        reduced = self.reduce(normal) * seen
        odds: Tensor = self.temporal(torch.cat([reduced, seen], dim=-1)[None])
        return odds[0]


@dataclass(frozen=True)
class EmbeddingModel:
    """One network, and how the samples lay that it learned from."""

    settings: EmbeddingTcnSettings
    network: EmbeddingNetwork
    sampling: Sampling
    windows: WindowSettings

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return parameters_of(self.network)

    def scores(self, segment: SegmentInputs) -> Scores:
        """As `Model.scores`; 0 where too little of a window was looked at."""
        samples = dense(segment, self.sampling, "embedding")
        ends = window_ends(segment, self.windows)
        score = np.zeros(len(ends))
        count, least = self.sampling.samples(self.windows), self.sampling.least_seen(self.windows)
        with torch.inference_mode():
            # Windows overlap, and an hour of embeddings is large: a few at a time.
            for at in range(0, len(ends), _BATCH):
                shown = _shown(samples, ends[at : at + _BATCH].tolist(), count)
                usable = shown[..., -1].sum(dim=1).numpy() >= least
                if usable.any():
                    odds = self.network(shown[torch.from_numpy(usable)])
                    own = np.flatnonzero(usable) + at
                    score[own] = torch.sigmoid(odds.double()).numpy()
        return Scores(ends, score, (None,) * len(ends))

    def save(self, folder: Path) -> None:
        """`model.json` and `weights.safetensors`."""
        write_tensors(folder, self.network.state_dict())
        sampling = {"rate_hz": self.sampling.rate_hz, "width": self.sampling.width}
        values = {"settings": asdict(self.settings), "sampling": sampling}
        write_settings(folder, NAME, self.windows, values, WEIGHTS_FILE)


class EmbeddingTcn:
    """Samples are held once, windows are cut out of them batch by batch."""

    name: ClassVar[str] = NAME
    needs: ClassVar[frozenset[InputKind]] = frozenset({"embedding"})

    def __init__(self, settings: EmbeddingTcnSettings) -> None:
        self.settings = settings
        self.feeding = Feeding()

    def fit(
        self, learning_set: LearningSet, plans: Sequence[Plan], context: FitContext
    ) -> list[Model]:
        """See `Algorithm.fit`; simulated windows of people teach nothing here."""
        device = choose_device(context.device)
        self.feeding = Feeding()
        examples = examples_of(learning_set)
        sampling = sampling_of(learning_set, examples.segments, "embedding")
        samples = dense_of(learning_set, examples.segments, sampling, "embedding")
        count, least = sampling.samples(context.windows), sampling.least_seen(context.windows)
        usable = np.array(
            [
                samples[segment].window(end_s, count)[1].sum() >= least
                for segment, end_s in zip(
                    examples.segment.tolist(), examples.end_s.tolist(), strict=True
                )
            ],
            np.bool_,
        )
        examples = examples.only(usable)
        models: list[Model] = []
        for number, plan in enumerate(plans):
            progress = partly(context.progress, number, len(plans))
            network = self._network(examples, samples, sampling, count, plan, device, progress)
            models.append(EmbeddingModel(self.settings, network, sampling, context.windows))
        return models

    def combine(self, models: Sequence[Model]) -> Model:
        """The mean of their log odds."""
        return together(list(models))

    def load(self, folder: Path) -> Model:
        """Read what was saved, checked against its SHA-256."""
        return load_any(folder, _load)

    def _network(
        self,
        examples: Examples,
        samples: Sequence[DenseSamples],
        sampling: Sampling,
        count: int,
        plan: Plan,
        device: torch.device,
        progress: Progress | None,
    ) -> EmbeddingNetwork:
        own = self.settings
        numbers = examples.of(plan)
        chances = class_chances(
            examples.target[numbers], examples.weight[numbers], own.positive_share
        )
        drawn = draw(numbers, chances, plan.seed, own)
        network = cast(
            "EmbeddingNetwork",
            seeded(plan.seed, lambda: EmbeddingNetwork(sampling.width, own, plan.seed)),
        )
        network.standardise(*_spread(samples, np.unique(examples.segment[numbers]).tolist()))

        def batch_of(step: int) -> Batch:
            each = [
                _shown(samples[examples.segment[number]], [float(examples.end_s[number])], count)
                for number in drawn[step].tolist()
            ]
            return torch.cat(each), torch.from_numpy(examples.target[drawn[step]])

        trained = fit_network(
            network,
            batch_of,
            own,
            seed=plan.seed,
            device=device,
            feeding=self.feeding,
            progress=progress,
        )
        return cast("EmbeddingNetwork", trained)


def _shown(samples: DenseSamples, ends_s: Sequence[float], count: int) -> Tensor:
    """Windows as the network sees them: (n, count, inputs + 1)."""
    values, seen = samples.windows(ends_s, count)
    return torch.from_numpy(np.concatenate([values, seen[..., None].astype(np.float32)], axis=-1))


def _spread(samples: Sequence[DenseSamples], segments: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each value over all samples of some segments."""
    count = 0
    width = samples[0].values.shape[1]
    total, squares = np.zeros(width), np.zeros(width)
    for number in segments:
        seen = samples[number].values[samples[number].seen].astype(np.float64)
        count += len(seen)
        total += seen.sum(axis=0)
        squares += (seen**2).sum(axis=0)
    mean = total / max(count, 1)
    deviation = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0))
    return torch.from_numpy(mean), torch.from_numpy(deviation)


def _load(folder: Path) -> Model:
    from fall_assets.learning.algorithms.registry import settings_of

    content = read_settings(folder, NAME)
    with readable(folder):
        settings = cast("EmbeddingTcnSettings", settings_of(NAME, content["settings"]))
        sampling = Sampling(**content["sampling"])
        windows = WindowSettings(**content["windows"])
        network = EmbeddingNetwork(sampling.width, settings, 0)
    load_state(network, folder)
    return EmbeddingModel(settings, network.eval(), sampling, windows)
