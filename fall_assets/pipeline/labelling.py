"""Labelling: label files become labels, labels become clips; zones, and how far people agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

from fall_assets.delivery.stills import still
from fall_assets.errors import FallAssetsError
from fall_assets.features.crop import Crop
from fall_assets.labelling.agreement import agreement
from fall_assets.labelling.clips import ClipSettings, cut_clips
from fall_assets.labelling.plots import agreement_plot
from fall_assets.labelling.readers import LabelReading, problem_rows, read_labels
from fall_assets.labelling.staff import staff_statements
from fall_assets.labelling.zones import ZONES_FILE, read_zones, with_history
from fall_assets.lake.registry import table
from fall_assets.pipeline.files import files_of
from fall_assets.pipeline.work import Work


@dataclass(frozen=True)
class Agreement:
    """How far annotators agree: rows of `label_agreement`, and a PNG (None without pairs)."""

    rows: pl.DataFrame
    plot: bytes | None


def label(work: Work, days: Sequence[date]) -> LabelReading:
    """Read every label file and write labels, annotations and conflicts of the given days.

    What staff found when they came to alerts counts as what an annotator says. Every file is read
    whole, whatever the days, since each line may speak of any day; problems are of all files.
    Annotations, conflicts and problems are written where they changed.
    """
    lake = work.lake
    videos = lake.read("videos")
    sightings = lake.read("sightings", columns=["path", "video_id"])
    reading = read_labels(
        work.site.landing,
        videos,
        sightings,
        work.site.settings.labelling.resolution,
        also=staff_statements(_all_alerts(work), lake.read("alert_feedback"), videos),
    )
    of_days = reading.of_days(days)
    for day in days:
        rows = of_days.labels.filter(pl.col("day") == day)
        lake.replace_partition("labels", day, rows, work.provenance(day))
    _replace_changed_days(work, "annotations", of_days.annotations, days)
    _replace_changed_days(work, "label_conflicts", of_days.conflicts, days)
    _replace_problems(work, reading.problems, of_zones=False)
    return of_days


def cut(work: Work, day: date) -> pl.DataFrame:
    """Cut the day's labelled windows.

    Of the days beside it, the segments are looked at that share a fall with it: its length counts
    whole, and what belongs to it stays together in a split.
    """
    videos = work.lake.read("videos", days=[day])
    labels = work.lake.read("labels", days=[day])
    events = labels["event_id"].drop_nulls().unique()
    beside = [day - timedelta(days=1), day + timedelta(days=1)]
    near = work.lake.read("labels", days=beside) if events.len() else labels.clear()
    near = near.filter(
        pl.col("event_id").is_in(events.implode()).fill_null(False).any().over("video_id")
    )
    if near.height:
        of_near = pl.col("video_id").is_in(near["video_id"].unique().implode())
        videos = pl.concat([videos, work.lake.read("videos", days=beside, where=of_near)])
        labels = pl.concat([labels, near])
    clips = cut_clips(labels, videos, ClipSettings()).filter(pl.col("day") == day)
    work.lake.replace_partition("clips", day, clips, work.provenance(day))
    return clips


def agree(work: Work) -> Agreement:
    """Compare each two annotators wherever both spoke, and write the table `label_agreement`."""
    told = work.lake.scan("annotations")
    several = (
        told.group_by("video_id")
        .agg(pl.coalesce("annotator", "source").n_unique().alias("annotators"))
        .filter(pl.col("annotators") > 1)
        .select("video_id")
    )
    rows = agreement(told.join(several, on="video_id", how="semi").collect())
    if not rows.equals(work.lake.read("label_agreement")):
        work.lake.replace("label_agreement", rows, work.provenance())
    return Agreement(rows, agreement_plot(rows))


def refresh_zones(work: Work) -> pl.DataFrame:
    """Read `zones.csv` of the landing folder into the table `zones`; its wrong lines are problems.

    A period whose line is gone stays, ended. Nothing is written where nothing changed.
    """
    cameras = set(work.lake.read("cameras", columns=["camera_id"])["camera_id"])
    reading = read_zones(work.site.landing, cameras)
    order = ["camera_id", "zone_id"]
    standing = work.lake.read("zones")
    zones = with_history(standing, reading.zones, datetime.now(UTC))
    if not zones.sort(order).equals(standing.sort(order)):
        work.lake.replace("zones", zones, work.provenance())
    _replace_problems(work, problem_rows(reading.problems), of_zones=True)
    return zones


def _all_alerts(work: Work) -> pl.DataFrame:
    """The alerts that staff may have answered: the platform's own and those of the boxes."""
    columns = ["alert_id", "camera_id", "start_utc", "raised_utc"]
    told = [work.lake.read(name, columns=columns) for name in ("alerts", "edge_alerts")]
    return pl.concat(told).unique("alert_id", keep="last", maintain_order=True)


def _replace_changed_days(work: Work, name: str, rows: pl.DataFrame, days: Sequence[date]) -> None:
    """Put a table's rows of some days in place of what stands there, where they differ."""
    standing = work.lake.read(name, days=days)
    order = list(table(name).key)
    for day in days:
        new = rows.filter(pl.col("day") == day)
        if not new.sort(order).equals(standing.filter(pl.col("day") == day).sort(order)):
            work.lake.replace_partition(name, day, new, work.provenance(day))


def _replace_problems(work: Work, problems: pl.DataFrame, *, of_zones: bool) -> None:
    """Write the problems of label files, or those of zones; the others stay."""
    standing = work.lake.read("label_problems")
    is_zones = pl.col("file") == ZONES_FILE
    order = list(table("label_problems").key)
    others = standing.filter(~is_zones if of_zones else is_zones)
    after = pl.concat([others, problems]).sort(order)
    if not after.equals(standing.sort(order)):
        work.lake.replace("label_problems", after, work.provenance())


def contact_sheet(work: Work, clips: pl.DataFrame, per_label: int = 2) -> bytes | None:
    """PNG with a frame from the middle of a few clips of each label; None without clips.

    Nobody can be recognised: the pictures are made coarse before they are put together.
    """
    from fall_assets.learning.plots import contact_sheet as sheet

    chosen = (
        clips.filter(pl.col("target").is_not_null())
        .sort("clip_id")
        .group_by("label", maintain_order=True)
        .head(per_label)
        .sort("label", "clip_id")
    )
    wanted = chosen["video_id"].unique().to_list()
    videos = work.lake.read("videos", days=chosen["day"].unique().to_list())
    files = files_of(work, videos.filter(pl.col("video_id").is_in(wanted)))
    crops = dict(work.lake.read("cameras", columns=["camera_id", "crop"]).iter_rows())
    pictures, titles = [], []
    footage = work.footage
    for clip in chosen.filter(pl.col("video_id").is_in(list(files))).iter_rows(named=True):
        crop = Crop.parse(crops.get(clip["camera_id"]))
        try:
            picture = still(
                footage.stage(files[clip["video_id"]]),
                (clip["start_s"] + clip["end_s"]) / 2,
                crop=(crop.x0, crop.y0, crop.x1, crop.y1),
                long_side=240,
            )
        except (FallAssetsError, OSError) as error:
            work.log(f"no picture of clip {clip['clip_id']}: {error}")
            continue
        pictures.append(picture)
        titles.append(f"{clip['label']} {clip['camera_id']}")
    return sheet(pictures, titles) if pictures else None
