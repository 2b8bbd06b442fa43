"""Laws of the virtual crop camera."""

import cv2
import numpy as np
import pytest

from mrcnet_ros.errors import BoxError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.crop import box_rays, check_box, crop_camera, turned
from mrcnet_ros.geometry.sampling import sample_crop
from mrcnet_ros.specs import CropSpec

K = np.array([[572.4, 0.0, 325.3], [0.0, 573.6, 242.0], [0.0, 0.0, 1.0]])
CAMERA = Camera(K, 640, 480)
DISTORTED = Camera(K, 640, 480, 'plumb_bob', (-0.28, 0.09, 0.001, -0.0007, -0.01))
SPEC = CropSpec(size_px=96, padding=1.5)

BOXES = {
    'centre': (300.0, 200.0, 360.0, 290.0),
    'corner': (560.0, 400.0, 630.0, 470.0),
    'partly outside': (-40.0, -30.0, 50.0, 40.0),
    'wide': (100.0, 230.0, 540.0, 260.0),
    'fractional': (17.3, 211.8, 61.9, 280.1),
}


@pytest.fixture(params=list(BOXES))
def box(request):
    return np.array(BOXES[request.param])


def smooth_image(width=640, height=480):
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    waves = [127 + 100 * np.sin(u / 31.0 + k) * np.cos(v / 23.0 - k) for k in range(3)]
    return np.stack(waves, -1).round().astype(np.uint8)


def test_full_camera_and_crop_camera_agree_through_the_homography(box):
    """A point seen by both cameras is at the same place within 1e-6 px once mapped over."""
    crop = crop_camera(CAMERA, box, SPEC)
    H_crop_image = crop.K_crop @ crop.R_crop_camera @ np.linalg.inv(CAMERA.K)
    rng = np.random.default_rng(3)
    uv = rng.uniform(box[:2], box[2:], (200, 2))
    points = CAMERA.unproject(uv) * rng.uniform(0.2, 3.0, (200, 1))
    mapped = np.column_stack([CAMERA.project(points), np.ones(200)]) @ H_crop_image.T
    seen = points @ crop.R_crop_camera.T @ crop.K_crop.T
    np.testing.assert_allclose(
        mapped[:, :2] / mapped[:, 2:], seen[:, :2] / seen[:, 2:], rtol=0, atol=1e-6)


@pytest.mark.parametrize('camera', [CAMERA, DISTORTED], ids=['pinhole', 'distorted'])
def test_the_centre_of_the_box_is_the_centre_of_the_crop(camera, box):
    """The crop camera's axis goes through the box centre, distortion or not."""
    crop = crop_camera(camera, box, SPEC)
    ray = crop.R_crop_camera @ camera.unproject((box[:2] + box[2:]) / 2)
    np.testing.assert_allclose(ray[:2] / ray[2], 0.0, atol=1e-9)
    np.testing.assert_array_equal(crop.K_crop[:2, 2], (SPEC.size_px - 1) / 2)


def test_the_crop_camera_is_turned_and_not_mirrored(box):
    """Its rotation is proper, and it has square pixels and no skew."""
    crop = crop_camera(CAMERA, box, SPEC)
    R = crop.R_crop_camera
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1.0)
    assert crop.K_crop[0, 0] == crop.K_crop[1, 1] == crop.focal_px
    assert crop.K_crop[0, 1] == 0.0


@pytest.mark.parametrize('padding', [1.0, 1.5, 2.0])
def test_the_longer_side_of_the_box_covers_its_share_of_the_crop(padding):
    """A box in the middle of the image covers 1 / padding of the crop."""
    box = np.array([325.3 - 30, 242.0 - 45, 325.3 + 30, 242.0 + 45])
    crop = crop_camera(CAMERA, box, CropSpec(size_px=96, padding=padding))
    ends = CAMERA.unproject([[325.3, box[1]], [325.3, box[3]]])
    seen = ends @ crop.R_crop_camera.T @ crop.K_crop.T
    seen = seen[:, :2] / seen[:, 2:]
    assert seen[1, 1] - seen[0, 1] == pytest.approx(96 / padding, rel=1e-9)


@pytest.mark.parametrize('camera', [CAMERA, DISTORTED], ids=['pinhole', 'distorted'])
def test_a_crop_shows_the_photograph_along_the_crop_cameras_rays(camera):
    """Each pixel of the crop has the colour of the photograph where its ray meets it."""
    image = smooth_image()
    crop = crop_camera(camera, (200.0, 150.0, 330.0, 260.0), SPEC)
    seen = sample_crop(image, camera, crop)
    assert seen.shape == (96, 96, 3) and seen.dtype == np.uint8
    for column, row in ((0, 0), (95, 0), (48, 47), (10, 80), (95, 95)):
        ray = np.linalg.solve(crop.K_crop, [column, row, 1.0]) @ crop.R_crop_camera
        u, v = camera.project(ray)
        expected = cv2.getRectSubPix(image, (1, 1), (float(u), float(v)))[0, 0]
        np.testing.assert_allclose(seen[row, column].astype(float), expected, atol=2.5)


def test_outside_the_photograph_a_crop_is_black():
    """A box that reaches over the corner gets zeros there."""
    white = np.full((480, 640, 3), 255, np.uint8)
    crop = crop_camera(CAMERA, BOXES['partly outside'], SPEC)
    seen = sample_crop(white, CAMERA, crop)
    assert (seen[:20, :20] == 0).all()
    assert (seen[-10:, -10:] == 255).all()


