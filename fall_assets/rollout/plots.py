"""The paths of a rollout's evidence as a PNG. matplotlib is loaded when one is drawn.

What belongs here: drawing. What does not: the e-values (`judging`) and decisions (`machine`)
themselves. Nothing needs a display, and no global state of matplotlib is touched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Final

from fall_assets.rollout.machine import AUTOMATIC, ENDED, Decision

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 100
_WIDTH_IN = 9.0
_LEFT_IN, _RIGHT_IN, _BOTTOM_IN, _TITLE_IN = 0.85, 1.0, 0.6, 0.4
_PANEL_IN, _BETWEEN_IN = 1.9, 0.12
_AXES_PX = (_WIDTH_IN - _LEFT_IN - _RIGHT_IN) * _DPI
_GLYPH_PX = 6.3
_GAP_PX = 10.0
_LINE_IN = 0.19
_RED, _BLUE, _GREY = "#c0392b", "#2b6ca3", "#8a8f98"
_LOWEST, _HIGHEST = 1e-4, 1e5
_MOST_TICKS = 12
_LONGEST_NAME = 14
_SHADES: Final = {
    "shadow": "#f4f4f5",
    "step": "#e3edf7",
    "full": "#e2f2e5",
    "comparing": "#e3edf7",
    "held": "#fdf0d5",
}


def evidence_paths(
    days: Sequence[date],
    e_worse: Sequence[float],
    e_not_worse: Sequence[float],
    decisions: Sequence[Decision],
    threshold: float,
) -> bytes:
    """Both e-values over the days, 900 pixels wide, with the threshold that decides in each panel.

    The background says the state; a line stands where a decision took effect, with its words above.
    Values beyond 0.0001 and 100,000 are drawn as a triangle at the border.

    Args:
        days: of evidence, rising.
        e_worse: against "no worse", one per day.
        e_not_worse: against "worse by the margin or more", one per day.
        decisions: the rollout's, by number; looks are not marked.
        threshold: an e-value that decides.

    Raises:
        ValueError: the numbers of days and values differ, or there is no decision.
    """
    if not len(days) == len(e_worse) == len(e_not_worse) or not decisions:
        raise ValueError(
            f"{len(days)} days, {len(e_worse)} and {len(e_not_worse)} e-values, "
            f"{len(decisions)} decisions: wanted one of each e-value per day, and a decision"
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    marked = [decision for decision in decisions if decision.action != "look"]
    first = min([decisions[0].effective_day, *days[:1]])
    last = max([decisions[-1].effective_day, *days[-1:]])
    # A day's evidence stands on its date; what follows from it begins half a day later.
    left, right = first.toordinal() - 0.6, last.toordinal() + 0.6
    labels, lines = _placed(marked, left, right)

    # Placed by hand: the automatic layouts make room for the words that is not needed.
    strip = _LINE_IN * lines
    height = _BOTTOM_IN + 2 * _PANEL_IN + _BETWEEN_IN + strip + _TITLE_IN
    figure = Figure(figsize=(_WIDTH_IN, height), dpi=_DPI)
    FigureCanvasAgg(figure)

    def panel(bottom_in: float, height_in: float) -> Axes:
        width = (_WIDTH_IN - _LEFT_IN - _RIGHT_IN) / _WIDTH_IN
        return figure.add_axes(
            (_LEFT_IN / _WIDTH_IN, bottom_in / height, width, height_in / height)
        )

    lower = panel(_BOTTOM_IN, _PANEL_IN)
    upper = panel(_BOTTOM_IN + _PANEL_IN + _BETWEEN_IN, _PANEL_IN)
    words = panel(height - _TITLE_IN - strip, strip)
    title = _title(decisions)
    figure.suptitle(title, fontsize=11 if len(title) < 100 else 8, y=1 - 0.1 / height, va="top")
    for axes in (words, upper, lower):
        _shade(axes, decisions, right)
        axes.set_xlim(left, right)
    words.set_ylim(lines, 0)
    words.set_xticks([])
    words.set_yticks([])
    words.spines[:].set_visible(False)
    for decision, (x, line, text, anchor) in zip(marked, labels, strict=True):
        words.text(x, line + 0.5, text, ha=anchor, va="center", fontsize=8.5)
        # It begins at its own words, so that it crosses no others.
        words.vlines(_border(decision), lines, line, color=_GREY, linewidth=0.8)
        for axes in (upper, lower):
            axes.axvline(_border(decision), color=_GREY, linewidth=0.8)
    follows = "not worse" if decisions[0].state == "comparing" else "next step"
    _path(upper, days, e_worse, threshold, _RED, "e-value for worse", "rolled back")
    _path(lower, days, e_not_worse, threshold, _BLUE, "e-value for not worse", follows)
    if not days:
        upper.text(
            0.5, 0.5, "no day of evidence yet", transform=upper.transAxes, ha="center", fontsize=10
        )
    every = max(1, math.ceil((last.toordinal() - first.toordinal() + 1) / _MOST_TICKS))
    ticks = list(range(first.toordinal(), last.toordinal() + 1, every))
    dates = [date.fromordinal(tick) for tick in ticks]
    lower.set_xticks(ticks, [f"{one.day} {one:%b}" for one in dates])
    upper.set_xticks(ticks, [])
    lower.set_xlabel(f"day of evidence, from {first}", fontsize=9)
    picture = io.BytesIO()
    # Without the version of matplotlib in it, equal input gives equal bytes.
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _path(
    axes: Axes,
    days: Sequence[date],
    values: Sequence[float],
    threshold: float,
    colour: str,
    name: str,
    follows: str,
) -> None:
    """One e-value with its threshold."""
    x = [day.toordinal() for day in days]
    y = [min(max(value, _LOWEST), _HIGHEST) for value in values]
    axes.plot(x, y, color=colour, marker="o", markersize=3.5, linewidth=1.6)
    for marker, beyond in (
        ("^", [value > _HIGHEST for value in values]),
        ("v", [value < _LOWEST for value in values]),
    ):
        some = [place for place, is_beyond in enumerate(beyond) if is_beyond]
        axes.plot(
            [x[place] for place in some],
            [y[place] for place in some],
            marker,
            color=colour,
            markersize=8,
            clip_on=False,
        )
    axes.axhline(threshold, color=colour, linewidth=1.2, linestyle="--")
    axes.axhline(1, color=_GREY, linewidth=0.8, linestyle=":")
    axes.annotate(
        f"{threshold:g}:\n{follows}",
        (1.0, threshold),
        xycoords=("axes fraction", "data"),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=colour,
    )
    axes.set_yscale("log")
    bottom = max(min([*y, 0.1]) / 2, _LOWEST)
    axes.set_ylim(bottom, min(max([*y, threshold * 4]) * 2, max(_HIGHEST, threshold * 4)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_ylabel(name, fontsize=9)
    axes.tick_params(labelsize=8.5)


def _border(decision: Decision) -> float:
    return decision.effective_day.toordinal() - 0.5


def _shade(axes: Axes, decisions: Sequence[Decision], right: float) -> None:
    """The background, by the state that a decision led to, until the state changes."""
    turns = [
        decision
        for place, decision in enumerate(decisions)
        if not place or decision.state != decisions[place - 1].state
    ]
    borders = [*(_border(decision) for decision in turns[1:]), right]
    for decision, border in zip(turns, borders, strict=True):
        if decision.state not in ENDED:
            colour = _SHADES[decision.state]
            axes.axvspan(_border(decision), border, color=colour, linewidth=0, zorder=0)


def _placed(
    marked: Sequence[Decision], left: float, right: float
) -> tuple[list[tuple[float, int, str, str]], int]:
    """(x, line, text, alignment) of each decision's words so that none overlap; lines in all."""
    per_px = (right - left) / _AXES_PX
    taken: list[list[tuple[float, float]]] = []
    labels: list[tuple[float, int, str, str]] = []
    for decision in marked:
        text, x = _words(decision), _border(decision)
        width, gap = len(text) * _GLYPH_PX * per_px, _GAP_PX * per_px
        start, anchor = x + gap / 2, "left"
        if start + width > right + 0.9 * _RIGHT_IN * _DPI * per_px:
            start, anchor = x - gap / 2 - width, "right"
        span = (start, start + width)
        line = next(
            (
                place
                for place, others in enumerate(taken)
                if all(span[1] + gap < a or b + gap < span[0] for a, b in others)
            ),
            len(taken),
        )
        if line == len(taken):
            taken.append([])
        taken[line].append(span)
        labels.append((start if anchor == "left" else start + width, line, text, anchor))
    return labels, max(1, len(taken))


def _state(decision: Decision) -> str:
    share = f"{100 * decision.share:.3g} %"
    return {
        "step": share,
        "full": "all cameras",
        "comparing": f"side by side, {share} each",
        "rolled_back": "rolled back",
    }.get(decision.state, decision.state)


def _words(decision: Decision) -> str:
    words = _state(decision)
    if decision.action == "resume":
        words = f"resumed: {words}"
    if decision.by == AUTOMATIC or decision.number == 0:
        return words
    name = " ".join(decision.by.split())
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return f"{words} ({short})"


def _title(decisions: Sequence[Decision]) -> str:
    """Which rollout, and where it stands."""
    numbers, last = decisions[0].numbers, decisions[-1]
    return (
        f"rollout {numbers['rollout_id']}: challenger {numbers['challenger']} against champion "
        f"{numbers['champion']}, now: {_state(last)}"
    )
