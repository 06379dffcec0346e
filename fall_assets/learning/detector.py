"""A trained detector: everything that is needed to score people's tracks, and its files.

What belongs here: scoring, saving, loading. What does not: training (`training`), the registry
(`tracking`). torch is loaded when a detector is made or loaded, not by this import.

A saved detector is a folder of two files: `detector.json` (settings) and `weights.safetensors`.
No pickle is written or read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fall_assets.errors import PermanentFailureError
from fall_assets.learning.algorithms.base import Scores
from fall_assets.learning.events import Event, EventSettings, to_events
from fall_assets.learning.scoring import FeatureSetError, score_tracks
from fall_assets.learning.windows import (
    Floats,
    SegmentTracks,
    WindowSettings,
    pose_features,
)

if TYPE_CHECKING:
    from fall_assets.learning.network import TemporalNetwork

ALGORITHM = "pose-tcn"
SETTINGS_FILE = "detector.json"
WEIGHTS_FILE = "weights.safetensors"
FORMAT = 2
_BATCH = 512


class DetectorFileError(PermanentFailureError):
    """A saved detector is missing, damaged or of another format."""


@dataclass(frozen=True)
class Detector:
    """A network, and the settings under which its scores mean what they meant in training.

    The score is the mean of its members' log odds, of each window and of its mirror image, as a
    probability. `events.threshold` is the threshold. `training` records how it was made.
    """

    network: TemporalNetwork
    feature_set: str
    windows: WindowSettings = field(default_factory=WindowSettings)
    events: EventSettings = field(default_factory=EventSettings)
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """Score from which an event is raised."""
        return self.events.threshold

    @property
    def parameters(self) -> int:
        """Trainable parameters of all members together."""
        return sum(weights.numel() for weights in self.network.parameters())

    def with_threshold(self, threshold: float) -> Detector:
        """The same detector with another threshold."""
        return replace(self, events=replace(self.events, threshold=threshold))

    def check_feature_set(self, feature_set: str) -> None:
        """Raise `FeatureSetError` where tracks of `feature_set` would mean something else."""
        if feature_set != self.feature_set:
            raise FeatureSetError(
                f"the detector learned from feature set {self.feature_set}, these tracks are of "
                f"{feature_set}: compute features under {self.feature_set}, or train again"
            )

    def score_windows(self, keypoints: Floats, aspect: Floats) -> Floats:
        """Probability of a fall in each window: (n, samples, 17, 3), (n,) -> (n,).

        The score of a window does not depend on the others.
        """
        import torch

        from fall_assets.learning.augmentation import mirror

        parts = [np.zeros(0, np.float32)]
        with _one_thread(), torch.inference_mode():
            for at in range(0, len(keypoints), _BATCH):
                points, wide = keypoints[at : at + _BATCH], aspect[at : at + _BATCH]
                views = [
                    torch.from_numpy(pose_features(view, wide, self.windows.max_gap))
                    for view in (points, mirror(points))
                ]
                odds = torch.stack([self.network(view[None]).mean(dim=0) for view in views])
                parts.append(torch.sigmoid(odds.mean(dim=0)).numpy())
        return np.concatenate(parts)

    def scores(self, tracks: SegmentTracks) -> Scores:
        """Scores of one segment: the highest of all people's at every scored moment.

        Raises:
            FeatureSetError: where the tracks are sampled at another rate.
        """
        return score_tracks(tracks, self.windows, self.score_windows)

    def detect(self, tracks: SegmentTracks) -> list[Event]:
        """The falls that the detector sees in one segment."""
        scores = self.scores(tracks)
        return to_events(
            scores.end_s.tolist(), scores.score.tolist(), self.events, self.windows.window_s
        )

    def save(self, folder: Path) -> str:
        """Write the detector into a new or empty folder; returns its `digest`."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise DetectorFileError(f"{folder} is not empty: save a detector into a new folder")
        weights = {name: kept.contiguous() for name, kept in self.network.state_dict().items()}
        save_file(weights, folder / WEIGHTS_FILE)
        settings = {
            "format": FORMAT,
            "algorithm": ALGORITHM,
            "feature_set": self.feature_set,
            "windows": asdict(self.windows),
            "events": asdict(self.events),
            "network": asdict(self.network.settings),
            "members": self.network.members,
            "training": dict(self.training),
            "weights_sha256": _sha256(folder / WEIGHTS_FILE),
        }
        (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
        return digest(folder)

    @classmethod
    def load(cls, folder: Path, *, expected_digest: str | None = None) -> Detector:
        """Read a saved detector.

        Args:
            folder: what `save` wrote.
            expected_digest: where given, the files must be the ones that had this digest.

        Raises:
            DetectorFileError: where a file is missing, changed or of another format.
        """
        from safetensors.torch import load_file

        from fall_assets.learning.network import NetworkSettings, TemporalNetwork

        try:
            if expected_digest is not None and digest(folder) != expected_digest:
                raise DetectorFileError(
                    f"the detector in {folder} is not the one that was recorded: its digest is "
                    f"{digest(folder)}, recorded was {expected_digest}; train it again"
                )
            settings = json.loads((folder / SETTINGS_FILE).read_text())
            if settings["format"] != FORMAT or settings["algorithm"] != ALGORITHM:
                raise DetectorFileError(
                    f"{folder} holds format {settings['format']} of {settings['algorithm']!r}; "
                    f"this version reads format {FORMAT} of {ALGORITHM!r}"
                )
            if _sha256(folder / WEIGHTS_FILE) != settings["weights_sha256"]:
                raise DetectorFileError(f"the weights in {folder} were changed; train again")
            sizes = {**settings["network"], "dilations": tuple(settings["network"]["dilations"])}
            network = TemporalNetwork(NetworkSettings(**sizes), [0] * settings["members"])
            network.load_state_dict(load_file(folder / WEIGHTS_FILE))
            return cls(
                network.eval(),
                settings["feature_set"],
                WindowSettings(**settings["windows"]),
                EventSettings(**settings["events"]),
                settings["training"],
            )
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DetectorFileError(
                f"{folder} holds no readable detector ({error}): save it again"
            ) from error


def digest(folder: Path) -> str:
    """SHA-256 over both files of a saved detector, in hex.

    Raises:
        OSError: where a file is missing.
    """
    both = "".join(_sha256(folder / name) for name in (SETTINGS_FILE, WEIGHTS_FILE))
    return hashlib.sha256(both.encode()).hexdigest()


@contextmanager
def _one_thread() -> Iterator[None]:
    """A segment's batch is so small that waking further threads costs more than they bring."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
