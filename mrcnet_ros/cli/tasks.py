"""What tasks of ``mrcnet bench`` and ``mrcnet evaluate`` share: most write figures to a file.

The file also says what the figures were measured with: model, machine and versions.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..cpus import cpu_name
from ..errors import DatasetError
from ..model_json import MODEL_FILE, sha256_of

if TYPE_CHECKING:
    from ..datasets.bop import BopDataset

# options of files that tasks write; check_name refuses names of pictures that are none
WRITTEN, PICTURES = {'json', 'csv', 'plot', 'picture'}, {'plot', 'picture'}
PACKAGES = ('numpy', 'opencv-python-headless', 'onnxruntime', 'openvino', 'torch')


def add_tasks(parser: argparse.ArgumentParser,
              tasks: Mapping[str, tuple[ModuleType, str]]) -> None:
    """Declare tasks and their options.

    :param tasks: module and help by name.
    """
    subparsers = parser.add_subparsers(dest='task', required=True, metavar='TASK')
    for name, (module, text) in tasks.items():
        task = subparsers.add_parser(name, help=text, description=text)
        module.add_arguments(task)
        task.set_defaults(run_task=module.run, parser=task)


def run_task(args: argparse.Namespace) -> int:
    """Run the chosen task, if what it finds can be written.

    :raises DatasetError: when it cannot, or would take the place of another file of the task.
    """
    from ..evaluation.mosaic import check_name
    from ..evaluation.report import check_writable

    paths = {name: value for name, value in vars(args).items() if isinstance(value, Path)}
    for name in sorted(WRITTEN.intersection(paths)):
        path = paths.pop(name)
        if name in PICTURES:
            check_name(path)
        check_writable(path)
        for other, used in paths.items():
            if used.resolve() == path.resolve():
                raise DatasetError(f'{path}: --{name} and --{other.replace("_", "-")} are one '
                                   'file; give another name to one of them')
    return int(args.run_task(args))


def add_json_argument(parser: argparse.ArgumentParser, beside: str = '', *,
                      required: bool = True) -> None:
    """Declare the file of figures.

    :param beside: what is written next to it.
    """
    parser.add_argument('--json', type=Path, required=required, metavar='FILE',
                        help='write the figures here' + (beside and f'; {beside} goes beside it'))


def measured_with(args: argparse.Namespace, estimator: Any = None,
                  dataset: BopDataset | None = None) -> dict[str, Any]:
    """Return what figures were measured with, for their file.

    :param args: with ``command_line``; ``model``, ``threads``, ``crops``, ``hypotheses``,
        ``refine`` and ``find_plane``, where there are any.
    :param estimator: or detector; None where the figures are of no single one.
    """
    found: dict[str, Any] = {'command': args.command_line}
    if dataset is not None:
        found |= {'dataset': dataset.name, 'split': dataset.split,
                  'images_without_file': dataset.images_without_file}
    if hasattr(args, 'model'):
        found['model'] = model_identity(args.model)
    if estimator is not None:
        found['backend'] = runtime(estimator)
    found |= {name: getattr(args, name) for name in ('threads', 'crops', 'hypotheses', 'refine',
                                               'find_plane') if hasattr(args, name)}
    return {**found, 'machine': machine(), 'versions': versions()}


def model_identity(model_dir: Path) -> dict[str, str]:
    """Return name and hash of a model; model.json holds the hashes of all its other files."""
    return {'path': str(model_dir), 'sha256_of_model_json': sha256_of(model_dir / MODEL_FILE)}


def runtime(estimator: Any) -> dict[str, str]:
    """Return the runtime of an estimator: name, version, device and precision."""
    backend = getattr(estimator, 'backend', None)
    return {name: str(getattr(backend, name, ''))
            for name in ('name', 'version', 'device', 'precision')}


def machine() -> dict[str, Any]:
    """Return the known facts about this machine."""
    return {
        'cpu': cpu_name(), 'cpus_usable': len(os.sched_getaffinity(0)),
        'system': platform.platform(), 'load_average': list(os.getloadavg()),
    }


def versions() -> dict[str, str]:
    """Return the releases of what does the work."""
    found = {'mrcnet_ros': __version__, 'python': platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
