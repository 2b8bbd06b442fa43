"""The input depth: encodings, synchronizer, and depth images that cannot be used."""

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_client import ready_node
from ros_frames import frame
from sensor_msgs.msg import CompressedImage, Image
from stand_in_node import DIAMETERS_M, BoxEstimator

from mrcnet_ros.errors import ImageError
from mrcnet_ros.inference.base_estimator import BaseEstimator
from mrcnet_ros.inference.poses import Detection
from mrcnet_ros.ros.depth_image import (
    DepthBuffer,
    DepthError,
    depth_from_compressed,
    depth_from_image,
    usable_depth,
)
from mrcnet_ros.ros.diagnostics import Level
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.estimator_loading import load_estimator
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.statuses import Account, depth_status

SIZE = (64, 48)
# distances that differ in every pixel, with one that was not measured
DEPTH_M = np.linspace(0.5, 2.0, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE[::-1])
DEPTH_M[3, 4] = 0.0


def depth_message(depth_m=DEPTH_M, encoding='16UC1', *, big=False, padding=0, stamp=0,
                  frame_id='camera_optical'):
    """Return a sensor_msgs/Image of distances [m]."""
    kind = np.dtype(np.float32 if encoding == '32FC1' else np.uint16)
    numbers = depth_m if encoding == '32FC1' else np.rint(1000 * depth_m)
    rows = numbers.astype(kind.newbyteorder('>' if big else '<')).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    height, width = depth_m.shape
    message = Image(width=width, height=height, encoding=encoding, is_bigendian=int(big),
                    step=rows.shape[1])
    message.data = rows.tobytes()
    message.header.stamp.sec, message.header.frame_id = stamp, frame_id
    return message


def compressed_message(encoding, pixels, a=0.0, b=0.0, stored='compressedDepth png'):
    """Return a CompressedImage as the publisher of compressedDepth makes it."""
    png = cv2.imencode('.png', pixels)[1].tobytes()
    message = CompressedImage(format=f'{encoding}; {stored}')
    message.data = struct.pack('<iff', 0, a, b) + png
    message.header.frame_id = 'camera_optical'
    return message


def usable(message, size=SIZE, frame_ids=('camera_optical', ''), *, compressed=False):
    """Return the depth for a colour image."""
    return usable_depth(message, size, frame_ids, compressed=compressed)


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('encoding', ['16UC1', 'mono16', '32FC1'])
def test_depth_is_metres_whatever_the_camera_sends(encoding, big, padding):
    """Both units, both byte orders, padded rows."""
    depth = depth_from_image(depth_message(encoding=encoding, big=big, padding=padding))
    assert depth.dtype == np.float32
    assert np.abs(depth - DEPTH_M).max() < (1e-9 if encoding == '32FC1' else 0.00051)
    assert depth[3, 4] == 0


def test_compressed_integers_are_millimetres():
    """The header in front of the PNG says nothing about them."""
    millimetres = np.rint(1000 * DEPTH_M).astype(np.uint16)
    for stored in ('compressedDepth png', 'compressedDepth'):
        depth = depth_from_compressed(compressed_message('16UC1', millimetres, stored=stored))
        assert np.abs(depth - DEPTH_M).max() < 0.00051


def test_compressed_metres_are_inverse_distances():
    """As the publisher quantises them: q = a / z + b, and 0 where nothing was measured."""
    a, farthest = 100.0 * 101.0, 10.0
    b = 1.0 - a / farthest
    with np.errstate(divide='ignore'):
        inverse = np.where(DEPTH_M > 0, a / DEPTH_M + b, 0).astype(np.uint16)
    depth = depth_from_compressed(compressed_message('32FC1', inverse, a, b))
    measured = DEPTH_M > 0
    assert np.abs(depth - DEPTH_M)[measured].max() < 0.001
    assert not np.isfinite(depth[~measured]).any()


@pytest.mark.parametrize(('message', 'words'), [
    (depth_message(encoding='rgb8'), 'expected 16UC1'),
    (Image(width=64, height=48, step=128, encoding='16UC1', data=bytes(100)), '100 bytes'),
    (Image(width=64, height=48, step=64, encoding='16UC1', data=bytes(64 * 48)), 'rows of 64'),
])
def test_images_of_something_else_are_refused(message, words):
    """With what was expected."""
    with pytest.raises(ImageError, match=words):
        depth_from_image(message)


@pytest.mark.parametrize(('message', 'words'), [
    (compressed_message('rgb8', np.zeros((4, 4), np.uint8)), 'expected 16UC1'),
    (compressed_message('16UC1', np.zeros((4, 4), np.uint8)), 'no PNG of 16 bits'),
    (compressed_message('16UC1', np.zeros((4, 4), np.uint16), stored='compressedDepth rvl'),
     'to png'),
    (CompressedImage(format='32FC1; compressedDepth png', data=b'\1\2'), 'no PNG of 16 bits'),
    (CompressedImage(format='16UC1; compressedDepth png'), 'no PNG of 16 bits'),
])
def test_compressed_images_of_something_else_are_refused(message, words):
    """Whatever the bytes are."""
    with pytest.raises(ImageError, match=words):
        depth_from_compressed(message)


