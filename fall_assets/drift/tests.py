"""Two-sample tests: the one module that touches alibi-detect, so that a site can run without it.

Here: the numbers a test gives for two samples, made honest where the library's are not. Not here:
which figures are tested, or what counts as drift (see `report.py`).

alibi-detect is imported on first use (about 11 s of CPU: it brings torch and transformers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fall_assets.drift.mmd import Labels, mmd_test
from fall_assets.drift.statistics import two_samples
from fall_assets.errors import PermanentFailureError

Sample = npt.NDArray[np.floating[Any]]
Real = npt.NDArray[np.float64]


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
