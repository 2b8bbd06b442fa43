"""``mrcnet evaluate sequence``: how well instances are followed between detections."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import TYPE_CHECKING

from .argument_types import count, positive, share
from .dataset_arguments import (
    add_estimation_arguments,
    box_spec,
    boxes_used,
    open_dataset,
    open_pose_estimator,
)
from .known_objects import fit_to_dataset, object_numbers, sizes_taken, tell_unknown_targets
from .progress import progress_bar
from .tasks import add_json_argument, measured_with

if TYPE_CHECKING:
    from ..inference.estimator import PoseEstimator

# At 30 Hz this is a detector that answers twice a second.
EVERY = 15
MIN_SCORE = 0.2  # of the parameter track_min_score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_estimation_arguments(parser)
    parser.add_argument('--every', type=positive, default=EVERY, metavar='K',
                        help='detections come in every K-th image of a scene, and instances are '
                             'followed in the images between (default: %(default)s)')
    parser.add_argument('--late', type=count, default=0, metavar='N',
                        help='detections come N images later than the image that they are of, as '
                             'those of a slow detector (default: %(default)s)')
    parser.add_argument('--min-score', type=share, default=MIN_SCORE, metavar='S',
                        help='track_min_score: instances with a lower score, corrected for '
                             'distance, are not followed (default: %(default)s)')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Follow instances through all scenes, write JSON and print the table.

    After an error the figures of the images done are still written.

    :raises SpecError: when the model is not of the default preset.
    :raises DatasetError: when the images are not sequences with ground truth, or show no object
        that the model knows.
    """
    from ..evaluation import report, sequence
    from ..evaluation.sequence import steps_in_time
    from ..evaluation.sequence_figures import sequence_table
    from ..inference.followed import TrackLimits

    boxes, dataset = box_spec(args), open_dataset(args, empty=True)
    dataset.frames[0].target_ground_truth()  # nothing can be measured without it
    steps = steps_in_time(dataset.frames[:args.limit])
    done = 0
    with closing(load_estimator(args)) as estimator:
        fit_to_dataset(estimator, dataset)
        scores = sequence.SequenceScores(
            estimator, boxes, args.every, TrackLimits(min_presence=args.min_score), args.late)
        try:
            for step in progress_bar(steps, unit='image'):
                scores.add(step)
                done += 1
        finally:
            if done:
                figures = scores.figures()
                report.write_json(args.json, {
                    **measured_with(args, estimator, dataset), **sizes_taken(dataset),
                    **tell_unknown_targets((step.frame for step in steps[:done]),
                                           object_numbers(estimator), 'they do not count'),
                    'complete': done == len(steps),
                    'followed_by': estimator.follows_by, 'min_score': args.min_score,
                    'boxes': boxes_used(args), **figures})
                print(sequence_table(figures))
    return 0


def load_estimator(args: argparse.Namespace) -> PoseEstimator:
    """Load the model that the options name."""
    return open_pose_estimator(args, follows=True)
