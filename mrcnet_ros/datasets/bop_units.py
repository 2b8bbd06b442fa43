"""Tells annotations of a wrong unit by what they say of sizes in the image.

An object whose box is ``b`` pixels large at the distance ``z`` is about ``b * z / focal`` large.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..errors import DatasetError
from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..objects.object_model import DIAMETERS_M
from .bop_frame import BopFrame, GroundTruth
from .bop_targets import MIN_VISIBLE_FRACTION

# Of a size by the box over the diameter. A rod that is seen from its end has a small box, one
# that nearly touches the camera a large one, but a factor of 1000 is beyond both.
ONE = (0.01, 10.0)
# Of the median of several, which tells centimetres from millimetres as well.
MEDIAN = (0.15, 4.0)
ENOUGH = 4


def check_places(frames: Iterable[BopFrame], middles_m: Mapping[int, Array], path: Path) -> None:
    """Refuse ground truth that is not of the images, as with cam_K of another resolution.

    :param middles_m: (3,) of the bounding box by object id, object frame, as far as known.
    :param path: of the split, for the message.
    :raises DatasetError: when most objects are not in their boxes.
    """
    seen = [(frame, truth) for frame in frames for truth in frame.ground_truth
            if truth.visible_fraction >= MIN_VISIBLE_FRACTION and truth.object_id in middles_m
            and truth.box_amodal_xyxy is not None]
    outside = sum(not _in_its_box(truth, frame.camera, middles_m[truth.object_id])
                  for frame, truth in seen)
    if len(seen) >= ENOUGH and 2 * outside > len(seen):
        raise DatasetError(
            f'{path}: by pose and cam_K, {outside} of {len(seen)} objects are not in their boxes; '
            'cam_K must be that of the images as they are, and scene_gt.json and '
            'scene_gt_info.json of the same images')


def _in_its_box(truth: GroundTruth, camera: Camera, middle_m: Array) -> bool:
    """Tell whether the middle of an object is in its box, or not further out than half of it."""
    assert truth.box_amodal_xyxy is not None
    corners = truth.box_amodal_xyxy.reshape(2, 2)
    u, v, w = camera.K @ (truth.T_camera_object[:3, :3] @ middle_m + truth.T_camera_object[:3, 3])
    off = np.abs(np.array([u / w, v / w]) - corners.mean(axis=0))
    return bool((off <= corners[1] - corners[0]).all())


def check_units(frames: Iterable[BopFrame], diameters_m: Mapping[int, float],
                path: Path) -> None:
    """Refuse ground truth whose lengths cannot be millimetres.

    :param diameters_m: by object id, as far as they are known.
    :param path: of the split, for the message.
    :raises DatasetError: naming an image and an object.
    """
    ratios = []
    for frame in frames:
        for truth in frame.ground_truth:
            if truth.visible_fraction < MIN_VISIBLE_FRACTION or truth.box_amodal_xyxy is None:
                continue
            size_m = seen_size_m(truth, frame.camera)
            diameter_m = diameters_m.get(truth.object_id)
            low, high = ONE if diameter_m else (1.0, 1.0)
            least, most = ((diameter_m,) * 2) if diameter_m else DIAMETERS_M
            if not low * least <= size_m <= high * most:
                expected = f'{diameter_m:.3g} m' if diameter_m else 'about {:g} to {:g} m'.format(
                    *DIAMETERS_M)
                raise DatasetError(
                    f'{path}: in image {frame.image_id} of scene {frame.scene_id} object '
                    f'{truth.object_id} is {truth.T_camera_object[2, 3]:.3g} m away, and by its '
                    f'box {size_m:.3g} m large; expected {expected}. Lengths of scene_gt.json '
                    'and models_info.json are in millimetres: correct the file that has others')
            if diameter_m:
                ratios.append(size_m / diameter_m)
    median = float(np.median(ratios)) if ratios else 1.0
    if len(ratios) >= ENOUGH and not MEDIAN[0] <= median <= MEDIAN[1]:
        raise DatasetError(
            f'{path}: by their boxes and distances objects are {median:.3g} times as large as '
            'models_info.json says. Lengths of both are in millimetres, and cam_K is that of the '
            'images as they are: correct the file that is wrong')


def seen_size_m(truth: GroundTruth, camera: Camera) -> float:
    """Return how large an object is by its box, negative behind the camera [m]."""
    assert truth.box_amodal_xyxy is not None
    x1, y1, x2, y2 = truth.box_amodal_xyxy
    focal = float(np.sqrt(camera.K[0, 0] * camera.K[1, 1]))
    return float(np.hypot(x2 - x1, y2 - y1) * truth.T_camera_object[2, 3] / focal)
