"""Training targets: soft labels, and the nearest symmetric equivalents of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..geometry.se3 import Array
from ..specs import ModelSpec
from .composer import Sample

# Vertices of each object at which the losses compare poses. They are not spread evenly over the
# surface: fine parts have more of them.
POINTS = 96


class Batch(NamedTuple):
    """Samples stacked; fields as in :class:`~mrcnet_ros.training.composer.Sample`.

    :param image: (N, 3, S, S) float32 in 0..255.
    :param class_index: (N,) int64.
    :param rotation: (N, 3, 3) float32.
    :param xy: (N, 2).
    :param log_size: (N,).
    :param focal: (N,).
    :param coordinates: (N, 3, S/4, S/4).
    :param mask: (N, S/4, S/4).
    :param template: (N,) int64.
    """

    image: Tensor
    class_index: Tensor
    rotation: Tensor
    xy: Tensor
    log_size: Tensor
    focal: Tensor
    coordinates: Tensor
    mask: Tensor
    template: Tensor

    def ready(self, device: torch.device) -> Batch:
        """Return a batch from :func:`stack_samples` as the network takes it, on a device."""
        moved = Batch(*(values.to(device, non_blocking=True) for values in self))
        return moved._replace(image=moved.image.permute(0, 3, 1, 2).float())


class Poses(NamedTuple):
    """Poses in the terms of :class:`Batch`.

    :param rotation: (..., 3, 3).
    :param xy: (..., 2).
    :param log_size: (...).
    """

    rotation: Tensor
    xy: Tensor
    log_size: Tensor


def stack_samples(samples: Sequence[Sample]) -> Batch:
    """Stack samples, the image still (N, S, S, 3) uint8: a quarter of the bytes to move."""
    def stack(values: Sequence[NDArray[np.generic] | float], kind: type[np.generic]) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(v, kind) for v in values]))

    return Batch(
        stack([s.image for s in samples], np.uint8),
        stack([s.class_index for s in samples], np.int64),
        stack([s.R_ray_object for s in samples], np.float32),
        stack([s.xy for s in samples], np.float32),
        stack([s.log_size for s in samples], np.float32),
        stack([s.focal for s in samples], np.float32),
        stack([s.coordinates for s in samples], np.float32),
        stack([s.mask for s in samples], np.float32),
        stack([s.template for s in samples], np.int64))


@dataclass(frozen=True, eq=False)
class ObjectShapes:
    """What the losses know of the objects, in units of their diameters.

    :param points: (C, POINTS, 3) some of the vertices.
    :param moments: (C, 3, 3) mean of v v^T over the vertices.
    :param symmetries: (C, M, 3, 3) rotations, padded with the identity.
    :param shifts: (C, M, 3) translations of the symmetries.
    :param balls: (C,) bool, whether no rotation changes how the object looks.
    """

    points: Tensor
    moments: Tensor
    symmetries: Tensor
    shifts: Tensor
    balls: Tensor

    @classmethod
    def build(cls, vertices: Sequence[Array], diameters_m: Sequence[float],
              symmetries: Sequence[Array], balls: Sequence[bool]) -> ObjectShapes:
        """Gather from vertices [m], diameters [m] and (M, 4, 4) symmetry motions [m]."""
        most = max(len(s) for s in symmetries)
        padded = [np.concatenate([s, np.tile(np.eye(4), (most - len(s), 1, 1))])
                  for s in symmetries]
        scaled = [v / d for v, d in zip(vertices, diameters_m, strict=True)]
        picks = [v[np.random.default_rng(0).choice(len(v), POINTS, replace=len(v) < POINTS)]
                 for v in scaled]
        moments = [v.T @ v / len(v) for v in scaled]
        shifts = [s[:, :3, 3] / d for s, d in zip(padded, diameters_m, strict=True)]
        points, moments_of, turns, moves = (
            torch.tensor(np.array(x), dtype=torch.float32) for x in (
                picks, moments, [s[:, :3, :3] for s in padded], shifts))
        return cls(points, moments_of, turns, moves, torch.tensor(balls))

    def to(self, device: torch.device) -> ObjectShapes:
        return ObjectShapes(self.points.to(device), self.moments.to(device),
                            self.symmetries.to(device), self.shifts.to(device),
                            self.balls.to(device))


def rotation_targets(batch: Batch, shapes: ObjectShapes, grid: Tensor, sharpness: float) -> Tensor:
    """Return soft labels over the rotation bins, each for its best symmetry.

    The distance of a bin is the root mean square displacement of the vertices in diameters. All
    bins of a ball are at the same.

    :param grid: (R, 3, 3) bin centres.
    :param sharpness: displacement [diameters] at which a bin's weight falls to 1/e.
    :return: (N, R), rows summing to 1.
    """
    moments = shapes.moments[batch.class_index]
    turned = symmetric_equivalents(batch, shapes).rotation
    overlap = torch.einsum('nsij,njk,rik->nsr', turned, moments, grid).amax(1)
    total = moments.diagonal(dim1=1, dim2=2).sum(1)[:, None]
    square = (2 * total - 2 * overlap).masked_fill(shapes.balls[batch.class_index][:, None], 0.0)
    distance = torch.sqrt(square.clamp(min=1e-8))
    return torch.softmax(-distance / sharpness, dim=1)


def symmetric_equivalents(batch: Batch, shapes: ObjectShapes) -> Poses:
    """Return all poses that look like the true ones.

    A symmetry about an axis off the object's origin moves the origin: t becomes t + R t_s, and
    with it the ray that rotations are seen from.

    :return: of shape (N, M).
    """
    focal = batch.focal[:, None]
    t = _translation(batch.xy, batch.log_size, batch.focal)
    R_crop_object = _rotation_to_axis(t).mT @ batch.rotation
    moved = t[:, None] + shapes.shifts[batch.class_index] @ R_crop_object.mT
    R_moved = R_crop_object[:, None] @ shapes.symmetries[batch.class_index]
    return Poses(_rotation_to_axis(moved) @ R_moved,
                 focal[..., None] * moved[..., :2] / moved[..., 2:],
                 torch.log(focal / moved[..., 2]))


def nearest_true_poses(batch: Batch, shapes: ObjectShapes, reference: Tensor) -> Poses:
    """Return the symmetric equivalents of the true poses that are nearest to other rotations.

    Nearest by the mean squared displacement of the vertices. A ball has any rotation, so that the
    other one is true.

    :param reference: (N, 3, 3).
    :return: of shape (N,).
    """
    found = symmetric_equivalents(batch, shapes)
    moments = shapes.moments[batch.class_index]
    overlap = torch.einsum('nsij,njk,nik->ns', found.rotation, moments, reference)
    nearest = overlap.argmax(1)
    rows = torch.arange(len(reference), device=nearest.device)
    rotation, xy, log_size = (values[rows, nearest] for values in found)
    ball = shapes.balls[batch.class_index][:, None, None]
    return Poses(torch.where(ball, reference, rotation), xy, log_size)


def _translation(xy: Tensor, log_size: Tensor, focal: Tensor) -> Tensor:
    """Return t_crop_object in diameters, (N, 3); see ``geometry.bins.decode_translation``."""
    depth = focal / torch.exp(log_size)
    return torch.cat([xy * (depth / focal)[:, None], depth[:, None]], 1)


def _rotation_to_axis(direction: Tensor) -> Tensor:
    """Do what ``geometry.se3.rotation_to_axis`` does, (..., 3) to (..., 3, 3)."""
    x, y, z = functional.normalize(direction, dim=-1).unbind(-1)
    part = -x * y / (1 + z)
    rows = [1 - x * x / (1 + z), part, -x, part, 1 - y * y / (1 + z), -y, x, y, z]
    R: Tensor = torch.stack(rows, -1).unflatten(-1, (3, 3))
    return R


def cell_targets(batch: Batch, spec: ModelSpec, cells_x: Tensor, cells_y: Tensor) -> Tensor:
    """Return soft labels over the cells, (N, cells**2)."""
    square = ((batch.xy[:, :1] - cells_x) ** 2 + (batch.xy[:, 1:] - cells_y) ** 2)
    return torch.softmax(-square * (spec.bins.cells / 0.7) ** 2, dim=1)


def scale_targets(batch: Batch, scales: Tensor) -> Tensor:
    """Return soft labels over the scale bins, (N, scale_bins)."""
    spacing = scales[1] - scales[0]
    return torch.softmax(-((batch.log_size[:, None] - scales) / (0.8 * spacing)) ** 2, dim=1)
