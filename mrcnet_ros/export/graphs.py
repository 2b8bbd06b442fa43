"""The three graphs of a model, as traceable modules with named inputs and outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..network.mrcnet import MrcNet, Pyramid, masked_coordinates
from ..specs import ModelSpec


class Stage1Graph(nn.Module):
    """Crop to features and coarse pose."""

    inputs = ('image', 'class_index')
    outputs = ('x4', 'x8', 'x16', 'dense', 'rotation_logits', 'cell_logits', 'scale_logits', 'xy',
               'log_size')

    def __init__(self, network: MrcNet) -> None:
        """Wrap a network in evaluation mode."""
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, class_index: Tensor) -> tuple[Tensor, ...]:
        """Map (N, H, W, 3) uint8 and (N,) int64 to the outputs; dense holds what stage 2 reads."""
        pyramid = self.network.backbone(image.permute(0, 3, 1, 2).float(), class_index)
        coarse = self.network.coarse(pyramid.x16, class_index)
        return (*pyramid[:3], masked_coordinates(pyramid.dense), *coarse)


class TemplateGraph(nn.Module):
    """Template to the projected features that stage 2 correlates."""

    inputs = ('image', 'class_index')
    outputs = ('t4', 't8', 't16')

    def __init__(self, network: MrcNet) -> None:
        """Wrap a network in evaluation mode."""
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, class_index: Tensor) -> tuple[Tensor, ...]:
        """Map (N, H, W, 3) uint8 and (N,) int64 to the outputs."""
        pyramid = self.network.backbone(image.permute(0, 3, 1, 2).float(), class_index)
        return tuple(self.network.residual.project_template(pyramid)[:3])


class Stage2Graph(nn.Module):
    """Features of crop and template to the residual pose."""

    inputs = ('x4', 'x8', 'x16', 'dense', 't4', 't8', 't16', 'coordinates', 'xy', 'log_size',
              'class_index')
    outputs = ('six', 'fine_xy', 'fine_log_size', 'quality')

    def __init__(self, network: MrcNet) -> None:
        """Wrap a network in evaluation mode."""
        super().__init__()
        self.residual = network.residual

    def forward(self, x4: Tensor, x8: Tensor, x16: Tensor, dense: Tensor, t4: Tensor, t8: Tensor,
                t16: Tensor, coordinates: Tensor, xy: Tensor, log_size: Tensor,
                class_index: Tensor) -> tuple[Tensor, ...]:
        """Map the outputs of the other graphs to the outputs."""
        crop, template = Pyramid(x4, x8, x16, dense), Pyramid(t4, t8, t16, coordinates)
        return tuple(self.residual.compare(crop, template, xy, log_size, class_index))


def example_inputs(spec: ModelSpec, count: int) -> dict[str, dict[str, Tensor]]:
    """Return inputs of the right shapes for every graph.

    :param count: size of the batch.
    """
    size, (e4, e8, e16) = spec.crop.size_px, spec.network.embedding
    image = torch.randint(0, 255, (count, size, size, 3), dtype=torch.uint8)
    classes = torch.zeros(count, dtype=torch.int64)
    shapes = ((e4, 4), (e8, 8), (e16, 16), (4, 4))
    crop, template = ([torch.rand(count, c, size // s, size // s) for c, s in shapes]
                      for _ in range(2))
    stage2 = [*crop, *template, torch.zeros(count, 2), torch.zeros(count), classes]
    return {
        'stage1': {'image': image, 'class_index': classes},
        'template': {'image': image, 'class_index': classes},
        'stage2': dict(zip(Stage2Graph.inputs, stage2, strict=True)),
    }
