"""Raw images of distorted cameras, against images that OpenCV has rectified."""

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from cv_bridge import CvBridge
from sensor_msgs.msg import CameraInfo

from mrcnet_ros.geometry.crop import crop_camera
from mrcnet_ros.geometry.sampling import sample_crop
from mrcnet_ros.ros.messages import camera_from_info, check_camera_fits, rgb_from_image
from mrcnet_ros.specs import CropSpec

K = np.array([[572.4, 0.0, 325.3], [0.0, 573.6, 242.0], [0.0, 0.0, 1.0]])
SIZE = (640, 480)
LENSES = {
    'plumb_bob': (-0.28, 0.09, 0.001, -0.0007, -0.01),
    'rational_polynomial': (0.4, -2.6, 0.0004, -0.0002, 1.5, 0.27, -2.4, 1.4),
    'equidistant': (-0.02, 0.008, -0.004, 0.0007),
}
BOXES = {'middle': (280, 200, 370, 290), 'edge': (60, 180, 140, 260),
         'corner': (490, 320, 570, 400)}
SPEC = CropSpec(size_px=128, padding=1.4)


def _info(model='plumb_bob', coefficients=(0.0,) * 5):
    return CameraInfo(width=SIZE[0], height=SIZE[1], distortion_model=model, d=coefficients,
                      k=K.ravel().tolist())


def _seen_by(model, coefficients):
    """Return what a camera sees of smooth colours at infinity, by OpenCV's rays."""
    uv = np.stack(np.meshgrid(*map(np.arange, SIZE)), -1).reshape(-1, 1, 2).astype(np.float64)
    if model == 'equidistant':
        xy = cv2.fisheye.undistortPoints(uv, K, np.array(coefficients))
    else:
        criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 100, 1e-10)
        if hasattr(cv2, 'undistortPointsIter'):  # OpenCV 4, of which 5 made one function
            xy = cv2.undistortPointsIter(uv, K, np.array(coefficients), None, None, criteria)
        else:
            xy = cv2.undistortPoints(uv, K, np.array(coefficients), criteria=criteria)
    x, y = xy.reshape(*SIZE[::-1], 2).transpose(2, 0, 1)
    waves = [np.sin(19 * x + 7 * y), np.cos(8 * x - 23 * y), np.sin(13 * x) * np.cos(17 * y)]
    return np.rint(127.5 + 100 * np.stack(waves, -1)).astype(np.uint8)


def _rectified(image, model, coefficients):
    if model == 'equidistant':
        maps = cv2.fisheye.initUndistortRectifyMap(
            K, np.array(coefficients), np.eye(3), K, SIZE, cv2.CV_32FC1)
    else:
        maps = cv2.initUndistortRectifyMap(
            K, np.array(coefficients), None, K, SIZE, cv2.CV_32FC1)
    return cv2.remap(image, *maps, cv2.INTER_LINEAR)


def _shift_px(a, b):
    """Return how far two pictures are shifted against each other, (2,) [px], by least squares."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    middle = (a + b) / 2
    gradients = np.stack([np.gradient(middle, axis=i) for i in (1, 0)], -1)[2:-2, 2:-2]
    difference = (b - a)[2:-2, 2:-2]
    return np.linalg.lstsq(gradients.reshape(-1, 2), difference.ravel(), rcond=None)[0]


def _largest_shift_px(a, b, parts=4):
    """Return the largest shift of corresponding parts [px]."""
    blocks = zip(*([block for row in np.array_split(picture, parts)
                    for block in np.array_split(row, parts, axis=1)] for picture in (a, b)),
                 strict=True)
    return max(np.linalg.norm(_shift_px(p, q)) for p, q in blocks)


@pytest.mark.parametrize('where', BOXES)
@pytest.mark.parametrize('model', LENSES)
def test_a_raw_image_shows_the_estimator_what_a_rectified_one_does(model, where):
    """From the messages to the crop, within 0.2 px of the image; no rectifier is needed."""
    header = _info().header
    raw = _seen_by(model, LENSES[model])
    rectified = _rectified(raw, model, LENSES[model])
    images = [rgb_from_image(CvBridge().cv2_to_imgmsg(i, 'rgb8', header))
              for i in (raw, rectified)]
    infos = _info(model, LENSES[model]), _info()
    bent, straight = (camera_from_info(info) for info in infos)
    for image, camera, info in zip(images, (bent, straight), infos, strict=True):
        check_camera_fits(image, camera, info)
    crop = crop_camera(straight, np.array(BOXES[where], float), SPEC)
    crops = [sample_crop(image, camera, crop)
             for image, camera in zip(images, (bent, straight), strict=True)]
    image_px = K[0, 0] / crop.focal_px
    assert crops[1].std() > 40, 'the picture is empty'
    assert image_px * _largest_shift_px(*crops) < 0.2
    ignored = sample_crop(images[0], straight, crop)
    if where != 'middle':
        assert image_px * _largest_shift_px(ignored, crops[1]) > 0.5, 'the lens does nothing'
