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
from typing import Any, TypeVar, get_args, get_type_hints

from fall_assets.delivery.channels import AlertSettings
from fall_assets.delivery.gate import GateSettings
from fall_assets.delivery.gateway import GatewaySettings
from fall_assets.drift.answers import AnswerSettings
from fall_assets.drift.settings import DriftSettings
from fall_assets.errors import PermanentFailureError
from fall_assets.features.settings import FeatureSettings, PoseSettings
from fall_assets.footage.sources import SourceSettings
from fall_assets.labelling.queue import ReviewSettings
from fall_assets.lake.registry import RESOLUTION_RULES
from fall_assets.monitoring.settings import URL_VARIABLE, HealthSettings, TechnicianSettings
from fall_assets.rollout.settings import RolloutSettings

T = TypeVar("T")


class SettingsError(PermanentFailureError):
    """The settings file holds something that is not a setting."""


@dataclass(frozen=True)
class FootageSettings:
    """Where footage comes from; `settle_s` is how long a file rests before it counts as done."""

    settle_s: float = 10.0
    sources: tuple[SourceSettings, ...] = (SourceSettings(),)


@dataclass(frozen=True)
class FeatureChoices:
    """Which feature sets are computed, all of them in one decoding pass.

    Attributes:
        workers: how many processes decode.
        detector: the set that the detector learns from and is fed with; it has people.
        more: further ones, for experiments.
    """

    workers: int = 2
    detector: FeatureSettings = field(default_factory=FeatureSettings)
    more: tuple[FeatureSettings, ...] = ()

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise SettingsError(f"features.workers must be at least 1, not {self.workers}")
        if not isinstance(self.detector.extractor, PoseSettings):
            raise SettingsError(
                "features.detector must be a set of people, whose extractor.kind is 'pose', not "
                f"{self.detector.extractor.kind!r}"
            )

    @property
    def sets(self) -> tuple[FeatureSettings, ...]:
        """All of them, the detector's first, each once."""
        return tuple({one.version: one for one in (self.detector, *self.more)}.values())


@dataclass(frozen=True)
class LearningChoices:
    """What a site decides about learning; the rest are the algorithm's own settings.

    `simulated_windows` of simulated motion are mixed in while a training set holds fewer than
    `simulated_below_falls` labelled falls. A threshold is raised until simulated people who do what
    is taken for falls most easily raise no more than `max_ordinary_alarms_per_hour`; 0 leaves it.
    `missed_fall_cost` false alarms are as bad as one missed fall.
    """

    seed: int = 0
    folds: int = 5
    simulated_windows: int = 24_000
    simulated_below_falls: int = 1000
    training_steps: int = 1000
    max_ordinary_alarms_per_hour: float = 12.0
    missed_fall_cost: float = 1.0

    def __post_init__(self) -> None:
        if self.missed_fall_cost <= 0:
            raise SettingsError(
                f"[learning] missed_fall_cost is {self.missed_fall_cost}: give how many false "
                "alarms are as bad as a missed fall, above 0"
            )


@dataclass(frozen=True)
class RetentionSettings:
    """How long footage is kept: so many days after it was recorded; 0 keeps it for ever."""

    days: int = 0

    def __post_init__(self) -> None:
        if self.days < 0:
            raise SettingsError(f"retention of {self.days} days: give 0 (for ever) or more")


@dataclass(frozen=True)
class LabellingSettings:
    """What becomes of labels.

    Attributes:
        resolution: where annotators differ, 'priority' believes the most trusted source,
            'majority' what most say, 'unanimous' only what all say.
        automatic_share: of a training set's clips, at most this share may be labelled by the
            champion; 0 takes none.
        automatic_confidence: only so confident ones.
    """

    resolution: str = "priority"
    automatic_share: float = 0.0
    automatic_confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTION_RULES:
            raise SettingsError(
                f"resolution {self.resolution!r} is not known; there are: "
                f"{', '.join(RESOLUTION_RULES)}"
            )
        if not (0 <= self.automatic_share < 1 and 0 <= self.automatic_confidence <= 1):
            raise SettingsError("automatic_share and automatic_confidence must lie in 0 to 1")


