"""Renders agree with a slow renderer in numpy, pixel by pixel."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from meshes import bumpy_sphere, cube, rasterise, write_textured_quad

from mrcnet_ros.errors import BackendError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.meshes import Mesh, read_mesh
from mrcnet_ros.rendering.renderer import Renderer, depth_range
from mrcnet_ros.synth.annotation import Annotator

WIDTH, HEIGHT = 120, 96
K = np.array([[300.0, 1.5, 56.7], [0.0, 310.0, 50.2], [0.0, 0.0, 1.0]])
SUBPIXEL = 1 / 256  # OpenGL rounds vertices to this grid before it fills triangles
MESHES = {'cube': cube(), 'blob': bumpy_sphere()}


@pytest.fixture(scope='module')
def renderer() -> Iterator[Renderer]:
    """Hold the test meshes ready to be drawn."""
    with Renderer(WIDTH, HEIGHT) as made:
        for key, mesh in MESHES.items():
            made.add_mesh(key, mesh)
        yield made


def pose(seed: int, distance_m: float = 0.5) -> np.ndarray:
    """Return a random rotation somewhat off the optical axis."""
    rng = np.random.default_rng(seed)
    return make_transform(exp_so3(rng.normal(size=3)), [0.01, -0.02, distance_m])


@pytest.mark.parametrize('key', list(MESHES))
@pytest.mark.parametrize(('seed', 'distance_m'), [(0, 0.4), (1, 0.6), (2, 1.7), (3, 0.11)])
def test_silhouette_and_depth_agree_to_the_pixel(
        renderer: Renderer, key: str, seed: int, distance_m: float) -> None:
    """Only pixels within 1/256 px of a triangle's edge may differ, and only by that tie."""
    T = pose(seed, distance_m)
    drawn = renderer.render(key, T, K).depth_m.astype(float)
    drawn[drawn == 0] = np.inf
    nearest, exact, farthest = (
        rasterise(MESHES[key], T, K, WIDTH, HEIGHT, margin)
        for margin in (SUBPIXEL, 0.0, -SUBPIXEL))
    tie = nearest != farthest
    assert np.isfinite(exact).sum() > 100 and tie.sum() < 0.05 * np.isfinite(exact).sum()
    np.testing.assert_array_equal(np.isfinite(drawn)[~tie], np.isfinite(exact)[~tie])
    np.testing.assert_allclose(drawn[~tie], exact[~tie], rtol=1e-5)
    assert (drawn >= nearest * (1 - 1e-5)).all() and (drawn <= farthest * (1 + 1e-5)).all()


def test_a_half_pixel_shift_would_be_noticed(renderer: Renderer) -> None:
    """With pixel centres at half integers the silhouette would be another one."""
    T, shifted = pose(0), K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    drawn = renderer.render('blob', T, K).mask
    assert (drawn == np.isfinite(rasterise(MESHES['blob'], T, K, WIDTH, HEIGHT))).mean() > 0.999
    wrong = np.isfinite(rasterise(MESHES['blob'], T, shifted, WIDTH, HEIGHT))
    assert (drawn != wrong).sum() > 30


def test_normals_are_encoded_in_the_object_frame(renderer: Renderer) -> None:
    """The face of a cube that looks at the camera shows its own axis, however it is turned."""
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = sign * np.eye(3)[axis]
            R = np.stack([np.roll(normal, 1), np.cross(-normal, np.roll(normal, 1)), -normal])
            T = make_transform(R, [0, 0, 0.5])
            rgb = renderer.render('cube', T, K, shading='normals').rgb
            np.testing.assert_array_equal(rgb[50, 57], np.round(127.5 * (normal + 1)))
            assert not rgb[0, 0].any()


def test_flat_colours_are_the_meshs_own(renderer: Renderer) -> None:
    """Unlit renders of a cube hold its face colours and black, nothing else."""
    rgb = renderer.render('cube', pose(4), K, shading='flat').rgb
    seen = {tuple(c) for c in rgb.reshape(-1, 3).tolist()}
    own = {tuple(c) for c in MESHES['cube'].colors.tolist()}
    assert (0, 0, 0) in seen and 1 < len(seen - {(0, 0, 0)}) <= 3
    assert seen <= own | {(0, 0, 0)}


