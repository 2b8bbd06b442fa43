"""Training images obey perspective and light: tables, shadows, neighbours, borders, cameras."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip('torch', reason='needs the train extra')

import numpy as np
import trimesh
from meshes import cube

from mrcnet_ros.errors import BackendError
from mrcnet_ros.geometry.view_prior import rotation_from_angles
from mrcnet_ros.meshes import read_mesh
from mrcnet_ros.objects import Mesh
from mrcnet_ros.specs import CropSpec, ViewPrior
from mrcnet_ros.training import openness
from mrcnet_ros.training.augmentation import around, augment, photograph
from mrcnet_ros.training.backgrounds import irradiance_matrices
from mrcnet_ros.training.composer import Composer
from mrcnet_ros.training.openness import LONGEST_EDGE, bake_openness
from mrcnet_ros.training.painting import ComposerSpec, beyond_border
from mrcnet_ros.training.placing import Placer
from mrcnet_ros.training.printed_sheets import PRINT_PX, draw_prints
from mrcnet_ros.training.shapes import KINDS, draw_shapes
from mrcnet_ros.training.table_plane import Table, cast_shadow, lay_print, table_under
from mrcnet_ros.training.view_bank import (
    VIEW_PX,
    ViewBank,
    from_outside,
    load_or_render_shapes,
)

PRIOR = ViewPrior(elevation_min_deg=-90.0, elevation_max_deg=90.0, tilt_max_deg=20.0)
DISTANCE_M = 0.7
K = np.array([[600.0, 0.0, 63.5], [0.0, 600.0, 63.5], [0.0, 0.0, 1.0]])
UP = np.array([0.0, 0.0, 1.0])


def standing(elevation: float = 0.7, tilt: float = 0.3) -> tuple[Table, np.ndarray, Mesh]:
    """Return the table under a cube, the cube's rotation, and the cube."""
    box = cube(0.08)
    R = rotation_from_angles(0.4, elevation, tilt)
    table = table_under(np.random.default_rng(0), R, np.array([0, 0, DISTANCE_M]), box.vertices,
                        UP)
    assert table is not None
    return table, R, box


def test_a_cube_stands_on_its_table():
    """Its four lowest corners lie on the plane, all others above."""
    table, R, box = standing()
    points = box.vertices @ R.T + [0, 0, DISTANCE_M]
    heights = (points - table.point_m) @ table.normal
    on_table = np.isclose(box.vertices[:, 2], -0.04)
    np.testing.assert_allclose(heights[on_table], 0.0, atol=1e-12)
    np.testing.assert_allclose(heights[~on_table], 0.08, atol=1e-12)
    assert -table.normal @ table.point_m > 0, 'the camera is above the table'


def test_a_table_seen_from_its_edge_is_not_drawn():
    """A camera at the height of the table sees nothing of it."""
    box = cube(0.08)
    R = rotation_from_angles(0.4, -0.05, 0.0)
    assert table_under(np.random.default_rng(0), R, np.array([0, 0, DISTANCE_M]), box.vertices,
                       UP) is None


def test_an_object_without_an_up_gets_a_table_below_the_camera():
    """Whatever rotation it is seen in, the camera looks down at the table and up is up."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        R = rotation_from_angles(*rng.uniform(-3, 3, 3))
        table = table_under(rng, R, np.array([0, 0, DISTANCE_M]), cube(0.08).vertices, None)
        if table is not None:
            assert table.normal[1] < 0.0
            assert ((cube(0.08).vertices @ R.T + [0, 0, DISTANCE_M] - table.point_m)
                    @ table.normal).min() > -1e-9


def test_print_is_drawn_in_the_plane():
    """A sheet covers just those pixels whose rays meet it."""
    table, _, _ = standing()
    image = np.zeros((128, 128, 3), np.float32)
    sheet = np.full((PRINT_PX, PRINT_PX, 3), 200, np.uint8)
    rng = np.random.default_rng(3)
    lay_print(rng, image, table, K, sheet, 0.14)
    v, u = np.nonzero(image[..., 0] > 100)
    assert 50 < len(u) < 128**2
    rays = np.stack([u, v, np.ones_like(u)], 1) @ np.linalg.inv(K).T
    meets = rays * (table.point_m @ table.normal / (rays @ table.normal))[:, None]
    xy = (meets - table.point_m) @ table.axes
    # a square: its sides are straight in the plane, and all within the widest sheet
    assert np.ptp(xy, axis=0).max() <= 8.1 * 0.14
    np.testing.assert_allclose((meets - table.point_m) @ table.normal, 0.0, atol=1e-9)


def test_shadows_only_darken_and_lie_at_the_foot():
    """No pixel gets lighter, and the darkest ones are near the object's base."""
    table, R, box = standing()
    image = np.full((128, 128, 3), 180, np.float32)
    cast_shadow(np.random.default_rng(5), image, table, K,
                box.vertices @ R.T + [0, 0, DISTANCE_M], table.normal)
    assert image.max() <= 180
    assert image.min() < 160
    foot = (K @ table.point_m)[:2] / table.point_m[2]
    v, u = np.nonzero(image[..., 0] < image.min() + 5)
    assert np.linalg.norm(np.stack([u, v], 1).mean(0) - foot) < 25


