"""Turns the outputs of stage 2 into poses of detections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry.bins import decode_translation
from ..geometry.crop import CropCamera
from ..geometry.se3 import Array, make_transform, rotation_from_6d, rotation_to_axis
from ..objects import ObjectModel
from .consensus import Answers, consensus
from .detection_crops import DetectionCrop
from .scoring import Evidence

# The first two columns of the identity: no rotation.
IDENTITY_6D = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
Outputs = dict[str, NDArray[Any]]


class AgreedPose(NamedTuple):
    """What the crops of one detection say together.

    :param crop: the first of them.
    :param crop_row: the crop that is turned least of those whose answers agree.
    :param bin_index: rotation bin that its answer started from.
    :param T_camera_object: (4, 4) [m], of the centred frame.
    :param evidence: None where no crop has a finite pose.
    """

    crop: DetectionCrop
    crop_row: int
    bin_index: int
    T_camera_object: Array
    evidence: Evidence | None


def agreed_poses(answers: Answers, bins: NDArray[np.int64], crops: Sequence[DetectionCrop],
                 objects: Sequence[ObjectModel]) -> Iterator[AgreedPose]:
    """Turn the answers to crops into one pose of each detection.

    :param bins: (N,) rotation bin that each answer started from.
    :param crops: those of one detection stand together.
    :param objects: by class index, centred.
    """
    detections = np.array([crops[row].detection_index for row in answers.crop])
    finite = (np.isfinite(answers.T_camera_object).all(axis=(1, 2))
              & np.isfinite(answers.quality) & np.isfinite(answers.belief))
    for rows in np.split(np.arange(len(detections)), np.flatnonzero(np.diff(detections)) + 1):
        crop, good = crops[answers.crop[rows[0]]], rows[finite[rows]]
        if not len(good):
            yield AgreedPose(crop, int(answers.crop[rows[0]]), int(bins[rows[0]]),
                             answers.T_camera_object[rows[0]], None)
            continue
        item = objects[crop.class_index]
        found = consensus(answers.part(good), item.symmetries, item.diameter_m)
        T_agreed = found.T_camera_object
        if crop.start is not None:
            T_agreed = item.symmetries.nearest(T_agreed[:3, :3], T_agreed[:3, 3],
                                               crop.start.T_camera_object[:3, :3])
        known = 1.0 if crop.start is None else crop.start.share
        part = known * float(answers.belief[good].sum() / np.nansum(answers.belief[rows]))
        distance = float(np.linalg.norm(T_agreed[:3, 3])) / item.diameter_m
        first = good[found.members[0]]
        yield AgreedPose(crop, int(answers.crop[first]), int(bins[first]), T_agreed,
                         Evidence(found.score * part, found.apart, found.share * part, distance))


def decode_poses(six: ArrayLike, xy: ArrayLike, log_size: ArrayLike, R_bin: Array,
                 crops: Sequence[CropCamera], diameter_m: Array) -> Array:
    """Turn the network's numbers into poses in the full camera's frame.

    :param six: (N, 6) residual rotations.
    :param xy: (N, 2) offsets of the objects' origins from the crops' centres in crop widths.
    :param log_size: (N,) log relative sizes.
    :param R_bin: (N, 3, 3) rotation bins, seen along the rays to the objects' origins.
    :param crops: (N,) cameras of the crops.
    :param diameter_m: (N,) of the objects.
    :return: (N, 4, 4) T_camera_object [m].
    """
    t_crop = decode_translation(xy, log_size, [crop.focal for crop in crops], diameter_m)
    R_ray_object = rotation_from_6d(six) @ R_bin
    R_crop_object = np.swapaxes(rotation_to_axis(t_crop), 1, 2) @ R_ray_object
    R_camera_crop = np.stack([crop.R_crop_camera.T for crop in crops])
    t_camera = (R_camera_crop @ t_crop[..., None])[..., 0]
    return make_transform(R_camera_crop @ R_crop_object, t_camera)


def coarse_answer(coarse: Outputs) -> Outputs:
    """Shape the coarse pose like an answer of stage 2 that changes nothing."""
    count = len(coarse['xy'])
    peak = coarse['rotation_logits'].max(axis=1)
    return {'six': np.tile(IDENTITY_6D, (count, 1)), 'fine_xy': coarse['xy'],
            'fine_log_size': coarse['log_size'], 'quality': peak}
