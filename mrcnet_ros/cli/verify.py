"""``mrcnet verify``: does a runtime give what the reference gives; the answer is kept."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BackendError, SpecError
from .dataset_arguments import (
    add_box_arguments,
    add_dataset_arguments,
    add_device_arguments,
    add_model_arguments,
    box_spec,
    open_dataset,
    open_split,
    refuse_without_effect,
    runtime_options,
    say,
)
from .progress import progress_bar

if TYPE_CHECKING:
    from ..datasets.bop import BopDataset
    from ..evaluation.verification import AnswerComparison
    from ..inference.base_estimator import BaseEstimator
    from ..inference.poses import Estimator
    from ..runtimes.backend import Backend, RuntimeOptions
    from ..runtimes.runtime_choice import Loadable

MOVED = 1  # exit code: poses or boxes are beyond the limits
SCORES_FROM = 0.1  # boxes are looked for from a score well below those that count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_arguments(parser)
    # each answer of the network counts, so there are no crops to choose
    add_model_arguments(parser, backend=False, crops=False, dataset=True)
    add_box_arguments(parser)
    parser.add_argument('--detector', action='store_true',
                        help='verify the boxes of the detector in the model directory, not the '
                             'poses')
    add_device_arguments(parser)
    parser.add_argument('--precision', default='auto', metavar='NAME',
                        help='fp32, bf16 or fp16 (default: auto, the lowest that the runtime has '
                             'here); where PyTorch is missing, onnxruntime in fp32 is the '
                             'reference itself, so that another one has to be given')
    parser.set_defaults(allow_unverified=True)  # what is not verified yet is what this is for
    parser.add_argument('--max-move', type=float, default=0.05, metavar='F',
                        help='how far a surface may move, in diameters (default: 0.05)')
    parser.add_argument('--max-moved', type=float, default=0.01, metavar='F',
                        help='share of the detections that may move farther (default: 0.01)')
    parser.add_argument('--max-flips', type=float, default=0.05, metavar='F',
                        help='share of the detections that may get another rotation bin '
                             '(default: 0.05)')
    parser.add_argument('--max-others', type=float, default=0.05, metavar='F',
                        help='with --detector: share of the boxes that may differ (default: 0.05)')


def run(args: argparse.Namespace) -> int:
    """Compare with the reference, keep the result in the model directory and print it.

    :return: 0 when all poses, or boxes, are within the limits, else 1.
    """
    from ..evaluation.report import check_writable
    from ..runtimes.backend import RuntimeOptions
    from ..runtimes.backends import lowest_precision
    from ..runtimes.verified import VERIFIED_FILE

    if args.model.is_dir():
        check_writable(args.model / VERIFIED_FILE)  # before the work
    asked = lowest_precision(RuntimeOptions(**runtime_options(args), say=say))
    return _verify_detector(args, asked) if args.detector else _verify_poses(args, asked)


def _verify_poses(args: argparse.Namespace, asked: RuntimeOptions) -> int:
    """Compare poses, print the figures and keep the verdict; return the exit code."""
    from ..evaluation.verification import VerificationLimits, verdict
    from ..runtimes.verified import POSES

    refuse_without_effect(args, ['max_others'], 'it is for --detector')
    limits = VerificationLimits(move=args.max_move, moved=args.max_moved, flips=args.max_flips)
    dataset = open_dataset(args)
    known, comparisons = _reference_options(asked, args.model), []
    # the poses of stage 2 must be right, and those that a refiner makes of them
    for refine in (0, 1) if _has_refiner(args.model) else (0,):
        with (closing(_load(args, known, refine)) as reference,
              closing(_load(args, asked, refine)) as candidate):
            found, images = _compare(args, dataset, reference, candidate)
        comparisons += found
    result = verdict(comparisons, limits)
    print(verification_table(result['figures']))
    return _keep(args, candidate.model, asked, reference.backend, {**result, 'images': images},
                 POSES)


def _verify_detector(args: argparse.Namespace, asked: RuntimeOptions) -> int:
    """Compare boxes, print the figures and keep the verdict; return the exit code.

    The reference is ONNX Runtime: an export has compared its boxes with PyTorch's.
    """
    from ..detector.entry import read_detector
    from ..detector.object_detector import ObjectDetector
    from ..evaluation.detector_verification import boxes_table, boxes_verdict, compare_boxes
    from ..runtimes.backend import RuntimeOptions
    from ..runtimes.verified import DETECTOR

    refuse_without_effect(
        args, ['max_move', 'max_moved', 'max_flips', 'meshes', 'boxes', 'box_jitter', 'seed'],
        '--detector compares boxes, not poses')
    if not 0.0 <= args.max_others <= 1.0:
        raise SpecError(f'--max-others is {args.max_others}; expected 0 to 1')
    if (asked.backend, asked.precision) == ('onnxruntime', 'fp32') and asked.device in ('', 'cpu'):
        raise BackendError('onnxruntime in fp32 is the reference itself; give another --backend')
    dataset = open_split(args)
    reference, candidate = (
        ObjectDetector.load(args.model, least_score=SCORES_FROM, backend=options.backend,
                            device=options.device, precision=options.precision,
                            threads=options.threads, allow_unverified=True, say=say)
        for options in (RuntimeOptions(precision='fp32', threads=asked.threads), asked))
    frames = dataset.frames[:args.limit]
    with progress_bar(total=len(frames), unit='image') as bar:
        result = boxes_verdict(compare_boxes(frames, reference, candidate, bar.update),
                               args.max_others)
    print(boxes_table(result['figures']))
    images = {'dataset': dataset.name, 'split': dataset.split, 'count': len(frames)}
    return _keep(args, read_detector(args.model), asked, reference.backend,
                 {**result, 'images': images}, DETECTOR)


def _keep(args: argparse.Namespace, model: Loadable, asked: RuntimeOptions, reference: Backend,
          result: Mapping[str, Any], of: str) -> int:
    """Print a verdict, write it into the model directory, and return the exit code."""
    from ..runtimes.runtime_choice import execution_of
    from ..runtimes.verified import store_result

    print('\n'.join([*result['reasons'], 'passed' if result['passed'] else 'FAILED']))
    file = store_result(args.model, execution_of(model, asked), {
        **result, 'command': args.command_line,
        'reference': {'backend': reference.name, 'version': reference.version}}, of)
    print(f'kept in {file}')
    return 0 if result['passed'] else MOVED


def _reference_options(asked: RuntimeOptions, model: Path) -> RuntimeOptions:
    """Return what to compare with: PyTorch on the processor, or ONNX Runtime where it is missing.

    :raises BackendError: when that is what is to be verified.
    """
    from ..model_json import REFINER_WEIGHTS, WEIGHTS_FILE
    from ..runtimes.backend import RuntimeOptions
    from ..runtimes.backends import RUNTIMES

    problem = RUNTIMES['torch'].problem()
    needed = [WEIGHTS_FILE, *([REFINER_WEIGHTS] if _has_refiner(model) else [])]
    if lacking := [name for name in needed if not (model / name).is_file()]:
        problem = f'needs {" and ".join(lacking)} in the model directory'
    name = 'onnxruntime' if problem else 'torch'
    if asked.backend == name and asked.precision == 'fp32' and asked.device in ('', 'cpu'):
        raise BackendError(f'{name} is the reference itself here'
                           + (f': torch {problem}' if problem else ''))
    if problem:
        asked.say(f'reference is onnxruntime: torch {problem}')
    return RuntimeOptions(backend=name, precision='fp32', threads=asked.threads, say=asked.say)


def _has_refiner(model: Path) -> bool:
    from ..model_json import REFINER, read_model_json

    return read_model_json(model)[1].get(REFINER) is not None


def _load(args: argparse.Namespace, options: RuntimeOptions, refine: int
          ) -> BaseEstimator[Any]:
    from ..presets.loading import load_any_estimator

    fields = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    return load_any_estimator(args.model, args.meshes, crops=1, hypotheses=1, refine=refine,
                              spreads=True, **fields)  # its calibrations do not count


def _compare(args: argparse.Namespace, dataset: BopDataset, reference: Estimator,
             candidate: Estimator) -> tuple[list[AnswerComparison], dict[str, Any]]:
    """Return all comparisons, and which images they are of."""
    from ..evaluation.verification import compare_answers

    frames, boxes = dataset.frames[:args.limit], box_spec(args)
    with progress_bar(total=len(frames), unit='image') as bar:
        comparisons = compare_answers(frames, boxes, reference, candidate, bar.update)
    return comparisons, {'dataset': dataset.name, 'split': dataset.split, 'count': len(frames),
                         'boxes': dataclasses.asdict(boxes)}


def verification_table(figures: Mapping[str, Any]) -> str:
    """Return the figures as lines for people."""
    lines = [f'{figures["detections"]} detections, {figures["flips"]} from another rotation bin, '
             f'{figures["moved"]} too far; all but those from another bin:',
             f'{"":20}{"median":>10}{"p95":>10}{"max":>10}']
    rows = (('moved [diameters]', 'move_diameters', 1.0), ('moved [mm]', 'translation_m', 1e3),
            ('turned [deg]', 'rotation_rad', math.degrees(1.0)))
    for title, name, factor in rows:
        spread = figures[name] or {}
        lines.append(f'{title:20}' + ''.join(
            f'{factor * spread[key]:10.4f}' if key in spread else f'{"-":>10}'
            for key in ('median', 'p95', 'max')))
    return '\n'.join(lines)