@pytest.mark.parametrize(('bad', 'named'), [
    ((np.nan, 0, 10, 10), 'finite'),
    ((0, 0, np.inf, 10), 'finite'),
    ((0, 0, 10), 'four'),
    ((50, 50, 51, 90), 'at least 2 px'),
    ((90, 50, 40, 90), 'at least 2 px'),
    ((-50, 10, -1, 60), 'outside the 640x480'),
    ((10, 480, 60, 600), 'outside the 640x480'),
    ((-2000, 10, 2000, 60), 'far larger'),
])
def test_a_box_that_cannot_be_cropped_is_refused_with_the_reason(bad, named):
    """The error says which rule the box breaks."""
    with pytest.raises(BoxError, match=named):
        crop_camera(CAMERA, bad, SPEC)


def test_a_box_beyond_the_reach_of_the_distortion_is_refused():
    """Where no ray is seen no crop camera can be placed."""
    barrel = Camera(K, 640, 480, 'plumb_bob', (-0.4, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(BoxError, match='no viewing ray'):
        crop_camera(barrel, (500.0, 100.0, 1600.0, 300.0), SPEC)


def test_a_usable_box_is_kept_as_it_is(box):
    """Boxes that reach over the edge are not clipped."""
    np.testing.assert_array_equal(check_box(box, 640, 480), box)


@pytest.mark.parametrize('angle', [0.2, -1.0, np.pi / 2])
def test_a_turned_crop_shows_the_scene_turned_back(box, angle):
    """Pixels go round the middle against the camera; distances and what is in view stay."""
    crop = crop_camera(CAMERA, box, SPEC)
    rays = crop.R_crop_camera.T @ np.array([[0.03, -0.05, 1.0], [-0.1, 0.02, 1.0]]).T

    def offsets(camera):
        uvw = camera.K_crop @ camera.R_crop_camera @ rays
        return (uvw[:2] / uvw[2]).T - (camera.size_px - 1) / 2

    c, s = np.cos(angle), np.sin(angle)
    back = np.array([[c, s], [-s, c]])
    np.testing.assert_allclose(offsets(turned(crop, angle)), offsets(crop) @ back.T, atol=1e-9)


def test_a_quarter_turn_is_a_turn_of_the_pixels():
    """The right side of the scene comes up: what the camera leans to is at the bottom."""
    crop = crop_camera(CAMERA, BOXES['centre'], SPEC)
    upright, quarter = (sample_crop(smooth_image(), CAMERA, c).astype(int)
                        for c in (crop, turned(crop, np.pi / 2)))
    assert np.abs(np.rot90(upright) - quarter).max() <= 1


FISHEYE = Camera(np.array([[220.0, 0, 319.5], [0, 220.0, 239.5], [0, 0, 1]]), 640, 480,
                 'equidistant', (0.0,) * 4)
STRONG = Camera(np.array([[480.0, 0, 319.5], [0, 480.0, 239.5], [0, 0, 1]]), 640, 480,
                'plumb_bob', (-0.4, 0.05, 0.0, 0.0, 0.0))


@pytest.mark.parametrize('camera', [FISHEYE, STRONG, DISTORTED],
                         ids=['fisheye', 'strong', 'weak'])
@pytest.mark.parametrize('place', [(0.0, 0.0), (0.9, 0.0), (0.0, -0.9), (0.8, 0.8), (-0.9, 0.3)])
def test_a_crop_through_a_lens_holds_what_the_box_shows_in_its_middle(camera, place):
    """Also at the border of a strongly distorted image: its four sides, as far on both sides."""
    u, v = np.array([319.5, 239.5]) + np.array(place) * (270, 190)
    sides = camera.unproject([(u - 40, v), (u + 40, v), (u, v - 30), (u, v + 30)])
    crop = crop_camera(camera, (u - 40, v - 30, u + 40, v + 30), SPEC)
    seen = sides @ crop.R_crop_camera.T
    seen = seen[:, :2] / seen[:, 2:] * crop.focal
    (left, _), (right, _), (_, top), (_, bottom) = seen
    assert abs(left + right) < 0.12 * (right - left)
    assert abs(top + bottom) < 0.12 * (bottom - top)
    assert 0.5 < max(right - left, bottom - top) * SPEC.padding < 1.05


def test_a_box_that_reaches_beside_the_picture_of_a_fisheye_counts_up_to_there():
    """A detector does not know where the lens ends; more than a half of it must be seen."""
    circle_px = 220.0 * np.pi / 2 - 1
    crop = crop_camera(FISHEYE, (570.0, 200.0, 319.5 + circle_px + 30, 280.0), SPEC)
    angle = np.arccos(crop.R_crop_camera[2, 2])
    assert np.degrees(angle) < 90 and np.isfinite(crop.focal_px)
    with pytest.raises(BoxError, match='half of a side where'):
        crop_camera(FISHEYE, (600.0, 200.0, 319.5 + circle_px + 100, 280.0), SPEC)


def test_rays_of_many_boxes_are_those_of_each(box):
    """A box of nan has none and spoils no other."""
    rays = box_rays(DISTORTED, [box, np.full(4, np.nan), box])
    assert np.isnan(rays[1, :, :2]).all()
    np.testing.assert_allclose(rays[[0, 2]], box_rays(DISTORTED, [box, box]), atol=1e-9)
    given = crop_camera(DISTORTED, box, SPEC, rays[0])
    np.testing.assert_allclose(given.R_crop_camera,
                               crop_camera(DISTORTED, box, SPEC).R_crop_camera, atol=1e-9)
    assert box_rays(CAMERA, []).shape == (0, 5, 3)
