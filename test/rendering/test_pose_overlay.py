"""Outlines, axes and labels on photographs."""

import itertools

import numpy as np
import pytest
from meshes import cube, write_ply

from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.objects import Mesh, ObjectModel
from mrcnet_ros.rendering.drawing import GREEN, draw_lines
from mrcnet_ros.rendering.pose_overlay import DrawnObject, PoseOverlay

SIDE_M = 0.1
K = np.array([[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]])
CAMERAS = {
    'straight': Camera(K, 640, 480),
    'plumb_bob': Camera(K, 640, 480, 'plumb_bob', (-0.3, 0.1, 0.001, -0.002, 0.0)),
    'equidistant': Camera(K, 640, 480, 'equidistant', (0.1, -0.05, 0.0, 0.0)),
}


@pytest.fixture(scope='module')
def overlay(tmp_path_factory):
    path = write_ply(tmp_path_factory.mktemp('mesh') / 'cube.ply', cube(SIDE_M))
    model = ObjectModel(object_id=1, label='cube', mesh_path=path, diameter_m=SIDE_M * 3**0.5,
                        symmetries=Symmetries.none(), bounds_m=np.array([[-1] * 3, [1] * 3])
                        * SIDE_M / 2)
    drawn = PoseOverlay({'cube': model})
    yield drawn
    drawn.close()


