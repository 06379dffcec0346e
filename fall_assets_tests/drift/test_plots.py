"""Plots of a day's drift: what is drawn, that names cannot break it, and that it is repeatable."""

from __future__ import annotations

import io
import warnings
from datetime import date

import numpy as np
import pytest
from PIL import Image

from fall_assets.drift import plots
from fall_assets.drift.page import ReportDay
from fall_assets_tests.drift.report_days import (
    DAY,
    ago,
    cameras,
    cause,
    history,
    ordinary,
    report_day,
    rows,
    signal,
)

CHANGED, USUAL, BAND, ORDINARY = (213, 94, 0), (0, 114, 178), (207, 227, 243), (237, 240, 242)


def blurred(values: dict[date, float] | None = None, since: date = DAY) -> ReportDay:
    """One camera's lens got dirty."""
    return report_day(
        [cause(since=since)],
        [signal()],
        history=rows("camera_profile", history(values=values)),
        ordinary=rows("ordinary_days", ordinary()),
        cameras=cameras(("cam-1", "Geriatrics", "104")),
    )


def pixels(png: bytes, colour: tuple[int, int, int]) -> int:
    """So many pixels of exactly that colour."""
    with Image.open(io.BytesIO(png)) as picture:
        drawn = np.asarray(picture.convert("RGB"))
    return int((drawn == np.array(colour)).all(axis=-1).sum())


def test_a_figure_is_drawn_over_the_weeks_with_what_is_usual_and_the_change() -> None:
    png = plots.main_plot(blurred())
    for colour in (CHANGED, USUAL, BAND, ORDINARY):
        assert pixels(png, colour) > 20, colour
    longer = plots.main_plot(blurred(since=ago(10)))
    assert pixels(longer, CHANGED) > pixels(png, CHANGED), "more days lie after the change"
    assert pixels(longer, USUAL) < pixels(png, USUAL)


def test_equal_input_gives_equal_bytes_and_other_input_others() -> None:
    png = plots.main_plot(blurred())
    assert png == plots.main_plot(blurred())
    assert b"matplotlib" not in png.lower()
    assert png != plots.main_plot(blurred({ago(n): 0.01 for n in range(20)}))
    assert plots.cause_plot(blurred(), cause()) != plots.cause_plot(blurred(), cause(), dark=True)


def test_the_main_plot_shows_each_cause_once_before_a_second_camera() -> None:
    causes = [
        *(cause(f"cam-{n}", "firmware", p_value=None) for n in range(7)),
        cause("cam-7", "lens_blurred", p_value=1e-3),
        cause("cam-8", "view_moved", p_value=1e-4),
        cause("cam-9", "exposure", confirmed=False),
    ]
    shown = plots.main_causes(report_day(causes, []))
    assert len(shown) == plots.PANELS
    assert [(one["camera_id"], one["cause"]) for one in shown[:4]] == [
        ("cam-0", "firmware"),
        ("cam-8", "view_moved"),
        ("cam-7", "lens_blurred"),
        ("cam-1", "firmware"),
    ]
    assert all(one["confirmed"] for one in shown), "what is suspected comes last"
    six = plots.main_plot(report_day(causes[:6], []))
    ten = plots.main_plot(report_day(causes, []))
    sizes = [Image.open(io.BytesIO(png)).size for png in (six, ten)]
    assert sizes[0] == sizes[1]


def test_exact_facts_are_a_timeline() -> None:
    fact = signal(
        name="resolution", kind="exact", before=None, after=None, effect=None, p_value=None,
        reference="1280x720", today="3840x2160",
    )  # fmt: skip
    row = cause(name="resolution", p_value=None, since=ago(3), signals=("resolution",))
    days = [
        {
            "day": ago(n), "camera_id": "cam-1", "fact": "resolution",
            "value": "1280x720" if n > 3 else "3840x2160", "share": 1.0,
        }
        for n in range(20)
    ]  # fmt: skip
    known = report_day([row], [fact], facts=rows("camera_facts", days))
    told_only = report_day([row], [fact])
    assert plots.can_draw(known, row)
    assert plots.in_words(known, row) == "Resolution: usually 1280x720 px, now 3840x2160 px."
    assert pixels(plots.main_plot(known), USUAL) > pixels(plots.main_plot(told_only), USUAL)
    assert pixels(plots.main_plot(told_only), CHANGED) > 20
    # Of a day with several values the one that most of it has counts.
    both = [*days, {**days[0], "value": "1280x720", "share": 0.2}]
    mixed = report_day([row], [fact], facts=rows("camera_facts", both))
    assert plots.main_plot(mixed) == plots.main_plot(known)


