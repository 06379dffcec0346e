"""What all tests share: no telemetry, no network, and one small hospital per session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
for name in ("FALL_SITE", "FALL_FOOTAGE", "FALL_CONFIG", "FALL_WEBHOOK_URL", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)

from fall_assets_tests.site import DAYS, TestSite, fill, new_site  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares an expensive fixture, and start with the longest group."""
    shared = {item: "lived_in" in getattr(item, "fixturenames", ()) for item in items}
    for item, is_shared in shared.items():
        group = "lived-in" if is_shared else item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: not shared[item])


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landing folder of the small hospital; copy it before changing it."""
    landing = tmp_path_factory.mktemp("hospital") / "landing"
    landing.mkdir()
    fill(landing)
    return landing


@pytest.fixture(scope="session")
def lived_in(tmp_path_factory: pytest.TempPathFactory, hospital: Path) -> TestSite:
    """A site on which the lifecycle ran over all days; read it, do not change it."""
    site = new_site(tmp_path_factory.mktemp("lived-in") / "site")
    shutil.copytree(hospital, site.landing, dirs_exist_ok=True)
    site.execute("lifecycle", DAYS)
    return site


@pytest.fixture
def empty_site(tmp_path: Path) -> Iterator[TestSite]:
    """A site without footage."""
    site = new_site(tmp_path / "site")
    yield site
    site.instance.dispose()
