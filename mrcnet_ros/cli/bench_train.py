"""``mrcnet bench train``: how fast a device trains, and whether its numbers are right."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .argument_types import limit, positive, positive_float
from .tasks import add_json_argument, measured_with

if TYPE_CHECKING:
    from ..training.throughput import Bench

WRONG = 1  # exit code: the device computes something else than the CPU
# Weights that differ by a float32's rounding (2e-7) change terms of the loss by less than 5e-5 and
# gradients by less than 1e-3. A device that adds in another order may do so in every layer.
MAX_DIFFERENCE = 0.01


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', type=Path, help='YAML file, as for mrcnet train')
    parser.add_argument('--set', action='append', default=[], metavar='NAME=VALUE',
                        help='set a field of the configuration, such as device=cuda')
    parser.add_argument('--stem', type=Path, metavar='FILE',
                        help='ImageNet weights of the first layers, as for mrcnet train')
    parser.add_argument('--widths', nargs='+', type=positive_float, default=[1.0, 2.0],
                        metavar='F', help='factors of the width of the network (default: 1 2)')
    parser.add_argument('--steps', type=positive, default=20, metavar='N',
                        help='timed steps (default: 20)')
    parser.add_argument('--compared', type=positive, default=32, metavar='N',
                        help='samples of the step that is compared with the CPU (default: 32)')
    parser.add_argument('--max-difference', type=limit, default=MAX_DIFFERENCE, metavar='F',
                        help='largest relative difference of a term of the loss, and of the '
                             'gradients, from the CPU, both in float32 (default: '
                             f'{MAX_DIFFERENCE})')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Compare one step with the processor, time steps and composers, write the figures.

    :return: 0, or 1 when the device computes something else than the processor.
    """
    from ..training.config import TrainConfig
    from ..training.run_config import read_config
    from ..training.throughput import load_bench
    from .train import changes, read_stem

    bench = load_bench(read_config(TrainConfig, args.config, changes(args)), read_stem(args.stem))
    figures = _measure(args, bench)
    print(training_speed_table(figures))
    single = figures['compared']['float32']
    right = all(single[name] <= args.max_difference for name in (
        'largest_relative_difference', 'relative_difference_of_gradients'))  # not of a NaN
    if not right:
        print(f'FAILED: the step differs by more than {args.max_difference}, or is not finite')
    return 0 if right else WRONG


def _measure(args: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    """Measure one thing after the other, and write the figures after each."""
    from ..evaluation.report import write_json
    from ..training.throughput import compare_devices, feed_rate, step_rate

    figures: dict[str, Any] = {
        **measured_with(args), 'device': bench.config.device,
        'compared': compare_devices(bench, args.compared), 'widths': []}
    write_json(args.json, figures)
    for factor in args.widths:
        figures['widths'].append(step_rate(bench, factor, args.steps))
        write_json(args.json, figures)
    figures['composed'] = feed_rate(bench, args.steps)
    write_json(args.json, figures)
    return figures


def training_speed_table(figures: dict[str, Any]) -> str:
    """Return the figures as lines for people."""
    compared = figures['compared']
    lines = ['one step with {} samples, {} against {}'.format(
        compared['samples'], *compared['devices'])]
    for precision in ('float32', 'bfloat16'):
        own = compared[precision]
        lines.append('{}: loss {:.5f} {:.5f}, '.format(precision, *own['loss'])
                     + f'terms differ by {own["largest_relative_difference"]:.1e} at most, '
                       f'gradients by {own["relative_difference_of_gradients"]:.1e}')
    for row in figures['widths']:
        memory = f', {row["memory_gib"]:.1f} GiB' if row['memory_gib'] else ''
        lines.append(f'width {row["width"]:g}: {row["parameters"] / 1e6:.1f} M parameters, '
                     f'{row["samples_per_s"]:.0f} samples/s in batches of '
                     f'{row["batch_size"]}{memory}')
    composed = figures['composed']
    lines.append(f'{composed["composers"]} composers: {composed["samples_per_s"]:.0f} samples/s')
    return '\n'.join(lines)
