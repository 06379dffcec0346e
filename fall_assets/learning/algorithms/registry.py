"""The list of algorithms, and their settings from plain values.

What belongs here: names. Importing it is cheap; an algorithm's module is imported when it is used,
most load torch.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from fall_assets.errors import PermanentFailureError
from fall_assets.learning.algorithms.base import Algorithm, AlgorithmSettings

_HERE = "fall_assets.learning"


@dataclass(frozen=True)
class _Entry:
    """Where an algorithm and its settings are defined, and what it is in a few words."""

    algorithm: str
    settings: str
    meaning: str


ALGORITHMS: Mapping[str, _Entry] = {
    "pose-tcn": _Entry(
        f"{_HERE}.algorithms.pose_tcn:PoseTcn",
        f"{_HERE}.training:TrainingSettings",
        "temporal convolution network over pose features",
    ),
    "pose-gru": _Entry(
        f"{_HERE}.algorithms.pose_sequence:PoseGru",
        f"{_HERE}.algorithms.pose_sequence:PoseGruSettings",
        "recurrent network over pose features",
    ),
    "pose-transformer": _Entry(
        f"{_HERE}.algorithms.pose_sequence:PoseTransformer",
        f"{_HERE}.algorithms.pose_sequence:PoseTransformerSettings",
        "transformer over pose features",
    ),
    "motion-boosting": _Entry(
        f"{_HERE}.algorithms.motion_boosting:MotionBoosting",
        f"{_HERE}.algorithms.motion_boosting:MotionBoostingSettings",
        "gradient-boosted trees over statistics of motion",
    ),
    "embedding-tcn": _Entry(
        f"{_HERE}.algorithms.embedding_tcn:EmbeddingTcn",
        f"{_HERE}.algorithms.embedding_tcn:EmbeddingTcnSettings",
        "temporal convolution network over a backbone's embeddings",
    ),
    "video-network": _Entry(
        f"{_HERE}.algorithms.video_network:VideoFineTuning",
        f"{_HERE}.algorithms.video_network:VideoSettings",
        "torchvision video network fine-tuned on frames",
    ),
    "ensemble": _Entry(
        f"{_HERE}.algorithms.ensemble:Ensemble",
        f"{_HERE}.algorithms.ensemble:EnsembleSettings",
        "several algorithms, the mean of their log odds",
    ),
}


class AlgorithmError(PermanentFailureError):
    """There is no such algorithm, or it has no such setting."""


def settings_of(name: str, values: Mapping[str, Any] | None = None) -> AlgorithmSettings:
    """Settings of an algorithm from plain values, as JSON or TOML holds them; the rest by default.

    Raises AlgorithmError for unknown names and values of another type.
    """
    made: AlgorithmSettings = _from_values(_loaded(_entry(name).settings), values or {}, name)
    return made


def build(name: str, settings: AlgorithmSettings) -> Algorithm:
    """The algorithm under its settings."""
    return cast("Algorithm", _loaded(_entry(name).algorithm)(settings))


def as_values(settings: AlgorithmSettings) -> dict[str, Any]:
    """Settings as plain values; `settings_of` makes the same settings of them."""
    return asdict(settings)


def _entry(name: str) -> _Entry:
    if name not in ALGORITHMS:
        raise AlgorithmError(
            f"there is no algorithm {name!r}; there are: {', '.join(sorted(ALGORITHMS))}"
        )
    return ALGORITHMS[name]


def _loaded(address: str) -> Any:
    module, name = address.split(":")
    return getattr(importlib.import_module(module), name)


def _from_values(made: Any, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass of plain values, tuples and further dataclasses."""
    hints = typing.get_type_hints(made)
    fields = {one.name: hints[one.name] for one in dataclasses.fields(made) if one.init}
    unknown = [name for name in values if name not in fields]
    if unknown:
        raise AlgorithmError(
            f"{where} has no setting {', '.join(unknown)}; there are: {', '.join(fields)}"
        )
    given = {name: _value(fields[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return made(**given)
    except (TypeError, ValueError) as error:
        raise AlgorithmError(f"settings of {where}: {error}") from error


def _value(wanted: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(wanted)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in typing.get_args(wanted):
            return None
        (wanted,) = (one for one in typing.get_args(wanted) if one is not type(None))
        origin = typing.get_origin(wanted)
    if dataclasses.is_dataclass(wanted):
        if not isinstance(value, Mapping):
            raise AlgorithmError(f"{where} is {value!r}, wanted settings by name")
        return _from_values(wanted, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise AlgorithmError(f"{where} is {value!r}, wanted a list")
        (item, *_) = typing.get_args(wanted)
        return tuple(_value(item, one, where) for one in value)
    if origin is typing.Literal:
        if value not in typing.get_args(wanted):
            choices = ", ".join(repr(one) for one in typing.get_args(wanted))
            raise AlgorithmError(f"{where} is {value!r}, wanted one of {choices}")
        return value
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise AlgorithmError(f"{where} is {value!r}, wanted settings by name")
        return dict(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))
    if not plain:
        raise AlgorithmError(f"{where} is {value!r}, wanted {wanted.__name__}")
    return value
