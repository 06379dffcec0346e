"""Plots are small pictures, drawn without a display."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import pytest

from fall_assets.learning import plots
from fall_assets.learning.calibration import calibration, certain_windows
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.evaluate import CrossValidation
from fall_assets.learning.metrics import VideoOutcome
from fall_assets.learning.slices import sliced_metrics

_PLOTS = (plots.sensitivity_curve, plots.precision_recall, plots.confusion, plots.delays)


def _size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("plot", _PLOTS)
def test_an_evaluation_is_drawn(
    plot: Callable[[Sequence[VideoOutcome]], bytes], validation: CrossValidation
) -> None:
    png = plot(validation.outcomes)
    assert min(_size(png)) > 250
    assert len(png) < 60_000


@pytest.mark.parametrize("plot", _PLOTS)
def test_nothing_is_drawn_as_an_empty_plot(
    plot: Callable[[Sequence[VideoOutcome]], bytes],
) -> None:
    assert min(_size(plot([]))) > 250


def test_a_contact_sheet_holds_pictures_in_rows(validation: CrossValidation) -> None:
    picture = plots.delays(validation.outcomes)
    sheet = plots.contact_sheet([picture] * 7, ["fall cam-1"] * 7, columns=3)
    assert _size(sheet) == (450, 342)
    many = plots.contact_sheet([picture] * 90, ["a title that is far too long"] * 90)
    assert len(many) < 200_000
    with pytest.raises(ValueError, match="titles"):
        plots.contact_sheet([picture], [])
    wide = plots.contact_sheet([picture] * 6, ["-2.0 s"] * 6, width=240)
    assert _size(wide) == (1440, 174)


def test_calibration_is_drawn(drawn: LearningSet, validation: CrossValidation) -> None:
    windows = certain_windows(validation.videos, drawn.clips)
    assert min(_size(plots.reliability(calibration(windows)))) > 250
    assert min(_size(plots.reliability(calibration(windows.clear())))) > 250


def test_slices_are_drawn_as_many_as_there_are(validation: CrossValidation) -> None:
    rows = sliced_metrics(validation.outcomes, resamples=50)
    few = _size(plots.slice_intervals(rows[:2]))
    many = _size(plots.slice_intervals(rows * 5))
    assert many[1] > few[1]
    assert min(_size(plots.slice_intervals([]))) > 150


def test_slices_are_named_for_people() -> None:
    assert plots.slice_name({"slice": "all", "value": "all"}) == "all footage"
    assert plots.slice_name({"slice": "body_size", "value": "small"}) == "body size small"
    assert plots.slice_name({"slice": "camera", "value": "cam_1"}) == "camera cam_1"
