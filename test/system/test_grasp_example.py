"""examples/grasp_pose.py: the pose of an object in the robot's frame, or why there is none."""

import importlib.util
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')
pytest.importorskip('tf2_ros', reason='needs ros_pip/modules or a ROS installation')

import tf2_ros
from geometry_msgs.msg import TransformStamped
from ros_client import node_fixture
from ros_frames import frame
from ros_process import WAIT_S, environment, own_domain
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

ROOT = Path(__file__).parents[2]
if not hasattr(tf2_ros, 'Buffer'):
    pytest.skip('needs ros_pip/modules as they are now', allow_module_level=True)

node = node_fixture(130, 'confirm_frames:=3', 'frame_prefix:=l/')


# a busy machine takes its time to connect two processes
PATIENT = ('--timeout', '90', '--discovery', '90', '--tf-timeout', '90')


def _run_example(client, domain, *words, detections=(('duck', 31.5, 23.5, 30.0, 0.9, 'sure'),)):
    """Run the example while a camera sends frames; return what it printed and its exit code."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / 'examples/grasp_pose.py'), *PATIENT, *words],
        env=environment(domain),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    printed = []
    reader = threading.Thread(target=lambda: printed.extend(process.communicate()))
    reader.start()
    end = time.monotonic() + 2 * WAIT_S
    while reader.is_alive() and time.monotonic() < end:
        messages, now = frame(0, *detections), time.time_ns()
        for message in messages:
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 10**9)
        client.send(*messages)
        client.spin(lambda: not reader.is_alive(), 0.1)
    process.kill()
    reader.join()
    return process.returncode, *printed


def test_the_example_takes_the_options_of_ros() -> None:
    """In simulated time its clock must be that of the images."""
    done = subprocess.run(
        [sys.executable, str(ROOT / 'examples/grasp_pose.py'), 'duck', '--discovery', '0.1',
         '--ros-args', '-p', 'use_sim_time:=true'],
        env=environment(own_domain(131)), capture_output=True, text=True, check=False)
    assert (done.returncode, 'is the node running' in done.stderr) == (1, True), done.stderr


def test_the_example_waits_for_simulated_time(node) -> None:
    """Without a clock "not before now" would mean any image."""
    for discovery_s in ('10', '60'):  # in which it finds the node, on most machines
        done = subprocess.run(
            [sys.executable, str(ROOT / 'examples/grasp_pose.py'), 'duck', '--discovery',
             discovery_s, '--ros-args', '-p', 'use_sim_time:=true'],
            env=environment(node.domain), capture_output=True, text=True, check=False)
        if 'is the node running' not in done.stderr:
            break
    assert (done.returncode, 'no time has come on /clock' in done.stderr) == (1, True), done.stderr


def test_the_covariance_is_of_the_object_that_was_asked_for():
    """One image may answer the requests of several planners, in messages of the same header."""
    spec = importlib.util.spec_from_file_location('grasp_pose', ROOT / 'examples/grasp_pose.py')
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    planner = object.__new__(example.Planner)
    planner._discovery_s = 0.0
    header, answers, planner._confirmed = Header(frame_id='camera'), [], []
    for x, name in ((0.1, 'duck'), (0.3, 'can')):
        answers.append(TransformStamped(header=header, child_frame_id=name))
        answers[-1].transform.translation.x = x
        detection = Detection3D(header=header, id=name, results=[ObjectHypothesisWithPose()])
        detection.results[0].pose.pose.position.x = x
        planner._confirmed.append(Detection3DArray(header=header, detections=[detection]))
    for answer in answers:
        assert planner._detection(answer).id == answer.child_frame_id


@pytest.fixture
def mounted(client):
    """Put the camera two metres above the base, looking down, its x along the base's -y."""
    mount = TransformStamped(child_frame_id='camera_optical')
    mount.header.frame_id = 'base_link'
    mount.transform.translation.z = 3.0
    rotation = mount.transform.rotation
    rotation.x, rotation.y, rotation.w = *np.sqrt([0.5, 0.5]).tolist(), 0.0
    broadcaster = tf2_ros.StaticTransformBroadcaster(client.node)
    broadcaster.sendTransform(mount)
    return client


def test_the_example_prints_a_pose_in_the_frame_of_the_base(mounted, node):
    """Position, orientation, instance and deviations; the covariance turns with the frame."""
    wide = ('--deviation-m', '0.1', '--deviation-rad', '1.0')
    code, out, err = _run_example(mounted, node.domain, 'duck', *wide)
    assert code == 0, err
    found = json.loads(out)
    # the duck is two metres in front of the camera, which looks down from three
    assert found['position'] == pytest.approx([0.0, 0.0, 1.0], abs=1e-3)
    assert np.abs(found['orientation_xyzw']) == pytest.approx(
        [np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0], abs=1e-6)
    assert (found['frame_id'], found['instance'], found['id']) == ('base_link', 'l/duck', 'sure')
    assert 0.0 <= found['deviation_m'] < 0.1 and 0.0 <= found['deviation_rad'] < 1.0


@pytest.mark.parametrize(('words', 'said'), [
    (['teapot'], 'brick, can, duck'),
    (['brick', '--timeout', '1'], 'not confirmed in time'),
    (['duck', '--base', 'nowhere', '--tf-timeout', '0.3'], 'does not exist'),
    (['duck', '--pose-node', '/other', '--discovery', '1'], 'is the node running'),
    (['duck', '--deviation-m', '-1'], 'deviation_m is'),
])
def test_the_example_says_why_there_is_no_pose(mounted, node, words, said):
    """And ends with 1, so that no gripper moves."""
    code, out, err = _run_example(mounted, node.domain, *words)
    assert (code, out) == (1, '')
    assert said in err, err
