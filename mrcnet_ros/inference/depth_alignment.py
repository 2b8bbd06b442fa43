"""Poses corrected by a registered depth image: first the distance, then the whole pose.

A colour image tells size and distance as one number; a depth image tells the distance by itself.
The alignment starts from the pose of the network and stays near it where depth says nothing: what
it may change is bounded by how uncertain the network's pose is.

Convention: depth is z along the optical axis [m], of the pixels of the colour image, 0 or not
finite where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array, exp_so3, make_transform, rotation_angle

# Points on the surface of an object. 800 leave about 270 on the side that is seen, more than
# independent measurements of a small object.
SURFACE_POINTS = 800
# A cell of the visibility test, in diameters, and how far behind the nearest point of its cell a
# point may lie and still be seen. The points are about 0.06 diameters apart, so that a cell holds
# about one of each layer.
CELL, HIDDEN_BEHIND = 0.06, 0.07
# A surface seen at a flatter angle than this cosine is not measured well by any depth camera.
FLATTEST_COSINE = 0.2
# The kernel of the search for the distance, in diameters, and its least width [m]: the noise of
# a depth camera at a metre.
KERNEL, SMALLEST_KERNEL_M = 0.04, 0.004
# Of the points that should be seen, the part that must agree on a distance before it is believed:
# with less, depth of another view moved poses on generated scenes by 0.02 to 0.06 diameters.
LEAST_SUPPORT, LEAST_POINTS = 0.4, 25
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
AGREEMENT = 0.03
# A corrected pose may agree so much less with the depth image than the network's own: that of a
# pose which is nearly right varies by this much from noise.
AGREEMENT_LOST = 0.05
# A corrected pose must agree at least so well: depth of another scene now and then has a surface
# at a possible distance, but hardly one of the object's shape.
LEAST_AGREEMENT = 0.85


@dataclass(frozen=True, eq=False)
class Surface:
    """Points spread evenly over an object's surface.

    :param points: (N, 3) [m], object frame.
    :param normals: (N, 3) unit vectors, outwards, object frame.
    :param diameter_m: of the object.
    """

    points: Array
    normals: Array
    diameter_m: float

    @classmethod
    def sample(cls, vertices: Array, faces: NDArray[np.int32], diameter_m: float,
               vertex_normals: Array, count: int = SURFACE_POINTS) -> Surface:
        """Spread points over a mesh, the same ones every time.

        :param vertices: (V, 3) [m], object frame.
        :param faces: (F, 3); their winding does not matter.
        :param vertex_normals: (V, 3) pointing outwards.
        """
        corners = vertices[faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(cross, axis=1)
        # systematic sampling: one point for every equal share of the area
        total = np.cumsum(area)
        at = (np.arange(count) + 0.5) / count * total[-1]
        chosen = np.searchsorted(total, at).clip(0, len(faces) - 1)
        u, v = np.random.default_rng(0).random((2, count, 1))
        u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
        a, b, c = np.moveaxis(corners[chosen], 1, 0)
        normals = cross[chosen] / np.maximum(area[chosen], 1e-300)[:, None]
        outwards = vertex_normals[faces[chosen]].sum(axis=1)
        normals[np.einsum('ni,ni->n', normals, outwards) < 0] *= -1
        return cls(a + u * (b - a) + v * (c - a), normals, diameter_m)

    def scaled(self, ratio: float) -> Surface:
        """Return that of an object so many times as large."""
        return replace(self, points=self.points * ratio, diameter_m=self.diameter_m * ratio)


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


def align(surface: Surface, T_camera_object: Array, depth_m: NDArray[np.float32],
          camera: Camera, doubt: PoseDoubt | None = None) -> DepthFit:
    """Correct a pose by a depth image.

    :param surface: of the object, in its true size.
    :param T_camera_object: (4, 4) the network's pose [m].
    :param depth_m: (H, W) registered to the image of ``camera``.
    :param doubt: of the network's pose.
    """
    doubt = doubt or PoseDoubt()
    start = _fit(surface, T_camera_object, depth_m, camera, 'none')
    T = _at_measured_distance(surface, T_camera_object, depth_m, camera, doubt)
    if T is None:
        return start
    moved = _fit(surface, T, depth_m, camera, 'distance')
    T, information = _point_to_plane(surface, T, depth_m, camera, doubt)
    aligned = replace(_fit(surface, T, depth_m, camera, 'pose'), information=information)
    turned = rotation_angle(T[:3, :3] @ T_camera_object[:3, :3].T)
    if information.any() and aligned.agreement >= moved.agreement and (
            turned < 3 * doubt.rotation_rad):
        best = aligned
    else:
        best = replace(moved, information=_distance_information(moved, surface))
    lost = start.agreement - best.agreement if start.points >= LEAST_POINTS else 0.0
    return best if best.agreement >= LEAST_AGREEMENT and lost <= AGREEMENT_LOST else start


def _visible(surface: Surface, T: Array) -> NDArray[np.int64]:
    """Return which points of the surface the camera sees, (M,) rows."""
    points, normals = _moved(surface, T)
    facing = -np.einsum('ni,ni->n', points, normals)
    facing_rows = np.flatnonzero((points[:, 2] > 1e-3) & (
        facing > FLATTEST_COSINE * np.sqrt(np.einsum('ni,ni->n', points, points))))
    if not len(facing_rows):
        return facing_rows
    points = points[facing_rows]
    size = CELL * surface.diameter_m / T[2, 3]
    cell = np.floor(points[:, :2] / points[:, 2:] / size).astype(np.int64)
    _, cell_index = np.unique(cell[:, 0] * 100003 + cell[:, 1], return_inverse=True)
    nearest = np.full(cell_index.max() + 1, np.inf)
    np.minimum.at(nearest, cell_index, points[:, 2])
    behind_m = np.asarray(points[:, 2] - nearest[cell_index])
    return np.asarray(facing_rows[behind_m < HIDDEN_BEHIND * surface.diameter_m])


def _moved(surface: Surface, T: Array, rows: NDArray[np.int64] | slice = slice(None)
           ) -> tuple[Array, Array]:
    """Return points of the surface and their normals in the camera frame, (M, 3) each."""
    points = cv2.transform(surface.points[rows][:, None], T[:3])[:, 0]
    return points, cv2.transform(surface.normals[rows][:, None], T[:3, :3])[:, 0]


def _measured(points: Array, depth_m: NDArray[np.float32], camera: Camera) -> Array:
    """Return the depth measured where points are seen, (N,) [m], nan where there is none."""
    u, v = np.nan_to_num(camera.project(points) + 0.5, nan=-1.0).T
    inside = (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)
    pixel = (v * inside).astype(np.int64) * camera.width + (u * inside).astype(np.int64)
    found: Array = depth_m.reshape(-1)[pixel].astype(np.float64)
    found[~(inside & (found > 0) & (found < np.inf))] = np.nan
    return found


def _at_measured_distance(surface: Surface, T: Array, depth_m: NDArray[np.float32],
                          camera: Camera, doubt: PoseDoubt) -> Array | None:
    """Move an object along its ray to where depth sees its surface; None when it does not."""
    T = T.copy()
    for _ in range(2):
        points, _ = _moved(surface, T, _visible(surface, T))
        if len(points) < LEAST_POINTS:
            return None
        ahead = _measured(points, depth_m, camera) - points[:, 2]
        ahead = ahead[np.isfinite(ahead)]
        sigma_m = doubt.along * T[2, 3]
        width_m = max(KERNEL * surface.diameter_m, SMALLEST_KERNEL_M)
        near = ahead[np.abs(ahead) < 3 * sigma_m + width_m]
        if len(near) < LEAST_POINTS:
            return None
        trial = np.arange(-3 * sigma_m, 3 * sigma_m + width_m / 2, width_m / 2)
        off = near[None] - trial[:, None]
        # what lies in front of a trial hides it; what lies behind speaks against it
        support = np.exp(-0.5 * (off / width_m) ** 2).sum(1) - np.sum(
            off > max(CONTRADICTION * surface.diameter_m, 2 * width_m), axis=1)
        support = np.maximum(support, 0) * np.exp(-0.5 * (trial / sigma_m) ** 2)
        if not support.any():
            return None
        best = trial[np.argmax(support)]
        at = near[np.abs(near - best) < 1.5 * width_m]
        if len(at) < max(LEAST_POINTS, LEAST_SUPPORT * len(points)):
            return None
        T[:3, 3] *= 1 + float(np.median(at)) / T[2, 3]
    return T


def _point_to_plane(surface: Surface, T: Array, depth_m: NDArray[np.float32], camera: Camera,
                    doubt: PoseDoubt) -> tuple[Array, Array]:
    """Move the visible surface onto the measured one, staying near the network's pose.

    :return: (4, 4) pose, and the (6, 6) information that depth has about it.
    """
    start = T.copy()
    prior = _prior(T, doubt)
    information = np.zeros((6, 6))
    rows = _visible(surface, T)
    for step_number, gate in enumerate(GATES):
        if step_number == len(GATES) // 2:
            rows = _visible(surface, T)
        points, normals = _moved(surface, T, rows)
        measured = _measured(points, depth_m, camera)
        known = np.flatnonzero(measured > 0)
        points, normals, measured = points[known], normals[known], measured[known]
        if len(points) < LEAST_POINTS:
            return start, np.zeros((6, 6))
        # the measured point lies on the ray of the surface point
        gap = points * (measured / points[:, 2] - 1)[:, None]
        off_m = np.einsum('ni,ni->n', gap, normals)
        gate_m = max(gate * surface.diameter_m, 2 * SMALLEST_KERNEL_M)
        weight = np.clip(1 - (off_m / gate_m) ** 2, 0, None) ** 2  # Tukey's biweight
        weight[np.abs(off_m) > gate_m] = 0
        if np.count_nonzero(weight) < LEAST_POINTS:
            return start, np.zeros((6, 6))
        noise_m = NOISE_FLOOR_M + NOISE_M * T[2, 3] ** 2
        weight *= min(1.0, INDEPENDENT_POINTS / weight.sum()) / noise_m**2
        arm = np.cross(points - T[:3, 3], normals)
        J = np.concatenate([normals, arm], axis=1)
        information = J.T @ (weight[:, None] * J)
        w = cv2.Rodrigues(T[:3, :3] @ start[:3, :3].T)[0][:, 0]  # ten times as fast as log_so3
        here = np.concatenate([T[:3, 3] - start[:3, 3], w])
        step = np.linalg.solve(information + prior, J.T @ (weight * off_m) - prior @ here)
        T = make_transform(exp_so3(step[3:]) @ T[:3, :3], T[:3, 3] + step[:3])
    return T, information


def _prior(T: Array, doubt: PoseDoubt) -> Array:
    """Return the inverse covariance of the network's pose, its distance already measured."""
    ray = T[:3, 3] / np.linalg.norm(T[:3, 3])
    along, across = 0.25 * doubt.along * T[2, 3], doubt.across * T[2, 3]
    prior = np.zeros((6, 6))
    prior[:3, :3] = np.eye(3) / across**2 + np.outer(ray, ray) * (1 / along**2 - 1 / across**2)
    prior[3:, 3:] = np.eye(3) / doubt.rotation_rad**2
    return prior


