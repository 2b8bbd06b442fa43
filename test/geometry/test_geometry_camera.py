"""Laws of the camera and its distortions."""

import cv2
import numpy as np
import pytest

from mrcnet_ros.errors import CameraError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.camera_doubts import number_doubts

K = np.array([[572.4, 0.0, 325.3], [0.0, 573.6, 242.0], [0.0, 0.0, 1.0]])

CAMERAS = {
    'none': Camera(K, 640, 480),
    'skewed': Camera(K + [[0, 2.5, 0], [0, 0, 0], [0, 0, 0]], 640, 480),
    'plumb_bob': Camera(K, 640, 480, 'plumb_bob', (-0.28, 0.09, 0.001, -0.0007, -0.01)),
    'plumb_bob_4': Camera(K, 640, 480, 'plumb_bob', (0.12, -0.25, 0.002, 0.001)),
    'rational_polynomial': Camera(
        K, 640, 480, 'rational_polynomial', (0.4, -2.6, 0.0004, -0.0002, 1.5, 0.27, -2.4, 1.4)),
    'equidistant': Camera(K, 640, 480, 'equidistant', (-0.02, 0.008, -0.004, 0.0007)),
    'wide': Camera(
        K * [[0.55], [0.55], [1.0]] + [[0, 0, 146], [0, 0, 109], [0, 0, 0]], 640, 480,
        'equidistant', (-0.01, 0.004, -0.002, 0.0003)),
    'ideal fisheye': Camera(K, 640, 480, 'equidistant', (0.0,) * 4),
    # the corners are at 0.9 of the way to the fold, where OpenCV's own inverse does not converge
    'strong barrel': Camera(K * [[1.3], [1.3], [1.0]] - [[0, 0, 98], [0, 0, 73], [0, 0, 0]],
                            640, 480, 'plumb_bob', (-0.44, 0.02, 0.001, -0.001, 0.0)),
}


@pytest.fixture(params=list(CAMERAS))
def camera(request):
    return CAMERAS[request.param]


def pixels(camera):
    u, v = np.meshgrid(np.linspace(0, camera.width - 1, 23), np.linspace(0, camera.height - 1, 17))
    return np.stack([u, v], -1)


def test_projecting_the_ray_of_a_pixel_gives_the_pixel_back(camera):
    """Every pixel, corners included, survives pixel to ray to pixel within 1e-6 px."""
    uv = pixels(camera)
    np.testing.assert_allclose(camera.project(camera.unproject(uv)), uv, rtol=0, atol=1e-6)


def test_the_ray_of_a_projected_point_goes_through_the_point(camera):
    """Points in view survive point to pixel to ray, at every depth."""
    rays = camera.unproject(pixels(camera))
    for depth_m in (0.1, 1.0, 30.0):
        uv = camera.project(rays * depth_m)
        np.testing.assert_allclose(camera.unproject(uv), rays, rtol=0, atol=1e-9)


def test_rays_have_depth_one_and_keep_the_shape_of_the_pixels(camera):
    """Rays are scaled to z = 1, one for each pixel whatever the shape."""
    rays = camera.unproject(pixels(camera))
    assert rays.shape == (17, 23, 3)
    np.testing.assert_array_equal(rays[..., 2], 1.0)
    assert camera.unproject([3.0, 4.0]).shape == (3,)
    assert camera.project([0.0, 0.0, 1.0]).shape == (2,)
    assert camera.unproject(np.zeros((0, 2))).shape == (0, 3)
    assert camera.project(np.zeros((0, 3))).shape == (0, 2)


def test_a_point_on_the_axis_is_seen_at_the_principal_point(camera):
    """No distortion moves the optical axis."""
    np.testing.assert_allclose(camera.project([0.0, 0.0, 2.0]), camera.K[:2, 2], atol=1e-9)


def test_an_undistorted_camera_projects_by_its_matrix():
    """Column u = (fx x + s y) / z + cx."""
    camera = CAMERAS['skewed']
    x, y, z = 0.2, -0.1, 1.6
    expected = [(572.4 * x + 2.5 * y) / z + 325.3, 573.6 * y / z + 242.0]
    np.testing.assert_allclose(camera.project([x, y, z]), expected, atol=1e-10)


def test_plumb_bob_coefficients_are_k1_k2_p1_p2_k3():
    """Convention: ROS and OpenCV order, tangential before the third radial coefficient."""
    k1, k2, p1, p2, k3 = CAMERAS['plumb_bob'].distortion
    x, y = 0.3, -0.2
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    expected = [572.4 * xd + 325.3, 573.6 * yd + 242.0]
    np.testing.assert_allclose(CAMERAS['plumb_bob'].project([x, y, 1.0]), expected, atol=1e-9)


