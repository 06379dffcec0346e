"""Features: one decoding pass per segment, committed in batches so that a stopped run goes on.

Rows of segments whose files were deleted stay: they hold skeletons, not pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.features import FeatureSettings, SegmentResult, VideoRef, extract_all
from fall_assets.footage.probe import UnusableFileError
from fall_assets.lake.registry import table
from fall_assets.pipeline.files import files_of
from fall_assets.pipeline.work import Work

BATCH = 64
"""Segments per commit: what a killed run loses at most."""
FETCHED = 16
"""So many segments of a bucket lie in the cache at once."""


@dataclass(frozen=True)
class FeatureDay:
    """What one day's pass did.

    Attributes:
        feature_set: its version.
        segments: segments of the day.
        reused: segments whose features were already there.
        failed: segment paths and the reasons why they gave no features.
        gone: segments without features whose file is not there any more.
        features: all rows of the day.
        pose_tracks: all rows of the day.
    """

    feature_set: str
    segments: int
    reused: int
    failed: dict[str, str]
    gone: int
    features: pl.DataFrame
    pose_tracks: pl.DataFrame


def extract_day(work: Work, day: date) -> FeatureDay:
    """Extract what is missing of the day's features; what is there is never decoded again.

    A segment whose file is gone is passed over and counted.

    Raises:
        PermanentFailureError: no segment of the day gave features though files are there.
        PassingFailureError: a bucket is away.
    """
    settings = FeatureSettings()
    videos = work.lake.read("videos", days=[day])
    features = _kept(work, "features", day, videos)
    tracks = _kept(work, "pose_tracks", day, videos)
    done = set(features.filter(pl.col("feature_set") == settings.version)["video_id"])
    absent = videos.filter(~pl.col("video_id").is_in(list(done)))
    missing = absent.filter(pl.col("deleted_utc").is_null()).sort("camera_id", "start_utc")
    failed: dict[str, str] = {}
    gone = absent.height - missing.height
    new_features, new_tracks = [features], [tracks]
    say = work.progress(f"{day}: segments decoded")
    for count, (path, result) in enumerate(_extracted(work, missing, settings), start=1):
        if result is None:
            gone += 1
        elif isinstance(result, str):
            failed[path] = result
        elif result.frames is None:
            failed[path] = result.error or "unknown"
        else:
            new_features.append(result.frames.features)
            new_tracks.append(result.frames.pose_tracks)
        say(count, missing.height)
        if count % BATCH == 0 or count == missing.height:
            # Tracks first: a segment counts as done by its features.
            tracks = _commit(work, "pose_tracks", day, new_tracks)
            features = _commit(work, "features", day, new_features)
            new_features, new_tracks = [features], [tracks]
    if missing.is_empty() and features.height < work.lake.read("features", days=[day]).height:
        # Segments went away: their rows go, too.
        tracks = _commit(work, "pose_tracks", day, new_tracks)
        features = _commit(work, "features", day, new_features)
    if failed and features.is_empty():
        path, reason = next(iter(failed.items()))
        raise PermanentFailureError(
            f"none of the {len(videos)} segments of {day} gave features; {path}: {reason}"
        )
    return FeatureDay(settings.version, len(videos), len(done), failed, gone, features, tracks)


def _extracted(
    work: Work, videos: pl.DataFrame, settings: FeatureSettings
) -> Iterator[tuple[str, SegmentResult | str | None]]:
    """What came of each segment, by path: its result, why it cannot be read, or None: it is gone.

    Files of a bucket are fetched a few at a time, so that they fit into the cache.
    """
    crops = dict(work.lake.read("cameras", columns=["camera_id", "crop"]).iter_rows())
    files, footage = files_of(work, videos), work.footage
    rows = videos.to_dicts()
    local: list[dict[str, Any]] = []
    remote: list[dict[str, Any]] = []
    for row in rows:
        far = files.get(row["video_id"], "").startswith("s3://")
        (remote if far else local).append(row)
    for some in (local, *(remote[at : at + FETCHED] for at in range(0, len(remote), FETCHED))):
        refs: list[VideoRef] = []
        for row in some:
            try:
                file = footage.stage(files[row["video_id"]])
            except (KeyError, FileNotFoundError):
                yield row["path"], None
            except (UnusableFileError, OSError) as error:
                yield row["path"], str(error)
            else:
                crop = crops.get(row["camera_id"])
                refs.append(VideoRef(file, row["video_id"], row["camera_id"], row["day"], crop))
        paths = {row["video_id"]: row["path"] for row in some}
        workers = work.site.settings.features.workers
        for result in extract_all(refs, settings, workers=workers) if refs else ():
            # What was deleted in the meantime is gone, not broken.
            there = result.frames is not None or result.video.path.exists()
            yield paths[result.video.video_id], result if there else None


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
