"""Label files of the tools that people label with, recognised by their content.

What belongs here: which reader a file gets. What does not: a format (its module beside) and
whether a time or a word makes sense (`labelling/readers.py`).

A reader yields a `Statement` or a `Problem` for each thing that a file holds. It never raises on
what stands in a file, expands no XML entity, and reads at most `MAX_BYTES`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from fall_assets.labelling.statements import Problem, Statement
from fall_assets.labelling.tools.base import MAX_BYTES, Film, Films, Places

__all__ = ["MAX_BYTES", "SUFFIXES", "Film", "Films", "Reader", "reader_for"]

Reader = Callable[[Path, Path, Films], Iterator[Statement | Problem]]
"""Reads one label file, given the landing folder, the file's path and the videos at hand."""

SUFFIXES = (".json", ".xml", ".eaf", ".csv", ".tsv", ".txt")
"""What a tool's file may be called."""

_HEAD = 64 * 1024


def reader_for(path: Path) -> Reader | None:
    """The reader of a tool's file; None where it is no tool's file.

    `.json`, `.xml` and `.eaf` always get a reader, which reports what it does not know. A `.csv`
    that is neither VIA's nor ELAN's is left to the platform's own format, a text file that is not
    ELAN's is not a label file.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _read_json
    if suffix in (".xml", ".eaf"):
        return _read_xml
    if suffix in (".csv", ".tsv", ".txt"):
        from fall_assets.labelling.tools import elan, via

        try:
            with path.open("rb") as file:
                head = file.read(_HEAD).decode("utf-8-sig", errors="replace")
        except OSError:
            # The reader says that it cannot be read, whatever it is.
            return _limited(via.read_csv)
        if via.is_via(head):
            return _limited(via.read_csv)
        if elan.is_table(head, suffix):
            return _limited(elan.read_table)
    return None


def _limited(read: Reader) -> Reader:
    """A reader that does not start on a file that is too large."""

    def limited(landing: Path, path: Path, films: Films) -> Iterator[Statement | Problem]:
        try:
            size = path.stat().st_size
            with path.open("rb"):
                pass
        except OSError as error:
            yield _whole(landing, path, f"cannot be read ({error}); correct its permissions")
            return
        if size > MAX_BYTES:
            yield _whole(
                landing,
                path,
                f"{size / 2**20:.0f} MiB are more than the {MAX_BYTES // 2**20} MiB that are read; "
                "export it in parts",
            )
            return
        yield from read(landing, path, films)

    return limited


def _json(landing: Path, path: Path, films: Films) -> Iterator[Statement | Problem]:
    from fall_assets.labelling.tools import label_studio, via

    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError) as error:
        yield _whole(landing, path, f"not JSON that can be read ({error}); export it again")
        return
    places = Places(landing, path)
    if label_studio.is_export(content):
        yield from label_studio.read_export(content, places, films)
    elif via.is_project(content):
        yield from via.read_project(content, places, films)
    else:
        yield _whole(
            landing,
            path,
            "neither an export of Label Studio nor a project of VIA 3; export in one of the "
            "formats of docs/labelling-tools.md, or take the file out of the folder",
        )


def _xml(landing: Path, path: Path, films: Films) -> Iterator[Statement | Problem]:
    from fall_assets.labelling.tools import cvat, elan
    from fall_assets.labelling.tools.safe_xml import BadXmlError, root_of

    try:
        root = root_of(path)
        if root == "annotations":
            yield from cvat.read(landing, path, films)
        elif root == "ANNOTATION_DOCUMENT":
            yield from elan.read_document(landing, path, films)
        else:
            yield _whole(
                landing,
                path,
                f"<{root}> is neither CVAT for video 1.1 nor ELAN; export in one of the formats of "
                "docs/labelling-tools.md, or take the file out of the folder",
            )
    except BadXmlError as error:
        yield _whole(landing, path, f"{error}; export it again")


def _whole(landing: Path, path: Path, reason: str) -> Problem:
    """A problem of the whole file; its line number is 1, which no task of its own has yet."""
    return Places(landing, path).problem(1, path.name, reason)


_read_json: Reader = _limited(_json)
_read_xml: Reader = _limited(_xml)
