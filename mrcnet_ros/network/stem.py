"""Frozen low-level features: the first layers of an ImageNet EfficientNet-Lite0.

Source: Tan and Le 2019 and the Lite variant (Apache-2.0 weights). Batch norms are folded into the
convolutions when the weights are read, so the stem has no state that training could move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

# What blocks 0 to 2 of EfficientNet-Lite0 give: 24 channels, a quarter of the side.
CHANNELS = 24
# name of the convolution and its norm in the weight file, inputs, outputs, kernel, stride, groups
_LAYERS: tuple[tuple[str, str, int, int, int, int, int], ...] = (
    ('_conv_stem', '_bn0', 3, 32, 3, 2, 1),
    ('_blocks.0._depthwise_conv', '_blocks.0._bn1', 32, 32, 3, 1, 32),
    ('_blocks.0._project_conv', '_blocks.0._bn2', 32, 16, 1, 1, 1),
    ('_blocks.1._expand_conv', '_blocks.1._bn0', 16, 96, 1, 1, 1),
    ('_blocks.1._depthwise_conv', '_blocks.1._bn1', 96, 96, 3, 2, 96),
    ('_blocks.1._project_conv', '_blocks.1._bn2', 96, 24, 1, 1, 1),
    ('_blocks.2._expand_conv', '_blocks.2._bn0', 24, 144, 1, 1, 1),
    ('_blocks.2._depthwise_conv', '_blocks.2._bn1', 144, 144, 3, 1, 144),
    ('_blocks.2._project_conv', '_blocks.2._bn2', 144, 24, 1, 1, 1),
)


def stem_entries() -> set[str]:
    """Return which entries of a published state dict :meth:`Stem.load_imagenet` reads."""
    return {f'{name}.weight' for name, *_ in _LAYERS} | {
        f'{norm}.{part}' for _, norm, *_ in _LAYERS
        for part in ('weight', 'bias', 'running_mean', 'running_var')}


class Stem(nn.Module):
    """RGB image to 24 feature channels at stride 4; never trained."""

    def __init__(self) -> None:
        """Build the layers with empty weights; see :meth:`load_imagenet`."""
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, stride, 0, groups=groups)
            for _, _, inputs, outputs, kernel, stride, groups in _LAYERS)
        self.requires_grad_(False)

    def load_imagenet(self, weights: Mapping[str, Tensor]) -> None:
        """Fold the norms of a published state dict into the convolutions.

        :param weights: state dict of EfficientNet-Lite0.
        """
        for conv, (name, norm, *_) in zip(self._layers(), _LAYERS, strict=True):
            scale = weights[f'{norm}.weight'] / torch.sqrt(weights[f'{norm}.running_var'] + 1e-3)
            shift = weights[f'{norm}.bias'] - weights[f'{norm}.running_mean'] * scale
            conv.weight.data.copy_(weights[f'{name}.weight'] * scale[:, None, None, None])
            if conv.bias is not None:
                conv.bias.data.copy_(shift)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, 3, H, W) float RGB in 0..255 to (N, 24, H / 4, W / 4)."""
        c = self._layers()
        x: Tensor = functional.relu6(_same(c[0], (image - 127.0) / 128.0))
        x = c[2](functional.relu6(_same(c[1], x)))
        x = c[5](functional.relu6(_same(c[4], functional.relu6(c[3](x)))))
        y: Tensor = c[8](functional.relu6(_same(c[7], functional.relu6(c[6](x)))))
        return x + y

    def _layers(self) -> Sequence[nn.Conv2d]:
        return cast(Sequence[nn.Conv2d], self.convs)


def _same(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Pad as TensorFlow does for even sizes: at stride 2 only on the right and below."""
    before = 0 if conv.stride[0] == 2 else 1
    result: Tensor = conv(functional.pad(x, (before, 1, before, 1)))
    return result