@pytest.mark.parametrize(('message', 'reason', 'words'), [
    (depth_message(DEPTH_M[::2, ::2]), 'depth_unregistered', '32x24 px'),
    (depth_message(frame_id='depth_optical'), 'depth_unregistered', 'aligned_depth_to_color'),
    (depth_message(frame_id='depth_optical'), 'depth_unregistered', 'register.*image_rectified'),
    (depth_message(1000 * DEPTH_M, '32FC1'), 'depth_scale', '32FC1 in metres'),
    (depth_message(DEPTH_M / 1000), 'depth_scale', '16UC1 in millimetres'),
    (depth_message(0 * DEPTH_M), 'depth_empty', '0 of 3072 pixels'),
    (depth_message(np.nan * DEPTH_M, '32FC1'), 'depth_empty', '0 of 3072 pixels'),
    (depth_message(encoding='8UC1'), 'depth_bad', 'expected 16UC1'),
])
def test_depth_that_cannot_be_used_is_named(message, reason, words):
    """With the reason that is counted and what to do."""
    with pytest.raises(DepthError, match=words) as error:
        usable(message)
    assert error.value.reason == reason


def test_a_frame_is_named_with_or_without_a_slash_or_not_at_all():
    """Neither an old name nor a missing one is another camera."""
    for frame_id in ('/camera_optical', '', 'camera_optical'):
        assert usable(depth_message(frame_id=frame_id)).shape == DEPTH_M.shape
    assert usable(depth_message(), frame_ids=('', '')).shape == DEPTH_M.shape


def test_the_nearest_depth_image_is_found():
    """Within the slop, the last of equal ones; old ones make room."""
    buffer = DepthBuffer(3, 1.0)
    assert buffer.nearest(0) is None
    messages = [depth_message(stamp=stamp) for stamp in (1, 10, 12, 12)]
    late = buffer.lookup(10 * 10**9)
    for message in messages:
        buffer.add(message)
    assert late() is messages[1]
    assert buffer.nearest(12 * 10**9) is messages[3]
    assert buffer.nearest(1 * 10**9) is None
    early = buffer.lookup(11 * 10**9 + 1)
    for stamp in range(20, 25):
        buffer.add(depth_message(stamp=stamp))
    assert early() is messages[3]


def test_depth_of_a_waiting_image_is_kept_within_a_bound():
    """However long that waits, memory stays as it is."""
    buffer = DepthBuffer(3, 0.0)
    for stamp in range(1, 12):
        buffer.add(depth_message(stamp=stamp), oldest=2 * 10**9)
    assert buffer.nearest(10**9) is None and buffer.nearest(2 * 10**9) is not None
    for stamp in range(12, 20):
        buffer.add(depth_message(stamp=stamp), oldest=2 * 10**9)
    kept = [stamp for stamp in range(30) if buffer.nearest(stamp * 10**9)]
    assert kept == list(range(8, 20))
    buffer.add(depth_message(stamp=20))
    assert buffer.nearest(17 * 10**9) is None and buffer.nearest(18 * 10**9) is not None


def test_the_depth_of_its_own_moment_replaces_that_of_the_moment_before():
    """In a wide slop the frame before is near, too; what comes later and fits better counts."""
    buffer = DepthBuffer(10, 1.5)
    before, own = (depth_message(stamp=stamp) for stamp in (10, 11))
    buffer.add(before)
    find = buffer.lookup(11 * 10**9)
    assert find() is before
    buffer.add(own)
    assert find() is own


def _status(mode='auto', residual_m=None, **recent):
    account = Account(10.0, recent, recent, {'depth_late': 'set sync_slop_s'}, {})
    return depth_status(account, mode, residual_m)


def test_diagnostics_tells_what_depth_does():
    """How many poses it corrected, how far the surface is from them, and why it was not used."""
    good = _status(frames=5, depth_pose=4, depth_distance=2, depth_none=1, residual_m=0.0012)
    assert good.level == Level.OK
    assert 'pose 4, distance 2, none 1' in good.message
    assert good.values['residual p50 [mm]'] == '1.20'
    late = _status(frames=5, depth_late=3)
    assert late.level == Level.WARN
    assert 'of 3 of 5 frames' in late.message
    assert 'set sync_slop_s' in late.message
    assert 'agrees with none of 30 poses' in _status(frames=30, depth_none=30).message
    assert _status('off').message == 'off'


@pytest.mark.parametrize('depth', ['off', 'auto', 'required'])
def test_the_node_prepares_for_depth_while_it_loads_the_model(tiny_model, monkeypatch, depth):
    """With the parameter depth, so that the first depth image waits for no mesh."""
    prepared = []
    monkeypatch.setattr(BaseEstimator, 'prepare_depth', lambda self: prepared.append(self))
    estimator = load_estimator(NodeParameters(
        model=str(tiny_model.path), meshes=str(tiny_model.meshes), store=str(tiny_model.store),
        depth=depth, threads=1, crops=1, preload=False))
    assert prepared == ([] if depth == 'off' else [estimator])
    estimator.close()


QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)


class Camera:
    """Sends depth images and waits until the node has them.

    :param client: that talks to the node.
    """

    def __init__(self, client, kind=Image):
        self._client, self._sent = client, 0
        self._publisher = client.readiness.publisher(kind, 'depth', QOS)
        client.connect()

    def send(self, message):
        """Publish a depth image; the node has it when this returns."""
        self._publisher.publish(message)
        self._sent += 1
        wait_for_inputs(self._client, self._sent, 'depth')


def wait_for_inputs(client, count, *names):
    """Wait until the node has taken so many messages of some inputs."""
    def has_come():
        status = client.status.get('inputs')
        values = {v.key: v.value for v in status.values} if status else {}
        return all(values.get(f'{name} messages') == str(count) for name in names)

    assert client.spin(has_come)


def _distance(answer):
    return answer.detections[0].results[0].pose.pose.position.z


def test_depth_corrects_the_poses_of_its_frame_and_no_other():
    """Over DDS; a frame without depth, or with a wrong one, is answered from colour alone."""
    with ready_node(61, 'depth:=auto') as (_, client):
        camera = Camera(client)
        camera.send(depth_message(stamp=1))
        answer = client.answer(frame(1, ('duck',)))
        assert _distance(answer) == pytest.approx(DEPTH_M[23, 31], abs=0.001)
        assert _distance(client.answer(frame(2, ('duck',)))) == pytest.approx(2.0)
        camera.send(depth_message(DEPTH_M[::2, ::2], stamp=3))
        assert _distance(client.answer(frame(3, ('duck',)))) == pytest.approx(2.0)
        status = client.diagnosis('depth', 'depth_unregistered')
        assert 'depth_late' in status.message
        assert {v.key: v.value for v in status.values}['poses corrected: pose'] == '1'


def test_compressed_depth_arrives_too():
    """With depth_transport compressed."""
    with ready_node(62, 'depth:=auto', 'depth_transport:=compressed') as (_, client):
        message = compressed_message('16UC1', np.rint(1000 * DEPTH_M).astype(np.uint16))
        message.header.stamp.sec = 1
        Camera(client, CompressedImage).send(message)
        answer = client.answer(frame(1, ('duck',)))
        assert _distance(answer) == pytest.approx(DEPTH_M[23, 31], abs=0.001)


def test_a_frame_waits_for_depth_that_is_required():
    """It is answered when depth comes, and dropped and counted when none comes."""
    with ready_node(63, 'depth:=required', 'queue:=2') as (_, client):
        camera = Camera(client)
        client.send(*frame(1, ('duck',)))
        assert not client.spin(lambda: client.answers, 0.5)
        camera.send(depth_message(stamp=1))
        assert client.spin(lambda: client.answers)
        assert _distance(client.answers[0]) == pytest.approx(DEPTH_M[23, 31], abs=0.001)
        for number in range(2, 6):
            client.send(*frame(number, ('duck',)))
            wait_for_inputs(client, number, 'image', 'camera_info', 'detections')
        assert 'depth' in client.diagnosis('poses', 'no_depth').message
        assert len(client.answers) == 1


@pytest.mark.parametrize(('before', 'meanwhile'), [((), (1,)), ((1,), (2, 3, 4, 5, 6))])
def test_depth_is_used_that_comes_while_the_own_detector_works(before, meanwhile):
    """Nor is depth lost that had come before, though later images push it out of the buffer."""
    buffer = DepthBuffer(3, 0.0)

    def come(stamps):
        for stamp in stamps:
            buffer.add(depth_message(stamp=stamp))

    def detect(image_rgb, camera):
        come(meanwhile)
        return [Detection('duck', np.array([10.0, 10, 40, 40]), 0.9)]

    counters = DropCounters(lambda *_: None)
    handler = FrameHandler(BoxEstimator(), dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))), counters,
                           compressed=False, detector=SimpleNamespace(labels=['duck'],
                                                                      detect=detect))
    image, info, _ = frame(1)
    waiting = Frame(image, info, None, depth=buffer.lookup(10**9))
    come(before)
    answer = handler.answer(waiting, NodeParameters(depth='auto'))
    assert answer.measured[0].depth.used == 'pose' and not counters.counts().get('depth_late')


@pytest.mark.parametrize('track', [False, True])
def test_depth_that_followed_images_do_not_wait_for_is_told_as_that(track):
    """A faster driver cannot be asked for: these images are answered at once."""
    counters = DropCounters(lambda *_: None)
    handler = FrameHandler(BoxEstimator(), dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))), counters,
                           compressed=False)
    handler.answer(Frame(*frame(1, ('duck',))), NodeParameters(depth='auto', track=track))
    assert ('unless depth is required' in counters.reasons()['depth_late']) == track


def test_no_depth_is_subscribed_to_unless_it_is_asked_for():
    """Off costs nothing, also where ROS takes the word for a boolean."""
    with ready_node(64, 'depth:=off') as (_, client):
        assert not client.node.get_subscriptions_info_by_topic('/depth')
        client.diagnosis('depth', 'off')
