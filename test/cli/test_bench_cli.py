"""The bench command, with an estimator that takes a known time."""

import dataclasses
import json
from types import SimpleNamespace

import bop_folder
import cv2
import numpy as np
import pytest

from mrcnet_ros.cli import bench_estimate
from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.evaluation import speed
from mrcnet_ros.inference.poses import FrameResult
from mrcnet_ros.objects import load_bop_objects

PER_TEMPLATE_S = 0.004


class SlowWhenCold:
    """Takes its time for each template it does not remember; remembers by label and box."""

    def __init__(self, root, known=(1, 3)):
        models = load_bop_objects(root / 'toy' / 'models_eval', known)
        self.objects = {model.label: model for model in models.values()}
        self.remembered = set()
        self.calls = []
        self.seconds = 0.0  # the clock of the tests: a busy machine changes no figure

    def estimate(self, image_rgb, camera, detections, depth_m=None, most=None):
        """Answer nothing, slowly; depth takes as long as a template."""
        keys = {(d.label, *d.box_xyxy) for d in detections}
        new = keys - self.remembered
        self.remembered |= keys
        self.calls.append((len(keys), len(new)))
        self.seconds += 1e-4 + PER_TEMPLATE_S * len(new)
        stages = {'crop': 0.001, 'template': PER_TEMPLATE_S * len(new)}
        if depth_m is not None:
            self.seconds += PER_TEMPLATE_S
            stages['depth'] = PER_TEMPLATE_S
        return FrameResult([], [], stages, len(keys) - len(new), len(new))


@pytest.fixture
def root(tmp_path):
    bop_folder.write_dataset(tmp_path)
    (tmp_path / 'model').mkdir()
    (tmp_path / 'model' / 'model.json').write_text('{}')
    return tmp_path


def run(monkeypatch, root, estimator, *extra):
    monkeypatch.setattr(
        bench_estimate, 'load_estimator', lambda args: (estimator, estimator.remembered.clear))
    monkeypatch.setattr(speed, 'time', SimpleNamespace(perf_counter=lambda: estimator.seconds))
    code = mrcnet.main(['bench', 'estimate', '--bop-dir', str(root), '--dataset', 'toy',
                        '--model', str(root / 'model'), '--json', str(root / 'out.json'), *extra])
    return code, json.loads((root / 'out.json').read_text()) if code == 0 else {}


def test_cold_and_warm_differ_by_what_the_cache_saves(monkeypatch, root, capsys):
    """Cold calls find no template, warm ones all, and the times show it."""
    code, figures = run(monkeypatch, root, SlowWhenCold(root), '--repeats', '3')
    assert code == 0
    assert figures['images'] == 2 and figures['detections'] == 5
    cold, warm = figures['cold'], figures['warm']
    assert cold['cache_hit_rate'] == 0.0 and warm['cache_hit_rate'] == 1.0
    assert cold['calls'] == warm['calls'] == 6
    assert cold['image_median_ms'] > 1e3 * PER_TEMPLATE_S * 2
    assert warm['images_per_second_median'] > 5 * cold['images_per_second_median']
    assert warm['stage_median_ms'] == {'crop': 1.0, 'template': 0.0}
    assert cold['stage_median_ms']['template'] == pytest.approx(1e3 * PER_TEMPLATE_S * 2.5)
    printed = capsys.readouterr().out
    assert 'cold' in printed and 'single object' in printed and '100.0%' in printed


def test_depth_is_timed_where_images_have_it(monkeypatch, root, capsys):
    """Beside the same images without it; without depth images there is no such line."""
    _, figures = run(monkeypatch, root, SlowWhenCold(root), '--repeats', '1')
    assert 'depth' not in figures and 'depth' not in capsys.readouterr().out
    for rgb in root.glob('toy/test/*/rgb/*.png'):
        depth = rgb.parents[1] / 'depth' / rgb.name
        depth.parent.mkdir(exist_ok=True)
        height, width = cv2.imread(str(rgb)).shape[:2]
        cv2.imwrite(str(depth), np.full((height, width), 800, np.uint16))
    _, figures = run(monkeypatch, root, SlowWhenCold(root), '--repeats', '3')
    assert figures['depth']['calls'] == figures['warm']['calls'] == 6
    assert figures['depth']['stage_median_ms']['depth'] == pytest.approx(1e3 * PER_TEMPLATE_S)
    assert figures['depth']['object_ms'] == pytest.approx(1e3 * PER_TEMPLATE_S)
    assert figures['depth']['image_cost_ratio'] > 1.5
    assert 'depth takes 4.00 ms an object' in capsys.readouterr().out


