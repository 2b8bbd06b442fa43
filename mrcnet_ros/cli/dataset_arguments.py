"""Options that several commands share: dataset, model and boxes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cpus import usable_cpus
from ..specs import DEFAULT_CROPS, DEFAULT_HYPOTHESES, DEFAULT_REFINEMENTS
from .argument_types import count, positive
from .tasks import model_identity

if TYPE_CHECKING:
    from ..datasets.bop import BopDataset
    from ..datasets.boxes import BoxSource, BoxSpec
    from ..evaluation.speed import Question
    from ..inference.base_estimator import BaseEstimator
    from ..inference.estimator import PoseEstimator
    from ..inference.poses import Estimator


def add_dataset_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Declare which images to use.

    :param required: otherwise there may be none.
    """
    parser.add_argument('--bop-dir', type=Path, required=required, metavar='DIR',
                        help='folder that contains BOP datasets')
    parser.add_argument('--dataset', required=required, help='name of the dataset, such as lmo')
    parser.add_argument('--split',
                        help='split of the dataset (default: its test images, in test, '
                                        'or test_primesense of tless and hb)')
    parser.add_argument('--limit', type=positive, metavar='N', help='only the first N images')


def add_box_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which boxes take the place of a detector's."""
    parser.add_argument('--boxes', choices=('visib', 'amodal', 'detector'),
                        default='visib',
                        help='boxes of the ground truth around the visible part (visib) or the '
                             'whole object (amodal), or visible boxes with the errors of a '
                             'detector (default: %(default)s)')
    parser.add_argument('--box-jitter', type=float, default=0.0, metavar='F',
                        help='shift and scale boxes at random by up to F times their side '
                             '(default: %(default)g)')
    parser.add_argument('--seed', type=count, default=0, metavar='N',
                        help='seed of all random choices, such as the jitter (default: '
                             '%(default)s)')


def add_detection_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare a detector's file that boxes are taken from."""
    parser.add_argument('--detections', type=Path, metavar='FILE',
                        help="use the boxes of a detector's file in BOP's format instead of the "
                             'ground truth: for each target object those with the best scores')
    parser.add_argument('--detector', type=Path, metavar='DIR',
                        help='use the boxes of the detector in this model directory: for each '
                             'target object two more than there are instances; the poses decide '
                             'among them')
    parser.add_argument('--detection-boxes', choices=('bbox', 'mask'), default='bbox',
                        help="use the file's boxes, or boxes around its masks (default: bbox)")


def add_model_arguments(parser: argparse.ArgumentParser, *, required: bool = True,
                        backend: bool = True, crops: bool = True, plane: bool = True,
                        dataset: bool = False) -> None:
    """Declare which model to run, and on what.

    :param required: otherwise the model of the demo is the default.
    :param backend: whether one is to be chosen.
    :param crops: whether the numbers of crops, hypotheses and refinements are to be chosen.
    :param plane: whether a plane may be found, where the numbers of crops are to be chosen.
    :param dataset: whether a model without meshes gets those of a dataset.
    """
    usual = 'meshes/ in the model directory' + (', or else the dataset' if dataset else '')
    parser.add_argument('--model', type=Path, required=required, metavar='DIR',
                        help='model directory, with model.json'
                             + ('' if required else ' (default: the model of the demo)'))
    parser.add_argument('--meshes', type=Path, metavar='DIR',
                        help=f'folder of the mesh files (default: {usual})')
    if backend:
        add_runtime_arguments(parser)
    add_threads_argument(parser)
    if crops:
        parser.add_argument('--crops', type=positive, default=DEFAULT_CROPS, metavar='N',
                            help='number of rotated crops of each detection; '
                                 'their poses are averaged (default: %(default)s; the paper '
                                 'preset always uses four)')
        parser.add_argument('--hypotheses', type=positive, default=DEFAULT_HYPOTHESES, metavar='N',
                            help='largest number of rotations of each crop that stage 2 starts '
                                 'from; the outline in the image chooses among the poses '
                                 '(default: %(default)s; the paper preset has one)')
        parser.add_argument('--refine', type=count, default=DEFAULT_REFINEMENTS, metavar='N',
                            help='number of passes of the refiner over the pose of each '
                                 'detection, 0 to 3 (default: %(default)s; no effect on a model '
                                 'without a refiner)')
    if crops and plane:
        parser.add_argument('--find-plane', action=argparse.BooleanOptionalAction, default=True,
                            help='find the plane that three or more objects of an image stand on, '
                                 'and correct their poses by it (default: yes; not with the paper '
                                 'preset)')


