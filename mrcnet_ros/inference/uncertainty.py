"""Computes the covariance of a pose from the distributions of stage 1; numpy only.

Stage 1 answers with distributions over cells, sizes and rotation bins. Their spread and the score
of the pose rank errors well, but they are not the size of the errors: the network is trained on
soft labels, and stage 2 corrects a part of the error. A model of seven numbers turns them into a
covariance. ``mrcnet calibrate`` measures it on annotated images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from ..geometry.bins import cell_centres, scale_centres
from ..geometry.crop import CropCamera
from ..geometry.rotation_grid import grid_of
from ..geometry.se3 import Array, rotation_to_axis
from ..geometry.spread import rotation_spread, softmax, spread_about_mean
from ..geometry.symmetry import Symmetries
from ..specs import BinSpec
from .measured_law import FittedTo, Law

# Number of the most probable bins, from which the spread is computed. On 114 objects of LM-O
# photographs they hold 98 % of the probability in the median, and 73 % or more in nine of ten; 48
# would hold 99.6 and 90 %.
ROTATION_BINS = 24
LARGEST_ODDS = 50.0  # of a score of 0.98
# group: its floor and its gain in the model
GROUPS = {'lateral': ('lateral_floor', 'lateral_gain'), 'depth': ('depth_floor', 'depth_gain'),
          'rotation': ('rotation_floor_rad', 'rotation_gain')}
# floors above zero make every covariance positive definite
LIMITS = {
    'lateral_floor': (1e-5, 1.0), 'lateral_gain': (0.0, 10.0),
    'depth_floor': (1e-5, 1.0), 'depth_gain': (0.0, 10.0),
    'rotation_floor_rad': (1e-4, 3.15), 'rotation_gain': (0.0, 10.0),
    'score_exponent': (0.0, 2.0),
}


@dataclass(frozen=True, eq=False)
class PoseSpread:
    """What stage 1 leaves open about a pose.

    :param axes_m: (3, 3) camera frame: the first two columns are how far one crop width to the
        right and down moves the object [m], the third how far a change of the logarithm of its
        distance by one does, along the ray to it.
    :param cells: (2, 2) spread of the cells [crop widths^2].
    :param log_size: variance of the logarithm of relative size, which is that of distance.
    :param rotation: (3, 3) second moment of the rotation bins about the pose's rotation [rad^2],
        about the camera's axes.
    :param score: of the pose, 0..1.
    """

    axes_m: Array
    cells: Array
    log_size: float
    rotation: Array
    score: float

    def moved(self, t_camera_object: Array, score: float) -> PoseSpread:
        """Return what is open about the pose of the same object in a later image.

        A view leaves the distance and the turns out of the image more open than the rest, so what
        is open about the rotation stays as it is in the camera's frame.

        :param t_camera_object: (3,) where the object is then [m].
        :param score: of that pose, 0..1.
        """
        before, after = rotation_to_axis(np.stack([self.axes_m[:, 2], t_camera_object]))
        axes_m = after.T @ before @ self.axes_m
        axes_m[:, 2] = t_camera_object
        return dataclasses.replace(self, axes_m=axes_m, score=score)

    def scaled(self, factor: float) -> PoseSpread:
        """Return that of the same pose that many times as far away."""
        return dataclasses.replace(self, axes_m=self.axes_m * factor)


@dataclass(frozen=True, kw_only=True)
class LawSource(FittedTo):
    """What a covariance model was fitted to.

    :param widened: factors of the deviations across the ray, along it and of rotation, for what
        the images leave unknown.
    """

    entry: ClassVar[str] = 'covariance_source'

    widened: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class CovarianceLaw(Law):
    """How large errors are, given what stage 1 leaves open.

    Each of three groups, position across the ray, along it, and rotation, has the covariance
    ``odds**(-2 * score_exponent) * (floor**2 + gain**2 * spread)`` with the odds of the score,
    ``score / (1 - score)``. Groups do not correlate.

    :param lateral_floor: [crop widths].
    :param depth_floor: part of the distance.
    :param rotation_floor_rad: about each axis.
    :param score_exponent: 0 for a score that says nothing.
    """

    entry: ClassVar[str] = 'covariance'
    limits: ClassVar[Mapping[str, tuple[float, float]]] = LIMITS

    lateral_floor: float
    lateral_gain: float
    depth_floor: float
    depth_gain: float
    rotation_floor_rad: float
    rotation_gain: float
    score_exponent: float

    def covariances(self, spreads: Sequence[PoseSpread]) -> Array:
        """Return the covariances of poses.

        :return: (N, 6, 6) float64, symmetric: x, y, z [m], then the rotation vector about the
            camera's axes [rad] that turns the estimate into the truth; camera frame.
        """
        odds = np.array([score_odds(s.score) for s in spreads])[:, None, None]
        axes_m = np.array([s.axes_m for s in spreads])
        log_sizes = np.array([s.log_size for s in spreads])[:, None, None]
        position = np.zeros((len(spreads), 3, 3))
        position[:, :2, :2] = self.group('lateral', np.array([s.cells for s in spreads]), odds)
        position[:, 2:, 2:] = self.group('depth', log_sizes, odds)
        C = np.zeros((len(spreads), 6, 6))
        C[:, :3, :3] = axes_m @ position @ np.swapaxes(axes_m, 1, 2)
        C[:, 3:, 3:] = self.group('rotation', np.array([s.rotation for s in spreads]), odds)
        return np.asarray((C + np.swapaxes(C, 1, 2)) / 2.0, np.float64)

    def finite_covariances(self, spreads: Sequence[PoseSpread]) -> list[Array | None]:
        """Return the covariances of poses, None for those that are not finite."""
        return [C if np.isfinite(C).all() else None for C in self.covariances(spreads)]

    def group(self, name: str, spread: Array, odds: float | Array) -> Array:
        """Return the covariance of one group.

        :param name: of :data:`GROUPS`.
        :param spread: (..., D, D).
        :return: (..., D, D), in the units of the spread.
        """
        floor, gain = (getattr(self, field) for field in GROUPS[name])
        C = gain**2 * spread + floor**2 * np.eye(spread.shape[-1])
        return np.asarray(odds ** (-2.0 * self.score_exponent) * C, np.float64)


def score_odds(score: float) -> float:
    """Return ``score / (1 - score)``, bounded where a score is all but certain."""
    return min(max(score / max(1.0 - score, 1e-9), 1.0 / LARGEST_ODDS), LARGEST_ODDS)


@dataclass(frozen=True, eq=False)
class Posed:
    """A pose and the crop it was seen in.

    :param T_camera_object: (4, 4) [m].
    :param allowed: (R,) bool, rotation bins that the object can be seen in.
    """

    T_camera_object: Array
    score: float
    crop: CropCamera
    symmetries: Symmetries
    allowed: np.ndarray[Any, np.dtype[np.bool_]]


def pose_spreads(coarse: Mapping[str, Array], posed: Sequence[Posed],
                 bins: BinSpec) -> list[PoseSpread]:
    """Return what stage 1 leaves open about each pose of a frame.

    Of the rotation bins only the most probable count.

    :param coarse: ``rotation_logits``, ``cell_logits`` and ``scale_logits`` of stage 1, a row for
        each pose.
    """
    cells = spread_about_mean(softmax(coarse['cell_logits']), _cell_points(bins))
    sizes = spread_about_mean(softmax(coarse['scale_logits']), scale_centres(bins)[:, None])
    T = np.array([item.T_camera_object for item in posed])
    R_crop_camera = np.array([item.crop.R_crop_camera for item in posed])
    axes_m = _axes(T[:, :3, 3], R_crop_camera, [item.crop for item in posed])
    rotations = _rotation_spreads(coarse['rotation_logits'], T, R_crop_camera, posed, bins)
    return [PoseSpread(axes_m[i], cells[i], float(sizes[i, 0, 0]), rotations[i], item.score)
            for i, item in enumerate(posed)]


def _rotation_spreads(logits: Array, T_camera_object: Array, R_crop_camera: Array,
                      posed: Sequence[Posed], bins: BinSpec) -> Array:
    """Return second moments about the poses' rotations, (N, 3, 3) [rad^2], camera's axes."""
    p = softmax(np.where(np.array([item.allowed for item in posed]), logits, -np.inf))
    count, rows = min(ROTATION_BINS, p.shape[1]), np.arange(len(p))[:, None]
    best = np.argpartition(p, -count, axis=1)[:, -count:]
    p = p[rows, best]
    p /= p.sum(axis=1, keepdims=True)
    # bins are rotations seen along the ray to the object
    t_crop_object = (R_crop_camera @ T_camera_object[:, :3, 3:])[..., 0]
    R_camera_ray = np.swapaxes(rotation_to_axis(t_crop_object) @ R_crop_camera, 1, 2)
    grid = grid_of(bins)
    R_bins = R_camera_ray[:, None] @ grid[best]
    return rotation_spread(p, R_bins, T_camera_object[:, :3, :3],
                           [item.symmetries for item in posed])


def _axes(t_camera_object: Array, R_crop_camera: Array, crops: Sequence[CropCamera]) -> Array:
    """Return :attr:`PoseSpread.axes_m`, (N, 3, 3): the derivative of ``decode_translation``."""
    depth_m = np.einsum('nd,nd->n', R_crop_camera[:, 2], t_camera_object)
    width_m = depth_m * np.array([crop.size_px / crop.focal_px for crop in crops])
    axes_m = np.swapaxes(R_crop_camera, 1, 2) * width_m[:, None, None]
    axes_m[..., 2] = t_camera_object
    return np.asarray(axes_m, np.float64)


@lru_cache(maxsize=8)
def _cell_points(bins: BinSpec) -> Array:
    """Return the cells' centres, (cells**2, 2) [crop widths], y outer."""
    centres = cell_centres(bins)
    points = np.stack([np.tile(centres, bins.cells), np.repeat(centres, bins.cells)], axis=-1)
    points.setflags(write=False)
    return points
