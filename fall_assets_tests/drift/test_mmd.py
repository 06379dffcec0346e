"""The batched MMD is alibi-detect's, and its blocks keep correlated windows from crying drift."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.drift_speed import alibi, alibi_arrangements
from fall_assets.drift import mmd
from fall_assets.drift.mmd import Labels, mmd_test

Real = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch with one thread: with more, small matrices wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def samples(seed: int, n: int, m: int, f: int, shift: float = 0.3) -> tuple[Real, Real]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, f)), rng.normal(shift, 1.2, size=(m, f))


def by_hand(kernel: Real, n: int) -> float:
    """Unbiased MMD squared from a whole kernel matrix, the first n of it the reference."""
    bare = kernel - np.diag(kernel.diagonal())
    m = len(kernel) - n
    first, second = bare[:n, :n].sum() / (n * (n - 1)), bare[n:, n:].sum() / (m * (m - 1))
    return float(first + second - 2 * bare[:n, n:].mean())


def kernel_by_hand(reference: Real, today: Real, bandwidth: float) -> Real:
    rows = np.concatenate([reference, today])
    distances = ((rows[:, None] - rows[None]) ** 2).sum(axis=-1)
    return np.asarray(np.exp(-distances / (2 * bandwidth**2)), np.float64)


shapes = {
    "seed": st.integers(0, 10**6),
    "n": st.integers(2, 40),
    "m": st.integers(2, 40),
    "f": st.integers(1, 20),
}


@settings(deadline=None, max_examples=25)
@given(**shapes)
@pytest.mark.usefixtures("one_thread")
def test_statistic_and_p_are_alibi_detect_s(seed: int, n: int, m: int, f: int) -> None:
    first, second = samples(seed, n, m, f)
    theirs, share = alibi(first, second, seed, 30)
    test = mmd_test(first, second, arrangements=alibi_arrangements(n, m, seed, 30))
    assert test.statistic == pytest.approx(theirs, abs=1e-5)
    assert 0 < test.p_value <= 1
    # Among few arrangements the observed one comes again: there alibi-detect's rounding decides.
    if comb(n + m, n) > 10**5:
        assert test.p_value == pytest.approx((round(share * 30) + 1) / 31)


@settings(deadline=None, max_examples=30)
@given(**shapes)
def test_statistic_knows_neither_the_sides_nor_the_order(seed: int, n: int, m: int, f: int) -> None:
    first, second = samples(seed, n, m, f)
    rng = np.random.default_rng(seed)
    test = mmd_test(first, second, permutations=9)
    shuffled = mmd_test(rng.permutation(first), rng.permutation(second), permutations=9)
    assert shuffled.statistic == pytest.approx(test.statistic, abs=1e-6)
    kernel = kernel_by_hand(second, first, test.bandwidth)
    assert by_hand(kernel, m) == pytest.approx(test.statistic, abs=1e-6)


def test_p_is_the_same_whatever_the_chunk_and_the_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = samples(1, 90, 70, 3, 0.15)
    whole = mmd_test(first, second, permutations=100)
    monkeypatch.setattr(mmd, "CHUNK", 7)
    monkeypatch.setattr(mmd, "PANEL", 11)
    parts = mmd_test(first, second, permutations=100)
    assert parts.p_value == whole.p_value
    assert parts.statistic == pytest.approx(whole.statistic, abs=1e-9)


def test_single_precision_decides_as_double_does(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = samples(2, 700, 600, 4, 0.02)
    single = mmd_test(first, second, permutations=200)
    monkeypatch.setattr(mmd, "EXACT_UNITS", 2000)
    double = mmd_test(first, second, permutations=200)
    assert single.p_value == double.p_value
    assert single.statistic == pytest.approx(double.statistic, abs=1e-8)


@pytest.mark.parametrize(("n", "m", "smallest"), [(4, 3, 1 / 35), (3, 3, 2 / 20), (2, 5, 1 / 21)])
def test_p_is_not_below_what_the_arrangements_allow(n: int, m: int, smallest: float) -> None:
    first, second = samples(3, n, m, 2, 50.0)
    test = mmd_test(first, second, permutations=2000)
    assert test.smallest_p == pytest.approx(smallest)
    # The observed arrangement, drawn again, counts as equal.
    assert smallest - 1e-9 <= test.p_value < 2 * smallest


def test_strata_leave_fewer_arrangements() -> None:
    first, second = samples(4, 4, 4, 2, 50.0)
    hours = np.array([1, 1, 2, 2])
    test = mmd_test(first, second, permutations=500, strata=Labels(hours, hours))
    assert test.smallest_p == pytest.approx(2 / comb(4, 2) ** 2)
    assert test.p_value == pytest.approx(2 / 36, abs=0.03)


def test_blocks_of_one_row_are_rows() -> None:
    first, second = samples(5, 30, 20, 3)
    rows = mmd_test(first, second)
    blocks = mmd_test(first, second, blocks=Labels(np.arange(30), np.arange(20)))
    assert blocks.p_value == rows.p_value
    assert blocks.statistic == pytest.approx(rows.statistic, abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), panel=st.sampled_from([16, 512]))
def test_every_block_counts_the_same_in_any_order_of_rows(seed: int, panel: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = samples(seed, 80, 60, 3)
    before, now = rng.integers(0, 6, 80), rng.integers(0, 4, 60)
    before[:6], now[:4] = np.arange(6), np.arange(4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmd, "PANEL", panel)
        test = mmd_test(first, second, blocks=Labels(before, now))
        a, b = rng.permutation(80), rng.permutation(60)
        again = mmd_test(first[a], second[b], blocks=Labels(before[a], now[b]))
    assert test.units == (6, 4)
    assert again.p_value == test.p_value
    assert again.statistic == pytest.approx(test.statistic, abs=1e-6)
    share = np.eye(10)[np.concatenate([before, now + 6])]
    share /= share.sum(axis=0)
    means = share.T @ kernel_by_hand(first, second, test.bandwidth) @ share
    assert test.statistic == pytest.approx(by_hand(means, 6), abs=1e-6)


def correlated(
    rng: np.random.Generator, blocks: int, size: int, hours: int
) -> tuple[Real, npt.NDArray[np.int_], npt.NDArray[np.int_]]:
    """Windows of one distribution that resemble each other within a block, and change by hour."""
    block = np.repeat(np.arange(blocks), size)
    shared, own = rng.normal(size=(blocks, 4))[block], rng.normal(size=(len(block), 4))
    hour = block % hours
    return np.sqrt(0.4) * shared + np.sqrt(0.6) * own + 2.0 * hour[:, None], block, hour


def test_blocks_keep_correlated_windows_from_crying_drift() -> None:
    naive = blocked = found = 0
    for case in range(60):
        rng = np.random.default_rng(case)
        # Unequal on purpose: the reference has more blocks of fewer windows.
        first, before, _ = correlated(rng, 30, 6, 1)
        second, now, _ = correlated(rng, 15, 12, 1)
        blocks = Labels(before, now)
        naive += mmd_test(first, second, permutations=99).p_value <= 0.05
        blocked += mmd_test(first, second, permutations=99, blocks=blocks).p_value <= 0.05
        found += mmd_test(first, second + 0.6, permutations=99, blocks=blocks).p_value <= 0.05
    assert naive > 30
    # 5 % of 60 is 3; more than 8 has a chance of less than 1 %.
    assert blocked <= 8
    assert found > 50


def test_strata_keep_the_hours_of_the_footage_from_crying_drift() -> None:
    mixed = stratified = 0
    for case in range(60):
        rng = np.random.default_rng(case)
        first, before, early = correlated(rng, 24, 5, 4)
        second, now, late = correlated(rng, 40, 5, 4)
        # Today's footage is mostly of hour 3.
        kept = (late == 3) | (now < 4)
        labels = Labels(before, now[kept])
        hours = Labels(early, late[kept])
        second = second[kept]
        mixed += mmd_test(first, second, permutations=99, blocks=labels).p_value <= 0.05
        test = mmd_test(first, second, permutations=99, blocks=labels, strata=hours)
        stratified += test.p_value <= 0.05
    assert mixed > 30
    assert stratified <= 8


def test_a_stratum_of_one_side_is_left_out() -> None:
    first, second = samples(6, 40, 30, 3)
    early, late = np.zeros(40, np.int_), np.zeros(30, np.int_)
    late[20:] = 1
    second[20:] += 100
    with_night = mmd_test(first, second, strata=Labels(early, late))
    assert with_night == mmd_test(first, second[:20])
    assert with_night.units == (40, 20)


def test_where_most_rows_coincide_the_others_set_the_width() -> None:
    first, second = np.full((20, 3), 7.3), np.full((15, 3), 7.3)
    same = mmd_test(first, second)
    assert (same.statistic, same.p_value, same.bandwidth) == (0.0, 1.0, 0.0)
    second += 0.5
    test = mmd_test(first, second)
    assert test.bandwidth == pytest.approx(np.sqrt(0.75 / 2), rel=1e-5)
    assert test.p_value == pytest.approx(1 / 101)


def test_figures_far_from_zero_lose_nothing() -> None:
    first, second = samples(7, 50, 40, 3)
    near, far = mmd_test(first, second), mmd_test(first + 1e5, second + 1e5)
    assert far.statistic == pytest.approx(near.statistic, abs=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    first, second = samples(8, 6, 5, 2)
    fives, sixes = np.arange(5), np.arange(6)
    with pytest.raises(ValueError, match="permutations"):
        mmd_test(first, second, permutations=0)
    with pytest.raises(ValueError, match="blocks of shapes"):
        mmd_test(first, second, blocks=Labels(fives, sixes))
    with pytest.raises(ValueError, match="at least 2 blocks"):
        mmd_test(first, second, blocks=Labels(sixes, np.zeros(5)))
    with pytest.raises(ValueError, match="at least 2 blocks or rows"):
        mmd_test(first, second, strata=Labels(sixes, fives + 10))
    with pytest.raises(ValueError, match="more than one stratum"):
        mmd_test(
            first, second, blocks=Labels(sixes // 2, fives), strata=Labels(sixes % 2, fives % 2)
        )
    with pytest.raises(ValueError, match="arrangements of shape"):
        mmd_test(first, second, arrangements=np.ones((3, 11), np.bool_))
    with pytest.raises(ValueError, match="leave out blocks"):
        mmd_test(
            first,
            second,
            blocks=Labels(sixes, fives),
            arrangements=alibi_arrangements(6, 5, 0, 3),
        )
