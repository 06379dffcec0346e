"""Monitoring: what is ordinary to the champion, and how a day differs from it.

What belongs here: reading and writing the lake around the judgement in `drift`. What does not: the
profile of a day (`profiles`), what is done about drift (`answers`), machines and disks (`health`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from fall_assets.drift.days import CameraDays
from fall_assets.drift.explain import LEAST_HOURS, LEAST_ORDINARY, Explanation, explain, hours_of
from fall_assets.drift.reference import KEEP_DAYS, next_regime, ordinary_days
from fall_assets.drift.report import DriftJudgement, Past, judge
from fall_assets.drift.settings import DriftSettings
from fall_assets.drift.signals import Signal, precision_signals
from fall_assets.drift.skew import skew_signals
from fall_assets.drift.stature import with_stature
from fall_assets.errors import PermanentFailureError
from fall_assets.pipeline.answers import accepted_changes
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.profiles import make_profile
from fall_assets.pipeline.training_sets import load_training_set
from fall_assets.pipeline.work import Work

_MOST_OF_A_DAY_S = 12 * 3600.0
_PROFILE = ("camera_profile", "camera_facts", "scenes", "camera_embeddings")


@dataclass(frozen=True)
class DriftDay:
    """One day's judgement, its main plot and where its page lies below the lake's root."""

    judgement: DriftJudgement
    plot: bytes
    page: str


def keep_reference(work: Work) -> pl.DataFrame:
    """Keep which days are ordinary to the champion; its rows of `ordinary_days`.

    Ordinary are the newest four weeks of each camera up to the newest day that it learned from,
    whether people labelled them or not: labelled pieces are picked, and not what a ward is like.
    A champion that has them already keeps them; what was looked at since and needs no other
    answer joins them as a further regime. Days without a profile get one.

    Raises:
        PermanentFailureError: no champion is registered, or it was not trained from this lake.
    """
    serving = tracking(work.site).champion()
    if serving is None:
        raise PermanentFailureError("no champion is registered: there is nothing to refer to")
    kept = work.lake.read("ordinary_days").filter(pl.col("model_version") == serving.version)
    if not kept.is_empty():
        accepted = pl.concat([kept.clear(), *_accepted(work, kept)])
        if not accepted.is_empty():
            work.lake.append("ordinary_days", accepted, work.provenance())
        return pl.concat([kept, accepted])
    candidates = work.lake.read("candidate_model").filter(pl.col("run_id") == serving.run_id)
    if candidates.is_empty():
        raise PermanentFailureError(
            f"champion {serving.version} (run {serving.run_id}) was not trained from this lake: "
            "train and register a model here first"
        )
    training_set = load_training_set(work, candidates["training_set_id"][0])
    last_day: date = training_set.columns(["day"])["day"].max()  # type: ignore[assignment]
    days = [day for day in work.lake.days("features") if day <= last_day]
    profiled = set(work.lake.days("camera_profile"))
    for day in days[-KEEP_DAYS:]:
        if day not in profiled:
            work.log(f"profile of {day}: ordinary to version {serving.version}")
            make_profile(work, day)
    seen = work.lake.read("camera_profile", columns=["camera_id", "day"]).unique()
    causes = work.lake.read("drift_causes")
    feature_set = str(training_set.row["feature_set"])
    rows = ordinary_days(seen, causes, serving.version, feature_set, last_day)
    if rows.is_empty():
        raise PermanentFailureError(
            f"no camera has a profile up to {last_day}, the newest day that champion "
            f"{serving.version} learned from: materialize features, then camera_profile, for it"
        )
    work.lake.append("ordinary_days", rows, work.provenance())
    return rows


def _accepted(work: Work, kept: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows for changes after which nothing remains to be done: they are ordinary from now on."""
    version = str(kept["model_version"][0])
    profiled = work.lake.days("camera_profile")
    for camera_id, since, until in accepted_changes(work, version):
        days = [day for day in profiled if since <= day <= until]
        yield next_regime(kept, camera_id, days)


