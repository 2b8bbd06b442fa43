"""Run the real node in its own process, over real DDS, and talk to it.

As a program this file is the node itself with :class:`BoxEstimator` in place of a trained model:
``python ros_support.py --ros-args ...``; with :class:`TruthEstimator` it is
``python ros_support.py BAG SHIFT_M MODELS_DIR --ros-args ...``; with ``slow`` before
``--ros-args`` it takes minutes to load.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DIAMETERS_M = {'duck': 0.1, 'can': 0.2, 'brick': 0.1}
HALF_SIZE_M = np.array([0.01, 0.02, 0.03])
SLOW_LABEL_S = {'can': 0.3}
# for machines that have other things to do: all time limits of the tests are so much longer
PATIENCE = float(os.environ.get('MRCNET_TEST_PATIENCE', '1'))


def box_object(folder: Path, label: str):
    """Write the mesh of a box that is not centred and return an object; a brick has two faces.

    A brick looks the same after half a turn about z.
    """
    import trimesh

    from mrcnet_ros.geometry.symmetry import Symmetries
    from mrcnet_ros.objects import ObjectModel

    bounds = np.stack([-HALF_SIZE_M, 2 * HALF_SIZE_M])
    path = folder / f'{label}.ply'
    trimesh.creation.box(bounds=1000 * bounds).export(path)
    turns = [np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])] if label == 'brick' else [np.eye(4)]
    return ObjectModel(
        object_id=9, label=label, mesh_path=path, symmetries=Symmetries(np.array(turns)),
        diameter_m=float(np.linalg.norm(bounds[1] - bounds[0])), bounds_m=bounds)


class BoxEstimator:
    """Places an object on the ray through its box, at the depth its height in pixels tells.

    Knows ``DIAMETERS_M``; a frame that has a can takes ``SLOW_LABEL_S`` longer. A duck with the
    id ``nan`` gets a pose that is not finite, one with the id ``boom`` raises; R = I, or half a
    turn about z with the id ``flip``.
    """

    def __init__(self):
        folder = Path(tempfile.mkdtemp(prefix='mrcnet_boxes_'))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self.objects = {label: box_object(folder, label) for label in DIAMETERS_M}
        self.model = SimpleNamespace(name='boxes', path=folder)
        self.backend = SimpleNamespace(name='none', device='cpu')
        self.depth_factor = 1.0

    def estimate(self, image_rgb, camera, detections):
        """Return a pose for each detection that can have one."""
        from mrcnet_ros.errors import UnknownLabelError
        from mrcnet_ros.inference.poses import FrameResult, Skipped

        poses, skipped = [], []
        for index, detection in enumerate(detections):
            time.sleep(SLOW_LABEL_S.get(detection.label, 0.0))
            if detection.detection_id == 'boom':
                raise RuntimeError('this estimator was told to fail')
            if detection.label not in DIAMETERS_M:
                text = str(UnknownLabelError(detection.label, self.objects))
                skipped.append(Skipped(index, 'unknown_label', text))
            elif detection.box_xyxy[2] <= 0 or detection.box_xyxy[0] >= camera.width:
                skipped.append(Skipped(index, 'box_outside', f'{detection.box_xyxy} is outside'))
            else:
                poses.append(self._pose(camera, index, detection))
        return FrameResult(poses, skipped, {'crop': 0.001, 'stage1': 0.002}, len(poses), 0)

    def _pose(self, camera, index, detection):
        from mrcnet_ros.inference.poses import PoseEstimate

        x1, y1, x2, y2 = detection.box_xyxy
        depth = self.depth_factor * DIAMETERS_M[detection.label] * camera.K[1, 1] / (y2 - y1)
        T = np.eye(4)
        T[:3, 3] = camera.unproject(((x1 + x2) / 2, (y1 + y2) / 2)) * depth
        if detection.detection_id == 'flip':
            T[:2, :2] *= -1
        if detection.detection_id == 'nan':
            T[2, 3] = np.nan
        return PoseEstimate(detection.label, 9, T, np.float32(0.75), index,
                            detection.detection_id, detection.box_xyxy)


class TruthEstimator:
    """Knows the ground truth of a bag and is wrong by a shift along the optical axis.

    :param bag: made with the labels obj_000001 and so on.
    :param models_dir: BOP models folder of its objects.
    """

    def __init__(self, bag, shift_m, models_dir):
        from rclpy.serialization import deserialize_message
        from sensor_msgs.msg import Image

        from mrcnet_ros.objects import load_bop_objects
        from mrcnet_ros.ros.bag import read_bag
        from mrcnet_ros.ros.messages import rgb_from_image

        self.objects = {o.label: o for o in load_bop_objects(models_dir).values()}
        self._shift = np.array([0.0, 0.0, shift_m])
        self._truths = {
            rgb_from_image(deserialize_message(f.inputs['/image'], Image)).tobytes(): f.truths
            for f in read_bag(bag)}

    def estimate(self, image_rgb, camera, detections):
        """Return the true pose for each detection, in the order of the annotations."""
        from mrcnet_ros.inference.poses import FrameResult, PoseEstimate

        truths = list(self._truths[image_rgb.tobytes()])
        poses = []
        for index, detection in enumerate(detections):
            truth = next(t for t in truths if t.label == detection.label)
            truths.remove(truth)
            T = truth.T_camera_object.copy()
            T[:3, 3] += self._shift
            poses.append(PoseEstimate(
                truth.label, self.objects[truth.label].object_id, T, 0.9, index,
                detection.detection_id, detection.box_xyxy))
        return FrameResult(poses, [])


def own_domain(number: int = 0) -> int:
    """Return a ROS domain that another test run on this machine hardly uses, 1..100."""
    return 1 + (7 * os.getpid() + number) % 100


def environment(domain: int) -> dict[str, str]:
    """Return the environment of a process that only talks to this machine's ``domain``."""
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    return {**os.environ, 'PYTHONPATH': path, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_DOMAIN_ID': str(domain), 'ROS_PYTHON_CHECK_FIELDS': '1',
            'RCUTILS_COLORIZED_OUTPUT': '0', 'OMP_NUM_THREADS': '1'}


