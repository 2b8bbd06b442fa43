"""Messages of any detector are read: names, numbers, pixels of its network, other types."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from rclpy.qos import QoSProfile
from ros_frames import frame, hypothesis, isaac_message
from stand_in_node import BoxEstimator
from vision_msgs.msg import Detection2D, Detection2DArray

from mrcnet_ros.errors import SpecError
from mrcnet_ros.ros.box_watch import BoxWatch
from mrcnet_ros.ros.detection_reading import (
    FITS,
    DetectionSettings,
    check_labels,
    detections_from_message,
    image_box,
    message_type,
    settings_from,
)
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.silent_input import Expected, why_silent
from mrcnet_ros.ros.statuses import Account, pose_status

ROOT = Path(__file__).resolve().parents[2]
KNOWN = ('can', 'duck')


def _yolo(name='tin', number=39, x=30.0, y=20.0, size=(10.0, 8.0), theta=0.0):
    """Return an object with the attributes of yolo_msgs/Detection that are read."""
    return SimpleNamespace(
        class_id=number, class_name=name, score=0.7, id='5', bbox=SimpleNamespace(
            center=SimpleNamespace(position=SimpleNamespace(x=x, y=y), theta=theta),
            size=SimpleNamespace(x=size[0], y=size[1])))


def _read(message, label_map=(), known=KNOWN):
    detections, _ = detections_from_message(
        message, settings_from(label_map, (), 'stretch'), known=known)
    return [(d.label, d.score) for d in detections]


def test_a_map_names_the_numbers_and_names_it_has_and_leaves_the_others():
    """Spaces around names count for nothing; a name may hold an equals sign."""
    message = isaac_message(1, (0, 1, 1, 2, 2), (7, 1, 1, 2, 2))
    message.detections[1].results = [hypothesis('Tin=5', 0.5)]
    message.detections.append(Detection2D(results=[hypothesis('duck', 0.25)]))
    assert _read(message, (' 0 = can ', 'Tin=5=duck', '')) == [
        ('can', 0.8), ('duck', 0.5), ('duck', 0.25)]


def test_of_several_hypotheses_the_best_known_one_counts():
    """In any order, after the map; the best of all where none is known."""
    found = Detection2D(results=[hypothesis('person', 0.9), hypothesis('duck', 0.2),
                                 hypothesis('4', 0.3), hypothesis('duck', float('nan'))])
    message = Detection2DArray(detections=[found])
    assert _read(message) == [('duck', 0.2)]
    assert _read(message, ('4=can',)) == [('can', 0.3)]
    assert _read(message, known=()) == [('person', 0.9)]
    found.results.reverse()
    assert _read(message, ('4=can',)) == [('can', 0.3)]


@pytest.mark.parametrize(('entries', 'said'), [
    (('can',), "'can'"), (('=can',), "'=can'"), (('0=',), "'0='"),
    (('0=can', '0=duck'), 'two labels'),
])
def test_a_map_that_cannot_be_read_is_refused(entries, said):
    """With the entry, before anything is loaded."""
    with pytest.raises(SpecError, match=r'label_map.*' + said):
        NodeParameters(label_map=entries)


def test_a_label_in_the_map_that_the_model_lacks_is_refused():
    """With the labels it knows."""
    settings = settings_from(('0=can', '1=spoon'), (), 'stretch')
    with pytest.raises(SpecError, match=r"'1=spoon'.*can, duck"):
        check_labels(settings.label_map, KNOWN)


@pytest.mark.parametrize('size', [(640,), (640, 0), (-1, 5), (1, 2, 3)])
def test_a_size_that_is_none_is_refused(size):
    """It is width and height."""
    with pytest.raises(SpecError, match='detections_size'):
        NodeParameters(detections_size=size)


def _fitted(picture, size, fit):
    """Return a picture as a detector's preprocessing makes it, with OpenCV's own resize.

    It is made the way that Isaac ROS and Ultralytics describe: resize, then add bars.
    """
    width, height = size
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner = (width, height) if fit == 'stretch' else (
        round(scale * picture.shape[1]), round(scale * picture.shape[0]))
    made = cv2.resize(picture, inner, interpolation=cv2.INTER_LINEAR)
    right, below = width - inner[0], height - inner[1]
    left, above = (right // 2, below // 2) if fit == 'letterbox' else (0, 0)
    return cv2.copyMakeBorder(made, above, below - above, left, right - left,
                              cv2.BORDER_CONSTANT, value=0)


def _centre(picture):
    rows, columns = np.indices(picture.shape)
    total = picture.sum()
    return np.array([(columns * picture).sum(), (rows * picture).sum()]) / total


@pytest.mark.parametrize('fit', FITS)
@pytest.mark.parametrize(('image', 'network'), [
    ((160, 120), (64, 64)), ((120, 160), (64, 64)), ((64, 48), (128, 128)), ((100, 60), (50, 60)),
])
def test_a_spot_is_found_where_it_is_in_the_image(fit, image, network):
    """A blurred spot keeps its centre through OpenCV's resize and back, to 0.02 px."""
    columns, rows = np.meshgrid(np.arange(image[0]), np.arange(image[1]))
    truth = np.array([0.4 * image[0], 0.6 * image[1]])
    spot = np.exp(-((columns - truth[0]) ** 2 + (rows - truth[1]) ** 2) / (2 * 5.0**2))
    seen = _centre(_fitted(spot, network, fit))
    box = image_box(np.tile(seen, 2), DetectionSettings(size=network, fit=fit), image)
    assert np.allclose(box[:2], truth, atol=0.02)


