"""One forward pass in training: stage 1, a template chosen from its answer, stage 2, losses.

Or that of the refiner, whose samples say what template it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..network.losses import displacement, masked_l1, soft_cross_entropy, torch_rotation_from_6d
from ..network.mrcnet import MrcNet, RefinerNetwork, Stage1, Stage2
from ..specs import ModelSpec
from .targets import (
    Batch,
    ObjectShapes,
    Poses,
    cell_targets,
    nearest_true_poses,
    rotation_targets,
    scale_targets,
    symmetric_equivalents,
)
from .template_bank import TemplateBank

LABEL_SHARPNESS = 0.03  # of the labels of rotation bins, in diameters; see rotation_targets
# Stage 2 starts from the best bin in half of the samples, in 30 % from one that is drawn by stage
# 1's probabilities, and in the others from one near the truth.
FROM_BEST, FROM_GUESSES = 0.5, 0.8
NOISE_XY, NOISE_SIZE = 0.01, 0.02  # of the starts of stage 2: in crop widths, and of the log size
DIAMETERS_AWAY = 7.0  # a usual distance: makes diameters of an error of the log size


@dataclass(frozen=True, eq=False)
class StepResult:
    """The loss of a batch and what it is made of.

    :param loss: scalar with gradient.
    :param parts: mean of every term, and of the errors in diameters.
    """

    loss: Tensor
    parts: dict[str, float]


def train_step(network: MrcNet, batch: Batch, bank: TemplateBank, shapes: ObjectShapes,
               grid: Tensor, spec: ModelSpec, rng: np.random.Generator) -> StepResult:
    """Run both stages on a batch, in the precision of the bank, and weigh their losses.

    :param grid: (R, 3, 3) float32 bin centres.
    :param rng: for the choice of templates.
    """
    with bank.arithmetic():
        pyramid = network.backbone(batch.image, batch.class_index)
        coarse = network.coarse(pyramid.x16, batch.class_index)
    labels = rotation_targets(batch, shapes, grid, LABEL_SHARPNESS)
    bins, xy, log_size = choose_hypotheses(coarse, labels, batch, bank, rng)
    template = bank.take(batch.class_index, bins)
    with bank.arithmetic():
        fine = network.residual(pyramid, template, xy, log_size, batch.class_index)
    parts = {
        **_coarse_losses(network, coarse, labels, batch, spec),
        **_dense_losses(pyramid.dense.float(), batch, shapes),
        **fine_losses(fine, grid[bins], batch, shapes),
    }
    return _weighed(parts)


def refiner_step(network: RefinerNetwork, batch: Batch, bank: TemplateBank, shapes: ObjectShapes,
                 grid: Tensor) -> StepResult:
    """Run the refiner on a batch, in the precision of the bank, and weigh its losses.

    :param grid: (R, 3, 3) float32 rotations of the templates.
    """
    template = bank.take(batch.class_index, batch.template)
    with bank.arithmetic():
        pyramid = network.backbone(batch.image, batch.class_index)
        fine = network(pyramid, network.residual.project_template(template), batch.class_index)
    return _weighed({**_dense_losses(pyramid.dense.float(), batch, shapes),
                     **fine_losses(fine, grid[batch.template], batch, shapes)})


def _weighed(parts: Mapping[str, Tensor]) -> StepResult:
    """Weigh the terms of the loss, (N,) each; those without a weight are figures only."""
    start = torch.zeros((), device=next(iter(parts.values())).device)
    loss = sum((w * parts[k].mean() for k, w in WEIGHTS.items() if k in parts), start)
    means = torch.stack([v.detach().mean() for v in parts.values()])  # fetched all at once
    return StepResult(loss, dict(zip(parts, means.tolist(), strict=True)))


# Weights of the terms of the loss, which have different units (nats, crop widths, log sizes). A
# larger weight makes one term better at the cost of the others; those of stage 2, which make the
# pose, are the largest.
WEIGHTS = {
    'rotation_bin': 1.0, 'cell': 0.5, 'scale_bin': 0.5, 'coarse_xy': 2.0, 'coarse_depth': 0.5,
    'coordinates': 1.5, 'mask': 1.0, 'rotation': 10.0, 'xy': 10.0, 'depth': 4.0, 'quality': 0.5,
}


def choose_hypotheses(coarse: Stage1, labels: Tensor, batch: Batch, bank: TemplateBank,
                      rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Choose what stage 2 starts from: mostly stage 1's own answer, without gradient.

    Drawn by NumPy on the processor, so that every device gets the same numbers.

    :return: bins (N,), xy (N, 2), log size (N,).
    """
    allowed = bank.allowed[batch.class_index]
    logits = coarse.rotation_logits.detach().masked_fill(~allowed, -1e9)
    draw = torch.from_numpy(rng.random(len(logits))).to(logits.device)
    gumbel = torch.from_numpy(rng.gumbel(size=logits.shape)).float().to(logits.device)
    best = logits.argmax(1)
    guessed = (logits + gumbel).argmax(1)
    near = (torch.log(labels.clamp(min=1e-9)).masked_fill(~allowed, -1e9) + gumbel).argmax(1)
    bins = torch.where(draw < FROM_BEST, best, torch.where(draw < FROM_GUESSES, guessed, near))
    noise = torch.from_numpy(rng.standard_normal((len(logits), 3))).float().to(logits.device)
    xy = coarse.xy.detach() + NOISE_XY * noise[:, :2]
    return bins, xy, coarse.log_size.detach() + NOISE_SIZE * noise[:, 2]


