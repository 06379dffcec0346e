"""A model folder for tests, of a network that nobody trained but that scores all over the range."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fall_assets.edge.model import MODEL_FILE, EdgeModel, PosePool
from fall_assets.features.movenet import MoveNet
from fall_assets.features.people import People
from fall_assets.features.settings import FeatureSettings
from fall_assets.learning.detector import Detector
from fall_assets.learning.events import EventSettings
from fall_assets.learning.network import NetworkSettings, TemporalNetwork

FEATURES = FeatureSettings()
EVENTS = EventSettings(threshold=0.55, certain=0.8, merge_gap_s=2.0)
WHOLE_FEATURES = replace(FEATURES, gate=None)


def untrained() -> Detector:
    """Three members; what they say is chance, but it says something different of most windows."""
    network = TemporalNetwork(NetworkSettings(), [3, 4, 5])
    network.exit.weight.data *= 60
    network.exit.bias.data += 2.7
    return Detector(network.eval(), FEATURES.version, events=EVENTS)


def with_events(folder: Path, events: EventSettings, out: Path) -> EdgeModel:
    """The model of a folder under other rules for events."""
    out.mkdir()
    for file in folder.iterdir():
        if file.name != MODEL_FILE:
            (out / file.name).symlink_to(file)
    content = json.loads((folder / MODEL_FILE).read_text())
    content["events"] = asdict(events)
    (out / MODEL_FILE).write_text(json.dumps(content))
    return EdgeModel.load(out)


class ScriptedPool(PosePool):
    """Gives a network that sees what it is told to, one picture after the other."""

    def __init__(self, script: Iterator[People] | None = None) -> None:
        self.asked = 0
        self.script = script

    @contextmanager
    def borrow(self, shape: object = None) -> Iterator[MoveNet]:
        yield self  # type: ignore[misc]

    def people(self, picture: NDArray[np.uint8]) -> People:
        self.asked += 1
        return People.nobody() if self.script is None else next(self.script, People.nobody())
