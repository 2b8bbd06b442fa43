"""``mrcnet evaluate ladder``: where a network's errors come from, in the dataset's own AR."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from .argument_types import positive
from .dataset_arguments import add_estimation_arguments
from .measuring import MeasuringSetting, open_setting, source
from .progress import progress_bar
from .sample_arguments import add_sample_arguments, open_composer, sample_config
from .tasks import add_json_argument

if TYPE_CHECKING:
    from ..training.config import TrainConfig

PHOTOGRAPHS = 'photographs'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sample_arguments(parser)
    add_estimation_arguments(parser, crops=False)
    parser.add_argument('--samples', type=positive, default=64, metavar='N',
                        help='composed images of each object in each row (default: %(default)s)')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Measure the network on ever harder images and on the photographs, and print the table.

    After an error the rows that are complete are still written.
    """
    from ..evaluation import ladder, report

    setting = open_setting(args)
    config = sample_config(args, setting.estimator.spec)
    rows: dict[str, Any] = {}
    try:
        with closing(setting.estimator):
            for name, row in _rows(args, setting, config):
                rows[name] = row
    finally:
        if rows:
            report.write_json(args.json, {
                **source(args, setting), 'samples_of_each_object': args.samples,
                'config': config.plain(), 'complete': PHOTOGRAPHS in rows, 'rows': rows})
            print(ladder.ladder_table(rows, 'images'))
    return 0


def _rows(args: argparse.Namespace, setting: MeasuringSetting,
          config: TrainConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give name and figures of each row, when it is complete."""
    from ..evaluation import ladder
    from ..training.held_out import known_views, rungs

    composer, objects = open_composer(config, setting)
    total = args.samples * len(setting.labels)
    for name, harder in rungs(config, composer).items():
        views = known_views(harder, objects, setting.labels, args.samples, args.seed)
        asked = progress_bar(views, desc=name, total=total, unit='image')
        answers = ladder.graded_answers(asked, setting.estimator, setting.judge)
        given = ladder.matching(answers, setting.targets)
        yield name, ladder.rung(given, setting.targets, setting.judge)
    asked = progress_bar(setting.targets, desc=PHOTOGRAPHS, unit='image')
    answers = ladder.graded_answers(asked, setting.estimator, setting.judge)
    yield PHOTOGRAPHS, ladder.rung([[a] for a in answers], setting.targets, setting.judge)
