"""Answers on held-out images: the calibration, errors by viewing angle, and pictures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..datasets.bop import ResultRow
from ..datasets.boxes import BoxKind, BoxSpec
from ..errors import DatasetError
from ..evaluation.compared_object import ComparedObject
from ..evaluation.covariance_calibration import Images, law_of
from ..evaluation.covariance_errors import errors_of, truths_of
from ..evaluation.runner import Run, run_frames
from ..evaluation.score_errors import judged_poses
from ..evaluation.score_fit import score_law_of
from ..geometry.camera import Camera
from ..geometry.crop import crop_camera
from ..geometry.sampling import sample_crop
from ..geometry.se3 import Array, log_so3
from ..inference.calibration_entries import write_law
from ..inference.estimator import PoseEstimator
from ..objects import ObjectModel
from ..rendering.background_files import find_images
from ..rendering.drawing import Image
from ..rendering.pose_overlay import DrawnObject, PoseOverlay
from ..specs import DEFAULT_CROPS, DEFAULT_HYPOTHESES, CropSpec
from ..synth.held_out import held_out_frames
from ..training.config import TrainConfig
from .symmetry_picture import png

BOXES: BoxKind = 'detector'
# Side of a picture around an object, and the part of it that the object fills.
PICTURE_PX, FILLED = 280, 0.6
# Edges of the rows of the page by viewing angle: narrower ones hold too few poses.
ELEVATIONS_DEG = (-90, -60, -30, 0, 30, 60, 90)


@dataclass(frozen=True)
class MeasuredPose:
    """One object on one held-out image, plain numbers.

    :param elevation_deg: of the camera above the object's xy plane.
    :param mssd_part: largest distance between surface points of both poses, in diameters.
    :param distance_m: of the middle of the object from the camera; 0 in older work folders.
    """

    label: str
    scene: int
    image: int
    elevation_deg: float
    rotation_deg: float
    position_mm: float
    across_mm: float
    depth_percent: float
    mssd_part: float
    score: float
    distance_m: float = 0.0


def measure_model(model: Path, meshes: Path, images: int, config: TrainConfig,
                  ) -> tuple[list[MeasuredPose], dict[str, bytes], str]:
    """Estimate poses on held-out images, write the calibration, and draw examples.

    :param model: directory, whose ``model.json`` is changed.
    :param meshes: folder of its meshes.
    :param config: of the training, whose distances, views and backgrounds the images have.
    :return: the answers; PNG files by ``label/name``; why it is not calibrated, '' if it is.
    :raises MrcnetError: when the model cannot be used.
    """
    estimator = PoseEstimator.load(model, meshes, spreads=True)
    try:
        estimator.assume_sizes_of_meshes()  # those of the start were measured on photographs
        done = Run()
        frames = held_out_frames(list(estimator.objects.values()), images, prior=config.view_prior,
                                 distance_m=config.distance_m,
                                 backgrounds=find_images(config.backgrounds))
        run_frames(tqdm(frames, total=images, unit='image', disable=None, leave=False),
                   estimator, BoxSpec(BOXES), None, done)
        answers = measured_answers(done, estimator.objects)
        pictures = draw_examples(done, answers, estimator.objects)
        return answers, pictures, _write_laws(model, done, estimator.objects)
    finally:
        estimator.close()


def _write_laws(model: Path, done: Run, objects: Mapping[str, ObjectModel]) -> str:
    """Calibrate covariances and scores; return why one could not be, '' if both are."""
    sizes, images = dict.fromkeys(objects, 1.0), Images(
        'synthetic', BOXES, DEFAULT_CROPS, DEFAULT_HYPOTHESES, refine=0)
    problems = []
    try:
        write_law(model, *law_of(errors_of(done, objects, sizes), images))
    except DatasetError as error:
        problems.append(str(error))
    try:
        write_law(model, *score_law_of(judged_poses(done, objects, sizes), images))
    except DatasetError as error:
        problems.append(str(error))
    return '; '.join(problems)


def measured_answers(done: Run, objects: Mapping[str, ObjectModel]) -> list[MeasuredPose]:
    """Return the error of each answer, measured at the middle of the object."""
    items = {label: ComparedObject(model.centred()) for label, model in objects.items()}
    found = []
    for row, pose, truth in zip(done.rows, done.poses, truths_of(done.frames, done.rows),
                                strict=True):
        if truth is not None:
            item = items[pose.label]
            T_est, T_true = (item.model.to_centred(T) for T in (row.T_camera_object,
                                                                truth.T_camera_object))
            found.append(_answer(row, item, T_est, T_true))
    return found


def _answer(row: ResultRow, item: ComparedObject, T_est: Array, T_true: Array) -> MeasuredPose:
    T_near, difference, mssd_m = item.nearest(T_est, T_true)
    turned = item.symmetries.seen_rotations() @ _turn(T_est, T_near)
    distance_m = float(np.linalg.norm(T_near[:3, 3]))
    ray = T_near[:3, 3] / distance_m
    shift = T_est[:3, 3] - T_near[:3, 3]
    along = float(ray @ shift)
    # of the truth as rendered: an equivalent may be upside down
    seen_along_ray = T_true[:3, :3].T @ -ray
    return MeasuredPose(
        item.model.label, row.scene_id, row.image_id,
        float(np.degrees(np.arcsin(np.clip(seen_along_ray[2], -1, 1)))),
        float(np.degrees(np.linalg.norm(turned))), 1000 * difference.translation_m,
        1000 * float(np.linalg.norm(shift - along * ray)),
        100 * abs(along) / distance_m,
        mssd_m / item.model.diameter_m, float(row.score), distance_m)


def _turn(T_est: Array, T_true: Array) -> Array:
    """Return the rotation vector between two poses about the object's axes [rad]."""
    return log_so3(T_est[:3, :3].T @ T_true[:3, :3])


