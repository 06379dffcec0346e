"""The two-sample tests tell the truth at the edges where the library's do not."""

from __future__ import annotations

import sys
from math import comb

import numpy as np
import numpy.typing as npt
import pytest

from fall_assets.drift import tests
from fall_assets.drift.mmd import Labels
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


def test_cvm_agrees_with_scipy_and_counts_repeated_values_once() -> None:
    from scipy.stats import cramervonmises_2samp

    rng = np.random.default_rng(21)
    reference, today = rng.normal(size=(60, 2)), rng.normal([0, 0.7], 1, size=(40, 2))
    statistic, p = tests.cvm(reference, today)
    for place in range(2):
        expected = cramervonmises_2samp(reference[:, place], today[:, place])
        assert statistic[place] == pytest.approx(expected.statistic, rel=1e-5)
        assert p[place] == pytest.approx(expected.pvalue, rel=1e-3, abs=1e-7)
    sizes = tests.EffectiveSizes(np.array([60.0, 60.0]), np.array([40.0, 40.0]))
    repeated = [np.repeat(side, 20, axis=0) for side in (reference, today)]
    once = tests.cvm(*repeated, effective=sizes)[1]
    assert once == pytest.approx(p, rel=0.35, abs=0.02)
    assert tests.cvm(*repeated)[1][1] < once[1] / 100


def test_cvm_s_p_value_for_effective_sizes_is_that_of_the_published_table() -> None:
    """Anderson and Darling 1952: 5 % above 0.461, 1 % above 0.743, 0.1 % above 1.168."""
    rng = np.random.default_rng(22)
    reference, today = rng.normal(size=(4000, 1)), rng.normal(0.2, 1, size=(4000, 1))
    statistic = tests.cvm(reference, today)[0][0]
    for point, expected in ((0.461, 0.05), (0.743, 0.01), (1.168, 0.001)):
        worth = np.array([4000 * point / statistic])
        p = tests.cvm(reference, today, effective=tests.EffectiveSizes(worth, worth))[1][0]
        assert p == pytest.approx(expected, rel=0.15)


def test_lsdd_has_alibi_detect_s_statistic_and_a_p_value_above_0() -> None:
    import torch
    from alibi_detect.cd import LSDDDrift

    rng = np.random.default_rng(23)
    reference, today = rng.normal(size=(120, 3)), rng.normal(1.5, 1, size=(40, 3))
    torch.manual_seed(5)
    library = LSDDDrift(
        reference.astype(np.float32), backend="pytorch", n_permutations=100, device="cpu"
    )
    theirs = library.predict(today.astype(np.float32))["data"]
    torch.manual_seed(6)
    state = torch.random.get_rng_state()
    statistic, p = tests.lsdd(reference, today, 100, seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert statistic == pytest.approx(theirs["distance"], rel=0.02)
    assert theirs["p_val"] == 0.0
    assert p == pytest.approx(1 / 101)
    assert tests.lsdd(reference, rng.normal(size=(40, 3)), 100, seed=5)[1] > 0.05


def blocked(
    rng: np.random.Generator, blocks: int, far: float
) -> tuple[tests.Real, npt.NDArray[np.int_]]:
    """Rows of blocks of 8 that resemble each other, and their blocks' numbers."""
    centre = rng.normal(far, 1, size=(blocks, 2))
    rows = np.repeat(centre, 8, axis=0) + 0.1 * rng.normal(size=(blocks * 8, 2))
    return rows, np.repeat(np.arange(blocks), 8)


def test_rows_that_resemble_each_other_are_drift_to_rows_and_none_to_blocks() -> None:
    rng = np.random.default_rng(24)
    rows, blocks = blocked(rng, 12, 0.0)
    today, own = blocked(rng, 6, 0.0)
    labels = Labels(blocks, own)
    assert tests.lsdd(rows, today, 199)[1] < 0.01
    assert tests.lsdd(rows, today, 199, blocks=labels)[1] > 0.05
    assert tests.classifier_two_sample(rows, today, 99, blocks=labels).p_value > 0.05
    moved, own = blocked(rng, 6, 3.0)
    assert tests.lsdd(rows, moved, 199, blocks=Labels(blocks, own))[1] < 0.05
    told = tests.classifier_two_sample(rows, moved, 99, blocks=Labels(blocks, own))
    assert told.p_value <= 0.02
    assert told.auc > 0.95
    assert told.accuracy > 0.85


def test_the_classifier_says_which_figure_moved() -> None:
    rng = np.random.default_rng(25)
    reference, today = rng.normal(size=(150, 4)), rng.normal([0, 0, -2, 0], 1, size=(30, 4))
    told = tests.classifier_two_sample(reference, today, 19)
    assert int(np.argmax(np.abs(told.weights))) == 2
    assert told.weights[2] < 0


def test_time_of_day_is_stratified_by_us_because_the_library_s_context_test_does_not_run() -> None:
    """alibi-detect 0.13's ContextMMDDrift calls scikit-learn as it no longer is.

    Where this begins to fail, the library can be tried instead of strata.
    """
    from alibi_detect.cd import ContextMMDDrift

    rng = np.random.default_rng(26)
    hour = np.repeat(np.arange(4), 20)
    reference = hour[:, None] + 0.3 * rng.normal(size=(80, 2))
    night = np.repeat([0, 1], 12)
    today = night[:, None] + 0.3 * rng.normal(size=(24, 2))
    library = ContextMMDDrift(
        reference.astype(np.float32),
        hour[:, None].astype(np.float32),
        backend="pytorch",
        n_permutations=10,
        device="cpu",
    )
    with pytest.raises(TypeError):
        library.predict(today.astype(np.float32), night[:, None].astype(np.float32))
    assert tests.mmd(reference, today, 199)[1] < 0.01
    assert tests.mmd(reference, today, 199, strata=Labels(hour, night))[1] > 0.05
    assert tests.lsdd(reference, today, 199, strata=Labels(hour, night))[1] > 0.05


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
