"""The demo: its scenes, its messages, its scores, and the whole program over real topics."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import ros_process

from mrcnet_ros.datasets.bop import ResultRow
from mrcnet_ros.demo.score_table import DemoLimits, complaints, error_table
from mrcnet_ros.errors import DatasetError
from mrcnet_ros.evaluation.scores import score
from mrcnet_ros.geometry.se3 import make_transform
from mrcnet_ros.store.shared_files import shared_file

SEED = 7


@pytest.fixture(scope='module')
def model():
    return shared_file('models/demo')


@pytest.fixture(scope='module')
def objects(model):
    pytest.importorskip('rclpy', reason='needs ROS or its wheels')
    from mrcnet_ros.testbench.drawn_scenes import scene_objects

    return scene_objects(model)


@pytest.fixture(scope='module')
def draw(model, objects):
    from mrcnet_ros.testbench.drawn_scenes import draw_scenes

    return lambda count, seed: draw_scenes(model, count, seed)


@pytest.fixture(scope='module')
def scenes(draw):
    return draw(3, SEED)


def test_scene_depends_on_seed_and_number_only(draw, scenes):
    """The same seed gives the same scenes however many are drawn, another one another."""
    again, = draw(1, SEED)
    np.testing.assert_array_equal(again.image_rgb, scenes[0].image_rgb)
    assert not np.array_equal(scenes[0].image_rgb, scenes[1].image_rgb)
    assert not np.array_equal(draw(1, SEED + 1)[0].image_rgb, again.image_rgb)


def test_boxes_of_unhidden_objects_enclose_their_projection(scenes, objects):
    """The box of an object that nothing hides is the box of its projected vertices."""
    unhidden = [(s.camera, t) for s in scenes for t in s.ground_truth
                if t.visible_fraction == 1.0]
    assert unhidden
    for camera, truth in unhidden:
        points = objects[truth.object_id].load_mesh().vertices @ truth.T_camera_object[:3, :3].T
        uv = camera.project(points + truth.T_camera_object[:3, 3])
        np.testing.assert_allclose(
            truth.box_visib_xyxy, [*uv.min(axis=0), *uv.max(axis=0)], atol=1.5)


def test_objects_have_their_colours_where_the_truth_says(scenes, objects):
    """The middle of each cereal box is more red than blue."""
    for scene in scenes:
        for truth in scene.target_ground_truth():
            if objects[truth.object_id].label == 'cereal' and truth.visible_fraction == 1.0:
                u, v = np.rint(scene.camera.project(truth.T_camera_object[:3, 3])).astype(int)
                red, _, blue = scene.image_rgb[v - 8:v + 9, u - 8:u + 9].mean(axis=(0, 1))
                assert red > blue


def test_a_model_without_backgrounds_cannot_be_shown(tmp_path):
    """A folder without what scenes are drawn of gives an error that names it."""
    pytest.importorskip('rclpy', reason='needs ROS or its wheels')
    from mrcnet_ros.testbench.drawn_scenes import draw_scenes

    with pytest.raises(DatasetError, match=re.escape(f'{tmp_path} has no objects.yaml')):
        draw_scenes(tmp_path, 1, SEED)


def scored(scenes, objects, change=lambda truth: truth.T_camera_object):
    """Return what becomes of all targets when the poses are the truth, changed; None for none."""
    rows = [ResultRow(s.scene_id, s.image_id, t.object_id, 1.0, T) for s in scenes
            for t in s.target_ground_truth() if (T := change(t)) is not None]
    return score(scenes, rows, objects).targets


def test_truth_has_no_error_and_passes(scenes, objects):
    """Poses equal to the truth satisfy the limits."""
    targets = scored(scenes, objects)
    assert targets and max(t.mssd_m for t in targets) == 0.0
    assert complaints(targets, objects, DemoLimits()) == []


def test_missing_poses_are_complained_about(scenes, objects):
    """When most objects have no answer the demo fails, however good the others are."""
    complaint, = complaints(scored(
        scenes, objects, lambda t: t.T_camera_object if t.object_id == 1 else None),
        objects, DemoLimits())
    assert 'must be answered' in complaint
    assert complaints(scored(scenes, objects, lambda _: None), objects, DemoLimits())


def test_one_bad_object_is_complained_about(scenes, objects):
    """An object whose poses are all wrong fails the demo even when the overall median is good."""
    bread = next(i for i, o in objects.items() if o.label == 'bread')
    aside = make_transform(np.eye(3), [0.1, 0.0, 0.0])
    complaint, = complaints(scored(
        scenes, objects,
        lambda t: t.T_camera_object @ aside if t.object_id == bread else t.T_camera_object),
        objects, DemoLimits())
    assert 'bread' in complaint


def test_table_lists_every_object(scenes, objects):
    """The table has a line for each object: how many poses there are and should be, and errors."""
    away = make_transform(np.eye(3), [0.0, 0.0, 0.02])
    table = error_table(scored(scenes, objects, lambda t: away @ t.T_camera_object), objects)
    for object_id, model in objects.items():
        count = sum(t.object_id == object_id for s in scenes for t in s.target_ground_truth())
        assert re.search(rf'^{model.label} +{count}/{count} +0\.0 +20\.0 +20\.0 +'
                         rf'{2 / model.diameter_m:.1f} ', table, re.MULTILINE)


def test_camera_messages_say_what_the_scene_is(scenes, objects):
    """What the node reads from the camera's messages is the scene: pixels, intrinsics, boxes."""
    from mrcnet_ros.datasets.boxes import BoxSpec
    from mrcnet_ros.testbench.drawn_scenes import scene_messages
    from mrcnet_ros.testbench.traffic import decoded

    scene = scenes[0]
    image, camera, found = decoded(scene_messages([scene], objects, BoxSpec())[0])
    np.testing.assert_array_equal(image, scene.image_rgb)
    np.testing.assert_array_equal(camera.K, scene.camera.K)
    assert (camera.width, camera.height) == (scene.camera.width, scene.camera.height)
    truths = sorted(scene.target_ground_truth(), key=lambda t: t.object_id)
    found.sort(key=lambda d: next(i for i, o in objects.items() if o.label == d.label))
    assert [d.label for d in found] == [objects[t.object_id].label for t in truths]
    np.testing.assert_allclose([d.box_xyxy for d in found], [t.box_visib_xyxy for t in truths])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the demo against a node that answers with the truth, moved along the axis."""
    pytest.importorskip('rclpy', reason='needs ROS or its wheels')
    from ros_process import WAIT_S, own_domain

    from mrcnet_ros.demo.program import DemoOptions, run_demo

    monkeypatch.setenv('ROS_DOMAIN_ID', str(own_domain(140)))
    oracle = str(Path(__file__).parents[1] / 'support' / 'oracle_node.py')

    def run_with(*arguments):
        options = DemoOptions(
            output=tmp_path / 'demo.png', scenes=3, seed=SEED, rate_hz=10.0, frames=10,
            node_command=(oracle, *arguments), timeout_s=WAIT_S)
        return run_demo(options), tmp_path / 'demo.png'

    return run_with


def test_demo_passes_with_a_node_that_is_right(run, scenes, capsys):
    """All poses arrive over the topics, the errors are zero, and the picture shows outlines."""
    code, picture = run(str(SEED), '3', '0.0')
    output = capsys.readouterr().out
    count = sum(len(s.target_ground_truth()) for s in scenes)
    assert code == 0
    assert re.search(rf'^all +{count}/{count} +0\.0 +0\.0 +0\.0 +0\.0 +100%', output, re.MULTILINE)
    assert 'one at a time: 3 of 3 frames answered' in output
    assert re.search(r'^at 10 Hz: \d+ of 10 frames answered', output, re.MULTILINE)
    assert str(picture) in output
    pixels = cv2.imread(str(picture))
    assert pixels.shape == (960, 1280, 3)
    magenta = (pixels[..., 0] > 200) & (pixels[..., 2] > 200) & (pixels[..., 1] < 120)
    assert magenta.sum() > 500


def test_demo_fails_with_a_node_that_is_wrong(run, capsys):
    """Poses 10 cm too far away are reported and end the demo with status 1."""
    code, _ = run(str(SEED), '3', '0.1')
    assert code == 1
    assert 'FAILED: the median MSSD' in capsys.readouterr().out


def test_demo_says_why_the_node_cannot_be_configured(run):
    """At once: the node itself goes on and waits for another model."""
    from mrcnet_ros.testbench.processes import ProcessError

    with pytest.raises(ProcessError, match=r'(?s)could not be configured.*negative.*see '):
        run('-1', '3', '0.0')


def test_demo_says_why_the_node_died(run):
    """When the node ends early, the error carries the end of its output."""
    from mrcnet_ros.testbench.processes import ProcessError

    with pytest.raises(ProcessError, match='not a number'):
        run('not a number', '3', '0.0')


def test_a_command_that_is_asked_to_end_takes_its_node_along(tmp_path):
    """SIGTERM, as from timeout(1) or a supervisor: the node would go on for ever, unseen."""
    script = ('import sys, time, pathlib\n'
              'from mrcnet_ros.testbench.processes import LoggedProcess\n'
              "wait = 'import time; time.sleep(600)'\n"
              "with LoggedProcess('node', ['-c', wait], pathlib.Path(sys.argv[1])) as node:\n"
              '    print(node.pid, flush=True)\n'
              '    time.sleep(600)\n')
    with subprocess.Popen([sys.executable, '-c', script, str(tmp_path / 'log')],
                          stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        node = int(command.stdout.readline())
        command.terminate()
        assert command.wait(ros_process.WAIT_S) == 128 + signal.SIGTERM
    assert not Path(f'/proc/{node}').exists()
