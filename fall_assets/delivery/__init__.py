"""Delivery: from scores to what a ward sees, and from a candidate to what may serve.

Here: merging scores into alerts, what kind of fall each is, a still picture that shows no face,
sending alerts, and the gate that a candidate model must pass. Not here: computing scores
(`learning/`), the model registry (`learning.tracking`), or what the graph looks like (the Dagster
layer).
"""

from __future__ import annotations

from fall_assets.delivery.alerts import merge
from fall_assets.delivery.channels import AlertSettings, LogChannel, Webhook, deliver
from fall_assets.delivery.gate import GateSettings, Verdict, judge_candidate
from fall_assets.delivery.kinds import kind_of

__all__ = [
    "AlertSettings",
    "GateSettings",
    "LogChannel",
    "Verdict",
    "Webhook",
    "deliver",
    "judge_candidate",
    "kind_of",
    "merge",
]
