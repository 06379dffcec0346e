"""Folders and settings of a site."""

from __future__ import annotations

from pathlib import Path

import pytest

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
