"""Plots of an evaluation as small PNGs. matplotlib is loaded when one is drawn.

What belongs here: drawing. What does not: the figures themselves (`metrics`, `slices`,
`calibration`). Nothing needs a display, and no global state of matplotlib is touched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fall_assets.learning.calibration import Calibration
from fall_assets.learning.events import EventSettings
from fall_assets.learning.metrics import (
    SECONDS_PER_DAY,
    OperatingPoint,
    Row,
    VideoOutcome,
    joined,
    label_at,
    operating_curve,
    operating_point,
    poisson_interval,
    wilson,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 90
_BLUE, _RED, _GREY = "#2b6ca3", "#c0392b", "#8a8f98"
_LARGEST_SHEET = 24
_BESIDE = "(each fold at its own threshold: may lie beside the curve)"


def sensitivity_curve(
    outcomes: Sequence[VideoOutcome], settings: EventSettings | None = None
) -> bytes:
    """Falls found against false alarms per camera-day over all thresholds; the point in use marked.

    Its bars are 95 % intervals: of the sensitivity (Wilson) and of the rate (exact Poisson). The
    axis is linear up to 1 a day and logarithmic from there, since a ward cares about both ends.
    """
    curve, here = _curve(outcomes, settings)
    days = here.footage_s / SECONDS_PER_DAY

    def draw(axes: Axes) -> None:
        known = [
            (point.false_alarms / days, point.sensitivity)
            for point in curve
            if days and point.sensitivity is not None
        ]
        if known:
            axes.step(*zip(*known, strict=True), where="post", color=_BLUE)
        interval = wilson(here.found, here.falls)
        if here.sensitivity is not None and interval is not None and days:
            rate = here.false_alarms / days
            fewest, most = (count / days for count in poisson_interval(here.false_alarms))
            axes.errorbar(
                [rate],
                [here.sensitivity],
                xerr=[[rate - fewest], [most - rate]],
                yerr=[[here.sensitivity - interval[0]], [interval[1] - here.sensitivity]],
                fmt="o",
                color=_RED,
                capsize=3,
                label=f"operating point: {here.found} of {here.falls} falls, "
                f"{here.false_alarms} false alarms\n{_BESIDE}",
            )
            axes.legend(loc="lower right", fontsize=8)
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel(f"false alarms per camera-day ({here.footage_s / 3600:.2f} h of footage)")
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
            label = f"operating point\n{_BESIDE}"
            axes.plot([here.sensitivity], [here.precision], "o", color=_RED, label=label)
            axes.legend(loc="lower left", fontsize=8)
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
    outcomes = joined(outcomes)
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


def reliability(found: Calibration) -> bytes:
    """Share of windows that show a fall against their score, with intervals over scenes."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
        bins = found.bins
        if bins:
            axes.plot(
                [b.mean_score for b in bins], [b.share for b in bins], color=_BLUE, linewidth=1
            )
        for one in bins:
            if one.share_low is not None and one.share_high is not None:
                axes.plot([one.mean_score] * 2, [one.share_low, one.share_high], color=_BLUE, lw=1)
            # The area of a dot says how many windows it stands for.
            size = 12 + 140 * one.windows / max(found.windows, 1)
            axes.scatter([one.mean_score], [one.share], s=size, color=_BLUE)
            axes.annotate(
                str(one.windows),
                (one.mean_score, one.share),
                xytext=(4, 5),
                textcoords="offset points",
                fontsize=7,
            )
        axes.set_xlim(-0.02, 1.05)
        axes.set_ylim(-0.02, 1.05)
        axes.set_xlabel("mean score of windows (number beside the dot)")
        axes.set_ylabel("share that shows a fall")

    error = "unknown" if found.ece is None else f"{found.ece:.3f}"
    return _png(draw, f"Calibration by window: expected error {error}")


def slice_intervals(rows: Sequence[Row], figure: str = "sensitivity") -> bytes:
    """A figure of every slice with its 95 % interval; the line is that of all footage.

    `rows` as `slices.sliced_metrics` gives them; slices without the figure are left out.
    """
    shown = [row for row in rows if row[figure] is not None and row[f"{figure}_low"] is not None]
    everything = next((row[figure] for row in shown if row["slice"] == "all"), None)

    def draw(axes: Axes) -> None:
        for place, row in enumerate(reversed(shown)):
            low, value, high = (float(row[name] or 0.0) for name in _around(figure))
            axes.plot([low, high], [place] * 2, color=_BLUE, linewidth=1.5)
            axes.plot([value], [place], "o", color=_BLUE, markersize=4)
        if everything is not None:
            axes.axvline(float(everything), color=_RED, linewidth=1)
        names = [slice_name(row)[:34] for row in reversed(shown)]
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel(figure.replace("_", " "))
        if figure in ("sensitivity", "precision", "f1"):
            axes.set_xlim(-0.02, 1.02)

    title = f"{figure.replace('_', ' ').capitalize()} by slice, 95 % intervals"
    return _png(draw, title, height=max(2.2, 0.9 + 0.19 * len(shown)))


def slice_name(row: Row) -> str:
    """A slice for people: 'camera cam-1', 'body size small', and 'all footage'."""
    name = str(row["slice"]).replace("_", " ")
    if name == "changed":
        return f"camera {row['value']} since it changed"
    return "all footage" if name == "all" else f"{name} {row['value']}"


def contact_sheet(
    images: Sequence[bytes], titles: Sequence[str], columns: int = 6, width: int = 150
) -> bytes:
    """Pictures (PNG or JPEG) side by side under their titles; the first 24 of them.

    `width` is that of a picture's place in pixels; its height is two thirds of it.

    Raises:
        ValueError: where the numbers of pictures and titles differ, or there is none.
    """
    if len(images) != len(titles) or not images:
        raise ValueError(f"{len(images)} pictures and {len(titles)} titles")
    from PIL import Image, ImageDraw

    shown = list(zip(images, titles, strict=True))[:_LARGEST_SHEET]
    columns = min(columns, len(shown))
    height, band = width * 2 // 3, 14
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
    return curve[: best + 1], operating_point(joined(outcomes), 0.5)


def _around(figure: str) -> tuple[str, str, str]:
    return f"{figure}_low", figure, f"{figure}_high"


def _png(draw: Callable[[Axes], None], title: str, height: float = 3.6) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
