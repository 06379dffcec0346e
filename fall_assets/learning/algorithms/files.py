"""Models as folders of two files: `model.json` and tensors or text. No pickle.

What belongs here: writing, reading and checking these files. What does not: what is in them.
Importing this is cheap.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fall_assets.errors import PermanentFailureError
from fall_assets.learning.algorithms.base import Averaged, Model
from fall_assets.learning.windows import WindowSettings

if TYPE_CHECKING:
    import torch

SETTINGS_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
TREES_FILE = "trees.txt"
FORMAT = 1


class ModelFileError(PermanentFailureError):
    """A saved model is missing, damaged, or of another algorithm or format."""


def write_settings(
    folder: Path,
    algorithm: str,
    windows: WindowSettings | None,
    values: Mapping[str, Any],
    content: str | None = None,
) -> None:
    """Write `model.json`, last of all; `content` is the name of the file that goes with it.

    Raises ModelFileError where the folder holds a model already.
    """
    if (folder / SETTINGS_FILE).exists():
        raise ModelFileError(f"{folder} holds a model already: save into a new folder")
    settings = {
        "format": FORMAT,
        "algorithm": algorithm,
        "windows": None if windows is None else asdict(windows),
        **values,
    }
    if content is not None:
        settings["content"] = content
        settings["content_sha256"] = _sha256(folder / content)
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (folder / SETTINGS_FILE).write_text(text)


def read_settings(folder: Path, algorithm: str) -> dict[str, Any]:
    """What `write_settings` wrote; the file that goes with it is checked.

    Raises ModelFileError where anything is missing, changed or of another kind.
    """
    try:
        settings: dict[str, Any] = json.loads((folder / SETTINGS_FILE).read_text())
        if settings["format"] != FORMAT or settings["algorithm"] != algorithm:
            raise ModelFileError(
                f"{folder} holds format {settings['format']} of {settings['algorithm']!r}; wanted "
                f"was format {FORMAT} of {algorithm!r}"
            )
        content = settings.get("content")
        if content is not None and content not in (WEIGHTS_FILE, TREES_FILE):
            raise ModelFileError(f"{folder} names {content!r}, which is no file of a model")
        if content is not None and _sha256(folder / content) != settings["content_sha256"]:
            raise ModelFileError(f"{content} in {folder} was changed: train the model again")
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelFileError(
            f"{folder} holds no readable model of {algorithm} ({error}): save it again"
        ) from error
    return settings


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Make of settings that are missing or wrong a ModelFileError that names the folder."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{folder} holds no readable model ({error})") from error


def write_tensors(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a state dict as safetensors."""
    from safetensors.torch import save_file

    plain = {name: kept.detach().cpu().contiguous().clone() for name, kept in tensors.items()}
    save_file(plain, folder / WEIGHTS_FILE)


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Read a state dict. Raises ModelFileError where the file is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{folder} holds no readable weights ({error})") from error
    return tensors


def load_state(network: torch.nn.Module, folder: Path) -> None:
    """Give a network the weights in a folder. Raises ModelFileError where they do not fit."""
    try:
        network.load_state_dict(read_tensors(folder))
    except RuntimeError as error:
        raise ModelFileError(
            f"the weights in {folder} do not fit the network that its settings name "
            f"({str(error).splitlines()[0]}): train the model again"
        ) from error


def load_any(folder: Path, load_one: Callable[[Path], Model]) -> Model:
    """One model, or several that `Averaged.save` wrote into folders of their own."""
    parts = sorted(part for part in folder.glob("[0-9][0-9]") if part.is_dir())
    if (folder / SETTINGS_FILE).exists() or not parts:
        return load_one(folder)
    return Averaged(tuple(load_any(part, load_one) for part in parts))


def together(models: list[Model]) -> Model:
    """Several models as one, which is the model itself where there is but one."""
    return models[0] if len(models) == 1 else Averaged(tuple(models))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
