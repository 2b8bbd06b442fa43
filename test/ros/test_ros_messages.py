"""Conversions between messages and what the estimator knows; no node runs."""

import dataclasses
import struct
import subprocess
import sys
import threading
import zlib

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_support import environment, frame
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from mrcnet_ros.errors import CameraError, ImageError, UnknownLabelError
from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_from_quat_wxyz
from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.ros import detection_reading, messages
from mrcnet_ros.ros.depth_image import depth_from_compressed
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.frame_queue import FrameQueue

NAN = float('nan')


def _image(pixels, encoding, pad=0):
    rows = np.pad(pixels.reshape(len(pixels), -1), ((0, 0), (0, pad)))
    return Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                 step=rows.shape[1], data=rows.tobytes())


@pytest.fixture
def rgb():
    return np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(('encoding', 'order'), [
    ('rgb8', [0, 1, 2]), ('bgr8', [2, 1, 0]), ('8UC3', [2, 1, 0]),
    ('rgba8', [0, 1, 2, 0]), ('bgra8', [2, 1, 0, 0]),
])
@pytest.mark.parametrize('pad', [0, 5])
def test_an_image_is_rgb_inside_whatever_the_camera_sends(rgb, encoding, order, pad):
    """Convention: 8UC3 is read as BGR; padded rows are no obstacle."""
    got = messages.rgb_from_image(_image(rgb[..., order], encoding, pad))
    assert np.array_equal(got, rgb)
    assert got.flags.c_contiguous


@pytest.mark.parametrize('encoding', messages.RGB_SOURCES)
def test_every_listed_encoding_can_be_read(encoding):
    """A picture of one grey is that grey in all of them."""
    channels = {'mono8': 1, 'rgba8': 4, 'bgra8': 4}.get(encoding, 1 if 'bayer' in encoding else 3)
    grey = np.full((8, 10, channels), 77, np.uint8)
    got = messages.rgb_from_image(_image(grey, encoding))
    assert got.shape == (8, 10, 3) and (got == 77).all()


@pytest.mark.parametrize(('order', 'red'), [
    ('rggb', (0, 0)), ('grbg', (0, 1)), ('gbrg', (1, 0)), ('bggr', (1, 1))])
def test_a_mosaic_is_named_by_its_first_two_rows(order, red):
    """Of a red picture only the pixels under red filters are bright."""
    mosaic = np.zeros((8, 10, 1), np.uint8)
    mosaic[red[0]::2, red[1]::2] = 200
    got = messages.rgb_from_image(_image(mosaic, f'bayer_{order}8', pad=3))
    assert (got[2:-2, 2:-2] == (200, 0, 0)).all()


def test_pixels_do_not_depend_on_the_release_of_cv_bridge():
    """That of ROS shears images with padded rows, and cannot read compressed grey ones."""
    program = "import sys; sys.modules['cv_bridge'] = None; import mrcnet_ros.ros.messages"
    subprocess.run([sys.executable, '-c', program], env=environment(1), check=True)


@pytest.mark.parametrize('kind', ['.jpg', '.png'])
def test_a_compressed_grey_image_is_read_as_colour(kind):
    """Cameras without colour send such."""
    grey = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[:, None], 32, axis=1)
    data = cv2.imencode(kind, grey)[1].tobytes()
    got = messages.rgb_from_compressed(CompressedImage(format=kind, data=data))
    assert got.shape == (24, 32, 3) and got.flags.c_contiguous
    assert np.abs(got.astype(int) - grey[..., None]).max() <= 8


def test_a_compressed_image_is_not_turned_by_what_exif_says():
    """The pixels of camera_info are those of the sensor."""
    pillow = pytest.importorskip('PIL.Image')
    import io

    exif, file = pillow.Exif(), io.BytesIO()
    exif[0x0112] = 6
    pillow.new('RGB', (32, 16), (200, 0, 0)).save(file, 'JPEG', exif=exif)
    got = messages.rgb_from_compressed(CompressedImage(data=file.getvalue()))
    assert got.shape == (16, 32, 3)
    assert np.abs(got.astype(int) - (200, 0, 0)).max() <= 8


@pytest.mark.parametrize('name', ['mono16', 'bgr16', 'rgb16', 'rgba16', 'bgra16', '16UC1',
                                  '32FC1'])
