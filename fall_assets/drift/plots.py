"""Plots of a day's drift: figures over the last weeks against what is ordinary.

Here: choosing what is drawn, and drawing it: small PNGs, without a display and without pyplot's
global state, the same bytes for the same input. Not here: the page around them (`page.py`), words
(`words.py`). matplotlib is imported on use.
"""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from fall_assets.drift.days import FACTS
from fall_assets.drift.effects import FELT
from fall_assets.drift.words import (
    FACT_WORDS,
    FIGURE_WORDS,
    WORDS,
    FigureWords,
    capital,
    figure_of,
    short_day,
    signal_in_words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fall_assets.drift.page import ReportDay

PANELS = 6
"""So many panels has the main plot at most."""

BARS = 8
"""So many changes are drawn of a day on which nothing counts."""

_DPI, _PAGE_DPI = 100, 140
_WEEKS_DAYS = 35
_ORDINARY_DAYS = 3
_LONGEST_NAME, _LONGEST_FACT = 40, 16
_MOST_FACTS = 5
_DAY, _SINCE, _FOOTAGE = "a day", "since the change", "day with footage"
_CHANGE, _USUAL, _ORDINARY = "change", "usual range", "ordinary days"
_LEGEND: Final = (_DAY, _SINCE, _FOOTAGE, _CHANGE, _USUAL, _ORDINARY)
# Of the change of today, the first day shows less than this: it came slowly.
_SLOW, _SLOW_DAYS = 0.5, 3


@dataclass(frozen=True)
class _Colours:
    """Of Okabe and Ito (2008), told apart by the colour-blind; shapes differ as well."""

    ground: str
    ink: str
    soft: str
    grid: str
    usual: str
    changed: str
    band: str
    ordinary: str


_LIGHT: Final = _Colours(
    "#ffffff", "#10202d", "#435463", "#dde3e8", "#0072b2", "#d55e00", "#cfe3f3", "#edf0f2"
)
_DARK: Final = _Colours(
    "#151f28", "#eaf1f6", "#b3c1cc", "#2f3e4a", "#56b4e9", "#ff9a4d", "#1d4261", "#202c36"
)


def main_plot(day: ReportDay, *, dark: bool = False) -> bytes:
    """PNG: the main causes of the day, or the largest changes of a day without any.

    One panel per cause and camera, at most `PANELS`: confirmed causes first, and each cause once
    before a second camera of the same. Without causes: bars of the largest changes of all cameras,
    over the smallest that matters.
    """
    colours = _DARK if dark else _LIGHT
    causes = main_causes(day)
    if not causes:
        return _bars(day, _figure(7.2, 3.7, colours), colours)
    columns = 1 if len(causes) == 1 else 2 if len(causes) in (2, 4) else 3
    rows = math.ceil(len(causes) / columns)
    figure = _figure(4.3 * columns + 0.4, 2.5 * rows + 0.75, colours)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(causes) :]:
        axis.set_axis_off()
    for axis, cause in zip(axes.flat, causes, strict=False):
        _panel(axis, day, cause, colours, named=True)
    left_out = day.causes.height - len(causes)
    if left_out:
        figure.supxlabel(
            f"and {left_out} more: see the page", fontsize=9, color=colours.soft, x=0.99, ha="right"
        )
    _legend(figure, axes.flat, colours)
    return _png(figure)


def main_causes(day: ReportDay) -> list[dict[str, Any]]:
    """The rows of `drift_causes` in the main plot, at most `PANELS`, in its order."""
    turns: dict[str, int] = {}
    keyed = []
    causes = day.causes_in_order()
    for place, cause in enumerate(causes):
        turn = turns.get(cause["cause"], 0)
        turns[cause["cause"]] = turn + 1
        keyed.append((not cause["confirmed"], turn, place))
    return [causes[place] for *_, place in sorted(keyed)[:PANELS]]


