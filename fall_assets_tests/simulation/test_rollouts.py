"""Counts of two versions: the rates that were asked for, and the same again from the same seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from fall_assets.rollout.assignment import assign
from fall_assets.rollout.evidence import EVIDENCE_SCHEMA, arm
from fall_assets.simulation.rollouts import (
    LATEST_ANSWER_D,
    Site,
    SiteDay,
    SiteSpec,
    Version,
)

MONDAY = date(2026, 3, 2)
BUSY = SiteSpec(
    cameras=60,
    wards=4,
    false_alarms=0.4,
    falls=0.2,
    answered=0.6,
    answer_days=1.0,
    reported=0.5,
    abstained_h=0.5,
    burst=1.5,
    outages=0.2,
    night_cameras=0.1,
)


def days(site: Site, count: int) -> list[SiteDay]:
    return [site.day(MONDAY + timedelta(days=number)) for number in range(count)]


def total(counted: list[SiteDay], of: Callable[[SiteDay], Any]) -> Any:
    return np.sum([of(day) for day in counted], axis=0)


def fits(counts: Any, expected: Any) -> bool:
    """Pearson's chi-square test of Poisson counts, at one in a million."""
    squares = ((np.asarray(counts) - expected) ** 2 / expected).sum()
    low, high = chi2.ppf([5e-7, 1 - 5e-7], np.size(counts))
    return bool(low < squares < high)


def test_every_camera_has_the_rates_that_were_asked_for() -> None:
    site = Site(SiteSpec(cameras=200, false_alarms=0.1), Version(ratio=2.0), seed=1)
    many = days(site, 400)
    champion = total(many, lambda day: day.false_alarms("champion"))
    challenger = total(many, lambda day: day.false_alarms("challenger"))
    assert fits(champion, np.full(200, 40.0))
    assert fits(challenger, np.full(200, 80.0))
    assert not fits(challenger, np.full(200, 40.0))


def test_cameras_that_differ_keep_their_rates_and_the_loud_ward_is_loud() -> None:
    spec = SiteSpec(cameras=400, false_alarms=0.2, spread="gamma", spread_cv=0.7)
    loud = Site(replace(spec, loud_ward=10.0), Version(ratio=0.5), seed=2)
    many = days(loud, 200)
    assert fits(total(many, lambda day: day.false_alarms("champion")), loud.rates[0] * 200)
    assert fits(total(many, lambda day: day.false_alarms("challenger")), loud.rates[1] * 200)
    alike = Site(spec, Version(), seed=2).rates[0]
    np.testing.assert_allclose(loud.rates[0][loud.ward == 0], 10 * alike[loud.ward == 0])
    wide = Site(replace(spec, cameras=20_000), Version(), seed=3).rates[0]
    assert wide.mean() == pytest.approx(0.2, rel=0.03)
    assert wide.std() / wide.mean() == pytest.approx(0.7, rel=0.05)