def add_threads_argument(parser: argparse.ArgumentParser) -> None:
    """Declare how many threads compute."""
    parser.add_argument('--threads', type=positive, default=usable_cpus(), metavar='N',
                        help='CPU threads of the runtime (default: one for each usable CPU)')


def add_backend_argument(parser: argparse.ArgumentParser) -> None:
    """Declare which runtime computes."""
    parser.add_argument('--backend', default='onnxruntime', metavar='NAME',
                        help='runtime of the network: onnxruntime, openvino, tensorrt, '
                             'tensorrt_rtx, torch, or auto for the best installed one '
                             '(default: onnxruntime)')


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what runs the model."""
    add_backend_argument(parser)
    parser.add_argument('--device', default='', metavar='NAME',
                        help="device, named as the runtime names it (default: the runtime's)")


def add_runtime_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what runs the model, and how."""
    add_device_arguments(parser)
    parser.add_argument('--precision', default='auto', metavar='NAME',
                        help='fp32, bf16 or fp16 (default: auto, the lowest that mrcnet verify '
                             'accepted on this machine, else fp32)')
    parser.add_argument('--allow-unverified', action='store_true',
                        help='allow a precision that mrcnet verify has not accepted')


def add_estimation_arguments(parser: argparse.ArgumentParser, *, backend: bool = True,
                             crops: bool = True, plane: bool = True, dataset: bool = True
                             ) -> None:
    """Declare what poses on a dataset need: images, model and boxes.

    :param backend: whether one is to be chosen.
    :param crops: whether their number is to be chosen.
    :param plane: whether one may be found, where the number of crops is to be chosen.
    :param dataset: whether one has to be given.
    """
    add_dataset_arguments(parser, required=dataset)
    add_model_arguments(parser, backend=backend, crops=crops, plane=plane, dataset=True)
    add_box_arguments(parser)


def open_dataset(args: argparse.Namespace, *, empty: bool = False) -> BopDataset:
    """Return the dataset that the options name; a model without meshes gets the dataset's.

    :param empty: see :class:`BopDataset`.
    :raises DatasetError: when it cannot be used.
    """
    from ..inference.model_directory import MESH_FOLDER

    dataset = open_split(args, empty=empty)
    if args.meshes is None and not (args.model / MESH_FOLDER).is_dir():
        args.meshes = dataset.training_models_dir
    return dataset


def open_split(args: argparse.Namespace, *, empty: bool = False) -> BopDataset:
    """Return the dataset that the options name.

    :param empty: see :class:`BopDataset`.
    :raises DatasetError: when it cannot be used.
    """
    from ..datasets.bop import BopDataset

    return BopDataset(args.bop_dir, args.dataset, args.split, empty=empty)


def open_estimator(args: argparse.Namespace, **options: Any) -> BaseEstimator[Any]:
    """Load the model that the options name, into the runtime that they name.

    :param options: further ones of :meth:`BaseEstimator.load`.
    :raises ModelError: when the model cannot be used.
    :raises SpecError: when options would have no effect on it.
    """
    from ..presets.loading import load_any_estimator

    take_fixed_numbers(args)
    estimator = load_any_estimator(args.model, args.meshes, **estimator_options(args), say=say,
                                   **options)
    args.find_plane, args.refine = estimator.finds_plane, estimator.refinements
    return estimator


def take_fixed_numbers(args: argparse.Namespace) -> None:
    """Let crops, hypotheses and plane be the preset's of the model where it leaves no choice.

    :raises SpecError: when others are asked for, or stage 1 alone, or a refinement.
    """
    from ..presets.loading import preset_of

    preset = preset_of(args.model)
    if preset.fixed is None:
        return
    crops, hypotheses = preset.fixed
    fixed = {'stage1_only': False, 'crops': crops, 'hypotheses': hypotheses,
             'refine': DEFAULT_REFINEMENTS}
    refuse_without_effect(
        args, [name for name, value in fixed.items() if getattr(args, name, value) != value],
        f'models of the {preset.name} preset always use both stages once, {crops} crops and '
        f'{hypotheses} hypothesis')
    args.crops, args.hypotheses = preset.fixed
    args.find_plane = preset.estimator.finds_plane


def open_pose_estimator(args: argparse.Namespace, **options: Any) -> PoseEstimator:
    """Load the model that the options name, for what only the default preset can do.

    :param options: further ones of :meth:`PoseEstimator.load`.
    :raises SpecError: when the model is of another preset.
    """
    from ..presets.loading import load_pose_estimator

    estimator = load_pose_estimator(args.model, args.meshes, **estimator_options(args), say=say,
                                    **options)
    args.find_plane, args.refine = estimator.finds_plane, estimator.refinements
    return estimator


