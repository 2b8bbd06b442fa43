"""Poses corrected by a registered depth image: first the distance, then the whole pose.

A colour image tells size and distance as one number; a depth image tells the distance by itself.
The alignment starts from the pose of the network and stays near it where depth says nothing: what
it may change is bounded by how uncertain the network's pose is. All objects of a frame are aligned
at once: a step costs as much for eight of them as for two.

Convention: depth is z along the optical axis [m], of the pixels of the colour image, 0 or not
finite where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array, exp_so3, rotation_angle
from .depth_registration import without_shift
from .depth_surface import FLATTEST_COSINE, SampledSurface

Bools = NDArray[np.bool_]

# The kernel of the search for the distance, in diameters, and its least width [m]: the noise of
# a depth camera at a metre.
KERNEL, SMALLEST_KERNEL_M = 0.04, 0.004
# Trial distances of the search for each width of the kernel.
TRIALS = 2
# Of the points that should be seen, the part that must agree on a distance before it is believed:
# with less, depth of another view moved poses on generated scenes by 0.02 to 0.06 diameters.
LEAST_SUPPORT, LEAST_POINTS = 0.4, 20
# Gates of the alignment in diameters, one for each step: what lies further off is not the object.
GATES = (0.10, 0.08, 0.05, 0.04, 0.03, 0.03)
# Error of a single measurement across the surface [m], at a metre; it grows with the square of
# the distance, as that of structured light and stereo does.
NOISE_M, NOISE_FLOOR_M = 0.003, 0.0015
# Neighbouring pixels are wrong together: all points count as so many independent ones.
INDEPENDENT_POINTS = 40.0
# A point that should be seen but lies further behind than this many diameters contradicts the
# pose; one further in front is hidden by something else and says nothing.
CONTRADICTION = 0.06
# A measured point agrees with the pose if it is this near to the surface, in diameters. The same
# value is the deviation of a distance that was found without the whole pose.
AGREEMENT = 0.03
# A corrected pose may agree so much less with the depth image than the network's own: that of a
# pose which is nearly right varies by this much from noise.
AGREEMENT_LOST = 0.05
# A corrected pose must agree at least so well: depth of another scene now and then has a surface
# at a possible distance, but hardly one of the object's shape.
LEAST_AGREEMENT = 0.85


@dataclass(frozen=True, eq=False)
class PoseDoubt:
    """How far a pose may be off, one standard deviation.

    :param along: of the distance, as a part of it.
    :param across: of the position across the ray, as a part of the distance.
    :param rotation_rad: about each axis.
    """

    along: float = 0.06
    across: float = 0.008
    rotation_rad: float = 0.25


@dataclass(frozen=True, eq=False)
class DepthFit:
    """A pose and how well it agrees with the depth image.

    :param T_camera_object: (4, 4) [m].
    :param used: ``'none'`` when depth says nothing about the object, ``'distance'`` when only the
        distance was corrected, ``'pose'`` when the whole pose was.
    :param agreement: part of the surface that should be seen and is not hidden by other things
        that lies where the pose says, 0 to 1.
    :param residual_m: median distance between pose and measured surface there; nan without.
    :param points: measured points on the object.
    :param information: (6, 6) what depth adds to the inverse covariance of x, y, z [1/m^2] and
        rotation [1/rad^2], along the camera's axes; zero when depth was not used.
    """

    T_camera_object: Array
    used: str
    agreement: float
    residual_m: float
    points: int
    information: Array


@dataclass(frozen=True, eq=False)
class _Look:
    """What the depth image holds where poses say that objects are seen.

    :param z_m: (N, K) of the points of the objects.
    :param measured_m: (N, K) by the depth image.
    :param facing_m: (N, K) distance of the camera from the plane of each point, negative.
    :param J: (N, K, 6) how a motion of the object moves its points along their normals.
    :param visible: (N, K) whether a point should be seen.
    :param known: (N, K) whether it should and was measured.
    """

    z_m: Array
    measured_m: Array
    facing_m: Array
    J: Array
    visible: Bools
    known: Bools

    @property
    def ahead_m(self) -> Array:
        """Return how far behind the points the surface was measured, (N, K)."""
        return self.measured_m - self.z_m

    @property
    def off_m(self) -> Array:
        """Return how far outside of the points' planes the surface was measured, (N, K)."""
        return (self.measured_m / self.z_m - 1.0) * self.facing_m


