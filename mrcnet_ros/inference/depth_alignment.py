"""Poses corrected by a registered depth image: first the distance, then the whole pose.

A colour image tells size and distance as one number; a depth image tells the distance by itself.
The alignment starts from the pose of the network and stays near it where depth says nothing: what
it may change is bounded by how uncertain the network's pose is. All objects of a frame are aligned
at once: a step costs as much for eight of them as for two.

What a depth image holds is looked up in :mod:`.depth_look`; :mod:`.depth_distance` corrects the
distance, :mod:`.depth_plane` the whole pose; :mod:`.depth_fit` says how well a pose agrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array
from .depth_distance import at_measured_distance
from .depth_fit import DepthFit, PoseDoubt, distance_information, fits_of
from .depth_look import LEAST_POINTS, DepthEyes
from .depth_plane import point_to_plane
from .depth_surface import SampledSurface

# The agreement of a corrected pose may be this much lower than that of the network's pose: noise
# changes the agreement of a nearly right pose by as much.
AGREEMENT_LOST = 0.05
# Least agreement of a corrected pose: depth of another scene may have a surface at a possible
# distance, but hardly one with the object's shape.
LEAST_AGREEMENT = 0.85


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
    eyes = DepthEyes(surfaces, depth_m, camera)
    eyes.turn_to(T_camera_object)
    start = eyes.look(T_camera_object)
    fits = fits_of(start, T_camera_object, eyes.diameter_m, 'none')
    T, found = at_measured_distance(eyes, T_camera_object, start, doubts)
    if not found.any():
        return fits
    moved, look = T, eyes.look(T)
    moved_fits = fits_of(look, moved, eyes.diameter_m, 'distance')
    seen, T, information = point_to_plane(eyes, moved, look, doubts)
    aligned_fits = fits_of(eyes.look(seen), T, eyes.diameter_m, 'pose')
    # of the turn between both
    cosine = ((T[:, :3, :3] * T_camera_object[:, :3, :3]).sum(axis=(1, 2)) - 1) / 2
    return [
        _better(fits[i], moved_fits[i], replace(aligned_fits[i], information=information[i]),
                bool(cosine[i] > np.cos(min(3 * doubts[i].rotation_rad, np.pi))),
                float(eyes.diameter_m[i]))
        if found[i] else fits[i] for i in range(len(fits))]


def _better(start: DepthFit, moved: DepthFit, aligned: DepthFit, near: bool,
            diameter_m: float) -> DepthFit:
    """Choose among the pose of the network, the one with its distance corrected, and the last."""
    if near and aligned.information.any() and aligned.agreement >= moved.agreement:
        best = aligned
    else:
        best = replace(moved, information=distance_information(moved, diameter_m))
    lost = start.agreement - best.agreement if start.points >= LEAST_POINTS else 0.0
    return best if best.agreement >= LEAST_AGREEMENT and lost <= AGREEMENT_LOST else start
