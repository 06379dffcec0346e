"""What is malformed, oversized, forged or too much is refused; nothing of it is stored."""

from __future__ import annotations

import base64
import json
import logging
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fall_assets.gateway.settings import Limits
from fall_assets_tests.gateway.conftest import Service
from fall_assets_tests.gateway.running import alert, bearer, jpeg, report, telemetry


def b64(content: bytes) -> str:
    """As a still is sent."""
    return base64.b64encode(content).decode()


def huge_header(width: int, height: int) -> bytes:
    """A small JPEG that says it is larger than it is."""
    content = jpeg()
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


STILLS = {
    "no base64": "***",
    "no picture": b64(b"#!/bin/sh\nrm -rf /"),
    "another kind": b64(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "HTML": b64(b"<svg onload=alert(1)>"),
    "only a start": b64(jpeg()[:40]),
    "cut off": b64(jpeg(640, 480, quality=95)[:1500]),
    "too wide": b64(jpeg(1281, 10)),
    "a bomb": b64(huge_header(65000, 65000)),
    "many scans": b64(jpeg() + b"\xff\xda" * 500),
}


@pytest.mark.parametrize("still", STILLS.values(), ids=STILLS.keys())
def test_a_still_that_is_no_picture_is_refused(untouched: Service, still: str) -> None:
    answer = untouched.post("/v1/alerts", alert() | {"still": still})
    assert answer.status_code == 422
    assert "still" in answer.json()["detail"]
    assert untouched.stored() == [[], [], [], []]


def changed(**changes: Any) -> Callable[[], bytes]:
    """An alert with changes."""
    return lambda: json.dumps(alert() | changes).encode()


MALFORMED: dict[str, tuple[Callable[[], bytes], int]] = {
    "empty": (lambda: b"", 400),
    "no JSON": (lambda: b"{'a': 1}", 400),
    "cut off": (lambda: json.dumps(alert()).encode()[:-5], 400),
    "no UTF-8": (lambda: b'{"alert_id": "\xff"}', 400),
    "a list": (lambda: b"[]", 422),
    "deep": (lambda: b"[" * 50_000 + b"]" * 50_000, 400),
    "deep within": (lambda: json.dumps(alert() | {"kind": [[[[[[[[[1]]]]]]]]]}).encode(), 400),
    "a key twice": (lambda: json.dumps(alert()).encode()[:-1] + b', "score": 3}', 400),
    "NaN": (changed(score=float("nan")), 400),
    "infinite": (lambda: json.dumps(alert()).encode().replace(b"0.9", b"1e999"), 422),
    "a long number": (lambda: json.dumps(alert()).encode().replace(b"0.9", b"9" * 5000), 400),
    "text for a number": (changed(score="0.9"), 422),
    "more than sure": (changed(score=1.5), 422),
    "a number for a flag": (changed(shadow=1), 422),
    "one field more": (changed(admin=True), 422),
    "an unknown kind": (changed(kind="<b>fall</b>"), 422),
    "half a letter": (lambda: json.dumps(alert()).encode().replace(b"fall-det", b"\\ud800"), 422),
    "a NUL": (changed(model_version="a\x00b"), 422),
    "a line break": (changed(model_version="a\nb"), 422),
    "a path as camera": (changed(camera_id="../../etc/passwd"), 422),
    "dots as camera": (changed(camera_id=".."), 422),
    "a camera with a line break": (changed(camera_id="cam-1\n"), 422),
    "a path as id": (changed(alert_id="a/../../b"), 422),
    "a Windows path": (changed(alert_id="a\\b"), 422),
    "markup as id": (changed(alert_id="<script>"), 422),
    "a long id": (changed(alert_id="a" * 65), 422),
}


@pytest.mark.parametrize(("body", "status"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_alert_is_refused(
    untouched: Service, body: Callable[[], bytes], status: int
) -> None:
    headers = bearer(untouched.box) | {"Content-Type": "application/json"}
    answer = untouched.client.post("/v1/alerts", content=body(), headers=headers)
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["detail"], str)
    assert untouched.stored() == [[], [], [], []]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_type_of_body_is_refused(untouched: Service, kind: str) -> None:
    headers = bearer(untouched.box) | {"Content-Type": kind}
    answer = untouched.client.post("/v1/alerts", content=json.dumps(alert()), headers=headers)
    assert answer.status_code == 415


@pytest.mark.parametrize("path", ["/v1/alerts", "/v1/telemetry", "/v1/updates"])
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "in pieces"])
def test_what_is_too_large_is_refused(untouched: Service, path: str, declared: bool) -> None:
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(200):
            taken += 1
            yield b" " * 65536

    content: Any = b" " * 500_000 if declared else pieces()
    headers = bearer(untouched.box) | {"Content-Type": "application/json"}
    answer = untouched.client.post(path, content=content, headers=headers)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


