"""Meshes are taken in with their unit, middle and notes, or refused with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from new_model.shapes import extruded, write

from mrcnet_ros.errors import MeshError, MrcnetError, SpecError
from mrcnet_ros.geometry.symmetry import Symmetries, unlisted_product
from mrcnet_ros.meshes import check_origin, read_mesh
from mrcnet_ros.new_model.intake import Part, copy_meshes, take_in
from mrcnet_ros.new_model.request import Request
from mrcnet_ros.new_model.stated_symmetries import (
    check_symmetry_labels,
    parse_symmetries,
    placed_entry,
    stated_entry,
)
from mrcnet_ros.new_model.work import Work
from mrcnet_ros.objects import load_object_list
from mrcnet_ros.synth.source import from_meshes

PART = trimesh.creation.box((84, 52, 30))


def request(folder: Path, *meshes: Path, **options: Any) -> Request:
    """Return a request for meshes."""
    return Request(output=folder / 'out', meshes=meshes, start=folder, backgrounds=(), minutes=1.0,
                   **options)


def only(folder: Path, path: Path, **options: Any) -> Part:
    """Take in one mesh."""
    return take_in(request(folder, path, **options))[0]


@pytest.mark.parametrize('kind', ['stl', 'obj', 'ply'])
def test_millimetres_are_found_from_the_size(tmp_path: Path, kind: str) -> None:
    """And told in words, without exponents."""
    beam = only(tmp_path, write(tmp_path / f'beam.{kind}', trimesh.creation.box((1500, 99.5, 30))))
    assert beam.size == '1500 x 99.5 x 30 mm, read as millimetres'
    part = only(tmp_path, write(tmp_path / f'part.{kind}', PART))
    assert part.size == '84 x 52 x 30 mm, read as millimetres'
    assert part.diameter_m == pytest.approx(np.linalg.norm([84, 52, 30]) / 1000, rel=1e-5)


def test_metres_are_found_from_the_size(tmp_path: Path) -> None:
    """The same part in metres is as large; a GLB file is in metres by definition."""
    for name in ('part.stl', 'part.glb'):
        part = only(tmp_path, write(tmp_path / name, PART, 0.001))
        assert part.size == '84 x 52 x 30 mm, read as metres'


@pytest.mark.parametrize(('scale', 'unit', 'told'), [
    (0.001, 'mm', r'0\.084 x 0\.052 x 0\.03 mm.*too small.*--unit m$'),
    (1.0, 'm', r'84 x 52 x 30 m.*too large.*--unit mm$'),
    (0.03, 'auto', r'an unclear unit.*2\.52 x .* mm.*or .*--unit mm, --unit m'),
])
def test_nonsense_is_refused_with_the_remedy(tmp_path: Path, scale: float, unit: str,
                                             told: str) -> None:
    """The message says what it takes the size to be."""
    with pytest.raises(MeshError, match=told):
        only(tmp_path, write(tmp_path / 'part.stl', PART, scale), unit=unit)


@pytest.mark.parametrize(('sides', 'told'), [
    ((8, 8, 10), '8 x 8 x 10 mm, .* 80 x 80 x 100 mm, read as centimetres or 203 x .* inches'),
    ((0.5, 0.5, 1.2), '500 x 500 x 1200 mm, read as metres or 5 x 5 x 12 mm, read as cent.* or '
                      '12.7 x 12.7 x 30.5 mm, read as inches'),
    ((4, 6, 10), '102 x 152 x 254 mm, read as inches')])
def test_centimetres_and_inches_are_not_taken_for_other_units(
        tmp_path: Path, sides: tuple[float, float, float], told: str) -> None:
    """A mug of 10 cm is no bead of 10 mm, and a bolt of an inch is not as large as a table."""
    path = write(tmp_path / 'part.stl', trimesh.creation.box(sides))
    with pytest.raises(MeshError, match=f'an unclear unit.*{told}.*give --unit mm, --unit m'):
        only(tmp_path, path)
    assert only(tmp_path, path, unit='cm').unit == 'cm'


CRATE = trimesh.creation.box((20, 16, 12))  # of 30 inches, a pebble in millimetres


def commented(path: Path, comment: str, mesh: trimesh.Trimesh = CRATE) -> Path:
    """Write a mesh with a line of comment."""
    path.write_text(f'{comment}\n{write(path, mesh).read_text()}')
    return path


@pytest.mark.parametrize(('comment', 'unit'), [
    ('# File units = inches', 'inch'), ('# File units = millimeters', 'mm'),
    ('# Units: cm', 'cm'), ('# Centimetres are the unit', 'mm'), ('# units = feet', 'mm'),
    ('g unit=inch', 'mm'), ('# unit: cm\n# unit: inch', 'mm')])
def test_a_comment_says_which_unit_a_file_has(tmp_path: Path, comment: str, unit: str) -> None:
    """The size alone makes a crate a pebble."""
    assert only(tmp_path, commented(tmp_path / 'crate.obj', comment)).unit == unit


def test_a_comment_of_another_unit_than_is_asked_for_is_told(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It may be out of date, so the user decides; also where a unit is the default."""
    path = commented(tmp_path / 'crate.obj', '# File units = inches')
    told = 'A comment of the file says that its unit is inches. It is read as centimetres'
    assert any(told in note for note in only(tmp_path, path, unit='cm').notes)
    assert not any('comment' in note for note in only(tmp_path, path, unit='inch').notes)
    (tmp_path / 'list.yaml').write_text('[{id: 1, label: crate, mesh: crate.obj}]')
    load_object_list(tmp_path / 'list.yaml')
    assert caplog.text.count('crate.obj: says that its unit is inches, but is read in units') == 1
    from_meshes([path], 0.0254)
    assert caplog.text.count('says that its unit') == 1
    from_meshes([path], 0.001)
    assert caplog.text.count('says that its unit') == 2
    with pytest.raises(MeshError, match='84 x 52 x 30 m, read as metres; that is too large'):
        only(tmp_path, commented(tmp_path / 'part.obj', '# File units = meters', PART))


