"""A worker without a decoder: rows are made up from the segment's id, at once.

It writes down what it was given, and does what the end of the file says (see `marked`). So tests
of the pipeline see which segments are worked on, and when.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from fall_assets import processes
from fall_assets.features import wire
from fall_assets.features.segment_file import UnreadableSegmentError
from fall_assets.features.segments import TABLES, PassFigures, SegmentFeatures, VideoRef
from fall_assets.lake.registry import table

COMMAND = (sys.executable, "-P", "-m", "fall_assets_tests.pipeline.made_up_worker")
NOTES = "MADE_UP_NOTES"
"""Environment variable: the file in which each segment is written down."""
CALM = "MADE_UP_CALM"
"""Environment variable: where it is set, no file does any harm."""

_END = b"\0\0\0\x17free"


def marked(film: bytes, word: str, number: int = 0) -> bytes:
    """A film with a word after its end, where players do not look; `number` makes it another."""
    return film + _END + f"{word:<10}{number:05}".encode()


def noted(path: Path) -> list[tuple[str, str, int]]:
    """Camera, file name and process of every segment that was worked on, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    parts = [line.split() for line in lines]
    return [(camera, name, int(process)) for camera, name, process in parts]


def made_up(video: VideoRef, version: str, tracks: int = 1) -> SegmentFeatures:
    """Rows of every table that pass the audit."""
    own = {
        "day": video.day,
        "video_id": video.video_id,
        "camera_id": video.camera_id,
        "feature_set": version,
        "stretches": "[]",
    }
    counts = {"features": 2, "pose_tracks": tracks, "sequences": 1, "motion_gate": 1}
    fills: dict[Any, Any] = {pl.Int64(): 1, pl.Float64(): 0.5, pl.Binary(): b"\0", pl.String(): "x"}
    tables = {}
    for name in TABLES:
        rows = []
        for number in range(counts[name]):
            row = {column: fills.get(kind) for column, kind in table(name).schema.items()}
            row |= {column: value for column, value in own.items() if column in row}
            row |= {key: number for key in ("window", "track", "part") if key in row}
            rows.append(row)
        tables[name] = pl.DataFrame(rows, schema=table(name).schema)
    figures = PassFigures(
        frames=20, decoded=10, samples=5, decode_s=0.02, extract_s=0.03, wall_s=0.06, peak_bytes=7
    )
    return SegmentFeatures(tables, duration_s=2.0, figures=figures)


def work_of(greeting: processes.Message) -> processes.Work:
    """The work on one segment."""
    versions = [_version(settings) for settings in greeting["sets"]]

    def work(task: processes.Message) -> Iterable[bytes]:
        video = wire.video_of(task)
        with Path(os.environ[NOTES]).open("a") as notes:
            notes.write(f"{video.camera_id} {video.path.name} {os.getpid()}\n")
        end = video.path.read_bytes()[-23:]
        word = end[8:18].decode().strip() if end.startswith(_END) else ""
        if word and CALM not in os.environ:
            _harm(word, video)
        results = [made_up(video, version) for version in versions]
        tables = {
            name: pl.concat([one.tables[name] for one in results]).unique(table(name).key)
            for name in TABLES
        }
        whole = SegmentFeatures(tables, 2.0, figures=results[0].figures)
        return wire.feature_chunks(whole)

    return work


def _harm(word: str, video: VideoRef) -> None:
    if word == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "hang":
        # What the system sends when the processor time is spent.
        os.kill(os.getpid(), signal.SIGXCPU)
    if word == "garbled":
        raise UnreadableSegmentError(f"{video.path} yields no frame")


def _version(settings: dict[str, Any]) -> str:
    from fall_assets.features.settings import FeatureSettings

    return FeatureSettings.from_dict(settings).version


if __name__ == "__main__":
    processes.serve(work_of)
