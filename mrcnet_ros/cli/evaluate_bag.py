"""``mrcnet evaluate bag``: a rosbag through the node in its own process, and its scores."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetError, SpecError
from .argument_types import positive, positive_float
from .bag import model_labels
from .dataset_arguments import add_model_arguments, refuse_without_effect, say
from .evaluation_page import Evaluated, add_report_argument, check_report, write_report
from .known_objects import model_objects, resized_labels, tell_unknown_targets
from .node import model_parameters
from .progress import progress_bar
from .tasks import add_json_argument, measured_with

if TYPE_CHECKING:
    from ..datasets.bop import BopFrame, ResultRow
    from ..evaluation.scores import Scores
    from ..objects import ObjectModel
    from ..testbench.bag import BagFrame
    from ..testbench.replay import ReceivedPoses

Answers = list['ReceivedPoses | None']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--bag', type=Path, required=True, metavar='BAG',
                        help='bag with /image, /camera_info, /detections and /ground_truth, as '
                             'mrcnet bag from-bop writes it')
    add_model_arguments(parser)
    parser.add_argument('--score-meshes', type=Path, metavar='DIR',
                        help='folder with models_info.json to score with (default: models_eval '
                             'beside --meshes, or --meshes, or the meshes of the model)')
    parser.add_argument('--mode', choices=('lossless', 'realtime'), default='lossless',
                        help='lossless: each frame waits for the answer to the one before; '
                             'realtime: at the rate of a camera (default: lossless)')
    parser.add_argument('--depth', choices=('off', 'auto', 'required'), default='off',
                        help='correct the poses with the depth images of the bag: never, where '
                             'there is one, or always (default: off)')
    parser.add_argument('--rate', type=positive_float, metavar='HZ',
                        help='images a second in real time (default: as in the bag)')
    parser.add_argument('--loops', type=positive, default=1, metavar='N',
                        help='how often the bag is played in real time; the first answer to an '
                             'image is scored (default: %(default)s)')
    parser.add_argument('--limit', type=positive, metavar='N', help='only the first N images')
    parser.add_argument('--timeout', type=positive_float, default=600.0, metavar='S',
                        help='time limit for the start of the node, which may render templates '
                             '(default: %(default)g)')
    parser.add_argument('--csv', type=Path, required=True, metavar='FILE',
                        help="write the poses here, in the format of BOP'19")
    add_json_argument(parser)
    add_report_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Replay, write CSV and JSON, print the table.

    :return: 1 when a frame stayed without an answer in lossless mode, or all of them did.
    :raises SpecError: when options contradict one another.
    """
    if args.mode == 'lossless':
        refuse_without_effect(args, ['rate', 'loops'], 'they are for --mode realtime')
    return evaluate(args, ['-m', 'mrcnet_ros.cli.main', 'node', '--ros-args'])


def evaluate(args: argparse.Namespace, node_command: Sequence[str]) -> int:
    """Do what ``run`` does, with any program as the node.

    :param node_command: arguments of the Python interpreter; ROS parameters are appended.
    """
    from ..datasets.bop import write_results_csv
    from ..testbench.bag import read_bag
    from ..testbench.bop_bag import bop_frames, result_rows

    check_report(args)
    labels = model_labels(args.model)
    bag = read_bag(args.bag)
    frames = bag[:args.limit]
    objects = _scored_objects(args)
    args.depth = _depth_use(args.bag, frames, args.depth)
    images = bop_frames(args.bag, frames)
    unknown = sorted({i for image in images for i in image.targets} - set(objects))
    if unknown:
        raise DatasetError(f'bag {args.bag}: has ground truth of the objects {unknown}, but '
                           f'there are meshes only of {sorted(objects)}; give the folder of all '
                           'meshes as --score-meshes')
    _require_same_objects(args, frames, images, objects)
    sized = resized_labels(args.model)
    if bag.rendered and sized:
        logging.getLogger(__name__).warning(
            'the images of bag %s are rendered and show objects as large as their meshes, but the '
            'node takes %s to be as large as on photographs (size_ratio in model.json): distances '
            'will be off by as much; mrcnet evaluate bop ignores these sizes',
            args.bag, ', '.join(sized))
    played = frames * (args.loops if args.mode == 'realtime' else 1)
    log = args.json.with_suffix('.node.log')
    answers = _replay(args, node_command, played, log)
    for topic, count in bag.incomplete.items():
        print(f'{count} images of the bag have no {topic} of their stamp and are left out')
    covariances = result_rows(images, answers, {label: i for i, label in labels.items()})
    rows = [row for row, _ in covariances]
    args.csv.parent.mkdir(parents=True, exist_ok=True)
    write_results_csv(args.csv, rows)
    scores, figures = _figures(images, rows, objects, labels)
    figures |= tell_unknown_targets(images, labels, 'they count as missed')
    _report(args, played, answers, {'incomplete': bag.incomplete, **figures}, log)
    _write_page(args, frames, images, answers, (scores, figures, covariances, objects, labels))
    unanswered = sum(answer is None for answer in answers)
    failed = unanswered and (args.mode == 'lossless' or unanswered == len(answers))
    return 1 if failed else 0


