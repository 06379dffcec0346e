"""A recurrent network and a transformer over pose features. Loads torch.

What belongs here: these networks, and fitting one per plan. What does not: features of poses
(`learning.windows`), how windows are drawn and augmented (`learning.training`), the steps of
training (`fitting`), whose windows are scored (`learning.detector`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from fall_assets.labelling.automatic import EVERY_FOLD
from fall_assets.learning.algorithms.base import (
    FitContext,
    InputKind,
    MissingInputError,
    Model,
    Plan,
    Progress,
    Scores,
)
from fall_assets.learning.algorithms.examples import class_chances
from fall_assets.learning.algorithms.files import (
    WEIGHTS_FILE,
    load_state,
    read_settings,
    readable,
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
from fall_assets.learning.augmentation import AugmentationSettings
from fall_assets.learning.dataset import LearningSet, training_windows
from fall_assets.learning.detector import Detector
from fall_assets.learning.device import Feeding, choose_device
from fall_assets.learning.inputs import SegmentInputs
from fall_assets.learning.network import TemporalNetwork
from fall_assets.learning.training import SIMULATED, ExampleBank, TrainingSettings, make_bank
from fall_assets.learning.windows import CHANNELS, WindowSettings

GRU, TRANSFORMER = "pose-gru", "pose-transformer"
_NORMALISED_BY = 1024
_MAX_STEPS = 512


@dataclass(frozen=True)
class PoseSequenceSettings(NetworkTraining, ABC):
    """What both share: `examples` augmented windows are drawn from, `width` and `layers`.

    `simulated_share` of each batch are simulated windows, where there are any.
    """

    examples: int = 16_000
    simulated_share: float = 0.3
    width: int = 64
    layers: int = 2
    dropout: float = 0.2
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 2 or self.layers < 1 or not 0 <= self.dropout < 1:
            raise ValueError("wanted are width >= 2, layers >= 1 and 0 <= dropout < 1")
        if self.examples < 2 or not 0 <= self.simulated_share <= 1:
            raise ValueError("wanted are examples >= 2 and 0 <= simulated_share <= 1")

    @abstractmethod
    def network(self) -> nn.Module:
        """The network between the features and the log odds."""


@dataclass(frozen=True)
class PoseGruSettings(PoseSequenceSettings):
    """A gated recurrent unit, Cho et al., arXiv 1406.1078, over both directions of time."""

    width: int = 48

    def network(self) -> nn.Module:
        """See `PoseSequenceSettings`."""
        return _Gru(self.width, self.layers, self.dropout)


@dataclass(frozen=True)
class PoseTransformerSettings(PoseSequenceSettings):
    """Vaswani et al., arXiv 1706.03762, encoder only, normalised first; `heads` divide `width`."""

    learning_rate: float = 1e-3
    heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is no multiple of twice {self.heads} heads")

    def network(self) -> nn.Module:
        """See `PoseSequenceSettings`."""
        return _Transformer(self.width, self.layers, self.heads, self.dropout)


class _Member(nn.Module):
    """One network with its own mean and deviation of the features, saved with it."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("deviation", torch.ones(CHANNELS))
        self.body = body

    def normalise(self, features: Tensor) -> None:
        """Take mean and deviation from windows (n, samples, channels)."""
        flat = features.flatten(0, 1)
        self.mean.copy_(flat.mean(dim=0))
        self.deviation.copy_(flat.std(dim=0).clamp(min=0.05))

    def forward(self, features: Tensor) -> Tensor:
        """Log odds: (n, samples, channels) -> (n,)."""
        normal = (features - self.mean) / self.deviation
        n, samples, _ = normal.shape
        # Two samples side by side: half the steps, which are what costs time.
        pairs = normal[:, samples % 2 :].reshape(n, samples // 2, -1)
        odds: Tensor = self.body(pairs)
        return odds


class PoseSequenceNetwork(nn.Module):
    """Several members, shaped as a detector wants its network."""

    def __init__(self, members: Sequence[_Member]) -> None:
        super().__init__()
        self.each = nn.ModuleList(members)

    @property
    def members(self) -> int:
        """How many there are."""
        return len(self.each)

    def forward(self, features: Tensor) -> Tensor:
        """Log odds: (1, n, samples, channels) -> (members, n)."""
        return torch.stack([member(features[0]) for member in self.each])


class _Head(nn.Module):
    """From steps to log odds: mean, maximum and the most recent quarter."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.exit = nn.Linear(width, 1)

    def forward(self, steps: Tensor) -> Tensor:
        """(n, steps, width) -> (n,)."""
        recent = steps[:, -max(steps.shape[1] // 4, 1) :].mean(dim=1)
        pooled = torch.cat([steps.mean(dim=1), steps.amax(dim=1), recent], dim=-1)
        odds: Tensor = self.exit(self.dropout(torch.relu(self.hidden(pooled))))
        return odds.squeeze(-1)


class _Gru(nn.Module):
    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.entry = nn.Linear(2 * CHANNELS, width)
        between = dropout if layers > 1 else 0.0
        self.gru = nn.GRU(
            width, width, layers, batch_first=True, dropout=between, bidirectional=True
        )
        self.head = _Head(2 * width, dropout)

    def forward(self, pairs: Tensor) -> Tensor:
        """(n, steps, 2 channels) -> (n,)."""
        steps, _ = self.gru(torch.relu(self.entry(pairs)))
        odds: Tensor = self.head(steps)
        return odds


class _Transformer(nn.Module):
    places: Tensor

    def __init__(self, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.entry = nn.Linear(2 * CHANNELS, width)
        self.register_buffer("places", _places(width), persistent=False)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        # All layers are copies of one: each needs first weights of its own.
        for weights in self.encoder.parameters():
            if weights.dim() > 1:
                nn.init.xavier_uniform_(weights)
        self.head = _Head(width, dropout)

    def forward(self, pairs: Tensor) -> Tensor:
        """(n, steps, 2 channels) -> (n,)."""
        steps = self.entry(pairs)
        # Counted from the window's end, which is what the score is about.
        steps = steps + self.places[: steps.shape[1]].flip(0)
        odds: Tensor = self.head(self.encoder(steps))
        return odds


def _places(width: int) -> Tensor:
    """Sines and cosines of a step's place, as in arXiv 1706.03762, section 3.5."""
    step = torch.arange(_MAX_STEPS, dtype=torch.float32)[:, None]
    speed = torch.exp(torch.arange(0, width, 2) * (-np.log(10_000.0) / width))
    return torch.stack([torch.sin(step * speed), torch.cos(step * speed)], dim=-1).flatten(1)


@dataclass(frozen=True)
class PoseSequenceModel:
    """A network over pose features: scores people as a detector does."""

    algorithm: str
    settings: PoseSequenceSettings
    network: PoseSequenceNetwork
    feature_set: str
    windows: WindowSettings

    @property
    def parameters(self) -> int:
        """Trained numbers of all its members."""
        return parameters_of(self.network)

    def scores(self, segment: SegmentInputs) -> Scores:
        """The highest score of all people at every scored moment."""
        if segment.tracks is None:
            raise MissingInputError(
                f"segment {segment.video_id} has no pose tracks of feature set "
                f"{self.feature_set}: materialize features with that set"
            )
        # A detector asks of its network only to be called.
        network = cast("TemporalNetwork", self.network)
        return Detector(network, self.feature_set, self.windows).scores(segment.tracks)

    def save(self, folder: Path) -> None:
        """`model.json` and `weights.safetensors`."""
        write_tensors(folder, self.network.state_dict())
        values = {
            "settings": asdict(self.settings),
            "feature_set": self.feature_set,
            "members": self.network.members,
        }
        write_settings(folder, self.algorithm, self.windows, values, WEIGHTS_FILE)


class _PoseSequence:
    """All models of a fit share one bank of augmented examples and train one after another."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[InputKind]] = frozenset({"pose"})

    def __init__(self, settings: PoseSequenceSettings) -> None:
        self.settings = settings
        self.feeding = Feeding()

    def fit(
        self, learning_set: LearningSet, plans: Sequence[Plan], context: FitContext
    ) -> list[Model]:
        """See `Algorithm.fit`; a GPU is used where there is one."""
        device = choose_device(context.device)
        self.feeding = Feeding()
        bank = make_bank(
            training_windows(learning_set, context.windows),
            self._drawing(),
            simulated=context.simulated,
            window_settings=context.windows,
        )
        models: list[Model] = []
        for number, plan in enumerate(plans):
            progress = partly(context.progress, number, len(plans))
            member = self._member(bank, plan, device, progress)
            models.append(
                PoseSequenceModel(
                    self.name,
                    self.settings,
                    PoseSequenceNetwork([member]).eval(),
                    learning_set.feature_set,
                    context.windows,
                )
            )
        return models

    def combine(self, models: Sequence[Model]) -> Model:
        """One network whose members are theirs."""
        own = [model for model in models if isinstance(model, PoseSequenceModel)]
        members = [cast("_Member", member) for model in own for member in model.network.each]
        first = own[0]
        return PoseSequenceModel(
            first.algorithm,
            first.settings,
            PoseSequenceNetwork(members).eval(),
            first.feature_set,
            first.windows,
        )

    def load(self, folder: Path) -> Model:
        """Read what was saved, checked against its SHA-256."""
        from fall_assets.learning.algorithms.registry import settings_of

        content = read_settings(folder, self.name)
        with readable(folder):
            settings = cast("PoseSequenceSettings", settings_of(self.name, content["settings"]))
            members = [_Member(settings.network()) for _ in range(content["members"])]
            windows = WindowSettings(**content["windows"])
            feature_set = str(content["feature_set"])
        network = PoseSequenceNetwork(members)
        load_state(network, folder)
        return PoseSequenceModel(self.name, settings, network.eval(), feature_set, windows)

    def _drawing(self) -> TrainingSettings:
        own = self.settings
        return TrainingSettings(
            seed=own.seed,
            steps=own.steps,
            batch=own.batch,
            examples=own.examples,
            positive_share=own.positive_share,
            simulated_share=own.simulated_share,
            augmentation=own.augmentation,
        )

    def _member(
        self, bank: ExampleBank, plan: Plan, device: torch.device, progress: Progress | None
    ) -> _Member:
        own = self.settings
        groups = None if plan.folds is None else plan.folds | {EVERY_FOLD}
        numbers = bank.of_groups(groups)
        simulated = bank.group[numbers] == SIMULATED
        share = own.simulated_share
        chances = class_chances(
            bank.target.numpy()[numbers],
            np.ones(len(numbers)),
            own.positive_share,
            ((share, simulated), (1 - share, ~simulated)),
        )
        drawn = torch.from_numpy(draw(numbers, chances, plan.seed, own))
        member = cast("_Member", seeded(plan.seed, lambda: _Member(own.network())))
        some = np.random.default_rng(plan.seed).permutation(numbers)[:_NORMALISED_BY]
        member.normalise(bank.features[some].float())

        def batch_of(step: int) -> Batch:
            return bank.features[drawn[step]].float(), bank.target[drawn[step]]

        trained = fit_network(
            member,
            batch_of,
            own,
            seed=plan.seed,
            device=device,
            feeding=self.feeding,
            progress=progress,
        )
        return cast("_Member", trained)


class PoseGru(_PoseSequence):
    """Settings: `PoseGruSettings`."""

    name: ClassVar[str] = GRU


class PoseTransformer(_PoseSequence):
    """Settings: `PoseTransformerSettings`."""

    name: ClassVar[str] = TRANSFORMER
