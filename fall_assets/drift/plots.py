"""Pictures for the drift report: reference against today. matplotlib is imported on use.

Drawn without a display and without pyplot's global state; small PNGs, fit for metadata in the UI.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fall_assets.drift.report import DriftJudgement, p_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_REFERENCE, _TODAY = "#7f7f7f", "#d62728"


def histograms(
    reference: pl.DataFrame,
    today: pl.DataFrame,
    judgement: DriftJudgement,
    limit: int = 6,
) -> bytes:
    """PNG with one panel per drifted signal: its values in the reference and today, as shares.

    `reference` and `today` are what `judge` got. At most `limit` panels, exact signals first, then
    by p-value; where nothing drifted, the signals with the smallest p-values are shown, and a note
    where there is nothing to show.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    day, model_version = judgement.report["day"][0], judgement.report["model_version"][0]
    known = reference.filter(pl.col("model_version") == model_version)
    windows = today.filter(
        pl.col("day") == day, pl.col("feature_set").is_in(known["feature_set"].unique().implode())
    )
    shown = _shown(judgement.signals, limit)
    columns = min(3, max(1, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    figure = Figure(figsize=(3.6 * columns, 2.5 * rows + 0.5), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{day}, model {model_version}: {'drift' if judgement.drifted else 'no drift'}")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    if not shown:
        axes.flat[0].text(0.5, 0.5, "nothing to compare", ha="center", va="center")
    for axis, signal in zip(axes.flat, shown, strict=False):
        camera = pl.col("camera_id") == signal["camera_id"]
        _panel(axis, signal, known.filter(camera), windows.filter(camera))
    for axis in axes.flat:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7)
            break
    picture = io.BytesIO()
    # Without the version of matplotlib in it, equal input gives equal bytes.
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _shown(signals: pl.DataFrame, limit: int) -> list[dict[str, Any]]:
    """The signals worth a panel, the most telling first."""
    drifted = signals.filter("drifted")
    chosen = signals.filter(pl.col("p_value").is_not_null()) if drifted.is_empty() else drifted
    return chosen.sort(["p_value", "camera_id", "signal"], nulls_last=False).head(limit).to_dicts()


def _panel(
    axis: Axes, signal: dict[str, Any], reference: pl.DataFrame, today: pl.DataFrame
) -> None:
    """One signal of one camera."""
    name, kind = signal["signal"], signal["kind"]
    title = f"{signal['camera_id']}  {name}"
    if signal["p_value"] is not None:
        title += f"  {p_in_words(signal['p_value'])}"
    axis.set_title(title, fontsize=8)
    axis.tick_params(labelsize=7)
    if kind == "new_camera":
        axis.text(0.5, 0.5, "not in the reference", ha="center", va="center", fontsize=9)
        axis.set_axis_off()
        return
    if name == "resolution":
        _shares(axis, reference, today)
        return
    figure = signal["today"].split()[0] if kind == "pose" else name
    axis.set_xlabel(figure, fontsize=7)
    first = reference[figure].drop_nulls().to_numpy()
    second = today[figure].drop_nulls().to_numpy()
    values = np.concatenate([first, second])
    low, high = float(values.min()), float(values.max())
    margin = max((high - low) * 0.05, abs(high) * 0.01, 1e-6)
    edges = np.linspace(low - margin, high + margin, 25)
    for sample, colour, label in ((first, _REFERENCE, "reference"), (second, _TODAY, "today")):
        weights = np.full(len(sample), 1 / max(1, len(sample)))
        axis.hist(sample, edges.tolist(), weights=weights, color=colour, alpha=0.55, label=label)


def _shares(axis: Axes, reference: pl.DataFrame, today: pl.DataFrame) -> None:
    """Bars: which share of the windows had which resolution."""
    sizes = [
        frame.select(pl.format("{}x{}", "width", "height").alias("size"))["size"].to_list()
        for frame in (reference, today)
    ]
    names = sorted({*sizes[0], *sizes[1]})
    places = np.arange(len(names))
    for offset, sample, colour, label in (
        (-0.2, sizes[0], _REFERENCE, "reference"),
        (0.2, sizes[1], _TODAY, "today"),
    ):
        shares = [sample.count(name) / max(1, len(sample)) for name in names]
        axis.bar(places + offset, shares, width=0.4, color=colour, alpha=0.55, label=label)
    axis.set_xticks(places, names)
