"""What a box says to the gateway, and what it believes of the answers."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fall_assets.edge.client import GatewayAwayError, GatewayClient, GatewayRefusedError
from fall_assets.errors import PermanentFailureError
from fall_assets_tests.edge.receiver import TOKEN, Asked, Receiver, Say


@pytest.fixture
def gateway() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def client(gateway: Receiver, timeout_s: float = 10) -> GatewayClient:
    return GatewayClient(gateway.url, lambda: TOKEN, timeout_s=timeout_s)


def test_telemetry_and_updates(gateway: Receiver) -> None:
    gateway.answer = lambda asked: Say(200, {"accepted": len(asked.body.get("reports", []))})
    assert client(gateway).post_telemetry([{"camera_id": "a"}, {"camera_id": "b"}]) == 2
    client(gateway).post_update("ab" * 32, "refused", "wrong signature")
    telemetry, update = gateway.asked
    assert telemetry.path == "/v1/telemetry"
    assert telemetry.body["reports"] == [{"camera_id": "a"}, {"camera_id": "b"}]
    assert datetime.fromisoformat(telemetry.body["sent_utc"]).utcoffset() == timedelta(0)
    assert update.path == "/v1/updates"
    assert {**update.body, "at_utc": ""} == {
        "at_utc": "",
        "package": "ab" * 32,
        "state": "refused",
        "detail": "wrong signature",
    }


def test_assignment(gateway: Receiver) -> None:
    signed, signature = b'{"serial": 3}\n', os.urandom(64)
    body = {
        "assignment": base64.b64encode(signed).decode(),
        "signature": base64.b64encode(signature).decode(),
    }

    def answer(asked: Asked) -> Say:
        if asked.headers.get("if-none-match") == '"v3"':
            return Say(304, headers={"ETag": '"v3"'})
        return Say(200, body, {"ETag": '"v3"'})

    gateway.answer = answer
    first = client(gateway).get_assignment()
    assert (first.state, first.assignment, first.signature) == ("new", signed, signature)
    second = client(gateway).get_assignment(first.etag)
    assert (second.state, second.etag) == ("unchanged", '"v3"')
    gateway.answer = lambda _: Say(204)
    assert client(gateway).get_assignment('"v3"').state == "none"
    for bad in ({}, {"assignment": "?", "signature": ""}, {"assignment": 1, "signature": 2}):
        gateway.answer = lambda _, bad=bad: Say(200, bad)  # type: ignore[misc]
        with pytest.raises(GatewayAwayError, match="base64"):
            client(gateway).get_assignment()


def test_a_package_in_pieces(gateway: Receiver) -> None:
    archive = os.urandom(300_000)
    name = hashlib.sha256(archive).hexdigest()

    def answer(asked: Asked) -> Say:
        assert asked.path == f"/v1/packages/{name}"
        wanted = asked.headers.get("range")
        if wanted is None:
            return Say(200, text=archive, cut=200_000)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        span = f"bytes {start}-{len(archive) - 1}/{len(archive)}"
        return Say(206, text=archive[start:], headers={"Content-Range": span})

    gateway.answer = answer
    got = b""
    with client(gateway).open_package(name) as package:
        assert (package.offset, package.size) == (0, 300_000)
        while len(got) < 200_000:
            got += package.read()
        with pytest.raises(GatewayAwayError, match="broke off"):
            package.read()
    assert got == archive[:200_000]
    with client(gateway).open_package(name, len(got)) as package:
        assert (package.offset, package.size) == (200_000, 300_000)
        while piece := package.read(1000):
            got += piece
    assert got == archive
    # A gateway that knows no ranges begins anew, and says so.
    gateway.answer = lambda _: Say(200, text=archive)
    with client(gateway).open_package(name, 1000) as package:
        assert package.offset == 0
    gateway.answer = lambda _: Say(206, text=b"", headers={"Content-Range": "bytes 5-9/10"})
    with (
        pytest.raises(GatewayAwayError, match="another range"),
        client(gateway).open_package(name, 1000),
    ):
        pass
    with (
        pytest.raises(PermanentFailureError, match="64 hexadecimal"),
        client(gateway).open_package("../../etc/passwd"),
    ):
        pass


def test_answers_that_refuse_and_answers_that_ask_to_wait(gateway: Receiver) -> None:
    gateway.answer = lambda _: Say(403, {"detail": "camera \x1b[31mcam-9\nis not yours"})
    with pytest.raises(GatewayRefusedError, match=r"403: camera \[31mcam-9 is") as refused:
        client(gateway).post_telemetry([])
    assert refused.value.status == 403
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    waits = []
    for value in ("7", later, "soon", "-5", "9" * 400):
        gateway.answer = lambda _, v=value: Say(503, {}, {"Retry-After": v})  # type: ignore[misc]
        with pytest.raises(GatewayAwayError) as away:
            client(gateway).post_telemetry([])
        assert away.value.status == 503
        waits.append(away.value.retry_after_s)
    assert waits[0] == 7
    assert waits[1] is not None
    assert 3000 < waits[1] <= 3600
    assert waits[2:] == [None, None, None]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://gateway.example", "use https"),
        ("http://192.168.1.4:8600", "use https"),
        ("http://user:s3cret@127.0.0.1", "no user"),
        ("ftp://127.0.0.1", "an address like"),
        ("http://127.0.0.1:99999", "an address like"),
        ("gateway", "an address like"),
        ("https://gateway.example/?token=1", "no user"),
    ],
)
def test_addresses_that_are_not_taken(url: str, why: str) -> None:
    with pytest.raises(PermanentFailureError, match=why) as refused:
        GatewayClient(url, lambda: TOKEN)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://gateway.example/path/", "http://[::1]:9", "http://localhost"]
)
def test_addresses_that_are_taken(url: str) -> None:
    GatewayClient(url, lambda: TOKEN)


def test_a_token_that_cannot_be_read_is_asked_for_again(gateway: Receiver) -> None:
    def missing() -> str:
        raise FileNotFoundError(2, "no such file", "/etc/token")

    with pytest.raises(GatewayAwayError, match="token_file"):
        GatewayClient(gateway.url, missing).post_telemetry([])
    assert gateway.asked == []


def test_a_request_has_an_end_though_bytes_keep_dripping() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Header: ")
                while not stop.wait(0.05):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(GatewayAwayError, match="in time"):
            GatewayClient(url, lambda: TOKEN, timeout_s=0.5).post_telemetry([])
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def _certificate(folder: Path, host: str) -> tuple[Path, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = folder / f"{host}.key"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, private)
    return path, context


def test_tls_is_verified(gateway: Receiver, tmp_path: Path) -> None:
    gateway.answer = lambda _: Say(200, {"accepted": 0})
    path, context = _certificate(tmp_path, "localhost")
    gateway._server.socket = context.wrap_socket(gateway._server.socket, server_side=True)
    url = f"https://localhost:{gateway.port}"
    with pytest.raises(GatewayAwayError, match="certificate is not trusted"):
        GatewayClient(url, lambda: TOKEN).post_telemetry([])
    trusting = ssl.create_default_context(cafile=str(path))
    assert GatewayClient(url, lambda: TOKEN, context=trusting).post_telemetry([]) == 0
    with pytest.raises(GatewayAwayError, match="certificate is not trusted"):
        GatewayClient(
            f"https://127.0.0.1:{gateway.port}", lambda: TOKEN, context=trusting
        ).post_telemetry([])
    assert len(gateway.asked) == 1


def test_delivery_needs_nothing_heavy() -> None:
    code = (
        "import sys, fall_assets.edge.sender; "
        "print(sorted({'polars','torch','dagster','mlflow','scipy','pyarrow','numpy','av'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