def test_an_equidistant_camera_distorts_the_angle():
    """The distance from the principal point is a polynomial of the angle to the axis."""
    camera = CAMERAS['equidistant']
    angle = np.arctan(0.4)
    powers = angle ** np.array([1, 3, 5, 7, 9])
    expected = 325.3 + 572.4 * np.dot(powers, (1.0, *camera.distortion))
    assert camera.project([0.4, 0.0, 1.0])[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(('changes', 'named'), [
    ({'K': np.zeros((3, 3))}, 'fx=0'),
    ({'K': np.eye(4)}, '3x3'),
    ({'K': K * np.nan}, 'finite'),
    ({'K': K * [[-1], [1], [1]]}, 'positive'),
    ({'K': np.diag([500.0, 1e-300, 1.0])}, 'fy=1e-300'),
    ({'K': np.array([[500.0, 1e308, 320.0], [0, 500, 240], [0, 0, 1]])}, r'below 1e\+08'),
    ({'K': K * 2}, r'K\[2,2\]'),
    ({'width': 0}, '0x480'),
    ({'height': -3}, '640x-3'),
    ({'K': 'abc'}, 'must be numbers'),
    ({'width': 640.5}, 'whole numbers, got 640.5x480'),
    ({'width': np.nan}, 'must be numbers'),
    ({'height': '480'}, 'whole numbers'),
    ({'distortion_model': 'fisheye'}, 'equidistant'),
    ({'distortion_model': 'plumb_bob', 'distortion': (0.1, 0.2)}, '4 or 5'),
    ({'distortion_model': 'equidistant', 'distortion': (0.1, 0.2, np.inf, 0.0)}, 'finite'),
    ({'distortion': (0.1, 0.0, 0.0, 0.0, 0.0)}, 'none'),
    ({'distortion_model': 'plumb_bob', 'distortion': (0.1, 1e30, 0.0, 0.0)}, r'below 1e\+06'),
])
def test_a_camera_that_cannot_be_used_is_refused_with_the_value_at_fault(changes, named):
    """A camera either works or is never made."""
    values = {'K': K, 'width': 640, 'height': 480, **changes}
    with pytest.raises(CameraError, match=named):
        Camera(**values)


@pytest.mark.parametrize('shape', [(5,), (1, 5), (5, 1)])
def test_coefficients_are_taken_as_opencv_has_them(shape):
    """As an array of any shape, which the camera copies, and as a list."""
    given = np.array([-0.2, 0.05, 0.001, 0.002, 0.0]).reshape(shape)
    camera = Camera(K.tolist(), 640.0, np.int32(480), 'plumb_bob', given)
    given[:] = np.nan
    expected = Camera(K, 640, 480, 'plumb_bob', (-0.2, 0.05, 0.001, 0.002, 0.0))
    assert camera.distortion == expected.distortion and type(camera.width) is int
    np.testing.assert_array_equal(camera.project([0.1, 0.2, 1.0]),
                                  expected.project([0.1, 0.2, 1.0]))


def test_the_intrinsics_of_a_camera_cannot_change_behind_its_back():
    """A camera keeps its own read-only copy of K."""
    mine = K.copy()
    camera = Camera(mine, 640, 480)
    mine[0, 0] = 1.0
    assert camera.K[0, 0] == 572.4
    with pytest.raises(ValueError, match='read-only'):
        camera.K[0, 0] = 1.0


def test_a_pixel_that_no_ray_reaches_has_no_ray():
    """Beyond the edge of a distortion model the ray is nan and not some other pixel's."""
    barrel = Camera(K, 640, 480, 'plumb_bob', (-0.4, 0.0, 0.0, 0.0, 0.0))
    rays = barrel.unproject([[325.3, 242.0], [1500.0, 242.0]])
    np.testing.assert_allclose(rays[0], [0.0, 0.0, 1.0], atol=1e-9)
    assert np.isnan(rays[1, :2]).all()


def test_skew_together_with_distortion_is_refused():
    """OpenCV's lens models ignore skew, so that rays would be wrong by it without a word."""
    skewed = K + [[0, 2.5, 0], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(CameraError, match=r'plumb_bob has no skew, got K\[0,1\]=2\.5'):
        Camera(skewed, 640, 480, 'plumb_bob', (0.0,) * 5)


def test_four_zeros_make_an_ideal_fisheye():
    """Its pixels are as far from the middle as the angle says; a polynomial of zeros bends not."""
    ray = Camera(K, 640, 480, 'equidistant', (0.0,) * 4).unproject([325.3 + 300.0, 242.0])
    np.testing.assert_allclose(ray, [np.tan(300.0 / 572.4), 0.0, 1.0], atol=1e-12)
    for model, count in (('plumb_bob', 5), ('rational_polynomial', 8)):
        camera = Camera(K, 640, 480, model, (0.0,) * count)
        np.testing.assert_array_equal(camera.unproject([10.0, 20.0]),
                                      CAMERAS['none'].unproject([10.0, 20.0]))


@pytest.mark.parametrize('name', [n for n, c in CAMERAS.items() if c.distortion_model != 'none'])
def test_a_lens_is_the_one_that_opencv_has(name):
    """Coefficients of any calibration made with OpenCV or ROS mean the same here."""
    camera = CAMERAS[name]
    rays = camera.unproject(pixels(camera)).reshape(-1, 1, 3)
    project = (cv2.fisheye.projectPoints if camera.distortion_model == 'equidistant'
               else cv2.projectPoints)
    expected = project(rays, np.zeros(3), np.zeros(3), camera.K, np.array(camera.distortion))[0]
    np.testing.assert_allclose(camera.project(rays), expected, atol=1e-6)


FOLDING = {
    'barrel': Camera(K, 640, 480, 'plumb_bob', (-0.3, 0.0, 0.0, 0.0, 0.0)),
    'tilted barrel': Camera(K, 640, 480, 'plumb_bob', (-0.3, 0.0, 0.02, -0.01, 0.0)),
    'pole': Camera(K, 640, 480, 'rational_polynomial', (0.1, 0, 0, 0, 0, -0.5, 0, 0)),
    'fisheye': Camera(K, 640, 480, 'equidistant', (-0.3, 0.0, 0.0, 0.0)),
}


def test_one_pixel_says_nothing_of_a_lens():
    """Its borders are its middle."""
    one = Camera(np.array([[500.0, 0, 0], [0, 500.0, 0], [0, 0, 1]]), 1, 1,
                 'plumb_bob', (0.1, -0.2, 0.001, 0.002, 0.0))
    assert not any('lens' in doubt for doubt in number_doubts(one, 'the camera', ''))


@pytest.mark.parametrize('name', FOLDING)
def test_beyond_the_fold_of_a_lens_a_ray_has_no_pixel(name):
    """Along every direction pixels move outwards, and then there are none: never back again."""
    camera = FOLDING[name]
    radii = np.tan(np.linspace(0.0, 1.55, 3000))
    for angle in np.linspace(0.0, 2 * np.pi, 12):
        direction = np.array([np.cos(angle), np.sin(angle)])
        rays = np.column_stack([radii[:, None] * direction, np.ones(len(radii))])
        outwards = (camera.project(rays) - camera.K[:2, 2]) @ direction
        seen = np.isfinite(outwards)
        count = int(seen.sum())
        assert 300 < count < len(radii) and seen[:count].all(), 'seen up to the fold'
        assert (np.diff(outwards[:count]) > 0).all()


@pytest.mark.parametrize('name', FOLDING)
def test_a_pixel_has_a_ray_or_none_and_no_ray_of_a_ghost(name):
    """Far beyond the image as well: what has a ray survives the way back, all else is nan."""
    camera = FOLDING[name]
    uv = np.stack(np.meshgrid(np.linspace(-900, 1500, 61), np.linspace(-900, 1400, 53)), -1)
    rays = camera.unproject(uv)
    found = np.isfinite(rays[..., 0])
    assert found[26, 31] and found[0, 0] == (name == 'pole'), 'a pole sends rays to all pixels'
    np.testing.assert_allclose(camera.project(rays[found]), uv[found], atol=1e-5)
    few = np.concatenate([camera.unproject(row) for row in uv.reshape(-1, 1, 2)])
    np.testing.assert_array_equal(np.isnan(few), np.isnan(rays.reshape(-1, 3)))


def test_nothing_is_seen_behind_a_camera_with_a_lens():
    """The formula knows only x / z and y / z, which are the same on both sides."""
    points = np.array([[0.1, 0.0, 1.0], [-0.1, 0.0, -1.0], [0.1, 0.0, 0.0]])
    for name in FOLDING:
        seen = np.isfinite(FOLDING[name].project(points)[:, 0])
        assert seen.tolist() == [True, False, False]


@pytest.mark.parametrize(('model', 'coefficients'), [
    ('plumb_bob', (0.0, 0.0, 0.0, 0.0, 1e-300)), ('plumb_bob', (1e-300, 0.0, 0.0, 0.0)),
    ('rational_polynomial', (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5e-324))])
def test_a_coefficient_that_is_next_to_nothing_bends_nothing(model, coefficients):
    """The search for the fold divides by the last one."""
    uv = np.array([[0.0, 0.0], [320.0, 100.0], [639.0, 479.0]])
    K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
    np.testing.assert_allclose(Camera(K, 640, 480, model, coefficients).unproject(uv),
                               Camera(K, 640, 480).unproject(uv), atol=1e-9)
