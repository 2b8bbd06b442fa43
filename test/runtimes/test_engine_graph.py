"""TensorRT: graphs that it takes, and engines that a process builds of them without a GPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_inputs import random_inputs, session_of

from mrcnet_ros.errors import BackendError
from mrcnet_ros.presets.paper.spec import paper_spec
from mrcnet_ros.runtimes import tensorrt_build
from mrcnet_ros.runtimes.backend import RuntimeOptions
from mrcnet_ros.runtimes.cuda_driver import cuda_problem
from mrcnet_ros.runtimes.engine_graph import engine_graph
from mrcnet_ros.runtimes.engine_store import EngineSettings
from mrcnet_ros.runtimes.engines import batch_profile, library_version
from mrcnet_ros.runtimes.tensorrt_backend import load_tensorrt
from mrcnet_ros.runtimes.tensorrt_build import build_engine, input_shapes
from mrcnet_ros.specs import ModelSpec

onnx = pytest.importorskip('onnx', reason='needs the train or a TensorRT extra')
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

LMO = Path(__file__).parents[2] / 'models' / 'lmo'
DEFAULT_GRAPHS = ('stage1', 'template', 'stage2', 'refiner', 'refiner_template', 'detector')
PAPER_GRAPHS = ('embed', 'stage1', 'stage2')
GRAPHS = [*(f'default {g}' for g in DEFAULT_GRAPHS), *(f'paper {g}' for g in PAPER_GRAPHS)]
LIMIT = 0.01  # of an output's largest value, for products in half precision

needs_rtx = pytest.mark.skipif(importlib.util.find_spec('tensorrt_rtx') is None,
                               reason="needs the extra 'tensorrt-rtx'")


@pytest.fixture(scope='session')
def paper_graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Export the paper preset with seeded weights for two objects."""
    pytest.importorskip('torch', reason='needs the train extra')
    from paper_model import SMALL, small_network

    from mrcnet_ros.presets.paper.export.reference import export_paper_graphs

    folder = tmp_path_factory.mktemp('paper')
    return export_paper_graphs(small_network(objects=2), SMALL, folder)


@pytest.fixture
def graph(request: pytest.FixtureRequest) -> Path:
    """Return an exported graph: of the LM-O model or of the paper preset."""
    preset, name = request.param.split()
    if preset == 'default':
        return LMO / f'{name}.onnx'
    found: dict[str, Path] = request.getfixturevalue('paper_graphs')
    return found[name]


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
@pytest.mark.parametrize('graph', GRAPHS, indirect=True)
def test_the_graph_for_the_engine_computes_the_same(graph: Path, precision: str) -> None:
    """To the bit in fp32, closely in fp16; the outside sees the same names, types and shapes."""
    given = session_of(graph.read_bytes())
    made = session_of(engine_graph(graph.read_bytes(), precision))
    for ask in ('get_inputs', 'get_outputs'):
        assert ([(v.name, v.type, v.shape[1:]) for v in getattr(given, ask)()]
                == [(v.name, v.type, v.shape[1:]) for v in getattr(made, ask)()])
    inputs = random_inputs(given, rows=4)
    names = [value.name for value in given.get_outputs()]
    for name, expected, found in zip(names, given.run(names, inputs), made.run(names, inputs),
                                     strict=True):
        if precision == 'fp32':
            np.testing.assert_array_equal(found, expected, err_msg=name)
        else:
            assert np.abs(found - expected).max() < LIMIT * np.abs(expected).max(), name


