"""Drift on real footage: URFD is what is ordinary, other rooms and cameras are what comes.

    python -m benchmarks.drift_real [--footage DIR] [--cache FILE] [--splits N]

Films have no clock and were not made by a ward, so that days are put together of them: each film is
one hour of a made-up day, seven films to a day of cam0, three to one of cam1. What is real: the
pictures, the people, the figures that the extraction gives, the scenes, and the judge with the
site's own settings.

- halves: the 70 events of URFD (falls with both of their cameras) are split at random; one half is
  ordinary, five days of it, the other half five days that are judged one after the other. Goal: no
  drift in any of the splits.
- exchange: all of URFD is ordinary; then GMDCSA24, or the camera of people_walking, is seen under
  the name of cam0, three days each (people_walking: two, of pieces of 10 s). As it is, the
  resolution gives it away, and must be named. Then with the facts of cam0 made the same, so that
  only what is seen can tell: drift must be found, and its cause be the room or the view.
- new: the same footage under names of its own must be named as new cameras.

Exit code 1 where a goal is missed. Without the footage it says so and ends with 0.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from fall_assets.drift.days import POSE_FIGURES, QUALITY_FIGURES, CameraDays
from fall_assets.drift.report import DriftJudgement, Past, judge
from fall_assets.drift.scenes import coarse, empty_scene, pack_cells, picture_at, unpack_cells
from fall_assets.drift.settings import DriftSettings
from fall_assets.drift.statistics import non_overlapping
from fall_assets.lake.registry import table

REPOSITORY = Path(__file__).resolve().parents[1]
FIRST = date(2026, 1, 5)
HOURS = (8, 10, 12, 14, 16, 18, 20)
ORDINARY_DAYS, JUDGED_DAYS = 5, 5
PIECE_S = 10.0
FIGURES = tuple(name for name in (*QUALITY_FIGURES, *POSE_FIGURES) if name != "gate_duty")
SEEN = ("room_changed", "view_moved")
SETTINGS = DriftSettings()


@dataclass(frozen=True)
class Film:
    """One film, or a piece of one: its source, its event, and the camera that it is of."""

    path: Path
    source: str
    camera: str
    event: str


@dataclass(frozen=True)
class Measured:
    """Films with their figures: rows of film (a number), figure, value, windows; and of facts."""

    films: pl.DataFrame
    figures: pl.DataFrame

    def of(self, source: str, camera: str | None = None) -> pl.DataFrame:
        """Films of a source, or of one camera of it."""
        own = self.films.filter(pl.col("source") == source)
        return own if camera is None else own.filter(pl.col("camera") == camera)


def films_in(root: Path) -> list[Film]:
    """The films that are used, in order of their names."""
    films = []
    for path in sorted((root / "urfd").rglob("*.mp4")):
        name = path.stem
        camera = "cam1" if "cam1" in name else "cam0"
        films.append(Film(path, "urfd", camera, name.replace("-cam0", "").replace("-cam1", "")))
    for path in sorted((root / "gmdcsa24").rglob("*.mp4")):
        subject = path.relative_to(root / "gmdcsa24").parts[0].replace(" ", "-").lower()
        event = "-".join(path.relative_to(root).with_suffix("").parts)
        films.append(Film(path, "gmdcsa24", subject, event))
    for path in sorted((root / "people_walking").rglob("*.mp4")):
        films.append(Film(path, "people_walking", "corridor", path.stem))
    return films


def measure(film: Film) -> list[dict[str, object]]:
    """Rows of a film's pieces: its figures, facts and scene."""
    from fall_assets.features.extract import Team, extract
    from fall_assets.features.segments import VideoRef
    from fall_assets.features.settings import FeatureSettings

    video = VideoRef(film.path, film.event, film.camera, FIRST)
    windows = non_overlapping(extract(video, Team.of([FeatureSettings()])).tables["features"])
    length = PIECE_S if film.source == "people_walking" else float("inf")
    rows: list[dict[str, object]] = []
    for number, piece in enumerate(_pieces(windows, length)):
        start, end = float(piece["start_s"].min()), float(piece["end_s"].max())  # type: ignore[arg-type]
        looks = [picture_at(film.path, start + share * (end - start)) for share in (0.1, 0.5, 0.9)]
        rows.append(
            {
                "source": film.source,
                "camera": film.camera,
                "event": f"{film.event}-{number}" if number else film.event,
                "resolution": f"{piece['width'][0]}x{piece['height'][0]}",
                "frame_rate": f"{float(np.median(piece['fps'].to_numpy())):.0f}",
                "cells": pack_cells(coarse(empty_scene(looks))),
                "windows": piece.height,
                **{name: piece[name].mean() for name in FIGURES},
            }
        )
    return rows


