"""Chromium for tests, driven by Selenium; they are skipped where it is missing."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

__all__ = ["By", "Keys", "Select", "StaleElementReferenceException"]

Driver = webdriver.Chrome
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}

_axe = importlib.util.find_spec("axe_core_python")
AXE = Path(_axe.origin or "").with_name("axe.min.js") if _axe else Path("axe.min.js")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed"
)


@contextmanager
def opened(profile: Path) -> Iterator[Driver]:
    """A browser that knows nothing yet, as on a desktop."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(30)
    driver.set_script_timeout(30)
    resize(driver, "desktop")
    try:
        yield driver
    finally:
        driver.quit()


def resize(browser: Driver, size: str, height: int | None = None) -> None:
    """Show the page as on such a device."""
    width, usual = SIZES[size]
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": width,
            "height": height or usual,
            "deviceScaleFactor": 1,
            "mobile": size == "phone",
        },
    )
