"""The service as a process: it loses nothing when killed, waits for nobody for ever, ends well."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from fall_assets.gateway.cli import main
from fall_assets_tests.gateway.running import (
    PATIENCE_S,
    GatewayProcess,
    alert,
    bearer,
    eventually,
    jpeg,
    running,
)

QUICK = """
heartbeat_s = 0.5
[limits]
body_s = 0.5
piece_s = 0.5
header_s = 0.5
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A running gateway with little patience."""
    with running(tmp_path_factory.mktemp("gateway"), QUICK) as process:
        yield process


def test_every_alert_that_was_accepted_is_there_after_a_kill(tmp_path: Path) -> None:
    accepted: set[str] = set()
    with running(tmp_path) as gateway:
        box, platform = gateway.token("box", box="box-1"), gateway.token("platform")
        for _ in range(1):
            before = len(accepted)
            sent = 0
            done = threading.Event()

            def post(start: int, done: threading.Event = done) -> None:
                number = start
                with httpx.Client(headers=bearer(box), timeout=20) as client:
                    while not done.is_set():
                        name = f"a{number}"
                        number += 4
                        content = alert(name, still=jpeg())
                        # A connection that breaks off says nothing of what was stored.
                        with contextlib.suppress(httpx.TransportError):
                            answer = client.post(f"{gateway.url}/v1/alerts", json=content)
                            if answer.status_code == 201:
                                accepted.add(name)

            base = 1_000_000 * (before + 1)
            threads = [threading.Thread(target=post, args=(base + n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            eventually(lambda n=before: len(accepted) > n + 20, why="accepted")  # type: ignore[misc]
            gateway.kill()
            done.set()
            for thread in threads:
                thread.join(PATIENCE_S)
            gateway.start()
            sent = len(accepted)
            stored: dict[str, bool] = {}
            after = 0
            while True:
                page = httpx.get(
                    f"{gateway.url}/v1/alerts?after={after}&limit=1000",
                    headers=bearer(platform),
                    timeout=20,
                ).json()
                for row in page["alerts"]:
                    assert row["alert_id"] not in stored
                    stored[row["alert_id"]] = row["has_still"]
                if page["next"] == after:
                    break
                after = page["next"]
            assert sent > before
            assert accepted <= set(stored)
            for name in list(accepted)[:5]:
                still = httpx.get(
                    f"{gateway.url}/v1/alerts/{name}/still", headers=bearer(platform), timeout=20
                )
                assert still.content.startswith(b"\xff\xd8")
        assert gateway.stop() == 0


def ask(gateway: GatewayProcess, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """What the gateway says to bytes on a connection until it closes it."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE_S) as connection:
        for piece in pieces:
            with contextlib.suppress(OSError):
                connection.sendall(piece)
            time.sleep(pause_s)
        said = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                said += part
        return said


