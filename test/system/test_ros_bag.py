"""Rosbags: written from a BOP dataset, replayed through the node, scored."""

import json
from collections import Counter

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')
pytest.importorskip('rosbags')

from bop_folder import bag_of, root_fixture
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray

from mrcnet_ros.datasets.bop import BopDataset, BopFrame
from mrcnet_ros.datasets.boxes import BoxSpec, target_boxes
from mrcnet_ros.errors import DatasetError, ImageError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import make_transform
from mrcnet_ros.ros import detection_reading, messages
from mrcnet_ros.specs import FORMAT_VERSION
from mrcnet_ros.testbench import bag as bag_module
from mrcnet_ros.testbench.bag import Truth, read_bag, restamped
from mrcnet_ros.testbench.bag_writer import BagWriter
from mrcnet_ros.testbench.bop_bag import bop_frames

dataset = root_fixture()


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_bag_holds_what_the_dataset_holds(dataset, storage):
    """Pixels, camera, boxes and poses come back as they were, in either file format."""
    code, bag = bag_of(dataset, '--storage', storage, '--box-jitter', '0.1', '--seed', '5')
    assert code == 0
    frames = BopDataset(dataset, 'toy', 'test').frames
    for original, recorded in zip(frames, read_bag(bag), strict=True):
        image = messages.rgb_from_image(deserialize_message(recorded.inputs['/image'], Image))
        assert np.array_equal(image, original.load_image())
        assert np.array_equal(recorded.camera().K, original.camera.K)
        assert [t.T_camera_object.tolist() for t in recorded.truths] == [
            pytest.approx(g.T_camera_object) for g in original.target_ground_truth()]
        boxes, _ = detection_reading.detections_from_message(
            deserialize_message(recorded.inputs['/detections'], Detection2DArray))
        expected = target_boxes(original, BoxSpec('visib', 0.1, 5))
        assert np.allclose([b.box_xyxy for b in boxes], [b.box_xyxy for b in expected])
        assert [b.label for b in boxes] == [
            f'obj_{b.ground_truth.object_id:06d}' for b in expected]


def test_other_programs_can_read_the_bag(dataset):
    """The definitions of its messages are in it, and stamps are at the rate asked for."""
    _, bag = bag_of(dataset, '--rate', '4')
    with AnyReader([bag]) as reader:
        found = [(c.topic, reader.deserialize(data, c.msgtype))
                 for c, _, data in reader.messages()]
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec
              for topic, m in found if topic == '/image']
    assert stamps == [250_000_000, 500_000_000]
    assert {topic for topic, _ in found} == {
        '/image', '/camera_info', '/detections', '/ground_truth'}


def test_an_existing_bag_is_not_overwritten(dataset, capsys):
    """The message names it."""
    assert bag_of(dataset)[0] == 0
    code, bag = bag_of(dataset)
    assert code == 2
    assert str(bag) in capsys.readouterr().err


@pytest.mark.parametrize('error', [KeyboardInterrupt, ImageError('image went bad')])
def test_a_bag_that_was_not_finished_is_not_there(dataset, monkeypatch, error):
    """It would be scored as a shorter one, and be in the way when it is written again."""
    load, done = BopFrame.load_image, []

    def broken(frame):
        if done:
            raise error
        done.append(frame)
        return load(frame)

    with monkeypatch.context() as patch:
        patch.setattr(BopFrame, 'load_image', broken)
        code, bag = bag_of(dataset)
    assert code != 0 and not [*dataset.glob('toy_bag*')]
    assert bag_of(dataset)[0] == 0 and len(read_bag(bag)) == 2
    assert [path.name for path in dataset.glob('toy_bag*')] == ['toy_bag']


def _rewritten(bag, path, keep=lambda topic, number: True, order=None, kinds=(),
               change=lambda topic, data: data):
    """Write the messages of a bag anew, some of them, in another order.

    :param kinds: of topics that are to have another type, or are added without messages.
    """
    with Reader(bag) as reader, Writer(path, version=9,
                                       storage_plugin=StoragePlugin.MCAP) as writer:
        types = {c.topic: c.msgtype for c in reader.connections} | dict(kinds)
        connections = {topic: writer.add_connection(topic, kind,
                                                    typestore=bag_module._type_store())
                       for topic, kind in types.items()}
        counts, kept = Counter(), []
        for connection, _, data in reader.messages():
            if keep(connection.topic, counts[connection.topic]):
                kept.append((connection.topic, change(connection.topic, bytes(data))))
            counts[connection.topic] += 1
        kept.sort(key=lambda message: order.index(message[0]) if order else 0)
        for number, (topic, data) in enumerate(kept):
            writer.write(connections[topic], 10**9 + number, data)
    return path


