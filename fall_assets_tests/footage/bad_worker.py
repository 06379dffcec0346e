"""A process that misbehaves on some files: the sandbox's tests run it in place of the real one."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from fall_assets import processes
from fall_assets.footage import probe_worker


def misbehaving(greeting: processes.Message) -> processes.Work:
    """Does by the file's name: `die*`, `die-once*`, `sleep*`, `spin*`, `stutter*`; else looks."""
    real = probe_worker.prepare(greeting)

    def work(task: processes.Message) -> list[bytes]:
        path = Path(os.fsdecode(bytes.fromhex(task["path"])))
        mark = path.with_suffix(".tried")
        is_first = not mark.exists()
        mark.touch()
        if path.name.startswith("die-once"):
            if is_first:
                os.kill(os.getpid(), signal.SIGKILL)
        elif path.name.startswith("die"):
            os.kill(os.getpid(), signal.SIGSEGV)
        elif path.name.startswith("sleep"):
            time.sleep(3600)
        elif path.name.startswith("spin"):
            while True:
                pass
        elif path.name.startswith("stutter"):
            # The length of an answer, and then nothing.
            os.write(3, b"\x10" + bytes(7))
            time.sleep(3600)
        return list(real(task))

    return work


if __name__ == "__main__":
    processes.serve(misbehaving)
    sys.exit(0)
