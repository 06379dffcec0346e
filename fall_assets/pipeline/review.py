"""Review: what the champion says of new footage, and what people should look at next."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from fall_assets.labelling.automatic import SOURCE as AUTOMATIC
from fall_assets.labelling.automatic import automatic_labels
from fall_assets.labelling.queue import (
    FIGURES,
    REPORTED,
    cut_pieces,
    judge_pieces,
    labelled_share,
    part_of_day,
    rank,
)
from fall_assets.lake.registry import table
from fall_assets.learning.windows import segment_tracks
from fall_assets.pipeline.drift_records import wanted_cameras
from fall_assets.pipeline.feedback import reported_falls
from fall_assets.pipeline.models import champion, tracking
from fall_assets.pipeline.serving import detector_of, rows_of, serving_on
from fall_assets.pipeline.training_sets import load_training_set
from fall_assets.pipeline.work import Work

if TYPE_CHECKING:
    from fall_assets.learning.detector import Detector

CANDIDATES_PER_DAY = 2000
"""Pieces of a day that are ranked: 14 days of them are ranked within seconds, and the queue holds
some hundred. Half are those that models or staff point at, half are spread over the day."""

SECOND_OPINIONS_PER_DAY = 100
"""Pieces of a day that another version scores where the lake holds no scores of it."""

COVERED_PER_CAMERA = 200
"""Windows of each camera that stand for what the champion learned from."""


def label_automatically(work: Work, day: date) -> pl.DataFrame:
    """Write what the version says that is live on each camera, as intervals with a confidence.

    Made from that version's rows of `predictions`; the same rows give the same labels.

    Raises:
        PermanentFailureError: no champion is registered.
    """
    serving = {day: serving_on(work, day)}
    live = rows_of(work.lake.read("predictions", days=[day]), serving)
    parts = [table("automatic_labels").empty()]
    for version in live["model_version"].unique().sort():
        detector, own = detector_of(work, version), live.filter(pl.col("model_version") == version)
        parts.append(automatic_labels(own, detector.events, detector.windows.window_s))
    rows = pl.concat(parts)
    work.lake.replace_partition("automatic_labels", day, rows, work.provenance(day))
    return rows


def build_review_queue(work: Work) -> pl.DataFrame:
    """Rank what nobody labelled of the newest days and write the table `review_queue`.

    Of footage, only the newest `settings.review.days` days are read, each by itself, and each
    leaves at most `CANDIDATES_PER_DAY` pieces; of older days only what people labelled counts, and
    what the champion learned from. So the cost grows with people's work and not with the history
    of footage. Without a champion the queue is ranked by what is unlike the labelled footage
    alone. A piece whose file is gone is not in it. Cameras of which labels are wanted because of
    an open drift come first with what they saw since its first day (`pipeline.answers`).

    Two versions are compared: the champion and the newest other version of the registry with the
    same feature set (the challenger, else the one before). Where `predictions` does not hold the
    other's scores, it scores the most doubtful pieces of each day here.
    """
    lake, settings = work.lake, work.site.settings.review
    models = _models(work)
    days = lake.days("videos")[-settings.days :]
    feedback = _feedback(work, days)
    parts = [part for day in days if (part := _day(work, day, models, feedback)) is not None]
    if not parts:
        rows = lake.read("review_queue").clear()
    else:
        rows = rank(
            pl.concat(parts),
            settings,
            covered=_learned_from(work, models),
            rooms=dict(lake.read("cameras", columns=["camera_id", "room"]).iter_rows()),
            drifted=wanted_cameras(work),
            feedback=feedback,
            labelled=_labelled(work),
            threshold=models.threshold,
        )
    lake.replace("review_queue", rows, work.provenance())
    return rows


@dataclass(frozen=True)
class _Models:
    """The champion and another version beside it, as far as there are any."""

    newest: str | None = None
    threshold: float = 0.5
    other: str | None = None
    second: Detector | None = None


def _models(work: Work) -> _Models:
    from fall_assets.learning.tracking import UnknownModelError

    store = tracking(work.site)
    if store.champion() is None:
        return _Models()
    detector, version = champion(work.site)
    others = work.lake.read("registered_model").filter(pl.col("model_version") != version)
    for row in others.sort("registered_utc", descending=True).iter_rows(named=True):
        try:
            other = store.load_detector(row["run_id"])
        except UnknownModelError as error:
            work.log(f"version {row['model_version']} gives no second opinion: {error}")
            continue
        if other.feature_set == detector.feature_set:
            return _Models(version, detector.threshold, row["model_version"], other)
    return _Models(version, detector.threshold)


def _day(work: Work, day: date, models: _Models, feedback: pl.DataFrame) -> pl.DataFrame | None:
    """The day's pieces that are worth ranking, and those that are labelled; None without any."""
    lake, settings = work.lake, work.site.settings.review
    videos = lake.read("videos", days=[day], where=pl.col("deleted_utc").is_null())
    detector_set = work.site.settings.features.detector.version
    features = lake.read("features", days=[day], where=pl.col("feature_set") == detector_set)
    labels = lake.read("labels", days=[day], where=pl.col("source") != AUTOMATIC)
    pieces = labelled_share(cut_pieces(videos, features, settings), labels)
    if pieces.is_empty():
        return None
    versions = [version for version in (models.newest, models.other) if version is not None]
    predictions = lake.read(
        "predictions", days=[day], where=pl.col("model_version").is_in(versions)
    ).select("video_id", "model_version", "end_s", "score")

    def judged(scores: pl.DataFrame, of: pl.DataFrame) -> pl.DataFrame:
        return judge_pieces(
            of,
            scores,
            videos,
            newest=models.newest,
            other=models.other,
            threshold=models.threshold,
            settings=settings,
        )

    kept = _candidates(judged(predictions, pieces), feedback)
    # In a rollout the other version has scored some cameras.
    scored = predictions.filter(pl.col("model_version") == pl.lit(models.other))["video_id"]
    unasked = ~pl.col("video_id").is_in(scored.unique().to_list())
    if models.second is not None:
        doubtful = kept.filter(unasked, pl.col("labelled") < 0.5, pl.col("score").is_not_null())
        asked = doubtful.sort("doubt", "start_utc", descending=[True, False]).head(
            SECOND_OPINIONS_PER_DAY
        )
        second = _second_opinion(work, day, asked, videos, models)
        kept = judged(pl.concat([predictions, second]), kept.select(pieces.columns))
    return kept


