"""``mrcnet evaluate csv``: score a file of poses of any program."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DatasetError
from .dataset_arguments import add_dataset_arguments, open_split, say
from .tasks import add_json_argument

if TYPE_CHECKING:
    from ..datasets.bop import BopFrame, ResultRow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_arguments(parser)
    parser.add_argument('--results', type=Path, required=True, metavar='CSV',
                        help="poses in the format of BOP'19")
    add_json_argument(parser, required=False)


def run(args: argparse.Namespace) -> int:
    """Score the file and print the table.

    :raises DatasetError: when the dataset or the file cannot be used.
    """
    from ..datasets.bop import read_results_csv
    from ..evaluation import report
    from ..evaluation.conventions import other_convention
    from ..evaluation.scores import score
    from ..evaluation.vsd_scores import score_vsd
    from ..objects import load_bop_objects

    dataset = open_split(args)
    frames = dataset.frames[:args.limit]
    objects = load_bop_objects(dataset.models_dir, dataset.object_ids)
    rows = read_results_csv(args.results)
    _check_rows(args.results, rows, frames, dataset.object_ids)
    if found := other_convention(frames, rows, objects):
        raise DatasetError(
            f'{args.results}: {found}. R must turn the model into the camera, row by row, with x '
            'to the right, y down and z forward, and t must be in millimetres: write them so')
    labels = {i: dataset.name_of(i) for i in objects}
    figures = report.recall_figures(score(frames, rows, objects),
                                    score_vsd(frames, rows, objects, dataset.name), labels)
    if args.json is not None:
        report.write_json(args.json, {
            'command': args.command_line, 'dataset': dataset.name, 'split': dataset.split,
            'images': len(frames), 'images_without_file': dataset.images_without_file,
            'results': str(args.results), **figures})
    print(report.recall_table(figures))
    return 0


def _check_rows(path: Path, rows: Sequence[ResultRow], frames: Sequence[BopFrame],
                object_ids: Collection[int]) -> None:
    """Make sure that results are of a dataset.

    :param frames: that are scored.
    :raises DatasetError: when none is of one of these images and objects.
    """
    images = {(frame.scene_id, frame.image_id) for frame in frames}
    found = sum((row.scene_id, row.image_id) in images and row.object_id in object_ids
                for row in rows)
    if not found:
        raise DatasetError(
            f'{path}: none of its {len(rows)} poses is of one of the {len(images)} images and of '
            f'the objects {list(object_ids)}, such as those of image {frames[0].image_id} of '
            f'scene {frames[0].scene_id}; give the results of this dataset and split')
    if found < len(rows):
        say(f'{len(rows) - found} of {len(rows)} poses are of other images or objects and do not '
            'count')
    different = {(row.scene_id, row.image_id, row.object_id, row.T_camera_object.tobytes())
                 for row in rows}
    if len(different) < len(rows):
        say(f'{len(rows) - len(different)} of {len(rows)} poses repeat others, and may take the '
            'place of further objects; was the file joined with itself?')
    if empty := images - {(row.scene_id, row.image_id) for row in rows}:
        say(f'{len(empty)} of {len(images)} images have no pose, such as image '
            f'{min(empty)[1]} of scene {min(empty)[0]}')
