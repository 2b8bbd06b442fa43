"""``mrcnet evaluate response``: answers of stage 2, or of the refiner, to known starts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..model_json import REFINER
from .argument_types import positive
from .dataset_arguments import add_estimation_arguments, runtime_options, say
from .measuring import MeasuringSetting, open_setting, source
from .progress import progress_bar
from .sample_arguments import add_sample_arguments, open_composer, sample_config
from .tasks import add_json_argument

if TYPE_CHECKING:
    from ..datasets.known_view import KnownView
    from ..evaluation.response import Refines
    from ..inference.estimator import PoseEstimator

PHOTOGRAPHS, COMPOSED = 'photographs', 'training images'
STAGES = ('stage2', REFINER)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sample_arguments(parser, required=False)
    add_estimation_arguments(parser, crops=False)
    parser.add_argument('--samples', type=positive, default=24, metavar='N',
                        help='composed images of each object (default: %(default)s)')
    parser.add_argument('--stage', choices=STAGES, default=STAGES[0],
                        help='the stage that is started: stage2, with a template drawn at the '
                             'start, or the refiner of the model (default: %(default)s)')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Start a stage at known poses on photographs and on training images, and print tables.

    After an error on the training images the figures of the photographs are still written.
    """
    from ..evaluation import report, response

    setting = open_setting(args)
    parts: dict[str, Any] = {}
    kinds = [PHOTOGRAPHS, *([] if args.config is None else [COMPOSED])]
    try:
        with closing(setting.estimator), _opened(args, setting.estimator) as stage:
            for kind in kinds:
                views = setting.targets if kind == PHOTOGRAPHS else _composed(args, setting)
                parts[kind] = _measure(setting, stage, views, kind)
    finally:
        if parts:
            report.write_json(args.json, {
                **source(args, setting), 'stage': args.stage, 'complete': list(parts) == kinds,
                'starts': parts})
            print('\n\n'.join(response.response_table(rows, kind) for kind, rows in parts.items()))
    return 0


@contextmanager
def _opened(args: argparse.Namespace, estimator: PoseEstimator) -> Iterator[Refines]:
    """Open the stage that is to be started.

    :raises ModelError: when it is the refiner, and the model has none.
    """
    from ..errors import ModelError
    from ..evaluation.response import RefinerAlone, Stage2Alone
    from ..presets.loading import load_pose_estimator

    if args.stage != REFINER:
        with Stage2Alone(estimator) as opened:
            yield opened
        return
    # another one, because the answers of the first must not be refined
    refining = load_pose_estimator(args.model, args.meshes, **runtime_options(args), say=say,
                                   crops=1, hypotheses=1, refine=1, spreads=True)
    with closing(refining):
        if refining.refiner is None:
            raise ModelError(args.model, 'has no refiner', 'train and export one')
        yield RefinerAlone(refining.refiner, estimator.objects)


def _composed(args: argparse.Namespace, setting: MeasuringSetting) -> list[KnownView]:
    """Return training images that training does not draw.

    The refiner makes crops of its own, which must not end where the image does: twice as wide.
    """
    from ..specs import CropSpec
    from ..training.held_out import known_views

    spec = setting.estimator.spec
    if args.stage == REFINER:
        spec = replace(spec, crop=CropSpec(size_px=2 * spec.crop.size_px,
                                           padding=2 * spec.crop.padding))
    composer, objects = open_composer(sample_config(args, spec), setting)
    return list(known_views(composer, objects, setting.labels, args.samples, args.seed))


def _measure(setting: MeasuringSetting, stage: Refines, views: list[KnownView],
             kind: str) -> dict[str, Any]:
    """Return the figures of all starts on one kind of images."""
    from ..evaluation import response
    from ..evaluation.runner import estimate_view

    asked = progress_bar(views, desc=kind, unit='image')
    found = response.respond(asked, stage, setting.judge,
                             lambda view: estimate_view(view, setting.estimator))
    return response.figures(found, setting.targets, setting.judge, photographs=kind == PHOTOGRAPHS)
