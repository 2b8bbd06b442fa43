"""Reproducible weights and inputs from a seed word, for comparing implementations.

Convention: a tensor's numbers depend on ``salt`` and its name alone, through a Philox generator
keyed with the CRC-32 of ``salt:name``.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..network.mrcnet import PaperNet
from ..spec import PaperSpec

Floats = NDArray[np.float32]
# rows and columns of the seeded template that are empty: first and last
EMPTY_ROWS, EMPTY_COLUMNS = (40, 30), (60, 50)


def generator(salt: str, name: str) -> np.random.Generator:
    """Return the source of a tensor's numbers."""
    return np.random.Generator(np.random.Philox(key=zlib.crc32(f'{salt}:{name}'.encode())))


def seeded_normal(salt: str, name: str, shape: Sequence[int]) -> Floats:
    """Return standard normal numbers."""
    return generator(salt, name).standard_normal(tuple(shape), dtype=np.float32)


def seeded_uniform(salt: str, name: str, shape: Sequence[int]) -> Floats:
    """Return uniform numbers in 0..1."""
    return generator(salt, name).random(tuple(shape), dtype=np.float32)


def seeded_weight(salt: str, name: str, shape: Sequence[int]) -> Floats:
    """Return a tensor of a state dict: gains near 1, small biases, He-scaled kernels."""
    z = seeded_normal(salt, name, shape)
    if len(shape) == 1 and name.endswith('weight'):
        return np.float32(1.0) + np.float32(0.1) * z
    if name.endswith('bias'):
        return np.float32(0.1) * z
    fan_in = int(np.prod(shape[2:] if len(shape) == 5 else shape[1:]))
    return z * np.float32(np.sqrt(2.0 / fan_in))


def seeded_network(salt: str, spec: PaperSpec, objects: int) -> PaperNet:
    """Return the published network with seeded weights, in evaluation mode."""
    with torch.device('meta'):
        network = PaperNet(spec=spec, objects=objects)
    weights: dict[int, Tensor] = {}
    state = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if id(tensor) not in weights:
            weights[id(tensor)] = torch.from_numpy(seeded_weight(salt, name, tensor.shape))
        state[name] = weights[id(tensor)]
    network.load_state_dict(state, assign=True)
    return network.eval()


def seeded_image(salt: str, name: str, count: int, size_px: int) -> Tensor:
    """Return smooth noise, (count, 3, size_px, size_px)."""
    noise = seeded_uniform(salt, name, (count, 3, size_px, size_px))
    return functional.avg_pool2d(torch.from_numpy(noise), 9, 1, 4)


def seeded_template(salt: str, count: int, size_px: int) -> Tensor:
    """Return smooth noise in a black frame, (count, 3, size_px, size_px)."""
    image = seeded_image(salt, 'render', count, size_px)
    (top, bottom), (left, right) = EMPTY_ROWS, EMPTY_COLUMNS
    image[:, :, :top], image[:, :, size_px - bottom:] = 0.0, 0.0
    image[..., :left], image[..., size_px - right:] = 0.0, 0.0
    return image
