"""The node as its users meet it: its own process, real DDS."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_client import Client, node_fixture
from ros_frames import frame
from ros_process import LARGE_CAMERA, STAND_IN, NodeProcess, double_node, own_domain
from stand_in_node import SURE

node = node_fixture(0)


@pytest.fixture(scope='module')
def connected(node):
    client = Client(node.domain)
    client.connect()
    yield client
    client.close()


@pytest.fixture
def talk(connected):
    connected.forget()
    return connected


def test_a_good_frame_is_answered_on_every_topic(talk):
    """Stamp and frame are the image's; the pose is the same in all messages."""
    answer = talk.answer(frame(1, ('duck', 31.5, 23.5, 30.0)))
    assert talk.spin(lambda: talk.poses and talk.transforms)
    detection, pose, transform = answer.detections[0], talk.poses[0], talk.transforms[0]
    assert answer.header.frame_id == pose.header.frame_id == 'camera_optical'
    assert pose.header.stamp == transform.header.stamp == answer.header.stamp
    assert (transform.header.frame_id, transform.child_frame_id) == ('camera_optical', 'duck')
    hypothesis = detection.results[0]
    assert (hypothesis.hypothesis.class_id, hypothesis.hypothesis.score) == ('duck', 0.75)
    assert hypothesis.pose.pose == pose.pose
    assert (pose.pose.position.x, pose.pose.position.z) == pytest.approx((0.0, 2.0))
    assert transform.transform.translation.z == pytest.approx(2.0)
    assert pose.pose.orientation.w == 1.0
    assert hypothesis.pose.covariance[0] == -1.0


def test_the_bounding_box_is_the_mesh_at_its_pose(talk):
    """Its centre need not be the origin of the object."""
    box = talk.answer(frame(2, ('duck',))).detections[0].bbox
    assert (box.size.x, box.size.y, box.size.z) == pytest.approx((0.03, 0.06, 0.09))
    assert box.center.position.x == pytest.approx(0.005)


def test_over_dds_a_covariance_arrives_where_there_is_one(talk):
    """Row by row; where there is none, or none that is finite, its first element is -1."""
    ducks = [('duck', x, 23.5, 30.0, 0.9, name)
             for x, name in ((10.0, 'sure'), (30.0, 'unsure'), (50.0, ''))]
    answer = talk.answer(frame(3, *ducks))
    sure, *others = (d.results[0].pose.covariance for d in answer.detections)
    assert np.array_equal(np.reshape(sure, (6, 6)), SURE)
    for covariance in others:
        assert list(covariance) == [-1.0, *[0.0] * 35]


def test_two_of_a_kind_get_two_frames(talk):
    """The second instance is <label>_2, and ids of the detector are kept."""
    answer = talk.answer(frame(10, ('duck', 10.0), ('duck', 50.0, 23.5, 30.0, 0.9, 'seven')))
    assert talk.spin(lambda: len(talk.transforms) == 2)
    assert [t.child_frame_id for t in talk.transforms] == ['duck', 'duck_2']
    assert [d.id for d in answer.detections] == ['duck', 'seven']


def test_a_frame_without_detections_is_answered_with_none(talk):
    """A listener can tell that nothing was there from no answer."""
    assert talk.answer(frame(11)).detections == []


BAD_FRAMES = {
    'bad_image': frame(0, ('duck',), encoding='yuv422'),
    'bad_camera_info': frame(0, ('duck',), focal=0.0),
    'failed': frame(0, ('duck', 31.5, 23.5, 30.0, 0.9, 'boom')),
}


@pytest.mark.parametrize('reason', BAD_FRAMES)
def test_a_bad_frame_is_dropped_with_its_reason_and_the_next_is_answered(talk, node, reason):
    """One message never ends the node."""
    second = 20 + 2 * list(BAD_FRAMES).index(reason)
    bad = BAD_FRAMES[reason]
    for message in bad:
        message.header.stamp.sec = second
    talk.send(*bad)
    node.wait_for_log(f'dropped ({reason})')
    assert len(talk.answer(frame(second + 1, ('duck',))).detections) == 1
    assert not [a for a in talk.answers if a.header.stamp.sec == second]


@pytest.mark.parametrize(('reason', 'bad'), [
    ('unknown_label', ('teapot',)),
    ('box_outside', ('duck', 500.0)),
    ('non_finite', ('duck', 31.5, 23.5, 30.0, 0.9, 'nan')),
    ('non_finite', ('duck', float('nan'))),
    ('non_finite', ('duck', 31.5, 23.5, 30.0, float('nan'))),
])
def test_a_bad_detection_is_left_out_and_counted(talk, node, reason, bad):
    """The other objects of the frame are answered."""
    answer = talk.answer(frame(30, bad, ('duck', 20.0, 23.5, 30.0, 0.9, 'good')))
    assert [d.id for d in answer.detections] == ['good']
    node.wait_for_log(reason)


def test_a_low_score_is_ignored_once_that_is_asked_for(talk):
    """min_detection_score may change while the node runs; policy may not."""
    low = frame(40, ('duck', 20.0, 23.5, 30.0, 0.2))
    assert len(talk.answer(low).detections) == 1
    assert talk.set_parameter('min_detection_score', 0.5).successful
    low[0].header.stamp.sec = low[1].header.stamp.sec = low[2].header.stamp.sec = 41
    assert talk.answer(low).detections == []
    assert talk.set_parameter('min_detection_score', 0.0).successful
    refused = talk.set_parameter('policy', 'lossless')
    assert not refused.successful
    assert 'policy' in refused.reason