def _require_same_objects(args: argparse.Namespace, frames: Sequence[BagFrame],
                          images: Sequence[BopFrame], objects: Mapping[int, ObjectModel]) -> None:
    """Make sure that labels and numbers mean the same objects in bag, model and score meshes.

    :raises DatasetError: when they do not, or the model knows no label of the ground truth.
    """
    from ..datasets.same_objects import known_object, require_same_numbers, require_same_objects

    known, bag = model_objects(args.model), f'bag {args.bag}'
    numbers = {told.label: truth.object_id for frame, image in zip(frames, images, strict=True)
               for told, truth in zip(frame.truths or (), image.ground_truth, strict=True)}
    labels = {item.label for item in known}
    if numbers and not labels & set(numbers):
        raise DatasetError(f'{bag}: shows {sorted(numbers)}, and the model knows none of these '
                           f'labels, only {sorted(labels)}; write the bag with --model, or give '
                           'the model of these objects')
    require_same_numbers(known, numbers, bag)
    require_same_objects(known, {i: known_object(item) for i, item in objects.items()},
                         set(numbers.values()) or objects, f'the meshes that {bag} is scored with')


def _replay(args: argparse.Namespace, node_command: Sequence[str], frames: list[BagFrame],
            log: Path) -> Answers:
    from ..testbench.processes import LoggedProcess, prepare_environment
    from ..testbench.replay import Replayer

    prepare_environment()
    command = [*node_command, *_node_parameters(args)]
    with LoggedProcess('node', command, log) as node, Replayer(
            node.check_runs, depth=args.depth != 'off') as replayer:
        replayer.wait_for_node(args.timeout)
        if args.mode == 'realtime':
            return replayer.realtime(frames, args.rate or _rate(frames))
        with progress_bar(total=len(frames), unit='image') as progress:
            return replayer.lossless(frames, args.timeout, progress.update)


def _node_parameters(args: argparse.Namespace) -> list[str]:
    lossless: dict[str, Any] = {'policy': 'lossless', 'input_reliability': 'reliable',
                                'stable_symmetry': False}  # frames may be unrelated photographs
    return model_parameters(args, depth=args.depth,
                            **(lossless if args.mode == 'lossless' else {}))


def _depth_use(bag: Path, frames: Sequence[BagFrame], wanted: str) -> str:
    """Return what the node is to do with depth.

    If all frames have it, they wait for it, because its topic may come last.

    :raises DatasetError: when it is required and missing.
    """
    from ..testbench.bag import DEPTH

    missing = sum(DEPTH not in frame.inputs for frame in frames)
    if wanted == 'required' and missing:
        raise DatasetError(f'bag {bag}: {missing} of {len(frames)} images have no {DEPTH} of '
                           'their stamp, or one in which nothing was measured; give --depth auto')
    if wanted == 'auto':
        return {0: 'required', len(frames): 'off'}.get(missing, 'auto')
    return wanted


def _rate(frames: Sequence[BagFrame]) -> float:
    """Return the rate of the stamps [Hz], played loops apart."""
    stamps = sorted({frame.stamp_ns for frame in frames})
    if len(stamps) < 2:
        raise SpecError('the bag has one image only and thus no rate; give --rate')
    return float(1e9 / np.median(np.diff(stamps)))


