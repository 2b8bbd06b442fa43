"""OpenVINO, on the processor or on an Intel GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ..cpus import cpu_name, usable_cpus
from ..errors import BackendError, ModelError
from .backend import Arrays, HostBackend, RuntimeOptions
from .precision_parts import Part, parts_of, stays_full

CPU = 'CPU'
PRECISION_HINTS = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16'}


class Compiled(NamedTuple):
    """A compiled graph, or a part of one.

    :param request: OpenVINO's, which infers.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    request: Any


class OpenVinoBackend(HostBackend):
    """Runs the graphs of a model directory with OpenVINO; in bf16 some of them in parts.

    :param graphs: ONNX file of each graph.
    :param options: the device is one that OpenVINO lists, such as ``CPU`` or ``GPU``.
    :raises BackendError: when OpenVINO, the device or the precision cannot be had.
    :raises ModelError: when a graph cannot be loaded.
    """

    name = 'openvino'

    def __init__(self, graphs: Mapping[str, Path], options: RuntimeOptions) -> None:
        import openvino

        device = options.device or CPU
        self.device = device_name(device)
        self.precision, self.version = options.precision, str(openvino.__version__)
        self._parts: dict[str, list[Compiled]] = {}
        self._outputs: dict[str, tuple[str, ...]] = {}
        core = openvino.Core()
        for graph, path in graphs.items():
            whole = Part((), (), full=stays_full(graph, graphs, options.precision))
            self._parts[graph] = []
            for part in parts_of(graph, graphs, options.precision) or (whole,):
                try:
                    model = core.read_model(path)
                    self._outputs[graph] = result_names(model)
                    if part is not whole:
                        model = cut(model, part)
                    compiled = core.compile_model(model, device, _settings(options, part.full))
                except Exception as error:
                    raise ModelError(path, f'OpenVINO cannot load it: {error}') from error
                _check(compiled, device, 'fp32' if part.full else options.precision)
                self._parts[graph].append(Compiled(
                    tuple(port.any_name for port in model.inputs),
                    part.outputs or self._outputs[graph], compiled.create_infer_request()))

    def run(self, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        known = dict(inputs)
        for part in self._parts[graph]:
            found = part.request.infer([known[name] for name in part.inputs], share_inputs=True)
            known.update((name, found[i]) for i, name in enumerate(part.outputs))
        return {name: known[name] for name in self._outputs[graph]}

    def close(self) -> None:
        """Let go of the compiled graphs, whose memory may be on a GPU."""
        self._parts.clear()


def result_names(model: Any) -> tuple[str, ...]:
    """Return the names of a graph's outputs: a tensor may have several, the result has its."""
    return tuple(result.friendly_name.split('/')[0] for result in model.get_results())


def cut(model: Any, part: Part) -> Any:
    """Return a part of a model as a model of its own; the given one cannot be used afterwards.

    :param model: as OpenVINO reads it from a file.
    :raises LookupError: when it has no tensor of a name.
    """
    import openvino
    from openvino import opset13

    ports = {name: port for op in model.get_ordered_ops() if op.get_type_name() != 'Result'
             for port in op.outputs() for name in port.get_names()}
    given = {parameter.output(0).any_name: parameter for parameter in model.get_parameters()}
    if missing := [name for name in (*part.inputs, *part.outputs) if name not in ports]:
        raise LookupError(f'it has no tensor {missing[0]!r}, which bf16 needs; export it again, '
                          'or choose fp32')
    ends, starts = [opset13.result(ports[name]) for name in part.outputs], []
    for name in part.inputs:
        if name not in given:
            port = ports[name]
            given[name] = opset13.parameter(port.partial_shape, port.element_type)
            given[name].output(0).set_names({name})
            for reader in list(port.get_target_inputs()):
                reader.replace_source_output(given[name].output(0))
        starts.append(given[name])
    return openvino.Model(ends, starts)


def _settings(options: RuntimeOptions, full: bool) -> dict[str, Any]:
    """Return how to compile.

    :param full: in fp32, whatever the options say.
    """
    # without a hint OpenVINO takes the lowest precision that it thinks will do
    settings: dict[str, Any] = {
        'INFERENCE_PRECISION_HINT': PRECISION_HINTS['fp32' if full else options.precision],
        'PERFORMANCE_HINT': 'LATENCY', 'NUM_STREAMS': 1}
    if options.device in ('', CPU):
        settings['INFERENCE_NUM_THREADS'] = options.threads or usable_cpus()
    return settings


def _check(compiled: Any, device: str, precision: str) -> None:
    """Compare with what OpenVINO says it will do.

    :raises BackendError: when that is something else.
    """
    found = compiled.get_property('INFERENCE_PRECISION_HINT').get_type_name()
    devices = compiled.get_property('EXECUTION_DEVICES')
    if found != PRECISION_HINTS[precision] or list(devices) != [device]:
        raise BackendError(
            f'openvino would run {found} on {", ".join(devices)} instead of '
            f'{PRECISION_HINTS[precision]} on {device}')


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
