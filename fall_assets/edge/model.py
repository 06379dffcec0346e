"""A detector as a box has it: a folder with two networks and every number that they need.

What belongs here: reading such a folder, scoring windows, and the pose networks that streams
share. What does not: making the folder (`delivery.onnx_export`), streams (`engine`, `watcher`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from fall_assets.errors import PermanentFailureError
from fall_assets.features.movenet import MoveNet
from fall_assets.features.settings import FeatureSettings
from fall_assets.learning.augmentation import mirror
from fall_assets.learning.events import EventSettings
from fall_assets.learning.windows import CHANNELS, Floats, WindowSettings, pose_features

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MODEL_FILE = "model.json"
HEAD_FILE = "head.onnx"
POSE_FILE = "pose.tflite"
FORMAT = 1

Precision = Literal["float32", "int8"]

_BATCH = 256
_S = TypeVar("_S")


class EdgeModelError(PermanentFailureError):
    """A model folder is missing something, was changed, or is of another format."""


@dataclass(frozen=True)
class ModelInfo:
    """What `model.json` says.

    `head_precision` is that of the temporal network; `head_sha256` and `pose_sha256` are of the
    networks' files, in hex.
    """

    model_version: str
    features: FeatureSettings
    windows: WindowSettings
    events: EventSettings
    head_precision: Precision
    head_sha256: str
    pose_sha256: str

    @property
    def feature_set_version(self) -> str:
        """The version of the feature set, as the lake has it."""
        return self.features.version


class EdgeModel:
    """The networks and settings of one model version; may be shared by threads."""

    def __init__(self, info: ModelInfo, folder: Path, session: InferenceSession) -> None:
        """Use `load`."""
        self.info = info
        self.folder = folder
        self._session = session

    @classmethod
    def load(cls, folder: Path) -> EdgeModel:
        """Read a model folder and check its files' hashes.

        Raises:
            EdgeModelError: a file is missing, is not the one that `model.json` names, or cannot be
                used by this version; the message says which.
        """
        info = read_info(folder)
        for name, wanted in ((HEAD_FILE, info.head_sha256), (POSE_FILE, info.pose_sha256)):
            try:
                found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            except OSError as error:
                raise EdgeModelError(
                    f"{folder / name} cannot be read ({error}); install the package again"
                ) from error
            if found != wanted:
                raise EdgeModelError(
                    f"{folder / name} has SHA-256 {found}, but {MODEL_FILE} says {wanted}: it was "
                    "changed or cut short; install the package again"
                )
        return cls(info, folder, _session(folder / HEAD_FILE))

    def score_windows(self, keypoints: Floats, aspect: Floats) -> Floats:
        """Probability of a fall in each window: (n, samples, 17, 3), (n,) -> (n,).

        As `Detector.score_windows`: from the mean log odds of a window and its mirror image.
        """
        parts = [np.zeros(0, np.float32)]
        for at in range(0, len(keypoints), _BATCH):
            points = np.asarray(keypoints[at : at + _BATCH], np.float32)
            both = np.concatenate([points, mirror(points)])
            wide = np.tile(np.asarray(aspect[at : at + _BATCH], np.float32), 2)
            shown = pose_features(both, wide, self.info.windows.max_gap)
            odds = self._session.run(["odds"], {"features": shown})[0]
            mean = np.asarray(odds, np.float32).reshape(2, -1).mean(axis=0)
            with np.errstate(over="ignore"):
                parts.append(np.asarray(1 / (1 + np.exp(-mean)), np.float32))
        return np.concatenate(parts)

    def pose_network(self) -> MoveNet:
        """A new pose network; each is for one thread at a time."""
        return MoveNet.of(self.info.features, self.folder / POSE_FILE)


class PosePool:
    """Pose networks that threads borrow; no more of them than can work at the same time."""

    def __init__(self, model: EdgeModel, size: int | None = None) -> None:
        """`size` networks at most, one per core if it is not given; each is made when needed."""
        self._model = model
        self._free: list[tuple[object, MoveNet]] = []
        self._left = size if size is not None else len(os.sched_getaffinity(0))
        if self._left < 1:
            raise ValueError(f"a pool of {self._left} networks serves nobody; give at least 1")
        self._changed = threading.Condition()

    @contextmanager
    def borrow(self, shape: object = None) -> Iterator[MoveNet]:
        """A network for as long as the block lasts; waits where none is free.

        One that last saw pictures of the same `shape` is preferred: changing it takes time.
        """
        network = self._take(shape)
        try:
            yield network
        finally:
            with self._changed:
                self._free.append((shape, network))
                self._changed.notify()

    def _take(self, shape: object) -> MoveNet:
        with self._changed:
            while True:
                alike = [place for place, (own, _) in enumerate(self._free) if own == shape]
                if alike:
                    return self._free.pop(alike[-1])[1]
                if self._left:
                    self._left -= 1
                    break
                if self._free:
                    return self._free.pop(0)[1]
                self._changed.wait()
        try:
            return self._model.pose_network()
        except BaseException:
            with self._changed:
                self._left += 1
                self._changed.notify()
            raise


def read_info(folder: Path) -> ModelInfo:
    """What `model.json` in a folder says.

    Raises:
        EdgeModelError: it is missing, damaged, of another format, or contradicts itself.
    """
    path = folder / MODEL_FILE
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise EdgeModelError(
                f"{path} is of format {content['format']}, this version reads {FORMAT}; install a "
                "package that was made for it"
            )
        info = ModelInfo(
            str(content["model_version"]),
            FeatureSettings.from_dict(content["feature_set"]),
            _settings(WindowSettings, content["windows"]),
            _settings(EventSettings, content["events"]),
            content["head"]["precision"],
            str(content["head"]["sha256"]),
            str(content["pose"]["sha256"]),
        )
        named = (content["head"]["file"], content["pose"]["file"])
        version = content["feature_set_version"]
    except PermanentFailureError as error:
        raise EdgeModelError(f"{path}: {error}") from error
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise EdgeModelError(
            f"{path} holds no readable model ({error!r}); install the package again"
        ) from error
    wrong = _contradiction(info, named, version)
    if wrong:
        raise EdgeModelError(f"{path}: {wrong}; make the package again")
    return info


def _contradiction(info: ModelInfo, named: tuple[str, str], version: str) -> str | None:
    if named != (HEAD_FILE, POSE_FILE):
        return f"the networks' files are {named}, wanted {(HEAD_FILE, POSE_FILE)}"
    if version != info.features.version:
        return f"the feature set is {info.features.version} here, {version} where it was made"
    if info.features.pose.network != info.pose_sha256:
        return f"the feature set needs the pose network {info.features.pose.network}"
    if not math.isclose(info.features.sample_hz, info.windows.rate_hz):
        return f"{info.features.sample_hz} samples a second, windows of {info.windows.rate_hz}"
    if info.head_precision not in ("float32", "int8"):
        return f"the precision {info.head_precision!r} is unknown"
    return None


def _settings(kind: type[_S], content: Mapping[str, Any]) -> _S:
    names = {one.name for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if set(content) != names:
        raise ValueError(f"{kind.__name__} of {sorted(content)}, wanted {sorted(names)}")
    return kind(**content)


def _session(path: Path) -> InferenceSession:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    # A window takes less than waking a thread does.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # An arena keeps the largest batch's memory for good.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        (features,), (odds,) = session.get_inputs(), session.get_outputs()
    except Exception as error:  # its errors have no common base of their own
        raise EdgeModelError(f"{path} is no network for ONNX Runtime: {error}") from error
    if (features.name, odds.name) != ("features", "odds") or features.shape[-1] != CHANNELS:
        raise EdgeModelError(
            f"{path} takes {features.name} {features.shape} and gives {odds.name}, wanted features "
            f"(n, samples, {CHANNELS}) and odds; install a package made for this version"
        )
    return session
