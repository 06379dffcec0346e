"""Label Studio: tasks to label with suggestions filled in, and its JSON export read back.

What belongs here: Label Studio's formats. What does not: which pieces are exported
(`pipeline/exchange.py`) and the pictures (`labelling/previews.py`).

The format, from Label Studio's documentation of the tags `Video`, `TimelineLabels` and `Choices`
and from its editor's source (`Video.js`: `fullFrameRange` is 1 to the length): a region of a
timeline is `{"ranges": [{"start", "end"}], "timelinelabels": [...]}` in frames of the task's frame
rate, numbered from 1, both inclusive. Frame n of a preview that starts at s shows the time
s + (n - 1) / fps and stands until the next. What is told per region (zone, track) is another result
with the region's `id`. Labels of a video that is synchronised with its sound have `start` and `end`
in seconds instead. In the export of a community server `completed_by` is a user's number; other
editions write the user with an e-mail address.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from xml.sax.saxutils import quoteattr

from fall_assets.datasets import SITE
from fall_assets.labelling.statements import Problem, Statement
from fall_assets.labelling.tools.base import Films, Places, moment, real, whole, word, zone_name
from fall_assets.lake.registry import LABELS, ZONE_KINDS

_ZONES = tuple(kind for kind in ZONE_KINDS if kind != "room")
_COLOURS = (
    "#d62728", "#8c564b", "#9467bd", "#e377c2", "#ff7f0e", "#1f77b4", "#2ca02c", "#bcbd22",
    "#7f7f7f",
)  # fmt: skip
# Names of the controls; a project of the site's own may call them otherwise.
_LABEL, _ZONE, _TRACK = "label", "zone", "track"
_VIDEO_KEYS = ("video", "video_url", "url")
_NO_REGIONS = ("choices", "number", "textarea", "rating", "relation", "taxonomy", "datetime")


@dataclass(frozen=True)
class Suggestion:
    """What the champion says of a stretch, in seconds of the segment."""

    label: str
    start_s: float
    end_s: float
    confidence: float | None = None


@dataclass(frozen=True)
class Piece:
    """One task: a preview, what it shows, and what is suggested.

    Attributes:
        item_id: the item of the review queue.
        video_id, path, camera_id, room: the segment.
        start_s: of the preview, from the segment's start.
        fps: of the preview; constant.
        frames: of the preview.
        piece_start_s, piece_end_s: what is asked about, from the segment's start.
        start_utc: when the preview starts.
        question: why this piece is asked about.
        media: the preview's address for the browser.
        suggestions: filled in for the reviewer to correct.
        model_version: who suggests; None where nobody does.
    """

    item_id: str
    video_id: str
    path: str
    camera_id: str
    room: str
    start_s: float
    fps: float
    frames: int
    piece_start_s: float
    piece_end_s: float
    start_utc: datetime
    question: str
    media: str
    suggestions: Sequence[Suggestion] = field(default_factory=tuple)
    model_version: str | None = None


def labelling_config() -> str:
    """The project's labelling configuration: the taxonomy's labels, zones, and a track's number."""
    labels = "\n".join(
        f'    <Label value="{name}" background="{_COLOURS[i % len(_COLOURS)]}" hotkey="{i + 1}"/>'
        for i, name in enumerate(LABELS)
    )
    zones = "".join(f"<Choice value={quoteattr(zone)}/>" for zone in _ZONES)
    return f"""<View>
  <Header value="$question"/>
  <TimelineLabels name="{_LABEL}" toName="video">
{labels}
  </TimelineLabels>
  <Video name="video" value="$video" frameRate="$fps" timelineHeight="120"/>
  <Choices name="{_ZONE}" toName="video" perRegion="true" choice="single-radio" showInline="true">
    {zones}
  </Choices>
  <Number name="{_TRACK}" toName="video" perRegion="true" min="0" step="1"/>
</View>
"""


