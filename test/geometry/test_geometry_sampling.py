"""Pictures of crop cameras: the rays of the lens, nothing beyond it, and no aliasing."""

import cv2
import numpy as np
import pytest

from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.crop import crop_camera, turned
from mrcnet_ros.geometry.sampling import REDUCED_FROM, TOLERANCE_PX, sample_crop, sample_crops
from mrcnet_ros.specs import CropSpec

K = np.array([[572.4, 0.0, 325.3], [0.0, 573.6, 242.0], [0.0, 0.0, 1.0]])
SPEC = CropSpec(size_px=96, padding=1.5)
CAMERAS = {
    'none': Camera(K, 640, 480),
    'plumb_bob': Camera(K, 640, 480, 'plumb_bob', (-0.28, 0.09, 0.001, -0.0007, -0.01)),
    'rational_polynomial': Camera(
        K, 640, 480, 'rational_polynomial', (0.4, -2.6, 0.0004, -0.0002, 1.5, 0.27, -2.4, 1.4)),
    'equidistant': Camera(K, 640, 480, 'equidistant', (-0.02, 0.008, -0.004, 0.0007)),
    # 74 degrees to the left and right
    'fisheye': Camera(K * [[0.42], [0.42], [1]] + [[0, 0, 184], [0, 0, 140], [0, 0, 0]], 640, 480,
                      'equidistant', (0.0,) * 4),
}
LENSES = [name for name in CAMERAS if name != 'none']
BOXES = [(280.0, 200.0, 340.0, 240.0), (500.0, 330.0, 600.0, 460.0), (-30.0, 10.0, 90.0, 90.0),
         (150.0, 90.0, 320.0, 270.0)]


def _noise(width=640, height=480):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _smooth(width=640, height=480):
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    waves = [127 + 100 * np.sin(u / 31.0 + k) * np.cos(v / 23.0 - k) for k in range(3)]
    return np.stack(waves, -1).round().astype(np.uint8)


def _crops(camera, boxes=BOXES):
    upright = [crop_camera(camera, box, SPEC) for box in boxes]
    return [turned(crop, angle) for crop in upright for angle in (-0.2, 0.2)]


def _rays(crop):
    """Return the ray of every pixel of a crop in the photograph's camera, (96, 96, 3)."""
    grid = np.stack(np.meshgrid(np.arange(96.0), np.arange(96.0), [1.0]), -1)[:, :, 0]
    return grid @ np.linalg.inv(crop.K_crop).T @ crop.R_crop_camera


def _ray_by_ray(image, camera, crop):
    """Return what OpenCV makes of the exact pixel of every ray."""
    uv = np.nan_to_num(camera.project(_rays(crop)), nan=-1e4).astype(np.float32)
    return cv2.remap(image, uv[..., 0], uv[..., 1], cv2.INTER_LINEAR)


@pytest.mark.parametrize('name', LENSES)
def test_a_crop_through_a_lens_is_that_of_the_exact_rays(name):
    """On noise, the hardest picture, to what 1/64 px from the lens and 1/64 px by OpenCV allow."""
    camera, image = CAMERAS[name], _noise()
    for crop in _crops(camera):
        difference = np.abs(sample_crop(image, camera, crop).astype(int)
                            - _ray_by_ray(image, camera, crop))
        assert difference.max() <= 255 * 2 * (TOLERANCE_PX + 1 / 64)
        assert difference.mean() < 1.0


