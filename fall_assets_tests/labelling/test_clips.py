"""Windows are cut, named and judged as the rules say; nothing that belongs together is split."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.errors import PermanentFailureError
from fall_assets.labelling.clips import ClipSettings, cut_clips, window_ends
from fall_assets.lake.registry import table
from fall_assets_tests.labelling.rows import label, labels, video, videos


def test_windows_end_every_stride_up_to_the_end() -> None:
    settings = ClipSettings()
    assert window_ends(3.0, settings) == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert window_ends(3.49, settings) == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert window_ends(0.6, settings) == [0.6]
    assert window_ends(0.0, settings) == []
    assert len(window_ends(139.4, settings)) == 277


def test_a_fall_gives_negative_uncertain_and_positive_windows() -> None:
    rows = labels(
        label("v", 0, 6, "walking"),
        label("v", 6, 7, "fall", "e"),
        label("v", 7, 12, "lying_after_fall", "e"),
        label("v", 12, 20, "other"),
    )
    clips = cut_clips(rows, videos(video("v")))
    assert clips.schema == table("clips").schema
    by_end = {row["end_s"]: row for row in clips.iter_rows(named=True)}
    targets = {end: by_end[end]["target"] for end in by_end}
    assert {end for end, target in targets.items() if target == 1} == {7, 7.5, 8, 8.5, 9, 9.5}
    # Half of the fall; lying after it; and, after that, windows that still hold some of it.
    assert {end for end, target in targets.items() if target is None} == {
        6.5, 10, 10.5, 11, 11.5, 12,
    }  # fmt: skip
    assert by_end[6]["target"] == 0
    assert by_end[6]["label"] == "walking"
    assert by_end[6.5]["event_id"] == by_end[9.5]["event_id"] == by_end[12]["event_id"] == "e"
    assert by_end[12.5]["target"] == 0
    assert by_end[12.5]["event_id"] is None
    assert by_end[7]["start_s"] == 3


def test_the_first_windows_reach_before_the_segment() -> None:
    clips = cut_clips(labels(label("v", 0, 2, "standing")), videos(video("v", 2.0)))
    assert clips["start_s"].to_list() == [-3.0, -2.5, -2.0]


def test_a_window_that_ends_unlabelled_is_no_clip() -> None:
    clips = cut_clips(labels(label("v", 2, 3, "standing")), videos(video("v")))
    assert clips["end_s"].to_list() == [2.5, 3.0]
    assert cut_clips(labels(), videos(video("v"))).is_empty()


def test_the_gravest_label_names_the_window() -> None:
    rows = labels(label("v", 0, 4, "walking"), label("v", 0, 4, "lying"), label("v", 0, 4, "other"))
    assert set(cut_clips(rows, videos(video("v", 4.0)))["label"]) == {"lying"}


def test_lying_on_purpose_is_negative() -> None:
    clips = cut_clips(labels(label("v", 0, 20, "lying")), videos(video("v")))
    assert set(clips["target"]) == {0}


def test_cutting_twice_is_the_same_whatever_the_order() -> None:
    rows = labels(
        label("b", 0, 6, "walking"), label("a", 6, 7, "fall", "e"), label("a", 0, 6, "other")
    )
    films = videos(video("a"), video("b"))
    assert cut_clips(rows, films).equals(cut_clips(rows.reverse(), films.reverse()))
    assert cut_clips(rows, films)["clip_id"].is_unique().all()


@settings(deadline=None, max_examples=60)
@given(
    start_s=st.floats(0, 15),
    length_s=st.floats(0.1, 4),
    share=st.floats(0.1, 1),
    after_s=st.floats(0, 5),
)
def test_a_positive_window_holds_its_fall(
    start_s: float, length_s: float, share: float, after_s: float
) -> None:
    settings = ClipSettings(fall_share=share, after_fall_s=after_s)
    end_s = start_s + length_s
    rows = labels(label("v", 0, 20, "other"), label("v", start_s, end_s, "fall", "e"))
    for row in cut_clips(rows, videos(video("v")), settings).iter_rows(named=True):
        held_s = min(row["end_s"], end_s) - max(row["start_s"], start_s)
        if row["target"] == 1:
            assert held_s >= share * length_s - 1e-5
            assert row["end_s"] <= end_s + after_s + 1e-5
        elif row["target"] == 0:
            assert held_s <= 1e-5


def groups(*films: dict[str, object], rows: object = None) -> dict[str, str]:
    named = labels(*(label(str(film["video_id"]), 0, 5, "walking") for film in films))
    clips = cut_clips(named if rows is None else rows, videos(*films))  # type: ignore[arg-type]
    return dict(clips.select("video_id", "split_group").iter_rows())


def test_both_cameras_of_a_scene_are_one_group() -> None:
    told = groups(
        video("a", dataset="urfd", scene="urfd/fall-01", camera_id="urfd-cam0"),
        video("b", dataset="urfd", scene="urfd/fall-01", camera_id="urfd-cam1"),
        video("c", dataset="urfd", scene="urfd/fall-02", camera_id="urfd-cam0"),
    )
    assert told["a"] == told["b"] != told["c"]


def test_a_known_subject_is_one_group() -> None:
    told = groups(
        video("a", dataset="gmdcsa24", scene="1", subject="s1"),
        video("b", dataset="gmdcsa24", scene="2", subject="s1"),
        video("c", dataset="gmdcsa24", scene="3", subject="s3"),
    )
    assert told == {"a": "gmdcsa24/s1", "b": "gmdcsa24/s1", "c": "gmdcsa24/s3"}


def test_the_only_subject_of_a_data_set_is_split_by_scene() -> None:
    told = groups(
        video("a", dataset="gmdcsa24", scene="1", subject="s1"),
        video("b", dataset="gmdcsa24", scene="2", subject="s1"),
    )
    assert told == {"a": "1", "b": "2"}


def test_scenes_that_share_an_event_are_one_group() -> None:
    films = [video(name, camera_id=name, scene=f"scene-{name}") for name in "abcd"]
    rows = labels(
        label("a", 0, 1, "fall", "e1"),
        label("b", 0, 1, "fall", "e1"),
        label("b", 3, 4, "fall", "e2"),
        label("c", 3, 4, "fall", "e2"),
        label("d", 3, 4, "fall", "e3"),
    )
    assert groups(*films, rows=rows) == {
        "a": "scene-a", "b": "scene-a", "c": "scene-a", "d": "scene-d",
    }  # fmt: skip


def test_a_sites_patient_is_one_group_and_a_nurse_ties_nothing() -> None:
    films = [video(name, scene=f"scene-{name}") for name in "abc"]
    rows = labels(
        label("a", 0, 4, "walking"),
        label("a", 4, 5, "fall", "e1"),
        label("a", 0, 20, "standing"),
        label("b", 0, 20, "lying"),
        label("b", 5, 9, "walking"),
        label("c", 0, 20, "lying"),
    ).with_columns(
        subject=pl.Series(["patient-1", "patient-1", "nurse", "patient-1", "nurse", None])
    )
    assert groups(*films, rows=rows) == {
        "a": "site/patient-1", "b": "site/patient-1", "c": "scene-c",
    }  # fmt: skip


@pytest.mark.parametrize(
    "values", [{"stride_s": 0.0}, {"window_s": -1.0}, {"fall_share": 1.5}, {"after_fall_s": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(PermanentFailureError):
        ClipSettings(**values)
