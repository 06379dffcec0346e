"""The plot of agreement as a small PNG. matplotlib is loaded when it is drawn.

What belongs here: drawing. What does not: the figures (`agreement.py`).
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import polars as pl

from fall_assets.labelling.agreement import ALL
from fall_assets.lake.registry import LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 90
_BLUE = "#2b6ca3"
_MOST_ANNOTATORS = 12
_LONGEST_NAME = 14


def agreement_plot(rows: pl.DataFrame) -> bytes | None:
    """Kappa of each two annotators as a map, and temporal overlap per label as bars.

    Bars are means over pairs, weighted by their common time. Of many annotators those with the
    most common time are shown.

    Args:
        rows: of the table `label_agreement`.

    Returns:
        A PNG; None without rows.
    """
    overall = rows.filter(pl.col("label") == ALL)
    if overall.is_empty():
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.8), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw_kappa(figure, left, overall)
    _draw_overlap(right, rows.filter(pl.col("label") != ALL))
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _draw_kappa(figure: Figure, axes: Axes, overall: pl.DataFrame) -> None:
    time = (
        pl.concat(
            [
                overall.select("seconds", name="annotator"),
                overall.select("seconds", name="other"),
            ]
        )
        .group_by("name")
        .agg(pl.col("seconds").sum())
        .sort("seconds", "name", descending=[True, False])
    )
    names = sorted(time["name"].head(_MOST_ANNOTATORS))
    places = {name: number for number, name in enumerate(names)}
    values = [[math.nan] * len(names) for _name in names]
    for row in overall.iter_rows(named=True):
        one, other = places.get(row["annotator"]), places.get(row["other"])
        if one is None or other is None or row["kappa"] is None:
            continue
        values[one][other] = values[other][one] = row["kappa"]
        for x, y in ((one, other), (other, one)):
            axes.text(x, y, f"{row['kappa']:.2f}", ha="center", va="center", fontsize=8)
    image = axes.imshow(values, vmin=-1, vmax=1, cmap="RdYlGn")
    figure.colorbar(image, ax=axes, shrink=0.8)
    shown = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), shown, fontsize=8)
    axes.set_title("Cohen's kappa by time", fontsize=10)


def _draw_overlap(axes: Axes, by_label: pl.DataFrame) -> None:
    known = by_label.filter(pl.col("temporal_iou").is_not_null() & (pl.col("seconds") > 0))
    means = dict(
        known.group_by("label")
        .agg((pl.col("temporal_iou") * pl.col("seconds")).sum() / pl.col("seconds").sum())
        .iter_rows()
    )
    labels = [label for label in LABELS if label in means][::-1]
    axes.barh(labels, [means[label] for label in labels], color=_BLUE)
    axes.set_xlim(0, 1)
    axes.tick_params(labelsize=8)
    axes.set_title("Temporal intersection over union", fontsize=10)
