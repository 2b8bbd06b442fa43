"""Meshes are read in metres, checked, and turned into known objects."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from meshes import bumpy_sphere, cube, write_ply, write_textured_quad
from PIL import Image

from mrcnet_ros.errors import DatasetError, MeshError
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.meshes import (
    NEUTRAL_GREY,
    check_origin,
    measure_diameter,
    mesh_digest,
    read_mesh,
)
from mrcnet_ros.objects import ObjectModel, load_bop_objects, load_object_list

LMO_MODELS = Path(__file__).parents[2] / 'shared/data/lmo/models'


def bop_folder(folder: Path, **info: object) -> Path:
    """Write a BOP models folder with the object 3, a bumpy sphere in millimetres."""
    mesh = bumpy_sphere()
    write_ply(folder / 'obj_000003.ply', mesh)
    entry = {'diameter': measure_diameter(mesh.vertices) * 1000, **info}
    (folder / 'models_info.json').write_text(json.dumps({'3': entry}))
    return folder


@pytest.mark.parametrize('binary', [True, False])
def test_a_ply_keeps_its_geometry_normals_and_colours(tmp_path: Path, binary: bool) -> None:
    """Binary and ascii files in millimetres come back as they were, in metres."""
    mesh = bumpy_sphere()
    read = read_mesh(write_ply(tmp_path / 'a.ply', mesh, binary=binary), 0.001)
    np.testing.assert_allclose(read.vertices, mesh.vertices, atol=1e-8)
    np.testing.assert_array_equal(read.faces, mesh.faces)
    np.testing.assert_allclose(read.normals, mesh.normals, atol=1e-6)
    np.testing.assert_array_equal(read.colors, mesh.colors)
    assert read.texture is None and read.uv is None


def test_normals_in_the_file_are_preferred_to_computed_ones(tmp_path: Path) -> None:
    """A file keeps its normals, scaled to unit length, although its triangles say otherwise."""
    mesh = bumpy_sphere()
    odd = mesh.normals + 0.5 * np.roll(mesh.normals, 1, axis=1)
    read = read_mesh(write_ply(tmp_path / 'a.ply', dataclasses.replace(mesh, normals=odd)), 0.001)
    np.testing.assert_allclose(read.normals, odd / np.linalg.norm(odd, axis=1, keepdims=True),
                               atol=1e-6)


def test_missing_normals_are_computed_and_missing_colours_grey(tmp_path: Path) -> None:
    """A file of bare geometry gets outward unit normals and a neutral grey."""
    path = write_ply(tmp_path / 'a.ply', bumpy_sphere(), normals=False, colors=False)
    read = read_mesh(path, 0.001)
    np.testing.assert_allclose(np.linalg.norm(read.normals, axis=1), 1.0)
    assert (np.einsum('ij,ij->i', read.normals, read.vertices) > 0).all()
    assert (read.colors == NEUTRAL_GREY).all()


@pytest.mark.parametrize('material', [True, False])
def test_an_obj_keeps_its_texture(tmp_path: Path, material: bool) -> None:
    """A texture named by a material, or lying beside the mesh, is read with its coordinates."""
    read = read_mesh(write_textured_quad(tmp_path / 'quad.obj', material=material), 1.0)
    assert read.texture is not None and read.uv is not None
    assert read.texture.shape == (64, 64, 3) and read.uv.shape == (len(read.vertices), 2)
    top_left = np.argmin(read.vertices[:, 0] + read.vertices[:, 1])
    np.testing.assert_array_equal(read.texture[0, 0], [255, 0, 0])
    np.testing.assert_allclose(read.uv[top_left], [0, 1])


def test_the_digest_of_an_obj_covers_its_texture(tmp_path: Path) -> None:
    """Repainting an object makes it another one, also when its geometry stays."""
    path = write_textured_quad(tmp_path / 'quad.obj')
    before = mesh_digest(path)
    image = tmp_path / 'paint.png'
    image.write_bytes(image.read_bytes() + b' ')
    assert mesh_digest(path) != before


def write_textured_ply(path: Path, *, coordinates: bool = True) -> Path:
    """Write two triangles whose header names the texture paint.png beside them."""
    names = ['x', 'y', 'z'] + (['texture_u', 'texture_v'] if coordinates else [])
    rows = ['0 0 0 0 0', '10 0 0 0.9 0', '0 10 0 0 0.9', '0 0 10 0.9 0.9']
    path.write_text('\n'.join([
        'ply', 'format ascii 1.0', 'comment TextureFile paint.png', 'element vertex 4',
        *(f'property float {n}' for n in names), 'element face 2',
        'property list uchar int vertex_indices', 'end_header',
        *(' '.join(row.split()[:len(names)]) for row in rows), '3 0 1 2', '3 1 0 3', '']))
    return path


def test_a_textured_ply_is_drawn_and_known_by_its_texture(tmp_path: Path) -> None:
    """Another image under the same name makes another object, as it looks like one."""
    path = write_textured_ply(tmp_path / 'a.ply')
    digests = set()
    for color in ([255, 0, 0], [0, 0, 255]):
        image = np.full((8, 8, 3), color, np.uint8)
        Image.fromarray(image).save(tmp_path / 'paint.png')
        read = read_mesh(path, 0.001)
        np.testing.assert_array_equal(read.texture, image)
        assert read.uv is not None and read.uv.shape == (4, 2)
        digests.add(mesh_digest(path))
    assert len(digests) == 2


def test_a_missing_texture_of_a_ply_matters_only_with_coordinates(tmp_path: Path) -> None:
    """Meshes reduced for evaluation keep the name of a texture that they do not use."""
    with pytest.raises(MeshError, match=r'paint\.png is missing'):
        mesh_digest(write_textured_ply(tmp_path / 'a.ply'))
    plain = write_textured_ply(tmp_path / 'b.ply', coordinates=False)
    assert mesh_digest(plain) == hashlib.sha256(plain.read_bytes()).hexdigest()
    assert read_mesh(plain, 0.001).texture is None


def test_the_digest_of_an_untextured_obj_covers_its_material(tmp_path: Path) -> None:
    """Plain colours are in the material file alone."""
    (tmp_path / 'a.obj').write_text('mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n')
    digests = set()
    for red in (0, 1):
        (tmp_path / 'a.mtl').write_text(f'newmtl a\nKd {red} 0 0\n')
        digests.add(mesh_digest(tmp_path / 'a.obj'))
    assert len(digests) == 2


def test_an_origin_far_from_the_middle_is_refused() -> None:
    """An object that images would cut off is told, with what to subtract in the file's unit."""
    for near_m in (0.0, 0.01):
        check_origin('a.ply', cube(0.1).vertices + [0, 0, near_m], 0.1 * 3**0.5, 0.001)
    vertices = cube(0.1).vertices + [0, 0, 0.1]
    with pytest.raises(MeshError, match=r'reaches 0\.96 dia.*subtract \(0, 0, 100\) from the'):
        check_origin('a.ply', vertices, 0.1 * 3**0.5, 0.001)