def align(surface: SampledSurface, T_camera_object: Array, depth_m: NDArray[np.float32],
          camera: Camera, doubt: PoseDoubt | None = None) -> DepthFit:
    """Correct one pose by a depth image; see :func:`align_all`."""
    return align_all([surface], T_camera_object[None], depth_m, camera,
                     [doubt or PoseDoubt()])[0]


def align_all(surfaces: Sequence[SampledSurface], T_camera_object: Array,
              depth_m: NDArray[np.float32], camera: Camera,
              doubts: Sequence[PoseDoubt]) -> list[DepthFit]:
    """Correct the poses of a frame by its depth image.

    :param surfaces: of each object, in its true size.
    :param T_camera_object: (N, 4, 4) the network's poses [m].
    :param depth_m: (H, W) registered to the image of ``camera``.
    """
    if not len(surfaces):
        return []
    eyes = _Eyes(surfaces, depth_m, camera)
    eyes.turn_to(T_camera_object)
    start = eyes.look(T_camera_object)
    fits = _fits(start, T_camera_object, eyes.diameter_m, 'none')
    T, found = _at_measured_distance(eyes, T_camera_object, start, doubts)
    if not found.any():
        return fits
    moved, look = T, eyes.look(T)
    moved_fits = _fits(look, moved, eyes.diameter_m, 'distance')
    seen, T, information = _point_to_plane(eyes, moved, look, doubts)
    aligned_fits = _fits(eyes.look(seen), T, eyes.diameter_m, 'pose')
    turned = rotation_angle(T[:, :3, :3] @ np.swapaxes(T_camera_object[:, :3, :3], 1, 2))
    return [
        _better(fits[i], moved_fits[i], replace(aligned_fits[i], information=information[i]),
                float(turned[i]) < 3 * doubts[i].rotation_rad, float(eyes.diameter_m[i]))
        if found[i] else fits[i] for i in range(len(fits))]


def _better(start: DepthFit, moved: DepthFit, aligned: DepthFit, near: bool,
            diameter_m: float) -> DepthFit:
    """Choose among the pose of the network, the one with its distance corrected, and the last."""
    if near and aligned.information.any() and aligned.agreement >= moved.agreement:
        best = aligned
    else:
        best = replace(moved, information=_distance_information(moved, diameter_m))
    lost = start.agreement - best.agreement if start.points >= LEAST_POINTS else 0.0
    return best if best.agreement >= LEAST_AGREEMENT and lost <= AGREEMENT_LOST else start


