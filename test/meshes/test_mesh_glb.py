"""GLB files are read as their maker meant them, or refused by name."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from mrcnet_ros.errors import MeshError
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.meshes import Mesh, mesh_digest, read_mesh

HALF_LIGHT = 188  # what a screen shows of half the light


def write(path: Path, scene: Any,
          change: Callable[[dict[str, Any]], object] | None = None, *,
          normals: bool | None = None) -> Path:
    """Write a scene of trimesh, its JSON changed."""
    data = scene.export(file_type='glb', include_normals=normals)
    size = struct.unpack('<I', data[12:16])[0]
    header = json.loads(data[20:20 + size])
    if change is not None:
        change(header)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 4)
    rest = data[20 + size:]
    path.write_bytes(struct.pack('<4sII', b'glTF', 2, 20 + len(text) + len(rest))
                     + struct.pack('<I4s', len(text), b'JSON') + text + rest)
    return path


def box() -> Any:
    """Return a box of 0.2 x 0.1 x 0.3 m."""
    return trimesh.creation.box((0.2, 0.1, 0.3))


def textured() -> Any:
    """Return a square whose texture is red at the top left, green at the top right, then blue."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :16], pixels[:16, 16:], pixels[16:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    uv = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    return trimesh.Trimesh(
        np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), [[0, 1, 2], [0, 2, 3]],
        visual=trimesh.visual.TextureVisuals(uv=uv, material=material), process=False)


def tinted(mesh: Any, factor: list[int]) -> Any:
    """Return a mesh whose material has a colour."""
    material = getattr(mesh.visual, 'material', None) or trimesh.visual.material.PBRMaterial()
    material.baseColorFactor = factor
    uv = getattr(mesh.visual, 'uv', None)
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    return mesh


def test_every_part_is_where_its_node_puts_it(tmp_path: Path) -> None:
    """Two boxes of a scene, one of them turned and moved, are in metres in the file's frame."""
    scene = trimesh.Scene()
    scene.add_geometry(box())
    T = make_transform(exp_so3([0.0, 0.0, np.pi / 2]), [1.0, 0.0, 0.0])
    scene.add_geometry(box(), transform=T)
    mesh = read_mesh(write(tmp_path / 'a.glb', scene), 1.0)
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [-0.1, -0.1, -0.15], atol=1e-6)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [1.05, 0.1, 0.15], atol=1e-6)
    assert len(mesh.faces) == 24 and mesh.texture is None


def test_a_mirrored_node_keeps_its_faces_outside(tmp_path: Path) -> None:
    """A negative scale turns the winding of the faces back."""
    scene = trimesh.Scene()
    scene.add_geometry(box(), transform=np.diag([-1.0, 1.0, 1.0, 1.0]))
    mesh = read_mesh(write(tmp_path / 'a.glb', scene), 1.0)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).volume > 0
    assert (np.einsum('vi,vi->v', mesh.vertices, mesh.normals) > 0).all()


@pytest.mark.parametrize('scales', [(1, 1, 1), (1, 1, 3), (-1, 1, 1)])
def test_the_normals_of_the_file_are_used(
        tmp_path: Path, scales: tuple[float, float, float]) -> None:
    """Those that no computation gives, and across the scale of a node, also a mirrored one."""
    sphere = trimesh.creation.icosphere(1)
    given = sphere.vertices + 0.5 * np.roll(sphere.vertices, 1, axis=1)
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.Trimesh(sphere.vertices, sphere.faces, vertex_normals=given,
                                       process=False), transform=np.diag([*scales, 1.0]))
    mesh = read_mesh(write(tmp_path / 'a.glb', scene, normals=True), 1.0)
    wanted = given / scales
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(mesh.normals, wanted, atol=1e-6)


def test_a_texture_stands_upright(tmp_path: Path) -> None:
    """The coordinates of glTF, whose v points down, become those of the package."""
    mesh = read_mesh(write(tmp_path / 'a.glb', textured().scene()), 1.0)
    assert mesh.texture is not None and mesh.uv is not None
    assert mesh.texture[0, 0].tolist() == [255, 0, 0]
    at = {tuple(np.rint(v[:2]).astype(int)): tuple(uv)
          for v, uv in zip(mesh.vertices, mesh.uv, strict=True)}
    assert at[0, 1] == (0, 1) and at[1, 0] == (1, 0)


