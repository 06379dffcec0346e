"""Backbones: networks that turn a batch of pictures into one row of values each.

Imports torch: to be imported only where an embedding is built. What belongs here: building a
backbone with its weights, and running it. What does not: which samples it sees (`embedding`), and
finding weights (`weights`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fall_assets.errors import PermanentFailureError
from fall_assets.features.extractors import efficientnet_lite
from fall_assets.features.extractors.weights import load_tensors, require_weights
from fall_assets.features.settings import LITE0, EmbeddingSettings

MAX_WIDTH = 4096
"""More values per sample than this are refused: an hour of them would not be compact."""

THREADS = 1
"""Segments are worked on in several processes, which would take each other's cores."""

# Of torchvision's networks, in shares of the full range (their `transforms()` say so).
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TRIALS = ((96, 128), (128, 160))


def best_device() -> torch.device:
    """The GPU if torch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Backbone:
    """A network with its weights on a device; `width` values per picture."""

    def __init__(
        self,
        settings: EmbeddingSettings,
        weights: Path | None,
        *,
        device: torch.device | None = None,
    ) -> None:
        """`weights` is what `locate_weights` gave: None for random ones, and only for these."""
        if weights is None and settings.weights != "random":
            raise PermanentFailureError(
                f"no file holds the weights {settings.weights!r} of {settings.backbone}; random "
                "ones are only used where the settings say weights='random'"
            )
        if weights is not None:
            require_weights(settings, weights)
        self.device = device or best_device()
        # Whatever is drawn here must not shift the random numbers of the process.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            if settings.backbone == LITE0:
                network, mean, std = _lite0(weights)
            else:
                network, mean, std = _torchvision(settings.backbone, weights)
            if weights is None:
                with _taking_any_shape(settings.backbone):
                    _settle(network)
        self._network = network.eval().requires_grad_(False).to(self.device)
        self._mean = mean.to(self.device)
        self._std = std.to(self.device)
        self._name = settings.backbone
        self.width = self._measured_width()

    def embed(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Values (n, width) of pictures (n, height, width, 3), RGB, 0 to 255.

        Raises PermanentFailureError where they are not finite: the weights are no good then.
        """
        with torch.inference_mode(), _threads(THREADS):
            # The channels stay last in memory, as the convolutions like them.
            batch = torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2).float()
            values: Tensor = self._network((batch - self._mean) / self._std).flatten(1)
            found: NDArray[np.float32] = values.float().cpu().numpy()
        if not np.isfinite(found).all():
            raise PermanentFailureError(
                f"{self._name} yields values that are not finite; its weights are damaged or "
                "belong to another network"
            )
        return found

    def _measured_width(self) -> int:
        widths = set()
        for height, width in _TRIALS:
            with _taking_any_shape(self._name):
                widths.add(self.embed(np.zeros((1, height, width, 3), np.uint8)).shape[1])
        if len(widths) > 1 or max(widths) > MAX_WIDTH:
            raise PermanentFailureError(
                f"{self._name} yields {sorted(widths)} values per picture, not one number of at "
                f"most {MAX_WIDTH}; use one such as {LITE0}, mobilenet_v3_small or resnet18"
            )
        return widths.pop()


def _lite0(weights: Path | None) -> tuple[nn.Module, Tensor, Tensor]:
    network = efficientnet_lite.EfficientNetLite0()
    if weights is not None:
        _load(network, load_tensors(weights), weights)
    else:
        efficientnet_lite.initialise(network, torch.default_generator)
    return network, torch.tensor(efficientnet_lite.MEAN), torch.tensor(efficientnet_lite.STD)


def _torchvision(name: str, weights: Path | None) -> tuple[nn.Module, Tensor, Tensor]:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise PermanentFailureError(
            f"torchvision has no classification network {name!r}; name one that "
            f"torchvision.models.list_models(module=torchvision.models) lists, or {LITE0}"
        )
    network: nn.Module = models.get_model(name, weights=None)
    layers = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise PermanentFailureError(
            f"{name} has no last linear layer whose input could be the embedding; use one such as "
            f"{LITE0}, mobilenet_v3_small or resnet18"
        )
    parent, _, last = layers[-1].rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    if weights is not None:
        tensors = load_tensors(weights)
        # Weights of a network that was trained on other classes differ here, and here only.
        for part in ("weight", "bias"):
            tensors.pop(f"{layers[-1]}.{part}", None)
        _load(network, tensors, weights)
    mean, std = torch.tensor(_IMAGENET_MEAN), torch.tensor(_IMAGENET_STD)
    return network, 255 * mean.reshape(3, 1, 1), 255 * std.reshape(3, 1, 1)


def _settle(network: nn.Module) -> None:
    """Set the norms of random weights by what they see of random pictures.

    Without that, what passes through a deep network vanishes, or grows beyond half precision.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    network.eval()
    for norm in norms:
        norm.train().momentum = None  # the mean of all that it sees
    with torch.no_grad(), _threads(THREADS):
        network(functional.interpolate(torch.randn(8, 3, 8, 10), scale_factor=16, mode="bilinear"))
    for norm in norms:
        norm.eval()


def _load(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:400]
        raise PermanentFailureError(
            f"{path} does not hold the weights of this backbone: {said}; name the backbone that "
            "the file belongs to"
        ) from None


@contextmanager
def _taking_any_shape(name: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as error:
        raise PermanentFailureError(
            f"{name} does not take pictures of any shape ({error}); use a convolutional network "
            f"such as {LITE0}, mobilenet_v3_small or resnet18"
        ) from None


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