def test_the_headlight_is_full_on_what_faces_the_camera(renderer: Renderer) -> None:
    """A face seen head-on has its own colour; a tilted one is darker, in proportion."""
    T = make_transform(np.eye(3), [0, 0, 0.5])
    flat = renderer.render('cube', T, K, shading='flat').rgb[50, 57]
    np.testing.assert_array_equal(renderer.render('cube', T, K).rgb[50, 57], flat)
    tilted = make_transform(exp_so3([0.6, 0, 0]), [0, 0, 0.5])
    flat, lit = (renderer.render('cube', tilted, K, shading=s).rgb[50, 57].astype(float)
                 for s in ('flat', 'template'))
    np.testing.assert_allclose(lit, flat * (0.4 + 0.6 * np.cos(0.6)), atol=1)


def test_a_texture_stands_upright_and_is_not_mirrored(tmp_path: Path) -> None:
    """Each corner of a painted square shows the corner of the image that belongs there."""
    square = read_mesh(write_textured_quad(tmp_path / 'quad.obj'), 1.0)
    with Renderer(64, 64) as renderer:
        renderer.add_mesh('square', square)
        k = np.array([[200.0, 0, 31.5], [0, 200.0, 31.5], [0, 0, 1]])
        view = renderer.render('square', make_transform(np.eye(3), [0, 0, 0.5]), k,
                               shading='flat')
    for (v, u), color in {(20, 20): (255, 0, 0), (20, 44): (0, 255, 0),
                          (44, 20): (0, 0, 255), (44, 44): (255, 255, 255)}.items():
        np.testing.assert_array_equal(view.rgb[v, u], color)
    assert view.mask.sum() == 40 * 40


def test_a_mesh_with_holes_shows_its_inside(renderer: Renderer) -> None:
    """Back faces are left out only where they can never be seen."""
    whole = cube()
    open_cube = type(whole)(whole.vertices, whole.faces[2:], whole.normals, whole.colors)
    renderer.add_mesh('open', open_cube)
    T = make_transform(exp_so3([0, -np.pi / 2, 0]), [0, 0, 0.5])  # looks through the hole at -x
    depth = renderer.render('open', T, K).depth_m[50, 57]
    assert depth == pytest.approx(0.55, rel=1e-5)
    assert renderer.render('cube', T, K).depth_m[50, 57] == pytest.approx(0.45, rel=1e-5)


def test_depth_stays_precise_far_away(renderer: Renderer) -> None:
    """Near and far planes follow the object, so 50 m away its front is known to the micron."""
    far = renderer.render('cube', make_transform(np.eye(3), [0, 0, 50.0]),
                          K * [[100], [100], [1]]).depth_m
    assert far[far > 0] == pytest.approx(49.95, abs=5e-6)


def test_an_object_behind_the_camera_is_not_seen(renderer: Renderer) -> None:
    """Nothing is drawn, and nothing of the previous render remains."""
    assert renderer.render('cube', pose(0), K).mask.any()
    behind = renderer.render('cube', make_transform(np.eye(3), [0, 0, -0.5]), K)
    assert not behind.mask.any() and not behind.rgb.any()


def test_near_and_far_planes_hold_the_object() -> None:
    """The planes enclose the bounding sphere and stay in front of the camera."""
    near_m, far_m = depth_range(make_transform(np.eye(3), [0, 0, 2.0]), np.array([0, 0, 0.5]), 0.1)
    assert 2.3 < near_m < 2.4 and 2.6 < far_m < 2.7
    near_m, _ = depth_range(make_transform(np.eye(3), [0, 0, 0.05]), np.zeros(3), 0.1)
    assert near_m > 0


def test_another_thread_is_refused(renderer: Renderer) -> None:
    """A thread that did not make the renderer is told so, and to make its own."""
    caught: list[Exception] = []

    def call() -> None:
        try:
            renderer.render('cube', pose(0), K)
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert len(caught) == 1 and isinstance(caught[0], RuntimeError)
    assert 'make a renderer of its own in each thread' in str(caught[0])
    assert renderer.render('cube', pose(0), K).mask.any()


def test_each_thread_can_have_its_own(renderer: Renderer) -> None:
    """Renderers in two threads do not disturb each other."""
    expected = renderer.render('cube', pose(0), K)
    seen: list[np.ndarray] = []

    def draw() -> None:
        with Renderer(WIDTH, HEIGHT) as own:
            own.add_mesh('cube', MESHES['cube'])
            seen.extend(own.render('cube', pose(0), K).rgb for _ in range(5))

    thread = threading.Thread(target=draw)
    thread.start()
    here = [renderer.render('cube', pose(0), K).rgb for _ in range(5)]
    thread.join()
    assert len(seen) == 5
    for rgb in here + seen:
        np.testing.assert_array_equal(rgb, expected.rgb)