def test_the_diameter_counts_every_vertex() -> None:
    """One spike of a dense sphere makes it longer, wherever it is."""
    points = np.random.default_rng(0).normal(size=(15000, 3))
    sphere = points / np.linalg.norm(points, axis=1, keepdims=True)
    for row in range(3):
        spiked = sphere.copy()
        spiked[row] *= 3.0
        assert measure_diameter(spiked) == pytest.approx(4.0, abs=0.01)


def test_materials_of_one_obj_become_vertex_colours(tmp_path: Path) -> None:
    """A mesh painted with two plain materials shows both."""
    (tmp_path / 'two.mtl').write_text('newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 0 1\n')
    (tmp_path / 'two.obj').write_text(
        'mtllib two.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\n'
        'usemtl a\nf 1 2 3\nusemtl b\nf 1 2 4\n')
    read = read_mesh(tmp_path / 'two.obj', 1.0)
    assert len(read.faces) == 2 and read.texture is None
    colors = {tuple(c) for c in read.colors[read.faces].reshape(-1, 3).tolist()}
    assert colors == {(255, 0, 0), (0, 0, 255)}


def test_a_missing_texture_is_an_error_that_names_it(tmp_path: Path) -> None:
    """An OBJ whose material names an absent image is not silently drawn grey."""
    path = write_textured_quad(tmp_path / 'quad.obj')
    (tmp_path / 'paint.png').unlink()
    with pytest.raises(MeshError, match=r'paint\.png is missing'):
        read_mesh(path, 1.0)


