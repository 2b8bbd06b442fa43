"""``mrcnet evaluate detector``: how well a detector finds the objects of a BOP dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from .dataset_arguments import (
    add_backend_argument,
    add_dataset_arguments,
    add_threads_argument,
    open_split,
)
from .known_objects import tell_unknown_targets
from .progress import progress_bar
from .tasks import add_json_argument, measured_with


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_arguments(parser)
    parser.add_argument('--model', type=Path, required=True, metavar='DIR',
                        help='model directory with a detector')
    add_backend_argument(parser)
    add_threads_argument(parser)
    add_json_argument(parser, required=False)


def run(args: argparse.Namespace) -> int:
    """Look at every image, write JSON and print the table."""
    from ..detector.entry import read_detector
    from ..detector.object_detector import ObjectDetector
    from ..errors import DatasetError
    from ..evaluation import detector_scores, report
    from ..evaluation.detector_boxes import LEAST_SCORE, DetectorBoxes, seconds_for

    dataset = open_split(args, empty=True)
    if not dataset.annotated:
        raise DatasetError(f'{dataset.split_path} has no ground truth, so there are no scores')
    detector = ObjectDetector.load(args.model, least_score=LEAST_SCORE, backend=args.backend,
                                   threads=args.threads)
    as_in_node = ObjectDetector(read_detector(args.model), detector.backend)
    boxes = DetectorBoxes(detector)
    dataset.require_objects(boxes.known_objects, 'the detector')
    scores = detector_scores.DetectorScores(detector.object_ids)
    for frame in progress_bar(dataset.frames[:args.limit], unit='image'):
        found = boxes.look(frame)
        scores.add(frame, found, seconds_for(as_in_node, frame))
    figures = scores.figures(dict(zip(detector.object_ids, detector.labels, strict=True)))
    figures |= tell_unknown_targets(dataset.frames[:args.limit], detector.object_ids,
                                    'they do not count')
    if args.json is not None:
        report.write_json(args.json, {**measured_with(args, detector, dataset), **figures})
    print(detector_scores.detector_table(figures))
    if absent := figures['boxes_of_absent']:
        print(f'{absent} boxes are of objects that are no targets in these images; AP50 does not '
              'count them')
    if figures['ms_median'] is not None:
        print(f'{figures["ms_median"]:.1f} ms an image (median), with the boxes that score '
              f'{as_in_node.least_score:g} or more, as in the node')
    return 0
