"""The paper preset's bins of position and the way from its numbers to a pose.

``depth`` is the published ``d = Z / fx_crop``, which does not depend on the scale of the crop.
Source: mrcnet.md sections 2 and 4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ...geometry.se3 import Array, make_transform
from .spec import PaperSpec


def depth_centres(spec: PaperSpec) -> Array:
    """Return the centres of the depth bins.

    :return: (depth_bins,) [mm/px].
    """
    steps = (np.arange(spec.depth_bins) + 0.5) / spec.depth_bins
    return np.asarray(spec.depth_near + (spec.depth_far - spec.depth_near) * steps, np.float64)


def cell_centres_xy(spec: PaperSpec) -> Array:
    """Return the centres of the cells, row by row.

    :return: (cells**2, 2) x and y offset from the crop's centre in crop widths.
    """
    steps = (np.arange(spec.cells) + 0.5) / spec.cells - 0.5
    y, x = np.meshgrid(steps, steps, indexing='ij')
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def translation(xy: ArrayLike, depth: ArrayLike, K_crop: ArrayLike, size_px: int) -> Array:
    """Return where an object's origin is.

    :param xy: (..., 2) offset from the crop's centre in crop widths.
    :param depth: (...) Z over the crop's focal length, in some unit per pixel.
    :param K_crop: (..., 3, 3) [px].
    :return: (..., 3) in the crop camera's frame, in that unit.
    """
    K = np.asarray(K_crop, dtype=np.float64)
    z = np.asarray(depth, dtype=np.float64) * K[..., 0, 0]
    pixel = size_px * np.asarray(xy, dtype=np.float64) + size_px / 2.0
    focal = np.stack([K[..., 0, 0], K[..., 1, 1]], axis=-1)
    return np.concatenate([(pixel - K[..., :2, 2]) / focal * z[..., None], z[..., None]], axis=-1)


def select_pose(rotation_logits: ArrayLike, depth_logits: ArrayLike, R_view_object: ArrayLike,
                t_view_object: ArrayLike, Rz: ArrayLike) -> Array:
    """Choose among the in-plane rotations of one detection and undo the rotation.

    The rotation is that of the view with the highest rotation logit, the translation that of the
    view with the highest depth logit.

    :param rotation_logits: (turns, rotations).
    :param depth_logits: (turns, depth_bins).
    :param R_view_object: (turns, 3, 3) answers of the views.
    :param t_view_object: (turns, 3) answers of the views.
    :param Rz: (turns, 3, 3) R_view_camera.
    :return: (4, 4) T_camera_object, in the unit of ``t_view_object``.
    """
    for_R = int(np.argmax(np.max(np.asarray(rotation_logits), axis=1)))
    for_t = int(np.argmax(np.max(np.asarray(depth_logits), axis=1)))
    turns = np.asarray(Rz, dtype=np.float64)
    return make_transform(turns[for_R].T @ np.asarray(R_view_object, np.float64)[for_R],
                          turns[for_t].T @ np.asarray(t_view_object, np.float64)[for_t])
