"""Bags that the node answers, and the figures of its answers."""

import argparse
import json
import shutil

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')
pytest.importorskip('rosbags')

from bop_folder import bag_of, root_fixture
from ros_process import STAND_IN, WAIT_S, environment, own_domain

from mrcnet_ros.cli import evaluate_bag
from mrcnet_ros.cli.main import main
from mrcnet_ros.datasets.bop import BopDataset, read_results_csv
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import make_transform
from mrcnet_ros.inference.poses import Detection
from mrcnet_ros.specs import FORMAT_VERSION
from mrcnet_ros.testbench.bag import Truth
from mrcnet_ros.testbench.bag_writer import BagWriter

dataset = root_fixture()


@pytest.fixture
def replay(dataset, monkeypatch):
    """Return a function that evaluates the toy bag with a node that knows the truth."""
    for name, value in environment(own_domain(7)).items():
        monkeypatch.setenv(name, value)
    _, bag = bag_of(dataset)
    models = BopDataset(dataset, 'toy', 'test').models_dir
    (dataset / 'model.json').write_text(json.dumps({'format_version': 1, 'name': 'toy', 'spec': {
        'preset': 'default'}, 'objects': [
        {'object_id': i, 'label': f'obj_{i:06d}'} for i in (1, 3)]}))

    def evaluate(name, shift_m=0.0, options=(), code=0):
        parser = argparse.ArgumentParser()
        evaluate_bag.add_arguments(parser)
        csv, figures = dataset / f'{name}.csv', dataset / f'{name}.json'
        words = ['--bag', bag, '--model', dataset, '--meshes', models, '--csv', csv,
                 '--json', figures, '--timeout', WAIT_S, *options]
        args = parser.parse_args([str(word) for word in words])
        args.command_line = []
        node = [STAND_IN, str(bag), str(shift_m), str(models), '--ros-args']
        assert evaluate_bag.evaluate(args, node) == code
        return csv, json.loads(figures.read_text())

    return evaluate


def test_true_poses_through_the_node_score_fully_and_repeatably(replay, dataset):
    """Every frame is answered, poses survive the way, and the files of two runs are equal."""
    csv, figures = replay('first', options=['--report', dataset / 'report'])
    page = (dataset / 'report' / 'index.html').read_text()
    assert 'age of the poses' in page
    assert page.count('data:image/jpeg;base64,') == figures['overall']['estimates']
    assert (figures['sent'], figures['answered']) == (2, 2)
    assert figures['overall']['ar_mssd'] == figures['overall']['ar_mspd'] == 1.0
    assert csv.read_bytes() == replay('second')[0].read_bytes()
    truths = {(f.scene_id, f.image_id): f.target_ground_truth()
              for f in BopDataset(dataset, 'toy', 'test').frames}
    rows = read_results_csv(csv)
    assert len(rows) == sum(map(len, truths.values()))
    for row in rows:
        assert min(np.abs(row.T_camera_object - g.T_camera_object).max()
                   for g in truths[row.scene_id, row.image_id]
                   if g.object_id == row.object_id) < 1e-9


def test_wrong_poses_score_less(replay):
    """A decimetre too far away is, for these objects, beyond every threshold of MSSD."""
    _, figures = replay('far', shift_m=0.1)
    assert figures['overall']['ar_mssd'] == 0.0
    assert figures['overall']['median_depth_mm'] == pytest.approx(100.0)


def test_in_real_time_the_age_of_the_answers_is_told(replay):
    """With rate and answered frames; the account of the node comes along."""
    _, figures = replay('live', options=['--mode', 'realtime', '--rate', '10', '--loops', '5'])
    assert figures['sent'] == figures['answered'] + figures['unanswered'] == 10
    assert figures['answered_hz'] == pytest.approx(figures['answered'])
    assert 0.0 < figures['age_ms']['p50'] <= figures['age_ms']['p99'] < 10_000.0
    assert f'answered {figures["answered"]} frames' in figures['node']


@pytest.mark.parametrize(('labels', 'told'), [
    ({1: 'obj_000003', 3: 'obj_000001'}, 'obj_000003 is object 3 there, but object 1 of'),
    ({1: 'cup', 3: 'can'}, "the model knows none of these labels, only ['can', 'cup']")])
