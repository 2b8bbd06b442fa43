"""Which poses are right: the mean error of their surface is below a tenth of the diameter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..geometry.se3 import Array
from ..inference.scoring import RIGHT_DIAMETERS, Evidence
from ..meshes.mesh import Mesh
from ..objects import ObjectModel
from .covariance_errors import paired
from .runner import Run

POINTS = 400  # the mean of their distances is within some percent of that of the whole surface


@dataclass(frozen=True)
class Judged:
    """An estimate and whether it is right.

    :param image: scene and image.
    :param score: that the model gave it.
    """

    image: tuple[int, int]
    evidence: Evidence
    score: float
    right: bool


def judged_poses(done: Run, objects: Mapping[str, ObjectModel], sizes: Mapping[str, float]
                 ) -> list[Judged]:
    """Compare estimates with the truth, as they are once the sizes of the objects are known.

    Poses of which the truth is not clear, and those of the paper preset, are left out.

    :param objects: of the model that made them, by label.
    :param sizes: by label, size ratios that the model is going to have.
    """
    points: dict[str, Array] = {}
    real = {label: dataclasses.replace(m, size_ratio=sizes[label]) for label, m in objects.items()}
    found = []
    for pair in paired(done, objects, sizes):
        pose, item = pair.pose, real[pair.pose.label]
        if pose.evidence is None:
            continue
        if pose.label not in points:
            points[pose.label] = surface_points(item.load_mesh())
        symmetries = item.real_symmetries
        T_gt = symmetries.comparable(pair.T_gt, pair.T_est)
        off_m = surface_distance(pair.T_est, T_gt @ symmetries.transforms, points[pose.label])
        found.append(Judged(pair.image, pose.evidence, pose.score,
                            off_m < RIGHT_DIAMETERS * item.diameter_m))
    return found


def surface_distance(T_est: Array, T_equivalents: Array, points: Array) -> float:
    """Return the mean distance of surface points from their true places [m].

    :param T_est: (4, 4) T_camera_object [m].
    :param T_equivalents: (S, 4, 4) symmetric equivalents of the true one; the nearest counts.
    :param points: (P, 3) [m], object frame.
    """
    D = T_est - T_equivalents
    moved = points @ np.swapaxes(D[:, :3, :3], 1, 2) + D[:, None, :3, 3]
    return float(np.linalg.norm(moved, axis=2).mean(axis=1).min())


def surface_points(mesh: Mesh) -> Array:
    """Return points spread evenly over a surface, always the same, (POINTS, 3) [m]."""
    corners = mesh.vertices[mesh.faces]
    sides = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(area), POINTS, p=area / area.sum())
    a, b = rng.random((2, POINTS, 1))
    a, b = np.where(a + b > 1, 1 - a, a), np.where(a + b > 1, 1 - b, b)
    return np.asarray(corners[chosen, 0] + a * sides[chosen, 0] + b * sides[chosen, 1], np.float64)
