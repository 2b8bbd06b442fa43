"""Where the camera of followed objects is, whatever /tf tells from image to image."""

from __future__ import annotations

import numpy as np

from ..geometry.se3 import Array, inverse


class CameraPath:
    """Camera poses in a world that never jumps; used by one thread.

    While /tf does not tell where the camera is, it is taken to rest. When /tf tells it again, or
    in another frame, the world is moved so that the camera is still where it was taken to be.
    Otherwise all instances would be expected at wrong places.
    """

    def __init__(self) -> None:
        self._frames: tuple[str, str] | None = None
        self._T_world_fixed = self._T_world_camera = np.eye(4)
        self._stamp_ns: int | None = None

    def at(self, stamp_ns: int, frames: tuple[str, str], T_fixed_camera: Array | None) -> Array:
        """Return T_world_camera, (4, 4) [m], at the stamp of an image.

        :param frames: names of the fixed frame and of the camera.
        :param T_fixed_camera: what /tf tells; None if it does not.
        """
        newest = self._stamp_ns is None or stamp_ns >= self._stamp_ns
        if newest:
            self._stamp_ns = stamp_ns
            if T_fixed_camera is None:
                self._frames = None
            elif frames != self._frames:
                self._frames = frames
                self._T_world_fixed = self._T_world_camera @ inverse(T_fixed_camera)
        if T_fixed_camera is None or frames != self._frames:
            return self._T_world_camera
        T_world_camera: Array = self._T_world_fixed @ T_fixed_camera
        if newest:
            self._T_world_camera = T_world_camera
        return T_world_camera