def test_what_has_no_daily_figure_is_drawn_as_a_change() -> None:
    scene = signal(name="scene", kind="scene", before=0.04, after=0.6, effect=2.4)
    row = cause(name="view_moved", signals=("scene",))
    day = report_day([row], [scene])
    assert plots.in_words(day, row) == "The empty scene: a change of 2.4, where 1 is large."
    assert pixels(plots.cause_plot(day, row), CHANGED) > 1000
    nothing = report_day([cause(signals=())], [])
    assert not plots.can_draw(nothing, cause(signals=()))
    assert plots.in_words(nothing, cause(signals=())) == ""


def test_a_new_camera_shows_the_days_with_footage() -> None:
    row = cause(name="new_camera", p_value=None, since=ago(4), signals=("camera",))
    few, more = (
        report_day(
            [row], [], history=rows("camera_profile", history(values={ago(n): 0.1 for n in days}))
        )
        for days in (range(2), range(5))
    )
    drawn = [pixels(plots.cause_plot(day, row), CHANGED) for day in (few, more)]
    assert drawn[0] < drawn[1]


def test_a_clean_day_shows_the_largest_changes() -> None:
    quiet = [signal(f"cam-{n}", drifted=False, effect=0.1 * n, p_value=0.5) for n in range(1, 9)]
    small = plots.main_plot(report_day([], quiet))
    assert pixels(small, USUAL) > 1000
    assert pixels(small, CHANGED) == 0
    # Only the largest are drawn, and what is large but not certain is seen as large.
    assert plots.main_plot(report_day([], [*quiet, signal("cam-0", effect=0.01)])) == small
    large = plots.main_plot(report_day([], [*quiet, signal("cam-9", drifted=False, effect=1.4)]))
    assert pixels(large, CHANGED) > 500
    nothing, no_footage = (plots.main_plot(report_day([], [], windows=n)) for n in (5, 0))
    assert nothing != no_footage
    assert pixels(no_footage, USUAL) == 0


@pytest.mark.parametrize(
    "name",
    ["$x^{", "a\nb\tc", "camera \U0001f3a5", "\u202eevil", "很长" * 40, "\\frac{", "_^"],
    ids=["mathematics", "lines", "emoji", "direction", "long", "command", "scripts"],
)
def test_names_from_folders_do_not_break_a_plot(name: str) -> None:
    day = report_day(
        [cause(name)],
        [signal(name), signal(name, name="codec", kind="exact", today=name, effect=None)],
        history=rows("camera_profile", history(name)),
        cameras=cameras((name, name, name)),
    )
    coded = cause(name, "codec", p_value=None, signals=("codec",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(plots.main_plot(day), CHANGED) > 20
        assert pixels(plots.cause_plot(day, coded), CHANGED) > 20
        plots.main_plot(report_day([], [signal(name, name="of its own", drifted=False)]))


def test_a_day_is_the_mean_of_its_hours() -> None:
    frame = rows(
        "camera_profile",
        [*history(values={ago(1): 0.2, DAY: 0.4}), *history("cam-2", values={DAY: 0.9})],
    )
    assert plots.daily(frame, "cam-1", "sharpness") == pytest.approx({ago(1): 0.2, DAY: 0.4})
    assert plots.daily(frame, "cam-1", "noise") == {}


def test_slow_and_sudden_changes_are_told_apart() -> None:
    usual = {ago(n): 0.012 for n in range(11, 35)}
    slow = blurred({**usual, **{ago(n): 0.006 + 0.0006 * n for n in range(11)}}, since=ago(9))
    sudden = blurred({**usual, **{ago(n): 0.006 for n in range(11)}}, since=ago(9))
    fresh = blurred({**usual, DAY: 0.006}, since=DAY)
    assert [plots.is_slow(day, day.causes_in_order()[0]) for day in (slow, sudden, fresh)] == [
        True, False, False,
    ]  # fmt: skip


def test_a_daily_stream_speaks_of_its_figure() -> None:
    streamed = signal(name="sharpness:slowly", kind="online")
    row = cause(signals=("sharpness:slowly",))
    day = report_day([row], [streamed], history=rows("camera_profile", history()))
    assert plots.in_words(day, row).startswith("Sharpness: usually 12.0 ‰, now 6.0 ‰")
