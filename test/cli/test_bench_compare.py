"""Runtimes side by side: every figure is there, finite, and about what it says."""

import argparse
import json
import math
import time
from types import SimpleNamespace

import bop_folder
import numpy as np
import pytest
from PIL import Image as Picture

from mrcnet_ros.cli import bench_backends, bench_paper
from mrcnet_ros.cli.main import main
from mrcnet_ros.errors import BackendError
from mrcnet_ros.evaluation import comparison
from mrcnet_ros.evaluation.charts import BarChart, Line, LineChart, draw_charts
from mrcnet_ros.evaluation.comparison import Arithmetic, Contender, Times
from mrcnet_ros.evaluation.speed import Question, TimedAnswer
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.poses import Detection, FrameResult
from mrcnet_ros.objects import load_bop_objects


class Counting:
    """Says that a template takes 20 ms and a detection ``each_s``, and sleeps for it."""

    refinements = 0

    def __init__(self, each_s, objects=None):
        self.each_s, self.objects = each_s, objects or {}
        self.remembered, self.calls = set(), []

    def estimate(self, image_rgb, camera, detections, most=None):
        """Answer nothing."""
        keys = {(d.label, *d.box_xyxy) for d in detections}
        new = len(keys - self.remembered)
        self.remembered |= keys
        self.calls.append((len(detections), new))
        time.sleep(0.02 * new + self.each_s * len(detections))
        stages = {'stage1': 0.5 * self.each_s * len(detections), 'template': 0.02 * new,
                  'stage2': 0.5 * self.each_s * len(detections)}
        return FrameResult([], [], stages, len(detections) - new, new)


@pytest.fixture
def no_rest(monkeypatch):
    monkeypatch.setattr(comparison, 'SETTLE_S', 0.0)


def question(*boxes):
    image = np.zeros((4, 4, 3), np.uint8)
    return Question(image, Camera(np.eye(3), 4, 4),
                    [Detection('duck', np.array([b, 0.0, b + 1.0, 1.0])) for b in boxes])


def finite(value):
    """Tell whether all numbers in plain data are finite."""
    if isinstance(value, dict):
        return all(finite(v) for v in value.values())
    if isinstance(value, list):
        return all(finite(v) for v in value)
    return not isinstance(value, float) or math.isfinite(value)


def test_states_are_what_they_are_called(no_rest):
    """Cold calls remember nothing, warm calls and batches everything, whoever comes first."""
    estimators = {name: Counting(0.0) for name in 'ab'}
    times = comparison.compare_runtimes(
        {n: Contender(e, e.remembered.clear, 'fp32') for n, e in estimators.items()},
        [question(1), question(2, 3, 4)], (1, 5), repeats=2)
    for own in times.values():
        assert [a.cache_misses for a in own.cold] == [1, 3] * 2
        assert [a.cache_misses for a in own.warm] == [0, 0] * 2
        assert {n: [a.cache_hits for a in answers] for n, answers in own.batches.items()} == {
            1: [1] * 2 * comparison.CALLS, 5: [5] * 2 * comparison.CALLS}


def test_every_repeat_begins_with_another(no_rest):
    """So that no one always runs on a machine that the other has just heated."""
    order = []

    class Noting(Counting):
        def estimate(self, *frame):
            if not order or order[-1] != self.each_s:
                order.append(self.each_s)
            return super().estimate(*frame)

    contenders = {str(i): Contender(Noting(1e-6 * i), None, 'fp32') for i in (1, 2, 3)}
    comparison.compare_runtimes(contenders, [question(1)], (1,), repeats=3)
    assert [round(1e6 * each) for each in order] == [1, 2, 3, 2, 3, 1, 3, 1, 2]


def test_ratios_are_of_medians():
    """Twice as fast is 2, and what was not measured has no ratio."""
    def figures(seconds, cold=True):
        answers = [TimedAnswer(seconds, {'stage1': seconds}, 0, 0)]
        return comparison.contender_figures(
            Times(answers if cold else [], answers, {4: answers}), None, 'fp32')

    found = comparison.ratios(figures(0.1), figures(0.2))
    assert found == pytest.approx({'cold': 2.0, 'warm': 2.0, 'batch_4': 2.0})
    assert 'cold' not in comparison.ratios(figures(0.1, cold=False), figures(0.2))
    assert figures(0.1)['batches']['4']['detection_median_ms'] == pytest.approx(25.0)


