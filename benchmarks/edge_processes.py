"""The processes that the benchmark of faults kills and starts, and what waits on a box's disk.

What belongs here: starting, ending, asking. What does not: faults and counting (`edge_faults`).
"""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
_READY_S = 60.0
_GATEWAY = """
port = {port}
data = "data"
[limits]
rate_per_s = 300.0
burst = 400
failures_per_minute = 6000.0
"""


class Process:
    """A process that is killed and started again."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path) -> None:
        self.name = name
        self.kills = 0
        self._command = [str(word) for word in command]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; what it says goes to its log."""
        with self._log.open("ab") as log:
            # Its standard input stays open: some end with it.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=REPOSITORY
            )

    @property
    def runs(self) -> bool:
        """Whether it is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, from which nothing can be saved; counted."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise SystemExit(
                f"{self.name} ended by itself with {self._process.returncode}:\n{self.tail()}"
            )
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)
        self.kills += 1

    def end(self) -> None:
        """Stop it, gently at first."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(15)

    def tail(self, length: int = 3000) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-length:]


class Gateway(Process):
    """A real `fall-gateway` with its own data."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        self._config = folder / "gateway.toml"
        self._config.write_text(_GATEWAY.format(port=self.port))
        self._module = [sys.executable, "-m", "fall_assets.gateway.cli"]
        super().__init__(
            "gateway", [*self._module, "serve", "--config", self._config], folder / "log"
        )
        self._platform = self.token("--role", "platform")

    def token(self, *role: str) -> str:
        """Make a token."""
        done = subprocess.run(
            [*self._module, "token", "add", "--config", str(self._config), *role],
            check=True,
            capture_output=True,
            text=True,
            timeout=_READY_S,
            cwd=REPOSITORY,
        )
        return done.stdout.split()[-1]

    def wait(self) -> None:
        """Return when it answers."""
        end = time.monotonic() + _READY_S
        while time.monotonic() < end:
            with suppress(OSError):
                url = f"http://127.0.0.1:{self.port}/readyz"
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.status == 200:
                        return
            time.sleep(0.05)
        raise SystemExit(f"the gateway does not answer:\n{self.tail()}")

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """All `alerts` or `reports` that it has."""
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.port}/v1/{kind}?after={after}&limit=500",
                headers={"Authorization": f"Bearer {self._platform}"},
            )
            with urllib.request.urlopen(request, timeout=20) as answer:
                said = json.load(answer)
            if not said[kind]:
                return found
            found += said[kind]
            after = said["next"]


def free_port() -> int:
    """A port of loopback that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# --- storm ---------------------------------------------------------------------------------------


def waiting_in(path: Path) -> int:
    """How many alerts wait in another process's outbox; 1 where it cannot be read now."""
    try:
        with closing(sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True)) as database:
            sql = "SELECT count(*) FROM alerts WHERE state = 'waiting'"
            return int(database.execute(sql).fetchone()[0])
    except sqlite3.Error:
        return 1