def head(gateway: GatewayProcess, *lines: str, path: str = "/v1/alerts") -> bytes:
    """The start of a post by a box."""
    box = gateway.token("box", box="box-1")
    fixed = (f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {box}")
    return "\r\n".join([*fixed, "Content-Type: application/json", *lines, "", ""]).encode()


def test_a_header_that_never_ends_is_not_waited_for(gateway: GatewayProcess) -> None:
    # Without a limit these would wait until the test's own patience ends.
    assert ask(gateway) == b""
    assert ask(gateway, b"GET /healthz HT") == b""
    assert ask(gateway, *[b"G"] * 10, pause_s=0.1) == b""


def test_a_header_that_is_too_long_is_refused(gateway: GatewayProcess) -> None:
    said = ask(gateway, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000)
    assert said.startswith(b"HTTP/1.1 400")


def test_a_body_that_never_ends_is_not_waited_for(gateway: GatewayProcess) -> None:
    said = ask(gateway, head(gateway, "Content-Length: 100"), b"{")
    assert said.startswith(b"HTTP/1.1 408")
    dripped = ask(gateway, head(gateway, "Content-Length: 100"), *[b" "] * 10, pause_s=0.2)
    assert dripped.startswith(b"HTTP/1.1 408")


def test_a_body_that_is_too_large_is_refused_without_reading_it(gateway: GatewayProcess) -> None:
    said = ask(gateway, head(gateway, "Content-Length: 100000000000"))
    assert said.startswith(b"HTTP/1.1 413")
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    said = ask(gateway, head(gateway, "Transfer-Encoding: chunked"), *[piece] * 8)
    assert said.startswith(b"HTTP/1.1 413")


def test_who_says_two_lengths_is_refused(gateway: GatewayProcess) -> None:
    said = ask(gateway, head(gateway, "Content-Length: 5", "Content-Length: 6"), b"{}{}{}")
    assert said.startswith(b"HTTP/1.1 400")


def test_a_package_that_breaks_off_leaves_nothing(gateway: GatewayProcess) -> None:
    platform = gateway.token("platform")
    start = (
        f"PUT /v1/packages/{'a' * 64} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {platform}\r\n"
        "Content-Type: application/gzip\r\nContent-Length: 1000000\r\n\r\n"
    )
    assert ask(gateway, start.encode(), b"x" * 1000).startswith(b"HTTP/1.1 408")
    assert list((gateway.data / "packages").iterdir()) == []


@contextlib.contextmanager
def ward_client(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    """A browser on a ward's page."""
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE_S) as client:
        answer = client.post("/v1/session", json={"token": gateway.token("ward")})
        assert answer.status_code == 200
        yield client


def events(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """The events of a stream."""
    event: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        else:
            if "event" in event:
                yield event
            event = {}


def test_a_page_hears_of_an_alert_and_goes_on_where_it_was(gateway: GatewayProcess) -> None:
    box = gateway.token("box", box="box-1")
    with ward_client(gateway) as client:
        with client.stream("GET", "/v1/ward/stream") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            found = iter(events(stream.iter_lines()))
            first = next(one for one in found if one["event"] == "view")
            gateway.post(box, "/v1/alerts", alert("streamed"))
            while True:
                view = next(one for one in found if one["event"] == "view")
                levels = {one["alert_id"]: one["level"] for one in json.loads(view["data"])["open"]}
                # The escalation has looked at it: nothing will change by itself any more.
                if levels.get("streamed") == 0:
                    break
            last = view["id"]
            assert int(last) > int(first["id"])
        # Nothing has happened since: signs of life only.
        with client.stream("GET", "/v1/ward/stream", headers={"Last-Event-ID": last}) as stream:
            found = events(stream.iter_lines())
            assert [next(found)["event"] for _ in range(3)] == ["tick"] * 3
        with client.stream("GET", "/v1/ward/stream", headers={"Last-Event-ID": "1"}) as stream:
            found = events(stream.iter_lines())
            assert [next(found)["event"] for _ in range(2)] == ["tick", "view"]


def test_a_revoked_page_hears_no_more(gateway: GatewayProcess) -> None:
    with ward_client(gateway) as client, client.stream("GET", "/v1/ward/stream") as stream:
        lines = stream.iter_lines()
        next(lines)
        tokens = cli(gateway, "token", "list").stdout.splitlines()
        newest = next(line for line in reversed(tokens) if " ward " in line).split()[0]
        cli(gateway, "token", "revoke", newest)
        for _ in lines:
            pass
        assert client.get("/v1/ward/alerts").status_code == 401


def test_it_ends_in_order_while_pages_are_open(tmp_path: Path) -> None:
    with (
        running(tmp_path) as gateway,
        ward_client(gateway) as client,
        client.stream("GET", "/v1/ward/stream") as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        assert gateway.stop() == 0
        # The stream ends whole, not broken off.
        for _ in lines:
            pass
        assert "Traceback" not in gateway.log()


def cli(gateway: GatewayProcess, *words: str) -> Result:
    """Run `fall-gateway` on the running gateway's folder."""
    return CliRunner().invoke(main, [*words, "--data", str(gateway.data)])


def test_tokens_by_the_command_line(gateway: GatewayProcess) -> None:
    made = cli(gateway, "token", "add", "--role", "box", "--box", "box-9", "--cameras", "a,b")
    token = made.stdout.strip()
    assert gateway.post(token, "/v1/alerts", alert("by-a", camera_id="a")).status_code == 201
    assert gateway.post(token, "/v1/alerts", alert("by-c", camera_id="c")).status_code == 403
    listed = cli(gateway, "token", "list").stdout
    [line] = [line for line in listed.splitlines() if "box-9" in line]
    assert "a,b" in line
    assert token not in listed
    # At rest there is no token.
    assert not any(token.encode() in path.read_bytes() for path in gateway.data.glob("gateway.*"))
    assert cli(gateway, "token", "revoke", line.split()[0]).exit_code == 0
    assert gateway.post(token, "/v1/alerts", alert("by-a2", camera_id="a")).status_code == 401
    wrong = cli(gateway, "token", "revoke", "nobody")
    assert wrong.exit_code == 1
    assert "there is no valid token" in wrong.stderr


def test_it_says_whether_it_is_up_and_can_store(gateway: GatewayProcess) -> None:
    for path in ("/healthz", "/readyz"):
        answer = httpx.get(f"{gateway.url}{path}", timeout=20)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_it_is_not_opened_to_others_without_tls_in_front(gateway: GatewayProcess) -> None:
    refused = cli(gateway, "serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.exit_code == 1
    assert "tls_proxy" in refused.stderr
    assert "Traceback" not in refused.stderr
