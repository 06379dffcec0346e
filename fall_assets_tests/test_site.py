"""Folders and settings of a site."""

from __future__ import annotations

from pathlib import Path

import pytest

from fall_assets.lake.registry import ALERT_KINDS
from fall_assets.site import SettingsError, SiteSettings, read_settings, site_from_environment

REPOSITORY = Path(__file__).parents[1]


def test_the_settings_file_states_the_defaults() -> None:
    assert read_settings(REPOSITORY / "data" / "site.toml") == SiteSettings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[footage]\ntemplat = 'x'", r"\[footage\] no setting 'templat'; there are: settle_s"),
        ("[learning]\nseed = 'one'", "seed must be int, not str"),
        ("learning = 3", "learning must be a table"),
        ("[learning", "not valid TOML"),
        ("[gate]\nmin_sensitivity = true", "min_sensitivity must be float, not bool"),
    ],
)
def test_what_is_no_setting_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said) as caught:
        read_settings(file)
    assert str(file) in str(caught.value)


def test_wards_choose_what_they_are_told(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(
        """
[alerts]
deliver = ["fall", "fall_out_of_bed"]
[[alerts.wards]]
ward = "Geriatrics"
[[alerts.wards]]
ward = "Sleep laboratory"
deliver = []
"""
    )
    choice = read_settings(file).alerts
    told = {
        ward: [kind for kind in ALERT_KINDS if choice.delivers(ward, kind)]
        for ward in ("Surgery", "Geriatrics", "Sleep laboratory")
    }
    assert told == {
        "Surgery": ["fall", "fall_out_of_bed"],
        "Geriatrics": list(ALERT_KINDS),
        "Sleep laboratory": [],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[alerts]\ndeliver = ['fall', 'falls']",
            r"\[alerts\] deliver names 'falls', which is no kind of alert; correct it or take it "
            "out; there are: fall, fall_onto_bed, fall_out_of_bed",
        ),
        ("[[alerts.wards]]\nward = 'A'\ndeliver = ['x']", r"\[\[wards\]\] 1 deliver names 'x'"),
        ("[[alerts.wards]]\ndeliver = ['fall']", r"\[alerts\] \[\[wards\]\] 1 names no ward: add"),
        (
            "[[alerts.wards]]\nward = 'A'\n[[alerts.wards]]\nward = 'A'",
            r"\[alerts\] \[\[wards\]\] names 'A' more than once: keep one",
        ),
        ("[alerts]\ndeliver = 'fall'", "deliver must be a list of texts"),
        ("[alerts]\nwards = ['A']", "wards must be a list of tables"),
        ("[[alerts.wards]]\nunit = 'A'", "no setting 'unit'; there are: deliver, ward"),
    ],
)
def test_choices_that_cannot_be_are_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said) as caught:
        read_settings(file)
    assert str(file) in str(caught.value)


def test_the_environment_decides_where_things_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    site = site_from_environment()
    assert site.root == tmp_path / "data" / "simulated"
    assert site.is_simulated
    monkeypatch.setenv("FALL_FOOTAGE", str(tmp_path / "recordings"))
    monkeypatch.setenv("FALL_SITE", str(tmp_path / "ward"))
    site = site_from_environment()
    assert site.landing == tmp_path / "recordings"
    assert site.lake_root == tmp_path / "ward" / "lake"
    assert not site.is_simulated


def test_feature_sets_come_from_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(
        """
[features]
workers = 3
[features.detector]
sample_hz = 8.0
gate = { after_s = 15.0 }
[[features.more]]
extractor = { kind = "embedding", backbone = "efficientnet_lite0" }
picture = { long_side = 224, colour = false }
sample_hz = 2.0
[[features.more]]
extractor = { kind = "motion", columns = 16 }
picture = { long_side = 160, colour = false, crop = { x0 = 0.0, y0 = 0.2, x1 = 1.0, y1 = 1.0 } }
"""
    )
    features = read_settings(path).features
    detector, embedding, motion = features.sets
    assert (features.workers, detector.sample_hz) == (3, 8.0)
    assert detector.gate is not None
    assert detector.gate.after_s == 15.0
    assert embedding.version.startswith("embedding-")
    assert motion.picture.crop.y0 == 0.2
    assert read_settings(path).features.sets == features.sets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[features.detector]\nsample = 3", r"features\] detector: .*'sample'"),
        ('[features.detector.extractor]\nkind = "motion"', "must be a set of people"),
        ("[[features.more]]\nsample_hz = 0", "sample_hz"),
        ("[features]\nworkers = 0", "workers"),
        ("[features]\nmore = 3", "list of tables"),
    ],
)
def test_feature_sets_that_cannot_be_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_settings(path)