@pytest.fixture(scope='module')
def bodies(tmp_path_factory: pytest.TempPathFactory) -> list[ViewBank]:
    """Render views of a box, a bar and a cylinder, about ten degrees apart in elevation."""
    folder = tmp_path_factory.mktemp('bodies')
    return [v.open() for v in load_or_render_shapes(folder, 3, (0.4, 0.9), 40, 0)]


def test_bodies_are_closed_and_of_a_size_that_lies_on_tables():
    """All kinds are made, centred, 4 to 50 cm large, and seeds give other ones."""
    for mesh in draw_shapes(2 * len(KINDS), 0):
        extent = np.ptp(mesh.vertices, axis=0)
        assert 0.02 < np.linalg.norm(extent) < 0.5
        np.testing.assert_allclose(mesh.vertices.max(0) + mesh.vertices.min(0), 0, atol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-6)
    one, other = draw_shapes(1, 0)[0], draw_shapes(1, 1)[0]
    assert not np.array_equal(one.vertices, other.vertices)


def test_bodies_around_a_small_object_are_seen_from_outside(tmp_path: Path, monkeypatch):
    """Distances of a nut of 10 mm are within a body of 33 cm; other ones stay as they are."""
    large = draw_shapes(15, 0)[14:]
    monkeypatch.setattr('mrcnet_ros.training.view_bank.draw_shapes', lambda *_: large)
    views, = load_or_render_shapes(tmp_path, 1, (0.03, 0.09), 8, 0)
    assert views.open().distance_m.min() > 0.33
    shown = views.open().albedo[..., 3].any(axis=1).sum(axis=1)  # columns
    assert (shown > 0.3 * VIEW_PX).all()
    assert from_outside((0.45, 0.5), 0.413) == (0.45, 0.5)


def test_neighbours_stand_on_the_same_table(bodies):
    """Upright neighbours touch the plane, and those in front are nearer than those behind."""
    table, _, _ = standing()
    placer = Placer(bodies, [PRIOR] * len(bodies))
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        found += placer.place(rng, table, K, 0.14, (3, 2))
    upright = [p for p in found if p.corners_m is not None]
    assert len(found) > 80 and len(upright) > 20
    for placed in upright:
        lowest = ((placed.corners_m - table.point_m) @ table.normal).min()
        assert abs(lowest) < 0.12 * bodies[placed.bank].diameter_m
    depth = {f: np.mean([p.corners_m[:, 2].mean() for p in upright if p.in_front is f])
             for f in (True, False)}
    assert depth[True] < depth[False]


def test_a_neighbour_is_drawn_where_and_as_large_as_it_stands(bodies):
    """The view put into the image covers the projection of the neighbour's hull."""
    table, _, _ = standing()
    placer = Placer(bodies, [PRIOR] * len(bodies))
    rng = np.random.default_rng(2)
    for placed in placer.place(rng, table, K, 0.14, (12, 6)):
        if placed.corners_m is None:
            continue
        mask = bodies[placed.bank].albedo[placed.view][..., 3] > 0
        v, u = np.nonzero(mask)
        drawn = placed.A_layout_view @ np.stack([u, v, np.ones_like(u)])
        seen = placed.corners_m @ K.T
        seen = seen[:, :2] / seen[:, 2:]
        size = np.linalg.norm(np.ptp(seen, axis=0))
        assert np.abs(drawn[:2].T.mean(0) - seen.mean(0)).max() < 0.35 * size
        assert 0.7 < np.linalg.norm(np.ptp(drawn[:2], axis=1)) / size < 1.4