def report_drift(work: Work, day: date) -> DriftDay:
    """Judge one day against what is ordinary to the champion; write signals, causes, report, page.

    Raises:
        PermanentFailureError: no champion is registered, or it has no ordinary days.
    """
    serving = tracking(work.site).champion()
    if serving is None:
        raise PermanentFailureError("no champion is registered: there is nothing to compare with")
    settings = work.site.settings.drift
    ordinary = work.lake.read("ordinary_days").filter(pl.col("model_version") == serving.version)
    days = read_days(work, [*ordinary["recorded_day"].unique().sort().to_list(), day])
    past = read_past(work, day, serving.version, settings)
    more = [*_precision(work, day, ordinary, settings), *_skew(work, day, days, settings)]
    wards = dict(work.lake.read("cameras", columns=["camera_id", "ward"]).iter_rows())
    judgement = judge(days, ordinary, day, serving.version, settings, past, more, wards)
    for name, rows in (
        ("drift_signals", judgement.signals),
        ("drift_causes", judgement.causes),
        ("drift_report", judgement.report),
    ):
        work.lake.replace_partition(name, day, rows, work.provenance(day))
    return show_drift(work, day)


def read_days(work: Work, days: Sequence[date]) -> CameraDays:
    """What is known of cameras on some days."""
    wanted = sorted(set(days))
    return CameraDays(*(work.lake.read(name, days=wanted) for name in _PROFILE))


def read_past(work: Work, day: date, model_version: str, settings: DriftSettings) -> Past:
    """What was reported of that model in the `memory_days` before a day."""
    before = [
        one
        for one in work.lake.days("drift_report")
        if timedelta(0) < day - one <= timedelta(days=settings.memory_days)
    ]
    own = pl.col("model_version") == model_version
    if not before:
        return Past()
    return Past(
        work.lake.read("drift_causes", days=before).filter(own),
        work.lake.read("drift_signals", days=before).filter(own),
    )


def _precision(
    work: Work, day: date, ordinary: pl.DataFrame, settings: DriftSettings
) -> Iterator[Signal]:
    """What staff found at alerts, of platform and boxes, in the order that they were raised."""
    found = (
        work.lake.read("alert_feedback")
        .sort("at_utc", "by")
        .group_by("alert_id", maintain_order=True)
        .last()
        .filter(pl.col("verdict") != "unsure")
        .select("alert_id", fall=pl.col("verdict") == "fall")
    )
    if found.is_empty():
        return
    raised = pl.concat(
        work.lake.read(name, columns=["day", "alert_id", "camera_id", "raised_utc"])
        for name in ("alerts", "edge_alerts")
    )
    answers = (
        raised.filter(pl.col("day") <= day)
        .join(found, on="alert_id")
        .sort("raised_utc", "alert_id")
    )
    learned: date = ordinary["recorded_day"].max()  # type: ignore[assignment]
    cameras = ordinary["camera_id"].n_unique()
    yield from precision_signals(answers, learned, cameras, settings)


def _skew(work: Work, day: date, days: CameraDays, settings: DriftSettings) -> Iterator[Signal]:
    """Figures that boxes tell, against the same ones as the platform computes them."""
    health = work.lake.read("camera_health", days=[day]).filter(pl.col("box").is_not_null())
    if health.is_empty():
        return
    boxes = (
        health.group_by("camera_id")
        .agg(
            frame_rate=pl.col("fps_measured").drop_nulls().median(),
            gate_duty=pl.col("gate_duty").drop_nulls().mean(),
        )
        .unpivot(index="camera_id", variable_name="figure", value_name="value")
    )
    own = pl.col("day") == day
    watched_s = work.lake.read("gate_duty", days=[day])
    # A recorder that keeps only what moves says nothing of how long a live gate stood open.
    whole = watched_s.filter(pl.col("footage_s") >= _MOST_OF_A_DAY_S).select("camera_id").unique()
    platform = pl.concat(
        [
            days.facts.filter(own, pl.col("fact") == "frame_rate")
            .sort("share", descending=True)
            .group_by("camera_id", maintain_order=True)
            .first()
            .select("camera_id", figure="fact", value=pl.col("value").cast(pl.Float64)),
            days.profile.filter(own, pl.col("figure") == "gate_duty")
            .join(whole, on="camera_id", how="semi")
            .group_by("camera_id", "figure")
            .agg(pl.col("value").mean()),
        ]
    )
    yield from skew_signals(platform, boxes, settings)


