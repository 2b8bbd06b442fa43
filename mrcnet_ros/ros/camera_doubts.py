"""What looks wrong about a camera_info although it can be used; no topics here."""

from __future__ import annotations

from ..errors import CameraError
from .message_types import CameraInfoMessage
from .messages import camera_from_info

# Lenses sit within a few percent of the middle of their sensor. K of another resolution is off by
# a sixth of the image or more: 1920x1080 for 1280x720 by a quarter, 640x480 for 1280x960 as well.
FARTHEST_FROM_MIDDLE = 0.15
# Of the image's longer side; a lens that sees less than 2 degrees is a telescope.
LONGEST_FOCAL = 30.0
# Pixels of cameras are square; only old video formats reach 1.5.
MOST_ASPECT = 1.2


def camera_doubts(info: CameraInfoMessage, image_topic: str, *, rectified: bool) -> list[str]:
    """Return what makes poses doubtful, each with what to do; nothing of one that is refused.

    :param info: sensor_msgs/CameraInfo.
    :param image_topic: of the images, remapped.
    :param rectified: the parameter ``image_rectified``.
    """
    try:
        camera = camera_from_info(info, rectified=rectified)
    except CameraError:
        return []
    doubts = []
    x, y = float(camera.K[0, 2]), float(camera.K[1, 2])
    width, height = camera.width, camera.height
    off = max(abs((x + 0.5) / width - 0.5), abs((y + 0.5) / height - 0.5))
    if off > FARTHEST_FROM_MIDDLE and not (info.roi.width or info.roi.height):
        doubts.append(
            f'the principal point of camera_info, ({x:.0f}, {y:.0f}), is far from the middle of '
            f'{width}x{height} px; if its K or P is that of another resolution, all poses are '
            'wrong: calibrate at the resolution that is used (roi tells that an image is a part '
            'of another)')
    fx, fy = float(camera.K[0, 0]), float(camera.K[1, 1])
    if max(fx, fy) > LONGEST_FOCAL * max(width, height):
        doubts.append(f'focal lengths of camera_info, {fx:.4g} and {fy:.4g} px, are those of a '
                      f'telescope for {width}x{height} px; K and P are in pixels')
    if max(fx / fy, fy / fx) > MOST_ASPECT:
        doubts.append(f'focal lengths of camera_info, {fx:.4g} and {fy:.4g} px, differ as if '
                      'pixels were not square; if the image was scaled by different factors in '
                      'width and height, K must be, too')
    if rectified and not any(info.p) and any(info.d):
        doubts.append('image_rectified is set, but P of camera_info is zero, so K counts, which '
                      'is of the raw images: fill P, or give raw images and unset it')
    name = image_topic.rsplit('/', 1)[-1]
    if rectified and 'raw' in name and 'rect' not in name and any(info.d):
        doubts.append(f'image_rectified is set, but {image_topic} is named as raw images are, and '
                      'D of camera_info is not zero; unset it, or remap image')
    if not rectified and 'rect' in name and any(info.d):
        doubts.append(f'{image_topic} is named as rectified images are, but image_rectified is '
                      'not set, and D of camera_info is not zero; set it, or remap image')
    return doubts
