"""Two versions on the library of labelled falls: does the challenger find fewer?

What belongs here: exact tests on pairs (champion found it, challenger found it), and how much they
can tell with so many falls. What does not: which falls there are and who found them
(`pipeline.rollout`), and what follows from the verdict (`machine`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["worse", "not_worse", "undecided"]
Direction = Literal["fewer", "as many", "more"]

LEVEL: Final = 0.05

POWER_CHAMPION: Final = 0.95
POWER_CHALLENGER: Final = 0.90
SHARED_MISSES: Final = 0.9
"""The power is stated for these two sensitivities, where the challenger misses this share of the
falls that the champion misses: both learned from the same footage, and a fall that is hard for one
is hard for the other. 190 falls then have power .80. Without that tie (independent errors) it would
be .38, with every miss of the champion shared .92."""

_COUNTS: Final = ("falls", "both", "champion_only", "challenger_only", "neither")
_SHARES: Final = ("p_worse", "p_non_inferior", "margin", "power")

_SAME = 1e-9
_GRID = 257
_REFINED = 33
_PEAKS = 5


@dataclass(frozen=True)
class LibraryVerdict:
    """What the library says of a challenger.

    Attributes:
        falls: pairs compared, the sum of the next four.
        both: falls that both versions found.
        champion_only: found by the champion alone.
        challenger_only: found by the challenger alone.
        neither: found by neither.
        p_worse: McNemar's exact p, two-sided, where the challenger found fewer; else 1.
        p_non_inferior: exact p of "the challenger's sensitivity is lower by `margin` or more".
        margin: in absolute terms, 0.1 is .95 against .85.
        power: probability that with so many falls McNemar's test would tell a sensitivity of
            `POWER_CHALLENGER` from `POWER_CHAMPION`; see `SHARED_MISSES`.
        verdict: 'worse' or 'not_worse' at `LEVEL`, else 'undecided'. 'worse' goes first, where more
            than the slack is lost: with many falls a challenger can be worse for certain, and by
            less than the margin.
        text: all of it in one sentence.
    """

    falls: int
    both: int
    champion_only: int
    challenger_only: int
    neither: int
    p_worse: float
    p_non_inferior: float
    margin: float
    power: float
    verdict: Verdict
    text: str

    @property
    def direction(self) -> Direction:
        """Whether the challenger found fewer falls than the champion, as many, or more."""
        if self.champion_only == self.challenger_only:
            return "as many"
        return "fewer" if self.champion_only > self.challenger_only else "more"

    @property
    def p_mcnemar(self) -> float:
        """McNemar's exact two-sided p, whichever version found more."""
        return mcnemar(self.champion_only, self.challenger_only)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` turns it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LibraryVerdict:
        """From `as_dict`.

        Raises:
            ValueError: a key that is missing or not known, or a value that cannot be.
        """
        known = {field.name for field in fields(cls)}
        if wrong := known ^ set(values):
            raise ValueError(f"library verdict lacks or does not know: {', '.join(sorted(wrong))}")
        for name in _COUNTS:
            if type(values[name]) is not int or values[name] < 0:
                raise ValueError(f"{name} is {values[name]!r}, wanted a whole number from 0")
        if values["falls"] != sum(values[name] for name in _COUNTS[1:]):
            raise ValueError(f"falls is {values['falls']}, but the four cells sum to another count")
        for name in _SHARES:
            if type(values[name]) not in (int, float) or not 0 <= values[name] <= 1:
                raise ValueError(f"{name} is {values[name]!r}, wanted 0 to 1")
        if values["verdict"] not in get_args(Verdict):
            raise ValueError(
                f"verdict {values['verdict']!r} is not known; there are: "
                + ", ".join(get_args(Verdict))
            )
        if not isinstance(values["text"], str):
            raise ValueError(f"text is {values['text']!r}, wanted a text")
        return cls(**values)


def compare_library(
    pairs: Sequence[tuple[bool, bool]], margin: float, slack: float = 0.0
) -> LibraryVerdict:
    """Whether the challenger finds fewer falls, or at most `margin` fewer.

    Both tests are at `LEVEL`, each for itself: of challengers that find as many falls, at most 5 in
    100 (and of both directions together) are called different; of those that find `margin` fewer,
    at most 5 in 100 are called not worse.

    Args:
        pairs: (champion found it, challenger found it), one of each fall.
        margin: between 0 and 1, both excluded.
        slack: a loss of up to so much is not called worse, however certain it is; as the margin.

    Raises:
        ValueError: a margin that is not.
    """
    found = [(bool(champion), bool(challenger)) for champion, challenger in pairs]
    falls = len(found)
    both, champion_only = found.count((True, True)), found.count((True, False))
    challenger_only, neither = found.count((False, True)), found.count((False, False))
    p_two_sided = mcnemar(champion_only, challenger_only)
    p_worse = p_two_sided if champion_only > challenger_only else 1.0
    p_non_inferior = non_inferiority(falls, champion_only, challenger_only, margin)
    verdict: Verdict = "undecided"
    if p_worse <= LEVEL and champion_only - challenger_only > slack * falls:
        verdict = "worse"
    elif p_non_inferior <= LEVEL:
        verdict = "not_worse"
    power = mcnemar_power(falls)
    points = f"{100 * margin:g} points"
    says = {
        "worse": "the challenger finds fewer",
        "not_worse": f"the challenger's sensitivity is less than {points} below the champion's",
        "undecided": f"whether the challenger's sensitivity is {points} below the champion's is "
        "not decided",
    }[verdict]
    if p_worse <= LEVEL and verdict != "worse":
        lost = 100 * (champion_only - challenger_only) / falls
        says = f"the challenger finds {lost:.2g} % fewer, no more than may be lost, and {says}"
    text = (
        f"Of {falls} labelled falls both versions found {both}, the champion alone "
        f"{champion_only}, the challenger alone {challenger_only} and neither {neither}: {says} "
        f"(exact McNemar p {_p(p_two_sided)}, non-inferiority by a margin of {points} "
        f"p {_p(p_non_inferior)}); so many falls can tell {_share(POWER_CHAMPION)} from "
        f"{_share(POWER_CHALLENGER)} with probability {_share(power)}, where the challenger also "
        f"misses {100 * SHARED_MISSES:g} % of what the champion misses."
    )
    return LibraryVerdict(
        falls=falls,
        both=both,
        champion_only=champion_only,
        challenger_only=challenger_only,
        neither=neither,
        p_worse=p_worse,
        p_non_inferior=p_non_inferior,
        margin=margin,
        power=power,
        verdict=verdict,
        text=text,
    )


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p of McNemar's test, from the pairs in which two versions differ.

    Where both find as many, the one that found it is a fair coin in each such pair: twice the
    smaller tail of the binomial distribution. 1 without such pairs. Source: McNemar 1947,
    Psychometrika 12; the exact form by Cochran 1950, Biometrika 37.
    """
    if min(first_only, second_only) < 0:
        raise ValueError(f"counts may not be negative: {first_only}, {second_only}")
    differ = first_only + second_only
    return min(1.0, 2 * float(_below(min(first_only, second_only), differ, 0.5)))


def non_inferiority(falls: int, champion_only: int, challenger_only: int, margin: float) -> float:
    """Exact p of "the champion's sensitivity is higher by `margin` or more".

    Outcomes are ordered by the score statistic of the paired difference (Tango 1998, Statistics in
    Medicine 17); p is the probability of one at least as good for the challenger where the
    difference is `margin`, at the worst share of falls that the challenger alone finds. Larger
    differences make it only less likely (Sidik 2003, Statistics in Medicine 22). 1 without falls.

    Raises:
        ValueError: counts that cannot be, or a margin that is not between 0 and 1.
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin is {margin}, wanted between 0 and 1")
    if min(champion_only, challenger_only, falls - champion_only - challenger_only) < 0:
        raise ValueError(
            f"{champion_only} and {challenger_only} falls found by one alone, of {falls} falls"
        )
    if not falls:
        return 1.0
    most = _as_good(falls, champion_only, challenger_only, margin)

    # Evenly in the angle: the tail changes as fast everywhere, on the scale 1 / sqrt(falls).
    angles = np.linspace(0.0, math.pi / 2, _GRID)
    tails = _tails(most, falls, margin, angles)
    # Between the points it may be higher still: looked at closely beside the highest.
    step = angles[1]
    peaks = angles[np.argsort(tails)[-_PEAKS:]]
    near = (peaks[:, None] + np.linspace(-step, step, _REFINED)).ravel()
    finer = _tails(most, falls, margin, np.clip(near, 0.0, math.pi / 2))
    return min(1.0, float(max(tails.max(), finer.max())))


def mcnemar_power(falls: int) -> float:
    """Probability that McNemar's exact test at `LEVEL` calls the challenger worse.

    For sensitivities `POWER_CHAMPION` and `POWER_CHALLENGER`, where the challenger misses
    `SHARED_MISSES` of the falls that the champion misses: .055 of all falls are found by the
    champion alone and .005 by the challenger alone.
    """
    challenger_only = (1 - POWER_CHAMPION) * (1 - SHARED_MISSES)
    champion_only = POWER_CHAMPION - POWER_CHALLENGER + challenger_only
    differ = np.arange(falls + 1)
    # For so many pairs that differ: of how many the challenger may be the finder to be called
    # worse. One pair more never lowers that number, and raises it by 1 at most.
    most = np.full(falls + 1, -1)
    for pairs in range(1, falls + 1):
        more = int(most[pairs - 1]) + 1
        worse = 2 * more < pairs and mcnemar(pairs - more, more) <= LEVEL
        most[pairs] = more if worse else more - 1
    weight = np.diff(_below(differ, falls, champion_only + challenger_only), prepend=0.0)
    worse_given = _below(most, differ, challenger_only / (champion_only + challenger_only))
    return float(np.clip(weight @ worse_given, 0.0, 1.0))


def _as_good(
    falls: int, champion_only: int, challenger_only: int, margin: float
) -> NDArray[np.int64]:
    """By falls of the challenger alone, 0 to `falls`: most of the champion alone; -1 for none.

    An outcome is as good for the challenger as the one seen where its statistic is not higher; the
    statistic grows with the champion's falls, so that in each row they are the first ones.
    """
    mine = np.arange(falls + 1)
    most = np.empty(falls + 1, np.int64)
    limit = float(_score(falls, np.array([champion_only]), challenger_only, margin)[0]) + _SAME
    for c in range(falls + 1):
        scores = _score(falls, mine[: falls - c + 1], c, margin)
        most[c] = np.count_nonzero(scores <= limit) - 1
    return most


def _score(falls: int, b: NDArray[np.int64], c: int, margin: float) -> NDArray[np.float64]:
    """Tango's statistic of b falls of the champion alone and c of the challenger alone."""
    # The likeliest share of the challenger's falls where the difference is the margin.
    linear = b + c + margin * (b - c) - 2 * falls * margin
    root = np.sqrt(linear**2 + 8 * falls * c * margin * (1 - margin))
    share = (linear + root) / (4 * falls)
    spread = falls * (2 * share + margin * (1 - margin))
    return np.asarray((b - c - falls * margin) / np.sqrt(spread), np.float64)


def _tails(
    most: NDArray[np.int64], falls: int, margin: float, angles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probability of the outcomes in `most` at each share of the challenger's falls."""
    share = ((1 - margin) / 2 * np.sin(angles) ** 2)[:, None]
    c = np.arange(falls + 1)
    weight = np.diff(_below(c, falls, share), axis=1, prepend=0.0)
    given = _below(most, falls - c, np.minimum(1.0, (share + margin) / (1 - share)))
    return np.asarray((weight * given).sum(axis=1), np.float64)


def _below(
    k: int | NDArray[np.int64], n: int | NDArray[np.int64], p: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """P(at most k of n), binomial; 0 for negative k."""
    # Comes with lightgbm, and takes long to load.
    from scipy.special import bdtr

    k = np.asarray(k)
    return np.where(k < 0, 0.0, bdtr(np.maximum(k, 0), n, p))


def _p(value: float) -> str:
    if value < 0.001:
        return "< .001"
    # One place more where it is near the level.
    return f"= {_share(value) if value >= 0.1 else f'{value:.3f}'.lstrip('0')}"


def _share(value: float) -> str:
    if 0.005 <= value < 0.995:
        return f"{value:.2f}".lstrip("0")
    if value in (0, 1):
        return f"{value:.0f}"
    return "under .01" if value < 0.5 else "over .99"
