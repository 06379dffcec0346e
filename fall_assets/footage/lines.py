"""CSV files that people and machines leave beside the footage, read line by line.

What belongs here: splitting lines into named cells, with the line's number kept. What does not:
what the cells mean.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """One line of a CSV file.

    Attributes:
        number: from 1; the header is a line.
        text: the line as it stands.
        cells: stripped texts by column name; empty ones are left out.
        problem: why the line cannot be split into cells; None where it can.
    """

    number: int
    text: str
    cells: dict[str, str]
    problem: str | None = None


def read_lines(path: Path, required: Sequence[str]) -> Iterator[Line]:
    """Lines after the header; empty ones are passed by.

    Each line stands alone, so that an unpaired quote spoils its own line only. Column names are
    compared without case. Where a required column is missing, one `Line` for the header says so
    and nothing follows. Raises OSError where the file cannot be read.
    """
    header: list[str] | None = None
    with path.open(encoding="utf-8-sig", errors="replace", newline=None) as file:
        for number, raw in enumerate(file, start=1):
            text = raw.rstrip("\n")
            if not text.strip():
                continue
            try:
                cells = [cell.strip() for cell in next(csv.reader([text], strict=True))]
            except csv.Error as error:
                yield Line(number, text, {}, f"not a CSV line ({error}); correct its quotes")
                if header is None:
                    return
                continue
            if header is None:
                header = [cell.lower() for cell in cells]
                missing = [name for name in required if name not in header]
                if missing:
                    yield Line(
                        number, text, {}, f"the header has no column {', '.join(missing)}; add it"
                    )
                    return
            elif len(cells) > len(header) and any(cells[len(header) :]):
                yield Line(
                    number,
                    text,
                    {},
                    f"{len(cells)} cells under {len(header)} columns; quote texts with commas",
                )
            else:
                named = zip(header, cells, strict=False)
                yield Line(number, text, {name: cell for name, cell in named if cell})
