"""How far each two annotators agree.

What belongs here: the figures. What does not: deciding who is right (`resolution.py`) and drawing
(`plots.py`).

Both figures are by time and exact: a segment is cut at every boundary of an interval, per person
(`stretches.py`), and stretches of which both annotators speak are weighed by their length.

- Cohen's kappa (J. Cohen, A coefficient of agreement for nominal scales, Educational and
  Psychological Measurement 20(1), 1960): (po - pe) / (1 - pe), where po is the share of time with
  the same label and pe what two annotators with those shares of labels would reach by chance. Of
  one label: with that label against all others.
- Temporal intersection over union: time on which both state the label over time on which either
  does; of all labels together, summed over labels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import polars as pl

from fall_assets.labelling.stretches import annotator_of, people, stretches
from fall_assets.lake.registry import LABELS, table

ALL = "all"


def agreement(annotations: pl.DataFrame) -> pl.DataFrame:
    """How far each two annotators agree on the time that both labelled.

    Args:
        annotations: rows of the table `annotations`; whether there is `outcome` does not matter.

    Returns:
        Rows of the table `label_agreement`, one per pair with common time and per label that one
        of the two uses there, 'all' among them; sorted by pair, 'all' first.
    """
    told = annotations.with_columns(annotator=pl.coalesce("annotator", "source"))
    several = told.filter(pl.col("annotator").n_unique().over("video_id") > 1).sort(
        "video_id", "start_s", "end_s", "label", "label_id"
    )
    pairs: defaultdict[tuple[str, str], _Pair] = defaultdict(_Pair)
    for _video, part in several.group_by("video_id", maintain_order=True):
        rows = part.to_dicts()
        whom = people(rows)
        for person in sorted(set(whom)):
            numbers = [n for n, name in enumerate(whom) if name == person]
            if len({annotator_of(rows[n]) for n in numbers}) < 2:
                continue
            for stretch in stretches(rows, numbers):
                for one, other in combinations(sorted(stretch.said), 2):
                    mine, theirs = stretch.said[one], stretch.said[other]
                    pair = pairs[one, other]
                    pair.seconds[mine.label, theirs.label].append(stretch.end_s - stretch.start_s)
                    for word in (mine, theirs):
                        for n in word.rows:
                            row = rows[n]
                            pair.intervals[word.label].add(row["interval_id"] or row["label_id"])
    rows = [row for names in sorted(pairs) for row in _rows(names, pairs[names])]
    return pl.DataFrame(rows, schema=table("label_agreement").schema)


@dataclass
class _Pair:
    """Lengths of common stretches by what each says, and intervals by label."""

    seconds: defaultdict[tuple[str, str], list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )
    intervals: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def _rows(names: tuple[str, str], pair: _Pair) -> list[dict[str, Any]]:
    seconds = {said: math.fsum(lengths) for said, lengths in pair.seconds.items()}
    total = math.fsum(seconds.values())
    used = [label for label in LABELS if any(label in said for said in seconds)]
    rows = []
    for label in (ALL, *used):
        counted = seconds if label == ALL else _merged(seconds, label)
        both = math.fsum(s for (a, b), s in counted.items() if a == b and a != "")
        either = (
            2 * total - both
            if label == ALL
            else math.fsum(s for (a, b), s in counted.items() if label in (a, b))
        )
        intervals = (
            set[str]().union(*pair.intervals.values()) if label == ALL else pair.intervals[label]
        )
        rows.append(
            {
                "annotator": names[0],
                "other": names[1],
                "label": label,
                "seconds": total,
                "kappa": _kappa(counted, total),
                "temporal_iou": min(both / either, 1.0) if either > 0 else None,
                "intervals": len(intervals),
            }
        )
    return rows


def _merged(seconds: Mapping[tuple[str, str], float], label: str) -> dict[tuple[str, str], float]:
    """The same with all other labels as one, ''."""
    merged: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for (mine, theirs), length in seconds.items():
        merged[mine if mine == label else "", theirs if theirs == label else ""].append(length)
    return {said: math.fsum(lengths) for said, lengths in merged.items()}


def _kappa(seconds: Mapping[tuple[str, str], float], total: float) -> float | None:
    """Cohen's kappa; None where chance alone explains all: both always state one same label."""
    labels = sorted({label for said in seconds for label in said})
    if len(labels) < 2:
        return None
    observed = math.fsum(s for (a, b), s in seconds.items() if a == b) / total
    chance = math.fsum(
        math.fsum(s for (a, _b), s in seconds.items() if a == label)
        / total
        * math.fsum(s for (_a, b), s in seconds.items() if b == label)
        / total
        for label in labels
    )
    if chance >= 1:
        return None
    return max(-1.0, min(1.0, (observed - chance) / (1 - chance)))