def test_comments_of_the_header_of_a_ply_say_its_unit(tmp_path: Path) -> None:
    """Also of a binary one."""
    path = write(tmp_path / 'crate.ply', CRATE)
    head, end, rest = path.read_bytes().partition(b'element vertex')
    path.write_bytes(head + b'comment units: inch\n' + end + rest)
    assert only(tmp_path, path).unit == 'inch'
    (tmp_path / 'plain.stl').write_bytes(b'# units: inch'.ljust(80) + write(
        tmp_path / 'crate.stl', CRATE).read_bytes()[80:])
    assert only(tmp_path, tmp_path / 'plain.stl').unit == 'mm'


def test_two_meshes_with_one_name_are_refused(tmp_path: Path) -> None:
    """Labels of detections could not tell them apart."""
    (tmp_path / 'other').mkdir()
    paths = (write(tmp_path / 'part.stl', PART), write(tmp_path / 'other' / 'part.ply', PART))
    with pytest.raises(SpecError, match=r"'part'.*part\.stl and .*part\.ply; rename one"):
        take_in(request(tmp_path, *paths))


@pytest.mark.parametrize('name', [' part.stl', 'part .stl', 'pa\nrt.stl'])
def test_a_name_that_is_no_label_is_refused(tmp_path: Path, name: str) -> None:
    """Before the mesh is read; the file can be renamed."""
    with pytest.raises(SpecError, match=r'its name becomes the label .*: rename the file'):
        only(tmp_path, write(tmp_path / name, PART))


@pytest.mark.parametrize('name', ['a.stl', 'a.ply', 'a.obj', 'a.glb'])
def test_an_empty_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """Of every kind."""
    (tmp_path / name).write_bytes(b'')
    with pytest.raises(MrcnetError, match=name):
        only(tmp_path, tmp_path / name)


def test_a_far_origin_becomes_a_middle_and_a_note(tmp_path: Path) -> None:
    """The mesh that is kept has the frame of the file."""
    moved = PART.copy()
    moved.apply_translation([200, 0, 15])
    part = only(tmp_path, write(tmp_path / 'part.stl', moved))
    np.testing.assert_allclose(part.middle_m, [0.2, 0, 0.015], atol=1e-6)
    assert '(200.0, 0.0, 15.0) mm' in part.notes[0] and 'frame of the file' in part.notes[0]
    copy_meshes([part], tmp_path / 'meshes')
    kept = read_mesh(tmp_path / 'meshes' / 'part.ply', part.unit_m).vertices
    np.testing.assert_allclose(kept.mean(axis=0), [0.2, 0, 0.015], atol=1e-6)


