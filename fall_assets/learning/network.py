"""The temporal network over pose features. Loads torch: import it inside functions.

What belongs here: layers. What does not: training them (`training`), files (`detector`).

A network holds several members of the same form that know nothing of each other: their layers are
batched matrix products, so that an ensemble, or all folds of a cross-validation, train and run
in little more time than one of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fall_assets.learning.windows import CHANNELS


@dataclass(frozen=True)
class NetworkSettings:
    """Size of each member: `width` channels per layer, one residual block per dilation.

    Time is halved twice, before the first block and before the second.
    """

    channels: int = CHANNELS
    width: int = 32
    dilations: tuple[int, ...] = (1, 1, 2)
    kernel: int = 3
    dropout: float = 0.2


class TemporalNetwork(nn.Module):
    """Small residual temporal convolution networks (TCN), one per seed.

    Source of the form: Bai, Kolter and Koltun, arXiv 1803.01271, without causal padding, as a
    whole window is seen at once. Pools over time by mean, maximum and the most recent quarter.
    The features' mean and standard deviation are part of the network, so that they are saved
    with it. A member's first weights depend on its own seed only.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: NetworkSettings, seeds: Sequence[int]) -> None:
        super().__init__()
        self.settings = settings
        self.members = len(seeds)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.register_buffer("mean", torch.zeros(self.members, 1, 1, settings.channels))
        self.register_buffer("deviation", torch.ones(self.members, 1, 1, settings.channels))
        width = settings.width
        self.entry = _Linear(2 * settings.channels, width, generators)
        self.blocks = nn.ModuleList(
            _Block(width, settings.kernel, dilation, generators) for dilation in settings.dilations
        )
        self.hidden = _Linear(3 * width, width, generators)
        self.dropout = nn.Dropout(settings.dropout)
        self.exit = _Linear(width, 1, generators)

    def forward(self, features: Tensor) -> Tensor:
        """Log odds of a fall: (members, n, samples, channels) -> (members, n).

        The first axis may be 1, which shows every member the same windows.
        """
        normal = (features - self.mean) / self.deviation
        members, n, samples, _ = normal.shape
        # Two samples side by side: half the time steps, twice the channels.
        hidden = self.entry(normal[:, :, samples % 2 :].reshape(members, n, samples // 2, -1))
        for number, block in enumerate(self.blocks):
            if number == 1:
                pairs = hidden[:, :, hidden.shape[2] % 2 :]
                hidden = (pairs[:, :, 0::2] + pairs[:, :, 1::2]) / 2
            hidden = block(hidden)
        recent = hidden[:, :, -max(hidden.shape[2] // 4, 1) :].mean(dim=2)
        pooled = torch.cat([hidden.mean(dim=2), hidden.amax(dim=2), recent], dim=-1)
        odds: Tensor = self.exit(self.dropout(F.relu(self.hidden(pooled))))
        return odds.squeeze(-1)

    def pick(self, members: Sequence[int]) -> TemporalNetwork:
        """A network of some of the members, ready to score."""
        picked = TemporalNetwork(self.settings, [0] * len(members))
        chosen = list(members)
        picked.load_state_dict({name: kept[chosen] for name, kept in self.state_dict().items()})
        return picked.eval()

    @classmethod
    def joined(cls, networks: Sequence[TemporalNetwork]) -> TemporalNetwork:
        """The members of several networks of the same form as one network."""
        joined = cls(networks[0].settings, [0] * sum(one.members for one in networks))
        states = [one.state_dict() for one in networks]
        joined.load_state_dict({name: torch.cat([s[name] for s in states]) for name in states[0]})
        return joined.eval()


class _Linear(nn.Module):
    """A linear layer per member: (members, ..., inputs) -> (members, ..., outputs)."""

    def __init__(self, inputs: int, outputs: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        first = [
            torch.empty(inputs, outputs).uniform_(-bound, bound, generator=generator)
            for generator in generators
        ]
        self.weight = nn.Parameter(torch.stack(first))
        self.bias = nn.Parameter(torch.zeros(len(first), 1, outputs))

    def forward(self, values: Tensor) -> Tensor:
        """Apply each member's layer to its values."""
        # The first axis of the values may be 1: every member then sees the same ones.
        values = values.expand(len(self.weight), *values.shape[1:])
        flat = values.flatten(1, -2)
        result = torch.baddbmm(self.bias, flat, self.weight)
        return result.reshape(*values.shape[:-1], result.shape[-1])


class _Norm(nn.Module):
    """Layer normalisation over channels, with a scale and a shift per member."""

    def __init__(self, width: int, members: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(members, 1, 1, width))
        self.shift = nn.Parameter(torch.zeros(members, 1, 1, width))

    def forward(self, values: Tensor) -> Tensor:
        """(members, n, samples, width) -> the same shape."""
        return torch.addcmul(self.shift, F.layer_norm(values, values.shape[-1:]), self.scale)


class _Block(nn.Module):
    def __init__(
        self, width: int, kernel: int, dilation: int, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        members = len(generators)
        self.norms = nn.ModuleList(_Norm(width, members) for _ in range(2))
        self.layers = nn.ModuleList(_Linear(kernel * width, width, generators) for _ in range(2))

    def forward(self, hidden: Tensor) -> Tensor:
        """(members, n, samples, width) -> the same shape."""
        change = hidden
        for norm, layer in zip(self.norms, self.layers, strict=True):
            change = layer(self._neighbours(F.relu(norm(change))))
        return hidden + change

    def _neighbours(self, values: Tensor) -> Tensor:
        """Each sample beside those that a convolution's kernel sees with it."""
        samples = values.shape[2]
        reach = self.dilation * (self.kernel - 1)
        padded = F.pad(values, (0, 0, reach // 2, reach - reach // 2))
        steps = range(0, reach + 1, self.dilation)
        return torch.cat([padded[:, :, step : step + samples] for step in steps], dim=-1)
