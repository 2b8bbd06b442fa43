"""The small parts of the default network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvNorm(nn.Module):
    """3x3 convolution, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        """Build it; padding keeps the size at stride 1."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return functional.relu(self.norm(self.conv(x)))


class ObjectConvNorm(nn.Module):
    """3x3 convolution whose norm has separate gains and offsets for each object."""

    def __init__(self, inputs: int, outputs: int, *, objects: int) -> None:
        """Build it with one affine row per object."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=False)
        self.gain = nn.Parameter(torch.ones(objects, outputs))
        self.offset = nn.Parameter(torch.zeros(objects, outputs))

    def forward(self, x: Tensor, class_index: Tensor) -> Tensor:
        """Map (N, inputs, H, W), (N,) int64 to (N, outputs, H, W)."""
        x = self.norm(self.conv(x))
        gain, offset = self.gain[class_index], self.offset[class_index]
        return functional.relu(x * gain[:, :, None, None] + offset[:, :, None, None])


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        """Build it; size and channels stay."""
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return functional.relu(x + self.norm(self.conv(self.first(x))))


class ObjectLinear(nn.Module):
    """A linear layer with weights of each object's own."""

    def __init__(self, inputs: int, outputs: int, *, objects: int) -> None:
        """Build it with one matrix per object."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(objects, inputs, outputs) * inputs**-0.5)
        self.bias = nn.Parameter(torch.zeros(objects, outputs))

    def forward(self, x: Tensor, class_index: Tensor) -> Tensor:
        """Map (N, P, inputs), (N,) int64 to (N, P, outputs)."""
        if self.training:  # all objects at once costs less than a matrix gathered per sample
            every = torch.einsum('npi,cio->ncpo', x, self.weight) + self.bias[:, None]
            return every[torch.arange(len(x), device=x.device), class_index]
        return torch.matmul(x, self.weight[class_index]) + self.bias[class_index][:, None]


class Hidden(nn.Module):
    """Fully connected layer over a whole map, with gains and offsets of each object's own."""

    def __init__(self, inputs: int, outputs: int, *, objects: int) -> None:
        """Build it for ``inputs`` flattened numbers."""
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs, affine=False)
        self.gain = nn.Parameter(torch.ones(objects, outputs))
        self.offset = nn.Parameter(torch.zeros(objects, outputs))

    def forward(self, x: Tensor, class_index: Tensor) -> Tensor:
        """Map (N, C, H, W), (N,) int64 to (N, outputs)."""
        x = self.norm(self.linear(x.flatten(1)))
        return functional.relu(x * self.gain[class_index] + self.offset[class_index])


def doubled(x: Tensor) -> Tensor:
    """Map (N, C, H, W) to (N, C, 2 H, 2 W), between pixels linearly."""
    return functional.interpolate(x, scale_factor=2.0, mode='bilinear', align_corners=False)