def _distance_information(fit: DepthFit, surface: Surface) -> Array:
    """Return what a measured distance alone says: the position along the ray."""
    t = fit.T_camera_object[:3, 3]
    ray = t / np.linalg.norm(t)
    information = np.zeros((6, 6))
    information[:3, :3] = np.outer(ray, ray) / (AGREEMENT * surface.diameter_m) ** 2
    return information


def _fit(surface: Surface, T: Array, depth_m: NDArray[np.float32], camera: Camera,
         used: str) -> DepthFit:
    """Compare a pose with the depth image."""
    points, normals = _moved(surface, T, _visible(surface, T))
    nothing = DepthFit(T, used, 0.0, float('nan'), 0, np.zeros((6, 6)))
    if not len(points):
        return nothing
    ahead = _measured(points, depth_m, camera) - points[:, 2]
    known = np.isfinite(ahead)
    if not known.any():
        return nothing
    cosine = np.abs(np.einsum('ni,ni->n', points, normals)) / np.linalg.norm(points, axis=1)
    off_m = (ahead * cosine)[known]
    limit_m = max(AGREEMENT * surface.diameter_m, SMALLEST_KERNEL_M)
    on = np.abs(off_m) < limit_m
    against = ahead[known] > CONTRADICTION * surface.diameter_m
    count = int(on.sum())
    agreement = count / max(count + int(against.sum()), 1)
    residual = float(np.median(np.abs(off_m[on]))) if count else float('nan')
    return DepthFit(T, used, agreement, residual, count, np.zeros((6, 6)))

