"""A runner as a child of the agent: started, watched by its health file, started again, stopped.

What belongs here: one process. What does not: what several of them mean for an update
(`agent.py`).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

STALE_S: Final = 30.0
"""A runner that says nothing for so long hangs (it writes every 2 s)."""
FIRST_WORD_S: Final = 90.0
"""So long may it take until it says something at all."""
_BACKOFF_S: Final = (1.0, 60.0)
_STOP_S: Final = 15.0
_CALM_S: Final = 120.0


class RunnerChild:
    """One `fall-edge run`. Call `tick` often; not thread-safe."""

    def __init__(
        self, command: Sequence[str], state: Path, model_version: str, say: Callable[[str], None]
    ) -> None:
        """`state` is the runner's folder, in which it writes `health.json`."""
        self._command = list(command)
        self._health = state / "health.json"
        self._model_version = model_version
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._spoken = 0.0
        self._word = ""
        self._next_start = 0.0
        self._in_a_row = 0
        self.ends = 0
        """How often it ended or was ended because it hung."""
        self.healthy_since: float | None = None
        """On the monotonic clock; None while it is not healthy."""
        self.detail = "not started yet"

    def tick(self) -> None:
        """Look after it: start it, take note of its health, start it again."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._next_start:
                self._start(now)
            return
        code = self._process.poll()
        if code is not None:
            self._ended(now, f"ended with {code}")
            return
        self._listen(now)
        patience = STALE_S if self._word else FIRST_WORD_S
        if now - max(self._spoken, self._started) > patience:
            self._process.kill()
            self._process.wait()
            self._ended(now, f"said nothing for {patience:.0f} s and was ended")

    def stop(self) -> None:
        """Ask it to end, and end it where it does not within 15 s."""
        self.ask_to_stop()
        if self._process is not None:
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
        self.healthy_since = None

    def ask_to_stop(self) -> None:
        """Ask it to end, without waiting."""
        if self._process is not None:
            self._process.terminate()

    def _start(self, now: float) -> None:
        self._word, self._started, self._spoken = "", now, now
        self._health.unlink(missing_ok=True)
        self._health.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._process = subprocess.Popen(  # noqa: S603 (a verified package's program)
                self._command, stdin=subprocess.DEVNULL, env=clean_environment()
            )
        except OSError as error:
            self._ended(now, f"cannot be started: {error}")

    def _ended(self, now: float, why: str) -> None:
        self._process = None
        self.healthy_since = None
        self.ends += 1
        self._in_a_row = 1 if now - self._started > _CALM_S else self._in_a_row + 1
        first, most = _BACKOFF_S
        wait = min(most, first * 2 ** (self._in_a_row - 1)) * random.uniform(0.5, 1)  # noqa: S311
        self._next_start = now + wait
        self.detail = f"the runner of model {self._model_version} {why}"
        self._say(f"{self.detail}; again in {wait:.0f} s")

    def _listen(self, now: float) -> None:
        said = _read(self._health)
        if self._process is None or said is None or said.get("pid") != self._process.pid:
            return
        if said.get("at_utc") != self._word:
            self._word, self._spoken = str(said.get("at_utc")), now
        version = said.get("model_version")
        if said.get("ok") is not True:
            self.detail = f"not ok: {said.get('detail') or said.get('streams')}"[:500]
        elif version != self._model_version:
            self.detail = f"runs model {version}, wanted {self._model_version}"
        else:
            self.detail = "ok"
        if self.detail != "ok":
            self.healthy_since = None
        elif self.healthy_since is None:
            self.healthy_since = now


def clean_environment() -> dict[str, str]:
    """The environment for another frozen program: without what this one's start added."""
    environment = dict(os.environ)
    for name in list(environment):
        if name.startswith("_PYI_"):
            del environment[name]
    original = environment.pop("LD_LIBRARY_PATH_ORIG", None)
    if original is not None:
        environment["LD_LIBRARY_PATH"] = original
    elif getattr(sys, "frozen", False):
        environment.pop("LD_LIBRARY_PATH", None)
    environment["PYINSTALLER_RESET_ENVIRONMENT"] = "1"
    return environment


def end_leftovers(states: Path) -> None:
    """End runners that an agent which was killed left behind: two would fight over one state."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words: list[str] = process.info["cmdline"] or []
        places = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--state"]
        if "run" in words and any(Path(place).parent == states for place in places):
            found.append(process)
    for process in found:
        with suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(found, timeout=_STOP_S)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=_STOP_S)


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
