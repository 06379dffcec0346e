"""Drift: does today's footage still look like what the champion learned from?

Here: the reference, the tests, the day's verdict in words, its plots, and the decision whether to
learn again. Not here: computing features (`features/`), starting runs (the Dagster layer), or
judging the model itself (`learning/`, `delivery.gate`).

`tests` is the only module that touches alibi-detect. Its licence, the Business Source License 1.1,
asks for an agreement with its maker before production use; everything else works without it.
"""

from __future__ import annotations

from fall_assets.drift.reference import cut_reference
from fall_assets.drift.report import DriftJudgement, DriftSettings, judge
from fall_assets.drift.retraining import Decision, RetrainingSettings, decide

__all__ = [
    "Decision",
    "DriftJudgement",
    "DriftSettings",
    "RetrainingSettings",
    "cut_reference",
    "decide",
    "judge",
]
