"""`fall-edge`: the command on the box.

What belongs here: arguments, the log's form, signals, exit codes. What does not: the work. Argparse
and imports inside functions: the command starts in a fraction of a second on a small box.

Exit codes: 0 done, 1 something was left undone or failed for now, 2 wrong settings or arguments.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fall_assets.errors import FallAssetsError, PassingFailureError

if TYPE_CHECKING:
    from fall_assets.edge.config import EdgeSettings

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    told = parser.parse_args(arguments)
    work: Callable[[argparse.Namespace], int | None] | None = getattr(told, "run", None)
    if work is None:
        parser.print_help(sys.stderr)
        return 2
    log_to_stderr(verbose=getattr(told, "verbose", False))
    try:
        return work(told) or 0
    except FallAssetsError as error:
        print(f"fall-edge: {error}", file=sys.stderr)  # noqa: T201
        return 1 if isinstance(error, PassingFailureError) else 2
    except KeyboardInterrupt:
        return 130


def log_to_stderr(*, verbose: bool = False) -> None:
    """One plain line for each message: time in UTC, level, text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)


class _Line(logging.Formatter):
    """Everything on one line, without what cameras' addresses keep secret."""

    settings: EdgeSettings | None = None

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += " | " + self.formatException(record.exc_info).replace("\n", " | ")
        if self.settings is not None:
            text = self.settings.without_secrets(text)
        text = "".join(c if c.isprintable() else " " for c in text)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{at}.{int(record.msecs):03d}Z {record.levelname.lower()} {text}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fall-edge", description="Watches cameras and tells the ward when somebody falls."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    run = commands.add_parser("run", help="watch the cameras of a configuration")
    run.add_argument("--config", type=Path, required=True, help="edge.toml")
    run.add_argument("--model", type=Path, required=True, help="the model's folder")
    run.add_argument("--cameras", help="only these, with commas between")
    run.add_argument("--state", type=Path, help="folder of the outbox and health.json")
    run.add_argument("--shadow", action="store_true", help="alerts are not for the ward")
    run.add_argument("--once", action="store_true", help="end when all files have ended")
    run.add_argument("--verbose", action="store_true", help="log more")
    run.set_defaults(run=_run)

    score = commands.add_parser("score", help="score recorded files and tell their events")
    score.add_argument("files", type=Path, nargs="+", metavar="FILE")
    score.add_argument("--model", type=Path, required=True, help="the model's folder")
    score.add_argument(
        "--gate",
        choices=("open", "recorded", "live"),
        default="recorded",
        help="look at everything; as the platform does with a file; or as with a camera",
    )
    score.add_argument("--json", action="store_true", help="one JSON object per file")
    score.set_defaults(run=_score)

    worker = commands.add_parser("score-worker", help="score files asked for on standard input")
    worker.set_defaults(run=_score_worker)

    version = commands.add_parser("version", help="tell versions")
    version.add_argument("--model", type=Path, help="a model's folder")
    version.set_defaults(run=_version)

    _add_package_commands(commands)
    return parser


def _add_package_commands(commands: Any) -> None:
    from fall_assets.edge.package_commands import add_commands

    add_commands(commands)


def _run(told: argparse.Namespace) -> int:
    from dataclasses import replace

    from fall_assets.edge.config import load_settings

    settings = load_settings(told.config)
    if told.state is not None:
        settings = replace(settings, state=told.state.absolute())
    _Line.settings = settings

    from fall_assets.edge.runner import Runner, RunSettings

    cameras = None
    if told.cameras is not None:
        cameras = [name.strip() for name in told.cameras.split(",") if name.strip()]
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    runner = Runner(settings, told.model, RunSettings(cameras, told.shadow, told.once))
    code = runner.run(stop)
    if any(one.name.startswith(("camera ", "reader ")) for one in threading.enumerate()):
        # A camera's driver or network still holds a thread: nothing is left to be done in it.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    return code


def _score(told: argparse.Namespace) -> int:
    from fall_assets.edge.model import EdgeModel, PosePool
    from fall_assets.edge.parity import score_file
    from fall_assets.features.compressed import read_compressed
    from fall_assets.features.gate import open_stretches

    model = EdgeModel.load(told.model)
    pool = PosePool(model, 1)
    failed = 0
    for path in told.files:
        try:
            gate: Any = told.gate
            if gate == "recorded":
                settings = model.info.features.gate
                gate = "open"
                if settings is not None:
                    gate = open_stretches(read_compressed(path, settings), settings)
            scores = score_file(model, path, gate=gate, pool=pool)
        except FallAssetsError as error:
            failed += 1
            print(f"fall-edge: {error}", file=sys.stderr)  # noqa: T201
            continue
        if told.json:
            print(json.dumps({"file": str(path), **scores.as_dict()}), flush=True)  # noqa: T201
            continue
        highest = max(scores.score, default=0.0)
        print(  # noqa: T201
            f"{path}: {len(scores.events)} events, {len(scores.score)} scores, "
            f"highest {highest:.3f}",
            flush=True,
        )
        for event in scores.events:
            print(  # noqa: T201
                f"  raised at {event.raised_s:.1f} s, after {event.start_s:.1f} s, until "
                f"{event.end_s:.1f} s, score {event.score:.3f}",
                flush=True,
            )
    return 1 if failed else 0


def _score_worker(_told: argparse.Namespace) -> int:
    from fall_assets.edge.score_worker import serve

    serve()
    return 0


def _version(told: argparse.Namespace) -> int:
    from fall_assets import __version__

    print(f"fall-edge {__version__}")  # noqa: T201
    if told.model is not None:
        from fall_assets.edge.model import read_info

        info = read_info(told.model)
        print(f"model {info.model_version}, features {info.feature_set_version}")  # noqa: T201
    return 0
