"""XML from outside, element by element, with no entity expanded.

What belongs here: parsing. What does not: what the elements mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fall_assets.errors import PermanentFailureError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MAX_DEPTH = 64


class BadXmlError(PermanentFailureError):
    """The file is no XML, or XML that does what label files have no need to."""


def root_of(path: Path) -> str:
    """The name of the root element. Raises BadXmlError."""
    for event, element in events(path):
        if event == "start":
            return str(element.tag)
    raise BadXmlError("not XML: it holds no element")


def events(path: Path) -> Iterator[tuple[str, Element]]:
    """`start` and `end` of each element. Clear what is done with, and memory stays small.

    Raises BadXmlError where the file is damaged, from the place of the damage on, where it
    declares entities, or nests deeper than any label file.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    depth = 0
    try:
        for event, element in iterparse(path, events=("start", "end"), forbid_dtd=False):
            depth += 1 if event == "start" else -1
            if depth > _MAX_DEPTH:
                raise BadXmlError(f"elements are nested more than {_MAX_DEPTH} deep")
            yield event, element
    except DefusedXmlException as error:
        raise BadXmlError(f"it declares entities or refers to other files ({error})") from error
    except (ParseError, ValueError, LookupError) as error:
        raise BadXmlError(f"not XML that can be read ({error})") from error
