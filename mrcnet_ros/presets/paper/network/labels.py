"""Soft labels of rotation bins and nearest equivalents, under an object's symmetries.

Lengths are in one unit throughout, millimetres for the published networks. Source: mrcnet.md
section 6.
"""

from __future__ import annotations

import torch
from torch import Tensor

# As published: displacement in diameters at which a label falls to 1/e.
SHARPNESS = 0.03
_CHUNK = 1 << 22  # numbers at once: 16 MiB of float32


def symmetric_choice(C: Tensor, R_reference: Tensor, R_gt: Tensor, R_sym: Tensor) -> Tensor:
    """Return the symmetries whose equivalents of a rotation are nearest to other rotations.

    Nearest by the mean squared distance of vertices turned about the origin, that is by
    ``trace(C R_reference^T R_gt R_sym)``.

    :param C: (3, 3) mean of ``v v^T`` over the vertices.
    :param R_reference: (K, 3, 3).
    :param R_gt: (3, 3).
    :param R_sym: (S, 3, 3).
    :return: (K,) int64 in 0..S-1.
    """
    return symmetric_nearness(C, R_reference, R_gt, R_sym).argmax(1)


def symmetric_nearness(C: Tensor, R_reference: Tensor, R_gt: Tensor, R_sym: Tensor) -> Tensor:
    """Return what :func:`symmetric_choice` maximises, (K, S) float64.

    In double precision: neighbours of a continuous symmetry are nearly as good as each other, and
    which one wins must not depend on how a processor adds.
    """
    M = C.double() @ R_reference.double().transpose(1, 2) @ R_gt.double()
    return torch.einsum('kij,sji->ks', M, R_sym.double())


def vertex_moment(vertices: Tensor) -> Tensor:
    """Return the mean of ``v v^T`` over vertices (P, 3), not centred, (3, 3)."""
    return vertices.T @ vertices / len(vertices)


def rotation_soft_label(R_gt: Tensor, R_bins: Tensor, vertices: Tensor, T_symmetries: Tensor,
                        diameter: float) -> Tensor:
    """Return the soft label of each rotation bin.

    :param R_gt: (3, 3) true R_camera_object.
    :param R_bins: (K, 3, 3).
    :param vertices: (P, 3) of the object.
    :param T_symmetries: (S, 4, 4) motions that leave the object looking the same.
    :return: (K,) in 0..1, ``exp(-mean displacement / (0.03 diameter))``.
    """
    chosen = symmetric_choice(vertex_moment(vertices), R_bins, R_gt, T_symmetries[:, :3, :3])
    return label_of_choice(R_gt, R_bins, vertices, T_symmetries[chosen], diameter)


def label_of_choice(R_gt: Tensor, R_bins: Tensor, vertices: Tensor, T_chosen: Tensor,
                    diameter: float) -> Tensor:
    """Return the soft label of each rotation bin, each under a given symmetry.

    :param T_chosen: (K, 4, 4) one symmetry for each bin.
    :return: (K,); see :func:`rotation_soft_label`.
    """
    R_sym, t_sym = T_chosen[:, :3, :3], T_chosen[:, :3, 3]
    distance = []
    for rows in torch.arange(len(R_bins), device=R_bins.device).split(
            max(1, _CHUNK // (3 * len(vertices)))):
        R_between = R_gt @ R_sym[rows] - R_bins[rows]
        moved = vertices @ R_between.transpose(1, 2) + (t_sym[rows] @ R_gt.T)[:, None]
        distance.append(torch.linalg.vector_norm(moved, dim=2).mean(1))
    return torch.exp(-torch.cat(distance) / (SHARPNESS * diameter))


def nearest_equivalent(R_gt: Tensor, t_gt: Tensor, R_reference: Tensor, vertices: Tensor,
                       T_symmetries: Tensor) -> tuple[Tensor, Tensor]:
    """Return the symmetric equivalent of a pose whose rotation is nearest to another.

    :param R_gt: (3, 3).
    :param t_gt: (3,).
    :param R_reference: (3, 3).
    :param vertices: (P, 3).
    :param T_symmetries: (S, 4, 4).
    :return: R (3, 3) and t (3,).
    """
    C, R_sym = vertex_moment(vertices), T_symmetries[:, :3, :3]
    s = int(symmetric_choice(C, R_reference[None], R_gt, R_sym)[0])
    return R_gt @ R_sym[s], t_gt + R_gt @ T_symmetries[s, :3, 3]
