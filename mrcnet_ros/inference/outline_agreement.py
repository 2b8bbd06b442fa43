"""How well the edges of the image agree with the outline of an object at a pose.

The network's own confidence hardly tells which of several poses of one object is right. The
outline does: where an object ends, the brightness of the image changes across the outline. Only
the direction of the change counts, so that weak edges are as good as strong ones, and light on
dark as dark on light.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.crop import CropCamera
from ..geometry.sampling import sample_crop
from ..geometry.se3 import Array
from ..rendering.outline import Outline, template_outline
from ..rendering.template_store import Templates

# Of an outline. With 64 points the score on composed images is lower by .006, and the time hardly.
POINTS = 200
# Blur before edges are taken; 0.7 to 1.5 px score the same on composed images, within .002.
BLUR_PX = 1.0
# Edges are not known this near to the border of the photograph: blur and slope reach so far, and
# the border itself is no edge of an object.
BORDER_PX = 5
# Mean agreement of random directions; where the image has no edge, or crop or photograph end, or
# the outline has no direction.
NEUTRAL = 2.0 / np.pi
# Of a normal in the image, parts of its length: below, it has no direction there.
SHORTEST = 0.1
# Turns agreement into log odds. 20, 30 and 40 score .678 on LM-O, .520, .520 and .517 on composed
# images.
GAIN = 20.0


class OutlineAgreement:
    """Compares images with the outlines of templates.

    :param templates: by class index.
    """

    def __init__(self, templates: Sequence[Templates]) -> None:
        self._templates = templates
        self._outlines: dict[tuple[int, int], Outline] = {}

    def likelihoods(self, pixels: NDArray[np.uint8], camera: Camera,
                    cameras: Sequence[CropCamera], seen: Sequence[tuple[int, int, int]],
                    T_camera_object: Array) -> Array:
        """Return how probable poses are for the edges of crops, (H,), up to a factor.

        :param pixels: (N, S, S, 3) uint8 RGB of the crops.
        :param camera: of the photograph that they were taken from.
        :param cameras: (N,) of the crops.
        :param seen: crop, class index and rotation bin of each pose.
        :param T_camera_object: (H, 4, 4) [m], of the centred frame.
        """
        rows = np.array([row for row, _, _ in seen])
        outlines = [self._outline(class_index, bin_index) for _, class_index, bin_index in seen]
        R_crop_camera = np.array([camera.R_crop_camera for camera in cameras])[rows]
        agreement = outline_agreement(
            np.stack([_edges_within(image, camera, crop)
                      for image, crop in zip(pixels, cameras, strict=True)]), rows,
            Outline(*map(np.stack, zip(*outlines, strict=True))),
            R_crop_camera @ T_camera_object[:, :3],
            np.array([camera.K_crop for camera in cameras])[rows])
        return np.asarray(np.exp(GAIN * agreement), np.float64)

    def _outline(self, class_index: int, bin_index: int) -> Outline:
        key = class_index, bin_index
        if key not in self._outlines:
            templates = self._templates[class_index]
            row = int(templates.rows(bin_index))
            self._outlines[key] = template_outline(
                templates.depth_m[row], templates.K, templates.R_camera_object[row],
                templates.distance_m, POINTS)
        return self._outlines[key]


def _edges_within(image: NDArray[np.uint8], camera: Camera, crop: CropCamera
                  ) -> NDArray[np.float32]:
    """Return the edges of a crop; zero near the border of the photograph and beyond it."""
    edges = edge_directions(image)
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    if rim.any(axis=1).all():  # what is outside the photograph is black
        return edges
    white = np.full((camera.height, camera.width, 3), 255, np.uint8)
    inside = (sample_crop(white, camera, crop)[..., 0] == 255).astype(np.uint8)
    reach = np.ones((2 * BORDER_PX + 1, 2 * BORDER_PX + 1), np.uint8)
    # what lies beyond the crop is not known to be outside
    return np.asarray(edges * cv2.erode(inside, reach, borderValue=1), np.float32)


def edge_directions(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the direction in which brightness changes most.

    :param image: (S, S, 3) uint8 RGB.
    :return: (2, S, S) unit vectors x, y; zero where it does not change.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    soft = cv2.GaussianBlur(grey, (0, 0), BLUR_PX)
    slopes = np.stack([cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)])
    return np.asarray(slopes / (cv2.magnitude(slopes[0], slopes[1]) + 1e-3), np.float32)


def outline_agreement(edges: NDArray[np.float32], rows: NDArray[np.int64], outlines: Outline,
                      T_crop_object: Array, K_crop: Array) -> Array:
    """Return the mean cosine between outlines and edges, (H,), 0 to 1.

    :param edges: (N, 2, S, S) of images, from :func:`edge_directions`.
    :param rows: (H,) image of each outline.
    :param outlines: points and normals (H, P, 3).
    :param T_crop_object: (H, 3, 4) [m].
    :param K_crop: (H, 3, 3) [px].
    """
    T, K = T_crop_object.astype(np.float32), K_crop[:, None].astype(np.float32)
    R = np.swapaxes(T[..., :3], 1, 2)
    seen, across = outlines.points @ R + T[:, None, :, 3], (outlines.normals @ R)[..., :2]
    lengths = np.linalg.norm(across, axis=2)
    across /= lengths[..., None] + np.float32(1e-9)
    with np.errstate(all='ignore'):  # a pose that is no pose agrees with nothing
        uv = seen[..., :2] / seen[..., 2:] * K[..., [0, 1], [0, 1]] + K[..., :2, 2]
    size = edges.shape[-1]
    inside = ((uv > -0.5) & (uv < size - 0.5)).all(axis=2) & (seen[..., 2] > 0)
    u, v = np.rint(np.where(inside[..., None], uv, 0.0)).astype(np.int64).transpose(2, 0, 1)
    x, y = edges[rows[:, None], :, v, u].transpose(2, 0, 1)
    cosines = np.abs(x * across[..., 0] + y * across[..., 1])
    known = inside & ((x != 0.0) | (y != 0.0)) & (lengths > SHORTEST)
    return np.asarray(np.where(known, cosines, NEUTRAL).mean(axis=1), np.float64)
