"""Names of instances, frames and labels that look alike, are empty, or collide."""

from __future__ import annotations

import unicodedata
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_frames import frame
from stand_in_node import DIAMETERS_M, BoxEstimator
from tf2_msgs.action import LookupTransform

from mrcnet_ros.errors import SpecError
from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.ros import confirm_action, pose_topics, reporter
from mrcnet_ros.ros.detection_reading import (
    detections_from_message,
    label_hint,
    parsed_label_map,
)
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.timings import Timings


def handler(labels=tuple(DIAMETERS_M)):
    """Return a handler and its counters."""
    counters = DropCounters(lambda *_: None)
    return FrameHandler(BoxEstimator(), dict.fromkeys(labels, np.zeros((2, 3))), counters,
                        compressed=False), counters


@pytest.fixture
def action(monkeypatch):
    """Return the action of a node that is active, without ROS, and its parameters."""
    monkeypatch.setattr(confirm_action, 'ActionServer', Mock())
    parameters = NodeParameters(confirm_frames=2, frame_prefix='/left/')
    made = confirm_action.ConfirmAction(Mock(), lambda: parameters)
    made.start(handler()[0])
    return made, parameters


def ask(action, source_frame):
    """Send a goal for a frame; return it and what it was answered, None while it waits."""
    goal = Mock(request=LookupTransform.Goal(source_frame=source_frame), is_cancel_requested=False)
    goal.request.timeout.sec, goal.goal_id.uuid = 60, [1] * 16
    action._accepted(goal)
    return lambda: action._outcomes.get(bytes([1] * 16)) or next(
        (r.outcome for r in action._waiting), None)


@pytest.mark.parametrize('source_frame', ['duck', 'left/duck', '/left/duck'])
def test_a_confirmed_pose_has_the_frame_that_is_in_tf(action, source_frame):
    """Where frame_prefix begins with a slash, too; it may be asked for with or without."""
    made, parameters = action
    outcome = ask(made, source_frame)
    for second in (1, 2):
        answer = made._handler.answer(Frame(*frame(second, ('duck',))), parameters)
        made.see(answer, parameters)
    assert outcome().child_frame_id == answer.transforms[0].child_frame_id == 'left/duck'


def test_an_empty_request_is_no_object_without_an_id(action):
    """Detections without ids have an empty one, which names nothing."""
    made, parameters = action
    answer = handler()[0].answer(Frame(*frame(1, ('duck',))), parameters)
    made._seen.note(answer)
    refused = ask(made, '')()
    assert isinstance(refused, confirm_action._RefusedError) and 'knows' in str(refused)


def test_a_frame_that_is_only_a_slash_names_none():
    """That of camera_info counts then."""
    messages = frame(1, ('duck',))
    messages[0].header.frame_id = '/'
    answer = handler()[0].answer(Frame(*messages), NodeParameters())
    assert answer.header.frame_id == 'camera_optical'
    assert [t.header.frame_id for t in answer.transforms] == ['camera_optical']


def test_two_labels_that_are_one_frame_do_not_share_it():
    """As /duck and duck: tf2 knows no slash in front."""
    made, counters = handler()
    pose = PoseEstimate('duck', 9, np.eye(4), 0.5, 0, '', np.zeros(4))
    header = frame(1)[0].header
    sent = made._transforms(header, [('duck', pose), ('/duck', pose)], NodeParameters())
    assert [t.child_frame_id for t in sent] == ['duck']
    assert "'/duck' has the frame 'duck'" in counters.reasons()['frame_taken']


def test_a_pose_that_has_no_topic_of_its_own_is_told(monkeypatch):
    """A model without a law of covariances, and instances without end."""
    monkeypatch.setattr(pose_topics, 'MOST_TOPICS', 1)
    node = Mock()
    topics = pose_topics.PoseTopics(node)
    pose = PoseEstimate('x', 1, np.eye(4), 0.5, 0, '', np.zeros(4))
    sure = PoseEstimate('x', 1, np.eye(4), 0.5, 0, '', np.zeros(4), covariance=np.eye(6))
    topics.publish(frame(1)[0].header, {'a': pose, 'b': sure, 'c': sure}, 'abc')
    told = [call.args[0] for call in node.get_logger().error.call_args_list]
    assert len(told) == 2 and "'a' has no covariance" in told[0] and 'c has none' in told[1]


