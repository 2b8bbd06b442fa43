"""The runtimes: the same numbers from each, and plain words when one cannot be had."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

from tiny_model import SPEC, TinyModel

from mrcnet_ros.cpus import has_bf16
from mrcnet_ros.errors import BackendError, ModelError
from mrcnet_ros.export.arithmetic import example_inputs
from mrcnet_ros.export.onnx_export import TOLERANCE
from mrcnet_ros.inference import backends, cuda_driver, onnxruntime_backend
from mrcnet_ros.inference.backend import Arrays, RuntimeOptions
from mrcnet_ros.inference.backends import choose_runtime, load_backend
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.inference.opening import open_backend
from mrcnet_ros.specs import GRAPHS

openvino = pytest.mark.skipif(importlib.util.find_spec('openvino') is None,
                              reason='needs the extra openvino')
bf16 = pytest.mark.skipif(not has_bf16(), reason='this processor does not multiply in bfloat16')


def graphs_of(tiny: TinyModel) -> dict[str, Path]:
    return {name: tiny.path / f'{name}.onnx' for name in GRAPHS}


def inputs_of(graph: str, count: int) -> Arrays:
    generator = np.random.default_rng(count)
    inputs = {}
    for name, tensor in example_inputs(SPEC, count)[graph].items():
        array = tensor.numpy()
        if name == 'class_index':
            array = generator.integers(0, 2, count)
        elif array.dtype == np.uint8:
            array = generator.integers(0, 255, array.shape, np.uint8)
        else:
            array = generator.uniform(-0.3, 0.3, array.shape).astype(np.float32)
        inputs[name] = array
    return inputs


def largest_difference(tiny: TinyModel, options: RuntimeOptions, count: int) -> float:
    """Return by how much any output differs from ONNX Runtime's, in parts of its largest."""
    one = load_backend(graphs_of(tiny), RuntimeOptions(threads=1))
    other = load_backend(graphs_of(tiny), options)
    worst = 0.0
    for graph in GRAPHS:
        inputs = inputs_of(graph, count)
        expected, found = one.run(graph, inputs), other.run(graph, inputs)
        assert list(found) == list(expected)
        for name, array in expected.items():
            assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
            scale = max(1.0, float(np.abs(array).max()))
            worst = max(worst, float(np.abs(found[name] - array).max()) / scale)
    return worst


@pytest.mark.parametrize('count', [1, 3])
@pytest.mark.parametrize(('name', 'tolerance'), [
    pytest.param('openvino', 2e-4, marks=openvino), ('torch', TOLERANCE)])
def test_every_runtime_computes_the_same(tiny_model, name, tolerance, count):
    """All outputs of all graphs agree to rounding, for any number of detections.

    The graphs hold weights in half precision, rounded after norms were folded into them; those
    that PyTorch reads were rounded before.
    """
    options = RuntimeOptions(backend=name, precision='fp32', threads=1)
    assert largest_difference(tiny_model, options, count) < tolerance


@openvino
@bf16
def test_bfloat16_is_really_used(tiny_model):
    """Outputs differ as much as its 8 bits of mantissa make them, and not more."""
    options = RuntimeOptions(backend='openvino', precision='bf16', threads=1)
    assert 2e-4 < largest_difference(tiny_model, options, 2) < 0.2


@openvino
def test_answers_stay_as_they_are_when_the_next_is_computed(tiny_model):
    """Outputs are the caller's own, whatever the runtime does with its memory."""
    backend = load_backend(graphs_of(tiny_model), RuntimeOptions(backend='openvino'))
    first = backend.run('stage1', inputs_of('stage1', 2))
    kept = {name: array.copy() for name, array in first.items()}
    backend.run('stage1', inputs_of('stage1', 3))
    for name, array in kept.items():
        np.testing.assert_array_equal(first[name], array)


def hide(monkeypatch, *modules: str, gpu: str = 'needs an NVIDIA GPU, there is none; buy one'):
    """Make modules look as if they were not installed, all others as if they were."""
    monkeypatch.setattr(backends, '_importable', lambda name: name not in modules)
    monkeypatch.setattr(backends, 'cuda_problem', lambda: gpu)