def test_one_object_at_a_time_is_measured_warm(monkeypatch, root):
    """One call a detection, with everything remembered."""
    estimator = SlowWhenCold(root)
    _, figures = run(monkeypatch, root, estimator, '--repeats', '2')
    single = figures['single_object']
    assert single['calls'] == 2 * 5
    assert single['cache_hit_rate'] == 1.0
    assert single['rate_hz'] == pytest.approx(1e3 / single['image_median_ms'])


def test_states_take_turns_in_every_repeat(monkeypatch, root):
    """Cold, rolling, warm, single; then all again, so that one busy moment spoils none alone."""
    estimator = SlowWhenCold(root)
    run(monkeypatch, root, estimator, '--repeats', '2')
    warm = [(2, 0), (3, 0), *[(2, 0)] * 2, *[(3, 0)] * 2]  # each with a lens and without
    once = [(2, 2), (3, 3), (2, 2), (3, 3), *warm, *[(1, 0)] * 10]
    assert estimator.calls == [(2, 2), *once, *once]


def test_what_a_lens_costs_is_measured_in_the_same_run(monkeypatch, root, capsys):
    """Every image is asked about with a distorted camera as well, next to the one without."""
    estimator = SlowWhenCold(root)
    answer, lenses = estimator.estimate, []

    def slower(image_rgb, camera, detections):
        lenses.append(camera.lens)
        result = answer(image_rgb, camera, detections)
        extra = 0.0001 if len(detections) == 1 else 0.0003
        return dataclasses.replace(result, stage_seconds={
            'crop': 0.001 + (extra if camera.lens else 0.0), 'template': 0.0})

    monkeypatch.setattr(estimator, 'estimate', slower)
    _, figures = run(monkeypatch, root, estimator, '--repeats', '1')
    assert figures['distorted']['crop_cost_ratio'] == pytest.approx(1.3)
    assert figures['distorted']['calls'] == figures['warm']['calls'] == 2
    assert figures['single_distorted']['crop_cost_ratio'] == pytest.approx(1.1)
    assert figures['single_distorted']['calls'] == figures['single_object']['calls'] == 5
    assert sum(lens is not None for lens in lenses) == 9
    assert ('crops of distorted images cost 1.30 times those of others, 1.10 times with one'
            in capsys.readouterr().out)


def test_what_was_measured_is_on_record(monkeypatch, root):
    """Command, model, machine, versions, threads and load time go with the figures."""
    _, figures = run(monkeypatch, root, SlowWhenCold(root), '--repeats', '1', '--threads', '1')
    assert figures['command'].startswith('mrcnet bench estimate')
    assert figures['threads'] == 1 and figures['repeats'] == 1
    assert len(figures['model']['sha256_of_model_json']) == 64
    assert figures['machine']['cpus_usable'] >= 1
    assert {'python', 'numpy', 'mrcnet_ros'} <= set(figures['versions'])
    assert figures['load_seconds'] >= 0


def test_a_dataset_without_known_objects_cannot_be_measured(monkeypatch, root, capsys):
    """The error lists what the model knows."""
    estimator = SlowWhenCold(root)
    estimator.objects = {'moon': next(iter(load_bop_objects(
        root / 'toy' / 'models_eval', [1]).values()))}
    object.__setattr__(estimator.objects['moon'], 'object_id', 99)
    code, _ = run(monkeypatch, root, estimator)
    assert code == 2
    assert "['moon']" in capsys.readouterr().err


def test_medians_are_over_calls_and_rates_are_of_the_median_call():
    """Rates are not means of rates: one slow call in three changes nothing."""
    answers = [speed.TimedAnswer(s, {'crop': s / 2}, 1, 3) for s in (0.1, 0.1, 2.0)]
    summary = speed.speed_summary(answers)
    assert summary['images_per_second_median'] == pytest.approx(10.0)
    assert summary['stage_median_ms'] == {'crop': pytest.approx(50.0)}
    assert summary['cache_hit_rate'] == 0.25
    assert summary['image_p95_ms'] == pytest.approx(1e3 * np.percentile([0.1, 0.1, 2.0], 95))
