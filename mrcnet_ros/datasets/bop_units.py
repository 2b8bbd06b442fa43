"""Finds annotations of a wrong unit or convention by the sizes of objects in the image.

An object whose box is ``b`` pixels large at the distance ``z`` is about ``b * z / focal`` large.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
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
# Of the median of several, which also separates centimetres from millimetres.
MEDIAN = (0.15, 4.0)
# Fewer ratios than this give no median to judge by.
ENOUGH = 4
# BOP renders bbox_obj from the pose, so that it is within the image of the model's bounding box:
# to 3 % of its side on LM-O and T-LESS. With transposed rotations 6 and 9 % of their objects reach
# further out than this; the others are about as wide as high.
BEYOND, BEYOND_PX, LEAST_PART, FEWEST = 0.1, 2.0, 0.03, 3
CORNERS = np.array([*itertools.product((0.0, 1.0), repeat=3)])  # of a unit cube


def check_places(frames: Iterable[BopFrame], extents_m: Mapping[int, Array], path: Path) -> None:
    """Refuse ground truth of other images, or with poses of another convention.

    :param extents_m: (2, 3) least and largest coordinates by object id, object frame, as far as
        known.
    :param path: of the split, for the message.
    :raises DatasetError: when most objects are not in their boxes, or some boxes are larger than
        their poses allow.
    """
    seen = [(frame, truth) for frame in frames for truth in frame.ground_truth
            if truth.visible_fraction >= MIN_VISIBLE_FRACTION and truth.object_id in extents_m
            and truth.box_amodal_xyxy is not None]
    outside = sum(not _in_its_box(truth, frame.camera, extents_m[truth.object_id].mean(axis=0))
                  for frame, truth in seen)
    if len(seen) >= ENOUGH and 2 * outside > len(seen):
        raise DatasetError(
            f'{path}: projected by pose and cam_K, {outside} of {len(seen)} objects are outside '
            'their boxes; cam_K must match the size of the images, and scene_gt.json and '
            'scene_gt_info.json must be of the same images')
    _check_visible_boxes([truth for _, truth in seen], path)
    poses = [(frame, truth, truth.T_camera_object[:3, :3]) for frame, truth in seen]
    beyond = _reaching_beyond(poses, extents_m)
    if len(beyond) >= max(FEWEST, LEAST_PART * len(seen)):
        inverse = _reaching_beyond([(f, t, R.T) for f, t, R in poses], extents_m)
        hint = ('; with the transpose of cam_R_m2c fewer do, so it may be the inverse: it must '
                'rotate the model into the camera frame, row by row'
                if 2 * len(inverse) < len(beyond) else
                '; cam_R_m2c, cam_t_m2c, obj_id and models_info.json must be of the same objects')
        frame, truth = beyond[0]
        raise DatasetError(
            f'{path}: the boxes of {len(beyond)} of {len(seen)} objects do not match their '
            f'poses, such as object {truth.object_id} in image {frame.image_id} of scene '
            f'{frame.scene_id}: bbox_obj reaches beyond the bounding box of the model{hint}')


def _check_visible_boxes(truths: Sequence[GroundTruth], path: Path) -> None:
    """Refuse visible boxes of another convention: what is visible is a part of the whole.

    :raises DatasetError: when most of them reach beyond the boxes of the whole objects.
    """
    beyond = [t for t in truths if t.box_visib_xyxy is not None and t.box_amodal_xyxy is not None
              and (np.abs(t.box_visib_xyxy - np.clip(
                  t.box_visib_xyxy, np.tile(t.box_amodal_xyxy[:2], 2),
                  np.tile(t.box_amodal_xyxy[2:], 2))) > BEYOND_PX).any()]
    if len(truths) >= ENOUGH and 2 * len(beyond) > len(truths):
        raise DatasetError(
            f'{path}: bbox_visib of {len(beyond)} of {len(truths)} objects reaches beyond '
            f'bbox_obj, such as that of object {beyond[0].object_id}; both must be x, y, width '
            'and height')


def _reaching_beyond(poses: Iterable[tuple[BopFrame, GroundTruth, Array]],
                     extents_m: Mapping[int, Array]) -> list[tuple[BopFrame, GroundTruth]]:
    """Return the objects whose box is not within the image of the model's bounding box.

    :param poses: images, objects and the rotations to take, (3, 3).
    """
    found = []
    for frame, truth, R in poses:
        assert truth.box_amodal_xyxy is not None
        places = (CORNERS * np.ptp(extents_m[truth.object_id], axis=0)
                  + extents_m[truth.object_id][0]) @ R.T + truth.T_camera_object[:3, 3]
        if places[:, 2].min() <= 0.0:
            continue
        uv = frame.camera.project(places)
        first, last = truth.box_amodal_xyxy.reshape(2, 2)
        beyond = np.maximum(uv.min(axis=0) - first, last - uv.max(axis=0))
        if (beyond > BEYOND * (last - first) + BEYOND_PX).any():
            found.append((frame, truth))
    return found


def _in_its_box(truth: GroundTruth, camera: Camera, middle_m: Array) -> bool:
    """Tell whether the middle of an object is in its box, or at most half a box away."""
    assert truth.box_amodal_xyxy is not None
    corners = truth.box_amodal_xyxy.reshape(2, 2)
    u, v, w = camera.K @ (truth.T_camera_object[:3, :3] @ middle_m + truth.T_camera_object[:3, 3])
    off = np.abs(np.array([u / w, v / w]) - corners.mean(axis=0))
    return bool((off <= corners[1] - corners[0]).all())


def check_units(frames: Iterable[BopFrame], diameters_m: Mapping[int, float], path: Path) -> None:
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
                advice = ('It is behind the camera: cam_t_m2c must have z forward, not back as in '
                          'OpenGL, and be that of the model in the frame of the camera'
                          if size_m < 0 else 'Lengths of scene_gt.json and models_info.json must '
                          'be in millimetres: correct the file that is wrong')
                raise DatasetError(
                    f'{path}: in image {frame.image_id} of scene {frame.scene_id} object '
                    f'{truth.object_id} is {truth.T_camera_object[2, 3]:.3g} m away, and its box '
                    f'makes it {abs(size_m):.3g} m large; expected {expected}. {advice}')
            if diameter_m:
                ratios.append(size_m / diameter_m)
    median = float(np.median(ratios)) if ratios else 1.0
    if len(ratios) >= ENOUGH and not MEDIAN[0] <= median <= MEDIAN[1]:
        raise DatasetError(
            f'{path}: judged by boxes and distances, objects are {median:.3g} times as large as '
            'in models_info.json. Lengths of both must be in millimetres, and cam_K must match '
            'the size of the images: correct the file that is wrong')


def seen_size_m(truth: GroundTruth, camera: Camera) -> float:
    """Return the size of an object by its box [m], negative behind the camera."""
    assert truth.box_amodal_xyxy is not None
    x1, y1, x2, y2 = truth.box_amodal_xyxy
    focal = float(np.sqrt(camera.K[0, 0] * camera.K[1, 1]))
    return float(np.hypot(x2 - x1, y2 - y1) * truth.T_camera_object[2, 3] / focal)