def _pieces(windows: pl.DataFrame, length_s: float) -> list[pl.DataFrame]:
    if not np.isfinite(length_s):
        return [windows]
    numbered = windows.with_columns(piece=pl.col("start_s") // length_s)
    return numbered.partition_by("piece", maintain_order=True)


def measured(root: Path, cache: Path, workers: int) -> pl.DataFrame:
    """One row per film or piece, from the cache where it holds them."""
    if cache.is_file():
        return pl.read_parquet(cache)
    films = films_in(root)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = list(tqdm(pool.map(measure, films), total=len(films), desc="films", leave=False))
    rows = pl.DataFrame([row for part in found for row in part], infer_schema_length=None)
    rows.write_parquet(cache)
    return rows


def days_of(
    films: pl.DataFrame,
    camera_id: str,
    first: int,
    per_day: int,
    *,
    like: pl.DataFrame | None = None,
) -> CameraDays:
    """Films in the order given as made-up days of one camera, from day number `first` on.

    With `like` the facts are those of other films' first one.
    """
    facts = (films if like is None else like).row(0, named=True)
    profile, scenes, told = [], [], []
    days = [films.slice(at, per_day) for at in range(0, films.height - per_day + 1, per_day)]
    for number, part in enumerate(days, first):
        day = FIRST + timedelta(days=number)
        for row, hour in zip(part.iter_rows(named=True), HOURS, strict=False):
            profile += [
                (day, camera_id, hour, name, row[name], row["windows"])
                for name in FIGURES
                if row[name] is not None
            ]
        # Of each half of the day one scene, the median of its films' ones.
        for quarter in (1, 2):
            own = part.slice(0 if quarter == 1 else per_day // 2, max(1, per_day // 2))
            cells = [unpack_cells(packed) for packed in own["cells"]]
            shape = cells[0].shape
            alike = [one for one in cells if one.shape == shape]
            middle = np.median(np.stack(alike), axis=0).astype(np.uint8)
            scenes.append((day, camera_id, quarter, "none", pack_cells(middle), len(alike)))
        for fact in ("resolution", "frame_rate"):
            value = facts[fact] if like is not None else part[fact].mode().sort()[0]
            told.append((day, camera_id, fact, value, 1.0))
    return CameraDays(
        pl.DataFrame(profile, schema=table("camera_profile").schema, orient="row"),
        pl.DataFrame(told, schema=table("camera_facts").schema, orient="row"),
        pl.DataFrame(scenes, schema=table("scenes").schema, orient="row"),
        table("camera_embeddings").empty(),
    )


def together(parts: list[CameraDays]) -> CameraDays:
    """Camera-days of several cameras or stretches of days."""
    return CameraDays(
        pl.concat([part.profile for part in parts]),
        pl.concat([part.facts for part in parts]),
        pl.concat([part.scenes for part in parts]),
        pl.concat([part.embeddings for part in parts]),
    )


def judged(days: CameraDays, ordinary: int, more: int) -> list[DriftJudgement]:
    """The days after the first `ordinary` ones, judged one after the other."""
    numbers = [FIRST + timedelta(days=number) for number in range(ordinary + more)]
    known = (
        days.facts.filter(pl.col("day").is_in(numbers[:ordinary]))
        .select(
            model_version=pl.lit("1"),
            camera_id="camera_id",
            recorded_day="day",
            feature_set=pl.lit("real"),
            regime=pl.lit(0, pl.Int64),
        )
        .unique()
    )
    past, found = Past(), []
    for day in numbers[ordinary:]:
        one = judge(days.of([*numbers[:ordinary], day]), known, day, "1", SETTINGS, past)
        found.append(one)
        past = Past(
            pl.concat([past.causes, one.causes]),
            pl.concat([past.signals, one.signals]),
        )
    return found


def halves(rows: pl.DataFrame, splits: int) -> tuple[int, int, int]:
    """Camera-days judged, drifts and suspicions over random splits by event."""
    urfd = rows.filter(pl.col("source") == "urfd")
    events = urfd["event"].unique().sort().to_list()
    camera_days = drifts = suspicions = 0
    for seed in tqdm(range(splits), desc="splits", leave=False):
        order = np.random.default_rng(seed).permutation(len(events))
        shuffled = {events[place]: rank for rank, place in enumerate(order)}
        ranked = urfd.with_columns(
            rank=pl.col("event").replace_strict(shuffled, return_dtype=pl.Int64)
        ).sort("rank")
        parts = []
        for half, first in ((0, 0), (1, ORDINARY_DAYS)):
            lower, upper = half * len(events) / 2, (half + 1) * len(events) / 2
            own = ranked.filter(pl.col("rank") >= lower, pl.col("rank") < upper)
            for camera, per_day in (("cam0", 7), ("cam1", 3)):
                films = own.filter(pl.col("camera") == camera)
                parts.append(days_of(films.head(per_day * ORDINARY_DAYS), camera, first, per_day))
        for one in judged(together(parts), ORDINARY_DAYS, JUDGED_DAYS):
            camera_days += 2
            drifts += one.causes.filter("confirmed").height
            suspicions += one.causes.filter(~pl.col("confirmed")).height
    return camera_days, drifts, suspicions


def exchange(
    rows: pl.DataFrame, source: str, *, name: str = "cam0", alike: bool = False
) -> tuple[list[DriftJudgement], int]:
    """Judge days of a source after all of URFD; and how many days there were."""
    urfd = rows.filter(pl.col("source") == "urfd").sort("event")
    order = np.random.default_rng(0).permutation(urfd.height)
    mixed = urfd[order.tolist()]
    usual = [
        days_of(mixed.filter(pl.col("camera") == camera), camera, 0, per_day)
        for camera, per_day in (("cam0", 7), ("cam1", 3))
    ]
    ordinary = usual[0].facts["day"].n_unique()
    own = rows.filter(pl.col("source") == source)
    like = mixed.filter(pl.col("camera") == "cam0") if alike else None
    per_day = min(7, max(1, own.height // 2))
    new = days_of(own, name, ordinary, per_day, like=like)
    count = new.facts["day"].n_unique()
    return judged(together([*usual, new]), ordinary, count), count


def main() -> int:
    """Measure all, print a table, and tell which goals were missed."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else ""
    )
    default = os.environ.get("FALL_FOOTAGE_SAMPLES") or REPOSITORY / ".." / "shared" / "footage"
    parser.add_argument("--footage", type=Path, default=Path(default).resolve())
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--splits", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    if not (asked.footage / "urfd").is_dir():
        print(f"drift_real: skipped, no real footage at {asked.footage} (FALL_FOOTAGE_SAMPLES)")
        return 0
    cache = asked.cache or Path(tempfile.mkdtemp()) / "films.parquet"
    rows = measured(asked.footage, cache, asked.workers)
    counted = rows.group_by("source", "camera").len().sort("source", "camera").rows()
    print("films: " + ", ".join(f"{source} {camera} {count}" for source, camera, count in counted))
    missed = []
    camera_days, drifts, suspicions = halves(rows, asked.splits)
    print(
        f"halves of URFD: {asked.splits} splits, {camera_days} camera-days judged, {drifts} "
        f"drifts, {suspicions} suspicions of a single day"
    )
    if drifts:
        missed.append("halves")
    for source in ("gmdcsa24", "people_walking"):
        for title, options, wanted in (
            ("at cam0's place", {}, ("resolution",)),
            ("the same, facts alike", {"alike": True}, SEEN),
            ("as a new camera", {"name": source}, ("new_camera",)),
        ):
            found, count = exchange(rows, source, **options)
            camera = str(options.get("name", "cam0"))
            at = next((place for place, one in enumerate(found) if one.drifted), None)
            causes = [] if at is None else _causes(found[at], camera)
            right = bool(set(causes) & set(wanted))
            if not right:
                missed.append(f"{source} {title}")
            when = "not found" if at is None else f"day {at + 1} of {count}"
            verdict = f"{', '.join(causes) or 'nothing'} ({'right' if right else 'wrong'})"
            print(f"{source}, {title}: {when}, {verdict}\n    {found[-1].verdict}")
    print(f"drift_real: {'missed ' + ', '.join(missed) if missed else 'all goals met'}")
    return 1 if missed else 0


def _causes(judgement: DriftJudgement, camera: str) -> list[str]:
    own = judgement.causes.filter(pl.col("camera_id") == camera, "confirmed")
    return own["cause"].to_list()


if __name__ == "__main__":
    sys.exit(main())
