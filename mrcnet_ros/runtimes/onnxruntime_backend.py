"""ONNX Runtime, on the processor or on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..cpus import cpu_name, usable_cpus
from ..errors import BackendError, ModelError
from .backend import Arrays, Backend, HostBackend, RuntimeOptions
from .cuda_driver import cuda_problem, gpu_name

PROVIDERS = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'}
# By default the provider for CUDA computes fp32 in TF32, with 10 bits after the comma, and times
# all kernels of a convolution anew for each number of crops.
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    'cpu': {}, 'cuda': {'use_tf32': '0', 'cudnn_conv_algo_search': 'HEURISTIC'}}


def load_onnxruntime(graphs: Mapping[str, Path], options: RuntimeOptions) -> Backend:
    """Load the graphs of a model into ONNX Runtime."""
    return OnnxRuntimeBackend(graphs, options.threads, options.device)


class OnnxRuntimeBackend(HostBackend):
    """Runs the graphs of a model directory with ONNX Runtime.

    :param graphs: ONNX file of each graph.
    :param threads: threads of one run, None for one on each CPU that this process may use.
    :param device: ``cpu``, the usual one, or ``cuda``.
    :raises BackendError: when ONNX Runtime is not installed or cannot use the device.
    :raises ModelError: when a graph cannot be loaded.
    """

    name = 'onnxruntime'
    precision = 'fp32'

    def __init__(self, graphs: Mapping[str, Path], threads: int | None = None,
                 device: str = '') -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise BackendError(
                'backend onnxruntime is not installed; pip install onnxruntime') from error
        provider = _provider(device or 'cpu', onnxruntime.get_available_providers())
        if device == 'cuda' and hasattr(onnxruntime, 'preload_dlls'):  # since 1.21
            onnxruntime.preload_dlls()  # CUDA and cuDNN of NVIDIA's packages, as PyTorch has them
        self.device = gpu_name() if device == 'cuda' else cpu_name()
        self.version = str(onnxruntime.__version__)
        options = onnxruntime.SessionOptions()
        # Left to itself, it binds threads to all processors of the machine, allowed or not.
        options.intra_op_num_threads = threads or usable_cpus()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Or the threads of one graph spin on, for a while, while the next graph needs the cores.
        options.add_session_config_entry('session.force_spinning_stop', '1')
        self._sessions = {}
        for graph, path in graphs.items():
            try:
                # not by its name, which it takes as UTF-8 whatever the locale is
                session = onnxruntime.InferenceSession(
                    path.read_bytes(), options,
                    providers=[(provider, PROVIDER_OPTIONS[device or 'cpu'])])
            except Exception as error:
                raise ModelError(path, f'ONNX Runtime cannot load it: {error}') from error
            session.disable_fallback()
            _check_provider(provider, session.get_providers())
            self._sessions[graph] = session
        self._outputs = {g: [o.name for o in s.get_outputs()] for g, s in self._sessions.items()}

    def run(self, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        names = self._outputs[graph]
        return dict(zip(names, self._sessions[graph].run(names, dict(inputs)), strict=True))

    def close(self) -> None:
        """Let go of the sessions, whose memory may be on a GPU."""
        self._sessions.clear()


def _provider(device: str, available: Sequence[str]) -> str:
    """Return what runs on a device.

    :param available: providers that this build of ONNX Runtime knows.
    :raises BackendError: when there is none.
    """
    if device not in PROVIDERS:
        raise BackendError(f'backend onnxruntime has no device {device!r}; there are: '
                           f'{", ".join(PROVIDERS)}')
    if device == 'cuda' and (problem := cuda_problem()):
        raise BackendError(f'device cuda of the backend onnxruntime {problem}')
    if PROVIDERS[device] not in available:
        raise BackendError(
            f'this build of onnxruntime has no {PROVIDERS[device]}, only '
            f'{", ".join(available)}; install onnxruntime-gpu in place of onnxruntime')
    return PROVIDERS[device]


def _check_provider(wanted: str, used: Sequence[str]) -> None:
    """Compare with what a session really uses: a provider that cannot run is left out silently.

    :raises BackendError: when another one would run.
    """
    if list(used[:1]) != [wanted]:
        raise BackendError(
            f'onnxruntime cannot run {wanted} and would fall back to {", ".join(used)}; '
            'its GPU build needs CUDA and cuDNN of the releases it was built for')
