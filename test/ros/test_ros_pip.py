"""The stand-ins for ROS packages that pip environments use."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

cv2 = pytest.importorskip('cv2')
pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
cv_bridge = pytest.importorskip('cv_bridge')
message_filters = pytest.importorskip('message_filters')

from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

# Computed by the upstream packages' own generated code (Iron and later).
UPSTREAM_HASHES = {
    'vision_msgs/msg/Detection2DArray':
        'RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968',
    'vision_msgs/msg/Detection3DArray':
        'RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018',
    'vision_msgs/msg/LabelInfo':
        'RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783',
    'tf2_msgs/msg/TFMessage':
        'RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087',
    'tf2_msgs/msg/TF2Error':
        'RIHS01_db2485e7d6a0ec75bf087e058ee45df682acc3a621ca7780503d10aac141809a',
}
# Fields of upstream's LookupTransform.action, from which its type hash follows.
LOOKUP_TRANSFORM = {
    'Goal': [('target_frame', 'string'), ('source_frame', 'string'),
             ('source_time', 'builtin_interfaces/Time'),
             ('timeout', 'builtin_interfaces/Duration'),
             ('target_time', 'builtin_interfaces/Time'), ('fixed_frame', 'string'),
             ('advanced', 'boolean')],
    'Result': [('transform', 'geometry_msgs/TransformStamped'), ('error', 'tf2_msgs/TF2Error')],
    'Feedback': [],
}


@pytest.mark.parametrize('name', UPSTREAM_HASHES)
def test_generated_messages_have_the_type_hash_of_upstream(name):
    """A topic may have a ROS installation at its other end."""
    path = Path(sys.prefix, 'share', f'{name}.json')
    if not path.is_file():
        pytest.skip('the messages come from a ROS installation')
    hashes = json.loads(path.read_text())['type_hashes']
    found = {entry['type_name']: entry['hash_string'] for entry in hashes}
    assert found[name] == UPSTREAM_HASHES[name]


@pytest.mark.parametrize('part', LOOKUP_TRANSFORM)
def test_the_action_has_the_fields_of_upstream(part):
    """Names, types and their order are all that a type hash is made of."""
    from tf2_msgs.action import LookupTransform

    fields = getattr(LookupTransform, part).get_fields_and_field_types()
    assert list(fields.items()) == LOOKUP_TRANSFORM[part]


def _image(pixels, encoding, *, pad=0, big_endian=False):
    rows = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder('>')) if big_endian
                                else pixels)
    rows = rows.view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, pad)), constant_values=77)
    return Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                 step=rows.shape[1], is_bigendian=int(big_endian), data=rows.tobytes())


@pytest.fixture
def pixels():
    return np.random.default_rng(5).integers(0, 256, (6, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize('pad', [0, 3])
def test_rows_may_be_padded(pixels, pad):
    """Bytes between the end of a row and ``step`` are no pixels."""
    message = _image(pixels, 'rgb8', pad=pad)
    got = cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8')
    assert np.array_equal(got, pixels)


@pytest.mark.parametrize('big_endian', [False, True])
def test_sixteen_bit_data_arrive_in_the_order_of_this_machine(big_endian):
    """The byte order of the sender does not change a depth image."""
    depth = np.arange(12, dtype=np.uint16).reshape(3, 4) * 1000
    got = cv_bridge.CvBridge().imgmsg_to_cv2(_image(depth, '16UC1', big_endian=big_endian))
    assert got.dtype == np.uint16
    assert np.array_equal(got, depth)


@pytest.mark.parametrize(('encoding', 'make'), [
    ('rgb8', lambda rgb: rgb),
    ('bgr8', lambda rgb: rgb[..., ::-1]),
    ('rgba8', lambda rgb: np.concatenate([rgb, rgb[..., :1]], axis=2)),
    ('bgra8', lambda rgb: np.concatenate([rgb[..., ::-1], rgb[..., :1]], axis=2)),
    ('rgb16', lambda rgb: rgb.astype(np.uint16) * 257),
])
def test_colour_encodings_become_the_same_rgb(pixels, encoding, make):
    """Channel order, alpha and depth are taken care of."""
    message = _image(np.ascontiguousarray(make(pixels)), encoding)
    assert np.array_equal(cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8'), pixels)


def test_grey_becomes_equal_channels():
    """A mono image is usable where colour is wanted."""
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    got = cv_bridge.CvBridge().imgmsg_to_cv2(_image(grey, 'mono8'), 'rgb8')
    assert np.array_equal(got, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_a_mosaic_of_one_colour_is_that_colour(pattern):
    """Convention: the name of a Bayer encoding spells its upper left 2x2 pixels."""
    colour = {'r': 200, 'g': 100, 'b': 30}
    tile = np.array([colour[letter] for letter in pattern], np.uint8).reshape(2, 2)
    message = _image(np.tile(tile, (4, 4)), f'bayer_{pattern}8')
    got = cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8')
    assert np.array_equal(got[4, 4], [200, 100, 30])


@pytest.mark.parametrize('spoil', [
    {'encoding': 'yuv999'}, {'step': 3}, {'height': 60}, {'width': 0, 'step': 0},
])
def test_an_image_message_that_contradicts_itself_is_refused(pixels, spoil):
    """Nothing is read from beyond the data or with a guessed format."""
    message = _image(pixels, 'rgb8')
    for field, value in spoil.items():
        setattr(message, field, value)
    with pytest.raises(cv_bridge.CvBridgeError):
        cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8')


def test_depth_is_not_passed_off_as_colour():
    """There is no way from metres to RGB."""
    message = _image(np.ones((3, 4), np.float32), '32FC1')
    with pytest.raises(cv_bridge.CvBridgeError, match='32FC1'):
        cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8')


def test_a_message_made_from_pixels_gives_them_back(pixels):
    """Also from an array whose rows are not contiguous."""
    bridge = cv_bridge.CvBridge()
    message = bridge.cv2_to_imgmsg(pixels[:, ::2], 'rgb8')
    assert (message.width, message.step) == (3, 9)
    assert np.array_equal(bridge.imgmsg_to_cv2(message), pixels[:, ::2])


def test_png_survives_compression_and_rubbish_does_not():
    """A compressed colour image is decoded as rgb8 when that is asked for."""
    bridge = cv_bridge.CvBridge()
    rgb = np.random.default_rng(1).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    message = bridge.cv2_to_compressed_imgmsg(np.ascontiguousarray(rgb[..., ::-1]), 'png')
    assert np.array_equal(bridge.compressed_imgmsg_to_cv2(message, 'rgb8'), rgb)
    for data in (b'', b'not an image'):
        with pytest.raises(cv_bridge.CvBridgeError):
            bridge.compressed_imgmsg_to_cv2(CompressedImage(format='jpeg', data=data))


def _stamped(nanoseconds, name):
    stamp = SimpleNamespace(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), name=name)


def _pairs(make, arrivals):
    sources = [message_filters.SimpleFilter() for _ in range(2)]
    synchronizer, groups = make(sources), []
    synchronizer.registerCallback(lambda a, b: groups.append((a.name, b.name)))
    for source, nanoseconds, name in arrivals:
        sources[source].signalMessage(_stamped(nanoseconds, name))
    return groups


def test_equal_stamps_are_paired_whatever_the_order_of_arrival():
    """A message without a partner is not handed on."""
    arrivals = [(0, 1, 'a1'), (0, 2, 'a2'), (1, 2, 'b2'), (1, 3, 'b3'), (1, 1, 'b1')]
    groups = _pairs(lambda s: message_filters.TimeSynchronizer(s, 5), arrivals)
    assert groups == [('a2', 'b2'), ('a1', 'b1')]


def test_the_oldest_waiting_message_gives_way():
    """No more than ``queue_size`` messages of an input wait."""
    arrivals = [(0, 1, 'a1'), (0, 2, 'a2'), (0, 3, 'a3'), (1, 1, 'b1'), (1, 2, 'b2')]
    groups = _pairs(lambda s: message_filters.TimeSynchronizer(s, 2), arrivals)
    assert groups == [('a2', 'b2')]


def test_near_stamps_are_paired_with_the_nearest():
    """``slop`` is in seconds and bounds the difference."""
    ms = 10**6
    arrivals = [
        (0, 1000 * ms, 'a1'), (0, 1100 * ms, 'a2'), (1, 1090 * ms, 'b'), (1, 2000 * ms, 'c')]
    groups = _pairs(
        lambda s: message_filters.ApproximateTimeSynchronizer(s, 5, 0.05), arrivals)
    assert groups == [('a2', 'b')]


def _link(parent, child, second, x=0.0, turn_rad=0.0):
    from geometry_msgs.msg import TransformStamped

    message = TransformStamped(child_frame_id=child)
    message.header.frame_id, message.header.stamp.sec = parent, second
    message.transform.translation.x = x
    message.transform.rotation.z = math.sin(turn_rad / 2)
    message.transform.rotation.w = math.cos(turn_rad / 2)
    return message


@pytest.fixture
def buffer():
    """Return a buffer with a base that turns, a camera on it, an object, and another tree."""
    tf2_ros = pytest.importorskip('tf2_ros')
    if not hasattr(tf2_ros, 'Buffer'):
        pytest.skip('needs ros_pip/modules as they are now')
    buffer = tf2_ros.Buffer()
    buffer.set_transform_static(_link('base', 'camera', 0, x=1.0, turn_rad=math.pi / 2), 'test')
    for second in (10, 12):
        buffer.set_transform(_link('camera', 'can', second, x=second / 10.0), 'test')
        buffer.set_transform(_link('world', 'base', second, turn_rad=second - 10.0), 'test')
    buffer.set_transform_static(_link('shelf', 'box', 0), 'test')
    return buffer


def test_a_static_transform_may_become_a_moving_one(buffer):
    """And the other way round; what held before says nothing any more."""
    from rclpy.time import Time

    def x(second):
        return buffer.lookup_transform('base', 'camera', Time(seconds=second)
                                       ).transform.translation.x

    assert x(11) == pytest.approx(1.0)
    for second in (10, 11, 12):
        buffer.set_transform(_link('base', 'camera', second, x=float(second)), 'test')
    assert [x(s) for s in (10, 11, 12)] == pytest.approx([10.0, 11.0, 12.0])
    buffer.set_transform_static(_link('base', 'camera', 0, x=2.0), 'test')
    assert x(12) == x(99) == pytest.approx(2.0)


@pytest.mark.parametrize(('second', 'x'), [(10, 1.0), (11, 1.1), (12, 1.2), (0, 1.2)])
def test_transforms_of_a_tree_are_chained_and_interpolated(buffer, second, x):
    """Up from the source and down to the target; 0 asks for the latest."""
    from rclpy.time import Time

    found = buffer.lookup_transform('base', 'can', Time(seconds=second)).transform
    # along the camera's x axis, which is the base's y axis
    assert (found.translation.x, found.translation.y) == pytest.approx((1.0, x))
    back = buffer.lookup_transform('can', 'base', Time(seconds=second)).transform
    assert (back.translation.x, back.translation.y) == pytest.approx((-x, 1.0))
    assert abs(back.rotation.w) == pytest.approx(math.cos(math.pi / 4))


def test_a_rotation_is_interpolated_as_well(buffer):
    """Half way between no turn and two radians."""
    from rclpy.time import Time

    q = buffer.lookup_transform('world', 'base', Time(seconds=11)).transform.rotation
    assert 2 * math.atan2(abs(q.z), abs(q.w)) == pytest.approx(1.0)


@pytest.mark.parametrize(('frames', 'second', 'error'), [
    (('base', 'spoon'), 11, 'LookupException'), (('base', 'box'), 11, 'ConnectivityException'),
    (('base', 'can'), 9, 'ExtrapolationException'),
    (('base', 'can'), 13, 'ExtrapolationException')])
def test_what_a_buffer_cannot_know_is_an_error_of_tf2(buffer, frames, second, error):
    """Never the nearest that it has."""
    import tf2_ros
    from rclpy.time import Time

    assert not buffer.can_transform(*frames, Time(seconds=second))
    with pytest.raises(getattr(tf2_ros, error)):
        buffer.lookup_transform(*frames, Time(seconds=second))


def _buffer_of_this_tree():
    """Return an empty one as it is now, whatever is installed."""
    import importlib.util

    path = Path(__file__).parents[2] / 'ros_pip/modules/tf2_ros/buffer.py'
    spec = importlib.util.spec_from_file_location('buffer_of_this_tree', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Buffer()


def test_of_transforms_with_one_stamp_the_last_one_counts():
    """A simulation that is paused sends it again and again, for hours."""
    from rclpy.time import Time

    buffer = _buffer_of_this_tree()
    for second in (6, 8):
        buffer.set_transform(_link('base', 'camera', second), 'test')
    for x in range(100):
        buffer.set_transform(_link('base', 'camera', 7, x=float(x)), 'test')
    assert [stamp for stamp, _, _ in buffer._history['camera']] == [6e9, 7e9, 8e9]
    found = buffer.lookup_transform('base', 'camera', Time(seconds=7))
    assert found.transform.translation.x == 99.0


@pytest.mark.parametrize(('parent', 'child', 'x', 'quat_xyzw', 'taken'), [
    ('map', 'camera', 1.0, (0.0, 0.0, 0.0, 1.0), True),
    ('/map', '/camera', 1.0, (0.0, 0.0, 0.0, 1.0), True),
    ('map', 'camera', 1.0, (0.0, 0.0, 0.0, 0.0), False),
    ('map', 'camera', 1.0, (0.0, 0.0, 0.0, 1.2), False),
    ('map', 'camera', float('nan'), (0.0, 0.0, 0.0, 1.0), False),
    ('camera', 'camera', 1.0, (0.0, 0.0, 0.0, 1.0), False),
    ('', 'camera', 1.0, (0.0, 0.0, 0.0, 1.0), False)])
def test_a_transform_that_is_none_is_left_out(parent, child, x, quat_xyzw, taken):
    """As tf2 does, which then says that there is no transform; a slash in front is no name."""
    from geometry_msgs.msg import TransformStamped

    buffer, message = _buffer_of_this_tree(), TransformStamped(child_frame_id=child)
    message.header.frame_id, message.header.stamp.sec = parent, 1
    message.transform.translation.x = x
    for axis, value in zip('xyzw', quat_xyzw, strict=True):
        setattr(message.transform.rotation, axis, value)
    buffer.set_transform(message, '')
    assert buffer.can_transform('map', 'camera', message.header.stamp) == taken
