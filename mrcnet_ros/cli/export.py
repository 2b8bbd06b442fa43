"""``mrcnet export``: checkpoints to model directories, weights to graphs, graphs to engines."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BackendError, SpecError
from ..runtimes.backend import RuntimeOptions
from .argument_types import positive
from .dataset_arguments import refuse_without_effect, say
from .train import changes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..runtimes.engine_store import EngineSettings
    from ..training.run_config import ConfigT

LIBRARIES = ('tensorrt', 'tensorrt_rtx')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', type=Path, nargs='?', help='the training configuration')
    parser.add_argument('--output', type=Path, metavar='DIR',
                        help='the model directory; it is created if missing')
    parser.add_argument('--checkpoint', type=Path, default=None, metavar='FILE',
                        help='default: checkpoint.pt in the output folder of the configuration')
    parser.add_argument('--set', action='append', default=[], metavar='NAME=VALUE',
                        help='set a field of the configuration, as in the training; may be '
                             'repeated')
    parser.add_argument('--mean-with', type=Path, metavar='DIR',
                        help='write the mean of the checkpoint and of the weights of this model '
                             'directory, which the training started from')
    parser.add_argument('--model', type=Path, metavar='DIR',
                        help='build engines of this model directory, or write its graphs again, '
                             'without a configuration')
    parser.add_argument('--graphs', action='store_true',
                        help='write the graphs of --model again, from its weights: those of a '
                             'later release may be faster, and answer the same')
    engines = parser.add_argument_group('engines, built before the first start')
    engines.add_argument('--backend', choices=LIBRARIES, help='build engines for this runtime')
    engines.add_argument('--precision', choices=('fp32', 'fp16'), default='fp32',
                         help='precision of the engines (default: fp32)')
    engines.add_argument('--max-batch', type=positive, metavar='N',
                         default=RuntimeOptions.max_batch,
                         help='largest batch (default: %(default)s, what the node asks for)')
    engines.add_argument('--capability', default='', metavar='X.Y',
                         help='build for a GPU with this compute capability, such as 8.9; '
                              'tensorrt_rtx only')
    engines.add_argument('--engines', type=Path, metavar='DIR',
                         help="folder of the engines (default: in the user's cache)")


def run(args: argparse.Namespace) -> int:
    """Write the model directory or its graphs, build the engines, and print where they are."""
    exporting = args.config is not None and args.output is not None and args.model is None
    of_model = args.model is not None and (args.graphs or args.backend is not None)
    if not exporting and (not of_model or args.config or args.output):
        raise SpecError('give a configuration and --output DIR to export a checkpoint, or --model '
                        'DIR with --backend NAME to build engines of a model, or with --graphs to '
                        'write its graphs again')
    if args.backend is None:
        refuse_without_effect(
            args, ['precision', 'max_batch', 'capability', 'engines'],
            'it is for engines, which --backend asks for')
    if not exporting:
        refuse_without_effect(args, ['checkpoint', 'set', 'mean_with'],
                              'the model of --model is exported already')
    if exporting:
        refuse_without_effect(args, ['graphs'], 'an export writes all graphs')
        _export(args)
    elif args.graphs:
        from ..export.rewriting import rewrite_graphs

        print(rewrite_graphs(args.model, say=say))
    if args.backend is not None:
        _build(args)
    return 0


def _export(args: argparse.Namespace) -> None:
    """Write a checkpoint as a model directory or into one, by the preset of its configuration.

    :raises SpecError: when it is of the paper preset.
    """
    from ..export.detector_export import export_detector
    from ..export.directory import export_checkpoint
    from ..export.refiner_export import export_refiner
    from ..training.config import RefinerConfig, TrainConfig
    from ..training.detector_config import DetectorConfig
    from ..training.run_config import read_config, read_values

    preset = read_values(args.config).get('preset')
    if preset == 'paper':
        raise SpecError(f'{args.config} is of the paper preset; its checkpoint becomes a model '
                        f'with mrcnet import-checkpoint FILE --config {args.config} --output DIR')

    def written(kind: type[ConfigT], export: Callable[..., Path]) -> ConfigT:
        config = read_config(kind, args.config, changes(args))
        checkpoint = args.checkpoint or config.output / 'checkpoint.pt'
        print(export(checkpoint, config, args.output, args.mean_with, say=say))
        return config

    if preset == DetectorConfig.preset:
        written(DetectorConfig, export_detector)
    elif preset == RefinerConfig.preset:
        written(RefinerConfig, export_refiner)
    else:
        _hint(args.output, written(TrainConfig, export_checkpoint).distance_m)


def _hint(model: Path, distance_m: tuple[float, float]) -> None:
    """Say what a model without a covariance needs.

    :param distance_m: of the training.
    """
    from ..model_json import read_model_json

    if read_model_json(model)[1].get('covariance') is None:
        say(f'{model} has no covariance calibration yet; to calibrate on rendered images: mrcnet '
            f'calibrate --synthetic --model {model} --meshes DIR --distance {distance_m[0]:g} '
            f'{distance_m[1]:g} --write; with annotated photographs, give --bop-dir and --dataset '
            'instead of --synthetic and --distance')


def _build(args: argparse.Namespace) -> None:
    from ..detector.entry import DETECTOR, read_detector
    from ..inference.model_directory import graph_names
    from ..model_json import read_model_json
    from ..presets.loading import preset_of
    from ..runtimes.engine_store import EngineStore
    from ..runtimes.engines import batch_profile, get_engine, graph_files

    model, store = args.model or args.output, EngineStore(args.engines)
    values = read_model_json(model)[1]
    settings = _settings(args)
    parts = []
    if 'spec' in values:
        spec = preset_of(model).spec.from_dict(values['spec'])
        parts.append((graph_files(model, graph_names(values, spec.graphs)),
                      replace(settings,
                              profile=batch_profile(args.max_batch, spec.rows_together))))
    if values.get(DETECTOR) is not None:
        detector = read_detector(model)
        parts.append((detector.graphs, replace(settings, longest_px=detector.longest_px)))
    for graphs, made_with in parts:
        for graph in graphs:
            _, key = get_engine(graph, graphs, made_with, store, say)
            if store.load(key) is None:
                raise BackendError(f'the engine of {graph} cannot be stored in {store.root}; free '
                                   'space, or give another folder with --engines')
            print(store.path(key))


def _settings(args: argparse.Namespace) -> EngineSettings:
    """Return what to build with and for.

    :raises BackendError: when the library is missing, or the GPU that engines are for.
    """
    from ..runtimes.cuda_driver import cuda_problem
    from ..runtimes.engine_store import EngineSettings
    from ..runtimes.engines import batch_profile, library_version

    gpu, capability = '', args.capability
    if not capability:
        if problem := cuda_problem():
            raise BackendError(f'backend {args.backend} {problem}; tensorrt_rtx builds for '
                               'another GPU with --capability')
        from ..runtimes.gpu_memory import Gpu

        here = Gpu()
        gpu, capability = here.name, here.capability
        here.close()
    elif args.backend != 'tensorrt_rtx':
        raise BackendError('tensorrt builds only for the GPU it runs on; leave --capability out, '
                           'or use tensorrt_rtx')
    elif not re.fullmatch(r'\d+\.\d', capability):
        raise BackendError(f'--capability is {capability!r}, expected two numbers such as 8.9')
    return EngineSettings(
        library=args.backend, version=library_version(args.backend), gpu=gpu,
        capability=capability, precision=args.precision,
        profile=batch_profile(args.max_batch, rows_together=1))