def export_tasks(pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    """The tasks to import into a project with `labelling_config`, in order.

    Each carries what its labels need to find back: the segment, where in it the preview starts and
    the preview's frame rate. Suggestions are predictions, which Label Studio fills in.
    """
    return [_task(piece) for piece in pieces]


def _task(piece: Piece) -> dict[str, Any]:
    task: dict[str, Any] = {
        "data": {
            "video": piece.media,
            "question": piece.question,
            "fps": piece.fps,
            "frames": piece.frames,
            "item_id": piece.item_id,
            "video_id": piece.video_id,
            "path": piece.path,
            "camera_id": piece.camera_id,
            "room": piece.room,
            "start_s": piece.start_s,
            "piece_start_s": piece.piece_start_s,
            "piece_end_s": piece.piece_end_s,
            "start_utc": piece.start_utc.isoformat(),
        }
    }
    results = []
    for number, suggestion in enumerate(piece.suggestions):
        span = frames_of(suggestion.start_s, suggestion.end_s, piece)
        if span is None:
            continue
        result: dict[str, Any] = {
            "id": f"s{number}",
            "from_name": _LABEL,
            "to_name": "video",
            "type": "timelinelabels",
            "value": {
                "ranges": [{"start": span[0], "end": span[1]}],
                "timelinelabels": [suggestion.label],
            },
        }
        if suggestion.confidence is not None:
            result["score"] = suggestion.confidence
        results.append(result)
    if results:
        told = [x.confidence for x in piece.suggestions if x.confidence is not None]
        prediction: dict[str, Any] = {
            "model_version": piece.model_version or "unknown",
            "result": results,
        }
        if told:
            prediction["score"] = min(told)
        task["predictions"] = [prediction]
    return task


def frames_of(start_s: float, end_s: float, piece: Piece) -> tuple[int, int] | None:
    """First and last frame of a stretch of the segment in a preview; None where it shows nothing.

    Rounded to the nearest frame, and at least one: each end comes back within a frame.
    """
    length_s = piece.frames / piece.fps
    if end_s <= piece.start_s or start_s >= piece.start_s + length_s:
        return None
    first = min(max(1, round((start_s - piece.start_s) * piece.fps) + 1), piece.frames)
    last = min(max(first, round((end_s - piece.start_s) * piece.fps)), piece.frames)
    return first, last


def is_export(content: Any) -> bool:
    """Whether JSON content is Label Studio's: a list of tasks, or one task."""
    tasks = content if isinstance(content, list) else [content]
    return isinstance(content, list | dict) and all(_is_task(task) for task in tasks[:3])


def _is_task(task: Any) -> bool:
    return isinstance(task, dict) and (
        ("data" in task and any(name in task for name in ("annotations", "completions", "id")))
        or "annotation_id" in task
    )


def read_export(content: Any, places: Places, films: Films) -> Iterator[Statement | Problem]:
    """What the annotations of an export say: formats JSON (whole) and JSON_MIN.

    The line is the task's number. Skipped annotations, drafts and annotations without a region are
    reported: an empty one does not say that nothing happens.
    """
    for ordinal, task in enumerate(content if isinstance(content, list) else [content], start=1):
        number = whole(task.get("id")) if isinstance(task, dict) else None
        line = number or ordinal
        if not isinstance(task, dict):
            yield places.problem(line, json.dumps(task), "no task; export it again")
            continue
        if "annotation_id" in task and "annotations" not in task:
            task = _whole_form(task)
        annotations = task.get("annotations", task.get("completions"))
        if not isinstance(annotations, list):
            yield places.problem(
                line,
                f"task {line}",
                "it has no list of annotations; export the project as JSON (or JSON_MIN), not as "
                "tasks",
            )
            continue
        target = _target(task.get("data"), films)
        drafts = task.get("drafts")
        if isinstance(drafts, list) and drafts:
            yield places.problem(
                line,
                f"task {line}",
                f"{len(drafts)} drafts were not submitted; submit or drop them",
            )
        for annotation in annotations:
            yield from _annotation(annotation, line, target, places)


@dataclass(frozen=True)
class _Target:
    """Which video a task shows, and how its frames become seconds of it."""

    path: str
    start_s: float
    fps: float | None


def _target(data: Any, films: Films) -> _Target | str:
    """The video that a task's data names, else what is wrong."""
    if not isinstance(data, dict):
        return "the task has no data; export it again"
    start_s = real(data.get("start_s", 0.0))
    if start_s is None:
        return f"start_s {data.get('start_s')!r} is no number; import the tasks as they were made"
    fps = real(data.get("fps"))
    if fps is not None and fps <= 0:
        fps = None
    film = films.by_id(data.get("video_id"))
    told = word(data.get("path"))
    if film is None and told is not None:
        path = PurePosixPath(told)
        if path.is_absolute() or ".." in path.parts or "\\" in told:
            return f"path {told!r} leads out of the landing folder; import the tasks as made"
        film = films.by_path(told)
        # A video that is not at hand: its path still says which it was.
        return _Target(film.path if film else told, start_s, fps or (film.fps if film else None))
    if film is None:
        named = next((name for key in _VIDEO_KEYS if (name := word(data.get(key)))), None)
        if named is None:
            named = next((x for x in data.values() if isinstance(x, str) and _is_video(x)), None)
        if named is None:
            return "the task names no video; it needs `path`, `video_id` or `video` in its data"
        by_name = films.by_name(named)
        if isinstance(by_name, str):
            return by_name
        film = by_name
    # A task that we did not make shows the segment itself.
    return _Target(film.path, start_s, fps or film.fps)


def _is_video(text: str) -> bool:
    return PurePosixPath(text.split("?", 1)[0]).suffix.lower() in (
        ".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v",
    )  # fmt: skip


def _annotation(
    annotation: Any, line: int, target: _Target | str, places: Places
) -> Iterator[Statement | Problem]:
    if not isinstance(annotation, dict):
        yield places.problem(line, json.dumps(annotation), "no annotation; export it again")
        return
    who = _annotator(annotation.get("completed_by"))
    text = f"task {line}, annotation {annotation.get('id', '?')} by {who or 'nobody named'}"
    results = annotation.get("result")
    if annotation.get("was_cancelled") or annotation.get("skipped"):
        yield places.problem(line, text, "skipped by the annotator; nothing of it is used")
    elif not isinstance(results, list) or not results:
        yield places.problem(
            line,
            text,
            "submitted without any region, which says nothing; mark the stretch as 'other' where "
            "nothing of the taxonomy happens",
        )
    elif isinstance(target, str):
        yield places.problem(line, text, target)
    else:
        stated = moment(annotation.get("updated_at")) or moment(annotation.get("created_at"))
        yield from _Regions(results, line, text, target, places).statements(who, stated)


class _Regions:
    """The regions of one annotation and what is told of each."""

    def __init__(
        self, results: Sequence[Any], line: int, text: str, target: _Target, places: Places
    ) -> None:
        self._line, self._text, self._target, self._places = line, text, target, places
        self._results = [x for x in results if isinstance(x, dict)]
        self._strange = len(results) - len(self._results)
        self._zones: dict[Any, str | None] = {}
        self._tracks: dict[Any, int | None] = {}
        for result in self._results:
            value = result.get("value")
            if not isinstance(value, dict):
                continue
            key = _key(result)
            choices = value.get("choices")
            if result.get("from_name") == _ZONE and isinstance(choices, list) and choices:
                self._zones[key] = zone_name(choices[0])
            if result.get("from_name") == _TRACK and "number" in value:
                self._tracks[key] = whole(value["number"])

    def statements(
        self, annotator: str | None, stated_utc: datetime | None
    ) -> Iterator[Statement | Problem]:
        if self._strange:
            yield self._problem(self._text, f"{self._strange} results cannot be read")
        for result in self._results:
            for told in self._intervals(result):
                if isinstance(told, Problem):
                    yield told
                    continue
                start_s, end_s, label, how = told
                key = _key(result)
                yield Statement(
                    place=self._places.at(self._line, f"{self._text}: {label} {how}"),
                    dataset=SITE,
                    target=self._target.path,
                    is_scene=False,
                    start_s=round(self._target.start_s + start_s, 6),
                    end_s=round(self._target.start_s + end_s, 6),
                    word=label,
                    source="reviewer",
                    zone=self._zones.get(key, self._zones.get(None)),
                    annotator=annotator,
                    track=self._tracks.get(key),
                    stated_utc=stated_utc,
                )

    def _intervals(
        self, result: Mapping[str, Any]
    ) -> Iterator[tuple[float, float, str, str] | Problem]:
        """Start, end (seconds of the preview), label and wording of a result's intervals."""
        kind, value = result.get("type"), result.get("value")
        if not isinstance(value, dict):
            if kind not in _NO_REGIONS:
                yield self._problem(self._text, f"a result of type {kind!r} has no value")
            return
        if "timelinelabels" in value:
            yield from self._in_frames(value)
        elif "labels" in value and "start" in value and "end" in value:
            yield from self._in_seconds(value)
        elif kind not in _NO_REGIONS:
            yield self._problem(
                f"{self._text}: {kind}",
                f"a region of type {kind!r} is no interval; label on the video's timeline",
            )

    def _in_frames(
        self, value: Mapping[str, Any]
    ) -> Iterator[tuple[float, float, str, str] | Problem]:
        fps, ranges = self._target.fps, value.get("ranges")
        labels = _labels(value["timelinelabels"])
        if fps is None:
            yield self._problem(
                self._text, "its frame rate is not known; the task needs `fps` in its data"
            )
            return
        if not labels or not isinstance(ranges, list) or not ranges:
            yield self._problem(self._text, "a region without a label or a range; correct it")
            return
        for span in ranges:
            first = real(span.get("start")) if isinstance(span, dict) else None
            last = real(span.get("end")) if isinstance(span, dict) else None
            if first is None or last is None or first < 1 or last < first:
                yield self._problem(
                    f"{self._text}: {', '.join(labels)} {json.dumps(span)}",
                    "frames must be numbers from 1, the end not before the start; correct it",
                )
                continue
            for label in labels:
                yield (first - 1) / fps, last / fps, label, f"frames {first:g} to {last:g}"

    def _in_seconds(
        self, value: Mapping[str, Any]
    ) -> Iterator[tuple[float, float, str, str] | Problem]:
        start_s, end_s = real(value["start"]), real(value["end"])
        labels = _labels(value["labels"])
        if start_s is None or end_s is None or not labels:
            yield self._problem(self._text, "a region without a label or with no times; correct it")
            return
        for label in labels:
            yield start_s, end_s, label, f"{start_s:g} to {end_s:g} s"

    def _problem(self, text: str, reason: str) -> Problem:
        return self._places.problem(self._line, text, reason)


def _key(result: Mapping[str, Any]) -> str | None:
    """A region's id; None stands for the whole task."""
    value = result.get("value")
    is_region = isinstance(value, dict) and ("ranges" in value or "start" in value)
    return str(result.get("id")) if is_region else None


def _labels(value: Any) -> list[str]:
    return [name for x in value if (name := word(x))] if isinstance(value, list) else []


def _annotator(completed_by: Any) -> str | None:
    """The e-mail address where one is told, else the user's number on that server."""
    if isinstance(completed_by, dict):
        return word(completed_by.get("email")) or _annotator(completed_by.get("id"))
    if (number := whole(completed_by)) is not None:
        return f"label-studio/{number}"
    return word(completed_by)


def _whole_form(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task of JSON_MIN, which has one annotation flattened into it, in the form of JSON."""
    results: list[dict[str, Any]] = []
    data: dict[str, Any] = {}
    for name, value in task.items():
        regions = value if isinstance(value, list) else []
        if regions and all(isinstance(x, dict) for x in regions):
            for region in regions:
                kind = next((k for k in region if k.endswith("labels")), name)
                # Without ids, what is told of a region is known by the same range.
                key = json.dumps([region.get(k) for k in ("ranges", "start", "end")])
                results.append({"id": key, "from_name": name, "type": kind, "value": region})
        else:
            data[name] = value
    zone = task.get(_ZONE)
    # The format does not say which region a zone is told of.
    if isinstance(zone, str) and sum("labels" in x["type"] for x in results) == 1:
        results.append({"from_name": _ZONE, "type": "choices", "value": {"choices": [zone]}})
    return {
        "id": task.get("id"),
        "data": data,
        "annotations": [
            {
                "id": task.get("annotation_id"),
                "completed_by": task.get("annotator"),
                "updated_at": task.get("updated_at"),
                "result": results,
            }
        ],
    }


if len(_COLOURS) < len(LABELS):
    raise AssertionError("every label needs a colour of its own")
