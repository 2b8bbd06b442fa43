"""``mrcnet soak``: the node under continuous traffic, and whether it keeps still."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MrcnetError
from ..evaluation.steadiness import SteadinessLimits, steady_figures
from .argument_types import limit, positive_float
from .dataset_arguments import add_model_arguments, estimator_options
from .node import node_command
from .progress import progress_bar
from .tasks import measured_with
from .traffic_arguments import add_traffic_arguments, traffic_frames

if TYPE_CHECKING:
    from ..evaluation.steadiness import Check
    from ..testbench.bag import BagFrame
    from ..testbench.soak import Sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    limits = SteadinessLimits()
    parser.add_argument('--minutes', type=positive_float, default=30.0, metavar='N',
                        help='length of the run (default: 30)')
    parser.add_argument('--period', type=positive_float, default=5.0, metavar='S',
                        help='time between samples (default: 5)')
    add_traffic_arguments(parser, objects=None)
    add_model_arguments(parser, required=False)
    parser.add_argument('--warm-up', type=limit, default=limits.warm_up_s, metavar='S',
                        help='time at the start that is not judged (default: %(default)g)')
    parser.add_argument('--memory-limit', type=limit, default=limits.memory_mb_per_h,
                        metavar='MIB', help='largest growth of the memory [MiB/h] (default: '
                        '%(default)g)')
    parser.add_argument('--handle-limit', type=int, default=limits.handles, metavar='N',
                        help='largest growth of the open handles (default: %(default)s)')
    parser.add_argument('--silence-limit', type=positive_float, default=limits.silence_s,
                        metavar='S', help='longest time without an answer (default: '
                        '%(default)g)')
    parser.add_argument('--output', type=Path, default=Path('out/soak'), metavar='DIR',
                        help='folder for soak.csv, soak.json, soak.png and node.log (default: '
                             '%(default)s)')


def run(args: argparse.Namespace) -> int:
    """Start the node, send frames, take samples, judge.

    :return: 1 when a limit was passed or the node ended.
    """
    from ..evaluation.steadiness import check_duration
    from ..store.shared_files import shared_file

    check_duration(60 * args.minutes, args.period, _limits(args))
    args.model = args.model or shared_file('models/demo')
    return soak(args, node_command(args), traffic_frames(args))


def soak(args: argparse.Namespace, command: Sequence[str], frames: Sequence[BagFrame]) -> int:
    """Do what ``run`` does, with any program as the node.

    :param command: arguments of the Python interpreter.
    """
    from ..evaluation.charts import draw_charts
    from ..evaluation.report import write_json
    from ..evaluation.steadiness import judge, soak_charts
    from ..testbench.processes import LoggedProcess, ProcessError, prepare_environment
    from ..testbench.soak import SampleFile, Soak, SoakPlan
    from ..testbench.traffic import Traffic

    plan, limits = SoakPlan(60 * args.minutes, args.rate, args.period), _limits(args)
    prepare_environment()
    samples: list[Sample] = []
    failure = ''
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(LoggedProcess('node', command, args.output / 'node.log'))
        traffic = stack.enter_context(Traffic(node.check_runs))
        traffic.wait_for_node(args.timeout)
        file = stack.enter_context(SampleFile(args.output / 'soak.csv'))
        bar = stack.enter_context(progress_bar(total=round(plan.duration_s), unit='s'))

        def keep(sample: Sample) -> None:
            samples.append(sample)
            file.write(sample)
            bar.update(round(sample['time_s'] or 0.0) - bar.n)

        try:
            Soak(traffic, node.pid).run(frames, plan, keep)
        except ProcessError as error:
            failure = str(error)
        except MrcnetError as error:  # it may just have ended
            failure = node.bad_end() or str(error)
        except KeyboardInterrupt:
            print('interrupted; what there is so far is judged')
        failure = failure or node.bad_end()
    if samples:
        draw_charts(args.output / 'soak.png', soak_charts(samples))
    checks = [] if failure else judge(samples, limits)
    write_json(args.output / 'soak.json',
               _figures(args, frames, samples, checks, failure, traffic.model_status))
    for line in [*checks, *([f'FAILED: {failure}'] if failure else [])]:
        print(line)
    print(f'samples, figures and charts are in {args.output}')
    return 0 if checks and all(check.passed for check in checks) else 1


def _limits(args: argparse.Namespace) -> SteadinessLimits:
    return SteadinessLimits(warm_up_s=args.warm_up, memory_mb_per_h=args.memory_limit,
                            handles=args.handle_limit, silence_s=args.silence_limit)


def _figures(args: argparse.Namespace, frames: Sequence[BagFrame], samples: Sequence[Sample],
             checks: Sequence[Check], failure: str, node_model: Mapping[str, str]
             ) -> dict[str, Any]:
    return {
        **measured_with(args), 'rate_hz': args.rate, 'frames': len(frames),
        'objects_at_most': args.objects, **estimator_options(args), 'node': dict(node_model),
        'passed': bool(checks) and all(check.passed for check in checks), 'failure': failure,
        'checks': [{'name': c.name, 'unit': c.unit, 'value': c.value, 'limit': c.limit,
                    'passed': c.passed} for c in checks],
        'after_warm_up': steady_figures(samples, _limits(args)),
        'last': samples[-1] if samples else None}
