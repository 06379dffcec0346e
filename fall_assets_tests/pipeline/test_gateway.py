"""What boxes and wards told a real gateway becomes rows, labels and health of cameras."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
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
from fall_assets.edge.assignment import read_assignment
from fall_assets.edge.client import GatewayClient
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import TABLES
from fall_assets.pipeline.collection import collect_health
from fall_assets.pipeline.edge import assign, assign_parts, signing_key
from fall_assets.pipeline.feedback import report_fall
from fall_assets.pipeline.gateway import receive
from fall_assets.pipeline.labelling import label
from fall_assets.pipeline.serving import Part, parts_of
from fall_assets.pipeline.work import Work
from fall_assets.rollout.assignment import Place
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


@contextmanager
def ward_session(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=20, headers={"Origin": gateway.url}) as ward:
        entered = ward.post("/v1/session", json={"token": gateway.token("ward")})
        assert entered.is_success, entered.text
        yield ward


def answer(gateway: GatewayProcess, alert_id: str, said: str) -> None:
    with ward_session(gateway) as ward:
        told = ward.post(
            f"/v1/ward/alerts/{alert_id}/answers", json={"answer": said, "by": "nurse"}
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
    state = report("cam-01", OLD, state="frozen", fps_measured=2.4, firmware="9.80.1")
    assert gateway.post(box, "/v1/telemetry", telemetry(state)).is_success
    answer(gateway, "a1", "going")
    answer(gateway, "a1", "fall")

    first = receive(work)
    assert first.rows == {
        "edge_alerts": 1,
        "ward_answers": 2,
        "edge_reports": 1,
        "reported_falls": 0,
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
    reported = collect_health(work, OLD_DAY)
    columns = reported.select(
        "camera_id", "box", "state", "fps_measured", "firmware", "camera_model"
    )
    assert columns.rows() == [("cam-01", "box-1", "frozen", 2.4, "9.80.1", None)]


def test_a_fall_that_the_ward_reports_is_one_that_the_command_line_could(
    site: Recorded, gateway: GatewayProcess
) -> None:
    work = connect(site, gateway)
    site.take_in("cam-01/a.mp4")
    receive(work)
    report_fall(work, "cam-01", OLD, by="nurse", within_min=5)
    until = OLD + timedelta(minutes=30)
    with ward_session(gateway) as ward:
        told = {"camera_id": "cam-01", "until_utc": until.isoformat(), "within_min": 20}
        for by in ("Anna", "Marek"):
            ward.post("/v1/ward/falls", json={**told, "by": by}).raise_for_status()
    received = receive(work)
    assert received.rows["reported_falls"] == 2
    assert received.days == {OLD_DAY}
    assert seen(site, "reported_falls", "camera_id", "from_utc", "until_utc", "by") == [
        ("cam-01", OLD - timedelta(minutes=5), OLD, "nurse"),
        # Both tell of one fall.
        ("cam-01", until - timedelta(minutes=20), until, "Marek"),
    ]
    before = site.lake.versions()
    assert set(receive(work).rows.values()) == {0}, "nothing comes twice"
    assert site.lake.versions() == before


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


def test_what_versions_in_shadow_tell_is_kept_apart(
    site: Recorded, gateway: GatewayProcess
) -> None:
    work = connect(site, gateway)
    site.take_in("cam-01/a.mp4")
    box = gateway.token("box", box="box-1")
    told = alert("a1", OLD, camera_id="cam-01", model_version="2", shadow=True)
    assert gateway.post(box, "/v1/alerts", told).is_success
    of_both = telemetry(
        report("cam-01", OLD, state="lost", model_version="2", shadow=True),
        report("cam-01", OLD, model_version="1"),
    )
    assert gateway.post(box, "/v1/telemetry", of_both).is_success
    receive(work)
    assert seen(site, "edge_alerts", "alert_id", "model_version", "shadow") == [("a1", "2", True)]
    assert sorted(seen(site, "edge_reports", "model_version", "state", "shadow")) == [
        ("1", "ok", False),
        ("2", "lost", True),
    ]
    health = collect_health(work, OLD_DAY).select("camera_id", "model_version", "state")
    assert health.rows() == [("cam-01", "1", "ok")]


def test_reports_of_a_lake_that_knew_no_shadows_still_tell_of_cameras(
    site: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = TABLES["edge_reports"]
    columns = tuple(one for one in now.columns if one.name != "shadow")
    row = {"day": OLD_DAY, "number": 1, "camera_id": "cam-01", "at_utc": OLD, "power": "mains"}
    row |= dict.fromkeys(("cpu_percent", "memory_percent", "bandwidth_kbps"), 1.0)
    with monkeypatch.context() as earlier:
        earlier.setitem(TABLES, "edge_reports", replace(now, columns=columns))
        site.add("edge_reports", [row], OLD_DAY)
    assert collect_health(site.work, OLD_DAY)["camera_id"].to_list() == ["cam-01"]


def test_both_versions_of_a_rollout_reach_a_box_in_one_assignment(
    site: Recorded, gateway: GatewayProcess
) -> None:
    work = connect(site, gateway)
    packages = {version: package(site, version) for version in ("1", "2")}
    cameras = [f"cam-{number:04d}" for number in range(2000)]
    places: dict[str, Place] = {
        camera: ("challenger", "control")[number % 2] for number, camera in enumerate(cameras)
    }
    parts = parts_of("step", "1", "2", places | {"no id": "challenger"})
    decided = datetime(2026, 3, 1, 12, tzinfo=UTC)
    told = assign_parts(work, "*", parts, packages, allow_older=True, issued_utc=decided)
    # A run that was killed sends it once more.
    assert assign_parts(work, "*", parts, packages, allow_older=True, issued_utc=decided) == told
    assert any("no id" in line for line in site.lines), "a box would refuse all of it"

    token = gateway.token("box", box="box-1")
    client = GatewayClient(gateway.url, lambda: token)
    answer = client.get_assignment()
    trusted = [signing_key(work).public_key()]
    read = read_assignment(answer.assignment, answer.signature, trusted, "box-1")
    assert read.allow_older
    served = read.served(["cam-0000", "cam-0001", "cam-of-nobody"])
    assert [(part.model_version, part.shadow, own) for part, own in served] == [
        ("1", False, ("cam-0001", "cam-of-nobody")),
        ("2", False, ("cam-0000",)),
        ("1", True, ("cam-0000",)),
        ("2", True, ("cam-0001",)),
    ]
    for part, _ in served:
        with client.open_package(part.archive_sha256) as download:
            assert download.read() == f"package {part.model_version}".encode()
    assert client.get_assignment(answer.etag).state == "unchanged"

    with pytest.raises(PermanentFailureError, match="version 3 has no package"):
        assign_parts(work, "*", [Part("3", None, shadow=False)], packages)
    with pytest.raises(PermanentFailureError, match="no box would raise an alert"):
        assign_parts(work, "*", [Part("1", None, shadow=True)], packages)
    many = tuple(f"{number:064d}" for number in range(30_000))
    with pytest.raises(PermanentFailureError, match="box by box"):
        assign_parts(work, "*", [Part("1", many, shadow=False)], packages)
    assert client.get_assignment(answer.etag).state == "unchanged"
    # One package for all is an assignment of one part.
    assign(work, "box-1", packages["2"])
    alone = client.get_assignment(answer.etag)
    read = read_assignment(alone.assignment, alone.signature, trusted, "box-1")
    assert [part.cameras for part in read.parts] == [("*",)]
    assert not read.allow_older


def package(site: Recorded, version: str) -> dict[str, Any]:
    """A row of `edge_package`, and its archive in the lake."""
    content = f"package {version}".encode()
    archive = site.lake.write_file(content, "edge", f"{version}.tar.gz")
    return {
        "archive": archive,
        "archive_sha256": hashlib.sha256(content).hexdigest(),
        "archive_bytes": len(content),
        "manifest_sha256": version * 64,
        "model_version": version,
        "sequence": int(version),
    }


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
