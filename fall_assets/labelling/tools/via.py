"""VGG Image Annotator 3: temporal segments of its CSV export and of its project file.

What belongs here: those formats. What does not: regions of single frames, which are no intervals.

From the tool's source (`_via_import_export.js`, `_via_data.js`): the CSV starts with comments, of
which `# ATTRIBUTE = {...}` describes the attributes and `# CSV_HEADER = ...` names the columns
`metadata_id, file_list, flags, temporal_coordinates, spatial_coordinates, metadata`. The file list,
coordinates and metadata are JSON; a temporal coordinate of two numbers is a segment in seconds, of
one number a still frame. Metadata maps an attribute's id to a text, or to the id of one of its
options (several, with commas, for a checkbox). A project file holds the same as JSON: `metadata`
items with `vid`, `z` (times), `xy` (shape) and `av` (metadata), `view` the files, `attribute`.

The attributes called `zone`, `person` (or `subject`), `track` and `annotator` tell what their names
say; the first other one with a value is the label.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fall_assets.datasets import SITE
from fall_assets.labelling.statements import Problem, Statement
from fall_assets.labelling.tools.base import Films, Places, real, whole, word, zone_name

_MARKS = ("# Exported using VGG Image Annotator", "# CSV_HEADER = metadata_id,file_list")
_COLUMNS = (
    "metadata_id", "file_list", "flags", "temporal_coordinates", "spatial_coordinates", "metadata",
)  # fmt: skip
_DETAILS = ("zone", "person", "subject", "track", "annotator")
# Long cells are no attack of their own: the file's size is bounded.
_LONGEST_CELL = 2**24


def is_via(head: str) -> bool:
    """Whether the first part of a file is that of VIA's CSV."""
    return any(mark in head for mark in _MARKS)


def read_csv(landing: Path, path: Path, films: Films) -> Iterator[Statement | Problem]:
    """What the temporal segments of a CSV export say; the line is the line."""
    places = Places(landing, path)
    attributes: Mapping[str, Any] = {}
    columns = list(_COLUMNS)
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    with path.open(encoding="utf-8-sig", errors="replace", newline=None) as file:
        for number, raw in enumerate(file, start=1):
            text = raw.strip()
            if text.startswith("#"):
                name, _, value = text[1:].partition("=")
                if name.strip() in ("ATTRIBUTE", "ATTRIBUTES"):
                    attributes = _mapping(_loaded(value))
                elif name.strip() == "CSV_HEADER":
                    columns = [x.strip() for x in value.split(",") if x.strip()]
                continue
            if not text:
                continue
            try:
                cells = next(csv.reader([text], strict=True))
            except csv.Error as error:
                yield places.problem(number, text, f"not a CSV line ({error}); export it again")
                continue
            named = dict(zip(columns, cells, strict=False))
            if missing := [name for name in _COLUMNS if name not in named and name != "flags"]:
                yield places.problem(number, text, f"no {', '.join(missing)}; export it again")
                continue
            yield from _segment(
                _loaded(named["file_list"]),
                _loaded(named["temporal_coordinates"]),
                _mapping(_loaded(named["metadata"])),
                attributes,
                (number, text),
                places,
                films,
            )


def is_project(content: Any) -> bool:
    """Whether JSON content is a project of VIA 3."""
    return isinstance(content, dict) and all(
        isinstance(content.get(name), dict) for name in ("project", "metadata", "view", "file")
    )


def read_project(
    content: Mapping[str, Any], places: Places, films: Films
) -> Iterator[Statement | Problem]:
    """What the temporal segments of a project say; the line is the item's number in the file."""
    attributes = _mapping(content.get("attribute"))
    for number, (name, item) in enumerate(content["metadata"].items(), start=1):
        text = f"item {name}"
        if not isinstance(item, dict):
            yield places.problem(number, text, "no metadata item; save the project again")
            continue
        view = content["view"].get(str(item.get("vid")))
        ids = view.get("fid_list") if isinstance(view, dict) else None
        files = []
        for fid in ids if isinstance(ids, list) else []:
            file = _mapping(content["file"].get(str(fid)))
            files.append(word(file.get("src")) or word(file.get("fname")))
        yield from _segment(
            files,
            item.get("z"),
            _mapping(item.get("av")),
            attributes,
            (number, f"{text} {json.dumps(item.get('z'))} {json.dumps(item.get('av'))}"),
            places,
            films,
        )


def _segment(
    files: Any,
    times: Any,
    metadata: Mapping[str, Any],
    attributes: Mapping[str, Any],
    where: tuple[int, str],
    places: Places,
    films: Films,
) -> Iterator[Statement | Problem]:
    """The statements of one item, or what is wrong with it."""
    line, text = where
    names = [x for x in files if isinstance(x, str) and x] if isinstance(files, list) else []
    if len(names) != 1:
        yield places.problem(line, text, f"it names {len(names)} files; it must name one video")
        return
    numbers = [real(x) for x in times] if isinstance(times, list) else []
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        yield places.problem(
            line, text, "no temporal segment: it needs a start and an end in seconds"
        )
        return
    film = films.by_name(names[0])
    if isinstance(film, str):
        yield places.problem(line, text, film)
        return
    details: dict[str, str] = {}
    labels: list[str] = []
    for key, value in metadata.items():
        name, told = _told(value, _mapping(attributes.get(key)))
        if name.lower() in _DETAILS and told:
            details[name.lower()] = told[0]
        elif told and not labels:
            labels = told
    if not labels:
        yield places.problem(line, text, "the segment has no label; choose one for its attribute")
        return
    for label in labels:
        yield Statement(
            place=places.at(line, text),
            dataset=SITE,
            target=film.path,
            is_scene=False,
            start_s=numbers[0],
            end_s=numbers[1],
            word=label,
            source="reviewer",
            zone=zone_name(details.get("zone")),
            subject=details.get("person") or details.get("subject"),
            annotator=details.get("annotator"),
            track=whole(details.get("track")),
        )


def _told(value: Any, attribute: Mapping[str, Any]) -> tuple[str, list[str]]:
    """An attribute's name and the texts that its value stands for."""
    name = word(attribute.get("aname")) or ""
    options = _mapping(attribute.get("options"))
    told = word(value) if not isinstance(value, int) else str(value)
    if told is None:
        return name, []
    if not options:
        return name, [told]
    texts = []
    for part in told.split(",") if told not in options else [told]:
        option = options.get(part.strip(), part)
        texts.append(word(option))
    return name, [text for text in texts if text and text != "_DEFAULT"]


def _loaded(text: str) -> Any:
    """JSON; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
