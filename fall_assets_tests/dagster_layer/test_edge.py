"""Boxes and wards in Dagster: the package as an asset, and the sensors around it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import numpy as np
import polars as pl
import pytest

from fall_assets.automation.sensors import gateway_sensor, packaging_sensor
from fall_assets.delivery.edge_choice import Judged, choose
from fall_assets.delivery.gateway import TOKEN_FILE, GatewayAwayError
from fall_assets.edge.package import verify_package
from fall_assets.edge.signing import load_public_keys
from fall_assets.features.packing import pack_keypoints, unpack_keypoints
from fall_assets.lake.registry import table
from fall_assets.pipeline.edge import KEYS_FOLDER, PUBLIC_KEY, ParityError, build_edge_package
from fall_assets_tests.dagster_layer.ticks import run, tick
from fall_assets_tests.gateway.running import GatewayProcess, alert, report, running, telemetry
from fall_assets_tests.site import DAYS, TestSite

CAMERA = "cam-01"


@pytest.fixture
def site(lived_in: TestSite, tmp_path: Path) -> Iterator[TestSite]:
    """A copy of the lived-in site."""
    root = tmp_path / "site"
    shutil.copytree(lived_in.root, root)
    storage = tmp_path / "dagster"
    storage.mkdir()
    copy = TestSite(root, dg.DagsterInstance.ephemeral(str(storage)))
    yield copy
    copy.instance.dispose()


def test_a_version_is_packaged_once_and_only_as_its_model_scores(site: TestSite) -> None:
    _lie_about_a_segment(site)
    with pytest.raises(ParityError, match=r"differs from its model on 1 of \d+ segments.*\.mp4"):
        build_edge_package(site.work)
    assert site.lake.rows("edge_package") == 0, "nothing is published"
    _lie_about_a_segment(site)

    requests, _ = tick(site, packaging_sensor)
    assert [request.run_key for request in requests] == ["package-1"]
    run(site, requests[0], "packaging")
    package = site.lake.read("edge_package").row(0, named=True)
    assert package["model_version"] == "1"
    assert package["largest_difference"] < 1e-4
    assert package["unpacked_bytes"] < 250_000_000
    parity = site.lake.read("edge_parity")
    assert parity.height == package["segments"] > 0
    assert parity["windows"].sum() == package["windows"] > 100
    variants = site.lake.read("edge_variants")
    assert sorted(variants["precision"]) == ["float32", "int8"]
    # Which of them is packed turns on how fast each is here: it is what its figures say.
    judged = [Judged(**row) for row in variants.drop("sequence", "chosen").iter_rows(named=True)]
    assert choose(judged).precision == package["precision"]
    assert variants.filter("chosen")["precision"].to_list() == [package["precision"]]
    trusted = load_public_keys([site.root / KEYS_FOLDER / PUBLIC_KEY])
    archive = site.lake.resolve(package["archive"])
    assert verify_package(archive, trusted).sha256 == package["manifest_sha256"]

    before = site.lake.versions()
    again = build_edge_package(site.work)
    assert not again.is_new
    assert site.lake.versions() == before, "what is packaged is not packaged again"
    assert tick(site, packaging_sensor)[0] == []
    listed = _command(site, "edge", "list")
    assert f"version 1  {package['precision']}" in listed
    assert _command(site, "edge", "public-key").startswith("-----BEGIN PUBLIC KEY-----")


def test_answers_at_the_gateway_start_the_day_they_speak_of(site: TestSite, tmp_path: Path) -> None:
    assert tick(site, gateway_sensor)[0] == [], "a site without a gateway asks for nothing"
    day = DAYS[0]
    first = site.lake.read("videos", days=[day]).filter(camera_id=CAMERA).sort("start_utc")
    raised = first["start_utc"][0] + timedelta(seconds=6)
    with running(tmp_path / "gateway") as gateway:
        _connect(site, gateway)
        box = gateway.token("box", box="box-1")
        told = alert("a1", raised, camera_id=CAMERA)
        assert gateway.post(box, "/v1/alerts", told).status_code == 201
        state = report(CAMERA, datetime.now(UTC), state="frozen", fps_measured=2.4)
        assert gateway.post(box, "/v1/telemetry", telemetry(state)).is_success
        requests, cursor = tick(site, gateway_sensor)
        today = datetime.now(UTC).date().isoformat()
        assert {request.partition_key for request in requests} == {day.isoformat(), today}
        assert tick(site, gateway_sensor, cursor)[0] == [], "asked for once"
        with httpx.Client(base_url=gateway.url, timeout=20) as ward:
            ward.post("/v1/session", json={"token": gateway.token("ward")}).raise_for_status()
            answer = {"answer": "false_alarm", "by": "nurse"}
            path = "/v1/ward/alerts/a1/answers"
            ward.post(path, json=answer, headers={"Origin": gateway.url}).raise_for_status()
        requests, cursor = tick(site, gateway_sensor, cursor)
        assert [request.partition_key for request in requests] == [day.isoformat()]
        run(site, requests[0], "ward")
        staff = site.lake.read("labels", days=[day]).filter(source="staff")
        assert staff.select("camera_id", "original_label", "annotator").rows() == [
            (CAMERA, "other", "nurse")
        ]
        gateway.stop()
        with pytest.raises(GatewayAwayError):
            tick(site, gateway_sensor, cursor)


def test_checks_name_cameras_that_see_nothing_and_boxes_that_refuse(site: TestSite) -> None:
    day = DAYS[0]
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    states = {"cam-01": ("ok", 25.0), "cam-02": ("frozen", 25.0), "cam-03": ("starved", 2.4)}
    rows = [
        {
            "day": day,
            "number": number,
            "camera_id": camera,
            "at_utc": at,
            "cpu_percent": 1.0,
            "memory_percent": 1.0,
            "bandwidth_kbps": 900.0,
            "power": "mains",
            "box": "box-1",
            "fps_expected": 25.0,
            "fps_measured": fps,
            "state": state,
            "since_utc": at - timedelta(hours=2),
        }
        for number, (camera, (state, fps)) in enumerate(states.items(), start=1)
    ]
    reports = pl.DataFrame(rows, schema=table("edge_reports").schema)
    site.lake.extend_partition("edge_reports", day, reports, site.work.provenance(day))
    update = {"number": 1, "box": "box-1", "at_utc": at, "package": "ab" * 32}
    told = pl.DataFrame(
        [update | {"state": "rolled_back", "detail": "ended 3 times"}],
        schema=table("edge_updates").schema,
    )
    site.lake.append("edge_updates", told, site.work.provenance())
    result = site.execute("ward", [day])
    found = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert not found["no_camera_is_blind"].passed
    assert "cam-02 is frozen since 2026-03-01 10:00 UTC" in str(
        found["no_camera_is_blind"].description
    )
    assert "cam-03 brings 2.4 of 25 pictures/s" in str(found["no_camera_is_starved"].description)
    refused = found["boxes_run_what_they_were_given"]
    assert "box-1 rolled back abababababab: ended 3 times" in str(refused.description)


def _lie_about_a_segment(site: TestSite) -> None:
    """Mirror the key points of one segment in the lake from top to bottom; twice is as before."""
    for day in DAYS:
        tracks = site.lake.read("pose_tracks", days=[day]).sort("video_id", "track")
        if tracks.height:
            break
    chosen = tracks["video_id"][0]

    def upside_down(row: dict[str, Any]) -> dict[str, Any]:
        points = unpack_keypoints(row["keypoints"]).copy()
        seen = points[..., 2] > 0
        points[..., 1] = np.where(seen, -points[..., 1], points[..., 1])
        return row | {"keypoints": pack_keypoints(points)}

    rows = [
        upside_down(row) if row["video_id"] == chosen else row
        for row in tracks.iter_rows(named=True)
    ]
    changed = pl.DataFrame(rows, schema=table("pose_tracks").schema)
    site.lake.replace_partition("pose_tracks", day, changed, site.work.provenance(day))


def _connect(site: TestSite, gateway: GatewayProcess) -> None:
    config = site.root / "site.toml"
    config.write_text(config.read_text() + f'\n[gateway]\nurl = "{gateway.url}"\n')
    token = site.root / TOKEN_FILE
    token.write_text(gateway.token("platform"))
    token.chmod(0o600)


def _command(site: TestSite, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fall_assets.cli", *arguments],
        env=site.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout
