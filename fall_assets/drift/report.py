"""The day's drift report: which cameras changed, since when, what happened, how sure.

Here: which signals are tested and how, one budget for all of them, what counts as drift, and the
verdict. Not here: the statistics (`daily.py`, `vectors.py`, `online.py`, `precision.py`), the names
of causes (`causes.py`), words and pages (`words.py`, `page.py`), or what is done (`answers.py`).

A camera's day is compared with the days that are ordinary to the champion:

- `new_camera`: there is none;
- `exact`: resolution, codec, frame rate, model, firmware, clock. No statistics;
- `quality`, `pose`, `score`: each figure against how ordinary days differ from one another; those
  of people together as well (`people_together`), and embeddings where the site computes them;
- people's figures of all cameras of a ward together, over as many days as a change must stand:
  another patient changes one camera, not all;
- `scene`: what stands behind the people, against how scenes of ordinary days differ;
- `online`: sums over days, for what changes slowly;
- `precision`: what staff confirmed; `skew`: figures that box and platform both compute.

The budget. `camera_months` is how many camera-months the whole site may watch for one false drift.
A site of C cameras then has C / (30.4 camera_months) of a false drift for each day. Of that, all
tests of a day together get `1 - online_share - precision_share` (Holm 1979: the chance that any
of them is wrongly certain, whatever their dependence); the daily streams get `online_share` by
their expected run time, staff's answers `precision_share` by Ville's inequality. A change that is
certain must also be large enough to be felt (`effects.py`), and one that is not exact must stand
on `confirm_days` reported days in a row before it counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import polars as pl

from fall_assets.drift.causes import EXACT, Cause, Evidence, Turn, causes_of, group_of
from fall_assets.drift.days import CameraDays
from fall_assets.drift.settings import DriftSettings
from fall_assets.drift.signals import (
    Signal,
    exact_signals,
    figure_signals,
    scene_signals,
    slow_signals,
    vector_signals,
    ward_signals,
)
from fall_assets.drift.statistics import holm
from fall_assets.drift.verdict import in_words, report_row
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import table

_LIKELY = 0.01


@dataclass(frozen=True)
class Past:
    """What was reported before of the same model: rows of the tables of these names."""

    causes: pl.DataFrame = field(default_factory=lambda: table("drift_causes").empty())
    signals: pl.DataFrame = field(default_factory=lambda: table("drift_signals").empty())


@dataclass(frozen=True)
class DriftJudgement:
    """The day's rows of the tables `drift_signals`, `drift_causes` and `drift_report`."""

    signals: pl.DataFrame
    causes: pl.DataFrame
    report: pl.DataFrame

    @property
    def drifted(self) -> bool:
        """Whether anything counts as drift."""
        return bool(self.report["drifted"][0])

    @property
    def verdict(self) -> str:
        """What changed, in words."""
        return str(self.report["verdict"][0])


def judge(
    days: CameraDays,
    ordinary: pl.DataFrame,
    day: date,
    model_version: str,
    settings: DriftSettings | None = None,
    past: Past | None = None,
    more: Iterable[Signal] = (),
    wards: Mapping[str, str] | None = None,
) -> DriftJudgement:
    """Compare one day with what is ordinary to a model.

    Args:
        days: camera-days: those of the day, and the ordinary ones.
        ordinary: rows of `ordinary_days`, of which those of `model_version` are used.
        day: the day.
        model_version: the champion.
        settings: the site's.
        past: what was reported before; without it nothing was, and only what is exact is certain
            unless `confirm_days` is 1.
        more: signals that are not made of camera-days: of staff's answers, of the boxes.
        wards: the ward of each camera; those that are not in it are taken as one ward.

    A day without footage is no drift. The same input, in whatever order, gives the same judgement.

    Raises:
        PermanentFailureError: the model has no ordinary days.
    """
    settings, past = settings or DriftSettings(), past or Past()
    known = ordinary.filter(pl.col("model_version") == model_version)
    if known.is_empty():
        raise PermanentFailureError(
            f"model {model_version} has no ordinary days: materialize drift_reference, then "
            f"drift_report for {day}"
        )
    today = days.of([day])
    cameras = sorted({*today.profile["camera_id"], *today.facts["camera_id"]})
    strange = sorted(set(cameras) - set(known["camera_id"]))
    signals = [
        Signal(camera_id, "camera", "new_camera", "not seen", "seen", large=True)
        for camera_id in strange
    ]
    signals += exact_signals(days, known, today, settings)
    chosen = figure_signals(days, known, today, settings)
    signals += chosen.signals
    before = past.signals.filter(pl.col("day") < day)
    signals += ward_signals(chosen.signals, before, wards or {}, settings)
    signals += vector_signals(days, chosen.days, today, settings)
    scenes = scene_signals(days, chosen.days, today, settings)
    signals += [signal for signal, _ in scenes.values()]
    signals += slow_signals(chosen.signals, past.signals, len(cameras), settings)
    signals += list(more)
    decided = _decide(signals, settings, len(cameras))
    turns = {camera_id: turn for camera_id, (_, turn) in scenes.items() if turn is not None}
    causes = _causes(decided, turns, day, model_version, settings, past)
    report = report_row(causes, decided, cameras, today, day, model_version)
    return DriftJudgement(_signal_frame(decided, day, model_version), causes, report)