def cause_plot(day: ReportDay, cause: Mapping[str, Any], *, dark: bool = False) -> bytes:
    """PNG of one row of `drift_causes`: what moved most, over the last weeks."""
    colours = _DARK if dark else _LIGHT
    # Narrow, so that its words can be read on a phone.
    height = 1.4 if _drawn(day, cause).kind == "days" else 2.6
    figure = _figure(4.8, height, colours, dpi=_PAGE_DPI)
    axis = figure.subplots()
    _panel(axis, day, cause, colours, named=False)
    _legend(figure, [axis], colours, columns=3)
    return _png(figure)


def changes_plot(day: ReportDay, *, dark: bool = False) -> bytes:
    """PNG of the largest changes of a day, over the smallest that matters, for the page."""
    colours = _DARK if dark else _LIGHT
    return _bars(day, _figure(4.8, 3.4, colours, dpi=_PAGE_DPI), colours)


def can_draw(day: ReportDay, cause: Mapping[str, Any]) -> bool:
    """Whether anything of this cause can be drawn over days or as a change."""
    return _drawn(day, cause).kind != "nothing"


def in_words(day: ReportDay, cause: Mapping[str, Any]) -> str:
    """What the plot of a cause shows, as a sentence; empty where nothing can be drawn."""
    drawn = _drawn(day, cause)
    signal = drawn.signal
    if drawn.kind == "days":
        return "Days with footage of this camera."
    if signal is None:
        return ""
    name, words = capital(signal_in_words(figure_of(signal["signal"]))), _words_of(signal["signal"])
    if words is not None and signal["before"] is not None and signal["after"] is not None:
        usual, today = words.shown(signal["before"]), words.shown(signal["after"])
    else:
        unit = f" {words.unit}" if words is not None and words.unit else ""
        usual, today = f"{signal['reference']}{unit}", f"{signal['today']}{unit}"
    if drawn.kind == "change":
        return f"{name}: a change of {signal['effect']:.1f}, where 1 is large."
    much = ""
    if drawn.kind == "figure" and signal["effect"] is not None:
        much = f", a change of {signal['effect']:.1f} where 1 is large"
    return f"{name}: usually {usual}, now {today}{much}."


def is_slow(day: ReportDay, cause: Mapping[str, Any]) -> bool:
    """Whether a cause came slowly.

    It did where its main figure had done less than half of today's change on the first day of the
    stretch, at least three days ago.
    """
    drawn = _drawn(day, cause)
    signal = drawn.signal
    if drawn.kind != "figure" or signal is None or signal["before"] is None:
        return False
    values = daily(day.history, str(cause["camera_id"]), figure_of(signal["signal"]))
    first, last = values.get(cause["since"]), values.get(day.day)
    if first is None or last is None or (day.day - cause["since"]).days < _SLOW_DAYS:
        return False
    moved = last - signal["before"]
    return bool(moved) and (first - signal["before"]) / moved < _SLOW


def daily(history: pl.DataFrame, camera_id: str, figure: str) -> dict[date, float]:
    """A figure of a camera by day: the mean of its hours in rows of `camera_profile`."""
    rows = (
        history.filter(pl.col("camera_id") == camera_id, pl.col("figure") == figure)
        .sort("day", "hour")
        .group_by("day", maintain_order=True)
        .agg(pl.col("value").mean())
    )
    return dict(zip(rows["day"].to_list(), rows["value"].to_list(), strict=True))


@dataclass(frozen=True)
class _Drawn:
    """What is drawn of a cause: `figure` or `fact` over days, `days` of footage, or `change`."""

    kind: str
    signal: Mapping[str, Any] | None = None


def _drawn(day: ReportDay, cause: Mapping[str, Any]) -> _Drawn:
    evidence = day.evidence_of(dict(cause))
    camera = day.history.filter(pl.col("camera_id") == cause["camera_id"])
    facts = [one for one in evidence if one["kind"] == "exact" and one["signal"] in FACTS]
    if facts:
        return _Drawn("fact", facts[0])
    if cause["cause"] == "new_camera":
        return _Drawn("days" if len(camera) else "nothing")
    known = set(camera["figure"].unique().to_list())
    figures = [one for one in evidence if figure_of(one["signal"]) in known & FIGURE_WORDS.keys()]
    if figures:
        return _Drawn("figure", figures[0])
    moved = [one for one in evidence if one["effect"] is not None]
    return _Drawn("change", moved[0]) if moved else _Drawn("nothing")