def test_beyond_the_border_is_black_and_nothing_is_visible():
    """Every pixel on the outer side of a line is black and has no opacity; no other changes."""
    image = np.full((96, 96, 3), 120, np.uint8)
    alpha = np.ones((96, 96), np.float32)
    cut, open_part = beyond_border([np.array([1.0, 0.0, -60.0])], np.eye(3), image, alpha)
    assert not cut[:, 61:].any() and not open_part[:, 61:].any()
    assert (cut[:, :60] == 120).all() and (open_part[:, :60] == 1).all()


def composer_of(bodies: list[ViewBank], **changes: object) -> Composer:
    """Return a composer of bodies on tables, before noise."""
    patches = np.random.default_rng(0).integers(0, 255, (4, 192, 192, 3), np.uint8)
    spec = dataclasses.replace(ComposerSpec(crop=CropSpec(size_px=96)), **changes)
    return Composer(bodies, [PRIOR] * 2, patches, irradiance_matrices([]), spec)


def test_what_the_border_hides_is_not_visible(bodies):
    """A border in every image lowers the visible fraction of some and leaves black there."""
    cut = [composer_of(bodies, occluded=0.0, border=1.0).sample(0, i) for i in range(30)]
    whole = [composer_of(bodies, occluded=0.0, border=0.0).sample(0, i) for i in range(30)]
    assert all(s.visible_fraction == 1.0 for s in whole)
    assert 0.1 < np.mean([s.visible_fraction < 0.98 for s in cut]) < 0.9
    for sample in cut:
        black = (sample.image == 0).all(2).reshape(24, 4, 24, 4).all((1, 3))
        assert not sample.mask[black].any()


def test_bodies_are_never_the_object_of_an_image(bodies):
    """Only classes are; the other banks lie about."""
    composer = composer_of(bodies)
    assert {composer.sample(0, i).class_index for i in range(8)} == {0, 1}
    placed = [p.bank for i in range(60) for p in composer.placer.place(
        np.random.default_rng(i), None, K, 0.1, (2, 1))]
    assert set(placed) > {0, 1}


def test_convex_surfaces_are_open_and_holes_are_not():
    """Light from all around reaches a cube everywhere, and hardly the bottom of a deep cup."""
    box = cube(0.08)
    baked = bake_openness(box, 0.14)
    assert baked.colors.min() > 250
    edges = np.linalg.norm(baked.vertices[baked.faces[:, 0]] - baked.vertices[baked.faces[:, 1]],
                           axis=1)
    assert edges.max() <= LONGEST_EDGE * 0.14 * 1.001
    cup = trimesh.creation.annulus(0.02, 0.025, 0.1)
    floor = trimesh.creation.cylinder(0.025, 0.004, transform=trimesh.transformations
                                      .translation_matrix([0, 0, -0.05]))
    both = trimesh.util.concatenate([cup, floor])
    for turn in (1, -1):
        mesh = Mesh(np.asarray(both.vertices), np.asarray(both.faces, np.int32)[:, ::turn],
                    np.asarray(both.vertex_normals), np.zeros((len(both.vertices), 3), np.uint8))
        baked = bake_openness(mesh, 0.11)
        radius, z = np.linalg.norm(baked.vertices[:, :2], axis=1), baked.vertices[:, 2]
        inside = (radius < 0.01) & (np.abs(z + 0.048) < 1e-4)
        assert inside.any()
        assert baked.colors[inside].max() < 60
        assert baked.colors[(radius > 0.0249) & (z > 0.0)].min() > 200


BOX = trimesh.creation.box((80.0, 60.0, 40.0))
FACES = np.asarray(BOX.faces)
MIXED = np.where((np.arange(12) % 2 == 0)[:, None], FACES[:, ::-1], FACES)


@pytest.mark.parametrize('kind', ['stl', 'ply'])
@pytest.mark.parametrize('faces', [
    FACES[:, ::-1], np.concatenate([FACES, FACES[:, ::-1]]), MIXED, FACES[2:], FACES[2:, ::-1],
    MIXED[2:]], ids=['inward', 'both sides', 'mixed', 'open', 'open inward', 'open mixed'])
def test_openness_is_that_of_the_outside(tmp_path: Path, kind: str, faces: np.ndarray):
    """However a file winds the faces of a convex body, its surface is as open as ever."""
    path = tmp_path / f'box.{kind}'
    trimesh.Trimesh(BOX.vertices, faces, process=False).export(path)
    assert bake_openness(read_mesh(path, 0.001), 0.108).colors.min() > 250


