"""The images of a BOP dataset as steps in time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..datasets.bop import BopFrame
from ..datasets.bop_scene import BopScene
from ..errors import DatasetError
from ..geometry.se3 import Array, inverse

# Of a sequence; milliseconds at 30 Hz are 33 apart.
LONGEST_GAP_S = 10.0


@dataclass(frozen=True, eq=False)
class Step:
    """One image of a sequence.

    :param time_s: when it was taken.
    :param T_fixed_camera: (4, 4) [m]; the identity where the dataset does not tell.
    """

    frame: BopFrame
    time_s: float
    T_fixed_camera: Array


def steps_in_time(frames: Iterable[BopFrame]) -> list[Step]:
    """Return the images of a dataset as steps in time, scene after scene.

    :param frames: in the order of scenes and images.
    :raises DatasetError: when an image has no timestamp or one that is not after the last, or the
        images of a scene do not list the same instances.
    """
    found: list[Step] = []
    scene: BopScene | None = None
    for frame in frames:
        before = found[-1] if found and found[-1].frame.scene_id == frame.scene_id else None
        if scene is None or before is None:
            scene = BopScene(frame.image_path.parents[1], None)
        time_s, T = scene.timestamp_s(frame.image_id), scene.T_camera_world(frame.image_id)
        if time_s is None:
            raise DatasetError(f'{scene.camera_path}: image {frame.image_id} has no timestamp; '
                               'give a sequence, such as one made by mrcnet synth --sequence')
        if before is not None:
            _check_order(scene, before, frame, time_s)
        found.append(Step(frame, time_s, np.eye(4) if T is None else inverse(T)))
    return found


def _check_order(scene: BopScene, before: Step, frame: BopFrame, time_s: float) -> None:
    if time_s <= before.time_s:
        raise DatasetError(f'{scene.camera_path}: image {frame.image_id} has timestamp '
                           f'{time_s:g}, which is not after {before.time_s:g} of image '
                           f'{before.frame.image_id}; number the images in the order of time')
    if time_s - before.time_s > LONGEST_GAP_S:
        raise DatasetError(f'{scene.camera_path}: image {frame.image_id} is '
                           f'{time_s - before.time_s:g} s after image {before.frame.image_id}; '
                           'timestamps are in seconds, and those of a sequence at most '
                           f'{LONGEST_GAP_S:g} s apart')
    first, second = ([g.object_id for g in f.ground_truth] for f in (before.frame, frame))
    if first != second:
        raise DatasetError(f'{scene.gt_path}: image {frame.image_id} lists the objects {second}, '
                           f'image {before.frame.image_id} {first}; each image of a sequence must '
                           'list the same instances in the same order, also hidden ones')
