"""Where a site keeps its things, and its settings.

What belongs here: folders, environment variables and `data/site.toml`. What does not: anything
that opens footage or the lake. Three environment variables decide where things are:

- `FALL_SITE`: the site's folder (default `data/simulated` below the project);
- `FALL_FOOTAGE`: the landing folder (default `landing` below the site's folder);
- `FALL_CONFIG`: the settings (default `data/site.toml` below the project, if it is there).
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fall_assets.delivery.gate import GateSettings
from fall_assets.drift.report import DriftSettings
from fall_assets.drift.retraining import RetrainingSettings
from fall_assets.errors import PermanentFailureError

T = TypeVar("T")


class SettingsError(PermanentFailureError):
    """The settings file holds something that is not a setting."""


@dataclass(frozen=True)
class FootageSettings:
    """How footage lies in the landing folder."""

    template: str = "{camera}/{date}/{time}.mp4"
    settle_s: float = 10.0


@dataclass(frozen=True)
class WorkSettings:
    """How many processes the heavy stages use."""

    workers: int = 2


@dataclass(frozen=True)
class LearningChoices:
    """What a site decides about learning; the rest are the algorithm's own settings.

    `simulated_windows` of simulated motion are mixed in while a training set holds fewer than
    `simulated_below_falls` labelled falls.
    """

    seed: int = 0
    folds: int = 5
    simulated_windows: int = 4000
    simulated_below_falls: int = 30
    training_steps: int = 300


@dataclass(frozen=True)
class SiteSettings:
    """All of `site.toml`; a stage's own settings are its package's."""

    footage: FootageSettings = field(default_factory=FootageSettings)
    features: WorkSettings = field(default_factory=WorkSettings)
    learning: LearningChoices = field(default_factory=LearningChoices)
    gate: GateSettings = field(default_factory=GateSettings)
    drift: DriftSettings = field(default_factory=DriftSettings)
    retraining: RetrainingSettings = field(default_factory=RetrainingSettings)


@dataclass(frozen=True)
class Site:
    """One installation: its folders and its settings.

    Attributes:
        root: the site's folder; `lake/` and `mlflow/` lie in it.
        landing: where recorders write.
        settings: the site's choices.
        webhook_url: where alerts go besides the lake and the log; None sends none.
    """

    root: Path
    landing: Path
    settings: SiteSettings = field(default_factory=SiteSettings)
    webhook_url: str | None = None

    @property
    def lake_root(self) -> Path:
        """Folder of the lake."""
        return self.root / "lake"

    @property
    def mlflow_root(self) -> Path:
        """Folder of the embedded tracking store."""
        return self.root / "mlflow"

    @property
    def tracking_uri(self) -> str:
        """MLflow's address: `MLFLOW_TRACKING_URI`, or a SQLite file below the site's folder."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.mlflow_root}/mlflow.db"

    @property
    def is_simulated(self) -> bool:
        """Whether the landing folder is the site's own, which the simulation may fill."""
        return self.landing == self.root / "landing"


def project_root() -> Path:
    """`DAGSTER_HOME` where set (the commands set it to the repository), else the current folder."""
    return Path(os.environ.get("DAGSTER_HOME") or Path.cwd()).resolve()


def site_from_environment() -> Site:
    """The site that the environment names.

    Raises:
        SettingsError: the settings file holds an unknown or ill-typed setting.
    """
    root = Path(os.environ.get("FALL_SITE") or project_root() / "data" / "simulated").resolve()
    landing = os.environ.get("FALL_FOOTAGE")
    config = Path(os.environ.get("FALL_CONFIG") or project_root() / "data" / "site.toml")
    return Site(
        root=root,
        landing=Path(landing).resolve() if landing else root / "landing",
        settings=read_settings(config) if config.is_file() else SiteSettings(),
        webhook_url=os.environ.get("FALL_WEBHOOK_URL") or None,
    )


def lake_root() -> Path:
    """Folder of the lake of the site that the environment names."""
    return site_from_environment().lake_root


def read_settings(path: Path) -> SiteSettings:
    """Read a settings file.

    Raises:
        SettingsError: naming the file and the setting, where one is unknown or ill-typed.
    """
    try:
        parsed = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    return _build(SiteSettings, parsed, f"{path}: ")


def _build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build a dataclass of dataclasses and numbers or texts from a parsed table."""
    defaults = cls()
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    built: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            names = ", ".join(sorted(known))
            raise SettingsError(f"{where}no setting {name!r}; there are: {names}")
        default = getattr(defaults, name)
        if dataclasses.is_dataclass(default):
            if not isinstance(value, Mapping):
                raise SettingsError(f"{where}{name} must be a table")
            built[name] = _build(type(default), value, f"{where}[{name}] ")
        elif isinstance(default, float) and type(value) in (int, float):
            built[name] = float(value)
        elif type(value) is type(default):
            built[name] = value
        else:
            raise SettingsError(
                f"{where}{name} must be {type(default).__name__}, not {type(value).__name__}"
            )
    return cls(**built)
