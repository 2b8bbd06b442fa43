"""``mrcnet bench backends``: all runtimes side by side, in one run."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import MrcnetError
from .argument_types import positive
from .dataset_arguments import add_estimation_arguments, open_dataset, timed_questions
from .progress import progress_bar
from .tasks import add_json_argument, measured_with

if TYPE_CHECKING:
    from ..evaluation.comparison import Arithmetic, Contender, Times

BASELINE = 'torch fp32'
FAILED = 1  # exit code: a runtime could not be loaded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_estimation_arguments(parser, backend=False, plane=False)
    parser.add_argument('--backends', nargs='+', metavar='NAME[:PRECISION][@DEVICE]',
                        help='runtimes to compare, such as onnxruntime@cuda (default: all that '
                             'are installed, on their default devices, in every precision that '
                             'they support on this machine)')
    parser.add_argument('--batches', nargs='+', type=positive, default=list(range(1, 9)),
                        metavar='N', help='numbers of detections (default: 1 to 8)')
    parser.add_argument('--repeats', type=positive, default=5, metavar='N',
                        help='turns of each runtime (default: 5)')
    add_json_argument(parser)
    parser.add_argument('--plot', type=Path, metavar='PNG', help='draw the figures here')


def run(args: argparse.Namespace) -> int:
    """Measure, write the figures, print a table, draw.

    :return: 0, or 1 when a runtime could not be loaded.
    :raises MrcnetError: when none could.
    """
    from ..presets.loading import preset_of

    preset_of(args.model).require_templates(args.model)
    open_dataset(args)  # a wrong one is named before models are loaded for a minute
    chosen, absent = contenders(args.backends)
    loaded, load_seconds, failed = _load(args, chosen)
    facts = {'load_seconds': load_seconds, 'absent': {**absent, **failed}}
    return bench(args, loaded, facts) or (FAILED if failed else 0)


def bench(args: argparse.Namespace, loaded: Mapping[str, Contender], facts: Mapping[str, Any]
          ) -> int:
    """Do what ``run`` does, with any estimators.

    :param facts: about them: ``load_seconds`` of each, and why others are ``absent``.
    """
    from ..evaluation.comparison import compare_runtimes

    dataset = open_dataset(args)
    first = next(iter(loaded.values())).estimator
    asked = timed_questions(args, dataset, first)
    rates: list[Mapping[str, float]] = []
    turns = itertools.count(1)  # a bar that is not shown does not count
    with progress_bar(total=args.repeats * len(loaded), unit='turn') as bar:
        def between() -> None:
            bar.update()
            if next(turns) % len(loaded) == 0 and 'torch' not in facts['absent']:
                rates.append(_gemm(args.threads))

        times = compare_runtimes(loaded, asked, sorted(set(args.batches)), args.repeats, between)
    figures = {**measured_with(args, dataset=dataset), 'images': len(asked),
               'detections': sum(len(q.detections) for q in asked), 'repeats': args.repeats,
               **facts, **_figures(loaded, times, _arithmetic(args.model, rates))}
    _write(args, figures)
    return 0


class Choice(NamedTuple):
    """A runtime to compare.

    :param device: as the runtime calls it, '' for its usual one.
    """

    name: str
    precision: str
    device: str

    @property
    def title(self) -> str:
        """Return what tables call it."""
        return f'{self.name} {self.precision}' + (f' {self.device}' if self.device else '')


def contenders(asked: Sequence[str] | None) -> tuple[list[Choice], dict[str, str]]:
    """Return the runtimes to compare, and why others are left out.

    :param asked: ``NAME[:PRECISION][@DEVICE]``; None for all that there are.
    :raises BackendError: when one that is asked for is unknown or cannot be used.
    """
    from ..runtimes.backends import RUNTIMES, choose_runtime

    absent = {name: problem for name, r in RUNTIMES.items() if (problem := r.problem())}
    found = []
    for word in asked or [name for name in RUNTIMES if name not in absent]:
        runtime, _, device = word.partition('@')
        name, _, precision = runtime.partition(':')
        choose_runtime(name)
        possible = [precision] if precision else RUNTIMES[name].precisions(device)
        found += [Choice(name, p, device) for p in possible]
    return found, absent


def _load(args: argparse.Namespace, chosen: Sequence[Choice]
          ) -> tuple[dict[str, Contender], dict[str, float], dict[str, str]]:
    """Return the runtimes, what loading each took [s], and why others could not be loaded."""
    from ..evaluation.comparison import Contender
    from ..inference.estimator import PoseEstimator

    loaded, seconds, failed = {}, {}, {}
    for choice in chosen:
        start = time.perf_counter()
        try:
            estimator = PoseEstimator.load(
                args.model, args.meshes, backend=choice.name, precision=choice.precision,
                device=choice.device, threads=args.threads, allow_unverified=True,
                crops=args.crops, hypotheses=args.hypotheses,
                refine=args.refine, find_plane=False)
        except MrcnetError as error:
            failed[choice.title] = str(error)
            if len(failed) == len(chosen):
                raise
            continue
        # the rates of matrix products are those of the processor; in bf16, parts compute in fp32
        on_cpu = choice.device in ('', 'cpu', 'CPU')
        arithmetic = choice.precision if on_cpu and choice.precision != 'bf16' else ''
        args.refine = estimator.refinements
        loaded[choice.title] = Contender(estimator, estimator.features.cache.clear, arithmetic)
        seconds[choice.title] = time.perf_counter() - start
    return loaded, seconds, failed


def _gemm(threads: int) -> dict[str, float]:
    from ..export.arithmetic import gemm_flops_per_s

    return gemm_flops_per_s(threads)


def _arithmetic(model: Path, rates: Sequence[Mapping[str, float]]) -> Arithmetic | None:
    """Return the arithmetic of the model and median rates of matrix products, if measured."""
    if not rates:
        return None
    from ..evaluation.comparison import Arithmetic
    from ..export.arithmetic import stage_flops

    medians = {name: float(np.median([rate[name] for rate in rates])) for name in rates[0]}
    return Arithmetic(stage_flops(model), medians)


def _figures(loaded: Mapping[str, Contender], times: Mapping[str, Times],
             arithmetic: Arithmetic | None) -> dict[str, Any]:
    from ..evaluation.comparison import contender_figures, ratios

    backends = {name: contender_figures(times[name], arithmetic, loaded[name].precision)
                for name in loaded}
    baseline = BASELINE if BASELINE in backends else next(iter(backends))
    for figures in backends.values():
        figures['times_faster_than_baseline'] = ratios(figures, backends[baseline])
    return {
        'baseline': baseline,
        'graph_gflop': arithmetic and {
            name: count / 1e9 for name, count in arithmetic.graph_flops.items()},
        'gemm_gflop_per_s': arithmetic and {
            name: rate / 1e9 for name, rate in arithmetic.gemm_flops_per_s.items()},
        'backends': backends,
    }


def _write(args: argparse.Namespace, figures: Mapping[str, Any]) -> None:
    from ..evaluation.charts import draw_charts
    from ..evaluation.comparison import charts, runtime_table
    from ..evaluation.report import write_json

    write_json(args.json, figures)
    print(runtime_table(figures))
    if args.plot:
        draw_charts(args.plot, charts(figures))
        print(f'charts: {args.plot}')
