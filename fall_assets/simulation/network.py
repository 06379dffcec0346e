"""A network that fails: a TCP relay on loopback whose faults can be switched while it runs.

What belongs here: ways in which a connection between a box and the gateway breaks. What does not:
cameras (`cameras.py`).
"""

from __future__ import annotations

import random
import socket
import struct
import threading
from contextlib import suppress
from typing import Literal, get_args

NetworkFault = Literal[
    "none", "refuse", "cut_request", "lose_answer", "cut_answer", "error_answer", "slow", "silent"
]
NETWORK_FAULTS: tuple[NetworkFault, ...] = get_args(NetworkFault)

_PIECE = 1 << 16
_LIMIT_S = 30.0
_SLOW_S = 0.3
_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


class Relay:
    """Passes connections on to `127.0.0.1:port`, one request and answer each, with faults.

    `fault` may be set at any time and counts for connections from then on:
    none; refuse: the connection is reset at once; cut_request: it breaks in the middle of the
    request; lose_answer: the request arrives, no byte of the answer comes back; cut_answer: the
    answer breaks in its middle; error_answer: the answer is replaced by a 500; slow: the answer
    comes late; silent: nothing comes back and nothing is closed.

    Answers must end their connection (`Connection: close`). `seed` decides where things break.
    """

    def __init__(self, port: int, *, seed: int = 0) -> None:
        self.fault: NetworkFault = "none"
        self.counts: dict[NetworkFault, int] = dict.fromkeys(NETWORK_FAULTS, 0)
        """How many connections met each fault."""
        self._target = port
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._server.getsockname()[1]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; what is under way ends by itself."""
        self._stopping.set()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5.0)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            fault = self.fault
            self.counts[fault] += 1
            share = self._random.random()
            threading.Thread(target=self._serve, args=(client, fault, share), daemon=True).start()

    def _serve(self, client: socket.socket, fault: NetworkFault, share: float) -> None:
        with client, suppress(OSError):
            client.settimeout(_LIMIT_S)
            if fault == "refuse":
                _reset(client)
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=_LIMIT_S)
            except OSError:
                _reset(client)
                return
            with server:
                upwards = threading.Thread(
                    target=self._up, args=(client, server, fault, share), daemon=True
                )
                upwards.start()
                self._down(client, server, fault, share)
                if fault != "silent":
                    _end(client)
                upwards.join(_LIMIT_S)

    def _up(
        self, client: socket.socket, server: socket.socket, fault: NetworkFault, share: float
    ) -> None:
        with suppress(OSError):
            while piece := client.recv(_PIECE):
                if fault == "cut_request":
                    # At least the request's first byte, at most all but its last.
                    server.sendall(piece[: max(1, int(len(piece) * share))])
                    _end(server)
                    _reset(client)
                    return
                server.sendall(piece)
            _end(server)

    def _down(
        self, client: socket.socket, server: socket.socket, fault: NetworkFault, share: float
    ) -> None:
        answer = b""
        while piece := server.recv(_PIECE):
            if fault == "none":
                client.sendall(piece)
            answer += piece
        if fault == "cut_answer":
            client.sendall(answer[: int(len(answer) * share)])
        elif fault == "error_answer":
            client.sendall(_ERROR)
        elif fault == "slow":
            self._stopping.wait(_SLOW_S * (1 + share))
            client.sendall(answer)
        elif fault == "silent":
            self._stopping.wait(_LIMIT_S)


def _reset(sock: socket.socket) -> None:
    """Close with RST instead of FIN."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RD)
    sock.close()


def _end(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