def test_too_many_reports_at_once_are_refused(untouched: Service) -> None:
    answer = untouched.post("/v1/telemetry", telemetry(*[report()] * 257))
    assert answer.status_code in (413, 422)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/packages/..%2f..%2fetc%2fpasswd",
        "/v1/packages/%2e%2e",
        "/v1/packages/" + "A" * 64,
        "/v1/alerts/..%2fa/still",
        "/v1/alerts/%00/still",
        "/ward/..%2f..%2fsettings.py",
        "/ward/ward.py",
        "/ward/%2e%2e/app.py",
    ],
)
def test_path_tricks_lead_nowhere(untouched: Service, path: str) -> None:
    answer = untouched.get(path)
    assert answer.status_code in (404, 422)
    assert "root:" not in answer.text
    assert "import" not in answer.text


def test_a_refusal_is_one_log_line_without_what_was_sent(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service.post("/v1/alerts", alert() | {"camera_id": "SECRET\nforged line", "x-SECRET": 1})
    service.client.get("/v1/alerts?token=SECRET%0Aforged", headers=bearer("fa_box_SECRET"))
    service.client.get("/v1/a%0AERROR%20forged")
    lines = [r.getMessage() for r in caplog.records if r.name.endswith("access_log")]
    assert len(lines) == 3
    assert all("refused" in line for line in lines)
    assert not any("SECRET" in line or "\n" in line for line in lines)


@pytest.mark.parametrize(
    "token", ["", "fa_box_", "fa_platform_" + "a" * 43, "x" * 5000, "fa_box_" + "é" * 43]
)
def test_who_is_not_known_hears_nothing_more(untouched: Service, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}".encode()}
    answer = untouched.client.post("/v1/alerts", json=alert(), headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"detail": "not let in"})


def test_a_token_of_one_role_does_not_open_anothers_doors(service: Service) -> None:
    ward = service.token("ward")
    for token, path in (
        (service.platform, "/v1/assignment"),
        (service.box, "/v1/alerts"),
        (ward, "/v1/answers"),
        (ward, "/v1/falls"),
    ):
        assert service.get(path, token).status_code == 403
    assert service.post("/v1/alerts", alert(), service.platform).status_code == 403
    session = service.client.post("/v1/session", json={"token": service.box})
    assert session.status_code == 403
    # A token is no session, and a session no token.
    assert service.get("/v1/ward/alerts", ward).status_code == 401
    browser = service.ward()
    secret = browser.cookies["fall_ward"]
    assert service.get("/v1/answers", secret).status_code == 401


def test_a_revoked_token_and_its_sessions_are_worthless_at_once(service: Service) -> None:
    browser = service.ward("W")
    assert browser.get("/v1/ward/alerts").status_code == 200
    assert service.post("/v1/alerts", alert()).status_code == 201
    for row in service.gateway.tokens.list():
        if row.role != "platform":
            service.gateway.tokens.revoke(row.id)
    assert browser.get("/v1/ward/alerts").status_code == 401
    assert service.post("/v1/alerts", alert("a2")).status_code == 401


def test_guessing_is_held_back_and_holds_up_nobody_else(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(limits=Limits(failures_per_minute=5.0))
    answers = [service.get("/v1/alerts", "fa_box_" + "a" * 43) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
    assert int(answers[-1].headers["retry-after"]) >= 1
    # From the same address: a proxy may stand before all boxes.
    assert service.post("/v1/alerts", alert()).status_code == 201


def test_who_floods_is_held_back_and_telemetry_uses_up_no_alerts(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(limits=Limits(rate_per_s=0.001, burst=4))
    sent = [service.post("/v1/telemetry", telemetry()) for _ in range(6)]
    assert [answer.status_code for answer in sent] == [200] * 4 + [429] * 2
    assert int(sent[-1].headers["retry-after"]) > 1
    assert service.post("/v1/alerts", alert()).status_code == 201


def test_another_sites_page_cannot_answer_for_the_ward(service: Service) -> None:
    service.post("/v1/alerts", alert())
    browser = service.ward()
    path = "/v1/ward/alerts/a1/answers"
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = browser.post(path, json={"answer": "false_alarm"}, headers=headers)
        assert answer.status_code == 403
    assert service.get("/v1/answers").json()["answers"] == []
    assert browser.post(path, json={"answer": "fall"}).status_code == 201


def test_the_page_runs_nothing_but_its_own_and_is_framed_by_nobody(untouched: Service) -> None:
    for path in ("/ward", "/ward/ward.js", "/ward/ward.css", "/v1/ward/alerts"):
        headers = untouched.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    page = untouched.client.get("/ward").text
    assert "http" not in page
    assert "style=" not in page
    script = untouched.client.get("/ward/ward.js").text
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in script


def test_the_cookie_is_the_browsers_alone(make_service: Callable[..., Service]) -> None:
    service = make_service(tls_proxy=True, host="0.0.0.0")
    answer = service.client.post("/v1/session", json={"token": service.token("ward")})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" in cookie
