"""What the measuring tools share: a model, a dataset's targets, and images to compare with."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .dataset_arguments import (
    box_spec,
    boxes_used,
    open_dataset,
    runtime_options,
    say,
)
from .known_objects import fit_to_dataset, object_numbers, sizes_taken, tell_unknown_targets
from .tasks import measured_with

if TYPE_CHECKING:
    from ..datasets.bop import BopDataset
    from ..datasets.known_view import KnownView
    from ..evaluation.ladder import Judge
    from ..inference.estimator import PoseEstimator
    from ..objects import ObjectModel


@dataclass(frozen=True, eq=False)
class MeasuringSetting:
    """What is measured, and on what.

    :param objects: of the dataset, by the labels of the model.
    :param targets: of the dataset, as far as the model knows them.
    """

    estimator: PoseEstimator
    dataset: BopDataset
    objects: Mapping[str, ObjectModel]
    targets: list[KnownView]
    judge: Judge

    @property
    def labels(self) -> list[str]:
        """Return the labels of the targets, sorted."""
        return sorted({target.label for target in self.targets})


def open_setting(args: argparse.Namespace) -> MeasuringSetting:
    """Load the model and the dataset that the options name; one crop for each detection.

    Crops that are turned would show the corners of composed images, which are empty.

    :raises SpecError: when the model is not of the default preset.
    :raises DatasetError: when the dataset has no target that the model knows, or another object
        has the number of one.
    """
    from ..datasets.known_view import photographed
    from ..errors import DatasetError
    from ..evaluation.ladder import Judge
    from ..objects import load_bop_objects
    from ..presets.loading import load_pose_estimator

    boxes, dataset = box_spec(args), open_dataset(args)
    dataset.frames[0].target_ground_truth()  # nothing can be measured without it
    estimator = load_pose_estimator(
        args.model, args.meshes, **runtime_options(args), say=say, crops=1, hypotheses=1, refine=0,
        spreads=True)  # its calibrations do not count
    fit_to_dataset(estimator, dataset)
    labels = {item.object_id: label for label, item in estimator.objects.items()}
    targets = photographed(dataset.frames[:args.limit], labels, boxes)
    if not targets:
        raise DatasetError(f'{dataset.split_path}: has no visible target among the objects of '
                           f'the model: {sorted(estimator.objects)}')
    known = load_bop_objects(dataset.models_dir, set(dataset.object_ids) & set(labels))
    objects = {labels[i]: item for i, item in known.items()}
    return MeasuringSetting(
        estimator, dataset, objects, targets, Judge(objects, estimator.spec.crop))


def source(args: argparse.Namespace, setting: MeasuringSetting) -> dict[str, Any]:
    """Return what figures were measured with, for the head of a JSON file."""
    return {
        **measured_with(args, setting.estimator, setting.dataset),
        **sizes_taken(setting.dataset),
        **tell_unknown_targets(setting.dataset.frames[:args.limit],
                               object_numbers(setting.estimator), 'they do not count'),
        'crops': 1, 'hypotheses': 1, 'targets': len(setting.targets), 'seed': args.seed,
        'boxes': boxes_used(args)}
