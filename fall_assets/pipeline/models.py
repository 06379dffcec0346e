"""Models: the tracking store, the registry, and the detector that serves."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from fall_assets.errors import PermanentFailureError
from fall_assets.site import Site

if TYPE_CHECKING:
    from fall_assets.learning.detector import Detector
    from fall_assets.learning.tracking import Tracking


def tracking(site: Site) -> Tracking:
    """The site's tracking store and registry. Loads MLflow."""
    return _tracking(site.tracking_uri, site.mlflow_root)


@functools.lru_cache(maxsize=8)
def _tracking(uri: str, root: Path) -> Tracking:
    from fall_assets.learning.tracking import Tracking

    root.mkdir(parents=True, exist_ok=True)
    return Tracking(uri, root / "artifacts")


def champion(site: Site) -> tuple[Detector, str]:
    """The detector that serves and its version.

    Raises:
        PermanentFailureError: none is registered.
    """
    serving = tracking(site).champion()
    if serving is None:
        raise PermanentFailureError(
            "no champion is registered yet: run the lifecycle (make run), or name a model with "
            "--model RUN_ID"
        )
    return tracking(site).load_detector(serving.run_id), serving.version


def model_of_run(site: Site, run_id: str) -> tuple[Detector, str]:
    """The detector of a run, registered or not, and the run's id as its version."""
    return tracking(site).load_detector(run_id), run_id
