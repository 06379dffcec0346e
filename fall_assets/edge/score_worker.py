"""Scoring recorded files on request: `fall-edge score-worker`, fed through its standard input.

What belongs here: the packaged program's side of the comparison with its model. What does not: the
comparison (`parity`), pipes and processes (`fall_assets.processes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fall_assets import processes
from fall_assets.edge.model import EdgeModel
from fall_assets.edge.parity import score_file
from fall_assets.features.crop import Crop
from fall_assets.features.gate import Stretch


def serve() -> None:
    """Answer files until standard input ends (see `processes.serve`).

    The greeting names the model folder: {"model": PATH}. A task is {"path", "crop": text or null,
    "stretches": [[start_s, end_s], ...]}, its answer one chunk, the scores as JSON.
    """

    def prepared(greeting: processes.Message) -> processes.Work:
        model = EdgeModel.load(Path(greeting["model"]))

        def work(task: processes.Message) -> Iterator[bytes]:
            scores = score_file(
                model,
                Path(task["path"]),
                crop=Crop.parse(task["crop"]),
                gate=[Stretch(start, end, "recorded") for start, end in task["stretches"]],
            )
            yield processes.to_json(scores.as_dict())

        return work

    processes.serve(prepared)
