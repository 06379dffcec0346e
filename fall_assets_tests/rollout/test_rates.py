"""The e-process on counts: what it promises under the null, and that it finds what is worse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import poisson

from fall_assets.rollout import rates
from fall_assets.rollout.rates import NOT_WORSE, WORSE, RateTable, log_e_fewer

Floats = NDArray[np.float64]
THRESHOLD = math.log(20)
CAMERAS, WARDS, HISTORY, LOOKS = 200, 8, 28, 14
RUNS = 150


def site(
    rng: np.random.Generator,
    *,
    ratio: float,
    rate: float = 0.3,
    share: float = 0.1,
    spread: float = 0.0,
    burst: int = 1,
    shadow: bool = False,
) -> float:
    """The largest log e-value of "worse" over a fortnight of daily looks at a simulated site."""
    stratum = np.arange(CAMERAS) % WARDS
    own = rng.gamma(1 / spread, spread, CAMERAS) if spread else np.ones(CAMERAS)
    rates = rate * own / burst

    def day(ratios: Floats | float) -> Floats:
        return burst * rng.poisson(rates * ratios).astype(np.float64)

    history = np.stack([day(1.0) for _ in range(HISTORY)])
    table = RateTable.learn(
        stratum, history.sum(axis=0), np.full(CAMERAS, float(HISTORY)), (history**2).sum(axis=0)
    )
    tried = rng.permutation(CAMERAS) < share * CAMERAS
    n0, t0, n1, t1 = (np.zeros(CAMERAS) for _ in range(4))
    highest = -math.inf
    for _ in range(LOOKS):
        n1 += np.where(tried, day(ratio), 0.0)
        t1 += tried
        champions = ~tried | shadow
        n0 += np.where(champions, day(1.0), 0.0)
        t0 += champions
        highest = max(highest, table.log_e_worse(n0, t0, n1, t1))
    return highest


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda rng: site(rng, ratio=1.0), id="alike"),
        pytest.param(lambda rng: site(rng, ratio=1.0, spread=1.5), id="noisy-cameras"),
        pytest.param(lambda rng: site(rng, ratio=1.0, burst=5), id="bursts"),
        pytest.param(lambda rng: site(rng, ratio=1.0, shadow=True), id="shadow"),
        pytest.param(lambda rng: site(rng, ratio=0.5), id="better"),
    ],
)
def test_a_version_that_is_no_worse_seldom_crosses_at_any_look(
    make: Callable[[np.random.Generator], float],
) -> None:
    rng = np.random.default_rng(5)
    crossed = sum(make(rng) >= THRESHOLD for _ in range(RUNS))
    # One in twenty is what Ville's inequality allows: 7.5 of 150; 15 has a probability under 1 %.
    assert crossed < 15


def test_a_version_that_is_worse_is_found_and_shadows_help() -> None:
    rng = np.random.default_rng(6)
    found = [
        np.mean([site(rng, ratio=2.0, rate=0.15, shadow=shadow) >= THRESHOLD for _ in range(60)])
        for shadow in (False, True)
    ]
    assert found[0] > 0.7
    assert np.mean([site(rng, ratio=3.0) >= THRESHOLD for _ in range(20)]) > 0.9
    assert found[1] >= found[0] - 0.1


@contextmanager
def unweighted() -> Iterator[None]:
    """Versions are known to suit all cameras alike: no camera weighs less than another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "_SUITS", 0.0)
        patch.setattr(rates, "_SUITS_KNOWN", 1e15)
        yield


def table_of(counts: Floats, days: Floats) -> RateTable:
    return RateTable.learn(np.zeros(len(counts), np.int64), counts, days, counts)


@given(
    counts=st.lists(st.integers(0, 20), min_size=2, max_size=12),
    seed=st.integers(0, 1000),
    margin=st.sampled_from([1.25, 1.5, 2.0, 3.0]),
)
def test_e_values_are_numbers_and_move_the_right_way(
    counts: list[int], seed: int, margin: float
) -> None:
    rng = np.random.default_rng(seed)
    cameras = len(counts)
    table = table_of(np.array(counts, np.float64), np.full(cameras, 28.0))
    n0, n1 = (rng.integers(0, 9, cameras).astype(np.float64) for _ in range(2))
    t = np.full(cameras, 7.0)
    worse, not_worse = table.log_e_worse(n0, t, n1, t), table.log_e_not_worse(n0, t, n1, t, margin)
    assert math.isfinite(worse)
    assert math.isfinite(not_worse)
    many = 5.0 * n1 + 40.0
    assert table.log_e_worse(n0, t, many, t) > worse
    assert table.log_e_not_worse(n0, t, many, t, margin) < not_worse
    # Where cameras are not weighed each count tells.
    with unweighted():
        worse = table.log_e_worse(n0, t, n1, t)
        not_worse = table.log_e_not_worse(n0, t, n1, t, margin)
        assert table.log_e_worse(n0, t, n1 + 1.0, t) > worse, "another alarm is worse"
        assert table.log_e_not_worse(n0, t, n1 + 1.0, t, margin) < not_worse
        assert table.log_e_worse(n0, t, n1, t + 1.0) < worse, "alarms in more time are better"