def test_topics_of_a_former_model_end(monkeypatch):
    """Their names are free for others, and they do not count; objects of both keep theirs."""
    monkeypatch.setattr(pose_topics, 'MOST_TOPICS', 3)
    node = Mock()
    node.create_publisher.side_effect = lambda kind, topic, profile: Mock(topic=topic)
    topics, header = pose_topics.PoseTopics(node), frame(1)[0].header
    sure = PoseEstimate('x', 1, np.eye(4), 0.5, 0, '', np.zeros(4), covariance=np.eye(6))
    for names in (['can', 'coffee can', 'coffee can_2'], ['coffee_can', 'can'], ['tea', 'cup']):
        topics.publish(header, dict.fromkeys(names, sure), {n.split('_2')[0] for n in names})
    node.get_logger().error.assert_not_called()
    (end,), _ = node.create_guard_condition.call_args
    end()
    assert [call.args[1] for call in node.create_publisher.call_args_list] == [
        '~/pose/can', '~/pose/coffee_can', '~/pose/coffee_can_2', '~/pose/coffee_can',
        '~/pose/tea', '~/pose/cup']
    assert [call.args[0].topic for call in node.destroy_publisher.call_args_list] == [
        '~/pose/coffee_can', '~/pose/coffee_can_2', '~/pose/can', '~/pose/coffee_can']


@pytest.mark.parametrize(('label', 'said'), [
    ('Milk Carton', "'Milk Carton=milk_carton'"), ('MILK-CARTON ', "=milk_carton'"),
    (unicodedata.normalize('NFD', 'Tür'), "'tür' but for"), ('milk cartoon', '=milk_carton'),
    ('zebra', "'zebra="), ('7', 'numbers of classes'), ('', 'must fill class_id'),
    ('  ', 'must fill class_id')])
def test_an_unknown_label_comes_with_the_one_that_is_meant(label, said):
    """But for case, spaces and composed letters, which cannot be seen; the advice can be used."""
    hint = label_hint(label, ['can', 'tür', 'milk_carton'])
    assert said in hint
    if 'label_map' in hint:
        entry = hint.partition("['")[2].partition("']")[0]
        assert parsed_label_map((entry,)) == {label.strip(): entry.rpartition('=')[2]}


def test_white_space_around_the_name_of_a_class_does_not_count() -> None:
    """Names come from files with line ends of another system, and maps are stripped as well."""
    for name in ('can\r', ' can'):
        found, _ = detections_from_message(frame(1, (name,))[2], known=['can'])
        assert [d.label for d in found] == ['can']
    long = 'bottle_' * 8
    entry = label_hint(long, ['can']).partition("['")[2].partition("']")[0]
    assert parsed_label_map((entry,)) == {long: 'can'}


@pytest.mark.parametrize('folder', ['/home/robot/meshes', '~/meshes', 'meshes', 'C:\\meshes'])
def test_a_folder_that_is_no_uri_is_refused_for_markers(folder):
    """RViz would show nothing, without a word of the node."""
    with pytest.raises(SpecError, match=r"marker_mesh_folder .* by URI.*'file:///"):
        NodeParameters(marker_mesh_folder=folder)
    assert NodeParameters(marker_mesh_folder='file:///meshes').marker_mesh_folder


@pytest.mark.parametrize('state', ['unconfigured', 'inactive'])
def test_the_support_plane_has_a_status_in_every_state(state):
    """An aggregator takes one that is missing for an error."""
    node = Mock()
    node.get_fully_qualified_name.return_value = '/pose_node'
    made = reporter.Reporter(node, DropCounters(lambda *_: None), Timings(), ())
    sent = []
    made._publisher = SimpleNamespace(publish=sent.append)
    from builtin_interfaces.msg import Time

    node.get_clock().now().to_msg.return_value = Time()
    made.report(state, NodeParameters(support_plane='table'), None)
    assert 'pose_node: support_plane' in [status.name for status in sent[0].status]
