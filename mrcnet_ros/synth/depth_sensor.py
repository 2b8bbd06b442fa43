"""What a depth camera makes of true distances: noise, steps, holes, and errors of all pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Depth = NDArray[np.float32]

# Of structured light and stereo at a metre, as published for the Kinect and the RealSense D400:
# noise [m] and steps of the disparity [m]; both grow with the square of the distance.
NOISE_M, STEP_M = 0.0015, 0.0028
NOISE_PX = 1.5  # neighbouring pixels are wrong together
# Errors that all pixels share: of scale, as a part of the distance, and of the registration to the
# colour image, in focal lengths (1.2 px of 600). The Kinect images of LM have 0.1 to 0.5 % and 0
# to 5 px.
SCALE, SHIFT = 0.003, 0.002
# Beside an edge of the depth image one of the sensor's two eyes sees something else.
EDGE_M, EDGE_PX, EDGE_HOLES = 0.03, 5, 0.6
# Elsewhere 2 % of the image are missing, in spots of this size: where noise is above 2.05.
HOLES_ABOVE, HOLES_PX = 2.05, 4.0


def measured_depth(depth_m: Depth, focal_px: float, rng: np.random.Generator) -> Depth:
    """Return what a depth camera would measure.

    :param depth_m: (H, W) true distances along the optical axis [m], 0 where unknown.
    :param focal_px: of the camera.
    :return: (H, W) float32 [m], 0 where nothing is measured.
    """
    height, width = depth_m.shape
    shift = (SHIFT * focal_px * rng.standard_normal(2)).astype(np.float32)
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(depth_m, u + shift[0], v + shift[1], cv2.INTER_NEAREST,
                      borderMode=cv2.BORDER_CONSTANT)
    noise = _blurred(rng, depth_m.shape, NOISE_PX)
    z = moved * np.float32(1 + SCALE * rng.standard_normal()) + NOISE_M * moved**2 * noise
    step = np.maximum(STEP_M * moved**2, 1e-6)
    z = np.round(z / step) * step
    missing = _at_edges(moved) & (rng.random(depth_m.shape) < EDGE_HOLES)
    missing |= _blurred(rng, depth_m.shape, HOLES_PX) > HOLES_ABOVE
    return np.where((moved > 0) & ~missing, z, 0).astype(np.float32)


def _at_edges(depth_m: Depth) -> NDArray[np.bool_]:
    kernel = np.ones((EDGE_PX, EDGE_PX), np.uint8)
    step = cv2.dilate(depth_m, kernel) - cv2.erode(depth_m, kernel)
    return np.asarray(step > EDGE_M)


def _blurred(rng: np.random.Generator, shape: tuple[int, ...], sigma_px: float) -> Depth:
    """Return Gaussian noise of unit deviation that neighbours share."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), sigma_px)
    return np.asarray(noise / noise.std(), np.float32)
