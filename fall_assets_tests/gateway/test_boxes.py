"""What boxes say is stored once, whole, and only where it is theirs to say."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from fall_assets.edge.assignment import read_assignment
from fall_assets.edge.client import MOST_ASSIGNMENT_BYTES
from fall_assets.edge.signing import sign
from fall_assets_tests.gateway.conftest import Service
from fall_assets_tests.gateway.running import NOW, alert, bearer, jpeg, report, telemetry


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    """The platform's."""
    return Ed25519PrivateKey.generate()


EARLIER = NOW - timedelta(seconds=3)


def post(service: Service, **changes: object) -> int:
    """Post an alert that was sent now by the service's clock."""
    content = alert(at=EARLIER, **({"sent_utc": NOW.isoformat()} | changes))  # type: ignore[arg-type]
    return service.post("/v1/alerts", content).status_code


def test_an_alert_is_taken_once_and_handed_out_as_posted(service: Service) -> None:
    content = alert(at=EARLIER, sent_utc=NOW.isoformat(), still=jpeg())
    key = {"Idempotency-Key": "a1"}
    first = service.post("/v1/alerts", content, headers=key)
    assert (first.status_code, first.json()) == (
        201,
        {"alert_id": "a1", "accepted": True, "new": True},
    )
    # An old one that is sent again, even later, changes nothing.
    service.later(9000)
    again = service.post("/v1/alerts", content | {"sent_utc": service.time.isoformat()})
    assert (again.status_code, again.json()["new"]) == (200, False)
    [row] = service.get("/v1/alerts").json()["alerts"]
    for name in ("alert_id", "camera_id", "score", "kind", "model_version", "shadow"):
        assert row[name] == content[name]
    assert datetime.fromisoformat(row["raised_utc"]) == EARLIER
    assert datetime.fromisoformat(row["received_utc"]) == NOW
    assert row["box"] == "box-1"
    assert row["has_still"]
    assert "still" not in row


def test_the_same_id_with_other_content_is_a_conflict_and_changes_nothing(service: Service) -> None:
    assert post(service) == 201
    assert post(service, score=0.8) == 409
    assert post(service, still=jpeg()) == 409
    other = service.token("box", box="box-2")
    answer = service.post("/v1/alerts", alert(at=EARLIER), other)
    assert answer.status_code == 409
    alerts, _, _, files = service.stored()
    assert [row["score"] for row in alerts] == [0.9]
    assert files == []


def test_a_key_that_is_not_the_alerts_is_refused(service: Service) -> None:
    answer = service.post("/v1/alerts", alert(), headers={"Idempotency-Key": "other"})
    assert answer.status_code == 400


def test_a_box_speaks_of_its_own_cameras_only(service: Service) -> None:
    service.cameras({"camera_id": "cam-7", "box": "box-7"})
    named = service.token("box", box="box-1", cameras=["cam-1"])
    for token, camera, status in (
        (named, "cam-1", 201),
        (named, "cam-2", 403),
        (service.box, "cam-7", 403),
        (service.box, "cam-2", 201),
    ):
        answer = service.post("/v1/alerts", alert(f"of-{camera}-{status}", camera_id=camera), token)
        assert answer.status_code == status
        sent = service.post("/v1/telemetry", telemetry(report(camera)), token)
        assert sent.status_code == (200 if status == 201 else 403)
    rows = service.get("/v1/alerts").json()["alerts"]
    assert [row["camera_id"] for row in rows] == ["cam-1", "cam-2"]


def test_a_box_whose_clock_is_wrong_is_heard_and_its_times_are_put_right(service: Service) -> None:
    service.cameras({"camera_id": "cam-1", "ward": "W", "room": "4"})
    reset = datetime(1970, 1, 1, 0, 5, tzinfo=UTC)
    content = alert(at=reset, sent_utc=(reset + timedelta(seconds=20)).isoformat())
    assert service.post("/v1/alerts", content).status_code == 201
    [row] = service.get("/v1/alerts").json()["alerts"]
    assert row["clock_offset_s"] == (reset + timedelta(seconds=20) - NOW).total_seconds()
    assert datetime.fromisoformat(row["raised_utc"]) == reset
    [shown] = service.ward("W").get("/v1/ward/alerts").json()["open"]
    assert shown["clock_wrong"]
    assert datetime.fromisoformat(shown["raised_utc"]) == NOW - timedelta(seconds=20)