def test_shares_are_of_the_rate_in_the_same_precision():
    """4 and 6 rows of 1 and 2 MFLOP in 1 and 4 ms of 8 ms, of 100 GFLOP/s; no rate, no share."""
    arithmetic = Arithmetic({'stage1': 10**6, 'stage2': 2 * 10**6, 'template': 7},
                            {'fp32': 1e11, 'bf16': 1e12})
    summary = {'image_median_ms': 8.0, 'stage_median_ms': {'stage1': 1.0, 'stage2': 4.0},
               'rows': {'stage1': 4, 'stage2': 6}}
    assert comparison.shares(summary, arithmetic, 'fp32') == pytest.approx(
        {'stage1': 0.04, 'stage2': 0.03, 'all': 0.02})
    assert comparison.shares(summary, arithmetic, 'bf16')['all'] == pytest.approx(0.002)
    assert comparison.shares(summary, arithmetic, 'fp16') is None


def test_the_command_writes_figures_and_charts(tmp_path, no_rest, capsys):
    """Cold, warm, batches and stages of all, and ratios to the baseline, which is PyTorch."""
    bop_folder.write_dataset(tmp_path)
    (tmp_path / 'model.json').write_text('{}')
    models = load_bop_objects(tmp_path / 'toy' / 'models_eval', (1, 3))
    objects = {model.label: model for model in models.values()}
    estimators = {'torch fp32': Counting(0.012, objects), 'swift bf16': Counting(0.004, objects)}
    loaded = {n: Contender(e, e.remembered.clear, 'fp32') for n, e in estimators.items()}
    parser = argparse.ArgumentParser()
    bench_backends.add_arguments(parser)
    args = parser.parse_args([
        '--bop-dir', str(tmp_path), '--dataset', 'toy', '--model', str(tmp_path), '--repeats', '2',
        '--batches', '8', '1', '2', '--json', str(tmp_path / 'out.json'),
        '--plot', str(tmp_path / 'out.png')])
    args.command_line = 'mrcnet bench backends'
    facts = {'load_seconds': dict.fromkeys(loaded, 0.1), 'absent': {'torch': 'left out'}}
    assert bench_backends.bench(args, loaded, facts) == 0
    figures = json.loads((tmp_path / 'out.json').read_text())
    assert finite(figures) and figures['baseline'] == 'torch fp32'
    assert (figures['images'], figures['detections']) == (2, 5)
    swift = figures['backends']['swift bf16']
    assert list(swift['batches']) == ['1', '2', '8']
    assert swift['cold']['cache_hit_rate'] == 0.0 and swift['warm']['cache_hit_rate'] == 1.0
    assert set(swift['batches']['8']['stage_median_ms']) == {'stage1', 'template', 'stage2'}
    assert set(swift['times_faster_than_baseline']) == {
        'cold', 'warm', 'batch_1', 'batch_2', 'batch_8'}
    assert all(ratio > 0 for ratio in swift['times_faster_than_baseline'].values())
    assert figures['backends']['torch fp32']['times_faster_than_baseline']['warm'] == 1.0
    assert 'swift bf16' in capsys.readouterr().out
    with Picture.open(tmp_path / 'out.png') as picture:
        assert len(np.unique(np.asarray(picture))) > 10


def test_a_device_is_named_behind_the_runtime():
    """Without a precision every one that the device can compute in is compared."""
    chosen, _ = bench_backends.contenders(['onnxruntime@cuda', 'onnxruntime:fp32'])
    assert chosen == [('onnxruntime', 'fp32', 'cuda'), ('onnxruntime', 'fp32', '')]
    assert [choice.title for choice in chosen] == ['onnxruntime fp32 cuda', 'onnxruntime fp32']


