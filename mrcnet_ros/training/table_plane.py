"""The table that an object stands on: its plane in a view, print in true perspective, shadows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array

# A table seen at less than about six degrees is a line: nothing is drawn on it.
LOWEST_SINE = 0.1
# Sides of a print, in diameters of the object.
PRINT_SIDE = (1.2, 8.0)


@dataclass(frozen=True, eq=False)
class Table:
    """A plane in a camera's frame.

    :param point_m: (3,) where the object stands on it [m].
    :param normal: (3,) unit vector, up.
    :param axes: (3, 2) unit vectors along it.
    """

    point_m: Array
    normal: Array
    axes: Array

    @classmethod
    def drawn(cls, rng: np.random.Generator, point_m: Array, normal: Array) -> Table:
        """Return a plane with axes of random direction."""
        first = np.cross(normal, rng.normal(size=3))
        first /= np.linalg.norm(first)
        return cls(point_m, normal, np.column_stack([first, np.cross(normal, first)]))

    def H_image_plane(self, K: Array) -> Array:
        """Return the (3, 3) map of (x, y, 1) along the axes [m] to pixels of a camera."""
        return np.asarray(K @ np.column_stack([self.axes, self.point_m]), np.float64)


def up_direction(elevation: float, tilt: float) -> Array:
    """Return up in the frame of a camera, (3,), from its elevation and its roll [rad]."""
    return np.array([np.cos(elevation) * np.sin(tilt), -np.cos(elevation) * np.cos(tilt),
                     -np.sin(elevation)])


def table_under(rng: np.random.Generator, R: Array, t_m: Array, hull: Array,
                normal_object: Array | None) -> Table | None:
    """Return the plane that an object stands on, or None where it is hardly seen from above.

    :param R: (3, 3) R_camera_object.
    :param t_m: (3,) of the object in the camera.
    :param hull: (P, 3) corners of its convex hull [m], object frame.
    :param normal_object: (3,) up in the object's frame; None draws an up as a camera that looks
        down at a table has it.
    """
    if normal_object is None:
        elevation, tilt = rng.uniform(0.2, 1.5), rng.uniform(-0.7, 0.7)
        normal_object = R.T @ up_direction(elevation, tilt)
    lowest = float((hull @ normal_object).min())
    normal = R @ normal_object
    point = t_m + lowest * normal
    sine = -float(normal @ point) / float(np.linalg.norm(point))
    if sine < LOWEST_SINE:
        return None
    return Table.drawn(rng, point, normal)


def lay_print(rng: np.random.Generator, image: NDArray[np.float32], table: Table, K: Array,
              sheet: NDArray[np.uint8], diameter_m: float) -> None:
    """Draw a printed sheet, board or table top in true perspective.

    :param image: (S, S, 3) float32 in 0..255; changed in place.
    :param K: (3, 3) from the table's camera to the image's pixels; may include a rotation.
    :param sheet: (B, B, 3) uint8, what is printed.
    """
    side_m = diameter_m * float(np.exp(rng.uniform(*np.log(PRINT_SIDE))))
    if rng.random() < 0.5:
        sheet = np.asarray(cv2.resize(sheet, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
                           np.uint8)
    side_px = len(sheet)
    low_m = -side_m * rng.uniform(0.2, 0.8, 2)
    corners = low_m + side_m * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    depth_m = (table.axes @ corners.T + table.point_m[:, None])[2]
    if depth_m.min() < 0.2 * table.point_m[2]:  # reaches behind the camera
        return
    step = side_m / side_px
    H_plane_print = np.array([[step, 0, low_m[0]], [0, step, low_m[1]], [0, 0, 1.0]])
    H = table.H_image_plane(K) @ H_plane_print
    size = image.shape[1::-1]
    drawn = cv2.warpPerspective(sheet, H, size)
    covered = cv2.warpPerspective(np.full((side_px, side_px), 255, np.uint8), H, size)
    opacity = covered[..., None] * np.float32(1 / 255)
    image += opacity * (drawn - image)


def cast_shadow(rng: np.random.Generator, image: NDArray[np.float32], table: Table, K: Array,
                corners_m: Array, toward_lamp: Array) -> None:
    """Darken the table where an object keeps the light away: where it stands, and beside it.

    :param image: (S, S, 3) float32 in 0..255; changed in place.
    :param K: as in :func:`lay_print`.
    :param corners_m: (P, 3) of the object's convex hull in the table's camera [m].
    :param toward_lamp: (3,) in the same camera.
    """
    heights = np.maximum((corners_m - table.point_m) @ table.normal, 0.0)
    lamp = toward_lamp / np.linalg.norm(toward_lamp)
    lamp = lamp + max(0.0, 0.6 - float(lamp @ table.normal)) * table.normal
    reach = float(np.ptp(heights)) + 1e-6
    foot = corners_m[heights < 0.25 * reach] - np.outer(heights[heights < 0.25 * reach],
                                                        table.normal)
    shadow = corners_m - np.outer(heights / float(lamp @ table.normal), lamp)
    for points, darkness, softness in ((shadow, rng.uniform(0.0, 0.55), rng.uniform(0.7, 5.0)),
                                       (foot, rng.uniform(0.2, 0.75), rng.uniform(1.0, 4.0))):
        if len(points) < 3 or points[:, 2].min() <= 0.05 * table.point_m[2]:
            continue
        uvw = points @ K.T
        outline = cv2.convexHull((uvw[:, :2] / uvw[:, 2:]).astype(np.float32)).clip(-999, 999)
        dark = np.zeros(image.shape[:2], np.float32)
        cv2.fillConvexPoly(dark, np.rint(outline).astype(np.int32), float(darkness), cv2.LINE_AA)
        image *= 1 - cv2.GaussianBlur(dark, (0, 0), softness)[..., None]
