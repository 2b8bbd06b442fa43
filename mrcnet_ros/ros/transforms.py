"""What /tf tells: the plane that objects stand on, and where the camera is in a fixed frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rclpy.duration import Duration
from rclpy.time import Time
from tf2_ros import Buffer, TransformException, TransformListener

from ..errors import SpecError
from ..geometry.se3 import Array, displaced, displacement
from ..inference.support_plane import checked_plane, plane_of_frame
from .message_types import HeaderMessage, TransformStampedMessage
from .messages import transform_from_message
from .rclpy_types import NodeHandle

# A transform of the moment of the image may come a little later than the detections; the worker
# waits no longer for it.
PATIENCE = Duration(nanoseconds=30_000_000)
# If the newest transform of the camera is older than this, /tf has stopped; one at 5 Hz has not.
OLDEST_S = 0.3
# The camera goes on as it moved in this time; much less would repeat the noise of an odometry.
MOTION = Duration(nanoseconds=100_000_000)

# Asked by the worker with the header of a frame: the plane, (4,), camera frame.
PlaneLookup = Callable[[HeaderMessage], Array]
# Asked with the header of a frame and a fixed frame: T_fixed_camera, (4, 4) [m].
CameraLookup = Callable[[HeaderMessage, str], Array]
# Asked with the frame of an object and that of the camera: why /tf must not have the former, ''
# where it may.
NameCheck = Callable[[str, str], str]


def _no_motion(header: HeaderMessage, fixed_frame: str) -> Array:
    raise MotionError('nothing listens to /tf')


def _no_matter(moment: tuple[int, int]) -> None:
    pass


def _untold(transforms: Sequence[TransformStampedMessage]) -> None:
    pass


def _all_free(child: str, parent: str) -> str:
    return ''


@dataclass(frozen=True, eq=False)
class Tree:
    """What a handler asks /tf.

    :param plane: that objects stand on; None for none.
    :param camera: tells where the camera is in a fixed frame.
    :param refusal: tells which frames objects must not have.
    :param sent: told the transforms that are about to be sent.
    :param begin: told the moment of each frame before anything is asked about it.
    """

    plane: PlaneLookup | None = None
    camera: CameraLookup = _no_motion
    refusal: NameCheck = _all_free
    sent: Callable[[Sequence[TransformStampedMessage]], None] = _untold
    begin: Callable[[tuple[int, int]], None] = _no_matter


class PlaneError(Exception):
    """The plane of a frame is not known."""


class MotionError(Exception):
    """Where the camera is in a fixed frame is not known."""


class TreeListener:
    """Listens to /tf and /tf_static from its beginning to its end."""

    def __init__(self, node: NodeHandle) -> None:
        self._node = node
        # not of the node: such a buffer adds a service to it, which nobody takes away again
        self._buffer = Buffer()
        self._listener = TransformListener(self._buffer, node)
        self._newest = (0, 0)

    def begin(self, moment: tuple[int, int]) -> None:
        """Forget what moved when time has gone back (a bag starts again, a clock was set).

        tf2 takes no transform that is more than ten seconds older than its newest one.

        :param moment: era and stamp [ns] of a frame.
        """
        if moment[0] > self._newest[0] and moment[1] < self._newest[1]:
            self._buffer.clear()
        self._newest = max(self._newest, moment)

    def close(self) -> None:
        for subscription in (self._listener.tf_sub, self._listener.tf_static_sub):
            self._node.destroy_subscription(subscription)


class SupportFrame(TreeListener):
    """Looks up where the plane z = 0 of a frame is.

    :param frame: whose z axis points up.
    """

    def __init__(self, node: NodeHandle, frame: str) -> None:
        super().__init__(node)
        self._frame = frame.lstrip('/')

    def plane(self, header: HeaderMessage) -> Array:
        """Return the plane at the moment of an image, (4,), in its camera's frame.

        :raises PlaneError: when there is no such transform, or the camera is below the plane or
            too far from it.
        """
        if not header.frame_id:
            raise PlaneError('the headers of image and camera_info name no frame; set frame_id in '
                             'the camera driver')
        try:
            found = self._buffer.lookup_transform(
                header.frame_id, self._frame, Time.from_msg(header.stamp), PATIENCE)
            return checked_plane(plane_of_frame(transform_from_message(found.transform)))
        except TransformException as error:
            raise PlaneError(f'no transform from {self._frame!r} to {header.frame_id!r} at the '
                             f'stamp of the image: {error}') from error
        except SpecError as error:
            raise PlaneError(f'the plane z = 0 of {self._frame!r} is not below the camera; its z '
                             f'axis must point up, to the objects, and /tf be in metres: {error}'
                             ) from error


class CameraTransforms(TreeListener):
    """Looks up the camera in a fixed frame."""

    def look_up(self, header: HeaderMessage, fixed_frame: str) -> Array:
        """Return T_fixed_camera, (4, 4) [m], at the stamp of a header.

        A transform of that very moment often comes after the image. Then the camera is taken to
        have moved on from the newest one as it moved before.

        :raises MotionError: when /tf does not tell it, or has told nothing new for ``OLDEST_S``.
        """
        frames, stamp = (fixed_frame, header.frame_id), Time.from_msg(header.stamp)
        T = self._at(frames, stamp)
        if T is not None:
            return T
        try:
            newest = Time.from_msg(self._buffer.lookup_transform(*frames, Time()).header.stamp)
        except TransformException as error:
            raise MotionError(f'{error}; check track_frame, and that /tf has a transform '
                              'from the camera to it') from error
        age_s = 1e-9 * (stamp.nanoseconds - newest.nanoseconds)
        if not 0.0 < age_s <= OLDEST_S:
            raise MotionError(
                f'the newest transform is {abs(age_s):.2f} s '
                f'{"older" if age_s > 0.0 else "newer"} than the image, at most {OLDEST_S:g} s '
                'older are used; check the clocks, and that its publisher is not late')
        T = self._at(frames, newest)
        if T is None:
            raise MotionError('the newest transform has a number that is not finite')
        if newest.nanoseconds < MOTION.nanoseconds:
            return T
        before = self._at(frames, newest - MOTION)
        return T if before is None else _moved_on(before, T, 1e9 * age_s / MOTION.nanoseconds)

    def _at(self, frames: tuple[str, str], moment: Time) -> Array | None:
        try:
            found = self._buffer.lookup_transform(*frames, moment)
        except TransformException:
            return None
        T = transform_from_message(found.transform)
        return T if np.isfinite(T).all() else None


def _moved_on(T_before: Array, T: Array, part: float) -> Array:
    """Return a pose after a further part of the motion from one pose to the next."""
    return displaced(T, part * displacement(T_before, T))
