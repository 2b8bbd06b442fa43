"""``mrcnet bench paper``: one object through the published network in all runtimes."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MrcnetError
from ..presets.paper.spec import PUBLISHED, PaperSpec, paper_spec
from .argument_types import positive
from .dataset_arguments import add_threads_argument
from .progress import progress_bar
from .tasks import add_json_argument, measured_with

if TYPE_CHECKING:
    from ..presets.paper.export.reference import PaperReference
    from ..presets.paper.export.speed import PaperInputs, RunGraph
    from .bench_backends import Choice

SALT = 'bench'
PLAIN = 'torch fp32'
FAILED = 1  # exit code: a runtime could not be loaded, or cannot compute the network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--dataset', choices=PUBLISHED, default='tless',
                        help='dataset of the network; its weights are random (default: tless)')
    parser.add_argument('--objects', type=positive, default=1, metavar='N',
                        help='decoders in the network; each takes memory, and one is used '
                             '(default: 1)')
    parser.add_argument('--backends', nargs='+', metavar='NAME[:PRECISION][@DEVICE]',
                        help='what to compare with PyTorch (default: all that are installed)')
    add_threads_argument(parser)
    parser.add_argument('--repeats', type=positive, default=5, metavar='N',
                        help='timed calls of each runtime (default: 5)')
    add_json_argument(parser)
    parser.add_argument('--plot', type=Path, metavar='PNG', help='draw the figures here')


def run(args: argparse.Namespace) -> int:
    """Export the network, load it into all runtimes, time them in turns.

    :return: 0, or 1 when a runtime could not be loaded, or gives numbers that are not finite.
    """
    return bench(args, paper_spec(args.dataset))


def bench(args: argparse.Namespace, spec: PaperSpec) -> int:
    """Do what ``run`` does, with a network of any size.

    :return: 0, or 1 when a runtime could not be loaded, or gives numbers that are not finite.
    """
    from ..evaluation.charts import BarChart, draw_charts
    from ..evaluation.report import write_json
    from ..evaluation.speed import speed_summary
    from ..export.arithmetic import gemm_flops_per_s
    from ..presets.paper.export.reference import PaperReference, set_threads
    from ..presets.paper.export.speed import compare_paper, relative_difference

    set_threads(args.threads)
    reference = PaperReference(spec, args.objects, SALT)
    found, failed = _runtimes(args, spec, reference)
    runs: dict[str, RunGraph] = {PLAIN: reference.run, **found}
    rates: list[dict[str, float]] = []
    turns = itertools.count(1)  # a bar that is not shown does not count
    with progress_bar(total=args.repeats * len(runs), unit='turn') as bar:
        def between() -> None:
            bar.update()
            if next(turns) % len(runs) == 0:
                rates.append(gemm_flops_per_s(args.threads))

        times, outputs = compare_paper(runs, _inputs(spec), args.repeats, between)
    summaries = {name: speed_summary(answers) for name, answers in times.items()}
    plain_ms = summaries[PLAIN]['image_median_ms']
    for name, summary in summaries.items():
        summary['times_faster_than_baseline'] = plain_ms / summary['image_median_ms']
        summary['largest_relative_difference'] = relative_difference(outputs[name], outputs[PLAIN])
    figures = {
        **measured_with(args), 'dataset': spec.dataset, 'size_px': spec.size_px,
        'objects': args.objects, 'repeats': args.repeats, 'baseline': PLAIN,
        'graph_gflop': {name: count / 1e9 for name, count in reference.flops().items()},
        'gemm_gflop_per_s': {name: float(np.median([rate[name] for rate in rates])) / 1e9
                             for name in rates[0]},
        'absent': failed, 'backends': summaries}
    write_json(args.json, figures)
    print(paper_speed_table(figures))
    wrong = [name for name, own in summaries.items()
             if not np.isfinite([*own['largest_relative_difference'].values()]).all()]
    if wrong:
        print(f'FAILED: {", ".join(wrong)} gives numbers that are not finite')
    if args.plot:
        draw_charts(args.plot, [BarChart(
            'one object through the published network, without drawing its template', 'ms',
            {name: s['stage_median_ms'] for name, s in summaries.items()})])
        print(f'chart: {args.plot}')
    return FAILED if failed or wrong else 0


def _runtimes(args: argparse.Namespace, spec: PaperSpec, reference: PaperReference
              ) -> tuple[dict[str, RunGraph], dict[str, str]]:
    """Return how to run a graph in each runtime, and why others could not be loaded.

    PyTorch is among them only on a device that is named.
    """
    from ..store.content_store import temporary_folder
    from .bench_backends import contenders

    runs: dict[str, RunGraph] = {}
    failed: dict[str, str] = {}
    with temporary_folder('mrcnet_paper_') as folder:
        files = reference.export(folder)
        for choice in contenders(args.backends)[0]:
            if choice.name == 'torch' and not choice.device:  # the baseline
                continue
            try:
                runs[choice.title] = _runtime(args, spec, files, choice)
            except MrcnetError as error:
                failed[choice.title] = str(error)
    return runs, failed


def _runtime(args: argparse.Namespace, spec: PaperSpec, files: Mapping[str, Path],
             choice: Choice) -> RunGraph:
    from ..presets.paper.export.reference import PaperReference
    from ..runtimes.backend import RuntimeOptions
    from ..runtimes.backends import load_backend

    if choice.name == 'torch':
        return PaperReference(spec, args.objects, SALT, choice.device).run
    return load_backend(files, RuntimeOptions(
        backend=choice.name, precision=choice.precision, device=choice.device,
        threads=args.threads, rows_together=spec.rows_together)).run


def _inputs(spec: PaperSpec) -> PaperInputs:
    """Return noise of the right shapes: what is in the pictures does not change the time."""
    from ..presets.paper.export.speed import PaperInputs

    rng = np.random.default_rng(0)
    shape = (spec.turns, 4, spec.size_px, spec.size_px)
    return PaperInputs(rng.random(shape, np.float32), rng.random(shape, np.float32),
                       rng.random((spec.turns, 3), np.float32))


def paper_speed_table(figures: Mapping[str, Any]) -> str:
    """Return one line a runtime: time, times faster than PyTorch, stages, largest difference."""
    heads = ['median ms', 'faster', 'stage1', 'template', 'stage2', 'differs by']
    lines = ['one object'.ljust(20) + ''.join(head.rjust(12) for head in heads)]
    for name, own in figures['backends'].items():
        values = [own['image_median_ms'], own['times_faster_than_baseline'],
                  *(own['stage_median_ms'][s] for s in ('stage1', 'template', 'stage2'))]
        cells = [f'{value:.4g}' for value in values]
        cells.append(f'{np.max([*own["largest_relative_difference"].values()]):.1e}')
        lines.append(name.ljust(20) + ''.join(cell.rjust(12) for cell in cells))
    lines.append(f'{figures["objects"]} decoders, crops of {figures["size_px"]} px, '
                 f'{figures["threads"]} threads; drawing the template is not part of it')
    lines.append('matrix products: ' + ', '.join(
        f'{name} {rate:.0f} GFLOP/s' for name, rate in figures['gemm_gflop_per_s'].items()))
    lines += [f'left out: {name} {why}' for name, why in figures['absent'].items()]
    return '\n'.join(lines)
