"""The objects that a model and a dataset have in common: numbers, labels and sizes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..datasets.bop import BopDataset, BopFrame
    from ..datasets.boxes import BoxSource
    from ..datasets.same_objects import KnownObject
    from ..inference.poses import Estimator
    from ..objects import ObjectModel


def fit_to_dataset(estimator: Estimator, dataset: BopDataset,
                   boxes: BoxSource | None = None) -> None:
    """Make sure that a model knows the objects of a dataset, and let them be as large as there.

    Rendered images show the meshes; a size that the model has from photographs is wrong there.
    Symmetries that the dataset does not state are told: poses are scored with those of the
    dataset.

    :param boxes: that the estimator is given.
    :raises DatasetError: when the model knows none of the targets, or another object has the
        number of one, in the model or in the detector of the boxes, or the same object has
        another frame in the model.
    """
    from ..datasets.same_objects import known_object
    from ..evaluation.detector_boxes import DetectorBoxes

    dataset.require_objects([known_object(item) for item in estimator.objects.values()])
    if isinstance(boxes, DetectorBoxes):
        dataset.require_objects(boxes.known_objects, 'the detector')
    check_detector(estimator, boxes)
    symmetric = {item.object_id: label for label, item in estimator.objects.items()
                 if len(item.symmetries.transforms) > 1}
    unstated = set(symmetric) & set(dataset.object_ids) - set(dataset.symmetric_ids)
    if unstated:
        logging.getLogger(__name__).warning(
            '%s: the model has symmetries of %s, and the models_info.json of the dataset has '
            'none, so right poses may count as wrong; add symmetries_discrete or '
            'symmetries_continuous there, or render the dataset with mrcnet synth --models',
            dataset.path, ', '.join(symmetric[i] for i in sorted(unstated)))
    if dataset.rendered:
        estimator.assume_sizes_of_meshes()


def check_detector(estimator: Estimator, boxes: BoxSource | None) -> None:
    """Make sure that numbers and labels mean the same objects to a detector and a model.

    :param boxes: that the estimator is given; of other sources than a detector nothing is checked.
    :raises DatasetError: when they do not.
    """
    from ..datasets.same_objects import known_object, require_same_numbers, require_same_objects
    from ..evaluation.detector_boxes import DetectorBoxes

    if isinstance(boxes, DetectorBoxes):
        known = [known_object(item) for item in estimator.objects.values()]
        require_same_numbers(known, {i.label: i.object_id for i in boxes.known_objects},
                             boxes.detector.path)
        require_same_objects(boxes.known_objects, {i.object_id: i for i in known},
                             [i.object_id for i in known], 'the model', 'the detector')


def sizes_taken(dataset: BopDataset) -> dict[str, str]:
    """Return which sizes :func:`fit_to_dataset` took, for a file of figures."""
    return {'sizes': 'of the meshes' if dataset.rendered else 'of the model'}


def tell_unknown_targets(frames: Iterable[BopFrame], known: Iterable[int], effect: str
                         ) -> dict[str, int]:
    """Print how many targets are of objects that a model lacks, if any.

    :param known: numbers of the objects of the model.
    :param effect: what that means for the scores.
    :return: the number, for a file of figures.
    """
    numbers = set(known)
    count = sum(n for frame in frames for i, n in frame.targets.items() if i not in numbers)
    if count:
        print(f'{count} targets are of objects that the model lacks: {effect}')
    return {'targets_not_in_model': count}


def object_labels(objects: Mapping[int, ObjectModel], estimator: Estimator) -> dict[int, str]:
    """Return labels by object id: the model's, or the dataset's for objects that it lacks."""
    return {i: item.label for i, item in objects.items()} | {
        item.object_id: label for label, item in estimator.objects.items()}


def object_numbers(estimator: Estimator) -> list[int]:
    """Return the numbers of the objects of a model."""
    return [item.object_id for item in estimator.objects.values()]


def resized_labels(model: Path) -> list[str]:
    """Return the objects of a model directory that are not as large as their meshes.

    :raises ModelError: when ``model.json`` cannot be read.
    """
    from ..inference.calibration_entries import SIZES
    from ..model_json import read_pose_json

    return sorted(str(entry['label']) for entry in read_pose_json(model)[1]['objects']
                  if entry.get(SIZES, 1.0) != 1.0)


def model_objects(model: Path) -> list[KnownObject]:
    """Return the objects of a model directory as its ``model.json`` has them, without meshes.

    :raises ModelError: when that cannot be read.
    """
    import numpy as np

    from ..datasets.same_objects import KnownObject
    from ..errors import ModelError
    from ..model_json import read_pose_json
    from ..reading.fields import label, number, whole

    values = read_pose_json(model)[1]
    try:
        known = [KnownObject(
            whole(entry['object_id'], 'object_id'), label(entry['label']),
            number(entry['diameter_m'], 'diameter_m') if 'diameter_m' in entry else None,
            np.array(entry['bounds_m'], np.float64).reshape(2, 3)
            if 'bounds_m' in entry else None)
            for entry in values['objects']]
        if len({item.object_id for item in known}) < len(known):
            raise ValueError('two of its objects have the same object_id')
        return known
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(model, f'model.json cannot be read ({error!r})') from error
