"""The exact tests are exact: against enumeration, in their size, and in their power."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

from fall_assets.rollout.library import (
    LEVEL,
    POWER_CHALLENGER,
    POWER_CHAMPION,
    SHARED_MISSES,
    LibraryVerdict,
    compare_library,
    mcnemar,
    mcnemar_power,
    non_inferiority,
)

MARGINS = (0.05, 0.1, 0.25)


def falls_of(both: int, champion: int, challenger: int, neither: int) -> list[tuple[bool, bool]]:
    return (
        [(True, True)] * both
        + [(True, False)] * champion
        + [(False, True)] * challenger
        + [(False, False)] * neither
    )


def outcomes(falls: int) -> Iterator[tuple[int, int]]:
    for champion in range(falls + 1):
        for challenger in range(falls - champion + 1):
            yield champion, challenger


def probability(falls: int, b: int, c: int, p_b: float, p_c: float) -> float:
    ways = math.comb(falls, b) * math.comb(falls - b, c)
    return float(ways * p_b**b * p_c**c * max(0.0, 1 - p_b - p_c) ** (falls - b - c))


def score(falls: int, b: int, c: int, margin: float) -> float:
    """Tango's statistic with the share found by a search, not by his formula."""

    def less_likely(share: float) -> float:
        cells = ((b, share + margin), (c, share), (falls - b - c, 1 - 2 * share - margin))
        return -sum(count * math.log(max(part, 1e-300)) for count, part in cells if count)

    top = (1 - margin) / 2
    found = minimize_scalar(
        less_likely, bounds=(0, top), method="bounded", options={"xatol": 1e-12}
    )
    share = min((0.0, top, float(found.x)), key=less_likely)
    return (b - c - falls * margin) / math.sqrt(falls * (2 * share + margin - margin**2))


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test_and_symmetric(first: int, second: int) -> None:
    p = mcnemar(first, second)
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert p == pytest.approx(expected, rel=1e-9)
    assert mcnemar(second, first) == p


@pytest.mark.parametrize("falls", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("margin", MARGINS)
def test_non_inferiority_is_what_enumeration_gives(falls: int, margin: float) -> None:
    statistic = {seen: score(falls, *seen, margin) for seen in outcomes(falls)}
    shares = np.linspace(0, (1 - margin) / 2, 801)
    for seen, limit in statistic.items():
        as_good = [other for other, value in statistic.items() if value <= limit + 1e-6]
        worst = max(
            sum(probability(falls, *other, share + margin, share) for other in as_good)
            for share in shares
        )
        assert non_inferiority(falls, *seen, margin) == pytest.approx(worst, abs=2e-5), seen


@cache
def rejected(falls: int, margin: float) -> tuple[int, ...]:
    """By falls of the challenger alone: the most of the champion alone that pass, -1 for none.

    Walks along the border; that there is one, the test after the next says.
    """
    border, most = [], -1
    for c in range(falls + 1):
        most = min(most, falls - c)
        while most < falls - c and non_inferiority(falls, most + 1, c, margin) <= LEVEL:
            most += 1
        border.append(most)
    return tuple(border)


def chance_of_rejecting(
    border: tuple[int, ...], p_b: NDArray[np.float64], p_c: NDArray[np.float64]
) -> NDArray[np.float64]:
    falls = len(border) - 1
    total = np.zeros_like(p_b)
    for c, most in enumerate(border):
        for b in range(most + 1):
            ways = math.comb(falls, b) * math.comb(falls - b, c)
            rest = np.clip(1 - p_b - p_c, 0, 1)
            total += ways * p_b**b * p_c**c * rest ** (falls - b - c)
    return total


@pytest.mark.parametrize("margin", MARGINS)
def test_of_challengers_at_the_margin_at_most_one_in_twenty_passes(margin: float) -> None:
    fullest = 0.0
    for falls in range(1, 41):
        border = rejected(falls, margin)
        # At the margin, and beyond it.
        for difference in (margin, *np.linspace(margin, 1, 6)[1:-1]):
            p_c = np.linspace(0, (1 - difference) / 2, 3001)
            size = chance_of_rejecting(border, p_c + difference, p_c)
            assert size.max() <= LEVEL + 1e-9, (falls, difference)
            if difference == margin:
                fullest = max(fullest, float(size.max()))
    assert fullest > 0.9 * LEVEL, "the level is not made use of"


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 40), st.sampled_from(MARGINS))
def test_a_fall_more_for_the_challenger_is_never_evidence_against_it(
    data: st.DataObject, falls: int, margin: float
) -> None:
    b = data.draw(st.integers(0, falls))
    c = data.draw(st.integers(0, falls - b))
    p = non_inferiority(falls, b, c, margin)
    assert 0 <= p <= 1
    if b:
        assert non_inferiority(falls, b - 1, c, margin) <= p + 1e-9
        assert non_inferiority(falls, b - 1, c + 1, margin) <= p + 1e-9
    if b + c < falls:
        assert non_inferiority(falls, b, c + 1, margin) <= p + 1e-9


@pytest.mark.parametrize("falls", [30, 70, 190])
def test_the_power_is_what_drawing_falls_gives(falls: int) -> None:
    random, draws = np.random.default_rng(7), 4000
    champion_misses = random.random((draws, falls)) < 1 - POWER_CHAMPION
    # Shared misses, and as many of the others as make up the challenger's sensitivity.
    own = (1 - POWER_CHALLENGER - (1 - POWER_CHAMPION) * SHARED_MISSES) / POWER_CHAMPION
    chance = np.where(champion_misses, SHARED_MISSES, own)
    challenger_misses = random.random((draws, falls)) < chance
    assert challenger_misses.mean() == pytest.approx(1 - POWER_CHALLENGER, abs=0.005)
    worse = 0
    for first, second in zip(champion_misses, challenger_misses, strict=True):
        alone = int((~first & second).sum()), int((first & ~second).sum())
        worse += alone[0] > alone[1] and mcnemar(*alone) <= LEVEL
    power = mcnemar_power(falls)
    assert worse / draws == pytest.approx(power, abs=5 * math.sqrt(power * (1 - power) / draws))


