"""Two-sample tests: the one module that touches alibi-detect, so that a site can run without it.

Here: the numbers a test gives for two samples, made honest where the library's are not. Not here:
which figures are tested, or what counts as drift (see `report.py`).

alibi-detect is imported on first use (about 11 s of CPU: it brings torch and transformers).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fall_assets.drift.mmd import Labels, arrangement_of, mmd_test
from fall_assets.drift.statistics import two_samples
from fall_assets.errors import PermanentFailureError

Sample = npt.NDArray[np.floating[Any]]
Real = npt.NDArray[np.float64]

_LSDD_ROWS = 20
# The largest share by which regularisation may change the difference; alibi-detect's own.
_LSDD_DAMPING = 0.2
_SPARSE, _EPOCHS = 0.02, 30


class DriftTestsMissingError(PermanentFailureError):
    """alibi-detect is not installed."""


@dataclass(frozen=True)
class EffectiveSizes:
    """How many independent values each side is worth, per figure; arrays of shape (figures,)."""

    reference: Real
    today: Real


def _alibi_detect() -> Any:
    """The module `alibi_detect.cd`; DriftTestsMissingError says how to get it."""
    try:
        import alibi_detect.cd
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("alibi_detect"):
            raise
        raise DriftTestsMissingError(
            "the drift tests need alibi-detect: install 'alibi-detect[torch]~=0.13.0' and run "
            "again. Its licence is the Business Source License 1.1: production use needs a "
            "licence from its maker (Seldon)."
        ) from error
    return alibi_detect.cd


@contextmanager
def _global_generator(seed: int) -> Iterator[None]:
    """numpy's own generator, from which the library draws, seeded; afterwards as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def smallest_p(n: float, m: float, arrangements: int = 1) -> float:
    """The smallest p-value that a permutation test of n against m values can give.

    `arrangements` of the C(n+m, n) equally likely ones are at least as extreme as complete
    separation: 2 for a two-sided statistic. n and m may be fractions (effective sizes).
    """
    log_choices = math.lgamma(n + m + 1) - math.lgamma(n + 1) - math.lgamma(m + 1)
    return min(1.0, arrangements * math.exp(-log_choices))


def ks(
    reference: Sample, today: Sample, *, effective: EffectiveSizes | None = None
) -> tuple[Real, Real]:
    """Kolmogorov-Smirnov test of each figure, by alibi-detect's KSDrift.

    reference (n, f), today (m, f), finite, n and m at least 2. Returns the statistic (largest
    distance of the distribution functions, 0-1) and the two-sided p-value, each of shape (f,).

    With `effective`, the statistic stays and the p-value is that of so many independent values:
    neighbouring windows repeat each other, and counted as independent they make every test far
    too eager (Kish 1965, design effect). No p-value is smaller than the exact test could give:
    the asymptotic formula says 0 for two separate samples of any size.
    """
    first, second = two_samples(reference, today, 2)
    p_values, statistics = _alibi_detect().KSDrift(first).score(second)
    statistic, p = np.asarray(statistics, np.float64), np.asarray(p_values, np.float64)
    n = np.full(len(p), len(first), np.float64)
    m = np.full(len(p), len(second), np.float64)
    if effective is not None:
        from scipy.stats import kstwo

        n, m = np.minimum(n, effective.reference), np.minimum(m, effective.today)
        p = np.asarray(kstwo.sf(statistic, np.maximum(1.0, np.floor(n * m / (n + m)))))
    # Where nothing differs at all, the small-sample formula can still fall below 1.
    p = np.where(statistic <= 0, 1.0, p)
    floor = np.array([smallest_p(a, b, 2) for a, b in zip(n, m, strict=True)])
    return statistic, np.clip(p, floor, 1.0)


