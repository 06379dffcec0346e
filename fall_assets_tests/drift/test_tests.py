"""The two-sample tests tell the truth at the edges where the library's do not."""

from __future__ import annotations

import sys
from math import comb

import numpy as np
import pytest

from fall_assets.drift import tests
from fall_assets.errors import PermanentFailureError


def test_ks_agrees_with_scipy_on_independent_values() -> None:
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(1)
    reference, today = rng.normal(size=(80, 3)), rng.normal([0, 0.4, 2], 1, size=(60, 3))
    statistic, p = tests.ks(reference, today)
    for place in range(3):
        expected = ks_2samp(reference[:, place], today[:, place], method="asymp")
        assert statistic[place] == pytest.approx(expected.statistic, abs=1e-6)
        assert p[place] == pytest.approx(expected.pvalue, rel=1e-4, abs=1e-12)


def test_ks_never_claims_more_than_the_sample_can_show() -> None:
    reference, today = np.zeros((8, 1)), np.ones((4, 1))
    statistic, p = tests.ks(reference, today)
    assert statistic[0] == pytest.approx(1.0)
    assert p[0] == pytest.approx(2 / comb(12, 4))


def test_ks_of_repeated_values_counts_each_once() -> None:
    rng = np.random.default_rng(2)
    reference, today = rng.normal(size=(12, 1)), rng.normal(0.8, 1, size=(10, 1))
    repeated = tests.ks(
        np.repeat(reference, 20, axis=0),
        np.repeat(today, 20, axis=0),
        effective=tests.EffectiveSizes(np.array([12.0]), np.array([10.0])),
    )
    once = tests.ks(
        reference,
        today,
        effective=tests.EffectiveSizes(np.array([12.0]), np.array([10.0])),
    )
    naive = tests.ks(np.repeat(reference, 20, axis=0), np.repeat(today, 20, axis=0))
    assert repeated[0] == pytest.approx(once[0], abs=1e-6)
    assert repeated[1] == pytest.approx(once[1], rel=1e-5)
    assert naive[1][0] < repeated[1][0] / 100


def test_ks_of_equal_samples_is_one() -> None:
    same = np.linspace(0, 1, 20)[:, None]
    assert tests.ks(same, same)[1][0] == 1.0


def test_mmd_finds_a_shift_and_not_noise() -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(size=(40, 5))
    assert tests.mmd(reference, rng.normal(size=(30, 5)), 199, seed=0)[1] > 0.05
    statistic, p = tests.mmd(reference, rng.normal(1.5, 1, size=(30, 5)), 199, seed=0)
    assert p == pytest.approx(1 / 200)
    assert statistic > 0.1


def test_mmd_p_is_never_zero_nor_below_what_few_rows_allow() -> None:
    reference, today = np.zeros((4, 2)), np.ones((3, 2))
    reference += np.arange(8).reshape(4, 2) / 100
    p = tests.mmd(reference, today, 5000, seed=0)[1]
    assert p >= 1 / comb(7, 3)


def test_mmd_is_repeatable_and_leaves_torch_alone() -> None:
    import torch

    rng = np.random.default_rng(4)
    reference, today = rng.normal(size=(20, 2)), rng.normal(0.6, 1, size=(15, 2))
    torch.manual_seed(5)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    first = tests.mmd(reference, today, 50, seed=9)
    torch.manual_seed(6)
    torch.rand(7)
    second = tests.mmd(reference, today, 50, seed=9)
    assert first == second
    torch.manual_seed(5)
    tests.mmd(reference, today, 50, seed=9)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_mmd_of_constant_figures_is_no_drift() -> None:
    assert tests.mmd(np.ones((5, 3)), np.ones((4, 3))) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("reference", "today"),
    [
        (np.ones((5, 2)), np.ones((5, 3))),
        (np.ones(5), np.ones(5)),
        (np.ones((5, 1)), np.ones((1, 1))),
        (np.ones((5, 1)), np.full((5, 1), np.nan)),
    ],
)
def test_samples_that_do_not_fit_are_refused(reference: tests.Real, today: tests.Real) -> None:
    with pytest.raises(ValueError):
        tests.ks(reference, today)
    with pytest.raises(ValueError):
        tests.mmd(reference, today)


def test_a_site_without_alibi_detect_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("alibi_detect")]:
        monkeypatch.delitem(sys.modules, name)

    class Absent:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "alibi_detect":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(PermanentFailureError, match=r"alibi-detect\[torch\].*Business Source"):
        tests.ks(np.ones((5, 1)), np.zeros((5, 1)))
