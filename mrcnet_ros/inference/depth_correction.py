"""Corrects the poses of a frame by its depth image, each as far as its own doubt allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..geometry.camera import FARTHEST_M, Camera
from ..objects import ObjectModel
from .depth_alignment import align_all
from .depth_fit import DepthFit, PoseDoubt
from .depth_law import DepthScoreLaw, joint_covariance, joint_spread
from .depth_surface import SampledSurface
from .poses import PoseEstimate
from .uncertainty import CovarianceLaw

# Limits of the deviations that are taken from a covariance. With lower ones depth could not
# correct errors in the tails; with higher ones it would align with things beside the object.
ALONG = (0.03, 0.12)
ACROSS = (0.003, 0.02)
ROTATION_RAD = (0.1, 0.5)

# Depth is used only if it corrects at least this share of the poses of a frame. On 40
# generated images of eight objects that hide one another, depth corrected half of them or more,
# and depth of another scene or camera at most one.
LEAST_OF_FRAME = 1 / 3
SPARSE = 8  # the median distance is of every eighth row and column


@dataclass(frozen=True)
class DepthLaws:
    """How sure poses are that depth has corrected; None where that was not measured."""

    covariance: CovarianceLaw | None = None
    score: DepthScoreLaw | None = None


NO_LAWS = DepthLaws()


class DepthCorrection:
    """Aligns poses with depth images.

    :param objects: by label.
    """

    def __init__(self, objects: Mapping[str, ObjectModel]) -> None:
        """Keep the objects; their surfaces are sampled when they are first needed."""
        self._objects = objects
        self._surfaces: dict[str, SampledSurface] = {}

    def prepare(self) -> None:
        """Sample the surfaces of all objects now, so that no frame waits for their meshes.

        :raises MeshError: when a mesh cannot be used.
        """
        for label in self._objects:
            self._surface(label)

    def correct(self, poses: Sequence[PoseEstimate], depth_m: NDArray[np.float32],
                camera: Camera, chosen: Sequence[PoseEstimate] | None = None,
                laws: DepthLaws = NO_LAWS) -> list[PoseEstimate]:
        """Return the poses, corrected where depth sees their objects.

        Depth that agrees with hardly any object of a frame is of something else, and not used.

        :param depth_m: (H, W) float32 [m], registered to the image of ``camera``; 0 or not finite
            where nothing was measured.
        :param chosen: those of ``poses`` that say whether depth is of this scene; None for all.
        :param laws: calibrations of covariance and score with depth; without one the covariance
            combines that of the network with that of depth, and the score is the network's.
        :raises ImageError: when the depth image has another type or size than the camera's image.
        """
        check_depth(depth_m, camera)
        fits = align_all([self._surface(pose.label) for pose in poses],
                         np.array([pose.T_camera_object for pose in poses]), depth_m, camera,
                         [doubt_of(pose) for pose in poses])
        count = {id(pose) for pose in (poses if chosen is None else chosen)}
        used = [fit.is_used for pose, fit in zip(poses, fits, strict=True)
                if id(pose) in count]
        if sum(used) < LEAST_OF_FRAME * len(used):
            fits = [dataclasses.replace(
                fit, T_camera_object=pose.T_camera_object, used='none',
                information=np.zeros((6, 6))) for pose, fit in zip(poses, fits, strict=True)]
        return [self._corrected(pose, fit, laws) for pose, fit in zip(poses, fits, strict=True)]

    def _corrected(self, pose: PoseEstimate, fit: DepthFit, laws: DepthLaws) -> PoseEstimate:
        if not fit.is_used:
            return dataclasses.replace(pose, depth=fit)
        score, C, joint = pose.score, pose.covariance, None
        if laws.score is None:
            score = max(score, pose.presence)  # the distance is uncertain no more
        else:
            score = laws.score.score(pose.quality, fit, self._surface(pose.label).diameter_m)
        if C is not None:
            C = joint_covariance(C, fit)
            if pose.spread is not None:
                joint = joint_spread(pose.spread, C, fit.T_camera_object[:3, 3])
                if laws.covariance is not None:
                    C = laws.covariance.covariances([joint])[0]
        return dataclasses.replace(pose, T_camera_object=fit.T_camera_object, score=score,
                                   covariance=C, joint_spread=joint, depth=fit, usual_score=None)

    def _surface(self, label: str) -> SampledSurface:
        if label not in self._surfaces:
            item = self._objects[label]
            mesh = item.load_mesh()
            self._surfaces[label] = SampledSurface.sample(
                mesh.vertices, mesh.faces, item.diameter_m, mesh.normals).scaled(item.size_ratio)
        return self._surfaces[label]


def check_depth(depth_m: NDArray[np.float32], camera: Camera) -> None:
    """Check that a depth image fits the camera's image.

    :raises ImageError: when it does not, or cannot be in metres.
    """
    if depth_m.dtype != np.float32 or depth_m.ndim != 2:
        raise ImageError(f'depth must be (H, W) float32 in metres, got {depth_m.shape} '
                         f'{depth_m.dtype}')
    if depth_m.shape != (camera.height, camera.width):
        raise ImageError(
            f'depth is {depth_m.shape[1]}x{depth_m.shape[0]}, but the image is '
            f'{camera.width}x{camera.height}; register the depth to the colour image')
    some = depth_m[::SPARSE, ::SPARSE]
    measured = some[np.isfinite(some) & (some > 0)]
    median_m = float(np.median(measured)) if measured.size else 0.0
    if median_m > FARTHEST_M:
        raise ImageError(f'the median depth is {median_m:.4g} m, expected at most {FARTHEST_M:g}; '
                         'depth_m is in metres')


def doubt_of(pose: PoseEstimate) -> PoseDoubt:
    """Return how far a pose may be off: from its covariance, or what is usual without one."""
    if pose.covariance is None:
        return PoseDoubt()
    t, C = pose.T_camera_object[:3, 3], pose.covariance
    distance_m = float(np.linalg.norm(t))
    ray = t / distance_m
    along = float(ray @ C[:3, :3] @ ray)
    across = (float(np.trace(C[:3, :3])) - along) / 2
    rotation = float(np.trace(C[3:, 3:])) / 3
    return PoseDoubt(
        float(np.clip(np.sqrt(max(along, 0.0)) / distance_m, *ALONG)),
        float(np.clip(np.sqrt(max(across, 0.0)) / distance_m, *ACROSS)),
        float(np.clip(np.sqrt(rotation), *ROTATION_RAD)))
