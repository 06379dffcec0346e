"""Running a job as a person would, from the command line.

What belongs here: the process and what is shown of it. What does not: the jobs (`jobs.py`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fall_assets.progress import SCREEN
from fall_assets.site import Site, project_root

_CLEAR_LINE = "\r\x1b[K"
_FAILURE = re.compile(r"(?!dagster\._core\.errors)[\w.]+(Error|Failure|Exception): ")


def run_job(
    site: Site, job: str, tags: Mapping[str, str], config: Mapping[str, Any] | None = None
) -> int:
    """Run a job in a process of its own, with run config where given; its exit status.

    What matters of its log is shown, all of it is kept in `logs/JOB.log` below the site's folder.
    """
    command = [
        str(Path(sys.executable).parent / "dagster"),
        *("job", "execute", "-m", "fall_assets.definitions", "-j", job),
        *("--tags", json.dumps(dict(tags))),
    ]
    (project_root() / "data" / "dagster").mkdir(parents=True, exist_ok=True)
    if config is not None:
        kept_config = site.root / "logs" / f"{job}.config.json"
        kept_config.parent.mkdir(parents=True, exist_ok=True)
        kept_config.write_text(json.dumps(config))
        command += ["-c", str(kept_config)]
    # The run draws its bars on our terminal; its output is a pipe.
    screen = os.dup(sys.stderr.fileno()) if sys.stderr.isatty() else None
    log = site.root / "logs" / f"{job}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as kept,
        subprocess.Popen(  # noqa: S603
            command,
            env=environment() | ({} if screen is None else {SCREEN: str(screen)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=() if screen is None else (screen,),
        ) as process,
    ):
        if screen is not None:
            os.close(screen)
        if process.stdout is None:
            raise RuntimeError("the job's output cannot be read")
        for line in process.stdout:
            kept.write(line)
            if shown := _worth_showing(line):
                click.echo(shown if screen is None else f"{_CLEAR_LINE}{shown}")
    if process.returncode:
        click.echo(f"the run failed; its whole log is in {log}", err=True)
    return process.returncode


def environment() -> dict[str, str]:
    """The environment for tools of others: our site, telemetry off."""
    return {
        **os.environ,
        "DAGSTER_HOME": str(project_root()),
        "DAGSTER_DISABLE_TELEMETRY": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PYTHONUNBUFFERED": "1",
    }


def _worth_showing(line: str) -> str | None:
    """What a person who waits wants to see of a line of Dagster's log; None for the rest."""
    if _FAILURE.match(line):
        return f"    {line.rstrip()}"
    parts = line.rstrip().split(" - ")
    if len(parts) < 5 or parts[1] != "dagster":
        return None
    level, message = parts[2], " - ".join(parts[5:])
    if level == "INFO":
        return f"    {message.split(' - ', 1)[-1]}"
    if "STEP_START" in message or "STEP_FAILURE" in message or level in ("ERROR", "CRITICAL"):
        return message.split(" - ", 2)[-1]
    return None
