"""TensorRT: graphs that it takes, engines built without a GPU, and the use of memory.

A stand-in GPU tests bookkeeping alone; what a GPU computes is tested by the tests marked ``gpu``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_gpu import FakeCuda, fake_pycuda, fake_tensorrt
from test_estimator import CAMERA, DETECTIONS, IMAGE, assert_same_pose

from mrcnet_ros.cli.main import main
from mrcnet_ros.errors import BackendError
from mrcnet_ros.inference import engines, tensorrt_backend, tensorrt_build
from mrcnet_ros.inference.backend import RESIDENT, RuntimeOptions
from mrcnet_ros.inference.cuda_driver import cuda_problem
from mrcnet_ros.inference.engine_graph import engine_graph
from mrcnet_ros.inference.engine_store import EngineStore
from mrcnet_ros.inference.engines import batch_profile, library_version
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.gpu_memory import GpuArray
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.inference.onnxruntime_backend import OnnxRuntimeBackend
from mrcnet_ros.inference.tensorrt_backend import load_tensorrt
from mrcnet_ros.inference.tensorrt_build import EngineTarget, build_engine
from mrcnet_ros.presets.paper.spec import paper_spec
from mrcnet_ros.rendering.template_store import TemplateStore
from mrcnet_ros.specs import ModelSpec

onnx = pytest.importorskip('onnx', reason='needs the train or a TensorRT extra')
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

LMO = Path(__file__).parents[2] / 'models' / 'lmo'
DEFAULT_GRAPHS = ('stage1', 'template', 'stage2')
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

    from mrcnet_ros.presets.paper.export.graphs import export_paper_graphs

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


def random_inputs(session: Any, rows: int) -> dict[str, np.ndarray]:
    """Return inputs of the right types and shapes."""
    rng = np.random.default_rng(rows)
    feeds = {}
    for value in session.get_inputs():
        shape = (rows, *value.shape[1:])
        feeds[value.name] = {
            'tensor(uint8)': lambda s: rng.integers(0, 255, s).astype(np.uint8),
            'tensor(int64)': lambda s: np.repeat(np.arange(2), rows)[:s[0]],
            'tensor(float)': lambda s: rng.random(s).astype(np.float32),
        }[value.type](shape)
    return feeds


def session_of(data: bytes) -> Any:
    """Load a graph into ONNX Runtime, which computes half precision by rounding to it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(data, options, providers=['CPUExecutionProvider'])


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
    """Convolutions and inner products are halves; grids, sums and the last layer are not."""
    made, types = types_of(engine_graph(graph.read_bytes(), 'fp16'))
    exact = {'GridSample', 'Exp', 'Softmax', 'ReduceSum', 'ReduceMean', 'Sigmoid', 'Div', 'Sqrt'}
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
    engine = build_engine(graph.read_bytes(), EngineTarget(
        library='tensorrt_rtx', precision=precision, capability=capability, least=least,
        usual=8, largest=16), lambda text: None)
    made = onnx.load_model_from_string(engine_graph(graph.read_bytes(), precision)).graph
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in made.initializer]
    assert len(engine) > sum(array.nbytes for array in weights if array.dtype.kind == 'f')


TARGET = EngineTarget(library='tensorrt_rtx', precision='fp32', capability='8.9', least=1,
                      usual=1, largest=2)


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
        build_engine(small_graph('Unheard', 'elsewhere'), TARGET, lambda text: None)
    assert 'Unheard' in str(caught.value) and 'only' in str(caught.value)


@needs_rtx
def test_a_gpu_that_the_library_cannot_build_for_is_named() -> None:
    """The error lists the capabilities that there are."""
    target = dataclasses.replace(TARGET, capability='3.5')
    with pytest.raises(BackendError, match=r'no compute capability 3\.5; this release has SM'):
        build_engine(small_graph('Relu'), target, lambda text: None)