def _coarse_losses(network: MrcNet, coarse: Stage1, labels: Tensor, batch: Batch,
                   spec: ModelSpec) -> dict[str, Tensor]:
    head = network.coarse
    return {
        'rotation_bin': soft_cross_entropy(coarse.rotation_logits, labels),
        'cell': soft_cross_entropy(
            coarse.cell_logits, cell_targets(batch, spec, head.cells_x, head.cells_y)),
        'scale_bin': soft_cross_entropy(coarse.scale_logits, scale_targets(batch, head.scales)),
        'coarse_xy': _lateral(coarse.xy, batch),
        'coarse_depth': DIAMETERS_AWAY * (coarse.log_size - batch.log_size).abs(),
        'bin_hit': (labels.gather(1, coarse.rotation_logits.argmax(1, keepdim=True))[:, 0]
                    >= 0.5 * labels.amax(1)).float(),
    }


def _lateral(xy: Tensor, true: Batch | Poses) -> Tensor:
    """Distance across the ray in diameters, (N,)."""
    square = ((xy - true.xy) ** 2).sum(1)
    return torch.sqrt(square + 1e-10) / torch.exp(true.log_size)


def _dense_losses(dense: Tensor, batch: Batch, shapes: ObjectShapes) -> dict[str, Tensor]:
    """Coordinates up to symmetry, the better equivalent counting, and the visible mask.

    Where the surface of a ball has its coordinates cannot be seen.
    """
    symmetries = shapes.symmetries[batch.class_index]
    shifts = 2.0 * shapes.shifts[batch.class_index]
    errors = []
    for s in range(symmetries.shape[1]):
        turned = torch.einsum('nji,njhw->nihw', symmetries[:, s], batch.coordinates
                              - shifts[:, s, :, None, None])
        errors.append(masked_l1(dense[:, :3], turned, batch.mask))
    mask = functional.binary_cross_entropy_with_logits(dense[:, 3], batch.mask, reduction='none')
    coordinates = torch.stack(errors).amin(0).masked_fill(shapes.balls[batch.class_index], 0.0)
    return {'coordinates': coordinates, 'mask': mask.mean((1, 2))}


def fine_losses(fine: Stage2, R_bin: Tensor, batch: Batch,
                shapes: ObjectShapes) -> dict[str, Tensor]:
    """Compare the answers of stage 2 with the equivalents of the truth nearest to its templates.

    :param R_bin: (N, 3, 3) rotations of the templates.
    :return: each (N,).
    """
    R = torch_rotation_from_6d(fine.six) @ R_bin
    points = shapes.points[batch.class_index]
    target = nearest_true_poses(batch, shapes, R_bin)
    rotation = displacement(R, target.rotation, points)
    lateral = _lateral(fine.xy, target)
    depth = DIAMETERS_AWAY * (fine.log_size - target.log_size).abs()
    error = torch.sqrt(rotation**2 + lateral**2 + depth**2).detach()
    recall = (1 - 2 * error).clamp(0, 1)
    quality = functional.binary_cross_entropy_with_logits(fine.quality, recall, reduction='none')
    start = torch.stack([displacement(R_bin, c, points) for c in
                         symmetric_equivalents(batch, shapes).rotation.unbind(1)]).amin(0)
    start = start.masked_fill(shapes.balls[batch.class_index], 0.0)
    return {'rotation': rotation, 'xy': lateral, 'depth': depth, 'quality': quality,
            'start_rotation': start, 'recall': recall}
