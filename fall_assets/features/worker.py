"""A worker of the pool: `python -m fall_assets.features.worker`, fed through its standard input.

What belongs here: the loop. What does not: extraction, and deciding what a crash means (`pool`).
A worker answers expected failures; anything else ends it with a traceback, which the pool reads.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from fall_assets.errors import FallAssetsError
from fall_assets.features import wire
from fall_assets.features.segments import SegmentFeatures, VideoRef
from fall_assets.features.settings import FeatureSettings

Work = Callable[[VideoRef], SegmentFeatures]


def serve(prepare: Callable[[FeatureSettings, Path], Work]) -> None:
    """Answer jobs from standard input until it ends.

    The first message holds the settings and the pose network's path, of which `prepare` makes the
    work; each later one is a segment. The process ends at once when its parent is gone, in the
    middle of a segment too.
    """
    # The pool decides when to stop; an interrupt from the terminal reaches both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    # Whatever libraries print must not end up between the answers.
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    start = wire.receive_json(requests)
    try:
        work = prepare(FeatureSettings.from_dict(start["settings"]), Path(start["network"]))
    except FallAssetsError as error:
        wire.send_json(answers, {"error": str(error)})
        return
    wire.send_json(answers, {"error": None})
    waiting: queue.SimpleQueue[VideoRef] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    while True:
        video = waiting.get()
        try:
            features = work(video)
        except FallAssetsError as error:
            wire.send_json(answers, {"error": str(error)})
        else:
            wire.send_json(answers, {"error": None})
            wire.send_features(answers, features)


def _listen(requests: wire.Readable, waiting: queue.SimpleQueue[VideoRef]) -> None:
    while True:
        try:
            content = wire.receive_json(requests)
        except wire.BrokenWireError:
            os._exit(0)
        waiting.put(wire.video_of(content))


def extraction(settings: FeatureSettings, network: Path) -> Work:
    """The work of the pool's workers: `extract` with a network that is loaded once."""
    from fall_assets.features.extract import extract
    from fall_assets.features.movenet import MoveNet

    loaded = MoveNet.of(settings, network)
    return lambda video: extract(video, settings, network=loaded)


if __name__ == "__main__":
    serve(extraction)
    sys.exit(0)