class NodeProcess:
    """A node in its own process whose log can be read while it runs."""

    def __init__(self, command: list[str], domain: int):
        self.process = subprocess.Popen(
            [sys.executable, *command], env=environment(domain), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        self.lines.extend(iter(self.process.stdout.readline, ''))

    def wait_for_log(self, text: str, timeout_s: float = 30.0) -> str:
        """Return the first log line with ``text``."""
        end = time.monotonic() + PATIENCE * timeout_s
        while time.monotonic() < end:
            ended = self.process.poll() is not None and not self._reader.is_alive()
            for line in list(self.lines):
                if text in line:
                    return line
            if ended:
                break
            time.sleep(0.02)
        raise AssertionError(f'no {text!r} in the log:\n{"".join(self.lines)}')

    def stop(self, number: int = signal.SIGINT, times: int = 1) -> int:
        """Send a signal and return the exit code."""
        for _ in range(times):
            if self.process.poll() is None:
                self.process.send_signal(number)
        code = self.process.wait(PATIENCE * 20)
        self._reader.join(5)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def double_node(domain: int, *parameters: str, slow: bool = False) -> NodeProcess:
    """Start the node with :class:`BoxEstimator`; parameters as ``name:=value``."""
    arguments = [word for parameter in parameters for word in ('-p', parameter)]
    own = ['slow'] if slow else []
    return NodeProcess([str(Path(__file__)), *own, '--ros-args', *arguments], domain)


class Client:
    """Publishes inputs and collects outputs; lives in the test's process."""

    def __init__(self, domain: int, *, compressed: bool = False):
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseStamped
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image
        from tf2_msgs.msg import TFMessage
        from vision_msgs.msg import Detection2DArray, Detection3DArray

        os.environ.update({k: v for k, v in environment(domain).items() if k.startswith('ROS_')})
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node('client', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        qos = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        self.publishers = {
            topic: self.node.create_publisher(kind, topic, qos)
            for topic, kind in {'image': CompressedImage if compressed else Image,
                                'camera_info': CameraInfo,
                                'detections': Detection2DArray}.items()}
        self.answers, self.poses, self.transforms = [], [], []
        self.status, self.reports = {}, 0
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnosed, qos)
        self.node.create_subscription(
            Detection3DArray, 'object_detections', self.answers.append, qos)
        self.node.create_subscription(PoseStamped, 'object_poses', self.poses.append, qos)
        self.node.create_subscription(
            TFMessage, '/tf', lambda m: self.transforms.extend(m.transforms), qos)

    def _diagnosed(self, message):
        self.reports += 1
        self.status.update({s.name.split(': ')[1]: s for s in message.status})

    def diagnosis(self, part: str, text: str, timeout_s: float = 15.0):
        """Wait for the status of a part of the node that says ``text``, and return it."""
        said = lambda: self.status.get(part) and text in self.status[part].message  # noqa: E731
        assert self.spin(said, timeout_s), (
            f'{part} never said {text!r}, but {getattr(self.status.get(part), "message", "")!r}')
        return self.status[part]

    def spin(self, until, timeout_s: float = 10.0) -> bool:
        """Handle messages until ``until()`` holds; return whether it does."""
        end = time.monotonic() + (timeout_s if timeout_s < 1 else PATIENCE * timeout_s)
        while not until() and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)
        return bool(until())

    def connect(self):
        """Wait until every topic has found its other end."""
        assert self.spin(
            lambda: all(p.get_subscription_count() for p in self.publishers.values())
            and self.node.count_publishers('object_detections')
            and self.node.count_publishers('object_poses')
            and self.node.count_publishers('/tf'), 20), 'the node was not discovered'
        time.sleep(0.3)

    def forget(self):
        """Drop everything received so far."""
        self.spin(lambda: False, 0.1)
        for received in (self.answers, self.poses, self.transforms):
            received.clear()

    def send(self, *messages):
        """Publish messages, each on the topic of its type."""
        for message in messages:
            topic = {'Image': 'image', 'CompressedImage': 'image', 'CameraInfo': 'camera_info',
                     'Detection2DArray': 'detections'}[type(message).__name__]
            self.publishers[topic].publish(message)

    def answer(self, frame, timeout_s: float = 10.0):
        """Publish a frame and return the Detection3DArray with its stamp, None without one."""
        self.send(*frame)
        stamp = frame[0].header.stamp
        found = lambda: [a for a in self.answers if a.header.stamp == stamp]  # noqa: E731
        self.spin(found, timeout_s)
        return found()[0] if found() else None

    def close(self):
        """Leave the network."""
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


