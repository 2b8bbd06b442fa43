"""A simulated depth camera: noise, steps, holes, and errors that all pixels share."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ..errors import SpecError

Depth = NDArray[np.float32]

NOISE_PX = 1.5  # neighbouring pixels are wrong together
# Beside an edge of the depth image one of the sensor's two eyes sees something else.
EDGE_M, EDGE_PX, EDGE_HOLES = 0.03, 5, 0.6
HOLES_PX = 4.0  # size of the other spots without a measurement
# Ranges of the options: outside, hardly anything is measured, or the unit is wrong.
_LIMITS = {'noise_m': (0.0, 0.1), 'step_m': (0.0, 0.1), 'holes': (0.0, 0.9),
           'offset_m': (-0.5, 0.5), 'scale': (0.0, 0.2), 'shift': (0.0, 0.1)}


@dataclass(frozen=True, kw_only=True)
class DepthSensor:
    """The errors of a depth camera.

    The defaults are those of structured light and stereo, as published for the Kinect and the
    RealSense D400. The Kinect images of LM have errors of scale of 0.1 to 0.5 % and of
    registration of 0 to 5 px.

    :param noise_m: deviation of a pixel at a metre; it grows with the square of the distance.
    :param step_m: step of the distances at a metre; it grows with the square of the distance.
    :param holes: part of the image without a measurement, not counting edges.
    :param offset_m: added to all distances.
    :param scale: deviation of an error of scale that all pixels share, as a part of the distance.
    :param shift: deviation of the registration to the colour image, in focal lengths.
    :raises SpecError: when a number is out of range; the error names it.
    """

    noise_m: float = 0.0015
    step_m: float = 0.0028
    holes: float = 0.02
    offset_m: float = 0.0
    scale: float = 0.003
    shift: float = 0.002

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise SpecError(f'depth camera: {name} must be {low:g} to {high:g}, got {value:g}')


USUAL = DepthSensor()


def measured_depth(depth_m: Depth, focal_px: float, rng: np.random.Generator,
                   sensor: DepthSensor = USUAL,
                   shared_rng: np.random.Generator | None = None) -> Depth:
    """Return what a depth camera would measure.

    :param depth_m: (H, W) true distances along the optical axis [m], 0 where unknown.
    :param shared_rng: draws the scale and the registration that all images of one camera share;
        None for another camera in each image.
    :return: (H, W) float32 [m], 0 where nothing is measured.
    """
    height, width = depth_m.shape
    common = (shared_rng or rng).standard_normal(3)
    shift = (sensor.shift * focal_px * common[:2]).astype(np.float32)
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(depth_m, u + shift[0], v + shift[1], cv2.INTER_NEAREST,
                      borderMode=cv2.BORDER_CONSTANT)
    noise = _blurred(rng, depth_m.shape, NOISE_PX)
    z = moved * np.float32(1 + sensor.scale * common[2]) + sensor.noise_m * moved**2 * noise
    z += np.float32(sensor.offset_m)
    step = np.maximum(sensor.step_m * moved**2, 1e-6)
    z = np.maximum(np.round(z / step) * step, 0)
    missing = _at_edges(moved) & (rng.random(depth_m.shape) < EDGE_HOLES)
    missing |= _blurred(rng, depth_m.shape, HOLES_PX) > ndtri(1 - sensor.holes)
    return np.where((moved > 0) & ~missing, z, 0).astype(np.float32)


def _at_edges(depth_m: Depth) -> NDArray[np.bool_]:
    kernel = np.ones((EDGE_PX, EDGE_PX), np.uint8)
    step = cv2.dilate(depth_m, kernel) - cv2.erode(depth_m, kernel)
    return np.asarray(step > EDGE_M)


def _blurred(rng: np.random.Generator, shape: tuple[int, ...], sigma_px: float) -> Depth:
    """Return Gaussian noise of unit deviation that neighbours share."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), sigma_px)
    return np.asarray(noise / noise.std(), np.float32)
