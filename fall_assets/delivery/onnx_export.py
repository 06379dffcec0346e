"""A detector as a model folder for boxes: its network as ONNX, the pose network, all settings.

What belongs here: writing that folder. What does not: reading it (`edge.model`), judging whether it
scores as the detector does (`edge.parity`), packaging (`edge_build`). torch is loaded when a
network is exported, not by this import.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fall_assets.edge.model import FORMAT, HEAD_FILE, MODEL_FILE, POSE_FILE, Precision
from fall_assets.errors import PermanentFailureError
from fall_assets.features.movenet import require_network
from fall_assets.features.settings import FeatureSettings
from fall_assets.learning.windows import CHANNELS

if TYPE_CHECKING:
    from fall_assets.learning.detector import Detector


def write_model(
    detector: Detector,
    model_version: str,
    feature_settings: FeatureSettings,
    pose_path: Path,
    folder: Path,
    precision: Precision = "float32",
    *,
    exported: Path | None = None,
) -> None:
    """Write a model folder, new or empty, that `EdgeModel.load` reads.

    Args:
        detector: what was trained.
        model_version: its version in the registry.
        feature_settings: the feature set that it learned from, whole.
        pose_path: the pose network's file.
        folder: where to; made where it is missing.
        precision: of the temporal network; the pose network is as it is.
        exported: the detector's network as `export_head` wrote it; None: it is exported now.

    Raises:
        FeatureSetError: the detector learned from another feature set.
        PermanentFailureError: the folder is not empty, or the pose network is another one.
    """
    detector.check_feature_set(feature_settings.version)
    require_network(feature_settings, pose_path)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise PermanentFailureError(f"{folder} is not empty: write a model into a new folder")
    with tempfile.TemporaryDirectory() as scratch:
        whole = exported or Path(scratch) / HEAD_FILE
        if exported is None:
            export_head(detector, whole)
        if precision == "int8":
            quantized_head(whole, folder / HEAD_FILE)
        else:
            shutil.copyfile(whole, folder / HEAD_FILE)
    shutil.copyfile(pose_path, folder / POSE_FILE)
    content = {
        "format": FORMAT,
        "model_version": model_version,
        "feature_set": feature_settings.as_dict(),
        "feature_set_version": feature_settings.version,
        "windows": asdict(detector.windows),
        "events": asdict(detector.events),
        "head": {
            "file": HEAD_FILE,
            "sha256": _sha256(folder / HEAD_FILE),
            "precision": precision,
        },
        "pose": {"file": POSE_FILE, "sha256": _sha256(folder / POSE_FILE)},
    }
    (folder / MODEL_FILE).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def export_head(detector: Detector, path: Path) -> None:
    """Write the temporal network as one ONNX file.

    Input `features`, float32 (n, samples, CHANNELS); output `odds`, float32 (n,): the mean over the
    members of the log odds of a fall.
    """
    import torch

    network = detector.network.eval()

    class Head(torch.nn.Module):
        """The ensemble as one network."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            """Mean log odds: (n, samples, channels) -> (n,)."""
            odds: torch.Tensor = self.network(features[None]).mean(dim=0)
            return odds

    # Of the sizes 0 and 1 the exporter takes n to be fixed.
    example = torch.zeros(2, detector.windows.samples, CHANNELS)
    dynamic: Any = {"features": {0: torch.export.Dim("n", min=1)}}
    torch.onnx.export(
        Head().eval(),
        (example,),
        path,
        input_names=["features"],
        output_names=["odds"],
        dynamic_shapes=dynamic,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def quantized_head(path: Path, out: Path) -> None:
    """Write an ONNX file's network with weights of 8 bits.

    Activations are brought to 8 bits as well, by the range that they have in a batch: a window's
    score depends a little on what is scored beside it.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(path, out, weight_type=QuantType.QInt8)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
