"""ONNX Runtime on a GPU that is pretended: what it is asked, and when it is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

from tiny_model import graphs_of

from mrcnet_ros.errors import BackendError
from mrcnet_ros.runtimes import onnxruntime_backend
from mrcnet_ros.runtimes.backend import RuntimeOptions
from mrcnet_ros.runtimes.backends import load_backend


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
