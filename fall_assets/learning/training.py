"""Training of the temporal network. Loads torch: import it inside functions.

What belongs here: from windows to a detector. What does not: which windows belong to which fold
and the choice of a threshold (`evaluate`).

The cost is a number of steps, not of passes over the data: more footage makes a model better, not
slower to train. Rare falls are drawn as often as `positive_share` says, however few there are.
Augmented examples are made once, in an `ExampleBank`, and shared by all networks that are trained
on parts of the same footage, because making features costs more than learning from them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fall_assets.errors import PermanentFailureError
from fall_assets.learning.algorithms.base import AlgorithmSettings
from fall_assets.learning.augmentation import AugmentationSettings, augment
from fall_assets.learning.detector import Detector
from fall_assets.learning.device import choose_device
from fall_assets.learning.network import NetworkSettings, TemporalNetwork
from fall_assets.learning.windows import (
    CHANNELS,
    Wholes,
    WindowSet,
    WindowSettings,
    pose_features,
)

SIMULATED = -1
"""Group of the simulated windows in a bank; they take part in every training."""

_CHUNK = 1024
_DRAWN = 2
"""So often a network draws each example on average, at most."""
_REPORT_STEPS = 20
_MINED = 8192
"""So many examples are looked through for hard ones."""
_MINE_AT = 0.4
"""Share of the steps after which they are sought: a network that knows little finds all hard."""


class TooLittleDataError(PermanentFailureError):
    """There is nothing, or nothing of one class, to learn from."""


@dataclass(frozen=True)
class TrainingSettings(AlgorithmSettings):
    """How a detector is trained. Same settings, windows and machine: the same detector.

    `positive_share` of each batch are falls; `simulated_share` of each batch are simulated
    windows, where there are any. `hard_share` of the windows without a fall are drawn, once
    training is well under way, by how much they look like one to the network. `networks` networks
    of different seeds are averaged. `examples` augmented windows are made to draw from, or more
    (see `bank_size`). `average` is the decay of the moving average of the weights, which is what is
    kept. More than one of `threads` only helps on an idle machine: batches are small, and waiting
    for a busy core costs more than it brings.
    """

    steps: int = 1000
    batch: int = 64
    examples: int = 32_000
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    positive_share: float = 0.4
    simulated_share: float = 0.7
    label_smoothing: float = 0.05
    hard_share: float = 0.3
    average: float = 0.98
    networks: int = 3
    threads: int = 1
    network: NetworkSettings = field(default_factory=NetworkSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)

    @property
    def bank_size(self) -> int:
        """Augmented windows to make: a network draws each twice on average, or less often.

        More steps on the same examples learn those by heart. Of 2,400 held-out films of the world
        of `benchmarks.closed_loop`, networks of 1,600 steps made 63 errors at their best threshold
        where each example was drawn 3.2 times, and 37 where it was drawn twice, or once.
        """
        return max(self.examples, self.steps * self.batch // _DRAWN)


@dataclass(frozen=True)
class ExampleBank:
    """Augmented windows as features: `features` float16 (n, samples, channels), `target` (n,).

    `group` (n,) is the group of the window that an example was made of, or `SIMULATED`.
    """

    features: torch.Tensor
    target: torch.Tensor
    group: Wholes

    def __len__(self) -> int:
        return len(self.group)

    def of_groups(self, groups: frozenset[int] | None) -> Wholes:
        """Numbers of the examples of some groups (None: of all), and of the simulated ones."""
        if groups is None:
            return np.arange(len(self))
        return np.flatnonzero(np.isin(self.group, [*groups, SIMULATED]))


def make_bank(
    windows: WindowSet,
    settings: TrainingSettings,
    *,
    simulated: WindowSet | None = None,
    window_settings: WindowSettings | None = None,
) -> ExampleBank:
    """Draw and augment `settings.bank_size` windows; the windows' weights decide which.

    Raises:
        TooLittleDataError: without a fall or without a window that holds none.
    """
    rng = np.random.default_rng(settings.seed)
    gap = (window_settings or WindowSettings()).max_gap
    pools = [windows]
    if simulated is not None and settings.simulated_share > 0:
        pools.append(replace(simulated, group=np.full(len(simulated), SIMULATED, np.int64)))
    everything = WindowSet.concatenate(pools)
    _check_classes(everything.target)
    chances = _chances(everything.target, everything.group, everything.weight, settings)
    chosen = rng.choice(len(everything), settings.bank_size, p=chances)
    samples = everything.keypoints.shape[1]
    features = torch.empty((len(chosen), samples, CHANNELS), dtype=torch.float16)
    for start in range(0, len(chosen), _CHUNK):
        part = chosen[start : start + _CHUNK]
        aspect = everything.aspect[part]
        points = augment(everything.keypoints[part], aspect, settings.augmentation, rng)
        features[start : start + _CHUNK] = torch.from_numpy(pose_features(points, aspect, gap))
    target = torch.from_numpy(everything.target[chosen].astype(np.float32))
    return ExampleBank(features, target, everything.group[chosen])


def train(
    windows: WindowSet,
    settings: TrainingSettings,
    *,
    feature_set: str,
    simulated: WindowSet | None = None,
    window_settings: WindowSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Detector:
    """Train a detector; its threshold is left at 0.5.

    Args:
        windows: labelled windows of real (or recorded) footage.
        settings: everything that decides the result, the seed among it.
        feature_set: version of the feature set that the windows come from.
        simulated: further windows to mix in.
        window_settings: how the windows were cut.
        progress: called with steps done and steps in all.

    Raises:
        TooLittleDataError: without a fall or without a window that holds none.
    """
    bank = make_bank(windows, settings, simulated=simulated, window_settings=window_settings)
    return train_on(
        bank,
        settings,
        feature_set=feature_set,
        window_settings=window_settings,
        progress=progress,
    )


def train_on(
    bank: ExampleBank,
    settings: TrainingSettings,
    *,
    feature_set: str,
    window_settings: WindowSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Detector:
    """The same from a bank, of which all examples are used."""
    plans = [(settings.seed * 1000 + number, None) for number in range(settings.networks)]
    return Detector(
        train_members(bank, plans, settings, progress),
        feature_set,
        window_settings or WindowSettings(),
        training={"settings": asdict(settings)},
    )


def train_members(
    bank: ExampleBank,
    plans: Sequence[tuple[int, frozenset[int] | None]],
    settings: TrainingSettings,
    progress: Callable[[int, int], None] | None = None,
) -> TemporalNetwork:
    """Train one member per plan, all at the same time and each on its own examples.

    A plan is a seed and the groups to learn from (None: all); simulated examples teach everybody.

    Raises:
        TooLittleDataError: where a plan leaves no fall, or nothing else, to learn from.
    """
    network = TemporalNetwork(settings.network, [seed for seed, _ in plans])
    draws = []
    for member, (seed, groups) in enumerate(plans):
        rng = np.random.default_rng(seed)
        indices = bank.of_groups(groups)
        targets = bank.target.numpy()[indices]
        _check_classes(targets)
        chances = _chances(targets, bank.group[indices], np.ones(len(indices)), settings)
        draws.append(_Draws(rng, indices, targets > 0, chances))
        _normalise(network, member, bank.features[rng.permutation(indices)[:_CHUNK]].float())
    with _reproducible(settings.threads, settings.seed):
        return _fit(network, bank, draws, settings, progress)


@dataclass
class _Draws:
    """What one member is shown: examples `indices` by their `chances`, from its own `rng`."""

    rng: np.random.Generator
    indices: Wholes
    falls: npt.NDArray[np.bool_]
    chances: npt.NDArray[np.float64]

    def batches(self, count: int, batch: int) -> Wholes:
        """Numbers of the examples of so many batches: (count, batch)."""
        return self.rng.choice(self.indices, (count, batch), p=self.chances)

    def candidates(self) -> Wholes:
        """Examples without a fall of which the hardest are sought, as they would be drawn."""
        calm = np.where(self.falls, 0, self.chances)
        return self.rng.choice(self.indices, _MINED, p=calm / calm.sum())

    def harder(self, examples: Wholes, score: npt.NDArray[np.float64], share: float) -> None:
        """From now on `share` of those without a fall are drawn of `examples` by their score."""
        calm = ~self.falls
        mined = np.bincount(examples, score, int(self.indices.max()) + 1)[self.indices]
        total = self.chances[calm].sum()
        self.chances = np.where(calm, (1 - share) * self.chances, self.chances)
        self.chances += share * total * mined / mined.sum()
        self.chances /= self.chances.sum()


def _fit(
    network: TemporalNetwork,
    bank: ExampleBank,
    plans: Sequence[_Draws],
    settings: TrainingSettings,
    progress: Callable[[int, int], None] | None,
) -> TemporalNetwork:
    smooth = settings.label_smoothing
    # A GPU where there is one; the bank is small enough to lie there whole.
    device = choose_device()
    network = network.to(device)
    features, targets = (one.to(device) for one in (bank.features, bank.target))
    steps = settings.steps
    mines = round(_MINE_AT * steps) if settings.hard_share else steps

    def drawn(count: int) -> torch.Tensor:
        batches = [plan.batches(count, settings.batch) for plan in plans]
        return torch.from_numpy(np.stack(batches, axis=1)).to(device)

    draws = drawn(mines)
    # Members share no weights and Adam works on each weight alone: training them on the sum of
    # their losses is training each of them on its own.
    loss_of = nn.BCEWithLogitsLoss(reduction="sum")
    optimiser = torch.optim.AdamW(
        network.parameters(),
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    averaged = copy.deepcopy(network).eval()
    network.train()
    for step in range(steps):
        if step == mines:
            _mine(averaged, features, plans, settings.hard_share)
            draws = torch.cat([draws, drawn(steps - mines)])
        batch = draws[step]
        for options in optimiser.param_groups:
            options["lr"] = settings.learning_rate * _rate(step, steps)
        target = targets[batch] * (1 - 2 * smooth) + smooth
        loss = loss_of(network(features[batch].float()), target) / settings.batch
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        _move_towards(averaged, network, 1 - settings.average)
        if progress is not None and ((step + 1) % _REPORT_STEPS == 0 or step + 1 == steps):
            progress(step + 1, steps)
    return averaged.cpu()


@torch.no_grad()
def _mine(
    network: TemporalNetwork, features: torch.Tensor, plans: Sequence[_Draws], share: float
) -> None:
    """Let each member see more of what it takes for a fall and is none."""
    examples = np.stack([plan.candidates() for plan in plans])
    numbers = torch.from_numpy(examples).to(features.device)
    odds = [network(features[part].float()) for part in torch.split(numbers, _CHUNK, dim=1)]
    score = torch.sigmoid(torch.cat(odds, dim=1)).double().cpu().numpy()
    for plan, own, scores in zip(plans, examples, score, strict=True):
        plan.harder(own, scores, share)


def _chances(
    target: Wholes | npt.NDArray[np.float32],
    group: Wholes,
    weight: npt.NDArray[np.floating[Any]],
    settings: TrainingSettings,
) -> npt.NDArray[np.float64]:
    """Chance of each window to be drawn: by class, by origin, by its own weight."""
    chances = np.zeros(len(target), np.float64)
    simulated = group == SIMULATED
    for falls, class_share in (
        (True, settings.positive_share),
        (False, 1 - settings.positive_share),
    ):
        for drawn, share in (
            (simulated, settings.simulated_share),
            (~simulated, 1 - settings.simulated_share),
        ):
            stratum = drawn & ((target > 0) == falls)
            total = weight[stratum].sum()
            if total > 0:
                chances[stratum] = weight[stratum] / total * class_share * share
    total = chances.sum()
    return np.asarray(chances / total)


def _check_classes(target: npt.NDArray[Any]) -> None:
    for wanted, name in ((1, "a fall"), (0, "no fall")):
        if not (target == wanted).any():
            raise TooLittleDataError(
                f"none of {len(target)} windows to learn from holds {name}: label more footage, "
                "or mix in simulated windows"
            )


def _normalise(network: TemporalNetwork, member: int, features: torch.Tensor) -> None:
    flat = features.flatten(0, 1)
    network.mean[member] = flat.mean(dim=0)
    network.deviation[member] = flat.std(dim=0).clamp(min=0.05)


@torch.no_grad()
def _move_towards(average: nn.Module, network: nn.Module, share: float) -> None:
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, share)


def _rate(step: int, steps: int, warm_up: float = 0.1) -> float:
    """Share of the learning rate: a linear warm-up, then half a cosine down."""
    done = (step + 1) / steps
    if done < warm_up:
        return done / warm_up
    return 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up))) + 0.01


@contextmanager
def _reproducible(threads: int, seed: int) -> Iterator[None]:
    """A fixed number of threads, and the caller's random numbers left as they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)