def draw_examples(done: Run, answers: Sequence[MeasuredPose], objects: Mapping[str, ObjectModel],
                  ) -> dict[str, bytes]:
    """Draw the best, the median and the worst answer of each object, outlines on the images."""
    frames = {(f.scene_id, f.image_id): f for f in done.frames}
    poses = {(row.scene_id, row.image_id, pose.label): pose
             for row, pose in zip(done.rows, done.poses, strict=True)}
    pictures: dict[str, bytes] = {}
    overlay = PoseOverlay(objects)
    try:
        for label in objects:
            own = sorted((a for a in answers if a.label == label), key=lambda a: a.mssd_part)
            for name, a in _chosen(own).items():
                frame, pose = frames[a.scene, a.image], poses[a.scene, a.image, label]
                drawn = overlay.draw(frame.load_image(), frame.camera,
                                     [DrawnObject(label, pose.T_camera_object, '')])
                pictures[f'{label}/{name}'] = png(_around(drawn, frame.camera, pose.box_xyxy))
    finally:
        overlay.close()
    return pictures


def _chosen(own: Sequence[MeasuredPose]) -> dict[str, MeasuredPose]:
    if not own:
        return {}
    return {'best': own[0], 'median': own[len(own) // 2], 'worst': own[-1]}


def _around(picture: Image, camera: Camera, box_xyxy: Array) -> Image:
    """Return a square of a picture around a box, of one size."""
    view = crop_camera(camera, box_xyxy, CropSpec(size_px=PICTURE_PX, padding=1 / FILLED))
    return np.asarray(sample_crop(picture, camera, view))


def by_elevation(answers: Sequence[MeasuredPose]) -> list[dict[str, Any]]:
    """Return median errors in bands of elevation, without bands that have no answers."""
    bands = []
    for low, high in itertools.pairwise(ELEVATIONS_DEG):
        here = [a for a in answers if low <= a.elevation_deg < high or
                (high == 90 and a.elevation_deg == 90)]
        if here:
            bands.append({'low': low, 'high': high, 'count': len(here), **medians(here)})
    return bands


def medians(answers: Sequence[MeasuredPose]) -> dict[str, float]:
    """Return the median of each error, and how many are near enough for most grippers."""
    def median(name: str) -> float:
        return float(np.median([getattr(a, name) for a in answers]))

    return {**{name: median(name) for name in ('rotation_deg', 'across_mm', 'depth_percent',
                                               'mssd_part')},
            'good': float(np.mean([a.mssd_part < 0.1 for a in answers]))}
