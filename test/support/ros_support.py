"""Run the real node in its own process, over real DDS, and talk to it."""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

ROOT = Path(__file__).resolve().parents[2]
# what processes that a test starts import beside the package
SUPPORT = str(Path(__file__).resolve().parent)
STAND_IN = str(Path(__file__).with_name('stand_in_node.py'))
LARGE_CAMERA = str(Path(__file__).with_name('large_camera.py'))
# domains of a block, and blocks; ports of domains above 101 may be in use by anybody
_DOMAINS, _BLOCKS = 20, 5
_NUMBERS = itertools.count(1)  # of the clients of this process
# For machines that have other things to do: all time limits of the tests are so much longer.
PATIENCE = float(os.environ.get('MRCNET_TEST_PATIENCE', '1'))
# How long to wait for what must come [s]. No test that passes waits so long, however busy the
# machine is: a process of Python with ROS may take half a minute to start there.
WAIT_S = 120.0 * PATIENCE


def own_domain(number: int = 0) -> int:
    """Return a ROS domain, 1..100, that no other test run on this machine uses at the time."""
    return 1 + _DOMAINS * _block() + number % _DOMAINS


@functools.cache
def _block() -> int:
    """Return the first block of domains that no process holds; this one holds it until it ends.

    Of more test runs than there are blocks, the last ones share one.
    """
    for block in range(_BLOCKS):
        path = Path(tempfile.gettempdir(), f'mrcnet_test_domains_{block}')
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
        else:
            return block
    return os.getpid() % _BLOCKS


def environment(domain: int) -> dict[str, str]:
    """Return the environment of a process that only talks to this machine's ``domain``."""
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    return {**os.environ, 'PYTHONPATH': path, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_DOMAIN_ID': str(domain), 'ROS_PYTHON_CHECK_FIELDS': '1',
            'RCUTILS_COLORIZED_OUTPUT': '0', 'OMP_NUM_THREADS': '1'}


