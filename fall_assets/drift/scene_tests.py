"""Is what stands behind the people another scene? Against how scenes of ordinary days differ.

Here: how sure a change of the scene is. Not here: taking, comparing and aligning scenes
(`scenes.py`), or what counts as drift (`report.py`).

Curtains, beds that are made and unmade and the sun change every scene a little. So today's change
from the nearest ordinary day is compared with that of each ordinary day from the others, in logits,
where such shares are about normal; their variance is shrunk towards that of all cameras (Smyth
2004), because a camera alone has few days.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.drift.causes import Turn
from fall_assets.drift.scenes import SceneComparison, compare_scenes
from fall_assets.drift.statistics import pooled_tail

Logits = npt.NDArray[np.float64]

DAYS = 6
"""So many ordinary days, spread over all, are compared with one another."""

_LEAST_DAYS = 3
_LEAST_SPREAD = 0.4
_EDGE = 0.01


@dataclass(frozen=True)
class SceneTest:
    """One camera's scene today.

    Attributes:
        changed: share of the scene's edges that are others, 0-1.
        usual: the mean of that between ordinary days.
        p_value: None where fewer than three ordinary days are known.
        turn: how today's picture lies over the ordinary one; None where too little changed.
    """

    changed: float
    usual: float
    p_value: float | None
    turn: Turn | None


def scene_tests(ordinary: pl.DataFrame, today: pl.DataFrame) -> dict[str, SceneTest]:
    """Rows of `scenes` of ordinary days and of today, of any cameras; a test for each camera that
    both have, with a quarter of the day in common."""
    old = ordinary.partition_by("camera_id", as_dict=True)
    found: dict[str, SceneComparison] = {}
    for (camera,), now in sorted(today.partition_by("camera_id", as_dict=True).items()):
        known = old.get((camera,))
        change = None if known is None else compare_scenes(_spread(known), now)
        if change is not None:
            found[str(camera)] = change
    between = {camera_id: _logits(change.between) for camera_id, change in found.items()}
    return {
        camera_id: SceneTest(
            change.changed,
            float(np.mean(change.between)) if change.between else math.nan,
            _p_value(camera_id, change.changed, between),
            change.turn,
        )
        for camera_id, change in found.items()
    }


def _spread(known: pl.DataFrame) -> pl.DataFrame:
    """Rows of at most `DAYS` days, the newest among them."""
    days = known["day"].unique().sort().to_list()
    places = np.unique(np.linspace(0, len(days) - 1, min(DAYS, len(days))).round().astype(int))
    return known.filter(pl.col("day").is_in([days[place] for place in places]))


def _p_value(camera_id: str, changed: float, between: Mapping[str, Logits]) -> float | None:
    own = between[camera_id]
    if len(own) < _LEAST_DAYS:
        return None
    others = [logits for name, logits in sorted(between.items()) if name != camera_id]
    return pooled_tail(float(_logits([changed])[0]), own, others, _LEAST_SPREAD)


def _logits(shares: Sequence[float]) -> Logits:
    inside = np.clip(np.asarray(shares, np.float64), _EDGE, 1 - _EDGE)
    logits: Logits = np.log(inside / (1 - inside))
    return logits
