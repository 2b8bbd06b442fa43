"""What a GLB file may hold: all else would be left out or shown otherwise, and is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from ..errors import MeshError
from ..reading import jpeg
from ..reading.text import parse_json
from .mtl import LEAST_OPACITY

# Numbers of the glTF 2.0 specification, here and below: start of a binary file, component types,
# mode of a primitive.
MAGIC, VERSION, JSON_CHUNK = b'glTF', 2, 0x4E4F534A
FLOAT, UBYTE = 5126, 5121
TRIANGLES = 4
DARK = 0.002  # base colours below it are black
ALPHA_CUTOFF = 0.5  # below which a masked material has a hole, if it does not say
REPEAT = 10497  # how a sampler goes on beyond the borders of a texture, if it does not say
# extensions that change neither the shape nor the plain colour of a surface
HARMLESS = {'KHR_materials_unlit', 'KHR_materials_ior', 'KHR_materials_specular',
            'KHR_materials_clearcoat', 'KHR_materials_sheen', 'KHR_materials_emissive_strength',
            'KHR_lights_punctual', 'KHR_xmp_json_ld', 'KHR_materials_anisotropy'}
EMBED = 'export it again as .glb with everything in the file'
PLAIN = 'export it again as a plain triangle mesh'


def read_glb_header(path: Path) -> dict[str, Any]:
    """Return the JSON of a GLB file.

    :raises MeshError: when it is none, or is cut off.
    :raises OSError: when it cannot be read.
    """
    data = path.read_bytes()
    if len(data) < 20 or data[:4] != MAGIC:
        raise MeshError(path, 'is no binary glTF file', EMBED)
    version, length = struct.unpack('<II', data[4:12])
    if version != VERSION:
        raise MeshError(path, f'is of glTF version {version}, expected {VERSION}', EMBED)
    size, kind = struct.unpack('<II', data[12:20])
    if length > len(data) or kind != JSON_CHUNK or 20 + size > len(data):
        raise MeshError(path, f'is cut off: it has {len(data)} bytes of {length}', 'copy it again')
    try:
        header = parse_json(data[20:20 + size])
        if not isinstance(header, dict) or not isinstance(header.get('meshes', []), list):
            raise ValueError('it is no description of a scene')
    except ValueError as error:
        raise MeshError(path, f'cannot be read: {error}', 'export it again') from error
    return header


def check_header(path: Path, header: dict[str, Any]) -> None:
    """Refuse what cannot be read right.

    :raises MeshError: naming it.
    """
    try:
        problem = next(_problems(header), None)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise MeshError(path, f'is malformed: {error!r}', 'export it again') from error
    if problem is not None:
        raise MeshError(path, *problem)


def check_pictures(path: Path, header: dict[str, Any]) -> None:
    """Refuse pictures with holes in their data, which decoders fill.

    :param header: that has passed :func:`check_header`.
    :raises MeshError: naming the picture.
    """
    data = path.read_bytes()
    start = 28 + struct.unpack_from('<I', data, 12)[0]  # after the two heads, JSON and its head
    for number, image in enumerate(header.get('images', [])):
        if 'bufferView' not in image:
            continue
        view = header['bufferViews'][image['bufferView']]
        first = start + view.get('byteOffset', 0)
        picture = data[first:first + view['byteLength']]
        if picture.startswith(jpeg.MAGIC) and jpeg.has_hole(picture):
            raise MeshError(path, f'has a damaged texture (picture {number} of the file)',
                            'export it again')


def textured_parts(header: dict[str, Any]) -> int:
    """Return how many parts of the scene have a texture, each as often as nodes show it.

    :param header: that has passed :func:`check_header`.
    """
    materials = header.get('materials', [])
    each = [sum('baseColorTexture' in materials[p['material']].get('pbrMetallicRoughness', {})
                for p in mesh['primitives'] if 'material' in p) for mesh in header['meshes']]
    return sum(each[node['mesh']] for node in _shown(header) if 'mesh' in node)


def textures_end(header: dict[str, Any]) -> bool:
    """Tell whether a texture ends at its borders, or is mirrored there, instead of repeating."""
    used = [material['pbrMetallicRoughness']['baseColorTexture']['index']
            for material in header.get('materials', [])
            if 'baseColorTexture' in material.get('pbrMetallicRoughness', {})]
    samplers = [header['samplers'][header['textures'][index]['sampler']] for index in used
                if 'sampler' in header['textures'][index]]
    return any(sampler.get(axis, REPEAT) != REPEAT
               for sampler in samplers for axis in ('wrapS', 'wrapT'))


def _shown(header: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of the scene."""
    nodes = header.get('nodes', [])
    found, left = [], list(header['scenes'][0].get('nodes', []))
    while left:
        node = nodes[left.pop()]
        found.append(node)
        left += node.get('children', [])
        if len(found) > len(nodes):
            raise ValueError('a node is its own parent')
    return found


