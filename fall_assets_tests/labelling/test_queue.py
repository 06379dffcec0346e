"""The review queue: what comes first, why, and what stays out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fall_assets.errors import PermanentFailureError
from fall_assets.labelling.queue import (
    FIGURES,
    REPORT_PIECES,
    REPORTED,
    ReviewSettings,
    cut_pieces,
    judge_pieces,
    labelled_share,
    rank,
)
from fall_assets.lake.registry import table
from fall_assets.lake.validation import validate
from fall_assets_tests.labelling.rows import DAY, video, videos

START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def piece(name: str, number: int = 0, **values: Any) -> dict[str, Any]:
    """A piece as `judge_pieces` and `labelled_share` leave it; all alike unless told."""
    start_s = 4.0 * number
    row: dict[str, Any] = {
        "day": DAY,
        "video_id": name,
        "camera_id": f"cam-{name}",
        "scene": f"scene-{name}",
        "piece": number,
        "start_s": start_s,
        "end_s": start_s + 4.0,
        "start_utc": START + timedelta(seconds=start_s),
        **dict.fromkeys(FIGURES, 0.5),
        "score": 0.01,
        "doubt": 0.02,
        "disagreement": 0.0,
        "labelled": 0.0,
    }
    return row | values


def pieces(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema_overrides={"score": pl.Float64})


def order(queue: pl.DataFrame) -> list[str]:
    assert queue["rank"].to_list() == list(range(1, queue.height + 1))
    return queue["video_id"].to_list()


def first_reason(queue: pl.DataFrame, name: str) -> str:
    told: str = queue.filter(pl.col("video_id") == name)["reason"][0]
    return told.split("; ")[0]


# Each reason puts a piece before others that are alike in all else.


@pytest.mark.parametrize(
    ("better", "says"),
    [
        ({"disagreement": 0.9}, "model versions differ by 0.90"),
        ({"doubt": 1.0, "score": 0.5}, "a score of 0.50, near the threshold"),
        ({"score": 0.95}, "a score of 0.95 for a fall"),
        ({"motion_mean": 0.9, "person_aspect": 3.0}, "unlike what is labelled"),
    ],
)
def test_a_reason_of_the_piece_itself(better: dict[str, Any], says: str) -> None:
    done = piece("old", labelled=1.0)
    queue = rank(pieces(done, piece("a"), piece("b"), piece("c", **better)))
    assert order(queue)[0] == "c"
    assert says in queue["reason"][0]


def test_a_camera_that_drifted_comes_first() -> None:
    queue = rank(pieces(piece("a"), piece("b"), piece("c")), drifted={"cam-c": DAY})
    assert order(queue)[0] == "c"
    assert "the camera drifted" in queue["reason"][0]
    # What it saw before that is as ordinary as any.
    later = rank(pieces(piece("a"), piece("c")), drifted={"cam-c": DAY + timedelta(days=1)})
    assert order(later)[0] == "a"
    assert "drifted" not in "".join(later["reason"])


def test_a_room_and_time_of_day_of_which_little_is_labelled_comes_first() -> None:
    night = piece("b", start_utc=START.replace(hour=2))
    queue = rank(
        pieces(piece("a"), night),
        rooms={"cam-a": "room", "cam-b": "room"},
        labelled={("room", 1): 40.0},
    )
    assert order(queue)[0] == "b"
    assert "little labelled of room at night" in queue["reason"][0]


def said_of(*answers: tuple[str, float, float, str], report_id: str | None = None) -> pl.DataFrame:
    """What staff said of stretches of videos; each reported one a report, or all that one."""
    rows = [
        (*answer, (report_id or answer[0]) if answer[-1] == REPORTED else None)
        for answer in answers
    ]
    columns = ["video_id", "start_s", "end_s", "verdict", "report_id"]
    return pl.DataFrame(rows, schema=columns, orient="row")


@pytest.mark.parametrize("verdict", ["no_fall", "unsure", REPORTED])
def test_what_staff_answered_comes_before_what_models_say(verdict: str) -> None:
    alerts = said_of(("c", 5.0, 9.0, verdict))
    rows = [piece("a", doubt=1.0, disagreement=1.0, motion_mean=0.9)]
    rows += [piece("c", number) for number in range(4)]
    queue = rank(pieces(*rows), feedback=alerts)
    assert queue.row(0, named=True)["video_id"] == "c"
    # The piece that holds most of the alert, and not all that lie beside it.
    assert queue["start_s"][0] == 4.0
    assert "staff" in queue["reason"][0]
    assert queue["reason"].str.contains("staff").sum() == 1


def test_a_fall_that_raised_no_alert_is_sought_where_the_score_is_highest() -> None:
    stretch = said_of(("c", 5.0, 60.0, REPORTED))
    rows = [piece("c", n, score=0.6 if n == 7 else 0.1 if n != 3 else None) for n in range(12)]
    queue = rank(pieces(*rows, piece("a", doubt=1.0, score=0.9)), feedback=stretch)
    assert (queue["video_id"][0], queue["start_s"][0]) == ("c", 28.0)
    assert queue["reason"][0].startswith("staff found a fall here that raised no alert")
    assert queue["reason"].str.contains("raised no alert").sum() == 1


def test_a_report_of_a_whole_night_asks_for_some_pieces_at_a_time() -> None:
    names = [f"v{number}" for number in range(40)]
    night = said_of(*((name, 0.0, 60.0, REPORTED) for name in names), report_id="night")
    rows = [piece(name, 1, score=n / 50) for n, name in enumerate(names)]
    found = pl.col("reason").str.contains("raised no alert")
    asked = set(rank(pieces(*rows), feedback=night).filter(found)["video_id"])
    assert asked == set(names[-REPORT_PIECES:])
    # They were looked at, and no fall was found there.
    rows = [{**row, "labelled": float(row["video_id"] in asked)} for row in rows]
    more = set(rank(pieces(*rows), feedback=night).filter(found)["video_id"])
    assert more == set(names[-2 * REPORT_PIECES : -REPORT_PIECES])


def test_falls_that_are_known_leave_room_for_those_that_were_missed() -> None:
    verdicts = ["fall"] * 28 + [REPORTED] * 2
    said = said_of(*((f"v{number}", 5.0, 9.0, one) for number, one in enumerate(verdicts)))
    rows = [piece(name, 1, score=0.97) for name in said["video_id"][:28]]
    rows += [piece(name, 1, score=0.3) for name in said["video_id"][28:]]
    rows += [piece(f"new-{n}", motion_mean=0.05 * n, person_y=0.05 * n) for n in range(20)]
    top = rank(pieces(*rows), feedback=said).head(10)
    assert set(order(top)[:2]) == {"v28", "v29"}
    assert sum(name.startswith("new-") for name in order(top)) >= 2


def test_staff_s_findings_and_the_cameras_that_are_asked_for_share_the_top() -> None:
    ids = [f"v{number:02}" for number in range(40)]
    alerts = said_of(*((one, 5.0, 9.0, "no_fall") for one in ids))
    rows = [piece(one, 1, motion_mean=n / 40, person_y=n / 40) for n, one in enumerate(ids)]
    rows += [piece("a", 2 * n, motion_mean=n / 20, person_y=n / 20) for n in range(20)]
    top = rank(pieces(*rows), feedback=alerts, drifted={"cam-a": DAY}).head(20)
    assert 5 <= top["reason"].str.contains("drifted").sum() <= 15


# What stays out.


def test_what_people_labelled_leaves_the_queue() -> None:
    rows = [piece("a", labelled=1.0), piece("b", labelled=0.4), piece("c", labelled=0.5)]
    assert order(rank(pieces(*rows))) == ["b"]
    assert rank(pieces(piece("a", labelled=1.0))).is_empty()


def test_like_a_labelled_piece_comes_last() -> None:
    figures: dict[str, Any] = {"motion_mean": 0.8, "person_y": 0.1}
    rows = [piece("done", labelled=1.0, **figures), piece("a", **figures), piece("b")]
    assert order(rank(pieces(*rows))) == ["b", "a"]


def test_like_what_the_champion_learned_from_comes_last() -> None:
    learned = pl.DataFrame([{**dict.fromkeys(FIGURES, 0.5), "motion_mean": 0.8}])
    queue = rank(pieces(piece("a", motion_mean=0.8), piece("b")), covered=learned)
    assert order(queue) == ["b", "a"]


def test_where_nobody_is_seen_comes_last() -> None:
    assert order(rank(pieces(piece("a", people=0.0), piece("b")))) == ["b", "a"]


def test_neighbours_do_not_crowd_the_queue() -> None:
    doubtful = [
        piece("a", number, doubt=1.0, score=0.5, motion_mean=0.1 * number) for number in range(9)
    ]
    others = [piece(name, person_y=0.1 * place) for place, name in enumerate("bcdef")]
    queue = rank(pieces(*doubtful, *others), ReviewSettings(items=6))
    own = queue.filter(pl.col("video_id") == "a")["start_s"].sort().to_list()
    assert queue["video_id"][0] == "a"
    assert all(later - earlier > 4.0 for earlier, later in pairwise(own))
    assert queue["video_id"].n_unique() > 2


def test_the_queue_is_spread_over_scenes() -> None:
    rows = [piece("a", 2 * number, motion_mean=0.1 * number) for number in range(5)]
    rows += [piece("b", person_y=0.6), piece("c", people=1.0)]
    assert set(order(rank(pieces(*rows)))[:3]) == {"a", "b", "c"}


# For any pieces.

_pieces = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.floats(0, 1),
        st.floats(0, 1),
        st.floats(0, 1),
        st.sampled_from([0.0, 0.3, 1.0]),
    ),
    min_size=1,
    max_size=30,
)


@settings(deadline=None)
@given(_pieces, st.integers(1, 40), st.randoms())
def test_any_pieces_make_a_queue(
    drawn: list[tuple[str, float, float, float, float]], items: int, random: Any
) -> None:
    rows = [
        piece(name, number, doubt=doubt, disagreement=apart, motion_mean=moved, labelled=labelled)
        for number, (name, doubt, apart, moved, labelled) in enumerate(drawn)
    ]
    chosen = ReviewSettings(items=items)
    queue = rank(pieces(*rows), chosen, drifted={"cam-a": DAY})
    waiting = [row for row in rows if row["labelled"] < 0.5]
    assert queue.height == min(items, len(waiting))
    validate(queue, table("review_queue"))
    assert queue["item_id"].is_unique().all()
    assert queue["priority"].is_sorted(descending=True)
    for told, priority in queue.select("reasons", "priority").iter_rows():
        adds = list(json.loads(told).values())
        assert sum(adds) == pytest.approx(priority, abs=1e-3)
        assert adds == sorted(adds, reverse=True)
    random.shuffle(rows)
    assert_frame_equal(queue, rank(pieces(*rows), chosen, drifted={"cam-a": DAY}))


# Pieces of segments.


def features(name: str, duration_s: float, **values: float | None) -> list[dict[str, Any]]:
    ends = [4.0 + number for number in range(max(1, int(duration_s) - 3))]
    return [
        {"video_id": name, "end_s": min(end, duration_s), **dict.fromkeys(FIGURES, 0.25), **values}
        for end in ends
    ]


@settings(deadline=None)
@given(st.floats(0.1, 100.0))
def test_pieces_cover_a_segment_without_gaps(duration_s: float) -> None:
    segment = videos(video("v", duration_s))
    cut = cut_pieces(segment, pl.DataFrame(features("v", duration_s)))
    assert cut["start_s"][0] == 0.0
    assert cut["end_s"][-1] == duration_s
    assert cut["start_s"][1:].to_list() == cut["end_s"][:-1].to_list()
    lengths = (cut["end_s"] - cut["start_s"]).to_list()
    assert max(lengths) < 6.0 + 1e-9
    if cut.height > 1:
        assert min(lengths) >= 2.0 - 1e-9
    assert (cut["start_utc"] - segment["start_utc"][0]).dt.total_microseconds().to_list() == [
        round(start_s * 1e6) for start_s in cut["start_s"]
    ]


def test_a_segment_without_features_gives_no_pieces() -> None:
    both = videos(video("v", 10.0), video("w", 10.0))
    assert set(cut_pieces(both, pl.DataFrame(features("w", 10.0)))["video_id"]) == {"w"}


def test_scores_doubt_and_disagreement_of_a_piece() -> None:
    segment = videos(video("v", 12.0))
    cut = cut_pieces(segment, pl.DataFrame(features("v", 12.0, person_y=None)))
    rows = [("v", "2", 2.0, 0.1), ("v", "2", 4.0, 0.3), ("v", "2", 6.0, 0.9), ("v", "2", 8.0, 0.8)]
    rows += [("v", "1", 4.0, 0.9), ("v", "1", 8.0, 0.8)]
    scores = pl.DataFrame(
        rows, schema=["video_id", "model_version", "end_s", "score"], orient="row"
    )
    judged = judge_pieces(cut, scores, segment, newest="2", other="1", threshold=0.6)
    assert judged["score"].to_list() == [0.3, 0.9, None]
    assert judged["doubt"].to_list() == pytest.approx([0.5, 0.25, 0.0])
    assert judged["disagreement"].to_list() == pytest.approx([0.6, 0.0, 0.0])
    alone = judge_pieces(cut, scores, segment, newest=None)
    assert alone["score"].null_count() == 3


def test_overlapping_labels_count_once() -> None:
    segment = videos(video("v", 8.0))
    cut = cut_pieces(segment, pl.DataFrame(features("v", 8.0)))
    labels = pl.DataFrame(
        {"video_id": ["v", "v", "w"], "start_s": [1.0, 2.0, 0.0], "end_s": [3.0, 5.0, 8.0]}
    )
    assert labelled_share(cut, labels)["labelled"].to_list() == pytest.approx([0.75, 0.25])
    assert labelled_share(cut, labels.clear())["labelled"].to_list() == [0.0, 0.0]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(PermanentFailureError, match="above 0"):
        ReviewSettings(items=0)
    with pytest.raises(PermanentFailureError, match="weights"):
        ReviewSettings(doubt=-1.0)