@pytest.mark.parametrize("concordance", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_the_share_of_false_alarms_that_both_raise(concordance: float, ratio: float) -> None:
    spec = SiteSpec(cameras=300, false_alarms=0.2, concordance=concordance)
    many = days(Site(spec, Version(ratio=ratio), seed=4), 200)
    both = sum(int(day.alarm_by.all(axis=1).sum()) for day in many)
    quieter = sum(day.alarm_by.sum(axis=0) for day in many).min()
    assert both / quieter == pytest.approx(concordance, abs=0.02)
    assert all(day.alarm_by.any(axis=1).all() for day in many)


def test_nights_and_weekends_change_when_alarms_come_and_not_how_many_an_ordinary_day_has() -> None:
    spec = SiteSpec(cameras=500, false_alarms=0.3, night=0.2, night_cameras=0.5, weekend=0.4)
    many = days(Site(spec, Version(), seed=5), 280)
    is_night = many[0].camera_days < 0.5
    assert 0.4 < is_night.mean() < 0.6
    assert set(np.round(many[0].camera_days, 6)) == {round(1 / 3, 6), 1.0}

    def rate(watch: Any, weekend: bool) -> float:
        chosen = [day for day in many if (day.day.weekday() >= 5) == weekend]
        counts = total(chosen, lambda day: day.false_alarms("champion"))
        return float(counts[watch].mean() / len(chosen))

    assert rate(~is_night, weekend=False) == pytest.approx(0.3, rel=0.03)
    assert rate(~is_night, weekend=True) == pytest.approx(0.12, rel=0.06)
    # A third of the day at a fifth of the day's rate: (1/3 * 0.2) / (2/3 + 1/3 * 0.2) of 0.3.
    assert rate(is_night, weekend=False) == pytest.approx(0.3 / 11, rel=0.1)


def test_outages_shorten_the_watch_and_lose_alarms_in_proportion() -> None:
    many = days(Site(SiteSpec(cameras=500, false_alarms=0.5, outages=0.5), Version(), seed=6), 100)
    watched = total(many, lambda day: day.camera_days).sum()
    assert watched == pytest.approx(0.75 * 50_000, rel=0.02)
    alarms = total(many, lambda day: day.false_alarms("champion")).sum()
    assert alarms / watched == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize(
    ("ward_shock", "site_shock", "together"),
    [(1.0, 0.0, "ward"), (0.0, 1.0, "site"), (0.0, 0.0, "nobody")],
)
def test_who_hangs_together(ward_shock: float, site_shock: float, together: str) -> None:
    spec = SiteSpec(
        cameras=400, wards=10, false_alarms=0.3, ward_shock=ward_shock, site_shock=site_shock
    )
    site = Site(spec, Version(), seed=7)
    counts = np.stack([day.false_alarms("champion") for day in days(site, 300)])
    by_ward = np.stack([counts[:, site.ward == ward].sum(axis=1) for ward in range(10)])
    within = by_ward.var(axis=1).mean() / by_ward.mean()
    between = np.corrcoef(by_ward)[np.triu_indices(10, 1)].mean()
    assert counts.mean() == pytest.approx(0.3, rel=0.2)
    # A factor of variance 1 adds the square of the mean, 12 alarms of a ward, to Poisson's.
    assert (within > 8) == (together != "nobody")
    assert (between > 0.5) == (together == "site")
    assert abs(between) < 0.05 or together == "site"


def test_bursts_keep_the_rate_and_scatter_more() -> None:
    spec = SiteSpec(cameras=400, false_alarms=0.3, burst=3.0)
    counts = np.stack(
        [day.false_alarms("challenger") for day in days(Site(spec, Version(), seed=8), 200)]
    )
    assert counts.mean() == pytest.approx(0.3, rel=0.05)
    # Of a Poisson number of geometric clusters: (2 m^2 - m) / m over the mean.
    assert counts.var() / counts.mean() == pytest.approx(2 * 3.0 - 1, rel=0.1)


def test_a_version_that_suits_some_cameras_is_as_good_on_the_whole() -> None:
    spec = SiteSpec(cameras=20_000, camera_effect=0.5)
    champion, challenger = Site(spec, Version(ratio=1.5), seed=9).rates
    ratios = challenger / champion
    assert ratios.mean() == pytest.approx(1.5, rel=0.02)
    assert ratios.std() / ratios.mean() == pytest.approx(0.5, rel=0.05)


def test_falls_are_found_as_often_and_as_late_as_asked() -> None:
    spec = SiteSpec(cameras=500, falls=0.1, fall_concordance=1.0)
    versions = (Version(sensitivity=0.95, delay_s=8.0), Version(sensitivity=0.8, delay_s=20.0))
    many = days(Site(spec, versions[1], versions[0], seed=10), 200)
    found = np.concatenate([day.fall_by for day in many])
    delays = np.concatenate([day.fall_delay_s for day in many])
    assert len(found) == pytest.approx(10_000, rel=0.05)
    np.testing.assert_allclose(found.mean(axis=0), [0.95, 0.8], atol=0.02)
    assert not (found[:, 1] & ~found[:, 0]).any()
    np.testing.assert_allclose(np.median(delays, axis=0), [8.0, 20.0], rtol=0.05)
    apart = days(Site(replace(spec, fall_concordance=0.0), *versions[::-1], seed=10), 200)
    found = np.concatenate([day.fall_by for day in apart])
    assert (found[:, 1] & ~found[:, 0]).mean() == pytest.approx(0.8 * 0.05, abs=0.01)


def test_the_same_seed_gives_the_same_day_in_any_order_and_another_does_not() -> None:
    first, again = Site(BUSY, Version(), seed=11), Site(BUSY, Version(), seed=11)
    later = first.day(MONDAY + timedelta(days=9))
    assert fields(later) == fields(days(again, 10)[-1])
    assert fields(later) != fields(days(Site(BUSY, Version(), seed=12), 10)[-1])
    assert fields(later) != fields(first.day(MONDAY))


def fields(day: SiteDay) -> list[Any]:
    return [getattr(day, name).tolist() for name in vars(day) if name != "day"]


def evidence(site: Site, share: float, seed: int, as_of: date, shadows: Any = "groups") -> Any:
    places = assign(f"rollout-{seed}", site.traits, share)
    live, shadow = site.live(places), site.shadow(places, shadows)
    return live, shadow, site.evidence(site.day(MONDAY), live, shadow, as_of)


@settings(max_examples=25, deadline=None)
@given(
    share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    seed=st.integers(0, 1000),
    shadows=st.sampled_from(["none", "groups", "all"]),
    later=st.integers(0, 5),
)
def test_the_frame_holds_the_days_counts(share: float, seed: int, shadows: Any, later: int) -> None:
    site = Site(BUSY, Version(ratio=1.5), seed=seed)
    day, as_of = site.day(MONDAY), MONDAY + timedelta(days=later)
    live, shadow, frame = evidence(site, share, seed, as_of, shadows)
    assert dict(frame.schema) == dict(EVIDENCE_SCHEMA)
    assert frame.select("camera_id", "role").is_unique().all()
    watching = day.camera_days > 0
    heard = 0
    for column, role in enumerate(("champion", "challenger")):
        raises = live if column else ~live
        own = frame.filter(pl.col("role") == role)
        where = np.flatnonzero((raises | shadow) & watching)
        assert own["camera_id"].to_list() == [site.camera_ids[row] for row in where]
        assert own["shadow"].to_list() == (~raises[where]).tolist()
        np.testing.assert_allclose(own["camera_days"].to_numpy(), day.camera_days[where])
        falls = np.bincount(day.fall_camera[day.fall_by[:, column]], minlength=60)
        expected = (day.false_alarms(role) + falls)[where]  # type: ignore[arg-type]
        assert own["alerts"].to_list() == expected.tolist()
        assert (own["confirmed"] + own["dismissed"] <= own["alerts"]).all()
        assert own["delays_s"].list.len().to_list() == own["confirmed"].to_list()
        heard += int(own.filter(~pl.col("shadow"))["alerts"].sum())
    assert heard == day.live_alerts(live)


def test_answers_come_late_and_only_to_what_a_ward_heard() -> None:
    spec = replace(BUSY, cameras=1000, reported=0.0, false_alarms=1.0, concordance=0.5)
    site = Site(spec, Version(), seed=13)
    arms = {
        later: [
            arm(evidence(site, 0.5, 1, MONDAY + timedelta(days=later))[2], role)
            for role in ("champion", "challenger")
        ]
        for later in (0, 1, LATEST_ANSWER_D, LATEST_ANSWER_D + 5)
    }
    answered = [[a.dismissed for a in of] for of in arms.values()]
    assert answered == sorted(answered)
    assert answered[0][0] < answered[1][0] < answered[2][0]
    assert answered[2] == answered[3]
    live, _, frame = evidence(site, 0.5, 1, MONDAY + timedelta(days=9))
    by_shadow = {
        shadow: rows["dismissed"].sum() / (rows["alerts"] - rows["confirmed"]).sum()
        for (shadow,), rows in frame.group_by("shadow")
    }
    # Of what a shadow raised alone nobody can say anything. Falls that nobody confirmed count as
    # false alarms: a little under the shares of the false ones.
    assert 0.5 < by_shadow[False] < 0.6
    assert 0.24 < by_shadow[True] < 0.32
    assert live.sum() == 500


def test_falls_that_staff_report_are_known_the_day_after_and_show_what_was_missed() -> None:
    spec = replace(BUSY, cameras=1000, answered=0.0, reported=1.0, fall_concordance=1.0)
    site = Site(spec, Version(sensitivity=0.5), Version(sensitivity=1.0), seed=14)
    day, everywhere = site.day(MONDAY), np.ones(1000, dtype=bool)
    tomorrow = MONDAY + timedelta(days=1)
    lost = int((~day.fall_by[:, 1]).sum())
    assert lost > 0
    assert day.missed(everywhere, everywhere, MONDAY) == 0
    assert day.missed(everywhere, everywhere, tomorrow) == lost
    assert day.missed(everywhere, ~everywhere, tomorrow) == 0
    assert day.missed(~everywhere, everywhere, tomorrow) == 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"wards": 0}, "wards"),
        ({"wards": 2000}, "wards"),
        ({"burst": 0.5}, "burst"),
        ({"answered": 1.5}, "answered"),
        ({"false_alarms": -1.0}, "false_alarms"),
    ],
)
def test_a_site_that_cannot_be_is_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        SiteSpec(**change)
