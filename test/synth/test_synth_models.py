"""The meshes of generated datasets look like those that were given, or are refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from mesh_texts import CORNERS, TRIANGLES, assert_looks_like, atlas, box, obj_text, plain, side_uv
from meshes import write_ply as write_plain_ply

from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.meshes import measure_diameter, mesh_digest, read_mesh, write_ply
from mrcnet_ros.objects import ObjectModel, load_bop_objects
from mrcnet_ros.synth.held_out import held_out_frames

UV = np.concatenate([side_uv(i) for i in range(6)])


def textured_ply(path: Path, texture: str, scale: float = 1.0) -> Path:
    """Write the box with a texture in a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ['ply', 'format ascii 1.0', f'comment TextureFile {texture}', 'element vertex 24',
             *(f'property float {name}' for name in ('x', 'y', 'z', 's', 't')),
             'element face 12', 'property list uchar int vertex_indices', 'end_header',
             *(' '.join(f'{n:.6g}' for n in (*scale * p, *t))
               for p, t in zip(CORNERS, UV, strict=True)),
             *(f'3 {a} {b} {c}' for a, b, c in TRIANGLES)]
    path.write_text('\n'.join(lines) + '\n')
    return path


def synth(output: Path, *words: object) -> int:
    """Run ``mrcnet synth`` for one small picture."""
    return mrcnet.main(['synth', *map(str, words), '--output', str(output), '--scenes', '1',
                        '--images', '1', '--size', '96', '64'])


def test_meshes_of_one_name_keep_their_own_textures(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From two folders, each with its part.png; the meshes' data stay as they are."""
    for name, color in (('red', (200, 0, 0)), ('blue', (0, 0, 200))):
        plain(tmp_path / name / 'part.png', color)
    meshes = [textured_ply(tmp_path / 'red/part.ply', 'part.png'),
              textured_ply(tmp_path / 'blue/part.ply', 'part.png', 1.2)]
    assert synth(tmp_path / 'out', '--meshes', *meshes) == 0, capsys.readouterr().err
    objects = load_bop_objects(tmp_path / 'out/models')
    colors = [model.load_mesh().colors.mean(axis=0).tolist() for model in objects.values()]
    assert colors == [[200, 0, 0], [0, 0, 200]]
    for model, given in zip(objects.values(), meshes, strict=True):
        assert model.mesh_path.read_bytes().split(b'end_header')[1] == (
            given.read_bytes().split(b'end_header')[1])


@pytest.mark.parametrize('texture', ['wood grain.png', 'cap.JPG', 'deep/down/wood.png',
                                     'deep\\down\\wood.png'])
def test_a_texture_of_any_name_and_folder_is_kept(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], texture: str) -> None:
    """Its bytes are copied: a JPEG stays one."""
    image = tmp_path / 'in' / texture.replace('\\', '/')
    image.parent.mkdir(parents=True)
    image = image if image.suffix == '.png' else image.with_suffix('.jpg')
    atlas(image)
    mesh = textured_ply(tmp_path / 'in/cap.ply', texture)
    assert synth(tmp_path / 'out', '--meshes', mesh) == 0, capsys.readouterr().err
    (model,) = load_bop_objects(tmp_path / 'out/models').values()
    (copied,) = [p for p in (tmp_path / 'out/models').iterdir() if p.suffix in ('.png', '.jpg')]
    assert copied.read_bytes() == image.read_bytes() and copied.stem == model.mesh_path.stem
    assert_looks_like(model.mesh_path, read_mesh(mesh, 0.001))


def test_an_obj_of_several_textures_becomes_a_ply_that_looks_the_same(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two pictures and a plain colour, in metres instead of millimetres."""
    atlas(tmp_path / 'atlas.png')
    plain(tmp_path / 'blue.png', (0, 0, 250))
    (tmp_path / 'box.mtl').write_text('newmtl a\nmap_Kd atlas.png\nnewmtl b\nmap_Kd blue.png\n'
                                      'newmtl c\nKd 0.2 0.4 0.6\n')
    (tmp_path / 'box.obj').write_text(obj_text(
        'mtllib box.mtl', ('usemtl a', '', 'usemtl b', '', 'usemtl c', 'usemtl a')))
    assert synth(tmp_path / 'out', '--meshes', tmp_path / 'box.obj') == 0, capsys.readouterr().err
    (model,) = load_bop_objects(tmp_path / 'out/models').values()
    mesh = assert_looks_like(model.mesh_path, read_mesh(tmp_path / 'box.obj', 0.001))
    assert len(mesh.textures) == 2


def test_a_mesh_that_is_written_comes_back(tmp_path: Path) -> None:
    """Without textures, with one, and with one on some of its faces."""
    texture = np.asarray(box().colors[:24].reshape(4, 6, 3))
    one = dataclasses.replace(box(), textures=(texture,), uv=UV,
                              face_textures=np.zeros(12, np.int32))
    some = dataclasses.replace(one, face_textures=np.arange(12, dtype=np.int32) % 2 - 1)
    for number, mesh in enumerate((box(), one, some)):
        path = tmp_path / f'{number}.ply'
        write_ply(path, mesh, 0.001)
        assert_looks_like(path, mesh)
        np.testing.assert_allclose(read_mesh(path, 0.001).normals[0], mesh.normals[0], atol=1e-6)
        assert len(mesh_digest(path)) == 64


@pytest.mark.parametrize(('unit_m', 'words', 'said'), [
    (1.0, [], r'0\.000108 m, expected 0\.002 to 20 m; give the right --unit'),
    (0.001, ['--unit', 'm'], r'108 m, expected 0\.002 to 20 m; give the right --unit'),
])
def test_a_mesh_in_another_unit_is_refused(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], unit_m: float, words: list[str],
        said: str) -> None:
    """Metres read as millimetres, and the other way round; nothing is written."""
    mesh = write_plain_ply(tmp_path / 'box.ply', box(), unit_m=unit_m)
    assert synth(tmp_path / 'out', '--meshes', mesh, *words) == 2

    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('offset_m', [0.1, 2.0])
@pytest.mark.parametrize('option', ['--meshes', '--models'])
def test_a_mesh_far_from_its_origin_is_refused(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], offset_m: float, option: str
        ) -> None:
    """As in training: its pictures would not show it."""
    far = dataclasses.replace(box(), vertices=box().vertices + [0, 0, offset_m])
    mesh = write_plain_ply(tmp_path / 'obj_000001.ply', far)
    (tmp_path / 'models_info.json').write_text(json.dumps({'1': {'diameter': 107.7}}))
    given = mesh if option == '--meshes' else tmp_path
    assert synth(tmp_path / 'out', option, given) == 2
    assert 'has its origin far from its middle' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_one_large_object_among_small_ones_is_seen_from_outside(tmp_path: Path) -> None:
    """The camera keeps away from it, whatever the mean size of the objects is."""
    mesh = write_plain_ply(tmp_path / 'box.ply', box())
    diameter_m = measure_diameter(box().vertices)
    objects = [ObjectModel(object_id=number, label=f'{number}', mesh_path=mesh,
                           diameter_m=1000 * unit_m * diameter_m, unit_m=unit_m,
                           symmetries=Symmetries.none())
               for number, unit_m in enumerate((0.003, *[0.0001] * 9), start=1)]
    large = [truth for frame in held_out_frames(objects, 6, upright=False)
             for truth in frame.ground_truth if truth.object_id == 1]
    assert large
    for truth in large:
        assert np.linalg.norm(truth.T_camera_object[:3, 3]) > objects[0].diameter_m / 2