class _Eyes:
    """Looks up what a depth image holds where objects are.

    :param depth_m: (H, W) registered to the image of ``camera``.
    """

    def __init__(self, surfaces: Sequence[SampledSurface], depth_m: NDArray[np.float32],
                 camera: Camera) -> None:
        self._surfaces, self._camera = surfaces, camera
        self._depth_m = np.ravel(depth_m)
        self.diameter_m = np.array([surface.diameter_m for surface in surfaces])

    def turn_to(self, T: Array) -> None:
        """Choose the points that are seen in poses, (N, 4, 4)."""
        seen = [surface.seen_from(pose) for surface, pose in zip(self._surfaces, T, strict=True)]
        self._vectors = np.stack([s.vectors for s in seen])
        self._real = np.stack([s.real for s in seen])

    def look(self, T: Array) -> _Look:
        """Compare poses, (N, 4, 4), with the depth image."""
        count, points = self._real.shape
        Rt = np.swapaxes(T[:, :3, :3], 1, 2)
        turned = (self._vectors.reshape(count, 3 * points, 3) @ Rt).reshape(count, points, 3, 3)
        P = turned[:, :, 0] + T[:, None, :3, 3]
        z = P[..., 2]
        facing = (P * turned[:, :, 1]).sum(axis=-1)
        visible = self._real & (z > 1e-3) & (
            facing < -FLATTEST_COSINE * np.sqrt((P * P).sum(axis=-1)))
        z = P[..., 2] = np.where(visible, z, 1.0)
        measured = self._measured(P)
        known = visible & (measured > 0) & (measured < np.inf)
        measured = np.where(known, measured, 0.0)
        return _Look(z, measured, facing, turned[:, :, 1:].reshape(count, points, 6), visible,
                     known)

    def _measured(self, P: Array) -> Array:
        """Return the depth where points, (N, K, 3), are seen, (N, K) [m], 0 outside the image."""
        camera = self._camera
        uv = camera.project(P)
        if camera.lens is not None:  # it may not see a point at all
            uv = np.nan_to_num(uv, nan=-9.0)
        pixel = np.rint(uv).astype(np.int64)
        column, row = pixel[..., 0], pixel[..., 1]
        inside = (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
        return np.where(inside, self._depth_m[(row * camera.width + column) * inside], 0.0)


def _at_measured_distance(eyes: _Eyes, T: Array, look: _Look, doubts: Sequence[PoseDoubt]
                          ) -> tuple[Array, Bools]:
    """Move objects along their rays to where depth sees their surfaces.

    :return: (N, 4, 4) poses, and for which objects there is such a distance, (N,).
    """
    T = T.copy()
    along = np.array([doubt.along for doubt in doubts])
    width_m = np.maximum(KERNEL * eyes.diameter_m, SMALLEST_KERNEL_M)
    needed = np.maximum(LEAST_POINTS, LEAST_SUPPORT * look.visible.sum(axis=1))
    found = look.visible.sum(axis=1) >= LEAST_POINTS
    for again in range(2):
        if again:
            look = eyes.look(T)
        ahead, sigma_m = look.ahead_m, along * T[:, 2, 3]
        near = look.known & (np.abs(ahead) < (3 * sigma_m + width_m)[:, None])
        best = _most_supported(ahead, near, sigma_m, width_m, eyes.diameter_m)
        at = near & (np.abs(ahead - best[:, None]) < 1.5 * width_m[:, None])
        found &= (near.sum(axis=1) >= LEAST_POINTS) & (at.sum(axis=1) >= needed)
        step = np.where(found, _median(ahead, at), 0.0)
        T[:, :3, 3] *= (1 + step / T[:, 2, 3])[:, None]
    return T, found


def _most_supported(ahead: Array, near: Bools, sigma_m: Array, width_m: Array,
                    diameter_m: Array) -> Array:
    """Return how far behind its pose most of each object's surface was measured, (N,) [m].

    What lies in front of a trial distance hides it; what lies behind speaks against it.
    """
    step_m = width_m / TRIALS
    half = int(np.ceil((3 * sigma_m + width_m).max() / step_m.min())) + 1
    bins = 2 * half + 1
    index = np.rint(ahead / step_m[:, None]).clip(-half, half).astype(np.int64) + half
    index += bins * np.arange(len(ahead))[:, None]
    votes = np.bincount(index[near], minlength=bins * len(ahead)).reshape(-1, bins)
    reach = 3 * TRIALS
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / TRIALS) ** 2)
    support = cv2.filter2D(votes.astype(np.float32), -1, kernel[None],
                           borderType=cv2.BORDER_CONSTANT)
    behind = np.rint(np.maximum(CONTRADICTION * diameter_m, 2 * width_m) / step_m).astype(int)
    beyond = votes.sum(axis=1, keepdims=True) - np.cumsum(votes, axis=1)
    at = np.minimum(np.arange(bins) + behind[:, None], bins - 1)
    support = support - np.take_along_axis(beyond, at, axis=1)
    trial_m = (np.arange(bins) - half) * step_m[:, None]
    support = np.maximum(support, 0) * np.exp(-0.5 * (trial_m / sigma_m[:, None]) ** 2)
    return np.asarray(trial_m[np.arange(len(ahead)), support.argmax(axis=1)])


def _median(values: Array, chosen: Bools) -> Array:
    """Return the median of the chosen values of each row, (N,); nan where there are none."""
    ordered = np.sort(np.where(chosen, values, np.inf), axis=1)
    rows, count = np.arange(len(values)), chosen.sum(axis=1)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[1] - 1)
    middle = (ordered[rows, low] + ordered[rows, high]) / 2
    return np.where(count > 0, middle, np.nan)


