"""The published crop: four rotated windows, what the network is told of them, and the way back."""

import dataclasses

import numpy as np
import pytest

from mrcnet_ros.errors import BoxError, SpecError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import exp_so3
from mrcnet_ros.presets.paper.crop import (
    box_map,
    box_rectangle,
    covered_fractions,
    network_input,
    paper_crops,
    warp_crops,
)
from mrcnet_ros.presets.paper.decode import (
    cell_centres_xy,
    depth_centres,
    select_pose,
    translation,
)
from mrcnet_ros.presets.paper.spec import PaperSpec

SPEC = PaperSpec(depth_near=0.05, depth_far=1.7)
CAMERA = Camera(np.array([[572.0, 0, 325.0], [0, 573.5, 242.0], [0, 0, 1]]), 640, 480)
BOX = (200.6, 150.2, 290.9, 221.0)


def homogeneous(A):
    """Return a (2, 3) map as (3, 3)."""
    return np.vstack([A, [0, 0, 1]])


def test_a_point_is_seen_where_the_rotated_camera_sees_it():
    """K_crop and the rotation project a point where the warp moves its pixel."""
    crops = paper_crops(CAMERA, BOX, SPEC)
    point = np.array([-0.1, -0.07, 0.9])
    pixel = np.append(CAMERA.project(point), 1.0)
    for Rz, A, K in zip(crops.Rz, crops.A_crop_image, crops.K_crop, strict=True):
        turned = K @ Rz @ point
        np.testing.assert_allclose(turned[:2] / turned[2], A @ pixel, atol=1e-9)


def test_the_box_centre_is_the_crops_centre_in_every_rotation():
    """All views look at the box; its longer side takes two thirds of the crop."""
    crops = paper_crops(CAMERA, BOX, SPEC)
    centre = np.array([(200 + 290) / 2, (150 + 221) / 2, 1.0])
    for A, fractions in zip(crops.A_crop_image, crops.box_fractions, strict=True):
        np.testing.assert_allclose(A @ centre, 128.0)
        assert max(fractions[2:] - fractions[:2]) == pytest.approx(2 / 3)


def test_boxes_are_truncated_to_whole_pixels():
    """Fractions of a pixel do not matter, as in the published code."""
    fine, whole = (paper_crops(CAMERA, box, SPEC) for box in (BOX, (200, 150, 290, 221)))
    np.testing.assert_array_equal(fine.A_crop_image, whole.A_crop_image)


def test_the_view_is_measured_from_the_principal_point_unless_asked_otherwise():
    """Convention: the published script measures from the box centre, which is another number."""
    view = paper_crops(CAMERA, BOX, SPEC).view
    script = dataclasses.replace(SPEC, view_origin='box_centre')
    np.testing.assert_allclose(view[0, :2], [(245 - 325) / 572, (185.5 - 242) / 573.5])
    np.testing.assert_allclose(paper_crops(CAMERA, BOX, script).view[0, :2], 0.0, atol=1e-12)
    with pytest.raises(SpecError, match='view_origin'):
        paper_crops(CAMERA, BOX, dataclasses.replace(SPEC, view_origin='corner'))


def test_a_quarter_turn_of_the_crop_is_a_quarter_turn_of_its_pixels():
    """With square pixels the second view is the first one turned."""
    camera = Camera(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), 640, 480)
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    crops = warp_crops(image, paper_crops(camera, (300, 200, 380, 260), SPEC))
    # pixel centres turn about (128, 128), a pixel beside the middle of the array
    turned = np.rot90(crops[0], -1, axes=(1, 2))
    np.testing.assert_allclose(crops[1][:, :, 1:], turned[:, :, :-1], atol=1e-5)


def test_channels_are_blue_green_red_and_the_box():
    """The network sees OpenCV's channel order in 0..1 and where the box is."""
    image = np.zeros((480, 640, 3), np.uint8)
    image[...] = (255, 51, 0)
    pixels = network_input(image, paper_crops(CAMERA, BOX, SPEC))
    np.testing.assert_allclose(pixels[:, :3, 128, 128], [[0.0, 0.2, 1.0]] * 4, atol=1e-6)
    assert set(np.unique(pixels[:, 3])) == {0.0, 1.0}