def test_a_runtime_that_is_not_installed_is_named_with_its_extra(monkeypatch, tiny_model):
    """No other runtime takes its place."""
    hide(monkeypatch, 'openvino')
    with pytest.raises(BackendError, match=r"backend openvino needs openvino, not installed; "
                                           r"install mrcnet_ros with the extra 'openvino'"):
        PoseEstimator.load(tiny_model.path, tiny_model.meshes, backend='openvino',
                           store_root=tiny_model.store)


def test_all_missing_parts_of_tensorrt_are_named(monkeypatch):
    """Its library and the one that gives it memory."""
    hide(monkeypatch, 'tensorrt', 'pycuda')
    with pytest.raises(BackendError, match='needs tensorrt and pycuda, not installed'):
        choose_runtime('tensorrt')


class Driver:
    """A libcuda with some GPUs, whose cuInit may fail."""

    def __init__(self, count: int, code: int = 0):
        self.count, self.code = count, code

    def cuInit(self, flags: int) -> int:
        """Return the code of the driver."""
        return self.code

    def cuDeviceGetCount(self, count: object) -> int:
        """Store the number of GPUs."""
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = self.count
        return 0

    def cuDeviceGet(self, device: object, index: int) -> int:
        """Store the device of an index."""
        ctypes.cast(device, ctypes.POINTER(ctypes.c_int))[0] = index
        return 0

    def cuDeviceGetName(self, name: ctypes.Array, size: int, device: object) -> int:
        """Store a name."""
        name.value = b'Abacus 9000'
        return 0


@pytest.mark.parametrize(('load', 'problem'), [
    (lambda: Driver(0), 'the driver sees 0'),
    (lambda: Driver(1, 100), 'cuInit of libcuda failed with error 100'),
    (lambda: ctypes.CDLL('libcuda_not_there.so.1'), 'libcuda cannot be loaded .*not_there'),
])
def test_gpu_runtimes_are_refused_without_driver_or_gpu(monkeypatch, load, problem):
    """Before anything of the runtime is imported, which may end the process."""
    hide(monkeypatch)
    monkeypatch.setattr(backends, 'cuda_problem', lambda: cuda_driver.cuda_problem(load))
    for name in ('tensorrt', 'tensorrt_rtx'):
        with pytest.raises(BackendError, match=f'backend {name} needs an NVIDIA .*{problem}.*; '
                                               'install the NVIDIA driver'):
            choose_runtime(name)


def test_a_driver_with_a_gpu_is_found():
    """The check passes where there is one, and tells its name."""
    assert cuda_driver.cuda_problem(lambda: Driver(1)) == ''
    assert cuda_driver.gpu_name(lambda: Driver(1)) == 'Abacus 9000'


def test_auto_takes_the_best_runtime_and_says_why(monkeypatch):
    """It names what was passed over and for what reason."""
    hide(monkeypatch, gpu='')
    assert choose_runtime('auto') == ('tensorrt', 'an NVIDIA GPU is present')
    hide(monkeypatch, 'tensorrt', gpu='')
    name, why = choose_runtime('auto')
    assert name == 'tensorrt_rtx' and 'tensorrt needs tensorrt, not installed' in why
    hide(monkeypatch, 'tensorrt')
    name, why = choose_runtime('auto')
    assert name == 'openvino' and 'tensorrt_rtx needs an NVIDIA GPU, there is none' in why
    hide(monkeypatch, 'tensorrt', 'tensorrt_rtx', 'openvino')
    name, why = choose_runtime('auto')
    assert name == 'onnxruntime' and 'openvino needs openvino, not installed' in why
    hide(monkeypatch, 'tensorrt', 'tensorrt_rtx', 'openvino', 'onnxruntime')
    with pytest.raises(BackendError, match=r'no backend can be used: .*needs onnxruntime, not'):
        choose_runtime('auto')


def test_auto_tells_its_choice_to_whoever_loads(monkeypatch, tiny_model):
    """The line has runtime, release, reason, processor and precision."""
    hide(monkeypatch, 'tensorrt', 'tensorrt_rtx', 'openvino')
    said: list[str] = []
    estimator = PoseEstimator.load(tiny_model.path, tiny_model.meshes, backend='auto', threads=1,
                                   say=said.append, store_root=tiny_model.store)
    backend = estimator.backend
    assert said == [
        f'backend onnxruntime {backend.version} (always installed; tensorrt needs tensorrt, not '
        'installed; tensorrt_rtx needs tensorrt_rtx, not installed; openvino needs openvino, not '
        f'installed) on {backend.device}, precision fp32 (there is no other)']