def test_the_power_says_how_many_falls_it_takes() -> None:
    assert mcnemar_power(0) == 0
    assert mcnemar_power(5) == 0, "five falls cannot be told from a coin's"
    assert mcnemar_power(70) == pytest.approx(0.14, abs=0.005)
    assert mcnemar_power(112) == pytest.approx(0.43, abs=0.005)
    assert mcnemar_power(190) == pytest.approx(0.80, abs=0.005)


@pytest.mark.parametrize(
    ("cells", "verdict", "direction"),
    [
        ((0, 0, 0, 0), "undecided", "as many"),
        ((60, 0, 0, 0), "not_worse", "as many"),
        ((20, 0, 0, 0), "undecided", "as many"),
        ((50, 5, 0, 5), "undecided", "fewer"),
        ((50, 6, 0, 4), "worse", "fewer"),
        ((50, 0, 6, 4), "not_worse", "more"),
        # Worse for certain, though by less than the margin for certain.
        ((970, 20, 5, 5), "worse", "fewer"),
    ],
)
def test_the_verdict(cells: tuple[int, int, int, int], verdict: str, direction: str) -> None:
    told = compare_library(falls_of(*cells), 0.1)
    assert (told.verdict, told.direction) == (verdict, direction)
    assert (told.both, told.champion_only, told.challenger_only, told.neither) == cells
    assert told.falls == sum(cells)
    assert told.p_mcnemar == mcnemar(cells[1], cells[2])
    assert told.p_worse == (told.p_mcnemar if direction == "fewer" else 1.0)
    assert told.p_non_inferior == non_inferiority(told.falls, cells[1], cells[2], 0.1)
    assert told.power == mcnemar_power(told.falls)


def test_worse_goes_before_not_worse() -> None:
    told = compare_library(falls_of(970, 20, 5, 5), 0.1)
    assert told.p_non_inferior < LEVEL
    assert told.p_worse < LEVEL


def test_a_certain_loss_within_the_slack_is_not_worse() -> None:
    told = compare_library(falls_of(970, 20, 5, 5), 0.1, 0.02)
    assert told.verdict == "not_worse"
    assert told.p_worse < LEVEL
    assert "finds 1.5 % fewer, no more than may be lost" in told.text
    assert compare_library(falls_of(970, 20, 5, 5), 0.1, 0.01).verdict == "worse"


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_exchanged_versions_give_the_other_direction(pairs: list[tuple[bool, bool]]) -> None:
    one = compare_library(pairs, 0.1)
    other = compare_library([(second, first) for first, second in pairs], 0.1)
    assert one.p_mcnemar == other.p_mcnemar
    opposite = {"fewer": "more", "more": "fewer", "as many": "as many"}
    assert one.direction == opposite[other.direction]
    assert min(one.p_worse, other.p_worse) == one.p_mcnemar
    assert max(one.p_worse, other.p_worse) == 1
    assert LibraryVerdict.from_dict(json.loads(json.dumps(one.as_dict()))) == one


def test_the_sentence_has_all_numbers() -> None:
    told = compare_library(falls_of(58, 5, 4, 3), 0.1)
    assert told.text == (
        "Of 70 labelled falls both versions found 58, the champion alone 5, the challenger alone "
        "4 and neither 3: the challenger's sensitivity is less than 10 points below the champion's "
        "(exact McNemar p = 1, non-inferiority by a margin of 10 points p = .047); so many falls "
        "can tell .95 from .90 with probability .14, where the challenger also misses 90 % of "
        "what the champion misses."
    )


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ((50, 6, 0, 4), ": the challenger finds fewer (exact McNemar p = .031,"),
        (
            (50, 5, 0, 5),
            ": whether the challenger's sensitivity is 10 points below the champion's is not "
            "decided (exact McNemar p = .06",
        ),
        ((970, 20, 5, 5), "p < .001); so many falls can tell .95 from .90 with probability over"),
    ],
)
def test_the_sentence_says_the_verdict(cells: tuple[int, int, int, int], says: str) -> None:
    assert says in compare_library(falls_of(*cells), 0.1).text


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys, fall_assets.rollout.assignment, fall_assets.rollout.guards, "
        "fall_assets.rollout.library; print('scipy' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


@pytest.mark.parametrize("margin", [0.0, 1.0, -0.1, math.nan])
def test_a_margin_that_cannot_be_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="wanted between 0 and 1"):
        compare_library([(True, True)], margin)
    with pytest.raises(ValueError, match="wanted between 0 and 1"):
        compare_library([], margin)


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="of 3 falls"):
        non_inferiority(3, 2, 2, 0.1)
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"both": 1.0}, "both is 1.0, wanted a whole number"),
        ({"neither": -1}, "neither is -1"),
        ({"falls": 4}, "falls is 4, but the four cells sum"),
        ({"power": 1.5}, "power is 1.5"),
        ({"p_worse": None}, "p_worse is None"),
        ({"verdict": "good"}, "there are: worse, not_worse, undecided"),
        ({"text": 3}, "text is 3"),
        ({"mood": "bad"}, "does not know: mood"),
    ],
)
def test_a_stored_verdict_that_cannot_be_is_refused(change: dict[str, Any], says: str) -> None:
    values = compare_library(falls_of(3, 0, 0, 0), 0.1).as_dict()
    with pytest.raises(ValueError, match=says):
        LibraryVerdict.from_dict(values | change)