def _candidates(judged: pl.DataFrame, feedback: pl.DataFrame) -> pl.DataFrame:
    """At most so many pieces of a day: labelled ones, pointed-at ones, and a spread of the rest."""
    if judged.height <= CANDIDATES_PER_DAY:
        return judged
    told = pl.col("video_id").is_in(feedback["video_id"].to_list()).cast(pl.Float64)
    # The order of a hash is the same each time and has nothing to do with what is in the piece.
    marked = judged.with_columns(
        pointed=pl.col("doubt") + pl.col("disagreement") + told,
        order=pl.struct("video_id", "piece").hash(seed=0),
    )
    half = CANDIDATES_PER_DAY // 2
    done = marked.filter(pl.col("labelled") >= 0.5).sort("order").head(half)
    waiting = marked.filter(pl.col("labelled") < 0.5)
    room = CANDIDATES_PER_DAY - done.height
    pointed = waiting.sort("pointed", "order", descending=[True, False]).head(room // 2)
    rest = waiting.join(pointed, on=["video_id", "piece"], how="anti")
    seen = rest.sort(pl.col("people") > 0, "order", descending=[True, False])
    chosen = pl.concat([done, pointed, seen.head(room - pointed.height)])
    return chosen.drop("pointed", "order").sort("camera_id", "start_utc", "video_id", "piece")


def _second_opinion(
    work: Work, day: date, pieces: pl.DataFrame, videos: pl.DataFrame, models: _Models
) -> pl.DataFrame:
    """Scores of the other version for the segments of some pieces."""
    schema = {"video_id": pl.String, "model_version": pl.String, "end_s": pl.Float64}
    schema |= {"score": pl.Float64}
    detector = models.second
    ids = pieces["video_id"].unique(maintain_order=True).to_list()
    if detector is None or not ids:
        return pl.DataFrame(schema=schema)
    tracks = work.lake.read(
        "pose_tracks",
        days=[day],
        where=pl.col("video_id").is_in(ids) & (pl.col("feature_set") == detector.feature_set),
    )
    lengths = dict(videos.select("video_id", "duration_s").iter_rows())
    rows: list[tuple[str, str | None, float, float]] = []
    for video_id in ids:
        own = tracks.filter(pl.col("video_id") == video_id)
        scores = detector.scores(segment_tracks(video_id, lengths[video_id], own))
        rows += [
            (video_id, models.other, end_s, score)
            for end_s, score in zip(scores.end_s.tolist(), scores.score.tolist(), strict=True)
        ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _feedback(work: Work, days: list[date]) -> pl.DataFrame:
    """What staff said of some days' footage: video_id, start_s, end_s, verdict, report_id.

    The newest answer to each alert, and where a fall was that raised none.
    """
    answers = work.lake.read("alert_feedback").sort("at_utc", "by").group_by("alert_id").last()
    alerts = work.lake.read(
        "alerts", days=days, columns=["alert_id", "video_id", "start_s", "end_s"]
    )
    said = alerts.join(answers.select("alert_id", "verdict"), on="alert_id")
    said = said.with_columns(report_id=pl.lit(None, pl.String))
    columns = ["video_id", "start_s", "end_s", "verdict", "report_id"]
    return pl.concat([said.select(columns), _reported(work, days).select(columns)]).sort(columns)


def _reported(work: Work, days: list[date]) -> pl.DataFrame:
    """The footage in which a reported fall must be, until one is labelled there."""
    reports = reported_falls(work, days)
    if reports.is_empty():
        texts = dict.fromkeys(("video_id", "verdict", "report_id"), pl.String())
        return pl.DataFrame(schema={**texts, "start_s": pl.Float64(), "end_s": pl.Float64()})
    of_them = pl.col("camera_id").is_in(reports["camera_id"].unique().to_list())
    labelled = work.lake.read(
        "labels",
        days=days,
        columns=["camera_id", "start_utc", "end_utc"],
        where=of_them & (pl.col("label") == "fall") & (pl.col("source") != AUTOMATIC),
    )
    # An alert that staff confirmed nearby is another fall, or this one: it is found either way.
    known = reports.join_where(
        labelled.select(pl.all().name.prefix("label_")),
        pl.col("camera_id") == pl.col("label_camera_id"),
        pl.col("from_utc") <= pl.col("label_end_utc"),
        pl.col("label_start_utc") <= pl.col("until_utc"),
    )
    missing = reports.join(known, on="report_id", how="anti")
    videos = work.lake.read(
        "videos",
        days=days,
        columns=["video_id", "camera_id", "start_utc", "duration_s"],
        where=of_them & pl.col("deleted_utc").is_null(),
    )
    start_s = (pl.col("from_utc") - pl.col("start_utc")).dt.total_microseconds() / 1e6
    end_s = (pl.col("until_utc") - pl.col("start_utc")).dt.total_microseconds() / 1e6
    return (
        missing.join(videos, on="camera_id")
        .with_columns(
            start_s=pl.max_horizontal(start_s, 0.0),
            end_s=pl.min_horizontal(end_s, "duration_s"),
            verdict=pl.lit(REPORTED),
        )
        .filter(pl.col("end_s") > pl.col("start_s"))
    )


def _learned_from(work: Work, models: _Models) -> pl.DataFrame | None:
    """Windows that the champion learned from: what is covered of days that are not read.

    Of its training set's segments, at most `COVERED_PER_CAMERA` windows of each camera.
    """
    known = work.lake.read("registered_model", columns=["model_version", "training_set_id"])
    sets = known.filter(pl.col("model_version") == pl.lit(models.newest))["training_set_id"]
    here = work.lake.read("training_set", columns=["training_set_id"])["training_set_id"]
    if sets.is_empty() or sets[-1] not in here:
        return None
    training_set = load_training_set(work, sets[-1])
    clips = training_set.columns(("day", "video_id")).unique()
    rows = work.lake.read(
        "features",
        days=clips["day"].unique().sort().to_list(),
        columns=["camera_id", "video_id", "window", *FIGURES],
        where=(pl.col("feature_set") == training_set.row["feature_set"])
        & pl.col("video_id").is_in(clips["video_id"].unique().to_list()),
    )
    # The order of a hash is the same each time and has nothing to do with what is in the window.
    order = pl.struct("video_id", "window").hash(seed=0)
    chosen = rows.sort(order).group_by("camera_id", maintain_order=True).head(COVERED_PER_CAMERA)
    return chosen.select(FIGURES) if chosen.height else None


def _labelled(work: Work) -> dict[tuple[str, int], float]:
    """Time that people labelled, by room and part of the day, in pieces."""
    labels = work.lake.read(
        "labels",
        columns=["camera_id", "start_utc", "start_s", "end_s"],
        where=pl.col("source") != AUTOMATIC,
    ).drop_nulls("start_utc")
    rooms = dict(work.lake.read("cameras", columns=["camera_id", "room"]).iter_rows())
    length = work.site.settings.review.piece_s
    counts: Counter[tuple[str, int]] = Counter()
    for camera, part, seconds in labels.select(
        "camera_id", part_of_day(pl.col("start_utc")), pl.col("end_s") - pl.col("start_s")
    ).iter_rows():
        counts[rooms.get(camera, "unknown"), part] += seconds / length
    return dict(counts)