def _point_to_plane(eyes: _Eyes, start: Array, look: _Look, doubts: Sequence[PoseDoubt]
                    ) -> tuple[Array, Array, Array]:
    """Move the visible surfaces onto the measured ones, staying near the network's poses.

    :return: (N, 4, 4) poses as depth sees them, (N, 4, 4) poses of network and depth together, and
        the (N, 6, 6) information that depth has about them; zero where too little was measured
        near an object's surface.
    """
    T, prior = start.copy(), _priors(start, doubts)
    noise_m = NOISE_FLOOR_M + NOISE_M * start[:, 2, 3] ** 2
    here = np.zeros((len(T), 6))
    information, enough = np.zeros((len(T), 6, 6)), np.ones(len(T), bool)
    for number, gate in enumerate(GATES):
        if number == len(GATES) // 2:
            eyes.turn_to(T)
        if number:
            look = eyes.look(T)
        off_m = look.off_m
        gate_m = np.maximum(gate * eyes.diameter_m, 2 * SMALLEST_KERNEL_M)[:, None]
        weight = np.maximum(1 - (off_m / gate_m) ** 2, 0) ** 2 * look.known  # Tukey's biweight
        enough &= np.count_nonzero(weight, axis=1) >= LEAST_POINTS
        total = np.maximum(weight.sum(axis=1), 1.0)
        weight *= (np.minimum(1.0, INDEPENDENT_POINTS / total) / noise_m**2)[:, None]
        weighted = np.swapaxes(look.J * weight[..., None], 1, 2)
        information = weighted @ look.J
        pull = (weighted @ off_m[..., None] - prior @ here[..., None])
        step = np.linalg.solve(information + prior, pull)[..., 0] * enough[:, None]
        here += step  # turns are small: their order hardly matters
        T = _moved(T, step)
    T[~enough], information[~enough] = start[~enough], 0.0
    known, change = without_shift(T, information, prior, here)
    information = np.where(enough[:, None, None], known, 0.0)
    return T, _moved(start, change * enough[:, None]), information


def _moved(T: Array, change: Array) -> Array:
    """Return poses, (N, 4, 4), after small motions, (N, 6): shift [m] and turn [rad]."""
    moved = T.copy()
    moved[:, :3, :3] = exp_so3(change[:, 3:]) @ T[:, :3, :3]
    moved[:, :3, 3] += change[:, :3]
    return moved


def _priors(T: Array, doubts: Sequence[PoseDoubt]) -> Array:
    """Return the inverse covariances of the network's poses, their distances already measured."""
    z = T[:, 2, 3]
    along, across, rotation = np.array(
        [(d.along, d.across, d.rotation_rad) for d in doubts]).T
    along, across = 0.25 * along * z, across * z
    ray = T[:, :3, 3] / np.linalg.norm(T[:, :3, 3], axis=1, keepdims=True)
    prior = np.zeros((len(T), 6, 6))
    prior[:, :3, :3] = np.eye(3) / across[:, None, None] ** 2 + (
        ray[:, :, None] * ray[:, None] * (1 / along**2 - 1 / across**2)[:, None, None])
    prior[:, 3:, 3:] = np.eye(3) / rotation[:, None, None] ** 2
    return prior


def _distance_information(fit: DepthFit, diameter_m: float) -> Array:
    """Return what a measured distance alone says: the position along the ray."""
    t = fit.T_camera_object[:3, 3]
    ray = t / np.linalg.norm(t)
    information = np.zeros((6, 6))
    information[:3, :3] = np.outer(ray, ray) / (AGREEMENT * diameter_m) ** 2
    return information


def _fits(look: _Look, T: Array, diameter_m: Array, used: str) -> list[DepthFit]:
    """Say how well poses agree with the depth image."""
    ahead, off_m = look.ahead_m, np.abs(look.off_m)
    limit_m = np.maximum(AGREEMENT * diameter_m, SMALLEST_KERNEL_M)[:, None]
    on = look.known & (off_m < limit_m)
    against = look.known & (ahead > CONTRADICTION * diameter_m[:, None]) & ~on
    count, residual_m = on.sum(axis=1), _median(off_m, on)
    agreement = count / np.maximum(count + against.sum(axis=1), 1)
    return [DepthFit(T[i], used, float(agreement[i]), float(residual_m[i]), int(count[i]),
                     np.zeros((6, 6))) for i in range(len(T))]
