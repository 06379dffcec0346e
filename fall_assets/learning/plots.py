"""Plots of an evaluation as small PNGs. matplotlib is loaded when one is drawn.

What belongs here: drawing. What does not: the figures themselves (`metrics`). Nothing needs a
display, and no global state of matplotlib is touched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fall_assets.learning.events import EventSettings
from fall_assets.learning.metrics import (
    OperatingPoint,
    VideoOutcome,
    label_at,
    operating_curve,
    operating_point,
    wilson,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 90
_BLUE, _RED, _GREY = "#2b6ca3", "#c0392b", "#8a8f98"
_LARGEST_SHEET = 24


def sensitivity_curve(
    outcomes: Sequence[VideoOutcome], settings: EventSettings | None = None
) -> bytes:
    """Falls found against false alarms per hour over all thresholds; the operating point marked.

    The bar at the operating point is the 95 % interval (Wilson) of its sensitivity.
    """
    curve, here = _curve(outcomes, settings)

    def draw(axes: Axes) -> None:
        points = [(p.false_alarms_per_hour, p.sensitivity) for p in curve]
        known = [(x, y) for x, y in points if x is not None and y is not None]
        if known:
            axes.step(*zip(*known, strict=True), where="post", color=_BLUE)
        interval = wilson(here.found, here.falls)
        if here.sensitivity is not None and interval is not None:
            bar = [[here.sensitivity - interval[0]], [interval[1] - here.sensitivity]]
            axes.errorbar(
                [here.false_alarms_per_hour or 0.0],
                [here.sensitivity],
                yerr=bar,
                fmt="o",
                color=_RED,
                capsize=3,
                label=f"operating point: {here.found} of {here.falls} falls, "
                f"{here.false_alarms} false alarms",
            )
            axes.legend(loc="lower right", fontsize=8)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel(f"false alarms per hour ({here.footage_s / 3600:.2f} h of footage)")
        axes.set_ylabel("falls found")

    return _png(draw, "Sensitivity against false alarms")


def precision_recall(
    outcomes: Sequence[VideoOutcome], settings: EventSettings | None = None
) -> bytes:
    """Precision against sensitivity, in events, over all thresholds."""
    curve, here = _curve(outcomes, settings)

    def draw(axes: Axes) -> None:
        points = [(p.sensitivity, p.precision) for p in curve]
        known = [(x, y) for x, y in points if x is not None and y is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color=_BLUE, marker=".", markersize=3)
        if here.sensitivity is not None and here.precision is not None:
            axes.plot([here.sensitivity], [here.precision], "o", color=_RED)
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("falls found (sensitivity)")
        axes.set_ylabel("alarms that were a fall (precision)")

    return _png(draw, "Precision and sensitivity, in events")


def confusion(outcomes: Sequence[VideoOutcome]) -> bytes:
    """Scored moments by the label that holds: how many scored over the threshold."""
    counts: dict[str, list[int]] = {}
    for item in outcomes:
        for end_s, score in zip(item.video.end_s, item.video.score, strict=True):
            cells = counts.setdefault(label_at(item.video, end_s), [0, 0])
            cells[score >= item.threshold] += 1
    labels = sorted(counts)

    def draw(axes: Axes) -> None:
        shares = [[n / max(sum(counts[label]), 1) for n in counts[label]] for label in labels]
        if shares:
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, label in enumerate(labels):
            for column, number in enumerate(counts[label]):
                dark = shares[row][column] > 0.6
                axes.text(
                    column, row, str(number), ha="center", va="center",
                    color="white" if dark else "black", fontsize=8,
                )  # fmt: skip
        axes.set_xticks([0, 1], ["quiet", "over the threshold"])
        axes.set_yticks(range(len(labels)), labels)

    return _png(draw, "Scored moments by label")


def delays(outcomes: Sequence[VideoOutcome]) -> bytes:
    """Histogram of the time from a fall's start to its alarm."""
    values = [found.delay_s for item in outcomes for found in item.matching.found]
    missed = sum(len(item.matching.missed) for item in outcomes)

    def draw(axes: Axes) -> None:
        if values:
            low, high = math.floor(min(values)), math.ceil(max(values)) + 0.5
            steps = [low + 0.5 * step for step in range(round((high - low) * 2) + 1)]
            axes.hist(values, bins=steps, color=_BLUE, edgecolor="white")
        axes.axvline(0, color=_GREY, linewidth=1)
        axes.set_xlabel(f"seconds from the fall's start to the alarm ({missed} falls missed)")
        axes.set_ylabel("falls")

    return _png(draw, "Detection delay")


def contact_sheet(images: Sequence[bytes], titles: Sequence[str], columns: int = 6) -> bytes:
    """Pictures (PNG or JPEG) side by side under their titles; the first 24 of them.

    Raises:
        ValueError: where the numbers of pictures and titles differ, or there is none.
    """
    if len(images) != len(titles) or not images:
        raise ValueError(f"{len(images)} pictures and {len(titles)} titles")
    from PIL import Image, ImageDraw

    shown = list(zip(images, titles, strict=True))[:_LARGEST_SHEET]
    columns = min(columns, len(shown))
    width, height, band = 150, 100, 14
    rows = math.ceil(len(shown) / columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + band)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (content, title) in enumerate(shown):
        x, y = place % columns * width, place // columns * (height + band)
        with Image.open(io.BytesIO(content)) as picture:
            small = picture.convert("RGB")
            small.thumbnail((width - 4, height - 4))
        sheet.paste(small, (x + (width - small.width) // 2, y + band))
        pen.text((x + 3, y + 1), title[:24], fill="black")
    out = io.BytesIO()
    # 128 colours keep a full sheet near 100 kB, and a person sees no difference at this size.
    sheet.quantize(128).save(out, "PNG", optimize=True)
    return out.getvalue()


def _curve(
    outcomes: Sequence[VideoOutcome], settings: EventSettings | None
) -> tuple[list[OperatingPoint], OperatingPoint]:
    """Counts from the highest threshold down to where most falls are found, and as judged.

    Below that, alarms run together into one that starts before the fall, and fewer are found.
    """
    curve = operating_curve([item.video for item in outcomes], settings or EventSettings())[::-1]
    best = max(range(len(curve)), key=lambda place: (curve[place].found, -place))
    return curve[: best + 1], operating_point(outcomes, 0.5)


def _png(draw: Callable[[Axes], None], title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.6), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
