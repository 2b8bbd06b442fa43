"""The runtimes there are: which are present, which is best, and how each is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from ..errors import BackendError
from .backend import Backend, RuntimeOptions
from .cpu import has_bf16
from .cuda_driver import cuda_problem

Loader = Callable[[Mapping[str, Path], RuntimeOptions], Backend]


@dataclass(frozen=True)
class Runtime:
    """A runtime that may be present.

    :param modules: that must be importable.
    :param extra: of this package that installs them, '' when they always are.
    :param load: loads graphs, with ``options.precision`` of ``precisions``.
    :param precisions: that it can compute in; the first is its lowest.
    :param gpu: whether it needs an NVIDIA driver.
    :param auto: why it would be chosen; '' when it never is by itself.
    """

    modules: tuple[str, ...]
    extra: str
    load: Loader
    precisions: Callable[[], tuple[str, ...]]
    gpu: bool
    auto: str

    def problem(self) -> str:
        """Return what is missing and what to do, '' when it can be used."""
        missing = [name for name in self.modules if not _importable(name)]
        if missing:
            remedy = f"install mrcnet_ros with the extra '{self.extra}'"
            return f'needs {" and ".join(missing)}, not installed; {remedy}'
        return cuda_problem() if self.gpu else ''


def _importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # a parent is missing; a module without a spec
        return False


def _onnxruntime(graphs: Mapping[str, Path], options: RuntimeOptions) -> Backend:
    from .onnxruntime_backend import OnnxRuntimeBackend

    return OnnxRuntimeBackend(graphs, options.threads, options.device)


def _lazy(module: str, function: str) -> Loader:
    """Return a loader that imports its module when it is called."""
    def load(graphs: Mapping[str, Path], options: RuntimeOptions) -> Backend:
        found: Loader = getattr(importlib.import_module(f'.{module}', __package__), function)
        return found(graphs, options)

    return load


def _tensorrt_precisions() -> tuple[str, ...]:
    return ('fp16', 'fp32')


# Best first: `auto` takes the first that is present. Each loader of TensorRT gets
# (graphs, options) with options.precision one of the precisions here; the rest of its options as
# they were given; options.backend tells which of the two it is.
RUNTIMES: dict[str, Runtime] = {
    'tensorrt': Runtime(
        ('tensorrt', 'pycuda'), 'tensorrt', _lazy('tensorrt_backend', 'load_tensorrt'),
        _tensorrt_precisions, True, 'an NVIDIA GPU is faster than the processor'),
    'tensorrt_rtx': Runtime(
        ('tensorrt_rtx', 'pycuda'), 'tensorrt-rtx', _lazy('tensorrt_backend', 'load_tensorrt'),
        _tensorrt_precisions, True, 'an NVIDIA GPU is faster than the processor'),
    'openvino': Runtime(
        ('openvino',), 'openvino', _lazy('openvino_backend', 'load_openvino'),
        lambda: ('bf16', 'fp32') if has_bf16() else ('fp32',), False,
        'it is the faster one on a processor'),
    'onnxruntime': Runtime(
        ('onnxruntime',), '', _onnxruntime, lambda: ('fp32',), False, 'it is always installed'),
    'torch': Runtime(
        ('torch',), 'train', _lazy('torch_backend', 'load_torch'), lambda: ('fp32',), False, ''),
}


def choose_runtime(name: str) -> tuple[str, str]:
    """Return the runtime to use, and why.

    :param name: of a runtime, or ``auto`` for the best one present.
    :raises BackendError: when it is unknown, or something that it needs is missing.
    """
    if name != 'auto':
        if name not in RUNTIMES:
            raise BackendError(f'unknown backend {name!r}; there are: auto, {", ".join(RUNTIMES)}')
        if problem := RUNTIMES[name].problem():
            raise BackendError(f'backend {name} {problem}')
        return name, 'asked for'
    passed: list[str] = []
    for candidate, runtime in RUNTIMES.items():
        if not runtime.auto:
            continue
        if not (problem := runtime.problem()):
            return candidate, '; '.join([runtime.auto, *passed])
        passed.append(f'{candidate} {problem.split(";")[0]}')
    raise BackendError(f'no backend can be used: {"; ".join(passed)}')


def load_backend(graphs: Mapping[str, Path], options: RuntimeOptions) -> Backend:
    """Load the graphs of a model into a runtime.

    :param graphs: file of each graph.
    :param options: with the name of a runtime; precision ``auto`` is fp32.
    :raises BackendError: when the runtime, the device or the precision cannot be had.
    :raises ModelError: when a graph cannot be loaded.
    """
    name, _ = choose_runtime(options.backend)
    precision = 'fp32' if options.precision == 'auto' else options.precision
    possible = RUNTIMES[name].precisions()
    if precision not in possible:
        raise BackendError(f'backend {name} cannot compute in {precision} here; it can in '
                           f'{", ".join(possible)}')
    return RUNTIMES[name].load(graphs, replace(options, backend=name, precision=precision))