def test_real_runtimes_are_compared_with_torch(refined_model, no_rest):
    """All that are present, with the arithmetic of the graphs and the rate of this machine."""
    pytest.importorskip('torch')
    from mrcnet_ros.export.arithmetic import gemm_flops_per_s, stage_flops

    chosen, absent = bench_backends.contenders(None)
    assert ('torch', 'fp32', '') in chosen and ('onnxruntime', 'fp32', '') in chosen
    assert not {choice.name for choice in chosen} & set(absent)
    loaded = {}
    for name, precision, _ in chosen:
        estimator = PoseEstimator.load(
            refined_model.path, refined_model.meshes, store_root=refined_model.store, threads=1,
            backend=name, precision=precision, allow_unverified=True, crops=2, hypotheses=3,
            refine=1)
        loaded[f'{name} {precision}'] = Contender(
            estimator, estimator.features.cache.clear, precision)
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    camera = Camera(np.array([[200.0, 0, 80], [0, 200, 60], [0, 0, 1]]), 160, 120)
    asked = [Question(image, camera, [Detection('blob', np.array([30.0, 20, 90, 80])),
                                      Detection('box', np.array([70.0, 30, 130, 90]))])]
    times = comparison.compare_runtimes(loaded, asked, (1, 3), repeats=1)
    arithmetic = Arithmetic(stage_flops(refined_model.path), gemm_flops_per_s(1))
    assert all(count > 0 for count in arithmetic.graph_flops.values())
    figures = {name: comparison.contender_figures(times[name], arithmetic, loaded[name].precision)
               for name in loaded}
    for own in figures.values():
        assert finite(own) and own['batches']['3']['share_of_gemm']['all'] > 0
        rows = own['batches']['3']['rows']
        assert rows['stage1'] == 3 * 2 and 3 * 2 <= rows['stage2'] <= 3 * 2 * 3
        assert rows['refine'] == 3 and own['batches']['3']['share_of_gemm']['refine'] > 0
        assert finite(comparison.ratios(own, figures['torch fp32']))


def test_the_arithmetic_of_a_convolution_is_counted():
    """Two for each multiplication: 2 * (3*3*4) * 8 * 10*10."""
    torch = pytest.importorskip('torch')
    from mrcnet_ros.export.arithmetic import graph_flops

    graph = torch.nn.Conv2d(4, 8, 3, padding=1)
    counts = graph_flops({'one': graph}, {'one': {'image': torch.zeros(1, 4, 10, 10)}})
    assert counts == {'one': 2 * 36 * 8 * 100}


def test_a_runtime_that_cannot_be_loaded_does_not_stop_the_others(
        tiny_model, tmp_path, monkeypatch, no_rest, capsys):
    """It is told with its reason, in the figures too, and the command fails at its end."""
    def load(*model, device, **options):
        if device == 'tpu':
            raise BackendError("no device 'tpu'")
        estimator = Counting(0.004, objects)
        estimator.features = SimpleNamespace(cache=estimator.remembered)
        return estimator

    bop_folder.write_dataset(tmp_path)
    models = load_bop_objects(tmp_path / 'toy' / 'models_eval', (1, 3))
    objects = {model.label: model for model in models.values()}
    monkeypatch.setattr(PoseEstimator, 'load', load)
    figures = tmp_path / 'out.json'
    words = ['bench', 'backends', '--bop-dir', str(tmp_path), '--dataset', 'toy', '--model',
             str(tiny_model.path), '--repeats', '1', '--batches', '1', '--json', str(figures)]
    assert main([*words, '--backends', 'onnxruntime@tpu', 'onnxruntime']) == 1
    found = json.loads(figures.read_text())
    assert set(found['backends']) == {'onnxruntime fp32'}
    assert "no device 'tpu'" in found['absent']['onnxruntime fp32 tpu']
    assert 'left out: onnxruntime fp32 tpu' in capsys.readouterr().out
    assert main([*words, '--backends', 'onnxruntime@tpu']) != 0
    assert "no device 'tpu'" in capsys.readouterr().err


def test_an_unknown_runtime_is_refused():
    """With the names of those there are."""
    with pytest.raises(BackendError, match='onnxruntime'):
        bench_backends.contenders(['abacus'])


