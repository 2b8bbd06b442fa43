"""``mrcnet bench track``: CPU time of the node with and without following."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .argument_types import positive_float
from .dataset_arguments import add_model_arguments, estimator_options, refuse_without_effect
from .node import node_command
from .progress import progress_bar
from .tasks import add_json_argument, measured_with
from .traffic_arguments import add_traffic_arguments, traffic_frames

if TYPE_CHECKING:
    from ..testbench.bag import BagFrame

# Time before measuring starts [s]: with detections at 2 Hz, six detections begin the instances.
WARM_UP_S = 3.0
EACH, SELDOM, FOLLOWED = 'estimated in each image', 'estimated, slow detector', \
    'followed, slow detector'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # following needs a picture in which objects stay, or a sequence
    add_traffic_arguments(parser, objects=None, scenes=None)
    add_model_arguments(parser, required=False)
    parser.add_argument('--detections-rate', type=positive_float, default=2.0, metavar='HZ',
                        help='rate of the slow detector (default: 2)')
    parser.add_argument('--detector', type=Path, metavar='DIR',
                        help='model whose detector the node runs: it then gets images without '
                             'boxes. With track the detector runs at --detections-rate. The '
                             'command measures two nodes')
    parser.add_argument('--seconds', type=positive_float, default=20.0, metavar='S',
                        help='time of each measurement (default: 20)')
    add_json_argument(parser, "the nodes' output")


def run(args: argparse.Namespace) -> int:
    """Measure the node with detections in each image, with few, and with few and ``track``.

    With a detector of its own, the node detects in each image, or seldom and follows.

    :return: 1 when a node published no pose, 0 otherwise.
    """
    from ..store.shared_files import shared_file

    if args.detector:
        refuse_without_effect(args, ['objects'], 'messages bring no boxes with --detector')
    args.model = args.model or shared_file('models/demo')
    own = {'detector': args.detector.resolve(), 'detector_rate_hz': args.detections_rate
           } if args.detector else {}
    return bench(args, lambda track: node_command(args, track=track, **own), traffic_frames(args))


def bench(args: argparse.Namespace, command: Callable[[bool], Sequence[str]],
          frames: Sequence[BagFrame]) -> int:
    """Do what ``run`` does, with any program as the node.

    :param command: returns arguments of the Python interpreter, with ``track`` or without.
    """
    from ..evaluation.report import write_json
    from ..testbench.processes import prepare_environment

    prepare_environment()
    every = max(1, round(args.rate / args.detections_rate))
    ways = {EACH: (False, 1), SELDOM: (False, every), FOLLOWED: (True, every)}
    if args.detector:
        ways = {EACH: (False, 0), FOLLOWED: (True, 0)}
    rows = {}
    for name, (track, step) in progress_bar(ways.items(), unit='node'):
        rows[name] = _measure(args, command(track), with_gaps(frames, step), name)
    figures = {
        **measured_with(args), **estimator_options(args), 'rate_hz': args.rate,
        'detections_rate_hz': args.detections_rate if args.detector else args.rate / every,
        'detector': args.detector and str(args.detector), 'seconds': args.seconds,
        'objects_at_most': args.objects, 'rows': rows}
    write_json(args.json, figures)
    print(track_table(figures))
    idle = [name for name, row in rows.items() if not row['poses_per_s']]
    for name in idle:
        print(f'FAILED: {name}: the node published no pose. Does its detector or the detections '
              f'find objects of the model in these images? See {_log_file(args, name)}',
              file=sys.stderr)
    return 1 if idle else 0


def with_gaps(frames: Sequence[BagFrame], every: int) -> list[BagFrame]:
    """Return frames with detections in every ``every``-th one, until the pattern repeats.

    :param every: 0 for none.
    """
    repeated = [frames[i % len(frames)] for i in range(max(every, 1) * len(frames))]
    return [frame if every and i % every == 0 else dataclasses.replace(frame, inputs={
        topic: data for topic, data in frame.inputs.items() if topic != '/detections'})
        for i, frame in enumerate(repeated)]


def _measure(args: argparse.Namespace, command: Sequence[str], frames: Sequence[BagFrame],
             name: str) -> dict[str, float | None]:
    """Start a node, send frames, and return what it took and gave."""
    from ..testbench.processes import LoggedProcess, process_usage
    from ..testbench.traffic import Traffic

    with (LoggedProcess('node', command, _log_file(args, name)) as node,
          Traffic(node.check_runs, detections=not args.detector) as traffic):
        traffic.wait_for_node(args.timeout)
        traffic.run(frames, args.rate, WARM_UP_S)
        before, start = process_usage(node.pid), traffic.now_ns()
        poses, answered = traffic.poses, traffic.answered
        traffic.run(frames, args.rate, args.seconds)
        seconds = 1e-9 * (traffic.now_ns() - start)
        cpu_s = process_usage(node.pid).cpu_s - before.cpu_s
    poses, answered = traffic.poses - poses, traffic.answered - answered
    return {'cpu_percent': 100 * cpu_s / seconds, 'poses_per_s': poses / seconds,
            'answers_per_s': answered / seconds,
            'cpu_ms_per_pose': 1e3 * cpu_s / poses if poses else None}


def _log_file(args: argparse.Namespace, name: str) -> Path:
    """Return where the output of the node of a measurement is written."""
    path: Path = args.json
    return path.with_suffix(f'.{name.replace(", ", "_").replace(" ", "_")}.log')


def track_table(figures: Mapping[str, Any]) -> str:
    """Return the measurements as a table, the CPU time as a ratio to the first."""
    rows = figures['rows']
    width = max(map(len, rows))
    lines = [' ' * width + f'{"CPU [% of a core]":>19}{"ratio":>8}{"answers/s":>11}'
             f'{"poses/s":>9}{"CPU ms/pose":>13}']
    for name, row in rows.items():
        each = row['cpu_ms_per_pose']
        ratio = row['cpu_percent'] / max(rows[EACH]['cpu_percent'], 1e-9)
        lines.append(f'{name:<{width}}{row["cpu_percent"]:>19.1f}{ratio:>8.2f}'
                     f'{row["answers_per_s"]:>11.1f}{row["poses_per_s"]:>9.1f}'
                     + ('-' if each is None else f'{each:.1f}').rjust(13))
    lines.append(f'images at {figures["rate_hz"]:g} Hz; the slow detector answers at '
                 f'{figures["detections_rate_hz"]:.2g} Hz')
    return '\n'.join(lines)
