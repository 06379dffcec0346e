"""From a camera to a label: a box raises an alert, a nurse answers it in a browser, a label stands.

Real footage where it is at hand, a real gateway and box, each a process of its own, and Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from fall_assets.delivery.gateway import TOKEN_FILE, GatewaySettings
from fall_assets.delivery.onnx_export import write_model
from fall_assets.features.movenet import pose_network_path
from fall_assets.lake import Lake
from fall_assets.pipeline.collection import collect, refresh_cameras
from fall_assets.pipeline.gateway import receive
from fall_assets.pipeline.labelling import label
from fall_assets.pipeline.work import Work
from fall_assets.site import FootageSettings, Site, SiteSettings
from fall_assets_tests.edge.models import FEATURES, untrained
from fall_assets_tests.footage_samples import SAMPLES, needs_samples
from fall_assets_tests.gateway.browser import (
    By,
    Driver,
    StaleElementReferenceException,
    needs_chromium,
    opened,
)
from fall_assets_tests.gateway.running import GatewayProcess, eventually, running

FALL = SAMPLES / "urfd" / "fall" / "fall-01-cam0.mp4"
OTHER = SAMPLES / "urfd" / "fall" / "fall-02-cam0.mp4"
ROOM = "12 <b>left</b>"
SOME_DAY = datetime(2026, 3, 1, 8, tzinfo=UTC)


@needs_samples
@needs_chromium
def test_an_alert_of_a_box_is_answered_on_the_page_and_becomes_a_label(tmp_path: Path) -> None:
    root = tmp_path / "site"
    (root / "landing" / "cam-01").mkdir(parents=True)
    cameras = f"camera_id,ward,room,view\ncam-01,North,{ROOM},corner\n"
    (root / "landing" / "cameras.csv").write_text(cameras)
    model = tmp_path / "model"
    write_model(untrained(), "7", FEATURES, pose_network_path(), model)
    with running(tmp_path / "gateway") as gateway, opened(tmp_path / "profile") as browser:
        work = _site(root, gateway)
        _record(root / "landing", SOME_DAY, OTHER)
        collect(work, SOME_DAY.date())
        refresh_cameras(work)
        receive(work)
        browser.get(f"{gateway.url}/ward#token={gateway.token('ward', ward='North')}")
        _sees(browser, "#connection", "Connected")
        browser.find_element(By.ID, "name").send_keys("Nurse")
        box = _start_box(tmp_path / "box", gateway, model)
        try:
            _sees(browser, "#open .card", f"Room {ROOM}")
            assert box.wait(60) == 0
        finally:
            box.kill()
            box.wait()
        browser.find_element(By.CSS_SELECTOR, "#open .card [data-answer=fall]").click()
        _sees(browser, "#older", "Nurse says: was a fall")
        if folder := os.environ.get("FALL_SCREENSHOTS"):
            browser.save_screenshot(str(Path(folder) / "ward-end-to-end.png"))
        eventually(lambda: receive(work).rows["ward_answers"], why="the answer arrives")
    answered = work.lake.read("ward_answers")["alert_id"].item()
    alert = work.lake.read("edge_alerts").row(
        by_predicate=pl.col("alert_id") == answered, named=True
    )
    # The recorder's file of the same seconds comes later, as recorders write it.
    started = (alert["raised_utc"] - timedelta(seconds=2)).replace(microsecond=0)
    _record(root / "landing", started)
    collect(work, started.date())
    label(work, [started.date()])
    labels = work.lake.read("labels").filter(source="staff")
    assert labels.select("camera_id", "label", "annotator").rows() == [("cam-01", "fall", "Nurse")]


def _sees(browser: Driver, selector: str, text: str) -> None:
    def seen() -> bool:
        try:
            found = browser.find_elements(By.CSS_SELECTOR, selector)
            return any(text in one.text for one in found)
        except StaleElementReferenceException:
            return False

    eventually(seen, why=f"{text!r} is seen in {selector}", patience_s=60)


def _site(root: Path, gateway: GatewayProcess) -> Work:
    token = root / TOKEN_FILE
    token.write_text(gateway.token("platform"))
    token.chmod(0o600)
    settings = SiteSettings(
        gateway=GatewaySettings(gateway.url), footage=replace(FootageSettings(), settle_s=0.0)
    )
    site = Site(root, root / "landing", settings)
    return Work(site, Lake(site.lake_root), run_id="run-1")


def _start_box(folder: Path, gateway: GatewayProcess, model: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    token = folder / "token"
    token.write_text(gateway.token("box", box="box-1", cameras=["cam-01"]))
    token.chmod(0o600)
    config = folder / "edge.toml"
    config.write_text(
        f'box = "box-1"\ngateway = "{gateway.url}"\ntoken_file = "token"\nstate = "state"\n'
        f'[[cameras]]\nid = "cam-01"\nurl = "{FALL.as_uri()}"\nfps = 30\n'
    )
    command = [sys.executable, "-m", "fall_assets.edge", "run", "--once", "--config", str(config)]
    return subprocess.Popen([*command, "--model", str(model)])


def _record(landing: Path, started: datetime, film: Path = FALL) -> None:
    place = landing / "cam-01" / f"{started:%Y-%m-%d}" / f"{started:%H-%M-%S}.mp4"
    place.parent.mkdir(parents=True)
    shutil.copyfile(film, place)
