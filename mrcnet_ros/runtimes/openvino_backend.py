"""OpenVINO, on the processor or on an Intel GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..cpus import cpu_name, usable_cpus
from ..errors import BackendError, ModelError
from .backend import Arrays, HostBackend, RuntimeOptions

CPU = 'CPU'
PRECISION_HINTS = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16'}


class OpenVinoBackend(HostBackend):
    """Runs the graphs of a model directory with OpenVINO.

    :param graphs: ONNX file of each graph.
    :param options: the device is one that OpenVINO lists, such as ``CPU`` or ``GPU``.
    :raises BackendError: when OpenVINO, the device or the precision cannot be had.
    :raises ModelError: when a graph cannot be loaded.
    """

    name = 'openvino'

    def __init__(self, graphs: Mapping[str, Path], options: RuntimeOptions) -> None:
        import openvino

        core = openvino.Core()
        device = options.device or CPU
        self.device = device_name(device)
        self.precision, self.version = options.precision, str(openvino.__version__)
        # without a hint OpenVINO takes the lowest precision that it thinks will do
        wanted: dict[str, Any] = {'INFERENCE_PRECISION_HINT': PRECISION_HINTS[options.precision],
                                  'PERFORMANCE_HINT': 'LATENCY', 'NUM_STREAMS': 1}
        if device == CPU:
            wanted['INFERENCE_NUM_THREADS'] = options.threads or usable_cpus()
        self._requests, self._outputs = {}, {}
        for graph, path in graphs.items():
            try:
                model = core.read_model(path)
                compiled = core.compile_model(model, device, wanted)
            except Exception as error:
                raise ModelError(path, f'OpenVINO cannot load it: {error}') from error
            self._check(compiled, device)
            self._requests[graph] = compiled.create_infer_request()
            # a tensor may have several names; that of the result is the graph's
            self._outputs[graph] = [
                result.friendly_name.split('/')[0] for result in model.get_results()]

    def run(self, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        found = self._requests[graph].infer(dict(inputs), share_inputs=True)
        return {name: found[i] for i, name in enumerate(self._outputs[graph])}

    def close(self) -> None:
        """Let go of the compiled graphs, whose memory may be on a GPU."""
        self._requests.clear()

    def _check(self, compiled: Any, device: str) -> None:
        """Compare with what OpenVINO says it will do.

        :raises BackendError: when that is something else.
        """
        precision = compiled.get_property('INFERENCE_PRECISION_HINT').get_type_name()
        devices = compiled.get_property('EXECUTION_DEVICES')
        if precision != PRECISION_HINTS[self.precision] or list(devices) != [device]:
            raise BackendError(
                f'openvino would run {precision} on {", ".join(devices)} instead of '
                f'{PRECISION_HINTS[self.precision]} on {device}')


def device_name(device: str) -> str:
    """Return the name of the processor behind a device of OpenVINO.

    :raises BackendError: when OpenVINO does not find the device.
    """
    if device in ('', CPU):
        return cpu_name()
    import openvino

    core = openvino.Core()
    if device not in core.available_devices:
        raise BackendError(
            f'backend openvino finds no device {device!r}; there are: '
            f"{', '.join(core.available_devices)}; a GPU needs Intel's compute runtime, and a "
            'device of another runtime the name of that one as backend')
    return str(core.get_property(device, 'FULL_DEVICE_NAME'))
