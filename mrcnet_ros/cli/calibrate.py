"""``mrcnet calibrate``: how large objects and errors are, from annotated photographs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..errors import DatasetError
from .dataset_arguments import (
    add_estimation_arguments,
    box_spec,
    estimator_options,
    open_dataset,
    say,
)

if TYPE_CHECKING:
    from ..evaluation.runner import Run
    from ..evaluation.size_calibration import SizeMeasurement
    from ..inference.uncertainty import CovarianceLaw
    from ..objects import ObjectModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_estimation_arguments(parser)
    parser.add_argument('--write', action='store_true',
                        help='write the sizes that differ beyond doubt, and what covariances are '
                             'computed from, into model.json; score the model again '
                             'afterwards')


def run(args: argparse.Namespace) -> int:
    """Estimate poses, compare them with the annotations, print and perhaps write what was found.

    :raises MrcnetError: when dataset, model or meshes cannot be used, or a size is not believable.
    """
    from tqdm import tqdm

    from ..evaluation.runner import Run, run_frames
    from ..evaluation.size_calibration import check_sizes, measure_sizes
    from ..inference.loading import load_any_estimator
    from ..inference.model_directory import write_covariance_law, write_size_ratios

    boxes, dataset = box_spec(args), open_dataset(args)
    dataset.frames[0].target_ground_truth()  # there is nothing to compare with without it
    estimator = load_any_estimator(args.model, args.meshes, **estimator_options(args), say=say,
                                   spreads=True)
    done = Run()
    frames = tqdm(dataset.frames[:args.limit], unit='image', disable=None)
    run_frames(frames, estimator, boxes, None, done)
    sizes = measure_sizes(done.frames, done.rows, estimator.objects)
    print('\n'.join(_table(sizes)), end='\n\n')
    check_sizes(sizes)
    law = _measured_law(done, estimator.objects, {s.label: s.ratio for s in sizes})
    if args.write:
        write_size_ratios(args.model, {s.label: s.ratio for s in sizes if s.significant})
        if law is not None:
            write_covariance_law(args.model, law)
        print(f'{args.model / "model.json"} is written: score the model again')
    return 0


def _measured_law(done: Run, objects: Mapping[str, ObjectModel],
                  sizes: Mapping[str, float]) -> CovarianceLaw | None:
    """Print how well errors can be foretold; return what foretells them, None when it cannot be.

    :param sizes: by label, size ratios that the model is going to have.
    """
    from ..evaluation import covariance_report
    from ..evaluation.covariance_errors import pose_errors
    from ..evaluation.covariance_fit import fit_law

    if all(pose.spread is None for pose in done.poses):
        print('no covariance: no pose came with a spread; only the default preset has them')
        return None
    errors = pose_errors(done.frames, done.rows, done.poses, objects, sizes)
    try:
        print('\n'.join(covariance_report.table(covariance_report.left_out(errors))))
        law = fit_law(errors)
    except DatasetError as error:
        print(f'no covariance: {error}')
        return None
    print(', '.join(f'{name} {value:.3g}' for name, value in asdict(law).items()))
    return law


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
