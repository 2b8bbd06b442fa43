"""Which runtime is taken, and plain words when one cannot be had."""

from __future__ import annotations

import ctypes
import importlib.util

import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

from tiny_model import graphs_of

from mrcnet_ros.errors import BackendError
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.runtimes import backends, cuda_driver
from mrcnet_ros.runtimes.backend import RuntimeOptions
from mrcnet_ros.runtimes.backends import choose_runtime, load_backend

openvino = pytest.mark.skipif(importlib.util.find_spec('openvino') is None,
                              reason='needs the extra openvino')


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