def test_colours_of_materials_are_light_and_shown_as_such(tmp_path: Path) -> None:
    """Half the light is 188 on a screen, for materials, vertices and the tint of a texture."""
    def colour(scene: Any) -> Mesh:
        return read_mesh(write(tmp_path / 'a.glb', scene), 1.0)

    half = [128, 255, 0, 255]
    assert np.abs(colour(tinted(box(), half).scene()).colors.astype(int)
                  - [HALF_LIGHT, 255, 0]).max() <= 1
    vertices = box()
    vertices.visual = trimesh.visual.ColorVisuals(vertices, vertex_colors=half)
    assert np.abs(colour(vertices.scene()).colors.astype(int) - [HALF_LIGHT, 255, 0]).max() <= 1
    texture = colour(tinted(textured(), [128, 128, 128, 255]).scene()).texture
    assert texture is not None and abs(int(texture[0, 0, 0]) - HALF_LIGHT) <= 1


@pytest.mark.parametrize('material', [
    {'emissiveFactor': [0, 0, 0], 'pbrMetallicRoughness': {'baseColorFactor': [0, 0, 0, 1]}},
    {'emissiveFactor': [1, 1, 1], 'pbrMetallicRoughness': {'baseColorFactor': [0.2, 0, 0, 1]}},
    {'emissiveFactor': [1, 1, 1]}])
def test_light_of_its_own_does_not_matter_where_a_material_has_a_colour(
        tmp_path: Path, material: dict[str, Any]) -> None:
    """Or has none of it."""
    def change(header: dict[str, Any]) -> None:
        header['materials'] = [material]
        header['meshes'][0]['primitives'][0]['material'] = 0

    assert len(read_mesh(write(tmp_path / 'a.glb', box().scene(), change), 1.0).faces) == 12


def test_a_file_is_its_own_digest(tmp_path: Path) -> None:
    """Nothing else belongs to it."""
    one = mesh_digest(write(tmp_path / 'a.glb', box().scene()))
    assert one != mesh_digest(write(tmp_path / 'b.glb', textured().scene()))


REFUSED: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda h: h.update(extensionsRequired=['KHR_draco_mesh_compression']), 'KHR_draco'),
    (lambda h: h.update(extensionsUsed=['KHR_texture_transform']), 'KHR_texture_transform'),
    (lambda h: h.update(skins=[{}]), 'skins'),
    (lambda h: h.update(animations=[{}]), 'animations'),
    (lambda h: h.update(scenes=[{'nodes': [0]}, {'nodes': [0]}]), 'several scenes'),
    (lambda h: h.update(meshes=[]), 'no triangles'),
    (lambda h: h['meshes'][0]['primitives'][0].update(mode=1), 'points, lines or strips'),
    (lambda h: h['meshes'][0]['primitives'][0].update(targets=[{}]), 'morph targets'),
    (lambda h: h['buffers'][0].update(uri='other.bin'), 'other.bin'),
    (lambda h: h['accessors'][0].update(sparse={}), 'sparse'),
    (lambda h: h.update(materials=[{'alphaMode': 'MASK', 'alphaCutoff': 0.9, 'name': 'net',
                                    'pbrMetallicRoughness': {'baseColorFactor': [1, 1, 1, .8]}}]),
     "transparent material 'net'"),
    (lambda h: h.update(materials=[{'alphaMode': 'BLEND', 'name': 'glass',
                                    'pbrMetallicRoughness': {'baseColorFactor': [1, 1, 1, 0]}}]),
     "transparent material 'glass'"),
    (lambda h: h.update(materials=[{'emissiveTexture': {'index': 0},
                                    'emissiveFactor': [1, 1, 1]}]), 'emissiveTexture'),
    (lambda h: h.update(materials=[{'emissiveFactor': [1, 0, 0], 'pbrMetallicRoughness': {
        'baseColorFactor': [0, 0, 0, 1]}}]), 'emissiveFactor'),
    (lambda h: h.pop('scenes'), 'has no scene'),
    (lambda h: h['nodes'][0].update(children=[0]), 'cannot be read'),
    (lambda h: h['meshes'][0]['primitives'][0].pop('attributes'), 'malformed'),
    (lambda h: h['accessors'][0].update(count=10**6), 'cannot be read'),
]


