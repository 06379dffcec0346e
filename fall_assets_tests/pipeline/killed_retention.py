"""A retention run that kills itself: `python -m … ROOT NOW STEP` dies before its STEP-th effect.

An effect is a commit to the lake or the deletion of a file. It ends with status 0 where there are
fewer effects.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from fall_assets.footage.store import Footage
from fall_assets.lake import Lake
from fall_assets.pipeline.retention import apply_retention
from fall_assets_tests.pipeline.recorded import Recorded


def main(root: Path, now: datetime, step: int) -> None:
    done = 0

    def counted(effect: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return effect(*args, **kwargs)

        return instead

    setattr(Lake, "replace_partition", counted(Lake.replace_partition))  # noqa: B010
    setattr(Footage, "delete", counted(Footage.delete))  # noqa: B010
    apply_retention(Recorded(root).work, now=now)


if __name__ == "__main__":
    main(Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2]), int(sys.argv[3]))
