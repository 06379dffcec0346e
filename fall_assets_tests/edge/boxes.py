"""A box as a process: `python -m fall_assets.edge run` with a configuration of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fall_assets.learning.events import EventSettings
from fall_assets_tests.edge.models import with_events
from fall_assets_tests.edge.receiver import TOKEN, Asked, Receiver, Say, accept

ALWAYS = EventSettings(threshold=0.0, certain=0.0, merge_gap_s=10.0)
"""An alarm as soon as anything is scored; it lasts for ever."""
LIMIT_S = 60


def answer(asked: Asked) -> Say:
    """A gateway that takes everything."""
    if asked.path == "/v1/telemetry":
        return Say(200, {"accepted": len(asked.body["reports"])})
    return accept(asked)


@dataclass
class Box:
    """A folder with `edge.toml`, token and state, and a model that always raises an alarm."""

    folder: Path
    model: Path
    gateway: str
    cameras: list[str] = field(default_factory=list)
    runner: str = ""

    def camera(self, camera_id: str, url: str, **settings: Any) -> Box:
        told = {"id": camera_id, "url": url, **settings}
        lines = [f"{name} = {json.dumps(value)}" for name, value in told.items()]
        self.cameras.append("[[cameras]]\n" + "\n".join(lines) + "\n")
        return self

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def health(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads((self.state / "health.json").read_text())
        except (OSError, ValueError):
            return {}
        return told

    def write(self) -> Path:
        config = self.folder / "edge.toml"
        config.write_text(
            f'box = "box-1"\ngateway = "{self.gateway}"\n'
            + "".join(self.cameras)
            + f"[runner]\npose_threads = 1\n{self.runner}"
        )
        token = self.folder / "token"
        if not token.exists():
            token.write_text(TOKEN)
            token.chmod(0o600)
        return config

    def command(self, *arguments: str) -> list[str]:
        return [
            sys.executable, "-m", "fall_assets.edge", "run", "--config", str(self.write()),
            "--model", str(self.model), *arguments,
        ]  # fmt: skip

    def once(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run to the end of all files."""
        return subprocess.run(
            self.command("--once", *arguments), capture_output=True, text=True, timeout=LIMIT_S
        )

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run beside the test; killed at the latest when the block ends."""
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(self.command(*arguments), stderr=log, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait(LIMIT_S)

    def log(self) -> str:
        return (self.folder / "log").read_text()


def new_box(folder: Path, model_folder: Path, gateway: Receiver | str) -> Box:
    with_events(model_folder, ALWAYS, folder / "model")
    url = gateway if isinstance(gateway, str) else gateway.url
    return Box(folder, folder / "model", url)


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait(LIMIT_S)
