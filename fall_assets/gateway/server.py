"""Running the service. What belongs here: the socket, the server's limits, its end. What does not:
the app (`app.py`), arguments (`cli.py`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from typing import Any, Final, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from fall_assets.gateway.settings import Settings, SettingsError

MOST_CONNECTIONS: Final = 1000
MOST_HEADER: Final = 16 * 1024
KEEP_ALIVE_S: Final = 15
GRACE_S: Final = 10
BACKLOG: Final = 256


def _protocol(header_s: float) -> type[H11Protocol]:
    """HTTP by h11, with a limit on how long a client may take to say what it wants.

    uvicorn has one between requests only, and any byte ends it: whoever sends a header byte by
    byte would hold a connection for ever.
    """

    class Patient(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._late is not None:
                self._late.cancel()
            super().connection_lost(exc)

        def _watch(self) -> None:
            waits = self.cycle is None or self.cycle.response_complete
            if not waits and self._late is not None:
                self._late.cancel()
                self._late = None
            elif waits and self._late is None:
                limit = header_s if self.cycle is None else header_s + KEEP_ALIVE_S
                self._late = self.loop.call_later(limit, self._give_up)

        def _give_up(self) -> None:
            self._late = None
            if not self.transport.is_closing():
                self.transport.close()

    return Patient


class _Server(uvicorn.Server):
    """A server that ends the pages' streams before it waits for requests to end."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, address: str) -> None:
        super().__init__(config)
        self._app = app
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"fall-gateway: listening on {self._address}", flush=True)  # noqa: T201

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.gateway.stop()
        await super().shutdown(sockets)


def serve(app: FastAPI, settings: Settings) -> None:
    """Listen until SIGINT or SIGTERM. SettingsError where the address cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server(
            (settings.host, settings.port), family=family, backlog=BACKLOG
        )
    except OSError as error:
        raise SettingsError(
            f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}"
        ) from None
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        app,
        http=cast(Any, _protocol(settings.limits.header_s)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=MOST_HEADER,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    shown = f"[{host}]" if ":" in host else host
    server = _Server(config, app, f"http://{shown}:{port}")
    # uvicorn ends in good order at these, and then sends them again.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _nothing)
    with listener:
        server.run([listener])


def _nothing(*_: object) -> None:
    """Stay."""


def log_to_stderr() -> None:
    """One line for each event."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
