"""OBJ files and their materials look as their makers meant them, or are refused by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from mesh_texts import (
    COLORS,
    CORNERS,
    assert_looks_like,
    atlas,
    box,
    obj_text,
    plain,
)
from PIL import Image

from mrcnet_ros.errors import MeshError
from mrcnet_ros.meshes import NEUTRAL_GREY, companion_files, mesh_digest, read_mesh

TEXTURED = 'newmtl used\nKd 1 1 1\nmap_Kd atlas.png\n'
OTHER = 'newmtl other\nKd 0 0 0\n'
USED = ('usemtl used', '', '', '', '', '')


def write(folder: Path, head: str = 'mtllib box.mtl', before: tuple[str, ...] = USED,
          encoding: str = 'utf-8', **libraries: str) -> Path:
    """Write the box as box.obj, its atlas, and libraries by name without suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    atlas(folder / 'atlas.png')
    for name, text in libraries.items():
        (folder / f'{name}.mtl').write_bytes(text.encode(encoding))
    (folder / 'box.obj').write_bytes(obj_text(head, before).encode(encoding))
    return folder / 'box.obj'


@pytest.mark.parametrize(('head', 'libraries'), [
    ('mtllib box.mtl', {'box': TEXTURED}),
    ('mtllib box.mtl', {'box': 'newmtl other\nmap_Kd white.png\n' + TEXTURED}),
    ('mtllib box.mtl', {'box': 'newmtl other\nmap_Kd gone.png\n' + TEXTURED}),
    ('mtllib a.mtl\nmtllib box.mtl', {'a': OTHER, 'box': TEXTURED}),
    ('mtllib box.mtl\nmtllib a.mtl', {'a': OTHER, 'box': TEXTURED}),
    ('mtllib a.mtl box.mtl', {'a': OTHER, 'box': TEXTURED}),
    ('mtllib gone.mtl box.mtl', {'box': TEXTURED}),
    ('mtllib gone.mtl\nmtllib box.mtl', {'box': TEXTURED}),
    ('mtllib my own box.mtl', {'my own box': TEXTURED}),
    ('mtllib a.mtl my own box.mtl', {'a': OTHER, 'my own box': TEXTURED}),
    ('mtllib BOX.MTL', {'box': TEXTURED}),
    ('mtllib .\\box.mtl', {'box': TEXTURED}),
    ('mtllib box.mtl', {'box': TEXTURED + TEXTURED}),
    ('mtllib box.mtl', {'box': TEXTURED + 'd 1.0\nTr 1.0\n'}),
    ('mtllib box.mtl', {'box': TEXTURED + 'd 0.9\nTr 0.1\n'}),
    ('mtllib box.mtl', {'box': TEXTURED + 'map_d atlas.png\n'}),
    ('mtllib box.mtl', {'box': TEXTURED + 'map_Ka atlas.png\nmap_Ke atlas.png\nKe 1 1 1\n'}),
    ('mtllib box.mtl', {'box': 'newmtl glass\nd 0\n' + TEXTURED}),
    ('\ufeffmtllib box.mtl', {'box': '\ufeff' + TEXTURED}),
    ('# made in C:\\boxes\\\nmtllib box.mtl', {'box': TEXTURED}),
    ('mtllib \\\nbox.mtl', {'box': TEXTURED}),
    ('mtllib box.mtl', {'box': TEXTURED.replace('map_Kd', '\tMAP_KD').replace('Kd 1', 'KD 1')}),
    ('mtllib box.mtl', {'box': TEXTURED.replace('atlas.png', 'atlas.png # wood')}),
    (f'mtllib {" ".join(f"{i:060d}.mtl" for i in range(5))} box.mtl', {'box': TEXTURED}),
])
def test_faces_show_the_material_that_they_use(
        tmp_path: Path, head: str, libraries: dict[str, str]) -> None:
    """Whichever library and line it is in; what no face uses does not count, be it missing."""
    path = write(tmp_path, head, **libraries)
    assert_looks_like(path, box())
    assert companion_files(path) == [tmp_path / 'atlas.png']


@pytest.mark.parametrize('defined', ['used', 'used # 1'])
def test_a_comment_may_follow_the_name_of_a_material(tmp_path: Path, defined: str) -> None:
    """Unless the material is called so."""
    path = write(tmp_path, before=('usemtl used # 1', *USED[1:]),
                 box=TEXTURED.replace('newmtl used', f'newmtl {defined}'))
    assert_looks_like(path, box())


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'cp1252'])
def test_encodings_and_line_ends_of_windows_are_read(tmp_path: Path, encoding: str) -> None:
    """Names with accents in any of these, and lines that end in CR LF or CR."""
    for end in ('\r\n', '\r'):
        path = write(tmp_path / repr(end), 'mtllib boîte.mtl', ('usemtl à moi', *USED[1:]),
                     encoding, boîte='newmtl à moi\nmap_Kd bleu é.png\n')
        atlas(path.parent / 'bleu é.png')
        for file in (path, path.with_name('boîte.mtl')):
            text = file.read_bytes().decode(encoding).replace('\n', end)
            file.write_bytes(text.encode(encoding))
        assert_looks_like(path, box())


