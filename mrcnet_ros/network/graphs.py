"""The graphs of a model, as traceable modules with named inputs and outputs."""

from __future__ import annotations

from torch import Tensor, nn

from ..specs import COORDINATES, GRAPHS, REFINER_GRAPHS, SEEN, START, TEMPLATE_FEATURES
from .mrcnet import MrcNet, Pyramid, RefinerNetwork, masked_coordinates

ANSWER = ('six', 'fine_xy', 'fine_log_size', 'quality')


class Stage1Graph(nn.Module):
    """Crop to features and coarse pose."""

    inputs = ('image', 'class_index')
    outputs = (*SEEN, 'rotation_logits', 'cell_logits', 'scale_logits', *START)

    def __init__(self, network: MrcNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, class_index: Tensor) -> tuple[Tensor, ...]:
        """Map (N, H, W, 3) uint8 and (N,) int64 to the outputs; dense holds what stage 2 reads."""
        pyramid = self.network.backbone(image.permute(0, 3, 1, 2).float(), class_index)
        coarse = self.network.coarse(pyramid.x16, class_index)
        return (*pyramid[:3], masked_coordinates(pyramid.dense), *coarse)


class TemplateGraph(nn.Module):
    """Template to the projected features that stage 2, or the refiner, correlates."""

    inputs = ('image', 'class_index')
    outputs = TEMPLATE_FEATURES

    def __init__(self, network: MrcNet | RefinerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, class_index: Tensor) -> tuple[Tensor, ...]:
        """Map (N, H, W, 3) uint8 and (N,) int64 to the outputs."""
        pyramid = self.network.backbone(image.permute(0, 3, 1, 2).float(), class_index)
        return tuple(self.network.residual.project_template(pyramid)[:3])


class Stage2Graph(nn.Module):
    """Features of crop and template to the residual pose."""

    inputs = (*SEEN, *TEMPLATE_FEATURES, COORDINATES, *START, 'class_index')
    outputs = ANSWER

    def __init__(self, network: MrcNet) -> None:
        super().__init__()
        self.residual = network.residual

    def forward(self, x4: Tensor, x8: Tensor, x16: Tensor, dense: Tensor, t4: Tensor, t8: Tensor,
                t16: Tensor, coordinates: Tensor, xy: Tensor, log_size: Tensor,
                class_index: Tensor) -> tuple[Tensor, ...]:
        """Map the outputs of the other graphs to the outputs."""
        crop, template = Pyramid(x4, x8, x16, dense), Pyramid(t4, t8, t16, coordinates)
        return tuple(self.residual.compare(crop, template, xy, log_size, class_index))


class RefinerGraph(nn.Module):
    """Crop at a pose, and features of the template nearest to it, to the residual pose."""

    inputs = ('image', *TEMPLATE_FEATURES, COORDINATES, 'class_index')
    outputs = ANSWER

    def __init__(self, network: RefinerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, t4: Tensor, t8: Tensor, t16: Tensor, coordinates: Tensor,
                class_index: Tensor) -> tuple[Tensor, ...]:
        """Map (N, H, W, 3) uint8, the features and (N,) int64 to the outputs."""
        crop = self.network.backbone(image.permute(0, 3, 1, 2).float(), class_index)
        return tuple(self.network(crop, Pyramid(t4, t8, t16, coordinates), class_index))


def refiner_graphs_of(network: RefinerNetwork) -> dict[str, nn.Module]:
    """Return the graphs of a refiner in evaluation mode, by name."""
    return dict(zip(REFINER_GRAPHS, (RefinerGraph(network), TemplateGraph(network)), strict=True))


def graphs_of(network: MrcNet) -> dict[str, nn.Module]:
    """Return the graphs of a network in evaluation mode, by name."""
    return dict(zip(GRAPHS, (Stage1Graph(network), TemplateGraph(network), Stage2Graph(network)),
                    strict=True))
