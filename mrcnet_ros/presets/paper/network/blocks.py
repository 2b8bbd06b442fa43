"""The small parts of the published network; attribute names are those of its state dict.

Source: mrcnet.md section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ....network.correlation import local_correlation

# As published: dilations of the pyramid, groups of all norms, numbers in a head's hidden layer,
# and what batch norm adds to variances.
DILATIONS = (2, 3, 4, 6, 8, 12)
NORM_GROUPS = 32
HIDDEN = 256
EPS = 1e-5


class BatchStatNorm(nn.Module):
    """Batch norm that always uses the statistics of the batch, also in evaluation.

    Convention: in evaluation a batch is a row of groups of ``group`` images, the in-plane
    rotations of one detection, and each group has statistics of its own, so that a detection's
    answer does not depend on its company. In training the whole batch is one group.
    """

    def __init__(self, channels: int, *, group: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape; N is a multiple of the group."""
        if self.training:
            return functional.batch_norm(x, None, None, self.weight, self.bias, True, eps=EPS)
        _, channels, height, width = x.shape
        groups = x.reshape(-1, self.group, channels, height, width)
        centred = groups - groups.mean((1, 3, 4), keepdim=True)
        variance = (centred * centred).mean((1, 3, 4), keepdim=True)
        scaled = centred * torch.rsqrt(variance + EPS)
        scaled = scaled.reshape(-1, channels, height, width)
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


class BasicBlock(nn.Module):
    """The two-convolution block of ResNet-34."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, group: int) -> None:
        """Build it, with a projection where size or width change."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = BatchStatNorm(outputs, group=group)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = BatchStatNorm(outputs, group=group)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                BatchStatNorm(outputs, group=group))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + shortcut)


def residual_stage(inputs: int, outputs: int, *, blocks: int, stride: int,
                   group: int) -> nn.Sequential:
    """Return one of ResNet's stages."""
    first = BasicBlock(inputs, outputs, stride=stride, group=group)
    rest = (BasicBlock(outputs, outputs, stride=1, group=group) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


class ConvGroupNorm(nn.Module):
    """3x3 convolution without bias, group norm and SiLU."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> None:
        """Build it; padding keeps the size at stride 1."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
        self.norm = nn.GroupNorm(NORM_GROUPS, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return functional.silu(self.norm(self.conv(x)))


class DilatedPyramid(nn.Module):
    """The input, its mean, and six dilated convolutions of it, concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            ConvGroupNorm(channels, channels, dilation=d) for d in DILATIONS)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 8 * C, H, W)."""
        mean = x.mean((2, 3), keepdim=True).expand_as(x)
        return torch.cat([x, mean, *(conv(x) for conv in self.convs)], 1)


class ObjectConv(nn.Module):
    """A convolution with separate kernels for each object.

    :param as_products: compute it as matrix products of gathered kernels, which a traced graph
        can do for any classes; slower than one convolution for each class.
    """

    as_products: bool

    def __init__(self, inputs: int, outputs: int, *, kernel: int, objects: int) -> None:
        """Build it; padding keeps the size."""
        super().__init__()
        self.as_products = False
        spread = (2.0 / (inputs * kernel**2)) ** 0.5
        self.weights = nn.Parameter(torch.randn(objects, outputs, inputs, kernel, kernel) * spread)
        self.bias = nn.Parameter(torch.zeros(objects, outputs, 1, 1))

    def forward(self, x: Tensor, class_index: Tensor) -> Tensor:
        """Map (N, inputs, H, W), (N,) int64 to (N, outputs, H, W)."""
        if self.as_products:
            return self._products(x, class_index)
        padding = self.weights.shape[-1] // 2
        order = torch.argsort(class_index, stable=True)
        classes, counts = torch.unique_consecutive(class_index[order], return_counts=True)
        answers = [
            functional.conv2d(part, self.weights[index], self.bias[index].flatten(),
                              padding=padding)
            for index, part in zip(classes.tolist(), x[order].split(counts.tolist()), strict=True)]
        return torch.cat(answers)[torch.argsort(order)]

    def _products(self, x: Tensor, class_index: Tensor) -> Tensor:
        outputs, side = self.weights.shape[1], self.weights.shape[-1]
        height, width = x.shape[2:]
        padded = functional.pad(x, [side // 2] * 4)
        total = self.bias[class_index].flatten(2)
        for dy in range(side):
            for dx in range(side):
                shifted = padded[:, :, dy:dy + height, dx:dx + width].flatten(2)
                total = total + self.weights[..., dy, dx][class_index] @ shifted
        return total.reshape(-1, outputs, height, width)


class GeometryHead(nn.Module):
    """Regresses numbers from a feature map and its viewing geometry."""

    def __init__(self, channels: int, outputs: int, *, side: int) -> None:
        """Build it for maps of ``side`` x ``side``."""
        super().__init__()
        narrow = channels // 8
        self.conv_in = ConvGroupNorm(channels, narrow, stride=2)
        self.linear1 = nn.Linear(narrow * (side // 2) ** 2 + 3, HIDDEN)
        self.linear2 = nn.Linear(HIDDEN, outputs)

    def forward(self, x: Tensor, geometry: Tensor) -> Tensor:
        """Map (N, channels, side, side), (N, 3) to (N, outputs)."""
        hidden = self.linear1(torch.cat([self.conv_in(x).flatten(1), geometry], 1))
        result: Tensor = self.linear2(functional.silu(hidden))
        return result


class ResidualCorrelation(nn.Module):
    """Compares a template with a crop at one scale, both projected alike."""

    def __init__(self, inputs: int, outputs: int, *, radius: int) -> None:
        super().__init__()
        self.proj_in = nn.Conv2d(inputs, outputs, 1)
        self.radius = radius

    def forward(self, template: Tensor, crop: Tensor) -> Tensor:
        """Map two (N, inputs, H, W) to (N, (2 * radius + 1)**2, H, W)."""
        return local_correlation(self.proj_in(template), self.proj_in(crop), self.radius)
