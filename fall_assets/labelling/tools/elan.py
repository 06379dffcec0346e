"""ELAN: its documents (.eaf) and its tab-delimited text or CSV exports.

What belongs here: those formats. What does not: what a tier's words mean.

From ELAN's manual ("Tab-delimited text file") and its format (EAF 2.7 to 3.0):

- A text export has a row per annotation: tier, participant, begin, end, duration, annotation, each
  time in one or more of hh:mm:ss.ms, ss.msec and milliseconds; any column may be left out. It has
  column names only in some exports ('Begin Time - ss.msec'; then a column per tier holds the
  annotations). Lines that start with `#` tell the media file, as a `file:` address with an offset
  that is added to the times already.
- A document has TIME_SLOTs in milliseconds, TIERs (with ANNOTATOR and PARTICIPANT) of
  ALIGNABLE_ANNOTATIONs between two slots, and REF_ANNOTATIONs that tell more of another annotation.
  MEDIA_DESCRIPTOR names the video; its TIME_ORIGIN is the place in it at which the timeline starts.

A tier is one person or one kind of label; annotations on a tier whose name starts with `zone` and
that refer to another annotation tell its zone. Where a text export does not name the video, its own
name without suffix is taken for the video's.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fall_assets.datasets import SITE
from fall_assets.labelling.statements import Problem, Statement
from fall_assets.labelling.tools.base import Film, Films, Places, real, whole, word, zone_name
from fall_assets.labelling.tools.safe_xml import events

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_CLOCK = re.compile(r"^(\d+):(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)$")
_SECONDS = re.compile(r"^\d+[.,]\d+$")
_MILLISECONDS = re.compile(r"^\d+$")
_BEGIN, _END, _DURATION = "begin time", "end time", "duration"
_TOLERANCE_S = 0.002


# Text exports --------------------------------------------------------------------------------


def is_table(head: str, suffix: str) -> bool:
    """Whether the first part of a file is that of an ELAN text export."""
    lines = [line for line in head.splitlines() if line.strip()]
    if any(_is_header(line) for line in lines[:20]):
        return True
    first = next((line for line in lines if not line.startswith(("#", '"#'))), None)
    if first is None:
        return False
    cells = [cell.strip(' "') for cell in first.split("," if suffix == ".csv" else "\t")]
    # The platform's own CSV holds seconds, too; only ELAN writes times as a clock does.
    if suffix == ".csv" and not any(_CLOCK.match(cell) for cell in cells):
        return False
    return _layout(cells) is not None


def read_table(landing: Path, path: Path, films: Films) -> Iterator[Statement | Problem]:
    """What the rows of a text export say; the line is the line."""
    places = Places(landing, path)
    media: str | None = None
    header: list[str] | None = None
    separator: str | None = None
    with path.open(encoding="utf-8-sig", errors="replace", newline=None) as file:
        for number, raw in enumerate(file, start=1):
            text = raw.strip("\r\n")
            plain = text.strip().strip('"')
            if not plain:
                continue
            if plain.startswith("#"):
                if "file:" in plain:
                    media = plain[plain.index("file:") :].split(" -- ")[0].strip()
                continue
            if separator is None:
                separator = "\t" if "\t" in text else ";" if _prefers_semicolons(text) else ","
            try:
                cells = [x.strip() for x in next(csv.reader([text], delimiter=separator))]
            except csv.Error as error:
                yield places.problem(number, text, f"cannot be split ({error}); export it again")
                continue
            if header is None and _is_header(text):
                header = [cell.lower() for cell in cells]
                continue
            rows = _named(header, cells) if header else _unnamed(cells)
            if isinstance(rows, str):
                yield places.problem(number, text, rows)
                continue
            for row in rows:
                film = _film_of(row.media or media, path, films)
                if isinstance(film, str):
                    yield places.problem(number, text, film)
                    continue
                yield _statement(places, number, text, film, row)


@dataclass(frozen=True)
class _Row:
    """One annotation of a text export."""

    start_s: float
    end_s: float
    label: str
    participant: str | None = None
    media: str | None = None
    zone: str | None = None
    annotator: str | None = None
    track: int | None = None


def _statement(places: Places, line: int, text: str, film: Film, row: _Row) -> Statement:
    return Statement(
        place=places.at(line, text),
        dataset=SITE,
        target=film.path,
        is_scene=False,
        start_s=row.start_s,
        end_s=row.end_s,
        word=row.label,
        source="reviewer",
        zone=row.zone,
        subject=row.participant,
        annotator=row.annotator,
        track=row.track,
    )


def _is_header(line: str) -> bool:
    lowered = line.lower()
    return _BEGIN in lowered and (_END in lowered or _DURATION in lowered)


def _prefers_semicolons(line: str) -> bool:
    return line.count(";") > line.count(",")


def _named(header: Sequence[str], cells: Sequence[str]) -> list[_Row] | str:
    """A row under column names, which may hold an annotation for each of several tiers."""
    named = dict(zip(header, cells, strict=False))
    begin = _first_time(named, _BEGIN)
    end = _first_time(named, _END)
    duration = _first_time(named, _DURATION)
    if end is None and begin is not None and duration is not None:
        end = begin + duration
    if begin is None or end is None:
        return "no begin or end time that can be read; export times as hh:mm:ss.ms or ss.msec"
    details = {
        "tier", "participant", "annotator", "zone", "track", "file", "file name", "file path",
        "annotation", "label", "value", "",
    }  # fmt: skip
    times = {x for x in header if x.startswith((_BEGIN, _END, _DURATION))}
    told = [named[x] for x in ("annotation", "label", "value") if named.get(x)][:1]
    told += [named[x] for x in header if x not in details | times and named.get(x)]
    if not told:
        return "the row has no annotation; leave its tier out of the export"
    media = named.get("file path") or named.get("file name") or named.get("file")
    return [
        _Row(
            begin,
            end,
            label,
            named.get("participant") or None,
            None if media and media.lower().endswith(".eaf") else media or None,
            zone_name(named.get("zone")),
            named.get("annotator") or None,
            whole(named.get("track")),
        )
        for label in told
    ]


def _first_time(named: dict[str, str], start: str) -> float | None:
    for name, cell in named.items():
        if name.startswith(start) and (seconds := _time(cell, name)) is not None:
            return seconds
    return None


def _unnamed(cells: Sequence[str]) -> list[_Row] | str:
    layout = _layout(cells)
    if layout is None:
        return "no begin and end time that can be read; export times as hh:mm:ss.ms or ss.msec"
    begin, end, first, after = layout
    rest = [cell for cell in cells[after:] if cell]
    if not rest:
        return "the row has no annotation; leave its tier out of the export"
    # Tier, then participant; either may be left out.
    participant = cells[1].strip() or None if first > 1 else None
    return [_Row(begin, end, rest[0], participant)]


def _layout(cells: Sequence[str]) -> tuple[float, float, int, int] | None:
    """Begin and end in seconds, and between which cells the times stand."""
    stripped = [cell.strip() for cell in cells]
    first = next((i for i, cell in enumerate(stripped) if _is_time(cell)), None)
    if first is None:
        return None
    after = first
    while after < len(stripped) and _is_time(stripped[after]):
        after += 1
    # An annotation may look like a number: the last of the cells may not be a time.
    for last in (after, after - 1):
        times = [_time(cell, "") for cell in stripped[first:last]]
        count = len(times)
        for kinds in (3, 2):
            if not count or count % kinds:
                continue
            each = count // kinds
            begin, end = times[0], times[each]
            if begin is None or end is None or end <= begin:
                continue
            if kinds == 3:
                duration = times[2 * each]
                if duration is None or abs(begin + duration - end) > _TOLERANCE_S:
                    continue
            return begin, end, first, last
    return None


def _is_time(cell: str) -> bool:
    return any(form.match(cell) for form in (_CLOCK, _SECONDS, _MILLISECONDS))


def _time(cell: str, name: str) -> float | None:
    """Seconds; whole numbers are milliseconds unless the column's name tells seconds."""
    cell = cell.strip()
    if found := _CLOCK.match(cell):
        return round(
            int(found[1][:9]) * 3600 + int(found[2]) * 60 + float(found[3].replace(",", ".")), 6
        )
    if _SECONDS.match(cell):
        return real(cell.replace(",", "."))
    if _MILLISECONDS.match(cell) and (number := real(cell)) is not None:
        return number if "ss.msec" in name else number / 1000
    return None


