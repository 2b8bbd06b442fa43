"""``mrcnet evaluate depth``: the gain from depth, and the effect of wrong depth."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import TYPE_CHECKING

from .dataset_arguments import (
    add_detection_arguments,
    add_estimation_arguments,
    box_source,
    boxes_used,
    open_dataset,
    open_estimator,
)
from .known_objects import (
    fit_to_dataset,
    object_labels,
    object_numbers,
    sizes_taken,
    tell_unknown_targets,
)
from .progress import progress_bar
from .tasks import add_json_argument, measured_with

if TYPE_CHECKING:
    from ..evaluation.depth_recall import CorrectingEstimator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_estimation_arguments(parser, plane=False)
    add_detection_arguments(parser)
    parser.add_argument('--support-plane', action='store_true',
                        help='also correct by the plane z = 0 of the world, which objects stand '
                             'on in datasets of mrcnet synth')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Answer every image with each kind of depth, write JSON and print the table.

    After an error the figures of the images done are still written.

    :raises DatasetError: when an image has no depth image.
    """
    from ..evaluation import depth_recall, report
    from ..evaluation.known_scenes import KnownScenes
    from ..objects import load_bop_objects

    dataset = open_dataset(args)
    boxes = box_source(args, dataset)
    frames = dataset.frames[:args.limit]
    frames[0].target_ground_truth()  # nothing can be measured without it
    scenes = KnownScenes(frames, plane=args.support_plane)
    objects, done = load_bop_objects(dataset.models_dir, dataset.object_ids), 0
    with closing(load_estimator(args)) as estimator:
        fit_to_dataset(estimator, dataset, boxes)
        labels = object_labels(objects, estimator)
        scores = depth_recall.DepthRecall(estimator, boxes, frames, scenes)
        try:
            for number in progress_bar(range(len(frames)), unit='image'):
                scores.add(number)
                done += 1
        finally:
            if done:
                figures = scores.figures(objects, labels, dataset.name)
                report.write_json(args.json, {
                    **measured_with(args, estimator, dataset), **sizes_taken(dataset),
                    **tell_unknown_targets(frames[:done], object_numbers(estimator),
                                           'they count as missed'),
                    'boxes': boxes_used(args), 'complete': done == len(frames),
                    'skipped': dict(scores.runs['colour alone'].skipped), **figures})
                print(depth_recall.depth_table(figures))
    return 0


def load_estimator(args: argparse.Namespace) -> CorrectingEstimator:
    """Load the model that the options name."""
    return open_estimator(args)