@pytest.mark.parametrize(
    "time", ["2026-03-04T02:00:00", "12026-03-04T02:00:00Z", "0001-01-01T00:00:00Z", "soon", 17]
)
def test_times_without_a_zone_or_absurd_ones_are_refused(service: Service, time: object) -> None:
    before = service.stored()
    assert post(service, raised_utc=time) == 422
    assert service.stored() == before


def test_telemetry_is_stored_once_for_each_camera_and_time(service: Service) -> None:
    reports = [report("cam-1", NOW), report("cam-2", NOW, state="lost", temperature_c=61.5)]
    for _ in range(2):
        answer = service.post("/v1/telemetry", telemetry(*reports, at=NOW))
        assert (answer.status_code, answer.json()) == (200, {"accepted": 2})
    rows = service.get("/v1/reports").json()["reports"]
    assert [row["camera_id"] for row in rows] == ["cam-1", "cam-2"]
    assert rows[1]["temperature_c"] == 61.5
    assert rows[1]["state"] == "lost"


def test_a_camera_s_model_is_handed_on_and_older_boxes_do_not_tell_it(service: Service) -> None:
    told = {"camera_model": "ACME Dome 4", "firmware": "9.80.1"}
    reports = [report("cam-1", NOW, **told), report("cam-2", NOW)]
    assert service.post("/v1/telemetry", telemetry(*reports, at=NOW)).status_code == 200
    rows = service.get("/v1/reports").json()["reports"]
    assert [(row["camera_model"], row["firmware"]) for row in rows] == [
        ("ACME Dome 4", "9.80.1"),
        (None, None),
    ]
    long = report("cam-1", NOW, firmware="9" * 81)
    assert service.post("/v1/telemetry", telemetry(long, at=NOW)).status_code == 422


def test_a_shadow_s_report_stands_beside_that_of_the_version_that_is_live(
    service: Service,
) -> None:
    reports = [report("cam-1", NOW), report("cam-1", NOW, shadow=True, model_version="8")]
    for _ in range(2):
        answer = service.post("/v1/telemetry", telemetry(*reports, at=NOW))
        assert (answer.status_code, answer.json()) == (200, {"accepted": 2})
    rows = service.get("/v1/reports").json()["reports"]
    assert [(row["model_version"], row["shadow"]) for row in rows] == [
        ("fall-detector/3", False),
        ("8", True),
    ]
    times = [datetime.fromisoformat(row["at_utc"]) for row in rows]
    assert times == [NOW, NOW + timedelta(microseconds=1)]


def test_an_update_is_stored(service: Service) -> None:
    news = {
        "at_utc": NOW.isoformat(),
        "package": "ab" * 32,
        "state": "rolled_back",
        "detail": "self-test failed:\nno alarm",
    }
    assert service.post("/v1/updates", news).status_code == 200
    [row] = service.get("/v1/updates").json()["updates"]
    assert row["detail"] == news["detail"]
    assert (row["box"], row["state"]) == ("box-1", "rolled_back")


def signed(box: str, serial: int) -> dict[str, str]:
    """An assignment as the platform puts it; gateways do not check signatures."""
    content = json.dumps({"format": 1, "box": box, "serial": serial, "parts": []}).encode()
    return {
        "assignment": base64.b64encode(content).decode(),
        "signature": base64.b64encode(b"s" * 64).decode(),
    }