def _film_of(media: str | None, path: Path, films: Films) -> Film | str:
    if media is not None:
        return films.by_name(media)
    found = films.by_stem(path.stem)
    if isinstance(found, str):
        return (
            f"the file does not say which video it is about, and {found}; export it with the "
            "header lines that tell the media file, or name the file as its video"
        )
    return found


# Documents -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Annotation:
    tier: str
    start_s: float
    end_s: float
    label: str
    participant: str | None
    annotator: str | None


def read_document(landing: Path, path: Path, films: Films) -> Iterator[Statement | Problem]:
    """What the tiers of a document say; the line is the annotation's number in the file, from 1.

    Raises BadXmlError where the file is damaged; a document is used whole or not at all, because
    what refers to an annotation may stand behind it.
    """
    places = Places(landing, path)
    slots: dict[str, float] = {}
    media: list[str] = []
    origin_s = 0.0
    zones: dict[str, str] = {}
    found: list[tuple[int, str, _Annotation]] = []
    problems: list[Problem] = []
    count = 0
    for event, element in events(path):
        if event == "start":
            continue
        if element.tag == "MEDIA_DESCRIPTOR":
            media += [x for k in ("RELATIVE_MEDIA_URL", "MEDIA_URL") if (x := element.get(k))]
            origin_s = origin_s or (whole(element.get("TIME_ORIGIN")) or 0) / 1000
        elif element.tag == "TIME_SLOT":
            value = whole(element.get("TIME_VALUE"))
            if value is not None:
                slots[element.get("TIME_SLOT_ID") or ""] = value / 1000
        elif element.tag == "TIER":
            for annotation in element.iterfind("ANNOTATION/*"):
                count += 1
                told = _read_annotation(annotation, element, slots)
                if told is None:
                    zone = zone_name(annotation.findtext("ANNOTATION_VALUE"))
                    if zone:
                        zones[annotation.get("ANNOTATION_REF") or ""] = zone
                elif isinstance(told, str):
                    text = f"annotation {annotation.get('ANNOTATION_ID')}"
                    problems.append(places.problem(count, text, told))
                else:
                    found.append((count, annotation.get("ANNOTATION_ID") or "", told))
            element.clear()
    yield from problems
    film = _film_of_document(media, path, films)
    for number, name, told in found:
        text = f"annotation {name} on tier {told.tier}: {told.label}"
        if isinstance(film, str):
            yield places.problem(number, text, film)
            continue
        yield _statement(
            places,
            number,
            text,
            film,
            _Row(
                round(told.start_s + origin_s, 6),
                round(told.end_s + origin_s, 6),
                told.label,
                told.participant,
                zone=zones.get(name),
                annotator=told.annotator,
            ),
        )


def _read_annotation(
    element: Element, tier: Element, slots: dict[str, float]
) -> _Annotation | str | None:
    """An annotation, what is wrong with it, or None where it tells another one's zone."""
    name = tier.get("TIER_ID") or "?"
    if element.tag == "REF_ANNOTATION":
        if name.lower().startswith("zone"):
            return None
        return f"tier {name} refers to other annotations; only a tier 'zone' may, use times"
    label = word(element.findtext("ANNOTATION_VALUE"))
    if label is None:
        return f"it has no text on tier {name}; write its label"
    start_s = slots.get(element.get("TIME_SLOT_REF1") or "")
    end_s = slots.get(element.get("TIME_SLOT_REF2") or "")
    if start_s is None or end_s is None:
        return f"{label!r} on tier {name} has no times of its own; align it"
    return _Annotation(
        name, start_s, end_s, label, word(tier.get("PARTICIPANT")), word(tier.get("ANNOTATOR"))
    )


def _film_of_document(media: Sequence[str], path: Path, films: Films) -> Film | str:
    tried = [films.by_name(name) for name in media]
    known = [film for film in tried if isinstance(film, Film)]
    if known:
        return known[0]
    return tried[0] if tried else _film_of(None, path, films)
