"""``mrcnet bag``: make rosbags from BOP datasets."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from ..datasets.catalogue import facts_of
from .argument_types import positive_float
from .dataset_arguments import add_box_arguments, add_dataset_arguments, box_spec, open_split
from .known_objects import model_objects
from .progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_subparsers(dest='task', required=True, metavar='TASK')
    text = 'photographs, depth images if any, camera_info, detections and ground truth of a ' \
           'BOP dataset'
    task = tasks.add_parser('from-bop', help=text, description=f'Write a rosbag of {text}.')
    add_dataset_arguments(task)
    add_box_arguments(task)
    task.add_argument('--output', type=Path, required=True, metavar='BAG', help='bag to write')
    task.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap',
                      help='file format (default: mcap)')
    task.add_argument('--rate', type=positive_float, default=10.0, metavar='HZ',
                      help='images a second by their stamps (default: 10)')
    task.add_argument('--model', type=Path, metavar='DIR',
                      help='take the labels from this model (default: known names of lm and lmo, '
                           'obj_000001 and so on for other datasets)')


def run(args: argparse.Namespace) -> int:
    """Write the bag."""
    from ..testbench.bag_writer import BagWriter
    from ..testbench.bop_bag import bag_detections, bag_truths

    boxes, dataset = box_spec(args), open_split(args)
    if args.model is not None:
        dataset.require_objects(model_objects(args.model))
    labels = bag_labels(dataset.name, dataset.object_ids, args.model)
    with BagWriter(args.output, args.storage, rendered=dataset.rendered) as writer:
        frames = progress_bar(dataset.frames[:args.limit], unit='image')
        for number, frame in enumerate(frames, start=1):
            stamp, depth_m = round(number / args.rate * 1e9), frame.load_depth_m()
            if depth_m is not None:
                writer.write_depth(stamp, depth_m)
            writer.write(stamp, frame.load_image(), frame.camera,
                         bag_detections(frame, boxes, labels), bag_truths(frame, labels))
    print(f'{args.output}: {len(dataset.frames[:args.limit])} images')
    return 0


def bag_labels(dataset: str, object_ids: Iterable[int], model: Path | None) -> dict[int, str]:
    """Return the label of each object id: the model's, or the usual names of the dataset.

    :raises ModelError: when the model cannot be read.
    """
    if model is not None:
        return model_labels(model)
    names = facts_of(dataset).names
    return {i: names[i - 1] if i <= len(names) else f'obj_{i:06d}' for i in object_ids}


def model_labels(model: Path) -> dict[int, str]:
    """Return the labels of a model by object id.

    :raises ModelError: when the model cannot be read.
    """
    return {item.object_id: item.label for item in model_objects(model)}
