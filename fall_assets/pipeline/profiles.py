"""What each camera's day was like, from what the lake holds: the camera-days drift is judged on.

What belongs here: four tables of one day (`camera_profile`, `camera_facts`, `scenes`,
`camera_embeddings`). What does not: which figures there are (`drift.days`), comparing scenes
(`drift.scenes`), and judging days (`drift`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fall_assets.drift.days import (
    PARTS,
    POSE_FIGURES,
    QUALITY_FIGURES,
    UPRIGHT_ASPECT,
    UPRIGHT_MEASURES,
    CameraDays,
    part_of,
)
from fall_assets.drift.scenes import (
    LOOKS,
    SceneError,
    blurred_jpeg,
    coarse,
    empty_scene,
    pack_cells,
    picture_at,
)
from fall_assets.errors import PermanentFailureError
from fall_assets.features.crop import Crop
from fall_assets.features.duty import gate_duty
from fall_assets.features.gate import gate_version
from fall_assets.features.packing import unpack_sequence
from fall_assets.features.settings import EmbeddingSettings
from fall_assets.lake.registry import table
from fall_assets.pipeline.files import files_of
from fall_assets.pipeline.work import Work

HIGH_SCORE = 0.5
"""A window's score from which it counts as high, whatever the model's own threshold."""

_CAMERA_HOUR = ("camera_id", "hour")
_HALF = 0.5
_LAST_HOUR = 23
_HOUR_S = 3600.0
_PLACES = {1: (0.5,), 2: (0.25, 0.75)}
_WITHIN = (0.1, 0.5, 0.9)


def make_profile(work: Work, day: date) -> CameraDays:
    """Write the day's rows of the four tables and return them.

    All hours are UTC; what reaches over midnight counts for the last hour. A day without footage
    gives empty frames. Scenes whose footage is gone by now are kept as they were found before.
    """
    videos = work.lake.read("videos", days=[day])
    made = CameraDays(
        profile=_profile(work, day, videos),
        facts=_facts(work, day, videos),
        scenes=_scenes(work, day, videos),
        embeddings=_embeddings(work, day, videos),
    )
    for name, frame in (
        ("camera_profile", made.profile),
        ("camera_facts", made.facts),
        ("scenes", made.scenes),
        ("camera_embeddings", made.embeddings),
    ):
        work.lake.replace_partition(name, day, frame, work.provenance(day))
    return made


# Figures.


def _profile(work: Work, day: date, videos: pl.DataFrame) -> pl.DataFrame:
    windows = _window_figures(work, day, videos)
    scores = _score_figures(work, day, videos)
    hours = windows.group_by(*_CAMERA_HOUR).agg(pl.col("windows").max())
    parts = [windows, _duty_figures(work, day, videos, hours), scores]
    rows = pl.concat([part.select(*_CAMERA_HOUR, "figure", "value", "windows") for part in parts])
    return _as_rows("camera_profile", day, rows)


def _window_figures(work: Work, day: date, videos: pl.DataFrame) -> pl.DataFrame:
    """Columns camera_id, hour, figure, value, windows: means over windows that do not overlap."""
    settings = work.site.settings.features.detector
    named = [*QUALITY_FIGURES, *POSE_FIGURES]
    figures = [name for name in named if name in table("features").schema]
    # Every k-th by its number, as `drift.statistics.non_overlapping` does, but before the rest is
    # read: on a large site's day the windows that overlap are most of it.
    step = max(1, math.ceil(settings.window_s / settings.stride_s - 1e-6))
    windows = (
        work.lake.scan("features", days=[day])
        .filter(pl.col("feature_set") == settings.version, pl.col("window") % step == 0)
        .select("video_id", "camera_id", "start_s", *figures)
        .with_columns(**_upright())
        .collect()
    )
    figures += ["upright", *UPRIGHT_MEASURES]
    means = (
        _with_hour(windows, videos, "start_s")
        # Sums in one order, so that the same rows come out of each run.
        .sort("video_id", "start_s")
        .group_by(*_CAMERA_HOUR, maintain_order=True)
        .agg(
            *(_mean(name).alias(f"value:{name}") for name in figures),
            *(pl.col(name).count().cast(pl.Int64).alias(f"windows:{name}") for name in figures),
        )
    )
    return (
        means.unpivot(index=list(_CAMERA_HOUR), variable_name="what", value_name="number")
        .with_columns(
            pl.col("what").str.split_exact(":", 1).struct.rename_fields(["kind", "figure"])
        )
        .unnest("what")
        .pivot("kind", index=[*_CAMERA_HOUR, "figure"], values="number")
        .select(
            *_CAMERA_HOUR,
            "figure",
            pl.col("value").cast(pl.Float64),
            pl.col("windows").cast(pl.Int64),
        )
        .filter(pl.col("windows") > 0)
        if means.height
        else _no_figures()
    )


def _upright() -> dict[str, pl.Expr]:
    """Columns of windows: whether people in it are upright, how high they are then, and where.

    Of people who sit, crouch or lie a height says nothing of how tall they are.
    """
    up = pl.col("person_aspect") >= UPRIGHT_ASPECT
    # Null where nobody is seen who does not lie.
    upright = pl.when(pl.col("lying") < _HALF).then(up)
    height, place = UPRIGHT_MEASURES
    return {
        "upright": upright.cast(pl.Float64),
        height: pl.when(upright).then("person_height"),
        place: pl.when(upright).then("person_y"),
    }


def _mean(name: str) -> pl.Expr:
    """Heights are compared as ratios, so that theirs is the geometric mean."""
    if name == UPRIGHT_MEASURES[0]:
        return pl.col(name).log().mean().exp()
    return pl.col(name).mean()


def _duty_figures(work: Work, day: date, videos: pl.DataFrame, hours: pl.DataFrame) -> pl.DataFrame:
    """`gate_duty` of the detector's gate, from what `motion_gate` says; of no gate none.

    `hours` tells how many windows each camera's hour has.
    """
    gate = work.site.settings.features.detector.gate
    if gate is None or "gate_duty" not in QUALITY_FIGURES:
        return _no_figures()
    gates = work.lake.read(
        "motion_gate", days=[day], where=pl.col("gate") == gate_version(gate)
    ).join(videos.select("video_id"), on="video_id", how="semi")
    starts: dict[str, datetime] = dict(videos.select("video_id", "start_utc").iter_rows())
    rows = [
        (camera_id, hour, "gate_duty", float(share), 1)
        for camera_id, by_hour in gate_duty(day, gates, starts)
        .select("camera_id", "by_hour")
        .iter_rows()
        for hour, share in enumerate(json.loads(by_hour))
        if share is not None
    ]
    duty = pl.DataFrame(rows, schema=_no_figures().schema, orient="row")
    counted = duty.drop("windows").join(hours, on=_CAMERA_HOUR, how="left")
    return counted.with_columns(pl.col("windows").fill_null(1))


def _score_figures(work: Work, day: date, videos: pl.DataFrame) -> pl.DataFrame:
    """`score`, `score_high` and `alerts_per_hour` of the version that scored most of a camera.

    Scores overlap as windows do: of each stretch of a window's length the highest counts.
    """
    length_s = work.site.settings.features.detector.window_s
    scores = (
        work.lake.scan("predictions", days=[day])
        .select("video_id", "camera_id", "model_version", "end_s", "score")
        .collect()
    )
    if scores.is_empty():
        return _no_figures()
    # Two versions with as many rows: the same one in each run.
    main = (
        scores.group_by("camera_id", "model_version")
        .len()
        .sort("camera_id", "len", "model_version")
        .group_by("camera_id", maintain_order=True)
        .last()
        .select("camera_id", "model_version")
    )
    stretch = (pl.col("end_s") / length_s - 1e-9).floor().clip(lower_bound=0)
    highest = (
        scores.join(main, on=["camera_id", "model_version"], how="semi")
        .group_by("video_id", "camera_id", (stretch * length_s).alias("start_s"))
        .agg(pl.col("score").max())
    )
    means = (
        _with_hour(highest, videos, "start_s")
        .sort("video_id", "start_s")
        .group_by(*_CAMERA_HOUR, maintain_order=True)
        .agg(
            score=pl.col("score").mean(),
            score_high=(pl.col("score") >= HIGH_SCORE).mean(),
            windows=pl.len().cast(pl.Int64),
        )
    )
    found = means.unpivot(
        ["score", "score_high"],
        index=[*_CAMERA_HOUR, "windows"],
        variable_name="figure",
        value_name="value",
    ).select(*_CAMERA_HOUR, "figure", "value", "windows")
    return pl.concat([found, _alert_figures(work, day, videos, main, means)])


def _alert_figures(
    work: Work, day: date, videos: pl.DataFrame, main: pl.DataFrame, hours: pl.DataFrame
) -> pl.DataFrame:
    """Alerts of each scored hour over its hours of footage; 0 where there was none."""
    alerts = (
        work.lake.read("alerts", days=[day], columns=["camera_id", "model_version", "start_utc"])
        .join(main, on=["camera_id", "model_version"], how="semi")
        .with_columns(hour=pl.col("start_utc").dt.hour().cast(pl.Int64))
        .group_by(*_CAMERA_HOUR)
        .agg(alerts=pl.len())
    )
    return (
        hours.select(*_CAMERA_HOUR, "windows")
        .join(_footage_hours(videos), on=_CAMERA_HOUR, how="inner")
        .join(alerts, on=_CAMERA_HOUR, how="left")
        .select(
            *_CAMERA_HOUR,
            pl.lit("alerts_per_hour").alias("figure"),
            (pl.col("alerts").fill_null(0) / pl.col("footage_h")).alias("value"),
            "windows",
        )
    )


def _footage_hours(videos: pl.DataFrame) -> pl.DataFrame:
    """Columns camera_id, hour, footage_h: how much footage each hour of a camera has, above 0."""
    midnight = pl.col("start_utc").dt.truncate("1d")
    start_s = (pl.col("start_utc") - midnight).dt.total_microseconds() / 1e6
    return (
        videos.select("video_id", "camera_id", "duration_s", start_s=start_s)
        .with_columns(end_s=pl.col("start_s") + pl.col("duration_s"))
        .with_columns(
            hour=pl.int_ranges(
                (pl.col("start_s") // _HOUR_S).cast(pl.Int64).clip(0, _LAST_HOUR),
                (pl.col("end_s") // _HOUR_S).cast(pl.Int64).clip(0, _LAST_HOUR) + 1,
            )
        )
        .explode("hour")
        .with_columns(
            from_s=pl.col("hour") * _HOUR_S,
            until_s=pl.when(pl.col("hour") == _LAST_HOUR)
            .then(math.inf)
            .otherwise((pl.col("hour") + 1) * _HOUR_S),
        )
        .sort("camera_id", "start_s", "video_id")
        .group_by(*_CAMERA_HOUR, maintain_order=True)
        .agg(
            footage_h=(
                pl.min_horizontal("end_s", "until_s") - pl.max_horizontal("start_s", "from_s")
            ).sum()
            / _HOUR_S
        )
        .filter(pl.col("footage_h") > 0)
    )


def _no_figures() -> pl.DataFrame:
    schema = table("camera_profile").schema
    return pl.DataFrame(
        schema={name: schema[name] for name in (*_CAMERA_HOUR, "figure", "value", "windows")}
    )


def _with_hour(rows: pl.DataFrame, videos: pl.DataFrame, start: str) -> pl.DataFrame:
    """Rows of segments that are known, with the hour in which each starts.

    `start` is their start in seconds from the segment's.
    """
    at = pl.col("start_utc") + pl.duration(microseconds=(pl.col(start) * 1e6).round())
    midnight = pl.col("start_utc").dt.truncate("1d")
    hour = (at - midnight).dt.total_hours().clip(0, _LAST_HOUR).cast(pl.Int64)
    return (
        rows.join(videos.select("video_id", "start_utc"), on="video_id", how="inner")
        .with_columns(hour=hour)
        .drop("start_utc")
    )


# Facts.


def _facts(work: Work, day: date, videos: pl.DataFrame) -> pl.DataFrame:
    rate = (
        work.lake.scan("features", days=[day])
        .filter(pl.col("feature_set") == work.site.settings.features.detector.version)
        .group_by("video_id")
        .agg(measured=pl.col("fps").median())
        .collect()
    )
    footage = videos.join(rate, on="video_id", how="left").select(
        "camera_id",
        weight="duration_s",
        resolution=pl.format("{}x{}", "width", "height"),
        codec="codec",
        frame_rate=pl.coalesce("measured", "fps").round(0).cast(pl.Int64).cast(pl.String),
    )
    reports = work.lake.read(
        "camera_health",
        days=[day],
        columns=["camera_id", "camera_model", "firmware", "clock_offset_s"],
    )
    told = reports.select("camera_id", "camera_model", "firmware", weight=pl.lit(1.0))
    clock = (
        reports.drop_nulls("clock_offset_s")
        .group_by("camera_id")
        .agg(pl.col("clock_offset_s").median())
        .select(
            "camera_id",
            clock=pl.col("clock_offset_s").round(0).cast(pl.Int64).cast(pl.String),
            weight=pl.lit(1.0),
        )
    )
    parts = [
        _shares(frame, fact)
        for frame in (footage, told, clock)
        for fact in frame.columns
        if fact not in ("camera_id", "weight")
    ]
    return _as_rows("camera_facts", day, pl.concat(parts))


def _shares(rows: pl.DataFrame, fact: str) -> pl.DataFrame:
    """Columns camera_id, fact, value, share (0-1) of the column `fact`, where it is known."""
    total = pl.col("weight").sum().over("camera_id")
    return (
        rows.drop_nulls(fact)
        .sort("camera_id", fact, "weight")
        .group_by("camera_id", pl.col(fact).alias("value"), maintain_order=True)
        .agg(pl.col("weight").sum())
        .with_columns(
            fact=pl.lit(fact),
            share=pl.when(total > 0).then(pl.col("weight") / total).otherwise(1.0).clip(0, 1),
        )
        .select("camera_id", "fact", "value", "share")
    )


# Scenes.


def _scenes(work: Work, day: date, videos: pl.DataFrame) -> pl.DataFrame:
    """What each camera saw in each quarter of the day, from a handful of its pictures."""
    before = work.lake.read("scenes", days=[day])
    files = files_of(work, videos)
    there = videos.filter(pl.col("video_id").is_in(list(files)))
    crops: dict[str, str | None] = dict(
        work.lake.read("cameras", columns=["camera_id", "crop"]).iter_rows()
    )
    found: list[dict[str, object]] = []
    progress = work.progress("scenes")
    parts = there.with_columns(
        part=part_of(pl.col("start_utc").dt.hour().cast(pl.Int64)).clip(0, PARTS - 1)
    ).partition_by("camera_id", "part", as_dict=True, maintain_order=True)
    for number, (camera_id, part) in enumerate(sorted(parts), 1):
        segments = parts[camera_id, part].sort("start_utc", "video_id")
        looks = _looks(work, files, segments, Crop.parse(crops.get(str(camera_id))))
        if looks:
            scene = empty_scene(looks)
            name = f"{camera_id}-{part}.jpg"
            found.append(
                {
                    "camera_id": camera_id,
                    "part": part,
                    "picture": work.lake.write_file(blurred_jpeg(scene), "scenes", str(day), name),
                    "cells": pack_cells(coarse(scene)),
                    "looks": len(looks),
                }
            )
        progress(number, len(parts))
    rows = _as_rows("scenes", day, pl.DataFrame(found, schema=_without_day("scenes")))
    kept = before.join(rows, on=["camera_id", "part"], how="anti")
    return pl.concat([rows, kept]).sort("camera_id", "part")


def _looks(
    work: Work, files: Mapping[str, str], segments: pl.DataFrame, crop: Crop
) -> list[NDArray[np.uint8]]:
    """At most `LOOKS` key pictures, spread over the segments; what cannot be read is left out."""
    chosen = np.unique(np.linspace(0, segments.height - 1, min(LOOKS, segments.height)).astype(int))
    each = LOOKS // len(chosen)
    shares = _PLACES.get(each, _WITHIN)
    looks = []
    for place in chosen.tolist():
        video_id, duration_s = segments.select("video_id", "duration_s").row(place)
        for picture in _pictures(work, files[video_id], [duration_s * share for share in shares]):
            looks.append(crop.cut(picture))
    return looks


def _pictures(work: Work, path: str, times_s: Sequence[float]) -> Iterator[NDArray[np.uint8]]:
    try:
        local: Path = work.footage.stage(path)
        for at_s in times_s:
            # Of many segments the key frames do; a single one may have one key frame only.
            yield picture_at(local, at_s, exact=len(times_s) > 1)
    except (SceneError, PermanentFailureError, FileNotFoundError) as error:
        # The scene of the others will do; intake has told of the file already.
        work.log(f"scene: {path} is left out: {error}")


# Embeddings.


def _embeddings(work: Work, day: date, videos: pl.DataFrame) -> pl.DataFrame:
    """Means of the day's embeddings, camera by camera: a day of them may not fit into memory."""
    is_embedding = pl.col("feature_set").str.starts_with(f"{EmbeddingSettings.kind}-")
    sequences = work.lake.scan("sequences", days=[day]).filter(is_embedding)
    cameras = sequences.select("camera_id").unique().collect()["camera_id"].sort().to_list()
    starts: dict[str, datetime] = dict(videos.select("video_id", "start_utc").iter_rows())
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    found: list[dict[str, object]] = []
    for camera_id in cameras:
        rows = (
            sequences.filter(pl.col("camera_id") == camera_id)
            .collect()
            .sort("feature_set", "video_id", "part")
        )
        sums: dict[tuple[str, int], tuple[NDArray[np.float64], int]] = {}
        for row in rows.iter_rows(named=True):
            if row["video_id"] not in starts:
                continue
            values = unpack_sequence(row["values"], row["width"]).astype(np.float64)
            since_s = (starts[row["video_id"]] - midnight).total_seconds() + row["start_s"]
            at_s = since_s + np.arange(len(values)) / row["rate_hz"]
            hours = np.clip(at_s // _HOUR_S, 0, _LAST_HOUR).astype(int)
            seen = ~np.isnan(values).any(axis=1)
            for hour in np.unique(hours[seen]).tolist():
                those = values[seen & (hours == hour)]
                key = (row["feature_set"], hour)
                total, count = sums.get(key, (np.zeros(row["width"]), 0))
                sums[key] = total + those.sum(axis=0), count + len(those)
        found += [
            {
                "camera_id": camera_id,
                "hour": hour,
                "feature_set": feature_set,
                "samples": count,
                "values": (total / count).astype("<f4").tobytes(),
            }
            for (feature_set, hour), (total, count) in sums.items()
        ]
    frame = pl.DataFrame(found, schema=_without_day("camera_embeddings"))
    return _as_rows("camera_embeddings", day, frame)


def _without_day(name: str) -> pl.Schema:
    schema = table(name).schema
    return pl.Schema({column: kind for column, kind in schema.items() if column != "day"})


def _as_rows(name: str, day: date, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the day, their columns and their order those of the table."""
    described = table(name)
    schema = described.schema
    return (
        rows.with_columns(pl.lit(day).alias("day"))
        .select(pl.col(column).cast(kind) for column, kind in schema.items())
        .sort(*described.key)
    )