def timed_questions(args: argparse.Namespace, dataset: BopDataset, estimator: Estimator
                    ) -> list[Question]:
    """Return the images and detections that an estimator is timed with.

    :raises DatasetError: when no image shows an object that the model knows.
    """
    from ..errors import DatasetError
    from ..evaluation.speed import questions

    found = questions(dataset.frames[:args.limit], estimator, box_spec(args))
    if not found:
        raise DatasetError(f'{dataset.split_path}: none of the targets is an object of the '
                           f'model; its objects are {sorted(estimator.objects)}')
    return found


def box_spec(args: argparse.Namespace) -> BoxSpec:
    """Return which boxes of the ground truth the options name.

    :raises SpecError: when the jitter is out of range.
    """
    from ..datasets.boxes import BoxSpec

    return BoxSpec(args.boxes, args.box_jitter, args.seed)


def box_source(args: argparse.Namespace, dataset: BopDataset | None) -> BoxSource:
    """Return where the boxes come from.

    :param dataset: whose images a file of detections must be of; None where there are none, and
        no file is allowed.
    :raises MrcnetError: when the options do not fit together, or file or detector cannot be used.
    """
    from ..datasets.detections import DetectionFile
    from ..errors import SpecError

    if args.detections is not None and args.detector is not None:
        raise SpecError('--detections and --detector both set the source of the boxes; give '
                        'one of them')
    if args.detections is None:
        refuse_without_effect(args, ['detection_boxes'], 'it is for --detections')
    if args.detections is None and args.detector is None:
        return box_spec(args)
    # rendered images are drawn with the seed as well
    idle = ['boxes', 'box_jitter'] if dataset is None else ['boxes', 'box_jitter', 'seed']
    refuse_without_effect(args, idle, 'the boxes are those of --detections or --detector, not of '
                          'the ground truth')
    if args.detections is not None:
        if dataset is None:
            raise SpecError('--detections has the boxes of a dataset; leave it out without one')
        file = DetectionFile(args.detections, args.detection_boxes)
        file.check(dataset.frames, dataset.known_object_ids)
        return file
    return _detector_boxes(args)


def boxes_used(args: argparse.Namespace) -> dict[str, Any]:
    """Return which boxes the options name, for a file of figures."""
    if getattr(args, 'detections', None) is not None:
        return {'kind': args.detection_boxes, 'file': str(args.detections)}
    if getattr(args, 'detector', None) is not None:
        return {'kind': 'own detector', 'model': model_identity(args.detector)}
    return {'kind': args.boxes, 'jitter': args.box_jitter, 'seed': args.seed}


def _detector_boxes(args: argparse.Namespace) -> BoxSource:
    from ..detector.object_detector import ObjectDetector
    from ..evaluation.detector_boxes import LEAST_SCORE, DetectorBoxes

    options = {k: v for k, v in runtime_options(args).items()
               if k in ('backend', 'device', 'threads')}
    # lower precisions are verified for poses and for boxes apart
    precision = 'fp32' if args.precision == 'fp32' else 'auto'
    return DetectorBoxes(ObjectDetector.load(args.detector, least_score=LEAST_SCORE,
                                             precision=precision, **options))


def runtime_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of RuntimeOptions from :func:`add_model_arguments`."""
    return {name: getattr(args, name)
            for name in ('backend', 'device', 'precision', 'allow_unverified', 'threads')}


def estimator_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options from :func:`add_model_arguments` about how to run a model.

    They are options of :meth:`PoseEstimator.load` and parameters of the node.
    """
    return {**runtime_options(args), 'crops': args.crops, 'hypotheses': args.hypotheses,
            'refine': args.refine, 'find_plane': getattr(args, 'find_plane', False)}


def say(text: str) -> None:
    """Tell which runtime was chosen and what takes long, beside the command's output."""
    print(text, file=sys.stderr, flush=True)


def refuse_without_effect(args: argparse.Namespace, names: Iterable[str], reason: str) -> None:
    """Refuse options that were given and would count for nothing.

    :param names: of the options.
    :param reason: why they would.
    :raises SpecError: naming them.
    """
    from ..errors import SpecError

    idle = [f'--{name.replace("_", "-")}' for name in names
            if getattr(args, name) != args.parser.get_default(name)]
    if idle:
        raise SpecError(f'{", ".join(idle)} would have no effect: {reason}')
