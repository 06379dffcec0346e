"""The commands of `fall-edge` about packages: verify, self-test, install, agent, keys.

What belongs here: arguments, and what is printed. What does not: the work (`package`, `self_test`,
`agent`). Each command prints one line of JSON on standard output and gives 0; a failure is a line
on standard error and 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fall_assets.errors import FallAssetsError

if TYPE_CHECKING:
    # The type is generic for type checkers only.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(subparsers: Commands) -> None:
    """Add the commands; each sets `run`, a function of the parsed arguments that gives 0 or 1."""
    verify = subparsers.add_parser("verify", help="verify a package's signature and files")
    verify.add_argument("--package", type=Path, required=True, help="directory or archive")
    _add_trust(verify)
    verify.set_defaults(run=main_verify)

    test = subparsers.add_parser("self-test", help="score the bundled clip and compare")
    test.add_argument("--package", type=Path, required=True, help="the package's directory")
    test.add_argument(
        "--print", action="store_true", help="print the scores instead of comparing them"
    )
    test.set_defaults(run=main_self_test)

    install = subparsers.add_parser("install", help="install a package by hand")
    install.add_argument("--archive", type=Path, required=True)
    install.add_argument("--root", type=Path, required=True, help="folder of installed packages")
    install.add_argument("--allow-older", action="store_true", help="go back to an older package")
    _add_trust(install)
    install.set_defaults(run=main_install)

    agent = subparsers.add_parser("agent", help="run what is assigned to this box, and update it")
    agent.add_argument("--config", type=Path, required=True, help="edge.toml")
    agent.add_argument("--root", type=Path, required=True, help="folder of installed packages")
    agent.add_argument("--poll-s", type=float, default=60.0, help="seconds between two looks")
    agent.add_argument(
        "--probation-s",
        type=float,
        default=60.0,
        help="seconds that a new package must be healthy before it counts as good",
    )
    _add_trust(agent)
    agent.set_defaults(run=main_agent)


def main_verify(arguments: argparse.Namespace) -> int:
    """`fall-edge verify`."""
    from fall_assets.edge.package import verify_package
    from fall_assets.edge.signing import load_public_keys

    def work() -> dict[str, Any]:
        manifest = verify_package(arguments.package, load_public_keys(arguments.trust))
        return {
            "manifest_sha256": manifest.sha256,
            "sequence": manifest.sequence,
            "model_version": manifest.model_version,
            "files": len(manifest.files),
            "bytes": manifest.size,
        }

    return _told(work)


def main_self_test(arguments: argparse.Namespace) -> int:
    """`fall-edge self-test`."""
    from fall_assets.edge.self_test import measure, run_self_test

    if arguments.print:
        return _told(lambda: measure(arguments.package).as_dict())
    return _told(lambda: asdict(run_self_test(arguments.package)))


def main_install(arguments: argparse.Namespace) -> int:
    """`fall-edge install`."""
    from fall_assets.edge.agent import install_by_hand
    from fall_assets.edge.signing import load_public_keys

    def work() -> dict[str, Any]:
        manifest = install_by_hand(
            arguments.archive,
            arguments.root,
            load_public_keys(arguments.trust),
            allow_older=arguments.allow_older,
        )
        return {"manifest_sha256": manifest.sha256, "model_version": manifest.model_version}

    return _told(work)


def main_agent(arguments: argparse.Namespace) -> int:
    """`fall-edge agent`: until it is told to stop (SIGTERM, SIGINT)."""
    from fall_assets.edge.agent import AgentSettings, run_agent

    try:
        run_agent(
            AgentSettings(
                config=arguments.config,
                root=arguments.root,
                trust=tuple(arguments.trust),
                poll_s=arguments.poll_s,
                probation_s=arguments.probation_s,
            )
        )
    except FallAssetsError as error:
        sys.stderr.write(f"fall-edge: {error}\n")
        return 1
    return 0


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        type=Path,
        action="append",
        required=True,
        help="PEM file with trusted public keys; may be given several times",
    )


def _told(work: Any) -> int:
    try:
        result = work()
    except FallAssetsError as error:
        sys.stderr.write(f"fall-edge: {error}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n")
    return 0
