"""The demo: its scenes, its messages, its scores, and the whole program over real topics."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mrcnet_ros.demo.assets import shared_file
from mrcnet_ros.demo.layout import draw_layout
from mrcnet_ros.demo.recording import load_scenes, save_scenes
from mrcnet_ros.demo.scenes import DemoScene, DemoSceneMaker, TrueObject
from mrcnet_ros.demo.scoring import Limits, score_scenes
from mrcnet_ros.demo.surroundings import load_environments
from mrcnet_ros.errors import DatasetError
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.objects import load_object_list

SEED = 7
HALF_TURN = make_transform(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))


@pytest.fixture(scope='module')
def objects():
    listed = load_object_list(shared_file('models/demo/objects.yaml'))
    return {o.label: o for o in listed.values()}


@pytest.fixture(scope='module')
def meshes(objects):
    return {label: o.load_mesh() for label, o in objects.items()}


@pytest.fixture(scope='module')
def make_scene(meshes):
    environments = load_environments(shared_file('models/demo/backgrounds'))
    with DemoSceneMaker(meshes, environments, SEED) as maker:
        yield maker.make


@pytest.fixture(scope='module')
def scenes(make_scene):
    return [make_scene(number) for number in range(3)]


def test_scene_depends_on_seed_and_number_only(make_scene, scenes):
    """The same number gives the same picture whatever was drawn before, another one another."""
    again = make_scene(1)
    np.testing.assert_array_equal(again.image_rgb, scenes[1].image_rgb)
    assert not np.array_equal(scenes[0].image_rgb, scenes[1].image_rgb)


def test_boxes_of_unhidden_objects_enclose_their_projection(scenes, meshes):
    """The box of an object that nothing hides is the box of its projected vertices."""
    unhidden = [(s.camera, o) for s in scenes for o in s.objects if o.visible_fraction == 1.0]
    assert unhidden
    for camera, truth in unhidden:
        points = meshes[truth.label].vertices @ truth.T_camera_object[:3, :3].T
        uv = camera.project(points + truth.T_camera_object[:3, 3])
        np.testing.assert_allclose(
            truth.box_xyxy, [*uv.min(axis=0), *uv.max(axis=0)], atol=1.5)


def test_objects_have_their_colours_where_the_truth_says(scenes):
    """The middle of each cereal box is more red than blue."""
    for scene in scenes:
        for truth in scene.objects:
            if truth.label == 'cereal' and truth.visible_fraction == 1.0:
                u, v = np.rint(scene.camera.project(truth.T_camera_object[:3, 3])).astype(int)
                red, _, blue = scene.image_rgb[v - 8:v + 9, u - 8:u + 9].mean(axis=(0, 1))
                assert red > blue


def test_objects_stand_on_the_table_without_touching(meshes):
    """Lowest points are at height zero, and footprints do not overlap."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        layout = draw_layout(meshes, rng)
        circles = []
        for placed in layout.placed:
            T = placed.T_world_object
            points = meshes[placed.key].vertices @ T[:3, :3].T + T[:3, 3]
            assert abs(points[:, 2].min()) < 1e-9
            radius = np.linalg.norm(points[:, :2] - T[:2, 3], axis=1).max()
            circles.append((T[:2, 3], radius))
        for i, (centre, radius) in enumerate(circles):
            for other, other_radius in circles[:i]:
                assert np.linalg.norm(centre - other) > radius + other_radius


def test_scenes_survive_the_way_through_files(tmp_path, scenes):
    """Pictures come back to the byte and poses to the last digit."""
    save_scenes(tmp_path, scenes)
    for before, after in zip(scenes, load_scenes(tmp_path), strict=True):
        np.testing.assert_array_equal(before.image_rgb, after.image_rgb)
        np.testing.assert_array_equal(before.camera.K, after.camera.K)
        for a, b in zip(before.objects, after.objects, strict=True):
            assert (a.label, a.visible_fraction) == (b.label, b.visible_fraction)
            np.testing.assert_array_equal(a.T_camera_object, b.T_camera_object)
            np.testing.assert_array_equal(a.box_xyxy, b.box_xyxy)


def test_missing_scene_folder_is_named(tmp_path):
    """A folder without scenes gives an error that names it."""
    with pytest.raises(DatasetError, match=re.escape(str(tmp_path))):
        load_scenes(tmp_path)


def _poses(scene, change):
    return {o.label: o.T_camera_object @ change for o in scene.objects}


def test_truth_has_no_error_and_passes(scenes, objects):
    """Poses equal to the truth score zero and satisfy the limits."""
    score = score_scenes(scenes, [_poses(s, np.eye(4)) for s in scenes], objects)
    assert len(score.errors) == sum(score.expected.values()) > 0
    assert max(e.mssd_diameters for e in score.errors) == 0.0
    assert score.complaints(Limits()) == []


