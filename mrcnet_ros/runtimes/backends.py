"""The table of runtimes: which are installed, which is best, and how each is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..cpus import cpu_name, has_bf16
from ..errors import BackendError, with_extra
from .backend import Backend, RuntimeOptions
from .cuda_driver import cuda_problem, gpu_name

Loader = Callable[[Mapping[str, Path], RuntimeOptions], Backend]


@dataclass(frozen=True)
class Runtime:
    """A runtime that may be present.

    :param modules: that must be importable.
    :param extra: of this package that installs them, '' when they always are.
    :param load: loads graphs, with ``options.precision`` of ``precisions``.
    :param precisions: that it can compute in on a device; the first is its lowest.
    :param processor: name of what is behind a device.
    :param gpu: whether it needs an NVIDIA driver.
    :param auto: why it would be chosen; '' when it never is by itself.
    """

    modules: tuple[str, ...]
    extra: str
    load: Loader
    precisions: Callable[[str], tuple[str, ...]]
    processor: Callable[[str], str]
    gpu: bool
    auto: str

    def problem(self) -> str:
        """Return what is missing and what to do, '' when it can be used."""
        missing = [name for name in self.modules if not _importable(name)]
        if missing:
            remedy = (with_extra(self.extra) if self.extra
                      else f'pip install {" ".join(missing)}')
            return f'needs {" and ".join(missing)}, not installed; {remedy}'
        return cuda_problem() if self.gpu else ''

    def identity(self, device: str) -> tuple[str, str]:
        """Return the runtime's version and the processor's name; only where it can be used."""
        return str(importlib.import_module(self.modules[0]).__version__), self.processor(device)


def _importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # a parent is missing; a module without a spec
        return False


def _lazy(module: str, function: str) -> Any:
    """Return a function of a module here that is imported when it is called."""
    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(f'.{module}', __package__), function)(*arguments)

    return call


def _processor(device: str) -> str:
    return gpu_name() if device == 'cuda' else cpu_name()


def _openvino_precisions(device: str) -> tuple[str, ...]:
    if device not in ('', 'CPU'):
        return ('fp16', 'fp32')
    return ('bf16', 'fp32') if has_bf16() else ('fp32',)


def _tensorrt(name: str, extra: str) -> Runtime:
    return Runtime((name, 'pycuda'), extra, _lazy('tensorrt_backend', 'load_tensorrt'),
                   lambda device: ('fp16', 'fp32'), lambda device: gpu_name(), True,
                   'an NVIDIA GPU is present')


# Best first: `auto` takes the first that can be used. A loader gets the name of its runtime and
# one of its precisions in the options, and the rest of them as they were given.
RUNTIMES: dict[str, Runtime] = {
    'tensorrt': _tensorrt('tensorrt', 'tensorrt'),
    'tensorrt_rtx': _tensorrt('tensorrt_rtx', 'tensorrt-rtx'),
    'openvino': Runtime(
        ('openvino',), 'openvino', _lazy('openvino_backend', 'OpenVinoBackend'),
        _openvino_precisions, _lazy('openvino_backend', 'device_name'), False,
        'the first choice on a processor'),
    'onnxruntime': Runtime(
        ('onnxruntime',), '', _lazy('onnxruntime_backend', 'load_onnxruntime'),
        lambda device: ('fp32',), _processor, False, 'always installed'),
    'torch': Runtime(
        ('torch',), 'train', _lazy('torch_backend', 'TorchBackend'),
        lambda device: ('fp32',), _processor, False, ''),
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
        return name, 'as asked for'
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

    :param options: precision ``auto`` is fp32.
    :raises BackendError: when the runtime, the device or the precision cannot be had.
    :raises ModelError: when a graph cannot be loaded.
    """
    name, _ = choose_runtime(options.backend)
    precision = 'fp32' if options.precision == 'auto' else options.precision
    possible = RUNTIMES[name].precisions(options.device)
    if precision not in possible:
        raise BackendError(f'backend {name} cannot compute in {precision} here; it can in '
                           f'{", ".join(possible)}')
    return RUNTIMES[name].load(graphs, replace(options, backend=name, precision=precision))


def lowest_precision(options: RuntimeOptions) -> RuntimeOptions:
    """Return options with a runtime that can be used, and its lowest precision for ``auto``.

    :raises BackendError: when the runtime cannot be used.
    """
    name, _ = choose_runtime(options.backend)
    precision = options.precision
    if precision == 'auto':
        precision = RUNTIMES[name].precisions(options.device)[0]
    return replace(options, backend=name, precision=precision)
