"""Local correlation of two feature maps and the warp that aligns them first.

Source: MRC-Net section 3.3. The displacement loop of the published code becomes matrix products,
of which a skewed view keeps the wanted diagonals; the numbers are the same. Small maps take one
product of all positions with all others, which trains three times as fast; large maps, and graphs
for engines, where nothing is to be computed in vain, one product for each pair of rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMALL = 1024  # positions


def local_correlation(template: Tensor, features: Tensor, radius: int) -> Tensor:
    """Correlate every template position with its neighbourhood in the crop.

    Convention: channel ``(dy + radius) * (2 * radius + 1) + dx + radius`` at (i, j) is
    ``sum_c template[c, i, j] * features[c, i + dy, j + dx] / sqrt(C)``; features are zero outside.

    :param template: (N, C, H, W).
    :param features: (N, C, H, W).
    :param radius: largest displacement in each direction.
    :return: (N, (2 * radius + 1)**2, H, W).
    """
    if template.shape[2] * template.shape[3] > SMALL or torch.onnx.is_in_onnx_export():
        return _by_rows(template, features, radius)
    return _at_once(template, features, radius)


def _at_once(template: Tensor, features: Tensor, radius: int) -> Tensor:
    count, channels, height, width = template.shape
    side, wide = 2 * radius + 1, width + 2 * radius
    positions = template.flatten(2).transpose(1, 2) * (channels**-0.5)
    padded = functional.pad(features, (radius, radius, radius, radius)).flatten(2)
    products = torch.bmm(positions, padded).contiguous()
    n = products.shape[2]
    near = products.as_strided((count, height, width, side, side),
                               (height * width * n, width * n + wide, n + 1, wide, 1))
    return near.flatten(3).permute(0, 3, 1, 2)


def _by_rows(template: Tensor, features: Tensor, radius: int) -> Tensor:
    _, channels, height, width = template.shape
    side = 2 * radius + 1
    rows = template.permute(0, 2, 3, 1) * (channels**-0.5)
    padded = functional.pad(features, (radius, radius, radius, radius)).permute(0, 2, 1, 3)
    wide = width + 2 * radius
    volumes = []
    for dy in range(side):
        products = torch.matmul(rows, padded[:, dy:dy + height])
        skewed = functional.pad(products.flatten(2), (0, width))
        diagonals = skewed.reshape(-1, height, width, wide + 1)[..., :side]
        volumes.append(diagonals)
    return torch.cat(volumes, dim=-1).permute(0, 3, 1, 2)


def warp_template(maps: Tensor, xy: Tensor, ratio: Tensor) -> Tensor:
    """Shift and scale template maps to where stage 1 sees the object; zero outside.

    :param maps: (N, C, H, W) of a template whose object origin is at the centre.
    :param xy: (N, 2) offset of the object origin from the crop's centre in crop widths.
    :param ratio: (N,) relative size in the crop over relative size in the template.
    :return: (N, C, H, W).
    """
    height, width = maps.shape[-2:]
    y = (torch.arange(height, device=maps.device, dtype=xy.dtype) + 0.5) / height - 0.5
    x = (torch.arange(width, device=maps.device, dtype=xy.dtype) + 0.5) / width - 0.5
    inverse = 2.0 / ratio
    grid_x = (x[None] - xy[:, :1]) * inverse[:, None]
    grid_y = (y[None] - xy[:, 1:]) * inverse[:, None]
    grid = torch.stack([
        grid_x[:, None, :].expand(-1, height, -1), grid_y[:, :, None].expand(-1, -1, width)
    ], dim=-1)
    return functional.grid_sample(maps.to(grid.dtype), grid, mode='bilinear',
                                  padding_mode='zeros', align_corners=False)
