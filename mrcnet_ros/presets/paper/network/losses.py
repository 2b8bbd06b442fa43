"""The seven losses of the published training; lengths in millimetres.

Source: mrcnet.md section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ....network.losses import torch_rotation_from_6d
from .decode import CoarsePose, PaperBins, sideways
from .labels import nearest_equivalent
from .mrcnet import CoarseLogits, Residual

# As published: how narrow the soft labels of cells and depth bins are.
CELL_SHARPNESS = 4.0
DEPTH_WIDTH = 0.5


class PaperLosses(NamedTuple):
    """Weighted terms, scalars; their sum is the training loss."""

    rotation_class: Tensor
    rotation_residual: Tensor
    depth_class: Tensor
    cell_class: Tensor
    xy_residual: Tensor
    depth_residual: Tensor
    mask: Tensor


# As published, in the order of the fields.
WEIGHTS = PaperLosses(*map(torch.tensor, (0.5, 1.0, 2.0, 2.0, 1.0, 0.2, 10.0)))


@dataclass(frozen=True, eq=False, kw_only=True)
class PaperTargets:
    """The truth of a batch.

    :param R: (N, 3, 3) R_crop_object.
    :param t: (N, 3) t_crop_object [mm].
    :param rotation_label: (N, rotations) soft labels.
    :param mask: (N, h, w) visible part at stride 4, 0 or 1.
    :param vertices: of each object, (P, 3) [mm].
    :param T_symmetries: of each object, (S, 4, 4) [mm].
    """

    R: Tensor
    t: Tensor
    rotation_label: Tensor
    mask: Tensor
    vertices: Sequence[Tensor]
    T_symmetries: Sequence[Tensor]


def paper_losses(logits: CoarseLogits, residual: Residual, mask_logit: Tensor, K_crop: Tensor,
                 targets: PaperTargets, bins: PaperBins) -> PaperLosses:
    """Return the weighted losses of a batch, means over its images.

    :param mask_logit: (N, 1, h, w).
    :param K_crop: (N, 3, 3) [px].
    """
    coarse = bins.coarse(logits, K_crop)
    R = torch_rotation_from_6d(residual.six) @ coarse.R
    depth, cell = position_in_bins(targets.t, K_crop, bins.size_px)
    R_near, t_near = _nearest(R, targets)
    xy, z = _residual_errors(coarse, residual, t_near, K_crop, bins.size_px)
    terms = (
        focal_loss(logits.rotation, targets.rotation_label),
        _rotation_error(R, R_near, targets.vertices),
        expected_class_loss(logits.depth, depth_label(depth, bins.depths)),
        expected_class_loss(logits.cell, cell_label(cell, bins.cells)),
        smooth_norm(xy), smooth_norm(z),
        functional.binary_cross_entropy_with_logits(
            mask_logit[:, 0], targets.mask.to(mask_logit.dtype), reduction='none').mean((1, 2)),
    )
    return PaperLosses(*(w * term.mean() for w, term in zip(WEIGHTS, terms, strict=True)))


def focal_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Sigmoid focal loss with soft labels, summed over bins.

    :param logits: (N, K).
    :param label: (N, K) in 0..1.
    :return: (N,).
    """
    p = torch.sigmoid(logits)
    hit = 10.0 * label * (1 - p) ** 2 * functional.softplus(-logits)
    miss = 0.1 * (1 - label) * p**2 * functional.softplus(logits)
    return (hit + miss).sum(1)


def expected_class_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Cross entropy, less where the expected probability is high already.

    :param logits: (N, K).
    :param label: (N, K), rows summing to 1.
    :return: (N,).
    """
    log_p = torch.log_softmax(logits, 1)
    expected = (log_p.exp() * label).sum(1)
    return -((1 - expected) ** 2) * (label * log_p).sum(1)


def depth_label(depth: Tensor, centres: Tensor) -> Tensor:
    """Return the target distribution (N, bins) of depths (N,) [mm/px]."""
    width = DEPTH_WIDTH * (centres[-1] - centres[0]) / (len(centres) - 1)
    return torch.softmax(-((depth[:, None] - centres) / width) ** 2, 1)


def cell_label(xy: Tensor, centres: Tensor) -> Tensor:
    """Return the target distribution (N, cells) of offsets (N, 2) in crop widths."""
    squares = ((xy[:, None] - centres) ** 2).sum(2)
    return torch.softmax(-CELL_SHARPNESS * len(centres) * squares, 1)


def position_in_bins(t: Tensor, K_crop: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """Return depth (N,) [mm/px] and offset (N, 2) in crop widths of translations (N, 3) [mm]."""
    focal = torch.stack([K_crop[:, 0, 0], K_crop[:, 1, 1]], 1)
    pixel = focal * t[:, :2] / t[:, 2:] + K_crop[:, :2, 2]
    return t[:, 2] / K_crop[:, 0, 0], pixel / size_px - 0.5


def smooth_norm(error: Tensor) -> Tensor:
    """Smooth L1 of vector lengths with its knee at 1 mm.

    :param error: (..., 3) [mm].
    :return: (...).
    """
    squares = (error**2).sum(-1)
    length = torch.sqrt(squares.clamp(min=1.0))
    return torch.where(squares < 1.0, 0.5 * squares + 0.5, length)


def _nearest(R: Tensor, targets: PaperTargets) -> tuple[Tensor, Tensor]:
    """Return the targets' equivalents that are nearest to predicted rotations."""
    with torch.no_grad():
        poses = [nearest_equivalent(*row) for row in zip(
            targets.R, targets.t, R.detach(), targets.vertices, targets.T_symmetries,
            strict=True)]
    return torch.stack([p[0] for p in poses]), torch.stack([p[1] for p in poses])


def _rotation_error(R: Tensor, R_gt: Tensor, vertices: Sequence[Tensor]) -> Tensor:
    moved = (v @ D.T for v, D in zip(vertices, R - R_gt, strict=True))
    return torch.stack([smooth_norm(m).mean() for m in moved])


def _residual_errors(coarse: CoarsePose, residual: Residual, t: Tensor, K_crop: Tensor,
                     size_px: int) -> tuple[Tensor, Tensor]:
    """Return the 3-D errors (N, 3) [mm] of xy at the true depth and of depth at the true xy."""
    _, xy = position_in_bins(t, K_crop, size_px)
    found_xy = sideways(coarse.xy + residual.xy, t[:, 2], K_crop, size_px)
    z = (coarse.depth + residual.depth[:, 0]) * K_crop[:, 0, 0]
    found_z = torch.cat([sideways(xy, z, K_crop, size_px), z[:, None]], 1)
    return torch.cat([found_xy, t[:, 2:]], 1) - t, found_z - t
