"""Normals and windings of meshes: what is lit, and from which side it is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from mesh_texts import (
    CORNERS,
    SHARED,
    SHARED_ROWS,
    TRIANGLES,
    assert_looks_like,
    box,
    pictures,
)
from ply_texts import VERTEX_RGB, XYZ, columns, faces, ply

from mrcnet_ros.meshes import read_mesh


def normals(table: np.ndarray) -> list[tuple]:
    """Return the properties of normals."""
    return columns(('nx', 'ny', 'nz'), 'float', table)


@pytest.mark.parametrize('bad', [0.0, np.nan, np.inf])
def test_normals_that_are_none_are_computed(tmp_path: Path, bad: float) -> None:
    """Some of a file's or all; those that are good are kept."""
    for count in (5, 24):
        table = box().normals.copy()
        table[:count] = bad
        path = ply(tmp_path / 'x.ply', XYZ + VERTEX_RGB + normals(table), [faces()])
        mesh = assert_looks_like(path, box(), 'template')
        np.testing.assert_allclose(mesh.normals, box().normals, atol=1e-6)


def test_normals_of_any_length_are_directions(tmp_path: Path) -> None:
    """Doubled or tiny, they are scaled to unit length."""
    lengths = np.geomspace(1e-6, 1e6, 24)[:, None]
    path = ply(tmp_path / 'x.ply', XYZ + normals(lengths * box().normals), [faces()])
    np.testing.assert_allclose(read_mesh(path, 0.001).normals, box().normals, atol=1e-6)


@pytest.mark.parametrize('shared', [True, False])
def test_faces_that_show_both_sides_are_shaded_as_one(tmp_path: Path, shared: bool) -> None:
    """Each face a second time the other way round: its normals do not cancel out."""
    rows = np.concatenate([TRIANGLES, TRIANGLES[:, ::-1]])
    vertex = XYZ if shared else [(n, k, np.tile(v, 2)) for n, k, v in XYZ]
    rgb = VERTEX_RGB if shared else [(n, k, np.tile(v, 2)) for n, k, v in VERTEX_RGB]
    rows = rows if shared else np.concatenate([TRIANGLES, 24 + TRIANGLES[:, ::-1]])
    assert_looks_like(ply(tmp_path / 'x.ply', vertex + rgb, [faces(rows)]), box(), 'template')


@pytest.mark.parametrize('flipped', [range(12), range(0, 12, 2), range(3)])
def test_faces_wound_the_wrong_way_are_seen_and_shaded(tmp_path: Path, flipped: range) -> None:
    """All, every other one, or some: a box stays a closed box, lit from where it is seen."""
    rows = TRIANGLES.copy()
    rows[list(flipped)] = rows[list(flipped)][:, ::-1]
    path = ply(tmp_path / 'x.ply', XYZ + VERTEX_RGB, [faces(rows)])
    mesh = assert_looks_like(path, box(), 'template')
    assert (np.einsum('vi,vi->v', mesh.vertices, mesh.normals) > 0.0).all()
    if len(flipped) == 12:
        np.testing.assert_allclose(mesh.normals, box().normals, atol=1e-6)


def test_a_body_wound_inward_beside_another_is_seen_from_outside(tmp_path: Path) -> None:
    """Back faces are left out for the whole mesh or not at all; a cavity does not count."""
    small = 0.3 * CORNERS
    parts = {'beside': small + [0, 0, 55], 'inside': small}
    for name, corners in parts.items():
        vertex = [(n, k, np.concatenate([v, corners[:, i]])) for i, (n, k, v) in enumerate(XYZ)]
        rgb = [(n, k, np.tile(v, 2)) for n, k, v in VERTEX_RGB]
        for turn in (1, -1):
            rows = np.concatenate([TRIANGLES, 24 + TRIANGLES[:, ::turn]])
            ply(tmp_path / f'{name}{turn}.ply', vertex + rgb, [faces(rows)])
        views = [pictures(read_mesh(tmp_path / f'{name}{turn}.ply', 0.001)) for turn in (1, -1)]
        for (rgb, mask), (turned_rgb, turned_mask) in zip(*views, strict=True):
            np.testing.assert_array_equal(mask, turned_mask)
            assert (rgb != turned_rgb).any(axis=2).sum() < 5  # ties at the rim


@pytest.mark.parametrize('outer', [1, -1])
@pytest.mark.parametrize(('offset', 'inner', 'outward'), [
    (55, 1, True), (55, -1, True), (0, -1, False)])