def test_compressed_images_of_more_than_eight_bits_are_refused(name):
    """Whatever was made of them by then: 12 bits in 16 are nearly black in 8."""
    for data in (cv2.imencode('.png', np.full((4, 6), 3000, np.uint16))[1].tobytes(),
                 cv2.imencode('.jpg', np.full((4, 6, 3), 12, np.uint8))[1].tobytes()):
        with pytest.raises(ImageError, match=rf'{name}.*encoding of 8 bits'):
            messages.rgb_from_compressed(CompressedImage(format=f'{name}; compressed', data=data))


@pytest.mark.parametrize('name', ['', 'png', 'rgb8; png compressed bgr8'])
def test_sixteen_bits_are_refused_whatever_the_format_says(name):
    """What counts is what the data hold."""
    data = cv2.imencode('.png', np.full((4, 6, 3), 3000, np.uint16))[1].tobytes()
    with pytest.raises(ImageError, match='has 16 bits a channel, expected 8'):
        messages.rgb_from_compressed(CompressedImage(format=name, data=data))


def test_a_compressed_image_that_is_cut_off_is_refused():
    """Its rest would be grey."""
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    for kind in ('.jpg', '.png'):
        data = cv2.imencode(kind, pixels)[1].tobytes()
        with pytest.raises(ImageError, match='no image or a part of one'):
            messages.rgb_from_compressed(CompressedImage(data=data[:len(data) // 2]))


def test_a_compressed_mosaic_is_read_as_colour():
    """Unless it was made colour before; one of 16 bits is refused as the raw one is."""
    mosaic = np.zeros((8, 10), np.uint8)
    mosaic[::2, 1::2] = 200
    data = cv2.imencode('.png', mosaic)[1].tobytes()
    got = messages.rgb_from_compressed(
        CompressedImage(format='bayer_grbg8; png compressed ', data=data))
    assert (got[2:-2, 2:-2] == (200, 0, 0)).all()
    data = cv2.imencode('.png', np.full((8, 10, 3), (0, 0, 200), np.uint8))[1].tobytes()
    got = messages.rgb_from_compressed(
        CompressedImage(format='bayer_grbg8; jpeg compressed bgr8', data=data))
    assert (got == (200, 0, 0)).all()
    with pytest.raises(ImageError, match='bayer_grbg16'):
        messages.rgb_from_compressed(
            CompressedImage(format='bayer_grbg16; png compressed ', data=data))


@pytest.mark.parametrize('data', [b'', b'no image', b'\xff\xd8\xff'])
def test_a_compressed_image_that_cannot_be_read_says_so(data):
    """With the format that it claims."""
    with pytest.raises(ImageError, match='jpeg'):
        messages.rgb_from_compressed(CompressedImage(format='jpeg', data=data))


@pytest.mark.parametrize(('encoding', 'change'), [
    ('rgb16', {}), ('', {}), ('rgb8', {'step': 4}), ('rgb8', {'height': 50}),
    ('rgb8', {'width': 0}), ('mono8', {'height': 0}),
])
def test_an_image_that_cannot_be_read_says_why(rgb, encoding, change):
    """The error names the encoding."""
    message = _image(rgb, encoding)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageError, match=encoding or "''"):
        messages.rgb_from_image(message)


def _info(**fields):
    K = [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
    return CameraInfo(**{'width': 640, 'height': 480, 'k': K, **fields})


@pytest.mark.parametrize(('model', 'coefficients', 'expected'), [
    ('plumb_bob', [0.0] * 5, ('none', ())),
    ('', [], ('none', ())),
    ('plumb_bob', [0.1, 0.2, 0.0, 0.0, 0.3], ('plumb_bob', (0.1, 0.2, 0.0, 0.0, 0.3))),
    ('rational_polynomial', [0.1] * 8 + [0.0] * 4, ('rational_polynomial', (0.1,) * 8)),
    ('equidistant', [0.1] * 4, ('equidistant', (0.1,) * 4)),
    ('equidistant', [0.0] * 4, ('equidistant', (0.0,) * 4)),
    ('plumb_bob', [], ('none', ())),
])
def test_the_lens_of_camera_info_is_kept(model, coefficients, expected):
    """A polynomial of zeros is none, equidistant a fisheye; more zeros do not matter."""
    camera = messages.camera_from_info(_info(distortion_model=model, d=coefficients))
    assert (camera.distortion_model, camera.distortion) == expected


def test_of_a_rectified_image_the_projection_counts():
    """It has no distortion left; a driver that leaves P empty means K."""
    P = [400.0, 0.0, 310.0, -40.0, 0.0, 420.0, 250.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    lens = {'distortion_model': 'plumb_bob', 'd': [0.3] * 5}
    camera = messages.camera_from_info(_info(p=P, **lens), rectified=True)
    assert camera.K.tolist() == [[400.0, 0.0, 310.0], [0.0, 420.0, 250.0], [0.0, 0.0, 1.0]]
    assert (camera.distortion_model, camera.distortion) == ('none', ())
    assert messages.camera_from_info(_info(**lens), rectified=True).K[0, 0] == 500.0
    raw = messages.camera_from_info(_info(p=P, **lens))
    assert raw.K[0, 0] == 500.0 and raw.distortion == (0.3,) * 5


def test_binning_and_region_of_interest_move_the_pixels_not_the_rays():
    """The ray through a pixel of the reduced image is that of the same spot in the full one."""
    full = messages.camera_from_info(_info())
    info = _info(binning_x=2, binning_y=2)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 50, 200, 120
    reduced = messages.camera_from_info(info)
    assert (reduced.width, reduced.height) == (100, 60)
    uv = np.array([30.0, 20.0])
    in_full = (uv + 0.5) * 2 - 0.5 + (100, 50)
    assert np.allclose(reduced.unproject(uv), full.unproject(in_full))


@pytest.mark.parametrize('info', [
    CameraInfo(), _info(k=[0.0] * 9), _info(width=0), _info(distortion_model='magic', d=[1.0]),
    _info(k=[NAN] * 9),
])
def test_camera_info_that_cannot_be_used_is_refused(info):
    """An uncalibrated camera has zeros."""
    with pytest.raises(CameraError):
        messages.camera_from_info(info)


@pytest.mark.parametrize(('model', 'coefficients', 'named'), [
    ('fisheye', [0.0] * 4, "'fisheye'.*equidistant"), ('kannala_brandt', [], "'kannala_brandt'"),
    ('Plumb_Bob', [0.0] * 5, "'Plumb_Bob'"), ('', [0.0] * 5, "''.*5 numbers"),
    ('equidistant', [], 'got 0'), ('equidistant', [0.0] * 3, 'got 3'),
    ('plumb_bob', [0.0] * 2, '4 or 5 coefficients, got 2'),
    ('plumb_bob', [0.1] * 8, '4 or 5 coefficients, got 8'),
    ('rational_polynomial', [0.1] * 5, '8 coefficients, got 5'),
    ('rational_polynomial', [0.0] * 8 + [0.1], 'got 9'),
    ('plumb_bob', [0.1, NAN, 0.0, 0.0, 0.0], 'finite'),
    ('plumb_bob', [0.0] * 5 + [NAN], 'got 6'), ('plumb_bob', [0.0] * 4 + [np.inf], 'finite'),
])
def test_a_lens_that_is_not_known_is_refused_whatever_its_numbers(model, coefficients, named):
    """The error names the model or what is wrong with the coefficients."""
    with pytest.raises(CameraError, match=named):
        messages.camera_from_info(_info(distortion_model=model, d=coefficients))


@pytest.mark.parametrize('roi', [
    (0, 0, 640, 0), (10, 0, 0, 0), (600, 0, 100, 480), (0, 400, 640, 100), (0, 0, 1280, 960)])
def test_a_region_that_is_no_part_of_the_sensor_is_refused(roi):
    """Pixels would be moved by a corner that means something else."""
    info = _info()
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = roi
    with pytest.raises(CameraError, match='roi of camera_info is'):
        messages.camera_from_info(info)


@pytest.mark.parametrize(('index', 'value', 'named'), [
    (0, 0.0, 'fx=0'), (4, -500.0, 'fy=-500'), (0, NAN, 'finite'), (5, np.inf, 'finite'),
    (3, 1.0, 'upper triangular'), (8, 0.0, r'K\[2,2\]'), (1, 3.0, 'no skew')])
def test_a_camera_matrix_that_cannot_be_is_refused(index, value, named):
    """Focal lengths of zero or below, what is not finite, and skew beside a distortion."""
    info = _info(distortion_model='plumb_bob', d=[0.1] * 5)
    info.k[index] = value
    with pytest.raises(CameraError, match=named):
        messages.camera_from_info(info)


def test_camera_info_of_another_image_size_is_refused(rgb):
    """Poses would be wrong without anyone noticing."""
    with pytest.raises(CameraError, match='7x5'):
        messages.check_camera_fits(rgb, messages.camera_from_info(_info()))


def test_a_box_is_centre_and_size():
    """Class, score and id come along; a detection without a hypothesis is left out."""
    _, _, boxes = frame(1, ('duck', 10.0, 20.0, 6.0, 0.4, 'x'), ('can',))
    boxes.detections[1].results = []
    detections, unlabelled = detection_reading.detections_from_message(boxes)
    assert unlabelled == 1
    assert detections[0].box_xyxy.tolist() == [7.0, 17.0, 13.0, 23.0]
    assert (detections[0].label, detections[0].score) == ('duck', 0.4)
    assert detections[0].detection_id == 'x'


@pytest.mark.parametrize(('theta', 'expected'), [
    (0.0, (100.0, 20.0)), (np.pi / 2, (20.0, 100.0)), (-np.pi / 2, (20.0, 100.0)),
    (np.pi / 4, (120 / np.sqrt(2), 120 / np.sqrt(2))),
])
def test_of_a_turned_box_the_upright_one_around_it_is_taken(theta, expected):
    """The object is in it, whatever the detector's boxes are."""
    boxes = frame(1, ('duck', 200.0, 150.0))[2]
    box = boxes.detections[0].bbox
    box.size_x, box.size_y, box.center.theta = 100.0, 20.0, float(theta)
    x1, y1, x2, y2 = detection_reading.detections_from_message(boxes)[0][0].box_xyxy
    assert (x2 - x1, y2 - y1) == pytest.approx(expected)
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((200.0, 150.0))


def _estimate(T, label='duck', detection_id=''):
    return PoseEstimate(label, 9, T, np.float32(0.5), 0, detection_id, np.zeros(4))


def test_a_pose_survives_the_message():
    """As position and quaternion x y z w, in Python's own numbers."""
    rng = np.random.default_rng(0)
    T = make_transform(exp_so3(rng.normal(size=3)), rng.normal(size=3))
    pose = messages.pose_from_transform(T)
    q = pose.orientation
    assert np.allclose(rotation_from_quat_wxyz([q.w, q.x, q.y, q.z]), T[:3, :3])
    assert np.allclose([pose.position.x, pose.position.y, pose.position.z], T[:3, 3])
    assert type(q.w) is float


def test_the_box_of_a_detection_turns_with_the_object():
    """Its centre is the middle of the mesh, its size is along the object's own axes."""
    T = make_transform(exp_so3([0.0, 0.0, np.pi / 2]), [0.0, 0.0, 1.0])
    bounds = np.array([[0.0, -0.1, -0.1], [0.4, 0.1, 0.1]])
    box = messages.detection_3d(frame(1)[0].header, 'duck_2', _estimate(T), bounds).bbox
    position = box.center.position
    assert np.allclose([position.x, position.y, position.z], [0.0, 0.2, 1.0])
    assert np.allclose([box.size.x, box.size.y, box.size.z], [0.4, 0.2, 0.2])


def _covariance(covariance):
    estimate = dataclasses.replace(
        _estimate(make_transform(np.eye(3), [0.0, 0.0, 1.0])), covariance=covariance)
    bounds = np.array([[-0.1, -0.1, -0.1], [0.1, 0.1, 0.1]])
    message = messages.detection_3d(frame(1)[0].header, 'duck', estimate, bounds)
    return message.results[0].pose.covariance


def test_a_covariance_is_sent_row_by_row():
    """As Python's own numbers."""
    covariance = np.arange(36.0).reshape(6, 6)
    sent = _covariance(covariance)
    assert list(sent) == list(range(36))


@pytest.mark.parametrize('wrong', [None, NAN, float('inf')])
def test_a_covariance_that_is_not_there_or_not_finite_is_marked_so(wrong):
    """Its first element is -1 and the others are 0; the pose is sent all the same."""
    covariance = None if wrong is None else np.eye(6)
    if covariance is not None:
        covariance[2, 2] = wrong
    assert list(_covariance(covariance)) == [-1.0, *[0.0] * 35]


def test_a_replacing_queue_keeps_the_newest():
    """And tells how many it dropped."""
    queue = FrameQueue(1, replace=True)
    assert [queue.put(n) for n in range(3)] == [0, 1, 1]
    assert queue.get() == 2


def test_a_waiting_frame_gives_way_to_a_newer_one_only():
    """Whichever came first."""
    queue = FrameQueue(1, replace=True, order=lambda number: number)
    assert [queue.put(n) for n in (5, 3, 8, 7)] == [0, 1, 1, 1]
    assert queue.get() == 8


def test_a_lossless_queue_is_full_and_loses_nothing():
    """Whoever puts does not wait; everything comes out, what is older first."""
    told = []
    queue = FrameQueue(2, replace=False, order=lambda number: number,
                       on_room=lambda: told.append(queue.full))
    assert [queue.put(n) for n in (1, 4)] == [0, 0]
    assert queue.full
    assert queue.put(2) == 0
    assert [queue.get() for _ in range(3)] == [1, 2, 4]
    assert not queue.full
    assert told == [True, False]  # still one too many, then room


def test_frames_of_one_order_keep_that_in_which_they_came():
    """A queue without an order is one after the other."""
    queue = FrameQueue(9, replace=False)
    for text in ('b', 'a', 'c'):
        queue.put(text)
    assert [queue.get() for _ in range(3)] == ['b', 'a', 'c']


def test_closing_a_queue_ends_all_waiting():
    """Whoever waits for a frame goes on; what is put later is dropped."""
    queue = FrameQueue(1, replace=False)
    found = []
    reader = threading.Thread(target=lambda: found.append(queue.get()))
    reader.start()
    assert queue.close() == 0
    reader.join(60)
    assert found == [None]
    assert queue.put(1) == 1


def test_the_counters_tell_of_the_first_drop_and_then_of_news():
    """Nothing is repeated while nothing happens."""
    told = []
    counters = DropCounters(lambda reason, message: told.append(reason))
    counters.drop('busy', 'x', 0)
    assert counters.news() == ''
    counters.drop('busy', 'x')
    counters.drop('busy', 'y', 2)
    counters.answer(4)
    assert told == ['busy']
    assert counters.summary() == 'answered 1 frames with 4 poses; dropped: busy 3'
    assert 'y' in counters.news()
    assert counters.news() == ''
    with pytest.raises(KeyError):
        counters.drop('mood')


def test_a_drop_that_goes_on_for_weeks_does_not_fill_the_log():
    """It is told each time that its number has doubled; one of another kind at once."""
    counters = DropCounters(lambda reason, message: None)
    told = 0
    for number in range(1000):
        counters.drop('busy', f'frame {number}')
        told += bool(counters.news())
    assert 8 <= told <= 11
    counters.drop('bad_image', 'torn')
    assert 'torn' in counters.news()


def test_a_label_without_end_is_told_in_short():
    """With the end of the message, which lists what is known."""
    counters = DropCounters(lambda reason, message: None)
    counters.drop('unknown_label', str(UnknownLabelError('x' * 10**6, ['can', 'duck'])))
    text = counters.reasons()['unknown_label']
    assert len(text) < 1100
    assert text.startswith('unknown object label') and text.endswith('knows: can, duck')


@pytest.mark.parametrize('side', [9_000, 20_000])
def test_a_compressed_image_that_would_fill_the_memory_is_refused(side):
    """Before a pixel of it is decoded: 20 kB of PNG hold hundreds of megapixels of nothing."""
    header = b'IHDR' + struct.pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0)
    body = b'IDAT' + zlib.compress(bytes((1 + side // 8) * side), 9)
    data = b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(part) - 4) + part + struct.pack('>I', zlib.crc32(part))
        for part in (header, body, b'IEND'))
    with pytest.raises(ImageError, match='million pixels, which no camera sends'):
        messages.rgb_from_compressed(CompressedImage(format='png', data=data))
    depth = CompressedImage(format='16UC1; compressedDepth png', data=bytes(12) + data)
    with pytest.raises(ImageError, match='million pixels'):
        depth_from_compressed(depth)
