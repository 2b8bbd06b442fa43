"""Ask the pose node for one pose to grasp by, and give it in the frame of the robot's base.

    python3 examples/grasp_pose.py can --base base_link --timeout 5 --deviation-m 0.05

prints a line of JSON and ends with 0, or says on stderr why there is no pose to rely on and ends
with 1. In simulated time, add --ros-args -p use_sim_time:=true. It needs rclpy, tf2_ros and
vision_msgs with the messages that these come with, and nothing of mrcnet_ros.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
import tf2_ros
from geometry_msgs.msg import Transform, TransformStamped
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.time import Time
from rclpy.utilities import remove_ros_args
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from tf2_msgs.action import LookupTransform
from tf2_msgs.msg import TF2Error
from vision_msgs.msg import Detection3D, Detection3DArray

ASK_AGAIN_S = 2.0  # far longer than an answer is on its way


class NoPoseError(Exception):
    """There is no pose to rely on."""


class Planner:
    """What a grasp planner has of a node: a client of the action, a listener to /tf."""

    def __init__(self, pose_node: str, discovery_s: float, tf_timeout_s: float) -> None:
        """Join the network and find the pose node.

        :param pose_node: its full name, for instance /pose_node.
        :param discovery_s: how long to look for it.
        :param tf_timeout_s: how long a transform may be on its way.
        :raises NoPoseError: when it is not found in time.
        """
        self._discovery_s, self._tf_timeout_s = discovery_s, tf_timeout_s
        self._node = rclpy.create_node('grasp_planner')
        self._confirmed: list[Detection3DArray] = []
        namespace = pose_node.rpartition('/')[0]
        # the covariance comes on this topic and only once; a node finds what a process has made
        # in that order, so one that answers the action has found this, too
        detections = self._node.create_subscription(
            Detection3DArray, f'{namespace}/confirmed_detections', self._confirmed.append, 10)
        self._action = ActionClient(self._node, LookupTransform, f'{pose_node}/confirm_pose')
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, self._node)
        self._wait(lambda: self._action.server_is_ready() and detections.get_publisher_count(),
                   discovery_s, f'no action {pose_node}/confirm_pose within {discovery_s:g} s; is '
                   'the node running, and is --pose-node its full name?')

    def pose(self, label: str, base: str, timeout_s: float) -> dict[str, Any]:
        """Return the pose of an object in the robot's frame.

        :param label: of the object, or an instance as in /tf, or the detector's id.
        :param base: frame of the robot, as base_link.
        :raises NoPoseError: when there is none in time, or the robot's frame is not known.
        """
        answer = self._confirm(label, timeout_s)
        header = answer.transform.header
        detection = self._detection(answer.transform)
        T_camera_object = matrix(answer.transform.transform)
        T_base_camera = self._camera_in(base, header)
        T_base_object = T_base_camera @ T_camera_object
        # rows are x, y, z, then the rotation about x, y, z, along the camera's axes
        turn = np.kron(np.eye(2), T_base_camera[:3, :3])
        covariance = np.reshape(detection.results[0].pose.covariance, (6, 6))
        if covariance[0, 0] < 0:
            raise NoPoseError(f'the model gives no covariance for {label}; run mrcnet calibrate '
                              '--write')
        covariance = turn @ covariance @ turn.T
        return {
            'frame_id': base, 'instance': answer.transform.child_frame_id, 'id': detection.id,
            'score': detection.results[0].hypothesis.score,
            'position': T_base_object[:3, 3].tolist(),
            'orientation_xyzw': Rotation.from_matrix(T_base_object[:3, :3]).as_quat().tolist(),
            # largest deviation along any direction, and about any axis
            'deviation_m': float(np.sqrt(np.linalg.eigvalsh(covariance[:3, :3]).max())),
            'deviation_rad': float(np.sqrt(np.linalg.eigvalsh(covariance[3:, 3:]).max())),
        }

    def _confirm(self, label: str, timeout_s: float) -> LookupTransform.Result:
        goal, clock = LookupTransform.Goal(source_frame=label), self._node.get_clock()
        # simulated time is 0 until the first message of it, and 0 means any image
        self._wait(lambda: clock.now().nanoseconds, self._discovery_s,
                   'no time has come on /clock, but use_sim_time is true')
        # the robot stands still from now on: earlier images do not count
        goal.source_time = clock.now().to_msg()
        goal.timeout.sec, goal.timeout.nanosec = int(timeout_s), int(timeout_s % 1 * 1e9)
        taken: ClientGoalHandle = self._asked(
            lambda: self._action.send_goal_async(goal), self._discovery_s,
            'the pose node did not take the request')
        # longer than the node itself waits, so that its reason arrives
        result: LookupTransform.Result = self._asked(
            taken.get_result_async, timeout_s + self._discovery_s,
            'the pose node did not answer').result
        if result.error.error != TF2Error.NO_ERROR:
            raise NoPoseError(result.error.error_string)
        return result

    def _asked(self, ask: Callable[[], Any], timeout_s: float, complaint: str) -> Any:
        """Ask the node until it answers.

        What it answers before it has found this process is lost.

        :param ask: sends a request and returns the future of its answer.
        :raises NoPoseError: with the complaint, when there is no answer in time.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            answer = ask()
            if self._spin(answer.done, ASK_AGAIN_S):
                return answer.result()
        raise NoPoseError(complaint)

    def _detection(self, answer: TransformStamped) -> Detection3D:
        """Return the detection that belongs to an answer: the one with its stamp and position.

        An image that answers several requests has several.
        """
        t = answer.transform.translation

        def found() -> list[Detection3D]:
            own = (d for m in self._confirmed if m.header == answer.header for d in m.detections)
            return [d for d in own if [(p := d.results[0].pose.pose.position).x, p.y, p.z]
                    == [t.x, t.y, t.z]]

        self._wait(found, self._discovery_s, 'the covariance did not come on confirmed_detections')
        return found()[-1]

    def _camera_in(self, base: str, header: Header) -> np.ndarray:
        """Return T_base_camera (4, 4) [m] at the time of the image.

        Not the latest one: a camera on the arm has moved on since then. Transforms may be on
        their way: who publishes them may not have been found yet, and those of a moving arm come
        after the image.
        """
        when, reason = Time.from_msg(header.stamp), ''
        found: Any = None

        def known() -> bool:
            nonlocal reason, found
            try:
                found = self._buffer.lookup_transform(base, header.frame_id, when)
            except tf2_ros.TransformException as error:
                reason = str(error)
            return found is not None

        self._wait(known, self._tf_timeout_s, lambda: (
            f'tf knows no way from {header.frame_id} to {base} at the time of the image: '
            f'{reason}; is what publishes {base} running? --tf-timeout waits longer'))
        return matrix(found.transform)

    def _wait(self, done: Callable[[], object], timeout_s: float,
              complaint: str | Callable[[], str]) -> None:
        if not self._spin(done, timeout_s):
            raise NoPoseError(complaint() if callable(complaint) else complaint)

    def _spin(self, done: Callable[[], object], timeout_s: float) -> bool:
        """Handle messages until something is done; return whether it is in time."""
        end = time.monotonic() + timeout_s
        while not done() and time.monotonic() < end:
            rclpy.spin_once(self._node, timeout_sec=0.05)
        return bool(done())


