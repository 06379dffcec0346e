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
for name in (
    "FALL_SITE",
    "FALL_FOOTAGE",
    "FALL_CONFIG",
    "FALL_WEBHOOK_URL",
    "FALL_OWNER_WEBHOOK_URL",
    "MLFLOW_TRACKING_URI",
):
    os.environ.pop(name, None)

from hypothesis import settings  # noqa: E402
from xdist.remote import Producer  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

LIVED_IN = {
    "fall_assets_tests/test_cli.py",
    "fall_assets_tests/dagster_layer/test_edge.py",
    "fall_assets_tests/dagster_layer/test_gate.py",
    "fall_assets_tests/dagster_layer/test_killed.py",
    "fall_assets_tests/dagster_layer/test_lifecycle.py",
}
SLOW = ("fall_assets_tests/dagster_layer/", "fall_assets_tests/test_cli.py")

# No test asserts a time.
settings.register_profile("here", deadline=None)
settings.load_profile("here")

from fall_assets_tests.site import DAYS, TestSite, fill, new_site  # noqa: E402


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Files stay together, and so do all files whose tests share the lived-in hospital."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "lived-in" if file in LIVED_IN else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Scheduling:
    """How tests are dealt out to processes (`make test`)."""
    return _Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest groups."""
    items.sort(key=lambda item: not item.nodeid.startswith(SLOW))


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
