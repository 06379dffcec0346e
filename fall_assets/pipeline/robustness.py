"""Footage made worse, put through the same features and the same detector.

What belongs here: from a segment's file to what a detector makes of it when it is worse. What does
not: how it is made worse and what is lost (`learning.robustness`). Nothing is written to the lake.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from fall_assets.errors import FallAssetsError
from fall_assets.features.pool import extract_all
from fall_assets.features.segments import VideoRef
from fall_assets.features.settings import FeatureSettings
from fall_assets.lake.registry import table
from fall_assets.learning.dataset import VideoTruth
from fall_assets.learning.metrics import VideoOutcome
from fall_assets.learning.robustness import Degradation, degrade
from fall_assets.learning.windows import SegmentTracks, segment_tracks

Judge = Callable[[VideoTruth, SegmentTracks], VideoOutcome]
"""What a detector makes of one segment's people."""


@dataclass(frozen=True)
class Film:
    """One segment to make worse: its file, its truth, and its camera's crop."""

    path: Path
    truth: VideoTruth
    crop: str | None = None


@dataclass(frozen=True)
class Worse:
    """What came of one degradation: outcomes in the order of the films, and what failed.

    A film that gives no features is judged as one in which nobody was seen; `failed` names it.
    """

    outcomes: tuple[VideoOutcome, ...]
    failed: Mapping[str, str]


def judge_worse(
    films: Sequence[Film],
    how: Degradation,
    judge: Judge,
    settings: FeatureSettings,
    *,
    workers: int = 2,
    folder: Path | None = None,
) -> Worse:
    """Make films worse, extract the same feature set, and judge them.

    Each film is written into a temporary folder (in `folder`, where given), and is gone when this
    returns. The labels stay those of the film as it was.
    """
    failed: dict[str, str] = {}
    tracks: dict[str, pl.DataFrame] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        refs = _written(films, how, Path(name), failed)
        for result in extract_all(refs, [settings], workers=workers):
            if result.frames is None:
                failed[result.video.video_id] = result.error or "no features"
            else:
                tracks[result.video.video_id] = result.frames.pose_tracks
            result.video.path.unlink(missing_ok=True)
    nothing = table("pose_tracks").empty()
    outcomes = []
    for film in films:
        truth = film.truth
        own = tracks.get(truth.video_id, nothing)
        people = segment_tracks(truth.video_id, truth.duration_s, own)
        outcomes.append(judge(truth, people))
    return Worse(tuple(outcomes), failed)


def _written(
    films: Sequence[Film], how: Degradation, folder: Path, failed: dict[str, str]
) -> Iterator[VideoRef]:
    """Films made worse, one by one as they are asked for, so that they need little room."""
    for number, film in enumerate(films):
        target = folder / f"{number}.mp4"
        try:
            degrade(film.path, target, how, seed=number)
        except FallAssetsError as error:
            failed[film.truth.video_id] = str(error)
            continue
        yield VideoRef(
            target, film.truth.video_id, film.truth.camera_id, date(1970, 1, 1), film.crop
        )