@pytest.mark.parametrize('words', [
    '-s 1 1 1 atlas.png', '-clamp on atlas.png', '-o 0 0 0 -s 1 1 1 my atlas.png', 'my atlas.png',
    '-bm 1.0 -blendu on -imfchan m -mm 0 1 atlas.png', 'pictures\\atlas.png', '"my atlas.png"',
    'pictures/atlas.png', 'ATLAS.PNG', 'Pictures\\Atlas.png', 'C:\\Users\\me\\atlas.png',
    '/home/me/atlas.png', '-s 1 atlas.png', './atlas.png', 'pictures\\..\\atlas.png',
])
def test_a_texture_is_found_whatever_stands_before_its_name(tmp_path: Path, words: str) -> None:
    """Options, folders of Windows, other cases, and paths of the computer it was made on."""
    for name in ('my atlas.png', 'pictures/atlas.png'):
        atlas(tmp_path / name)
    assert_looks_like(write(tmp_path, box=f'newmtl used\nmap_Kd {words}\n'), box())


def test_scale_and_offset_move_the_texture(tmp_path: Path) -> None:
    """As the coordinates of the file would, were they scaled and moved themselves."""
    path = write(tmp_path, box='newmtl used\nmap_Kd -s 0.5 1 -o 0.25 -0.5 atlas.png\n')
    moved = write(tmp_path / 'moved', box=TEXTURED)
    lines = moved.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith('vt'):
            u, v = (float(word) for word in line.split()[1:])
            lines[number] = f'vt {0.5 * u + 0.25:.6f} {v - 0.5:.6f}'
    moved.write_text('\n'.join(lines))
    assert_looks_like(path, read_mesh(moved, 0.001))


@pytest.mark.parametrize(('library', 'said'), [
    ('newmtl used\nmap_Kd gone.png\n', r"gone\.png is missing, which the material 'used' needs"),
    ('newmtl used\nKd 0 0 1\nnewmtl used\nKd 1 0 0\n', "'used' is defined in two ways"),
    ('newmtl used\nmap_Kd atlas.png\nmap_Kd white.png\n', 'has both "atlas.png" and "white.png"'),
    ('newmtl used\nmap_Kd -t 1 1 1 atlas.png\n', 'options that are not supported'),
    ('newmtl used\nmap_Kd -mm 0.2 1 atlas.png\n', 'options that are not supported'),
    ('newmtl used\nmap_Kd\n', 'names no file'),
    ('newmtl used\nKd 1 0 0\nd 0.0\n', r'is transparent \("d 0\.0"\)'),
    ('newmtl used\nd -halo 0.1\nKd 1 0 0\n', 'is transparent'),
    ('newmtl used\nTr 0.9\nKd 1 0 0\n', 'has "Tr 0.9", which some programs write for'),
    ('newmtl used\nKd 1 0_1 0\n', 'has the colour "Kd 1 0_1 0", expected three numbers'),
    (TEXTURED + 'map_d gone.png\n', r'gone\.png is missing'),
    ('newmtl used\nmap_d atlas.png\n', 'has "map_d" and no "map_Kd"'),
    ('newmtl used\nKd 1 1 1\nmap_Ka atlas.png\n', 'has "map_Ka atlas.png" and no "map_Kd"'),
    ('newmtl used\nmap_Ke atlas.png\n', 'has "map_Ke atlas.png" and no "map_Kd"'),
    ('newmtl used\nKd 0 0 0\nKe 1 0 0\n', 'has the colour "Ke 1 0 0" of its own light'),
    ('newmtl used\nKe 0 0.5 0\n', r'"Ke 0 0\.5 0".*"Kd", which .* missing or black; .* as "Kd"'),
    (OTHER, "use the material 'used', which no material library.*; "
     r'add "newmtl used" with its colour "Kd" or its texture "map_Kd" to \S*box\.mtl$'),
    ('', "use the material 'used', which no material library.*; "
     r'add "newmtl used" with its colour "Kd" or its texture "map_Kd" to \S*box\.mtl$'),
])
def test_a_material_that_cannot_be_drawn_is_refused(
        tmp_path: Path, library: str, said: str) -> None:
    """Naming it, when a face needs it."""
    path = write(tmp_path, box=library)
    for call in (lambda: read_mesh(path, 0.001), lambda: mesh_digest(path)):
        with pytest.raises(MeshError, match=said):
            call()


