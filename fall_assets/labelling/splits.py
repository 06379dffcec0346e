"""Folds: which clips a model is tested on while it learns from the others.

What belongs here: dealing groups out to folds. What does not: what makes a group (see `clips.py`).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl

from fall_assets.errors import PermanentFailureError


def assign_folds(clips: pl.DataFrame, folds: int = 5, seed: int = 0) -> pl.DataFrame:
    """Deal the split groups out to folds.

    Groups are dealt by data set and by whether they hold a fall, the largest first, each to the
    fold that has the fewest clips of that kind, so that every fold resembles the whole. No group
    is in two folds. Equal groups are shuffled by the seed.

    Args:
        clips: rows of the table `clips`; split_group, dataset and target are read.
        folds: how many; there are fewer where there are fewer groups.
        seed: of the shuffle.

    Returns:
        Columns split_group and fold (from 0), one row per group, sorted by group.

    Raises:
        PermanentFailureError: fewer than two folds are asked for, or there are fewer than two
            groups, so that nothing could be held back.
    """
    if folds < 2:
        raise PermanentFailureError(f"{folds} folds cannot hold anything back; ask for at least 2")
    groups = (
        clips.group_by("split_group")
        .agg(
            pl.col("dataset").min(),
            has_fall=(pl.col("target") == 1).fill_null(False).any(),
            clips=pl.len(),
        )
        .sort("split_group")
    )
    if groups.height < 2:
        raise PermanentFailureError(
            f"the clips are of {groups.height} scene or subject, so none can be held back; "
            "label footage of more scenes"
        )
    shuffled = np.random.default_rng(seed).permutation(groups.height)
    dealt = groups.with_columns(order=pl.Series(shuffled)).sort(
        "has_fall", "dataset", "clips", "order", descending=[True, False, True, False]
    )
    numbers = range(min(folds, groups.height))
    of_kind: Counter[tuple[int, str, bool]] = Counter()
    in_all: Counter[int] = Counter()
    fold_of: dict[str, int] = {}
    for row in dealt.iter_rows(named=True):
        kind = (row["dataset"], row["has_fall"])
        fold = min(numbers, key=lambda n: (of_kind[n, *kind], in_all[n], n))
        of_kind[fold, *kind] += row["clips"]
        in_all[fold] += row["clips"]
        fold_of[row["split_group"]] = fold
    return pl.DataFrame(
        {"split_group": list(fold_of), "fold": list(fold_of.values())},
        schema={"split_group": pl.String(), "fold": pl.Int64()},
    ).sort("split_group")