class NodeProcess:
    """A node in its own process whose log can be read while it runs."""

    def __init__(
        self, command: list[str], domain: int, variables: Mapping[str, str] | None = None,
    ):
        self.domain = domain
        self.process = subprocess.Popen(
            [sys.executable, *command], env={**environment(domain), **(variables or {})},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        self.lines.extend(iter(self.process.stdout.readline, ''))

    def wait_for_log(self, text: str, timeout_s: float = WAIT_S) -> str:
        """Return the first log line with ``text``."""
        end = time.monotonic() + timeout_s
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
        return self.wait()

    def wait(self) -> int:
        """Return the exit code, when the process has ended and all it said is in the log."""
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        return code

    def log(self) -> str:
        """Return all that was logged so far."""
        return ''.join(self.lines)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def double_node(
    domain: int, *parameters: str, slow: bool = False, remaps: Sequence[str] = (),
) -> NodeProcess:
    """Start the node with ``BoxEstimator``; parameters and remaps as ``name:=value``."""
    arguments = [word for parameter in parameters for word in ('-p', parameter)]
    arguments += [word for remap in remaps for word in ('-r', remap)]
    own = ['slow'] if slow else []
    return NodeProcess([STAND_IN, *own, '--ros-args', *arguments], domain)


@contextmanager
def ready_node(number: int, *parameters: str):
    """Start the node and a client in a domain of their own; both end well or the test fails."""
    with double_node(own_domain(number), *parameters) as process:
        process.wait_for_log('ready')
        client = Client(process.domain)
        client.connect()
        yield process, client
        client.close()
        assert process.stop() == 0
        assert 'Traceback' not in process.log()


def node_fixture(number: int, *parameters: str, scope: str = 'module'):
    """Return a fixture, to be called ``node``, that is a node which ends well."""
    @pytest.fixture(scope=scope)
    def node():
        with double_node(own_domain(number), *parameters) as process:
            process.wait_for_log('ready')
            yield process
            assert process.stop() == 0
            assert 'Traceback' not in process.log()

    return node


class Client:
    """Publishes inputs and collects outputs; lives in the test's process.

    :param namespace: of the node that it talks to.
    :param topics: of inputs that are remapped.
    :param detections: whether it sends detections to the node.
    """

    def __init__(self, domain: int, *, compressed: bool = False, namespace: str = '',
                 topics: Mapping[str, str] = MappingProxyType({}), detections: bool = True):
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseStamped
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image
        from tf2_msgs.msg import TFMessage
        from vision_msgs.msg import Detection2DArray, Detection3DArray

        from mrcnet_ros.testbench.readiness import Readiness

        os.environ.update({k: v for k, v in environment(domain).items() if k.startswith('ROS_')})
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node(f'client_{os.getpid()}_{next(_NUMBERS)}',
                                      context=self.context, namespace=namespace)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        qos = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        self._name = f'{namespace}/pose_node: '.lstrip('/')
        self.readiness = Readiness(self.node, self._name.removesuffix(': '))
        self.publishers = {
            topic: self.readiness.publisher(kind, topics.get(topic, topic), qos)
            for topic, kind in {'image': CompressedImage if compressed else Image,
                                'camera_info': CameraInfo,
                                **({'detections': Detection2DArray} if detections else {}),
                                }.items()}
        self.answers, self.poses, self.transforms = [], [], []
        self.status, self.reports, self.clock = {}, 0, None
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnosed, qos)
        for kind, topic, receive in (
            (Detection3DArray, 'object_detections', self.answers.append),
            (PoseStamped, 'object_poses', self.poses.append),
            (TFMessage, '/tf', lambda m: self.transforms.extend(m.transforms)),
        ):
            self.readiness.subscription(kind, topic, receive, qos)

    def subscribe(self, kind, topic, receive, depth=10):
        """Receive another output of the node from now on."""
        from rclpy.qos import QoSProfile

        self.readiness.subscription(kind, topic, receive, QoSProfile(depth=depth))
        self.connect()

    def _diagnosed(self, message):
        self.readiness.see(message)
        statuses = {s.name.removeprefix(self._name): s for s in message.status
                    if s.name.startswith(self._name)}
        if statuses:
            self.reports, self.clock = self.reports + 1, message.header.stamp
            self.status.update(statuses)

    def diagnosis(self, part: str, text: str):
        """Wait for the status of a part of the node that says ``text``, and return it."""
        said = lambda: self.status.get(part) and text in self.status[part].message  # noqa: E731
        assert self.spin(said), (
            f'{part} never said {text!r}, but {getattr(self.status.get(part), "message", "")!r}')
        return self.status[part]

    def spin(self, until, timeout_s: float = WAIT_S) -> bool:
        """Handle messages until ``until()`` holds; return whether it does."""
        end = time.monotonic() + timeout_s
        while not until() and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)
        return bool(until())

    def connect(self):
        """Wait until node and client have found one another on every topic."""
        self.readiness.wait(self.spin, WAIT_S)

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

    def answer(self, frame):
        """Publish a frame and return the Detection3DArray with its stamp.

        A frame that the node drops fails the test with what the node tells of it.
        """
        self.send(*frame)
        stamp = frame[0].header.stamp
        found = lambda: [a for a in self.answers if a.header.stamp == stamp]  # noqa: E731
        if not self.spin(found):
            told = values(self.status['poses']) if 'poses' in self.status else {}
            raise AssertionError(
                f'the frame of {stamp.sec} s was not answered; the node dropped '
                f'{ {k: v for k, v in told.items() if k.startswith("dropped ") and v != "0"} }')
        return found()[0]

    def wait_for_inputs(self, count: int, *names: str):
        """Wait until the node has taken so many messages of some inputs since it was activated."""
        def have_come():
            told = values(self.status['inputs']) if 'inputs' in self.status else {}
            return all(int(told.get(f'{name} messages', 0)) >= count for name in names)

        assert self.spin(have_come), f'{names} never came {count} times'

    def is_answered(self, frame, timeout_s: float) -> bool:
        """Publish a frame and tell whether it is answered in time."""
        self.send(*frame)
        stamp = frame[0].header.stamp
        return self.spin(lambda: any(a.header.stamp == stamp for a in self.answers), timeout_s)

    def call_async(self, kind, name: str, request):
        """Call a service of the node and return the future."""
        service = self.node.create_client(kind, f'pose_node/{name}')
        assert service.wait_for_service(WAIT_S), f'there is no service {name}'
        return service.call_async(request)

    def result(self, future):
        """Wait for the result of a future."""
        assert self.spin(future.done)
        return future.result()

    def call(self, kind, name: str, request):
        """Call a service of the node and return its answer."""
        return self.result(self.call_async(kind, name, request))

    def set_parameter(self, name: str, value):
        """Return what the node says to another value of a parameter, None to delete it."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        message = Parameter(name, value=value).to_parameter_msg()
        return self.call(SetParameters, 'set_parameters',
                         SetParameters.Request(parameters=[message])).results[0]

    def set_model_async(self, **values):
        """Ask for another model; None removes a parameter."""
        from rcl_interfaces.srv import SetParametersAtomically
        from rclpy.parameter import Parameter

        messages = [Parameter(name, value=value).to_parameter_msg()
                    for name, value in values.items()]
        return self.call_async(SetParametersAtomically, 'set_model',
                               SetParametersAtomically.Request(parameters=messages))

    def set_model(self, **values):
        """Return what the node says to another model."""
        return self.result(self.set_model_async(**values)).result

    def transition(self, number: int) -> bool:
        """Ask for a transition of the lifecycle and return whether it succeeded."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request(transition=Transition(id=number))
        if not self.call(ChangeState, 'change_state', request).success:
            return False
        # whom the node had found before counts no more
        state = {Transition.TRANSITION_CONFIGURE: 'inactive',
                 Transition.TRANSITION_ACTIVATE: 'active',
                 Transition.TRANSITION_DEACTIVATE: 'inactive',
                 Transition.TRANSITION_CLEANUP: 'unconfigured'}.get(number, 'finalized')
        return self.spin(lambda: self.status.get('model') is not None
                         and values(self.status['model'])['state'] == state)

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