@pytest.mark.parametrize('name', [n for n in LENSES if n != 'fisheye'])
def test_few_rays_are_computed_of_a_crop_that_is_not_wide(name, monkeypatch):
    """A hundredth of the pixels is enough, so that a raw image costs what a rectified one does."""
    camera, asked, project = CAMERAS[name], [], Camera.project
    crops = _crops(camera, BOXES[:2])
    monkeypatch.setattr(
        Camera, 'project', lambda self, rays: asked.append(rays) or project(self, rays))
    sample_crops(_noise(), camera, crops)
    assert sum(rays.size // 3 for rays in asked) <= 100 * len(crops)


@pytest.mark.parametrize('name', CAMERAS)
def test_crops_of_a_frame_are_those_taken_one_at_a_time(name):
    """To the rounding of floats; and no crops are none."""
    camera, image = CAMERAS[name], _smooth()
    crops = _crops(camera)
    together = sample_crops(image, camera, crops)
    assert together.shape == (8, 96, 96, 3) and together.dtype == np.uint8
    for crop, picture in zip(crops, together, strict=True):
        difference = sample_crop(image, camera, crop).astype(int) - picture
        assert np.abs(difference).max() <= 1 and np.abs(difference).mean() < 0.01
    assert len(sample_crops(image, camera, [])) == 0


def test_a_lens_that_hardly_bends_gives_the_crop_of_none():
    """Both ways of sampling see the same picture."""
    nearly = Camera(K, 640, 480, 'plumb_bob', (1e-9, 0.0, 0.0, 0.0))
    for crop in _crops(CAMERAS['none']):
        difference = (sample_crop(_smooth(), CAMERAS['none'], crop).astype(int)
                      - sample_crop(_smooth(), nearly, crop))
        assert np.abs(difference).max() <= 8 and np.abs(difference).mean() < 0.3


def test_a_wide_crop_of_a_fisheye_is_exact_as_well():
    """No rectified plane holds it: the left half of an image of 74 degrees to both sides."""
    camera = Camera(CAMERAS['fisheye'].K * [[0.25], [0.25], [1.0]], 160, 120, 'equidistant',
                    (0.0,) * 4)
    crop = crop_camera(camera, (0.0, 15.0, 80.0, 105.0), CropSpec(size_px=96, padding=2.0))
    assert np.isnan(camera.project(_rays(crop))).any(), 'a part is behind the camera'
    image = _noise(160, 120)
    difference = np.abs(sample_crop(image, camera, crop).astype(int)
                        - _ray_by_ray(image, camera, crop))
    assert difference.max() <= 255 * 2 / 64


@pytest.mark.parametrize(('model', 'coefficients'), [
    ('plumb_bob', (-0.5, 0.0, 0.0, 0.0)), ('plumb_bob', (-0.5, 0.0, 0.004, -0.003)),
    ('equidistant', (-0.5, 0.0, 0.0, 0.0))])
def test_beyond_the_fold_of_a_lens_a_crop_is_black(model, coefficients):
    """The polynomial would bring the picture back, mirrored; no lens shows that."""
    camera = Camera(K, 640, 480, model, coefficients)
    white = np.full((480, 640, 3), 255, np.uint8)
    crop = crop_camera(camera, (470.0, 200.0, 640.0, 300.0), CropSpec(size_px=96, padding=3.0))
    seen = sample_crop(white, camera, crop)[..., 0]
    uv = camera.project(_rays(crop))
    inside = np.isfinite(uv[..., 0]) & (np.abs(uv - (319.5, 239.5)) < (318, 238)).all(axis=-1)
    assert 0.2 < inside.mean() < 0.8
    assert (seen[inside] == 255).all()
    assert (seen[np.isnan(uv[..., 0])] == 0).all()


def test_behind_a_pinhole_camera_a_crop_is_black():
    """A homography would show there what is on the other side of the image."""
    camera = Camera(np.array([[40.0, 0, 319.5], [0, 40.0, 239.5], [0, 0, 1]]), 640, 480)
    white = np.full((480, 640, 3), 255, np.uint8)
    crop = crop_camera(camera, (330.0, 200.0, 600.0, 280.0), CropSpec(size_px=96, padding=4.0))
    behind = _rays(crop)[..., 2] <= 0
    seen = sample_crop(white, camera, crop)[..., 0]
    assert behind.any() and not seen[behind].any() and (seen == 255).any()


@pytest.mark.parametrize('name', ['none', 'plumb_bob', 'rational_polynomial', 'equidistant'])
def test_stripes_finer_than_the_crop_become_grey(name):
    """Left out pixels would make coarse stripes of them, which no object has."""
    large = Camera(CAMERAS[name].K * [[3], [3], [1]], 1920, 1440, CAMERAS[name].distortion_model,
                   CAMERAS[name].distortion)
    image = np.zeros((1440, 1920, 3), np.uint8)
    image[:, ::4], image[:, 1::4] = 255, 255
    upright = crop_camera(large, (500.0, 300.0, 1300.0, 1000.0), SPEC)
    for crop in (upright, turned(upright, -0.2), turned(upright, 0.8)):
        aliased = _ray_by_ray(image, large, crop)[8:-8, 8:-8].std()
        assert aliased > 80
        assert sample_crop(image, large, crop)[8:-8, 8:-8].std() < 0.15 * aliased


@pytest.mark.parametrize('name', ['none', 'plumb_bob', 'equidistant'])
@pytest.mark.parametrize('box', [(500.0, 300.0, 1300.0, 1000.0), (-300.0, -200.0, 400.0, 500.0),
                                 (1300.0, 900.0, 1917.0, 1435.0), (3.0, 500.0, 1913.0, 900.0)])
def test_the_low_pass_moves_nothing(name, box):
    """Of a smooth picture the crop stays the same, and the border of the image where it was."""
    large = Camera(CAMERAS[name].K * [[3], [3], [1]], 1919, 1437, CAMERAS[name].distortion_model,
                   CAMERAS[name].distortion)
    image = cv2.resize(_smooth(), (1919, 1437), interpolation=cv2.INTER_CUBIC)
    crop = crop_camera(large, box, SPEC)
    filtered, exact = (sample(image, large, crop).astype(int)
                       for sample in (sample_crop, _ray_by_ray))
    inside = cv2.erode((exact > 0).all(axis=-1).astype(np.uint8), np.ones((5, 5))) > 0
    outside = cv2.erode((exact == 0).all(axis=-1).astype(np.uint8), np.ones((5, 5))) > 0
    assert np.abs(filtered - exact)[inside].max() <= 6
    assert np.abs((filtered - exact)[inside].mean(axis=0)).max() < 1.0
    assert not filtered[outside].any()


def test_crops_that_leave_out_few_pixels_are_not_filtered():
    """What the shipped models were measured with stays as it is."""
    side = 0.98 * REDUCED_FROM * 96 / 1.5
    crop = crop_camera(CAMERAS['none'], (325 - side / 2, 200, 325 + side / 2, 260), SPEC)
    image = _noise()
    H = K @ crop.R_crop_camera.T @ np.linalg.inv(crop.K_crop)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    plain = cv2.warpPerspective(image, H, (96, 96), flags=flags).astype(int)
    assert np.abs(sample_crop(image, CAMERAS['none'], crop) - plain).mean() < 0.1
