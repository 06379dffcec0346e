"""Exchange with labelling tools: the review queue goes out as tasks with previews.

What comes back is a label file like any other (`labelling/tools`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.footage.probe import UnusableFileError
from fall_assets.labelling.previews import PreviewError, preview
from fall_assets.labelling.tools.label_studio import (
    Piece,
    Suggestion,
    export_tasks,
    labelling_config,
)
from fall_assets.pipeline.work import Work

CONTEXT_S = 6.0
"""What a preview shows before and after its piece: a fall is known by what comes before it."""

LOCAL_FILES = "/data/local-files/?d=media/"
"""Where Label Studio serves previews below the export's folder from, with local files storage."""

MEDIA = "media"
TASKS = "tasks.json"
CONFIG = "config.xml"


@dataclass(frozen=True)
class ExportedTasks:
    """What `export_review` wrote.

    Attributes:
        folder: holds `tasks.json`, `config.xml` and `media/`.
        tasks: how many.
        suggested: how many of them have suggestions filled in.
        left_out: item of the queue and why it has no task.
    """

    folder: Path
    tasks: int
    suggested: int
    left_out: tuple[tuple[str, str], ...]


def export_review(
    work: Work, out: Path, *, items: int = 50, media_url: str = LOCAL_FILES
) -> ExportedTasks:
    """Write the top of the review queue as Label Studio tasks with previews into a folder.

    The task list is written last and whole, so that it never names a preview that is not there.
    Exporting again replaces it; previews of earlier exports stay.

    Args:
        out: is made where it is not there.
        items: of the queue, at most; those whose footage cannot be shown are left out and named.
        media_url: what stands before a preview's file name in its address.

    Raises PermanentFailureError where the queue is empty, or `out` lies where footage is taken in.
    """
    out = out.resolve()
    if out.is_relative_to(work.site.landing.resolve()):
        raise PermanentFailureError(
            f"{out} lies in the landing folder, whose films are taken in; choose another folder"
        )
    queue = work.lake.read("review_queue").sort("rank").head(items)
    if queue.is_empty():
        raise PermanentFailureError(
            "the review queue is empty; materialize review_queue, which needs predictions"
        )
    (out / MEDIA).mkdir(parents=True, exist_ok=True)
    material = _Material(work, queue)
    pieces: dict[str, Piece] = {}
    left_out: dict[str, str] = {}
    progress = work.progress("previews")
    done = 0
    # A day at a time: key points of all days together may be large.
    for (day,), rows in queue.group_by("recorded_day", maintain_order=True):
        material.open(_day(day))
        for row in rows.iter_rows(named=True):
            try:
                pieces[row["item_id"]] = _piece(work, row, material, out, media_url)
            except (PreviewError, UnusableFileError, FileNotFoundError) as error:
                left_out[row["item_id"]] = str(error)
                work.log(f"no task for {row['item_id']}: {error}")
            done += 1
            progress(done, queue.height)
    ordered = [pieces[item] for item in queue["item_id"] if item in pieces]
    tasks = export_tasks(ordered)
    _write(out / CONFIG, labelling_config())
    _write(out / TASKS, json.dumps(tasks, indent=1, ensure_ascii=False))
    return ExportedTasks(
        out, len(tasks), sum("predictions" in task for task in tasks), tuple(left_out.items())
    )