def mmd(
    reference: Sample,
    today: Sample,
    permutations: int = 100,
    seed: int = 0,
    *,
    blocks: Labels | None = None,
    strata: Labels | None = None,
) -> tuple[float, float]:
    """Maximum mean discrepancy of two samples of vectors, as alibi-detect's MMDDrift has it.

    reference (n, f), today (m, f), finite and standardised, n and m at least 2. Gaussian kernel,
    its width by the median heuristic on the reference; unbiased MMD squared (Gretton et al.,
    JMLR 13, 2012). Without `blocks` rows must be exchangeable: pass one row per segment, not per
    window. With `blocks` and `strata` whole blocks are exchanged, each within its stratum.

    Returns the statistic and the p-value (b + 1) / (B + 1) (Phipson and Smyth 2010; alibi-detect
    gives b / B, which can be 0), never below what the arrangements allow. The same seed gives the
    same p-value. Computed by `mmd.py`, without alibi-detect and torch.
    """
    test = mmd_test(
        reference, today, permutations=permutations, seed=seed, blocks=blocks, strata=strata
    )
    return test.statistic, test.p_value


def cvm(
    reference: Sample, today: Sample, *, effective: EffectiveSizes | None = None
) -> tuple[Real, Real]:
    """Cramer-von Mises test of each figure, by alibi-detect's CVMDrift.

    As `ks`: reference (n, f), today (m, f), finite, n and m at least 2; returns the statistic T of
    Anderson 1962 and the two-sided p-value, each of shape (f,). It adds up the whole distance of
    the distribution functions, so that it finds a shift of all values sooner than `ks` does.

    With `effective`, the statistic stays and the p-value is that of so many independent values with
    the same distance: T less what chance adds to it grows with n m / (n + m); asymptotic. No
    p-value is smaller than the exact test could give.
    """
    first, second = two_samples(reference, today, 2)
    p_values, statistics = _alibi_detect().CVMDrift(first).score(second)
    statistic, p = np.asarray(statistics, np.float64), np.asarray(p_values, np.float64)
    n = np.full(len(p), len(first), np.float64)
    m = np.full(len(p), len(second), np.float64)
    if effective is not None:
        worth_n = np.maximum(2.0, np.minimum(n, effective.reference))
        worth_m = np.maximum(2.0, np.minimum(m, effective.today))
        share = (worth_n * worth_m / (worth_n + worth_m)) / (n * m / (n + m))
        n, m = worth_n, worth_m
        p = np.array([_cvm_p(value) for value in statistic * share])
    floor = np.array([smallest_p(a, b, 2) for a, b in zip(n, m, strict=True)])
    return statistic, np.clip(p, floor, 1.0)


def _cvm_p(statistic: float) -> float:
    """How likely Cramer and von Mises' statistic exceeds this, without change; many values.

    It is distributed as the sum over k of squared normal values over (k pi)^2 (Anderson and Darling
    1952). Far from its mean its tail is the square root of 2 times that of the largest term
    (Zolotarev 1961); nearer it is that of a scaled chi-squared with the first three moments. The
    larger of both is taken.
    """
    from scipy.stats import chi2

    # Cumulants of the sum: 2^(r-1) (r-1)! sum of (k pi)^(-2r).
    mean, variance, third = 1 / 6, 1 / 45, 8 / 945
    skewness = third / variance**1.5
    df = 8 / skewness**2
    near = chi2.sf(df + (statistic - mean) / math.sqrt(variance) * math.sqrt(2 * df), df)
    return float(min(1.0, max(near, math.sqrt(2) * chi2.sf(statistic * math.pi**2, 1))))


