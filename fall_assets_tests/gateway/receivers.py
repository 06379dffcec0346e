"""Real receivers on the loopback address: HTTP, SMTP and MQTT, as small as they can be."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO


class WebReceiver(ThreadingHTTPServer):
    """Answers posts with `status` and keeps what came: (path, headers, body)."""

    daemon_threads = True
    status = 200

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), _WebHandler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _WebHandler(BaseHTTPRequestHandler):
    server: WebReceiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.got.append((self.path, dict(self.headers), b""))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class MailReceiver(socketserver.ThreadingTCPServer):
    """A mail server that takes everything; `refuse` times it says that it is busy."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.got: list[str] = []
        self.refuse = 0
        super().__init__(("127.0.0.1", 0), _MailHandler)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])


class _MailHandler(socketserver.StreamRequestHandler):
    server: MailReceiver
    timeout = 20

    def handle(self) -> None:
        def say(text: str) -> None:
            self.wfile.write(text.encode() + b"\r\n")

        say("220 here")
        while line := self.rfile.readline():
            word = line.split(b" ")[0].strip().upper()
            if word == b"DATA":
                say("354 go on")
                lines = []
                while (part := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(part)
                if self.server.refuse:
                    self.server.refuse -= 1
                    say("451 busy")
                else:
                    self.server.got.append(b"".join(lines).decode())
                    say("250 taken")
            elif word == b"QUIT":
                say("221 bye")
                return
            else:
                say("250 fine")


class Broker(socketserver.ThreadingTCPServer):
    """Enough of MQTT 3.1.1 to be connected and published to; keeps (topic, text, retained)."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        self.got: list[tuple[str, str, bool]] = []
        self.wills: list[tuple[str, str]] = []
        self.users: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", port), _BrokerHandler)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def retained(self) -> dict[str, str]:
        """What who comes now would get."""
        return {topic: text for topic, text, kept in self.got if kept}


class _BrokerHandler(socketserver.BaseRequestHandler):
    server: Broker

    def handle(self) -> None:
        self.request.settimeout(60)
        stream = self.request.makefile("rb")
        while packet := _packet(stream):
            kind, flags, body = packet
            if kind == 1:
                self._connect(body)
                self.request.sendall(b"\x20\x02\x00\x00")
            elif kind == 3:
                topic, rest = _text(body)
                if (flags >> 1) & 3:
                    number, rest = rest[:2], rest[2:]
                self.server.got.append((topic, rest.decode(), bool(flags & 1)))
                if (flags >> 1) & 3:
                    self.request.sendall(b"\x40\x02" + number)
            elif kind == 12:
                self.request.sendall(b"\xd0\x00")
            elif kind == 14:
                return

    def _connect(self, body: bytes) -> None:
        _, rest = _text(body)
        flags, rest = rest[1], rest[4:]
        _, rest = _text(rest)
        if flags & 4:
            topic, rest = _text(rest)
            will, rest = _text(rest)
            self.server.wills.append((topic, will))
        if flags & 0x80:
            user, rest = _text(rest)
            password, rest = _text(rest)
            self.server.users.append((user, password))


def _packet(stream: BinaryIO) -> tuple[int, int, bytes] | None:
    try:
        first = stream.read(1)
        if not first:
            return None
        size = shift = 0
        while True:
            byte = stream.read(1)[0]
            size |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
        return first[0] >> 4, first[0] & 15, stream.read(size)
    except (OSError, IndexError):
        return None


def _text(body: bytes) -> tuple[str, bytes]:
    (size,) = struct.unpack(">H", body[:2])
    return body[2 : 2 + size].decode(), body[2 + size :]


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    """Runs a receiver in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
