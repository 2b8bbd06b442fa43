"""Relative size, the scale-free form of depth, and the stage-1 bins of position and size.

The relative size of an object in a crop is ``a = diameter * f_crop / (depth * size_px)``: about
the part of the crop that its diameter covers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..specs import BinSpec
from .se3 import Array


def scale_centres(bins: BinSpec) -> Array:
    """Return the centres of the scale bins.

    :return: (scale_bins,) natural logarithms of relative size.
    """
    low, high = np.log(bins.scale_min), np.log(bins.scale_max)
    steps = (np.arange(bins.scale_bins) + 0.5) / bins.scale_bins
    return np.asarray(low + (high - low) * steps, dtype=np.float64)


def cell_centres(bins: BinSpec) -> Array:
    """Return the centres of the cells along one axis, in crop widths from the crop's centre.

    :return: (cells,).
    """
    return (np.arange(bins.cells) + 0.5) / bins.cells - 0.5


def encode_translation(t_crop_object: ArrayLike, focal: ArrayLike, diameter_m: ArrayLike) -> Array:
    """Describe a translation in units that a network can predict.

    :param t_crop_object: (..., 3) [m] in the crop camera's frame, z > 0.
    :param focal: (...) of the crop camera in crop widths.
    :param diameter_m: (...) of the object.
    :return: (..., 3): x and y offset from the crop's centre in crop widths, log relative size.
    """
    t = np.asarray(t_crop_object, dtype=np.float64)
    focal = np.asarray(focal, dtype=np.float64)[..., None]
    size = np.log(np.asarray(diameter_m)[..., None] * focal / t[..., 2:])
    return np.concatenate([focal * t[..., :2] / t[..., 2:], size], axis=-1)


def decode_translation(xy: ArrayLike, log_size: ArrayLike, focal: ArrayLike, diameter_m: ArrayLike
                       ) -> Array:
    """Undo :func:`encode_translation`.

    :param xy: (..., 2) offset from the crop's centre in crop widths.
    :param log_size: (...) log relative size.
    :param focal: (...) of the crop camera in crop widths.
    :param diameter_m: (...) of the object.
    :return: (..., 3) t_crop_object [m].
    """
    xy, focal = np.asarray(xy, dtype=np.float64), np.asarray(focal, dtype=np.float64)
    depth_m = np.asarray(diameter_m) * focal / np.exp(np.asarray(log_size, dtype=np.float64))
    lateral_m = xy * (depth_m / focal)[..., None]
    return np.concatenate([lateral_m, depth_m[..., None]], axis=-1)
