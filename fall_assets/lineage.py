"""Which code is running: the commit and the lock file. What belongs here: facts for records."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from pathlib import Path

import fall_assets

_CHECKOUT = Path(fall_assets.__file__).resolve().parents[1]
UNKNOWN = "unknown"


@functools.cache
def git_commit() -> str:
    """Commit of the checkout that this package runs from, `-dirty` where tracked files differ.

    'unknown' where the package was installed from a wheel, or git is missing.
    """
    if not (_CHECKOUT / ".git").exists():
        return UNKNOWN
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--match=", "--dirty"],  # noqa: S607
            cwd=_CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return found.stdout.strip() or UNKNOWN


@functools.cache
def lock_sha256() -> str:
    """SHA-256 of the lock file beside the package; 'unknown' where there is none."""
    lock = _CHECKOUT / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else UNKNOWN


def code_version() -> str:
    """Version of this package and its commit, for the lake's commits."""
    return f"{fall_assets.__version__}+{git_commit()[:12]}"
