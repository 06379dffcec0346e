"""A receiver of alerts that says what it is told to say, and remembers what it got."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "fa_box_" + "a" * 43


@dataclass
class Say:
    """One answer; `text` instead of the JSON, `cut`: so many bytes of the body, then the end."""

    status: int = 201
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    text: bytes | None = None
    cut: int | None = None


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


Answering = Callable[[Asked], Say]


class Receiver:
    """An HTTP server on loopback. `answer` may be replaced at any time."""

    def __init__(self, answer: Answering | None = None, *, port: int = 0) -> None:
        self.answer: Answering = answer or accept
        self.asked: list[Asked] = []
        self.stored: Counter[str] = Counter()
        """Alerts that were answered with 2xx, even where the answer did not arrive: how often."""
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def order(self) -> list[str]:
        """Ids of alerts in the order in which they were posted."""
        return [asked.body["alert_id"] for asked in list(self.asked)]


def accept(asked: Asked) -> Say:
    return Say(201, {"alert_id": asked.body["alert_id"], "accepted": True, "new": True})


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            text = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, json.loads(text) if text else None)
            receiver.asked.append(asked)
            say = receiver.answer(asked)
            if 200 <= say.status < 300 and asked.path == "/v1/alerts":
                receiver.stored[asked.body["alert_id"]] += 1
            body = say.text if say.text is not None else json.dumps(say.body).encode()
            if say.status in (204, 304):
                body = b""
            self.send_response(say.status)
            for name, value in {"Content-Length": str(len(body)), **say.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: say.cut])

        do_GET = do_POST = do  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
