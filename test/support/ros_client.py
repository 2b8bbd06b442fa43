"""The other end of a node in another process: it sends inputs and collects outputs."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import ClassVar

import pytest
from ros_process import WAIT_S, double_node, environment, own_domain

_NUMBERS = itertools.count(1)  # of the clients of this process
_ASK_AGAIN_S = 1.0  # far more than an answer takes


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

    open: ClassVar[list[Client]] = []

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
        self._services, self._actions = {}, {}
        Client.open.append(self)
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
        received, count = (self.answers, self.poses, self.transforms), None
        # what an answer goes with is sent before it, and may wait here to be handled
        while count != (count := self.reports + sum(map(len, received))):
            self.spin(lambda: False, 0.1)
        for messages in received:
            messages.clear()

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
        if name not in self._services:
            self._services[name] = self._service(kind, name)
            self.known()
        return self._services[name].call_async(request)

    def action(self, kind, name: str):
        """Return a client of an action of the node that gets its answers."""
        from rclpy.action import ActionClient

        if name not in self._actions:
            action = self._actions[name] = ActionClient(self.node, kind, f'pose_node/{name}')
            assert self.spin(action.server_is_ready), f'there is no action {name}'
            self.known()
        return self._actions[name]

    def known(self):
        """Wait until the node has found all that this client has made so far.

        The middleware drops the answer to a client whose other end it has not found, but it finds
        the ends of a participant in their order. So the node is asked until an answer comes.
        """
        from rcl_interfaces.srv import GetParameters

        service, end = self._service(GetParameters, 'get_parameters'), time.monotonic() + WAIT_S
        while not self.spin(service.call_async(GetParameters.Request()).done, _ASK_AGAIN_S):
            assert time.monotonic() < end, 'the node does not find this client'
        self.node.destroy_client(service)

    def _service(self, kind, name: str):
        service = self.node.create_client(kind, f'pose_node/{name}')
        assert self.spin(service.service_is_ready), f'there is no service {name}'
        return service

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
        if self not in Client.open:
            return
        Client.open.remove(self)
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


def values(status) -> dict[str, str]:
    """Return the values of a DiagnosticStatus."""
    return {pair.key: pair.value for pair in status.values}
