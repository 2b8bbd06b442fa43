"""From the published network's outputs to poses, in torch.

Convention: translations have the unit of the depth bins' numerator, millimetres for the published
networks; rotations and translations are in the frame of the crop's camera.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ....geometry.rotation_grid import grid_of
from ....network.losses import torch_rotation_from_6d
from ..decode import cell_centres_xy, depth_centres
from ..spec import PaperSpec
from .mrcnet import CoarseLogits, Residual


class CoarsePose(NamedTuple):
    """The stage-1 pose.

    :param R: (N, 3, 3) centre of the rotation bin.
    :param xy: (N, 2) centre of the cell, offset from the crop's centre in crop widths.
    :param depth: (N,) centre of the depth bin, Z / fx [mm/px].
    :param t: (N, 3) [mm].
    """

    R: Tensor
    xy: Tensor
    depth: Tensor
    t: Tensor


class PaperBins(nn.Module):
    """The centres of all stage-1 bins, on the device of the network."""

    rotations: Tensor
    cells: Tensor
    depths: Tensor

    def __init__(self, spec: PaperSpec) -> None:
        super().__init__()
        self.size_px = spec.size_px
        grid = grid_of(spec)
        for name, values in (('rotations', grid), ('cells', cell_centres_xy(spec)),
                             ('depths', depth_centres(spec))):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def coarse(self, logits: CoarseLogits, K_crop: Tensor) -> CoarsePose:
        """Return the most likely bins.

        :param K_crop: (N, 3, 3) [px].
        """
        xy, depth = self.cells[logits.cell.argmax(1)], self.depths[logits.depth.argmax(1)]
        R = self.rotations[logits.rotation.argmax(1)]
        return CoarsePose(R, xy, depth, torch_translation(xy, depth, K_crop, self.size_px))

    def refine(self, coarse: CoarsePose, residual: Residual,
               K_crop: Tensor) -> tuple[Tensor, Tensor]:
        """Return R (N, 3, 3) and t (N, 3) [mm] of the final pose."""
        R = torch_rotation_from_6d(residual.six) @ coarse.R
        xy, depth = coarse.xy + residual.xy, coarse.depth + residual.depth[:, 0]
        return R, torch_translation(xy, depth, K_crop, self.size_px)


def torch_translation(xy: Tensor, depth: Tensor, K_crop: Tensor, size_px: int) -> Tensor:
    """Return where object origins are.

    :param xy: (N, 2) offset from the crop's centre in crop widths.
    :param depth: (N,) Z over the crop's focal length.
    :param K_crop: (N, 3, 3) [px].
    :return: (N, 3).
    """
    z = depth * K_crop[:, 0, 0]
    return torch.cat([sideways(xy, z, K_crop, size_px), z[:, None]], 1)


def sideways(xy: Tensor, z: Tensor, K_crop: Tensor, size_px: int) -> Tensor:
    """Return x and y (N, 2) of points at depths z (N,) seen at offsets xy (N, 2)."""
    focal = torch.stack([K_crop[:, 0, 0], K_crop[:, 1, 1]], 1)
    return (size_px * xy + size_px / 2 - K_crop[:, :2, 2]) / focal * z[:, None]


def residual_view(coarse: CoarsePose, view: Tensor) -> Tensor:
    """Return the geometry input (N, 3) of stage 2 from the stage-1 pose and stage 1's input."""
    return torch.cat([coarse.t[:, :2] / coarse.t[:, 2:], view[:, 2:]], 1)
