"""The reference: windows of the footage that the champion learned from, what is ordinary to it.

Cut once, when a model becomes champion, and kept with its version. Not here: comparing a day with
it (see `report.py`).
"""

from __future__ import annotations

import polars as pl

from fall_assets.drift.statistics import non_overlapping, spread_sample
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import table


def cut_reference(
    features: pl.DataFrame, model_version: str, per_camera: int = 200, seed: int = 0
) -> pl.DataFrame:
    """The table `drift_reference` for one model version.

    `features` are rows of the table `features` of the footage that the model learned from, of one
    feature set. Of each camera at most `per_camera` windows are kept, none overlapping another,
    spread evenly over its segments; the choice depends on the seed and the camera only.

    Raises PermanentFailureError where there are no features or several feature sets.
    """
    schema = table("drift_reference")
    sets = features["feature_set"].unique().sort().to_list()
    if not sets:
        raise PermanentFailureError(
            f"no features to cut the drift reference of model {model_version} from: materialize "
            "features for the days that the model learned from"
        )
    if len(sets) > 1:
        raise PermanentFailureError(
            f"features of {len(sets)} feature sets ({', '.join(sets)}) cannot make one drift "
            f"reference: pass those of the set that model {model_version} learned from"
        )
    if per_camera < 1:
        raise ValueError(f"per_camera must be at least 1, got {per_camera}")
    chosen = spread_sample(non_overlapping(features), per_camera, seed)
    return chosen.with_columns(pl.lit(model_version).alias("model_version")).select(
        pl.col(name).cast(dtype) for name, dtype in schema.schema.items()
    )
