"""Attempts: everything that decides one try at a detector, as plain values, and grids of them.

What belongs here: what an attempt is, its identity, which attempts a grid makes, and the facts
about the environment that are recorded with each. What does not: running them
(`pipeline.experiments`), the tracking store (`tracking`). Importing this is cheap.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

from fall_assets.errors import PermanentFailureError
from fall_assets.features.settings import KINDS, FeatureSettings
from fall_assets.learning.algorithms import registry
from fall_assets.learning.algorithms.base import AlgorithmSettings, InputKind
from fall_assets.learning.events import EventSettings
from fall_assets.learning.windows import WindowSettings

if TYPE_CHECKING:
    from fall_assets.learning.evaluate import LearningSettings

RECORDED = (
    "torch",
    "torchvision",
    "numpy",
    "polars",
    "lightgbm",
    "safetensors",
    "deltalake",
    "av",
    "ai-edge-litert",
)
"""Packages whose versions can change a result."""


class GridError(PermanentFailureError):
    """A grid holds something that no attempt can be made of."""


@dataclass(frozen=True)
class AttemptSettings:
    """Everything that decides an attempt beside its training set.

    Attributes:
        algorithm: its name in `algorithms.registry`.
        training: its settings, the seed among them.
        features: the feature sets that it looks at, at most one of each kind; none where it looks
            at the films themselves.
        windows: how windows are cut; `rate_hz` is the pose set's `sample_hz`.
        events: when scores become an alarm.
        max_false_alarms_per_hour: where set, thresholds keep to it on the folds they are chosen on.
        simulated_windows: so many simulated windows are mixed in; `training.seed` draws them.
        max_ordinary_alarms_per_hour: where set, thresholds are raised by simulated ordinary life.
        missed_fall_cost: where thresholds are chosen, so many false alarms weigh as a missed fall.
    """

    algorithm: str
    training: AlgorithmSettings
    features: tuple[FeatureSettings, ...] = ()
    windows: WindowSettings = field(default_factory=WindowSettings)
    events: EventSettings = field(default_factory=EventSettings)
    max_false_alarms_per_hour: float | None = None
    simulated_windows: int = 0
    max_ordinary_alarms_per_hour: float | None = None
    missed_fall_cost: float = 1.0

    def __post_init__(self) -> None:
        kinds = [one.extractor.kind for one in self.features]
        if len(set(kinds)) < len(kinds):
            raise GridError(f"an attempt looks at one feature set of a kind, not at {kinds}")
        if {"motion", "embedding"} <= set(kinds):
            raise GridError("an attempt looks at motion or at embeddings, not at both: choose one")

    @property
    def learning(self) -> LearningSettings:
        """What `evaluate.cross_validate` takes."""
        from fall_assets.learning.evaluate import LearningSettings

        return LearningSettings(
            self.training,
            self.windows,
            self.events,
            self.max_false_alarms_per_hour,
            self.algorithm,
            self.max_ordinary_alarms_per_hour,
            self.missed_fall_cost,
        )

    @property
    def needs(self) -> frozenset[InputKind]:
        """What the algorithm looks at. Loads it."""
        return needs_of(self.algorithm, self.training)

    def set_of(self, kind: str) -> FeatureSettings | None:
        """The feature set of a kind, if there is one."""
        return next((one for one in self.features if one.extractor.kind == kind), None)

    def check(self) -> None:
        """Raise GridError where the algorithm looks at what no feature set holds. Loads it."""
        for kind in sorted(self.needs - {"frames"}):
            if self.set_of(kind) is None:
                raise GridError(
                    f"{self.algorithm} looks at {kind}, and the attempt has no such feature set: "
                    "add one"
                )
        pose = self.set_of("pose")
        if pose is not None and not math.isclose(pose.sample_hz, self.windows.rate_hz):
            raise GridError(
                f"windows of {self.windows.rate_hz} samples per second cannot be cut of feature "
                f"set {pose.version}, which has {pose.sample_hz}: make them the same"
            )

    def with_training(self, values: Mapping[str, Any]) -> AttemptSettings:
        """The same with some of the algorithm's settings changed; nested ones as mappings."""
        merged = merge(registry.as_values(self.training), values)
        return replace(self, training=registry.settings_of(self.algorithm, merged))

    def as_values(self) -> dict[str, Any]:
        """As plain values, for JSON; `from_values` turns them back."""
        return {
            "algorithm": self.algorithm,
            "training": registry.as_values(self.training),
            "features": [one.as_dict() for one in self.features],
            "windows": asdict(self.windows),
            "events": asdict(self.events),
            "max_false_alarms_per_hour": self.max_false_alarms_per_hour,
            "simulated_windows": self.simulated_windows,
            "max_ordinary_alarms_per_hour": self.max_ordinary_alarms_per_hour,
            # Told where it is not the usual: attempts of before it was a setting keep their names.
            **({} if self.missed_fall_cost == 1.0 else {"missed_fall_cost": self.missed_fall_cost}),
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> AttemptSettings:
        """From plain values; what is missing has its default.

        Raises GridError or AlgorithmError for unknown names and values of another type.
        """
        known = {one.name for one in dataclasses.fields(cls)}
        _refuse_unknown(values, known, "an attempt")
        if "algorithm" not in values:
            raise GridError(f"an attempt needs an algorithm; there are: {_algorithms()}")
        algorithm = str(values["algorithm"])
        limit, ordinary = (
            None if values.get(name) is None else float(values[name])
            for name in ("max_false_alarms_per_hour", "max_ordinary_alarms_per_hour")
        )
        return cls(
            algorithm,
            registry.settings_of(algorithm, values.get("training") or {}),
            tuple(FeatureSettings.from_dict(one) for one in values.get("features", ())),
            _plain(WindowSettings, values.get("windows", {}), "windows"),
            _plain(EventSettings, values.get("events", {}), "events"),
            limit,
            int(values.get("simulated_windows", 0)),
            ordinary,
            float(values.get("missed_fall_cost", 1.0)),
        )

    def identity(self, training_set_id: str) -> str:
        """16 hex digits of a hash over the settings, the feature sets' versions and the set.

        Versions of feature sets hold the extraction's revision. Versions of tables are no part of
        it: the rows of a feature set of a segment never change.
        """
        content = {
            **self.as_values(),
            "feature_sets": [one.version for one in self.features],
            "training_set_id": training_set_id,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """What tells it from the defaults, for tables and plots."""
        defaults = registry.as_values(registry.settings_of(self.algorithm))
        parts = [self.algorithm]
        for one in self.features:
            usual = FeatureSettings(extractor=KINDS[one.extractor.kind]()).as_dict()
            parts += differences(usual, one.as_dict())
        own = registry.as_values(self.training)
        seed = own.pop("seed")
        defaults.pop("seed")
        parts += differences(defaults, own)
        # The rate and what hangs on it follow from the feature set.
        usual_windows = asdict(windows_at(self.windows.rate_hz))
        parts += differences(usual_windows, asdict(self.windows))
        parts += differences(asdict(EventSettings()), asdict(self.events))
        if self.max_false_alarms_per_hour is not None:
            parts.append(f"at most {self.max_false_alarms_per_hour:g}/h")
        if self.missed_fall_cost != 1.0:
            parts.append(f"a missed fall as {self.missed_fall_cost:g} false alarms")
        return ", ".join([*parts, f"seed {seed}"])


@dataclass(frozen=True)
class GridBlock:
    """A product of settings: every algorithm with every training, picture, rate and seed.

    Attributes:
        algorithms: names.
        training: settings of the algorithms, one mapping for each variant; a setting that one of
            the block's algorithms does not have is an error.
        pictures: image settings (`PictureSettings`), one mapping for each variant.
        sample_hz: pictures per second.
        extractors: settings of extractors by kind, where not the default ones.
        seeds: seeds of training.
    """

    algorithms: tuple[str, ...]
    training: tuple[Mapping[str, Any], ...] = ({},)
    pictures: tuple[Mapping[str, Any], ...] = ({},)
    sample_hz: tuple[float, ...] = (10.0,)
    extractors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class GridSettings:
    """A study: blocks of attempts that share windows, events and simulated footage.

    `simulated_windows` None leaves their number to the site's settings.
    """

    study: str = "grid"
    blocks: tuple[GridBlock, ...] = ()
    events: Mapping[str, Any] = field(default_factory=dict)
    windows: Mapping[str, Any] = field(default_factory=dict)
    max_false_alarms_per_hour: float | None = None
    simulated_windows: int | None = None

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> GridSettings:
        """From plain values, as Dagster's configuration, TOML or JSON hold them.

        Raises GridError for unknown names and values of another type.
        """
        _refuse_unknown(values, {one.name for one in dataclasses.fields(cls)}, "a grid")
        parts = dict(values)
        blocks = parts.pop("blocks", ())
        if not isinstance(blocks, list | tuple):
            raise GridError("blocks of a grid must be a list of blocks")
        return cls(**parts, blocks=tuple(_block(one) for one in blocks))

    def as_values(self) -> dict[str, Any]:
        """As plain values; `from_values` turns them back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def attempts(self, simulated_windows: int = 0) -> list[AttemptSettings]:
        """All attempts, each once, in order. Loads the algorithms.

        `simulated_windows` is taken where the grid does not say.

        Raises GridError, AlgorithmError or PermanentFailureError where one cannot be made.
        """
        wanted = self.simulated_windows
        mixed_in = simulated_windows if wanted is None else wanted
        made: dict[str, AttemptSettings] = {}
        for block in self.blocks:
            for one in self._of_block(block, mixed_in):
                made.setdefault(one.identity(""), one)
        if not made:
            raise GridError("the grid holds no attempts: name algorithms in its blocks")
        return list(made.values())

    def _of_block(self, block: GridBlock, simulated_windows: int) -> Iterator[AttemptSettings]:
        variants = itertools.product(
            block.algorithms, block.pictures, block.sample_hz, block.training, block.seeds
        )
        for algorithm, picture, rate_hz, values, seed in variants:
            training = registry.settings_of(algorithm, {**values, "seed": seed})
            needs = needs_of(algorithm, training)
            features = tuple(
                FeatureSettings.from_dict(
                    {
                        "extractor": {"kind": kind, **block.extractors.get(kind, {})},
                        "picture": dict(picture),
                        "sample_hz": rate_hz,
                    }
                )
                for kind in sorted(needs - {"frames"})
            )
            attempt = AttemptSettings(
                algorithm,
                training,
                features,
                _plain(
                    WindowSettings,
                    {**asdict(windows_at(rate_hz)), **self.windows},
                    "windows",
                ),
                _plain(EventSettings, self.events, "events"),
                self.max_false_alarms_per_hour,
                simulated_windows if "pose" in needs else 0,
            )
            attempt.check()
            yield attempt


def default_grid() -> GridSettings:
    """The ready grid: what pose gains and loses by image settings, and the other algorithms."""
    return GridSettings(
        "default",
        (
            GridBlock(
                ("pose-tcn",),
                pictures=(
                    {},
                    {"colour": False},
                    {"sharpness": 1.0},
                    {"brightness": -0.25},
                    {"contrast": 1.5},
                    {"long_side": 128},
                ),
            ),
            GridBlock(("pose-tcn",), sample_hz=(5.0,)),
            *(
                GridBlock((name,))
                for name in ("pose-gru", "pose-transformer", "motion-boosting", "embedding-tcn")
                if name in registry.ALGORITHMS
            ),
        ),
    )


def smoke_grid() -> GridSettings:
    """Two attempts of seconds: to see that everything works."""
    quick = {"steps": 30, "batch": 16, "examples": 400, "networks": 1}
    return GridSettings("smoke", (GridBlock(("pose-tcn",), training=(quick,), seeds=(0, 1)),))


GRIDS = {"default": default_grid, "smoke": smoke_grid}
"""The ready grids by name."""


def ready_grid(name: str) -> GridSettings:
    """A ready grid by its name. Raises GridError where there is none."""
    if name not in GRIDS:
        raise GridError(f"there is no ready grid {name!r}; there are: {', '.join(sorted(GRIDS))}")
    return GRIDS[name]()


def needs_of(algorithm: str, training: AlgorithmSettings) -> frozenset[InputKind]:
    """What an algorithm under its settings looks at. Loads it."""
    return registry.build(algorithm, training).needs


def windows_at(rate_hz: float) -> WindowSettings:
    """The usual windows at another rate: as many seconds seen, as many seconds of gap."""
    usual = WindowSettings()
    share = rate_hz / usual.rate_hz
    return replace(
        usual,
        rate_hz=rate_hz,
        min_seen=max(1, math.ceil(usual.min_seen * share)),
        max_gap=max(1, round(usual.max_gap * share)),
    )


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings with some values changed."""
    merged = dict(values)
    for name, value in changes.items():
        before = merged.get(name)
        nested = isinstance(value, Mapping) and isinstance(before, Mapping)
        merged[name] = merge(before, value) if nested else value  # type: ignore[arg-type]
    return merged


def differences(usual: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """`name value` of each value that is not the usual one, by its innermost name."""
    found = []
    for name, value in values.items():
        before = usual.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            found += differences(before, value)
        elif json.dumps(value) != json.dumps(before):
            found.append(f"{name} {_shown(value)}")
    return found


def _shown(value: Any) -> str:
    """A value in a title, without a comma."""
    if isinstance(value, list | tuple):
        return "/".join(_shown(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def environment() -> dict[str, str]:
    """What a result may hang on beside settings, data and code: versions and the machine."""
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": str(os.cpu_count() or 0),
    }
    for name in RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")
    if torch is not None:
        found["threads"] = str(torch.get_num_threads())
        gpu = torch.cuda.is_available()
        found["gpu"] = torch.cuda.get_device_name(0) if gpu else "none"
    return found


def _block(values: Any) -> GridBlock:
    if not isinstance(values, Mapping):
        raise GridError(f"a block of a grid must be settings by name, not {values!r}")
    _refuse_unknown(values, {one.name for one in dataclasses.fields(GridBlock)}, "a block")
    if not values.get("algorithms"):
        raise GridError(f"a block of a grid needs algorithms; there are: {_algorithms()}")
    lists = {}
    for name, value in values.items():
        if name == "extractors":
            continue
        if not isinstance(value, list | tuple) or not value:
            raise GridError(f"{name} of a block must be a list with something in it, not {value!r}")
        lists[name] = tuple(value)
    if "sample_hz" in lists:
        lists["sample_hz"] = tuple(float(rate) for rate in lists["sample_hz"])
    return GridBlock(**lists, extractors=dict(values.get("extractors", {})))


def _plain(made: Any, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass of numbers from plain values; a float's whole number becomes one."""
    fields = {one.name: one for one in dataclasses.fields(made)}
    _refuse_unknown(values, set(fields), where)
    given = {
        name: float(value)
        if fields[name].type in ("float", float) and isinstance(value, int)
        else value
        for name, value in values.items()
    }
    try:
        return made(**given)
    except (TypeError, ValueError) as error:
        raise GridError(f"{where}: {error}") from error


def _refuse_unknown(values: Mapping[str, Any], known: Sequence[str] | set[str], where: str) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise GridError(
            f"{where} has no setting {', '.join(unknown)}; there are: {', '.join(sorted(known))}"
        )


def _algorithms() -> str:
    return ", ".join(sorted(registry.ALGORITHMS))
