"""Monitoring: what was ordinary when the champion learned, and how a day differs from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

from fall_assets.drift.reference import cut_reference
from fall_assets.drift.report import DriftJudgement, judge
from fall_assets.errors import PermanentFailureError
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.training_sets import load_training_set
from fall_assets.pipeline.work import Work


@dataclass(frozen=True)
class DriftDay:
    """One day's judgement and its picture."""

    judgement: DriftJudgement
    histograms: bytes


def keep_reference(work: Work) -> pl.DataFrame:
    """Keep what the champion learned from as the measure of what is ordinary.

    A champion that has a reference already keeps it.

    Raises:
        PermanentFailureError: no champion is registered.
    """
    serving = tracking(work.site).champion()
    if serving is None:
        raise PermanentFailureError("no champion is registered: there is nothing to refer to")
    kept = work.lake.read("drift_reference").filter(pl.col("model_version") == serving.version)
    if not kept.is_empty():
        return kept
    candidates = work.lake.read("candidate_model").filter(pl.col("run_id") == serving.run_id)
    if candidates.is_empty():
        raise PermanentFailureError(
            f"champion {serving.version} (run {serving.run_id}) was not trained from this lake: "
            "train and register a model here first"
        )
    training_set = load_training_set(work, candidates["training_set_id"][0])
    features = work.lake.read("features", days=sorted(set(training_set.manifest["day"]))).filter(
        pl.col("feature_set") == training_set.row["feature_set"],
        pl.col("video_id").is_in(training_set.manifest["video_id"].unique().to_list()),
    )
    reference = cut_reference(features, serving.version)
    work.lake.append("drift_reference", reference, work.provenance())
    return reference


def report_drift(work: Work, day: date) -> DriftDay:
    """Judge one day against the champion's reference and write the verdict."""
    from fall_assets.drift.plots import histograms

    serving = tracking(work.site).champion()
    if serving is None:
        raise PermanentFailureError("no champion is registered: there is nothing to compare with")
    reference = work.lake.read("drift_reference")
    today = work.lake.read("features", days=[day])
    judgement = judge(reference, today, day, serving.version, work.site.settings.drift)
    work.lake.replace_partition("drift_signals", day, judgement.signals, work.provenance(day))
    work.lake.replace_partition("drift_report", day, judgement.report, work.provenance(day))
    return DriftDay(judgement, histograms(reference, today, judgement))
