"""A model that falls under the floors stays out of the registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg

from fall_assets.pipeline.models import tracking
from fall_assets_tests.site import SETTINGS, TestSite, new_site


def test_a_refused_candidate_is_not_registered(lived_in: TestSite, tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    for folder in ("lake", "landing", "mlflow"):
        shutil.copytree(lived_in.root / folder, site.root / folder, dirs_exist_ok=True)
    impossible = SETTINGS.replace("min_sensitivity = 0.0", "min_sensitivity = 1.5")
    (site.root / "site.toml").write_text(impossible)
    before = site.rows()

    result = site.execute("retraining", fails=True)

    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    refused = checks["candidate_may_be_registered"]
    assert not refused.passed
    assert "below the floor 1.500" in str(refused.description)
    assert not result.events_for_node("registered_model")
    after = site.rows()
    assert after["candidate_model"] == before["candidate_model"] + 1
    assert after["registered_model"] == before["registered_model"]
    assert tracking(site.work.site).challenger() is None
    event = site.instance.get_latest_materialization_event(dg.AssetKey("drift_reference"))
    assert event is None
