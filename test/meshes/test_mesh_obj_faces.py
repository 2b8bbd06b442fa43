"""Faces of OBJ files: which corners they name, and how outlines of many corners are filled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mesh_texts import (
    assert_looks_like,
    atlas,
    box,
    obj_text,
)

from mrcnet_ros.errors import MeshError
from mrcnet_ros.geometry.se3 import exp_so3
from mrcnet_ros.meshes import read_mesh
from mrcnet_ros.meshes.winding import is_closed_outward


def test_indices_that_count_back_mean_the_lines_above_them(tmp_path: Path) -> None:
    """Whether vertices come first or between the faces; also of texture coordinates."""
    atlas(tmp_path / 'atlas.png')
    (tmp_path / 'box.mtl').write_text('newmtl used\nKd 1 1 1\nmap_Kd atlas.png\n')
    rows = obj_text(uv=True).split('\n')
    v, vt = ([row for row in rows if row.startswith(key)] for key in ('v ', 'vt '))
    head = ['mtllib box.mtl', 'usemtl used']
    first = [*head, *v, *vt, *(f'f {i}/{i} {i + 1}/{i + 1} {i + 2}/{i + 2} {i + 3}/{i + 3}'
                               for i in range(-24, 0, 4))]
    between = [*head]
    for i in range(0, 24, 4):
        between += [*v[i:i + 4], *vt[i:i + 4], 'f -4/-4 -3/-3 \\', '  -2/-2 -1/-1']
    for name, lines in (('first', first), ('between', between)):
        (tmp_path / f'{name}.obj').write_text('\n'.join(lines))
        assert_looks_like(tmp_path / f'{name}.obj', box())


@pytest.mark.parametrize(('text', 'said'), [
    ('v 0 0 0\nf -1 -2 -3\nv 1 0 0\nv 0 1 0\n', 'face "f -1 -2 -3" after .1, 0, 0. lines'),
    ('v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n', 'face "f 0 1 2" after'),
    ('v 0 0 0\nv 1 0 0\nv 0 1 0\n\0\0\0\0f 1 2 3\nf 1 3 2\n', 'bytes of zero in its text'),
    ('v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n', 'index 4 of "v", but there are 3'),
    ('v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1/1 2/1 3/1\n', 'index 1 of "vt", but there are 0'),
    ('v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1/1 2 3\n', 'is no face whose corners have the same parts'),
    ('v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 99999999999999999999\n', 'cannot be read'),
    ('v 0 0 0\nv 1 0 0\nv 0 1 0\n', 'has 3 vertices and no faces'),
    ('v 0 0 0\nv 1 0 0\nv 0 1 0\np 1 2 3\nl 1 2 3\n', 'has 3 vertices and no faces'),
    ('v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 2\n', 'no usable triangles'),
    ('v 0,5 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n', 'line "v" that cannot be read.*0,5'),
    ('v 1_0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n', "line .v. that cannot be read.*'1_0'"),
    ('v 0 0 0\nv １ 0 0\nv 0 1 0\nf 1 2 3\n', "line .v. that cannot be read.*'１'"),
    ('v 0 0 0\nv 1e400 0 0\nv 0 1 0\nf 1 2 3\n', 'not finite'),
    ('v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n', 'not finite'),
    ('v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n', 'fewer than 3 numbers'),
    ('call other.obj\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n', '"call" in statement 1 is not'),
    ('v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 3 2 4\n',
     'face 1 crosses itself in 100 % of the surface, expected at most 0.5 %'),
    ('v 0 0 0 1 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n', 'colours and others without'),
    ('v 0 0 0\nv 1 0 0 2\nv 0 1 0\nf 1 2 3\n', 'whose w is not 1'),
    ('v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\nf 3 2', 'is cut off: it ends with the face "f 3 2"'),
])
def test_a_file_that_cannot_be_read_right_says_why(tmp_path: Path, text: str, said: str) -> None:
    """With the statement or number at fault."""
    (tmp_path / 'x.obj').write_text(text)
    with pytest.raises(MeshError, match=rf'x\.obj.*{said}'):
        read_mesh(tmp_path / 'x.obj', 1.0)


@pytest.mark.parametrize('lines', ['f 1 2 3\nf 3 2\n', 'f 1 2 3\n\nf 3 2\r\n',
                                   'f 3 1\nf 1 2 3\nf 3 2', 'f 1 2 3\nf 3 2\ng end'])
def test_edges_are_left_out_wherever_they_are(tmp_path: Path, lines: str) -> None:
    """Also in the last line of a file that is not cut off there."""
    (tmp_path / 'x.obj').write_text('v 0 0 0\nv 1 0 0\nv 0 1 0\n' + lines, newline='')
    assert len(read_mesh(tmp_path / 'x.obj', 1.0).faces) == 1


def test_faces_of_many_corners_are_filled_as_they_are_outlined(tmp_path: Path) -> None:
    """An L and an arrow head, which a fan from their first corner would fill wrongly."""
    outline = {'L': [(0, 0), (4, 0), (4, 1), (1, 1), (1, 4), (0, 4)],
               'turned L': [(4, 1), (1, 1), (1, 4), (0, 4), (0, 0), (4, 0)],
               'arrow': [(0, 0), (4, 2), (0, 4), (1, 2)],
               'turned arrow': [(4, 2), (0, 4), (1, 2), (0, 0)],
               'hexagon': [(1, 0), (3, 0), (4, 2), (3, 4), (1, 4), (0, 2)]}
    for name, points in outline.items():
        x, y = np.array(points, float).T
        area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
        for direction in (1, -1):
            rows = [f'v {a} {b} {a + b}' for a, b in points[::direction]]
            (tmp_path / 'x.obj').write_text('\n'.join(
                [*rows, 'f ' + ' '.join(str(i + 1) for i in range(len(points)))]))
            mesh = read_mesh(tmp_path / 'x.obj', 1.0)
            a, b, c = np.moveaxis(mesh.vertices[mesh.faces][..., :2], 1, 0)
            u, w = b - a, c - a
            parts = direction * (u[:, 0] * w[:, 1] - u[:, 1] * w[:, 0]) / 2
            sign = np.sign(x @ np.roll(y, -1) - y @ np.roll(x, -1))
            assert (sign * parts >= 0).all(), name
            assert abs(parts.sum()) == pytest.approx(area), name


SQUARE = 'v -1 0 0\nv 1 0 0\nv 1 {0} 0\nv -1 {0} 0\nf 1 2 3 4\n'
# corners of real files: a quad that is not flat crosses itself in the plane that fits it best
BENT = 'v 0 0 0\nv -.0077 -.00335 .01508\nv -.02829 .00222 -.0139\nv -.03357 .00222 -.01536\n'


def test_a_sliver_whose_outline_crosses_itself_is_filled(tmp_path: Path) -> None:
    """A fan fills it. It may be up to half a percent of the surface, be it one face or several."""
    path = tmp_path / 'x.obj'
    path.write_text(SQUARE.format(0.008) + BENT + 'f 5 6 7 8\n')
    assert len(read_mesh(path, 1.0).faces) == 2 + 2
    for text, said in ((BENT + 'f 1 2 3 4\n', 'outline of face 1 crosses itself in 16.6 % of'),
                       (SQUARE.format(0.004) + BENT + 'f 5 6 7 8\n',
                        r'outline of face 2 crosses itself in 0\.\d* % of the surface'),
                       (SQUARE.format(0.008) + BENT + 'f 5 6 7 8\n' * 2,
                        r'outlines of 2 faces, such as face 2, cross themselves in 0\.\d* % of')):
        path.write_text(text)
        with pytest.raises(MeshError, match=said):
            read_mesh(path, 1.0)


def test_an_outline_with_as_much_on_both_sides_is_refused(tmp_path: Path) -> None:
    """Its plane is known from rounding errors alone, in whichever direction it lies."""
    square = np.array([[0.0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]])
    for turn in ([0.0, 0, 0], [0.3, 0.4, 0.5], [1.0, -2, 0.3], [2.0, 0.1, 0.7]):
        rows = [f'v {x!r} {y!r} {z!r}' for x, y, z in (square @ exp_so3(turn).T).tolist()]
        (tmp_path / 'x.obj').write_text('\n'.join([*rows, 'f 1 2 3 4']))
        with pytest.raises(MeshError, match='face 1 crosses itself in 100 %'):
            read_mesh(tmp_path / 'x.obj', 1.0)


def test_a_closed_surface_stays_closed_where_an_outline_crosses_itself(tmp_path: Path) -> None:
    """The third corner of the top is there twice, and the second one is beyond the border."""
    (tmp_path / 'x.obj').write_text(
        'v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1\n'
        'v 1.000001 0.999999 1\nf 4 3 2 1\nf 5 6 7 9 8\nf 1 2 6 5\nf 2 3 9 7 6\nf 3 4 8 9\n'
        'f 4 1 5 8\n')
    mesh = read_mesh(tmp_path / 'x.obj', 1.0)
    assert is_closed_outward(mesh)
