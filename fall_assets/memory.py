"""How much memory this process has used. What belongs here: asking the system. Nothing else."""

from __future__ import annotations

import re
from pathlib import Path


def peak_bytes() -> int:
    """The largest resident memory of this process so far; 0 where the system does not say.

    The resource usage would tell the parent's where that was larger before the fork.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    told = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(told[1]) * 1024 if told else 0