def _words_of(signal: str) -> FigureWords | None:
    return FIGURE_WORDS.get(figure_of(signal)) or FACT_WORDS.get(signal)


def _panel(
    axis: Axes, day: ReportDay, cause: Mapping[str, Any], colours: _Colours, *, named: bool
) -> None:
    """One cause of one camera."""
    _plain(axis, colours)
    drawn = _drawn(day, cause)
    if named:
        camera = f"Camera {cause['camera_id']}"
        if place := day.place_of(cause["camera_id"]):
            camera += f", {place}"
        _title(axis, camera, _happened(cause), colours)
    if drawn.kind == "figure" and drawn.signal is not None:
        _over_days(axis, day, cause, drawn.signal, colours)
    elif drawn.kind == "fact" and drawn.signal is not None:
        _fact(axis, day, cause, drawn.signal, colours)
    elif drawn.kind == "days":
        seen = set(day.history.filter(pl.col("camera_id") == cause["camera_id"])["day"].to_list())
        _calendar(axis, day, cause, set(), colours)
        axis.scatter(
            [one.toordinal() for one in sorted(seen)], [0] * len(seen), s=20, marker="s",
            color=colours.changed, label=_FOOTAGE,
        )  # fmt: skip
        axis.set_ylim(-1, 1)
        axis.set_yticks([])
    elif drawn.kind == "change" and drawn.signal is not None:
        moved = [one for one in day.evidence_of(dict(cause)) if one["effect"] is not None][:5]
        _changes(axis, [(signal_in_words(one["signal"]), one["effect"]) for one in moved], colours)
    else:
        _note(axis, "no figure to draw", colours)


def _happened(cause: Mapping[str, Any]) -> str:
    said = f"{WORDS[cause['cause']].title} since {short_day(cause['since'])}"
    return said if cause["confirmed"] else f"Suspected: {said[0].lower()}{said[1:]}"


def _over_days(
    axis: Axes,
    day: ReportDay,
    cause: Mapping[str, Any],
    signal: Mapping[str, Any],
    colours: _Colours,
) -> None:
    """A figure's daily values, with what is ordinary."""
    figure = figure_of(signal["signal"])
    words = FIGURE_WORDS[figure]
    values = daily(day.history, cause["camera_id"], figure)
    usual = day.ordinary_days_of(cause["camera_id"])
    _calendar(axis, day, cause, usual, colours)
    if band := _band(values, usual, signal):
        low, high = (end * words.scale for end in band)
        axis.axhspan(low, high, color=colours.band, zorder=0.6, lw=0, label=_USUAL)
    first = min([*values, _start(day)])
    days = [first + timedelta(days=n) for n in range((day.day - first).days + 1)]
    drawn = [values.get(one, math.nan) * words.scale for one in days]
    axis.plot([one.toordinal() for one in days], drawn, color=colours.soft, linewidth=1.2, zorder=2)
    since = cause["since"]
    for marker, colour, label, chosen in (
        ("o", colours.usual, _DAY, [one < since for one in days]),
        ("s", colours.changed, _SINCE, [one >= since for one in days]),
    ):
        axis.scatter(
            [one.toordinal() for one, kept in zip(days, chosen, strict=True) if kept],
            [one for one, kept in zip(drawn, chosen, strict=True) if kept],
            s=22, marker=marker, color=colour, label=label, zorder=3,
        )  # fmt: skip
    axis.set_ylabel(_fit(capital(words.axis), 34), fontsize=8, color=colours.soft)
    axis.margins(y=0.12)


def _band(
    values: Mapping[date, float], usual: set[date], signal: Mapping[str, Any]
) -> tuple[float, float] | None:
    """The range of the ordinary days, or what is not yet felt around the usual value."""
    ordinary = [value for one, value in values.items() if one in usual]
    if len(ordinary) >= _ORDINARY_DAYS:
        return min(ordinary), max(ordinary)
    before, felt = signal["before"], FELT.get(figure_of(signal["signal"]))
    if before is None or felt is None:
        return None
    return before - felt.of(before), before + felt.of(before)


