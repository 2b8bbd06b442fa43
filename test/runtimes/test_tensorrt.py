"""TensorRT as a backend: batches, the use of memory, engines that are kept.

A stand-in GPU tests bookkeeping alone; what a GPU computes is tested by the tests marked ``gpu``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_gpu import FakeCuda, fake_pycuda, fake_tensorrt
from graph_inputs import random_inputs, session_of
from red_detector import write_red_detector
from test_estimator import CAMERA, DETECTIONS, IMAGE, assert_same_pose

from mrcnet_ros.cli.main import main
from mrcnet_ros.errors import BackendError
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.rendering.template_store import TemplateStore
from mrcnet_ros.runtimes import engines, tensorrt_backend
from mrcnet_ros.runtimes.backend import RESIDENT, RuntimeOptions
from mrcnet_ros.runtimes.cuda_driver import cuda_problem
from mrcnet_ros.runtimes.engine_graph import engine_graph
from mrcnet_ros.runtimes.engine_store import EngineSettings, EngineStore
from mrcnet_ros.runtimes.gpu_memory import GpuArray
from mrcnet_ros.runtimes.onnxruntime_backend import OnnxRuntimeBackend
from mrcnet_ros.runtimes.tensorrt_backend import load_tensorrt
from mrcnet_ros.specs import REFINER_GRAPHS

onnx = pytest.importorskip('onnx', reason='needs the train or a TensorRT extra')
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

LMO = Path(__file__).parents[2] / 'models' / 'lmo'
DEFAULT_GRAPHS = ('stage1', 'template', 'stage2')
LIMIT = 0.01  # of an output's largest value, for products in half precision
LARGEST = 3

needs_rtx = pytest.mark.skipif(importlib.util.find_spec('tensorrt_rtx') is None,
                               reason="needs the extra 'tensorrt-rtx'")


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

    def build(graph: bytes, settings: EngineSettings, say: Any) -> bytes:
        stand.built.append(settings.precision)
        return engine_graph(graph, settings.precision)

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
        assert estimator.features.cache.size_bytes <= cache_bytes


def test_features_of_templates_stay_on_the_gpu_until_their_cache_is_full(
        stand: Stand, tiny_model: Any) -> None:
    """A warm image sends its crops up and nothing of its templates; evicted memory is freed."""
    model = read_model_directory(tiny_model.path, tiny_model.meshes)
    estimator = PoseEstimator(model, stand.load(), TemplateStore(tiny_model.store), crops=1,
                              hypotheses=1)
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
        refined_model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a GPU that is not here; the second time they are found, and meshes are not needed."""
    command = ['export', '--model', str(refined_model.path), '--backend', 'tensorrt_rtx',
               '--precision', 'fp16', '--capability', '8.9', '--engines', str(tmp_path)]
    assert main(command) == 0
    first = capsys.readouterr()
    assert 'engine of stage2 in fp16 for compute capability 8.9, 1 to 32 rows' in first.err
    files = [Path(line) for line in first.out.splitlines()]
    assert [file.name.split('-')[:2] for file in files] == [
        [g, 'fp16'] for g in (*DEFAULT_GRAPHS, *REFINER_GRAPHS)]
    assert all(file.is_file() for file in files)
    assert main(command) == 0
    assert capsys.readouterr() == (first.out, '')


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_a_detector_takes_images_of_any_size(stand: Stand, precision: str) -> None:
    """Its engine is for all that it may be shown; other images are named."""
    graph = {'detector': LMO / 'detector.onnx'}
    backend = load_tensorrt(graph, RuntimeOptions(
        backend='tensorrt', precision=precision, longest_px=800, say=stand.said.append))
    assert any('images of up to 800 px' in text for text in stand.said)
    rng = np.random.default_rng(0)
    for size in ((96, 160), (384, 512)):
        inputs = {'image': 255 * rng.random((1, 3, *size), dtype=np.float32)}
        found = backend.run('detector', inputs)
        for name, array in OnnxRuntimeBackend(graph).run('detector', inputs).items():
            limit = LIMIT * np.abs(array).max() if precision == 'fp16' else 1e-5
            assert np.abs(np.asarray(found[name]) - array).max() < limit, name
    grey = {'image': np.zeros((1, 1, 64, 64), np.float32)}
    with pytest.raises(BackendError, match=r"\(1, 1, 64, 64\) .*expected \(1, 3, 'N', 'N'\)"):
        backend.run('detector', grey)


@needs_rtx
def test_engines_of_a_detector_are_exported_too(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a directory without poses as well."""
    write_red_detector(tmp_path / 'model')
    assert main(['export', '--model', str(tmp_path / 'model'), '--backend', 'tensorrt_rtx',
                 '--capability', '8.9', '--engines', str(tmp_path / 'engines')]) == 0
    printed = capsys.readouterr()
    assert 'images of up to 640 px' in printed.err
    assert Path(printed.out.strip()).name.startswith('detector-fp32-')


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
    graphs = {name: LMO / f'{name}.onnx'  # a refiner need not be carried to a GPU
              for name in (*DEFAULT_GRAPHS, *REFINER_GRAPHS, 'detector')
              if name in DEFAULT_GRAPHS or (LMO / f'{name}.onnx').exists()}
    backend = load_tensorrt(graphs, RuntimeOptions(
        backend=real_library, precision=precision, max_batch=4, longest_px=800))
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
def test_a_gpu_finds_the_same_poses(real_library: str, precision: str, refined_model: Any,
                                    tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimator's poses, refined, cold and warm."""
    monkeypatch.setenv('MRCNET_CACHE', str(tmp_path))
    model = read_model_directory(refined_model.path, refined_model.meshes)
    store = TemplateStore(refined_model.store)
    expected = PoseEstimator(model, OnnxRuntimeBackend(model.graphs), store, refine=1)(
        IMAGE, CAMERA, DETECTIONS)
    backend = load_tensorrt(model.graphs, RuntimeOptions(
        backend=real_library, precision=precision))
    estimator = PoseEstimator(model, backend, store, refine=1)
    for _ in range(3):
        for a, b in zip(estimator(IMAGE, CAMERA, DETECTIONS), expected, strict=True):
            assert_same_pose(a, b, 1e-3 if precision == 'fp32' else 2e-2)
    backend.close()