def _scored_objects(args: argparse.Namespace) -> dict[int, ObjectModel]:
    from ..inference.model_directory import MESH_FOLDER, read_model_directory
    from ..objects import load_bop_objects
    from ..objects.object_files import MODELS_INFO

    meshes = args.meshes or args.model / MESH_FOLDER
    places = ([args.score_meshes] if args.score_meshes
              else [meshes.parent / 'models_eval', meshes])
    for place in places:
        if (place / MODELS_INFO).is_file():
            return load_bop_objects(place)
    if args.score_meshes:
        raise DatasetError(f'{args.score_meshes}: holds no models_info.json; give a BOP models '
                           'folder as --score-meshes, or leave it out')
    return {o.object_id: o for o in read_model_directory(args.model, args.meshes).objects}


def _figures(images: Sequence[BopFrame], rows: Sequence[ResultRow],
             objects: Mapping[int, ObjectModel], labels: Mapping[int, str]
             ) -> tuple[Scores, dict[str, Any]]:
    from ..evaluation import report
    from ..evaluation.conventions import other_convention
    from ..evaluation.scores import score
    from ..evaluation.vsd_scores import VsdScores

    wanted = {i: objects[i] for image in images for i in image.targets}
    if found := other_convention(images, rows, wanted):
        say(f'look at the ground truth of the bag and the meshes: {found}')
    scores = score(images, rows, wanted)
    vsd = VsdScores(missing='mrcnet evaluate csv computes it from CSV and dataset')
    return scores, report.recall_figures(scores, vsd, labels)


def _write_page(args: argparse.Namespace, frames: Sequence[BagFrame], images: Sequence[BopFrame],
                answers: Answers,
                outcome: tuple[Scores, dict[str, Any], Any, Any, Mapping[int, str]]) -> None:
    from ..evaluation.page import Latency

    scores, figures, covariances, objects, labels = outcome
    photographs = {(image.scene_id, image.image_id): frame
                   for image, frame in zip(images, frames, strict=True)}
    ages_ms = [1e3 * answer.age_s for answer in answers if answer is not None]
    write_report(args, Evaluated(
        title=f'{args.bag.name}: poses of {args.model.name} as the node publishes them',
        frames=images, figures=figures, scores=scores, objects=objects, labels=labels,
        covariances=covariances, latency=Latency('age of the poses', ages_ms),
        load=lambda image: photographs[image.scene_id, image.image_id].image(),
        facts={'bag': str(args.bag), 'mode': args.mode, 'depth': args.depth,
               'images': f'{len(answers)} sent, {len(ages_ms)} answered'}))


def _report(args: argparse.Namespace, played: Sequence[BagFrame], answers: Answers,
            figures: Mapping[str, Any], log: Path) -> None:
    from ..evaluation import report

    ages_ms = [1e3 * answer.age_s for answer in answers if answer is not None]
    ages = {f'p{p}': float(np.percentile(ages_ms, p)) if ages_ms else None for p in (50, 95, 99)}
    rate = (args.rate or _rate(played)) if args.mode == 'realtime' else None
    summaries = [line for line in log.read_text(errors='replace').splitlines()
                 if 'dropped:' in line]
    account = summaries[-1].split(']: ')[-1] if summaries else None
    report.write_json(args.json, {
        **measured_with(args), 'mode': args.mode, 'bag': str(args.bag),
        'depth': args.depth, 'sizes': 'of the model',
        'sent': len(played), 'answered': len(ages_ms), 'unanswered': len(played) - len(ages_ms),
        'sent_hz': rate, 'answered_hz': rate and rate * len(ages_ms) / len(played),
        'age_ms': ages, 'node': account, **figures})
    print(report.recall_table(figures))
    print(f'{len(ages_ms)} of {len(played)} frames answered'
          + (f', sent at {rate:.1f} Hz' if rate else ''))
    if ages_ms:
        print('age of the poses [ms]: '
              + ', '.join(f'{name} {value:.0f}' for name, value in ages.items()))
    if account:
        print(f'the node: {account}')