def test_closing_one_renderer_leaves_the_others(renderer: Renderer) -> None:
    """Renderers of other sizes come and go without harm to those that stay."""
    before = renderer.render('blob', pose(1), K)
    for size in (32, 64, 48):
        with Renderer(size, size) as other:
            other.add_mesh('blob', MESHES['blob'])
            assert other.render('blob', pose(1), K * [[0.5], [0.5], [1]]).mask.any()
            np.testing.assert_array_equal(renderer.render('blob', pose(1), K).rgb, before.rgb)
        np.testing.assert_array_equal(renderer.render('blob', pose(1), K).depth_m, before.depth_m)


def test_a_closed_renderer_says_so() -> None:
    """Drawing after closing is a clear error; closing twice is none."""
    renderer = Renderer(16, 16)
    renderer.add_mesh('cube', MESHES['cube'])
    renderer.close()
    renderer.close()
    with pytest.raises(RuntimeError, match='closed'):
        renderer.add_mesh('blob', MESHES['blob'])


def test_wrong_arguments_are_named(renderer: Renderer) -> None:
    """Unknown keys and shadings, taken keys and poses that are not finite are refused."""
    with pytest.raises(KeyError, match='no mesh 4'):
        renderer.render(4, pose(0), K)
    with pytest.raises(ValueError, match="a mesh 'cube' already"):
        renderer.add_mesh('cube', MESHES['cube'])
    with pytest.raises(ValueError, match='T_camera_object'):
        renderer.render('cube', np.full((4, 4), np.nan), K)
    with pytest.raises(ValueError, match='K must be'):
        renderer.render('cube', pose(0), K[:2])
    with pytest.raises(ValueError, match="unknown shading 'shiny'"):
        renderer.render('cube', pose(0), K, shading='shiny')  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='0x4'):
        Renderer(0, 4)


def test_images_that_opengl_cannot_draw_are_refused() -> None:
    """The message says how large they may be, also for annotations, which are larger."""
    with pytest.raises(BackendError, match=r'40000x8 pixels.*a side may have at most \d+'):
        Renderer(40000, 8)
    with pytest.raises(BackendError, match=r'images of 12000x8.*three times.*36000x24 pixels'):
        Annotator(Camera(K, 12000, 8), {}, {})


def test_a_texture_that_is_too_large_for_opengl_is_shrunk() -> None:
    """Its colours stay where they are."""
    texture = np.zeros((4, 40000, 3), np.uint8)
    texture[:, :10000], texture[:, 10000:] = (200, 0, 0), (0, 0, 200)
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    mesh = Mesh(0.1 * square, np.array([[0, 1, 2], [0, 2, 3]], np.int32),
                np.tile([0.0, 0, 1], (4, 1)), np.zeros((4, 3), np.uint8), (texture,),
                square[:, :2], np.zeros(2, np.int32))
    with Renderer(100, 100) as renderer:
        renderer.add_mesh('square', mesh)
        row = renderer.render('square', make_transform(np.eye(3), [0.0, 0.0, 1.0]), np.array(
            [[1000.0, 0, -0.5], [0, 1000.0, -0.5], [0, 0, 1]]), shading='flat').rgb[50]
    assert (row[3:22] == [200, 0, 0]).all() and (row[28:97] == [0, 0, 200]).all()


def test_a_platform_that_needs_a_display_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another OpenGL platform chosen in the environment is named with the remedy."""
    monkeypatch.setenv('PYOPENGL_PLATFORM', 'glx')
    with pytest.raises(BackendError, match=r"PYOPENGL_PLATFORM is 'glx'.*egl"):
        Renderer(16, 16)


WITHOUT_WINDOWS = '''
import sys
sys.modules['pyglet'] = None  # importing it fails, as without libX11 or libXrender
from meshes import cube
from mrcnet_ros.rendering.renderer import Renderer

with Renderer(16, 16) as renderer:
    renderer.add_mesh('cube', cube())
    print('drawn')
'''


def test_no_library_of_windows_is_needed() -> None:
    """A GPU server without X draws: what pyrender opens windows with is never loaded."""
    ended = subprocess.run([sys.executable, '-c', WITHOUT_WINDOWS], capture_output=True, text=True,
                           env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
                           check=False)
    assert ended.stdout == 'drawn\n', ended.stderr
