"""Damaged mesh files are read, or refused with a sentence; nothing else happens."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import trimesh
from mesh_texts import CORNERS, TRIANGLES, atlas, box, obj_text, side_uv

from mrcnet_ros.errors import MeshError
from mrcnet_ros.meshes import Mesh, mesh_digest, read_mesh, write_ply

PIECES = [b'nan', b'-1', b'99999999', b'1e308', b'/', b'\\\n', b'\n', b' 0 ', b'inf', b'#',
          b'list', b'f 1 2 3\n', b'\xff\xfe']


def whole_files(folder: Path) -> dict[str, list[Path]]:
    """Write a mesh of each kind; return the files to damage by the mesh that they belong to."""
    atlas(folder / 'atlas.png')
    (folder / 'box.mtl').write_text('newmtl used\nKd 1 0.5 1\nmap_Kd -s 1 1 1 atlas.png\n')
    (folder / 'a.obj').write_text(obj_text('mtllib box.mtl', ('usemtl used', *[''] * 5)))
    texture = np.zeros((4, 4, 3), np.uint8)
    uv = np.concatenate([side_uv(i) for i in range(6)])
    write_ply(folder / 'a.ply', Mesh(box().vertices, box().faces, box().normals, box().colors,
                                     (texture,), uv, np.zeros(12, np.int32)), 0.001)
    text = trimesh.Trimesh(CORNERS, TRIANGLES, vertex_colors=box().colors, process=False)
    text.export(folder / 'b.ply', encoding='ascii')
    text.export(folder / 'a.stl')
    text.export(folder / 'a.off')
    found = {name: [folder / name] for name in ('a.obj', 'a.ply', 'b.ply', 'a.stl', 'a.off')}
    found['a.obj'].append(folder / 'box.mtl')
    return found


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Change, cut or insert something somewhere, up to three times."""
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(data) + 1)
        other = rng.randrange(len(data) + 1)
        data = rng.choice([
            data[:place] + bytes([rng.randrange(256)]) + data[place + 1:],
            data[:place] + data[place + rng.randrange(1, 40):],
            data[:place] + rng.choice(PIECES) + data[place:],
            data[:place] + data[other:other + 30] + data[place:]])
    return data


@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.parametrize('name', ['a.obj', 'a.ply', 'b.ply', 'a.stl', 'a.off'])
def test_damage_is_survived_or_told(tmp_path: Path, name: str) -> None:
    """Every result has finite numbers and corners that exist; every error is a MeshError."""
    rng, outcomes = random.Random(name), set()
    files = whole_files(tmp_path)[name]
    for _ in range(150):
        victim = rng.choice(files)
        before = victim.read_bytes()
        victim.write_bytes(damaged(before, rng))
        try:
            mesh_digest(tmp_path / name)
            mesh = read_mesh(tmp_path / name, 0.001)
            assert np.isfinite(mesh.vertices).all() and np.isfinite(mesh.normals).all()
            assert mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices)
            assert mesh.uv is None or np.isfinite(mesh.uv).all()
            outcomes.add('read')
        except MeshError:
            outcomes.add('refused')
        victim.write_bytes(before)
    assert 'refused' in outcomes
