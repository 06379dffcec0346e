"""Studies: which algorithm and which settings, tried on one pinned training set."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from fall_assets.assets.support import markdown_table, picture, working
from fall_assets.jobs import LEARNING_TAGS
from fall_assets.resources.site import SiteResource

_SHOWN = (
    "title",
    "sensitivity",
    "false_alarms",
    "f1",
    "delay_median_s",
    "smooth_sensitivity",
    "extract_s_per_hour",
    "train_s",
    "score_ms_per_window",
    "parameters",
    "left_out",
    "run_id",
)
_TRIAL = ("trial", "state", "value", "sensitivity", "folds", "params", "error")


class ExperimentsConfig(dg.Config):
    """Which attempts to make.

    `grid` names a ready one ('default', 'smoke'); `study`, where it is not empty, is a grid of your
    own, as docs/experiments.md shows. `again` makes attempts again that were made before.
    """

    grid: str = "default"
    study: dict[str, Any] = Field(default_factory=dict)
    training_set_id: str | None = None
    again: bool = False


@dg.asset(deps=["training_set"], kinds={"pytorch", "mlflow"}, op_tags=LEARNING_TAGS)
def experiments(
    context: dg.AssetExecutionContext, config: ExperimentsConfig, site: SiteResource
) -> dg.MaterializeResult[None]:
    """Algorithms, image settings and training settings, each tried once and recorded whole."""
    from fall_assets.learning.attempts import GridSettings, ready_grid
    from fall_assets.pipeline.experiments import run_experiments

    grid = GridSettings.from_values(config.study) if config.study else ready_grid(config.grid)
    with working(context, site) as work:
        done = run_experiments(work, grid, config.training_set_id, again=config.again)
    best = sorted(
        (row for row in done.rows if row["state"] == "finished"),
        key=lambda row: -(row["smooth_sensitivity"] or 0.0),
    )
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(done.rows),
            "tried now": done.tried,
            "MLflow run": done.study_run_id,
            "attempts": markdown_table([_attempt(row) for row in best]),
            "failed": markdown_table(
                [{"title": row["title"], "error": row["error"]} for row in done.failed]
            ),
            **{name: picture(png) for name, png in done.plots.items()},
        }
    )


class TuningConfig(dg.Config):
    """A search for the best settings of one algorithm; a study of the same name goes on.

    `further` holds more settings by name (docs/experiments.md): `space`, `training`, `picture`, ….
    """

    study: str = "tuning"
    algorithm: str = "pose-tcn"
    trials: int = 20
    false_alarms_per_hour: float = 1.0
    workers: int = 1
    seed: int = 0
    further: dict[str, Any] = Field(default_factory=dict)
    training_set_id: str | None = None


@dg.asset(deps=["training_set"], kinds={"optuna", "mlflow"}, op_tags=LEARNING_TAGS)
def tuning_study(
    context: dg.AssetExecutionContext, config: TuningConfig, site: SiteResource
) -> dg.MaterializeResult[None]:
    """The search for an algorithm's best settings, trial by trial, judged by fold."""
    from fall_assets.learning.tuning import TuningSettings
    from fall_assets.pipeline.tuning import run_tuning

    settings = TuningSettings.from_values(
        {
            "study": config.study,
            "algorithm": config.algorithm,
            "trials": config.trials,
            "false_alarms_per_hour": config.false_alarms_per_hour,
            "workers": config.workers,
            "seed": config.seed,
            **config.further,
        }
    )
    with working(context, site) as work:
        tuned = run_tuning(work, settings, config.training_set_id)
    # What was given up is judged on fewer folds: its value cannot be compared.
    best_first = sorted(
        tuned.rows, key=lambda row: (row["state"] != "complete", -(row["value"] or 0.0))
    )
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(tuned.rows),
            "tried now": tuned.tried,
            "MLflow run": tuned.study_run_id,
            "best value": tuned.best_value,
            "best settings": dg.MetadataValue.json(tuned.best or {}),
            "trials": markdown_table([_trial(row) for row in best_first]),
            **{name: picture(png) for name, png in tuned.plots.items()},
        }
    )


def _trial(row: Mapping[str, Any]) -> dict[str, object]:
    """A trial's row with its settings in a few digits."""
    params = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row["params"].items()
    )
    return {**{name: row[name] for name in _TRIAL}, "params": params}


def _attempt(row: Mapping[str, Any]) -> dict[str, object]:
    """An attempt's row, with the interval beside its sensitivity."""
    from fall_assets.learning.report import with_interval

    shown = {name: row[name] for name in _SHOWN}
    return {**shown, "sensitivity": with_interval(dict(row), "sensitivity")}