def test_half_a_turn_is_an_error_of_the_can_only(objects):
    """Symmetric objects may be turned by their symmetry; the can, which has none, may not."""
    T = make_transform(exp_so3(np.array([0.3, -0.2, 0.1])), np.array([0.0, 0.05, 0.7]))
    for label, model in objects.items():
        truth = TrueObject(label, T, np.array([0.0, 0.0, 9.0, 9.0]), 1.0)
        scene = DemoScene(np.zeros((4, 4, 3), np.uint8), None, (truth,))
        error, = score_scenes([scene], [{label: T @ HALF_TURN}], {label: model}).errors
        assert (error.rotation_rad > 3.1) == (label == 'can')
        assert (error.mssd_diameters > 0.3) == (label == 'can')


def test_error_along_the_axis_is_a_depth_error(scenes, objects):
    """A pose 20 mm too far away has 20 mm of position, depth and surface error, no rotation."""
    shift = make_transform(np.eye(3), [0.0, 0.0, 0.02])
    answers = [{o.label: shift @ o.T_camera_object for o in s.objects} for s in scenes]
    for error in score_scenes(scenes, answers, objects).errors:
        assert error.rotation_rad == pytest.approx(0.0, abs=1e-6)
        assert error.translation_m == pytest.approx(0.02)
        assert error.depth_m == pytest.approx(0.02)
        assert error.mssd_diameters == pytest.approx(0.02 / objects[error.label].diameter_m)


def test_missing_poses_are_complained_about(scenes, objects):
    """When half of the frames have no answer the demo fails, however good the others are."""
    answers = [_poses(scenes[0], np.eye(4)), {}, {}]
    complaint, = score_scenes(scenes, answers, objects).complaints(Limits())
    assert 'must be answered' in complaint
    assert score_scenes(scenes, [{}, {}, {}], objects).complaints(Limits())


def test_one_bad_object_is_complained_about(scenes, objects):
    """An object whose poses are all wrong fails the demo even when the overall median is good."""
    answers = [_poses(s, np.eye(4)) for s in scenes]
    for answer in answers:
        if 'bread' in answer:
            answer['bread'] = answer['bread'] @ make_transform(np.eye(3), [0.1, 0.0, 0.0])
    complaint, = score_scenes(scenes, answers, objects).complaints(Limits())
    assert 'bread' in complaint


def test_table_lists_every_object(scenes, objects):
    """The table has a line for each object with how many poses there are and should be."""
    answers = [_poses(s, np.eye(4)) for s in scenes]
    table = score_scenes(scenes, answers, objects).table()
    for label in objects:
        count = sum(o.label == label for s in scenes for o in s.objects)
        assert re.search(rf'^{label} +{count}/{count} ', table, re.MULTILINE)


def test_camera_messages_say_what_the_scene_is(scenes):
    """What the node reads from the camera's messages is the scene: pixels, intrinsics, boxes."""
    pytest.importorskip('rclpy', reason='needs ROS or its wheels')
    from mrcnet_ros.inference.poses import Detection
    from mrcnet_ros.ros import detection_reading, messages
    from mrcnet_ros.testbench.input_messages import (
        detections_message,
        image_message,
        info_message,
    )

    scene, header = scenes[0], messages.header_at(1, 'camera')
    np.testing.assert_array_equal(
        messages.rgb_from_image(image_message(header, scene.image_rgb)), scene.image_rgb)
    camera = messages.camera_from_info(info_message(header, scene.camera))
    np.testing.assert_array_equal(camera.K, scene.camera.K)
    assert (camera.width, camera.height) == (scene.camera.width, scene.camera.height)
    boxes = [Detection(o.label, o.box_xyxy, 0.5, str(i)) for i, o in enumerate(scene.objects)]
    found, _ = detection_reading.detections_from_message(detections_message(header, boxes))
    assert [(d.label, d.score, d.detection_id) for d in found] == [
        (d.label, d.score, d.detection_id) for d in boxes]
    np.testing.assert_allclose([d.box_xyxy for d in found], [d.box_xyxy for d in boxes])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the demo against a node that answers with the truth, moved along the axis."""
    pytest.importorskip('rclpy', reason='needs ROS or its wheels')
    from ros_support import WAIT_S, own_domain

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
    count = sum(len(s.objects) for s in scenes)
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
    from mrcnet_ros.demo.processes import ProcessError

    with pytest.raises(ProcessError, match=r'(?s)could not be configured.*non-negative'):
        run('-1', '3', '0.0')


def test_demo_says_why_the_node_died(run):
    """When the node ends early, the error carries the end of its output."""
    from mrcnet_ros.demo.processes import ProcessError

    with pytest.raises(ProcessError, match='not a number'):
        run('not a number', '3', '0.0')