def show_drift(work: Work, day: date) -> DriftDay:
    """Draw a judged day's main plot and write its page, as the lake has both by now.

    Raises:
        PermanentFailureError: the day has no report.
    """
    from fall_assets.drift.page import HISTORY_DAYS, ReportDay, drift_page, scene_pictures
    from fall_assets.drift.plots import main_plot

    report = work.lake.read("drift_report", days=[day])
    if report.is_empty():
        raise PermanentFailureError(f"{day} has no drift report: materialize drift_report for it")
    version = str(report["model_version"][-1])
    own = pl.col("model_version") == version
    report = report.filter(own)
    causes = work.lake.read("drift_causes", days=[day]).filter(own)
    signals = work.lake.read("drift_signals", days=[day]).filter(own)
    judgement = DriftJudgement(signals, causes, report)
    ordinary = work.lake.read("ordinary_days").filter(own)
    affected = pl.col("camera_id").is_in(causes["camera_id"].unique().to_list())
    shown = [one for one in work.lake.days("camera_profile") if one <= day][-HISTORY_DAYS:]
    scene_days = [*ordinary["recorded_day"].unique().sort().to_list(), day]
    told = ReportDay(
        day,
        version,
        report,
        causes,
        signals,
        answers=work.lake.read("drift_answers"),
        history=_history(work, shown, ordinary, affected),
        facts=work.lake.read("camera_facts", days=shown, where=affected),
        ordinary=ordinary,
        scenes=scene_pictures(
            work.lake.read("scenes", days=scene_days, where=affected),
            ordinary,
            causes,
            day,
            lambda path: work.lake.resolve(path).read_bytes(),
        ),
        cameras=work.lake.read("cameras"),
        budget=work.site.settings.drift.in_words,
    )
    page = work.lake.write_file(drift_page(told).encode(), "drift", f"{day}.html")
    return DriftDay(judgement, main_plot(told), page)


def _history(
    work: Work, shown: Sequence[date], ordinary: pl.DataFrame, cameras: pl.Expr
) -> pl.DataFrame:
    """Rows of `camera_profile` of the days that are shown, with figures as the judge has them."""
    usual = ordinary.select("camera_id", day="recorded_day").unique()
    rows = work.lake.read(
        "camera_profile", days=sorted({*shown, *usual["day"].to_list()}), where=cameras
    )
    on = ["camera_id", "day"]
    known, others = rows.join(usual, on=on, how="semi"), rows.join(usual, on=on, how="anti")
    return pl.concat(with_stature(known, others)).filter(pl.col("day").is_in(list(shown)))


def show_newest(work: Work) -> DriftDay | None:
    """Write the newest day's page anew, with what was done about drift since; None without one."""
    days = work.lake.days("drift_report")
    return show_drift(work, days[-1]) if days else None


def explain_day(work: Work, camera_id: str, day: date) -> Explanation:
    """Which figures tell a camera's day from its ordinary days, the first tells most.

    Asks alibi-detect's tests and a classifier (`drift.explain`); takes some seconds.

    Raises:
        PermanentFailureError: the camera has no ordinary days, or too few hours to be told apart.
    """
    serving = tracking(work.site).champion()
    version = serving.version if serving else ""
    own = pl.col("camera_id") == camera_id
    ordinary = work.lake.read("ordinary_days").filter(pl.col("model_version") == version, own)
    if ordinary.is_empty():
        raise PermanentFailureError(
            f"camera {camera_id} has no ordinary days of the champion to be compared with; "
            "`fall-assets tables cameras` names the cameras"
        )
    wanted = [*ordinary["recorded_day"].unique().to_list(), day]
    rows = work.lake.read("camera_profile", days=wanted, where=own)
    hours = hours_of(rows, day)
    if len(hours.ordinary) < LEAST_ORDINARY or len(hours.today) < LEAST_HOURS:
        raise PermanentFailureError(
            f"camera {camera_id} has {len(hours.ordinary)} ordinary hours and {len(hours.today)} "
            f"on {day} with the same figures; it takes {LEAST_ORDINARY} and {LEAST_HOURS}"
        )
    return explain(hours)