@needs_rtx
def test_the_library_says_how_far_it_is() -> None:
    """It calls the monitor that it is given."""
    process = subprocess.run(
        [sys.executable, '-m', tensorrt_build.__name__, json.dumps(dataclasses.asdict(TARGET))],
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
    target = dataclasses.replace(TARGET, library='tensorrt')
    assert build_engine(small_graph('Relu'), target, lambda text: None) == b'the engine'


def test_whoever_waits_hears_how_far_it_is(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the library itself says nothing for long."""
    (tmp_path / 'tensorrt.py').write_text(STAND_IN.format(seconds=3))
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    monkeypatch.setattr(tensorrt_build, 'SAY_EVERY_S', 0.2)
    said: list[str] = []
    build_engine(small_graph('Relu'), dataclasses.replace(TARGET, library='tensorrt'),
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
    target = dataclasses.replace(TARGET, library='tensorrt')
    with pytest.raises(BackendError, match='tensorrt cannot build') as caught:
        build_engine(small_graph('Relu'), target, lambda text: None)
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


LARGEST = 3


@dataclasses.dataclass
class Stand:
    """A stand-in GPU, and what was built and said on it."""

    cuda: FakeCuda
    graphs: dict[str, Path]
    built: list[str]
    said: list[str]

    def load(self, **options: Any) -> Any:
        """Load the backend as the estimator does."""
        return load_tensorrt(self.graphs, RuntimeOptions(
            backend='tensorrt', precision='fp32', max_batch=LARGEST, say=self.said.append,
            **options))


@pytest.fixture
def stand(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Put stand-ins in the place of pycuda and TensorRT, with the tiny model's graphs."""
    cuda = FakeCuda()
    model = read_model_directory(tiny_model.path, tiny_model.meshes)
    stand = Stand(cuda, model.graphs, [], [])

    def build(graph: bytes, target: EngineTarget, say: Any) -> bytes:
        stand.built.append(target.precision)
        return engine_graph(graph, target.precision)

    for name, module in fake_pycuda(cuda).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, 'tensorrt', fake_tensorrt(cuda, LARGEST))
    monkeypatch.setattr(tensorrt_backend, 'cuda_problem', str)
    monkeypatch.setattr(engines, 'build_engine', build)
    monkeypatch.setenv('MRCNET_CACHE', str(tmp_path / 'cache'))
    return stand


def host(outputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return all outputs as numpy arrays."""
    return {name: np.asarray(array) for name, array in outputs.items()}


@pytest.mark.parametrize('rows', [1, 2, LARGEST, LARGEST + 1, 3 * LARGEST])
def test_batches_of_any_size_are_answered(stand: Stand, rows: int) -> None:
    """Those that are larger than the engines are for run in parts, with the same outputs."""
    backend, reference = stand.load(), OnnxRuntimeBackend(stand.graphs, 1)
    for graph, path in stand.graphs.items():
        inputs = random_inputs(session_of(path.read_bytes()), rows)
        expected = reference.run(graph, inputs)
        found = host(backend.run(graph, inputs))
        assert set(found) == set(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, atol=1e-4, err_msg=name)
    assert max(count for _, count in stand.cuda.runs) <= LARGEST


def test_what_stage_2_reads_stays_on_the_gpu(stand: Stand) -> None:
    """Of stage 1 only the numbers of the pose come down, and its maps do not go up again."""
    backend = stand.load()
    inputs = random_inputs(session_of(stand.graphs['stage1'].read_bytes()), LARGEST)
    coarse = backend.run('stage1', inputs)
    maps = {name for name, array in coarse.items() if isinstance(array, GpuArray)}
    assert maps == {'x4', 'x8', 'x16', 'dense'}
    assert stand.cuda.copied['up'] == sum(a.nbytes for a in inputs.values())
    assert stand.cuda.copied['down'] == sum(
        a.nbytes for name, a in coarse.items() if name not in maps)
    templates = backend.run('template', inputs)
    assert set(map(type, templates.values())) == {GpuArray}
    before = dict(stand.cuda.copied)
    small = {'coordinates': backend.keep(np.zeros((LARGEST, 4, 8, 8), np.float32)),
             'xy': coarse['xy'], 'log_size': coarse['log_size'],
             'class_index': inputs['class_index']}
    fine = backend.run('stage2', {**{name: coarse[name] for name in maps}, **templates, **small})
    assert stand.cuda.copied['up'] - before['up'] == sum(a.nbytes for a in small.values())
    assert stand.cuda.copied['down'] - before['down'] == sum(a.nbytes for a in fine.values())
    assert stand.cuda.copied['within'] == before['within']


def test_arrays_on_the_gpu_are_taken_apart_and_joined(stand: Stand) -> None:
    """Rows, several rows, negative rows, copies and stacks are what numpy's are."""
    backend = stand.load()
    numbers = np.random.default_rng(0).random((5, 2, 3)).astype(np.float32)
    array = backend.keep(numbers)
    assert array.nbytes == numbers.nbytes and len(array) == 5 and array.shape == (5, 2, 3)
    for index in (0, 4, -1, slice(1, 4), slice(3, 99), np.array([4, 0, 0, 2])):
        np.testing.assert_array_equal(np.asarray(array[index]), numbers[index])
    np.testing.assert_array_equal(np.asarray(array[2].copy()), numbers[2])
    rows = backend.stack([array[3], backend.keep(numbers[1]), array[0].copy()])
    np.testing.assert_array_equal(np.asarray(rows), numbers[[3, 1, 0]])
    with pytest.raises(IndexError):
        array[5]
    with pytest.raises(IndexError, match='one after the other'):
        array[::2]


def test_a_row_in_the_middle_can_be_an_input(stand: Stand) -> None:
    """TensorRT wants aligned addresses, which rows need not have: those are moved."""
    backend, reference = stand.load(), OnnxRuntimeBackend(stand.graphs, 1)
    inputs = random_inputs(session_of(stand.graphs['stage2'].read_bytes()), 3)
    kept = {name: backend.keep(a) if name in RESIDENT else a for name, a in inputs.items()}
    found = backend.run('stage2', {name: a[1:2] for name, a in kept.items()})
    expected = reference.run('stage2', {name: a[1:2] for name, a in inputs.items()})
    np.testing.assert_allclose(found['six'], expected['six'], atol=1e-4)


def test_poses_are_those_of_onnxruntime(stand: Stand, tiny_model: Any) -> None:
    """The whole way of the estimator, cold and warm, with room for all templates and for two."""
    model = read_model_directory(tiny_model.path, tiny_model.meshes)
    store = TemplateStore(tiny_model.store)
    expected = PoseEstimator(model, OnnxRuntimeBackend(model.graphs, 1), store)(
        IMAGE, CAMERA, DETECTIONS)
    for cache_bytes in (1 << 20, 12_000):
        estimator = PoseEstimator(model, stand.load(), store, cache_bytes=cache_bytes)
        for _ in range(3):
            for a, b in zip(estimator(IMAGE, CAMERA, DETECTIONS), expected, strict=True):
                assert_same_pose(a, b)
        assert estimator.features.cache.counters().size_bytes <= cache_bytes


def test_features_of_templates_stay_on_the_gpu_until_their_cache_is_full(
        stand: Stand, tiny_model: Any) -> None:
    """A warm image sends its crops up and nothing of its templates; evicted memory is freed."""
    model = read_model_directory(tiny_model.path, tiny_model.meshes)
    estimator = PoseEstimator(model, stand.load(), TemplateStore(tiny_model.store), crops=1)
    estimator(IMAGE, CAMERA, DETECTIONS[:1])
    before = stand.cuda.copied['up']
    result = estimator.estimate(IMAGE, CAMERA, DETECTIONS[:1])
    assert (result.cache_hits, result.cache_misses) == (1, 0)
    side = model.spec.crop.size_px
    # the crop, the class for both stages, and three numbers of the pose
    assert stand.cuda.copied['up'] - before == side * side * 3 + 2 * 8 + 3 * 4
    held = stand.cuda.in_use()
    assert held
    del result
    estimator.close()
    assert stand.cuda.in_use() == 0


def test_engines_are_built_once_and_the_wait_is_explained(stand: Stand) -> None:
    """The first start says what it does and for what; the second builds nothing."""
    stand.load().close()
    assert stand.built == ['fp32'] * 3
    assert stand.said[0] == (
        'building the tensorrt 10.0.0 engine of stage1 in fp32 for Fake GPU 8.9, 1 to 3 rows; '
        'only this once, it may take minutes')
    assert stand.said[1].startswith('built the tensorrt 10.0.0 engine of stage1 in fp32')
    stand.said.clear()
    stand.load().close()
    assert stand.built == ['fp32'] * 3 and stand.said == []


def test_an_engine_that_the_library_refuses_is_built_anew(
        stand: Stand, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture) -> None:
    """It may be whole, and still be of a build that this driver does not take."""
    with monkeypatch.context() as patch:
        patch.setattr(engines, 'build_engine', lambda *_: b'of another driver')
        with pytest.raises(BackendError, match='cannot load the engine that it built of stage1'):
            stand.load()
    EngineStore().root.mkdir(parents=True, exist_ok=True)
    assert not list(EngineStore().root.glob('*.engine'))
    with monkeypatch.context() as patch:
        load_or_build = EngineStore.load_or_build
        patch.setattr(EngineStore, 'load_or_build',
                      lambda self, key, build, say: load_or_build(self, key, lambda: b'x', say))
        with pytest.raises(BackendError):
            stand.load()
    assert 'refuses the engine of stage1; it is built anew' in caplog.text
    stand.load()
    assert stand.built == ['fp32'] * 3


@pytest.mark.parametrize(('change', 'said'), [
    ({'image': np.zeros((2, 32, 32, 3), np.float32)}, r'stage1 is \(2, 32, 32, 3\) float'),
    ({'image': np.zeros((2, 48, 48, 3), np.uint8)}, r"expected \('N', 32, 32, 3\) uint8"),
    ({'image': None}, r"stage1 needs the input image, got \['class_index'\]"),
])
def test_a_wrong_input_is_named(stand: Stand, change: dict[str, Any], said: str) -> None:
    """The error says what was given and what was expected."""
    inputs = {'image': np.zeros((2, 32, 32, 3), np.uint8), 'class_index': np.zeros(2, np.int64)}
    given = {name: a for name, a in {**inputs, **change}.items() if a is not None}
    with pytest.raises(BackendError, match=said):
        stand.load().run('stage1', given)


def test_a_full_gpu_and_an_unknown_device_are_errors(stand: Stand) -> None:
    """Both say what to do."""
    with pytest.raises(BackendError, match=r"no device 'cuda:1'.*CUDA_VISIBLE_DEVICES"):
        stand.load(device='cuda:1')
    backend = stand.load(device='cuda:0')
    assert (backend.name, backend.device, backend.precision, backend.version) == (
        'tensorrt', 'Fake GPU', 'fp32', '10.0.0')
    stand.cuda.full = True
    with pytest.raises(BackendError, match='memory of Fake GPU is full'):
        backend.keep(np.zeros(4, np.float32))


@needs_rtx
def test_engines_are_exported_ahead_of_the_first_start(
        tiny_model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a GPU that is not here; the second time they are found, and meshes are not needed."""
    command = ['export', '--model', str(tiny_model.path), '--backend', 'tensorrt_rtx',
               '--precision', 'fp16', '--capability', '8.9', '--engines', str(tmp_path)]
    assert main(command) == 0
    first = capsys.readouterr()
    assert 'engine of stage2 in fp16 for compute capability 8.9, 1 to 32 rows' in first.err
    files = [Path(line) for line in first.out.splitlines()]
    assert [file.name.split('-')[:2] for file in files] == [[g, 'fp16'] for g in DEFAULT_GRAPHS]
    assert all(file.is_file() for file in files)
    assert main(command) == 0
    assert capsys.readouterr() == (first.out, '')


@pytest.mark.parametrize(('words', 'said'), [
    ([], 'give a configuration and --output DIR'),
    (['config.yaml'], 'give a configuration and --output DIR'),
    (['--model', str(LMO)], '--backend NAME to build engines'),
    (['config.yaml', '--model', str(LMO), '--backend', 'tensorrt'], 'give a configuration'),
    (['--model', str(LMO), '--backend', 'tensorrt', '--capability', '8.9'],
     'tensorrt builds only for the GPU it runs on'),
    (['--model', str(LMO), '--backend', 'tensorrt_rtx', '--capability', 'ampere'],
     "--capability is 'ampere', expected two numbers such as 8.9"),
    (['--model', 'nowhere', '--backend', 'tensorrt_rtx', '--capability', '8.9'],
     'model nowhere: there is no such directory'),
])
def test_a_wrong_export_says_what_is_wrong(
        words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Combinations that make no sense, and a GPU or model that there is not."""
    assert main(['export', *words]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture(params=['tensorrt', 'tensorrt_rtx'])
def real_library(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a library that can be run here."""
    if problem := cuda_problem():
        pytest.skip(problem)
    for module in (request.param, 'pycuda'):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f'needs {module}')
    yield request.param


@pytest.mark.gpu
@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_a_gpu_computes_the_same(real_library: str, precision: str, tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """All graphs of the LM-O model, at batches within and beyond the engines'."""
    monkeypatch.setenv('MRCNET_CACHE', str(tmp_path))
    graphs = {name: LMO / f'{name}.onnx' for name in DEFAULT_GRAPHS}
    backend = load_tensorrt(graphs, RuntimeOptions(
        backend=real_library, precision=precision, max_batch=4))
    reference = OnnxRuntimeBackend(graphs)
    limit = LIMIT if precision == 'fp16' else 1e-4
    for graph, path in graphs.items():
        for rows in (1, 4, 9):
            inputs = random_inputs(session_of(path.read_bytes()), rows)
            found = host(backend.run(graph, inputs))
            for name, array in reference.run(graph, inputs).items():
                assert np.abs(found[name] - array).max() < limit * np.abs(array).max(), name
    backend.close()


@pytest.mark.gpu
@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_a_gpu_finds_the_same_poses(real_library: str, precision: str, tiny_model: Any,
                                    tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimator's poses, cold and warm."""
    monkeypatch.setenv('MRCNET_CACHE', str(tmp_path))
    model = read_model_directory(tiny_model.path, tiny_model.meshes)
    store = TemplateStore(tiny_model.store)
    expected = PoseEstimator(model, OnnxRuntimeBackend(model.graphs), store)(
        IMAGE, CAMERA, DETECTIONS)
    backend = load_tensorrt(model.graphs, RuntimeOptions(
        backend=real_library, precision=precision))
    estimator = PoseEstimator(model, backend, store)
    for _ in range(3):
        for a, b in zip(estimator(IMAGE, CAMERA, DETECTIONS), expected, strict=True):
            assert_same_pose(a, b, 1e-3 if precision == 'fp32' else 2e-2)
    backend.close()