def values(status) -> dict[str, str]:
    """Return the values of a DiagnosticStatus."""
    return {pair.key: pair.value for pair in status.values}


def frame(number: int, *objects, encoding='rgb8', focal=600.0, size=(64, 48)):
    """Return image, camera_info and detections of one moment.

    :param number: stamp [s].
    :param focal: [px]; 0 leaves camera_info all zero, as an uncalibrated driver does.
    :param objects: (label, centre x, centre y, height, score, id) from the left, rest default.
    """
    from sensor_msgs.msg import CameraInfo, Image
    from vision_msgs.msg import Detection2DArray

    width, height = size
    image = Image(width=width, height=height, encoding=encoding, step=3 * width)
    image.data = bytes(3 * width * height)
    info = CameraInfo(width=width, height=height, distortion_model='plumb_bob', d=[0.0] * 5)
    if focal:
        info.k = [focal, 0.0, (width - 1) / 2, 0.0, focal, (height - 1) / 2, 0.0, 0.0, 1.0]
    boxes = Detection2DArray(detections=[_detection(*values) for values in objects])
    for message in (image, info, boxes):
        message.header.stamp.sec, message.header.frame_id = number, 'camera_optical'
    return image, info, boxes


def _detection(label, x=31.5, y=23.5, height=30.0, score=0.9, name=''):
    from vision_msgs.msg import Detection2D, ObjectHypothesisWithPose

    detection = Detection2D(id=name)
    detection.bbox.center.position.x, detection.bbox.center.position.y = float(x), float(y)
    detection.bbox.size_x = detection.bbox.size_y = float(height)
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = label, float(score)
    detection.results = [hypothesis]
    return detection


if __name__ == '__main__':
    from mrcnet_ros.errors import ModelError
    from mrcnet_ros.ros.pose_node import main

    own = sys.argv[1:sys.argv.index('--ros-args')]

    def load(parameters):
        """Make the estimator that the program's own arguments, or the name of a model, ask for.

        ``far`` takes a while to load and doubles all depths; ``bad`` cannot be loaded; ``endless``
        takes too long.
        """
        if own == ['slow']:
            print('loading', flush=True)
            time.sleep(120)
        if len(own) > 1:
            return TruthEstimator(own[0], float(own[1]), own[2])
        estimator = BoxEstimator()
        if parameters.model == 'bad':
            raise ModelError(parameters.model, 'it is damaged')
        if parameters.model == 'far':
            time.sleep(1.5)
            estimator.model.name, estimator.depth_factor = 'far', 2.0
        if parameters.model == 'endless':
            print('loading', flush=True)
            time.sleep(120)
        return estimator

    sys.exit(main(load=load))