def test_a_texture_with_a_hole_in_its_data_is_refused(tmp_path: Path) -> None:
    """Instead of faces that are grey."""
    path = write(tmp_path, box=TEXTURED.replace('atlas.png', 'photo.jpg'))
    photo = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / 'photo.jpg')
    read_mesh(path, 1.0)
    data = (tmp_path / 'photo.jpg').read_bytes()
    (tmp_path / 'photo.jpg').write_bytes(data[:2000] + data[2500:])
    with pytest.raises(MeshError, match=r'photo\.jpg cannot be read'):
        read_mesh(path, 1.0)
    path = write(tmp_path, box=TEXTURED + 'map_d mask.png\n')
    (tmp_path / 'mask.png').write_bytes((tmp_path / 'atlas.png').read_bytes()[:40])
    with pytest.raises(MeshError, match=r'its texture \S*mask\.png cannot be read'):
        read_mesh(path, 1.0)


@pytest.mark.parametrize(('picture', 'mask', 'refused'), [
    ('RGBA', '', True), ('RGB', 'map_d mask.png\n', True), ('unused', '', False)])
def test_a_texture_through_which_a_camera_sees_is_refused(
        tmp_path: Path, picture: str, mask: str, refused: bool) -> None:
    """Be it by its alpha channel or by another picture; what no face shows may be clear."""
    path = write(tmp_path, box=TEXTURED + mask)
    clear = np.zeros((60, 60), np.uint8)
    clear[:30] = 255
    if picture == 'unused':
        clear[:] = 255
        clear[0, 0] = 0
    Image.fromarray(clear).save(tmp_path / 'mask.png')
    with Image.open(tmp_path / 'atlas.png') as opened:
        atlas_ = opened.convert('RGB').resize((60, 60), Image.Resampling.NEAREST)
    if picture != 'RGB':
        atlas_.putalpha(Image.fromarray(clear))
    atlas_.save(tmp_path / 'atlas.png')
    if refused:
        with pytest.raises(MeshError, match=r'a texture that is transparent in [3-7]. % of'):
            read_mesh(path, 0.001)
    else:
        assert_looks_like(path, read_mesh(path, 0.001))


def test_a_texture_that_ends_inside_a_face_is_refused(tmp_path: Path) -> None:
    """Textures repeat here; told not to, they are used where that makes no difference."""
    path = write(tmp_path, box='newmtl used\nmap_Kd -s 2 2 -clamp on atlas.png\n')
    with pytest.raises(MeshError, match=r'"-clamp on".*not supported where it ends'):
        read_mesh(path, 0.001)


@pytest.mark.parametrize(('head', 'remedy'), [
    ('mtllib gone.mtl', 'put the missing library beside the mesh'),
    ('mtllib my gone.mtl', 'put the missing library beside the mesh'),
    ('', 'export it again with its material library')])
def test_a_missing_library_is_refused_when_a_face_needs_it(
        tmp_path: Path, head: str, remedy: str) -> None:
    """Its name is in the message; where no face uses a material, it does not matter."""
    path = write(tmp_path, head)
    with pytest.raises(MeshError, match=f"material 'used'.*{head[7:]}; {remedy}$"):
        read_mesh(path, 0.001)
    for nobody in ('', 'usemtl None'):
        assert (read_mesh(write(tmp_path, head, (nobody, *USED[1:])), 0.001).colors
                == NEUTRAL_GREY).all()


@pytest.mark.parametrize('name', ['None', 'null', '(null)', ''])
def test_a_material_counts_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    """Also when its name is what programs write for none; a picture of the mesh is stronger."""
    before = (f'usemtl {name}', *USED[1:])
    textured = TEXTURED.replace('used', name)
    assert_looks_like(write(tmp_path / 'texture', before=before, box=textured), box())
    coloured = write(tmp_path / 'colour', before=before, box=f'newmtl {name}\nKd 0 0 1\n')
    assert (read_mesh(coloured, 0.001).colors == [0, 0, 255]).all()
    assert companion_files(coloured) == [tmp_path / 'colour/box.mtl']
    atlas(tmp_path / 'colour/box.png')
    assert_looks_like(coloured, box())


def test_each_face_has_the_colour_of_its_material(tmp_path: Path) -> None:
    """Six plain materials in two libraries, and names with blanks."""
    text = [f'newmtl side {i}\nKd {r / 255:.6f} {g / 255:.6f} {b / 255:.6f}\n'
            for i, (r, g, b) in enumerate(COLORS)]
    path = write(tmp_path, 'mtllib a.mtl b.mtl', tuple(f'usemtl side {i}' for i in range(6)),
                 a=''.join(text[:2]), b=''.join(text[2:]))
    mesh = assert_looks_like(path, box())
    assert mesh.textures == ()
    before = mesh_digest(path)
    (tmp_path / 'b.mtl').write_text(''.join(text[2:]).replace('Kd 0.', 'Kd 0.0'))
    assert mesh_digest(path) != before


