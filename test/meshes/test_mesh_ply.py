"""PLY files look as their makers meant them, or are refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from mesh_texts import (
    COLORS,
    CORNERS,
    QUADS,
    SHARED,
    SHARED_ROWS,
    TRIANGLES,
    assert_looks_like,
    atlas,
    box,
    plain,
    side_uv,
)
from ply_texts import FORMATS, VERTEX_RGB, XYZ, columns, faces, ply

from mrcnet_ros.errors import MeshError
from mrcnet_ros.meshes import companion_files, copy_ply, mesh_digest, read_mesh, tell_grey

MIXED = [row for side in range(6) for row in (
    [QUADS[side]] if side % 2 else TRIANGLES[2 * side:2 * side + 2])]


@pytest.mark.parametrize('form', FORMATS)
@pytest.mark.parametrize(('rows', 'name'), [
    (TRIANGLES, 'vertex_indices'), (QUADS, 'vertex_index'), (MIXED, 'vertex_indices')])
def test_all_formats_and_polygons_are_read(
        tmp_path: Path, form: str, rows: object, name: str) -> None:
    """Text and binary in both orders of bytes; triangles, quads, and both in one file."""
    path = ply(tmp_path / 'x.ply', XYZ + VERTEX_RGB, [faces(rows, name)], form=form)
    assert_looks_like(path, box())


@pytest.mark.parametrize('form', FORMATS)
@pytest.mark.parametrize('line_end', [b'\r\n', b'\r', b' \n', b' \t\r\n'])
def test_the_header_may_have_any_line_ends(tmp_path: Path, form: str, line_end: bytes) -> None:
    """Those of Windows and of old Macs, and blanks in front; the data begin right behind."""
    x = CORNERS[:, 0].astype('f4')
    x[0] = np.frombuffer(b'\n' + x[:1].tobytes()[1:], 'f4')[0]  # a byte of LF comes first
    path = ply(tmp_path / 'x.ply', [('x', 'float', x), *XYZ[1:], *VERTEX_RGB], [faces()],
               form=form)
    head, body = path.read_bytes().split(b'end_header\n')
    path.write_bytes((head + b'end_header\n').replace(b'\n', line_end) + body)
    assert_looks_like(path, box())


@pytest.mark.parametrize(('line_end', 'said'), [
    *((end, 'comment TextureFile') for end in (b'\n', b'\r\n', b'\r')),
    (b'\n', 'comment TextureFile:'), (b'\n', 'obj_info TextureFile'),
    (b'\n', '  comment texturefile')])
def test_a_copy_has_its_texture_whatever_the_line_ends(
        tmp_path: Path, line_end: bytes, said: str) -> None:
    """The texture gets the name of the copy, in the header too, however that is written."""
    path = ply(tmp_path / 'x.ply', XYZ + columns(('s', 't'), 'float', UV), [faces()],
               f'{said} atlas.png\n')
    path.write_bytes(path.read_bytes().replace(b'\n', line_end))
    atlas(tmp_path / 'atlas.png')
    (tmp_path / 'to').mkdir()
    copy_ply(path, tmp_path / 'to' / 'y.ply')
    assert companion_files(tmp_path / 'to' / 'y.ply') == [tmp_path / 'to' / 'y.png']


@pytest.mark.parametrize('form', FORMATS)
@pytest.mark.parametrize('shared', [True, False])
def test_each_face_has_its_own_colour(tmp_path: Path, form: str, shared: bool) -> None:
    """Also where faces share vertices: no colour runs into another."""
    vertex = columns(('x', 'y', 'z'), 'float', SHARED) if shared else XYZ
    rows = SHARED_ROWS.ravel()[QUADS] if shared else QUADS
    path = ply(tmp_path / 'x.ply', vertex,
               [faces(rows), *columns(('red', 'green', 'blue'), 'uchar', COLORS)], form=form)
    assert_looks_like(path, box())


@pytest.mark.parametrize(('names', 'kind', 'scale'), [
    (('red', 'green', 'blue'), 'float', 1 / 255),
    (('red', 'green', 'blue'), 'double', 1.0),
    (('red', 'green', 'blue'), 'ushort', 257),
    (('red', 'green', 'blue'), 'int', 1),
    (('diffuse_red', 'diffuse_green', 'diffuse_blue'), 'uchar', 1),
    (('r', 'g', 'b'), 'uchar', 1),
])
def test_colours_of_all_types_and_names_are_read(
        tmp_path: Path, names: tuple[str, ...], kind: str, scale: float) -> None:
    """Fractions, bytes, and two bytes; what is transparent counts as opaque."""
    color = columns((*names, 'alpha'), kind, scale * np.pad(box().colors.astype(float),
                                                            ((0, 0), (0, 1))))
    assert_looks_like(ply(tmp_path / 'x.ply', XYZ + color, [faces()]), box())


UV = np.concatenate([side_uv(i) for i in range(6)])


@pytest.mark.parametrize('names', [('s', 't'), ('u', 'v'), ('texture_u', 'texture_v')])
def test_coordinates_of_vertices_are_read_with_normals_in_their_order(
        tmp_path: Path, names: tuple[str, ...]) -> None:
    """The texture, and next to it each vertex's own normal."""
    atlas(tmp_path / 'my atlas.png')
    order = np.random.default_rng(0).permutation(24)
    vertex = [*columns(('x', 'y', 'z'), 'float', CORNERS[order]),
              *columns(('nx', 'ny', 'nz'), 'float', box().normals[order]),
              *columns(names, 'float', UV[order])]
    path = ply(tmp_path / 'x.ply', vertex, [faces(np.argsort(order)[TRIANGLES])],
               'comment TextureFile my atlas.png\n')
    for shading in ('flat', 'template'):
        mesh = assert_looks_like(path, dataclasses.replace(box()), shading)
    np.testing.assert_allclose(mesh.normals, box().normals[order], atol=1e-6)