def lsdd(
    reference: Sample,
    today: Sample,
    permutations: int = 100,
    seed: int = 0,
    *,
    blocks: Labels | None = None,
    strata: Labels | None = None,
) -> tuple[float, float]:
    """Least-squares density difference of two samples of vectors, by alibi-detect's LSDDDrift.

    reference (n, f), today (m, f), finite; n at least 20, m at least 2. alibi-detect standardises
    by the reference, chooses the kernel, its width and its centres (a twentieth of the reference,
    which is then left out of it); the regularisation is chosen as there (Bu et al., IEEE TSMC 2017,
    appendix A). The permutations are ours: with `blocks` and `strata`, as `mmd` has them, whole
    blocks are exchanged, each within its stratum. Every row counts the same.

    Returns the statistic and the p-value (b + 1) / (B + 1), never below what the arrangements
    allow. The same seed gives the same; torch's own generator is left as it was.
    """
    import torch

    first, second = two_samples(reference, today, 2)
    if len(first) < _LSDD_ROWS:
        raise ValueError(f"need at least {_LSDD_ROWS} rows of the reference, got {len(first)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = (
            _alibi_detect()
            .LSDDDrift(first.astype(np.float32), backend="pytorch", n_permutations=1, device="cpu")
            ._detector
        )
    rows = torch.as_tensor(np.concatenate([first, second]).astype(np.float32))
    with torch.no_grad():
        centred = detector._normalize(rows).float()
        to_centres = np.asarray(detector.kernel(centred, detector.kernel_centers), np.float64)
        between = np.asarray(detector.H, np.float64)
        far = torch.cdist(centred[: len(first)], detector.kernel_centers).numpy()
    kept = np.ones(len(rows), np.bool_)
    for centre in range(far.shape[1]):
        nearest = int(np.argmin(np.where(kept[: len(first)], far[:, centre], np.inf)))
        kept[nearest] = False
    own = kept[: len(first)]
    design = arrangement_of(
        int(own.sum()),
        len(second),
        None if blocks is None else Labels(np.asarray(blocks.reference)[own], blocks.today),
        None if strata is None else Labels(np.asarray(strata.reference)[own], strata.today),
    )
    values = to_centres[kept][design.order]
    drawn = design.draw(np.random.default_rng(seed), permutations)
    sides = np.repeat(np.concatenate([design.today[None], drawn]), design.sizes, axis=1)
    statistics = _density_differences(values, between, sides)
    as_large = int((statistics[1:] >= statistics[0] * (1 - 1e-9)).sum())
    p_value = max((as_large + 1) / (permutations + 1), design.smallest_p())
    return float(statistics[0]), p_value


def _density_differences(values: Real, between: Real, sides: npt.NDArray[np.bool_]) -> Real:
    """The least-squares density difference of each arrangement; (arrangements,).

    values (rows, centres): kernel of rows and centres; between (centres, centres): the centres'
    own, at twice the squared width; sides (arrangements, rows): True for today's.
    """
    now = sides.astype(np.float64)
    usual = 1.0 - now
    apart = usual @ values / usual.sum(axis=1)[:, None] - now @ values / now.sum(axis=1)[:, None]
    best = np.zeros(len(sides))
    for power in range(10):
        inverse = np.linalg.inv(between + np.eye(len(between)) * 4.0**-power)
        plain = np.einsum("bi,ij,bj->b", apart, inverse, apart)
        damped = np.einsum("bi,ij,bj->b", apart, inverse @ between @ inverse, apart)
        best = 2 * plain - damped
        with np.errstate(invalid="ignore", divide="ignore"):
            if np.nanmean(1 - damped / plain) < _LSDD_DAMPING:
                break
    return best


@dataclass(frozen=True)
class ClassifierTest:
    """How well a classifier tells today from the reference.

    auc: area under the curve, out of fold (0.5: not at all); accuracy: mean of both sides';
    weights: coefficients on standardised figures, shape (f,), positive where today is higher.
    """

    auc: float
    accuracy: float
    p_value: float
    weights: Real


