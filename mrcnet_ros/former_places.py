"""Modules that have moved are still found in their former places, with a warning.

Programs of users import them by name, scripts that come with reports of faults among them. The
former names stay until the first release is out.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Those that a program outside the package has a reason to import.
PLACES = {
    'evaluation.bop': 'datasets.bop',
    'evaluation.bop_frame': 'datasets.bop_frame',
    'evaluation.bop_results': 'datasets.bop_results',
    'evaluation.bop_scene': 'datasets.bop_scene',
    'evaluation.bop_targets': 'datasets.bop_targets',
    'evaluation.bop_units': 'datasets.bop_units',
    'evaluation.bop_writer': 'datasets.bop_writer',
    'evaluation.boxes': 'datasets.boxes',
    'evaluation.detections': 'datasets.detections',
    'evaluation.overlay': 'evaluation.gallery',
    'evaluation.rle': 'datasets.rle',
    'geometry.paper_crop': 'presets.paper.crop',
    'inference.backend': 'runtimes.backend',
    'inference.backends': 'runtimes.backends',
    'inference.cpu': 'cpus',
    'inference.loading': 'presets.loading',
    'inference.onnxruntime_backend': 'runtimes.onnxruntime_backend',
    'inference.openvino_backend': 'runtimes.openvino_backend',
    'inference.paper_estimator': 'presets.paper.estimator',
    'inference.runtime_choice': 'runtimes.runtime_choice',
    'inference.tensorrt_backend': 'runtimes.tensorrt_backend',
    'inference.torch_backend': 'runtimes.torch_backend',
    'rendering.template_file': 'rendering.template_store',
    'ros.bag': 'testbench.bag',
    'ros.pairing': 'ros.synchronizer',
    'ros.replay': 'testbench.replay',
    'ros.tally': 'ros.drop_counters',
}


class _Alias(Loader):
    """Puts a module under its former name."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        package, _, former = module.__name__.partition('.')
        present = f'{package}.{PLACES[former]}'
        warnings.warn(f'{module.__name__} is {present} now; the former name goes with the next '
                      'release', DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(present)


class _Finder(MetaPathFinder):
    """Knows the former places."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, former = fullname.partition('.')
        if package != __package__ or former not in PLACES:
            return None
        return ModuleSpec(fullname, _Alias())


def find_former_places() -> None:
    """Let imports find the modules that have moved."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
