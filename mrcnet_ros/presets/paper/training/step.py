"""One forward pass of the paper preset in training, up to its losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ....datasets.bop_scene import MM
from ....objects import ObjectModel
from ....rendering.renderer import Renderer
from ..network.decode import PaperBins, residual_view
from ..network.labels import rotation_soft_label
from ..network.losses import PaperTargets, paper_losses
from ..network.mrcnet import Features, PaperNet
from ..spec import PaperSpec
from ..template import draw_template
from .samples import PaperBatch

# class indices (N,), R (N, 3, 3), t (N, 3) [mm] and K_crop (N, 3, 3) to templates (N, 4, S, S)
Draw = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class PaperShapes:
    """The geometry of each object for labels and losses, in millimetres.

    :param vertices: (P, 3) float32.
    :param T_symmetries: (S, 4, 4) float32.
    """

    vertices: Sequence[Tensor]
    T_symmetries: Sequence[Tensor]
    diameter: Sequence[float]

    @classmethod
    def build(cls, objects: Sequence[ObjectModel], count: int | None,
              device: torch.device) -> PaperShapes:
        """Read all meshes.

        :param count: of vertices to keep of each, None for all.
        :raises MeshError: when a mesh cannot be used.
        """
        vertices, symmetries = [], []
        for item in objects:
            points = item.load_mesh().vertices / MM
            if count is not None and count < len(points):
                points = points[np.linspace(0, len(points) - 1, count).astype(np.int64)]
            T = item.symmetries.transforms.copy()
            T[:, :3, 3] /= MM
            vertices.append(torch.from_numpy(points).float().to(device))
            symmetries.append(torch.from_numpy(T).float().to(device))
        return cls(vertices, symmetries, [o.diameter_m / MM for o in objects])


class TemplateArtist:
    """Draws the templates of a batch.

    :param objects: in class order.
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(self, objects: Sequence[ObjectModel], spec: PaperSpec) -> None:
        """Open a renderer; it belongs to the thread that makes it."""
        self._spec, self._renderer = spec, Renderer(spec.size_px, spec.size_px)
        for class_index, item in enumerate(objects):
            self._renderer.add_mesh(class_index, item.load_mesh())

    def __call__(self, class_index: Tensor, R: Tensor, t: Tensor, K_crop: Tensor) -> Tensor:
        """Draw objects at poses, lengths in millimetres; see :data:`Draw`."""
        poses = (x.cpu().numpy().astype(np.float64) for x in (R, MM * t, K_crop))
        drawn = [draw_template(self._renderer, key, R_crop_object, t_m, K, self._spec)
                 for key, R_crop_object, t_m, K in zip(class_index.tolist(), *poses, strict=True)]
        return torch.from_numpy(np.stack(drawn)).to(R.device)


class PaperStep(nn.Module):
    """Network and losses in one module, so that DDP shares gradients during backward.

    Convention: only convolutions run in the lower precision. Heads, which see the crop's
    geometry, poses, labels and losses are float32: a tangent of 0.3 in bfloat16 is wrong by
    half a millimetre in a metre.
    """

    def __init__(self, network: PaperNet, spec: PaperSpec, shapes: PaperShapes, draw: Draw,
                 precision: torch.dtype) -> None:
        super().__init__()
        self.network, self.bins = network, PaperBins(spec)
        self._shapes, self._draw, self._precision = shapes, draw, precision

    def forward(self, batch: PaperBatch) -> Tensor:
        """Return the seven weighted losses, (7,), in the order of ``PaperLosses``."""
        network = self.network
        with self._lower_precision(batch.image.device):
            crop = network.features(batch.image, batch.class_index)
            pooled = network.decoder.clf_pool(crop.x16)
        logits = network.classifier(pooled.float(), batch.view)
        with torch.no_grad():
            coarse = self.bins.coarse(logits, batch.K_crop)
            image = self._draw(batch.class_index, coarse.R, coarse.t, batch.K_crop)
        compared = self._compare(crop, image, batch.class_index)
        residual = network.regressor(compared.float(), residual_view(coarse, batch.view))
        losses = paper_losses(logits, residual, crop.mask_logit.float(), batch.K_crop,
                              self._targets(batch), self.bins)
        return torch.stack(losses)

    def _compare(self, crop: Features, image: Tensor, class_index: Tensor) -> Tensor:
        with self._lower_precision(image.device):
            template = self.network.features(image, class_index)
            return self.network.decoder.compare(crop, template)

    def _lower_precision(self, device: torch.device) -> AbstractContextManager[None]:
        return torch.autocast(device.type, self._precision,
                              enabled=self._precision != torch.float32)

    @torch.no_grad()
    def _targets(self, batch: PaperBatch) -> PaperTargets:
        shapes, classes = self._shapes, batch.class_index.tolist()
        vertices = [shapes.vertices[c] for c in classes]
        symmetries = [shapes.T_symmetries[c] for c in classes]
        labels = [rotation_soft_label(R, self.bins.rotations, v, T, shapes.diameter[c])
                  for R, v, T, c in zip(batch.R, vertices, symmetries, classes, strict=True)]
        return PaperTargets(R=batch.R, t=batch.t, rotation_label=torch.stack(labels),
                            mask=batch.mask, vertices=vertices, T_symmetries=symmetries)
