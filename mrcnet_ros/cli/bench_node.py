"""``mrcnet bench node``: the time that the node adds to the estimator."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ros.timings import PERCENTILES
from .argument_types import positive, positive_float
from .dataset_arguments import add_model_arguments, open_estimator
from .node import node_command
from .progress import progress_bar
from .tasks import add_json_argument, measured_with
from .traffic_arguments import add_traffic_arguments, traffic_frames

if TYPE_CHECKING:
    from ..evaluation.speed import TimedAnswer
    from ..inference.poses import Estimator
    from ..testbench.bag import BagFrame
    from ..testbench.traffic import Traffic

# Time before measuring starts [s]. A shorter one may put the slow first frames into p99.
WARM_UP_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_traffic_arguments(parser, objects=1)
    add_model_arguments(parser, required=False)
    parser.add_argument('--seconds', type=positive_float, default=15.0, metavar='S',
                        help='time of each turn; the node reports percentiles of its last 10 s '
                             '(default: 15)')
    parser.add_argument('--repeats', type=positive, default=3, metavar='N',
                        help='turns of estimator and node (default: 3)')
    add_json_argument(parser, "the node's output")


def run(args: argparse.Namespace) -> int:
    """Measure estimator and node in turns, write the figures, print them.

    :return: 0, or 1 when the node told no age in any turn.
    """
    from ..store.shared_files import shared_file

    args.model = args.model or shared_file('models/demo')
    frames = traffic_frames(args)
    return bench(args, open_estimator(args), node_command(args), frames)


def bench(args: argparse.Namespace, estimator: Estimator, command: Sequence[str],
          frames: Sequence[BagFrame]) -> int:
    """Do what ``run`` does, with any estimator and any program as the node.

    :param command: arguments of the Python interpreter.
    """
    from ..evaluation.report import write_json
    from ..evaluation.speed import Question, ask_at_rate
    from ..testbench.processes import LoggedProcess, prepare_environment
    from ..testbench.traffic import Traffic, decoded

    prepare_environment()
    asked = [Question(*decoded(frame)) for frame in frames]
    bare: list[TimedAnswer] = []
    turns = []
    with (LoggedProcess('node', command, args.json.with_suffix('.node.log')) as node,
          Traffic(node.check_runs) as traffic,
          progress_bar(total=2 * args.repeats, unit='turn') as bar):
        traffic.wait_for_node(args.timeout)
        ask_at_rate(estimator, asked, args.rate, WARM_UP_S)
        traffic.run(frames, args.rate, WARM_UP_S)
        for _ in range(args.repeats):
            bare += ask_at_rate(estimator, asked, args.rate, args.seconds)
            bar.update()
            turns.append(_turn(traffic, frames, args))
            bar.update()
    figures = {
        **measured_with(args, estimator), 'rate_hz': args.rate, 'objects_at_most': args.objects,
        'frames': len(frames), 'seconds': args.seconds, 'repeats': args.repeats,
        **added_time(bare, turns), 'turns': turns}
    write_json(args.json, figures)
    print(node_table(figures))
    return 0 if figures['age_at_publish_ms'] else 1


def _turn(traffic: Traffic, frames: Sequence[BagFrame], args: argparse.Namespace
          ) -> dict[str, Any]:
    """Send frames for a while; return counts and the last diagnostics of the node."""
    traffic.take_ages_s()
    sent, answered, dropped = traffic.sent, traffic.answered, traffic.dropped()
    traffic.run(frames, args.rate, args.seconds)
    told = {name.removesuffix(' [ms]'): float(text) for name, text in traffic.pose_status.items()
            if name.endswith(' [ms]')}
    return {
        'sent': traffic.sent - sent, 'answered': traffic.answered - answered,
        'dropped': {reason: count - dropped.get(reason, 0)
                    for reason, count in traffic.dropped().items()
                    if count > dropped.get(reason, 0)},
        'node_ms': told, 'received_ms': _percentiles(1e3 * np.array(traffic.take_ages_s())),
    }


def _percentiles(values: Any) -> dict[str, float] | None:
    if not len(values):
        return None
    return {f'p{p}': float(np.percentile(values, p)) for p in PERCENTILES}


def added_time(bare: Sequence[TimedAnswer], turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the estimator's percentiles, the node's (medians over turns), and what it adds.

    A turn in whose last 10 s the node published nothing tells no age; without any age, what
    depends on it is None.
    """
    estimator = _percentiles(1e3 * np.array([answer.seconds for answer in bare]))
    told = [turn['node_ms'] for turn in turns if f'age p{PERCENTILES[0]}' in turn['node_ms']]
    ages = {f'p{p}': float(np.median([ms[f'age p{p}'] for ms in told]))
            for p in PERCENTILES} if told else None
    return {
        'estimator_ms': estimator, 'age_at_publish_ms': ages,
        'added_ms': estimator and ages and {name: ages[name] - estimator[name] for name in ages},
        'age_p99_over_p50': ages and ages['p99'] / ages['p50'],
        'turns_without_age': len(turns) - len(told),
    }


def node_table(figures: Mapping[str, Any]) -> str:
    """Return the percentiles of estimator and node, what the node adds, and what was dropped."""
    from ..evaluation.text_table import cell

    lines = ['ms'.ljust(28) + ''.join(f'p{p}'.rjust(9) for p in PERCENTILES)]
    rows = {'bare estimator': figures['estimator_ms'],
            'age when published': figures['age_at_publish_ms'], 'added': figures['added_ms']}
    for name, values in rows.items():
        lines.append(name.ljust(28) + ''.join(
            cell(values and values[f'p{p}'], '.2f').rjust(9) for p in PERCENTILES))
    sent, answered = (sum(turn[key] for turn in figures['turns']) for key in ('sent', 'answered'))
    drops: dict[str, int] = {}
    for turn in figures['turns']:
        for reason, count in turn['dropped'].items():
            drops[reason] = drops.get(reason, 0) + count
    if figures['age_p99_over_p50']:
        lines.append(f'p99 of the age is {figures["age_p99_over_p50"]:.2f} times its p50')
    if figures['turns_without_age']:
        lines.append(f'FAILED: in {figures["turns_without_age"]} of {len(figures["turns"])} turns '
                     'the node published no pose at the end')
    lines.append(f'{answered} of {sent} frames answered at {figures["rate_hz"]:g} Hz; dropped: '
                 + (', '.join(f'{reason} {count}' for reason, count in drops.items()) or 'none'))
    return '\n'.join(lines)