def types_of(data: bytes) -> tuple[Any, dict[str, int]]:
    """Return a graph and the element types of its values."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data)).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    return graph, types


@pytest.mark.parametrize('graph', GRAPHS, indirect=True)
def test_half_precision_is_for_products_and_not_for_geometry(graph: Path) -> None:
    """Convolutions and inner products are halves; positions, sums and the last layer are not."""
    made, types = types_of(engine_graph(graph.read_bytes(), 'fp16'))
    exact = {'Abs', 'GridSample', 'Exp', 'Softmax', 'ReduceSum', 'ReduceMean', 'Sigmoid', 'Div',
             'Sqrt'}
    seen = {HALF: 0, FLOAT: 0}
    for node in made.node:
        if node.op_type == 'Conv':
            assert {types[name] for name in node.input} == {HALF}, node.name
        if node.op_type in exact:
            kinds = {types[name] for name in (*node.input, *node.output)}
            assert HALF not in kinds, (node.op_type, node.name)
        if node.op_type in ('Conv', 'MatMul', 'Gemm'):
            seen[types[node.output[0]]] += 1
    assert seen[HALF] > 0
    answers = {'rotation_logits', 'cell_logits', 'scale_logits', 'depth_logits', 'six'}
    if answers & {value.name for value in made.output}:
        assert seen[FLOAT] > 0


@pytest.mark.parametrize('graph', GRAPHS, indirect=True)
def test_weights_are_constants_and_bytes_are_cast_first(graph: Path) -> None:
    """TensorRT wants no casts of weights, and knows no operation on uint8 but the cast."""
    made, types = types_of(engine_graph(graph.read_bytes(), 'fp32'))
    constants = {tensor.name for tensor in made.initializer}
    for node in made.node:
        if node.op_type == 'Cast':
            assert node.input[0] not in constants
        elif onnx.TensorProto.UINT8 in {types[name] for name in node.input if name}:
            raise AssertionError(f'{node.op_type} of uint8')


SETTINGS = EngineSettings(library='tensorrt_rtx', version='1', gpu='', capability='8.9',
                          precision='fp32', profile=(1, 1, 2))

# those of the paper take minutes; in half precision the largest of them takes longer still
BUILDS = [
    pytest.param(graph, 'fp32' if graph == 'paper embed' else precision, capability,
                 marks=[pytest.mark.slow] if graph.startswith('paper') else [])
    for graph in GRAPHS for precision, capability in (('fp32', '8.6'), ('fp16', '12.0'))]


@needs_rtx
@pytest.mark.parametrize(('graph', 'precision', 'capability'), BUILDS, indirect=['graph'])
def test_every_graph_becomes_an_engine(graph: Path, precision: str, capability: str) -> None:
    """TensorRT-RTX parses and compiles each of them for two kinds of GPU, none being here."""
    least = 4 if 'paper' in str(graph) else 1
    settings = dataclasses.replace(SETTINGS, precision=precision, capability=capability,
                                   profile=(least, 8, 16), longest_px=800)
    engine = build_engine(graph.read_bytes(), settings, lambda text: None)
    made = onnx.load_model_from_string(engine_graph(graph.read_bytes(), precision)).graph
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in made.initializer]
    assert len(engine) > sum(array.nbytes for array in weights if array.dtype.kind == 'f')


def small_graph(operator: str, domain: str = '') -> bytes:
    """Return a graph of one operator from (N, 3) to (N, 3)."""
    helper = onnx.helper
    node = helper.make_node(operator, ['x'], ['y'], name='only', domain=domain)
    x, y = (helper.make_tensor_value_info(name, FLOAT, ['batch', 3]) for name in ('x', 'y'))
    model = helper.make_model(
        helper.make_graph([node], 'small', [x], [y]), ir_version=8,
        opset_imports=[helper.make_opsetid('', 17), helper.make_opsetid('elsewhere', 1)])
    return bytes(model.SerializeToString())


@needs_rtx
def test_an_operation_that_the_library_lacks_is_named() -> None:
    """The error names operation and node, the precision and the GPU."""
    with pytest.raises(BackendError, match='fp32 engine for compute capability 8') as caught:
        build_engine(small_graph('Unheard', 'elsewhere'), SETTINGS, lambda text: None)
    assert 'Unheard' in str(caught.value) and 'only' in str(caught.value)


@needs_rtx
def test_a_gpu_that_the_library_cannot_build_for_is_named() -> None:
    """The error lists the capabilities that there are."""
    settings = dataclasses.replace(SETTINGS, capability='3.5')
    with pytest.raises(BackendError, match=r'no compute capability 3\.5; this release has SM'):
        build_engine(small_graph('Relu'), settings, lambda text: None)


@needs_rtx
def test_the_library_says_how_far_it_is() -> None:
    """It calls the monitor that it is given."""
    process = subprocess.run(
        [sys.executable, '-m', tensorrt_build.__name__, json.dumps(dataclasses.asdict(SETTINGS))],
        input=small_graph('Relu'), capture_output=True, check=True)
    assert re.search(rb'^progress: .+, \d+ of \d+$', process.stderr, re.MULTILINE)
    assert process.stdout


# a library that builds what it is told to
STAND_IN = '''
import os, time
from unittest.mock import MagicMock
Logger, OnnxParser, NetworkDefinitionCreationFlag, BuilderFlag = (MagicMock() for _ in range(4))
NetworkDefinitionCreationFlag.STRONGLY_TYPED = 1
IProgressMonitor = object
class Builder:
    def __init__(self, logger):
        self.create_optimization_profile = self.create_builder_config = MagicMock()
    def build_serialized_network(self, network, config):
        print('hello', flush=True)
        os.write(1, b'hello from C\\n')
        config.progress_monitor.phase_start('melting', '', 4)
        config.progress_monitor.step_complete('melting', 1)
        time.sleep({seconds})
        return b'the engine'
    def create_network(self, flags):
        assert flags == 2, flags
        return MagicMock(num_inputs=0)
'''


def test_what_a_library_prints_does_not_get_into_the_engine(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some write to standard output, which the engine comes by; the engine is what was built."""
    (tmp_path / 'tensorrt.py').write_text(STAND_IN.format(seconds=0))
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    settings = dataclasses.replace(SETTINGS, library='tensorrt')
    assert build_engine(small_graph('Relu'), settings, lambda text: None) == b'the engine'