def test_before_anything_happened_nothing_is_known() -> None:
    nothing = np.zeros(3)
    table = table_of(np.array([1.0, 0.0, 4.0]), np.full(3, 28.0))
    assert table.log_e_worse(nothing, nothing, nothing, nothing) == pytest.approx(0.0)
    assert table.log_e_not_worse(nothing, nothing, nothing, nothing, 2.0) == pytest.approx(0.0)
    assert table.ratio(nothing, nothing, nothing, nothing) is None


def test_a_site_without_history_can_be_judged() -> None:
    cameras = 40
    table = table_of(np.zeros(cameras), np.zeros(cameras))
    t = np.full(cameras, 14.0)
    n0 = np.full(cameras, 2.0)
    assert table.log_e_worse(n0, t, 4.0 * n0, t) > THRESHOLD
    assert table.log_e_not_worse(n0, t, n0, t, 2.0) > THRESHOLD
    found = table.ratio(n0, t, 2.0 * n0, t)
    assert found is not None
    assert 1.7 < found < 2.3


def test_a_noisy_camera_is_told_from_a_bad_version() -> None:
    """One camera has ten times the alarms, before as now; the draw gave it to the challenger."""
    cameras = 50
    rates = np.full(cameras, 0.1)
    rates[0] = 1.0
    table = RateTable.learn(
        np.zeros(cameras, np.int64), 28.0 * rates, np.full(cameras, 28.0), 28.0 * (rates + rates**2)
    )
    tried = np.arange(cameras) < 1
    t = np.full(cameras, 14.0)
    nothing = np.zeros(cameras)
    as_before = table.log_e_worse(
        np.where(tried, 0, 14 * rates), np.where(tried, 0, t),
        np.where(tried, 14 * rates, 0), np.where(tried, t, 0),
    )  # fmt: skip
    assert as_before < math.log(2)
    blind = RateTable.learn(np.zeros(cameras, np.int64), nothing + 2.8, nothing + 28, nothing + 2.8)
    unaware = blind.log_e_worse(
        np.where(tried, 0, 14 * rates), np.where(tried, 0, t),
        np.where(tried, 14 * rates, 0), np.where(tried, t, 0),
    )  # fmt: skip
    assert unaware > as_before + 2, "without its own past it would look like a bad version"


def test_dispersion_and_spread_are_learned_from_the_days_before() -> None:
    rng = np.random.default_rng(2)
    cameras, days = 400, 60
    stratum = np.zeros(cameras, np.int64)

    def learned(counts: Floats) -> RateTable:
        return RateTable.learn(
            stratum, counts.sum(axis=0), np.full(cameras, float(days)), (counts**2).sum(axis=0)
        )

    plain = learned(rng.poisson(0.3, (days, cameras)).astype(float))
    assert plain.dispersion == pytest.approx(1.0, abs=0.05)
    assert plain.shapes[0] > 10
    bursts = learned(4.0 * rng.poisson(0.1, (days, cameras)))
    assert bursts.dispersion == pytest.approx(4.0, rel=0.1)
    own = rng.gamma(1.0, 1.0, cameras)
    spread = learned(rng.poisson(0.3 * own, (days, cameras)).astype(float))
    assert 1 / spread.shapes[0] == pytest.approx(1.0, rel=0.3)


def test_counts_where_nobody_watched_say_nothing() -> None:
    """A camera that was away all day counts hours without a judgement in no time at all."""
    table = table_of(np.full(20, 3.0), np.full(20, 28.0))
    t = np.full(20, 5.0)
    t[0] = 0.0
    n0, n1 = np.ones(20), np.ones(20)
    silent = table.log_e_worse(n0, t, n1, t)
    n1[0] = 24.0
    assert table.log_e_worse(n0, t, n1, t) == silent


def test_one_camera_that_a_version_does_not_suit_says_little_of_the_others() -> None:
    table = table_of(np.full(20, 28.0), np.full(20, 28.0))
    t = np.full(20, 14.0)
    n0 = np.full(20, 14.0)
    everywhere = table.log_e_worse(n0, t, np.full(20, 21.0), t)
    one = n0.copy()
    one[3] += 20 * 7
    assert everywhere > THRESHOLD
    assert table.log_e_worse(n0, t, one, t) < everywhere / 3


