"""Markers and overlay: right, and free while nobody looks."""

import dataclasses
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from lifecycle_msgs.msg import Transition
from ros_client import node_fixture, values
from ros_frames import frame
from sensor_msgs.msg import Image
from stand_in_node import HALF_SIZE_M, box_object
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import make_transform
from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.meshes import read_mesh
from mrcnet_ros.ros.frames import Scene
from mrcnet_ros.ros.markers import Markers, has_materials
from mrcnet_ros.ros.messages import detection_3d, rgb_from_image, transform_from_pose

node = node_fixture(30, 'overlay_rate_hz:=1000.0')


def _listen(client, kind, topic):
    received = []
    client.subscribe(kind, topic, received.append, 1)
    return received


def test_nothing_is_drawn_while_nobody_looks(client):
    """/diagnostics has no time for markers or overlay, then it has."""
    assert client.answer(frame(1, ('duck',))) is not None
    reports = client.reports + 3  # OpenGL takes a while to start
    assert client.spin(lambda: client.reports >= reports)
    before = values(client.diagnosis('poses', 's old when published'))
    assert 'answering p50 [ms]' in before
    assert not {'markers p50 [ms]', 'overlay p50 [ms]'} & set(before)
    pictures = _listen(client, Image, 'overlay')
    client.send(*frame(2, ('duck',)))
    assert client.spin(lambda: pictures)
    # a report may have been made between the picture and the note of its time
    told = lambda: 'overlay p50 [ms]' in values(client.status['poses'])  # noqa: E731
    assert client.spin(told)
    after = values(client.status['poses'])
    assert float(after['overlay p50 [ms]']) > 0.0
    assert 'markers p50 [ms]' not in after


def test_markers_are_the_meshes_at_their_poses(client):
    """In the unit of the mesh file; an object that is gone takes its marker along."""
    received = _listen(client, MarkerArray, 'markers')
    answer = client.answer(frame(13, ('duck', 10.0), ('duck', 50.0)))
    assert client.spin(lambda: received)
    first, second = received[-1].markers
    assert (first.ns, second.ns) == ('duck', 'duck_2')
    assert first.header == answer.header
    for marker, detection in zip(received[-1].markers, answer.detections, strict=True):
        assert marker.pose == detection.results[0].pose.pose
        assert (marker.type, marker.action) == (Marker.MESH_RESOURCE, Marker.ADD)
        assert marker.lifetime.sec == 1
    url = urlparse(first.mesh_resource)
    assert url.scheme == 'file'
    mesh = read_mesh(Path(unquote(url.path)), first.scale.x)
    assert np.allclose(mesh.vertices.max(axis=0), 2 * HALF_SIZE_M)
    count = len(received)
    client.answer(frame(14, ('duck', 10.0)))
    assert client.spin(lambda: len(received) > count)
    assert [(m.ns, m.action) for m in received[-1].markers] == [
        ('duck_2', Marker.DELETE), ('duck', Marker.ADD)]


def test_an_object_smaller_than_its_mesh_has_a_marker_that_small(tmp_path):
    """Its pose is that of the real object, and so are its marker and its box."""
    model = dataclasses.replace(box_object(tmp_path, 'duck'), size_ratio=0.8)
    pose = PoseEstimate('duck', 1, make_transform(np.eye(3), [0, 0, 1]), 0.9, 0, '', np.zeros(4))
    scene = Scene(np.zeros((4, 4, 3), np.uint8), Camera(np.eye(3), 4, 4), ['duck'], [pose], 1)
    message = Markers().message(Header(), scene, {'duck': model}, lifetime_s=0.0, mesh_folder='')
    assert message.markers[0].scale.x == message.markers[0].scale.z == 0.8 * model.unit_m
    box = detection_3d(Header(), 'duck', pose, model.bounds()).bbox
    assert box.size.x == pytest.approx(0.8 * np.ptp(model.mesh_bounds()[:, 0]))


def test_a_mesh_without_material_has_an_opaque_colour_of_its_label(client):
    """RViz would draw it black or grey; the colour is that of the label, not of the instance."""
    received = _listen(client, MarkerArray, 'markers')
    client.answer(frame(16, ('duck', 10.0), ('duck', 50.0), ('brick', 31.0)))
    assert client.spin(lambda: received)
    colours = {m.ns: (m.color.r, m.color.g, m.color.b, m.color.a) for m in received[-1].markers}
    assert not any(m.mesh_use_embedded_materials for m in received[-1].markers)
    assert all(colour[3] == 1.0 and max(colour[:3]) > 0.5 for colour in colours.values())
    assert colours['duck'] == colours['duck_2'] != colours['brick']


