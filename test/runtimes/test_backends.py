"""The runtimes: the same numbers from each, and plain words when one cannot be had."""

from __future__ import annotations

import gc
import importlib.util
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

from tiny_model import REFINER_SPEC, SPEC, TinyModel, graphs_of

from mrcnet_ros.cpus import has_bf16
from mrcnet_ros.errors import BackendError, ModelError
from mrcnet_ros.export.arithmetic import example_inputs, refiner_inputs
from mrcnet_ros.export.onnx_export import TOLERANCE
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.runtimes.backend import Arrays, RuntimeOptions
from mrcnet_ros.runtimes.backends import load_backend
from mrcnet_ros.runtimes.runtime_choice import open_backend
from mrcnet_ros.specs import GRAPHS

openvino = pytest.mark.skipif(importlib.util.find_spec('openvino') is None,
                              reason='needs the extra openvino')
bf16 = pytest.mark.skipif(not has_bf16(), reason='this processor does not multiply in bfloat16')


def inputs_of(graph: str, count: int) -> Arrays:
    generator = np.random.default_rng(count)
    inputs = {}
    examples = example_inputs(SPEC, count) | refiner_inputs(REFINER_SPEC, count)
    for name, tensor in examples[graph].items():
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
    for graph in graphs_of(tiny):
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
def test_every_runtime_computes_the_same(refined_model, name, tolerance, count):
    """All outputs of all graphs agree to rounding, for any number of detections.

    The graphs hold weights in half precision, rounded after norms were folded into them; those
    that PyTorch reads were rounded before.
    """
    options = RuntimeOptions(backend=name, precision='fp32', threads=1)
    assert largest_difference(refined_model, options, count) < tolerance


@openvino
@bf16
def test_bfloat16_is_really_used(refined_model):
    """Outputs differ as much as its 8 bits of mantissa make them, and not more."""
    options = RuntimeOptions(backend='openvino', precision='bf16', threads=1)
    assert 2e-4 < largest_difference(refined_model, options, 2) < 0.2


def hints(backend: Any) -> dict[str, list[str]]:
    """Return the precisions that OpenVINO computes the parts of each graph in."""
    return {graph: [part.request.get_compiled_model().get_property(
        'INFERENCE_PRECISION_HINT').get_type_name() for part in parts]
        for graph, parts in backend._parts.items()}


@openvino
@bf16
def test_what_bfloat16_would_decide_otherwise_stays_in_full_precision(refined_model):
    """The answers of stage 1 follow from its features in fp32, and so does all of stage 2.

    Logits in bfloat16 have eight bits: many of them would be the same number.
    """
    graphs = graphs_of(refined_model)
    half, full = (
        load_backend(graphs, RuntimeOptions(backend='openvino', precision=name, threads=1))
        for name in ('bf16', 'fp32'))
    inputs = inputs_of('stage2', 3)
    for name, array in full.run('stage2', inputs).items():
        np.testing.assert_array_equal(half.run('stage2', inputs)[name], array)
    assert hints(half) == {'stage1': ['f32', 'bf16', 'f32'], 'template': ['f32', 'bf16'],
                           'stage2': ['f32'], 'refiner': ['bf16'], 'refiner_template': ['bf16']}
    assert hints(full) == {graph: ['f32'] for graph in graphs}
    found = half.run('stage1', inputs_of('stage1', 3))
    assert list(found) == list(full.run('stage1', inputs_of('stage1', 3)))
    for name in ('rotation_logits', 'cell_logits', 'scale_logits'):
        assert (found[name].view(np.uint32) & 0xFFFF).any()  # bits that bfloat16 does not have


@openvino
@bf16
def test_a_graph_of_another_network_is_refused_in_parts_too(tiny_model):
    """It lacks a tensor that a part begins at."""
    graphs = graphs_of(tiny_model)
    with pytest.raises(ModelError, match=r'stage2\.onnx: .*it has no tensor'):
        load_backend({**graphs, 'stage1': graphs['stage2']},
                     RuntimeOptions(backend='openvino', precision='bf16', allow_unverified=True))


@openvino
def test_answers_stay_as_they_are_when_the_next_is_computed(tiny_model):
    """Outputs are the caller's own, whatever the runtime does with its memory."""
    backend = load_backend(graphs_of(tiny_model), RuntimeOptions(backend='openvino'))
    first = backend.run('stage1', inputs_of('stage1', 2))
    kept = {name: array.copy() for name, array in first.items()}
    backend.run('stage1', inputs_of('stage1', 3))
    for name, array in kept.items():
        np.testing.assert_array_equal(first[name], array)


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
