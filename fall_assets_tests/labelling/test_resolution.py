"""Where annotators differ, the site's rule decides, and everything that was said stays written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.errors import PermanentFailureError
from fall_assets.labelling.resolution import Resolution, resolve
from fall_assets.lake.registry import LABELS, RESOLUTION_RULES, table
from fall_assets_tests.labelling.rows import annotation, annotation_rows

Said = tuple[str, float, float, str]


def told(rule: str, *said: dict[str, Any]) -> Resolution:
    return resolve(annotation_rows(*said), rule)


def held(resolution: Resolution) -> list[tuple[float, float, str, str]]:
    rows = resolution.labels.sort("start_s", "end_s", "label")
    return rows.select("start_s", "end_s", "label", "resolution").rows()


def differences(resolution: Resolution) -> list[tuple[float, float, dict[str, Any], str | None]]:
    rows = resolution.conflicts.sort("start_s").select("start_s", "end_s", "said", "decided")
    return [(start, end, json.loads(said), decided) for start, end, said, decided in rows.rows()]


def outcomes(resolution: Resolution) -> dict[str, str]:
    return dict(resolution.annotations.select("label_id", "outcome").iter_rows())


ANN = annotation("ann", 0, 5, "walking"), annotation("ann", 5, 10, "sitting")
BOB = annotation("bob", 0, 6, "walking"), annotation("bob", 6, 10, "sitting")


def test_one_annotators_statements_hold_as_they_are() -> None:
    rows = annotation_rows(*ANN, annotation("ann", 2, 8, "other"))
    resolution = resolve(rows, "unanimous")
    assert resolution.conflicts.is_empty()
    assert set(resolution.annotations["outcome"]) == {"used"}
    assert set(resolution.labels["resolution"]) == {"only"}
    shared = [name for name in table("labels").schema if name in rows.columns]
    assert resolution.labels.select(shared).equals(rows.sort("start_s", "end_s").select(shared))


def test_silence_is_not_a_vote() -> None:
    said = annotation("ann", 0, 5, "walking"), annotation("bob", 3, 9, "walking")
    for rule in RESOLUTION_RULES:
        resolution = told(rule, *said)
        assert held(resolution) == [(0, 9, "walking", "agreed")]
        assert resolution.conflicts.is_empty()
        assert set(outcomes(resolution).values()) == {"used"}


def test_the_most_trusted_source_is_believed() -> None:
    staff = annotation("zoe", 0, 10, "sitting", source="staff")
    dataset = annotation("ann", 4, 8, "fall", source="dataset")
    resolution = told("priority", staff, dataset)
    assert held(resolution) == [(0, 10, "sitting", "priority")]
    assert differences(resolution) == [(4, 8, {"ann": "fall", "zoe": "sitting"}, "sitting")]
    assert sorted(outcomes(resolution).values()) == ["outvoted", "used"]
    assert resolution.labels["label_id"].item() == staff["label_id"]


def test_among_equals_the_newest_is_believed() -> None:
    old = annotation("ann", 0, 4, "sitting", stated_utc=datetime(2026, 1, 1, tzinfo=UTC))
    new = annotation("bob", 0, 4, "lying", stated_utc=datetime(2026, 1, 2, tzinfo=UTC))
    undated = annotation("cy", 0, 4, "standing")
    assert held(told("priority", old, new, undated)) == [(0, 4, "lying", "priority")]


def test_equals_of_the_same_age_leave_it_undecided() -> None:
    resolution = told("priority", *ANN, *BOB)
    assert held(resolution) == [(0, 5, "walking", "agreed"), (6, 10, "sitting", "agreed")]
    assert differences(resolution) == [(5, 6, {"ann": "sitting", "bob": "walking"}, None)]
    assert sorted(outcomes(resolution).values()) == ["in_part", "in_part", "used", "used"]


def test_the_majority_decides_and_a_tie_does_not() -> None:
    cy = annotation("cy", 0, 5.5, "walking"), annotation("cy", 5.5, 10, "sitting")
    resolution = told("majority", *ANN, *BOB, *cy)
    assert held(resolution) == [(0, 5.5, "walking", "majority"), (5.5, 10, "sitting", "majority")]
    assert [decided for *_rest, decided in differences(resolution)] == ["walking", "sitting"]
    assert [decided for *_rest, decided in differences(told("majority", *ANN, *BOB))] == [None]


def test_unanimous_believes_only_what_all_say() -> None:
    resolution = told(
        "unanimous",
        annotation("ann", 2, 4, "fall", source="reviewer"),
        annotation("bob", 0, 6, "sitting", source="auto"),
    )
    assert held(resolution) == [(0, 2, "sitting", "only"), (4, 6, "sitting", "only")]
    assert sorted(outcomes(resolution).values()) == ["in_part", "undecided"]
    assert resolution.labels["label_id"].is_unique().all()


def test_people_read_while_they_sit_but_not_while_they_fall() -> None:
    reading = annotation("ann", 0, 10, "other", source="reviewer")
    sitting = (
        annotation("bob", 0, 6, "sitting", source="staff"),
        annotation("bob", 6, 8, "fall", source="staff"),
    )
    resolution = told("priority", reading, *sitting)
    assert held(resolution) == [(0, 6, "sitting", "agreed"), (0, 10, "other", "priority")]
    assert differences(resolution) == [(6, 8, {"ann": "other", "bob": "fall"}, "other")]
    both = told("priority", *sitting, annotation("bob", 0, 10, "other"), annotation("ann", 0, 1,
                "sitting"))  # fmt: skip
    assert both.conflicts.is_empty()
    assert ("other", 0.0, 10.0) in both.labels.select("label", "start_s", "end_s").rows()


def test_two_people_do_not_contradict_each_other() -> None:
    resolution = told(
        "priority",
        annotation("ann", 0, 10, "lying", subject="patient"),
        annotation("bob", 0, 10, "walking", subject="nurse"),
    )
    assert len(held(resolution)) == 2
    assert resolution.conflicts.is_empty()


def test_who_is_not_named_is_the_one_whose_labels_they_share() -> None:
    named = (
        annotation("ann", 0, 20, "lying", subject="patient"),
        annotation("ann", 0, 20, "walking", subject="nurse"),
    )
    nurse = told("priority", *named, annotation("bob", 5, 9, "walking"))
    assert nurse.conflicts.is_empty()
    assert nurse.labels.height == 2
    tracks = told(
        "priority",
        *named,
        annotation("bob", 0, 20, "walking", track=7),
        annotation("bob", 1, 21, "lying", track=3),
    )
    assert tracks.conflicts.is_empty()
    assert tracks.labels.select("subject", "label", "end_s").sort("subject").rows() == [
        ("nurse", "walking", 20), ("patient", "lying", 21),
    ]  # fmt: skip


def test_who_is_not_named_and_shares_nothing_is_the_one_who_falls() -> None:
    resolution = told(
        "priority",
        annotation("ann", 0, 20, "walking", subject="nurse"),
        annotation("ann", 5, 6, "fall", subject="patient"),
        annotation("bob", 4, 7, "sitting"),
    )
    assert resolution.conflicts["subject"].to_list() == ["patient"]


def test_what_is_told_once_is_told() -> None:
    resolution = told(
        "priority",
        annotation("ann", 0, 4, "fall", source="reviewer"),
        annotation("bob", 0, 5, "fall", zone="bed", event_id="site/e1", subject="patient", track=2),
    )
    row = resolution.labels.row(0, named=True)
    assert (row["annotator"], row["source"], row["file"]) == ("ann", "reviewer", "labels/ann.csv")
    assert (row["zone"], row["event_id"], row["subject"], row["track"]) == (
        "bed", "site/e1", "patient", 2,
    )  # fmt: skip
    assert row["end_utc"] - row["start_utc"] == timedelta(seconds=5)


def test_an_interval_over_two_segments_stays_one_whoever_says_so() -> None:
    def part(who: str, video: str, start_s: float, end_s: float, at_s: float) -> dict[str, Any]:
        return annotation(
            who, start_s, end_s, "fall", video_id=video, interval_id=f"of-{who}", at_s=at_s,
            source="reviewer" if who == "ann" else "staff",
        )  # fmt: skip

    resolution = told(
        "priority",
        part("ann", "v1", 18, 20, 0),
        part("bob", "v1", 18.5, 20, 0),
        part("bob", "v2", 0, 1, 20),
        annotation("ann", 5, 6, "walking", video_id="v2", at_s=20),
    )
    falls = resolution.labels.filter(label="fall")
    assert falls["interval_id"].to_list() == ["of-ann", "of-ann"]
    assert falls["annotator"].to_list() == ["ann", "bob"]


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(PermanentFailureError, match="loudest"):
        resolve(annotation_rows(), "loudest")
    assert resolve(annotation_rows()).labels.schema == table("labels").schema


@st.composite
def opinions(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Statements of up to four annotators of one segment who do not contradict themselves."""
    rows = []
    for who in draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True)):
        source = draw(st.sampled_from(["reviewer", "staff", "dataset"]))
        edges = draw(st.lists(st.integers(0, 12), min_size=2, max_size=8, unique=True))
        for start, end in zip(sorted(edges), sorted(edges)[1:], strict=False):
            label = draw(st.sampled_from([*LABELS, None]))
            if label is not None:
                rows.append(annotation(who, start, end, label, source=source))
    return rows


