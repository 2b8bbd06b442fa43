"""``mrcnet fuzz``: send the node damaged and absurd messages and see whether it still answers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .argument_types import count, positive, positive_float
from .bag import model_labels
from .dataset_arguments import add_model_arguments
from .node import node_command
from .progress import progress_bar

if TYPE_CHECKING:
    from ..testbench.fuzzing import Findings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--messages', type=positive, default=5000, metavar='N',
                        help='number of messages to each node (default: 5000)')
    parser.add_argument('--seed', type=count, default=0, metavar='S',
                        help='the same seed sends the same messages (default: 0)')
    parser.add_argument('--image-transport', choices=('raw', 'compressed', 'both'),
                        default='both', help='type of the images; both: to one node after the '
                        'other (default: both)')
    add_model_arguments(parser)
    parser.add_argument('--timeout', type=positive_float, default=120.0, metavar='S',
                        help='time limit for the start of the node and each good frame '
                             '(default: 120)')
    parser.add_argument('--log', type=Path, default=Path('out/fuzz.node.log'), metavar='FILE',
                        help="the node's output; the transport becomes part of the name "
                             '(default: %(default)s)')


def run(args: argparse.Namespace) -> int:
    """Start the node, send messages, and print the findings.

    :return: 1 when something was found.
    """
    command = node_command(args)
    chosen = args.image_transport
    transports = ('raw', 'compressed') if chosen == 'both' else (chosen,)
    labels = sorted(model_labels(args.model).values())
    return max(fuzz(args, command, labels, transport) for transport in transports)


def fuzz(
    args: argparse.Namespace, node_command: Sequence[str], labels: Sequence[str],
    transport: str = 'raw',
) -> int:
    """Do what ``run`` does for one type of images, with any program as the node.

    :param node_command: arguments of the Python interpreter; a ROS parameter is appended.
    :param transport: ``raw`` or ``compressed``.
    """
    from ..testbench.fuzzing import FuzzRun
    from ..testbench.processes import LoggedProcess, prepare_environment

    prepare_environment()
    log = args.log.with_name(f'{args.log.stem}.{transport}{args.log.suffix}')
    command = [*node_command, '-p', f'image_transport:={transport}']
    with LoggedProcess('node', command, log) as node:
        with (FuzzRun(labels, node.check_runs, compressed=transport == 'compressed') as fuzzer,
              progress_bar(total=args.messages, unit='message') as progress):
            findings = fuzzer.run(args.messages, args.seed, args.timeout,
                                  lambda sent: progress.update(sent - progress.n))
        if problem := node.bad_end():
            findings.failures.append(problem)
    print(f'images {transport}: ', end='')
    _report(findings)
    return 1 if findings.failures else 0


def _report(findings: Findings) -> None:
    answered = len(findings.answer_s)
    print(f'{findings.sent} messages sent; {answered} of {findings.good_frames} good frames '
          'between them answered'
          + (f', the slowest in {max(findings.answer_s):.2f} s' if answered else ''))
    print('dropped: ' + ', '.join(f'{name} {count}' for name, count in findings.dropped.items()))
    for failure in dict.fromkeys(findings.failures):
        print(f'failure: {failure}')