@pytest.mark.parametrize(('name', 'files', 'expected'), [
    ('a.stl', {}, False),
    ('a.ply', {'a.ply': 'ply\nproperty uchar red\nend_header\n'}, False),
    ('a.ply', {'a.ply': 'ply\ncomment TextureFile a.png\nend_header\n'}, True),
    ('a.obj', {'a.obj': 'v 0 0 0\n'}, False),
    ('a.obj', {'a.obj': 'mtllib a.mtl\nusemtl red\n'}, False),
    ('a.obj', {'a.obj': 'mtllib a.mtl\nusemtl red\n', 'a.mtl': 'newmtl red\n'}, True),
    ('a.obj', {'a.obj': '\ufeffmtllib my lib.mtl\nusemtl red\n', 'my lib.mtl': ''}, True),
    ('a.obj', {'a.obj': 'mtllib a.mtl\n', 'a.mtl': 'newmtl red\n'}, False),
    ('a.dae', {}, True), ('gone.ply', {}, False),
])
def test_whether_rviz_finds_materials(tmp_path, name, files, expected):
    """A library that is missing or not used gives none; colours of vertices do not count."""
    for file, text in files.items():
        (tmp_path / file).write_text(text, encoding='utf-8')
    assert has_materials(tmp_path / name) == expected


def test_markers_are_taken_back_when_the_node_stops(client):
    """Also those that were to stay for ever."""
    received = _listen(client, MarkerArray, 'markers')
    assert client.set_parameter('marker_lifetime_s', 0.0).successful
    client.answer(frame(17, ('duck', 10.0), ('brick',)))
    assert client.spin(lambda: received)
    count = len(received)
    assert client.transition(Transition.TRANSITION_DEACTIVATE)
    assert client.spin(lambda: len(received) > count)
    assert [(m.ns, m.action) for m in received[-1].markers] == [
        ('brick', Marker.DELETE), ('duck', Marker.DELETE)]
    assert client.transition(Transition.TRANSITION_ACTIVATE)
    assert client.set_parameter('marker_lifetime_s', 1.0).successful


def test_the_overlay_is_the_image_with_the_objects_in_it(client):
    """Same size and stamp, changed where the object is, untouched elsewhere."""
    received = _listen(client, Image, 'overlay')
    messages = frame(25, ('duck', 100.0, 80.0, 60.0), size=(320, 240))
    pixels = np.full((240, 320, 3), 90, np.uint8)
    messages[0].data = pixels.tobytes()
    answer = client.answer(messages)
    assert client.spin(lambda: received)
    picture = rgb_from_image(received[-1])
    assert received[-1].header == answer.header
    assert picture.shape == pixels.shape
    T = transform_from_pose(answer.detections[0].results[0].pose.pose)
    focal, centre = 600.0, np.array([159.5, 119.5])
    origin = T[:2, 3] / T[2, 3] * focal + centre
    rows, columns = np.nonzero((picture != 90).any(axis=2))
    assert np.abs(columns - origin[0]).max() < 100 and np.abs(rows - origin[1]).max() < 60
    assert len(rows) > 100


def test_both_can_be_switched_off(client):
    """While somebody listens; markers that are shown are taken back."""
    pictures, markers = _listen(client, Image, 'overlay'), _listen(client, MarkerArray, 'markers')
    for name in ('publish_overlay', 'publish_markers'):
        assert client.set_parameter(name, False).successful
    assert client.answer(frame(26, ('duck',))) is not None
    client.spin(lambda: False, 0.5)
    assert not pictures
    assert all(m.action == Marker.DELETE for message in markers for m in message.markers)
    markers.clear()
    for name in ('publish_overlay', 'publish_markers'):
        assert client.set_parameter(name, True).successful
    assert client.answer(frame(27, ('duck',))) is not None
    assert client.spin(lambda: pictures and markers)


def test_a_mesh_that_cannot_be_drawn_costs_the_overlay_only(client, node):
    """Poses go on, the log names the file, and other objects are drawn again."""
    markers = _listen(client, MarkerArray, 'markers')
    client.answer(frame(28, ('duck',)))
    assert client.spin(lambda: markers)
    folder = Path(unquote(urlparse(markers[-1].markers[0].mesh_resource).path)).parent
    (folder / 'brick.ply').unlink()
    pictures = _listen(client, Image, 'overlay')
    assert len(client.answer(frame(29, ('brick',))).detections) == 1
    assert 'brick.ply' in node.wait_for_log('no markers or overlay')
    assert len(client.answer(frame(30, ('duck',))).detections) == 1
    assert client.spin(lambda: pictures)