def test_colours_of_blender_are_amounts_of_light(tmp_path: Path) -> None:
    """It writes Kd as it has it inside, 0.8 for a light grey, unlike the colours of its GLB."""
    text = 'newmtl used\nKd 0.1 0.2 0.6\nKe 0 0 0\n'
    path = write(tmp_path, box=f"# Blender 4.2.0 MTL File: 'box.blend'\n# www.blender.org\n{text}")
    assert (read_mesh(path, 0.001).colors == (89, 124, 203)).all()
    path = write(tmp_path, box=f'# Blender is not what made this\n{text}'.replace('#', '# For'))
    assert (read_mesh(path, 0.001).colors == (26, 51, 153)).all()
    path = write(tmp_path, box='# Blender MTL File: None\nnewmtl used\nKd 0 1 1.5\n')
    with pytest.raises(MeshError, match=r'has the colour "Kd 0 1 1\.5", expected three numbers'):
        read_mesh(path, 0.001)


def test_each_face_has_the_texture_of_its_material(tmp_path: Path) -> None:
    """Three pictures and a plain colour in one mesh; another picture makes another digest."""
    library = TEXTURED + ('newmtl blue\nmap_Kd blue.png\nnewmtl red\nmap_Kd red.jpg\n'
                          'newmtl grey\nKd 0.2 0.2 0.2\n')
    before = ('usemtl used', '', 'usemtl blue', 'usemtl red', 'usemtl grey', 'usemtl used')
    path = write(tmp_path, before=before, box=library)
    plain(tmp_path / 'blue.png', (0, 0, 250))
    plain(tmp_path / 'red.jpg', (250, 0, 0))
    colors = box().colors.copy()
    colors[8:12], colors[12:16], colors[16:20] = (0, 0, 250), (250, 0, 0), (51, 51, 51)
    mesh = assert_looks_like(path, dataclasses.replace(box(), colors=colors))
    assert len(mesh.textures) == 3
    digests = {mesh_digest(path)}
    plain(tmp_path / 'red.jpg', (0, 250, 0))
    digests.add(mesh_digest(path))
    (tmp_path / 'box.mtl').write_text(library.replace('0.2 0.2', '0.3 0.3'))
    digests.add(mesh_digest(path))
    assert len(digests) == 3


def test_a_colour_does_not_tint_a_texture(tmp_path: Path) -> None:
    """Exporters write any Kd beside a texture, black too, and programs show the texture."""
    for kd in ('0 0 0', '0.8 0.8 0.8', '1 0 0'):
        assert_looks_like(write(tmp_path, box=f'newmtl used\nKd {kd}\nmap_Kd atlas.png\n'), box())


def test_faces_without_texture_coordinates_have_the_plain_colour(tmp_path: Path) -> None:
    """A texture is then not needed, as with meshes that were reduced."""
    path = write(tmp_path, box='newmtl used\nKd 1 0 0\nmap_Kd gone.png\n')
    path.write_text(obj_text('mtllib box.mtl', USED, uv=False))
    mesh = read_mesh(path, 0.001)
    assert (mesh.colors == [255, 0, 0]).all()
    assert companion_files(path) == [tmp_path / 'box.mtl']


def test_light_of_its_own_does_not_matter_where_a_material_has_a_colour(tmp_path: Path) -> None:
    """Or has none of it; faces without texture coordinates need no picture of it."""
    for light in ('Ke 0 0 0', 'Kd 0 0 0\nKe 0 0 0', 'Kd 0.5 0 0\nKe 0.1 0 0', 'map_Ka gone.png'):
        path = write(tmp_path, box=f'newmtl used\n{light}\n')
        path.write_text(obj_text('mtllib box.mtl', USED, uv=False))
        assert len(read_mesh(path, 0.001).faces) == 12


@pytest.mark.parametrize('scale', [1.0, 255.0])
def test_colours_behind_the_coordinates_are_the_vertices(tmp_path: Path, scale: float) -> None:
    """From 0 to 1 or 0 to 255, also with a material that has no texture."""
    (tmp_path / 'box.mtl').write_text('newmtl used\nKd 0.5 0.5 0.5\n')
    lines = ['mtllib box.mtl', 'usemtl used']
    for corner, (r, g, b) in zip(CORNERS, box().colors / 255 * scale, strict=True):
        lines.append(f'v {corner[0]:g} {corner[1]:g} {corner[2]:g} {r:.6f} {g:.6f} {b:.6f}')
    lines += ['f ' + ' '.join(str(4 * i + k) for k in (1, 2, 3, 4)) for i in range(6)]
    (tmp_path / 'box.obj').write_text('\n'.join(lines))
    assert_looks_like(tmp_path / 'box.obj', box())