def _fact(
    axis: Axes,
    day: ReportDay,
    cause: Mapping[str, Any],
    signal: Mapping[str, Any],
    colours: _Colours,
) -> None:
    """What an exact fact was on each day."""
    _calendar(axis, day, cause, day.ordinary_days_of(cause["camera_id"]), colours)
    by_day = {
        row["day"]: row["value"]
        for row in day.facts.filter(
            pl.col("camera_id") == cause["camera_id"], pl.col("fact") == signal["signal"]
        )
        .sort(["day", "share", "value"], descending=[False, False, True])
        .iter_rows(named=True)
    }
    if not by_day:
        by_day = {
            cause["since"] - timedelta(days=1): str(signal["reference"]),
            day.day: str(signal["today"]),
        }
    names = list(dict.fromkeys(by_day[one] for one in sorted(by_day)))
    numbers = [_number(name) for name in names]
    words = FACT_WORDS[signal["signal"]]
    numeric = all(number is not None for number in numbers)
    places: dict[str, float] = {
        name: number if numeric and number is not None else float(place)
        for place, (name, number) in enumerate(zip(names, numbers, strict=True))
    }
    days = sorted(by_day)
    x, y = [one.toordinal() for one in days], [places[by_day[one]] for one in days]
    axis.step(x, y, where="mid", color=colours.soft, linewidth=1.2, zorder=2)
    for marker, colour, label, after in (
        ("o", colours.usual, _DAY, False),
        ("s", colours.changed, _SINCE, True),
    ):
        kept = [n for n, one in enumerate(days) if (one >= cause["since"]) is after]
        axis.scatter(
            [x[n] for n in kept], [y[n] for n in kept], s=24, marker=marker, color=colour,
            label=label, zorder=3,
        )  # fmt: skip
    if not numeric:
        shown = names[:_MOST_FACTS]
        axis.set_yticks([places[name] for name in shown], [_fit(n, _LONGEST_FACT) for n in shown])
        for label_text in axis.get_yticklabels():
            label_text.set_parse_math(False)
        axis.set_ylim(-0.6, max(1, len(names) - 1) + 0.6)
    else:
        axis.set_ylabel(capital(words.axis), fontsize=8, color=colours.soft)
        axis.margins(y=0.25)


def _number(said: str) -> float | None:
    try:
        number = float(said)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _start(day: ReportDay) -> date:
    return day.day - timedelta(days=_WEEKS_DAYS - 1)


def _calendar(
    axis: Axes, day: ReportDay, cause: Mapping[str, Any], usual: set[date], colours: _Colours
) -> None:
    """The days along the bottom, ordinary ones shaded, the day of the change marked."""
    first, last = _start(day).toordinal(), day.day.toordinal()
    axis.set_xlim(first - 0.7, last + 0.9)
    ticks = [date.fromordinal(one) for one in range(last, first - 1, -7)][::-1]
    axis.set_xticks([one.toordinal() for one in ticks], [short_day(one) for one in ticks])
    shaded = sorted(one.toordinal() for one in usual if first <= one.toordinal() <= last)
    label: str | None = _ORDINARY
    for begin, end in _runs(shaded):
        axis.axvspan(
            begin - 0.5, end + 0.5, color=colours.ordinary, lw=0, zorder=0.5, label=label or ""
        )
        label = None
    changed = cause["since"].toordinal() - 0.5
    if changed >= first:
        axis.axvline(
            changed,
            color=colours.changed,
            linestyle="--" if cause["confirmed"] else ":",
            linewidth=1.3,
            zorder=1.5,
            label=_CHANGE,
        )


def _runs(days: Sequence[int]) -> list[tuple[int, int]]:
    """Stretches of days that follow each other."""
    runs: list[tuple[int, int]] = []
    for one in days:
        if runs and one == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], one)
        else:
            runs.append((one, one))
    return runs


