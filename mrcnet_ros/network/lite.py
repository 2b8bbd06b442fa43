"""EfficientNet-Lite0 with its ImageNet weights: the first layers frozen, the others trained.

Source: Tan and Le 2019 and the Lite variant (Apache-2.0 weights). Batch norms keep the statistics
and gains of ImageNet. They are multiplied into the weights before each convolution, which costs
nothing at inference, where the product is a constant.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .stem import Stem

# inputs, outputs, expansion, kernel, stride of blocks 3 to 14; the stem holds blocks 0 to 2
_BLOCKS = (
    (24, 40, 6, 5, 2), (40, 40, 6, 5, 1),
    (40, 80, 6, 3, 2), (80, 80, 6, 3, 1), (80, 80, 6, 3, 1),
    (80, 112, 6, 5, 1), (112, 112, 6, 5, 1), (112, 112, 6, 5, 1),
    (112, 192, 6, 5, 2), (192, 192, 6, 5, 1), (192, 192, 6, 5, 1), (192, 192, 6, 5, 1),
)
_FIRST = 3  # number of the first block after the stem
# Block 3 works at stride 4, where gradients cost most, and its features are general still.
_TRAINED_FROM = 4
EPSILON = 1e-3  # of the published batch norms
# The last block of each stride, and its channels.
LEVELS = {4: 40, 10: 112, 14: 192}


def filter_channels(x: Tensor, weight: Tensor, shift: Tensor | None, stride: int,
                    padding: int) -> Tensor:
    """Filter each channel by itself, in float32 even where the rest is in half precision.

    In bfloat16 a processor takes up to six times as long for the gradients of such filters.
    """
    with torch.autocast(x.device.type, enabled=False):
        return functional.conv2d(x.float(), weight, shift, stride, padding, 1, len(weight))


class NormedConv(nn.Module):
    """A convolution without bias and the frozen batch norm that follows it."""

    scale: Tensor
    shift: Tensor

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1,
                 groups: int = 1) -> None:
        """Build it with random weights and a norm that changes nothing."""
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(outputs, inputs // groups, kernel, kernel)
            * (2.0 / (inputs // groups * kernel**2)) ** 0.5)
        self.register_buffer('scale', torch.ones(outputs))
        self.register_buffer('shift', torch.zeros(outputs))
        self.kernel, self.stride, self.groups = kernel, stride, groups

    def load_imagenet(self, weights: Mapping[str, Tensor], conv: str, norm: str) -> None:
        """Take the weights and the norm from a published state dict."""
        self.weight.data.copy_(weights[f'{conv}.weight'])
        scale = weights[f'{norm}.weight'] / torch.sqrt(weights[f'{norm}.running_var'] + EPSILON)
        self.scale.copy_(scale)
        self.shift.copy_(weights[f'{norm}.bias'] - weights[f'{norm}.running_mean'] * scale)

    def forward(self, x: Tensor) -> Tensor:
        """Pad as TensorFlow does for even sizes, at stride 2 less on the left and above."""
        before, after = self.kernel // 2, self.kernel // 2
        if self.stride == 2:
            before = after - 1
        if before != after:
            x = functional.pad(x, (before, after, before, after))
        weight = self.weight * self.scale[:, None, None, None]
        padding = before if before == after else 0
        if self.groups == 1:
            return functional.conv2d(x, weight, self.shift, self.stride, padding)
        return filter_channels(x, weight, self.shift, self.stride, padding)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int,
                 stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = NormedConv(inputs, hidden)
        self.filter = NormedConv(hidden, hidden, kernel=kernel, stride=stride, groups=hidden)
        self.project = NormedConv(hidden, outputs)
        self.shortcut = inputs == outputs and stride == 1

    def load_imagenet(self, weights: Mapping[str, Tensor], number: int) -> None:
        """Take the weights of a block of a published state dict."""
        for part, name, norm in ((self.expand, '_expand_conv', '_bn0'),
                                 (self.filter, '_depthwise_conv', '_bn1'),
                                 (self.project, '_project_conv', '_bn2')):
            part.load_imagenet(weights, f'_blocks.{number}.{name}', f'_blocks.{number}.{norm}')

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y: Tensor = self.project(functional.relu6(self.filter(functional.relu6(self.expand(x)))))
        return x + y if self.shortcut else y


class LiteBackbone(nn.Module):
    """RGB image to feature maps at strides 8 and 16, and 32 when all blocks are used."""

    def __init__(self, blocks: int) -> None:
        """Build it with random weights; see :meth:`load_imagenet`.

        :param blocks: how many of the blocks are used.
        """
        super().__init__()
        self.stem = Stem()
        self.blocks = nn.ModuleList(
            InvertedResidual(*numbers) for numbers in _BLOCKS[:blocks - _FIRST])
        for block in self.blocks[:_TRAINED_FROM - _FIRST]:
            block.requires_grad_(False)

    def load_imagenet(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a published state dict of EfficientNet-Lite0."""
        self.stem.load_imagenet(weights)
        for number, block in enumerate(self.blocks, _FIRST):
            assert isinstance(block, InvertedResidual)
            block.load_imagenet(weights, number)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (N, 3, H, W) float RGB in 0..255 to maps of the channels in :data:`LEVELS`."""
        x: Tensor = self.stem(image)
        maps = []
        for number, block in enumerate(self.blocks, _FIRST):
            x = block(x)
            if number in LEVELS:
                maps.append(x)
        return maps