def test_bop_objects_are_in_metres_with_their_symmetries(tmp_path: Path) -> None:
    """models_info.json is in millimetres; symmetries and diameters come out in metres."""
    turn = [-1, 0, 0, 1, 0, -1, 0, 2, 0, 0, 1, 0, 0, 0, 0, 1]
    objects = load_bop_objects(bop_folder(tmp_path, symmetries_discrete=[turn]),
                               labels={3: 'blob'})
    blob = objects[3]
    assert list(objects) == [3] and blob.label == 'blob' and blob.unit_m == 0.001
    assert blob.diameter_m == pytest.approx(measure_diameter(bumpy_sphere().vertices))
    np.testing.assert_allclose(blob.symmetries.transforms[1][:3, 3], [0.001, 0.002, 0])
    plain = load_bop_objects(bop_folder(tmp_path))[3]  # the mesh has no symmetry
    np.testing.assert_allclose(plain.load_mesh().vertices, bumpy_sphere().vertices, atol=1e-8)


def test_symmetries_of_which_some_are_missing_are_told(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A quarter turn alone; with the two that it implies, or rounded thirds, nothing lacks."""
    def turns(*angles_deg: float, digits: int = 9) -> dict[str, object]:
        angles = np.deg2rad(angles_deg)
        return {'symmetries_discrete': [np.round(
            [c, -s, 0, 0, s, c, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], digits).tolist()
            for c, s in zip(np.cos(angles), np.sin(angles), strict=True)]}

    for good in (turns(90, 180, 270), turns(120, 240, digits=2), turns(180), {}):
        load_bop_objects(bop_folder(tmp_path, **good))
    assert not caplog.text
    for bad in (turns(90), turns(180, 90), turns(120)):
        load_bop_objects(bop_folder(tmp_path, **bad))
        assert 'object 3 (obj_000003): symmetries_discrete[0]' in caplog.text
        caplog.clear()


def test_labels_default_to_the_names_of_the_files(tmp_path: Path) -> None:
    """Without labels an object is called as BOP calls its mesh."""
    assert load_bop_objects(bop_folder(tmp_path))[3].label == 'obj_000003'


def test_an_unknown_bop_object_is_named_with_the_known_ones(tmp_path: Path) -> None:
    """Asking for an object that is not there says which are."""
    with pytest.raises(DatasetError, match=r'no objects \[7\]; there are \[3\]'):
        load_bop_objects(bop_folder(tmp_path), ids=[3, 7])


@pytest.mark.parametrize('text', ['{', '[]', '{"a": {}}', '{"3": 5}'])
def test_a_malformed_models_info_is_named(tmp_path: Path, text: str) -> None:
    """Whatever is wrong inside, the message names the file."""
    bop_folder(tmp_path)
    (tmp_path / 'models_info.json').write_text(text)
    with pytest.raises(DatasetError, match='models_info'):
        load_bop_objects(tmp_path)


@pytest.mark.parametrize('name', ['Symmetries_discrete', 'symmetries', 'SYMMETRIES_CONTINUOUS'])
def test_symmetries_under_another_name_are_not_left_out(tmp_path: Path, name: str) -> None:
    """Upper case letters are another name as well."""
    with pytest.raises(DatasetError, match=rf'object 3: unknown fields .*{name}.*known'):
        load_bop_objects(bop_folder(tmp_path, **{name: []}))


def test_a_mesh_of_a_list_may_be_in_the_home_folder(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a path of a training configuration."""
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    (tmp_path / 'home').mkdir()
    blob = write_ply(tmp_path / 'home' / 'blob.ply', bumpy_sphere())
    (tmp_path / 'objects.yaml').write_text('- {id: 1, label: x, mesh: ~/blob.ply}')
    assert load_object_list(tmp_path / 'objects.yaml')[1].mesh_path == blob


@pytest.mark.parametrize(('unit_m', 'said'), [(1.0, 'metres'), (0.01, 'centimetres')])
def test_a_mesh_in_another_unit_is_caught_by_its_diameter(
        tmp_path: Path, unit_m: float, said: str) -> None:
    """A mesh in metres used as millimetres is refused, naming the likely unit."""
    mesh = bumpy_sphere()
    model = ObjectModel(
        object_id=1, label='blob', symmetries=Symmetries.none(),
        mesh_path=write_ply(tmp_path / 'a.ply', mesh, unit_m=unit_m),
        diameter_m=measure_diameter(mesh.vertices))
    with pytest.raises(MeshError, match=f'looks like the mesh is in {said}$'):
        model.load_mesh()


def test_a_diameter_of_another_object_is_refused(tmp_path: Path) -> None:
    """A size that no unit explains is reported with both sizes."""
    model = load_bop_objects(bop_folder(tmp_path))[3]
    with pytest.raises(MeshError, match=r'diameter of 0\.37 m; give the right mesh'):
        dataclasses.replace(model, diameter_m=0.37).load_mesh()


def test_another_mesh_under_the_same_name_is_refused(tmp_path: Path) -> None:
    """A model made with one mesh does not run with another of the same size."""
    model = load_bop_objects(bop_folder(tmp_path))[3]
    write_ply(model.mesh_path, bumpy_sphere(), colors=False)
    with pytest.raises(MeshError, match=r'is not the mesh known as .*sha256'):
        model.load_mesh()


def test_a_missing_mesh_is_an_error_that_points_to_the_option(tmp_path: Path) -> None:
    """The path looked for is in the message, and how to give another."""
    (bop_folder(tmp_path) / 'obj_000003.ply').unlink()
    with pytest.raises(MeshError, match=r'obj_000003\.ply.*--meshes'):
        load_bop_objects(tmp_path)


@pytest.mark.parametrize('content', [b'', b'ply\n', b'\x00' * 100, b'ply\nformat ascii 1.0\n'
                                     b'element vertex 1\nproperty float x\nend_header\n0\n'])
def test_an_unreadable_mesh_is_a_mesh_error(tmp_path: Path, content: bytes) -> None:
    """Empty, cut or foreign files give one kind of error, naming the file."""
    path = tmp_path / 'bad.ply'
    path.write_bytes(content)
    with pytest.raises(MeshError, match=r'bad\.ply'):
        read_mesh(path, 0.001)


def test_a_yaml_list_is_read_in_its_units(tmp_path: Path) -> None:
    """Each entry has its own unit; an absent diameter is measured from the mesh."""
    write_ply(tmp_path / 'cube.ply', cube(0.2), unit_m=1.0)
    write_ply(tmp_path / 'blob.ply', bumpy_sphere())
    (tmp_path / 'objects.yaml').write_text(yaml.safe_dump([
        {'id': 5, 'label': 'box', 'mesh': 'cube.ply', 'unit_m': 1.0,
         'symmetries_continuous': [{'axis': [0, 0, 1], 'offset': [0, 0, 0]}]},
        {'id': 2, 'label': 'blob', 'mesh': 'blob.ply'},
    ]))
    objects = load_object_list(tmp_path / 'objects.yaml')
    assert [(o.object_id, o.label) for o in objects.values()] == [(5, 'box'), (2, 'blob')]
    assert objects[5].diameter_m == pytest.approx(0.2 * np.sqrt(3), rel=1e-6)
    assert len(objects[5].symmetries.transforms) > 100
    assert objects[2].load_mesh().vertices.max() < 0.1


@pytest.mark.parametrize(('text', 'said'), [
    ('a: 1', 'expected a list'),
    ('- {id: 1, label: x}', r"entry 0 lacks \['mesh'\]"),
    ('- [', 'cannot be read'),
    ('- {id: 1, label: x, mesh: blob.ply}\n- {id: 1, label: y, mesh: blob.ply}', 'twice'),
    ('- {id: 1, label: x, mesh: blob.ply, diameter: -4}', r'object 1 \(x\).*-0\.004 m'),
    ('- {id: 1, label: x, mesh: blob.ply, diameter: .nan}',
     r'\(x\).*diameter must be a finite number'),
    ('- {id: 1, label: x, mesh: blob.ply, unit_m: 1}', r'units of 1 m: give the right unit_m'),
    ('- {id: 1, label: x, mesh: blob.ply, symmetries_discrete: }',
     r'object 1 \(x\).*symmetries_discrete must be a list, got None; leave it out'),
    ('- {id: 1, label: x, mesh: blob.ply, symmetries_continuous: {axis: [0, 0, 1]}}',
     'symmetries_continuous must be a list'),
    ('- {id: 1, label: x, mesh: blob.ply, symmetries_continuous: [[0, 0, 1]]}',
     r'needs axis and offset, got \[0, 0, 1\]'),
    ('- {id: 1, label: x, mesh: blob.ply}\n- {id: 2, label: x, mesh: blob.ply}',
     "objects 1 and 2 are both called 'x'"),
])
def test_a_malformed_list_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    """The message names the list or folder, and the entry at fault."""
    write_ply(tmp_path / 'blob.ply', bumpy_sphere())
    (tmp_path / 'objects.yaml').write_text(text)
    with pytest.raises(DatasetError, match=said):
        load_object_list(tmp_path / 'objects.yaml')


def test_a_mesh_in_metres_read_as_millimetres_is_refused_without_a_diameter(
        tmp_path: Path) -> None:
    """Measured from the same mesh the diameter agrees with it; its size shows the wrong unit."""
    write_ply(tmp_path / 'cube.ply', cube(0.2), unit_m=1.0)
    (tmp_path / 'objects.yaml').write_text('- {id: 5, label: box, mesh: cube.ply}')
    with pytest.raises(DatasetError, match=r'0\.000346 m, expected 0\.002 to 20 m.*unit_m'):
        load_object_list(tmp_path / 'objects.yaml')


def test_two_bop_objects_of_one_label_are_refused(tmp_path: Path) -> None:
    """A label that stands for two objects could name the wrong one."""
    folder = bop_folder(tmp_path)
    entry = json.loads((folder / 'models_info.json').read_text())['3']
    (folder / 'models_info.json').write_text(json.dumps({'3': entry, '4': entry}))
    (folder / 'obj_000004.ply').write_bytes((folder / 'obj_000003.ply').read_bytes())
    with pytest.raises(DatasetError, match="objects 3 and 4 are both called 'cup'"):
        load_bop_objects(folder, labels={3: 'cup', 4: 'cup'})


@pytest.mark.skipif(not LMO_MODELS.is_dir(), reason='needs ../shared/data/lmo/models')
def test_the_lmo_meshes_pass_their_checks() -> None:
    """Real meshes agree with their stated diameters, in millimetres."""
    objects = load_bop_objects(LMO_MODELS, ids=[1, 11])
    assert len(objects[11].symmetries.transforms) == 2
    for model in objects.values():
        mesh = model.load_mesh()
        assert measure_diameter(mesh.vertices) == pytest.approx(model.diameter_m, rel=0.02)
        assert len(np.unique(mesh.colors, axis=0)) > 100