@pytest.mark.parametrize(('options', 'problem'), [
    (RuntimeOptions(precision='bf16'),
     'backend onnxruntime cannot compute in bf16 here; it can in fp32'),
    (RuntimeOptions(device='tpu'), "onnxruntime has no device 'tpu'; there are: cpu, cuda"),
    (RuntimeOptions(backend='torch', device='mps'), "device cpu or cuda, not on 'mps'"),
    pytest.param(RuntimeOptions(backend='torch', device='cuda'),
                 'backend torch has no device cuda: PyTorch .* sees no GPU',
                 marks=pytest.mark.skipif(not cuda_driver.cuda_problem(),
                                              reason='there is a GPU')),
    pytest.param(RuntimeOptions(backend='openvino', device='NPU.7'),
                 "backend openvino finds no device 'NPU.7'; there are: CPU", marks=openvino),
])
def test_devices_and_precisions_that_cannot_be_had_are_refused(tiny_model, options, problem):
    """The error says what there is."""
    with pytest.raises(BackendError, match=problem):
        load_backend(graphs_of(tiny_model), options)


@openvino
@pytest.mark.parametrize('device', ['cpu', 'GPU.7'])
@pytest.mark.parametrize('precision', ['auto', 'fp16', 'fp32'])
def test_a_device_that_openvino_does_not_find_is_told(tiny_model, device, precision):
    """In every precision, also where a verification for that device is looked for."""
    with pytest.raises(BackendError, match=f"finds no device '{device}'; there are: CPU"):
        PoseEstimator.load(tiny_model.path, tiny_model.meshes, backend='openvino', device=device,
                           precision=precision)


def test_an_unknown_precision_is_refused():
    """Before anything is loaded."""
    with pytest.raises(BackendError, match="unknown precision 'int3'; there are: auto, fp32"):
        RuntimeOptions(precision='int3')


def test_onnxruntime_on_a_gpu_needs_its_driver(monkeypatch, tiny_model):
    """A build for GPUs lists its provider on any machine."""
    monkeypatch.setattr(onnxruntime_backend, 'cuda_problem', lambda: 'needs a GPU; buy one')
    with pytest.raises(BackendError, match='device cuda of the backend onnxruntime needs a GPU'):
        load_backend(graphs_of(tiny_model), RuntimeOptions(device='cuda'))


def test_onnxruntime_without_the_provider_is_named(monkeypatch, tiny_model):
    """The build for processors has none for GPUs."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime_backend, 'cuda_problem', lambda: '')
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: ['CPUExecutionProvider'])
    with pytest.raises(BackendError, match='no CUDAExecutionProvider, only CPUExecutionProvider; '
                                           'install onnxruntime-gpu'):
        load_backend(graphs_of(tiny_model), RuntimeOptions(device='cuda'))


def pretend_a_gpu(monkeypatch: pytest.MonkeyPatch, used: str) -> list[object]:
    """Let ONNX Runtime find a GPU; return what it will be asked, in this order.

    :param used: the provider that its sessions will say they use.
    """
    import onnxruntime

    asked: list[object] = []

    def session(model: bytes, options: object, providers: list[object]) -> SimpleNamespace:
        asked.append(providers)
        return SimpleNamespace(get_providers=lambda: [used], disable_fallback=lambda: None,
                               get_outputs=list)

    monkeypatch.setattr(onnxruntime_backend, 'cuda_problem', lambda: '')
    monkeypatch.setattr(onnxruntime_backend, 'gpu_name', lambda: 'Abacus 9000')
    monkeypatch.setattr(onnxruntime, 'get_available_providers',
                        lambda: ['CUDAExecutionProvider', 'CPUExecutionProvider'])
    monkeypatch.setattr(onnxruntime, 'InferenceSession', session)
    monkeypatch.setattr(onnxruntime, 'preload_dlls', lambda: asked.append('libraries'),
                        raising=False)
    return asked


def test_onnxruntime_on_a_gpu_computes_in_fp32(monkeypatch, tiny_model):
    """Not in TF32, and without a search for each number of crops."""
    asked = pretend_a_gpu(monkeypatch, 'CUDAExecutionProvider')
    load_backend(graphs_of(tiny_model), RuntimeOptions(device='cuda'))
    (name, options), = asked[-1]
    assert (name, options['use_tf32']) == ('CUDAExecutionProvider', '0')
    assert options['cudnn_conv_algo_search'] == 'HEURISTIC'


def test_onnxruntime_loads_the_libraries_of_cuda_before_its_sessions(monkeypatch, tiny_model):
    """They lie in NVIDIA's packages, where it does not look; releases before 1.21 cannot."""
    asked = pretend_a_gpu(monkeypatch, 'CUDAExecutionProvider')
    load_backend(graphs_of(tiny_model), RuntimeOptions(device='cuda'))
    assert asked.index('libraries') == 0
    monkeypatch.delattr('onnxruntime.preload_dlls')
    load_backend(graphs_of(tiny_model), RuntimeOptions(device='cuda'))
    assert asked.count('libraries') == 1