TOPICS = ['/image', '/camera_info', '/detections', '/ground_truth']


@pytest.mark.parametrize('order', [TOPICS, TOPICS[::-1], [*TOPICS[2:], *TOPICS[:2]]])
def test_the_order_of_messages_in_a_bag_does_not_matter(dataset, tmp_path, order):
    """All of a moment belong together, however far apart they were recorded."""
    _, bag = bag_of(dataset)
    wanted, found = read_bag(bag), read_bag(_rewritten(bag, tmp_path / 'mixed', order=order))
    assert [f.stamp_ns for f in found] == [f.stamp_ns for f in wanted]
    assert [f.inputs for f in found] == [f.inputs for f in wanted]
    assert [len(f.truths) for f in found] == [len(f.truths) for f in wanted]


def test_images_without_camera_info_are_counted_and_told(dataset, tmp_path, caplog):
    """The others are kept."""
    _, bag = bag_of(dataset)
    part = _rewritten(bag, tmp_path / 'part', lambda topic, n: topic != '/camera_info' or n > 0)
    found = read_bag(part)
    assert len(found) == 1 and found.incomplete == {'/camera_info': 1}
    assert 'of 2 images, 1 have no /camera_info of their stamp' in caplog.text
    none = _rewritten(bag, tmp_path / 'none', lambda topic, n: topic != '/camera_info')
    with pytest.raises(DatasetError, match='of 2 images, 2 have no /camera_info'):
        read_bag(none)


def test_messages_that_a_bag_has_lost_are_told(dataset, tmp_path, caplog):
    """Its metadata counts more than there are, as of a database that was copied while written."""
    _, bag = bag_of(dataset)
    path = bag / 'metadata.yaml'
    assert len(read_bag(bag)) == 2 and not caplog.text
    path.write_text(path.read_text().replace('message_count: 2', 'message_count: 7'))
    assert len(read_bag(bag)) == 2
    assert '7 messages of /image are counted in its metadata, 2 are there' in caplog.text


@pytest.mark.parametrize('whole', [True, False])
def test_ground_truth_in_another_frame_than_the_camera_is_refused(dataset, tmp_path, whole):
    """Poses in the world would be scored as if the camera saw them there; a slash is no name."""
    _, bag = bag_of(dataset)
    names = {deserialize_message(f.inputs['/image'], Image).header.frame_id
             for f in read_bag(bag)}

    def named(frame_id):
        def change(topic, data):
            if topic != '/ground_truth':
                return data
            message = deserialize_message(data, Detection3DArray)
            for header in [message.header] if whole else [d.header for d in message.detections]:
                header.frame_id = frame_id
            return serialize_message(message)
        return change

    for number, frame_id in enumerate(('', '/' + names.pop())):
        path = _rewritten(bag, tmp_path / f'good{number}', change=named(frame_id))
        assert len(read_bag(path)) == 2
    with pytest.raises(DatasetError, match=r"ground truth '7/4/1/0' has the frame_id 'world', the "
                                           'image .*must be in the frame of the camera'):
        read_bag(_rewritten(bag, tmp_path / 'world', change=named('world')))


@pytest.mark.parametrize(('T', 'problem'), [
    (make_transform(np.eye(3), [0, 0, 700.0]), r'z = 700 m.*in metres'),
    (make_transform(np.eye(3), [0, 0, 0.0007]), r'z = 0\.0007 m'),
    (make_transform(np.eye(3), [0, 0, -0.7]), 'in front of the camera'),
    (make_transform(np.eye(3), [0, 0, np.nan]), 'z = nan')])
def test_ground_truth_of_a_bag_that_cannot_be_is_named(tmp_path, T, problem):
    """Of a wrong unit, behind the camera, or no number."""
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write(1, np.zeros((4, 6, 3), np.uint8), Camera(np.eye(3), 6, 4), [],
                     [Truth('cup', '1/2/3/0', T, 1.0)])
    with pytest.raises(DatasetError, match=rf"ground truth '1/2/3/0' .*{problem}"):
        read_bag(tmp_path / 'bag')


