"""``mrcnet calibrate``: how large objects and errors are, from photographs or renders."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import SpecError
from .argument_types import positive
from .calibrate_laws import calibrate_depth, measured_covariance, measured_score, print_written
from .dataset_arguments import (
    add_detection_arguments,
    add_estimation_arguments,
    box_source,
    open_dataset,
    open_estimator,
    open_pose_estimator,
    refuse_without_effect,
)
from .known_objects import check_detector, fit_to_dataset
from .progress import progress_bar

if TYPE_CHECKING:
    from ..datasets.bop import BopDataset
    from ..datasets.boxes import BoxSource
    from ..evaluation.covariance_calibration import Images
    from ..evaluation.runner import Run
    from ..evaluation.size_calibration import SizeMeasurement
    from ..inference.poses import Estimator
    from ..inference.scoring import ScoreLaw, ScoreSource
    from ..inference.uncertainty import CovarianceLaw, LawSource
    from ..objects import ObjectModel


MEASURES = ('sizes', 'covariance', 'score')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_estimation_arguments(parser, plane=False, dataset=False)
    parser.set_defaults(boxes='detector')
    add_detection_arguments(parser)
    rendered = parser.add_argument_group('without annotated photographs')
    rendered.add_argument('--synthetic', action='store_true',
                          help="measure errors on rendered images of the model's own meshes, "
                               'instead of --bop-dir and --dataset; does not measure sizes')
    rendered.add_argument('--images', type=positive, metavar='N',
                          help='number of images (default: enough for 200 poses, at least 40)')
    rendered.add_argument('--distance', type=float, nargs=2, metavar=('NEAR', 'FAR'),
                          help='distances of the objects [m]: those of the training or of your '
                               'camera (default: near objects cover 0.2 to 0.45 of the '
                               "image's height)")
    rendered.add_argument('--backgrounds', type=Path, nargs='+', default=[], metavar='DIR',
                          help='folders of photographs and environment maps (default: noise)')
    rendered.add_argument('--for-renders', action='store_true',
                          help='for a model that is used on rendered images: do not widen the '
                               'covariance for the larger errors on photographs')
    parser.add_argument('--depth', action='store_true',
                        help='measure the errors of poses that depth has corrected, with the '
                             'depth images of the dataset or, for rendered images, with a '
                             'simulated depth camera; does not measure sizes')
    parser.add_argument('--write', action='store_true',
                        help='write sizes, the covariance model and the score calibration into '
                             'model.json; score the model again afterwards')
    parser.add_argument('--only', choices=MEASURES, nargs='+', default=MEASURES,
                        help='write only these (default: all); with photographs and '
                             'without --depth the sizes are printed in any case')


def run(args: argparse.Namespace) -> int:
    """Estimate poses, compare them with the annotations, print and perhaps write what was found.

    :return: 1 when the images are not enough to tell what was asked for, else 0.
    """
    from ..evaluation.report import check_writable
    from ..model_json import MODEL_FILE

    _check_options(args)
    if args.write and args.model.is_dir():
        check_writable(args.model / MODEL_FILE)
    return _run_synthetic(args) if args.synthetic else _run_photographs(args)


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other or have no effect.

    :raises SpecError: naming them.
    """
    if _names_sizes(args) and (args.synthetic or args.depth):
        raise SpecError('--only sizes is for photographs without --depth: neither rendered images '
                        'nor poses that depth has corrected show sizes')
    if args.synthetic:
        if args.bop_dir is not None or args.dataset is not None or args.detections is not None:
            raise SpecError('--synthetic renders its own images: leave out --bop-dir, --dataset '
                            'and --detections')
        refuse_without_effect(args, ['split', 'limit'], '--synthetic renders its own images; '
                              '--images sets their number')
    elif args.bop_dir is None or args.dataset is None:
        raise SpecError('give --bop-dir and --dataset, or --synthetic if you have no photographs')
    elif args.images or args.distance or args.backgrounds or args.for_renders:
        raise SpecError('--images, --distance, --backgrounds and --for-renders need --synthetic')


def _names_sizes(args: argparse.Namespace) -> bool:
    """Tell whether ``--only`` names the sizes."""
    return args.only is not MEASURES and 'sizes' in args.only