def test_normals_of_each_body_point_out_of_it(
        tmp_path: Path, outer: int, offset: int, inner: int, outward: bool) -> None:
    """Of two bodies in a file, whichever is wound inward; those of a cavity point into it."""
    small = 0.3 * CORNERS + [0, 0, offset]
    vertex = columns(('x', 'y', 'z'), 'float', np.concatenate([CORNERS, small]))
    turn = inner * outer if offset == 0 else inner  # a cavity is turned with what is around it
    rows = np.concatenate([TRIANGLES[:, ::outer], 24 + TRIANGLES[:, ::turn]])
    found = read_mesh(ply(tmp_path / 'x.ply', vertex, [faces(rows)]), 0.001).normals
    np.testing.assert_allclose(found[:24], box().normals, atol=1e-6)
    np.testing.assert_allclose(found[24:], box().normals * (1 if outward else -1), atol=1e-6)


@pytest.mark.parametrize('turned', [range(12), range(12, 24), range(24)])
@pytest.mark.parametrize('wound', [1, -1])
def test_normals_of_a_file_that_point_into_a_body_are_turned(
        tmp_path: Path, turned: range, wound: int) -> None:
    """Those of mirrored copies, also of one of two bodies; so they are seen and lit from outside.

    Half of those of one body are no rule, and all of it are computed.
    """
    table = np.tile(box().normals, (2, 1))
    table[list(turned)] *= -1
    vertex = columns(('x', 'y', 'z'), 'float', np.concatenate([CORNERS, CORNERS + [90, 0, 0]]))
    rows = np.concatenate([TRIANGLES, 24 + TRIANGLES])[:, ::wound]
    path = ply(tmp_path / 'x.ply', vertex + normals(table), [faces(rows)])
    np.testing.assert_allclose(read_mesh(path, 0.001).normals, np.tile(box().normals, (2, 1)),
                               atol=1e-6)


def test_normals_of_an_open_surface_stay_as_the_file_has_them(tmp_path: Path) -> None:
    """Nothing says which side of it is outside."""
    path = ply(tmp_path / 'x.ply', XYZ + normals(-box().normals), [faces(TRIANGLES[:-1])])
    np.testing.assert_allclose(read_mesh(path, 0.001).normals, -box().normals, atol=1e-6)


def shared_box(folder: Path, kind: str) -> Path:
    """Write the box with eight vertices, which its sides share, and without normals."""
    shape = trimesh.Trimesh(SHARED, SHARED_ROWS.ravel()[TRIANGLES], process=False)
    path = folder / f'box.{kind}'
    if kind == 'stl':  # a solid of each half
        texts = [trimesh.exchange.stl.export_stl_ascii(shape.submesh([half], append=True))
                 for half in (range(6), range(6, 12))]
        path.write_text('\n'.join(texts) + '\n')
    else:
        export(shape, path)
    return path


def export(shape: trimesh.Trimesh, path: Path) -> None:
    """Write a shape without normals."""
    kind = path.suffix[1:]
    named = {'obj': 'include_normals', 'glb': 'include_normals', 'ply': 'vertex_normal'}
    data = shape.export(file_type=kind, **({named[kind]: False} if kind in named else {}))
    path.write_bytes(data.encode() if isinstance(data, str) else data)


@pytest.mark.parametrize('kind', ['obj', 'off', 'glb', 'stl'])
def test_sharp_edges_are_seen_where_a_file_has_no_normals(tmp_path: Path, kind: str) -> None:
    """Sides of a box do not share normals at its corners."""
    mesh = read_mesh(shared_box(tmp_path, kind), 0.001)
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    across = np.cross(b - a, c - a)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    np.testing.assert_allclose(mesh.normals[mesh.faces], np.repeat(across[:, None], 3, axis=1),
                               atol=1e-6)


@pytest.mark.parametrize('kind', ['obj', 'off', 'glb'])
def test_round_shapes_look_round_where_a_file_has_no_normals(tmp_path: Path, kind: str) -> None:
    """Their faces share normals, but not with the flat ends of a cylinder."""
    shape = trimesh.creation.cylinder(20, 60, sections=32)
    path = tmp_path / f'x.{kind}'
    export(shape, path)
    mesh = read_mesh(path, 0.001)
    flat = np.abs(mesh.normals[:, 2]) > 0.999
    radial = mesh.vertices[~flat] * [1, 1, 0]
    radial /= np.linalg.norm(radial, axis=1, keepdims=True)
    assert 32 <= (~flat).sum() <= 64 + 2
    np.testing.assert_allclose(mesh.normals[~flat], radial, atol=0.02)


def test_faces_of_a_ply_file_share_normals_at_their_vertices(tmp_path: Path) -> None:
    """Models have learned those of T-LESS that have no normals so."""
    mesh = read_mesh(shared_box(tmp_path, 'ply'), 0.001)
    assert len(mesh.normals) == 8 and (np.abs(mesh.normals) > 0.3).all()
