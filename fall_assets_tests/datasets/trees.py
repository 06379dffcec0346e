"""Small trees in the data sets' own layouts.

What belongs here: laying them out, and reading what their label files say.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from fall_assets.datasets import DATASETS, place
from fall_assets.labelling.readers import LabelReading, read_labels
from fall_assets_tests.labelling.rows import video, videos


def write(landing: Path, path: str, *lines: str) -> Path:
    """Write a text file below the landing folder."""
    target = landing / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return target


def lay(landing: Path, *paths: str) -> None:
    """Put empty files where videos would be; only their names are read."""
    for path in paths:
        write(landing, path)


def rows(landing: Path, duration_s: float) -> pl.DataFrame:
    """Rows of `videos` for every data set's videos, all of one length."""
    return videos(
        *(
            video(
                placed.path,
                duration_s,
                dataset=name,
                day=dataset.day,
                start_utc=placed.start_utc,
                camera_id=placed.seen.camera.camera_id,
                subject=placed.seen.subject,
                scene=f"{name}/{placed.seen.scene}",
            )
            for name, dataset in DATASETS.items()
            for placed in place(landing, dataset)
        )
    )


def read(landing: Path, duration_s: float = 10.0) -> LabelReading:
    """What all label files say about the videos that lie there."""
    return read_labels(landing, rows(landing, duration_s))


def intervals(reading: LabelReading, path: str) -> list[tuple[float, float, str]]:
    """One video's labels in order."""
    of_video = reading.labels.filter(video_id=path).sort("start_s", "end_s")
    return [
        (round(start_s, 3), round(end_s, 3), label)
        for start_s, end_s, label in of_video.select("start_s", "end_s", "label").iter_rows()
    ]


def problems(reading: LabelReading) -> list[tuple[str, int, str]]:
    """File, line and reason of what was left out."""
    return reading.problems.select("file", "line", "reason").rows()