def _run_photographs(args: argparse.Namespace) -> int:
    """Measure on the images of a dataset, print and perhaps write what was found."""
    from ..datasets.boxes import BoxSpec
    from ..evaluation.covariance_calibration import Images

    dataset = open_dataset(args)
    if _names_sizes(args) and dataset.rendered:
        raise SpecError(f'--only sizes is for photographs, and {dataset.split_path} is rendered: '
                        'its objects are as large as their meshes')
    source = 'synthetic' if dataset.rendered else 'photographs'
    boxes = box_source(args, dataset)
    estimator = _photograph_estimator(args, dataset, boxes)
    objects, done = estimator.objects, _answer_photographs(args, dataset, boxes, estimator)
    if args.depth:
        return calibrate_depth(args.model, done, objects, Images(
            source, f'{_boxes(args)}, with depth', *_tried(args), depth=True),
            args.only, args.write)
    resized = 'sizes' in args.only and not dataset.rendered  # those show the meshes
    # Distances scatter less with exact boxes: on LM-O the sizes that they tell have 0.004 to 0.007
    # more of the mean AR with each kind of box, also with those of YOLOX.
    exact = boxes.exact() if resized and isinstance(boxes, BoxSpec) else boxes
    sized = done if exact == boxes else _answer_photographs(args, dataset, exact, estimator)
    sizes = _measured_sizes(sized, objects)
    unsized = 'sizes' in args.only and _no_size_told(sizes)
    laws = _laws(_of_preset(args), done, objects,
                 {s.label: s.ratio if resized else s.known for s in sizes},
                 Images(source, _boxes(args), *_tried(args)))
    if args.write:
        _write(args.model, laws, {s.label: s.ratio for s in sizes if resized and s.told},
               args.refine)
    return laws.missing or unsized


def _measured_sizes(done: Run, objects: Mapping[str, ObjectModel]) -> list[SizeMeasurement]:
    """Measure the sizes of objects and print them.

    :param objects: by label.
    :raises DatasetError: when they come from a mistake.
    """
    from ..evaluation.size_calibration import check_sizes, measure_sizes

    sizes = measure_sizes(done.frames, done.rows, objects)
    print('\n'.join(_table(sizes)), end='\n\n')
    check_sizes(sizes)
    return sizes


def _no_size_told(sizes: Iterable[SizeMeasurement]) -> bool:
    """Tell whether the photographs show the size of no object, and print so."""
    from ..evaluation.size_calibration import MIN_PHOTOGRAPHS

    if any(size.told for size in sizes):
        return False
    print(f'no sizes: no photograph, or fewer than {MIN_PHOTOGRAPHS}, shows the same object '
          'at least 60 % visible and with a rotation that was estimated within 30 degrees')
    return True


def _of_preset(args: argparse.Namespace) -> Collection[str]:
    """Return what is to be measured; of a preset without spreads only what is asked for."""
    from ..presets.loading import preset_of

    if args.only is MEASURES and not preset_of(args.model).templates_kept:
        print('no covariance and no score: only the default preset has them')
        return ('sizes',)
    return list(args.only)


def _photograph_estimator(args: argparse.Namespace, dataset: BopDataset, boxes: BoxSource
                          ) -> Estimator:
    dataset.frames[0].target_ground_truth()  # there is nothing to compare with without it
    estimator = open_estimator(args, spreads=True)
    fit_to_dataset(estimator, dataset, boxes)
    return estimator


def _answer_photographs(args: argparse.Namespace, dataset: BopDataset, boxes: BoxSource,
                        estimator: Estimator) -> Run:
    from ..evaluation.runner import Run, run_frames

    done = Run()
    frames = progress_bar(dataset.frames[:args.limit], unit='image')
    run_frames(frames, estimator, boxes, None, done, depth='required' if args.depth else 'off')
    return done


def _run_synthetic(args: argparse.Namespace) -> int:
    """Measure on rendered images, print and perhaps write what was found."""
    from ..evaluation.covariance_calibration import Images

    done, objects = _answer_rendered(args)
    if args.depth:
        return calibrate_depth(args.model, done, objects, Images(
            'synthetic', f'{_boxes(args)}, with simulated depth', *_tried(args),
            for_photographs=not args.for_renders, depth=True), args.only, args.write)
    laws = _laws(args.only, done, objects, dict.fromkeys(objects, 1.0), Images(
        'synthetic', _boxes(args), *_tried(args), for_photographs=not args.for_renders))
    if args.write:
        _write(args.model, laws, {}, args.refine)
    return laws.missing


