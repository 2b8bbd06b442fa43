"""Losses of the default preset; lengths are in object diameters.

Source: MRC-Net section 3.5, with cross entropies in place of focal losses and the dense head's
terms added.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy with soft labels, less the labels' own entropy.

    :param logits: (N, K).
    :param target: (N, K), rows summing to 1.
    :return: (N,).
    """
    entropy = (target * torch.log(target.clamp(min=1e-12))).sum(1)
    return entropy - (target * torch.log_softmax(logits, 1)).sum(1)


def torch_rotation_from_6d(six: Tensor) -> Tensor:
    """Orthonormalise (N, 6) into rotations (N, 3, 3) with columns x, y and z = x cross y."""
    x = functional.normalize(six[:, :3], dim=1)
    y = functional.normalize(six[:, 3:] - (x * six[:, 3:]).sum(1, keepdim=True) * x, dim=1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=2)


def displacement(R: Tensor, R_true: Tensor, points: Tensor) -> Tensor:
    """Mean distance that surface points move between two rotations.

    :param R: (N, 3, 3).
    :param R_true: (N, 3, 3).
    :param points: (N, P, 3) in diameters.
    :return: (N,) in diameters.
    """
    moved = points @ (R - R_true).transpose(1, 2)
    return torch.sqrt((moved**2).sum(2) + 1e-8).mean(1)


def masked_l1(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference over a mask.

    :param prediction: (N, 3, H, W).
    :param target: (N, 3, H, W).
    :param mask: (N, H, W) weights.
    :return: (N,).
    """
    error = (prediction - target).abs().sum(1)
    return (error * mask).sum((1, 2)) / (mask.sum((1, 2)) + 1.0)
