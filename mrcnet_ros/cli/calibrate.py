"""``mrcnet calibrate``: how large the real objects are, from annotated photographs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .dataset_arguments import (
    add_box_arguments,
    add_dataset_arguments,
    add_model_arguments,
    runtime_options,
    say,
)

if TYPE_CHECKING:
    from ..evaluation.size_calibration import SizeMeasurement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_dataset_arguments(parser)
    add_model_arguments(parser)
    add_box_arguments(parser)
    parser.add_argument('--write', action='store_true',
                        help='write the sizes that differ beyond doubt into model.json; verify '
                             'and score the model again afterwards')


def run(args: argparse.Namespace) -> int:
    """Estimate poses, compare distances with the annotations, print and perhaps write sizes.

    :raises MrcnetError: when dataset, model or meshes cannot be used.
    """
    import tempfile
    from pathlib import Path

    from tqdm import tqdm

    from ..evaluation.bop import BopDataset, ResultsWriter
    from ..evaluation.boxes import BoxSpec
    from ..evaluation.runner import Run, run_frames
    from ..evaluation.size_calibration import measure_sizes
    from ..inference.loading import load_any_estimator
    from ..inference.model_directory import MESH_FOLDER, write_size_ratios

    boxes = BoxSpec(args.boxes, args.box_jitter, args.seed)
    dataset = BopDataset(args.bop_dir, args.dataset, args.split)
    dataset.frames[0].target_ground_truth()  # there is nothing to compare with without it
    if args.meshes is None and not (args.model / MESH_FOLDER).is_dir():
        args.meshes = dataset.training_models_dir
    estimator = load_any_estimator(args.model, args.meshes, **runtime_options(args), say=say,
                                   hypotheses=args.hypotheses)
    done = Run()
    with tempfile.TemporaryDirectory() as folder, \
            ResultsWriter(Path(folder) / 'poses.csv') as writer:
        frames = tqdm(dataset.frames[:args.limit], unit='image', disable=None)
        run_frames(frames, estimator, boxes, writer, done)
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