@pytest.mark.parametrize(('topic', 'kind', 'expected'), [
    ('/ground_truth', 'geometry_msgs/msg/PoseArray', 'vision_msgs/msg/Detection3DArray'),
    ('/depth', 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/Image')])
def test_topics_of_another_type_are_named(dataset, tmp_path, topic, kind, expected):
    """They would be read as something else, or as nothing."""
    _, bag = bag_of(dataset)
    other = _rewritten(bag, tmp_path / 'other', kinds={topic: kind})
    with pytest.raises(DatasetError, match=f'{topic} is of type {kind}, expected {expected}'):
        read_bag(other)


@pytest.mark.parametrize('infos', [0, 10**8])
def test_stamps_that_a_driver_does_not_set_are_told(tmp_path, infos):
    """Images that all have the stamp 0 are not those of several cameras."""
    with BagWriter(tmp_path / 'bag') as writer:
        for value in (0, 9):
            writer.write(0, np.full((4, 6, 3), value, np.uint8), Camera(np.eye(3), 6, 4), [], [])
    bag = tmp_path / 'bag'
    if infos:  # of another driver, which sets them
        bag = _rewritten(
            bag, tmp_path / 'mixed', lambda topic, n: n == 0,
            change=lambda topic, data: restamped(data, infos) if topic == '/camera_info' else data)
    with pytest.raises(DatasetError, match='driver does not set stamps'):
        read_bag(bag)


def test_an_image_that_is_in_a_bag_twice_is_not_scored_twice(dataset):
    """As in a bag that was recorded while another one looped."""
    frames = list(read_bag(bag_of(dataset)[1]))
    with pytest.raises(DatasetError, match='image 4 of scene 7 is there twice'):
        bop_frames(dataset / 'bag', [*frames, frames[0]])


def test_labels_can_be_those_of_a_model(dataset):
    """So that a model whose objects have names can be replayed."""
    (dataset / 'model.json').write_text(json.dumps(
        {'format_version': FORMAT_VERSION, 'objects': [
            {'object_id': 1, 'label': 'ball'}, {'object_id': 3, 'label': 'cube'}]}))
    _, bag = bag_of(dataset, '--model', dataset)
    assert {t.label for frame in read_bag(bag) for t in frame.truths} == {'ball', 'cube'}


def test_a_message_with_another_stamp_is_otherwise_the_same():
    """Stamps are replaced in the serialized message."""
    info = CameraInfo(width=7, header=messages.header_at(1, 'camera'))
    changed = deserialize_message(restamped(serialize_message(info), 5_000_000_002), CameraInfo)
    assert messages.stamp_ns(changed.header) == 5_000_000_002
    assert (changed.width, changed.header.frame_id) == (7, 'camera')


@pytest.mark.parametrize('make', [
    lambda path: None,
    lambda path: path.mkdir(),
    lambda path: BagWriter(path).__exit__(None, None, None),
])
def test_a_bag_without_frames_is_an_error_that_names_it(tmp_path, make):
    """Missing, not a bag, or empty."""
    make(tmp_path / 'no.bag')
    with pytest.raises(DatasetError, match=r'no\.bag'):
        list(read_bag(tmp_path / 'no.bag'))


def test_a_bag_that_is_not_there_is_told_as_that(tmp_path):
    """No advice for a damaged one."""
    with pytest.raises(DatasetError, match=r'no\.bag: there is no such bag$'):
        read_bag(tmp_path / 'no.bag')


def test_a_camera_info_that_cannot_be_used_is_named_with_its_bag(dataset, tmp_path):
    """As in a recording of a camera that was not calibrated."""
    def uncalibrated(topic, data):
        if topic != '/camera_info':
            return data
        info = deserialize_message(data, CameraInfo)
        info.k[:] = 0.0
        return serialize_message(info)

    bag = _rewritten(bag_of(dataset)[1], tmp_path / 'other', change=uncalibrated)
    with pytest.raises(DatasetError, match=r'other: /camera_info at \d+ ns: .*calibrated'):
        read_bag(bag)
