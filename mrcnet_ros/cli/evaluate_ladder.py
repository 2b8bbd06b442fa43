"""``mrcnet evaluate ladder``: where a network's errors come from, in the dataset's own AR."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

from .dataset_arguments import add_estimation_arguments, positive
from .measuring import open_setting, source
from .sample_arguments import add_sample_arguments, open_composer, sample_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_sample_arguments(parser)
    add_estimation_arguments(parser, crops=False)
    parser.add_argument('--samples', type=positive, default=64, metavar='N',
                        help='composed images of each object in each row (default: %(default)s)')
    parser.add_argument('--json', type=Path, required=True, metavar='FILE',
                        help='write the figures here')


def run(args: argparse.Namespace) -> int:
    """Measure the network on ever harder images and on the photographs, and print the table.

    :raises MrcnetError: when model, configuration, meshes or dataset cannot be used.
    """
    from tqdm import tqdm

    from ..evaluation import ladder, report
    from ..training.config import plain
    from ..training.held_out import known_views, rungs

    setting = open_setting(args)
    with closing(setting.estimator):
        config = sample_config(args, setting.estimator.spec)
        composer, objects = open_composer(config, setting)
        rows: dict[str, Any] = {}
        for name, harder in rungs(config, composer).items():
            views = known_views(harder, objects, setting.labels, args.samples, args.seed)
            total = args.samples * len(setting.labels)
            asked = tqdm(views, desc=name, total=total, unit='image', disable=None)
            answers = ladder.answers_of(asked, setting.estimator, setting.judge)
            rows[name] = ladder.rung(ladder.matching(answers, setting.targets), setting.targets,
                                     setting.judge)
        asked = tqdm(setting.targets, desc='photographs', unit='image', disable=None)
        answers = ladder.answers_of(asked, setting.estimator, setting.judge)
        rows['photographs'] = ladder.rung([[a] for a in answers], setting.targets, setting.judge)
    report.write_json(args.json, {
        **source(args, setting), 'samples_of_each_object': args.samples, 'config': plain(config),
        'rows': rows})
    print(ladder.table(rows, 'images'))
    return 0
