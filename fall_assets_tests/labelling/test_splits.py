"""No group is in two folds, and the folds resemble each other."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.errors import PermanentFailureError
from fall_assets.labelling.splits import assign_folds


def clips(*groups: tuple[str, str, int, int | None]) -> pl.DataFrame:
    """Clips of groups, each told as name, data set, number of clips and target."""
    return pl.DataFrame(
        [(name, dataset, target) for name, dataset, count, target in groups for _ in range(count)],
        schema={"split_group": pl.String, "dataset": pl.String, "target": pl.Int64},
        orient="row",
    )


many = st.lists(
    st.tuples(
        st.integers(0, 30).map(str),
        st.sampled_from(["urfd", "site"]),
        st.integers(1, 20),
        st.sampled_from([0, 1, None]),
    ),
    min_size=2,
    max_size=40,
    unique_by=lambda group: group[0],
)


@given(groups=many, folds=st.integers(2, 6), seed=st.integers(0, 99))
def test_each_group_has_one_fold(
    groups: list[tuple[str, str, int, int | None]], folds: int, seed: int
) -> None:
    dealt = assign_folds(clips(*groups), folds, seed)
    assert dealt.columns == ["split_group", "fold"]
    assert dealt["split_group"].to_list() == sorted(group[0] for group in groups)
    assert set(dealt["fold"]) == set(range(min(folds, len(groups))))


@given(groups=many, seed=st.integers(0, 99))
def test_the_same_clips_and_seed_give_the_same_folds(
    groups: list[tuple[str, str, int, int | None]], seed: int
) -> None:
    rows = clips(*groups)
    assert assign_folds(rows, 3, seed).equals(assign_folds(rows.reverse(), 3, seed))


def test_another_seed_deals_otherwise() -> None:
    rows = clips(*((f"{n:02}", "urfd", 5, 0) for n in range(30)))
    assert not assign_folds(rows, 5, 0).equals(assign_folds(rows, 5, 1))


def test_falls_and_data_sets_are_spread_evenly() -> None:
    rows = clips(
        *((f"fall-{n}", "urfd", 10, 1) for n in range(10)),
        *((f"adl-{n}", "urfd", 10, 0) for n in range(20)),
        *((f"site-{n}", "site", 10, 1) for n in range(5)),
    )
    dealt = rows.join(assign_folds(rows, 5, 0), on="split_group")
    counts = dealt.group_by("fold", "dataset", "target").agg(groups=pl.n_unique("split_group"))
    assert set(counts.filter(dataset="urfd", target=1)["groups"]) == {2}
    assert set(counts.filter(dataset="urfd", target=0)["groups"]) == {4}
    assert set(counts.filter(dataset="site")["groups"]) == {1}
    assert counts.filter(dataset="site")["fold"].n_unique() == 5


def test_what_cannot_be_held_back_is_refused() -> None:
    with pytest.raises(PermanentFailureError, match="label footage"):
        assign_folds(clips(("a", "urfd", 3, 1)))
    with pytest.raises(PermanentFailureError, match="folds"):
        assign_folds(clips(("a", "urfd", 3, 1), ("b", "urfd", 3, 1)), folds=1)
