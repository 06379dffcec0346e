"""What staff found when they came to an alert, as statements about the camera's timeline.

What belongs here: which interval an answer speaks of. What does not: who asked them (the gateway,
the command line) and whether they are believed (`resolution.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import polars as pl

from fall_assets.labelling.automatic import FALL_BEFORE_S
from fall_assets.labelling.statements import Place, Statement, on_camera

SOURCE = "staff"
VERDICT_OF = {"fall": "fall", "false_alarm": "no_fall"}
"""What an answer on the ward's page says of the alert, in the words of `alert_feedback`."""

FALL_AFTER_S = 1.0
"""A confirmed fall is over so long after its alert.

An alert is raised on the first windows that show a fall, of which the end is often still to come.
To learn that such a window is a fall is to alarm earlier with every generation of models, until
who sits down is one: only windows that end well after the alert are sure to hold the fall.
"""

_WORD = {"fall": "fall", "no_fall": "other"}


def staff_statements(
    alerts: pl.DataFrame, feedback: pl.DataFrame, videos: pl.DataFrame, window_s: float = 4.0
) -> Iterator[Statement]:
    """The newest verdict on each alert, as a statement.

    Staff say whether it was a fall, the detector about when: a `fall` starts about a second before
    the first window that shows it ends (as in `labelling.automatic`) and lasts until a second after
    the alert (`FALL_AFTER_S`); where it was none, all that the alert was raised on is `other`.
    Alerts of which no footage is there (it has not come yet, or was deleted) say nothing; 'unsure'
    says nothing.

    Args:
        alerts: columns alert_id, camera_id, start_utc, raised_utc.
        feedback: rows of `alert_feedback`.
        videos: rows of `videos`.
        window_s: an event starts this long before the end of the first window that showed it.
    """
    newest = feedback.sort("at_utc").group_by("alert_id").last()
    told = alerts.join(newest, on="alert_id").filter(pl.col("verdict").is_in(list(_WORD)))
    footage = videos.filter(pl.col("deleted_utc").is_null()).select(
        "camera_id", from_utc="start_utc", for_s="duration_s"
    )
    shown = told.join(footage, on="camera_id").filter(
        pl.col("raised_utc").is_between(
            pl.col("from_utc"), pl.col("from_utc") + pl.duration(seconds=pl.col("for_s"))
        )
    )
    told = told.join(shown, on="alert_id", how="semi").unique("alert_id").sort("alert_id")
    for row in told.iter_rows(named=True):
        start, raised = row["start_utc"], row["raised_utc"]
        end = raised
        if row["verdict"] == "fall":
            first = start + timedelta(seconds=window_s - FALL_BEFORE_S)
            start = min(max(first, start), raised - timedelta(seconds=FALL_BEFORE_S))
            end = raised + timedelta(seconds=FALL_AFTER_S)
        yield on_camera(
            Place(f"alert {row['alert_id']}", 1, 0, row["verdict"]),
            row["camera_id"],
            start,
            end,
            _WORD[row["verdict"]],
            SOURCE,
            annotator=row["by"],
            stated_utc=row["at_utc"],
        )
