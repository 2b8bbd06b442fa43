"""Precisions that are used only once they were verified: for one model, runtime and processor."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

from mrcnet_ros.errors import BackendError, ModelError
from mrcnet_ros.runtimes.backend import Arrays, HostBackend, RuntimeOptions
from mrcnet_ros.runtimes.backends import RUNTIMES
from mrcnet_ros.runtimes.runtime_choice import execution_of, open_backend
from mrcnet_ros.runtimes.verified import VERIFIED_FILE, find_result, store_result


class Halved(HostBackend):
    """A runtime that says it computes in bfloat16; it is never run."""

    name, device, version, precision = 'openvino', 'Abacus', '7.1', 'bf16'

    def __init__(self, graphs: object, options: RuntimeOptions) -> None:
        self.precision = options.precision

    def run(self, graph: str, inputs: Arrays) -> dict[str, np.ndarray]:
        """Refuse."""
        raise AssertionError('it is only to be loaded')


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Return a model directory, with a stand-in for openvino that is always there."""
    stand_in = replace(RUNTIMES['openvino'], modules=('json',), load=Halved,
                       precisions=lambda device: ('bf16', 'fp32'),
                       processor=lambda device: 'Abacus')
    monkeypatch.setitem(RUNTIMES, 'openvino', stand_in)
    monkeypatch.setattr('json.__version__', '7.1', raising=False)
    return SimpleNamespace(path=tmp_path, graphs_digest='d1', graphs={}, rows_together=1,
                           longest_px=0, verified_with='')


LOW = RuntimeOptions(backend='openvino', precision='bf16')
AUTO = RuntimeOptions(backend='openvino')


def test_low_precision_needs_a_verification(model):
    """The error tells the command that makes one; fp32 needs none."""
    with pytest.raises(BackendError, match=r'has not been verified in bf16 with openvino 7\.1 on '
                                           r'Abacus; run `mrcnet verify --model .*--precision '
                                           r'bf16 .*choose precision fp32, or set allow_unver'):
        open_backend(model, LOW)
    assert open_backend(model, replace(LOW, precision='fp32')).precision == 'fp32'


def test_unverified_precision_can_be_allowed(model):
    """And the line says that it was."""
    said: list[str] = []
    backend = open_backend(model, replace(LOW, allow_unverified=True, say=said.append))
    assert backend.precision == 'bf16'
    assert 'allowed although it has not been verified' in said[0]


def test_a_verified_precision_is_used(model):
    """By whoever asks for it, and by auto, which else computes in full."""
    assert open_backend(model, AUTO).precision == 'fp32'
    store_result(model.path, execution_of(model, LOW), {'passed': True})
    assert open_backend(model, LOW).precision == 'bf16'
    assert open_backend(model, AUTO).precision == 'bf16'


def test_auto_does_not_lower_the_precision_because_the_unverified_is_allowed(model):
    """Permission is for what was asked for by name."""
    assert open_backend(model, replace(AUTO, allow_unverified=True)).precision == 'fp32'


def test_a_failed_verification_is_told(model):
    """It is not the same as none; a later one takes its place."""
    store_result(model.path, execution_of(model, LOW), {'passed': False})
    with pytest.raises(BackendError, match='has failed the verification in bf16'):
        open_backend(model, LOW)
    assert open_backend(model, AUTO).precision == 'fp32'
    store_result(model.path, execution_of(model, LOW), {'passed': True})
    assert open_backend(model, LOW).precision == 'bf16'


@pytest.mark.parametrize('change', [
    {'graphs_sha256': 'd2'}, {'version': '7.2'}, {'device': 'Quipu'}, {'backend': 'tensorrt'},
    {'precision': 'fp16'}])
def test_a_verification_is_for_one_model_runtime_and_processor(model, change):
    """Results of others do not count."""
    store_result(model.path, replace(execution_of(model, LOW), **change), {'passed': True})
    with pytest.raises(BackendError, match='not been verified'):
        open_backend(model, LOW)


def test_results_of_one_model_are_kept_beside_each_other(tmp_path):
    """Those of a model that was replaced go."""
    from mrcnet_ros.runtimes.verified import Execution

    one = Execution(graphs_sha256='d1', backend='a', precision='bf16', version='1', device='x')
    two, new = replace(one, backend='b'), replace(one, graphs_sha256='d2')
    store_result(tmp_path, one, {'passed': True, 'figures': 1})
    store_result(tmp_path, two, {'passed': False})
    found = find_result(tmp_path, one)
    assert found is not None and found['figures'] == 1
    store_result(tmp_path, new, {'passed': True})
    assert find_result(tmp_path, one) is None and find_result(tmp_path, two) is None
    assert [p.name for p in tmp_path.iterdir()] == [VERIFIED_FILE]


@pytest.mark.parametrize('text', ['{', '[]', '{"format_version": 2, "results": [{}]}',
                                  '{"format_version": 2, "results": [{"passed": "yes"}]}'])
def test_damaged_results_are_named(model, text):
    """Nothing is taken for verified because of them."""
    (model.path / VERIFIED_FILE).write_text(text)
    with pytest.raises(ModelError, match=r'verified\.json: is not readable .*verify again'):
        open_backend(model, LOW)