def classifier_two_sample(
    reference: Sample,
    today: Sample,
    permutations: int = 99,
    seed: int = 0,
    *,
    blocks: Labels | None = None,
    strata: Labels | None = None,
    folds: int = 5,
) -> ClassifierTest:
    """Whether a classifier can tell today's vectors from the reference's, and by which figures.

    reference (n, f), today (m, f), finite. Logistic regression with balanced classes, scored out of
    fold (Lopez-Paz and Oquab 2017); a block (camera-day) lies in one fold. The p-value is
    (b + 1) / (B + 1): labels of whole blocks are exchanged within `strata`, and the classifier is
    learned anew each time. Without `blocks` rows must be exchangeable. One day against others
    is one block: its p-value is then no smaller than one over the days, and the result tells what
    moved rather than whether.

    alibi-detect's ClassifierDrift folds and tests rows, as if hours of one day were independent.
    Raises ValueError where labels do not fit or a side has fewer than 2 units.
    """
    first, second = two_samples(reference, today, 2)
    design = arrangement_of(len(first), len(second), blocks, strata)
    rows = np.concatenate([first, second])[design.order]
    spread = rows.std(axis=0)
    rows = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    unit = np.repeat(np.arange(len(design.sizes)), design.sizes)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(design.sizes))
    observed = _told_apart(rows, unit, design.today, order, folds)
    drawn = design.draw(rng, permutations)
    as_large = sum(
        _told_apart(rows, unit, sides, order, folds)[0] >= observed[0] - 1e-12 for sides in drawn
    )
    p_value = max((as_large + 1) / (permutations + 1), design.smallest_p())
    weights = _logistic().fit(rows, design.today[unit]).coef_[0]
    return ClassifierTest(*observed, p_value, np.asarray(weights, np.float64))


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, class_weight="balanced", max_iter=200)


def _told_apart(
    rows: Real,
    unit: npt.NDArray[np.int_],
    sides: npt.NDArray[np.bool_],
    order: npt.NDArray[np.int_],
    folds: int,
) -> tuple[float, float]:
    """Area under the curve and balanced accuracy, out of fold; units of a side in all folds."""
    from sklearn.metrics import roc_auc_score

    fold = np.empty(len(sides), np.int_)
    count = min(folds, int(sides.sum()), int((~sides).sum()))
    if count < 2:
        raise ValueError("need at least 2 blocks or rows on each side")
    for side in (False, True):
        own = order[sides[order] == side]
        fold[own] = np.arange(len(own)) % count
    truth, of_row = sides[unit], fold[unit]
    scores = np.empty(len(rows))
    for number in range(count):
        out = of_row == number
        scores[out] = _logistic().fit(rows[~out], truth[~out]).decision_function(rows[out])
    accuracy = 0.5 * (float((scores[truth] > 0).mean()) + float((scores[~truth] <= 0).mean()))
    return float(roc_auc_score(truth, scores)), accuracy


def spot_the_difference(reference: Sample, today: Sample, seed: int = 0) -> tuple[float, Real]:
    """What must be added to the reference's mean to look like today, by SpotTheDiffDrift.

    reference (n, f), today (m, f), finite and standardised. alibi-detect learns one place in the
    space of figures near which today's rows lie, or the reference's (then the difference is turned
    round), kept sparse by an L1 penalty (Jitkrittum et al., NeurIPS 2016). Returns its p-value (of
    rows as if independent: no budget may rest on it; never 0, which the library gives) and the
    difference, shape (f,), in standard deviations of the reference.
    """
    import torch

    first, second = two_samples(reference, today, 8)
    start = np.where(second.mean(axis=0) >= first.mean(axis=0), 0.1, -0.1)[None]
    with torch.random.fork_rng(devices=[]), _global_generator(seed):
        torch.manual_seed(seed)
        detector = _alibi_detect().SpotTheDiffDrift(
            first.astype(np.float32),
            backend="pytorch",
            n_diffs=1,
            initial_diffs=start.astype(np.float32),
            l1_reg=_SPARSE,
            epochs=_EPOCHS,
            learning_rate=0.02,
            batch_size=64,
            seed=seed,
            device="cpu",
            verbose=0,
        )
        data = detector.predict(second.astype(np.float32))["data"]
    difference = np.asarray(data["diffs"][0], np.float64)
    if float(data["diff_coeffs"].ravel()[0]) < 0:
        difference = -difference
    floor = smallest_p(len(first) / 4, len(second) / 4, 2)
    return max(float(data["p_val"]), floor), difference