def test_of_too_many_detections_the_best_are_answered(talk):
    """A detector gone wild costs neither minutes nor all memory, and /diagnostics tells of it."""
    objects = [('duck', 20.0 + i / 50, 23.5, 30.0, (i * 7 % 1000) / 1000, str(i))
               for i in range(1000)]
    answer = talk.answer(frame(42, *objects, ('teapot',)))
    best = sorted(objects, key=lambda o: -o[4])[:100]
    assert {d.id for d in answer.detections} == {o[5] for o in best}
    assert [int(d.id) for d in answer.detections] == sorted(int(d.id) for d in answer.detections)
    told = talk.diagnosis('poses', '900 detections too_many')
    assert '1000 boxes of known objects' in told.message and 'max_detections' in told.message
    assert talk.set_parameter('max_detections', 1).successful
    assert len(talk.answer(frame(43, *objects[:3])).detections) == 1
    assert talk.set_parameter('max_detections', 100).successful


def test_a_rectified_image_is_read_as_one_once_that_is_said(talk):
    """With the focal length of P instead of K; image_rectified may change at run time."""
    for rectified, depth_m in ((True, 1.0), (False, 2.0)):
        assert talk.set_parameter('image_rectified', rectified).successful
        image, info, boxes = frame(47 - rectified, ('duck',))
        info.p = [300.0, 0.0, 31.5, 0.0, 0.0, 300.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
        answer = talk.answer((image, info, boxes))
        assert answer.detections[0].results[0].pose.pose.position.z == pytest.approx(depth_m)


def test_without_a_frame_nothing_is_sent_to_tf_and_that_is_told(talk, node):
    """The poses come all the same, for those who know the camera."""
    messages = frame(48, ('duck',))
    for message in messages:
        message.header.frame_id = ''
    assert len(talk.answer(messages).detections) == 1
    assert '/tf' in node.wait_for_log('dropped (no_frame_id)')
    talk.diagnosis('poses', '1 detections no_frame_id')
    assert talk.transforms == []


def test_a_frame_is_named_as_tf2_looks_it_up(talk):
    """Without the slash that drivers from ROS 1 put in front."""
    messages = frame(49, ('duck',))
    for message in messages:
        message.header.frame_id = '/camera_optical'
    assert talk.answer(messages).header.frame_id == 'camera_optical'
    assert talk.spin(lambda: talk.transforms and talk.poses)
    assert talk.transforms[0].header.frame_id == 'camera_optical'
    assert talk.poses[0].header.frame_id == 'camera_optical'


def test_a_poor_pose_is_withheld_once_that_is_asked_for(talk, node):
    """From all topics, and counted; min_pose_score may change while the node runs."""
    duck = ('duck', 20.0)
    assert talk.set_parameter('min_pose_score', 0.76).successful
    assert talk.answer(frame(52, duck)).detections == []
    assert "'duck' has score 0.75" in node.wait_for_log('dropped (low_pose_score)')
    assert talk.set_parameter('min_pose_score', 0.74).successful
    assert len(talk.answer(frame(53, duck)).detections) == 1
    assert talk.set_parameter('min_pose_score', 0.0).successful
    assert talk.spin(lambda: talk.poses and talk.transforms)
    assert {p.header.stamp.sec for p in talk.poses} == {53}
    assert {t.header.stamp.sec for t in talk.transforms} == {53}


def test_compressed_images_are_answered_when_asked_for():
    """A PNG or JPEG arrives under the same topic name with another type; rubbish is counted."""
    import cv2
    import numpy as np
    from sensor_msgs.msg import CompressedImage

    _, info, boxes = frame(5, ('duck',))
    png = cv2.imencode('.png', np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    good = CompressedImage(header=info.header, format='png', data=png)
    _, bad_info, bad_boxes = frame(4, ('duck',))
    bad = CompressedImage(header=bad_info.header, format='png', data=png[:40])
    with double_node(own_domain(5), 'image_transport:=compressed') as process:
        process.wait_for_log('ready')
        client = Client(own_domain(5), compressed=True)
        client.connect()
        client.send(bad, bad_info, bad_boxes)
        process.wait_for_log('dropped (bad_image)')
        answered = client.answer((good, info, boxes))
        client.close()
        assert process.stop() == 0
    assert len(answered.detections) == 1


def test_intrinsics_may_change_from_frame_to_frame(talk):
    """A zoom lens, or another resolution; each image is seen with its own camera_info."""
    depths = [talk.answer(frame(60 + i, ('duck',), focal=focal, size=size)).detections[0]
              .results[0].pose.pose.position.z
              for i, (focal, size) in enumerate([(600.0, (64, 48)), (300.0, (64, 48)),
                                                 (300.0, (32, 24)), (600.0, (64, 48))])]
    assert depths == pytest.approx([2.0, 1.0, 1.0, 2.0])


def test_large_best_effort_images_arrive_with_the_profile_for_fast_dds():
    """A camera and the node in processes of their own, each with config/fastdds.xml."""
    root = Path(__file__).parents[2]
    profile = {'FASTDDS_DEFAULT_PROFILES_FILE': str(root / 'config/fastdds.xml')}
    domain = own_domain(8)
    with NodeProcess([STAND_IN, '--ros-args'], domain, profile) as process:
        process.wait_for_log('ready')
        client = Client(domain)
        with NodeProcess([LARGE_CAMERA, '1280', '720'], domain, profile):
            assert client.spin(lambda: len(client.answers) >= 5)
        client.close()
        assert process.stop() == 0