class _Material:
    """What the lake knows of the queue's footage, a day at a time."""

    def __init__(self, work: Work, queue: pl.DataFrame) -> None:
        self._work = work
        self._ids = queue["video_id"].unique().to_list()
        self.cameras = {
            row["camera_id"]: row for row in work.lake.read("cameras").iter_rows(named=True)
        }
        self.videos: dict[str, dict[str, Any]] = {}
        self._tracks = pl.DataFrame()
        self._automatic = pl.DataFrame()

    def open(self, day: date) -> None:
        wanted = pl.col("video_id").is_in(self._ids)
        lake = self._work.lake
        rows = lake.read("videos", days=[day], where=wanted)
        self.videos = {row["video_id"]: row for row in rows.iter_rows(named=True)}
        # Key points of other sets may be those of another crop: heads would be hidden elsewhere.
        ours = pl.col("feature_set") == self._work.site.settings.features.detector.version
        self._tracks = lake.read("pose_tracks", days=[day], where=wanted & ours)
        self._automatic = lake.read("automatic_labels", days=[day], where=wanted)

    def tracks(self, video_id: str) -> pl.DataFrame:
        return self._tracks.filter(pl.col("video_id") == video_id)

    def suggestions(
        self, row: dict[str, Any], start_s: float, end_s: float
    ) -> tuple[list[Suggestion], str | None]:
        """What is suggested for a stretch, and by which model.

        The newest model's intervals; where there are none, the label that the queue suggests.
        """
        own = self._automatic.filter(
            (pl.col("video_id") == row["video_id"])
            & (pl.col("start_s") < end_s)
            & (pl.col("end_s") > start_s)
        ).sort("start_s", "end_s", "label")
        if own.height:
            latest = max(own["model_version"], key=_version)
            return [
                Suggestion(x["label"], x["start_s"], x["end_s"], x["confidence"])
                for x in own.filter(pl.col("model_version") == latest).iter_rows(named=True)
            ], latest
        if row["suggested_label"] is None:
            return [], None
        told = Suggestion(row["suggested_label"], row["start_s"], row["end_s"], row["confidence"])
        return [told], "champion"


def _piece(
    work: Work, row: dict[str, Any], material: _Material, out: Path, media_url: str
) -> Piece:
    video = material.videos.get(row["video_id"])
    if video is None or video.get("deleted_utc") is not None:
        raise PreviewError(f"the footage of {row['video_id'][:12]} is deleted; it cannot be shown")
    camera = material.cameras.get(row["camera_id"], {})
    start_s = max(0.0, row["start_s"] - CONTEXT_S)
    end_s = min(video["duration_s"], row["end_s"] + CONTEXT_S)
    # From above the network takes other things for heads.
    seen = camera.get("view") != "ceiling"
    shown = preview(
        work.footage.stage(video["path"]),
        start_s,
        end_s,
        fps=video["fps"],
        tracks=material.tracks(row["video_id"]) if seen else None,
        crop=str(work.looked_at(camera.get("crop"))),
    )
    # Ids are hashes; a queue written by others must not lead out of the folder.
    name = "".join(x if x.isalnum() else "-" for x in row["item_id"])
    _write(out / MEDIA / f"{name}.mp4", shown.content)
    suggestions, model = material.suggestions(row, start_s, end_s)
    return Piece(
        item_id=row["item_id"],
        video_id=row["video_id"],
        path=video["path"],
        camera_id=row["camera_id"],
        room=row["room"],
        start_s=shown.start_s,
        fps=shown.fps,
        frames=shown.frames,
        piece_start_s=row["start_s"],
        piece_end_s=row["end_s"],
        start_utc=video["start_utc"] + timedelta(seconds=shown.start_s),
        question=f"{row['room']}, {row['start_utc']:%Y-%m-%d %H:%M:%S} UTC: {row['reason']}",
        media=f"{media_url}{name}.mp4",
        suggestions=suggestions,
        model_version=model,
    )


def _write(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all."""
    data = content.encode() if isinstance(content, str) else content
    with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part", delete=False) as part:
        try:
            part.write(data)
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).chmod(0o644)
            Path(part.name).replace(path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def _version(version: str) -> tuple[int, str]:
    """Versions in order; the registry counts them."""
    return (int(version), "") if version.isdigit() else (-1, version)


def _day(value: object) -> date:
    if not isinstance(value, date):
        raise TypeError(f"{value!r} is no day")
    return value
