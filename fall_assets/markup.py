"""HTML pages that need nothing else: no script, no request, everything from data escaped.

What belongs here: the pieces that the reports of several stages share. What does not: what a report
says, and how it looks.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

# Neither HTML nor UTF-8 has a place for these.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def text(value: Any) -> str:
    """A value as text that is only text, in elements and in quoted attributes."""
    return html.escape(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", str(value)), quote=True)


def data_uri(content: bytes, kind: Literal["png", "jpeg"]) -> str:
    """A picture's bytes as an address, so that the page is one file."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def picture(content: bytes, name: str, kind: Literal["png", "jpeg"] = "png") -> str:
    """A picture within the page; `name` is said where it is not seen."""
    return f'<img alt="{text(name)}" src="{data_uri(content, kind)}">'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], name: str | None = None) -> str:
    """A table that scrolls sideways on a small screen; cells are HTML already.

    With a `name` it can be reached and scrolled by keyboard.
    """
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    region = f' role="region" tabindex="0" aria-label="{text(name)}"' if name else ""
    return f'<div class="wide"{region}><table><tr>{head}</tr>\n{body}</table></div>'


def document(title: str, body: str, style: str) -> str:
    """A whole page, to be written in UTF-8; the browser is told that it may load nothing."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        "</body>\n</html>\n"
    )