def _decide(signals: Sequence[Signal], settings: DriftSettings, cameras: int) -> list[Signal]:
    """Which signals drifted.

    On a camera whose resolution, frame rate or model changed, drift is a fact: its tests only tell
    what else changed, so that they stand outside the day's budget and are not adjusted.
    """
    certain = {one.camera_id for one in signals if one.kind == "exact" and one.large}
    tests: dict[str, list[int]] = {}
    for place, one in enumerate(signals):
        if one.p_value is not None and not one.alone and one.camera_id not in certain:
            tests.setdefault(one.shared or f"#{place}", []).append(place)
    corrected = holm([signals[places[0]].p_value or 0.0 for places in tests.values()])
    adjusted = {
        place: value
        for places, value in zip(tests.values(), corrected, strict=True)
        for place in places
    }
    alpha = min(0.5, settings.false_drifts_a_day(cameras) * settings.daily_share)
    decided = []
    for place, one in enumerate(signals):
        value = adjusted.get(place, one.p_value)
        untested = one.kind in ("quality", "pose", "score", "scene", "embedding") and value is None
        sure = not untested and (one.alone or value is None or value <= alpha)
        decided.append(replace(one, drifted=one.large and sure, adjusted=value))
    return decided


def _causes(
    signals: Sequence[Signal],
    turns: Mapping[str, Turn],
    day: date,
    model_version: str,
    settings: DriftSettings,
    past: Past,
) -> pl.DataFrame:
    """Rows of `drift_causes`."""
    by_camera: dict[str, list[Signal]] = {}
    for one in signals:
        by_camera.setdefault(one.camera_id, []).append(one)
    # A day on which a camera was off says nothing of it.
    seen = past.signals.filter(pl.col("day") < day).group_by("camera_id")
    reported: dict[str, list[date]] = dict(seen.agg(pl.col("day").unique().sort()).iter_rows())
    before = past.causes.filter(pl.col("day") < day)
    rows = []
    for camera_id, own in sorted(by_camera.items()):
        earlier = before.filter(pl.col("camera_id") == camera_id)
        for cause in causes_of(map(_evidence, own), turns.get(camera_id)):
            spoke = [one for one in own if one.figure in cause.signals and _speaks(one)]
            days = reported.get(camera_id, [])
            since, confirmed = _stood(cause, earlier, days, day, settings)
            over_days = [one.since for one in spoke if one.drifted and one.since is not None]
            since, confirmed = min([since, *over_days]), confirmed or bool(over_days)
            values = [one.adjusted for one in spoke if one.adjusted is not None and one.drifted]
            rows.append(
                {
                    "day": day,
                    "model_version": model_version,
                    "camera_id": camera_id,
                    "cause": cause.name,
                    "since": since,
                    "confirmed": confirmed,
                    "p_value": None if cause.exact else min(values, default=None),
                    "words": in_words(cause, spoke),
                    "evidence": json.dumps([one.signal for one in spoke]),
                }
            )
    return pl.DataFrame(rows, schema=table("drift_causes").schema).sort("camera_id", "cause")


def _evidence(one: Signal) -> Evidence:
    likely = one.large and one.p_value is not None and one.p_value <= _LIKELY
    return Evidence(
        one.figure,
        group_of(one.figure) if one.kind == "online" else one.kind,
        one.before,
        one.after,
        one.effect,
        one.drifted,
        likely,
        one.kind == "online",
    )


def _speaks(one: Signal) -> bool:
    return one.drifted or _evidence(one).likely


def _stood(
    cause: Cause,
    earlier: pl.DataFrame,
    reported: Sequence[date],
    day: date,
    settings: DriftSettings,
) -> tuple[date, bool]:
    """Since when it stands, and whether it counts.

    It may be missed on `gap_days` reported days. Which figure tells of a change may differ from
    one day to the next, so that any other cause of the days before confirms today's, and is where
    it began.
    """
    near = earlier.filter(pl.col("day").is_in(reported[-1 - settings.gap_days :])).sort("day")
    same = near.filter(pl.col("cause") == cause.name)
    if same.height:
        since: date = same["since"][-1]
        if cause.exact or same["confirmed"][-1]:
            return since, True
    else:
        since = day
    if cause.exact:
        return since, True
    changed = near.filter(~pl.col("cause").is_in(EXACT))
    days = set(changed["day"].to_list())
    streak = 1
    for one in reversed(reported):
        if one not in days:
            break
        streak += 1
    if streak > 1 and not same.height:
        since = reported[1 - streak]
    return since, streak >= settings.confirm_days


def _signal_frame(signals: Sequence[Signal], day: date, model_version: str) -> pl.DataFrame:
    def number(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else float(value)

    rows = [
        {
            "day": day,
            "model_version": model_version,
            "camera_id": one.camera_id,
            "signal": one.signal,
            "kind": one.kind,
            "reference": one.reference,
            "today": one.today,
            "statistic": number(one.statistic),
            "p_value": one.p_value,
            "drifted": one.drifted,
            "before": number(one.before),
            "after": number(one.after),
            "effect": number(one.effect),
        }
        for one in signals
    ]
    return pl.DataFrame(rows, schema=table("drift_signals").schema).sort("camera_id", "signal")