@pytest.mark.parametrize('fit', FITS)
def test_pixels_go_there_and_back(fit):
    """The map from image to network and the one back undo each other, for any sizes.

    Swapping the sizes undoes a stretch. Otherwise lengths tell the scale and the middle the bars.
    """
    rng = np.random.default_rng(5)
    for _ in range(50):
        image, network = (tuple(int(n) for n in rng.integers(20, 2000, 2)) for _ in range(2))
        settings = DetectionSettings(size=network, fit=fit)
        scale = np.array(network) / image
        if fit != 'stretch':
            scale[:] = scale.min()
        bars = (network - scale * image) * {'letterbox': 0.5}.get(fit, 0.0)
        box = rng.uniform(-10, 2000, (2, 2))
        sent = (box + 0.5) * scale - 0.5 + bars
        assert np.allclose(image_box(sent.ravel(), settings, image), box.ravel())


def test_without_a_size_boxes_stay_as_they_are():
    """To the bit, also with a size that is the image's."""
    box = np.array([0.1, 0.2, 30.3, 40.4])
    assert (image_box(box, DetectionSettings(), (64, 48)) == box).all()
    for fit in FITS:
        same = image_box(box, DetectionSettings(size=(64, 48), fit=fit), (64, 48))
        assert (same == box).all()


def test_a_turned_box_is_stretched_after_the_upright_one_around_it_was_taken():
    """A square on its corner, in a network twice as wide as the image."""
    message = SimpleNamespace(detections=[_yolo(size=(10.0, 10.0), theta=np.pi / 4)])
    found, = detections_from_message(
        message, settings_from((), (200, 100), 'stretch'), image_size=(100, 100))[0]
    x1, y1, x2, y2 = found.box_xyxy
    assert np.allclose([x2 - x1, y2 - y1], [10 / np.sqrt(2), 10 * np.sqrt(2)])


def test_a_message_of_yolo_ros_is_read():
    """Name, number, score, box and id of its tracker; the map may use name or number."""
    message = SimpleNamespace(detections=[_yolo(), _yolo(name='')])
    first, second = detections_from_message(message)[0]
    assert first.box_xyxy.tolist() == [25.0, 16.0, 35.0, 24.0]
    assert (first.label, first.score, first.detection_id) == ('tin', 0.7, '5')
    assert second.label == '39'
    assert [label for label, _ in _read(message, ('tin=can',))] == ['can', '39']
    assert [label for label, _ in _read(message, ('39=duck',))] == ['duck', 'duck']
    assert [label for label, _ in _read(message, ('39=duck', 'tin=can'))] == ['can', 'duck']


def test_messages_of_yolo_ros_are_imported_when_they_are_asked_for(monkeypatch):
    """Without the package the error names it and what to do."""
    assert message_type('vision_msgs') is Detection2DArray
    monkeypatch.setitem(sys.modules, 'yolo_msgs', None)
    with pytest.raises(SpecError, match=r'yolo_msgs.*install'):
        message_type('yolo_msgs')
    module = ModuleType('yolo_msgs.msg')
    module.DetectionArray = type('DetectionArray', (), {})
    monkeypatch.setitem(sys.modules, 'yolo_msgs', ModuleType('yolo_msgs'))
    monkeypatch.setitem(sys.modules, 'yolo_msgs.msg', module)
    assert message_type('yolo_msgs') is module.DetectionArray


def _watched(boxes, image=(1280, 720), settings=None, *, nameless=False, frames=20):
    """Return what is said of frames that all have the same boxes, centre x, y and size."""
    watch = BoxWatch(lambda: 1.0)
    for _ in range(frames):
        watch.see([np.array([x - s / 2, y - s / 2, x + s / 2, y + s / 2]) for x, y, s in boxes],
                  image, settings or DetectionSettings(), nameless=nameless)
    problem = watch.problem()
    return problem.text if problem else ''


def test_boxes_in_a_corner_are_told_where_they_look_like_another_resolution():
    """Objects all over a network's 640 px, or one of a detector that names no frame."""
    everywhere = [(60, 200, 80), (600, 450, 70), (300, 300, 90)]
    said = _watched(everywhere)
    assert 'upper left' in said and 'detections_size' in said and '[640, 640]' in said
    assert 'detections_size' in _watched([(300, 300, 90)], nameless=True)
    assert _watched([(300, 300, 90)]) == ''
    assert _watched([*everywhere, (1200, 300, 90)]) == ''
    assert _watched(everywhere, frames=2) == ''
    assert _watched(everywhere, settings=DetectionSettings(size=(640, 640))) == ''


