"""``mrcnet bench estimate``: how fast the estimator is, and where the time goes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from .argument_types import positive
from .dataset_arguments import (
    add_estimation_arguments,
    box_spec,
    open_dataset,
    open_pose_estimator,
    timed_questions,
)
from .progress import progress_bar
from .tasks import add_json_argument, measured_with

if TYPE_CHECKING:
    from ..evaluation.speed import Measurements
    from ..inference.poses import Estimator

STATES = ('cold', 'rolling', 'warm', 'distorted', 'depth', 'single_object', 'single_distorted')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_estimation_arguments(parser)
    parser.add_argument('--repeats', type=positive, default=5, metavar='N',
                        help='passes over the images for each state (default: 5)')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, write the figures and print a table."""
    return bench(args, load_estimator)


def load_estimator(args: argparse.Namespace) -> tuple[Estimator, Callable[[], None]]:
    """Load the model that the options name.

    :return: the estimator, and what makes it forget all template features.
    """
    estimator = open_pose_estimator(args)
    return estimator, estimator.features.cache.clear


def bench(args: argparse.Namespace,
          load: Callable[[argparse.Namespace], tuple[Estimator, Callable[[], None]]]) -> int:
    """Do what ``run`` does, with any estimator.

    :raises DatasetError: when no image shows an object the model knows.
    """
    from ..evaluation import report, speed

    box_spec(args)  # a wrong one is named before a model is loaded
    dataset = open_dataset(args)
    start = time.perf_counter()
    estimator, forget = load(args)
    load_seconds = time.perf_counter() - start
    asked = timed_questions(args, dataset, estimator)
    with progress_bar(total=speed.PASSES * args.repeats, unit='pass') as bar:
        measured = speed.measure_speed(estimator, forget, asked, args.repeats, bar.update)
    figures = {
        **measured_with(args, estimator, dataset), 'images': len(asked),
        'detections': sum(len(q.detections) for q in asked), 'repeats': args.repeats,
        'load_seconds': load_seconds, **_states(measured)}
    report.write_json(args.json, figures)
    print(estimate_table(figures))
    return 0


def _states(measured: Measurements) -> dict[str, Any]:
    from ..evaluation.speed import speed_summary

    states = {name: speed_summary(answers) for name in STATES
              if (answers := getattr(measured, name))}
    for bent, straight in (('distorted', 'warm'), ('single_distorted', 'single_object')):
        states[bent]['crop_cost_ratio'] = (states[bent]['stage_median_ms']['crop']
                                           / states[straight]['stage_median_ms']['crop'])
    if 'depth' in states:
        states['depth']['object_ms'] = 1e3 * median(
            a.stage_seconds.get('depth', 0.0) / max(a.poses, 1) for a in measured.depth)
        states['depth']['image_cost_ratio'] = median(
            a.seconds / b.seconds
            for a, b in zip(measured.depth, measured.without_depth, strict=True))
    states['single_object']['rate_hz'] = states['single_object']['images_per_second_median']
    return states


def estimate_table(figures: Mapping[str, Any]) -> str:
    """Return one line a state: rate, median and 95th percentile, stages, cache hits."""
    states = [name for name in STATES if name in figures]
    stages = list(dict.fromkeys(s for name in states for s in figures[name]['stage_median_ms']))
    heads = ['per second', 'median ms', 'p95 ms', *stages, 'cache hits']
    lines = [''.ljust(18) + ''.join(head.rjust(12) for head in heads)]
    for name in states:
        state = figures[name]
        values = [state['images_per_second_median'], state['image_median_ms'],
                  state['image_p95_ms'], *(state['stage_median_ms'].get(s) for s in stages)]
        cells = ['-' if value is None else f'{value:.1f}' for value in values]
        rate = state['cache_hit_rate']
        cells.append('-' if rate is None else f'{rate:.1%}')
        lines.append(name.replace('_', ' ').ljust(18) + ''.join(cell.rjust(12) for cell in cells))
    whole, single = (figures[name]['crop_cost_ratio']
                     for name in ('distorted', 'single_distorted'))
    lines.append(f'crops of distorted images cost {whole:.2f} times those of others, '
                 f'{single:.2f} times with one detection')
    if 'depth' in figures:
        lines.append(f'depth takes {figures["depth"]["object_ms"]:.2f} ms an object; an image '
                     f'with it takes {figures["depth"]["image_cost_ratio"]:.2f} times as long')
    lines.append(f'{figures["images"]} images with {figures["detections"]} detections, '
                 f'{figures["repeats"]} repeats, {figures["threads"]} threads, '
                 f'loaded in {figures["load_seconds"]:.1f} s')
    return '\n'.join(lines)
