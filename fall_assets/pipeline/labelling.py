"""Labelling: label files become labels, and labels become clips."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from fall_assets.delivery.stills import StillError, still
from fall_assets.features.segments import Crop
from fall_assets.labelling.clips import ClipSettings, cut_clips
from fall_assets.labelling.readers import LabelReading, read_labels
from fall_assets.pipeline.work import Work


def label(work: Work, days: Sequence[date]) -> LabelReading:
    """Read every label file and write the labels of the given days.

    Problems are written whole: a file is read whole, whatever the days.
    """
    videos = work.lake.read("videos")
    reading = read_labels(work.site.landing, videos)
    wanted = reading.labels.filter(pl.col("day").is_in(list(days)))
    for day in days:
        rows = wanted.filter(pl.col("day") == day)
        work.lake.replace_partition("labels", day, rows, work.provenance(day))
    work.lake.replace("label_problems", reading.problems, work.provenance())
    return LabelReading(wanted, reading.problems, reading.absent_files)


def cut(work: Work, day: date) -> pl.DataFrame:
    """Cut the day's labelled windows."""
    videos = work.lake.read("videos", days=[day])
    labels = work.lake.read("labels", days=[day])
    clips = cut_clips(labels, videos, ClipSettings())
    work.lake.replace_partition("clips", day, clips, work.provenance(day))
    return clips


def contact_sheet(work: Work, clips: pl.DataFrame, per_label: int = 2) -> bytes | None:
    """PNG with a frame from the middle of a few clips of each label; None without clips.

    Nobody can be recognised: the pictures are made coarse before they are put together.
    """
    from fall_assets.learning.plots import contact_sheet as sheet

    videos = work.lake.read("videos", columns=["day", "video_id", "path"])
    chosen = (
        clips.filter(pl.col("target").is_not_null())
        .sort("clip_id")
        .group_by("label", maintain_order=True)
        .head(per_label)
        .sort("label", "clip_id")
        .join(videos.select("video_id", "path"), on="video_id", how="inner")
    )
    crops = dict(work.lake.read("cameras", columns=["camera_id", "crop"]).iter_rows())
    pictures, titles = [], []
    for clip in chosen.iter_rows(named=True):
        crop = Crop.parse(crops.get(clip["camera_id"]))
        try:
            picture = still(
                work.site.landing / clip["path"],
                (clip["start_s"] + clip["end_s"]) / 2,
                crop=(crop.x0, crop.y0, crop.x1, crop.y1),
                long_side=240,
            )
        except StillError as error:
            work.log(f"no picture of clip {clip['clip_id']}: {error}")
            continue
        pictures.append(picture)
        titles.append(f"{clip['label']} {clip['camera_id']}")
    return sheet(pictures, titles) if pictures else None
