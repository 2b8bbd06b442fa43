"""What looks wrong about the numbers of a camera although they can be used."""

from __future__ import annotations

import numpy as np

from ..errors import CameraError
from .camera import Camera
from .se3 import Array

# Of the image's side: a pinhole with a shorter focal length sees more than 168 degrees, a fisheye
# more than all around.
SHORTEST_FOCAL = 0.05
# Lenses sit within a few percent of the middle of their sensor. K of another resolution is off by
# a sixth of the image or more: 1920x1080 for 1280x720 by a quarter, 640x480 for 1280x960 as well.
FARTHEST_FROM_MIDDLE = 0.15
# Of the image's longer side; a lens that sees less than 2 degrees is a telescope.
LONGEST_FOCAL = 30.0
# Pixels of cameras are square; only old video formats reach 1.5.
MOST_ASPECT = 1.2
# Lenses that are not straight against their sensor have up to 0.005; k3, which stands there in the
# order of other programs, is mostly larger.
MOST_TANGENTIAL = 0.015
# Of the ray of a pinhole, at the nearest borders of the image: of real lenses 0.8 to 1.6.
RAY_RATIOS = (0.5, 3.0)


def check_focal_lengths(camera: Camera, name: str) -> None:
    """Check that focal lengths are in pixels.

    :param name: of what they are from, for the message.
    :raises CameraError: when they are too short.
    """
    fx, fy = float(camera.K[0, 0]), float(camera.K[1, 1])
    width, height = camera.width, camera.height
    if fx < SHORTEST_FOCAL * width or fy < SHORTEST_FOCAL * height:
        raise CameraError(f'focal lengths of {fx:.4g} and {fy:.4g} px are too short for '
                          f'{width}x{height} px; K and P of {name} are in pixels')


def number_doubts(camera: Camera, name: str, remedy: str = '') -> list[str]:
    """Return what makes poses doubtful, each with what to do.

    :param name: of what the numbers are from.
    :param remedy: what else helps where the principal point is far from the middle.
    """
    width, height = camera.width, camera.height
    doubts = [] if camera.part else middle_doubts(
        camera.K, width, height, name, '; if its K or P is that of another resolution, all poses '
        f'are wrong: calibrate at the resolution that is used{remedy}')
    fx, fy = float(camera.K[0, 0]), float(camera.K[1, 1])
    if max(fx, fy) > LONGEST_FOCAL * max(width, height):
        doubts.append(f'focal lengths of {name}, {fx:.4g} and {fy:.4g} px, are those of a '
                      f'telescope for {width}x{height} px; K and P are in pixels')
    if max(fx / fy, fy / fx) > MOST_ASPECT:
        doubts.append(f'focal lengths of {name}, {fx:.4g} and {fy:.4g} px, differ as if '
                      'pixels were not square; if the image was scaled by different factors in '
                      'width and height, K must be, too')
    return doubts + _lens_doubts(camera, name)


def middle_doubts(K: Array, width: int, height: int, name: str, rest: str) -> list[str]:
    """Return that a principal point is far from the middle of the sensor, if it is.

    :param K: (3, 3) [px] of the whole sensor.
    :param width: of the whole sensor [px].
    :param height: likewise.
    :param name: of what the numbers are from.
    :param rest: of the sentence.
    """
    x, y = float(K[0, 2]), float(K[1, 2])
    off = max(abs((x + 0.5) / width - 0.5), abs((y + 0.5) / height - 0.5))
    return [] if off <= FARTHEST_FROM_MIDDLE else [
        f'the principal point of {name}, ({x:.0f}, {y:.0f}), is far from the middle of '
        f'{width}x{height} px{rest}']


def _lens_doubts(camera: Camera, name: str) -> list[str]:
    """Return what looks wrong about the coefficients of a lens that is no fisheye."""
    if camera.lens is None or camera.distortion_model == 'equidistant':
        return []
    doubts = []
    tangential = max(map(abs, camera.distortion[2:4]))
    if tangential > MOST_TANGENTIAL:
        doubts.append(f'tangential coefficients of {name}, {camera.distortion[2]:.3g} and '
                      f'{camera.distortion[3]:.3g}, are larger than those of lenses; D must be '
                      'in the order k1, k2, p1, p2, k3')
    last = np.array([camera.width, camera.height]) - 1
    middle = camera.K[:2, 2]
    borders = np.array([[0, middle[1]], [last[0], middle[1]],
                        [middle[0], 0], [middle[0], last[1]]])
    straight = np.linalg.norm((borders - middle) / camera.K[(0, 1), (0, 1)], axis=1)
    seen = np.linalg.norm(camera.unproject(borders)[:, :2], axis=1)
    nearest = int(np.argmin(np.where(straight > 0, straight, np.inf)))
    if not straight[nearest] > 0:  # an image of one pixel
        return doubts
    least, most = RAY_RATIOS
    if not least <= seen[nearest] / straight[nearest] <= most:  # nan beyond the fold of the lens
        doubts.append(f'with D of {name} the lens '
                      + ('would not reach the border of the image'
                         if np.isnan(seen[nearest]) else 'would bend rays more than any real lens')
                      + f'; D {[float(f"{v:.4g}") for v in camera.distortion]} must '
                      f'belong to distortion_model {camera.distortion_model} and use normalised '
                      'coordinates')
    return doubts
