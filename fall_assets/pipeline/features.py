"""Features: one decoding pass per segment, committed in batches so that a stopped run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.features import FeatureSettings, VideoRef, extract_all
from fall_assets.lake.registry import table
from fall_assets.pipeline.work import Work

BATCH = 64
"""Segments per commit: what a killed run loses at most."""


@dataclass(frozen=True)
class FeatureDay:
    """What one day's pass did.

    Attributes:
        feature_set: its version.
        segments: segments of the day.
        reused: segments whose features were already there.
        failed: segment paths and the reasons why they gave no features.
        features: all rows of the day.
        pose_tracks: all rows of the day.
    """

    feature_set: str
    segments: int
    reused: int
    failed: dict[str, str]
    features: pl.DataFrame
    pose_tracks: pl.DataFrame


def video_refs(work: Work, videos: pl.DataFrame) -> list[VideoRef]:
    """The segments of `videos`, with the crop of their cameras."""
    crops = dict(work.lake.read("cameras", columns=["camera_id", "crop"]).iter_rows())
    return [
        VideoRef(
            path=work.site.landing / row["path"],
            video_id=row["video_id"],
            camera_id=row["camera_id"],
            day=row["day"],
            crop=crops.get(row["camera_id"]),
        )
        for row in videos.sort("camera_id", "start_utc").iter_rows(named=True)
    ]


def extract_day(work: Work, day: date) -> FeatureDay:
    """Extract what is missing of the day's features; what is there is never decoded again.

    Raises:
        PermanentFailureError: no segment of the day gave features.
    """
    settings = FeatureSettings()
    videos = work.lake.read("videos", days=[day])
    features = _kept(work, "features", day, videos)
    tracks = _kept(work, "pose_tracks", day, videos)
    done = set(features.filter(pl.col("feature_set") == settings.version)["video_id"])
    missing = [ref for ref in video_refs(work, videos) if ref.video_id not in done]
    failed: dict[str, str] = {}
    new_features, new_tracks = [features], [tracks]
    say = work.progress(f"{day}: segments decoded")
    for count, result in enumerate(
        extract_all(missing, settings, workers=work.site.settings.features.workers), start=1
    ):
        if result.frames is None:
            failed[str(result.video.path)] = result.error or "unknown"
        else:
            new_features.append(result.frames.features)
            new_tracks.append(result.frames.pose_tracks)
        say(count, len(missing))
        if count % BATCH == 0 or count == len(missing):
            # Tracks first: a segment counts as done by its features.
            tracks = _commit(work, "pose_tracks", day, new_tracks)
            features = _commit(work, "features", day, new_features)
            new_features, new_tracks = [features], [tracks]
    if not missing and features.height < work.lake.read("features", days=[day]).height:
        # Segments went away: their rows go, too.
        tracks = _commit(work, "pose_tracks", day, new_tracks)
        features = _commit(work, "features", day, new_features)
    if failed and features.is_empty():
        path, reason = next(iter(failed.items()))
        raise PermanentFailureError(
            f"none of the {len(videos)} segments of {day} gave features; {path}: {reason}"
        )
    return FeatureDay(settings.version, len(videos), len(done), failed, features, tracks)


def _kept(work: Work, name: str, day: date, videos: pl.DataFrame) -> pl.DataFrame:
    """Rows already there, of any feature set, whose videos are still there."""
    rows = work.lake.read(name, days=[day])
    return rows.filter(pl.col("video_id").is_in(videos["video_id"].to_list()))


def _commit(work: Work, name: str, day: date, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    rows = pl.concat([table(name).empty(), *frames], how="diagonal")
    # A run that was killed between the two commits left tracks without features.
    rows = rows.unique(table(name).key, keep="last", maintain_order=True)
    work.lake.replace_partition(name, day, rows, work.provenance(day))
    return rows
