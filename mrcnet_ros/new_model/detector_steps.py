"""The detector of a new model: its training, and its results on held-out images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..detector.entry import DETECTOR_WEIGHTS
from ..detector.object_detector import ObjectDetector
from ..evaluation.detector_boxes import LEAST_SCORE, DetectorBoxes
from ..evaluation.detector_scores import DetectorScores
from ..export.detector_export import export_detector
from ..objects import load_object_list
from ..reading.text import yaml_of
from ..rendering.background_files import find_images
from ..store.atomic import writing
from ..synth.held_out import held_out_frames
from ..training.config import TrainConfig
from ..training.detector_config import DetectorConfig
from ..training.detector_trainer import train_detector
from ..training.run_config import config_of, read_config
from ..training.view_bank import check_nearest
from ..training.warm_start import read_detector_start
from .intake import Part
from .request import OF_DETECTOR, Request
from .training_plan import check_disturbers

# Part of the detector's minutes for its training; export and measuring take the rest.
TRAINING = 0.8
# Images that the detector is measured on at most: more take time from the training.
MOST_IMAGES = 40
# the time ends a training, not its steps
STEPS = 1_000_000


def detector_config(request: Request, poses: TrainConfig) -> DetectorConfig:
    """Write the detector's training configuration into the work folder and return it.

    :param poses: of the training of poses, whose rendered views it shares.
    :raises SpecError: when a changed field cannot be used.
    """
    path, values = request.work / 'detector.yaml', _values(request, poses)
    with writing(path):
        path.write_text('# written by mrcnet new\n' + yaml_of(values), encoding='utf-8')
    return read_config(DetectorConfig, path, request.detector_changes)


def check_detector_changes(request: Request, poses: TrainConfig, parts: Sequence[Part]) -> None:
    """Check the changed fields of the training of the detector and its start.

    :param poses: of the training of poses.
    :raises SpecError: when one cannot be used.
    :raises ModelError: when the weights of the start's detector cannot.
    """
    config = config_of(DetectorConfig, _values(request, poses), request.detector_changes,
                       f'training configuration of the detector (see --set {OF_DETECTOR}NAME)')
    check_nearest(config.distance_m[0], {p.label: p.diameter_m for p in parts})
    check_disturbers(config, parts)
    if config.init is not None:
        read_detector_start(config.init, config.spec)


def _values(request: Request, poses: TrainConfig) -> dict[str, Any]:
    """Return the fields of the training configuration before they are changed."""
    prior = poses.view_prior
    return {
        'preset': 'detector', 'name': poses.name, 'output': str(request.work / 'detector'),
        'cache': str(poses.cache), 'models': str(poses.models),
        'backgrounds': [str(b) for b in poses.backgrounds],
        'distance_m': list(poses.distance_m),
        'view_prior': dataclasses.asdict(prior) if prior else None, 'views': poses.views,
        'bodies': poses.bodies, 'patches': poses.patches,
        # a GPU trains poses in one process, the detector is trained on the CPU all the same
        'processes': request.pose_changes.get('processes', DetectorConfig.processes),
        'init': str(request.start) if (request.start / DETECTOR_WEIGHTS).is_file() else None,
        'init_knows': poses.init_knows, 'seed': poses.seed, 'steps': STEPS, 'checkpoint': 50,
        'validation': STEPS, 'minutes': round(TRAINING * request.detector_minutes, 3),
        'shared_minutes': True}


def add_detector(request: Request, config: DetectorConfig, weights: dict[str, Any]) -> None:
    """Train a detector and put it into the model directory.

    :param weights: ImageNet weights of EfficientNet-Lite0.
    :raises MrcnetError: when it cannot be trained or written.
    """
    export_detector(train_detector(config, weights), config, request.made)


def measure_detector(request: Request, config: DetectorConfig, images: int) -> dict[str, Any]:
    """Measure the detector on images that no training drew.

    :param config: of its training, whose distances, views and backgrounds the images have.
    :return: figures of :class:`~mrcnet_ros.evaluation.detector_scores.DetectorScores`.
    """
    objects = list(load_object_list(request.output / 'objects.yaml').values())
    boxes = DetectorBoxes(ObjectDetector.load(request.made, least_score=LEAST_SCORE))
    scores = DetectorScores(boxes.detector.object_ids)
    try:
        for frame in held_out_frames(objects, min(images, MOST_IMAGES),
                                     prior=config.view_prior, distance_m=config.distance_m,
                                     backgrounds=find_images(config.backgrounds)):
            scores.add(frame, boxes.look(frame), boxes.seconds(frame))
    finally:
        boxes.detector.close()
    return scores.figures(dict(zip(boxes.detector.object_ids, boxes.detector.labels,
                                   strict=True)))