def matrix(transform: Transform) -> np.ndarray:
    """Return a geometry_msgs/Transform as (4, 4) [m]."""
    t, q = transform.translation, transform.rotation
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    T[:3, 3] = t.x, t.y, t.z
    return T


def main() -> int:
    """Print the pose, or why there is none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('object', help='a label, an instance as in /tf, or an id of the detector')
    parser.add_argument('--base', default='base_link', help='frame of the robot')
    parser.add_argument('--pose-node', default='/pose_node', help='full name of the node')
    parser.add_argument('--timeout', type=float, default=5.0,
                        help='how long the node may wait for frames that agree [s]')
    parser.add_argument('--discovery', type=float, default=10.0,
                        help='how long to look for the node, and to wait for what it has sent [s]')
    parser.add_argument('--tf-timeout', type=float, default=5.0,
                        help='how long to wait for the transform of the camera [s]')
    parser.add_argument('--deviation-m', type=float, default=0.01,
                        help='most that the position may deviate in any direction [m]')
    parser.add_argument('--deviation-rad', type=float, default=0.2,
                        help='most that the rotation may deviate about any axis [rad]')
    options = parser.parse_args(remove_ros_args(sys.argv)[1:])
    rclpy.init(args=sys.argv)
    try:
        planner = Planner(options.pose_node, options.discovery, options.tf_timeout)
        found = planner.pose(options.object, options.base, options.timeout)
        for name in ('deviation_m', 'deviation_rad'):
            if found[name] > getattr(options, name):
                raise NoPoseError(f'{name} is {found[name]:.3g}; {json.dumps(found)}')
    except NoPoseError as error:
        print(f'no pose: {error}', file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    print(json.dumps(found))
    return 0


if __name__ == '__main__':
    sys.exit(main())