def test_a_day_is_as_lively_as_the_days_before_allow() -> None:
    rng = np.random.default_rng(3)
    cameras, days = 200, 40
    watched = np.full(days, float(cameras))

    def learned(shocks: Floats) -> RateTable:
        counts = rng.poisson(0.3 * shocks[:, None] * np.ones(cameras)).astype(float)
        total = np.full(cameras, float(days))
        by_day = (counts.sum(axis=1), watched)
        stratum = np.zeros(cameras, np.int64)
        return RateTable.learn(stratum, counts.sum(axis=0), total, (counts**2).sum(axis=0), by_day)

    calm, shocked = learned(np.ones(days)), learned(rng.gamma(1.0, 1.0, days))
    assert calm.day_variance == pytest.approx(0.05)
    assert shocked.day_variance == pytest.approx(1.0, rel=0.6)
    lively = np.array([180.0]), np.array([60.0])
    assert shocked.levels(*lively)[0] > 2.7
    assert 2.0 < calm.levels(*lively)[0] < 2.6


def test_strata_that_are_alike_lend_each_other_what_they_know() -> None:
    rng = np.random.default_rng(4)
    stratum = np.arange(400) % 40
    days = np.full(400, 28.0)
    alike = rng.poisson(0.01 * days).astype(float)
    table = RateTable.learn(stratum, alike, days, alike)
    assert table.rate.max() < 1.5 * table.rate.min()
    own = rng.poisson(0.01 * days * np.where(stratum == 0, 30.0, 1.0)).astype(float)
    loud = RateTable.learn(stratum, own, days, own)
    assert loud.rate[0] > 15 * np.median(loud.rate)


@given(
    rate=st.floats(0.1, 300.0),
    days=st.floats(0.01, 2.0),
    above=st.floats(1.0, 3.0),
)
def test_fewer_than_acceptable_is_an_e_value(rate: float, days: float, above: float) -> None:
    """Its expectation is 1 at the rate that is just not acceptable, and less at higher ones."""
    mean = rate * days
    counts = np.arange(int(3 * mean + 12 * math.sqrt(3 * mean) + 30))
    e_values = np.exp([log_e_fewer(float(n), days, rate) for n in counts])
    assert float(poisson.pmf(counts, mean) @ e_values) == pytest.approx(1.0, rel=1e-6)
    assert float(poisson.pmf(counts, above * mean) @ e_values) <= 1 + 1e-6
    # More alarms are less evidence; bursts make all of it weaker.
    assert (np.diff(e_values) < 0).all()
    assert abs(log_e_fewer(0.0, days, rate, 4.0)) <= abs(log_e_fewer(0.0, days, rate)) + 1e-9


def test_the_mixtures_are_mixtures() -> None:
    assert sum(WORSE.values()) == pytest.approx(1.0)
    assert min(WORSE) > 1.0
    assert min(NOT_WORSE) > 0.0


@given(
    seed=st.integers(0, 10_000),
    rate=st.sampled_from([0.0, 0.02, 0.5, 5.0]),
    days=st.sampled_from([1.0, 14.0, 60.0]),
)
def test_the_integral_is_that_of_a_fine_sum(seed: int, rate: float, days: float) -> None:
    rng = np.random.default_rng(seed)
    cameras = 30
    stratum = np.arange(cameras) % 3
    y = rng.poisson(0.3 * 28, cameras).astype(np.float64)
    table = RateTable.learn(stratum, y, np.full(cameras, 28.0), y)
    n0, n1 = (rng.poisson(rate * days, cameras).astype(np.float64) for _ in range(2))
    t0 = np.full(cameras, days)
    t1 = np.where(np.arange(cameras) < 10, days, 0.0)
    n1 = np.where(t1 > 0, n1, 0.0)
    ratios = np.array([1.0, 2.0])
    fine = []
    for ratio in ratios:
        total = float(n1.sum() / table.dispersion * np.log(ratio))
        for one in range(3):
            mine = stratum == one
            spread = table.spread[one]
            log_phi = np.linspace(-12 * spread, 12 * spread, 40_001)
            nu = table.rate[one] / table.dispersion
            n = (n0 + n1)[mine] / table.dispersion
            logs = n.sum() * log_phi - 0.5 * (log_phi / spread) ** 2
            for camera, count in zip(np.flatnonzero(mine), n, strict=True):
                exposed = nu * (t0[camera] + ratio * t1[camera])
                power = table.shapes[0] + y[camera] / table.dispersion + count
                base = table.shapes[0] + nu * 28.0
                logs -= power * np.log(base + np.exp(log_phi) * exposed)
            top = logs.max()
            total += float(np.log(np.exp(logs - top).sum()) + top)
        fine.append(total)
    with unweighted():
        fast = table.log_likelihoods(n0, t0, n1, t1, ratios)
    assert fast[1] - fast[0] == pytest.approx(fine[1] - fine[0], abs=0.05)
