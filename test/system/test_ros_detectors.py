"""Any detector over DDS: its names, numbers and pixels, and the example of a detector node."""

import os
import textwrap
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_client import node_fixture, ready_node
from ros_frames import frame, isaac_message
from ros_process import NodeProcess, double_node, own_domain

from mrcnet_ros.errors import SpecError
from mrcnet_ros.ros.detection_reading import message_type

ROOT = Path(__file__).resolve().parents[2]

node = node_fixture(150, "label_map:=['0=duck']", 'detections_size:=[128, 128]',
                    'detections_fit:=letterbox')


def _isaac_frame(number, *boxes):
    """Return a frame of 64x48 px of the camera, with boxes of a network of 128x128 px."""
    image, info, _ = frame(number)
    return image, info, isaac_message(number, *boxes)


def _depths(answer):
    return [(d.results[0].hypothesis.class_id, d.results[0].pose.pose.position.z)
            for d in answer.detections]


def test_over_dds_numbers_and_network_pixels_give_the_pose_of_the_image(client):
    """As Isaac ROS's YOLOv8 decoder sends them; the pose is that of a detector of our own."""
    # scale 2 and bars of 16 px above and below: (31.5, 23.5) is at (63.5, 63.5)
    mapped = client.answer(_isaac_frame(1, (0, 63.5, 63.5, 60, 60)))
    reference = client.answer(frame(2, ('duck', 31.5, 23.5, 30.0)))  # in pixels of the network
    (label, depth), = _depths(mapped)
    assert label == 'duck' and depth == pytest.approx(0.1 * 600 / 30)
    position = mapped.detections[0].results[0].pose.pose.position
    assert (position.x, position.y) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert mapped.header.frame_id == 'camera_optical'
    assert _depths(reference)[0][1] == pytest.approx(2 * depth)


def test_over_dds_the_map_may_change_while_the_node_runs(client):
    """Also to none; a label that the model lacks is refused with those it knows."""
    refused = client.set_parameter('label_map', ['0=spoon'])
    assert not refused.successful
    assert "'0=spoon'" in refused.reason and 'brick, can, duck' in refused.reason
    assert not client.set_parameter('label_map', ['duck']).successful
    assert not client.set_parameter('label_map', [3]).successful
    assert client.set_parameter('label_map', ['0=can']).successful
    assert _depths(client.answer(_isaac_frame(11, (0, 63.5, 63.5, 60, 60))))[0][0] == 'can'
    assert client.set_parameter('label_map', []).successful
    assert _depths(client.answer(_isaac_frame(12, (0, 63.5, 63.5, 60, 60)))) == []
    assert not client.set_parameter('label_map', None).successful
    assert client.set_parameter('label_map', ['0=duck']).successful
    assert client.set_parameter('detections_size', []).successful
    client.diagnosis('poses', "detections_fit 'letterbox' is without effect")
    assert _depths(client.answer(_isaac_frame(13, (0, 31.5, 23.5, 30, 30))))[0][0] == 'duck'
    assert client.set_parameter('detections_size', [128, 128]).successful


def test_over_dds_model_and_map_change_together(client):
    """Or neither, when the other model lacks a label of the map."""
    refused = client.set_model(model='far', label_map=['0=spoon'])
    assert not refused.successful and 'brick, can, duck' in refused.reason
    assert not client.set_model(label_map=['duck']).successful
    assert client.set_model(model='far', label_map=['5=duck']).successful
    answer = client.answer(_isaac_frame(31, (0, 63.5, 63.5, 60, 60), (5, 63.5, 63.5, 60, 60)))
    assert _depths(answer) == [('duck', pytest.approx(2 * 0.1 * 600 / 30))]
    assert client.set_model(model='', label_map=['0=duck']).successful


def test_over_dds_numbers_and_boxes_of_another_picture_are_told():
    """With the parameters that put it right."""
    with ready_node(151) as (_, client):
        for number in range(1, 13):
            assert client.answer(_isaac_frame(number, (0, 63.5, 63.5, 60, 60))) is not None
        told = client.diagnosis('poses', 'unknown_label')
        assert 'label_map' in told.message and "['0=brick']" in told.message
        assert 'detections_size' in client.diagnosis('poses', 'centred outside').message


@pytest.mark.parametrize(('parameter', 'said'), [
    ("label_map:=['0=spoon']", "'0=spoon'"), ('detections_type:=yolo_msgs', 'yolo_msgs'),
])
def test_over_dds_what_does_not_fit_the_model_is_told_at_configure(parameter, said):
    """The node stays alive and says what there is."""
    if 'yolo' in parameter:
        try:
            message_type('yolo_msgs')
        except SpecError:
            pass
        else:
            pytest.skip('yolo_msgs is installed')
    with double_node(own_domain(152), parameter) as process:
        assert said in process.wait_for_log('parameter ')
        process.wait_for_log('the node has not started')
        assert process.stop() == 0


@pytest.mark.parametrize('parameter', ['detections_size:=[640]', "label_map:=['can']",
                                       'label_map:=can', 'detections_size:=[1.5, 2.0]'])
def test_lists_that_cannot_be_used_end_the_start_with_their_name(parameter):
    """Before a model is loaded."""
    with double_node(own_domain(153), parameter) as process:
        process.wait_for_log(f'parameter {parameter.split(":")[0]}')
        assert process.wait() == 2


def test_the_example_makes_a_detector_of_a_python_function(tmp_path):
    """Its boxes are of the image that the function saw; the node answers without another."""
    (tmp_path / 'finder.py').write_text(textwrap.dedent('''
        import numpy as np

        def find(image_rgb):
            rows, columns = np.nonzero(image_rgb[..., 0] > 200)
            if not rows.size:
                raise ValueError('nothing is red')
            edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            return [('red part', np.float32(0.5), *edges)]
        '''))
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get('PYTHONPATH', '')])
    example = [str(ROOT / 'examples/detector_bridge.py'), 'finder:find']
    with (ready_node(154, "label_map:=['red part=duck']") as (process, client),
          NodeProcess(example, process.domain, {'PYTHONPATH': path}) as bridge):
        number = 0
        while not client.answers and number < 200:  # until all have found one another
            number += 1
            image, info, _ = frame(number)
            pixels = np.zeros((48, 64, 3), np.uint8)
            if number != 1:
                pixels[10:30, 20:40, 0] = 255
            image.data = pixels.tobytes() + bytes(7)  # as of a driver that fills up its buffer
            client.is_answered((image, info), 0.5)
        answer = client.answers[0]
        found, = answer.detections
        assert 1 < answer.header.stamp.sec <= number
        assert found.results[0].hypothesis.class_id == 'duck'
        assert found.results[0].pose.pose.position.z == pytest.approx(0.1 * 600 / 20)
        client.send(frame(1000)[0])
        assert 'nothing is red' in bridge.wait_for_log('no detections')
        assert bridge.stop() == 0


def test_the_example_says_what_it_cannot_use():
    """A function that is not there."""
    with NodeProcess([str(ROOT / 'examples/detector_bridge.py'), 'json:nothing'], 1) as bridge:
        bridge.wait_for_log('json:nothing cannot be used')
        assert bridge.wait() == 2
