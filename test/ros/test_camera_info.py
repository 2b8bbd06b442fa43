"""camera_info: lenses, binning, regions of interest; no node runs."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from sensor_msgs.msg import CameraInfo, RegionOfInterest

from mrcnet_ros.errors import CameraError
from mrcnet_ros.ros import messages
from mrcnet_ros.ros.input_doubts import camera_doubts

NAN = float('nan')


@pytest.fixture
def rgb():
    return np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)


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
    assert reduced.part and not full.part
    uv = np.array([30.0, 20.0])
    in_full = (uv + 0.5) * 2 - 0.5 + (100, 50)
    assert np.allclose(reduced.unproject(uv), full.unproject(in_full))


@pytest.mark.parametrize(('centre', 'doubted'), [((959.5, 599.5), False), ((319.5, 239.5), True)])
@pytest.mark.parametrize('rectified', [False, True])
def test_a_matrix_of_the_region_alone_is_told(centre, doubted, rectified):
    """It would be moved by the corner of the region once more."""
    info = CameraInfo(width=1920, height=1200, roi=RegionOfInterest(
        x_offset=640, y_offset=360, width=640, height=480))
    x, y = centre
    info.k, info.p = [1500.0, 0, x, 0, 1500.0, y, 0, 0, 1], [
        1500.0, 0, x, 0, 0, 1500.0, y, 0, 0, 0, 1, 0]
    found = camera_doubts(info, '/image', rectified=rectified)
    assert [f'({x:.0f}, {y:.0f}), is far from the middle of 1920x1200 px' in text
            and 'K or P is that of the roi alone' in text for text in found] == [True] * doubted


def test_a_region_that_is_the_whole_sensor_makes_no_part():
    """Some drivers fill roi always; a K of another resolution is told all the same."""
    info = _info(width=320, height=240)  # K is of 640x480 px
    info.roi.width, info.roi.height = 320, 240
    doubt, = camera_doubts(info, 'image', rectified=False)
    assert 'principal point' in doubt and not messages.camera_from_info(info).part
    info.roi.width = 310
    doubt, = camera_doubts(info, 'image', rectified=False)
    assert 'principal point' in doubt and messages.camera_from_info(info).part


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
    ('equidistant', [], 'got 0'), ('equidistant', [0.0] * 3, 'has 3 numbers'),
    ('plumb_bob', [0.0] * 2, "D of camera_info has 2 numbers.*'plumb_bob' takes 4 or 5"),
    ('plumb_bob', [0.1] * 8, 'D of camera_info has 8 numbers.*set image_rectified'),
    ('rational_polynomial', [0.1] * 5, 'has 5 numbers.*takes 8'),
    ('rational_polynomial', [0.0] * 8 + [0.1], 'has 9 numbers'),
    ('rational_polynomial', [0.1] * 14, 'D of camera_info has 14 numbers.*set image_rectified'),
    ('plumb_bob', [0.1, NAN, 0.0, 0.0, 0.0], 'finite'),
    ('plumb_bob', [0.0] * 5 + [NAN], 'has 6 numbers'),
    ('plumb_bob', [0.0] * 4 + [np.inf], 'finite'),
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
        messages.check_camera_fits(rgb, messages.camera_from_info(_info()), _info())


def test_binning_that_does_not_fit_the_image_is_named():
    """As of drivers that write the binned size into width and height as well."""
    info, image = _info(binning_x=2, binning_y=2), np.zeros((480, 640, 3), np.uint8)
    with pytest.raises(CameraError, match=r'for 320x240 px: 640x480 px with binning 2x2 and roi'):
        messages.check_camera_fits(image, messages.camera_from_info(info), info)