@pytest.mark.parametrize('line', ['comment TextureFile: x.png', 'obj_info TextureFile x.png', ''])
def test_a_texture_is_found_however_a_program_names_it(tmp_path: Path, line: str) -> None:
    """Also where it is only the picture of the file's name; but colours count more than that."""
    plain(tmp_path / 'x.png', (200, 30, 30))
    uv = columns(('s', 't'), 'float', UV)
    path = ply(tmp_path / 'x.ply', XYZ + uv, [faces()], line and f'{line}\n')
    mesh = read_mesh(path, 0.001)
    assert mesh.texture is not None and (mesh.texture[0, 0] == (200, 30, 30)).all()
    assert companion_files(path) == [tmp_path / 'x.png']
    green = columns(('red', 'green', 'blue'), 'uchar', np.tile([0, 200, 0], (24, 1)))
    ply(path, XYZ + uv + green, [faces()])
    assert read_mesh(path, 0.001).texture is None and companion_files(path) == []
    (tmp_path / 'x.png').unlink()
    ply(path, XYZ + uv, [faces()])
    assert read_mesh(path, 0.001).texture is None


def test_a_texture_with_coordinates_of_other_names_is_refused(tmp_path: Path) -> None:
    """With names of its own it would come out grey; a file with colours as well shows these."""
    plain(tmp_path / 'x.png', 9)
    unknown = columns(('texcoord_x', 'texcoord_y'), 'float', UV)
    line = 'comment TextureFile x.png\n'
    path = ply(tmp_path / 'x.ply', XYZ + unknown, [faces()], line)
    for read in (lambda: read_mesh(path, 0.001), lambda: mesh_digest(path)):
        with pytest.raises(MeshError, match=r'texture x\.png, but .*texcoord_x.* s and t'):
            read()
    green = columns(('red', 'green', 'blue'), 'uchar', np.tile([0, 200, 0], (24, 1)))
    ply(path, XYZ + unknown + green, [faces()], line)
    assert (read_mesh(path, 0.001).colors == (0, 200, 0)).all()


@pytest.mark.parametrize('form', FORMATS)
def test_each_face_has_the_texture_of_its_number(tmp_path: Path, form: str) -> None:
    """As MeshLab writes it: coordinates for each corner, and -1 for no texture."""
    atlas(tmp_path / 'atlas.png')
    plain(tmp_path / 'blue.png', (0, 0, 250))
    numbers = np.array([0, 1, 0, 0, -1, 0])
    path = ply(tmp_path / 'x.ply', columns(('x', 'y', 'z'), 'float', SHARED), [
        faces(SHARED_ROWS.ravel()[QUADS]),
        ('texcoord', 'float', [side_uv(i).ravel() for i in range(6)]),
        ('texnumber', 'int', numbers)],
        'comment TextureFile atlas.png\ncomment TextureFile blue.png\n', form)
    colors = box().colors.copy()
    colors[4:8], colors[16:20] = (0, 0, 250), (160, 160, 160)
    mesh = assert_looks_like(path, dataclasses.replace(box(), colors=colors))
    assert len(mesh.textures) == 2
    assert companion_files(path) == [tmp_path / 'atlas.png', tmp_path / 'blue.png']
    before = mesh_digest(path)
    plain(tmp_path / 'blue.png', (0, 250, 0))
    assert mesh_digest(path) != before