def test_a_model_of_other_objects_is_refused_before_the_node_starts(
        dataset, capsys, labels, told):
    """No answer could be right."""
    _, bag = bag_of(dataset)
    (dataset / 'model.json').write_text(json.dumps({
        'format_version': FORMAT_VERSION, 'name': 'toy', 'objects': [
            {'object_id': i, 'label': label} for i, label in labels.items()]}))
    code = main([str(word) for word in (
        'evaluate', 'bag', '--bag', bag, '--model', dataset, '--meshes',
        dataset / 'toy' / 'models_eval', '--csv', dataset / 'out.csv',
        '--json', dataset / 'out.json')])
    assert code == 2 and told in capsys.readouterr().err
    assert not (dataset / 'out.csv').exists()


def _nobody(args, command, frames, log):
    """Stand in for the replay to a node that does not answer."""
    log.write_text('')
    return [None] * len(frames)


def test_sizes_from_photographs_are_told_where_images_are_rendered(
        dataset, replay, monkeypatch, caplog):
    """The node takes them, and scores less than the offline evaluation does."""
    monkeypatch.setattr(evaluate_bag, '_replay', _nobody)
    model = json.loads((dataset / 'model.json').read_text())
    model['objects'][1]['size_ratio'] = 0.97
    (dataset / 'model.json').write_text(json.dumps(model))
    _, figures = replay('photographs', options=['--mode', 'realtime'], code=1)
    assert figures['sizes'] == 'of the model' and 'rendered' not in caplog.text
    (dataset / 'toy' / 'test' / 'rendered.json').write_text('{}')
    shutil.rmtree(dataset / 'toy_bag')
    assert bag_of(dataset)[0] == 0
    replay('rendered', options=['--mode', 'realtime'], code=1)
    assert 'are rendered' in caplog.text and 'takes obj_000003 to be' in caplog.text


def test_targets_of_objects_that_the_model_lacks_are_told(dataset, replay, monkeypatch, capsys):
    """They count as missed, so that the figures cannot be compared with those of other models."""
    monkeypatch.setattr(evaluate_bag, '_replay', _nobody)
    _, figures = replay('all', options=['--mode', 'realtime'], code=1)
    assert figures['targets_not_in_model'] == 0 and 'lacks' not in capsys.readouterr().out
    model = json.loads((dataset / 'model.json').read_text())
    model['objects'] = model['objects'][:1]
    (dataset / 'model.json').write_text(json.dumps(model))
    _, figures = replay('some', options=['--mode', 'realtime'], code=1)
    count = figures['targets_not_in_model']
    assert count and f'{count} targets are of objects that the model lacks' in (
        capsys.readouterr().out)


def test_real_time_without_an_answer_is_no_success(replay, dataset, monkeypatch):
    """Nothing was measured, whatever the table says."""
    monkeypatch.setattr(evaluate_bag, '_replay', _nobody)
    _, figures = replay('none', options=['--mode', 'realtime'], code=1)
    assert (figures['sent'], figures['answered']) == (2, 0)


def test_the_node_publishes_what_the_offline_estimator_computes(
    tiny_model, tmp_path, monkeypatch,
):
    """A real model in the real node, from the bag's pixels to the poses in the file."""
    from mrcnet_ros.inference.estimator import PoseEstimator

    for name, value in {**environment(own_domain(8)), 'MRCNET_CACHE': tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    rng = np.random.default_rng(4)
    camera = Camera(np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]), 320, 240)
    detections = [Detection('box', np.array([20.0, 30, 90, 110])),
                  Detection('blob', np.array([150.0, 60, 260, 200]))]
    images = [rng.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(2)]
    with BagWriter(tmp_path / 'noise') as writer:
        for number, image in enumerate(images):
            truth = Truth('blob', f'1/{number}/2/0', make_transform(np.eye(3), [0, 0, 0.6]), 1.0)
            writer.write((number + 1) * 10**8, image, camera, detections, [truth])

    code = main([str(word) for word in (
        'evaluate', 'bag', '--bag', tmp_path / 'noise', '--model', tiny_model.path,
        '--meshes', tiny_model.meshes, '--threads', '1', '--csv', tmp_path / 'poses.csv',
        '--json', tmp_path / 'figures.json')])

    assert code == 0
    offline = PoseEstimator.load(tiny_model.path, tiny_model.meshes, threads=1)
    expected = [p for image in images for p in offline(image, camera, detections)]
    rows = read_results_csv(tmp_path / 'poses.csv')
    assert [(r.image_id, r.object_id) for r in rows] == [(0, 7), (0, 2), (1, 7), (1, 2)]
    for row, pose in zip(rows, expected, strict=True):
        assert np.allclose(row.T_camera_object, pose.T_camera_object, atol=1e-6)
        assert row.score == pytest.approx(pose.score)