def _answer_rendered(args: argparse.Namespace) -> tuple[Run, Mapping[str, ObjectModel]]:
    """Answer rendered pictures of the model's own meshes.

    With depth, objects count as large as their meshes, as they are in the pictures.
    """
    from ..evaluation.runner import Run, run_frames
    from ..rendering.background_files import find_images
    from ..synth.held_out import SYNTH_SEED, held_out_frames, image_count

    boxes = box_source(args, None)
    estimator = open_pose_estimator(args, spreads=True)
    check_detector(estimator, boxes)
    if args.depth:
        estimator.assume_sizes_of_meshes()
    objects, done = estimator.objects, Run()
    count = args.images or image_count(len(objects))
    # a model is trained with one for all objects
    prior = next((p for p in estimator.model.view_priors.values() if p is not None), None)
    frames = held_out_frames(
        list(objects.values()), count, prior=prior,
        distance_m=tuple(args.distance) if args.distance else None,
        backgrounds=find_images(args.backgrounds) if args.backgrounds else [],
        seed=SYNTH_SEED + args.seed)
    shown = progress_bar(frames, total=count, unit='image')
    run_frames(shown, estimator, boxes, None, done, depth='required' if args.depth else 'off')
    return done, objects


class _Laws(NamedTuple):
    """Fitted calibrations with their sources; None for one that could not be fitted.

    :param missing: whether a wanted one could not be fitted.
    """

    covariance: tuple[CovarianceLaw, LawSource] | None
    score: tuple[ScoreLaw, ScoreSource] | None
    missing: bool


def _laws(wanted: Collection[str], done: Run, objects: Mapping[str, ObjectModel],
          sizes: Mapping[str, float], images: Images) -> _Laws:
    """Fit the wanted calibrations, print how good they are, and return them.

    :param wanted: of :data:`MEASURES`.
    :param sizes: by label, size ratios that the model is going to have.
    """
    covariance = score = None
    if 'covariance' in wanted:
        covariance = measured_covariance(done, objects, sizes, images)
        print()
    if 'score' in wanted:
        score = measured_score(done, objects, sizes, images)
    return _Laws(covariance, score, ('covariance' in wanted and covariance is None)
                 or ('score' in wanted and score is None))


def _write(path: Path, laws: _Laws, sizes: Mapping[str, float], refine: int) -> None:
    """Write calibrations and sizes into a model.

    :param sizes: by label, new size ratios.
    :param refine: passes of the refiner that the calibrations were measured with.
    """
    from ..inference.calibration_entries import SIZES, write_law, write_size_ratios

    written = []
    if sizes:
        write_size_ratios(path, sizes)
        written.append(SIZES)
    for measured in (laws.covariance, laws.score):
        if measured is not None:
            write_law(path, *measured)
            written.append(measured[0].entry)
    print_written(path, written, refine)


def _tried(args: argparse.Namespace) -> tuple[int, int, int]:
    """Return the crops of each detection, the hypotheses of each crop and the refinements."""
    return args.crops, args.hypotheses, args.refine


def _boxes(args: argparse.Namespace) -> str:
    """Return in words which boxes were given."""
    if args.detections is not None:
        return f'{args.detection_boxes} of {args.detections.name}'
    if args.detector is not None:
        return f'those of the detector of {args.detector.resolve().name}'
    return f'{args.boxes}, moved by up to {args.box_jitter:g}' if args.box_jitter else \
        str(args.boxes)


def _table(sizes: Iterable[SizeMeasurement]) -> Iterator[str]:
    yield f'{"object":<16}{"photographs":>12}{"size now":>10}{"measured":>10}{"+-":>7}' \
          f'{"new size":>10}  median error of distance, before -> after (left out)'
    for size in sizes:
        line = f'{size.label:<16}{len(size.log_ratios):>12}{size.known:>10.3f}'
        if len(size.log_ratios) > 1:
            before, after = size.left_out()
            line += (f'{size.measured:>10.3f}{size.error:>7.3f}{size.ratio:>10.3f}  '
                     f'{before:.1%} -> {after:.1%}')
        yield line
