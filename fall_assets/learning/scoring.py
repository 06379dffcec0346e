"""Scores of a segment from scores of windows: the rule by which people become one number. numpy.

What belongs here: which windows are scored and whose score counts. What does not: the network
(`detector`, `edge.model`), events (`events`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fall_assets.errors import PermanentFailureError
from fall_assets.learning.algorithms.base import Scores
from fall_assets.learning.windows import (
    Floats,
    SegmentTracks,
    WindowSettings,
    scored_ends,
    seen,
    window_at,
)

ScoreWindows = Callable[[Floats, Floats], Floats]
"""Probabilities of windows: key points (n, samples, 17, 3) and aspects (n,) -> (n,)."""


class FeatureSetError(PermanentFailureError):
    """Tracks were made by another feature set than the detector learned from."""


def score_tracks(
    tracks: SegmentTracks, settings: WindowSettings, score_windows: ScoreWindows
) -> Scores:
    """Scores of one segment: the highest of all people's at every scored moment.

    A person seen in fewer than `min_seen` samples of a window is not scored there.

    Raises:
        FeatureSetError: where the tracks are sampled at another rate.
    """
    if not math.isclose(tracks.rate_hz, settings.rate_hz):
        raise FeatureSetError(
            f"tracks of {tracks.video_id} hold {tracks.rate_hz} samples per second, "
            f"the detector needs {settings.rate_hz}: compute its features again"
        )
    ends = scored_ends(tracks.duration_s, settings)
    score = np.zeros(len(ends))
    who: list[int | None] = [None] * len(ends)
    for track in tracks.tracks:
        windows = [window_at(track, end_s, settings) for end_s in ends]
        usable = [
            place for place, window in enumerate(windows) if seen(window).sum() >= settings.min_seen
        ]
        if not usable:
            continue
        aspect = np.full(len(usable), tracks.aspect, np.float32)
        own = score_windows(np.stack([windows[place] for place in usable]), aspect)
        for place, value in zip(usable, own.tolist(), strict=True):
            if who[place] is None or value > score[place]:
                score[place], who[place] = value, track.number
    return Scores(np.asarray(ends, np.float64), score, tuple(who))
