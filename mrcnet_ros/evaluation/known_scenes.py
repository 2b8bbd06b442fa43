"""Right and wrong depth images and support planes for each image of a dataset."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..datasets.bop import BopFrame
from ..datasets.bop_scene import BopScene
from ..errors import DatasetError
from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..inference.poses import Measured
from ..inference.support_plane import plane_of_frame

Depth = NDArray[np.float32]

COLOUR, PLANE, DEPTH = 'colour alone', 'support plane', 'depth'
EMPTY, TEN_TIMES, LATE = 'nothing measured', 'ten times as far', '100 ms off'
OTHER_IMAGE, UNREGISTERED = 'of another image', 'not registered'
WRONG = (EMPTY, TEN_TIMES, LATE, OTHER_IMAGE, UNREGISTERED)
# Depth that is three images of a camera at 30 Hz late; images this near to that time are taken.
LATE_S, LATE_SLOP_S = 0.1, 0.02
# A depth camera beside the colour camera, with a wider lens, as the RealSense has them.
BASELINE_M, WIDER = 0.05, 0.65


class KnownScenes:
    """Gives each image of a dataset its depth image, wrong ones, and the table.

    :param frames: of the dataset, all with depth images. Images without stamps have no late
        depth, and a single image has no other one.
    :param plane: also the plane z = 0 of the world, as a table that objects stand on.
    :raises DatasetError: when an image has no depth image, or the plane is asked for and
        scene_camera.json does not tell where the world is.
    """

    def __init__(self, frames: Sequence[BopFrame], *, plane: bool = False) -> None:
        """Read when and where the images were taken, but no pixels."""
        for frame in frames:
            if not frame.has_depth:
                raise DatasetError(f'image {frame.image_path}: has no depth image; give a dataset '
                                   'with depth, such as one made by mrcnet synth --depth-camera')
        self._frames = list(frames)
        scenes = {f.scene_id: BopScene(f.image_path.parents[1], None) for f in frames}
        times = [scenes[f.scene_id].timestamp_s(f.image_id) for f in frames]
        self._late = [_apart(i, self._frames, times) for i in range(len(self._frames))]
        self._planes = [_plane(scenes[f.scene_id], f) for f in frames] if plane else []
        missing = {name for name, there in (
            (LATE, all(number is not None for number in self._late)),
            (OTHER_IMAGE, len(self._frames) > 1)) if not there}
        self.names = (COLOUR, *([PLANE] if plane else []), DEPTH,
                      *(name for name in WRONG if name not in missing))

    def known(self, number: int) -> list[Measured]:
        """Return the depth image and plane of each kind, in the order of ``names``.

        :raises ImageError: when a depth image cannot be read.
        """
        return [self._known(name, number) for name in self.names]

    def _known(self, name: str, number: int) -> Measured:
        if name in (COLOUR, PLANE):
            return Measured(support_plane=self._planes[number] if name == PLANE else None)
        camera = self._frames[number].camera
        if name == LATE:
            return Measured(self._depth(self._late[number] or 0))
        if name == OTHER_IMAGE:
            return Measured(_fitted(self._depth(self._far_away(number)), camera))
        depth = self._depth(number)
        if name == UNREGISTERED:
            return Measured(unregistered(depth, camera))
        return Measured({DEPTH: 1, TEN_TIMES: 10, EMPTY: 0}[name] * depth)

    def _depth(self, number: int) -> Depth:
        depth = self._frames[number].load_depth_m()
        assert depth is not None
        return depth

    def _far_away(self, number: int) -> int:
        """Return an image of another scene; where there is none, another one of this scene."""
        own, count = self._frames[number].scene_id, len(self._frames)
        others = [i for i, frame in enumerate(self._frames) if frame.scene_id != own]
        return others[number % len(others)] if others else (number + count // 2) % count


def unregistered(depth_m: Depth, camera: Camera) -> Depth:
    """Return roughly the image of a depth camera 5 cm away with a wider lens.

    :param depth_m: (H, W) registered to the image of ``camera`` [m].
    """
    known = depth_m[depth_m > 0]
    middle_m = float(np.median(known)) if len(known) else 1.0
    cx, cy = camera.K[0, 2], camera.K[1, 2]
    moved_px = float(camera.K[0, 0]) * BASELINE_M / middle_m
    away = np.array([[WIDER, 0, (1 - WIDER) * cx - WIDER * moved_px],
                     [0, WIDER, (1 - WIDER) * cy]])
    size = (camera.width, camera.height)
    return np.asarray(cv2.warpAffine(depth_m, away, size, flags=cv2.INTER_NEAREST), np.float32)


def _fitted(depth_m: Depth, camera: Camera) -> Depth:
    """Return a depth image in the size of a camera's image."""
    size = (camera.width, camera.height)
    return np.asarray(cv2.resize(depth_m, size, interpolation=cv2.INTER_NEAREST), np.float32)


def _apart(number: int, frames: Sequence[BopFrame], times: Sequence[float | None]) -> int | None:
    """Return the image of the same scene that was taken 100 ms before, or else after."""
    now = times[number]
    if now is None:
        return None
    for wanted in (now - LATE_S, now + LATE_S):
        for other, time_s in enumerate(times):
            if frames[other].scene_id == frames[number].scene_id and time_s is not None \
                    and abs(time_s - wanted) < LATE_SLOP_S:
                return other
    return None


def _plane(scene: BopScene, frame: BopFrame) -> Array:
    T = scene.T_camera_world(frame.image_id)
    if T is None:
        raise DatasetError(f'{scene.camera_path}: image {frame.image_id} does not say where the '
                           'world is (cam_R_w2c, cam_t_w2c); leave out --support-plane')
    return plane_of_frame(T)
