"""A gateway for tests: as an app in this process, or as a process of its own."""

from __future__ import annotations

import base64
import io
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageDraw, ImageFilter

from fall_assets.gateway.database import Database
from fall_assets.gateway.tokens import Role, Tokens

PATIENCE_S = 30.0
NOW = datetime(2026, 3, 4, 2, 0, tzinfo=UTC)


def eventually(what: Callable[[], Any], *, why: str, patience_s: float = PATIENCE_S) -> Any:
    """What `what` gives as soon as it is true; fails with `why` where it never is."""
    deadline = time.monotonic() + patience_s
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"never came true: {why}")
        time.sleep(0.05)


def jpeg(width: int = 64, height: int = 48, **options: Any) -> bytes:
    """A small JPEG."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), (90, 110, 130)).save(out, "JPEG", **options)
    return out.getvalue()


def room_picture() -> bytes:
    """A JPEG that looks like a blurred room with somebody on the floor."""
    picture = Image.new("RGB", (640, 360), (178, 184, 186))
    draw = ImageDraw.Draw(picture)
    draw.polygon([(0, 360), (640, 360), (560, 210), (80, 210)], fill=(132, 126, 116))
    draw.rectangle((60, 60, 200, 190), fill=(214, 222, 228))
    draw.polygon([(330, 150), (560, 150), (610, 240), (350, 240)], fill=(226, 228, 222))
    draw.polygon([(350, 240), (610, 240), (610, 275), (350, 275)], fill=(110, 120, 128))
    draw.ellipse((150, 262, 200, 300), fill=(196, 158, 136))
    draw.rounded_rectangle((190, 262, 330, 306), 20, fill=(84, 116, 152))
    draw.rounded_rectangle((310, 270, 420, 298), 14, fill=(70, 74, 92))
    picture = picture.filter(ImageFilter.GaussianBlur(6))
    head = picture.crop((140, 252, 210, 310)).resize((3, 3))
    picture.paste(head.resize((70, 58), Image.Resampling.NEAREST), (140, 252))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


def alert(
    alert_id: str = "a1", at: datetime | None = None, *, still: bytes | None = None, **changes: Any
) -> dict[str, Any]:
    """An alert as a box posts it now, raised at that time (default: now)."""
    now = datetime.now(UTC)
    at = at or now
    return {
        "alert_id": alert_id,
        "camera_id": "cam-1",
        "start_utc": (at - timedelta(seconds=2)).isoformat(),
        "raised_utc": at.isoformat(),
        "score": 0.9,
        "kind": "fall",
        "model_version": "fall-detector/3",
        "shadow": False,
        "sent_utc": now.isoformat(),
        "still": None if still is None else base64.b64encode(still).decode(),
        **changes,
    }


def report(camera_id: str = "cam-1", at: datetime | None = None, **changes: Any) -> dict[str, Any]:
    """A report as a box posts it."""
    at = at or datetime.now(UTC)
    return {
        "camera_id": camera_id,
        "at_utc": at.isoformat(),
        "cpu_percent": 41.5,
        "memory_percent": 20.0,
        "temperature_c": None,
        "bandwidth_kbps": 2200.0,
        "frames_expected": 1500,
        "frames_decoded": 1499,
        "fps_expected": 25.0,
        "fps_measured": 24.98,
        "gate_duty": 0.2,
        "power": "mains",
        "model_version": "fall-detector/3",
        "state": "ok",
        "since_utc": at.isoformat(),
        "clock_offset_s": None,
        "outbox": 0,
        **changes,
    }


def telemetry(*reports: Mapping[str, Any], at: datetime | None = None) -> dict[str, Any]:
    """Telemetry as a box posts it."""
    return {"sent_utc": (at or datetime.now(UTC)).isoformat(), "reports": list(reports)}


def bearer(token: str) -> dict[str, str]:
    """The header with a token."""
    return {"Authorization": f"Bearer {token}"}


def add_token(data: Path, role: Role, **whose: Any) -> str:
    """A new token in a gateway's data folder, running or not."""
    data.mkdir(parents=True, exist_ok=True)
    database = Database("", data)
    try:
        return Tokens(database, lambda: datetime.now(UTC)).add(role, **whose)[0]
    finally:
        database.close()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class GatewayProcess:
    """`fall-gateway serve` as its own process, on the same port and folder after a restart."""

    folder: Path
    config: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    @property
    def data(self) -> Path:
        """The gateway's data."""
        return self.folder / "gateway-data"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        file = self.folder / "gateway.toml"
        file.write_text(f"port = {self.port}\n{self.config}")
        with (self.folder / "log.txt").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fall_assets.gateway.cli", "serve", "--config", str(file)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **self.environment},
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        line = self.process.stdout.readline() if ready else ""
        assert "listening" in line, f"{line!r}; {self.log()}"

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it as an administrator does; its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(how)
        try:
            status = self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None
        return status

    def log(self) -> str:
        """All that it has logged."""
        return (self.folder / "log.txt").read_text()

    def token(self, role: Role, **whose: Any) -> str:
        """A new token."""
        return add_token(self.data, role, **whose)

    def post(self, token: str, path: str, content: Any) -> httpx.Response:
        """Post JSON."""
        return httpx.post(f"{self.url}{path}", json=content, headers=bearer(token), timeout=20)

    def set_cameras(self, cameras: Sequence[Mapping[str, Any]]) -> None:
        """Tell it where cameras hang."""
        answer = httpx.put(
            f"{self.url}/v1/cameras",
            json=[{"ward": None, "room": None, **camera} for camera in cameras],
            headers=bearer(self.token("platform")),
            timeout=20,
        )
        assert answer.status_code == 200, answer.text


@contextmanager
def running(folder: Path, config: str = "", **more: Any) -> Iterator[GatewayProcess]:
    """A gateway process, ended in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    gateway = GatewayProcess(folder, config, **more)
    try:
        gateway.start()
        yield gateway
    finally:
        if gateway.process is not None:
            gateway.kill()
