"""Fitting one network to examples, on a CPU or a GPU. Loads torch: import it inside functions.

What belongs here: the steps of training that all networks but `pose-tcn` share (whose members
train together, in `learning.training`). What does not: networks, and what their batches are.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fall_assets.learning.algorithms.base import AlgorithmSettings, Progress
from fall_assets.learning.device import AHEAD, Fed, Feeding, Precision, autocast, reproducible
from fall_assets.learning.windows import Wholes

_REPORT_STEPS = 20
_LOG = logging.getLogger(__name__)

Batch = tuple[torch.Tensor, torch.Tensor]
"""What a network sees, and targets (n,) of 0 and 1."""


@dataclass(frozen=True)
class NetworkTraining(AlgorithmSettings):
    """How a network is trained. The same settings and examples: the same network.

    On a CPU bit for bit; on a GPU within rounding, as some of its sums have no fixed order.

    `positive_share` of each batch are falls. `average` is the decay of the moving average of the
    weights, which is what is kept. `precision` is 'auto' (bfloat16 on a GPU) or 'full'.
    """

    steps: int = 300
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    positive_share: float = 0.4
    label_smoothing: float = 0.05
    average: float = 0.98
    threads: int = 1
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or self.threads < 1:
            raise ValueError("wanted are steps >= 1, batch >= 2 and threads >= 1")
        if not (0 < self.positive_share < 1 and 0 <= self.label_smoothing < 0.5):
            raise ValueError("wanted are 0 < positive_share < 1 and 0 <= label_smoothing < 0.5")
        if not 0 <= self.average < 1 or self.learning_rate <= 0:
            raise ValueError("wanted are 0 <= average < 1 and learning_rate above 0")


def draw(
    numbers: Wholes, chances: npt.NDArray[np.float64], seed: int, settings: NetworkTraining
) -> Wholes:
    """Which examples each step sees: (steps, batch) of `numbers`."""
    rng = np.random.default_rng(seed)
    drawn: Wholes = rng.choice(numbers, (settings.steps, settings.batch), p=chances)
    return drawn


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A network whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


@dataclass(frozen=True)
class Group:
    """Some of a network's weights and their share of the learning rate."""

    weights: Sequence[nn.Parameter]
    rate: float = 1.0


def fit_network(
    network: nn.Module,
    batch_of: Callable[[int], Batch],
    settings: NetworkTraining,
    *,
    seed: int,
    device: torch.device,
    feeding: Feeding,
    groups: Sequence[Group] = (),
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
    progress: Progress | None = None,
    ahead: int | None = None,
) -> nn.Module:
    """Train a network for `settings.steps` steps; returns its moving average, on the CPU.

    Args:
        network: gives log odds (n,) of what a batch shows.
        batch_of: the batch of a step by its number; draws from no shared random numbers.
        settings: everything that decides the steps.
        seed: of dropout.
        device: where to train.
        feeding: told how training was fed.
        groups: weights with rates of their own; default: all alike.
        wrap: what the steps go through, such as gradients shared by several processes.
        progress: called with steps done and in all.
        ahead: batches made ahead by a thread; default: some on a GPU, none on a CPU, whose cores
            are busy already.
    """
    feeding.device, feeding.mixed = str(device), settings.precision == "auto"
    feeding.mixed = feeding.mixed and device.type == "cuda"
    ahead = ahead if ahead is not None else AHEAD if device.type == "cuda" else 0
    smooth = settings.label_smoothing
    with reproducible(settings.threads, seed):
        network = network.to(device).train()
        averaged = copy.deepcopy(network).eval().requires_grad_(False)
        trained = wrap(network)
        groups = groups or [Group([w for w in network.parameters() if w.requires_grad])]
        optimiser = torch.optim.AdamW(
            [{"params": list(group.weights), "share": group.rate} for group in groups],
            settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        loss_of = nn.BCEWithLogitsLoss()

        def made(step: int) -> Batch:
            shown, target = batch_of(step)
            if device.type == "cuda":
                # From pinned memory a copy runs beside the GPU's work.
                shown, target = shown.pin_memory(), target.pin_memory()
            return shown, target

        fed = Fed(range(settings.steps), made, feeding, ahead)
        for step, (shown, target) in enumerate(fed):
            for options in optimiser.param_groups:
                share = options["share"] * _rate(step, settings.steps)
                options["lr"] = settings.learning_rate * share
            shown = shown.to(device, non_blocking=True)
            wanted = target.to(device, non_blocking=True).float() * (1 - 2 * smooth) + smooth
            with autocast(device, settings.precision):
                odds = trained(shown)
            loss = loss_of(odds.float(), wanted)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            _move_towards(averaged, network, 1 - settings.average)
            done = step + 1
            if progress is not None and (done % _REPORT_STEPS == 0 or done == settings.steps):
                progress(done, settings.steps)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    _LOG.info(
        "trained on %s for %d steps, waiting for data %.0f %% of the time",
        device,
        settings.steps,
        100 * feeding.waiting_share,
    )
    return averaged.cpu().eval()


def partly(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """Progress of one of several like parts, as progress of the whole."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, parts * total)


def parameters_of(network: nn.Module) -> int:
    """Trained numbers of a network."""
    return sum(weights.numel() for weights in network.parameters())


@torch.no_grad()
def _move_towards(average: nn.Module, network: nn.Module, share: float) -> None:
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, share)
    # Statistics of batches are moving averages already.
    for held, now in zip(average.buffers(), network.buffers(), strict=True):
        held.copy_(now)


def _rate(step: int, steps: int, warm_up: float = 0.1) -> float:
    """Share of the learning rate: a linear warm-up, then half a cosine down."""
    done = (step + 1) / steps
    if done < warm_up:
        return done / warm_up
    return 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up))) + 0.01