def test_pixels_outside_the_photograph_are_black():
    """A box at the border is cropped with zeros beyond it, not with repeated pixels."""
    image = np.full((480, 640, 3), 255, np.uint8)
    crops = paper_crops(CAMERA, (-30, -20, 60, 60), SPEC)
    pixels = warp_crops(image, crops)
    corner = homogeneous(crops.A_crop_image[0]) @ [0, 0, 1]
    u, v = np.floor(corner[:2] - 2).astype(int)
    assert pixels[0, :, :v, :u].max() == 0.0
    assert pixels[0, :, v + 6:, u + 6:].min() == 1.0


@pytest.mark.parametrize('box', [
    (0, 0, 0, 10), (5, 5, 4, 9), (700, 0, 800, 50), (0, 0, np.nan, 5), (10.9, 10, 12.95, 10.99)])
def test_boxes_that_hold_nothing_are_refused(box):
    """Empty, inverted, outside and not finite boxes raise."""
    with pytest.raises(BoxError):
        paper_crops(CAMERA, box, SPEC)


def test_a_box_map_fills_its_rectangle_within_the_crop():
    """The rectangle is end exclusive, an eighth larger on each side, and never leaves the crop."""
    rectangle = box_rectangle([0.25, 0.25, 0.75, 0.5], SPEC)
    assert rectangle.tolist() == [48, 56, 208, 136]
    drawn = box_map(rectangle, 256)
    assert drawn.sum() == (208 - 48) * (136 - 56)
    assert drawn[56, 48] == drawn[135, 207] == 1.0 and drawn[136, 207] == drawn[56, 208] == 0.0
    assert box_rectangle([-0.2, 0.0, 1.0, 1.4], SPEC).tolist() == [0, 0, 256, 256]


def test_the_covered_box_goes_to_the_last_pixel():
    """First and last covered column and row over the side; nothing covered is no box."""
    mask = np.zeros((256, 256), bool)
    assert covered_fractions(mask).tolist() == [0.0] * 4
    mask[40:226, 60:206] = True
    np.testing.assert_allclose(covered_fractions(mask) * 256, [60, 40, 205, 225])
    assert box_map(box_rectangle(np.zeros(4), SPEC), 256).sum() == 0.0


def test_bins_cover_their_range_evenly():
    """Depths start half a bin after near, cells are listed row by row."""
    depths, cells = depth_centres(SPEC), cell_centres_xy(SPEC)
    assert depths[0] - 0.05 == pytest.approx(1.65 / 2000)
    assert 1.7 - depths[-1] == pytest.approx(1.65 / 2000)
    assert cells[1][0] > cells[0][0] and cells[1][1] == cells[0][1]
    np.testing.assert_allclose(cells.mean(axis=0), 0.0, atol=1e-12)


def test_the_selected_pose_is_in_the_unrotated_camera():
    """R comes from the surest rotation, t from the surest depth, each turned back."""
    crops = paper_crops(CAMERA, BOX, SPEC)
    R_true, t_true = exp_so3([0.4, -0.3, 0.2]), np.array([-0.1, -0.07, 0.9])
    R, t = crops.Rz @ R_true, crops.Rz @ t_true
    for best_R in range(4):
        for best_t in range(4):
            rotation, depth = np.zeros((4, 10)), np.zeros((4, 10))
            rotation[best_R, 3], depth[best_t, 7] = 1.0, 1.0
            wrong_R, wrong_t = np.where(np.arange(4) == best_R, 1.0, -1.0), np.arange(4) == best_t
            T = select_pose(rotation, depth, R * wrong_R[:, None, None],
                            t * np.where(wrong_t, 1.0, 5.0)[:, None], crops.Rz)
            np.testing.assert_allclose(T[:3, :3], R_true, atol=1e-12)
            np.testing.assert_allclose(T[:3, 3], t_true, atol=1e-12)


def test_depth_and_offset_give_back_the_point():
    """The published distance is Z over the crop's focal length, the offset in crop widths."""
    crops = paper_crops(CAMERA, BOX, SPEC)
    t = np.array([-80.0, -60.0, 900.0])
    for Rz, K in zip(crops.Rz, crops.K_crop, strict=True):
        pixel = K @ Rz @ t / t[2]
        found = translation(pixel[:2] / 256 - 0.5, t[2] / K[0, 0], K, 256)
        np.testing.assert_allclose(found, Rz @ t)
