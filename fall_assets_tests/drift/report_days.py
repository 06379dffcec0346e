"""Report days made up for tests of the page and the plots."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from fall_assets.drift.page import ReportDay, ScenePicture
from fall_assets.drift.words import WORDS
from fall_assets.lake.registry import table

DAY = date(2026, 3, 16)
MODEL = "7"


def ago(days: int) -> date:
    """A day before the report's."""
    return DAY - timedelta(days=days)


def rows(name: str, given: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows of a table."""
    return pl.DataFrame(given, schema=table(name).schema)


def cause(
    camera_id: str = "cam-1",
    name: str = "lens_blurred",
    since: date = DAY,
    confirmed: bool = True,
    p_value: float | None = 1e-6,
    signals: tuple[str, ...] = ("sharpness",),
    numbers: str = "sharpness from 12.0 ‰ to 6.0 ‰",
) -> dict[str, Any]:
    """A row of `drift_causes`."""
    return {
        "day": DAY, "model_version": MODEL, "camera_id": camera_id, "cause": name, "since": since,
        "confirmed": confirmed, "p_value": p_value,
        "words": f"{WORDS[name].happened} ({numbers})",
        "evidence": json.dumps([{"signal": signal, "kind": "quality"} for signal in signals]),
    }  # fmt: skip


def signal(
    camera_id: str = "cam-1",
    name: str = "sharpness",
    kind: str = "quality",
    before: float | None = 0.012,
    after: float | None = 0.006,
    effect: float | None = 2.0,
    drifted: bool = True,
    reference: str = "12.0 ‰",
    today: str = "6.0 ‰",
    p_value: float | None = 1e-6,
) -> dict[str, Any]:
    """A row of `drift_signals`."""
    return {
        "day": DAY, "model_version": MODEL, "camera_id": camera_id, "signal": name, "kind": kind,
        "reference": reference, "today": today, "statistic": None, "p_value": p_value,
        "drifted": drifted, "before": before, "after": after, "effect": effect,
    }  # fmt: skip


def answer(
    camera_id: str, cause_name: str, name: str, state: str, sentence: str, hour: int
) -> dict[str, Any]:
    """A row of `drift_answers`."""
    return {
        "at_utc": datetime(2026, 3, 16, hour, tzinfo=UTC),
        "episode_id": f"{camera_id} {cause_name}", "model_version": MODEL, "cause": cause_name,
        "cameras": json.dumps([camera_id]), "since": DAY, "answer": name, "state": state,
        "sentence": sentence, "evidence": "{}", "run_id": "run",
    }  # fmt: skip


def history(
    camera_id: str = "cam-1", figure: str = "sharpness", values: dict[date, float] | None = None
) -> list[dict[str, Any]]:
    """Rows of `camera_profile`: two hours of each day around its value; a drop today by default."""
    if values is None:
        values = {ago(n): 0.006 if n == 0 else 0.012 + 0.0001 * (n % 3) for n in range(35)}
    return [
        {
            "day": day, "camera_id": camera_id, "hour": hour, "figure": figure,
            "value": value + off, "windows": 5,
        }
        for day, value in values.items()
        for hour, off in ((9, 0.0001), (15, -0.0001))
    ]  # fmt: skip


def ordinary(
    camera_id: str = "cam-1", days: range = range(20, 35), model: str = MODEL
) -> list[dict[str, Any]]:
    """Rows of `ordinary_days`, so many days ago."""
    return [
        {"model_version": model, "camera_id": camera_id, "recorded_day": ago(n), "feature_set": "f"}
        for n in days
    ]


def scene(camera_id: str, day: date, part: int, looks: int = 5) -> dict[str, Any]:
    """A row of `scenes`."""
    return {
        "day": day, "camera_id": camera_id, "part": part,
        "picture": f"scenes/{camera_id}/{day}/{part}.jpg", "cells": b"", "looks": looks,
    }  # fmt: skip


def jpeg(seed: int = 0) -> bytes:
    """A picture of blurred noise."""
    noise = np.random.default_rng(seed).integers(0, 255, (9, 16, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).resize((160, 90)).save(content, "JPEG")
    return content.getvalue()


def pictures(before: bool = True, after: bool = True) -> tuple[Any, Any]:
    """A pair for `ReportDay.scenes`."""
    return (
        ScenePicture(jpeg(1), ago(20), 2) if before else None,
        ScenePicture(jpeg(2), DAY, 2) if after else None,
    )


def cameras(*places: tuple[str, str, str]) -> pl.DataFrame:
    """Rows of `cameras`: name, ward and room."""
    return rows(
        "cameras",
        [
            {
                "camera_id": name, "ward": ward, "room": room, "view": "corner", "dataset": "site",
                "crop": None,
            }
            for name, ward, room in places
        ],
    )  # fmt: skip


def report_day(
    causes: list[dict[str, Any]],
    signals: list[dict[str, Any]],
    *,
    verdict: str = "The verdict.",
    windows: int = 1200,
    **more: Any,
) -> ReportDay:
    """The day with these rows; `more` are fields of `ReportDay`."""
    drifted = any(one["confirmed"] for one in causes)
    report = rows(
        "drift_report",
        [
            {
                "day": DAY, "model_version": MODEL, "drifted": drifted,
                "drift_id": "d" if drifted else None, "cameras": "[]", "verdict": verdict,
                "windows": windows,
            }
        ],
    )  # fmt: skip
    return ReportDay(
        DAY, MODEL, report, rows("drift_causes", causes), rows("drift_signals", signals), **more
    )
