"""OFF and STL files: colours, shapes, all ways of writing them, and files that are cut off."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import trimesh
from mesh_texts import (
    COLORS,
    CORNERS,
    QUADS,
    TRIANGLES,
    assert_looks_like,
    box,
)

from mrcnet_ros.errors import MeshError
from mrcnet_ros.meshes import mesh_digest, read_mesh


def off(path: Path, head: str, vertices: list[str], rows: list[str]) -> Path:
    """Write an OFF file."""
    path.write_text('\n'.join([head, f'{len(vertices)} {len(rows)} 0', *vertices, *rows]))
    return path


def test_off_files_have_their_colours(tmp_path: Path) -> None:
    """Of faces or vertices, in whole numbers or fractions."""
    points = [' '.join(map(str, p)) for p in CORNERS]
    quads = ['4 ' + ' '.join(map(str, q)) for q in QUADS]
    whole = [f'{q} {r} {g} {b}' for q, (r, g, b) in zip(quads, COLORS, strict=True)]
    parts = [f'{q} {r:.6f} {g:.6f} {b:.6f} 1.0'
             for q, (r, g, b) in zip(quads, COLORS / 255, strict=True)]
    each = [f'{p} {r} {g} {b} 255'
            for p, (r, g, b) in zip(points, box().colors, strict=True)]
    for name, head, vertices, rows in (
            ('a', 'OFF', points, whole), ('b', 'OFF # x', points, parts),
            ('c', 'COFF', each, quads)):
        assert_looks_like(off(tmp_path / f'{name}.off', head, vertices, rows), box())
    pure = [f'{p} {r} {g} 0 1' for p, (r, g, _) in zip(points, np.eye(3, dtype=int)[[0, 1] * 12],
                                                       strict=True)]
    colors = read_mesh(off(tmp_path / 'x.off', 'COFF', pure, quads), 0.001).colors
    assert colors[:2].tolist() == [[255, 0, 0], [0, 255, 0]]  # not nearly black
    for head, vertices, rows, said in (('OFF', points, [f'{q} 7' for q in quads], 'colours'),
                                       ('NOFF', points, quads, 'OFF or COFF'),
                                       ('OFF', points[:5], quads, 'vertex 5, but')):
        with pytest.raises(MeshError, match=said):
            read_mesh(off(tmp_path / 'x.off', head, vertices, rows), 0.001)


def test_stl_files_have_their_shape(tmp_path: Path) -> None:
    """Without colours, shaded by their faces."""
    grey = dataclasses.replace(box(), colors=np.full((24, 3), 160, np.uint8))
    for name, kind in (('a.stl', 'stl'), ('B.STL', 'stl_ascii')):
        trimesh.Trimesh(CORNERS, TRIANGLES, process=False).export(
            tmp_path / name, file_type=kind)
        assert_looks_like(tmp_path / name, grey, 'template')


def test_stl_texts_are_read_in_all_ways_of_writing_them(tmp_path: Path) -> None:
    """Several solids, other ends of lines, a byte order mark, UTF-16, capitals."""
    solid = trimesh.Trimesh(CORNERS, TRIANGLES[:6], process=False).export(file_type='stl_ascii')
    other = trimesh.Trimesh(CORNERS, TRIANGLES[6:], process=False).export(file_type='stl_ascii')
    text = f'{solid}\n{other}\n'
    for data in (text.encode(), text.replace('\n', '\r').encode(), text.encode('utf-8-sig'),
                 text.replace('\n', '\r\n').encode('utf-16'), text.upper().encode()):
        (tmp_path / 'a.stl').write_bytes(data)
        mesh = read_mesh(tmp_path / 'a.stl', 0.001)
        assert len(mesh.faces) == 12 and np.ptp(mesh.vertices, axis=0).max() == 0.08


def test_an_stl_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    """Also in its second solid, without which it is half a box; what is missing is told."""
    binary = trimesh.Trimesh(CORNERS, TRIANGLES, process=False).export(file_type='stl')
    solid = trimesh.Trimesh(CORNERS, TRIANGLES, process=False).export(file_type='stl_ascii')
    text = f'{solid}\n{solid}'.encode()
    for data, said in ((binary[:-30], 'has 654 bytes.*of its 12 triangles has 684'),
                       (binary + b'\0', 'has 685 bytes'), (b'', 'has 0 bytes'),
                       (text[:-200], '2 "solid" begin in it and 1 end'),
                       (text.replace(b'facet normal', b'facet  abnormal', 1).replace(
                           b'vertex', b'vertx', 3), '24 triangles, of which 23')):
        (tmp_path / 'a.stl').write_bytes(data)
        with pytest.raises(MeshError, match=said):
            read_mesh(tmp_path / 'a.stl', 0.001)


def test_other_kinds_are_refused_with_those_that_are_read(tmp_path: Path) -> None:
    """Their axes, units or materials are not read right, so they are not read at all."""
    for name in ('x.gltf', 'x.dae', 'mesh'):
        (tmp_path / name).write_bytes(b'glTF')
        for call in (lambda path: read_mesh(path, 1.0), mesh_digest):
            with pytest.raises(MeshError, match=r'not read: .*convert it to one of \.ply, \.obj'):
                call(tmp_path / name)
    with pytest.raises(MeshError, match='No such file'):
        read_mesh(tmp_path / 'gone.glb', 1.0)