@pytest.mark.parametrize(('change', 'told'), REFUSED, ids=[told for _, told in REFUSED])
def test_what_would_be_shown_wrong_is_refused_by_name(
        tmp_path: Path, change: Callable[[dict[str, Any]], object], told: str) -> None:
    """The message names the file and what it has."""
    path = write(tmp_path / 'part.glb', box().scene(), change)
    with pytest.raises(MeshError, match=told) as error:
        read_mesh(path, 1.0)
    assert 'part.glb' in str(error.value)


@pytest.mark.parametrize('keep', [0, 3, 30, 700])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, keep: int) -> None:
    """Whatever is left of it."""
    path = write(tmp_path / 'part.glb', box().scene())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(MeshError, match=r'part\.glb'):
        read_mesh(path, 1.0)


def test_a_texture_that_cannot_be_decoded_is_refused(tmp_path: Path) -> None:
    """Instead of a part that is white."""
    def spoil(header: dict[str, Any]) -> None:
        header['images'][0]['mimeType'] = 'image/png'
        view = header['bufferViews'][header['images'][0]['bufferView']]
        view['byteLength'] = 8

    with pytest.raises(MeshError, match='texture'):
        read_mesh(write(tmp_path / 'a.glb', textured().scene(), spoil), 1.0)


def test_one_of_two_textures_that_is_lost_is_told(tmp_path: Path) -> None:
    """The other one does not make up for it; neither does a part that nobody sees."""
    second = textured().apply_translation([2.0, 0.0, 0.0])
    second.visual.material.baseColorTexture = Image.fromarray(np.full((8, 8, 3), 200, np.uint8))
    scene = trimesh.Scene([textured(), second])
    assert len(read_mesh(write(tmp_path / 'a.glb', scene), 1.0).textures) == 2

    def spoil(header: dict[str, Any]) -> None:
        header['bufferViews'][header['images'][1]['bufferView']]['byteLength'] = 8

    with pytest.raises(MeshError, match='texture that cannot be decoded'):
        read_mesh(write(tmp_path / 'a.glb', scene, spoil), 1.0)


def test_palette_textures_of_two_parts_stay_apart(tmp_path: Path) -> None:
    """Their pixels are the same numbers of different colours; equal pictures are one texture."""
    def square(rgb: tuple[int, int, int], at: float) -> Any:
        mesh = textured().apply_translation([at, 0.0, 0.0])
        mesh.visual.material.baseColorTexture = Image.new('RGB', (8, 8), rgb).quantize(4)
        mesh.visual.material.roughnessFactor = at / 8  # trimesh writes materials alike once
        return mesh

    scene = trimesh.Scene([square((255, 0, 0), 0.0), square((0, 0, 255), 2.0),
                           square((255, 0, 0), 4.0)])
    mesh = read_mesh(write(tmp_path / 'a.glb', scene), 1.0)
    assert [tuple(t[0, 0]) for t in mesh.textures] == [(255, 0, 0), (0, 0, 255)]
    middle = mesh.vertices[:, 0]
    assert (mesh.colors[(middle > 1.5) & (middle < 3.5)] == [0, 0, 255]).all()


@pytest.mark.parametrize(('mode', 'refused'), [('BLEND', True), ('OPAQUE', False)])
def test_a_transparent_texture_counts_where_it_is_blended(
        tmp_path: Path, mode: str, refused: bool) -> None:
    """By glTF, the alpha channel of an opaque material counts for nothing."""
    mesh = textured()
    mesh.visual.material.alphaMode = mode
    mesh.visual.material.baseColorTexture.putalpha(0)
    path = write(tmp_path / 'a.glb', mesh.scene())
    if refused:
        with pytest.raises(MeshError, match='transparent in 100 % of the area'):
            read_mesh(path, 1.0)
    else:
        assert len(read_mesh(path, 1.0).textures) == 1