def test_boxes_outside_the_image_are_told():
    """A network that is larger than the image, or a size that is not the detector's."""
    below = [(300, 520, 80), (100, 100, 50)]
    assert '[640, 640]' in _watched(below, (640, 480))
    said = _watched(below, (640, 480), DetectionSettings(size=(320, 320), fit='letterbox'))
    assert '[320, 320]' in said and "'letterbox'" in said
    assert _watched([(620, 470, 60)], (640, 480)) == ''


def test_what_is_said_of_boxes_ends_with_them():
    """A detector that was put right is not accused any longer."""
    now = [0.0]
    watch = BoxWatch(lambda: now[0])
    boxes = [np.array([600.0, 500.0, 640.0, 540.0])] * 20
    watch.see(boxes, (640, 480), DetectionSettings(), nameless=True)
    assert watch.problem() is not None
    now[0] = 100.0
    assert watch.problem() is None
    watch.see(boxes, (640, 480), DetectionSettings(), nameless=True)
    watch.see([], (640, 480), DetectionSettings(size=(640, 640)), nameless=True)
    assert watch.problem() is None


def test_classes_that_a_map_leaves_out_are_no_warning_while_there_are_poses():
    """A detector of eighty classes sees many that nobody wants; they are counted."""
    mapped, limits = NodeParameters(label_map=('0=duck',)), NodeParameters()
    for parameters, poses, warned in ((mapped, 3, False), (mapped, 0, True), (limits, 3, True)):
        recent = {'frames': 5, 'detections': 9, 'unknown_label': 6, 'poses': poses}
        status = pose_status(Account(10.0, recent, recent, {}, {}), parameters, None)
        assert ('unknown_label' in status.message) == warned
        assert status.values['dropped unknown_label'] == '6'


def test_another_type_of_detections_is_told_with_the_parameter_that_takes_it():
    """A node of yolo_ros in front of a node that expects the usual message."""
    publisher = SimpleNamespace(topic_type='yolo_msgs/msg/DetectionArray')
    expected = Expected('/boxes', Detection2DArray, QoSProfile(depth=1))
    said = why_silent('detections', expected, [publisher])
    assert 'yolo_msgs/msg/DetectionArray' in said and 'detections_type' in said


def _rtdetr(stamp):
    """Return what Isaac ROS's RT-DETR decoder publishes: numbers, in pixels of the image."""
    message = isaac_message(stamp, (1, 31.5, 23.5, 30.0, 30.0))
    message.header.frame_id = message.detections[0].header.frame_id = 'camera_optical'
    return message


def _yolo_ros(stamp):
    """Return a message like yolo_msgs/DetectionArray, with the header of the image."""
    return SimpleNamespace(header=frame(stamp)[0].header, detections=[
        _yolo(name='tin', x=31.5, y=23.5, size=(30.0, 30.0))])


@pytest.mark.parametrize(('message', 'parameters'), [
    (isaac_message(1, (0, 63.5, 63.5, 60, 60)), {
        'label_map': ('0=duck',), 'detections_size': (128, 128), 'detections_fit': 'letterbox'}),
    (_rtdetr(1), {'label_map': ('1=duck',)}),
    (_yolo_ros(1), {'label_map': ('tin=duck',), 'detections_type': 'yolo_msgs'}),
], ids=['isaac_ros_yolov8', 'isaac_ros_rtdetr', 'yolo_ros'])
def test_each_detector_of_the_page_gives_the_pose_that_our_own_labels_give(message, parameters):
    """With the parameters of docs/detectors.md, to the last digits."""
    estimator = BoxEstimator()
    bounds = {label: np.stack([-np.ones(3), np.ones(3)]) for label in estimator.objects}
    handler = FrameHandler(estimator, bounds, DropCounters(lambda *_: None), compressed=False)
    own = frame(1, ('duck', 31.5, 23.5, 30.0, 0.8))
    wanted, = handler.answer(Frame(*own), NodeParameters()).measured
    found, = handler.answer(Frame(own[0], own[1], message), NodeParameters(**parameters)).measured
    assert found.label == 'duck'
    assert np.allclose(found.T_camera_object, wanted.T_camera_object, atol=1e-12)
    assert np.allclose(found.box_xyxy, wanted.box_xyxy, atol=1e-12)


def test_the_page_names_only_parameters_that_exist():
    """Its examples are parameters of the node with values that can be used."""
    page = (ROOT / 'docs/detectors.md').read_text(encoding='utf-8')
    blocks = re.findall(r'```yaml\n(.*?)```', page, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        given = yaml.safe_load(block)['/**']['ros__parameters']
        NodeParameters(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


def test_a_fit_into_no_picture_is_told():
    """It is ignored without detections_size, and every box may be wrong."""
    doubt, = NodeParameters(detections_fit='letterbox').doubts()
    assert "detections_fit 'letterbox' is without effect: detections_size is empty" in doubt
    for given in ({'detections_size': (640, 640)}, {'detector': 'd'}):
        assert NodeParameters(detections_fit='letterbox', **given).doubts() == []
