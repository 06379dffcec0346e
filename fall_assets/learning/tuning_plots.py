"""Plots of studies as small PNGs. matplotlib is loaded when one is drawn.

What belongs here: drawing. What does not: the figures themselves (`tuning`, `pipeline`). Nothing
needs a display, and no global state of matplotlib is touched.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 90
_BLUE, _RED, _GREY = "#2b6ca3", "#c0392b", "#8a8f98"
_LONGEST_TITLE = 44


def cost_benefit(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """What each attempt brings against what it costs, from rows of `experiments`.

    On the left sensitivity with its interval (Wilson), one line per attempt, its false alarms
    beside it; on the right the seconds of one core that extraction takes for an hour of footage.
    Attempts that failed, or judged no fall, are left out.
    """
    shown = [row for row in rows if row["state"] == "finished" and row["sensitivity"] is not None]
    shown.sort(key=lambda row: (row["f1"] or 0.0, row["attempt_id"]))
    names = _apart([row["title"] for row in shown])

    def draw(left: Axes, right: Axes) -> None:
        for place, row in enumerate(shown):
            low, high = row["sensitivity_low"], row["sensitivity_high"]
            left.plot([low, high], [place, place], color=_BLUE, linewidth=2, alpha=0.5)
            left.plot([row["sensitivity"]], [place], "o", color=_BLUE)
            left.text(
                1.02,
                place,
                f"{row['found']}/{row['falls']}, {row['false_alarms']} false",
                fontsize=7,
                va="center",
            )
            cost = row["extract_s_per_hour"]
            if cost is not None:
                right.barh(place, cost, color=_GREY, height=0.6)
                right.text(cost, place, f" {cost:.0f}", fontsize=7, va="center")
        left.set_yticks(range(len(shown)), [_short(name) for name in names])
        left.set_xlim(0, 1.5)
        left.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
        left.set_ylim(-0.6, len(shown) - 0.4)
        left.set_xlabel("falls found, 95 % interval", fontsize=9)
        right.set_yticks([])
        right.set_ylim(-0.6, len(shown) - 0.4)
        right.margins(x=0.25)
        right.set_xlabel("core seconds to extract\nan hour of footage", fontsize=9)

    return _two(draw, "What each setting brings and costs", 1.2 + 0.32 * max(len(shown), 3))


def history(trials: Sequence[Mapping[str, Any]]) -> bytes:
    """Values of trials in their order, and the best so far; from rows of `tuning_study`."""

    def draw(axes: Axes) -> None:
        for state, words, colour, marker in (
            ("complete", "complete", _BLUE, "o"),
            # Their values are of fewer folds, often above those of all folds.
            ("pruned", "given up, of fewer folds", _GREY, "x"),
        ):
            points = [
                (row["trial"], row["value"])
                for row in trials
                if row["state"] == state and row["value"] is not None
            ]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    linestyle="none",
                    marker=marker,
                    color=colour,
                    label=f"{words} ({len(points)})",
                )
        best: list[tuple[int, float]] = []
        for row in sorted(trials, key=lambda row: row["trial"]):
            if row["state"] == "complete" and row["value"] is not None:
                value = max(row["value"], best[-1][1]) if best else row["value"]
                best.append((row["trial"], value))
        if best:
            axes.step(*zip(*best, strict=True), where="post", color=_RED, label="best so far")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", fontsize=8)
        axes.set_xlabel("trial")
        axes.set_ylabel("smoothed sensitivity")

    return _one(draw, "Trials")


def importances(shares: Mapping[str, float]) -> bytes:
    """Share of the values' variance that each setting explains, by name."""
    ordered = sorted(shares.items(), key=lambda item: item[1])

    def draw(axes: Axes) -> None:
        axes.barh(range(len(ordered)), [share for _, share in ordered], color=_BLUE)
        axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
        axes.set_xlabel("share of the variance explained")
        if not ordered:
            axes.text(0.5, 0.5, "too few trials", ha="center", transform=axes.transAxes)

    return _one(draw, "Importance of settings")


def slices(trials: Sequence[Mapping[str, Any]], params: Sequence[str]) -> bytes:
    """Value of each complete trial over each setting that was searched (at most eight of them)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(params)[:8]
    columns = min(4, max(len(shown), 1))
    lines = -(-max(len(shown), 1) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.0 * lines), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for number, name in enumerate(shown):
        axes = figure.add_subplot(lines, columns, number + 1)
        points = [
            (row["params"][name], row["value"])
            for row in trials
            if row["state"] == "complete" and name in row["params"]
        ]
        if points:
            told = [
                (value if isinstance(value, int | float) else str(value), y) for value, y in points
            ]
            axes.plot(*zip(*told, strict=True), "o", color=_BLUE, markersize=3)
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
    return _saved(figure)


def _apart(titles: Sequence[str]) -> list[str]:
    """Titles without the settings that all of them share; the algorithm stays."""
    parts = [title.split(", ") for title in titles]
    shared = set.intersection(*(set(part[1:]) for part in parts)) if len(parts) > 1 else set()
    return [", ".join([part[0], *(x for x in part[1:] if x not in shared)]) for part in parts]


def _short(title: str) -> str:
    return title if len(title) <= _LONGEST_TITLE else f"{title[: _LONGEST_TITLE - 1]}…"


def _one(draw: Callable[[Axes], None], title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.6), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)
    return _saved(figure)


def _two(draw: Callable[[Axes, Axes], None], title: str, height: float) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 1))
    draw(left, right)
    figure.suptitle(title, fontsize=10)
    for axes in (left, right):
        axes.tick_params(labelsize=7)
    return _saved(figure)


def _saved(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
