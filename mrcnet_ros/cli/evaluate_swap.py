"""``mrcnet evaluate swap``: photographed and rendered objects on one another's background."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from .dataset_arguments import add_estimation_arguments
from .measuring import open_setting, source
from .progress import progress_bar
from .tasks import add_json_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_estimation_arguments(parser, crops=False)
    add_json_argument(parser)
    parser.add_argument('--picture', type=Path, metavar='FILE',
                        help='draw some of the swapped crops here, as PNG')


def run(args: argparse.Namespace) -> int:
    """Answer all four images of each object that is nearly all visible, and print the table.

    :raises DatasetError: when the dataset shows no object whole.
    """
    from ..errors import DatasetError
    from ..evaluation import ladder, report, swap
    from ..evaluation.mosaic import write_picture

    setting = open_setting(args)
    targets = swap.nearly_whole(setting.targets)
    if not targets:
        raise DatasetError(f'{setting.dataset.split_path}: no target is visible by more than '
                           f'{swap.MIN_VISIBLE:.0%}; give a dataset that shows objects whole')
    answers: dict[str, list[list[ladder.GradedPose]]] = {name: [] for name in swap.WAYS}
    shown = []
    with closing(setting.estimator), swap.Swapper(setting.estimator.objects) as swapper:
        for target in progress_bar(targets, unit='object'):
            views = swapper.views(target)
            for name, view in views.items():
                answers[name] += [ladder.graded_answers([view], setting.estimator, setting.judge)]
            shown.append(views)
    rows = {name: ladder.rung(given, targets, setting.judge) for name, given in answers.items()}
    report.write_json(args.json, {**source(args, setting), 'visible_by_more_than':
                                  swap.MIN_VISIBLE, 'rows': rows})
    if args.picture is not None:
        write_picture(args.picture, swap.picture(shown, setting.judge.spec))
    print(ladder.ladder_table(rows, 'images'))
    return 0