@pytest.mark.parametrize('shape', [
    extruded(np.array([[0, 0], [100, 0], [50, 86.6]]), np.array([[0, 1, 2]]), 8.0),
    trimesh.convex.convex_hull([[0, 0, 0], [100, 0, 0], [50, 86.6, 0], [50, 28.9, 81.6]]),
    trimesh.creation.cone(50, 86.6, sections=48)])
def test_triangles_and_pyramids_have_a_middle_that_can_be_trained(tmp_path: Path,
                                                                  shape: Any) -> None:
    """They reach out of views about the middle of their box."""
    part = only(tmp_path, write(tmp_path / 'part.stl', shape))
    vertices = read_mesh(part.source, part.unit_m).vertices
    check_origin(part.source, vertices - part.middle_m, part.diameter_m, part.unit_m)
    with pytest.raises(MeshError, match=r'subtract \((?!0, 0, 0\))'):
        box = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
        check_origin(part.source, vertices - box, part.diameter_m, part.unit_m)


def test_a_mesh_in_its_middle_needs_none(tmp_path: Path) -> None:
    """And gets no note."""
    part = only(tmp_path, write(tmp_path / 'part.stl', PART))
    assert not part.middle_m.any() and not part.notes


def test_holes_and_plates_are_noted(tmp_path: Path) -> None:
    """They can be learned, but whoever uses them should know."""
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=50)
    scan = trimesh.Trimesh(sphere.vertices, sphere.faces[40:], process=False)
    holes = only(tmp_path, write(tmp_path / 'scan.ply', scan)).notes
    assert len(holes) >= 1 and any('has holes' in note for note in holes)
    plate = only(tmp_path, write(tmp_path / 'plate.stl', trimesh.creation.box((100, 60, 0.5))))
    assert any('flat plate, 0.5 mm thick' in note for note in plate.notes)
    rod = only(tmp_path, write(tmp_path / 'rod.stl', trimesh.creation.box((100, 1.5, 1.5))))
    assert any('thin rod, 1.5 mm wide' in note for note in rod.notes)
    with pytest.raises(MeshError, match=r'only 0\.6 mm wide and 100 mm long'):
        only(tmp_path, write(tmp_path / 'wire.stl', trimesh.creation.box((100, 0.6, 0.6))))


def test_what_does_not_go_together_is_noted(tmp_path: Path) -> None:
    """A screw beside its housing; a GLB file, which has y up, that shall stand on its z axis."""
    paths = write(tmp_path / 'housing.stl', PART), write(tmp_path / 'screw.glb', PART, 1e-4)
    housing, screw = take_in(request(tmp_path, *paths, views='table'))
    assert not housing.notes and len(screw.notes) == 2
    assert 'y up' in screw.notes[0] and 'housing is 10 times as large' in screw.notes[1]
    paths = [write(tmp_path / name, PART) for name in ('lid.obj', 'lid.ply')]
    notes = [take_in(request(tmp_path, path, views='table'))[0].notes for path in paths]
    assert 'OBJ files often have y up' in notes[0][0] and not notes[1]


def textured_box(pixels: np.ndarray) -> Any:
    """Return a box with a picture on it, 0.1 m wide."""
    from PIL import Image

    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    box = trimesh.creation.box((0.1, 0.1, 0.1))
    uv = np.random.default_rng(0).uniform(size=(len(box.vertices), 2))
    box.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    return box