def test_onnxruntime_falling_back_is_noticed(monkeypatch, tiny_model):
    """It lists the provider, then leaves it out of the session without an error."""
    pretend_a_gpu(monkeypatch, 'CPUExecutionProvider')
    with pytest.raises(BackendError, match='cannot run CUDAExecutionProvider and would fall back '
                                           'to CPUExecutionProvider'):
        load_backend(graphs_of(tiny_model), RuntimeOptions(device='cuda'))


@openvino
@pytest.mark.parametrize('graph', GRAPHS)
def test_openvino_names_a_graph_that_it_cannot_load(tiny_model, tmp_path, graph):
    """With its path."""
    (tmp_path / 'broken.onnx').write_bytes(b'no graph at all')
    with pytest.raises(ModelError, match=r'broken\.onnx: OpenVINO cannot load it'):
        load_backend({**graphs_of(tiny_model), graph: tmp_path / 'broken.onnx'},
                     RuntimeOptions(backend='openvino'))


def test_torch_checks_the_weights(tiny_model, tmp_path):
    """Weights other than those that model.json names are not used."""
    import shutil

    shutil.copytree(tiny_model.path, tmp_path / 'model')
    (tmp_path / 'model' / 'weights.pt').write_bytes(b'others')
    graphs = {name: tmp_path / 'model' / f'{name}.onnx' for name in GRAPHS}
    with pytest.raises(ModelError, match=r'weights\.pt: is damaged or of another model'):
        load_backend(graphs, RuntimeOptions(backend='torch'))


def test_a_closed_torch_backend_holds_no_network(tiny_model: TinyModel) -> None:
    """Its memory may be on a GPU, whoever still holds the backend."""
    backend = open_backend(read_model_directory(tiny_model.path, tiny_model.meshes),
                           RuntimeOptions(backend='torch', threads=1))
    networks = [weakref.ref(graph) for graph in backend._graphs.values()]
    assert len(networks) == 3 and all(network() is not None for network in networks)
    backend.close()
    gc.collect()
    assert all(network() is None for network in networks)


def test_closing_an_estimator_closes_its_backend(tiny_model, monkeypatch):
    """So that a GPU is free for the next model."""
    estimator = PoseEstimator.load(tiny_model.path, tiny_model.meshes, threads=1,
                                   store_root=tiny_model.store)
    closed = []
    monkeypatch.setattr(estimator.backend, 'close', lambda: closed.append(True))
    estimator.close()
    assert closed == [True]


@openvino
@bf16
def test_the_node_refuses_a_precision_that_was_not_verified(tiny_model):
    """Its parameters say what to run and whether that may be unverified."""
    pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
    pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')
    from mrcnet_ros.ros.estimator_loading import load_estimator
    from mrcnet_ros.ros.params import NodeParameters

    asked = NodeParameters(model=str(tiny_model.path), meshes=str(tiny_model.meshes), threads=1,
                           store=str(tiny_model.store), backend='openvino', precision='bf16')
    with pytest.raises(BackendError, match='has not been verified in bf16 with openvino'):
        load_estimator(asked)
    loaded = load_estimator(replace(asked, allow_unverified=True))
    assert isinstance(loaded, PoseEstimator) and loaded.backend.precision == 'bf16'
