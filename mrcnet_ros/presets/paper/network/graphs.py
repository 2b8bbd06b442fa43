"""The three graphs of the paper preset, as traceable modules with named inputs and outputs."""

from __future__ import annotations

from torch import Tensor, nn

from ..spec import PAPER_GRAPHS
from .mrcnet import Features, PaperNet


class EmbedGraph(nn.Module):
    """Crops or templates to features."""

    inputs = ('image', 'class_index')
    outputs = ('x4', 'x8', 'x16')

    def __init__(self, network: PaperNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, class_index: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 4, S, S) float32 and (N,) int64 to the outputs."""
        return tuple(self.network.features(image, class_index)[:3])


class CoarseGraph(nn.Module):
    """Features of crops to the classes of stage 1."""

    inputs = ('x16', 'view')
    outputs = ('rotation_logits', 'depth_logits', 'cell_logits')

    def __init__(self, network: PaperNet) -> None:
        super().__init__()
        self.pool, self.classifier = network.decoder.clf_pool, network.classifier

    def forward(self, x16: Tensor, view: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 128, S/16, S/16) and (N, 3) to the outputs."""
        return tuple(self.classifier(self.pool(x16), view))


class ResidualGraph(nn.Module):
    """Features of crops and templates to the residual pose."""

    inputs = ('x4', 'x8', 'x16', 't4', 't8', 't16', 'view')
    outputs = ('six', 'depth', 'xy')

    def __init__(self, network: PaperNet) -> None:
        super().__init__()
        self.decoder, self.regressor = network.decoder, network.regressor

    def forward(self, x4: Tensor, x8: Tensor, x16: Tensor, t4: Tensor, t8: Tensor, t16: Tensor,
                view: Tensor) -> tuple[Tensor, ...]:
        """Map the features of both and (N, 3) to the outputs."""
        crop, template = Features(x4, x8, x16, x4), Features(t4, t8, t16, t4)
        return tuple(self.regressor(self.decoder.compare(crop, template), view))


def graphs_of(network: PaperNet) -> dict[str, nn.Module]:
    """Return the graphs of a network in evaluation mode, by name."""
    return dict(zip(PAPER_GRAPHS, (
        EmbedGraph(network), CoarseGraph(network), ResidualGraph(network)), strict=True))
