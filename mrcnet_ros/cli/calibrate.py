"""``mrcnet calibrate``: how large the real objects are, from annotated photographs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .dataset_arguments import (
    add_estimation_arguments,
    box_spec,
    estimator_options,
    open_dataset,
    say,
)

if TYPE_CHECKING:
    from ..evaluation.size_calibration import SizeMeasurement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_estimation_arguments(parser)
    parser.add_argument('--write', action='store_true',
                        help='write the sizes that differ beyond doubt into model.json; verify '
                             'and score the model again afterwards')


def run(args: argparse.Namespace) -> int:
    """Estimate poses, compare distances with the annotations, print and perhaps write sizes.

    :raises MrcnetError: when dataset, model or meshes cannot be used.
    """
    from tqdm import tqdm

    from ..evaluation.runner import Run, run_frames
    from ..evaluation.size_calibration import measure_sizes
    from ..inference.loading import load_any_estimator
    from ..inference.model_directory import write_size_ratios

    boxes, dataset = box_spec(args), open_dataset(args)
    dataset.frames[0].target_ground_truth()  # there is nothing to compare with without it
    estimator = load_any_estimator(args.model, args.meshes, **estimator_options(args), say=say)
    done = Run()
    frames = tqdm(dataset.frames[:args.limit], unit='image', disable=None)
    run_frames(frames, estimator, boxes, None, done)
    sizes = measure_sizes(done.frames, done.rows, estimator.objects)
    print('\n'.join(_table(sizes)))
    if args.write:
        write_size_ratios(args.model, {s.label: s.ratio for s in sizes if s.significant})
        print(f'{args.model / "model.json"} is written: score and verify the model again')
    return 0


def _table(sizes: Iterable[SizeMeasurement]) -> Iterator[str]:
    yield f'{"object":<16}{"photographs":>12}{"size now":>10}{"measured":>10}{"+-":>7}{"":>3}' \
          'median error of distance, before -> after (left out)'
    for size in sizes:
        measured = size.known * math.exp(size.median)
        line = f'{size.label:<16}{len(size.log_ratios):>12}{size.known:>10.3f}'
        if len(size.log_ratios) > 1:
            before, after = size.left_out()
            line += (f'{measured:>10.3f}{size.error:>7.3f}{"*" if size.significant else "":>3}'
                     f'{before:.1%} -> {after:.1%}')
        yield line
    yield '* differs beyond doubt from the size that the model assumes now'