def _problems(header: dict[str, Any]) -> Any:
    """Give what is wrong and what to do, one after the other."""
    unknown = sorted((set(header.get('extensionsUsed', [])) |
                      set(header.get('extensionsRequired', []))) - HARMLESS)
    if unknown:
        yield f'uses {", ".join(unknown)}, which is not read', PLAIN
    for name in ('skins', 'animations'):
        if header.get(name):
            yield f'has {name}, so that its shape is not one', PLAIN
    if len(header.get('scenes', [])) > 1:
        yield 'has several scenes', 'export one scene'
    if not header.get('meshes'):
        yield 'has no triangles', 'export it again, with its mesh'
    if not header.get('scenes'):
        yield 'has no scene, which says what of it is shown', 'export it again, with a scene'
    for kind in ('buffers', 'images'):
        for item in header.get(kind, []):
            if not str(item.get('uri', 'data:')).startswith('data:'):
                yield f'needs another file, {item["uri"]}', EMBED
    for accessor in header.get('accessors', []):
        if 'sparse' in accessor or 'bufferView' not in accessor:
            yield 'has sparse accessors, which are not read', PLAIN
    for mesh in header['meshes']:
        for primitive in mesh['primitives']:
            yield from _primitive_problems(header, primitive)
    for material in header.get('materials', []):
        yield from _material_problems(material)


def _primitive_problems(header: dict[str, Any], primitive: dict[str, Any]) -> Any:
    attributes = primitive['attributes']
    if primitive.get('mode', TRIANGLES) != TRIANGLES:
        yield 'has points, lines or strips beside its triangles', PLAIN
    if primitive.get('targets'):
        yield 'has morph targets, so that its shape is not one', PLAIN
    kinds = {name: header['accessors'][index]['componentType']
             for name, index in attributes.items()}
    for name in ('POSITION', 'NORMAL', 'TEXCOORD_0'):
        if kinds.get(name, FLOAT) != FLOAT:
            yield f'has a {name} that is not float', PLAIN
    if kinds.get('COLOR_0', FLOAT) not in (FLOAT, UBYTE):
        yield 'has colours of vertices that are neither float nor 8 bits', PLAIN
    if 'COLOR_0' in attributes and 'material' in primitive:
        material = header['materials'][primitive['material']]
        if 'baseColorTexture' in material.get('pbrMetallicRoughness', {}):
            yield 'has a texture and colours of vertices on the same part', 'leave one out'
        if (material.get('alphaMode') == 'MASK'
                and header['accessors'][attributes['COLOR_0']]['type'] == 'VEC4'):
            yield ('has colours of vertices with alpha in a material of alphaMode MASK',
                   'save the colours without alpha, or the material as OPAQUE')


def _material_problems(material: dict[str, Any]) -> Any:
    texture = material.get('pbrMetallicRoughness', {}).get('baseColorTexture', {})
    if texture.get('texCoord', 0) != 0:
        yield 'has a texture that uses a second set of coordinates', 'use the first set'
    if not texture and 'emissiveTexture' in material and any(material.get('emissiveFactor', ())):
        yield 'has a picture of light alone (emissiveTexture)', 'make it the base colour'
    factor = material.get('pbrMetallicRoughness', {}).get('baseColorFactor', [1.0] * 4)
    if any(material.get('emissiveFactor', ())) and max(factor[:3]) < DARK:
        yield ('has a colour of light alone (emissiveFactor on a black base colour)',
               'make it the base colour')
    least = {'BLEND': LEAST_OPACITY, 'MASK': material.get('alphaCutoff', ALPHA_CUTOFF)}
    if factor[3] < least.get(material.get('alphaMode', 'OPAQUE'), 0.0):
        yield (f'has the transparent material {material.get("name", "without a name")!r}, and '
               'faces are drawn opaque', 'leave out what a camera does not see')