@pytest.mark.parametrize('plain_sides', [[1, 4], range(6)])
def test_faces_without_coordinates_have_no_texture(
        tmp_path: Path, plain_sides: Iterable[int]) -> None:
    """Some of a file's or all: they are as blue as their vertices."""
    atlas(tmp_path / 'atlas.png')
    uv, colors = [side_uv(i).ravel() for i in range(6)], box().colors.copy()
    for side in plain_sides:
        uv[side], colors[4 * side:4 * side + 4] = np.empty(0), (0, 0, 250)
    blue = columns(('red', 'green', 'blue'), 'uchar', np.tile((0, 0, 250), (24, 1)))
    path = ply(tmp_path / 'x.ply', XYZ + blue, [faces(QUADS), ('texcoord', 'float', uv)],
               'comment TextureFile atlas.png\n')
    assert_looks_like(path, dataclasses.replace(box(), colors=colors))


@pytest.mark.parametrize(('numbers', 'said'), [
    (None, 'names 2 textures .atlas.png, blue.png., but its faces do not say'),
    ([0, 1, 2, 0, 0, 0], 'has the texture 2, but there are 2'),
])
def test_textures_that_cannot_be_told_apart_are_refused(
        tmp_path: Path, numbers: list[int] | None, said: str) -> None:
    """One of them on all faces would be a guess."""
    atlas(tmp_path / 'atlas.png')
    plain(tmp_path / 'blue.png', 0)
    face = [faces(QUADS), ('texcoord', 'float', [side_uv(i).ravel() for i in range(6)])]
    face += [] if numbers is None else [('texnumber', 'int', np.array(numbers))]
    path = ply(tmp_path / 'x.ply', XYZ, face,
               'comment TextureFile atlas.png\ncomment TextureFile blue.png\n')
    with pytest.raises(MeshError, match=said):
        read_mesh(path, 0.001)


@pytest.mark.parametrize(('vertex', 'face', 'said'), [
    (XYZ, [], 'has 24 vertices and no faces'),
    (XYZ, [faces([])], 'has 24 vertices and no faces'),
    (XYZ, [faces([[0, 1], [2, 3]])], 'no usable triangles'),
    (XYZ, [faces([[0, 1, 24]])], 'has the vertex 24, but there are 24'),
    (XYZ, [faces([[0, 1, -1]])], 'has the vertex -1, but there are 24'),
    (XYZ[:2], [faces()], 'no values "z"'),
    (XYZ + columns(('red', 'green', 'blue'), 'float', 300 * CORNERS**0), [faces()], 'colours'),
    ([('x', 'float', np.full(24, np.nan)), *XYZ[1:]], [faces()], 'not finite'),
])
def test_a_file_that_cannot_be_read_right_says_why(
        tmp_path: Path, vertex: list[tuple], face: list[tuple], said: str) -> None:
    """Point clouds, wrong indices, numbers that are none."""
    with pytest.raises(MeshError, match=rf'x\.ply.*{said}'):
        read_mesh(ply(tmp_path / 'x.ply', vertex, face), 0.001)


