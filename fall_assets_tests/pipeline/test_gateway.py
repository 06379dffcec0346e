"""What boxes and wards told a real gateway becomes rows, labels and health of cameras."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from fall_assets.delivery.gateway import (
    TOKEN_FILE,
    Gateway,
    GatewayAwayError,
    GatewayRefusedError,
    GatewaySettings,
    platform_token,
)
from fall_assets.errors import PermanentFailureError
from fall_assets.pipeline.collection import collect_health
from fall_assets.pipeline.gateway import receive
from fall_assets.pipeline.labelling import label
from fall_assets.pipeline.work import Work
from fall_assets_tests.gateway.running import GatewayProcess, alert, report, running, telemetry
from fall_assets_tests.pipeline.recorded import OLD, OLD_DAY, Recorded


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with running(tmp_path / "gateway") as started:
        yield started


@pytest.fixture
def site(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path / "site")


def work_with(site: Recorded, url: str) -> Work:
    settings = replace(site.work.site.settings, gateway=GatewaySettings(url))
    return replace(site.work, site=replace(site.work.site, settings=settings))


def connect(site: Recorded, gateway: GatewayProcess) -> Work:
    site.root.mkdir(parents=True, exist_ok=True)
    token = site.root / TOKEN_FILE
    token.write_text(gateway.token("platform") + "\n")
    token.chmod(0o600)
    return work_with(site, gateway.url)


def answer(gateway: GatewayProcess, alert_id: str, said: str) -> None:
    with httpx.Client(base_url=gateway.url, timeout=20) as ward:
        entered = ward.post("/v1/session", json={"token": gateway.token("ward")})
        assert entered.is_success, entered.text
        told = ward.post(
            f"/v1/ward/alerts/{alert_id}/answers",
            json={"answer": said, "by": "nurse"},
            headers={"Origin": gateway.url},
        )
        assert told.is_success, told.text


def seen(site: Recorded, table: str, *columns: str) -> list[tuple[Any, ...]]:
    return site.lake.read(table).sort("number").select(columns).rows()


def test_alerts_answers_and_telemetry_arrive_once(site: Recorded, gateway: GatewayProcess) -> None:
    work = connect(site, gateway)
    site.take_in("cam-01/a.mp4")
    box = gateway.token("box", box="box-1")
    raised = OLD + timedelta(seconds=30)
    told = alert("a1", raised, camera_id="cam-01", score=0.9)
    posted = httpx.post(
        f"{gateway.url}/v1/alerts",
        json=told,
        headers={"Authorization": f"Bearer {box}", "Idempotency-Key": "a1"},
        timeout=20,
    )
    assert posted.is_success, posted.text
    state = report("cam-01", OLD, state="frozen", fps_measured=2.4)
    assert gateway.post(box, "/v1/telemetry", telemetry(state)).is_success
    answer(gateway, "a1", "going")
    answer(gateway, "a1", "fall")

    first = receive(work)
    assert first.rows == {
        "edge_alerts": 1,
        "ward_answers": 2,
        "edge_reports": 1,
        "edge_updates": 0,
    }
    assert first.days == {OLD_DAY}
    assert seen(site, "edge_alerts", "alert_id", "box", "camera_id", "shadow") == [
        ("a1", "box-1", "cam-01", False)
    ]
    assert seen(site, "ward_answers", "alert_id", "answer", "by") == [
        ("a1", "going", "nurse"),
        ("a1", "fall", "nurse"),
    ]
    before = site.lake.versions()
    assert set(receive(work).rows.values()) == {0}, "nothing comes twice"
    assert site.lake.versions() == before

    label(work, [OLD_DAY])
    labels = site.lake.read("labels", days=[OLD_DAY])
    assert labels.select("label", "source", "annotator").rows() == [("fall", "staff", "nurse")]
    health = collect_health(work, OLD_DAY)
    assert health.select("camera_id", "box", "state", "fps_measured").rows() == [
        ("cam-01", "box-1", "frozen", 2.4)
    ]


def test_telemetry_beside_the_footage_stays_beside_that_of_boxes(
    site: Recorded, gateway: GatewayProcess
) -> None:
    work = connect(site, gateway)
    site.write(
        f"telemetry/{OLD_DAY}.csv",
        "camera_id,at_utc,cpu_percent,memory_percent,bandwidth_kbps,power\n"
        f"cam-01,{OLD.isoformat()},1,1,1,mains\n"
        f"cam-02,{OLD.isoformat()},2,2,2,mains\n",
    )
    box = gateway.token("box", box="box-1")
    assert gateway.post(box, "/v1/telemetry", telemetry(report("cam-01", OLD))).is_success
    receive(work)
    health = collect_health(work, OLD_DAY).select("camera_id", "cpu_percent", "box")
    assert health.rows() == [("cam-01", 41.5, "box-1"), ("cam-02", 2.0, None)]


def test_a_gateway_that_is_away_or_refuses_says_so(site: Recorded, gateway: GatewayProcess) -> None:
    with pytest.raises(PermanentFailureError, match="no token for the gateway"):
        receive(work_with(site, gateway.url))
    connect(site, gateway)
    token = site.root / TOKEN_FILE
    token.chmod(0o644)
    with pytest.raises(PermanentFailureError, match="others may read"):
        platform_token(site.root)
    with Gateway(gateway.url, "fa_platform_wrong") as refused, pytest.raises(GatewayRefusedError):
        refused.page("alerts", 0)
    gateway.stop()
    with (
        Gateway(gateway.url, "x") as away,
        pytest.raises(GatewayAwayError, match="does not answer"),
    ):
        away.page("alerts", 0)


def test_a_site_without_a_gateway_receives_nothing(site: Recorded) -> None:
    assert receive(site.work).rows == {}
    with pytest.raises(ValueError, match="http"):
        GatewaySettings("ftp://somewhere")
    assert isinstance(site.lake.read("edge_alerts"), pl.DataFrame)
