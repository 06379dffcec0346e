"""The temporal network over pose features. Loads torch: import it inside functions.

What belongs here: layers. What does not: training them (`training`), files (`detector`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fall_assets.learning.windows import CHANNELS


@dataclass(frozen=True)
class NetworkSettings:
    """Size of the network: `width` channels per layer, one residual block per dilation.

    Time is halved twice, before the first block and before the second.
    """

    channels: int = CHANNELS
    width: int = 32
    dilations: tuple[int, ...] = (1, 1, 2)
    kernel: int = 3
    dropout: float = 0.2


class TemporalNetwork(nn.Module):
    """Small residual temporal convolution network (TCN).

    Source of the form: Bai, Kolter and Koltun, arXiv 1803.01271, without causal padding, as a
    whole window is seen at once. Pools over time by mean and maximum. The features' mean and
    standard deviation are part of the network, so that they are saved with it.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("mean", torch.zeros(settings.channels))
        self.register_buffer("deviation", torch.ones(settings.channels))
        self.entry = nn.Conv1d(settings.channels, settings.width, 4, padding=1, stride=2)
        self.blocks = nn.ModuleList(
            _Block(settings.width, settings.kernel, dilation, settings.dropout)
            for dilation in settings.dilations
        )
        self.exit = nn.Sequential(
            nn.Linear(3 * settings.width, settings.width),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.width, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Log odds of a fall: (n, samples, channels) -> (n,)."""
        hidden = self.entry(((features - self.mean) / self.deviation).transpose(1, 2))
        for number, block in enumerate(self.blocks):
            if number == 1:
                hidden = F.avg_pool1d(hidden, 2)
            hidden = block(hidden)
        recent = hidden[..., -hidden.shape[-1] // 4 :].mean(dim=2)
        pooled = torch.cat([hidden.mean(dim=2), hidden.amax(dim=2), recent], dim=1)
        odds: Tensor = self.exit(pooled)
        return odds.squeeze(1)


class _Block(nn.Module):
    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.layers = nn.Sequential(
            nn.GroupNorm(1, width),
            nn.GELU(),
            nn.Conv1d(width, width, kernel, padding=padding, dilation=dilation),
            nn.GroupNorm(1, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv1d(width, width, kernel, padding=padding, dilation=dilation),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """(n, width, samples) -> the same shape."""
        change: Tensor = self.layers(hidden)
        return hidden + change