def test_a_texture_is_kept_with_the_mesh(tmp_path: Path) -> None:
    """A GLB file becomes a PLY file with a picture beside it that looks the same."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4], pixels[4:] = (250, 10, 10), (10, 10, 250)
    path = write(tmp_path / 'part.glb', textured_box(pixels))
    part = only(tmp_path, path)
    copy_meshes([part], tmp_path / 'meshes')
    source, kept = read_mesh(path, 1.0), read_mesh(tmp_path / 'meshes' / 'part.ply', 1.0)
    assert kept.texture is not None and source.texture is not None
    np.testing.assert_array_equal(kept.texture, source.texture)
    np.testing.assert_allclose(kept.vertices[kept.faces], source.vertices[source.faces],
                               atol=1e-6)


def test_textures_of_one_mesh_never_replace_those_of_another(tmp_path: Path) -> None:
    """Two of ``bottle`` and one of ``bottle_1``, whether they are taken from GLB or PLY files."""
    red, green, blue = (np.full((8, 8, 3), rgb, np.uint8)
                        for rgb in ((250, 0, 0), (0, 250, 0), (0, 0, 250)))
    two = trimesh.Scene([textured_box(red), textured_box(green).apply_translation([0.2, 0, 0])])
    (tmp_path / 'bottle.glb').write_bytes(two.export(file_type='glb'))
    write(tmp_path / 'bottle_1.glb', textured_box(blue))
    names, source = ('bottle', 'bottle_1'), tmp_path
    for kind, copies in (('glb', tmp_path / 'first'), ('ply', tmp_path / 'second')):
        copy_meshes(take_in(request(tmp_path, *(source / f'{n}.{kind}' for n in names),
                                    unit='m')), copies)
        found = [sorted(t[0, 0].tolist() for t in read_mesh(copies / f'{n}.ply', 1.0).textures)
                 for n in names]
        assert found == [[[0, 250, 0], [250, 0, 0]], [[0, 0, 250]]]
        source = copies


def test_symmetries_are_stated_by_name() -> None:
    """A label may have an equals sign; unknown kinds and objects are refused."""
    assert parse_symmetries(['part=z2', 'a=b=none']) == {'part': 'z2', 'a=b': 'none'}
    for wrong in ('part', 'part=z1', 'part=z2+', 'part=w2', '=z2'):
        with pytest.raises(SpecError, match='expected NAME=KIND'):
            parse_symmetries([wrong])
    with pytest.raises(SpecError, match='pin'):
        check_symmetry_labels({'pin': 'z2'}, ['part'])


@pytest.mark.parametrize(('kind', 'turns', 'circles'), [
    ('none', 0, 0), ('y18', 17, 0), ('z7+x2', 13, 0), ('continuous_x', 0, 1),
    ('continuous_z+x2', 1, 1)])
def test_stated_symmetries_are_complete(kind: str, turns: int, circles: int) -> None:
    """All turns that follow are written, and each keeps the middle of the object."""
    point = np.array([10.0, -20.0, 5.0])
    entry: Any = stated_entry(kind, point)
    symmetries = Symmetries.from_bop(entry, 1.0).transforms
    assert len(entry.get('symmetries_discrete', [])) == turns
    assert len(entry.get('symmetries_continuous', [])) == circles
    np.testing.assert_allclose(symmetries[:, :3, :3] @ point + symmetries[:, :3, 3],
                               np.broadcast_to(point, (len(symmetries), 3)), atol=1e-9)
    assert circles or unlisted_product(entry, 1.0) is None


@pytest.mark.parametrize('fold', [3, 5, 7, 9])
@pytest.mark.parametrize('place', [(0.0, 0.0, 0.0), (100.0, -20.0, 5.0)])
def test_a_stated_axis_goes_where_it_fits(tmp_path: Path, fold: int,
                                          place: tuple[float, float, float]) -> None:
    """A prism of an odd fold is turned about its own axis, which the middle of its box is off."""
    prism = trimesh.creation.cylinder(40.0, 30.0, sections=fold)
    prism.apply_translation(place)
    part = only(tmp_path, write(tmp_path / 'part.stl', prism))
    entry = placed_entry(f'z{fold}', part, read_mesh(part.source, part.unit_m))
    symmetries = Symmetries.from_bop(entry, 1.0).transforms
    assert len(symmetries) == fold
    np.testing.assert_allclose(symmetries[:, :3, :3] @ place + symmetries[:, :3, 3],
                               np.broadcast_to(place, (fold, 3)), atol=0.01)


def test_a_can_with_a_lug_is_round_about_the_axis_of_its_file(tmp_path: Path) -> None:
    """The lug moves the middle and the centroid off it."""
    lug = trimesh.creation.box((5, 4, 4))
    lug.apply_translation([42, 0, 0])
    can = trimesh.util.concatenate([trimesh.creation.cylinder(40, 90, sections=96), lug])
    part = only(tmp_path, write(tmp_path / 'can.stl', can))
    entry: Any = placed_entry('continuous_z', part, read_mesh(part.source, part.unit_m))
    np.testing.assert_array_equal(entry['symmetries_continuous'][0]['offset'], [0.0, 0.0, 0.0])


def test_a_stated_symmetry_that_the_object_does_not_have_is_refused(tmp_path: Path) -> None:
    """With the option, before anything is rendered."""
    part = only(tmp_path, write(tmp_path / 'part.stl', PART))
    with pytest.raises(SpecError, match=r'--symmetry part=z3: .*part\.stl does not look the same'):
        placed_entry('z3', part, read_mesh(part.source, part.unit_m))
    assert placed_entry('none', part, read_mesh(part.source, part.unit_m)) == {}


@pytest.mark.parametrize(('texts', 'told'), [
    (['part=z5+x7'], 'turns follow'), (['part=continuous_z+x3'], 'only a ball'),
    (['part=z2', 'part=none'], 'part=z2 is stated too')])
def test_symmetries_of_no_object_are_refused(texts: list[str], told: str) -> None:
    """Such as five folds and seven about another axis."""
    with pytest.raises(SpecError, match=told):
        parse_symmetries(texts)


def test_files_of_the_user_are_not_replaced(tmp_path: Path) -> None:
    """A folder with an own list or own meshes is no output; one that was begun is."""
    asked = request(tmp_path, write(tmp_path / 'part.stl', PART))
    asked.output.mkdir(parents=True)
    (asked.output / 'objects.yaml').write_text('[]')
    with pytest.raises(SpecError, match=r'already has objects\.yaml, which would be replaced'):
        Work(asked, {}, ('objects.yaml', 'meshes'))
    (asked.output / 'objects.yaml').unlink()
    Work(asked, {}, ('objects.yaml', 'meshes')).close()
    (asked.output / 'objects.yaml').write_text('[]')
    assert Work(asked, {}, ('objects.yaml', 'meshes')).resumed


def test_one_command_at_a_time_works_in_an_output(tmp_path: Path) -> None:
    """A second one is refused until the first has ended."""
    part = write(tmp_path / 'part.stl', PART)
    first = Work(request(tmp_path, part), {})
    with pytest.raises(SpecError, match=r'another mrcnet new works in .*out; wait'):
        Work(request(tmp_path, part), {})
    first.close()
    assert Work(request(tmp_path, part), {}).resumed


def test_a_bop_folder_brings_units_and_symmetries(tmp_path: Path) -> None:
    """Millimetres, and what models_info.json says, is not searched for again."""
    PART.export(tmp_path / 'obj_000005.ply')
    entry = {'diameter': float(np.linalg.norm([84, 52, 30])),
             'symmetries_discrete': [[-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]]}
    (tmp_path / 'models_info.json').write_text(json.dumps({'5': entry}))
    part = take_in(request(tmp_path, bop_models=tmp_path))[0]
    assert (part.object_id, part.label, part.unit) == (5, 'obj_000005', 'mm')
    assert part.symmetries == {'symmetries_discrete': entry['symmetries_discrete']}
    with pytest.raises(SpecError, match='meshes of its own'):
        take_in(request(tmp_path, tmp_path / 'x.stl', bop_models=tmp_path))


def test_symmetries_are_searched_for_where_a_bop_folder_states_none_at_all(tmp_path: Path) -> None:
    """The BOP toolkit writes sizes alone; one symmetry, or an empty list, is a statement."""
    PART.export(tmp_path / 'obj_000005.ply')
    PART.export(tmp_path / 'obj_000006.ply')
    size = {'diameter': float(np.linalg.norm([84, 52, 30]))}
    for stated, wanted in (({}, None), ({'symmetries_discrete': []}, {})):
        (tmp_path / 'models_info.json').write_text(json.dumps({'5': size, '6': size | stated}))
        part = take_in(request(tmp_path, bop_models=tmp_path))[0]
        assert (part.object_id, part.symmetries) == (5, wanted)