def test_the_published_network_is_compared_with_torch(tmp_path, no_rest):
    """All runtimes compute the same as PyTorch within their precision, and are timed by stage.

    One that cannot be loaded is told and does not stop the others.
    """
    pytest.importorskip('torch')
    from paper_model import SMALL

    parser = argparse.ArgumentParser()
    bench_paper.add_arguments(parser)
    args = parser.parse_args([
        '--repeats', '1', '--threads', '1', '--backends', 'onnxruntime@tpu', 'onnxruntime',
        'torch@cpu',
        '--json', str(tmp_path / 'out.json'), '--plot', str(tmp_path / 'out.png')])
    args.command_line = 'mrcnet bench paper'
    assert bench_paper.bench(args, SMALL) == 1
    figures = json.loads((tmp_path / 'out.json').read_text())
    assert finite(figures)
    assert set(figures['backends']) == {'torch fp32', 'onnxruntime fp32', 'torch fp32 cpu'}
    assert "no device 'tpu'" in figures['absent']['onnxruntime fp32 tpu']
    same = figures['backends']['torch fp32 cpu']['largest_relative_difference']
    assert set(same.values()) == {0.0}
    own = figures['backends']['onnxruntime fp32']
    assert own['times_faster_than_baseline'] > 0
    assert set(own['stage_median_ms']) == {'stage1', 'template', 'stage2'}
    assert max(own['largest_relative_difference'].values()) < 1e-3
    assert set(figures['gemm_gflop_per_s']) == {'fp32', 'bf16'}
    assert (tmp_path / 'out.png').stat().st_size > 1000


def test_a_runtime_that_overflows_is_told_in_table_and_file(
        tmp_path, no_rest, monkeypatch, capsys):
    """Its times are kept; JSON has no number for what is not finite."""
    pytest.importorskip('torch')
    from paper_model import SMALL

    def overflowing(args, spec, reference):
        def run(graph, inputs):
            return {name: np.full_like(array, np.nan) if name == 'rotation_logits' else array
                    for name, array in reference.run(graph, inputs).items()}

        return {'half fp16': run}, {}

    monkeypatch.setattr(bench_paper, '_runtimes', overflowing)
    rounds = []
    monkeypatch.setattr('mrcnet_ros.export.arithmetic.gemm_flops_per_s',
                        lambda threads: rounds.append(threads) or {'fp32': 1e9})
    parser = argparse.ArgumentParser()
    bench_paper.add_arguments(parser)
    args = parser.parse_args(['--repeats', '2', '--threads', '1', '--json',
                              str(tmp_path / 'out.json')])
    args.command_line = 'mrcnet bench paper'
    assert bench_paper.bench(args, SMALL) == 1
    figures = json.loads((tmp_path / 'out.json').read_text())
    differences = figures['backends']['half fp16']['largest_relative_difference']
    assert differences['rotation_logits'] is None
    assert all(value == 0.0 for name, value in differences.items() if name != 'rotation_logits')
    printed = capsys.readouterr().out
    assert 'FAILED: half fp16 gives numbers that are not finite' in printed
    assert len(rounds) == 2  # once a round, although no bar is shown


def test_pytorch_on_a_device_that_is_not_there_is_refused():
    """The published network is run by PyTorch on the device that is named, or not at all."""
    torch = pytest.importorskip('torch')
    from paper_model import SMALL

    from mrcnet_ros.presets.paper.export.reference import PaperReference

    with pytest.raises(BackendError, match='cpu or cuda'):
        PaperReference(SMALL, 1, 'any', 'abacus')
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match='sees no GPU'):
            PaperReference(SMALL, 1, 'any', 'cuda')


def test_a_chart_has_room_for_any_values(tmp_path):
    """Gaps, one point, equal values and none at all."""
    path = tmp_path / 'deep' / 'chart.png'
    draw_charts(path, [
        LineChart('gaps', 'x', [Line('a', [1, 2, 3, 4], [1.0, None, 2.0, None])]),
        LineChart('one', 'x', [Line('a', [5], [7.0])]),
        LineChart('none', 'x', [Line('a', [], [])]), BarChart('none', 'ms', {}),
        BarChart('zero', 'ms', {'a': {'b': 0.0}})])
    with Picture.open(path) as picture:
        assert picture.size == (1520, 1200)


def test_the_bench_command_knows_its_tasks(capsys):
    """An unknown one is refused with the names of all."""
    with pytest.raises(SystemExit):
        main(['bench', 'nothing'])
    told = capsys.readouterr().err
    assert all(name in told for name in ('estimate', 'backends', 'node', 'paper'))
