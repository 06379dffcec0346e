"""Figures of agreement are exact, symmetric and bounded."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.labelling.agreement import agreement
from fall_assets.labelling.plots import agreement_plot
from fall_assets.lake.registry import LABELS, table
from fall_assets_tests.labelling.rows import annotation, annotation_rows


def figures(rows: pl.DataFrame, label: str = "all") -> dict[str, Any]:
    return agreement(rows).filter(label=label).row(0, named=True)


def test_kappa_and_overlap_of_an_example() -> None:
    """20 s together, 15 s the same: po = 0.75, pe = 0.5 * 0.75 + 0.5 * 0.25 = 0.5."""
    rows = annotation_rows(
        annotation("ann", 0, 10, "sitting"),
        annotation("ann", 10, 20, "walking"),
        annotation("bob", 0, 15, "sitting"),
        annotation("bob", 15, 20, "walking"),
        annotation("bob", 20, 30, "fall"),
    )
    told = agreement(rows)
    assert told.schema == table("label_agreement").schema
    assert told["label"].to_list() == ["all", "sitting", "walking"]
    overall = figures(rows)
    assert (overall["annotator"], overall["other"]) == ("ann", "bob")
    assert overall["seconds"] == 20
    assert overall["kappa"] == pytest.approx(0.5)
    assert overall["temporal_iou"] == pytest.approx(15 / 25)
    assert overall["intervals"] == 4
    assert figures(rows, "sitting")["temporal_iou"] == pytest.approx(10 / 15)
    assert figures(rows, "walking")["temporal_iou"] == pytest.approx(5 / 10)
    assert figures(rows, "sitting")["kappa"] == pytest.approx(0.5)


def test_the_same_label_throughout_is_no_evidence() -> None:
    rows = annotation_rows(annotation("ann", 0, 9, "lying"), annotation("bob", 0, 9, "lying"))
    assert (figures(rows)["kappa"], figures(rows)["temporal_iou"]) == (None, 1.0)


def test_without_common_time_there_is_no_row() -> None:
    assert agreement(annotation_rows()).is_empty()
    apart = annotation_rows(annotation("ann", 0, 5, "lying"), annotation("bob", 5, 9, "lying"))
    assert agreement(apart).is_empty()
    elsewhere = annotation_rows(
        annotation("ann", 0, 5, "lying"), annotation("bob", 0, 5, "lying", video_id="w")
    )
    assert agreement(elsewhere).is_empty()


def test_people_are_compared_with_themselves() -> None:
    rows = annotation_rows(
        annotation("ann", 0, 9, "lying", subject="patient"),
        annotation("ann", 0, 9, "walking", subject="nurse"),
        annotation("bob", 0, 9, "walking", track=1),
        annotation("bob", 0, 9, "lying", track=2),
    )
    assert figures(rows)["kappa"] == pytest.approx(1)
    assert figures(rows)["seconds"] == 18


@st.composite
def tellings(draw: st.DrawFn) -> list[tuple[float, float, str]]:
    """What one annotator says of a segment, one posture at a time."""
    edges = draw(
        st.lists(st.floats(0, 60, allow_subnormal=False).map(lambda x: round(x, 3)), min_size=2,
                 max_size=10, unique=True)
    )  # fmt: skip
    labels = draw(
        st.lists(st.sampled_from([*LABELS, None]), min_size=len(edges) - 1, max_size=len(edges) - 1)
    )
    pairs = zip(sorted(edges), sorted(edges)[1:], labels, strict=False)
    return [(start, end, label) for start, end, label in pairs if label is not None]


def said(who: str, telling: list[tuple[float, float, str]]) -> list[dict[str, Any]]:
    return [annotation(who, *interval) for interval in telling]


@settings(deadline=None, max_examples=60)
@given(one=tellings(), other=tellings())
def test_figures_are_symmetric_and_bounded(
    one: list[tuple[float, float, str]], other: list[tuple[float, float, str]]
) -> None:
    there = agreement(annotation_rows(*said("ann", one), *said("bob", other)))
    back = agreement(annotation_rows(*said("bob", one), *said("ann", other)))
    columns = ["label", "seconds", "kappa", "temporal_iou", "intervals"]
    assert there.height == back.height
    for mine, theirs in zip(there.select(columns).rows(), back.select(columns).rows(), strict=True):
        assert mine == pytest.approx(theirs)
    for row in there.iter_rows(named=True):
        assert row["seconds"] > 0
        assert row["kappa"] is None or -1 <= row["kappa"] <= 1
        assert 0 <= row["temporal_iou"] <= 1


@settings(deadline=None, max_examples=60)
@given(telling=tellings())
def test_one_agrees_with_oneself(telling: list[tuple[float, float, str]]) -> None:
    for row in agreement(annotation_rows(*said("ann", telling), *said("bob", telling))).iter_rows(
        named=True
    ):
        assert row["temporal_iou"] == pytest.approx(1)
        assert row["kappa"] is None or row["kappa"] == pytest.approx(1)


@settings(deadline=None, max_examples=60)
@given(one=tellings(), other=tellings(), cut=st.floats(0, 60))
def test_cutting_an_interval_changes_nothing(
    one: list[tuple[float, float, str]], other: list[tuple[float, float, str]], cut: float
) -> None:
    cuts = [
        piece
        for start, end, label in one
        for piece in (
            [(start, cut, label), (cut, end, label)] if start < cut < end else [(start, end, label)]
        )
    ]
    whole = agreement(annotation_rows(*said("ann", one), *said("bob", other)))
    pieces = agreement(annotation_rows(*said("ann", cuts), *said("bob", other)))
    for name in ("seconds", "kappa", "temporal_iou"):
        assert pieces[name].to_list() == pytest.approx(whole[name].to_list())


def test_the_plot_is_a_png() -> None:
    rows = agreement(
        annotation_rows(
            *(annotation(f"annotator {n:02}", 0, 1 + n % 3, "lying") for n in range(14))
        )
    )
    plot = agreement_plot(rows)
    assert plot is not None
    assert plot.startswith(b"\x89PNG")
    assert len(plot) < 100_000
    assert agreement_plot(table("label_agreement").empty()) is None
