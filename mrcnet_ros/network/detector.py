"""The detector: which objects are seen in an image, and the boxes of what is visible of them.

An anchor-free network of one stage: every cell of three levels says for every class how well the
box would fit that it proposes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..specs import DETECTOR_STRIDES, DetectorSpec
from .lite import LEVELS, LiteBackbone, filter_channels

# Cells that show no object say so from the start: a hundred of them would outweigh every object.
FIRST_LOGIT = -4.6
# Half a side of the boxes that an untrained network proposes, in strides.
FIRST_REACH = 2.5
# Of half a side over FIRST_REACH: a factor of 55 either way, so that exp stays finite.
LARGEST_LOG = 4.0


class SeparableConv(nn.Module):
    """Filter each channel over 5x5 pixels, mix the channels, normalise, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.filter = nn.Conv2d(inputs, inputs, 5, stride, 2, groups=inputs, bias=False)
        self.mix = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        filtered = filter_channels(x, self.filter.weight, None, self.stride, 2)
        return functional.relu(self.norm(self.mix(filtered)))


class LevelHead(nn.Module):
    """What the cells of one level say."""

    def __init__(self, channels: int, classes: int, stride: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(SeparableConv(channels, channels),
                                   SeparableConv(channels, channels))
        self.logits = nn.Conv2d(channels, classes, 1)
        self.reach = nn.Conv2d(channels, 4, 1)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.constant_(self.logits.bias, FIRST_LOGIT)  # type: ignore[arg-type]
        nn.init.normal_(self.reach.weight, std=0.01)
        nn.init.zeros_(self.reach.bias)  # type: ignore[arg-type]
        self.unit_px = FIRST_REACH * stride

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits (N, cells, C) and distances to the sides (N, cells, 4) [px]."""
        x = self.trunk(x)
        logits = self.logits(x).flatten(2).transpose(1, 2)
        reach = self.reach(x).flatten(2).transpose(1, 2).clamp(-LARGEST_LOG, LARGEST_LOG)
        return logits.float(), self.unit_px * torch.exp(reach.float())


class DetectorNetwork(nn.Module):
    """Image to what every cell says; sides of images are multiples of the largest stride."""

    inputs, outputs = ('image',), ('logits', 'distances')

    def __init__(self, *, spec: DetectorSpec, objects: int) -> None:
        """Build it with random weights."""
        super().__init__()
        self.spec, channels = spec, spec.channels
        self.backbone = LiteBackbone(spec.blocks)
        found = [c for number, c in LEVELS.items() if number < spec.blocks]
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in found)
        self.coarsest = (SeparableConv(found[-1], channels, stride=2)
                         if len(found) < len(DETECTOR_STRIDES) else nn.Identity())
        self.smooth = nn.ModuleList(SeparableConv(channels, channels) for _ in range(2))
        self.heads = nn.ModuleList(LevelHead(channels, objects, s) for s in DETECTOR_STRIDES)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 3, H, W) float RGB in 0..255 to logits and distances of all cells.

        :return: (N, cells, C) logits and (N, cells, 4) distances from the middle of each cell to
            the left, upper, right and lower side [px]; levels from fine to coarse, each row by
            row.
        """
        maps = self.backbone(image)
        p8, p16, *rest = [side(x) for side, x in zip(self.lateral, maps, strict=True)]
        p32 = rest[0] if rest else self.coarsest(maps[-1])
        p16 = self.smooth[1](p16 + functional.interpolate(p32, scale_factor=2.0))
        p8 = self.smooth[0](p8 + functional.interpolate(p16, scale_factor=2.0))
        answers = [head(p) for head, p in zip(self.heads, (p8, p16, p32), strict=True)]
        logits, distances = zip(*answers, strict=True)
        return torch.cat(logits, 1), torch.cat(distances, 1)