def _bars(day: ReportDay, figure: Figure, colours: _Colours) -> bytes:
    """The largest changes of a day, over the smallest that matters."""
    most = (
        day.signals.drop_nulls("effect")
        .sort(["effect", "camera_id", "signal"], descending=[True, False, False])
        .head(BARS)
        .to_dicts()
    )
    axis = figure.subplots()
    _plain(axis, colours)
    axis.set_title(
        f"{short_day(day.day)} {day.day.year}: no change counts",
        fontsize=9.5,
        loc="left",
        color=colours.ink,
    )
    if not most:
        _note(axis, "no footage on this day" if day.windows == 0 else "nothing to compare", colours)
        return _png(figure)
    named = [
        (f"{_fit(one['camera_id'], 18)}: {signal_in_words(one['signal'])}", one["effect"])
        for one in most
    ]
    _changes(axis, named, colours)
    return _png(figure)


def _changes(axis: Axes, changes: Sequence[tuple[str, float]], colours: _Colours) -> None:
    """Bars of changes, with the line beyond which they are large."""
    places = list(range(len(changes)))[::-1]
    sizes = [size for _, size in changes]
    axis.barh(
        places,
        sizes,
        height=0.62,
        color=[colours.changed if size >= 1 else colours.usual for size in sizes],
    )
    for place, size in zip(places, sizes, strict=True):
        axis.annotate(
            f"{size:.2f}", (size, place), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=8, color=colours.ink,
        )  # fmt: skip
    axis.axvline(1, color=colours.ink, linestyle="--", linewidth=1.2)
    axis.set_yticks(places, [_fit(name, 46) for name, _ in changes])
    for label in axis.get_yticklabels():
        label.set_parse_math(False)
    axis.set_ylim(-0.6, len(changes) - 0.4)
    axis.set_xlim(0, max(1.25, 1.15 * max(sizes)))
    axis.grid(visible=False, axis="y")
    axis.set_xlabel(
        "change (1 and more is large)",
        fontsize=8,
        color=colours.soft,
    )


def _figure(width_in: float, height_in: float, colours: _Colours, dpi: int = _DPI) -> Figure:
    from matplotlib.figure import Figure

    return Figure(
        figsize=(width_in, height_in), dpi=dpi, layout="constrained", facecolor=colours.ground
    )


def _plain(axis: Axes, colours: _Colours) -> None:
    axis.set_facecolor(colours.ground)
    axis.tick_params(labelsize=8, colors=colours.soft, length=3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(colours.soft)
    axis.grid(visible=True, axis="both", color=colours.grid, linewidth=0.6)
    axis.set_axisbelow(True)


def _title(axis: Axes, camera: str, happened: str, colours: _Colours) -> None:
    axis.set_title(
        f"{_fit(camera, _LONGEST_NAME)}\n{_fit(happened, 46)}",
        fontsize=9.5,
        loc="left",
        color=colours.ink,
        parse_math=False,
    )


def _note(axis: Axes, words: str, colours: _Colours) -> None:
    axis.text(
        0.5, 0.5, words, ha="center", va="center", fontsize=10, color=colours.soft,
        transform=axis.transAxes,
    )  # fmt: skip
    axis.set_axis_off()


def _legend(
    figure: Figure, axes: Iterable[Axes], colours: _Colours, columns: int = len(_LEGEND)
) -> None:
    """One for all panels: each name once."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    known = {name: found[name] for name in _LEGEND if name in found}
    if known:
        figure.legend(
            list(known.values()),
            list(known),
            loc="outside lower left",
            ncols=min(columns, len(known)),
            fontsize=8,
            frameon=False,
            labelcolor=colours.soft,
            handletextpad=0.4,
            columnspacing=1.2,
        )


def _fit(words: str, longest: int) -> str:
    """A name as the font can show it, in one line, cut to a length."""
    known = _characters()
    shown = "".join(
        one if ord(one) in known and unicodedata.category(one)[0] != "C" else "\N{WHITE SQUARE}"
        for one in " ".join(words[: 4 * longest].split())
    )
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = io.BytesIO()
    # Drawn once, where `savefig` draws twice for the layout. Without the version of matplotlib in
    # it, equal input gives equal bytes.
    FigureCanvasAgg(figure).print_png(  # type: ignore[no-untyped-call]
        picture, metadata={"Software": None}
    )
    return picture.getvalue()