def test_whoever_waits_hears_how_far_it_is(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the library itself says nothing for long."""
    (tmp_path / 'tensorrt.py').write_text(STAND_IN.format(seconds=3))
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    monkeypatch.setattr(tensorrt_build, 'SAY_EVERY_S', 0.2)
    said: list[str] = []
    build_engine(small_graph('Relu'), dataclasses.replace(SETTINGS, library='tensorrt'),
                 said.append)
    assert len(said) > 2
    assert re.fullmatch(r'(starting|melting, 2 of 4), \d+ s so far', said[0])
    assert re.fullmatch(r'melting, 2 of 4, \d+ s so far', said[-1])


@pytest.mark.parametrize(('body', 'said'), [
    ('import os, signal; os.kill(os.getpid(), signal.SIGSEGV)', 'signal SIGSEGV'),
    ('raise ImportError("libnvinfer.so.10: cannot open")', 'libnvinfer.so.10: cannot open'),
    ('import os; os._exit(3)', 'exit code 3'),
    ('import sys; sys.exit(0)', 'it said nothing'),
])
def test_a_library_that_dies_is_an_error(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str) -> None:
    """Whatever happens to the process that builds, this one gets a BackendError."""
    (tmp_path / 'tensorrt.py').write_text(body)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    settings = dataclasses.replace(SETTINGS, library='tensorrt')
    with pytest.raises(BackendError, match='tensorrt cannot build') as caught:
        build_engine(small_graph('Relu'), settings, lambda text: None)
    assert said in str(caught.value)


def test_a_library_that_is_missing_is_named(tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """The version is asked for in another process, so a crash is an error here as well."""
    (tmp_path / 'tensorrt_rtx.py').write_text('import os; os.abort()')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    with pytest.raises(BackendError, match=r"cannot be imported .* extra 'tensorrt-rtx'"):
        library_version('tensorrt_rtx')
    (tmp_path / 'tensorrt.py').write_text('__version__ = "10.1.2"')
    assert library_version('tensorrt') == '10.1.2'


def test_free_sides_of_images_have_a_profile_of_their_own() -> None:
    """From one cell to the longest side; what the graph fixes stays."""
    settings = dataclasses.replace(SETTINGS, profile=(1, 8, 32), longest_px=800)
    assert input_shapes((1, 3, -1, -1), settings) == [
        (1, 3, 32, 32), (1, 3, 512, 512), (1, 3, 800, 800)]
    assert input_shapes((-1, 96, 96, 3), settings) == [(n, 96, 96, 3) for n in (1, 8, 32)]


def test_profiles_keep_what_belongs_together() -> None:
    """The paper preset runs four turns of a crop; the other preset any number of crops."""
    default, paper = ModelSpec().rows_together, paper_spec('lmo').rows_together
    assert batch_profile(16, default) == (1, 8, 16)
    assert batch_profile(3, default) == (1, 3, 3)
    assert batch_profile(18, paper) == (4, 4, 16)
    with pytest.raises(BackendError, match='largest batch is 3, expected 4 or more'):
        batch_profile(3, paper)


@pytest.mark.skipif(not cuda_problem(), reason='there is a GPU')
@pytest.mark.parametrize('library', ['tensorrt', 'tensorrt_rtx'])
def test_without_a_driver_nothing_is_touched(library: str,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the driver; the library, which might crash, is not even imported."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BackendError, match=f'backend {library} needs an NVIDIA'):
        load_tensorrt({}, RuntimeOptions(backend=library, precision='fp32'))
