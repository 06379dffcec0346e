"""EfficientNet-Lite0 as a module whose state dict has the names of the published weights.

Imports torch: to be imported only where a backbone is built.

The network is Google's (Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow
blog, March 2020; github.com/tensorflow/tpu, models/official/efficientnet/lite, Apache-2.0):
EfficientNet-B0 (Tan and Le, ICML 2019) without squeeze-and-excitation, with ReLU6 for swish, padded
as TensorFlow pads (`SAME`), batch normalisation with epsilon 0.001. It wants RGB as
(value - 127) / 128.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, STD = 127.0, 128.0
"""What brings values of 0 to 255 into the range that the network was trained on."""

WIDTH = 1280

# Of each stage: repeats, kernel, stride of its first block, expansion, channels that leave it.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32


class EfficientNetLite0(nn.Module):
    """Takes (n, 3, height, width), any size from 32 on; returns what goes to the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _Same(3, _STEM, 3, stride=2)
        self._bn0 = _norm(_STEM)
        blocks = []
        channels = _STEM
        for repeats, kernel, stride, expansion, leaving in _STAGES:
            for number in range(repeats):
                blocks.append(_Block(channels, leaving, kernel, 1 if number else stride, expansion))
                channels = leaving
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _Same(channels, WIDTH, 1)
        self._bn1 = _norm(WIDTH)
        self._fc = nn.Linear(WIDTH, 1000)

    def forward(self, pictures: Tensor) -> Tensor:
        """Shape (n, 1280)."""
        x = F.relu6(self._bn0(self._conv_stem(pictures)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))

    def classes(self, embedding: Tensor) -> Tensor:
        """Logits (n, 1000) of ImageNet's classes, from what `forward` returns."""
        logits: Tensor = self._fc(embedding)
        return logits


class _Block(nn.Module):
    """Expand, filter each channel, project; added to its input where the shapes are the same."""

    def __init__(
        self, entering: int, leaving: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inner = entering * expansion
        self._expands = expansion > 1
        if self._expands:
            self._expand_conv = _Same(entering, inner, 1)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _Same(inner, inner, kernel, stride=stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = _Same(inner, leaving, 1)
        self._bn2 = _norm(leaving)
        self._adds = stride == 1 and entering == leaving

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)))
        out: Tensor = self._bn2(self._project_conv(inner))
        return out + x if self._adds else out


class _Same(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow does: what is odd, right and below."""

    def __init__(
        self, entering: int, leaving: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(entering, leaving, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel > 1:
            padding = [0, 0, 0, 0]
            for axis, length in enumerate((input.shape[3], input.shape[2])):
                missing = max((-(-length // stride) - 1) * stride + kernel - length, 0)
                padding[2 * axis] = missing // 2
                padding[2 * axis + 1] = missing - missing // 2
            input = F.pad(input, padding)
        return F.conv2d(input, self.weight, None, self.stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def initialise(network: EfficientNetLite0, generator: torch.Generator) -> None:
    """Random weights, as EfficientNet begins its training: normal, by what leaves a layer."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.kernel_size[0] ** 2 * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=(2 / fan) ** 0.5, generator=generator)
