"""``mrcnet evaluate mosaic``: training crops beside crops of photographs, to look at."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from .argument_types import count, positive
from .dataset_arguments import add_dataset_arguments, open_split
from .sample_arguments import add_sample_arguments, sample_config, wanted_labels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sample_arguments(parser)
    add_dataset_arguments(parser)
    parser.add_argument('--output', type=Path, required=True, metavar='FILE',
                        help='write the picture here, as PNG')
    parser.add_argument('--seed', type=count, default=0, metavar='N',
                        help='seed of the choice of samples and photographs')
    parser.add_argument('--columns', type=positive, default=10, metavar='N',
                        help='crops in a row (default: %(default)s)')
    parser.add_argument('--objects', nargs='+', metavar='LABEL',
                        help='labels of the objects to show (default: all)')


def run(args: argparse.Namespace) -> int:
    """Write a picture with two rows for each object: training crops, and real ones."""
    import numpy as np

    from ..datasets.same_objects import known_object
    from ..evaluation.mosaic import Row, check_name, draw_mosaic, real_crops, write_picture
    from ..evaluation.report import check_writable
    from ..training.held_out import load_composer, samples_of
    from ..training.seeds import HELD_OUT_SEED

    check_name(args.output)
    check_writable(args.output)
    config = sample_config(args)
    dataset = open_split(args)
    objects = config.load_objects()
    dataset.require_objects(map(known_object, objects), 'the configuration', poses=False)
    shown = wanted_labels((o.label for o in objects), args.objects)
    composer, rows = load_composer(config, objects), []
    for class_index, item in enumerate(objects):
        if item.label not in shown:
            continue
        samples = samples_of(composer, class_index, HELD_OUT_SEED + args.seed)
        made = [s.image for s in itertools.islice(samples, args.columns)]
        rng = np.random.default_rng([args.seed, item.object_id])
        real = real_crops(dataset, item.object_id, config.spec.crop, rng)
        rows += [Row((item.label, 'training'), made),
                 Row((item.label, 'real'), list(itertools.islice(real, args.columns)))]
    heading = f'{args.config} seed {args.seed} | {dataset.name} {dataset.split}'
    write_picture(args.output, draw_mosaic(rows, heading))
    print(args.output)
    return 0
