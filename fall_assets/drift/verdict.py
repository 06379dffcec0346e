"""The verdict: what changed, in sentences, and the row of `drift_report`.

Here: wording of causes with their numbers. Not here: single words (`words.py`), the page
(`page.py`), or what is true (`report.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import date

import polars as pl

from fall_assets.drift.causes import Cause
from fall_assets.drift.days import CameraDays
from fall_assets.drift.signals import Signal
from fall_assets.drift.words import (
    FACT_WORDS,
    FIGURE_WORDS,
    WORDS,
    cameras_in_words,
    day_in_words,
    p_in_words,
)
from fall_assets.lake.registry import table


def in_words(cause: Cause, spoke: Sequence[Signal]) -> str:
    """What changed, with the numbers of what speaks for it, as "brightness 42 % → 25 %"."""
    told: dict[str, str] = {}
    for one in sorted(spoke, key=lambda one: cause.signals.index(one.figure)):
        name = one.figure.split(":")[0]
        words = FACT_WORDS.get(name) or FIGURE_WORDS.get(name)
        if words is not None and one.figure not in told:
            told[one.figure] = f"{words.name} from {one.reference} to {one.today}"
        elif one.figure == "scene":
            told["scene"] = f"{one.after:.0%} of the empty scene looks different"
    happened = WORDS[cause.name].happened
    return f"{happened} ({'; '.join(list(told.values())[:3])})" if told else happened


def report_row(
    causes: pl.DataFrame,
    signals: Sequence[Signal],
    cameras: Sequence[str],
    today: CameraDays,
    day: date,
    model_version: str,
) -> pl.DataFrame:
    """The one row of `drift_report`: of what is confirmed, then of what is suspected."""
    confirmed = causes.filter("confirmed")
    suspected = causes.filter(~pl.col("confirmed"))
    windows = int(today.profile.filter(pl.col("figure") == "brightness")["windows"].sum())
    sentences = [*_sentences(confirmed)]
    if not sentences:
        sentences.append(_no_drift(signals, cameras, windows, model_version))
    if suspected.height:
        sentences += [f"Suspected, another day is awaited: {one}" for one in _sentences(suspected)]
    row = {
        "day": day,
        "model_version": model_version,
        "drifted": bool(confirmed.height),
        "drift_id": _drift_id(confirmed, model_version) if confirmed.height else None,
        "cameras": json.dumps(confirmed["camera_id"].unique().sort().to_list()),
        "verdict": " ".join(f"{one[0].upper()}{one[1:]}" for one in sentences),
        "windows": windows,
    }
    return pl.DataFrame([row], schema=table("drift_report").schema)


def _drift_id(confirmed: pl.DataFrame, model_version: str) -> str:
    """Hash of the model and each camera's causes."""
    causes = confirmed.select("camera_id", "cause").sort("camera_id", "cause").rows()
    text = json.dumps([model_version, causes])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sentences(causes: pl.DataFrame) -> Iterator[str]:
    """One sentence for each group of cameras to which the same happened."""
    groups: dict[tuple[str, str], list[str]] = {}
    sure: dict[tuple[str, str], list[tuple[float | None, date]]] = {}
    for row in causes.sort("camera_id", "cause").iter_rows(named=True):
        # Facts are the same in words on every camera; figures differ, and one stands for all.
        exact = row["p_value"] is None
        key = (row["cause"], row["words"] if exact else "")
        groups.setdefault(key, []).append(row["camera_id"])
        sure.setdefault(key, []).append((row["p_value"], row["since"]))
    words = {(row["camera_id"], row["cause"]): row["words"] for row in causes.iter_rows(named=True)}
    for key, cameras in groups.items():
        values = [value for value, _ in sure[key] if value is not None]
        since = min(when for _, when in sure[key])
        certain = f", {p_in_words(max(values))}" if values else ""
        yield (
            f"{cameras_in_words(cameras)}: {words[cameras[0], key[0]]}, "
            f"since {day_in_words(since)}{certain}."
        )


def _no_drift(
    signals: Sequence[Signal], cameras: Sequence[str], windows: int, model_version: str
) -> str:
    if not cameras:
        return "No drift: no footage on this day."
    tested = {one.camera_id for one in signals if one.p_value is not None}
    smallest = min((one.adjusted for one in signals if one.adjusted is not None), default=None)
    text = (
        f"No drift: {len(cameras)} {'camera' if len(cameras) == 1 else 'cameras'} with {windows} "
        f"windows agree with what is ordinary to model {model_version}"
    )
    if smallest is not None:
        text += f" (smallest {p_in_words(smallest)} after correction)"
    untested = sorted(set(cameras) - tested)
    if untested:
        text += (
            f"; too few days for statistics on {cameras_in_words(untested)}, where only facts were "
            "compared"
        )
    return text + "."