@pytest.mark.parametrize('form', FORMATS)
@pytest.mark.parametrize('rows', [TRIANGLES, MIXED])
def test_a_file_that_is_cut_or_goes_on_is_refused(
        tmp_path: Path, form: str, rows: object) -> None:
    """Half a mesh is not drawn, and a header that counts wrong is not believed."""
    path = ply(tmp_path / 'x.ply', XYZ, [faces(rows)], form=form)
    whole = path.read_bytes()
    cut = b'\n'.join(whole.split(b'\n')[:-3]) if form == 'ascii' else whole[:-30]
    for content, said in ((cut, 'fewer data'), (whole[:len(whole) // 2], 'cannot be read'),
                          (whole + b'3 0 1 2', 'more data')):
        path.write_bytes(content)
        with pytest.raises(MeshError, match=said):
            read_mesh(path, 0.001)


def test_loose_vertices_that_enlarge_an_object_are_refused(tmp_path: Path) -> None:
    """Its diameter and its box would be those of something else; others do no harm."""
    for far, refused in ((0.0, False), (500.0, True)):
        points = np.vstack([CORNERS, [[far, 0.0, 0.0]]])
        path = ply(tmp_path / 'x.ply', columns(('x', 'y', 'z'), 'float', points), [faces()])
        if refused:
            with pytest.raises(MeshError, match=r'1 vertices that no face uses.*remove them'):
                read_mesh(path, 0.001)
        else:
            assert len(read_mesh(path, 0.001).faces) == 12


def test_materials_of_a_ply_are_not_lost(tmp_path: Path) -> None:
    """Its faces would be grey."""
    path = ply(tmp_path / 'x.ply', XYZ, [faces(), ('material_index', 'int', np.zeros(12))])
    head, body = path.read_text().split('end_header\n')
    path.write_text(f'{head}element material 1\nproperty uchar red\nend_header\n{body}255\n')
    with pytest.raises(MeshError, match='element material'):
        read_mesh(path, 0.001)


@pytest.mark.parametrize('mode', ['L', 'LA', 'RGBA', 'P', 'CMYK', '1'])
def test_textures_of_all_modes_are_read(tmp_path: Path, mode: str) -> None:
    """Grey, with transparency, with a palette, for print."""
    from PIL import Image

    path = textured(tmp_path)
    Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).convert(mode).save(
        tmp_path / 'x.png', format='TIFF' if mode == 'CMYK' else 'PNG')
    texture = read_mesh(path, 0.001).texture
    assert texture is not None and texture.shape == (8, 8, 3) and texture.min() > 250


def textured(folder: Path) -> Path:
    """Write a box whose texture is x.png."""
    return ply(folder / 'x.ply', XYZ + columns(('s', 't'), 'float', UV), [faces()],
               'comment TextureFile x.png\n')


def test_textures_that_cannot_be_read_right_are_refused(tmp_path: Path) -> None:
    """Cut files, and 16 bits, which would come out white; coordinates that are not finite."""
    from PIL import Image

    path = textured(tmp_path)
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / 'x.png')
    with pytest.raises(MeshError, match=r'x\.png has more than 8 bits'):
        read_mesh(path, 0.001)
    (tmp_path / 'x.png').write_bytes((tmp_path / 'x.png').read_bytes()[:40])
    with pytest.raises(MeshError, match=r'x\.png cannot be read'):
        read_mesh(path, 0.001)
    plain(tmp_path / 'x.png', 9)
    ply(path, XYZ + columns(('s', 't'), 'float', UV * np.nan), [faces()],
        'comment TextureFile x.png\n')
    with pytest.raises(MeshError, match='texture coordinates that are not finite'):
        read_mesh(path, 0.001)


def test_whole_numbers_of_a_text_are_those_of_its_header(tmp_path: Path) -> None:
    """300 in a byte is not 44, be it a colour or a vertex; nothing stands twice."""
    rows = np.repeat(SHARED[:, None], 40, axis=1).reshape(-1, 3)
    points = columns(('x', 'y', 'z'), 'float', rows)
    far = [('vertex_indices', 'uchar', [np.array([0, 40, 300])])]
    bright = [('red', 'uchar', np.full(24, 300.0)), ('green', 'uchar', np.zeros(24)),
              ('blue', 'uchar', np.zeros(24))]
    for vertex, face, said in (
            (points, far, '"vertex_indices" are whole numbers from 0 to 255.*300'),
            (XYZ + bright, [faces()], '"red" are whole numbers from 0 to 255.*300'),
            (XYZ + XYZ[:1], [faces()], 'names something twice: x, y, z, x')):
        with pytest.raises(MeshError, match=said):
            read_mesh(ply(tmp_path / 'x.ply', vertex, face), 0.001)


def test_a_copy_may_name_its_one_texture_twice(tmp_path: Path) -> None:
    """Faces do not say which line they mean, and need not."""
    uv = np.concatenate([side_uv(side) for side in range(6)])
    atlas(tmp_path / 'all.png')
    path = ply(tmp_path / 'x.ply', XYZ + columns(('s', 't'), 'float', uv), [faces()],
               'comment TextureFile all.png\n' * 2)
    (tmp_path / 'to').mkdir()
    copy_ply(path, tmp_path / 'to' / 'y.ply')
    assert_looks_like(path, box())
    assert_looks_like(tmp_path / 'to' / 'y.ply', box())


def test_a_mesh_that_lost_its_picture_is_told(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As Blender writes it; one without coordinates never had a picture."""
    uv = columns(('s', 't'), 'float', np.full((24, 2), 0.5))
    for path in (ply(tmp_path / 'a.ply', XYZ, [faces()]),
                 ply(tmp_path / 'b.ply', XYZ + uv + VERTEX_RGB, [faces()])):
        tell_grey(path)
    assert not caplog.records
    lost = ply(tmp_path / 'lost.ply', XYZ + uv, [faces()])
    (tmp_path / 'lost.obj').write_text('v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1 3/1\n')
    for path in (lost, lost, tmp_path / 'lost.obj'):
        tell_grey(path)
    assert ['beside the mesh as lost.png' in r.getMessage() for r in caplog.records] == [True] * 2
    plain(tmp_path / 'c.png', (9, 9, 9))
    tell_grey(ply(tmp_path / 'c.ply', XYZ + uv, [faces()]))
    assert len(caplog.records) == 2
