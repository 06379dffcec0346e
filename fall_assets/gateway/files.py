"""Writing files so that they are whole and on the disk, or not there. Nothing else."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make names that were put into a folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary_name(target: Path) -> Path:
    """A free name beside the target, which `clean` knows."""
    return target.with_name(f".new-{secrets.token_hex(8)}")


def publish(temporary: Path, target: Path) -> None:
    """Give a file that is written and synced its name."""
    temporary.replace(target)
    sync_folder(target.parent)


def write_durably(target: Path, content: bytes) -> None:
    """Write a file; on return it is whole and on the disk. OSError where it cannot be."""
    temporary = temporary_name(target)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def clean(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    for path in folder.glob(".new-*"):
        path.unlink(missing_ok=True)
