"""The site as a Dagster resource. What belongs here: configuration; no work is done."""

from pathlib import Path
from typing import Any

import dagster as dg

from fall_assets.lake import Lake
from fall_assets.site import Site, SiteSettings, read_settings, site_from_environment


class SiteResource(dg.ConfigurableResource[Any]):
    """Where the site keeps its lake and its footage; empty fields come from the environment."""

    root: str = ""
    landing: str = ""
    config: str = ""

    def site(self) -> Site:
        """The site's folders and settings."""
        if not self.root:
            return site_from_environment()
        root = Path(self.root).resolve()
        return Site(
            root=root,
            landing=Path(self.landing).resolve() if self.landing else root / "landing",
            settings=read_settings(Path(self.config)) if self.config else SiteSettings(),
            webhook_url=site_from_environment().webhook_url,
            owner_webhook_url=site_from_environment().owner_webhook_url,
            technician_urls=site_from_environment().technician_urls,
        )

    def lake(self) -> Lake:
        """The site's lake."""
        return Lake(self.site().lake_root)