@dataclass(frozen=True)
class SiteSettings:
    """All of `site.toml`; a stage's own settings are its package's."""

    footage: FootageSettings = field(default_factory=FootageSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    labelling: LabellingSettings = field(default_factory=LabellingSettings)
    review: ReviewSettings = field(default_factory=ReviewSettings)
    features: FeatureChoices = field(default_factory=FeatureChoices)
    learning: LearningChoices = field(default_factory=LearningChoices)
    gate: GateSettings = field(default_factory=GateSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    rollout: RolloutSettings = field(default_factory=RolloutSettings)
    drift: DriftSettings = field(default_factory=DriftSettings)
    retraining: AnswerSettings = field(default_factory=AnswerSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    technician: TechnicianSettings = field(default_factory=TechnicianSettings)

    def __post_init__(self) -> None:
        if "rollout" in self.retraining.approval and self.rollout.automatic:
            raise SettingsError(
                "[retraining] approval holds 'rollout', but rollouts begin by themselves: set "
                "automatic = false in [rollout]"
            )


@dataclass(frozen=True)
class Site:
    """One installation: its folders and its settings.

    Attributes:
        root: the site's folder; `lake/` and `mlflow/` lie in it.
        landing: where recorders write.
        settings: the site's choices.
        webhook_url: where alerts go besides the lake and the log; None sends none.
        owner_webhook_url: where a rollout that goes back is told of; None tells the log alone.
        technician_urls: where problems of cameras, disk and runs are told, by receiver; '' is the
            site's own.
    """

    root: Path
    landing: Path
    settings: SiteSettings = field(default_factory=SiteSettings)
    webhook_url: str | None = None
    owner_webhook_url: str | None = None
    technician_urls: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)

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
        owner_webhook_url=os.environ.get("FALL_OWNER_WEBHOOK_URL") or None,
        technician_urls=technician_urls(os.environ),
    )


def technician_urls(environment: Mapping[str, str]) -> dict[str, str]:
    """Addresses by receiver: `FALL_TECHNICIAN_WEBHOOK_URL`, and those with a name behind it."""
    return {
        name.removeprefix(URL_VARIABLE).removeprefix("_").lower(): url
        for name, url in environment.items()
        if url and (name == URL_VARIABLE or name.startswith(f"{URL_VARIABLE}_"))
    }


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
    return build_settings(SiteSettings, parsed, f"{path}: ")


def build_settings(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build a dataclass of dataclasses, numbers, texts and lists of them from a parsed table."""
    defaults = cls()
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    built: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            names = ", ".join(sorted(known))
            raise SettingsError(f"{where}no setting {name!r}; there are: {names}")
        default = getattr(defaults, name)
        if name in _FEATURE_SETS:
            built[name] = _feature_sets(value, isinstance(default, tuple), f"{where}{name}")
        elif dataclasses.is_dataclass(default):
            if not isinstance(value, Mapping):
                raise SettingsError(f"{where}{name} must be a table")
            built[name] = build_settings(type(default), value, f"{where}[{name}] ")
        elif isinstance(default, tuple):
            built[name] = _list(get_args(get_type_hints(cls)[name])[0], value, where, name)
        elif isinstance(default, float) and type(value) in (int, float):
            built[name] = float(value)
        elif type(value) is type(default):
            built[name] = value
        else:
            raise SettingsError(
                f"{where}{name} must be {type(default).__name__}, not {type(value).__name__}"
            )
    try:
        return cls(**built)
    except (ValueError, PermanentFailureError) as error:
        raise SettingsError(f"{where}{error}") from None


def _list(kind: type[Any], value: Any, where: str, name: str) -> tuple[Any, ...]:
    """A list of texts, or of tables that make a `kind` each."""
    if kind is str:
        if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
            raise SettingsError(f"{where}{name} must be a list of texts, as in {name} = ['a', 'b']")
        return tuple(value)
    if not isinstance(value, list) or not all(isinstance(x, Mapping) for x in value):
        raise SettingsError(f"{where}{name} must be a list of tables, as in [[...{name}]]")
    return tuple(
        build_settings(kind, x, f"{where}[[{name}]] {number} ")
        for number, x in enumerate(value, start=1)
    )


_FEATURE_SETS = ("detector", "more")


def _feature_sets(value: Any, many: bool, where: str) -> Any:
    """Feature sets, which read themselves."""
    tables = value if many else [value]
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise SettingsError(f"{where} must be {'a list of tables' if many else 'a table'}")
    try:
        sets = tuple(FeatureSettings.from_dict(table) for table in tables)
    except PermanentFailureError as error:
        raise SettingsError(f"{where}: {error}") from None
    return sets if many else sets[0]
