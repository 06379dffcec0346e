"""A study that kills itself: `python -m … FOLDER experiments|tuning N`.

It dies as the run of its N-th attempt or trial (from 0) stands half written in the tracking store.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from fall_assets.learning.tracking import DatasetPin, Tracking
from fall_assets.pipeline.experiments import run_experiments
from fall_assets.pipeline.tuning import run_tuning
from fall_assets_tests.pipeline.drawn_site import GRID, STUDY, work_on


def main() -> None:
    """Run the study."""
    left = [int(sys.argv[3])]
    log_inputs = Tracking._log_inputs

    def mortal(self: Tracking, run_id: str, inputs: Sequence[DatasetPin]) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        log_inputs(self, run_id, inputs)

    Tracking._log_inputs = mortal  # type: ignore[method-assign]
    work = work_on(Path(sys.argv[1]))
    if sys.argv[2] == "experiments":
        run_experiments(work, GRID)
    else:
        run_tuning(work, STUDY)


if __name__ == "__main__":
    main()
