"""Local correlation of two feature maps and the warp that aligns them first.

Source: MRC-Net section 3.3. The displacement loop of the published code becomes matrix products of
bands of rows, and the warp a product with the weights of a linear interpolation; the numbers are
the same.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Template positions of a band. A larger band computes more products that nobody wants, a smaller
# one takes more steps: of 36 to 144, this is as fast as any on a CPU, for training and at runtime.
BAND = 72


def local_correlation(template: Tensor, features: Tensor, radius: int) -> Tensor:
    """Correlate every template position with its neighbourhood in the crop.

    Convention: channel ``(dy + radius) * (2 * radius + 1) + dx + radius`` at (i, j) is
    ``sum_c template[c, i, j] * features[c, i + dy, j + dx] / sqrt(C)``; features are zero outside.

    :param template: (N, C, H, W).
    :param features: (N, C, H, W).
    :param radius: largest displacement in each direction.
    :return: (N, (2 * radius + 1)**2, H, W).
    """
    # int: an exported graph shall hold these sizes instead of computing them in each run
    channels, height, width = (int(n) for n in template.shape[1:])
    rows = max(n for n in range(1, height + 1) if height % n == 0 and n <= max(BAND // width, 1))
    wide, tall = width + 2 * radius, rows + 2 * radius
    own = (template * channels**-0.5).flatten(2).transpose(1, 2)
    around = functional.pad(features, (radius, radius, radius, radius)).flatten(2)
    wanted = _neighbours(rows, width, radius, template.device)
    bands = []
    for top in range(0, height, rows):
        products = torch.matmul(own[:, top * width:(top + rows) * width],
                                around[:, :, top * wide:(top + tall) * wide])
        near = products.reshape(-1, rows * width * tall * wide).index_select(1, wanted)
        bands.append(near.reshape(-1, (2 * radius + 1) ** 2, rows * width))
    return torch.cat(bands, 2).reshape(-1, (2 * radius + 1) ** 2, height, width)


def _neighbours(rows: int, width: int, radius: int, device: torch.device) -> Tensor:
    """Return where the products of a band hold its correlation.

    The products are those of ``rows * width`` positions with all positions of the same rows and
    columns and ``radius`` more on each side.

    :return: indices into the flattened products, in the order displacement, position.
    """
    wide = width + 2 * radius
    y, x, d = (torch.arange(n, device=device) for n in (rows, width, 2 * radius + 1))
    position = (y[:, None] * width + x) * ((rows + 2 * radius) * wide)
    corner = y[:, None] * wide + x
    displacement = d[:, None] * wide + d
    return (displacement[:, :, None, None] + position + corner).flatten()


def warp_template(maps: Tensor, xy: Tensor, ratio: Tensor) -> Tensor:
    """Shift and scale template maps to where stage 1 sees the object; zero outside.

    :param maps: (N, C, H, W) of a template whose object origin is at the centre.
    :param xy: (N, 2) offset of the object origin from the crop's centre in crop widths.
    :param ratio: (N,) relative size in the crop over relative size in the template.
    :return: (N, C, H, W), of the type of ``xy``.
    """
    channels, height, width = (int(n) for n in maps.shape[1:])
    with torch.autocast(maps.device.type, enabled=False):  # bf16 would round positions
        across = _interpolation(width, xy[:, 0], ratio)
        along = _interpolation(height, xy[:, 1], ratio)
        rows = maps.to(xy.dtype).reshape(-1, channels * height, width)
        scaled = torch.matmul(rows, across.transpose(1, 2)).reshape(-1, channels, height, width)
        return torch.matmul(along[:, None], scaled)


def _interpolation(size: int, offset: Tensor, ratio: Tensor) -> Tensor:
    """Return the weights that shift and scale one axis, bilinear.

    :param offset: (N,) in lengths of the axis.
    :return: (N, size, size): row i has the weight of each source pixel in pixel i.
    """
    pixel = torch.arange(size, device=offset.device, dtype=offset.dtype)
    centre = (pixel + 0.5) / size - 0.5
    source = (centre - offset[:, None]) / ratio[:, None] * size + (size - 1) / 2
    return functional.relu(1.0 - (source[:, :, None] - pixel).abs())