@pytest.mark.parametrize(('alpha', 'material', 'refused'), [
    (None, {}, False), (255, {}, False), (128, {}, False), (127, {}, True),
    (127, {'alphaCutoff': 0.2}, False), (200, {'alphaCutoff': 0.9}, True),
    (200, {'baseColorFactor': [255, 255, 255, 150]}, True)])
def test_a_mask_counts_where_it_cuts_a_hole(
        tmp_path: Path, alpha: int | None, material: dict[str, Any], refused: bool) -> None:
    """By glTF, that is where the alpha of texture and material is below the cutoff, 0.5."""
    mesh = textured()
    mesh.visual.material.alphaMode = 'MASK'
    for name, value in material.items():
        setattr(mesh.visual.material, name, value)
    if alpha is not None:
        half = np.full((32, 32), 255, np.uint8)
        half[16:] = alpha
        mesh.visual.material.baseColorTexture.putalpha(Image.fromarray(half))
    path = write(tmp_path / 'a.glb', mesh.scene())
    if refused:
        with pytest.raises(MeshError, match=r'transparent in 5[01] % of the area'):
            read_mesh(path, 1.0)
    else:
        assert len(read_mesh(path, 1.0).textures) == 1


def test_a_mask_without_a_texture_cuts_no_holes(tmp_path: Path) -> None:
    """Unless the colours of vertices may do so."""
    def mask(header: dict[str, Any]) -> None:
        header['materials'] = [{'alphaMode': 'MASK'}]
        header['meshes'][0]['primitives'][0]['material'] = 0

    assert len(read_mesh(write(tmp_path / 'a.glb', box().scene(), mask), 1.0).faces) == 12
    coloured = box()
    coloured.visual = trimesh.visual.ColorVisuals(coloured, vertex_colors=[9, 9, 9, 0])
    with pytest.raises(MeshError, match='colours of vertices with alpha in a material of alphaM'):
        read_mesh(write(tmp_path / 'a.glb', coloured.scene(), mask), 1.0)


def test_a_texture_with_a_hole_in_its_data_is_refused(tmp_path: Path) -> None:
    """Instead of a part of which a half is grey; so is one beside an OBJ file."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    image.save(tmp_path / 'photo.jpg')
    mesh = textured()
    mesh.visual.material.baseColorTexture = Image.open(tmp_path / 'photo.jpg')
    path = write(tmp_path / 'a.glb', mesh.scene())
    assert len(read_mesh(path, 1.0).textures) == 1
    data = bytearray(path.read_bytes())
    start = data.index((tmp_path / 'photo.jpg').read_bytes()[:64]) + 2000
    data[start:start + 300] = bytes(300)
    path.write_bytes(data)
    with pytest.raises(MeshError, match='damaged texture'):
        read_mesh(path, 1.0)
    mesh.visual.material.baseColorTexture = image  # as PNG
    data = bytearray(write(path, mesh.scene()).read_bytes())
    data[data.index(b'IDAT') + 2000] ^= 255
    path.write_bytes(data)
    with pytest.raises(MeshError, match=r'a\.glb: cannot be read \(.*image file.*export it again'):
        read_mesh(path, 1.0)


@pytest.mark.parametrize('mode', [33071, 33648], ids=['clamp', 'mirror'])
def test_a_texture_that_does_not_repeat_is_not_repeated(tmp_path: Path, mode: int) -> None:
    """Within its borders it makes no difference; beyond them it would be another picture."""
    def sample(header: dict[str, Any]) -> None:
        header['samplers'] = [{'wrapS': 10497, 'wrapT': mode}]
        header['textures'][0]['sampler'] = 0

    square = textured()
    plain = read_mesh(write(tmp_path / 'a.glb', square.scene()), 1.0)
    same = read_mesh(write(tmp_path / 'a.glb', square.scene(), sample), 1.0)
    assert plain.uv is not None and same.uv is not None and (plain.uv == same.uv).all()
    square.visual.uv = 2.0 * square.visual.uv
    assert read_mesh(write(tmp_path / 'a.glb', square.scene()), 1.0).texture is not None
    with pytest.raises(MeshError, match='does not repeat'):
        read_mesh(write(tmp_path / 'a.glb', square.scene(), sample), 1.0)
