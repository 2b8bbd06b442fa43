"""Features of all templates, refreshed now and then while the network trains.

At inference the template features are cached, so training sees them the same way: computed by the
network of a few steps ago, without gradient. Gradients reach the shared weights through the crop.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..network.mrcnet import MrcNet, Pyramid, RefinerNetwork
from ..specs import PoseNetworkSpec
from .shared_tensors import shared

# templates that are embedded at once: a processor is fastest with few, a GPU with many
CHUNK, GPU_CHUNK = 32, 512


class TemplateBank:
    """Templates of several objects and their features, shared by the training processes."""

    def __init__(self, images: Sequence[NDArray[np.uint8]],
                 coordinates: Sequence[NDArray[np.float32]],
                 bins: Sequence[NDArray[np.int64]], spec: PoseNetworkSpec) -> None:
        """Keep the templates.

        :param images: for each class (M, S, S, 3) uint8.
        :param coordinates: for each class (M, 4, S/4, S/4).
        :param bins: for each class (M,) their bin indices.
        """
        self.images = shared(torch.from_numpy(np.concatenate(images)))
        counts = [len(i) for i in images]
        self.classes = torch.repeat_interleave(torch.arange(len(images)), torch.tensor(counts))
        self.row = torch.full((len(images), spec.bins.rotations), -1, dtype=torch.int64)
        self.row[self.classes, torch.from_numpy(np.concatenate(bins))] = torch.arange(sum(counts))
        dense = torch.from_numpy(np.concatenate(coordinates)).to(torch.bfloat16)
        side = spec.crop.size_px // 4
        shapes = zip(spec.network.embedding, (side, side // 2, side // 4), strict=True)
        features = [torch.zeros((sum(counts), c, s, s), dtype=torch.bfloat16) for c, s in shapes]
        self.maps: list[Tensor] = [shared(m) for m in (*features, dense)]

    @property
    def allowed(self) -> Tensor:
        """(C, R) bool, which bins have a template."""
        return self.row >= 0

    @property
    def precision(self) -> torch.dtype:
        """In which features are kept and the network computes."""
        return self.maps[0].dtype

    def arithmetic(self) -> torch.autocast:
        """Return the context in which the network computes, in the bank's precision."""
        return torch.autocast(self.images.device.type, self.precision,
                              enabled=self.precision != torch.float32)

    def to(self, device: torch.device, precision: torch.dtype = torch.bfloat16) -> TemplateBank:
        """Return the bank in the memory of a device; what is there already is not copied.

        :param precision: bfloat16, in which networks train, or float32, to compare devices.
        """
        moved = copy.copy(self)
        moved.images, moved.classes, moved.row = (
            t.to(device) for t in (self.images, self.classes, self.row))
        moved.maps = [m.to(device, precision) for m in self.maps]
        return moved

    def refresh(self, network: MrcNet | RefinerNetwork, rank: int = 0, world: int = 1) -> None:
        """Compute this process's share of the features with the network as it is now."""
        training = [m for m in network.modules() if m.training]  # frozen norms are not
        network.eval()
        kind = self.images.device.type
        chunk = CHUNK if kind == 'cpu' else GPU_CHUNK
        with torch.no_grad(), self.arithmetic():
            for start in range(chunk * rank, len(self.images), chunk * world):
                part = slice(start, start + chunk)
                image = self.images[part].permute(0, 3, 1, 2).float()
                pyramid = network.backbone(image, self.classes[part])
                for kept, fresh in zip(self.maps[:3], pyramid[:3], strict=True):
                    kept[part] = fresh
        for module in training:
            module.training = True

    def take(self, class_index: Tensor, bin_index: Tensor) -> Pyramid:
        """Return the features of templates, (N,) classes and bins.

        :raises ValueError: when a bin has no template.
        """
        rows = self.row[class_index, bin_index]
        if bool((rows < 0).any()):
            raise ValueError('a rotation bin outside the view prior has no template')
        return Pyramid(*(m[rows] for m in self.maps))