@settings(deadline=None, max_examples=60)
@given(said=opinions(), rule=st.sampled_from(RESOLUTION_RULES))
def test_nothing_is_lost_and_postures_never_overlap(said: list[dict[str, Any]], rule: str) -> None:
    rows = annotation_rows(*said)
    resolution = resolve(rows, rule)
    assert resolution.labels.schema == table("labels").schema
    assert resolution.annotations.schema == table("annotations").schema
    assert resolution.conflicts.schema == table("label_conflicts").schema
    assert sorted(resolution.annotations["label_id"]) == sorted(rows["label_id"])
    assert resolution.labels["label_id"].is_unique().all()
    assert resolve(rows.reverse(), rule).labels.equals(resolution.labels)
    differ = resolution.conflicts
    for moment in (n + 0.5 for n in range(12)):
        now = (pl.col("start_s") < moment) & (pl.col("end_s") > moment)
        words = rows.filter(now)
        holding = resolution.labels.filter(now)["label"].to_list()
        at = differ.filter(now)
        assert len([label for label in holding if label != "other"]) <= 1
        assert at.height <= 1
        assert set(holding) <= set(words["label"])
        if at.is_empty():
            assert set(holding) == set(words["label"])
        else:
            decided = at["decided"].item()
            assert (decided in holding) is (decided is not None)
            spoke = {who: word for who, word in json.loads(at["said"].item()).items() if word}
            assert set(spoke) == set(words["annotator"])
            if rule == "unanimous":
                assert decided is None
            if rule == "majority" and decided is not None:
                votes = list(spoke.values())
                assert all(votes.count(decided) > votes.count(x) for x in set(votes) - {decided})
    for row in resolution.annotations.iter_rows(named=True):
        at = differ.filter((pl.col("start_s") < row["end_s"]) & (pl.col("end_s") > row["start_s"]))
        if at.is_empty():
            assert row["outcome"] == "used"
