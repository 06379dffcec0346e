"""The taxonomy: which label each source's word stands for.

What belongs here: words. What does not: times (see `readers.py`). The labels themselves stand in
the schema registry. Whoever changes a mapping raises TAXONOMY_VERSION.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from fall_assets.datasets import DATASETS, SITE
from fall_assets.lake.registry import LABELS

TAXONOMY_VERSION = 1

DESCENT_S = 1.5
"""The longest that a fall's descent is taken to last where a source does not tell its end."""

_OWN: Mapping[str, str] = {label: label for label in LABELS}


def to_label(dataset: str, word: str) -> str | None:
    """The label that a source's word stands for; None where it is not known.

    Case, spaces at the ends and a direction in brackets, as in 'Falling (BW)', do not matter.

    Args:
        dataset: the data set whose words are meant, or 'site' for the taxonomy's own.
        word: as it stands in the label file.
    """
    plain = _plain(word)
    known = {} if dataset == SITE else DATASETS[dataset].words
    return known.get(plain) or _OWN.get(plain)


def nearest_word(dataset: str, word: str) -> str | None:
    """The known word that is most like an unknown one, for a message; None where none is."""
    known = [*_OWN, *(() if dataset == SITE else DATASETS[dataset].words)]
    near = difflib.get_close_matches(_plain(word), known, n=1)
    return near[0] if near else None


def _plain(word: str) -> str:
    text = re.sub(r"\([^()]*\)\s*$", "", word.strip())
    return " ".join(text.lower().split())
