"""Videos, pieces to label and what two people label: shared by the tests of Label Studio."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from fall_assets.labelling.statements import Problem, Statement
from fall_assets.labelling.tools import Films, reader_for
from fall_assets.labelling.tools.label_studio import Piece, Suggestion

EXPORTS = Path(__file__).parent / "exports"
"""Exports of the tools themselves, or written in their formats."""

BED = "cam-01/2026-03-01/08-15-00.mp4"
HALL = "cam-02/2026-03-01/08-15-00.mp4"
NIGHT = "night/room-7_clip.mp4"

FPS = {BED: 25.0, HALL: 30.0, NIGHT: 10.0}


def films(paths: Iterable[str] = (BED, HALL, NIGHT)) -> Films:
    """Videos of 60 s; a video's id is its path backwards."""
    rows = [
        {"video_id": path[::-1], "path": path, "fps": FPS.get(path, 25.0), "duration_s": 60.0}
        for path in paths
    ]
    schema = {
        "video_id": pl.String(),
        "path": pl.String(),
        "fps": pl.Float64(),
        "duration_s": pl.Float64(),
    }
    return Films(pl.DataFrame(rows, schema=schema))


@dataclass(frozen=True)
class Told:
    """What a file says."""

    statements: list[Statement]
    problems: list[Problem]

    @property
    def intervals(self) -> list[tuple[str, float, float, str]]:
        return [(x.target, x.start_s, x.end_s, x.word) for x in self.statements]

    def of(self, annotator: str | None) -> list[Statement]:
        return [x for x in self.statements if x.annotator == annotator]


def read(landing: Path, name: str, content: str | bytes, known: Films | None = None) -> Told:
    """What a label file with that name and content says, found by the public way in."""
    path = landing / "labels" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    reader = reader_for(path)
    assert reader is not None, f"{name} is not recognised"
    items = list(reader(landing, path, known or films()))
    places = [(x.place.file, x.place.line, x.place.part) for x in items]
    assert len(set(places)) == len(places), "two things stand at one place"
    assert all(x.place.file == f"labels/{name}" and x.place.line >= 1 for x in items)
    return Told(
        [x for x in items if isinstance(x, Statement)],
        [x for x in items if isinstance(x, Problem)],
    )


def piece(path: str, start_s: float, *suggestions: Suggestion, fps: float = 12.5) -> Piece:
    """A preview of 16 s with a piece of 4 s in its middle."""
    return Piece(
        item_id=f"item-{path.split('/')[0]}-{start_s:g}",
        video_id=path[::-1],
        path=path,
        camera_id=path.split("/")[0],
        room="7",
        start_s=start_s,
        fps=fps,
        frames=int(16 * fps),
        piece_start_s=start_s + 6,
        piece_end_s=start_s + 10,
        start_utc=datetime(2026, 3, 1, 8, 15, tzinfo=UTC),
        question="room 7: two versions differ (0.9 and 0.2)",
        media="/data/local-files/?d=media/shown.mp4",
        suggestions=suggestions,
        model_version="4",
    )


FALL = Suggestion("fall", 11.5, 13.1, 0.8)
REST = Suggestion("other", 13.1, 20.0, 0.7)

PIECES = (
    piece(BED, 5.0, FALL, REST),
    piece(HALL, 0.0, Suggestion("fall", 2.0, 3.0, 0.6)),
    piece(NIGHT, 20.0, fps=10.0),
    piece(NIGHT, 40.0, fps=10.0),
)

Annotate = Callable[[int, dict[str, Any]], None]


def region(
    name: str, label: str, first: int, last: int, zone: str | None = None, track: int | None = None
) -> list[dict[str, Any]]:
    """The results of one region, as the editor submits them."""
    span: dict[str, Any] = {"ranges": [{"start": first, "end": last}]}
    shared = {"id": name, "to_name": "video", "origin": "manual"}
    results = [
        {
            **shared,
            "from_name": "label",
            "type": "timelinelabels",
            "value": {**span, "timelinelabels": [label]},
        }
    ]
    if zone is not None:
        results.append(
            {**shared, "from_name": "zone", "type": "choices", "value": {**span, "choices": [zone]}}
        )
    if track is not None:
        results.append(
            {**shared, "from_name": "track", "type": "number", "value": {**span, "number": track}}
        )
    return results


def work_through(
    predictions: list[list[dict[str, Any]]], submit: Annotate, users: list[int]
) -> None:
    """Label the pieces as two people would: accept, correct, start anew, skip, say nothing.

    `predictions` holds the results that are suggested per task; `submit` takes a task's number,
    from 0, and an annotation.
    """
    one, two = users
    submit(0, {"completed_by": one, "result": predictions[0]})
    corrected = region("s0", "fall", 90, 108, zone="floor", track=1)
    submit(0, {"completed_by": two, "result": corrected})
    submit(
        1,
        {
            "completed_by": one,
            "result": region("a", "walking", 1, 100) + region("b", "sitting_down", 101, 200, "bed"),
        },
    )
    submit(1, {"completed_by": two, "result": [], "was_cancelled": True})
    submit(2, {"completed_by": two, "result": []})


def check(told: Told, users: list[int], frame_s: float = 1 / 12.5) -> None:
    """Whether an export after `work_through` says what was labelled."""
    one, two = (f"label-studio/{user}" for user in users)

    def near(statement: Statement, path: str, start_s: float, end_s: float, label: str) -> None:
        assert (statement.target, statement.word) == (path, label)
        assert abs(statement.start_s - start_s) <= frame_s
        assert abs(statement.end_s - end_s) <= frame_s

    first = told.of(one)
    assert len(first) == 4
    # Accepted as suggested: the interval that went out comes back.
    near(first[0], BED, FALL.start_s, FALL.end_s, "fall")
    near(first[1], BED, REST.start_s, REST.end_s, "other")
    near(first[2], HALL, 0.0, 8.0, "walking")
    near(first[3], HALL, 8.0, 16.0, "sitting_down")
    assert [x.zone for x in first] == [None, None, None, "bed"]
    (corrected,) = told.of(two)
    near(corrected, BED, 5 + 89 / 12.5, 5 + 108 / 12.5, "fall")
    assert (corrected.zone, corrected.track) == ("floor", 1)
    assert all(x.source == "reviewer" and x.dataset == "site" for x in told.statements)
    assert all(x.stated_utc is not None and not x.is_scene for x in told.statements)
    reasons = sorted(x.reason.split(";")[0] for x in told.problems)
    assert reasons == [
        "skipped by the annotator",
        "submitted without any region, which says nothing",
    ]
