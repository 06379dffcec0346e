"""A process that looks into files: `python -m fall_assets.footage.probe_worker`.

What belongs here: the limits that the process gives itself, and turning what `probe` says into a
message. What does not: starting it and what its end means (`sandbox.py`), looking (`probe.py`).
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fall_assets import processes
from fall_assets.memory import peak_bytes

if TYPE_CHECKING:
    from fall_assets.footage.probe import UnusableFileError

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_TEXT_LIMIT_BYTES = 1 << 20
"""What the process may write to a file; it writes nothing but its last words."""

_TOO_LARGE = re.compile(r"Picture size (\d+)x(\d+) (?:is invalid|exceeds)")
_NO_MEMORY = re.compile(r"get_buffer\(\) failed|annot allocate memory|ould not allocate")
_UNDECODED = ("unreadable", "no_frames", "not_a_video", "no_video_stream")


def main() -> None:
    """Answer files from standard input until it ends."""
    processes.serve(prepare)


def prepare(greeting: processes.Message) -> processes.Work:
    """Take the limits that the greeting names; return the work of the process."""
    # In this order: a process with threads cannot leave its user namespace.
    leave_network()
    memory = int(greeting["memory_bytes"])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_TEXT_LIMIT_BYTES, _TEXT_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    import av.logging

    # FFmpeg tells only its log that a picture is too large.
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    return lambda task: _look(task, memory)


def leave_network() -> bool:
    """Give up the network where the system lets a process do so; whether it did.

    Some containers forbid it. The readers that FFmpeg may use open nothing but the file then, too.
    """
    if not hasattr(system := ctypes.CDLL(None), "unshare"):
        return False
    # Root would lose the right to read others' files in a user namespace of its own.
    flags = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET
    return bool(system.unshare(flags) == 0)


def _look(task: processes.Message, memory: int) -> list[bytes]:
    from av.logging import Capture

    from fall_assets.footage.probe import UnusableFileError, probe

    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    allowed_s = math.ceil(used.ru_utime + used.ru_stime + float(task["cpu_s"]))
    resource.setrlimit(resource.RLIMIT_CPU, (allowed_s, hard))
    started = time.monotonic()
    answer: processes.Message
    with Capture() as said:
        try:
            path = Path(os.fsdecode(bytes.fromhex(task["path"])))
            found = probe(
                path, settle_s=task["settle_s"], now_s=task["now_s"], limit_s=task["limit_s"]
            )
            answer = {"probe": asdict(found)}
        except UnusableFileError as error:
            answer = {"refused": _refusal(error, (message for _, _, message in said))}
        except FileNotFoundError:
            answer = {"gone": True}
        except MemoryError:
            answer = {
                "refused": {
                    "reason": "too_large",
                    "detail": f"looking into it needs more than {memory >> 20} MiB",
                    "is_inside": True,
                }
            }
    answer["seconds"] = time.monotonic() - started
    answer["peak_bytes"] = peak_bytes()
    return [processes.to_json(answer)]


def _refusal(error: UnusableFileError, said: Iterable[str]) -> processes.Message:
    reason, detail = str(error.reason), error.detail
    if reason in _UNDECODED:
        for message in said:
            if match := _TOO_LARGE.search(message):
                reason = "too_large"
                detail = f"its pictures claim {match[1]} x {match[2]} pixels"
            elif reason != "too_large" and _NO_MEMORY.search(message):
                reason = "too_large"
                detail = f"{detail}: it needs more memory than is allowed"
    return {"reason": reason, "detail": detail, "is_inside": error.is_inside}


if __name__ == "__main__":
    main()
    sys.exit(0)