def test_fine_meshes_take_fewer_rays_for_the_same_openness(monkeypatch: pytest.MonkeyPatch):
    """The mean over neighbours stays, the rays of all vertices together are bounded."""
    cup = trimesh.creation.annulus(0.02, 0.025, 0.1).subdivide().subdivide()
    mesh = Mesh(np.asarray(cup.vertices), np.asarray(cup.faces, np.int32),
                np.asarray(cup.vertex_normals), np.zeros((len(cup.vertices), 3), np.uint8))
    baked = bake_openness(mesh, 0.11)
    usual, inside = (baked.colors[:, 0].astype(float),
                     np.linalg.norm(baked.vertices[:, :2], axis=1) < 0.021)
    rays = []
    ask = trimesh.ray.ray_pyembree.RayMeshIntersector.intersects_any
    monkeypatch.setattr(trimesh.ray.ray_pyembree.RayMeshIntersector, 'intersects_any',
                        lambda self, a, b: rays.append(len(a)) or ask(self, a, b))
    monkeypatch.setattr(openness, 'MOST_RAYS', 40 * len(usual))
    fewer = bake_openness(mesh, 0.11).colors[:, 0].astype(float)
    assert sum(rays) == 40 * len(usual)
    for part in (inside, ~inside):
        assert abs(fewer[part].mean() - usual[part].mean()) < 2
    assert np.abs(fewer - usual).mean() < 30


def test_a_missing_ray_tracer_is_told(monkeypatch: pytest.MonkeyPatch):
    """With what to install."""
    monkeypatch.setattr(trimesh.ray, 'has_embree', False)
    with pytest.raises(BackendError, match=r'embreex.*pip install .\.\[train\]'):
        bake_openness(cube(0.08), 0.14)


def test_no_strength_means_no_change():
    """At strength 0 factors are 1, and an image keeps its mean colours up to soft shadows."""
    rng = np.random.default_rng(0)
    assert (around(rng, 0.5, 2.0, 0.0, 100) == 1.0).all()
    drawn = around(rng, 0.5, 2.0, 1.0, 1000)
    assert 0.5 <= drawn.min() < 0.55 and 1.9 < drawn.max() <= 2.0
    image = np.random.default_rng(1).uniform(0, 255, (96, 96, 3)).astype(np.float32)
    for seed in range(5):
        out = augment(np.random.default_rng(seed), image.copy(), 0.0)
        np.testing.assert_allclose(out, image, atol=1e-3)


def test_a_camera_of_few_pixels_blurs_its_enlarged_crop():
    """Detail falls with the resolution of the camera."""
    image = np.random.default_rng(1).uniform(0, 255, (96, 96, 3)).astype(np.float32)

    def detail(resolution: float) -> float:
        taken = photograph(np.random.default_rng(3), image.copy(), resolution)
        assert taken.shape == (96, 96, 3) and taken.dtype == np.uint8
        return float(np.abs(np.diff(taken.astype(float), axis=1)).mean())

    assert detail(0.3) < 0.5 * detail(0.7) < 0.5 * detail(1.5)


def test_prints_differ_and_can_be_made_again():
    """A seed determines all sheets; no two of a few are alike."""
    pictures = np.random.default_rng(0).integers(0, 255, (3, 192, 192, 3), np.uint8)
    sheets = draw_prints(pictures, 12, 0)
    assert sheets.shape == (12, PRINT_PX, PRINT_PX, 3)
    np.testing.assert_array_equal(sheets, draw_prints(pictures, 12, 0))
    assert len({s.tobytes() for s in sheets}) == 12


def test_views_of_bodies_come_from_the_folder_the_second_time(tmp_path: Path, monkeypatch):
    """They are rendered once for each number of them."""
    first = load_or_render_shapes(tmp_path, 1, (0.4, 0.9), 2, 0)[0].open()
    assert first.albedo.shape == (2, VIEW_PX, VIEW_PX, 4)

    def fail(*_: object) -> None:
        raise AssertionError('rendered again')

    monkeypatch.setattr('mrcnet_ros.training.view_bank._render', fail)
    second = load_or_render_shapes(tmp_path, 1, (0.4, 0.9), 2, 0)[0].open()
    np.testing.assert_array_equal(first.albedo, second.albedo)
    with pytest.raises(AssertionError, match='rendered again'):
        load_or_render_shapes(tmp_path, 1, (0.4, 0.9), 3, 0)