def test_a_box_gets_its_newest_assignment_and_hears_when_it_is_the_same(service: Service) -> None:
    path = "/v1/assignment"
    assert service.get(path, service.box).status_code == 204
    assert service.put("/v1/assignments/*", signed("*", 1)).status_code == 200
    assert service.get(path, service.box).json() == signed("*", 1)
    assert service.put("/v1/assignments/box-1", signed("box-1", 2)).status_code == 200
    answer = service.get(path, service.box)
    assert answer.json() == signed("box-1", 2)
    same = service.get(path, service.box, headers={"If-None-Match": answer.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    # Nobody goes back by accident, or sends one box's to another.
    assert service.put("/v1/assignments/box-1", signed("box-1", 1)).status_code == 409
    assert service.put("/v1/assignments/box-1", signed("box-2", 3)).status_code == 422
    assert service.get(path, service.box).json() == signed("box-1", 2)


@pytest.mark.parametrize("count", [2000, 10_000])
def test_an_assignment_names_half_of_a_large_site_s_cameras_twice(
    service: Service, key: Ed25519PrivateKey, count: int
) -> None:
    cameras = [f"{number:064d}" for number in range(count)]
    half = cameras[: count // 2]
    part = {
        "archive_sha256": "a" * 64,
        "archive_size": 1,
        "manifest_sha256": "b" * 64,
        "model_version": "1",
        "sequence": 1,
    }
    parts = [
        {"cameras": ["*"], "shadow": False},
        {"cameras": half, "shadow": False},
        {"cameras": half, "shadow": True},
        {"cameras": cameras[count // 2 :], "shadow": True},
    ]
    content = json.dumps(
        {
            "format": 1,
            "box": "*",
            "serial": 1,
            "issued_utc": NOW.isoformat(),
            "allow_older": False,
            "parts": [part | one for one in parts],
        },
        separators=(",", ":"),
    ).encode()
    told = {
        "assignment": base64.b64encode(content).decode(),
        "signature": base64.b64encode(sign(content, key)).decode(),
    }
    assert service.put("/v1/assignments/*", told).status_code == 200
    got = service.get("/v1/assignment", service.box).json()
    read = read_assignment(
        base64.b64decode(got["assignment"]),
        base64.b64decode(got["signature"]),
        [key.public_key()],
        "box-1",
    )
    served = read.served([cameras[0], cameras[-1]])
    assert [(part.shadow, own) for part, own in served] == [
        (False, (cameras[-1],)),
        (False, (cameras[0],)),
        (True, (cameras[0],)),
        (True, (cameras[-1],)),
    ]


def test_an_assignment_that_no_box_would_read_is_refused(service: Service) -> None:
    size = len(base64.b64decode(signed("*", 1)["assignment"]))
    for padding, status in ((MOST_ASSIGNMENT_BYTES - size - 8, 200), (2_000_000, 413)):
        content = json.loads(base64.b64decode(signed("*", 1)["assignment"]))
        text = json.dumps(content | {"x": " " * (padding - 1)}).encode()
        told = signed("*", 1) | {"assignment": base64.b64encode(text).decode()}
        assert service.put("/v1/assignments/*", told).status_code == status
    text = json.dumps(content | {"x": " " * (MOST_ASSIGNMENT_BYTES - size)}).encode()
    told = signed("*", 1) | {"assignment": base64.b64encode(text).decode()}
    assert service.put("/v1/assignments/*", told).status_code == 422


def put_package(service: Service, content: bytes, name: str | None = None) -> tuple[int, str]:
    """Put a package under its hash, or another one."""
    sha256 = name or hashlib.sha256(content).hexdigest()
    answer = service.client.put(
        f"/v1/packages/{sha256}",
        content=content,
        headers=bearer(service.platform) | {"Content-Type": "application/gzip"},
    )
    return answer.status_code, sha256


def test_a_package_is_fetched_in_pieces_as_it_was_put(service: Service) -> None:
    content = bytes(range(256)) * 4000
    status, sha256 = put_package(service, content)
    assert status == 201
    assert put_package(service, content)[0] == 200
    path = f"/v1/packages/{sha256}"
    assert service.get(path, service.box).content == content
    rest = service.get(path, service.box, headers={"Range": "bytes=1000000-"})
    assert (rest.status_code, rest.content) == (206, content[1_000_000:])
    assert rest.headers["content-range"] == f"bytes 1000000-{len(content) - 1}/{len(content)}"
    assert service.get(path, service.box, headers={"Range": "bytes=9999999-"}).status_code == 416
    assert service.get(f"/v1/packages/{'0' * 64}", service.box).status_code == 404


def test_a_package_with_another_hash_is_not_stored(service: Service) -> None:
    assert put_package(service, b"tampered", hashlib.sha256(b"original").hexdigest())[0] == 422
    assert list(service.gateway.store.packages.iterdir()) == []


def test_a_still_is_encoded_anew_without_its_metadata(service: Service) -> None:
    picture = Image.new("RGB", (200, 100), (200, 30, 30))
    exif = Image.Exif()  # type: ignore[no-untyped-call]
    exif[0x010E] = "Jane Doe, room 4"
    out = io.BytesIO()
    picture.save(out, "JPEG", exif=exif, comment=b"Jane Doe")
    content = out.getvalue() + b"Jane Doe behind the end"
    assert post(service, still=content) == 201
    kept = service.get("/v1/alerts/a1/still")
    assert kept.headers["content-type"] == "image/jpeg"
    assert b"Jane" not in kept.content
    with Image.open(io.BytesIO(kept.content)) as shown:
        assert shown.size == (200, 100)
        assert not shown.getexif()
