"""From the messages of a frame to pixels, camera, depth and plane; no topics here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header

from ..errors import CameraError, ImageError
from ..geometry.camera import Camera
from ..geometry.se3 import Array
from . import messages
from .depth_image import DepthError, usable_depth
from .drop_counters import DropCounters
from .frames import Frame, FrameError
from .params import NodeParameters
from .transforms import PlaneError, PlaneLookup


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """A decoded frame.

    :param image: (H, W, 3) uint8 RGB.
    :param moment: of the frame.
    :param depth_m: (H, W) float32 [m], None without.
    :param plane: (4,) that objects stand on, camera frame; None without.
    """

    image: NDArray[np.uint8]
    camera: Camera
    header: Header
    moment: tuple[int, int]
    depth_m: NDArray[np.float32] | None = None
    plane: Array | None = None


class FrameDecoder:
    """Decodes frames; used by one thread.

    :param drops: counts depth images and planes that cannot be used.
    :param compressed: whether images are sensor_msgs/CompressedImage.
    :param plane_of: tells the plane that objects stand on; None for none.
    """

    def __init__(self, drops: DropCounters, *, compressed: bool,
                 plane_of: PlaneLookup | None) -> None:
        self._drops, self._plane_of = drops, plane_of
        self._rgb = messages.rgb_from_compressed if compressed else messages.rgb_from_image

    def decode(self, frame: Frame, parameters: NodeParameters) -> DecodedFrame:
        """Decode a frame, without depth and plane.

        :raises FrameError: when image or camera_info cannot be used.
        """
        try:
            image = self._rgb(frame.image)
        except ImageError as error:
            raise FrameError('bad_image', str(error)) from error
        try:
            camera = messages.camera_from_info(
                frame.camera_info, rectified=parameters.image_rectified)
            messages.check_camera_fits(image, camera, frame.camera_info)
        except CameraError as error:
            raise FrameError('bad_camera_info', str(error)) from error
        return DecodedFrame(image, camera, _header(frame), frame.moment)

    def _depth(self, frame: Frame, camera: Camera, parameters: NodeParameters
               ) -> NDArray[np.float32] | None:
        """Return the depth image of a frame, None without one that can be used.

        :raises FrameError: when it is required and there is none.
        """
        if parameters.depth == 'off':
            return None
        try:
            message = frame.depth()
            if message is None:
                raise DepthError('depth_late', 'no depth image with its stamp was there when the '
                                 'frame was answered; if stamps differ, set sync_slop_s; if '
                                 'depth comes much more often than images, raise queue'
                                 + ('; with track no image waits for depth unless depth is '
                                    'required' if parameters.track else ''))
            return usable_depth(
                message, (camera.width, camera.height),
                (frame.image.header.frame_id, frame.camera_info.header.frame_id),
                compressed=parameters.depth_transport == 'compressed')
        except DepthError as error:
            self._drops.drop_once(error.reason, str(error), frame.moment)
            if parameters.depth == 'required':
                raise FrameError('no_depth', str(error)) from error
            return None

    def with_measured(self, picture: DecodedFrame, frame: Frame, parameters: NodeParameters
                      ) -> DecodedFrame:
        """Return a frame with its depth and the plane that objects stand on, if they are known.

        Both may come while the node's own detector works, so they are looked up after it.

        :raises FrameError: when depth is required and there is none.
        """
        picture = replace(picture, depth_m=self._depth(frame, picture.camera, parameters))
        if self._plane_of is None:
            return picture
        try:
            return replace(picture, plane=self._plane_of(picture.header))
        except PlaneError as error:
            self._drops.drop_once('plane_missing', str(error), picture.moment)
            return picture


def _header(frame: Frame) -> Header:
    """Return the image's header; a driver may name the frame in camera_info only.

    A slash in front, as in ROS 1, is left out: tf2 looks up no such frame.
    """
    header = frame.image.header
    names = [h.frame_id.lstrip('/') for h in (header, frame.camera_info.header)]
    return Header(stamp=header.stamp, frame_id=names[0] or names[1])