def _front_face(camera, T):
    """Return the pixels on the border of the face that is nearest to the camera."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * SIDE_M / 2
    steps = np.linspace(0, 1, 20)[:, None]
    edges = np.concatenate([a + steps * (b - a) for a, b in itertools.pairwise(corners)])
    points = np.c_[edges, np.full(len(edges), -SIDE_M / 2)] @ T[:3, :3].T + T[:3, 3]
    return camera.project(points)


@pytest.mark.parametrize('name', CAMERAS)
def test_outlines_are_where_the_camera_sees_the_edges(overlay, name):
    """Within a pixel, also through a lens that bends straight edges."""
    camera, T = CAMERAS[name], make_transform(np.eye(3), [0.18, -0.1, 0.6])
    T[:3, :3] = exp_so3(np.cross([0, 0, 1], T[:3, 3] / np.linalg.norm(T[:3, 3])))
    black = np.zeros((480, 640, 3), np.uint8)
    picture = overlay.draw(black, camera, [DrawnObject('cube', T, '')])
    assert not black.any(), 'the photograph itself stays as it is'
    drawn = np.argwhere(picture[..., 1] > 165)[:, ::-1]
    expected = _front_face(camera, T)
    assert len(drawn) > 100
    distance = np.linalg.norm(drawn[:, None] - expected[None], axis=2)
    assert np.percentile(distance.min(axis=0), 90) < 1.0
    hull = (expected.min(axis=0) - 12, expected.max(axis=0) + 12)
    assert (drawn > hull[0]).all() and (drawn < hull[1]).all()


def test_an_object_smaller_than_its_mesh_is_drawn_that_small(tmp_path):
    """Poses are of the real object; a mesh of another size would not fit the photograph."""
    path, ratio = write_ply(tmp_path / 'cube.ply', cube(SIDE_M)), 0.8
    widths = []
    for size_ratio in (1.0, ratio):
        model = ObjectModel(
            object_id=1, label='cube', mesh_path=path, diameter_m=SIDE_M * 3**0.5,
            symmetries=Symmetries.none(), size_ratio=size_ratio)
        np.testing.assert_allclose(np.ptp(model.bounds(), axis=0), size_ratio * SIDE_M)
        np.testing.assert_allclose(np.ptp(model.mesh_bounds(), axis=0), SIDE_M)
        drawn = PoseOverlay({'cube': model})
        # the front face of both is as far away
        T = make_transform(np.eye(3), [0.0, 0.0, 0.5 + size_ratio * SIDE_M / 2])
        picture = drawn.draw(np.zeros((480, 640, 3), np.uint8), CAMERAS['straight'],
                             [DrawnObject('cube', T, '')])
        drawn.close()
        columns = np.flatnonzero(picture[250, :, 1] > 165)
        widths.append(np.ptp(columns))
    assert widths[0] == pytest.approx(500 * SIDE_M / 0.5, abs=4)
    assert widths[1] == pytest.approx(ratio * widths[0], abs=4)


def test_the_outline_of_a_hole_is_drawn_too(tmp_path):
    """A square frame has an inner border; what is seen through it stays as it was."""
    part = cube(SIDE_M)
    places = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    frame = Mesh(np.concatenate([part.vertices + SIDE_M * np.array([i, j, 0]) for i, j in places]),
                 np.concatenate([part.faces + n * len(part.vertices) for n in range(8)]),
                 np.tile(part.normals, (8, 1)), np.tile(part.colors, (8, 1)))
    model = ObjectModel(
        object_id=1, label='frame', mesh_path=write_ply(tmp_path / 'frame.ply', frame),
        diameter_m=SIDE_M * 19**0.5, symmetries=Symmetries.none())
    overlay = PoseOverlay({'frame': model})
    picture = overlay.draw(np.zeros((480, 640, 3), np.uint8), CAMERAS['straight'], [
        DrawnObject('frame', make_transform(np.eye(3), [0.0, 0.0, 1.0]), '', axes=False)])
    overlay.close()
    drawn = picture[240, :, 1] > 100
    inner, outer = 500 * SIDE_M / 2 / 1.05, 500 * 1.5 * SIDE_M / 0.95
    for distance in (inner, -inner, outer, -outer):
        at = round(320 + distance)
        assert drawn[at - 3:at + 4].any(), distance
    assert not drawn[300:340].any() and drawn.sum() < 16


def test_axes_are_red_green_and_blue_from_the_origin(overlay):
    """Half a diameter long, x to the right and y down for R = I."""
    T = make_transform(np.eye(3), [0.0, 0.0, 0.5])
    picture = overlay.draw(np.zeros((480, 640, 3), np.uint8), CAMERAS['straight'],
                           [DrawnObject('cube', T, '')])
    length_px = round(500 * SIDE_M * 3**0.5 / 2 / 0.5)
    assert picture[240, 320 + length_px - 3, 0] > 200
    assert picture[240, 320 + length_px + 3].max() == 0
    assert picture[240 + length_px - 3, 320, 1] > 140


def test_text_stands_above_the_object(overlay):
    """And changes nothing below it."""
    T = make_transform(np.eye(3), [0.0, 0.0, 0.5])
    plain, labelled = (overlay.draw(np.full((480, 640, 3), 90, np.uint8), CAMERAS['straight'],
                                    [DrawnObject('cube', T, text)]) for text in ('', 'cube 0.93'))
    rows = np.flatnonzero((plain != labelled).any(axis=(1, 2)))
    assert len(rows) > 5
    assert rows.max() < 240 - 500 * SIDE_M / 2 / 0.5


@pytest.mark.parametrize('t', [[0.0, 0.0, 0.02], [0.0, 0.0, -1.0], [60.0, 0.0, 1.0]])
def test_what_cannot_be_seen_is_left_out(overlay, t):
    """Around the camera, behind it, far beside the image: no error, no nonsense."""
    photo = np.full((480, 640, 3), 90, np.uint8)
    picture = overlay.draw(photo, CAMERAS['plumb_bob'],
                           [DrawnObject('cube', make_transform(np.eye(3), t), '')])
    assert np.array_equal(picture, photo)


def test_a_line_is_interrupted_where_a_point_is_missing():
    """And the rest is drawn, to a fraction of a pixel."""
    image = np.zeros((20, 60, 3), np.uint8)
    line = np.array([[5.0, 10.5], [15, 10.5], [np.nan, np.nan], [40, 10.5], [50, 10.5]])
    draw_lines(image, [line, np.empty((0, 2))], GREEN)
    assert image[:, 8:13, 1].any(axis=0).all() and image[:, 42:48, 1].any(axis=0).all()
    assert not image[:, 20:36].any()
    assert abs(int(image[10, 10, 1]) - int(image[11, 10, 1])) < 20 < image[10, 10, 1]
